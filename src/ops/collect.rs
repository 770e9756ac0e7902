//! The batch's logits and probabilities put into the whole set's table: `shaders/collect.wgsl`.

use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, INDEX_WGSL, Kernel, Real, STEP_WGSL, grid, random_input};

crate::dims! {
    /// Sizes of one copy.
    pub struct CollectDims {
        /// Pictures in the batch.
        batch,
        /// Floats per row.
        stride,
        /// Rows of the table.
        pictures,
    }
}

fn rows(d: &[u32]) -> usize {
    let d = CollectDims::of(d);
    product(&[d.batch, d.stride])
}
fn table(d: &[u32]) -> usize {
    let d = CollectDims::of(d);
    product(&[d.pictures, d.stride])
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "collect.forward",
    formula: "all_logits[first+b, :] = logits[b, :]; all_probs likewise",
    file: "collect.wgsl",
    source: include_str!("../../shaders/collect.wgsl"),
    shared: &[INDEX_WGSL, STEP_WGSL],
    entry: "forward",
    dims: CollectDims::FIELDS,
    step: true,
    bindings: &[
        Binding::read("logits", rows),
        Binding::read("probs", rows),
        Binding::write("all_logits", table).updated(),
        Binding::write("all_probs", table).updated(),
    ],
    grid: |d| grid(rows(d)),
    cost: |d| Cost { flops: 0.0, bytes: 16.0 * rows(d) as f64 },
    twin: crate::twin!(forward),
    bound: Bound::Twin(|_| 0.0),
    cases: || {
        [[1, 4, 3], [6, 8, 9], [64, 4, 70]]
            .map(|[batch, stride, pictures]| CollectDims { batch, stride, pictures }.words())
            .to_vec()
    },
    input: random_input,
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let to = (call.step.first * CollectDims::of(call.dims).stride) as usize;
    // A batch may reach past the table's end; those rows repeat the last picture and are nobody's.
    let n = rows(call.dims).min(table(call.dims).saturating_sub(to));
    for (written, read) in call.writes.iter_mut().zip(call.reads) {
        written.f_mut()[to..to + n].copy_from_slice(&read.f()[..n]);
    }
}
