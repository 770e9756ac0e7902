//! The relu's gradient, `dx = dy (y > 0)`, 0 at exactly 0 as in TensorFlow: `shaders/relu.wgsl`.

use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, grid, no_loops, random_input};
use rayon::prelude::*;

crate::dims! {
    /// A flat tensor.
    pub struct FlatDims {
        /// Elements, a multiple of 4.
        len,
    }
}

pub(super) fn len(d: &[u32]) -> usize {
    FlatDims::of(d).len as usize
}

pub(super) fn cases() -> Vec<Vec<u32>> {
    [4, 260, 1028].map(|len| FlatDims { len }.words()).to_vec()
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "relu.backward",
    variant: None,
    formula: "dx = dy where y > 0, else 0",
    file: "relu.wgsl",
    source: include_str!("../../shaders/relu.wgsl"),
    shared: &[SLICE_WGSL],
    entry: "backward",
    dims: FlatDims::FIELDS,
    step: false,
    bindings: &[Binding::read("dy", len), Binding::read("y", len), Binding::write("dx", len)],
    grid: |d| grid(len(d) / 4),
    loops: no_loops,
    cost: |d| Cost { flops: 0.0, bytes: 12.0 * len(d) as f64 },
    made: 1.0,
    twin: crate::twin!(backward),
    bound: Bound::Twin(|_| 0.0),
    cases,
    input: random_input,
}];

fn backward<T: Real>(call: &mut Call<T>) {
    /// Elements per task: a quarter of a second-level cache.
    const PIECE: usize = 1 << 15;
    let n = len(call.dims);
    let (dy, y) = (&call.read(0)[..n], &call.read(1)[..n]);
    let pieces = call.writes[0].f_mut()[..n].par_chunks_mut(PIECE);
    pieces.zip(dy.par_chunks(PIECE)).zip(y.par_chunks(PIECE)).for_each(|((dx, dy), y)| {
        for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = if y > T::zero() { dy } else { T::zero() };
        }
    });
}
