//! The first layer's conv2d + bias + relu + 2x2 max-pool, and its weights' gradient, on the pictures' bytes:
//! `shaders/conv2d_relu_maxpool2x2_pictures.wgsl`.
//!
//! `gather.bytes` leaves a word to a pixel, a quarter of what four floats take, and who reads it makes floats of three bytes. So
//! the fourth channel, which is there for the alignment of floats and always 0, costs neither loads nor products. The sums are the
//! same ones in the same order as those of [`super::conv2d_relu_maxpool2x2`] on `gather.forward`'s x, but for the forward of the eight
//! lanes, which is F(4x4,3x3).

use super::conv2d::{self, Conv2dDims, Input};
use super::conv2d_relu_maxpool2x2 as fused;
use super::lanes8::{self, LANES, LOW_HIGH_WGSL, STORE_TILE_WGSL, WINOGRAD4_WGSL, lane_channels};
use super::product;
use super::tile;
use crate::kernel::{
    Binding, Bound, Call, Constants, Cost, Dims, Kernel, MAX_GROUPS, Needs, PLACES_WGSL, POOLED_WINDOW_WGSL, RESCALED_WGSL, Real,
    SLICE_WGSL, STORE_WINDOW_WGSL, Twin, Variant, another, grid, passes, random_input,
};
use pulp::Arch;

/// Channels that a picture has.
const COLOURS: u32 = 3;

fn words_len(d: &[u32]) -> usize {
    let d = Conv2dDims::of(d);
    product(&[d.batch, d.in_h, d.in_w])
}

fn cost(d: &[u32], elements: usize) -> Cost {
    let d = Conv2dDims::of(d);
    Cost { flops: 2.0 * d.y_len() as f64 * product(&[d.k_h, d.k_w, COLOURS]) as f64, bytes: 4.0 * elements as f64 }
}

/// One whole window, odd sizes, padding, kernels that are no square, one block over, more rows than partial sums, the notebook's
/// layer.
fn cases() -> Vec<Vec<u32>> {
    [
        Conv2dDims::new(1, [2, 2, 4], 4, [1, 1], false, true),
        Conv2dDims::new(2, [5, 7, 4], 12, [3, 3], false, true),
        Conv2dDims::new(1, [4, 9, 4], 4, [5, 5], true, true),
        Conv2dDims::new(1, [6, 6, 4], 20, [2, 4], true, true),
        Conv2dDims::new(3, [11, 13, 4], 16, [3, 3], true, true),
        Conv2dDims::new(17, [21, 3, 4], 4, [3, 2], false, true),
        Conv2dDims::new(46, [8, 5, 4], 16, [3, 3], false, true),
        Conv2dDims::new(1, [128, 128, 4], 16, [3, 3], false, true),
    ]
    .map(|d| d.pooled().words())
    .to_vec()
}

const SOURCE: &str = include_str!("../../shaders/conv2d_relu_maxpool2x2_pictures.wgsl");
/// What that file refers to.
const SHARED: &[&str] =
    &[SLICE_WGSL, RESCALED_WGSL, PLACES_WGSL, POOLED_WINDOW_WGSL, STORE_WINDOW_WGSL, fused::POOLED_BLOCK_WGSL];

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "conv2d_relu_maxpool2x2.forward_pictures",
        variant: None,
        formula: "y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co], x = (R, G, B) times fl32(1/255); argmax = its place in the window, row-major, or 4 if y is 0, where a gradient follows (splits > 0)",
        file: "conv2d_relu_maxpool2x2_pictures.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "forward_pictures",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("words", words_len).words(),
            Binding::read("weight", conv2d::weight_len),
            Binding::read("bias", conv2d::bias_len),
            Binding::write("y", fused::pooled_len),
            Binding::write("argmax", fused::argmax_len).words(),
        ],
        grid: fused::pooled_blocks,
        loops: |d| {
            let d = Conv2dDims::of(d);
            passes(&[d.k_h as usize, d.k_w as usize])
        },
        cost: |d| cost(d, words_len(d) + conv2d::weight_len(d) + fused::pooled_len(d) + fused::argmax_len(d)),
        twin: Twin {
            f32: |call| fused::forward_of(Arch::new(), call, words(call)),
            f64: |call| fused::sum_up(call, words(call)),
        },
        bound: Bound::Twin(|d| {
            let d = Conv2dDims::of(d);
            f64::from(d.k_h * d.k_w * COLOURS) + 2.0
        }),
        cases: || fused::forward_cases(cases()),
        input: random_input,
    },
    Kernel {
        key: "conv2d_relu_maxpool2x2.backward_weight_pictures",
        variant: None,
        formula: "partial[s,ky,kx,ci,co] = sum over split s's rows of windows of (R, G, B, 0) times fl32(1/255) under the taken place, shifted by the tap, [ci] * dy[window,co]",
        file: "conv2d_relu_maxpool2x2_pictures.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "backward_weight_pictures",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("words", words_len).words(),
            Binding::read("pooled_dy", fused::pooled_len),
            Binding::read("taken", fused::argmax_len).words(),
            Binding::write("partial", conv2d::partial_len),
        ],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid(product(&[d.out_c / 4, d.k_w.div_ceil(3), d.k_h, d.splits]))
        },
        loops: |d| Conv2dDims::of(d).row_passes(Conv2dDims::of(d).out_w / 2),
        cost: |d| cost(d, words_len(d) + fused::pooled_len(d) + fused::argmax_len(d) + conv2d::partial_len(d)),
        twin: Twin {
            f32: |call| fused::weight_gradient_of(Arch::new(), call, words(call)),
            f64: |call| fused::weight_gradient(call, words(call)),
        },
        bound: Bound::Twin(|d| {
            let d = Conv2dDims::of(d);
            f64::from(d.rows_per_split * (d.out_w / 2)) + 1.0
        }),
        cases,
        input: |d, name, seed| (name == "taken").then(|| fused::codes(fused::argmax_len(d), seed)),
    },
];

/// A variant that takes pictures where `fits` takes floats.
const fn variant(of: &'static str, software: bool, fits: fn(&[u32]) -> bool, constants: Constants) -> Variant {
    let needs = if software { Needs::EightLanes } else { Needs::Nothing };
    Variant::new(of, needs, software, fits, constants)
}

fn variant_cases(fits: fn(&[u32]) -> bool) -> Vec<Vec<u32>> {
    [
        Conv2dDims::new(1, [4, 4, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [9, 6, 4], 48, [3, 3], false, true),
        Conv2dDims::new(3, [11, 14, 4], 16, [3, 3], true, true),
        Conv2dDims::new(2, [9, 41, 4], 32, [3, 3], false, true),
        Conv2dDims::new(2, [7, 40, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [7, 9, 4], 64, [3, 3], true, true),
        Conv2dDims::new(46, [8, 5, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [5, 137, 4], 8, [3, 3], false, true),
        Conv2dDims::new(1, [23, 6, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [128, 128, 4], 16, [3, 3], false, true),
    ]
    .map(|d| d.pooled().words())
    .into_iter()
    .filter(|d| fits(d))
    .collect()
}

/// Whether a picture's rows are whole pairs of pixels, which the eight-lane kernels load for the price of one.
fn paired(d: &Conv2dDims) -> bool {
    d.in_w.is_multiple_of(2)
}

/// Windows of a pass of the eight-lane weight gradient's loop.
const WINDOWS: u32 = 2;

/// Most bytes of a uniform that every adapter takes.
const MAX_UNIFORM: usize = 16 << 10;

/// How a GPU's work is cut: windows of a workgroup, side by side and below each other, and the channels of an invocation.
struct Windows {
    columns: u32,
    rows: u32,
    channels: u32,
    pool: [u32; 2],
}

impl Windows {
    /// About 128 invocations, a window each; the notebook's workgroup takes 8 KiB.
    fn forward<const MOST: u32>(d: &Conv2dDims) -> Self {
        let pool = [d.out_w / 2, d.out_h / 2].map(|side| side.max(1));
        let columns = pool[0].div_ceil(pool[0].div_ceil(32));
        Self { columns, rows: (128 / columns).min(8).min(pool[1]), channels: channels::<MOST>(d), pool }
    }

    fn grid(&self, d: &Conv2dDims) -> [u32; 3] {
        let [w, h] = self.pool;
        [w.div_ceil(self.columns) * h.div_ceil(self.rows), d.out_c / self.channels, d.batch]
    }
}

/// Channels of an invocation, at most so many: sums of four pixels or of 27 taps that a GPU's registers hold. An H200's hold those of 16.
fn channels<const MOST: u32>(d: &Conv2dDims) -> u32 {
    if MOST == 16 && d.out_c.is_multiple_of(16) { 16 } else { 8 }
}

/// Whether fewer channels than 16 are another text than 16 at most.
fn differs<const MOST: u32>(d: &[u32]) -> bool {
    MOST == 16 || channels::<16>(Conv2dDims::of(d)) == 16
}

/// How a GPU's weight gradient is cut: windows at a time, and the 8, 16 or 32 lanes that share them, one or two each.
fn lanes(d: &Conv2dDims) -> [u32; 2] {
    let pool_w = (d.out_w / 2).max(1);
    let windows = pool_w.div_ceil(pool_w.div_ceil(64));
    [windows, windows.div_ceil(windows.div_ceil(32)).next_power_of_two().max(8)]
}

fn forward_fits<const MOST: u32>(d: &[u32]) -> bool {
    let uniform = 4 * conv2d::weight_len(d) <= MAX_UNIFORM && differs::<MOST>(d);
    let d = Conv2dDims::of(d);
    uniform && tile::three_by_three(d) && d.out_c.is_multiple_of(8) && Windows::forward::<MOST>(d).grid(d)[0] <= MAX_GROUPS
}

fn weight_fits<const MOST: u32>(d: &[u32]) -> bool {
    tile::weight_fits(d) && differs::<MOST>(d)
}

fn lanes8_fits(d: &[u32]) -> bool {
    lanes8::outputs_fit(Conv2dDims::of(d))
}

/// Whether the pictures have a border of zeros.
fn padded(d: &Conv2dDims) -> (&'static str, u32) {
    ("PADDED", u32::from(d.pad_top + d.pad_left > 0))
}

const PAIRS_WGSL: &str = include_str!("../../shaders/shared/picture_pairs.wgsl.jinja");

/// The variants: for GPUs, then for drivers on CPUs. Of two constants the last is the default.
pub const TECHNIQUES: &[Kernel] = &[
    tile_forward::<8>("conv2d_relu_maxpool2x2.forward_pictures/tile_channels8"),
    tile_forward::<16>("conv2d_relu_maxpool2x2.forward_pictures/tile"),
    tile_weight::<8>("conv2d_relu_maxpool2x2.backward_weight_pictures/tile_channels8"),
    tile_weight::<16>("conv2d_relu_maxpool2x2.backward_weight_pictures/tile"),
    Kernel {
        shared: &[SLICE_WGSL, RESCALED_WGSL, LOW_HIGH_WGSL, WINOGRAD4_WGSL, STORE_TILE_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            [d.out_c / (lane_channels(d.out_c) * LANES), d.batch, 1]
        },
        loops: |d| {
            // The innermost loop's passes are a row's tiles, over all passes of the one around it.
            let [rows, tiles] = [Conv2dDims::of(d).out_h, Conv2dDims::of(d).out_w].map(|n| (n as usize / 2).div_ceil(2));
            passes(&[rows, tiles.div_ceil(LANES as usize)]) + rows * (tiles + tiles.div_ceil(LANES as usize))
        },
        // With so few channels the transforms' own roundings count: four in a row to a side of the input's and of the output's, three of
        // the filters'.
        bound: Bound::Tile(
            |d| {
                let d = Conv2dDims::of(d);
                f64::from(d.k_h * d.k_w * COLOURS) + 2.0 + 2.0 * (4.0 + 4.0 + 3.0)
            },
            |d| Conv2dDims::of(d).pooled_tiles(2),
        ),
        cases: || fused::forward_cases(variant_cases(lanes8_fits)),
        ..another(
            &KERNELS[0],
            "conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8",
            "lanes8/conv2d_relu_maxpool2x2_pictures.wgsl.jinja",
            include_str!("../../shaders/lanes8/conv2d_relu_maxpool2x2_pictures.wgsl.jinja"),
            variant(KERNELS[0].key, true, lanes8_fits, |d| {
                let d = Conv2dDims::of(d);
                let padded = !lanes8::valid(d);
                vec![
                    ("LANE_C", lane_channels(d.out_c)),
                    ("PADDED", u32::from(padded)),
                    ("PAIRED", u32::from(!padded && paired(d))),
                ]
            }),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, RESCALED_WGSL, LOW_HIGH_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            [d.out_c / (lane_channels(d.out_c) * LANES), 1, d.splits]
        },
        loops: |d| {
            let d = Conv2dDims::of(d);
            passes(&[d.rows_per_split as usize, (d.out_w / 2).div_ceil(WINDOWS) as usize])
        },
        cases: || variant_cases(lanes8::weight_fits),
        ..another(
            &KERNELS[1],
            "conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8",
            "lanes8/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja",
            include_str!("../../shaders/lanes8/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja"),
            variant(KERNELS[1].key, true, lanes8::weight_fits, |d| {
                let d = Conv2dDims::of(d);
                vec![("LANE_C", lane_channels(d.out_c)), ("SPREAD", u32::from(d.out_c == 16)), ("PAIRED", u32::from(paired(d)))]
            }),
        )
    },
];

const fn tile_forward<const MOST: u32>(key: &'static str) -> Kernel {
    Kernel {
        shared: &[SLICE_WGSL, RESCALED_WGSL, PAIRS_WGSL, POOLED_WINDOW_WGSL],
        grid: |d| Windows::forward::<MOST>(Conv2dDims::of(d)).grid(Conv2dDims::of(d)),
        loops: |_| passes(&[COLOURS as usize, 3]),
        cases: || fused::forward_cases(variant_cases(forward_fits::<MOST>)),
        ..another(
            &KERNELS[0],
            key,
            "tile/conv2d_relu_maxpool2x2_pictures.wgsl.jinja",
            include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_pictures.wgsl.jinja"),
            Variant {
                uniform: &["weight", "bias"],
                ..variant(KERNELS[0].key, false, forward_fits::<MOST>, |d| {
                    let d = Conv2dDims::of(d);
                    let w = Windows::forward::<MOST>(d);
                    vec![("COLUMNS", w.columns), ("ROWS", w.rows), ("TO_B", w.channels), ("TO_C", d.out_c), padded(d)]
                })
            },
        )
    }
}

const fn tile_weight<const MOST: u32>(key: &'static str) -> Kernel {
    Kernel {
        shared: &[SLICE_WGSL, RESCALED_WGSL, PLACES_WGSL, PAIRS_WGSL],
        grid: |d| {
            let d = Conv2dDims::of(d);
            [d.out_c / channels::<MOST>(d), 1, d.splits]
        },
        loops: |d| {
            let d = Conv2dDims::of(d);
            let [windows, lanes] = lanes(d);
            let rows = d.rows_per_split.min(d.batch * (d.out_h / 2));
            let zeros = 36u32.div_ceil(lanes);
            passes(&[(rows * (d.out_w / 2).div_ceil(windows)) as usize]) + passes(&[zeros as usize])
        },
        cases: || variant_cases(weight_fits::<MOST>),
        ..another(
            &KERNELS[1],
            key,
            "tile/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja",
            include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja"),
            variant(KERNELS[1].key, false, weight_fits::<MOST>, |d| {
                let d = Conv2dDims::of(d);
                let [windows, lanes] = lanes(d);
                vec![("WINDOWS", windows), ("LANES", lanes), ("CO_B", channels::<MOST>(d)), padded(d)]
            }),
        )
    }
}

/// The call's pictures.
fn words<'a, T: Real>(call: &Call<'a, T>) -> Input<'a, T> {
    Input::Words(call.reads[0].u())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::takes;

    #[test]
    fn techniques_take_pictures_of_the_shapes_that_they_are_made_for() {
        let conv = |filters, same| Conv2dDims::new(2, [9, 6, 4], filters, [3, 3], same, true).pooled();
        let wide = Conv2dDims { k_w: 5, ..conv(16, false) };
        let [forward, weight] = ["forward", "backward_weight"].map(|entry| format!("conv2d_relu_maxpool2x2.{entry}_pictures"));
        takes(
            &format!("{forward}/tile"),
            &[conv(8, false), conv(16, true), conv(112, false)],
            &[conv(12, false), conv(120, false), wide],
        );
        takes(&format!("{weight}/tile"), &[conv(8, false), conv(16, true)], &[conv(12, false), wide]);
        for key in [&forward, &weight] {
            takes(&format!("{key}/tile_channels8"), &[conv(16, true), conv(48, false)], &[conv(8, false), conv(24, true), wide]);
        }
        takes(&format!("{forward}/winograd4_lanes8"), &[conv(16, false), conv(32, true)], &[conv(8, false), wide]);
        takes(&format!("{weight}/sparse_lanes8"), &[conv(16, false), conv(32, false)], &[conv(16, true), conv(8, false), wide]);
    }
}
