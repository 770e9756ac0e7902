//! Winograd variants for GPUs: F(2x2,3x3) and its adjoint in the weights, F(3x3,2x2) (Lavin and Gray 2016), 16 products in the place
//! of 36; `shaders/tile/`.
//!
//! A tile of 2 x 2 outputs is a window of the pool. The products of a position of the 4 x 4 are a matrix product of their own, whose
//! block of 64 sums an invocation keeps; a workgroup has all 16 positions of 512 sums. Inside WebGPU's default limits.
//! Several invocations store the components of a vector ([`Needs::ComponentStores`]), or, in a second form for every adapter, scalars that
//! lie as those components do. No adapter has taken that form's time yet: until `tune` has, the direct tiles are the default
//! where components cannot be stored.

use super::conv2d::{Conv2dDims, input_roundings};
use super::conv2d_relu_maxpool2x2 as fused;
use super::tile::three_by_three;
use crate::kernel::{
    Bound, Call, Constants, Dims, Kernel, MAX_GROUPS, MadeFor, Needs, OF_WINOGRAD_2, PLACES_WGSL, SLICE_WGSL, Variant, another,
    passes,
};

const WINOGRAD_TILE_WGSL: &str = include_str!("../../shaders/shared/winograd_tile.wgsl.jinja");

/// Sums of a position in a workgroup: rows by columns.
const SUMS: u32 = 512;

/// Fours of channels that fit into WebGPU's least workgroup memory beside the transformed terms.
const MOST_RAW: u32 = 206;

/// Rows, which are tiles, and columns, which are channels, of a workgroup; how its tiles lie in the picture.
struct Cut {
    columns: u32,
    tiles: [u32; 2],
}

impl Cut {
    fn rows(&self) -> u32 {
        self.tiles[0] * self.tiles[1]
    }

    /// Pixels under the tiles.
    fn pixels(&self) -> u32 {
        (2 * self.tiles[0] + 2) * (2 * self.tiles[1] + 2)
    }

    /// Even or odd pixels of a row as they lie in workgroup memory: so many that eight tiles' channels are in 32 different banks.
    fn half_pitch(&self) -> u32 {
        self.tiles[0] + if matches!(self.tiles[0], 1 | 4) { 2 } else { 1 }
    }

    /// Fours of a pixel's channels that workgroup memory holds for them.
    fn raw(&self) -> u32 {
        2 * self.half_pitch() * (2 * self.tiles[1] + 2)
    }

    fn blocks(&self, [w, h]: [u32; 2]) -> u32 {
        w.div_ceil(self.tiles[0]) * h.div_ceil(self.tiles[1])
    }

    /// Of pictures of so many tiles across and down: the fewest workgroups, then the fewest pixels.
    fn new(picture: [u32; 2], channels: u32) -> Self {
        let columns = if channels.is_multiple_of(32) { 32 } else { 16 };
        let rows = SUMS / columns;
        let shapes = [1, 2, 4, 8, 16].map(|across| Self { columns, tiles: [across, rows / across] });
        let best = shapes.into_iter().filter(|cut| cut.raw() <= MOST_RAW).min_by_key(|cut| (cut.blocks(picture), cut.pixels()));
        best.unwrap_or(Self { columns, tiles: [8, rows / 8] })
    }

    /// With the workgroups of a picture.
    fn forward(d: &Conv2dDims) -> (Self, u32) {
        Self::of([d.out_w / 2, d.out_h / 2], d.out_c)
    }

    /// The same.
    fn backward_input(d: &Conv2dDims) -> (Self, u32) {
        Self::of([d.in_w.div_ceil(2), d.in_h.div_ceil(2)], d.in_c)
    }

    fn of(picture: [u32; 2], channels: u32) -> (Self, u32) {
        let cut = Self::new(picture, channels);
        let blocks = cut.blocks(picture);
        (cut, blocks)
    }

    fn constants(&self, from: u32, to: u32, scalars: bool) -> Vec<(&'static str, u32)> {
        vec![
            ("SCALARS", u32::from(scalars)),
            ("ROWS", self.rows()),
            ("COLS", self.columns),
            ("TILES_X", self.tiles[0]),
            ("TILES_Y", self.tiles[1]),
            ("PIXELS", self.pixels()),
            ("HALF_PITCH", self.half_pitch()),
            ("RAW", self.raw()),
            ("LEFT_PAD", 2),
            ("FROM_C", from),
            ("TO_C", to),
        ]
    }
}

/// Of fewer channels the transforms would be most of the work.
const LEAST_TERMS: u32 = 8;

fn forward_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && d.in_c >= LEAST_TERMS && d.out_c.is_multiple_of(16) && Cut::forward(d).1 <= MAX_GROUPS
}

fn input_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    three_by_three(d) && d.out_c >= LEAST_TERMS && d.in_c.is_multiple_of(16) && Cut::backward_input(d).1 <= MAX_GROUPS
}

/// Input and output channels of a workgroup of the weights' gradient.
const WEIGHT_BLOCK: [u32; 2] = [16, 32];

fn weight_fits(d: &[u32]) -> bool {
    let d = Conv2dDims::of(d);
    let whole = d.in_c.is_multiple_of(WEIGHT_BLOCK[0]) && d.out_c.is_multiple_of(WEIGHT_BLOCK[1]);
    // A round of four windows may pass one end of a row and no more.
    three_by_three(d) && whole && d.out_w / 2 >= 4 && d.splits <= MAX_GROUPS
}

fn weight_constants<const SCALARS: bool>(d: &[u32]) -> Vec<(&'static str, u32)> {
    let d = Conv2dDims::of(d);
    vec![
        ("SCALARS", u32::from(SCALARS)),
        ("ROWS", WEIGHT_BLOCK[0]),
        ("COLS", WEIGHT_BLOCK[1]),
        ("RAW", 0),
        ("LEFT_PAD", 4),
        ("IN_C", d.in_c),
        ("OUT_C", d.out_c),
        ("POOL_H", d.out_h / 2),
        ("POOL_W", d.out_w / 2),
        ("PADDED", u32::from(d.pad_top + d.pad_left > 0)),
    ]
}

/// A sum takes part in the roundings of all 4 x 4 pixels under its windows, which the other taps see: of an element's own products it is
/// no multiple. A position's factor is at most (1 + 1/2 + 1/2)^2 of the gradient.
fn weight_bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let d: Conv2dDims = call.dims();
    let (x, dy, taken) = (call.read(0), call.read(1), call.reads[2].u());
    let [pool_h, pool_w] = [d.out_h as usize / 2, d.out_w as usize / 2];
    let [in_h, in_w, in_c, out_c] = [d.in_h, d.in_w, d.in_c, d.out_c].map(|n| n as usize);
    let rows = 9 * in_c + 1;
    let roundings = f64::from(d.rows_per_split * (d.out_w / 2)) + 8.0;
    let mut bounds = vec![0.0; d.partial_len()];
    for window in 0..d.batch as usize * pool_h * pool_w {
        let [line, px] = [window / pool_w, window % pool_w];
        let split = line / d.rows_per_split as usize;
        let [n, py] = [line / pool_h, line % pool_h];
        let mut under = vec![0.0; in_c];
        for i in 0..16 {
            let (iy, ix) =
                ((2 * py + i / 4).wrapping_sub(d.pad_top as usize), (2 * px + i % 4).wrapping_sub(d.pad_left as usize));
            if iy < in_h && ix < in_w {
                let at = ((n * in_h + iy) * in_w + ix) * in_c;
                under.iter_mut().zip(&x[at..at + in_c]).for_each(|(sum, v)| *sum += v.abs());
            }
        }
        for co in 0..out_c {
            let at = window * out_c + co;
            if (taken[at / 4] >> (8 * (at % 4))) & 255 < 4 {
                let g = roundings * 0.5 * f64::from(f32::EPSILON) * dy[at].abs();
                for ci in 0..in_c {
                    for tap in 0..9 {
                        bounds[(split * rows + tap * in_c + ci) * out_c + co] += 4.0 * g * under[ci];
                    }
                }
                bounds[(split * rows + rows - 1) * out_c + co] += g;
            }
        }
    }
    vec![bounds]
}

/// Shapes beside the layers' own: odd sizes, padding, blocks that hang over, more than one block of channels, a last round that is not
/// whole, more rows than partial sums.
fn cases(fits: fn(&[u32]) -> bool) -> Vec<Vec<u32>> {
    [
        Conv2dDims::new(1, [4, 4, 16], 16, [3, 3], false, true),
        Conv2dDims::new(3, [11, 14, 8], 16, [3, 3], true, true),
        Conv2dDims::new(2, [9, 37, 16], 24, [3, 3], false, true),
        Conv2dDims::new(2, [7, 9, 32], 128, [3, 3], true, true),
        Conv2dDims::new(1, [4, 10, 16], 32, [3, 3], false, true),
        Conv2dDims::new(1, [5, 9, 16], 32, [3, 3], true, true),
        Conv2dDims::new(1, [6, 13, 48], 32, [3, 3], false, true),
        Conv2dDims::new(46, [8, 10, 16], 32, [3, 3], false, true),
        Conv2dDims::new(2, [5, 71, 8], 64, [3, 3], false, true),
        Conv2dDims::new(2, [63, 63, 16], 32, [3, 3], false, true),
        Conv2dDims::new(2, [30, 30, 32], 64, [3, 3], false, true),
    ]
    .map(|d| d.pooled().words())
    .into_iter()
    .filter(|d| fits(d))
    .collect()
}

const fn variant<const SCALARS: bool>(of: &'static str, fits: fn(&[u32]) -> bool, constants: Constants) -> Variant {
    let needs = if SCALARS { Needs::Nothing } else { Needs::ComponentStores };
    Variant::new(of, needs, MadeFor::Gpus, fits, constants)
}

/// The variants whose workgroup memory holds vectors.
pub const KERNELS: &[Kernel] = &kernels::<false>([
    "conv2d_relu_maxpool2x2.forward/winograd_tile",
    "conv2d_relu_maxpool2x2.backward_input/winograd_tile",
    "conv2d_relu_maxpool2x2.backward_weight/winograd_tile",
]);

/// The variants whose workgroup memory holds scalars.
pub const SCALAR_KERNELS: &[Kernel] = &kernels::<true>([
    "conv2d_relu_maxpool2x2.forward/winograd_scalars",
    "conv2d_relu_maxpool2x2.backward_input/winograd_scalars",
    "conv2d_relu_maxpool2x2.backward_weight/winograd_scalars",
]);

const fn kernels<const SCALARS: bool>([forward, backward_input, backward_weight]: [&'static str; 3]) -> [Kernel; 3] {
    [
        Kernel {
            shared: &[SLICE_WGSL, WINOGRAD_TILE_WGSL],
            grid: |d| {
                let d = Conv2dDims::of(d);
                let (cut, blocks) = Cut::forward(d);
                [blocks, d.out_c / cut.columns, d.batch]
            },
            loops: |d| passes(&[Conv2dDims::of(d).in_c as usize / 4]),
            made: OF_WINOGRAD_2,
            cases: || fused::forward_cases(cases(forward_fits)),
            ..another(
                &fused::KERNELS[0],
                forward,
                "tile/conv2d_relu_maxpool2x2_winograd.wgsl.jinja",
                include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_winograd.wgsl.jinja"),
                variant::<SCALARS>("conv2d_relu_maxpool2x2.forward", forward_fits, |d| {
                    let d = Conv2dDims::of(d);
                    Cut::forward(d).0.constants(d.in_c, d.out_c, SCALARS)
                }),
            )
        },
        Kernel {
            shared: &[SLICE_WGSL, PLACES_WGSL, WINOGRAD_TILE_WGSL],
            grid: |d| {
                let d = Conv2dDims::of(d);
                let (cut, blocks) = Cut::backward_input(d);
                [blocks, d.in_c / cut.columns, d.batch]
            },
            loops: |d| passes(&[Conv2dDims::of(d).out_c as usize / 4]),
            bound: Bound::Tile(input_roundings, |d| Conv2dDims::of(d).input_tiles(2)),
            made: OF_WINOGRAD_2,
            cases: || cases(input_fits),
            ..another(
                &fused::KERNELS[1],
                backward_input,
                "tile/conv2d_relu_maxpool2x2_backward_input_winograd.wgsl.jinja",
                include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_backward_input_winograd.wgsl.jinja"),
                variant::<SCALARS>("conv2d_relu_maxpool2x2.backward_input", input_fits, |d| {
                    let d = Conv2dDims::of(d);
                    Cut::backward_input(d).0.constants(d.out_c, d.in_c, SCALARS)
                }),
            )
        },
        Kernel {
            shared: &[SLICE_WGSL, WINOGRAD_TILE_WGSL],
            grid: |d| {
                let d = Conv2dDims::of(d);
                [d.out_c / WEIGHT_BLOCK[1], d.in_c / WEIGHT_BLOCK[0], d.splits]
            },
            loops: |d| {
                let d = Conv2dDims::of(d);
                let windows = d.rows_per_split.min(d.batch * (d.out_h / 2)) * (d.out_w / 2);
                passes(&[windows.div_ceil(4) as usize]) + passes(&[3])
            },
            bound: Bound::Own(weight_bound),
            made: OF_WINOGRAD_2,
            cases: || cases(weight_fits),
            ..another(
                &fused::KERNELS[2],
                backward_weight,
                "tile/conv2d_relu_maxpool2x2_backward_weight_winograd.wgsl.jinja",
                include_str!("../../shaders/tile/conv2d_relu_maxpool2x2_backward_weight_winograd.wgsl.jinja"),
                variant::<SCALARS>("conv2d_relu_maxpool2x2.backward_weight", weight_fits, weight_constants::<SCALARS>),
            )
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::takes;

    #[test]
    fn convolutions_are_taken_where_their_channels_are_whole_blocks() {
        let conv = |in_c, out_c| Conv2dDims::new(2, [9, 10, in_c], out_c, [3, 3], true, true).pooled();
        let d = conv(16, 32);
        // One size past each limit of all three.
        let left = [Conv2dDims { k_h: 5, ..d }, Conv2dDims { k_w: 5, ..d }, Conv2dDims { batch: MAX_GROUPS + 1, ..d }];
        for form in ["tile", "scalars"] {
            let [forward, input, weight] = ["forward", "backward_input", "backward_weight"]
                .map(|entry| format!("conv2d_relu_maxpool2x2.{entry}/winograd_{form}"));
            for key in [&forward, &input, &weight] {
                takes(key, &[d, conv(48, 64), Conv2dDims { batch: MAX_GROUPS, ..d }], &left);
            }
            takes(&forward, &[conv(8, 16)], &[conv(4, 16), conv(16, 24)]);
            takes(&input, &[conv(16, 8)], &[conv(16, 4), conv(24, 16)]);
            takes(&weight, &[], &[conv(8, 32), conv(16, 16), Conv2dDims { out_w: 7, ..d }]);
            let splits = |splits| Conv2dDims { splits, ..d };
            takes(&weight, &[splits(MAX_GROUPS)], &[splits(MAX_GROUPS + 1)]);
            // A tile's workgroups are not folded.
            let wide = |n| Conv2dDims { out_w: 2 * n, out_h: 32, in_w: 2 * n, in_h: 32, ..conv(32, 32) };
            for key in [&forward, &input] {
                takes(key, &[wide(MAX_GROUPS)], &[wide(MAX_GROUPS + 1)]);
            }
        }
    }

    #[test]
    fn every_cut_fits_into_the_least_workgroup_memory() {
        for channels in [16, 32] {
            for w in 1..70 {
                for h in 1..70 {
                    let cut = Cut::new([w, h], channels);
                    assert_eq!(cut.rows() * cut.columns, SUMS);
                    // Terms of rows and columns with their padding, pixels, and the places of the forward pass.
                    let fours = 4 * (4 * cut.rows() + 2 + 4 * cut.columns + 2) + cut.raw() + 32;
                    assert!(16 * fours <= 16_352, "{w} x {h} tiles of {channels} channels");
                }
            }
        }
    }
}
