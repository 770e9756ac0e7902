//! conv2d 3x3 + bias + relu, with a 2x2 max-pool or Grad-CAM's sum behind it, in f32 by Winograd's F(2x2, 3x3) (Lavin and Gray 2016): 16 products
//! for the 36 of four pixels.
//!
//! `z = A^T [sum_ci (G w G^T) * (B^T x B)] A` for a patch `x` of 4x4 pixels; the 2x2 results are one pooling window, so with a
//! pool they never leave the registers. `B` and `A` hold only 0 and +-1, `G` also halves: on small integers all of it is exact.

use super::conv2d::{Conv2dDims, Input};
use super::direct::Out;
use super::simd::{self, CHUNK, pool, relu, vectors, vectors_mut};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Elements of a transformed patch of 4x4 pixels.
const POINTS: usize = 16;

/// Patches that are multiplied together: with two vectors of output channels their sums fill AVX-512's 32 registers.
const TILES: usize = 12;

/// Whether [`pooled`] and, if there is a whole window, [`map`] take this convolution on this processor.
pub fn fits(arch: Arch, d: &Conv2dDims) -> bool {
    let chunks = |channels: u32| (channels as usize).is_multiple_of(CHUNK);
    [d.k_h, d.k_w] == [3, 3] && chunks(d.in_c) && chunks(d.out_c) && simd::lanes(arch).is_some()
}

/// The pooled `y` and its codes, a byte each in `argmax` if it has any elements, of all pictures.
pub fn pooled(arch: Arch, d: &Conv2dDims, x: Input<f32>, inputs: [&[f32]; 2], y: &mut [f32], argmax: &mut [u32]) {
    let size = [d.out_h, d.out_w].map(|n| n as usize / 2);
    forward(arch, d, x, inputs, size, Out::pooled(d, y, argmax));
}

/// The maps of all pictures: with weight and bias the channels' weights, (batch, out_c). Where a size is odd the last
/// windows are moved back and compute a row or column again.
pub fn map(arch: Arch, d: &Conv2dDims, x: Input<f32>, [weight, bias, alpha]: [&[f32]; 3], raw: &mut [f32]) {
    let size = [d.out_h, d.out_w].map(|n| n.div_ceil(2) as usize);
    forward(arch, d, x, [weight, bias], size, Out::map(d, alpha, raw));
}

fn forward<'a>(
    arch: Arch,
    d: &Conv2dDims,
    x: Input<f32>,
    [weight, bias]: [&[f32]; 2],
    size: [usize; 2],
    pictures: impl IndexedParallelIterator<Item = Out<'a>>,
) {
    let (in_c, out_c) = (d.in_c as usize, d.out_c as usize);
    let out = [d.out_h, d.out_w].map(|n| n as usize);
    simd::with_scratch([POINTS * in_c * out_c], |[u]| {
        arch.dispatch(Weights { weight, out_c, u });
        let u = &*u;
        let rows = out[0].min(2 * size[0]);
        let [padded, _] = d.scratch(rows);
        pictures.enumerate().for_each(|(n, to)| {
            let Some(picture) = d.picture(x, n) else { return };
            let lens = [padded, POINTS * in_c * TILES, POINTS * TILES * out_c, TILES * out_c];
            simd::with_scratch(lens, |[padded, scratch @ ..]| {
                let window = d.window(picture, 0, rows, padded);
                let sizes = Sizes { pitch: window.pitch, in_c, out_c, windows: size[0] * size[1], row: size[1], out };
                arch.dispatch(Picture { sizes, inputs: [window.data, u, bias], to, scratch });
            });
        });
    });
}

struct Weights<'a> {
    weight: &'a [f32],
    out_c: usize,
    u: &'a mut [f32],
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        weights(simd, self.weight, self.out_c, self.u);
    }
}

struct Sizes {
    /// Pixels per row of `x`.
    pitch: usize,
    in_c: usize,
    out_c: usize,
    windows: usize,
    /// Windows per row.
    row: usize,
    /// Height and width of the output before the pool.
    out: [usize; 2],
}

impl Sizes {
    /// The first pixel of a window.
    #[inline(always)]
    fn corner(&self, window: usize) -> [usize; 2] {
        let [h, w] = self.out;
        [(2 * (window / self.row)).min(h - 2), (2 * (window % self.row)).min(w - 2)]
    }
}

struct Picture<'a> {
    sizes: Sizes,
    /// `x` with its padding made real, the transformed weights, the bias.
    inputs: [&'a [f32]; 3],
    to: Out<'a>,
    /// Transformed patches, their products, codes as words.
    scratch: [&'a mut [f32]; 3],
}

impl WithSimd for Picture<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        picture(simd, &self.sizes, self.inputs, self.to, self.scratch);
    }
}

/// `G` of three values: rows (1, 0, 0), (1, 1, 1) / 2, (1, -1, 1) / 2, (0, 0, 1).
#[inline(always)]
fn spread<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = simd.splat_f32s(0.5);
    let outer = simd.add_f32s(a, c);
    [a, simd.mul_f32s(half, simd.add_f32s(outer, b)), simd.mul_f32s(half, simd.sub_f32s(outer, b)), c]
}

/// `G w G^T` from weights `[ky][kx][ci][co]`, in the order in which [`point`] multiplies by it: `[point][pair of vectors][ci][co]`, the last
/// vector alone if their number is odd.
#[inline(always)]
fn weights<S: Simd>(simd: S, weight: &[f32], out_c: usize, u: &mut [f32]) {
    let n = weight.len() / 9 / S::F32_LANES;
    let (w, u) = (vectors::<S>(weight), vectors_mut::<S>(u));
    let row = out_c / S::F32_LANES;
    for i in 0..n {
        let (ci, co) = (i / row, i % row);
        let pair = co / 2 * 2;
        let to = pair * (n / row) + ci * (row - pair).min(2) + co % 2;
        let mut rows = [[simd.splat_f32s(0.0); 4]; 3];
        for (ky, row) in rows.iter_mut().enumerate() {
            *row = spread(simd, [w[3 * ky * n + i], w[(3 * ky + 1) * n + i], w[(3 * ky + 2) * n + i]]);
        }
        for column in 0..4 {
            let points = spread(simd, [rows[0][column], rows[1][column], rows[2][column]]);
            for row in 0..4 {
                u[(4 * row + column) * n + to] = points[row];
            }
        }
    }
}

/// `B^T` of four values.
#[inline(always)]
fn differ<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

/// `B^T d B` of one vector of channels: 4x4 pixels, each row turned already, to 16 points.
#[inline(always)]
fn patch<S: Simd>(simd: S, rows: [[S::f32s; 4]; 4]) -> [S::f32s; POINTS] {
    let mut points = [simd.splat_f32s(0.0); POINTS];
    for k in 0..4 {
        let column = differ(simd, [rows[0][k], rows[1][k], rows[2][k], rows[3][k]]);
        for r in 0..4 {
            points[4 * r + k] = column[r];
        }
    }
    points
}

/// `A^T` of four values.
#[inline(always)]
fn gather<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(a, simd.add_f32s(b, c)), simd.sub_f32s(simd.sub_f32s(b, c), d)]
}

/// `m[tile] = v[tile] u` for `MR` tiles from `first` and `NR` vectors of output channels from `co`. `v` is `[chunk][tile][ci]`, `u`
/// `[ci][co]` of these, `m` `[tile][co]` of `row` vectors.
#[inline(always)]
fn product<S: Simd, const MR: usize, const NR: usize>(
    simd: S,
    v: &[[[f32; CHUNK]; TILES]],
    u: &[S::f32s],
    m: &mut [S::f32s],
    [first, co, row]: [usize; 3],
) {
    let mut sums = [[simd.splat_f32s(0.0); NR]; MR];
    for (v, u) in v.iter().zip(u.as_chunks::<NR>().0.as_chunks::<CHUNK>().0) {
        let v: &[[f32; CHUNK]; MR] = v[first..first + MR].try_into().expect("a group holds the tiles");
        for (c, u) in u.iter().enumerate() {
            for t in 0..MR {
                let v = simd.splat_f32s(v[t][c]);
                for n in 0..NR {
                    sums[t][n] = simd.mul_add_e_f32s(v, u[n], sums[t][n]);
                }
            }
        }
    }
    for (t, sums) in sums.iter().enumerate() {
        m[(first + t) * row + co..][..NR].copy_from_slice(sums);
    }
}

/// All tiles and output channels of one point.
#[inline(always)]
fn point<S: Simd>(simd: S, v: &[[[f32; CHUNK]; TILES]], u: &[S::f32s], m: &mut [S::f32s], row: usize) {
    let in_c = v.len() * CHUNK;
    let mut co = 0;
    while co + 2 <= row {
        let u = &u[co * in_c..][..2 * in_c];
        if S::REGISTER_COUNT >= 32 {
            product::<S, 12, 2>(simd, v, u, m, [0, co, row]);
        } else {
            product::<S, 6, 2>(simd, v, u, m, [0, co, row]);
            product::<S, 6, 2>(simd, v, u, m, [6, co, row]);
        }
        co += 2;
    }
    if co < row {
        product::<S, 12, 1>(simd, v, &u[co * in_c..], m, [0, co, row]);
    }
}

/// One picture: `[window][co]` or `[row][pixel]` from `x`, `[row][pixel][ci]`, and `u` of [`weights`].
#[inline(always)]
fn picture<S: Simd>(simd: S, sizes: &Sizes, [x, u, bias]: [&[f32]; 3], mut to: Out, [v, m, wide]: [&mut [f32]; 3]) {
    let Sizes { pitch, in_c, out_c, windows, .. } = *sizes;
    let (lanes, chunks) = (S::F32_LANES, in_c / CHUNK);
    let (row, per_chunk) = (out_c / lanes, CHUNK / lanes);
    let (x, u, bias) = (vectors::<S>(x), vectors::<S>(u), vectors::<S>(bias));
    let (pixel, line) = (in_c / lanes, pitch * in_c / lanes);
    let m = vectors_mut::<S>(m);
    let wide: &mut [u32] = &mut bytemuck::cast_slice_mut(wide)[..TILES * out_c];
    for first in (0..windows).step_by(TILES) {
        let count = TILES.min(windows - first);
        {
            let v = vectors_mut::<S>(v);
            for t in 0..count {
                let [oy, ox] = sizes.corner(first + t);
                let at = oy * line + ox * pixel;
                for i in 0..pixel {
                    let mut rows = [[simd.splat_f32s(0.0); 4]; 4];
                    for (r, row) in rows.iter_mut().enumerate() {
                        let x = &x[at + r * line + i..][..3 * pixel + 1];
                        *row = differ(simd, [x[0], x[pixel], x[2 * pixel], x[3 * pixel]]);
                    }
                    let (chunk, part) = (i / per_chunk, i % per_chunk);
                    let points = patch(simd, rows);
                    for p in 0..POINTS {
                        v[((p * chunks + chunk) * TILES + t) * per_chunk + part] = points[p];
                    }
                }
            }
        }
        let tiles = v.as_chunks::<CHUNK>().0.as_chunks::<TILES>().0;
        for p in 0..POINTS {
            let u = &u[p * in_c * row..][..in_c * row];
            point(simd, &tiles[p * chunks..][..chunks], u, &mut m[p * TILES * row..][..TILES * row], row);
        }
        let all = S::as_mut_simd_u32s(wide).0;
        for t in 0..count {
            let [oy, ox] = sizes.corner(first + t);
            let mut totals = [simd.splat_f32s(0.0); 4];
            for co in 0..row {
                let mut rows = [[simd.splat_f32s(0.0); 2]; 4];
                for (r, row_of) in rows.iter_mut().enumerate() {
                    let m = &m[(4 * r * TILES + t) * row + co..][..3 * TILES * row + 1];
                    *row_of = gather(simd, [m[0], m[TILES * row], m[2 * TILES * row], m[3 * TILES * row]]);
                }
                let mut z = [bias[co]; 4];
                for k in 0..2 {
                    let column = gather(simd, [rows[0][k], rows[1][k], rows[2][k], rows[3][k]]);
                    z[k] = simd.add_f32s(column[0], z[k]);
                    z[2 + k] = simd.add_f32s(column[1], z[2 + k]);
                }
                match &mut to {
                    Out::Pooled(y, codes) => {
                        let (best, code) = pool(simd, z);
                        vectors_mut::<S>(y)[(first + t) * row + co] = best;
                        if !codes.is_empty() {
                            all[t * row + co] = code;
                        }
                    }
                    Out::Map(alpha, _) => {
                        let alpha = vectors::<S>(alpha)[co];
                        for (total, z) in totals.iter_mut().zip(z) {
                            *total = simd.mul_add_e_f32s(alpha, relu(simd, z), *total);
                        }
                    }
                }
            }
            if let Out::Map(_, raw) = &mut to {
                for (k, &total) in totals.iter().enumerate() {
                    raw[(oy + k / 2) * sizes.out[1] + ox + k % 2] = simd.reduce_sum_f32s(total);
                }
            }
        }
        to.keep_codes(first * out_c, &wide[..count * out_c]);
    }
}
