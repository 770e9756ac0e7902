//! 2x2 max-pooling of stride 2, valid (Keras `MaxPooling2D((2, 2))`): `shaders/maxpool2x2.wgsl`.
//!
//! `y = max of the window`; the gradient goes to the first maximum in row-major order, as TensorFlow routes it on every one of
//! its CPU paths. `argmax` keeps that place, 0..=3, a byte per channel.
//!
//! Every plan plays it fused with its convolution ([`super::conv2d_relu_maxpool2x2`]); by itself it is what that one is compared with.

use super::conv2d_relu_maxpool2x2::places;
use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, PLACES_WGSL, Real, SLICE_WGSL, grid, no_loops, random_input};
use rayon::prelude::*;

crate::dims! {
    /// Sizes of one pooling.
    pub struct MaxPoolDims {
        /// Pictures.
        batch,
        /// Input height.
        in_h,
        /// Input width.
        in_w,
        /// Channels, a multiple of 4.
        c,
    }
}

impl MaxPoolDims {
    fn in_len(&self) -> usize {
        product(&[self.batch, self.in_h, self.in_w, self.c])
    }
    fn out_len(&self) -> usize {
        product(&[self.batch, self.in_h / 2, self.in_w / 2, self.c])
    }
}

const SOURCE: &str = include_str!("../../shaders/maxpool2x2.wgsl");

fn in_len(d: &[u32]) -> usize {
    MaxPoolDims::of(d).in_len()
}
fn out_len(d: &[u32]) -> usize {
    MaxPoolDims::of(d).out_len()
}
fn argmax_len(d: &[u32]) -> usize {
    MaxPoolDims::of(d).out_len() / 4
}

fn cases() -> Vec<Vec<u32>> {
    [[1, 2, 2, 4], [1, 3, 5, 4], [2, 9, 7, 12], [1, 126, 126, 16], [1, 61, 61, 32], [3, 28, 28, 64]]
        .map(|[batch, in_h, in_w, c]| MaxPoolDims { batch, in_h, in_w, c }.words())
        .to_vec()
}

fn cost(d: &[u32]) -> Cost {
    let d = MaxPoolDims::of(d);
    Cost { flops: 0.0, bytes: (4 * (d.in_len() + d.out_len()) + d.out_len()) as f64 }
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "maxpool2x2.forward",
        variant: None,
        formula: "y[n,py,px,c] = max of x[n, 2py..2py+2, 2px..2px+2, c]; argmax = the first maximum's place in row-major order",
        file: "maxpool2x2.wgsl",
        source: SOURCE,
        shared: &[SLICE_WGSL, PLACES_WGSL],
        entry: "forward",
        dims: MaxPoolDims::FIELDS,
        step: false,
        bindings: &[Binding::read("x", in_len), Binding::write("y", out_len), Binding::write("argmax", argmax_len).words()],
        grid: |d| grid(MaxPoolDims::of(d).out_len() / 4),
        loops: no_loops,
        cost,
        made: 1.0,
        twin: crate::twin!(forward),
        bound: Bound::Twin(|_| 0.0),
        cases,
        input: random_input,
    },
    Kernel {
        key: "maxpool2x2.backward",
        variant: None,
        formula: "dx[n,y,x,c] = dy of its window where argmax points at (y,x), else 0",
        file: "maxpool2x2.wgsl",
        source: SOURCE,
        shared: &[SLICE_WGSL, PLACES_WGSL],
        entry: "backward",
        dims: MaxPoolDims::FIELDS,
        step: false,
        bindings: &[Binding::read("dy", out_len), Binding::read("taken", argmax_len).words(), Binding::write("dx", in_len)],
        grid: |d| grid(MaxPoolDims::of(d).in_len() / 4),
        loops: no_loops,
        cost,
        made: 1.0,
        twin: crate::twin!(backward),
        bound: Bound::Twin(|_| 0.0),
        cases,
        input: |d, name, seed| (name == "taken").then(|| places(argmax_len(d), seed)),
    },
];

/// The code of a window that the relu has closed: no place of it has a gradient.
pub(super) const DEAD: u32 = 4;

/// Pools two rows of pixels of `c` channels into one row of windows and their codes. With `relu` a window without a positive
/// value is dead: 0, code 4.
pub(super) fn pool_row<T: Real>([upper, lower]: [&[T]; 2], c: usize, relu: bool, y: &mut [T], argmax: &mut [u32]) {
    let windows = upper.chunks_exact(2 * c).zip(lower.chunks_exact(2 * c));
    for ((y, argmax), (upper, lower)) in y.chunks_exact_mut(c).zip(argmax.chunks_exact_mut(c / 4)).zip(windows) {
        let ((a, b), (e, f)) = (upper.split_at(c), lower.split_at(c));
        // Four channels to a word of codes, and branch-free, so that the compiler makes vector code of it.
        for (word, (k, y)) in argmax.iter_mut().zip(y.chunks_exact_mut(4).enumerate()) {
            *word = 0;
            for (lane, y) in y.iter_mut().enumerate() {
                let ch = 4 * k + lane;
                let (mut best, mut code) = (a[ch], 0);
                for (place, v) in [(1, b[ch]), (2, e[ch]), (3, f[ch])] {
                    // Strictly greater: the first maximum stays.
                    let later = v > best;
                    best = if later { v } else { best };
                    code = if later { place } else { code };
                }
                // A comparison instead of max(): relu(NaN) must stay NaN.
                *y = if relu && best < T::zero() { T::zero() } else { best };
                *word |= (if !relu || best > T::zero() { code } else { DEAD }) << (8 * lane);
            }
        }
    }
}

/// Writes `dx` (full size): the pooled gradient at the place that the codes name, zero elsewhere. Code 4 names no place.
pub(super) fn route<T: Real>(
    [in_h, in_w]: [usize; 2],
    [pool_h, pool_w]: [usize; 2],
    c: usize,
    dy: &[T],
    argmax: &[u32],
    dx: &mut [T],
) {
    let (row, windows) = (in_w * c, pool_w * c);
    dx.par_chunks_mut(in_h * row).enumerate().for_each(|(n, dx)| {
        // The odd last row and column belong to no window.
        dx[2 * pool_h * row..].fill(T::zero());
        for (py, rows) in dx.chunks_exact_mut(2 * row).take(pool_h).enumerate() {
            let start = (n * pool_h + py) * windows;
            let pooled = dy[start..start + windows].chunks_exact(c);
            let codes = argmax[start / 4..(start + windows) / 4].chunks_exact(c / 4);
            let (upper, lower) = rows.split_at_mut(row);
            upper[2 * windows..].fill(T::zero());
            lower[2 * windows..].fill(T::zero());
            let pixels = upper.chunks_exact_mut(2 * c).zip(lower.chunks_exact_mut(2 * c));
            for (((upper, lower), dy), codes) in pixels.zip(pooled).zip(codes) {
                let ((a, b), (e, f)) = (upper.split_at_mut(c), lower.split_at_mut(c));
                // Four channels to a word of codes, and branch-free, so that the compiler makes vector code of it.
                let out = a.chunks_exact_mut(4).zip(b.chunks_exact_mut(4)).zip(e.chunks_exact_mut(4)).zip(f.chunks_exact_mut(4));
                for ((((a, b), e), f), (dy, word)) in out.zip(dy.chunks_exact(4).zip(codes)) {
                    for lane in 0..4 {
                        let place = word >> (8 * lane) & 7;
                        let v = dy[lane];
                        a[lane] = if place == 0 { v } else { T::zero() };
                        b[lane] = if place == 1 { v } else { T::zero() };
                        e[lane] = if place == 2 { v } else { T::zero() };
                        f[lane] = if place == 3 { v } else { T::zero() };
                    }
                }
            }
        }
    });
}

fn forward<T: Real>(call: &mut Call<T>) {
    let d: MaxPoolDims = call.dims();
    let x = call.read(0);
    let (in_h, in_w, c) = (d.in_h as usize, d.in_w as usize, d.c as usize);
    let (pool_h, windows) = (in_h / 2, in_w / 2 * c);
    let row = in_w * c;
    let [y, argmax] = call.writes else { panic!("forward writes two buffers") };
    y.f_mut()[..d.out_len()]
        .par_chunks_mut(windows)
        .zip(argmax.u_mut()[..d.out_len() / 4].par_chunks_mut(windows / 4))
        .enumerate()
        .for_each(|(i, (y, argmax))| {
            let from = (i / pool_h * in_h + i % pool_h * 2) * row;
            pool_row([&x[from..from + row], &x[from + row..from + 2 * row]], c, false, y, argmax);
        });
}

fn backward<T: Real>(call: &mut Call<T>) {
    let d: MaxPoolDims = call.dims();
    let (dy, argmax) = (call.read(0), call.reads[1].u());
    let size = [d.in_h as usize, d.in_w as usize];
    let dx = &mut call.writes[0].f_mut()[..d.in_len()];
    route(size, size.map(|n| n / 2), d.c as usize, dy, argmax, dx);
}
