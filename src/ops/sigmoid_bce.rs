//! The sigmoid head with binary cross-entropy from the logit: `shaders/sigmoid_bce.wgsl`.
//!
//! Keras fuses the two in `fit` and `evaluate`: `loss = max(z,0) - z t + log1p(exp(-|z|))`, no clipping of probabilities;
//! `dloss/dz = (sigmoid(z) - t) / whole` (the pictures of the whole batch, however it is split); a hit is `(p > 0.5) == t` with p = 0.5 counted as class 0.

use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, STEP_WGSL, Values, grid, passes};
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
    shared: &[SLICE_WGSL, STEP_WGSL, LOG1P_WGSL],
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
        // Logits from certainly wrong to certainly right, exact zeros among them.
        "logits" => Some(Values::F(
            (0..rows(d) as u32)
                .map(|i| {
                    let u = rng::unit(rng::hash3(seed, 5, i)) * 2.0 - 1.0;
                    if i % 29 == 8 { 0.0 } else { u * 40f32.powf(rng::unit(rng::hash3(seed, 6, i))) }
                })
                .collect(),
        )),
        "order" => Some(Values::U(
            (0..SigmoidDims::of(d).pictures).map(|i| rng::hash3(seed, 1, i) % SigmoidDims::of(d).images).collect(),
        )),
        "labels" => Some(Values::U((0..SigmoidDims::of(d).images).map(|i| rng::hash3(seed, 2, i) & 1).collect())),
        _ => None,
    },
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: SigmoidDims = call.dims();
    let (logits, order, labels) = (call.read(0), call.reads[1].u(), call.reads[2].u());
    let (first, offset) = ((call.step.first + d.offset) as usize, d.offset as usize);
    let stride = d.stride as usize;
    let [probs, loss, correct, dlogits] = call.writes else { panic!("sigmoid_bce.forward writes four buffers") };
    for b in 0..d.batch as usize {
        let z = logits[b * stride];
        let one = labels[order[(first + b).min(d.pictures as usize - 1)] as usize] == 1;
        let t = if one { T::one() } else { T::zero() };
        let p = sigmoid(z);
        loss.f_mut()[offset + b] = z.max(T::zero()) - z * t + (-z.abs()).exp().ln_1p();
        if z.is_nan() {
            loss.f_mut()[offset + b] = z;
        }
        correct.f_mut()[offset + b] = if (p > T::of(0.5)) == one { T::one() } else { T::zero() };
        probs.f_mut()[b * stride..][..stride].fill(T::zero());
        dlogits.f_mut()[b * stride..][..stride].fill(T::zero());
        probs.f_mut()[b * stride] = p;
        dlogits.f_mut()[b * stride] = (p - t) / T::of(f64::from(d.whole));
    }
}

/// WGSL allows exp 3 + 2|x| ulp and a quotient 2.5; everything else here is correctly rounded.
fn bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let d: SigmoidDims = call.dims();
    let (logits, order, labels) = (call.read(0), call.reads[1].u(), call.reads[2].u());
    let stride = d.stride as usize;
    let ulp = 2f64.powi(-23);
    // What stands before the offset is left as it is.
    let before = vec![0.0; d.offset as usize];
    let mut bounds = vec![vec![0.0; rows(call.dims)], before.clone(), before, vec![0.0; rows(call.dims)]];
    for b in 0..d.batch as usize {
        let z = logits[b * stride];
        let t = f64::from(labels[order[((call.step.first + d.offset) as usize + b).min(d.pictures as usize - 1)] as usize]);
        let (e, p) = ((-z.abs()).exp(), sigmoid(z));
        let exp_ulps = 3.0 + 2.0 * z.abs();
        let loss = z.max(0.0) - z * t + e.ln_1p();
        bounds[0][b * stride] = ulp * (exp_ulps + 4.0) * p;
        bounds[1].push(ulp * (exp_ulps * e + 4.0 * loss));
        bounds[2].push(f64::from((p - 0.5).abs() < ulp * (exp_ulps + 4.0)));
        bounds[3][b * stride] = ulp * ((exp_ulps + 4.0) * p + 4.0 * t) / f64::from(d.whole);
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
