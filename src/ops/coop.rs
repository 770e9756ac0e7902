//! Variants for GPUs with cooperative matrices (NVIDIA's tensor cores), `shaders/coop/`: products of f16 inputs, summed in f32.
//!
//! A subgroup multiplies whole tiles of matrices, whose elements lie in its registers in an order that only the driver knows. So a
//! workgroup brings pixels, gradients and weights into its memory as f16, the subgroups load tiles from there, and the sums go
//! through workgroup memory once more on their way out. Everything in storage stays f32: the weights, their moments, activations and
//! gradients. All stay inside WebGPU's default limits, their features apart. The first layer is left to f32: of three channels it has too few
//! products to pay for its pictures' way into workgroup memory, and f32 takes their bytes as they are.

use super::conv2d::Conv2dDims;
use super::conv2d_relu_maxpool2x2 as fused;
use super::dense::{self, DenseDims};
use super::peak::{self, PeakDims};
use super::product;
use super::tile::{dense_fits, three_by_three};
use crate::kernel::{
    ADAM_WGSL, Bound, Dims, Kernel, MAX_GROUPS, MadeFor, Needs, PLACES_WGSL, POOLED_WINDOW_WGSL, SLICE_WGSL, STEP_WGSL, Tiles,
    UPDATE_BIAS_WGSL, Variant, another, passes,
};

const COOP_WGSL: &str = include_str!("../../shaders/shared/coop.wgsl.jinja");
const HALF_WGSL: &str = include_str!("../../shaders/shared/half.wgsl");
const PATCH_WGSL: &str = include_str!("../../shaders/shared/coop_patch.wgsl.jinja");
const PATCH_SHARED: &[&str] = &[SLICE_WGSL, PLACES_WGSL, HALF_WGSL, PATCH_WGSL];
const SHARED: &[&str] = &[SLICE_WGSL, HALF_WGSL, COOP_WGSL];

/// Invocations of a workgroup.
const THREADS: u32 = 128;
/// Channels of a convolution that a workgroup brings into its memory at a time.
const DEPTH: usize = 16;
/// Windows of a row that a weight gradient's workgroup brings into its memory at a time.
const WINDOWS: u32 = 16;
/// Columns of a dense layer's block.
const SIDE: u32 = 64;
/// Errors of an addition in 2^-24 of the sum: a matrix unit cuts off what hangs over, of the product and of the sum that it goes to,
/// where f32 arithmetic rounds to the nearest (Fasi et al. 2021).
const CUT: f64 = 4.0;

/// Factor of a gradient on its way into f16 (`gradient_exponent` in `shaders/shared/half.wgsl`).
fn gradient_scale(batch: u32) -> f32 {
    256.0 * batch.max(1).next_power_of_two() as f32
}

/// How a block of `rows` x `columns` sums is shared among the subgroups: each has the same columns as long as its rows are two tiles.
fn block(tiles: Tiles, rows: u32, columns: u32, by_term: [bool; 2]) -> Vec<(&'static str, u32)> {
    let subgroups = THREADS / tiles.subgroup;
    // Of 16 subgroups two stand side by side, so that rows and columns are divided alike.
    let across = if subgroups > 4 { 2 } else { 1 };
    vec![
        ("SIDE", tiles.side),
        ("SUBGROUPS", subgroups),
        ("COLUMNS", across),
        ("LEFT", rows),
        ("RIGHT", columns),
        ("DOWN", rows / (subgroups / across * tiles.side)),
        ("ACROSS", columns / (across * tiles.side)),
        ("LEFT_BY_TERM", by_term[0].into()),
        ("RIGHT_BY_TERM", by_term[1].into()),
        ("DEPTH", depth(rows) as u32),
    ]
}

/// The same of a convolution's patch of 8 x 16 pixels by `columns` channels: a subgroup has two rows of a tile's pixels.
fn patch(tiles: Tiles, columns: u32, by_column: bool) -> Vec<(&'static str, u32)> {
    let subgroups = THREADS / tiles.subgroup;
    let beside = subgroups / (4 * (16 / tiles.side));
    vec![
        ("SIDE", tiles.side),
        ("SUBGROUPS", subgroups),
        ("RIGHT", columns),
        ("ACROSS", columns / (beside * tiles.side)),
        ("BY_COLUMN", by_column.into()),
    ]
}

/// Patches of 8 x 16 pixels in a picture of these sizes.
fn patches(height: u32, width: u32) -> usize {
    product(&[height.div_ceil(8), width.div_ceil(16)])
}

/// The more channels of 32 and 16 that divide `channels` into blocks.
fn channel_block(channels: u32) -> Option<u32> {
    [32, 16].into_iter().find(|b| channels.is_multiple_of(*b))
}

fn columns(channels: u32) -> u32 {
    channel_block(channels).unwrap_or(16)
}

/// Pictures of a dense layer's block.
fn pictures(d: &DenseDims) -> u32 {
    if d.batch <= 64 { 64 } else { 128 }
}

/// Terms that its workgroup brings into its memory at a time: as many as there is room for.
fn depth(rows: u32) -> usize {
    if rows <= 64 { 32 } else { 16 }
}

fn forward_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && channel_block(d.out_c).is_some() && patches(d.out_h / 2 * 2, d.out_w / 2 * 2) <= MAX_GROUPS as usize
}

fn input_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && channel_block(d.in_c).is_some() && patches(d.in_h, d.in_w) <= MAX_GROUPS as usize
}

fn weight_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && channel_block(d.out_c).is_some() && d.splits <= MAX_GROUPS
}

/// Shapes beside the layers' own: odd sizes, padding, terms that are no whole tile, blocks that hang over, more than one block.
fn conv_cases(fits: fn(&[u32]) -> bool) -> Vec<Vec<u32>> {
    [
        Conv2dDims::new(1, [4, 4, 4], 16, [3, 3], false, true),
        Conv2dDims::new(3, [11, 14, 16], 16, [3, 3], true, true),
        Conv2dDims::new(2, [9, 37, 20], 48, [3, 3], false, true),
        Conv2dDims::new(2, [7, 9, 32], 128, [3, 3], true, true),
        Conv2dDims::new(1, [9, 35, 16], 16, [3, 3], true, true),
        Conv2dDims::new(1, [6, 7, 16], 20, [3, 3], false, true),
        Conv2dDims::new(1, [6, 7, 32], 16, [3, 3], false, true),
        Conv2dDims::new(2, [8, 5, 64], 32, [3, 3], false, true),
        Conv2dDims::new(46, [8, 5, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [5, 71, 8], 64, [3, 3], false, true),
        Conv2dDims::new(2, [128, 128, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [63, 63, 16], 32, [3, 3], false, true),
        Conv2dDims::new(2, [30, 30, 32], 64, [3, 3], false, true),
    ]
    .map(|d| d.pooled().words())
    .into_iter()
    .filter(|d| fits(d))
    .collect()
}

/// Elements of a workgroup's block of `peak.products`, 64 rows.
const PRODUCTS: u32 = 64 * 128;

fn products_fit(d: &[u32]) -> bool {
    let len = PeakDims::of(d).len;
    len.is_multiple_of(PRODUCTS) && (1..=MAX_GROUPS).contains(&(len / PRODUCTS))
}

fn dense_cases() -> Vec<Vec<u32>> {
    [(1, 32, 32), (3, 44, 52), (3, 300, 36), (5, 64, 100), (70, 516, 68), (64, 128, 64), (130, 300, 132), (16, 12_544, 128)]
        .map(|(batch, in_n, out_n)| DenseDims::new(batch, in_n, out_n, true).words())
        .to_vec()
}

/// What becomes f16 in the kernels that read x and weight.
fn activations(_: &[u32], name: &str) -> Option<f32> {
    ["x", "weight"].contains(&name).then_some(1.0)
}

/// The same in the gradients' kernels of a convolution, whose first word is the batch as a dense layer's is.
fn gradients(d: &[u32], name: &str) -> Option<f32> {
    if ["dy", "pooled_dy", "grad"].contains(&name) { Some(gradient_scale(d[0])) } else { activations(d, name) }
}

const fn variant(
    of: &'static str,
    tiles: Tiles,
    fits: fn(&[u32]) -> bool,
    constants: fn(&[u32]) -> Vec<(&'static str, u32)>,
) -> Variant {
    // Only a driver on the CPU has vectors of 8 for subgroups.
    let made_for = if tiles.subgroup == 8 { MadeFor::Software } else { MadeFor::Gpus };
    Variant { f16: Some(activations), ..Variant::new(of, Needs::CooperativeMatrix(tiles), made_for, fits, constants) }
}

fn forward_grid(d: &[u32]) -> [u32; 3] {
    let d = Conv2dDims::of(d);
    [patches(d.out_h / 2 * 2, d.out_w / 2 * 2) as u32, d.out_c / columns(d.out_c), d.batch]
}

fn forward_constants<const T: usize>(d: &[u32]) -> Vec<(&'static str, u32)> {
    let d = Conv2dDims::of(d);
    let mut all = patch(KINDS[T], columns(d.out_c), false);
    all.extend([("FROM_C", d.in_c), ("TO_C", d.out_c)]);
    all
}

/// Times that a weight gradient's workgroup brings windows of a row of them.
fn segments(d: &Conv2dDims) -> u32 {
    (d.out_w / 2).div_ceil(WINDOWS)
}

fn weight_grid(d: &[u32]) -> [u32; 3] {
    let d = Conv2dDims::of(d);
    [d.out_c.div_ceil(32), d.in_c.div_ceil(16), d.splits]
}

fn weight_loops(d: &[u32]) -> usize {
    let d = Conv2dDims::of(d);
    // Behind the rounds eight invocations add up what the others have of the bias.
    passes(&[product(&[d.rows_per_split, segments(d)])]) + passes(&[15])
}

fn weight_constants<const T: usize>(d: &[u32]) -> Vec<(&'static str, u32)> {
    let d = Conv2dDims::of(d);
    vec![("SIDE", KINDS[T].side), ("SEGMENTS", segments(d)), ("FROM_C", d.in_c), ("TO_C", d.out_c)]
}

const fn forward<const T: usize>(key: &'static str) -> Kernel {
    let base = &fused::KERNELS[0];
    Kernel {
        shared: &[SLICE_WGSL, HALF_WGSL, PATCH_WGSL, POOLED_WINDOW_WGSL],
        grid: forward_grid,
        loops: |d| passes(&[3 * (Conv2dDims::of(d).in_c as usize).div_ceil(DEPTH)]),
        bound: Bound::Twin(|d| CUT * (Conv2dDims::of(d).taps() as f64 + 2.0)),
        cases: || fused::forward_cases(conv_cases(forward_fits)),
        ..another(
            base,
            key,
            "coop/conv2d_relu_maxpool2x2.wgsl.jinja",
            include_str!("../../shaders/coop/conv2d_relu_maxpool2x2.wgsl.jinja"),
            variant(base.key, KINDS[T], forward_fits, forward_constants::<T>),
        )
    }
}

const fn backward_weight<const T: usize>(key: &'static str) -> Kernel {
    let base = &fused::KERNELS[2];
    Kernel {
        shared: &[SLICE_WGSL, PLACES_WGSL, HALF_WGSL],
        grid: weight_grid,
        loops: weight_loops,
        bound: Bound::Twin(|d| {
            let d = Conv2dDims::of(d);
            CUT * (f64::from(d.rows_per_split * (d.out_w / 2)) + 1.0)
        }),
        cases: || conv_cases(weight_fits),
        ..another(
            base,
            key,
            "coop/conv2d_relu_maxpool2x2_backward_weight.wgsl.jinja",
            include_str!("../../shaders/coop/conv2d_relu_maxpool2x2_backward_weight.wgsl.jinja"),
            Variant { f16: Some(gradients), ..variant(base.key, KINDS[T], weight_fits, weight_constants::<T>) },
        )
    }
}

/// The variants on one kind of tiles. Their keys are in the order of the arrays below.
const fn on<const T: usize>(keys: [&'static str; 7]) -> [Kernel; 7] {
    let tiles = KINDS[T];
    [
        forward::<T>(keys[0]),
        Kernel {
            shared: PATCH_SHARED,
            grid: |d| {
                let d = Conv2dDims::of(d);
                [patches(d.in_h, d.in_w) as u32, d.in_c / columns(d.in_c), d.batch]
            },
            loops: |d| passes(&[3 * (Conv2dDims::of(d).out_c as usize).div_ceil(DEPTH)]),
            bound: Bound::Twin(|d| CUT * (9.0 * f64::from(Conv2dDims::of(d).out_c) + 1.0)),
            cases: || conv_cases(input_fits),
            ..another(
                &fused::KERNELS[1],
                keys[1],
                "coop/conv2d_relu_maxpool2x2_backward_input.wgsl.jinja",
                include_str!("../../shaders/coop/conv2d_relu_maxpool2x2_backward_input.wgsl.jinja"),
                Variant {
                    f16: Some(gradients),
                    ..variant("conv2d_relu_maxpool2x2.backward_input", tiles, input_fits, |d| {
                        let d = Conv2dDims::of(d);
                        let mut all = patch(KINDS[T], columns(d.in_c), true);
                        all.extend([("FROM_C", d.out_c), ("TO_C", d.in_c)]);
                        all
                    })
                },
            )
        },
        backward_weight::<T>(keys[2]),
        Kernel {
            shared: SHARED,
            grid: |d| {
                let d = DenseDims::of(d);
                [d.out_n.div_ceil(SIDE), d.batch.div_ceil(pictures(d)), d.splits]
            },
            loops: |d| passes(&[(DenseDims::of(d).per_split as usize).div_ceil(depth(pictures(DenseDims::of(d))))]),
            bound: Bound::Twin(|d| CUT * (f64::from(DenseDims::of(d).per_split) + 1.0)),
            cases: dense_cases,
            ..another(
                dense::FORWARD,
                keys[3],
                "coop/dense_forward.wgsl.jinja",
                include_str!("../../shaders/coop/dense_forward.wgsl.jinja"),
                variant("dense.forward", tiles, dense_fits, |d| block(KINDS[T], pictures(DenseDims::of(d)), SIDE, [false, true])),
            )
        },
        Kernel {
            shared: SHARED,
            grid: |d| {
                let d = DenseDims::of(d);
                [d.in_n.div_ceil(SIDE), d.batch.div_ceil(pictures(d)), 1]
            },
            loops: |d| passes(&[(DenseDims::of(d).out_n as usize).div_ceil(depth(pictures(DenseDims::of(d))))]),
            bound: Bound::Twin(|d| CUT * (f64::from(DenseDims::of(d).out_n) + 1.0)),
            cases: dense_cases,
            ..another(
                dense::BACKWARD_INPUT,
                keys[4],
                "coop/dense_backward_input.wgsl.jinja",
                include_str!("../../shaders/coop/dense_backward_input.wgsl.jinja"),
                Variant {
                    f16: Some(gradients),
                    ..variant("dense.backward_input", tiles, dense_fits, |d| {
                        block(KINDS[T], pictures(DenseDims::of(d)), SIDE, [false, false])
                    })
                },
            )
        },
        Kernel {
            shared: &[SLICE_WGSL, STEP_WGSL, ADAM_WGSL, UPDATE_BIAS_WGSL, HALF_WGSL, COOP_WGSL],
            grid: |d| {
                let d = DenseDims::of(d);
                [d.in_n.div_ceil(SIDE), d.out_n.div_ceil(SIDE), 1]
            },
            loops: |d| passes(&[(DenseDims::of(d).batch as usize).div_ceil(depth(SIDE))]),
            bound: Bound::Own(|call| dense::update_bound(call, CUT)),
            cases: dense_cases,
            ..another(
                dense::UPDATE_WEIGHT,
                keys[5],
                "coop/dense_update_weight.wgsl.jinja",
                include_str!("../../shaders/coop/dense_update_weight.wgsl.jinja"),
                Variant {
                    f16: Some(gradients),
                    ..variant("dense.update_weight", tiles, dense_fits, |_| block(KINDS[T], SIDE, SIDE, [true, true]))
                },
            )
        },
        Kernel {
            grid: |d| [PeakDims::of(d).len / PRODUCTS, 1, 1],
            loops: |d| passes(&[PeakDims::of(d).rounds as usize]),
            bound: Bound::Twin(|d| CUT * (f64::from(16 * PeakDims::of(d).rounds) + 1.0)),
            cases: || peak::cases(&[[8192, 1], [16_384, 0], [24_576, 5], [40_960, 67], [532_480, 3]]),
            ..another(
                &peak::KERNELS[2],
                keys[6],
                "coop/peak_products.wgsl.jinja",
                include_str!("../../shaders/coop/peak_products.wgsl.jinja"),
                variant("peak.products", tiles, products_fit, |_| vec![("SIDE", KINDS[T].side)]),
            )
        },
    ]
}

/// What the kernels are made for, by the number of their kind.
const KINDS: [Tiles; 2] = [
    // NVIDIA's cards.
    Tiles { side: 16, subgroup: 32 },
    // llvmpipe, since Mesa 26.
    Tiles { side: 8, subgroup: 8 },
];

/// The variants on tiles of 16 x 16.
pub const KERNELS: &[Kernel] = &on::<0>([
    "conv2d_relu_maxpool2x2.forward/coop",
    "conv2d_relu_maxpool2x2.backward_input/coop",
    "conv2d_relu_maxpool2x2.backward_weight/coop",
    "dense.forward/coop",
    "dense.backward_input/coop",
    "dense.update_weight/coop",
    "peak.products/coop",
]);

/// The variants on tiles of 8 x 8.
pub const KERNELS8: &[Kernel] = &on::<1>([
    "conv2d_relu_maxpool2x2.forward/coop8",
    "conv2d_relu_maxpool2x2.backward_input/coop8",
    "conv2d_relu_maxpool2x2.backward_weight/coop8",
    "dense.forward/coop8",
    "dense.backward_input/coop8",
    "dense.update_weight/coop8",
    "peak.products/coop8",
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::takes;

    #[test]
    fn convolutions_are_taken_where_their_channels_are_whole_tiles() {
        let conv = |in_c, out_c| Conv2dDims::new(2, [9, 6, in_c], out_c, [3, 3], true, true).pooled();
        let d = conv(16, 16);
        // One size past each limit of all three.
        let left = [
            Conv2dDims { k_h: 5, ..d },
            Conv2dDims { k_w: 5, ..d },
            Conv2dDims { batch: MAX_GROUPS + 1, ..d },
            Conv2dDims { out_h: 1, ..d },
            conv(24, 24),
        ];
        for technique in ["coop", "coop8"] {
            let [forward, input, weight] = ["forward", "backward_input", "backward_weight"]
                .map(|entry| format!("conv2d_relu_maxpool2x2.{entry}/{technique}"));
            for key in [&forward, &input, &weight] {
                takes(key, &[d, conv(80, 48), Conv2dDims { batch: MAX_GROUPS, ..d }], &left);
            }
            takes(&forward, &[conv(4, 16)], &[conv(16, 4)]);
            takes(&input, &[conv(16, 4)], &[conv(4, 16)]);
            takes(&weight, &[conv(4, 16)], &[conv(16, 4)]);
            let splits = |splits| Conv2dDims { splits, ..d };
            takes(&weight, &[splits(MAX_GROUPS)], &[splits(MAX_GROUPS + 1)]);
            let input_of = |in_h, in_w| Conv2dDims { in_h, in_w, ..d };
            takes(&input, &[input_of(8, 16 * MAX_GROUPS)], &[input_of(8, 16 * MAX_GROUPS + 1)]);
            let output_of = |out_h, out_w| Conv2dDims { out_h, out_w, ..d };
            takes(&forward, &[output_of(8, 16 * MAX_GROUPS)], &[output_of(8, 16 * MAX_GROUPS + 2)]);
        }
    }

    #[test]
    fn dense_layers_are_taken_from_half_a_block_on() {
        let dense = |batch, in_n, out_n| DenseDims::new(batch, in_n, out_n, true);
        let d = dense(1, 32, 32);
        for technique in ["coop", "coop8"] {
            for entry in ["forward", "backward_input", "update_weight"] {
                let key = format!("dense.{entry}/{technique}");
                let splits = |splits| DenseDims { splits, ..d };
                takes(&key, &[d, splits(MAX_GROUPS)], &[dense(1, 28, 32), dense(1, 32, 28), splits(MAX_GROUPS + 1)]);
                takes(&key, &[], &[DenseDims { in_n: 64 * MAX_GROUPS + 1, ..d }]);
            }
        }
    }

    #[test]
    fn products_for_the_peak_are_whole_blocks() {
        let of = |len| PeakDims { len, rounds: 1 };
        for key in ["peak.products/coop", "peak.products/coop8"] {
            takes(key, &[of(PRODUCTS), of(PRODUCTS * MAX_GROUPS)], &[of(0), of(PRODUCTS + 128), of(PRODUCTS * (MAX_GROUPS + 1))]);
        }
    }

    #[test]
    fn a_block_is_shared_among_all_subgroups() {
        for tiles in KINDS {
            for (rows, columns) in [(128, 64), (64, 64)] {
                let constants = block(tiles, rows, columns, [false, true]);
                let of = |name| constants.iter().find(|c| c.0 == name).map(|c| c.1).unwrap_or_default();
                let down = of("SUBGROUPS") / of("COLUMNS");
                assert_eq!(down * of("DOWN") * tiles.side, rows, "{tiles:?}");
                assert_eq!(of("COLUMNS") * of("ACROSS") * tiles.side, columns, "{tiles:?}");
            }
            for columns in [16, 32] {
                let constants = patch(tiles, columns, true);
                let of = |name| constants.iter().find(|c| c.0 == name).map(|c| c.1).unwrap_or_default();
                // Two rows of pixels each.
                assert_eq!(of("SUBGROUPS") * 2 * of("ACROSS") * tiles.side * tiles.side, 8 * 16 * columns, "{tiles:?}");
            }
        }
    }

    #[test]
    fn the_scale_is_the_next_power_of_two_of_the_batch() {
        // As `40 - countLeadingZeros(batch - 1)` in the text.
        for batch in [1, 2, 3, 45, 64, 65, 32_768u32] {
            assert_eq!(gradient_scale(batch), 2f32.powi(40 - (batch - 1).leading_zeros() as i32), "{batch}");
        }
    }
}
