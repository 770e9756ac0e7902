//! Variants for drivers that run shaders on the CPU in vectors of 8 lanes (llvmpipe, lavapipe): `shaders/lanes8/`.
//!
//! There a load from a buffer costs as much as ten multiplications, since it is a loop over the lanes, and nothing is kept in workgroup
//! memory for less. A texel of a storage texture is loaded by all lanes at once, for a tenth of that. So a workgroup is one vector, what
//! it reads often are textures (or buffers, where a driver gathers), weights or sums stay in its registers and stack, and a value that
//! all lanes need is loaded by one and shuffled. The texts are templates, unrolled for the channel counts or for a part of the channels.
//! A real GPU gains nothing from them.

use super::conv2d::{Conv2dDims, input_roundings};
use super::conv2d_relu_maxpool2x2 as fused;
use super::dense::{self, DenseDims};
use crate::kernel::{
    ADAM_WGSL, Bound, Constants, Dims, Kernel, MAX_GROUPS, MadeFor, Needs, OF_TAKEN_PLACES, OF_WINOGRAD_4, SLICE_WGSL, STEP_WGSL,
    UPDATE_BIAS_WGSL, Variant, another, passes,
};

pub(super) const LOW_HIGH_WGSL: &str = include_str!("../../shaders/shared/low_high.wgsl");
pub(super) const WINOGRAD4_WGSL: &str = include_str!("../../shaders/shared/winograd4.wgsl.jinja");
/// `shaders/shared/winograd4_tiles.wgsl.jinja`.
pub(super) const TILES_WGSL: &str = include_str!("../../shaders/shared/winograd4_tiles.wgsl.jinja");
pub(super) const STORE_TILE_WGSL: &str = include_str!("../../shaders/shared/store_tile.wgsl.jinja");

/// Lanes of a workgroup.
pub(super) const LANES: u32 = 8;

/// Whether a kernel of this house can be unrolled for it: 3 x 3 with few enough channels for the stack and the compiler's time. (The input's
/// gradient, whose text is the same for all, could take more.)
fn small(d: &Conv2dDims) -> bool {
    d.k_h == 3 && d.k_w == 3 && d.in_c * d.out_c <= 64 * 64 && d.batch <= MAX_GROUPS
}

/// Whether no pixel lies in padding.
pub(super) fn valid(d: &Conv2dDims) -> bool {
    d.pad_top + d.pad_left == 0 && d.out_h + 2 == d.in_h && d.out_w + 2 == d.in_w
}

/// Output channels of a lane of the forward kernels and of the weight gradients: the fewer workgroups, the less is loaded again. With
/// eight the text would be twice as long, and it and the transformed weights are past the first level of cache already.
pub(super) fn lane_channels(channels: u32) -> u32 {
    if channels.is_multiple_of(4 * LANES) { 4 } else { 2 }
}

/// What the forward kernels on floats and on pictures have in common.
pub(super) fn outputs_fit(d: &Conv2dDims) -> bool {
    small(d) && d.out_c.is_multiple_of(2 * LANES)
}

pub(super) fn forward_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    outputs_fit(d) && matches!(d.in_c, 8 | 16 | 24 | 32)
}

/// The forward kernels on floats, as a technique for this one.
pub(super) const fn forward_variant(of: &'static str) -> Variant {
    let constants = |d: &[u32]| {
        let d = Conv2dDims::of(d);
        vec![("IN_C", d.in_c), ("LANE_C", lane_channels(d.out_c)), ("PADDED", u32::from(!valid(d)))]
    };
    let loads = |d: &[u32]| {
        let d = Conv2dDims::of(d);
        // Of two lanes where that is what the weight gradient reads too: one copy serves both.
        vec![("x", if d.in_c.is_multiple_of(2 * LANES) { 4 } else { 1 }), ("weight", lane_channels(d.out_c))]
    };
    Variant { loads, ..variant(of, forward_fits, constants) }
}

/// Output channels that a convolution's input gradient takes at a time: four of a lane, which it loads at a time.
const PART_C: u32 = 32;
/// Pictures of a workgroup of a convolution's input gradient, for which a part's filters are transformed once.
const INPUT_PICTURES: u32 = 2;

fn input_fits<const LANE_C: u32>(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    small(d) && valid(d) && d.in_c % (LANE_C * LANES) == 0 && d.out_c.is_multiple_of(PART_C)
}

/// Output channels of a lane and input channels of a workgroup in the weight gradient: with two windows a pass, as much text as the first
/// level of the instruction cache holds.
fn weight_block(d: &Conv2dDims) -> [u32; 2] {
    [lane_channels(d.out_c), if d.in_c.is_multiple_of(8) { 8 } else { 4 }]
}

pub(super) fn weight_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    small(d) && valid(d) && d.out_c % (2 * LANES) == 0 && d.splits <= MAX_GROUPS
}

fn weight_constants(d: &[u32]) -> Vec<(&'static str, u32)> {
    let [lane_c, ci_b] = weight_block(Conv2dDims::of(d));
    vec![("LANE_C", lane_c), ("CI_B", ci_b)]
}

/// Shapes beside the layers' own: odd sizes, padding, more than one block of channels, more rows than partial sums.
fn shapes() -> Vec<Conv2dDims> {
    [
        Conv2dDims::new(1, [4, 4, 4], 16, [3, 3], false, true),
        Conv2dDims::new(3, [11, 14, 8], 16, [3, 3], true, true),
        Conv2dDims::new(2, [9, 6, 4], 48, [3, 3], false, true),
        Conv2dDims::new(2, [7, 9, 16], 32, [3, 3], false, true),
        Conv2dDims::new(1, [7, 6, 32], 64, [3, 3], false, true),
        Conv2dDims::new(46, [8, 5, 4], 16, [3, 3], false, true),
        Conv2dDims::new(3, [6, 11, 32], 64, [3, 3], false, true),
        Conv2dDims::new(2, [13, 5, 32], 32, [3, 3], false, true),
        Conv2dDims::new(2, [5, 16, 16], 64, [3, 3], false, true),
        Conv2dDims::new(1, [6, 5, 32], 96, [3, 3], false, true),
        Conv2dDims::new(7, [5, 4, 16], 32, [3, 3], false, true),
        Conv2dDims::new(2, [6, 9, 4], 16, [3, 3], false, true),
        Conv2dDims::new(1, [9, 6, 8], 48, [3, 3], false, true),
        Conv2dDims::new(1, [6, 9, 8], 32, [3, 3], false, true),
        Conv2dDims::new(1, [5, 7, 16], 16, [3, 3], true, true),
        Conv2dDims::new(1, [7, 9, 16], 32, [3, 3], true, true),
        Conv2dDims::new(1, [5, 6, 24], 32, [3, 3], false, true),
        Conv2dDims::new(1, [7, 5, 24], 48, [3, 3], true, true),
        Conv2dDims::new(1, [6, 5, 32], 48, [3, 3], false, true),
        Conv2dDims::new(1, [6, 7, 32], 64, [3, 3], true, true),
        Conv2dDims::new(2, [128, 128, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [63, 63, 16], 32, [3, 3], false, true),
        Conv2dDims::new(2, [30, 30, 32], 64, [3, 3], false, true),
    ]
    .map(Conv2dDims::pooled)
    .to_vec()
}

/// Workgroups that share a dense layer's inputs: a prologue each, and enough for any number of cores.
const DENSE_GROUPS: u32 = 64;

/// Pictures of a workgroup of the dense input's gradient: with all of 64 the driver compiles four times as long and plays no faster.
fn input_pictures(d: &DenseDims) -> u32 {
    d.batch.next_multiple_of(LANES).min(32)
}

/// Whole vectors of eight floats everywhere.
fn products_fit(d: &[u32]) -> bool {
    let d = DenseDims::of(d);
    let whole = d.in_n.is_multiple_of(8) && d.per_split.is_multiple_of(8) && d.out_n.is_multiple_of(8 * LANES);
    whole && d.splits <= MAX_GROUPS && d.batch <= MAX_GROUPS
}

/// Batches that more pictures of a workgroup than 16 do not make longer: `tune`'s choice for one batch is taken for others too.
fn forward_products_fit<const PICTURES: u32>(d: &[u32]) -> bool {
    let batch = DenseDims::of(d).batch;
    products_fit(d) && batch.next_multiple_of(PICTURES) == batch.next_multiple_of(16)
}

/// Wide enough to pay, with few enough pictures for the stack.
fn dense_fits(d: &[u32]) -> bool {
    let d = DenseDims::of(d);
    d.batch <= 64 && d.in_n.is_multiple_of(8) && (d.out_n == 64 || d.out_n == 128)
}

fn dense_constants(d: &[u32]) -> Vec<(&'static str, u32)> {
    let d = DenseDims::of(d);
    vec![("BATCH", d.batch), ("OUT_N", d.out_n)]
}

fn dense_cases() -> Vec<Vec<u32>> {
    [(1, 8, 64), (3, 24, 128), (9, 136, 64), (3, 520, 64), (61, 136, 64), (64, 520, 128), (16, 12_544, 128)]
        .map(|(batch, in_n, out_n)| DenseDims::new(batch, in_n, out_n, true).words())
        .to_vec()
}

pub(super) fn cases(fits: fn(&[u32]) -> bool) -> Vec<Vec<u32>> {
    shapes().iter().map(Dims::words).filter(|d| fits(d)).collect()
}

/// Of loads from textures.
pub(super) const fn variant(of: &'static str, fits: fn(&[u32]) -> bool, constants: Constants) -> Variant {
    Variant { textures: true, ..Variant::new(of, Needs::EightLanes, MadeFor::Software, fits, constants) }
}

/// The same text with its loads from buffers, where they are gathered: there they cost no more than from textures, which have to be copied.
pub(super) const fn gathered(key: &'static str, kernel: Kernel) -> Kernel {
    let variant = match kernel.variant {
        Some(variant) => Some(Variant { made_for: MadeFor::Gathering, textures: false, ..variant }),
        None => None,
    };
    Kernel { key, variant, ..kernel }
}

/// The same of a forward kernel on floats, whose lanes then load their own channels, but not three at a time.
pub(super) const fn gathered_forward(key: &'static str, kernel: Kernel) -> Kernel {
    let loads = |d: &[u32]| {
        let d = Conv2dDims::of(d);
        let of_lane = d.in_c / LANES;
        vec![("x", if of_lane == 3 { 1 } else { of_lane }), ("weight", lane_channels(d.out_c))]
    };
    let kernel = gathered(key, kernel);
    let variant = match kernel.variant {
        Some(variant) => Some(Variant { loads, ..variant }),
        None => None,
    };
    Kernel { variant, ..kernel }
}

/// The variants: of a technique with several constants the one that llvmpipe of Mesa 22 and 26 both take well, or compile in time, stands
/// behind the others, as the default; behind it the one that gathers, for the machines that do.
pub const KERNELS: &[Kernel] = &[
    FORWARD,
    gathered_forward("conv2d_relu_maxpool2x2.forward/winograd4_lanes8_gathered", FORWARD),
    backward_input::<4>("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8_channels4"),
    INPUT_GRADIENT,
    gathered("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8_gathered", INPUT_GRADIENT),
    WEIGHT_GRADIENT,
    gathered("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8_gathered", WEIGHT_GRADIENT),
    dense_forward::<32, 4>("dense.forward/lanes8_pictures32"),
    DENSE_FORWARD,
    gathered("dense.forward/lanes8_gathered", DENSE_FORWARD),
    DENSE_INPUT_GRADIENT,
    gathered("dense.backward_input/lanes8_gathered", DENSE_INPUT_GRADIENT),
    DENSE_UPDATE,
    gathered("dense.update_weight/lanes8_gathered", DENSE_UPDATE),
];

const INPUT_GRADIENT: Kernel = backward_input::<2>("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8");

const DENSE_FORWARD: Kernel = dense_forward::<16, 8>("dense.forward/lanes8");

const WEIGHT_GRADIENT: Kernel = Kernel {
    shared: &[SLICE_WGSL],
    grid: |d| {
        let d = Conv2dDims::of(d);
        let [lane_c, ci_b] = weight_block(d);
        [d.out_c / (lane_c * LANES), d.in_c / ci_b, d.splits]
    },
    loops: |d| {
        let d = Conv2dDims::of(d);
        passes(&[d.rows_per_split as usize, (d.out_w / 2).div_ceil(2) as usize])
    },
    made: OF_TAKEN_PLACES,
    cases: || cases(weight_fits),
    ..another(
        &fused::KERNELS[2],
        "conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8",
        "lanes8/conv2d_relu_maxpool2x2_backward_weight.wgsl.jinja",
        include_str!("../../shaders/lanes8/conv2d_relu_maxpool2x2_backward_weight.wgsl.jinja"),
        Variant {
            loads: |d| vec![("x", 4), ("pooled_dy", lane_channels(Conv2dDims::of(d).out_c)), ("taken", 1)],
            ..variant("conv2d_relu_maxpool2x2.backward_weight", weight_fits, weight_constants)
        },
    )
};

const DENSE_INPUT_GRADIENT: Kernel = Kernel {
    shared: &[SLICE_WGSL],
    grid: |d| {
        let d = DenseDims::of(d);
        [DENSE_GROUPS.min(d.in_n / 2), d.batch.div_ceil(input_pictures(d)), 1]
    },
    loops: |d| passes(&[(DenseDims::of(d).in_n / 2).div_ceil(DENSE_GROUPS) as usize]),
    cases: dense_cases,
    ..another(
        dense::BACKWARD_INPUT,
        "dense.backward_input/lanes8",
        "lanes8/dense_backward_input.wgsl.jinja",
        include_str!("../../shaders/lanes8/dense_backward_input.wgsl.jinja"),
        Variant {
            loads: |_| vec![("dy", 4), ("weight", 4)],
            ..variant("dense.backward_input", dense_fits, |d| {
                let d = DenseDims::of(d);
                vec![("BATCH", d.batch), ("OUT_N", d.out_n), ("PICTURES", input_pictures(d))]
            })
        },
    )
};

const DENSE_UPDATE: Kernel = Kernel {
    shared: &[SLICE_WGSL, STEP_WGSL, ADAM_WGSL, UPDATE_BIAS_WGSL, LOW_HIGH_WGSL],
    grid: |d| {
        let d = DenseDims::of(d);
        [d.out_n / (8 * LANES), DENSE_GROUPS.min(d.in_n / 2), 1]
    },
    loops: |d| passes(&[(DenseDims::of(d).in_n / 2).div_ceil(DENSE_GROUPS) as usize]),
    cases: dense_cases,
    ..another(
        dense::UPDATE_WEIGHT,
        "dense.update_weight/lanes8",
        "lanes8/dense_update_weight.wgsl.jinja",
        include_str!("../../shaders/lanes8/dense_update_weight.wgsl.jinja"),
        Variant { loads: |_| vec![("x", 2), ("grad", 4)], ..variant("dense.update_weight", dense_fits, dense_constants) },
    )
};

const FORWARD: Kernel = Kernel {
    shared: &[SLICE_WGSL, WINOGRAD4_WGSL, TILES_WGSL, STORE_TILE_WGSL],
    grid: |d| {
        let d = Conv2dDims::of(d);
        [d.out_c / (lane_channels(d.out_c) * LANES), d.batch, 1]
    },
    loops: |d| {
        let d = Conv2dDims::of(d);
        passes(&[(d.out_h / 2).div_ceil(2) as usize, (d.out_w / 2).div_ceil(2) as usize])
    },
    bound: Bound::Tile(|d| Conv2dDims::of(d).taps() as f64 + 2.0, |d| Conv2dDims::of(d).pooled_tiles(2)),
    made: OF_WINOGRAD_4,
    cases: || fused::forward_cases(cases(forward_fits)),
    ..another(
        &fused::KERNELS[0],
        "conv2d_relu_maxpool2x2.forward/winograd4_lanes8",
        "lanes8/conv2d_relu_maxpool2x2_winograd4.wgsl.jinja",
        include_str!("../../shaders/lanes8/conv2d_relu_maxpool2x2_winograd4.wgsl.jinja"),
        forward_variant("conv2d_relu_maxpool2x2.forward"),
    )
};

/// `LANE_C`: input channels of a lane. With four a window is loaded half as often, by twice the text.
const fn backward_input<const LANE_C: u32>(key: &'static str) -> Kernel {
    Kernel {
        shared: &[SLICE_WGSL, WINOGRAD4_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            [d.in_c / (LANE_C * LANES), d.batch.div_ceil(INPUT_PICTURES), 1]
        },
        loops: |d| {
            let d = Conv2dDims::of(d);
            let pictures = d.batch.min(INPUT_PICTURES);
            passes(&[d.out_c / PART_C, pictures, d.in_h.div_ceil(4), d.in_w.div_ceil(4)].map(|n| n as usize))
        },
        bound: Bound::Tile(input_roundings, |d| Conv2dDims::of(d).input_tiles(4)),
        made: OF_WINOGRAD_4,
        cases: || cases(input_fits::<LANE_C>),
        ..another(
            &fused::KERNELS[1],
            key,
            "lanes8/conv2d_relu_maxpool2x2_backward_input_winograd4.wgsl.jinja",
            include_str!("../../shaders/lanes8/conv2d_relu_maxpool2x2_backward_input_winograd4.wgsl.jinja"),
            Variant {
                loads: |_| vec![("dy", 4), ("argmax", 1), ("weight", 4)],
                ..variant("conv2d_relu_maxpool2x2.backward_input", input_fits::<LANE_C>, |_| {
                    vec![("LANE_C", LANE_C), ("PART_C", PART_C)]
                })
            },
        )
    }
}

/// `PICTURES`, whose sums a lane keeps; `INPUTS` of a pass.
const fn dense_forward<const PICTURES: u32, const INPUTS: u32>(key: &'static str) -> Kernel {
    Kernel {
        shared: &[SLICE_WGSL],
        grid: |d| {
            let d = DenseDims::of(d);
            [d.out_n / (8 * LANES), d.batch.div_ceil(PICTURES), d.splits]
        },
        loops: |d| passes(&[(DenseDims::of(d).per_split / INPUTS) as usize]),
        cases: || dense_cases().into_iter().filter(|d| forward_products_fit::<PICTURES>(d)).collect(),
        ..another(
            dense::FORWARD,
            key,
            "lanes8/dense_forward.wgsl.jinja",
            include_str!("../../shaders/lanes8/dense_forward.wgsl.jinja"),
            Variant {
                loads: |_| vec![("x", 4), ("weight", 4)],
                ..variant("dense.forward", forward_products_fit::<PICTURES>, |_| vec![("PICTURES", PICTURES), ("INPUTS", INPUTS)])
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::takes;

    fn conv(in_c: usize, out_c: usize) -> Conv2dDims {
        Conv2dDims::new(2, [9, 6, in_c], out_c, [3, 3], false, true).pooled()
    }

    /// One size past each limit of all three convolutions.
    fn large(d: Conv2dDims) -> [Conv2dDims; 4] {
        let batch = MAX_GROUPS + 1;
        [Conv2dDims { k_h: 5, ..d }, Conv2dDims { k_w: 5, ..d }, Conv2dDims { batch, ..d }, Conv2dDims { out_c: 64 * 32, ..d }]
    }

    /// The ways in which pixels can lie in padding.
    fn padded(d: Conv2dDims) -> [Conv2dDims; 5] {
        let top = Conv2dDims { pad_top: 1, ..d };
        let left = Conv2dDims { pad_left: 1, ..d };
        let both = Conv2dDims { pad_top: 1, ..left };
        [top, left, both, Conv2dDims { out_h: d.in_h, ..d }, Conv2dDims { out_w: d.in_w, ..d }]
    }

    #[test]
    fn convolutions_are_taken_up_to_the_limits_that_their_texts_have() {
        let same = Conv2dDims::new(2, [9, 6, 8], 16, [3, 3], true, true).pooled();
        let key = "conv2d_relu_maxpool2x2.forward/winograd4_lanes8";
        takes(key, &[conv(8, 16), conv(32, 128), same, Conv2dDims { batch: MAX_GROUPS, ..conv(8, 16) }], &large(conv(8, 16)));
        takes(key, &[], &[conv(8, 24), conv(4, 16), conv(20, 16), conv(40, 16), conv(32, 144)]);

        let key = "conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8";
        takes(
            key,
            &[conv(16, 32), conv(64, 64), conv(16, 96), Conv2dDims { batch: MAX_GROUPS, ..conv(16, 32) }],
            &large(conv(16, 32)),
        );
        takes(key, &[], &padded(conv(16, 32)));
        takes(key, &[], &[conv(24, 32), conv(16, 16), conv(16, 48), conv(80, 64)]);

        let key = "conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8_channels4";
        takes(key, &[conv(32, 32), conv(64, 64)], &[conv(16, 32), conv(48, 32), conv(32, 16)]);

        let key = "conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8";
        let splits = |splits| Conv2dDims { splits, ..conv(4, 16) };
        takes(key, &[conv(4, 16), conv(64, 64), splits(MAX_GROUPS)], &large(conv(4, 16)));
        takes(key, &[], &padded(conv(4, 16)));
        takes(key, &[], &[conv(4, 24), conv(80, 64), splits(MAX_GROUPS + 1)]);
    }

    #[test]
    fn dense_layers_are_taken_in_whole_vectors() {
        let dense = |batch, in_n, out_n| DenseDims::new(batch, in_n, out_n, true);
        let split = dense(2, 24, 64);
        let at = |splits, batch| DenseDims { splits, batch, ..split };
        takes("dense.forward/lanes8", &[split, dense(100, 16, 192), at(MAX_GROUPS, MAX_GROUPS)], &[]);
        takes(
            "dense.forward/lanes8_pictures32",
            &[dense(17, 24, 64), dense(64, 16, 192)],
            &[dense(16, 24, 64), dense(33, 24, 64)],
        );
        let left = [dense(2, 20, 64), DenseDims { per_split: 12, ..split }, dense(2, 24, 32), dense(2, 24, 96), dense(2, 20, 96)];
        takes("dense.forward/lanes8", &[], &left);
        takes("dense.forward/lanes8", &[], &[at(MAX_GROUPS + 1, 2), at(1, MAX_GROUPS + 1)]);
        for key in ["dense.backward_input/lanes8", "dense.update_weight/lanes8"] {
            takes(key, &[dense(2, 24, 64), dense(64, 8, 128)], &[dense(65, 24, 64), dense(2, 20, 64), dense(2, 24, 192)]);
        }
    }
}
