//! conv2d 3x3 + bias + relu, with a 2x2 max-pool or Grad-CAM's sum behind it, in f32 on a picture of 4 channels, as the sum is written: with so
//! few inputs the transforms of `winograd` would cost what they save.

use super::conv2d::{Conv2dDims, Input};
use super::simd::{self, CHUNK, pool, relu, vectors, vectors_mut};
use pulp::{Arch, Simd, WithSimd};
use rayon::iter::Either;
use rayon::prelude::*;

/// Channels of the input.
const IN_C: usize = 4;

/// Windows side by side that are computed together: their 12 pixels need every weight once.
const WINDOWS: usize = 3;

/// Floats of one row under [`WINDOWS`] windows.
const SPAN: usize = (2 * WINDOWS + 2) * IN_C;

/// Whether [`pooled`] and, if there is a whole window, [`map`] take this convolution on this processor.
pub fn fits(arch: Arch, d: &Conv2dDims) -> bool {
    [d.k_h, d.k_w] == [3, 3]
        && d.in_c as usize == IN_C
        && (d.out_c as usize).is_multiple_of(CHUNK)
        && d.out_w as usize / 2 >= WINDOWS
        && simd::lanes(arch).is_some()
}

/// The pooled `y` and its codes, a byte each in `argmax` if it has any elements, of all pictures.
pub fn pooled(arch: Arch, d: &Conv2dDims, x: Input<f32>, inputs: [&[f32]; 2], y: &mut [f32], argmax: &mut [u32]) {
    let [pool_h, pool_w] = [d.out_h, d.out_w].map(|n| n as usize / 2);
    forward(arch, d, x, inputs, [2 * pool_h, 2 * pool_w], Out::pooled(d, y, argmax));
}

/// The maps of all pictures: with weight and bias the channels' weights, (batch, out_c).
pub fn map(arch: Arch, d: &Conv2dDims, x: Input<f32>, [weight, bias, alpha]: [&[f32]; 3], raw: &mut [f32]) {
    forward(arch, d, x, [weight, bias], [d.out_h, d.out_w].map(|n| n as usize), Out::map(d, alpha, raw));
}

/// What a picture's windows leave.
pub enum Out<'a> {
    /// The maxima of their windows and where these lie, which is empty where no gradient asks for it.
    Pooled(&'a mut [f32], &'a mut [u8]),
    /// With these weights of the channels, each pixel's weighted sum behind the relu.
    Map(&'a [f32], &'a mut [f32]),
}

impl<'a> Out<'a> {
    /// The pictures of a pooled `y` and its codes, which are empty if `argmax` is.
    pub fn pooled(d: &Conv2dDims, y: &'a mut [f32], argmax: &'a mut [u32]) -> impl IndexedParallelIterator<Item = Self> {
        let windows = super::product(&[d.out_h / 2, d.out_w / 2, d.out_c]);
        let codes = if argmax.is_empty() {
            Either::Left((0..d.batch as usize).into_par_iter().map(|_| Default::default()))
        } else {
            Either::Right(argmax.par_chunks_mut(windows / 4).map(bytemuck::cast_slice_mut))
        };
        y.par_chunks_mut(windows).zip(codes).map(|(y, codes)| Out::Pooled(y, codes))
    }

    /// Writes codes, of which each stands in a word, from the `first` byte on; none where no gradient asks for them.
    #[inline(always)]
    pub fn keep_codes(&mut self, first: usize, words: &[u32]) {
        if let Out::Pooled(_, codes) = self
            && !codes.is_empty()
        {
            for (code, &word) in codes[first..][..words.len()].iter_mut().zip(words) {
                *code = word as u8;
            }
        }
    }

    /// The pictures of maps, by their channels' weights.
    pub fn map(d: &Conv2dDims, alpha: &'a [f32], raw: &'a mut [f32]) -> impl IndexedParallelIterator<Item = Self> {
        let maps = raw.par_chunks_mut(super::product(&[d.out_h, d.out_w]));
        maps.zip(alpha.par_chunks(d.out_c as usize)).map(|(raw, alpha)| Out::Map(alpha, raw))
    }
}

fn forward<'a>(
    arch: Arch,
    d: &Conv2dDims,
    x: Input<f32>,
    [weight, bias]: [&[f32]; 2],
    size: [usize; 2],
    pictures: impl IndexedParallelIterator<Item = Out<'a>>,
) {
    let out_c = d.out_c as usize;
    // A colour picture's fourth channel is padding: nothing to sum up.
    let padding = weight.chunks_exact(IN_C * out_c).all(|w| w[(IN_C - 1) * out_c..].iter().all(|&w| w == 0.0));
    let [padded, _] = d.scratch(size[0]);
    pictures.enumerate().for_each(|(n, to)| {
        let Some(picture) = d.picture(x, n) else { return };
        simd::with_scratch([padded, WINDOWS * out_c], |[padded, wide]| {
            let window = d.window(picture, 0, size[0], padded);
            let inputs = [window.data, weight, bias];
            arch.dispatch(Picture { inputs, pitch: window.pitch, padding, size, to, wide });
        });
    });
}

struct Picture<'a> {
    /// `x` with its padding made real, weight, bias.
    inputs: [&'a [f32]; 3],
    /// Pixels per row of `x`.
    pitch: usize,
    /// Whether the last channel of `x` is padding.
    padding: bool,
    /// Height and width of what is computed.
    size: [usize; 2],
    to: Out<'a>,
    /// Codes as words.
    wide: &'a mut [f32],
}

impl WithSimd for Picture<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Picture { inputs: [x, weight, bias], pitch, padding, size: [h, w], mut to, wide } = self;
        let pixel = bias.len();
        for top in (0..h).step_by(2) {
            // An odd last row is computed with the one before it, which is then computed again.
            let top = top.min(h - 2);
            let inputs = [&x[top * pitch * IN_C..], weight, bias];
            let row = match &mut to {
                Out::Pooled(y, codes) => {
                    let (first, len) = (top / 2 * (w / 2) * pixel, w / 2 * pixel);
                    Out::Pooled(&mut y[first..][..len], if codes.is_empty() { &mut [] } else { &mut codes[first..][..len] })
                }
                Out::Map(alpha, raw) => Out::Map(alpha, &mut raw[top * w..][..2 * w]),
            };
            if padding {
                windows::<S, 3>(simd, inputs, [pitch, w], row, wide);
            } else {
                windows::<S, IN_C>(simd, inputs, [pitch, w], row, wide);
            }
        }
    }
}

/// A row of windows, `[window][co]` or `[row][pixel]`, from the four rows of `x` under it, `[row][pixel][ci]`: `pitch` pixels
/// of `x` in each for `w` pixels of the sum. The first `IN` channels are summed up.
#[inline(always)]
fn windows<S: Simd, const IN: usize>(
    simd: S,
    [x, weight, bias]: [&[f32]; 3],
    [pitch, w]: [usize; 2],
    mut to: Out,
    wide: &mut [f32],
) {
    let out_c = bias.len();
    let row = out_c / S::F32_LANES;
    let (weight, bias) = (vectors::<S>(weight), vectors::<S>(bias));
    let wide: &mut [u32] = &mut bytemuck::cast_slice_mut(wide)[..WINDOWS * out_c];
    for first in (0..w).step_by(2 * WINDOWS) {
        // The last group is moved back to end with the row: it computes some pixels again.
        let first = first.min(w - 2 * WINDOWS);
        let mut rows = [&[0.0; SPAN]; 4];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = x[(r * pitch + first) * IN_C..].first_chunk().expect("the rows reach under every window");
        }
        let mut totals = [[simd.splat_f32s(0.0); 2 * WINDOWS]; 2];
        for co in 0..row {
            // [row of the window][pixel]
            let mut sums = [[bias[co]; 2 * WINDOWS]; 2];
            for ky in 0..3 {
                for kx in 0..3 {
                    for ci in 0..IN {
                        let w = weight[((3 * ky + kx) * IN_C + ci) * row + co];
                        for a in 0..2 {
                            for b in 0..2 * WINDOWS {
                                let x = simd.splat_f32s(rows[ky + a][(kx + b) * IN_C + ci]);
                                sums[a][b] = simd.mul_add_e_f32s(x, w, sums[a][b]);
                            }
                        }
                    }
                }
            }
            match &mut to {
                Out::Pooled(y, codes) => {
                    let (y, wide) = (vectors_mut::<S>(y), S::as_mut_simd_u32s(wide).0);
                    for t in 0..WINDOWS {
                        let [upper, lower] = sums;
                        let (best, code) = pool(simd, [upper[2 * t], upper[2 * t + 1], lower[2 * t], lower[2 * t + 1]]);
                        y[(first / 2 + t) * row + co] = best;
                        if !codes.is_empty() {
                            wide[t * row + co] = code;
                        }
                    }
                }
                Out::Map(alpha, _) => {
                    let alpha = vectors::<S>(alpha)[co];
                    for (totals, sums) in totals.iter_mut().zip(sums) {
                        for (total, z) in totals.iter_mut().zip(sums) {
                            *total = simd.mul_add_e_f32s(alpha, relu(simd, z), *total);
                        }
                    }
                }
            }
        }
        if let Out::Map(_, raw) = &mut to {
            for (a, totals) in totals.into_iter().enumerate() {
                for (raw, total) in raw[a * w + first..].iter_mut().zip(totals) {
                    *raw = simd.reduce_sum_f32s(total);
                }
            }
        }
        to.keep_codes(first / 2 * out_c, wide);
    }
}
