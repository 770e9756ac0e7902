//! What the fast f32 twins share: vectors whose width is found at run time (`pulp`: AVX-512, AVX2 or NEON without `unsafe`), and
//! scratch memory that a thread keeps.
//!
//! `Arch::dispatch(work)` runs `work.with_simd`, compiled for the instructions found. That and all it calls must be
//! `#[inline(always)]` and without closures, or it is compiled for the narrowest.

use super::maxpool2x2::DEAD;
use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};
use std::cell::RefCell;

/// Channels that are handled as one: a cache line, one AVX-512 vector, two of AVX2. The fast twins take channel counts that are
/// multiples of it.
pub const CHUNK: usize = 16;

/// A cache line, so that scratch memory begins at one: a vector that straddles two costs two loads.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; CHUNK]);

thread_local! {
    /// A piece for each of the works that a thread has begun, one within the other.
    static SCRATCH: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `work` parts of the thread's scratch memory, of `lens` elements or more each, every one at the start of a cache line.
/// What they hold is left from earlier calls.
pub fn with_scratch<T: Pod, const N: usize, R>(lens: [usize; N], work: impl FnOnce([&mut [T]; N]) -> R) -> R {
    // Taken out of its cell: work comes by here within other work, its own or what a thread is given that waits for others.
    let mut lines = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    let lens = lens.map(|len| (len * size_of::<T>()).div_ceil(size_of::<Line>()));
    let all = lens.iter().sum();
    if lines.len() < all {
        lines.resize(all, Line::zeroed());
    }
    let mut rest = &mut lines[..];
    let result = work(lens.map(|len| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        bytemuck::cast_slice_mut(part)
    }));
    SCRATCH.with_borrow_mut(|pieces| pieces.push(lines));
    result
}

/// Floats per vector of these instructions, 4 to 16; `None` where the fast twins have nothing to offer: without vectors, and where
/// the first of four bytes in a word is the highest.
pub fn lanes(arch: Arch) -> Option<usize> {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Some(arch.dispatch(Lanes)).filter(|&lanes| lanes >= 4 && CHUNK.is_multiple_of(lanes) && cfg!(target_endian = "little"))
}

/// The slice as vectors. Its length is a multiple of the lanes.
#[inline(always)]
pub fn vectors<S: Simd>(floats: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(floats).0
}

/// The slice as vectors, to write.
#[inline(always)]
pub fn vectors_mut<S: Simd>(floats: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(floats).0
}

/// relu and 2x2 max-pool of four vectors of sums, in row-major order of the window: the maximum, and the place of the first one, or
/// 4 where it is not positive. The same comparisons as [`super::maxpool2x2::pool_row`], so that NaN goes the same way.
#[inline(always)]
pub fn pool<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> (S::f32s, S::u32s) {
    let zero = simd.splat_f32s(0.0);
    let (mut best, mut code) = (a, simd.splat_u32s(0));
    for (place, v) in [(1, b), (2, c), (3, d)] {
        let later = simd.less_than_f32s(best, v);
        best = simd.select_f32s(later, v, best);
        code = simd.select_u32s(later, simd.splat_u32s(place), code);
    }
    let closed = simd.less_than_f32s(best, zero);
    let alive = simd.less_than_f32s(zero, best);
    (simd.select_f32s(closed, zero, best), simd.select_u32s(alive, code, simd.splat_u32s(DEAD)))
}

/// `max(v, 0)` by a comparison, so that NaN stays NaN.
#[inline(always)]
pub fn relu<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(v, zero), zero, v)
}

/// The instruction sets of this processor that tests go through: the widest and, below AVX-512, AVX2.
#[cfg(test)]
pub fn archs() -> Vec<Arch> {
    #[allow(unused_mut)]
    let mut archs = vec![Arch::new()];
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    archs
}
