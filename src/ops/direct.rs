//! conv2d 3x3 + bias + relu + 2x2 max-pool in f32 on a picture of 4 channels, as the sum is written: with so few inputs the
//! transforms of `winograd` would cost what they save.

use super::conv2d::Conv2dDims;
use super::simd::{self, CHUNK, pool, vectors, vectors_mut};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Channels of the input.
const IN_C: usize = 4;

/// Windows side by side that are computed together: their 12 pixels need every weight once.
const WINDOWS: usize = 3;

/// Floats of one row under [`WINDOWS`] windows.
const SPAN: usize = (2 * WINDOWS + 2) * IN_C;

/// Whether [`forward`] takes this convolution on this processor.
pub fn fits(arch: Arch, d: &Conv2dDims) -> bool {
    [d.k_h, d.k_w] == [3, 3]
        && d.in_c as usize == IN_C
        && (d.out_c as usize).is_multiple_of(CHUNK)
        && d.out_w as usize / 2 >= WINDOWS
        && simd::lanes(arch).is_some()
}

/// The pooled `y` and its codes, a byte each in `argmax`, of all pictures.
pub fn forward(arch: Arch, d: &Conv2dDims, [x, weight, bias]: [&[f32]; 3], y: &mut [f32], argmax: &mut [u32]) {
    let out_c = d.out_c as usize;
    let [pool_h, pool_w] = [d.out_h, d.out_w].map(|n| n as usize / 2);
    let windows = pool_h * pool_w * out_c;
    // A colour picture's fourth channel is padding: nothing to sum up.
    let padding = weight.chunks_exact(IN_C * out_c).all(|w| w[(IN_C - 1) * out_c..].iter().all(|&w| w == 0.0));
    let pictures = y.par_chunks_mut(windows).zip(argmax.par_chunks_mut(windows / 4)).enumerate();
    pictures.for_each_init(Vec::new, |padded, (n, (y, argmax))| {
        let window = d.window(x, n, 0, 2 * pool_h, padded);
        let codes = bytemuck::cast_slice_mut(argmax);
        simd::with_scratch([WINDOWS * out_c], |[wide]| {
            let inputs = [window.data, weight, bias];
            arch.dispatch(Picture { inputs, pitch: window.pitch, padding, row: pool_w * out_c, y, codes, wide });
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
    /// Outputs per row of windows.
    row: usize,
    y: &'a mut [f32],
    codes: &'a mut [u8],
    /// Codes as words.
    wide: &'a mut [f32],
}

impl WithSimd for Picture<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ([x, weight, bias], pitch) = (self.inputs, self.pitch);
        let rows = self.y.chunks_exact_mut(self.row).zip(self.codes.chunks_exact_mut(self.row));
        for (py, (y, codes)) in rows.enumerate() {
            let inputs = [&x[2 * py * pitch * IN_C..], weight, bias];
            if self.padding {
                windows::<S, 3>(simd, inputs, pitch, y, codes, self.wide);
            } else {
                windows::<S, IN_C>(simd, inputs, pitch, y, codes, self.wide);
            }
        }
    }
}

/// A row of windows: `y` and `codes`, `[window][co]`, from the four rows of `x` under it, `[row][pixel][ci]`. The first `IN`
/// channels are summed up.
#[inline(always)]
fn windows<S: Simd, const IN: usize>(
    simd: S,
    [x, weight, bias]: [&[f32]; 3],
    pitch: usize,
    y: &mut [f32],
    codes: &mut [u8],
    wide: &mut [f32],
) {
    let out_c = bias.len();
    let (row, count) = (out_c / S::F32_LANES, y.len() / out_c);
    let (weight, bias, y) = (vectors::<S>(weight), vectors::<S>(bias), vectors_mut::<S>(y));
    let wide: &mut [u32] = &mut bytemuck::cast_slice_mut(wide)[..WINDOWS * out_c];
    for first in (0..count).step_by(WINDOWS) {
        // The last group is moved back to end with the row: it computes a window or two again.
        let first = first.min(count - WINDOWS);
        let mut rows = [&[0.0; SPAN]; 4];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = x[(r * pitch + 2 * first) * IN_C..].first_chunk().expect("the rows reach under every window");
        }
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
            let wide = S::as_mut_simd_u32s(wide).0;
            for t in 0..WINDOWS {
                let [upper, lower] = sums;
                let (best, code) = pool(simd, [upper[2 * t], upper[2 * t + 1], lower[2 * t], lower[2 * t + 1]]);
                y[(first + t) * row + co] = best;
                wide[t * row + co] = code;
            }
        }
        for (code, &wide) in codes[first * out_c..][..WINDOWS * out_c].iter_mut().zip(&*wide) {
            *code = wide as u8;
        }
    }
}
