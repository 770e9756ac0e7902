//! The sigmoid head of a whole batch with the batch's mean loss and hits, in one dispatch: `shaders/sigmoid_bce_mean.wgsl`.
//!
//! What [`super::sigmoid_bce`] and [`super::batch_mean`] make one after the other, where nobody asks for the loss of a picture and one
//! workgroup has no more to do than that: each dispatch of so little takes a GPU as long as a hundred times the work.

use super::batch_mean::METRICS_WGSL;
use super::product;
use super::sigmoid_bce::{self, LOG1P_WGSL, SIGMOID_BCE_WGSL};
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, ORDERED_WGSL, Real, STEP_WGSL, Values, passes};
use crate::rng;

crate::dims! {
    /// Sizes of one batch of logits.
    pub struct SigmoidMeanDims {
        /// Pictures in the batch.
        batch,
        /// Floats per row of logits; the first is the logit.
        stride,
        /// Pictures in `order`.
        pictures,
        /// Pictures in `labels`.
        images,
        /// Rows of `metrics`.
        slots,
    }
}

/// Most pictures that one workgroup takes, eight for each invocation: of more, workgroups side by side are the faster.
pub(crate) const MOST_PICTURES: usize = 512;

fn rows(d: &[u32]) -> usize {
    let d = SigmoidMeanDims::of(d);
    product(&[d.batch, d.stride])
}
fn batch(d: &[u32]) -> usize {
    SigmoidMeanDims::of(d).batch as usize
}
fn metrics(d: &[u32]) -> usize {
    2 * SigmoidMeanDims::of(d).slots as usize
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "sigmoid_bce_mean.forward",
    variant: None,
    formula: "p = sigmoid(z); dlogits = (p - t) / batch; metrics[slot] = (mean of max(z,0) - z t + log1p(exp(-|z|)), sum of ((p > 0.5) == t))",
    file: "sigmoid_bce_mean.wgsl",
    source: include_str!("../../shaders/sigmoid_bce_mean.wgsl"),
    shared: &[STEP_WGSL, ORDERED_WGSL, METRICS_WGSL, LOG1P_WGSL, SIGMOID_BCE_WGSL],
    entry: "forward",
    dims: SigmoidMeanDims::FIELDS,
    step: true,
    bindings: &[
        Binding::read("logits", rows),
        Binding::read("order", |d| SigmoidMeanDims::of(d).pictures as usize).words(),
        Binding::read("labels", |d| SigmoidMeanDims::of(d).images as usize).words(),
        Binding::write("probs", rows),
        Binding::write("dlogits", rows),
        Binding::write("metrics", metrics).updated(),
    ],
    grid: |_| [1, 1, 1],
    loops: |d| passes(&[batch(d).div_ceil(64), SigmoidMeanDims::of(d).stride as usize]) + passes(&[6]),
    cost: |d| Cost { flops: 42.0 * batch(d) as f64, bytes: 12.0 * rows(d) as f64 },
    made: 1.0,
    twin: crate::twin!(forward),
    bound: Bound::Own(bound),
    cases: || {
        [[1, 4, 3, 3, 3], [7, 4, 12, 15, 2], [64, 4, 64, 64, 9], [65, 4, 80, 70, 5], [512, 4, 600, 600, 4]]
            .map(|[batch, stride, pictures, images, slots]| SigmoidMeanDims { batch, stride, pictures, images, slots }.words())
            .to_vec()
    },
    input: |d, name, seed| {
        let s = SigmoidMeanDims::of(d);
        match name {
            "logits" => Some(sigmoid_bce::drawn_logits(rows(d), seed)),
            "order" => Some(Values::U((0..s.pictures).map(|i| rng::hash3(seed, 1, i) % s.images).collect())),
            "labels" => Some(Values::U((0..s.images).map(|i| rng::hash3(seed, 2, i) & 1).collect())),
            _ => None,
        }
    },
}];

/// The logit and the label of every picture.
fn pictures<T: Real>(call: &Call<T>) -> Vec<(T, bool)> {
    let d: SigmoidMeanDims = call.dims();
    let (logits, order, labels) = (call.read(0), &call.reads[1].u()[..d.pictures as usize], call.reads[2].u());
    let label = |b: usize| labels[call.step.ordered(order, b) as usize];
    (0..d.batch as usize).map(|b| (logits[b * d.stride as usize], label(b) == 1)).collect()
}

fn forward<T: Real>(call: &mut Call<T>) {
    let (d, pictures, n) = (call.dims::<SigmoidMeanDims>(), pictures(call), rows(call.dims));
    let (stride, slot, whole) = (d.stride as usize, call.step.slot as usize, T::of(f64::from(d.batch)));
    let [probs, dlogits, metrics] = call.writes else { panic!("sigmoid_bce_mean.forward writes three buffers") };
    let (probs, dlogits, metrics) = (probs.f_mut(), dlogits.f_mut(), metrics.f_mut());
    probs[..n].fill(T::zero());
    dlogits[..n].fill(T::zero());
    let (mut losses, mut hits) = (T::zero(), T::zero());
    for (b, (z, one)) in pictures.into_iter().enumerate() {
        let head = sigmoid_bce::head(z, one);
        probs[b * stride] = head.p;
        dlogits[b * stride] = (head.p - head.t) / whole;
        losses += head.loss;
        hits += head.correct;
    }
    metrics[2 * slot] = losses / whole;
    metrics[2 * slot + 1] = hits;
}

fn bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let d: SigmoidMeanDims = call.dims();
    let (stride, slot, whole) = (d.stride as usize, call.step.slot as usize, f64::from(d.batch));
    let mut bounds = vec![vec![0.0; rows(call.dims)], vec![0.0; rows(call.dims)], vec![0.0; metrics(call.dims)]];
    let (mut losses, mut uncertain, mut hits) = (0.0, 0.0, 0.0);
    for (b, (z, one)) in pictures(call).into_iter().enumerate() {
        let of = sigmoid_bce::head_bound(z, one, whole);
        bounds[0][b * stride] = of.p;
        bounds[1][b * stride] = of.dlogit;
        losses += sigmoid_bce::head(z, one).loss + of.loss;
        uncertain += of.loss;
        hits += of.correct;
    }
    // A lane's serial sum, six levels of the tree, the quotient's 2.5 ulp.
    let roundings = whole / 64.0 + 1.0 + 6.0 + 5.0;
    bounds[2][2 * slot] = (uncertain + roundings * 2f64.powi(-24) * losses) / whole;
    bounds[2][2 * slot + 1] = hits;
    bounds
}
