//! The softmax head with categorical cross-entropy from the logits: `shaders/softmax_ce.wgsl`.
//!
//! Stable: the row's maximum m is subtracted. `loss = log(sum_j exp(z_j - m)) - (z_t - m)`, `dloss/dz = (softmax(z) -
//! onehot(t)) / whole` (the pictures of the whole batch), a hit is `argmax z == t` (first maximum). Matches Keras's fused `categorical_crossentropy`.

use super::product;
use super::sigmoid_bce::LOG1P_WGSL;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, ORDERED_WGSL, Real, SLICE_WGSL, STEP_WGSL, Values, grid, passes};
use crate::rng;

crate::dims! {
    /// Sizes of one batch of logits.
    pub struct SoftmaxDims {
        /// Pictures in the batch.
        batch,
        /// Classes.
        classes,
        /// Floats per row of logits: classes padded to a multiple of 4.
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

fn rows(d: &[u32]) -> usize {
    let d = SoftmaxDims::of(d);
    product(&[d.batch, d.stride])
}
fn batch(d: &[u32]) -> usize {
    SoftmaxDims::of(d).batch as usize
}
fn places(d: &[u32]) -> usize {
    let d = SoftmaxDims::of(d);
    d.offset as usize + d.batch as usize
}

/// Index of the first maximum.
pub fn argmax<T: Real>(row: &[T]) -> usize {
    (1..row.len()).fold(0, |best, j| if row[j] > row[best] { j } else { best })
}

/// softmax of a row, with its maximum subtracted, into as many elements of `p`.
pub fn softmax<T: Real>(row: &[T], p: &mut [T]) {
    let m = row[argmax(row)];
    p.iter_mut().zip(row).for_each(|(p, &z)| *p = (z - m).exp());
    let sum: T = p.iter().copied().sum();
    p.iter_mut().for_each(|p| *p /= sum);
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "softmax_ce.forward",
    variant: None,
    formula: "loss = log(sum_j exp(z_j - m)) - (z_t - m), m = max z; p = softmax(z); dlogits = (p - onehot(t)) / whole; correct = (argmax z == t)",
    file: "softmax_ce.wgsl",
    source: include_str!("../../shaders/softmax_ce.wgsl"),
    shared: &[SLICE_WGSL, STEP_WGSL, ORDERED_WGSL, LOG1P_WGSL],
    entry: "forward",
    dims: SoftmaxDims::FIELDS,
    step: true,
    bindings: &[
        Binding::read("logits", rows),
        Binding::read("order", |d| SoftmaxDims::of(d).pictures as usize).words(),
        Binding::read("labels", |d| SoftmaxDims::of(d).images as usize).words(),
        Binding::write("probs", rows),
        Binding::write("loss", places).updated(),
        Binding::write("correct", places).updated(),
        Binding::write("dlogits", rows),
    ],
    grid: |d| grid(batch(d)),
    loops: |d| {
        let d = SoftmaxDims::of(d);
        passes(&[d.classes as usize - 1]) + passes(&[d.classes as usize]) + passes(&[d.stride as usize])
    },
    cost: |d| Cost { flops: 30.0 * rows(d) as f64, bytes: 12.0 * rows(d) as f64 },
    made: 1.0,
    twin: crate::twin!(forward),
    bound: Bound::Own(bound),
    cases: || {
        [
            [1, 2, 4, 3, 3, 0, 1],
            [7, 3, 4, 12, 15, 0, 7],
            [65, 6, 8, 80, 70, 0, 65],
            [3, 4, 4, 9, 9, 0, 3],
            [5, 3, 4, 30, 33, 8, 16],
        ]
        .map(|[batch, classes, stride, pictures, images, offset, whole]| {
            SoftmaxDims { batch, classes, stride, pictures, images, offset, whole }.words()
        })
        .to_vec()
    },
    input: |d, name, seed| {
        let s = SoftmaxDims::of(d);
        match name {
            // Rows from undecided to certain; equal logits among them.
            "logits" => Some(Values::F(
                (0..rows(d) as u32)
                    .map(|i| {
                        let u = rng::unit(rng::hash3(seed, 5, i)) * 2.0 - 1.0;
                        if i / s.stride % 5 == 4 { 1.5 } else { u * 30f32.powf(rng::unit(rng::hash3(seed, 6, i / s.stride))) }
                    })
                    .collect(),
            )),
            "order" => Some(Values::U((0..s.pictures).map(|i| rng::hash3(seed, 1, i) % s.images).collect())),
            "labels" => Some(Values::U((0..s.images).map(|i| rng::hash3(seed, 2, i) % s.classes).collect())),
            _ => None,
        }
    },
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: SoftmaxDims = call.dims();
    let (logits, order, labels) = (call.read(0), &call.reads[1].u()[..d.pictures as usize], call.reads[2].u());
    let offset = d.offset as usize;
    let (stride, classes) = (d.stride as usize, d.classes as usize);
    let [probs, loss, correct, dlogits] = call.writes else { panic!("softmax_ce.forward writes four buffers") };
    for b in 0..d.batch as usize {
        let row = &logits[b * stride..][..classes];
        let label = labels[call.step.ordered(order, offset + b) as usize] as usize;
        let top = argmax(row);
        let rest: T = row.iter().enumerate().filter(|(j, _)| *j != top).map(|(_, &z)| (z - row[top]).exp()).sum();
        loss.f_mut()[offset + b] = rest.ln_1p() + (row[top] - row[label]);
        correct.f_mut()[offset + b] = if top == label { T::one() } else { T::zero() };
        let [p, dz] = [&mut *probs, &mut *dlogits].map(|buffer| &mut buffer.f_mut()[b * stride..][..stride]);
        let (p, padding) = p.split_at_mut(classes);
        softmax(row, p);
        padding.fill(T::zero());
        dz[classes..].fill(T::zero());
        for (j, (dz, &p)) in dz.iter_mut().zip(&*p).enumerate() {
            let hot = if j == label { T::one() } else { T::zero() };
            *dz = (p - hot) / T::of(f64::from(d.whole));
        }
    }
}

/// WGSL allows exp 3 + 2|x| ulp, log an absolute error of 2^-21 or 3 ulp, a quotient 2.5 ulp.
fn bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let d: SoftmaxDims = call.dims();
    let (logits, order, labels) = (call.read(0), &call.reads[1].u()[..d.pictures as usize], call.reads[2].u());
    let (stride, classes) = (d.stride as usize, d.classes as usize);
    let ulp = 2f64.powi(-23);
    // What stands before the offset is left as it is.
    let before = vec![0.0; d.offset as usize];
    let mut bounds = vec![vec![0.0; rows(call.dims)], before, vec![0.0; places(call.dims)], vec![0.0; rows(call.dims)]];
    for b in 0..d.batch as usize {
        let row = &logits[b * stride..][..classes];
        let label = labels[call.step.ordered(order, d.offset as usize + b) as usize] as usize;
        let top = row[argmax(row)];
        let range = row.iter().fold(0.0f64, |r, &z| r.max(top - z));
        let rest: f64 = row.iter().map(|&z| (z - top).exp()).sum::<f64>() - 1.0;
        let exp_ulps = 5.0 + 2.0 * range + classes as f64;
        let loss = rest.ln_1p() + top - row[label];
        let log = if rest <= 1.0 { 0.0 } else { 2f64.powi(-21) };
        bounds[1].push(log + ulp * (exp_ulps * rest.min(1.0) + 4.0 * loss));
        let mut p = vec![0.0; classes];
        softmax(row, &mut p);
        for (j, p) in p.into_iter().enumerate() {
            bounds[0][b * stride + j] = ulp * (exp_ulps + 4.0) * p + f64::from(f32::MIN_POSITIVE);
            bounds[3][b * stride + j] = (ulp * ((exp_ulps + 4.0) * p + 1.0) + f64::from(f32::MIN_POSITIVE)) / f64::from(d.whole);
        }
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::head;

    #[test]
    fn large_logits_do_not_overflow_and_past_the_end_is_the_last_picture() {
        let mut p = [f32::NAN; 3];
        softmax(&[90.0, 0.0, -90.0], &mut p);
        assert_eq!(p, [1.0, (-90.0f32).exp(), 0.0]);
        let dims = SoftmaxDims { batch: 3, classes: 2, stride: 4, pictures: 4, images: 4, offset: 1, whole: 4 }.words();
        let [loss, correct] = head(&KERNELS[0], &dims, 2, &[0.0, 9.0, 0.0, 0.0].repeat(3), &[0, 0, 0, 1]);
        assert_eq!(correct[1..], [1.0, 1.0, 1.0]);
        assert!(loss[1..].iter().all(|l| *l == (-9f64).exp().ln_1p()));
    }
}
