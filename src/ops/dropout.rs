//! Inverted dropout (Keras `Dropout`): `shaders/dropout.wgsl`.
//!
//! `y = x / (1 - rate)` where `u(seed, step, layer, index) >= rate`, else 0, with u the counter hash of [`crate::rng`]: the same
//! mask in Rust and WGSL, made again in the backward pass instead of stored.

use crate::kernel::{
    Binding, Bound, Call, Cost, Dims, Kernel, RNG_WGSL, Real, SLICE_WGSL, STEP_WGSL, grid, no_loops, random_input,
};
use crate::rng;

crate::dims! {
    /// One dropout layer.
    pub struct DropoutDims {
        /// Elements.
        len,
        /// Which dropout layer of the model this is.
        layer,
        /// `rate * 2^24`.
        threshold,
        /// `1 / (1 - rate)` as the bits of an f32.
        scale_bits,
        /// Where in the step's batch these elements begin: 0 but in a micro-batch, which so has the whole batch's mask.
        offset,
    }
}

impl DropoutDims {
    /// A layer that drops `rate` of `len` elements, which begin at `offset` of the batch.
    pub fn new(len: usize, layer: u32, rate: f64, offset: usize) -> Self {
        Self {
            len: len as u32,
            layer,
            threshold: (rate * f64::from(1 << 24)).round() as u32,
            scale_bits: ((1.0 / (1.0 - rate)) as f32).to_bits(),
            offset: offset as u32,
        }
    }
}

const SOURCE: &str = include_str!("../../shaders/dropout.wgsl");

fn len(d: &[u32]) -> usize {
    DropoutDims::of(d).len as usize
}

fn cases() -> Vec<Vec<u32>> {
    // The last is past 65,535 workgroups, where the grid is folded.
    [(1, 0, 0.5, 0), (67, 1, 0.25, 0), (8192, 0, 0.5, 64), (1030, 2, 0.9, 5), (64 * 65_535 + 67, 1, 0.5, 0)]
        .map(|(len, layer, rate, offset)| DropoutDims::new(len, layer, rate, offset).words())
        .to_vec()
}

const fn kernel(key: &'static str, formula: &'static str, entry: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel {
        variant: None,
        key,
        formula,
        file: "dropout.wgsl",
        source: SOURCE,
        shared: &[SLICE_WGSL, STEP_WGSL, RNG_WGSL],
        entry,
        dims: DropoutDims::FIELDS,
        step: true,
        bindings,
        grid: |d| grid(len(d)),
        loops: no_loops,
        cost: |d| Cost { flops: len(d) as f64, bytes: 8.0 * len(d) as f64 },
        made: 1.0,
        twin: crate::twin!(mask),
        bound: Bound::Twin(|_| 1.0),
        cases,
        input: random_input,
    }
}

/// The op's kernels: one mask, applied to the activation and to its gradient.
pub const KERNELS: &[Kernel] = &[
    kernel(
        "dropout.forward",
        "y[i] = x[i] / (1 - rate) where u(seed, step, layer, offset + i) >= rate, else 0",
        "forward",
        &[Binding::read("x", len), Binding::write("y", len)],
    ),
    kernel(
        "dropout.backward",
        "dx[i] = dy[i] / (1 - rate) where the forward kept i, else 0",
        "backward",
        &[Binding::read("dy", len), Binding::write("dx", len)],
    ),
];

fn mask<T: Real>(call: &mut Call<T>) {
    let d: DropoutDims = call.dims();
    let scale = T::of(f64::from(f32::from_bits(d.scale_bits)));
    let seed = call.step.seed.wrapping_add(d.layer.wrapping_mul(0x9E37_79B9));
    let x = call.read(0);
    for (i, y) in call.writes[0].f_mut()[..d.len as usize].iter_mut().enumerate() {
        let keep = rng::hash3(seed, call.step.step, d.offset.wrapping_add(i as u32)) >> 8 >= d.threshold;
        *y = if keep { x[i] * scale } else { T::zero() };
    }
}
