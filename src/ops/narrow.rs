//! Variants for GPUs where there are few sums of many terms: `shaders/narrow/`.
//!
//! A GPU has tens of thousands of invocations to give; where a kernel has a few hundred sums to make, each by an invocation that walks
//! through its terms, most of the GPU stands idle and the rest waits for memory. Here the invocations of a workgroup share the terms of
//! a sum: each adds up its own in order, and their sums are added up through workgroup memory as a tree whose shape follows from the dims
//! alone, so that the bytes repeat. The order is another than the base kernel's. All stay inside WebGPU's default limits.

use super::bias_relu_dropout::{self, BiasReluDropoutDims};
use super::conv2d::{self, Conv2dDims};
use super::dense::{self, DenseDims};
use super::dense_bias_relu::{self, MOST_OUTPUTS};
use super::dropout::DropoutDims;
use crate::kernel::{
    ADAM_WGSL, Constants, Dims, Kernel, MAX_GROUPS, MadeFor, Needs, RNG_WGSL, SLICE_WGSL, STEP_WGSL, UPDATE_BIAS_WGSL, Variant,
    another, passes,
};

const PARTIAL_SUMS_WGSL: &str = include_str!("../../shaders/shared/partial_sums.wgsl.jinja");
const FEW_OUTPUTS_WGSL: &str = include_str!("../../shaders/shared/few_outputs.wgsl.jinja");

/// Partial sums that an invocation loads at a time.
const LOADS: u32 = 4;

/// How `conv2d.update_weight` is cut: invocations that share a sum, and weights of a workgroup in fours.
struct Reduction {
    lanes: u32,
    columns: u32,
}

impl Reduction {
    fn new(d: &Conv2dDims) -> Self {
        let lanes = d.splits.div_ceil(LOADS).next_power_of_two().min(64);
        // 128 invocations, and no run of memory of less than 64 bytes.
        Self { lanes, columns: (128 / lanes).max(4) }
    }

    fn groups(&self, d: &Conv2dDims) -> u32 {
        ((d.weight_len() + d.out_c as usize) as u32 / 4).div_ceil(self.columns)
    }
}

/// Fewer partial sums are no work to share.
fn reduction_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    d.splits >= 2 * LOADS && Reduction::new(d).groups(d) <= MAX_GROUPS
}

/// Shapes whose partial sums are as many as the lanes' loads, one more, many rounds of them, and those of the notebook's layers; with
/// whole workgroups of weights and without.
fn reduction_cases() -> Vec<Vec<u32>> {
    let of = |splits, input, filters, kernel| {
        let d = Conv2dDims::new(4, input, filters, kernel, false, true);
        Conv2dDims { splits, rows_per_split: 1, ..d }
    };
    [
        of(8, [6, 6, 4], 4, [1, 1]),
        of(9, [6, 6, 8], 12, [3, 3]),
        of(33, [6, 6, 4], 8, [3, 2]),
        of(127, [6, 6, 4], 16, [3, 3]),
        of(256, [6, 6, 4], 4, [3, 3]),
        of(512, [6, 6, 16], 32, [3, 3]),
        of(769, [6, 6, 4], 4, [1, 2]),
        of(32, [6, 6, 32], 64, [3, 3]),
    ]
    .iter()
    .map(Dims::words)
    .collect()
}

/// How `dense.reduce` and `bias_relu_dropout.forward` are cut: invocations that share an output, and outputs of a workgroup in fours. At
/// most 16 lanes, each with a few rounds of loads in a row: more would make more workgroups than run at a time.
struct DenseReduction {
    lanes: u32,
    columns: u32,
}

impl DenseReduction {
    fn new(splits: u32) -> Self {
        let lanes = splits.div_ceil(LOADS).next_power_of_two().min(16);
        Self { lanes, columns: 128 / lanes }
    }

    fn groups(&self, batch: u32, out_n: u32) -> u32 {
        (batch * (out_n / 4)).div_ceil(self.columns)
    }

    fn fits(splits: u32, batch: u32, out_n: u32) -> bool {
        splits >= 2 * LOADS && Self::new(splits).groups(batch, out_n) <= MAX_GROUPS
    }

    fn passes(splits: u32) -> usize {
        passes(&[splits.div_ceil(LOADS * Self::new(splits).lanes) as usize])
    }

    fn constants(splits: u32) -> Vec<(&'static str, u32)> {
        let t = Self::new(splits);
        vec![("LANES", t.lanes), ("COLUMNS", t.columns)]
    }
}

fn dense_reduction_fits(d: &[u32]) -> bool {
    let d = DenseDims::of(d);
    DenseReduction::fits(d.splits, d.batch, d.out_n)
}

fn dropout_reduction_fits(d: &[u32]) -> bool {
    let d = BiasReluDropoutDims::of(d);
    DenseReduction::fits(d.splits, d.batch, d.out_n)
}

/// As many partial sums as the lanes' loads, one more, as many as two rounds take and one more; whole workgroups and not; the notebook's.
const DENSE_REDUCTIONS: [(usize, usize, usize); 7] =
    [(3, 12, 8), (64, 16, 9), (1, 4, 31), (5, 20, 64), (7, 36, 65), (16, 128, 98), (2, 8, 129)];

fn dense_reduction(batch: usize, out_n: usize, splits: usize) -> DenseDims {
    let d = DenseDims::new(batch, 4 * splits, out_n, true);
    DenseDims { splits: splits as u32, per_split: 4, ..d }
}

fn dense_reduction_cases() -> Vec<Vec<u32>> {
    DENSE_REDUCTIONS.map(|(batch, out_n, splits)| dense_reduction(batch, out_n, splits).words()).to_vec()
}

fn dropout_reduction_cases() -> Vec<Vec<u32>> {
    let of = |(batch, out_n, splits)| {
        let dropout = DropoutDims::new(batch * out_n, (splits % 3) as u32, 0.25, 0);
        BiasReluDropoutDims::new(&dense_reduction(batch, out_n, splits), &dropout).words()
    };
    DENSE_REDUCTIONS.map(of).to_vec()
}

/// Invocations that share a picture's inputs.
const INPUT_LANES: u32 = 32;
/// Pictures of a workgroup.
const PICTURES: u32 = 4;
/// Invocations that share a batch.
const BATCH_LANES: u32 = 128;

fn forward_fits(d: &[u32]) -> bool {
    let d = DenseDims::of(d);
    d.out_n <= MOST_OUTPUTS && d.batch.div_ceil(PICTURES) <= MAX_GROUPS && d.splits <= MAX_GROUPS
}

fn whole_fits(d: &[u32]) -> bool {
    let d = DenseDims::of(d);
    d.out_n <= MOST_OUTPUTS && d.batch.div_ceil(PICTURES) <= MAX_GROUPS
}

fn update_fits(d: &[u32]) -> bool {
    let d = DenseDims::of(d);
    d.out_n <= MOST_OUTPUTS && d.in_n / 4 < MAX_GROUPS
}

/// Every width that there is a text for, a lane's inputs or pictures none, one, and one over, whole workgroups and not, and the
/// notebook's head.
fn dense_cases() -> Vec<Vec<u32>> {
    [(1, 4, 4), (3, 20, 12), (9, 516, 8), (64, 128, 4), (129, 132, 16), (257, 12, 4), (2, 12_544, 4)]
        .map(|(batch, in_n, out_n)| DenseDims::new(batch, in_n, out_n, out_n == 12).words())
        .to_vec()
}

const fn variant(of: &'static str, fits: fn(&[u32]) -> bool, constants: Constants) -> Variant {
    Variant::new(of, Needs::Nothing, MadeFor::Gpus, fits, constants)
}

/// The variants.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        shared: &[SLICE_WGSL, STEP_WGSL, ADAM_WGSL, UPDATE_BIAS_WGSL, PARTIAL_SUMS_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            [Reduction::new(d).groups(d), 1, 1]
        },
        loops: |d| {
            let d = Conv2dDims::of(d);
            passes(&[d.splits.div_ceil(LOADS * Reduction::new(d).lanes) as usize])
        },
        cases: reduction_cases,
        ..another(
            conv2d::UPDATE_WEIGHT,
            "conv2d.update_weight/narrow",
            "narrow/conv2d_update_weight.wgsl.jinja",
            include_str!("../../shaders/narrow/conv2d_update_weight.wgsl.jinja"),
            variant("conv2d.update_weight", reduction_fits, |d| {
                let t = Reduction::new(Conv2dDims::of(d));
                vec![("LANES", t.lanes), ("COLUMNS", t.columns)]
            }),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, FEW_OUTPUTS_WGSL],
        grid: |d| {
            let d = DenseDims::of(d);
            [d.batch.div_ceil(PICTURES), d.splits, 1]
        },
        loops: |d| passes(&[(DenseDims::of(d).per_split / 4).div_ceil(INPUT_LANES) as usize]),
        cases: dense_cases,
        ..another(
            dense::FORWARD,
            "dense.forward/narrow",
            "narrow/dense_forward.wgsl.jinja",
            include_str!("../../shaders/narrow/dense_forward.wgsl.jinja"),
            variant("dense.forward", forward_fits, |d| {
                vec![("LANES", INPUT_LANES), ("PICTURES", PICTURES), ("OUT4", DenseDims::of(d).out_n / 4)]
            }),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, FEW_OUTPUTS_WGSL],
        grid: |d| [DenseDims::of(d).batch.div_ceil(PICTURES), 1, 1],
        loops: |d| passes(&[(DenseDims::of(d).in_n / 4).div_ceil(INPUT_LANES) as usize]),
        cases: dense_cases,
        ..another(
            dense_bias_relu::FORWARD,
            "dense_bias_relu.forward/narrow",
            "narrow/dense_bias_relu.wgsl.jinja",
            include_str!("../../shaders/narrow/dense_bias_relu.wgsl.jinja"),
            variant("dense_bias_relu.forward", whole_fits, |d| {
                vec![("LANES", INPUT_LANES), ("PICTURES", PICTURES), ("OUT4", DenseDims::of(d).out_n / 4)]
            }),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, PARTIAL_SUMS_WGSL],
        grid: |d| {
            let d = DenseDims::of(d);
            [DenseReduction::new(d.splits).groups(d.batch, d.out_n), 1, 1]
        },
        loops: |d| DenseReduction::passes(DenseDims::of(d).splits),
        cases: dense_reduction_cases,
        ..another(
            dense::REDUCE,
            "dense.reduce/narrow",
            "narrow/dense_reduce.wgsl.jinja",
            include_str!("../../shaders/narrow/dense_reduce.wgsl.jinja"),
            variant("dense.reduce", dense_reduction_fits, |d| DenseReduction::constants(DenseDims::of(d).splits)),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, STEP_WGSL, RNG_WGSL, PARTIAL_SUMS_WGSL],
        grid: |d| {
            let d = BiasReluDropoutDims::of(d);
            [DenseReduction::new(d.splits).groups(d.batch, d.out_n), 1, 1]
        },
        loops: |d| DenseReduction::passes(BiasReluDropoutDims::of(d).splits),
        cases: dropout_reduction_cases,
        ..another(
            bias_relu_dropout::FORWARD,
            "bias_relu_dropout.forward/narrow",
            "narrow/bias_relu_dropout.wgsl.jinja",
            include_str!("../../shaders/narrow/bias_relu_dropout.wgsl.jinja"),
            variant("bias_relu_dropout.forward", dropout_reduction_fits, |d| {
                DenseReduction::constants(BiasReluDropoutDims::of(d).splits)
            }),
        )
    },
    Kernel {
        shared: dense::SHARED,
        // An input more than there are, for the biases.
        grid: |d| [DenseDims::of(d).in_n / 4 + 1, 1, 1],
        loops: |d| passes(&[DenseDims::of(d).batch.div_ceil(BATCH_LANES) as usize]),
        cases: dense_cases,
        ..another(
            dense::UPDATE_WEIGHT,
            "dense.update_weight/narrow",
            "narrow/dense_update_weight.wgsl.jinja",
            include_str!("../../shaders/narrow/dense_update_weight.wgsl.jinja"),
            variant("dense.update_weight", update_fits, |d| vec![("LANES", BATCH_LANES), ("OUT4", DenseDims::of(d).out_n / 4)]),
        )
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::takes;

    #[test]
    fn partial_sums_are_shared_where_there_are_enough() {
        let d = Conv2dDims { splits: 8, ..Conv2dDims::new(2, [9, 6, 4], 8, [3, 3], true, true) };
        let splits = |splits| Conv2dDims { splits, ..d };
        // 64 lanes leave four weights of four channels to a workgroup.
        let filters = |out_c| Conv2dDims { k_h: 1, k_w: 1, in_c: 15, splits: 512, out_c, ..d };
        takes("conv2d.update_weight/narrow", &[d, splits(100_000), filters(MAX_GROUPS)], &[splits(7), filters(MAX_GROUPS + 1)]);
    }

    #[test]
    fn a_dense_layers_partial_sums_are_shared_where_there_are_enough() {
        let d = DenseDims { splits: 8, per_split: 4, ..DenseDims::new(1, 32, 4, true) };
        let of = |splits, batch| DenseDims { splits, batch, ..d };
        // Two lanes leave 64 fours of outputs to a workgroup, 16 leave 8.
        let most = [64 * MAX_GROUPS, 8 * MAX_GROUPS];
        let taken = [d, of(8, most[0]), of(98, most[1])];
        let left = [of(7, 1), of(8, most[0] + 1), of(98, most[1] + 1)];
        takes("dense.reduce/narrow", &taken, &left);
        let dropped = |d: DenseDims| BiasReluDropoutDims::new(&d, &DropoutDims::new(4, 0, 0.5, 0));
        takes("bias_relu_dropout.forward/narrow", &taken.map(dropped), &left.map(dropped));
    }

    #[test]
    fn dense_layers_are_taken_up_to_sixteen_outputs() {
        let dense = |batch, in_n, out_n| DenseDims::new(batch, in_n, out_n, false);
        let d = dense(1, 4, 16);
        let at = |splits, batch| DenseDims { splits, batch, ..d };
        let most = 4 * MAX_GROUPS;
        takes("dense.forward/narrow", &[d, dense(9, 520, 4), at(MAX_GROUPS, most)], &[at(MAX_GROUPS + 1, 1), at(1, most + 1)]);
        takes("dense_bias_relu.forward/narrow", &[d, dense(9, 520, 4), at(1, most)], &[at(1, most + 1)]);
        let inputs = |in_n| DenseDims { in_n, ..d };
        takes("dense.update_weight/narrow", &[d, dense(9, 520, 4), inputs(most - 4)], &[inputs(most)]);
        for key in ["dense.forward/narrow", "dense_bias_relu.forward/narrow", "dense.update_weight/narrow"] {
            takes(key, &[], &[dense(1, 4, 20)]);
        }
    }
}
