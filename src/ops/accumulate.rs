//! The sum of gradients over the parts of a batch that is played in micro-batches, and of the first layer's partial sums over the chunks
//! of a data set: `shaders/accumulate.wgsl`.

use super::relu::{FlatDims, cases, len};
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, grid, no_loops, random_input};

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "accumulate.add",
    variant: None,
    formula: "sum += part",
    file: "accumulate.wgsl",
    source: include_str!("../../shaders/accumulate.wgsl"),
    shared: &[SLICE_WGSL],
    entry: "add",
    dims: FlatDims::FIELDS,
    step: false,
    bindings: &[Binding::read("part", len), Binding::write("sum", len).updated()],
    grid: |d| grid(len(d) / 4),
    loops: no_loops,
    cost: |d| Cost { flops: len(d) as f64, bytes: 12.0 * len(d) as f64 },
    made: 1.0,
    twin: crate::twin!(add),
    bound: Bound::Twin(|_| 1.0),
    cases,
    input: random_input,
}];

fn add<T: Real>(call: &mut Call<T>) {
    let n = len(call.dims);
    let part = call.read(0);
    call.writes[0].f_mut()[..n].iter_mut().zip(part).for_each(|(sum, &part)| *sum += part);
}
