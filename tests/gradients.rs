//! Every backward pass is the derivative of its forward pass: the f64 twins, no GPU.
//!
//! For a linear map A and its gradient kernel A', `<A x, y> = <x, A' y>` for random x and y. Relu, pool and dropout are linear
//! once the mask is fixed. Where that does not do (losses, chains, the whole network), the derivative along a random direction
//! d against a random cotangent is compared with `(f(w + h d) - f(w - h d)) / 2h`.

use wgradcam::kernel::{self, Access, Buffer, Call, Dims, Kernel, Step};
use wgradcam::model::{HeadChoice, Mode, Model, ModelSettings, Padding, Param, PictureSet, lower};
use wgradcam::ops::adam::Adam;
use wgradcam::ops::conv2d::Conv2dDims;
use wgradcam::ops::dense::DenseDims;
use wgradcam::ops::dropout::DropoutDims;
use wgradcam::ops::maxpool2x2::MaxPoolDims;
use wgradcam::ops::relu::FlatDims;
use wgradcam::ops::score::ScoreDims;
use wgradcam::ops::sigmoid_bce::SigmoidDims;
use wgradcam::ops::softmax_ce::SoftmaxDims;
use wgradcam::plan::Program;
use wgradcam::player::{CpuPlayer, Player};
use wgradcam::{rng, verify};

/// Error of an identity in f64 as a share of the products' absolute sum.
const IDENTITY: f64 = 1e-13;
/// Relative error of a central difference with [`H`]: truncation h^2, rounding 2^-53 / h.
const DIFFERENCE: f64 = 1e-8;
const H: f64 = 1e-5;

fn step() -> Step {
    Step { first: 0, step: 7, seed: 42, slot: 3, adam: Adam::default().at(8) }
}

/// `n` random numbers of [-1, 1) out of stream `stream`.
fn random(n: usize, stream: u32) -> Vec<f64> {
    (0..n as u32).map(|i| f64::from(rng::unit(rng::hash3(99, stream, i))) * 2.0 - 1.0).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `x + h d`.
fn moved(x: &[f64], h: f64, d: &[f64]) -> Vec<f64> {
    x.iter().zip(d).map(|(x, d)| x + h * d).collect()
}

fn close(what: &str, a: f64, b: f64, tolerance: f64) {
    let error = (a - b).abs() / a.abs().max(b.abs()).max(1e-3);
    assert!(error <= tolerance, "{what}: {a:e} and {b:e}, relative error {error:e}");
}

/// `<a, b> = <x, y>` up to rounding, which cancellation does not make smaller.
fn identity(what: &str, [a, b]: [&[f64]; 2], [x, y]: [&[f64]; 2]) {
    let size: f64 = a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum();
    let (left, right) = (dot(a, b), dot(x, y));
    let error = (left - right).abs() / size.max(f64::MIN_POSITIVE);
    assert!(error <= IDENTITY, "{what}: {left:e} and {right:e}, error {error:e}");
}

/// The outputs of a kernel's f64 twin.
fn twin(key: &str, dims: &[u32], reads: &[&Buffer<f64>]) -> Vec<Buffer<f64>> {
    let kernel: &Kernel = kernel::by_key(key);
    let mut written: Vec<Buffer<f64>> =
        kernel.bindings.iter().filter(|b| b.access != Access::Read).map(|b| Buffer::zeros(b.elem, (b.len)(dims))).collect();
    let mut writes: Vec<&mut Buffer<f64>> = written.iter_mut().collect();
    (kernel.twin.f64)(&mut Call { dims, step: &step(), reads, writes: &mut writes });
    written
}

/// The same for a kernel that reads and writes floats only.
fn floats(key: &str, dims: &[u32], reads: &[&[f64]]) -> Vec<Vec<f64>> {
    let reads: Vec<Buffer<f64>> = reads.iter().map(|r| Buffer::F(r.to_vec())).collect();
    let reads: Vec<&Buffer<f64>> = reads.iter().collect();
    twin(key, dims, &reads).into_iter().map(|b| b.f().to_vec()).collect()
}

/// The registry's cases of a kernel that take little time.
fn cases(key: &str) -> Vec<Vec<u32>> {
    let kernel = kernel::by_key(key);
    let small: Vec<_> = (kernel.cases)().into_iter().filter(|d| verify::elements(kernel, d) <= 60_000).collect();
    assert!(small.len() >= 3, "{key} has {} small cases", small.len());
    small
}

fn conv(d: &Conv2dDims, x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    floats("conv2d.forward", &d.words(), &[x, w, b]).remove(0)
}

fn conv_weight_gradient(d: &Conv2dDims, x: &[f64], dy: &[f64]) -> [Vec<f64>; 2] {
    let partial = floats("conv2d.backward_weight", &d.words(), &[x, dy]).remove(0);
    floats("conv2d.reduce_weight", &d.words(), &[&partial]).try_into().expect("two gradients")
}

#[test]
fn conv2d_gradients_are_its_adjoints() {
    for case in cases("conv2d.forward") {
        let d = Conv2dDims { relu: 0, ..*Conv2dDims::of(&case) };
        let (x, w, y) = (random(d.x_len(), 1), random(d.weight_len(), 2), random(d.y_len(), 3));
        let b = random(d.out_c as usize, 4);
        let none = vec![0.0; b.len()];
        let ax = conv(&d, &x, &w, &none);
        let dx = floats("conv2d.backward_input", &case, &[&y, &w]).remove(0);
        identity(&format!("conv2d in x, {d:?}"), [&ax, &y], [&x, &dx]);
        let [dw, db] = conv_weight_gradient(&d, &x, &y);
        identity(&format!("conv2d in weight, {d:?}"), [&ax, &y], [&w, &dw]);
        let bias = moved(&conv(&d, &x, &w, &b), -1.0, &ax);
        identity(&format!("conv2d in bias, {d:?}"), [&bias, &y], [&b, &db]);
    }
}

fn dense(d: &DenseDims, x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let partial = floats("dense.forward", &d.words(), &[x, w]).remove(0);
    floats("dense.reduce", &d.words(), &[&partial, b]).remove(0)
}

#[test]
fn dense_gradients_are_its_adjoints() {
    for case in cases("dense.forward") {
        let d = DenseDims { relu: 0, ..*DenseDims::of(&case) };
        let [n, i, o] = [d.batch, d.in_n, d.out_n].map(|v| v as usize);
        let (x, w, y, b) = (random(n * i, 1), random(i * o, 2), random(n * o, 3), random(o, 4));
        let ax = dense(&d, &x, &w, &vec![0.0; o]);
        let dx = floats("dense.backward_input", &case, &[&y, &w]).remove(0);
        identity(&format!("dense in x, {d:?}"), [&ax, &y], [&x, &dx]);
        let gradients = floats("dense.backward_weight", &case, &[&x, &y]);
        identity(&format!("dense in weight, {d:?}"), [&ax, &y], [&w, &gradients[0]]);
        let bias = moved(&dense(&d, &x, &w, &b), -1.0, &ax);
        identity(&format!("dense in bias, {d:?}"), [&bias, &y], [&b, &gradients[1]]);
    }
}

#[test]
fn maxpool_dropout_and_relu_are_adjoint_at_their_mask() {
    for case in cases("maxpool2x2.forward") {
        let d = MaxPoolDims::of(&case);
        let x = random((d.batch * d.in_h * d.in_w * d.c) as usize, 1);
        let forward = twin("maxpool2x2.forward", &case, &[&Buffer::F(x.clone())]);
        let dy = random(forward[0].f().len(), 2);
        let dx = twin("maxpool2x2.backward", &case, &[&Buffer::F(dy.clone()), &forward[1]]);
        identity(&format!("maxpool2x2, {d:?}"), [forward[0].f(), &dy], [&x, dx[0].f()]);
    }
    for case in cases("dropout.forward") {
        let n = DropoutDims::of(&case).len as usize;
        let (x, dy) = (random(n, 1), random(n, 2));
        let y = floats("dropout.forward", &case, &[&x]).remove(0);
        let dx = floats("dropout.backward", &case, &[&dy]).remove(0);
        identity(&format!("dropout of {n}"), [&y, &dy], [&x, &dx]);
    }
    for case in cases("relu.backward") {
        let n = FlatDims::of(&case).len as usize;
        let (x, dy) = (random(n, 1), random(n, 2));
        let y: Vec<f64> = x.iter().map(|v| v.max(0.0)).collect();
        let dx = floats("relu.backward", &case, &[&dy, &y]).remove(0);
        identity(&format!("relu of {n}"), [&y, &dy], [&x, &dx]);
    }
}

/// `y, argmax` of the fused op.
fn fused(d: &Conv2dDims, x: &[f64], w: &[f64], b: &[f64]) -> Vec<Buffer<f64>> {
    let reads = [x, w, b].map(|v| Buffer::F(v.to_vec()));
    twin("conv2d_relu_maxpool2x2.forward", &d.words(), &reads.each_ref())
}

/// The fused op's gradients: `dx, dweight, dbias`.
fn fused_gradients(d: &Conv2dDims, x: &[f64], w: &[f64], dy: &[f64], argmax: &Buffer<f64>) -> [Vec<f64>; 3] {
    let [x, w, dy] = [x, w, dy].map(|v| Buffer::F(v.to_vec()));
    let dx = twin("conv2d_relu_maxpool2x2.backward_input", &d.words(), &[&dy, argmax, &w]);
    let partial = twin("conv2d_relu_maxpool2x2.backward_weight", &d.words(), &[&x, &dy, argmax]);
    let sums = twin("conv2d.reduce_weight", &d.words(), &[&partial[0]]);
    [&dx[0], &sums[0], &sums[1]].map(|b| b.f().to_vec())
}

#[test]
fn conv_relu_pool_is_adjoint_at_its_mask_and_equals_its_parts() {
    for case in cases("conv2d_relu_maxpool2x2.backward_input") {
        let d = Conv2dDims { relu: 0, ..*Conv2dDims::of(&case) };
        let (x, w, b) = (random(d.x_len(), 1), random(d.weight_len(), 2), random(d.out_c as usize, 3));
        let dy = random(d.pooled_len(), 4);
        let forward = fused(&d, &x, &w, &b);
        let [dx, dw, db] = fused_gradients(&d, &x, &w, &dy, &forward[1]);
        // <y, dy> = <x, dx> + <b, db> = <w, dw> + <b, db>: at a fixed mask y is linear in (x, b) and in (w, b).
        let bias: f64 = dot(&b, &db);
        let left = dot(forward[0].f(), &dy);
        for (name, right) in [("x", dot(&x, &dx)), ("weight", dot(&w, &dw))] {
            close(&format!("fused in {name}, {d:?}"), left, right + bias, 1e-11);
        }

        // The same through conv2d with relu, maxpool2x2 and relu.backward, as an explaining plan takes them.
        let a = conv(&Conv2dDims { relu: 1, ..d }, &x, &w, &b);
        let pool = MaxPoolDims { batch: d.batch, in_h: d.out_h, in_w: d.out_w, c: d.out_c }.words();
        let pooled = twin("maxpool2x2.forward", &pool, &[&Buffer::F(a.clone())]);
        assert_eq!(pooled[0].f(), forward[0].f(), "{d:?}");
        let codes = |b: &Buffer<f64>| b.u().iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
        for ((y, place), code) in forward[0].f().iter().zip(codes(&pooled[1])).zip(codes(&forward[1])) {
            assert_eq!(code, if *y > 0.0 { place } else { 4 }, "{d:?}");
        }
        let da = twin("maxpool2x2.backward", &pool, &[&Buffer::F(dy), &pooled[1]]);
        let flat = FlatDims { len: d.y_len() as u32 }.words();
        let dz = floats("relu.backward", &flat, &[da[0].f(), &a]).remove(0);
        let parts = [floats("conv2d.backward_input", &d.words(), &[&dz, &w]).remove(0)];
        assert_eq!(parts[0], dx, "{d:?}");
        let full = Conv2dDims::new(
            d.batch as usize,
            [d.in_h, d.in_w, d.in_c].map(|n| n as usize),
            d.out_c as usize,
            [d.k_h, d.k_w].map(|n| n as usize),
            d.out_h == d.in_h,
            false,
        );
        let [want_dw, want_db] = conv_weight_gradient(&full, &x, &dz);
        for (got, want) in dw.iter().chain(&db).zip(want_dw.iter().chain(&want_db)) {
            assert!((got - want).abs() <= 1e-12 * (1.0 + want.abs()), "{got} and {want}, {d:?}");
        }
    }
}

#[test]
fn conv_relu_pool_chain_against_central_differences() {
    let first = Conv2dDims::new(2, [12, 13, 4], 8, [3, 3], false, true).pooled();
    let second = Conv2dDims::new(2, [5, 5, 8], 4, [3, 3], true, true).pooled();
    let x = random(first.x_len(), 1);
    let shapes = [first.weight_len(), first.out_c as usize, second.weight_len(), second.out_c as usize];
    let params: Vec<Vec<f64>> = shapes.iter().zip(2..).map(|(&n, stream)| random(n, stream)).collect();
    let r = random(second.pooled_len(), 9);
    let objective = |x: &[f64], p: &[Vec<f64>]| {
        let y = fused(&first, x, &p[0], &p[1]);
        dot(fused(&second, y[0].f(), &p[2], &p[3])[0].f(), &r)
    };
    let y1 = fused(&first, &x, &params[0], &params[1]);
    let y2 = fused(&second, y1[0].f(), &params[2], &params[3]);
    let [dy1, dw2, db2] = fused_gradients(&second, y1[0].f(), &params[2], &r, &y2[1]);
    let [dx, dw1, db1] = fused_gradients(&first, &x, &params[0], &dy1, &y1[1]);
    let gradients = [dw1, db1, dw2, db2];
    for i in 0..4 {
        let d = random(params[i].len(), 20 + i as u32);
        let at = |h: f64| {
            let mut p = params.clone();
            p[i] = moved(&p[i], h, &d);
            objective(&x, &p)
        };
        close(&format!("parameter {i} of the chain"), (at(H) - at(-H)) / (2.0 * H), dot(&gradients[i], &d), DIFFERENCE);
    }
    let d = random(x.len(), 30);
    let at = |h: f64| objective(&moved(&x, h, &d), &params);
    close("the chain's input", (at(H) - at(-H)) / (2.0 * H), dot(&dx, &d), DIFFERENCE);
}

#[test]
fn dense_relu_chain_against_central_differences() {
    let d = DenseDims::new(5, 516, 12, true);
    let (x, w, b, r) = (random(5 * 516, 1), random(516 * 12, 2), random(12, 3), random(5 * 12, 4));
    let y = dense(&d, &x, &w, &b);
    let dz = floats("relu.backward", &FlatDims { len: 60 }.words(), &[&r, &y]).remove(0);
    let gradients = floats("dense.backward_weight", &d.words(), &[&x, &dz]);
    let dx = floats("dense.backward_input", &d.words(), &[&dz, &w]).remove(0);
    let [ex, ew, eb] = [random(x.len(), 5), random(w.len(), 6), random(b.len(), 7)];
    let at = |h: f64| dot(&dense(&d, &moved(&x, h, &ex), &moved(&w, h, &ew), &moved(&b, h, &eb)), &r);
    let slope = dot(&dx, &ex) + dot(&gradients[0], &ew) + dot(&gradients[1], &eb);
    close("dense and relu", (at(H) - at(-H)) / (2.0 * H), slope, DIFFERENCE);
}

/// Loss and gradient of a head at these logits: `(sum of losses / batch, probs, dlogits)`.
fn head(key: &str, dims: &[u32], logits: &[f64], labels: &[u32]) -> (f64, Vec<f64>, Vec<f64>) {
    let order: Vec<u32> = (0..labels.len() as u32).rev().collect();
    let out = twin(key, dims, &[&Buffer::F(logits.to_vec()), &Buffer::U(order), &Buffer::U(labels.to_vec())]);
    let loss = out[1].f().iter().sum::<f64>() / labels.len() as f64;
    (loss, out[0].f().to_vec(), out[3].f().to_vec())
}

#[test]
fn losses_and_scores_against_central_differences() {
    let n = 6u32;
    for (classes, stride) in [(1, 4), (2, 4), (3, 4), (6, 8)] {
        let (key, dims) = if classes == 1 {
            ("sigmoid_bce.forward", SigmoidDims { batch: n, stride, pictures: n, images: n, offset: 0, whole: n }.words())
        } else {
            ("softmax_ce.forward", SoftmaxDims { batch: n, classes, stride, pictures: n, images: n, offset: 0, whole: n }.words())
        };
        let labels: Vec<u32> = (0..n).map(|i| rng::hash3(5, 5, i) % classes.max(2)).collect();
        let len = (n * stride) as usize;
        let logits: Vec<f64> = random(len, 1).iter().map(|v| 4.0 * v).collect();
        let d = random(len, 2);
        let at = |h: f64| head(key, &dims, &moved(&logits, h, &d), &labels);
        let (_, probs, dlogits) = at(0.0);
        close(key, (at(H).0 - at(-H).0) / (2.0 * H), dot(&dlogits, &d), DIFFERENCE);
        // The padding of a row takes no part.
        for row in dlogits.chunks_exact(stride as usize).chain(probs.chunks_exact(stride as usize)) {
            assert!(row[classes as usize..].iter().all(|v| *v == 0.0), "{key}: {row:?}");
        }
        // The score that the notebook explains: the probability of the predicted class (softmax) or of the second (sigmoid).
        let score = ScoreDims { batch: n, classes, stride, target_kind: 2, class_index: 0 }.words();
        let gradient = floats("score.backward", &score, &[&logits, &probs]).remove(0);
        let explained = |probs: &[f64]| -> f64 {
            let rows = probs.chunks_exact(stride as usize).zip(logits.chunks_exact(stride as usize));
            rows.map(|(p, z)| {
                let top = (1..classes as usize).fold(0, |best, j| if z[j] > z[best] { j } else { best });
                p[top]
            })
            .sum()
        };
        let slope = (explained(&at(H).1) - explained(&at(-H).1)) / (2.0 * H);
        close(&format!("score of {classes}"), slope, dot(&gradient, &d), DIFFERENCE);
    }
}

/// A network, its pictures and a player in f64.
struct Network {
    player: CpuPlayer<f64>,
    plan: wgradcam::plan::PlanId,
    params: Vec<Param>,
}

impl Network {
    fn new(settings: &ModelSettings, classes: usize) -> Self {
        // One part that is the whole: every gradient is stored.
        Self::playing(settings, classes, Mode::TrainInParts(5))
    }

    /// Batches of 5, played so.
    fn playing(settings: &ModelSettings, classes: usize, mode: Mode) -> Self {
        let model = Model::new(settings, classes).expect("the shapes fit");
        let set = PictureSet { name: "train", pictures: 7, chunk: 4, table: 7 };
        let mut program = Program::new();
        let plan = lower(&mut program, &model, &set, 5, mode);
        let mut player = CpuPlayer::new(program);
        let pixels = settings.size[0] * settings.size[1];
        for (k, (first, len)) in set.chunks().enumerate() {
            let words: Vec<u32> = (0..len * pixels).map(|i| rng::hash3(8, first as u32, i as u32)).collect();
            player.write_words(&format!("train/images.{k}"), 0, &words).expect("it fits");
        }
        player.write_words("train/order", 0, &[3, 5, 0, 6, 1, 4, 2]).expect("it fits");
        let labels: Vec<u32> = (0..7).map(|i| i % classes as u32).collect();
        player.write_words("train/labels", 0, &labels).expect("it fits");
        Self { player, plan, params: model.params() }
    }

    /// The mean loss of the step at these parameters (Keras's order, exact in f32).
    fn loss(&mut self, values: &[Vec<f32>]) -> f64 {
        for (p, v) in self.params.iter().zip(values) {
            self.player.write(&p.name, &p.pad(v)).expect("it fits");
        }
        self.player.play(self.plan, &[step()]).expect("the CPU plays");
        self.player.floats("metrics").expect("there are metrics")[2 * step().slot as usize]
    }

    /// The gradient of parameter `i` after a step, in Keras's order.
    fn gradient(&mut self, i: usize) -> Vec<f64> {
        let p = &self.params[i];
        let (layer, kind) = p.name.split_once('/').expect("layer/kind");
        let padded = self.player.floats(&format!("{layer}/d{kind}")).expect("there is a gradient").to_vec();
        let stripped = p.strip(&padded);
        // Else Adam would move the padding.
        assert_eq!(p.pad(&stripped), padded, "{}: the padding's gradient is not zero", p.name);
        stripped
    }
}

#[test]
fn whole_networks_against_central_differences() {
    // A step of 2^-20 from multiples of 2^-20 below 1 is exact in f32.
    let h = 2f32.powi(-20);
    let quantised = |v: f32| (v / h).round() * h;
    let base = ModelSettings { size: [18, 21], filters: vec![3, 6], dense: vec![7], dropout: 0.4, ..ModelSettings::default() };
    let two = ModelSettings { padding: Padding::Same, dense: vec![5, 9], kernel_size: 2, ..base.clone() };
    let softmax = ModelSettings { head: HeadChoice::Softmax, ..base.clone() };
    for (settings, classes) in [(&base, 2), (&two, 3), (&softmax, 2)] {
        let mut network = Network::new(settings, classes);
        let values: Vec<Vec<f32>> = network
            .params
            .iter()
            .zip(0..)
            .map(|(p, i)| {
                // Biases off zero, so that they matter.
                let bias = |k: usize| 0.1 * random(p.len(), 60 + i as u32)[k] as f32;
                p.initial(1, i).iter().enumerate().map(|(k, &v)| quantised(if v == 0.0 { bias(k) } else { v })).collect()
            })
            .collect();
        network.loss(&values);
        let gradients: Vec<Vec<f64>> = (0..values.len()).map(|i| network.gradient(i)).collect();
        for i in 0..values.len() {
            let name = network.params[i].name.clone();
            let d: Vec<f32> = (0..values[i].len()).map(|k| (rng::hash3(3, i as u32, k as u32) % 3) as f32 - 1.0).collect();
            let mut at = |sign: f32| {
                let mut moved = values.clone();
                moved[i].iter_mut().zip(&d).for_each(|(v, d)| *v += sign * h * d);
                network.loss(&moved)
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * f64::from(h));
            let d: Vec<f64> = d.iter().map(|&d| d.into()).collect();
            assert!(gradients[i].iter().any(|g| *g != 0.0), "{name} has no gradient");
            close(&format!("{name} of {settings:?}"), slope, dot(&gradients[i], &d), 1e-6);
        }
    }
}

/// Adam makes the same of a gradient that it takes as it is made as of one that was stored.
#[test]
fn a_step_that_stores_no_gradient_comes_to_the_same_weights() {
    let settings =
        ModelSettings { size: [18, 21], filters: vec![3, 6], dense: vec![7, 5], dropout: 0.4, ..ModelSettings::default() };
    for classes in [2, 3] {
        let [mut stored, mut at_once] =
            [Mode::TrainInParts(5), Mode::Train].map(|mode| Network::playing(&settings, classes, mode));
        let values: Vec<Vec<f32>> = stored.params.iter().zip(0..).map(|(p, i)| p.initial(1, i)).collect();
        assert_eq!(stored.loss(&values), at_once.loss(&values));
        for p in stored.params.clone() {
            let gradient = p.name.replace('/', "/d");
            assert_eq!([&stored, &at_once].map(|n| n.player.program().find(&gradient).is_some()), [true, false], "{gradient}");
            for what in ["", "/m", "/v"] {
                let name = format!("{}{what}", p.name);
                let [want, got] = [&mut stored, &mut at_once].map(|n| n.player.floats(&name).expect("a parameter").to_vec());
                let off = got.iter().zip(&want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                assert!(largest > 0.0 && off <= 1e-13 * largest, "{name}: {off:e} of {largest:e}");
            }
        }
    }
}

/// Every part's loss is divided by the whole batch, its dropout mask is that of its place in it, and the sums are in the same
/// order: only the rounding differs.
#[test]
fn a_batch_in_parts_has_the_whole_batchs_loss_and_gradients() {
    let settings =
        ModelSettings { size: [18, 21], filters: vec![3, 6], dense: vec![7, 5], dropout: 0.4, ..ModelSettings::default() };
    for classes in [2, 3] {
        let mut whole = Network::new(&settings, classes);
        let values: Vec<Vec<f32>> = whole.params.iter().zip(0..).map(|(p, i)| p.initial(1, i)).collect();
        let loss = whole.loss(&values);
        for part in [1, 2, 3, 4, 5, 9] {
            let mut parts = Network::playing(&settings, classes, Mode::TrainInParts(part));
            close(&format!("the loss of parts of {part}"), parts.loss(&values), loss, 1e-12);
            let hits = |network: &mut Network| {
                network.player.floats("metrics").expect("there are metrics")[2 * step().slot as usize + 1]
            };
            assert_eq!(hits(&mut parts), hits(&mut whole));
            for i in 0..values.len() {
                let (got, want) = (parts.gradient(i), whole.gradient(i));
                let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                assert!(largest > 0.0, "{} has no gradient", whole.params[i].name);
                let off = got.iter().zip(&want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                assert!(off <= 1e-13 * largest, "{}, parts of {part}: {off:e} of {largest:e}", whole.params[i].name);
                if part >= 5 {
                    assert!(got == want, "{}: one part is the whole", whole.params[i].name);
                }
            }
        }
    }
}
