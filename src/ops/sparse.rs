//! The gradients of conv2d 3x3 + relu + 2x2 max-pool in f32: of a window's four pixels one at most has a gradient, so a product
//! per window, tap and pair of channels is enough, a quarter of what the full-size gradient takes, and none where the relu is
//! closed.
//!
//! Vectors run along the three pixels under a row of the kernel and their input channels, which lie side by side in `x`.

use super::conv2d::{Conv2dDims, Input};
use super::maxpool2x2::DEAD;
use super::simd::{self, CHUNK, vectors, vectors_mut};
use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Kernel height and width.
const K: usize = 3;

/// Rows of x under a row of windows.
const ROWS: usize = K + 1;

/// Sizes of one picture.
#[derive(Clone, Copy)]
struct Sizes {
    in_h: usize,
    in_c: usize,
    out_c: usize,
    pool_h: usize,
    pool_w: usize,
    pad: [usize; 2],
    /// Floats of a row of x, and of it with its padding and something behind.
    line: usize,
    stride: usize,
    /// Floats of three pixels, filled up to whole vectors.
    width: usize,
}

impl Sizes {
    fn new(d: &Conv2dDims) -> Self {
        let [in_h, in_w, in_c, out_h, out_w, out_c] = [d.in_h, d.in_w, d.in_c, d.out_h, d.out_w, d.out_c].map(|n| n as usize);
        Self {
            in_h,
            in_c,
            out_c,
            pool_h: out_h / 2,
            pool_w: out_w / 2,
            pad: [d.pad_top, d.pad_left].map(|n| n as usize),
            line: in_w * in_c,
            stride: ((out_w + K - 1) * in_c).next_multiple_of(CHUNK) + CHUNK,
            width: (K * in_c).next_multiple_of(CHUNK),
        }
    }

    /// Values of a row of windows.
    fn windows(&self) -> usize {
        self.pool_w * self.out_c
    }

    /// Row `k` under the windows' row `py`, if it is a row of the picture and not of its padding.
    fn input_row(&self, py: usize, k: usize) -> Option<usize> {
        (2 * py + k).checked_sub(self.pad[0]).filter(|&y| y < self.in_h)
    }

    /// Where such a row begins in one of `stride`.
    fn left(&self) -> usize {
        self.pad[1] * self.in_c
    }
}

fn fits(arch: Arch, d: &Conv2dDims) -> bool {
    let width = (K * d.in_c as usize).next_multiple_of(CHUNK);
    let vectors = simd::lanes(arch).map(|lanes| width / lanes);
    [d.k_h as usize, d.k_w as usize] == [K, K] && d.pooled_len() > 0 && vectors.is_some_and(|n| n <= 4 || n.is_multiple_of(3))
}

/// Whether [`backward_weight`] takes this convolution on this processor.
pub fn fits_weight(arch: Arch, d: &Conv2dDims) -> bool {
    fits(arch, d)
}

/// Whether [`backward_input`] takes this convolution on this processor.
pub fn fits_input(arch: Arch, d: &Conv2dDims) -> bool {
    (d.in_c as usize).is_multiple_of(CHUNK) && d.out_c.is_multiple_of(8) && fits(arch, d)
}

/// The partial sums of the weight gradient from `x`, the pooled `dy` and its codes.
pub fn backward_weight(arch: Arch, d: &Conv2dDims, x: Input<f32>, dy: &[f32], argmax: &[u32], partial: &mut [f32]) {
    let sizes = Sizes::new(d);
    let Sizes { in_c, out_c, pool_h, width, stride, .. } = sizes;
    let rows_per_split = d.rows_per_split as usize;
    let codes: &[u8] = bytemuck::cast_slice(argmax);
    let rows = d.batch as usize * pool_h;
    partial.par_chunks_mut((K * K * in_c + 1) * out_c).enumerate().for_each(|(s, partial)| {
        let lens = [out_c * K * width, ROWS * stride, 2 * sizes.windows(), out_c, out_c];
        simd::with_scratch(lens, |[sums, under, taken, counts, bias]| {
            for part in [&mut *sums, under, bias] {
                part.fill(0.0);
            }
            for row in s * rows_per_split..((s + 1) * rows_per_split).min(rows) {
                let (n, py) = (row / pool_h, row % pool_h);
                let Some(picture) = d.picture(x, n) else { continue };
                for (k, under) in under.chunks_exact_mut(stride).enumerate().take(ROWS) {
                    let under = &mut under[sizes.left()..][..sizes.line];
                    match sizes.input_row(py, k) {
                        Some(y) => picture.copy_to(y * sizes.line, under),
                        None => under.fill(0.0),
                    }
                }
                let windows = row * sizes.windows()..(row + 1) * sizes.windows();
                let (counts, taken) = (bytemuck::cast_slice_mut(&mut *counts), bytemuck::cast_slice_mut(&mut *taken));
                collect(&sizes, &dy[windows.clone()], &codes[windows], [counts, taken], bias);
                arch.dispatch(WeightRow { sizes, under, counts, taken, sums });
            }
            // From [co][ky][kx][ci] to [ky][kx][ci][co].
            for (i, to) in partial.chunks_exact_mut(out_c).enumerate().take(K * K * in_c) {
                let from = &sums[i / (K * in_c) * width + i % (K * in_c)..];
                for (to, &from) in to.iter_mut().zip(from.iter().step_by(K * width)) {
                    *to = from;
                }
            }
            partial[K * K * in_c * out_c..].copy_from_slice(&bias[..out_c]);
        });
    });
}

/// A living window of one output channel.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Taken {
    /// Where its pixel's patch begins in the rows under the windows.
    at: u32,
    /// Its gradient.
    dy: f32,
}

/// Lists the living windows of a row, channel by channel, and adds their gradients to `bias`.
fn collect(sizes: &Sizes, dy: &[f32], codes: &[u8], [counts, taken]: [&mut [u32]; 2], bias: &mut [f32]) {
    let Sizes { in_c, out_c, pool_w, stride, .. } = *sizes;
    let taken: &mut [Taken] = bytemuck::cast_slice_mut(taken);
    let places = [0, in_c, stride, stride + in_c, 0, 0, 0, 0].map(|at| at as u32);
    let dy = &dy[..codes.len()];
    for (co, (list, count)) in taken.chunks_exact_mut(pool_w).zip(&mut counts[..out_c]).enumerate() {
        let (mut n, mut from, mut i) = (0, 0, co);
        while i < codes.len() {
            let code = codes[i];
            // Written in any case and kept if it lives: cheaper than a branch that nobody can foresee.
            list[n] = Taken { at: from + places[usize::from(code & 7)], dy: dy[i] };
            n += usize::from(u32::from(code) < DEAD);
            from += 2 * in_c as u32;
            i += out_c;
        }
        *count = n as u32;
    }
    for (dy, codes) in dy.chunks_exact(out_c).zip(codes.chunks_exact(out_c)) {
        for (bias, (&dy, &code)) in bias.iter_mut().zip(dy.iter().zip(codes)) {
            *bias += if u32::from(code) < DEAD { dy } else { 0.0 };
        }
    }
}

struct WeightRow<'a> {
    sizes: Sizes,
    under: &'a [f32],
    counts: &'a [u32],
    taken: &'a [u32],
    sums: &'a mut [f32],
}

impl WithSimd for WeightRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as the registers hold: rows of the kernel, vectors per row, and where these are few two of each, for a
        // sum cannot go on before the last addition to it is done.
        match (self.sizes.width / S::F32_LANES, S::REGISTER_COUNT >= 32) {
            (1, _) => self.add::<S, 3, 1, 2>(simd),
            (2, _) => self.add::<S, 3, 2, 1>(simd),
            (3, _) => self.add::<S, 3, 3, 1>(simd),
            (4, _) => self.add::<S, 3, 4, 1>(simd),
            (n, true) if n % 12 == 0 => self.add::<S, 1, 12, 1>(simd),
            (n, true) if n % 6 == 0 => self.add::<S, 3, 6, 1>(simd),
            (n, false) if n % 6 == 0 => self.add::<S, 1, 6, 1>(simd),
            _ => self.add::<S, 3, 3, 1>(simd),
        }
    }
}

impl WeightRow<'_> {
    /// `sums[co][ky][kx, ci] += x[pixel + (ky, kx), ci] * dy[pixel, co]` over the row's living windows: `R` rows of the kernel and
    /// `N` vectors at a time, every sum as `P` that are added up.
    #[inline(always)]
    fn add<S: Simd, const R: usize, const N: usize, const P: usize>(self, simd: S) {
        let Sizes { out_c, pool_w, stride, width, .. } = self.sizes;
        let taken: &[Taken] = bytemuck::cast_slice(self.taken);
        let sums = vectors_mut::<S>(self.sums).as_chunks_mut::<N>().0;
        let blocks = width / (N * S::F32_LANES);
        for co in 0..out_c {
            let list = &taken[co * pool_w..][..self.counts[co] as usize];
            let (turns, rest) = list.as_chunks::<P>();
            for ky in (0..K).step_by(R) {
                for block in 0..blocks {
                    let under = &self.under[ky * stride + block * N * S::F32_LANES..];
                    let mut all = [[[simd.splat_f32s(0.0); N]; R]; P];
                    for r in 0..R {
                        all[0][r] = sums[(co * K + ky + r) * blocks + block];
                    }
                    for turn in turns {
                        for p in 0..P {
                            accumulate::<S, R, N>(simd, under, stride, turn[p], &mut all[p]);
                        }
                    }
                    for one in rest {
                        accumulate::<S, R, N>(simd, under, stride, *one, &mut all[0]);
                    }
                    for r in 0..R {
                        let mut total = all[0][r];
                        for more in &all[1..] {
                            for (total, &more) in total.iter_mut().zip(&more[r]) {
                                *total = simd.add_f32s(*total, more);
                            }
                        }
                        sums[(co * K + ky + r) * blocks + block] = total;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn accumulate<S: Simd, const R: usize, const N: usize>(
    simd: S,
    under: &[f32],
    stride: usize,
    Taken { at, dy }: Taken,
    sums: &mut [[S::f32s; N]; R],
) {
    let dy = simd.splat_f32s(dy);
    for r in 0..R {
        let x: &[S::f32s; N] =
            vectors::<S>(&under[at as usize + r * stride..][..N * S::F32_LANES]).try_into().expect("N vectors");
        for n in 0..N {
            sums[r][n] = simd.mul_add_e_f32s(x[n], dy, sums[r][n]);
        }
    }
}

/// `dx` from the pooled `dy`, its codes and the weights.
pub fn backward_input(arch: Arch, d: &Conv2dDims, [dy, weight]: [&[f32]; 2], argmax: &[u32], dx: &mut [f32]) {
    let sizes = Sizes::new(d);
    let Sizes { in_h, in_c, out_c, pool_h, pool_w, stride, line, .. } = sizes;
    let codes: &[u8] = bytemuck::cast_slice(argmax);
    let windows = pool_h * sizes.windows();
    simd::with_scratch([weight.len()], |[turned]| {
        // From [ky][kx][ci][co] to [ky][co][kx][ci].
        for (i, row) in weight.chunks_exact(out_c).enumerate() {
            let (ky, pixel) = (i / (K * in_c), i % (K * in_c));
            for (co, &w) in row.iter().enumerate() {
                turned[(ky * out_c + co) * K * in_c + pixel] = w;
            }
        }
        let weight = &turned[..weight.len()];
        dx.par_chunks_mut(in_h * line).enumerate().for_each(|(n, dx)| {
            let (dy, codes) = (&dy[n * windows..][..windows], &codes[n * windows..][..windows]);
            // Eight bytes of masks for every place of 64 channels of a window.
            simd::with_scratch([ROWS * stride, 2 * 4 * pool_w * out_c.div_ceil(64)], |[under, masks]| {
                let masks: &mut [[u64; 4]] = bytemuck::cast_slice_mut(masks);
                under.fill(0.0);
                let row = sizes.windows();
                for (py, (dy, codes)) in dy.chunks_exact(row).zip(codes.chunks_exact(row)).enumerate() {
                    for (masks, codes) in masks.chunks_exact_mut(out_c.div_ceil(64)).zip(codes.chunks_exact(out_c)) {
                        for (masks, codes) in masks.iter_mut().zip(codes.chunks(64)) {
                            *masks = places(codes);
                        }
                    }
                    arch.dispatch(InputRow { sizes, dy, masks, weight, under });
                    // No later row of windows reaches the upper two; after the last one the lower two are done as well.
                    let done = if py + 1 == pool_h { ROWS } else { 2 };
                    for k in 0..done {
                        if let Some(y) = sizes.input_row(py, k) {
                            dx[y * line..][..line].copy_from_slice(&under[k * stride + sizes.left()..][..line]);
                        }
                    }
                    under.copy_within(2 * stride..ROWS * stride, 0);
                    under[2 * stride..].fill(0.0);
                }
                // What only an odd last row of outputs has seen.
                let reached = (2 * pool_h + 2).saturating_sub(sizes.pad[0]).min(in_h);
                dx[reached * line..].fill(0.0);
            });
        });
    });
}

/// Which of up to 64 channels have their maximum at each of the four places.
fn places(codes: &[u8]) -> [u64; 4] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut masks = [0; 4];
    for (i, eight) in codes.as_chunks::<8>().0.iter().enumerate() {
        let eight = u64::from_le_bytes(*eight);
        for (place, mask) in (0..).zip(&mut masks) {
            // A byte that differs from the place carries into its highest bit; the product moves bit 8k to bit 56 + k.
            let equal = (!((eight ^ (place * ONES)) + 0x7f * ONES) >> 7) & ONES;
            *mask |= (equal.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
        }
    }
    masks
}

struct InputRow<'a> {
    sizes: Sizes,
    dy: &'a [f32],
    masks: &'a [[u64; 4]],
    weight: &'a [f32],
    under: &'a mut [f32],
}

impl WithSimd for InputRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.sizes.width / S::F32_LANES, S::REGISTER_COUNT >= 32) {
            (n, true) if n % 12 == 0 => self.add::<S, 1, 12>(simd),
            // One row of the kernel at a time: the weights of all three are more than the first-level cache.
            (n, _) if n % 6 == 0 => self.add::<S, 1, 6>(simd),
            _ => self.add::<S, 3, 3>(simd),
        }
    }
}

impl InputRow<'_> {
    /// `dx[pixel + (ky, kx), ci] += weight[ky, co, kx, ci] * dy[pixel, co]` over the row's living windows: `R` rows of the kernel
    /// and `N` vectors at a time.
    #[inline(always)]
    fn add<S: Simd, const R: usize, const N: usize>(self, simd: S) {
        let Sizes { in_c, out_c, pool_w, stride, width, .. } = self.sizes;
        let weight = vectors::<S>(self.weight).as_chunks::<N>().0;
        let (floats, groups) = (N * S::F32_LANES, out_c.div_ceil(64));
        let blocks = width / floats;
        for pass in 0..K / R * blocks {
            let (ky, block) = (pass / blocks * R, pass % blocks);
            for w in 0..pool_w {
                for place in 0..4 {
                    let at = (place / 2 + ky) * stride + (2 * w + place % 2) * in_c + block * floats;
                    let mut sums = [[simd.splat_f32s(0.0); N]; R];
                    for (g, masks) in self.masks[w * groups..][..groups].iter().enumerate() {
                        let dy = &self.dy[w * out_c + 64 * g..];
                        let mut mask = masks[place];
                        while mask != 0 {
                            let co = mask.trailing_zeros() as usize;
                            mask &= mask - 1;
                            let dy = simd.splat_f32s(dy[co]);
                            for r in 0..R {
                                let weight = &weight[((ky + r) * out_c + 64 * g + co) * blocks + block];
                                for n in 0..N {
                                    sums[r][n] = simd.mul_add_e_f32s(weight[n], dy, sums[r][n]);
                                }
                            }
                        }
                    }
                    for (r, sums) in sums.iter().enumerate() {
                        let to = vectors_mut::<S>(&mut self.under[at + r * stride..][..floats]);
                        for (to, &sum) in to.iter_mut().zip(sums) {
                            *to = simd.add_f32s(*to, sum);
                        }
                    }
                }
            }
        }
    }
}
