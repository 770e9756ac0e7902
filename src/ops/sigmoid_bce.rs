//! The sigmoid head with binary cross-entropy from the logit: `shaders/sigmoid_bce.wgsl`.
//!
//! Keras fuses the two in `fit` and `evaluate`: `loss = max(z,0) - z t + log1p(exp(-|z|))`, no clipping of probabilities;
//! `dloss/dz = (sigmoid(z) - t) / whole` (the pictures of the whole batch, however it is split); a hit is `(p > 0.5) == t` with p = 0.5 counted as class 0.

use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, ORDERED_WGSL, Real, SLICE_WGSL, STEP_WGSL, Values, grid, passes};
use crate::rng;

crate::dims! {
    /// Sizes of one batch of logits.
    pub struct SigmoidDims {
        /// Pictures in the batch.
        batch,
        /// Floats per row of logits; the first is the logit.
        stride,
        /// Pictures in `order`.
        pictures,
        /// Pictures in `labels`.
        images,
        /// Where in the step's batch these rows begin: 0 but in a micro-batch.
        offset,
        /// Pictures in the step's batch, over which the loss is a mean.
        whole,
    }
}

/// `shaders/shared/log1p.wgsl`.
pub(super) const LOG1P_WGSL: &str = include_str!("../../shaders/shared/log1p.wgsl");
/// `shaders/shared/sigmoid_bce.wgsl`; it reads the step and `log1p`.
pub(super) const SIGMOID_BCE_WGSL: &str = include_str!("../../shaders/shared/sigmoid_bce.wgsl");

fn rows(d: &[u32]) -> usize {
    let d = SigmoidDims::of(d);
    product(&[d.batch, d.stride])
}
fn batch(d: &[u32]) -> usize {
    SigmoidDims::of(d).batch as usize
}
fn places(d: &[u32]) -> usize {
    let d = SigmoidDims::of(d);
    d.offset as usize + d.batch as usize
}

/// sigmoid(z), stable for any z.
pub fn sigmoid<T: Real>(z: T) -> T {
    let e = (-z.abs()).exp();
    if z >= T::zero() { T::one() / (T::one() + e) } else { e / (T::one() + e) }
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "sigmoid_bce.forward",
    variant: None,
    formula: "loss = max(z,0) - z t + log1p(exp(-|z|)); p = sigmoid(z); dlogits = (p - t) / whole; correct = ((p > 0.5) == t)",
    file: "sigmoid_bce.wgsl",
    source: include_str!("../../shaders/sigmoid_bce.wgsl"),
    shared: &[SLICE_WGSL, STEP_WGSL, ORDERED_WGSL, LOG1P_WGSL, SIGMOID_BCE_WGSL],
    entry: "forward",
    dims: SigmoidDims::FIELDS,
    step: true,
    bindings: &[
        Binding::read("logits", rows),
        Binding::read("order", |d| SigmoidDims::of(d).pictures as usize).words(),
        Binding::read("labels", |d| SigmoidDims::of(d).images as usize).words(),
        Binding::write("probs", rows),
        Binding::write("loss", places).updated(),
        Binding::write("correct", places).updated(),
        Binding::write("dlogits", rows),
    ],
    grid: |d| grid(batch(d)),
    loops: |d| passes(&[SigmoidDims::of(d).stride as usize]),
    cost: |d| Cost { flops: 40.0 * batch(d) as f64, bytes: 12.0 * rows(d) as f64 },
    made: 1.0,
    twin: crate::twin!(forward),
    bound: Bound::Own(bound),
    cases: || {
        [[1, 4, 3, 3, 0, 1], [7, 4, 12, 15, 0, 7], [5, 4, 30, 33, 8, 16], [65, 4, 80, 70, 0, 65]]
            .map(|[batch, stride, pictures, images, offset, whole]| {
                SigmoidDims { batch, stride, pictures, images, offset, whole }.words()
            })
            .to_vec()
    },
    input: |d, name, seed| match name {
        "logits" => Some(drawn_logits(rows(d), seed)),
        "order" => Some(Values::U(
            (0..SigmoidDims::of(d).pictures).map(|i| rng::hash3(seed, 1, i) % SigmoidDims::of(d).images).collect(),
        )),
        "labels" => Some(Values::U((0..SigmoidDims::of(d).images).map(|i| rng::hash3(seed, 2, i) & 1).collect())),
        _ => None,
    },
}];

/// Logits from certainly wrong to certainly right, exact zeros among them.
pub(super) fn drawn_logits(len: usize, seed: u32) -> Values {
    let logit = |i| {
        let u = rng::unit(rng::hash3(seed, 5, i)) * 2.0 - 1.0;
        if i % 29 == 8 { 0.0 } else { u * 40f32.powf(rng::unit(rng::hash3(seed, 6, i))) }
    };
    Values::F((0..len as u32).map(logit).collect())
}

/// What the head says of one picture.
pub(super) struct Head<T> {
    pub p: T,
    pub t: T,
    pub loss: T,
    pub correct: T,
}

/// Of a picture with this logit and of the second class or not.
pub(super) fn head<T: Real>(z: T, one: bool) -> Head<T> {
    let (p, t) = (sigmoid(z), if one { T::one() } else { T::zero() });
    let loss = if z.is_nan() { z } else { z.max(T::zero()) - z * t + (-z.abs()).exp().ln_1p() };
    Head { p, t, loss, correct: if (p > T::of(0.5)) == one { T::one() } else { T::zero() } }
}

/// How far a picture's numbers may stray.
pub(super) struct HeadBound {
    pub p: f64,
    pub loss: f64,
    pub correct: f64,
    pub dlogit: f64,
}

/// WGSL allows exp 3 + 2|x| ulp and a quotient 2.5; everything else here is correctly rounded.
pub(super) fn head_bound(z: f64, one: bool, whole: f64) -> HeadBound {
    let ulp = 2f64.powi(-23);
    let of: Head<f64> = head(z, one);
    let (e, exp_ulps) = ((-z.abs()).exp(), 3.0 + 2.0 * z.abs());
    HeadBound {
        p: ulp * (exp_ulps + 4.0) * of.p,
        loss: ulp * (exp_ulps * e + 4.0 * of.loss),
        correct: f64::from((of.p - 0.5).abs() < ulp * (exp_ulps + 4.0)),
        dlogit: ulp * ((exp_ulps + 4.0) * of.p + 4.0 * of.t) / whole,
    }
}

fn forward<T: Real>(call: &mut Call<T>) {
    let d: SigmoidDims = call.dims();
    let (logits, order, labels) = (call.read(0), &call.reads[1].u()[..d.pictures as usize], call.reads[2].u());
    let offset = d.offset as usize;
    let stride = d.stride as usize;
    let [probs, loss, correct, dlogits] = call.writes else { panic!("sigmoid_bce.forward writes four buffers") };
    for b in 0..d.batch as usize {
        let one = labels[call.step.ordered(order, offset + b) as usize] == 1;
        let head = head(logits[b * stride], one);
        loss.f_mut()[offset + b] = head.loss;
        correct.f_mut()[offset + b] = head.correct;
        probs.f_mut()[b * stride..][..stride].fill(T::zero());
        dlogits.f_mut()[b * stride..][..stride].fill(T::zero());
        probs.f_mut()[b * stride] = head.p;
        dlogits.f_mut()[b * stride] = (head.p - head.t) / T::of(f64::from(d.whole));
    }
}

fn bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let d: SigmoidDims = call.dims();
    let (logits, order, labels) = (call.read(0), &call.reads[1].u()[..d.pictures as usize], call.reads[2].u());
    let stride = d.stride as usize;
    // What stands before the offset is left as it is.
    let before = vec![0.0; d.offset as usize];
    let mut bounds = vec![vec![0.0; rows(call.dims)], before.clone(), before, vec![0.0; rows(call.dims)]];
    for b in 0..d.batch as usize {
        let one = labels[call.step.ordered(order, d.offset as usize + b) as usize] == 1;
        let of = head_bound(logits[b * stride], one, f64::from(d.whole));
        bounds[0][b * stride] = of.p;
        bounds[1].push(of.loss);
        bounds[2].push(of.correct);
        bounds[3][b * stride] = of.dlogit;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::head;

    #[test]
    fn a_half_is_the_first_class_nan_stays_in_its_place_and_past_the_end_is_the_last_picture() {
        let dims = SigmoidDims { batch: 3, stride: 4, pictures: 4, images: 4, offset: 1, whole: 4 }.words();
        let row = |z: [f64; 3]| z.map(|z| [z, 0.0, 0.0, 0.0]).concat();
        let [loss, correct] = head(&KERNELS[0], &dims, 0, &row([0.0, 0.0, f64::NAN]), &[0, 0, 1, 0]);
        assert_eq!((correct[1], correct[2]), (1.0, 0.0));
        assert_eq!(loss[..3], [0.0, 2f64.ln(), 2f64.ln()]);
        assert!(loss[3].is_nan());
        // Pictures 3, 4 and 5 of 4.
        let [_, correct] = head(&KERNELS[0], &dims, 2, &row([9.0, 9.0, 9.0]), &[0, 0, 0, 1]);
        assert_eq!(correct[1..], [1.0, 1.0, 1.0]);
    }
}
