//! Variants for GPUs: blocked products from workgroup memory, `shaders/tile/`.
//!
//! A GPU's processors wait for memory most of the time unless each value that they load is used many times. So a workgroup brings
//! a block of pixels, gradients and weights into its memory once, and an invocation keeps 32 to 96 sums in registers. The texts are
//! templates, with the sizes that the compiler should know. All stay inside WebGPU's default limits.

use super::conv2d::{Conv2dDims, X_AT_WGSL};
use super::conv2d_relu_maxpool2x2::{self as fused, POOLED_GRADIENT_WGSL};
use super::dense::{self, DenseDims};
use crate::kernel::{
    Constants, Dims, Kernel, MAX_GROUPS, MadeFor, Needs, PLACES_WGSL, POOLED_WINDOW_WGSL, SLICE_WGSL, STORE_WINDOW_WGSL, Variant,
    another, passes,
};

/// The most channels of 64, 32, 16 and 8 that divide `channels` into blocks.
fn channel_block(channels: u32) -> Option<u32> {
    [64, 32, 16, 8].into_iter().find(|b| channels.is_multiple_of(*b))
}

/// How a tiled convolution is cut: invocations side by side and below each other, each with 4 x 2 pixels, and channels of a
/// workgroup.
struct Tiling {
    columns: u32,
    rows: u32,
    channels: u32,
    /// Blocks of 4 x 2 pixels in a picture's row and column.
    blocks: [u32; 2],
}

impl Tiling {
    /// Of a picture of `blocks` blocks of pixels, with `channels` channels to make: about 128 invocations, 16 KiB at most.
    fn new(blocks: [u32; 2], channels: u32) -> Self {
        let channel_block = channel_block(channels).unwrap_or(8);
        let columns = blocks[0].div_ceil(blocks[0].div_ceil(16).max(1)).max(1);
        let rows = (128 / (columns * channel_block / 8)).clamp(1, 4).min(blocks[1]).max(1);
        Self { columns, rows, channels: channel_block, blocks }
    }

    fn forward(d: &Conv2dDims) -> Self {
        Self::new([(d.out_w / 2).div_ceil(2), d.out_h / 2], d.out_c)
    }

    fn backward_input(d: &Conv2dDims) -> Self {
        Self::new([d.in_w.div_ceil(4), d.in_h.div_ceil(2)], d.in_c)
    }

    /// Of sums over `from` channels.
    fn constants(&self, from: u32, to: u32) -> Vec<(&'static str, u32)> {
        let sizes = [("COLUMNS", self.columns), ("ROWS", self.rows), ("TO_B", self.channels)];
        sizes.into_iter().chain([("FROM_C", from), ("TO_C", to)]).collect()
    }

    fn grid(&self, d: &Conv2dDims, to: u32) -> [u32; 3] {
        let [w, h] = self.blocks;
        [w.div_ceil(self.columns) * h.div_ceil(self.rows), to / self.channels, d.batch]
    }

    /// Passes over `channels` channels, whose weights come in `fills` parts.
    fn round(&self, channels: u32, fills: u32) -> usize {
        let threads = self.columns * self.rows * self.channels / 8;
        let pixels = ((2 * self.rows + 2) * (self.columns + 1)).div_ceil(threads) as usize;
        let taps = (9 * self.channels / 4 * fills).div_ceil(threads) as usize;
        passes(&[pixels]) + passes(&[taps]) + passes(&[channels as usize, 3])
    }

    /// Passes over `from` channels, four at a time.
    fn loops(&self, from: u32, fills: u32) -> usize {
        1 + from as usize / 4 * (1 + self.round(4, fills))
    }
}

pub(super) fn three_by_three(d: &Conv2dDims) -> bool {
    d.k_h == 3 && d.k_w == 3 && d.batch <= MAX_GROUPS && d.pooled_len() > 0
}

fn forward_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && channel_block(d.out_c).is_some() && Tiling::forward(d).grid(d, d.out_c)[0] <= MAX_GROUPS
}

fn input_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && channel_block(d.in_c).is_some() && Tiling::backward_input(d).grid(d, d.in_c)[0] <= MAX_GROUPS
}

pub(super) fn weight_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && channel_block(d.out_c).is_some() && d.splits <= MAX_GROUPS
}

/// How the weight gradient is cut: channels in and out of a workgroup, lanes that share its pixels, windows at a time.
struct WeightTiling {
    channels: [u32; 2],
    lanes: u32,
    windows: u32,
}

impl WeightTiling {
    fn new(d: &Conv2dDims) -> Self {
        let channels = [if d.in_c.is_multiple_of(16) { 16 } else { 4 }, channel_block(d.out_c).unwrap_or(8)];
        let owners = 3 * channels[0] / 4 * channels[1] / 8;
        // At most 96 owners, so two lanes or more.
        let lanes = (1 << (192 / owners).ilog2()).min(32);
        let most = if lanes == 32 { 16 } else { 8 };
        let pool_w = (d.out_w / 2).max(1);
        // Two rows of 2 * windows columns are divided among the lanes.
        let windows = pool_w.div_ceil(pool_w.div_ceil(most)).next_multiple_of((lanes / 4).max(1));
        Self { channels, lanes, windows }
    }

    fn owners(&self) -> u32 {
        3 * self.channels[0] / 4 * self.channels[1] / 8
    }

    fn constants(&self) -> Vec<(&'static str, u32)> {
        vec![("CI_B", self.channels[0]), ("CO_B", self.channels[1]), ("LANES", self.lanes), ("WINDOWS", self.windows)]
    }

    /// Of so many sums that the lanes add up at the end.
    fn loops(&self, d: &Conv2dDims, sums: usize) -> usize {
        let threads = self.owners() * self.lanes;
        let fill = |elements: u32| passes(&[elements.div_ceil(threads) as usize]);
        let chunk = fill((2 * self.windows + 2) * self.channels[0])
            + fill(self.windows * self.channels[1] / 4)
            + passes(&[(4 * self.windows / self.lanes) as usize]);
        let chunks = (d.out_w / 2).div_ceil(self.windows) as usize;
        let row = 1 + chunks * (1 + chunk);
        let sums = passes(&[sums, self.lanes as usize - 1]);
        1 + d.rows_per_split as usize * (1 + row) + sums
    }
}

/// Shapes beside the layers' own: odd sizes, padding, more than one block of channels, pictures smaller than a block.
fn shapes() -> Vec<Conv2dDims> {
    [
        Conv2dDims::new(1, [4, 4, 4], 8, [3, 3], false, true),
        Conv2dDims::new(3, [11, 14, 8], 16, [3, 3], true, true),
        Conv2dDims::new(2, [9, 37, 16], 24, [3, 3], false, true),
        Conv2dDims::new(2, [7, 9, 32], 128, [3, 3], true, true),
        Conv2dDims::new(46, [8, 5, 8], 8, [3, 3], false, true),
        Conv2dDims::new(2, [5, 71, 8], 64, [3, 3], false, true),
        Conv2dDims::new(2, [128, 128, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [63, 63, 16], 32, [3, 3], false, true),
        Conv2dDims::new(2, [30, 30, 32], 64, [3, 3], false, true),
    ]
    .map(Conv2dDims::pooled)
    .to_vec()
}

fn cases(fits: fn(&[u32]) -> bool) -> Vec<Vec<u32>> {
    shapes().iter().map(Dims::words).filter(|d| fits(d)).collect()
}

/// Side of a workgroup's block of the product.
const SIDE: u32 = 64;
/// Terms that a workgroup brings into its memory at a time: 4 x 4 of its rows or columns an invocation.
const DEPTH: u32 = 16;

/// Smaller products are no block.
pub(super) fn dense_fits(d: &[u32]) -> bool {
    let d = DenseDims::of(d);
    let inside = |n: u32| n.div_ceil(SIDE) <= MAX_GROUPS;
    d.in_n >= SIDE / 2 && d.out_n >= SIDE / 2 && d.splits <= MAX_GROUPS && inside(d.batch) && inside(d.in_n) && inside(d.out_n)
}

fn dense_constants(_: &[u32]) -> Vec<(&'static str, u32)> {
    vec![("DEPTH", DEPTH)]
}

/// Passes over `terms` terms, of which the last round's products stand behind the loop where it is `peeled`.
fn dense_loops(terms: u32, peeled: bool) -> usize {
    let products = passes(&[DEPTH as usize / 4]);
    let rounds = terms.div_ceil(DEPTH) as usize - usize::from(peeled);
    passes(&[rounds, DEPTH as usize / 4]) + if peeled { products } else { 0 }
}

fn dense_cases() -> Vec<Vec<u32>> {
    [(1, 32, 32), (3, 44, 52), (3, 300, 36), (70, 516, 68), (64, 128, 64), (130, 300, 132), (16, 12_544, 128)]
        .map(|(batch, in_n, out_n)| DenseDims::new(batch, in_n, out_n, true).words())
        .to_vec()
}

const TILE_WGSL: &str = include_str!("../../shaders/shared/conv2d_tile.wgsl.jinja");
const DENSE_FILE: &str = "tile/dense.wgsl.jinja";
const DENSE_SOURCE: &str = include_str!("../../shaders/tile/dense.wgsl.jinja");

const fn variant(of: &'static str, fits: fn(&[u32]) -> bool, constants: Constants) -> Variant {
    Variant::new(of, Needs::Nothing, MadeFor::Gpus, fits, constants)
}

/// What a dense variant is beside its key and grid.
const fn dense_variant(of: &'static str) -> Variant {
    variant(of, dense_fits, dense_constants)
}

/// Of both kernels of the weights' gradient.
fn dense_weight_grid(d: &[u32]) -> [u32; 3] {
    let d = DenseDims::of(d);
    [d.in_n.div_ceil(SIDE), d.out_n.div_ceil(SIDE), 1]
}

fn dense_weight_loops(d: &[u32]) -> usize {
    dense_loops(DenseDims::of(d).batch, true)
}

/// The variants.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        shared: &[SLICE_WGSL, X_AT_WGSL, TILE_WGSL, POOLED_WINDOW_WGSL, STORE_WINDOW_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            Tiling::forward(d).grid(d, d.out_c)
        },
        loops: |d| {
            let d = Conv2dDims::of(d);
            Tiling::forward(d).loops(d.in_c, 4)
        },
        cases: || fused::forward_cases(cases(forward_fits)),
        ..another(
            &fused::KERNELS[0],
            "conv2d_relu_maxpool2x2.forward/tile",
            "tile/conv2d_relu_maxpool2x2.wgsl.jinja",
            include_str!("../../shaders/tile/conv2d_relu_maxpool2x2.wgsl.jinja"),
            variant("conv2d_relu_maxpool2x2.forward", forward_fits, |d| {
                let d = Conv2dDims::of(d);
                Tiling::forward(d).constants(d.in_c, d.out_c)
            }),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, PLACES_WGSL, POOLED_GRADIENT_WGSL, TILE_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            Tiling::backward_input(d).grid(d, d.in_c)
        },
        loops: |d| {
            let d = Conv2dDims::of(d);
            Tiling::backward_input(d).loops(d.out_c, 1)
        },
        cases: || cases(input_fits),
        ..another(
            &fused::KERNELS[1],
            "conv2d_relu_maxpool2x2.backward_input/tile",
            "tile/conv2d_relu_maxpool2x2_backward_input.wgsl.jinja",
            include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_backward_input.wgsl.jinja"),
            variant("conv2d_relu_maxpool2x2.backward_input", input_fits, |d| {
                let d = Conv2dDims::of(d);
                Tiling::backward_input(d).constants(d.out_c, d.in_c)
            }),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, X_AT_WGSL, PLACES_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            let [ci_b, co_b] = WeightTiling::new(d).channels;
            [d.out_c / co_b, d.in_c / ci_b, d.splits]
        },
        loops: |d| {
            let d = Conv2dDims::of(d);
            WeightTiling::new(d).loops(d, 26)
        },
        cases: || cases(weight_fits),
        ..another(
            &fused::KERNELS[2],
            "conv2d_relu_maxpool2x2.backward_weight/tile",
            "tile/conv2d_relu_maxpool2x2_backward_weight.wgsl.jinja",
            include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_backward_weight.wgsl.jinja"),
            variant("conv2d_relu_maxpool2x2.backward_weight", weight_fits, |d| WeightTiling::new(Conv2dDims::of(d)).constants()),
        )
    },
    Kernel {
        shared: dense::SHARED,
        grid: |d| {
            let d = DenseDims::of(d);
            [d.out_n.div_ceil(SIDE), d.batch.div_ceil(SIDE), d.splits]
        },
        loops: |d| dense_loops(DenseDims::of(d).per_split, false),
        cases: dense_cases,
        ..another(dense::FORWARD, "dense.forward/tile", DENSE_FILE, DENSE_SOURCE, dense_variant("dense.forward"))
    },
    Kernel {
        shared: dense::SHARED,
        grid: |d| {
            let d = DenseDims::of(d);
            [d.in_n.div_ceil(SIDE), d.batch.div_ceil(SIDE), 1]
        },
        loops: |d| dense_loops(DenseDims::of(d).out_n, false),
        cases: dense_cases,
        ..another(
            dense::BACKWARD_INPUT,
            "dense.backward_input/tile",
            DENSE_FILE,
            DENSE_SOURCE,
            dense_variant("dense.backward_input"),
        )
    },
    Kernel {
        shared: dense::SHARED,
        grid: dense_weight_grid,
        loops: dense_weight_loops,
        cases: dense_cases,
        ..another(
            dense::BACKWARD_WEIGHT,
            "dense.backward_weight/tile",
            DENSE_FILE,
            DENSE_SOURCE,
            dense_variant("dense.backward_weight"),
        )
    },
    Kernel {
        shared: dense::SHARED,
        grid: dense_weight_grid,
        loops: dense_weight_loops,
        cases: dense_cases,
        ..another(
            dense::UPDATE_WEIGHT,
            "dense.update_weight/tile",
            DENSE_FILE,
            DENSE_SOURCE,
            dense_variant("dense.update_weight"),
        )
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::takes;

    #[test]
    fn convolutions_are_taken_where_their_channels_are_whole_blocks() {
        let conv = |in_c, out_c| Conv2dDims::new(2, [9, 6, in_c], out_c, [3, 3], true, true).pooled();
        let d = conv(8, 8);
        // One size past each limit of all three.
        let left = [
            Conv2dDims { k_h: 5, ..d },
            Conv2dDims { k_w: 5, ..d },
            Conv2dDims { batch: MAX_GROUPS + 1, ..d },
            Conv2dDims { out_h: 1, ..d },
            conv(12, 12),
        ];
        let [forward, input, weight] =
            ["forward", "backward_input", "backward_weight"].map(|entry| format!("conv2d_relu_maxpool2x2.{entry}/tile"));
        for key in [&forward, &input, &weight] {
            takes(key, &[d, conv(40, 24), Conv2dDims { batch: MAX_GROUPS, ..d }], &left);
        }
        takes(&forward, &[conv(4, 8)], &[conv(8, 4)]);
        takes(&input, &[conv(8, 4)], &[conv(4, 8)]);
        takes(&weight, &[conv(4, 8)], &[conv(8, 4)]);
        let splits = |splits| Conv2dDims { splits, ..d };
        takes(&weight, &[splits(MAX_GROUPS)], &[splits(MAX_GROUPS + 1)]);
    }

    #[test]
    fn dense_layers_are_taken_from_half_a_block_on() {
        let dense = |batch, in_n, out_n| DenseDims::new(batch, in_n, out_n, true);
        let d = dense(1, 32, 32);
        let splits = |splits| DenseDims { splits, ..d };
        let batch = |batch| DenseDims { batch, ..d };
        for key in ["dense.forward/tile", "dense.backward_input/tile", "dense.backward_weight/tile", "dense.update_weight/tile"] {
            takes(key, &[d, splits(MAX_GROUPS), batch(64 * MAX_GROUPS)], &[dense(1, 28, 32), dense(1, 32, 28)]);
            takes(key, &[], &[splits(MAX_GROUPS + 1), batch(64 * MAX_GROUPS + 1)]);
            let most = 64 * MAX_GROUPS;
            takes(
                key,
                &[DenseDims { in_n: most, ..d }],
                &[DenseDims { in_n: most + 1, ..d }, DenseDims { out_n: most + 1, ..d }],
            );
        }
    }
}
