//! The first layer's conv2d + bias + relu + 2x2 max-pool, and its weights' gradient, on the pictures' bytes:
//! `shaders/conv2d_relu_maxpool2x2_pictures.wgsl`.
//!
//! They read the pictures where these lie, in a chunk of the data set: a word to a pixel, a quarter of what four floats take, of which
//! they make floats of three bytes. So the fourth channel, which is there for the alignment of floats and always 0, costs neither loads
//! nor products, and a batch is gathered nowhere. The sums are the same ones in the same order as those of
//! [`super::conv2d_relu_maxpool2x2`] on `gather.forward`'s x, but for the forward of the eight lanes, which is F(4x4,3x3).

use super::conv2d::{Conv2dDims, Input};
use super::conv2d_relu_maxpool2x2 as fused;
use super::gather::{Chunk, ChunkDims, PICTURE_OF_WGSL, rescale, shuffled};
use super::lanes8::{self, LANES, LOW_HIGH_WGSL, STORE_TILE_WGSL, WINOGRAD4_WGSL, lane_channels};
use super::product;
use super::tile;
use crate::kernel::{
    Binding, Bound, Buffer, Call, Cost, Dims, Kernel, MAX_GROUPS, MadeFor, Needs, OF_TAKEN_PLACES, OF_WINOGRAD_4, ORDERED_WGSL,
    PLACES_WGSL, POOLED_WINDOW_WGSL, RESCALED_WGSL, Real, SLICE_WGSL, STEP_WGSL, STORE_WINDOW_WGSL, Twin, Values, Variant,
    another, grid, joined, passes,
};
use pulp::Arch;

/// Sizes of the first layer's convolution and where it finds its pictures.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PicturesDims {
    /// The convolution of a batch.
    pub conv: Conv2dDims,
    /// Where its pictures lie.
    pub chunk: ChunkDims,
}

impl Dims for PicturesDims {
    const FIELDS: &'static [&'static str] =
        &joined::<{ Conv2dDims::FIELDS.len() + ChunkDims::FIELDS.len() }>(Conv2dDims::FIELDS, ChunkDims::FIELDS);
}

/// The sizes of the convolution.
pub(super) fn conv(d: &[u32]) -> &Conv2dDims {
    &PicturesDims::of(d).conv
}

/// The same as words.
fn conv_words(d: &[u32]) -> &[u32] {
    &d[..Conv2dDims::FIELDS.len()]
}

/// Channels that a picture has.
pub(super) const COLOURS: u32 = 3;

pub(super) fn words_len(d: &[u32]) -> usize {
    let d = PicturesDims::of(d);
    product(&[d.chunk.chunk_len, d.conv.in_h, d.conv.in_w])
}
pub(super) fn order_len(d: &[u32]) -> usize {
    PicturesDims::of(d).chunk.pictures as usize
}
fn pooled_len(d: &[u32]) -> usize {
    conv(d).pooled_len()
}
fn argmax_len(d: &[u32]) -> usize {
    conv(d).places_len()
}
pub(super) fn weight_len(d: &[u32]) -> usize {
    conv(d).weight_len()
}
pub(super) fn bias_len(d: &[u32]) -> usize {
    conv(d).out_c as usize
}
fn partial_len(d: &[u32]) -> usize {
    conv(d).partial_len()
}

/// Of the share of the batch that lies in this chunk, if every picture is as likely there; `own` elements move in any case.
fn cost(d: &[u32], own: usize) -> Cost {
    let PicturesDims { conv, chunk } = *PicturesDims::of(d);
    let share = f64::from(chunk.chunk_len) / f64::from(chunk.pictures);
    let products = conv.y_len() as f64 * product(&[conv.k_h, conv.k_w, COLOURS]) as f64;
    let moved = product(&[conv.batch, conv.in_h, conv.in_w]) + conv.pooled_len() + conv.places_len();
    Cost { flops: 2.0 * share * products, bytes: 4.0 * (share * moved as f64 + own as f64) }
}

/// One whole window, odd sizes, padding, kernels that are no square, one block over, more rows than partial sums, the notebook's
/// layer.
pub(super) fn cases() -> Vec<Conv2dDims> {
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
    .map(Conv2dDims::pooled)
    .to_vec()
}

/// Elements of x from which on a case takes long.
const LARGE: usize = 1 << 14;

/// Convolutions with their pictures: all of the set in one chunk, in a batch and in a part of one; some of them in a first chunk and in a
/// later one; none of them in the chunk, or behind the last. Of large ones, what takes longest: all of them.
pub(super) fn placed(convs: Vec<Conv2dDims>) -> Vec<Vec<u32>> {
    let places = |conv: Conv2dDims| {
        let n = conv.batch;
        let whole = ChunkDims::whole(n + 4);
        let part = ChunkDims { offset: 1, ..whole };
        let all = [
            part,
            whole,
            ChunkDims { chunk_len: n.div_ceil(2) + 2, ..whole },
            ChunkDims { chunk_first: 3, chunk_len: n, ..whole },
            ChunkDims { pictures: n, chunk_first: 1, chunk_len: n, ..whole },
        ];
        let these = if conv.x_len() < LARGE { all.len() } else { 1 };
        all[..these].iter().map(|&chunk| PicturesDims { conv, chunk }.words()).collect::<Vec<_>>()
    };
    convs.into_iter().flat_map(places).collect()
}

/// `shaders/shared/pictures_block.wgsl`; it calls [`PICTURE_OF_WGSL`] and [`RESCALED_WGSL`].
pub(super) const BLOCK_WGSL: &str = include_str!("../../shaders/shared/pictures_block.wgsl");
/// `shaders/shared/winograd4_picture_tiles.wgsl.jinja`.
pub(super) const TILES_WGSL: &str = include_str!("../../shaders/shared/winograd4_picture_tiles.wgsl.jinja");
const SOURCE: &str = include_str!("../../shaders/conv2d_relu_maxpool2x2_pictures.wgsl");
/// What that file refers to.
const SHARED: &[&str] = &[
    SLICE_WGSL,
    STEP_WGSL,
    ORDERED_WGSL,
    PICTURE_OF_WGSL,
    RESCALED_WGSL,
    PLACES_WGSL,
    POOLED_WINDOW_WGSL,
    STORE_WINDOW_WGSL,
    BLOCK_WGSL,
    fused::POOLED_BLOCK_WGSL,
];

pub(super) fn input(d: &[u32], name: &'static str, seed: u32) -> Option<Values> {
    match name {
        "order" => Some(shuffled(order_len(d), seed)),
        "taken" => Some(fused::codes(argmax_len(d), seed)),
        _ => None,
    }
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "conv2d_relu_maxpool2x2.forward_pictures",
        variant: None,
        formula: "y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co], x = (R, G, B) times fl32(1/255); argmax = its place in the window, row-major, or 4 if y is 0, where a gradient follows (splits > 0); of the pictures in this chunk",
        file: "conv2d_relu_maxpool2x2_pictures.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "forward_pictures",
        dims: PicturesDims::FIELDS,
        step: true,
        bindings: &[
            Binding::read("words", words_len).words(),
            Binding::read("weight", weight_len),
            Binding::read("bias", bias_len),
            Binding::read("order", order_len).words(),
            Binding::write("y", pooled_len).updated(),
            Binding::write("argmax", argmax_len).words().updated(),
        ],
        grid: |d| fused::pooled_blocks(conv_words(d)),
        loops: |d| {
            let d = conv(d);
            passes(&[d.k_h as usize, d.k_w as usize])
        },
        cost: |d| cost(d, weight_len(d)),
        made: 1.0,
        twin: Twin {
            f32: |call| forward(call, |d, x, inputs, writes| fused::forward_of(Arch::new(), d, x, inputs, writes)),
            f64: |call| forward(call, fused::sum_up),
        },
        bound: Bound::Twin(|d| {
            let d = conv(d);
            f64::from(d.k_h * d.k_w * COLOURS) + 2.0
        }),
        cases: || forward_cases(cases()),
        input,
    },
    Kernel {
        key: "conv2d_relu_maxpool2x2.backward_weight_pictures",
        variant: None,
        formula: "partial[s,ky,kx,ci,co] = sum over split s's rows of windows of (R, G, B, 0) times fl32(1/255) under the taken place, shifted by the tap, [ci] * dy[window,co], of the pictures in this chunk",
        file: "conv2d_relu_maxpool2x2_pictures.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "backward_weight_pictures",
        dims: PicturesDims::FIELDS,
        step: true,
        bindings: &[
            Binding::read("words", words_len).words(),
            Binding::read("pooled_dy", pooled_len),
            Binding::read("taken", argmax_len).words(),
            Binding::read("order", order_len).words(),
            Binding::write("partial", partial_len),
        ],
        grid: |d| {
            let d = conv(d);
            grid(product(&[d.out_c / 4, d.k_w.div_ceil(3), d.k_h, d.splits]))
        },
        loops: |d| conv(d).row_passes(conv(d).out_w / 2),
        cost: |d| cost(d, partial_len(d)),
        made: OF_TAKEN_PLACES,
        twin: Twin {
            f32: |call| {
                backward_weight(call, |d, x, dy, taken, sums| fused::weight_gradient_of(Arch::new(), d, x, dy, taken, sums))
            },
            f64: |call| backward_weight(call, fused::weight_gradient),
        },
        bound: Bound::Twin(|d| {
            let d = conv(d);
            f64::from(d.rows_per_split * (d.out_w / 2)) + 1.0
        }),
        cases: || placed(cases()),
        input,
    },
];

fn forward_cases(convs: Vec<Conv2dDims>) -> Vec<Vec<u32>> {
    placed(fused::with_evaluation(&convs))
}

pub(super) fn variant_cases(fits: fn(&[u32]) -> bool) -> Vec<Conv2dDims> {
    [
        Conv2dDims::new(1, [4, 4, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [9, 6, 4], 48, [3, 3], false, true),
        Conv2dDims::new(3, [11, 14, 4], 16, [3, 3], true, true),
        Conv2dDims::new(2, [9, 41, 4], 32, [3, 3], false, true),
        Conv2dDims::new(2, [7, 40, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [7, 9, 4], 64, [3, 3], true, true),
        Conv2dDims::new(46, [8, 5, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [5, 137, 4], 8, [3, 3], false, true),
        // Several pictures to a partial sum.
        Conv2dDims::new(150, [4, 4, 4], 16, [3, 3], false, true),
        Conv2dDims::new(1, [23, 6, 4], 16, [3, 3], false, true),
        Conv2dDims::new(2, [128, 128, 4], 16, [3, 3], false, true),
    ]
    .map(Conv2dDims::pooled)
    .into_iter()
    .filter(|&conv| fits(&PicturesDims { conv, chunk: ChunkDims::whole(conv.batch) }.words()))
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
    MOST == 16 || channels::<16>(conv(d)) == 16
}

/// How a GPU's weight gradient is cut: windows at a time, and the 8, 16 or 32 lanes that share them, one or two each.
fn lanes(d: &Conv2dDims) -> [u32; 2] {
    let pool_w = (d.out_w / 2).max(1);
    let windows = pool_w.div_ceil(pool_w.div_ceil(64));
    [windows, windows.div_ceil(windows.div_ceil(32)).next_power_of_two().max(8)]
}

fn forward_fits<const MOST: u32>(d: &[u32]) -> bool {
    let uniform = 4 * weight_len(d) <= MAX_UNIFORM && differs::<MOST>(d);
    let d = conv(d);
    uniform && tile::three_by_three(d) && d.out_c.is_multiple_of(8) && Windows::forward::<MOST>(d).grid(d)[0] <= MAX_GROUPS
}

fn weight_fits<const MOST: u32>(d: &[u32]) -> bool {
    tile::weight_fits(conv_words(d)) && differs::<MOST>(d)
}

pub(super) fn lanes8_fits(d: &[u32]) -> bool {
    lanes8::outputs_fit(conv(d))
}

/// What the text of the eight lanes' forward kernels is made for.
pub(super) fn lanes8_constants(d: &[u32]) -> Vec<(&'static str, u32)> {
    let d = conv(d);
    let padded = !lanes8::valid(d);
    vec![("LANE_C", lane_channels(d.out_c)), ("PADDED", u32::from(padded)), ("PAIRED", u32::from(!padded && paired(d)))]
}

/// The transforms' own roundings, which count with so few channels: four in a row to a side of the input's and of the output's, three of the
/// filters'.
pub(super) const TRANSFORMS: f64 = 2.0 * (4.0 + 4.0 + 3.0);

fn lanes8_weight_fits(d: &[u32]) -> bool {
    lanes8::weight_fits(conv_words(d))
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
        shared: &[
            SLICE_WGSL,
            STEP_WGSL,
            ORDERED_WGSL,
            PICTURE_OF_WGSL,
            RESCALED_WGSL,
            LOW_HIGH_WGSL,
            WINOGRAD4_WGSL,
            TILES_WGSL,
            STORE_TILE_WGSL,
        ],
        grid: |d| {
            let d = conv(d);
            [d.out_c / (lane_channels(d.out_c) * LANES), d.batch, 1]
        },
        loops: |d| {
            // The innermost loop's passes are a row's tiles, over all passes of the one around it.
            let [rows, tiles] = [conv(d).out_h, conv(d).out_w].map(|n| (n as usize / 2).div_ceil(2));
            passes(&[rows, tiles.div_ceil(LANES as usize)]) + rows * (tiles + tiles.div_ceil(LANES as usize))
        },
        bound: Bound::Tile(
            |d| {
                let d = conv(d);
                f64::from(d.k_h * d.k_w * COLOURS) + 2.0 + TRANSFORMS
            },
            |d| conv(d).pooled_tiles(2),
        ),
        made: OF_WINOGRAD_4,
        cases: || forward_cases(variant_cases(lanes8_fits)),
        ..another(
            &KERNELS[0],
            "conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8",
            "lanes8/conv2d_relu_maxpool2x2_pictures.wgsl.jinja",
            include_str!("../../shaders/lanes8/conv2d_relu_maxpool2x2_pictures.wgsl.jinja"),
            Variant::new(KERNELS[0].key, Needs::EightLanes, MadeFor::Software, lanes8_fits, lanes8_constants),
        )
    },
    Kernel {
        shared: &[SLICE_WGSL, STEP_WGSL, ORDERED_WGSL, PICTURE_OF_WGSL, RESCALED_WGSL, LOW_HIGH_WGSL],
        grid: |d| {
            let d = conv(d);
            [d.out_c / (lane_channels(d.out_c) * LANES), 1, d.splits]
        },
        loops: |d| {
            let d = conv(d);
            passes(&[d.rows_per_split as usize, (d.out_w / 2).div_ceil(WINDOWS) as usize])
        },
        made: OF_TAKEN_PLACES,
        cases: || placed(variant_cases(lanes8_weight_fits)),
        ..another(
            &KERNELS[1],
            "conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8",
            "lanes8/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja",
            include_str!("../../shaders/lanes8/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja"),
            Variant::new(KERNELS[1].key, Needs::EightLanes, MadeFor::Software, lanes8_weight_fits, |d| {
                let d = conv(d);
                vec![("LANE_C", lane_channels(d.out_c)), ("SPREAD", u32::from(d.out_c == 16)), ("PAIRED", u32::from(paired(d)))]
            }),
        )
    },
];

const fn tile_forward<const MOST: u32>(key: &'static str) -> Kernel {
    Kernel {
        shared: &[SLICE_WGSL, STEP_WGSL, ORDERED_WGSL, PICTURE_OF_WGSL, RESCALED_WGSL, PAIRS_WGSL, POOLED_WINDOW_WGSL],
        grid: |d| Windows::forward::<MOST>(conv(d)).grid(conv(d)),
        loops: |_| passes(&[COLOURS as usize, 3]),
        cases: || forward_cases(variant_cases(forward_fits::<MOST>)),
        ..another(
            &KERNELS[0],
            key,
            "tile/conv2d_relu_maxpool2x2_pictures.wgsl.jinja",
            include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_pictures.wgsl.jinja"),
            Variant {
                uniform: &["weight", "bias"],
                ..Variant::new(KERNELS[0].key, Needs::Nothing, MadeFor::Gpus, forward_fits::<MOST>, |d| {
                    let d = conv(d);
                    let w = Windows::forward::<MOST>(d);
                    vec![("COLUMNS", w.columns), ("ROWS", w.rows), ("TO_B", w.channels), ("TO_C", d.out_c), padded(d)]
                })
            },
        )
    }
}

const fn tile_weight<const MOST: u32>(key: &'static str) -> Kernel {
    Kernel {
        shared: &[SLICE_WGSL, STEP_WGSL, ORDERED_WGSL, PICTURE_OF_WGSL, RESCALED_WGSL, PLACES_WGSL, PAIRS_WGSL],
        grid: |d| {
            let d = conv(d);
            [d.out_c / channels::<MOST>(d), 1, d.splits]
        },
        loops: |d| {
            let d = conv(d);
            let [windows, lanes] = lanes(d);
            let rows = d.rows_per_split.min(d.batch * (d.out_h / 2));
            let zeros = 36u32.div_ceil(lanes);
            // With a look at the first picture and at the last, to find them here; passing over others spares their windows.
            2 * passes(&[0]) + passes(&[(rows * (d.out_w / 2).div_ceil(windows)) as usize]) + passes(&[zeros as usize])
        },
        cases: || placed(variant_cases(weight_fits::<MOST>)),
        ..another(
            &KERNELS[1],
            key,
            "tile/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja",
            include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_pictures_backward_weight.wgsl.jinja"),
            Variant::new(KERNELS[1].key, Needs::Nothing, MadeFor::Gpus, weight_fits::<MOST>, |d| {
                let d = conv(d);
                let [windows, lanes] = lanes(d);
                vec![("WINDOWS", windows), ("LANES", lanes), ("CO_B", channels::<MOST>(d)), padded(d)]
            }),
        )
    }
}

/// The call's pictures: in both kernels the first buffer, and their order the fourth.
fn chunk<'a, T: Real>(call: &Call<'a, T>) -> Chunk<'a> {
    Chunk::new(PicturesDims::of(call.dims).chunk, call, [0, 3])
}

fn forward<T: Real>(call: &mut Call<T>, sum_up: impl Fn(&Conv2dDims, Input<T>, [&[T]; 2], [&mut Buffer<T>; 2])) {
    let (x, inputs) = (Input::Chunk(chunk(call)), [call.read(1), call.read(2)]);
    let [y, argmax] = call.writes else { panic!("forward_pictures writes two buffers") };
    sum_up(conv(call.dims), x, inputs, [y, argmax]);
}

fn backward_weight<T: Real>(call: &mut Call<T>, gradient: impl Fn(&Conv2dDims, Input<T>, &[T], &[u32], &mut [T])) {
    let x = Input::Chunk(chunk(call));
    gradient(conv(call.dims), x, call.read(1), call.reads[2].u(), call.writes[0].f_mut());
}

/// The x, (batch, in_h, in_w, 4), that a first layer's call makes of its pictures, with zeros for those of another chunk.
pub fn x<T: Real>(call: &Call<T>) -> Vec<T> {
    let (d, chunk) = (conv(call.dims), chunk(call));
    let pixels = product(&[d.in_h, d.in_w]);
    let mut x = vec![T::zero(); d.x_len()];
    for (n, x) in x.chunks_exact_mut(4 * pixels).enumerate() {
        if let Some(words) = chunk.picture(n, pixels) {
            rescale(words, x);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::takes;

    #[test]
    fn techniques_take_pictures_of_the_shapes_that_they_are_made_for() {
        let conv = |filters, same| {
            let conv = Conv2dDims::new(2, [9, 6, 4], filters, [3, 3], same, true).pooled();
            PicturesDims { conv, chunk: ChunkDims::whole(2) }
        };
        let wide = PicturesDims { conv: Conv2dDims { k_w: 5, ..conv(16, false).conv }, ..conv(16, false) };
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

    /// How many of a case's pictures lie in its chunk.
    fn present(kernel: &Kernel, d: &[u32]) -> u32 {
        let PicturesDims { conv, chunk } = *PicturesDims::of(d);
        let Some(Values::U(order)) = (kernel.input)(d, "order", 1) else { panic!("an order") };
        let step = crate::verify::step();
        let place = |n| step.ordered(&order, (chunk.offset + n) as usize).wrapping_sub(chunk.chunk_first);
        (0..conv.batch).filter(|&n| place(n) < chunk.chunk_len).count() as u32
    }

    #[test]
    fn cases_have_pictures_in_their_chunk_and_elsewhere() {
        for kernel in KERNELS.iter().chain(TECHNIQUES) {
            let cases = (kernel.cases)();
            let counts: Vec<[u32; 2]> = cases.iter().map(|d| [present(kernel, d), conv(d).batch]).collect();
            for (d, [present, batch]) in cases.iter().zip(&counts) {
                assert!(conv(d).x_len() < LARGE || present == batch, "{} of {d:?} has {present} pictures", kernel.key);
            }
            assert!(counts.iter().any(|&[present, batch]| 0 < present && present < batch), "{} mixes none", kernel.key);
            assert!(counts.iter().any(|&[present, _]| present == 0), "{} is never without pictures", kernel.key);
        }
    }
}
