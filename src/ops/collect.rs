//! The batch's logits and probabilities put into the whole set's tables: `shaders/collect.wgsl`. As the pictures do, they lie in
//! several tables where one would be larger than the device binds.

use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, STEP_WGSL, grid, no_loops, random_input};

crate::dims! {
    /// Sizes of one copy.
    pub struct CollectDims {
        /// Pictures in the batch.
        batch,
        /// Floats per row.
        stride,
        /// The table's first picture.
        table_first,
        /// Pictures in the table.
        table_len,
    }
}

fn rows(d: &[u32]) -> usize {
    let d = CollectDims::of(d);
    product(&[d.batch, d.stride])
}
fn table(d: &[u32]) -> usize {
    let d = CollectDims::of(d);
    product(&[d.table_len, d.stride])
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "collect.forward",
    variant: None,
    formula: "all_logits[first+b-table_first, :] = logits[b, :] where that picture lies in this table; all_probs likewise",
    file: "collect.wgsl",
    source: include_str!("../../shaders/collect.wgsl"),
    shared: &[SLICE_WGSL, STEP_WGSL],
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
    loops: no_loops,
    cost: |d| Cost { flops: 0.0, bytes: 16.0 * rows(d) as f64 },
    made: 1.0,
    twin: crate::twin!(forward),
    bound: Bound::Twin(|_| 0.0),
    cases: || {
        // The tables begin before, at and behind the batch's first picture, which is 2, and end inside it.
        [[1, 4, 0, 3], [6, 8, 1, 9], [64, 4, 2, 70], [8, 4, 5, 3]]
            .map(|[batch, stride, table_first, table_len]| CollectDims { batch, stride, table_first, table_len }.words())
            .to_vec()
    },
    input: random_input,
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: CollectDims = call.dims();
    let stride = d.stride as usize;
    for (written, read) in call.writes.iter_mut().zip(call.reads) {
        let rows = read.f()[..rows(call.dims)].chunks_exact(stride);
        for (picture, row) in (call.step.first..).zip(rows) {
            // The rest lies in another table, or past the set's end, where rows repeat the last picture and are nobody's.
            if (d.table_first..d.table_first + d.table_len).contains(&picture) {
                let to = (picture - d.table_first) as usize * stride;
                written.f_mut()[to..to + stride].copy_from_slice(row);
            }
        }
    }
}
