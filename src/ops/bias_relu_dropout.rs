//! Bias, relu and dropout behind a hidden dense layer's products, in one dispatch, and their gradient in one: `shaders/bias_relu_dropout.wgsl`.
//!
//! `y = dropout(relu(bias + sum of the partial sums))`, with the mask of [`super::dropout`]; `dz = dy / (1 - rate)` where y > 0: y tells
//! both what the relu let through and what was kept.

use super::dense::DenseDims;
use super::dropout::DropoutDims;
use super::product;
use crate::kernel::{
    Binding, Bound, Call, Cost, Dims, Kernel, RNG_WGSL, Real, SLICE_WGSL, STEP_WGSL, grid, no_loops, passes, random_input,
};
use crate::rng;
use rayon::prelude::*;

crate::dims! {
    /// A hidden dense layer with dropout behind it.
    pub struct BiasReluDropoutDims {
        /// Pictures.
        batch,
        /// Outputs, a multiple of 4.
        out_n,
        /// Partial sums of the products.
        splits,
        /// Which dropout layer of the model this is.
        layer,
        /// `rate * 2^24`.
        threshold,
        /// `1 / (1 - rate)` as the bits of an f32.
        scale_bits,
    }
}

impl BiasReluDropoutDims {
    /// Of the two layers, for a whole batch.
    pub fn new(dense: &DenseDims, dropout: &DropoutDims) -> Self {
        Self {
            batch: dense.batch,
            out_n: dense.out_n,
            splits: dense.splits,
            layer: dropout.layer,
            threshold: dropout.threshold,
            scale_bits: dropout.scale_bits,
        }
    }

    fn scale<T: Real>(&self) -> T {
        T::of(f64::from(f32::from_bits(self.scale_bits)))
    }
}

const SOURCE: &str = include_str!("../../shaders/bias_relu_dropout.wgsl");
/// What the file refers to.
const SHARED: &[&str] = &[SLICE_WGSL, STEP_WGSL, RNG_WGSL];

fn y_len(d: &[u32]) -> usize {
    let d = BiasReluDropoutDims::of(d);
    product(&[d.batch, d.out_n])
}
fn bias_len(d: &[u32]) -> usize {
    BiasReluDropoutDims::of(d).out_n as usize
}
fn partial_len(d: &[u32]) -> usize {
    y_len(d) * BiasReluDropoutDims::of(d).splits as usize
}

/// One element in fours, workgroups that are whole and not, and the notebook's layer.
fn cases() -> Vec<Vec<u32>> {
    [(1, 4, 4, 0, 0.5), (3, 20, 12, 1, 0.25), (9, 516, 20, 2, 0.9), (64, 12_544, 128, 0, 0.5)]
        .map(|(batch, in_n, out_n, layer, rate)| {
            let dropout = DropoutDims::new(batch * out_n, layer, rate, 0);
            BiasReluDropoutDims::new(&DenseDims::new(batch, in_n, out_n, true), &dropout).words()
        })
        .to_vec()
}

/// The kernel of the forward pass.
pub(super) const FORWARD: &Kernel = &KERNELS[0];

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "bias_relu_dropout.forward",
        variant: None,
        formula: "y[b,j] = relu(bias[j] + sum_s partial[s,b,j]) / (1 - rate) where u(seed, step, layer, b out_n + j) >= rate, else 0",
        file: "bias_relu_dropout.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "forward",
        dims: BiasReluDropoutDims::FIELDS,
        step: true,
        bindings: &[Binding::read("sums", partial_len), Binding::read("bias", bias_len), Binding::write("y", y_len)],
        grid: |d| grid(y_len(d) / 4),
        loops: |d| passes(&[BiasReluDropoutDims::of(d).splits as usize]),
        cost: |d| Cost { flops: partial_len(d) as f64, bytes: 4.0 * (partial_len(d) + y_len(d)) as f64 },
        made: 1.0,
        twin: crate::twin!(forward),
        bound: Bound::Twin(|d| f64::from(BiasReluDropoutDims::of(d).splits) + 2.0),
        cases,
        input: random_input,
    },
    Kernel {
        key: "bias_relu_dropout.backward",
        variant: None,
        formula: "dz = dy / (1 - rate) where the forward's y > 0, else 0",
        file: "bias_relu_dropout.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "backward",
        dims: BiasReluDropoutDims::FIELDS,
        step: false,
        bindings: &[Binding::read("dy", y_len), Binding::read("dropped", y_len), Binding::write("dz", y_len)],
        grid: |d| grid(y_len(d) / 4),
        loops: no_loops,
        cost: |d| Cost { flops: y_len(d) as f64, bytes: 12.0 * y_len(d) as f64 },
        made: 1.0,
        twin: crate::twin!(backward),
        bound: Bound::Twin(|_| 1.0),
        cases,
        input: random_input,
    },
];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: BiasReluDropoutDims = call.dims();
    let (sums, bias) = (&call.read(0)[..partial_len(call.dims)], call.read(1));
    let (n, o, scale) = (y_len(call.dims), d.out_n as usize, d.scale::<T>());
    let (seed, step) = (call.step.seed.wrapping_add(d.layer.wrapping_mul(0x9E37_79B9)), call.step.step);
    // A picture's run of every partial sum after the other, so that memory is read in order.
    call.writes[0].f_mut()[..n].par_chunks_exact_mut(o).enumerate().for_each(|(b, y)| {
        y.fill(T::zero());
        for sums in sums.chunks_exact(n) {
            y.iter_mut().zip(&sums[b * o..]).for_each(|(y, &v)| *y += v);
        }
        for (j, (y, &bias)) in y.iter_mut().zip(bias).enumerate() {
            let z = *y + bias;
            let keep = rng::hash3(seed, step, (b * o + j) as u32) >> 8 >= d.threshold;
            // A comparison instead of max(): relu(NaN) must stay NaN.
            *y = if !keep || z < T::zero() { T::zero() } else { z * scale };
        }
    });
}

fn backward<T: Real>(call: &mut Call<T>) {
    let d: BiasReluDropoutDims = call.dims();
    let (n, scale) = (y_len(call.dims), d.scale::<T>());
    let inputs = call.read(0)[..n].iter().zip(call.read(1));
    for (dz, (&dy, &y)) in call.writes[0].f_mut()[..n].iter_mut().zip(inputs) {
        *dz = if y > T::zero() { dy * scale } else { T::zero() };
    }
}
