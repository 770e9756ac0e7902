//! TensorFlow's numbers for the notebook's network (tests/golden, made by make_golden.py): activations, gradients, four Adam
//! steps and every Grad-CAM map, on the CPU path in f64 and f32 and, with every variant of every kernel, on the adapter.

mod common;

use serde_json::Value;
use std::collections::BTreeSet;
use wgradcam::data::pack;
use wgradcam::kernel::{Dims, Step};
use wgradcam::model::{Explain, Mode, Model, ModelSettings, PictureSet, Target, Technique, lower};
use wgradcam::ops::adam::Adam;
use wgradcam::ops::conv2d::Conv2dDims;
use wgradcam::ops::gather::{ChunkDims, GatherDims};
use wgradcam::ops::maxpool2x2::MaxPoolDims;
use wgradcam::plan::{PlanId, Program, Spread};
use wgradcam::player::{CpuPlayer, GpuPlayer, Player};

const PICTURES: usize = 4;
const LAYERS: [&str; 3] = ["conv2d_1", "conv2d_2", "conv2d_3"];

fn pcg(i: u32) -> u32 {
    wgradcam::rng::pcg(i)
}

/// Weights and pictures regenerated from the recipe in make_golden.py.
fn uniform(tensor: u32, n: usize) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            let k = (pcg(i.wrapping_add(tensor << 24)) >> 8) as i32 - (1 << 23);
            k as f32 / (1 << 23) as f32
        })
        .collect()
}

fn pictures() -> Vec<u8> {
    let at = |n: usize, y: usize, x: usize, c: usize| ((n * 128 + y) * 128 + x) * 3 + c;
    let mut px: Vec<u8> = (0..(PICTURES * 128 * 128 * 3) as u32).map(|i| (pcg(i.wrapping_add(32 << 24)) >> 24) as u8).collect();
    for y in 0..128 {
        for x in 0..128 {
            for c in 0..3 {
                if x < 64 {
                    px[at(1, y, x, c)] = 255;
                }
                px[at(2, y, x, c)] = (2 * y).min(255) as u8;
            }
        }
    }
    px
}

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/golden_float64.json")).expect("the golden file parses")
}

fn model() -> Model {
    Model::new(&ModelSettings { dropout: 0.0, ..ModelSettings::default() }, 2).expect("the notebook's network")
}

struct Plans {
    program: Program,
    /// Steps whose gradients can all be read, and steps as a training plays them.
    steps: [(PlanId, bool); 2],
    explain: Vec<(&'static str, PlanId)>,
    /// Convolutions and pools kernel by kernel, as no run plays them: what they give at full size.
    unfused: PlanId,
}

/// From the set's pictures to `layer/full` and `layer/pooled` of every convolution.
fn unfused(program: &mut Program, set: &PictureSet) -> PlanId {
    let plan = program.begin("unfused", PICTURES);
    let batch = PICTURES as u32;
    for (k, (first, len)) in set.chunks().enumerate() {
        let [pictures, chunk_first, chunk_len] = [set.pictures, first, len].map(|n| n as u32);
        let chunk = ChunkDims { pictures, offset: 0, chunk_first, chunk_len };
        let dims = GatherDims { batch, pixels: 128 * 128, chunk }.words();
        program.dispatch("input", "gather.forward", dims, &[&format!("train/images.{k}"), "train/order", "x"]);
    }
    let mut x = "x".to_owned();
    for (layer, input, filters) in [(LAYERS[0], [128, 128, 4], 16), (LAYERS[1], [63, 63, 16], 32), (LAYERS[2], [30, 30, 32], 64)]
    {
        let d = Conv2dDims::new(PICTURES, input, filters, [3, 3], false, true);
        let [kernel, bias, full, pooled, places] = ["kernel", "bias", "full", "pooled", "places"].map(|t| format!("{layer}/{t}"));
        program.dispatch(layer, "conv2d.forward", d.words(), &[&x, &kernel, &bias, &full]);
        let pool = MaxPoolDims { batch, in_h: d.out_h, in_w: d.out_w, c: d.out_c };
        program.dispatch(layer, "maxpool2x2.forward", pool.words(), &[&full, &pooled, &places]);
        x = pooled;
    }
    plan
}

fn plans(model: &Model, explain: bool, spread: Spread) -> Plans {
    let mut program = Program::spread(spread);
    let set = PictureSet { name: "train", pictures: PICTURES, chunk: 3, table: 3 };
    let steps = [(Mode::TrainInParts(PICTURES), true), (Mode::Train, false)]
        .map(|(mode, stored)| (lower(&mut program, model, &set, PICTURES, mode), stored));
    let targets: &[(&str, Target)] =
        if explain { &[("p", Target::Output), ("logit", Target::Logit), ("neg_logit", Target::Class(0))] } else { &[] };
    let explain = targets
        .iter()
        .map(|(name, target)| {
            let mode = Mode::Explain(Explain { target: *target, technique: Technique::Gradcam, check: false });
            (*name, lower(&mut program, model, &set, PICTURES, mode))
        })
        .collect();
    let unfused = unfused(&mut program, &set);
    Plans { program, steps, explain, unfused }
}

fn load(player: &mut dyn Player, model: &Model) {
    for (t, p) in model.params().iter().enumerate() {
        let limit = match p.shape[..] {
            [_] => 0.05f32,
            [i, o] => (6.0 / (i + o) as f64).sqrt() as f32,
            [kh, kw, i, o] => (6.0 / ((i + o) * kh * kw) as f64).sqrt() as f32,
            _ => unreachable!("no other shape"),
        };
        let values: Vec<f32> = uniform(t as u32, p.len()).into_iter().map(|v| v * limit).collect();
        player.write(&p.name, &p.pad(&values)).expect("weights");
        for moment in ["m", "v"] {
            player.write(&format!("{}/{moment}", p.name), &vec![0.0; p.padded_len()]).expect("moments");
        }
    }
    let px = pictures();
    let one = 128 * 128 * 3;
    player.write_words("train/images.0", 0, &pack(&px[..3 * one])).expect("pictures");
    player.write_words("train/images.1", 0, &pack(&px[3 * one..])).expect("pictures");
    player.write_words("train/labels", 0, &[0, 1, 0, 1]).expect("labels");
    player.write_words("train/order", 0, &[0, 1, 2, 3]).expect("order");
}

fn number(v: &Value) -> f64 {
    v.as_f64().expect("a number")
}

/// The golden summary's sampled elements beside ours.
fn samples<'a>(values: &'a [f64], want: &'a Value) -> impl Iterator<Item = (f64, f64)> + 'a {
    let (idx, val) = (want["idx"].as_array().expect("indices"), want["val"].as_array().expect("values"));
    idx.iter().zip(val).map(|(i, v)| (values[i.as_u64().expect("an index") as usize], number(v)))
}

fn l2(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Error of a tensor's Euclidean norm, relative to the golden one.
fn l2_error(values: &[f64], want: &Value) -> f64 {
    let want = number(&want["l2"]);
    (l2(values) - want).abs() / want.max(f64::MIN_POSITIVE)
}

/// Worst error of a tensor's sampled elements and of its largest one, relative to its largest element.
fn summary_error(name: &str, values: &[f64], want: &Value) -> f64 {
    let absmax = number(&want["absmax"]).max(f64::MIN_POSITIVE);
    let top = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let worst = samples(values, want).fold((top - absmax).abs(), |m, (got, want)| m.max((got - want).abs())) / absmax;
    let worst = worst.max(l2_error(values, want));
    assert!(worst.is_finite() && values.iter().all(|v| v.is_finite()), "{name} is not finite");
    worst
}

/// How a device is read: in f64 where it computes in f64.
trait Device {
    fn player(&mut self) -> &mut dyn Player;
    fn tensor(&mut self, name: &str) -> Vec<f64>;
}

struct Cpu64(CpuPlayer<f64>);

impl Device for Cpu64 {
    fn player(&mut self) -> &mut dyn Player {
        &mut self.0
    }
    fn tensor(&mut self, name: &str) -> Vec<f64> {
        self.0.floats(name).expect("a tensor").to_vec()
    }
}

struct Single(Box<dyn Player>);

impl Device for Single {
    fn player(&mut self) -> &mut dyn Player {
        &mut *self.0
    }
    fn tensor(&mut self, name: &str) -> Vec<f64> {
        self.0.read(name).expect("a tensor").into_iter().map(f64::from).collect()
    }
}

/// Gates of semantics.md section 9, and 1e-9 in f64.
struct Gates {
    /// Whether the device computes in f64, so that nothing needs slack.
    exact: bool,
    activation: f64,
    probability: f64,
    gradient: f64,
    gradient_l2: f64,
    weight: f64,
    later_loss: f64,
    cam: f64,
    resized: f64,
}

const F32_GATES: Gates = Gates {
    exact: false,
    activation: 2e-5,
    probability: 2e-6,
    gradient: 2e-5,
    gradient_l2: 1e-5,
    weight: 2e-6,
    later_loss: 2e-5,
    cam: 2e-5,
    resized: 2e-5,
};
// tf.image.resize answers in f32 whatever it is given, so the resized maps agree to f32's last bits only.
const F64_GATES: Gates = Gates {
    exact: true,
    activation: 1e-9,
    probability: 1e-9,
    gradient: 1e-9,
    gradient_l2: 1e-9,
    weight: 1e-9,
    later_loss: 1e-9,
    cam: 1e-9,
    resized: 1e-6,
};

fn check(device: &mut dyn Device, plans: &Plans, gates: &Gates) {
    let (model, golden) = (model(), golden());
    load(device.player(), &model);
    let step = |t: u32| Step { first: 0, step: t - 1, seed: 0, slot: 0, adam: Adam::default().at(t) };
    let mut failures = Vec::new();
    let mut gate = |what: String, error: f64, most: f64| {
        println!("{what}: {error:.2e} (gate {most:.0e})");
        // NaN passes no gate.
        if error.is_nan() || error > most {
            failures.push(format!("{what}: {error:.3e} > {most:.0e}"));
        }
    };
    // The initial weights' activations.
    device.player().play(plans.unfused, &[step(1)]).expect("convolutions and pools");
    for (i, layer) in (1..).zip(LAYERS) {
        for (name, tensor) in [(layer.to_owned(), "full"), (format!("max_pooling2d_{i}"), "pooled")] {
            let activation = device.tensor(&format!("{layer}/{tensor}"));
            gate(format!("{name} activation"), summary_error(&name, &activation, &golden["acts"][&name]), gates.activation);
        }
    }
    // Grad-CAM on them.
    for (mode, plan) in &plans.explain {
        device.player().play(*plan, &[step(1)]).expect("explain");
        for name in ["max_pooling2d_1", "max_pooling2d_2", "max_pooling2d_3"] {
            let activation = device.tensor(&format!("{name}/y"));
            gate(
                format!("{name} activation, explained"),
                summary_error(name, &activation, &golden["acts"][name]),
                gates.activation,
            );
        }
        for layer in LAYERS {
            for (tensor, key, most) in [
                ("cam_alpha", "weights", gates.cam),
                ("cam_raw", "raw", gates.cam),
                ("cam_normalised", "norm", gates.cam),
                ("cam", "resized", gates.resized),
            ] {
                let all = device.tensor(&format!("{layer}/{tensor}"));
                let len = all.len() / PICTURES;
                for i in 0..PICTURES {
                    let want = &golden["cam"][format!("img{i}/{layer}/{mode}")];
                    let raw_max = want["raw_max"].as_f64().expect("raw_max");
                    let error = if raw_max <= 0.0 && key != "weights" && key != "raw" {
                        // Keras gives -0 or NaN here; the map must be all zero.
                        all[i * len..(i + 1) * len].iter().fold(0.0f64, |m, v| m.max(v.abs()))
                    } else {
                        summary_error(tensor, &all[i * len..(i + 1) * len], &want[key])
                    };
                    gate(format!("img{i} {layer} {mode} {key}"), error, most);
                }
            }
            if *mode == "p" {
                for i in 0..2 {
                    for (tensor, file) in [("cam_raw", "raw"), ("cam", "resized")] {
                        let path = format!("{}/tests/golden/cam_{file}_{i}_{layer}.f32", env!("CARGO_MANIFEST_DIR"));
                        let bytes = std::fs::read(path).expect("a golden map");
                        let want: Vec<f32> =
                            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                        let all = device.tensor(&format!("{layer}/{tensor}"));
                        let got = &all[i * want.len()..(i + 1) * want.len()];
                        let top = want.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
                        let worst = got.iter().zip(&want).fold(0f64, |m, (g, w)| m.max((g - f64::from(*w)).abs())) / top;
                        // The golden arrays are stored in f32.
                        gate(format!("every pixel of img{i} {layer} {file}"), worst, gates.cam.max(1e-6));
                    }
                }
            }
        }
    }
    for (plan, stored) in plans.steps {
        load(device.player(), &model);
        let mut loss = Vec::new();
        for (t, want) in (1..).zip(golden["steps"].as_array().expect("steps")) {
            device.player().play(plan, &[step(t)]).expect("a step");
            if t == 1 {
                for name in ["max_pooling2d_1", "max_pooling2d_2", "max_pooling2d_3", "dense_1"] {
                    gate(
                        format!("{name} activation"),
                        summary_error(name, &device.tensor(&format!("{name}/y")), &golden["acts"][name]),
                        gates.activation,
                    );
                }
            }
            let probs = device.tensor("probs");
            for (i, p) in want["p"].as_array().expect("p").iter().enumerate() {
                let most = if t == 1 { gates.probability } else { gates.later_loss };
                gate(format!("step {t} p{i}"), (probs[4 * i] - p.as_f64().expect("p")).abs(), most);
            }
            let metrics = device.tensor("metrics");
            loss.push(metrics[0]);
            let most = if t == 1 { gates.probability } else { gates.later_loss };
            gate(format!("step {t} loss"), (metrics[0] - want["loss"].as_f64().expect("loss")).abs(), most);
            let mut moved = Vec::new();
            for p in model.params() {
                let (layer, kind) = p.name.split_once('/').expect("layer/kind");
                // Adam divides by sqrt(v): where a gradient is near epsilon, a last-bit difference is a large step, so later
                // gradients are gated in f64 only.
                if stored && (t == 1 || gates.exact) {
                    let gradient = p.strip(&device.tensor(&format!("{layer}/d{kind}")));
                    gate(
                        format!("step {t} d {}", p.name),
                        summary_error(&p.name, &gradient, &want["grads"][&p.name]),
                        gates.gradient,
                    );
                    gate(format!("step {t} |d {}|", p.name), l2_error(&gradient, &want["grads"][&p.name]), gates.gradient_l2);
                }
                let after = p.strip(&device.tensor(&p.name));
                let want = &want["after"][&p.name];
                if gates.exact {
                    gate(format!("step {t} {}", p.name), summary_error(&p.name, &after, want), 1e-9);
                }
                moved.extend(samples(&after, want).map(|(got, want)| (got - want).abs()));
            }
            // Not the maximum: an element whose gradient is near Adam's epsilon may move by up to 2 lr. Of the samples of all
            // tensors, all but the worst one must lie inside the gate.
            moved.sort_by(f64::total_cmp);
            gate(format!("step {t} weights, all but one of {} samples", moved.len()), moved[moved.len() - 2], gates.weight);
            gate(format!("step {t} weights, the worst sample"), moved[moved.len() - 1], 2e-3 * f64::from(t));
        }
    }
    assert!(failures.is_empty(), "{} of the golden numbers differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn golden_on_the_cpu_in_f64() {
    let model = model();
    let plans = plans(&model, true, Spread::Few);
    let mut device = Cpu64(CpuPlayer::new(self::plans(&model, true, Spread::Few).program));
    check(&mut device, &plans, &F64_GATES);
}

#[test]
fn golden_on_the_cpu_in_f32() {
    let model = model();
    let plans = plans(&model, true, Spread::Few);
    let mut device = Single(Box::new(CpuPlayer::<f32>::new(self::plans(&model, true, Spread::Few).program)));
    check(&mut device, &plans, &F32_GATES);
}

/// Every dispatch of the plans by its first candidate, the plain kernel, then every one by its second, and so on. Those of f16 are no
/// candidates of a run of f32, and round too much for these gates.
#[test]
fn golden_on_the_adapter_with_every_variant() {
    let Some(adapter) = common::adapter() else { return };
    let model = model();
    for spread in [Spread::Few, Spread::Many] {
        let mut played = BTreeSet::new();
        for round in 0.. {
            let plans = plans(&model, true, spread);
            let mut program = self::plans(&model, true, spread).program;
            let before = played.len();
            for dispatch in program.plans.iter_mut().flat_map(|plan| &mut plan.dispatches) {
                let candidates = adapter.candidates(dispatch.kernel, &dispatch.dims);
                let variant = candidates[round.min(candidates.len() - 1)];
                played.insert(variant.key);
                dispatch.take(variant);
            }
            if played.len() == before {
                break;
            }
            println!("round {round}, sums for {spread:?} workgroups, {} kernels until now", played.len());
            let player = GpuPlayer::new(&adapter, program).expect("a player");
            check(&mut Single(Box::new(player)), &plans, &F32_GATES);
        }
        assert!(played.iter().any(|key| key.contains('/')), "no variant among {played:?}");
    }
}
