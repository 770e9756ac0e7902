//! conv2d + bias + relu + 2x2 max-pool in one op: `shaders/conv2d_relu_maxpool2x2.wgsl`, `.._backward.wgsl`.
//!
//! Nobody needs the full-size activation, only the pooled value and, where a gradient follows, which of the
//! four pixels it came from. Ties go to the first maximum in row-major order, as in TensorFlow. The gradients take the pooled
//! gradient and the places: the one before the relu, three quarters and more of it zeros, is never stored.

use super::conv2d::{self, BLOCK_WGSL, Conv2dDims, INPUT_BLOCK_WGSL, Input, X_AT_WGSL};
use super::maxpool2x2::{self, pool_row, route};
use super::product;
use super::simd::with_scratch;
use super::{direct, sparse, winograd};
use crate::kernel::{
    Binding, Bound, Buffer, Call, Dims, Kernel, OF_TAKEN_PLACES, PLACES_WGSL, POOLED_WINDOW_WGSL, Real, SLICE_WGSL,
    STORE_WINDOW_WGSL, Twin, Values, grid,
};
use pulp::Arch;
use rayon::prelude::*;

pub(super) const POOLED_GRADIENT_WGSL: &str = include_str!("../../shaders/shared/pooled_gradient.wgsl");
pub(super) const POOLED_BLOCK_WGSL: &str = include_str!("../../shaders/shared/pooled_block.wgsl");
const BACKWARD_SOURCE: &str = include_str!("../../shaders/conv2d_relu_maxpool2x2_backward.wgsl");
/// What that file refers to.
const BACKWARD_SHARED: &[&str] = &[SLICE_WGSL, X_AT_WGSL, PLACES_WGSL, POOLED_GRADIENT_WGSL, INPUT_BLOCK_WGSL];

/// An invocation takes one of [`POOLED_BLOCK_WGSL`]'s blocks.
pub(super) fn pooled_blocks(d: &[u32]) -> [u32; 3] {
    let d = Conv2dDims::of(d);
    grid(product(&[d.batch, d.out_h / 2, (d.out_w / 2).div_ceil(2), (d.out_c / 4).div_ceil(2)]))
}

fn pooled_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).pooled_len()
}
fn argmax_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).places_len()
}

/// The cases of a forward kernel: these, and the first one of every number of filters as evaluation plays it.
pub(super) fn with_evaluation(cases: &[Conv2dDims]) -> Vec<Conv2dDims> {
    let firsts = cases.iter().enumerate().filter(|(i, d)| cases[..*i].iter().all(|before| before.out_c != d.out_c));
    cases.iter().copied().chain(firsts.map(|(_, d)| d.without_gradient())).collect()
}

/// The same as words.
pub(super) fn forward_cases(cases: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    let cases: Vec<Conv2dDims> = cases.iter().map(|d| *Conv2dDims::of(d)).collect();
    with_evaluation(&cases).iter().map(Dims::words).collect()
}

/// The convolution's shapes that have a whole window.
fn cases() -> Vec<Vec<u32>> {
    conv2d::cases().iter().map(|d| Conv2dDims::of(d).pooled()).filter(|d| d.pooled_len() > 0).map(|d| d.words()).collect()
}

/// Window codes 0..=3 in every byte, as a pooling leaves them.
pub(super) fn places(len: usize, seed: u32) -> Values {
    Values::U((0..len as u32).map(|i| crate::rng::hash3(seed, 77, i) & 0x0303_0303).collect())
}

/// The same with a third or so of the windows dead, as the relu leaves them.
pub(super) fn codes(len: usize, seed: u32) -> Values {
    let Values::U(mut words) = places(len, seed) else { unreachable!("places are words") };
    for (i, word) in (0..).zip(&mut words) {
        let alive = crate::rng::hash3(seed, 78, i).to_le_bytes();
        let mut bytes = word.to_le_bytes();
        bytes.iter_mut().zip(alive).filter(|(_, a)| *a < 85).for_each(|(b, _)| *b = maxpool2x2::DEAD as u8);
        *word = u32::from_le_bytes(bytes);
    }
    Values::U(words)
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "conv2d_relu_maxpool2x2.forward",
        variant: None,
        formula: "y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co]; argmax = its place in the window, row-major, or 4 if y is 0, where a gradient follows (splits > 0)",
        file: "conv2d_relu_maxpool2x2.wgsl",
        source: include_str!("../../shaders/conv2d_relu_maxpool2x2.wgsl"),
        shared: &[SLICE_WGSL, X_AT_WGSL, BLOCK_WGSL, POOLED_WINDOW_WGSL, STORE_WINDOW_WGSL, POOLED_BLOCK_WGSL],
        entry: "forward",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("x", conv2d::x_len),
            Binding::read("weight", conv2d::weight_len),
            Binding::read("bias", conv2d::bias_len),
            Binding::write("y", pooled_len),
            Binding::write("argmax", argmax_len).words(),
        ],
        grid: pooled_blocks,
        loops: |d| Conv2dDims::of(d).tap_passes(Conv2dDims::of(d).in_c),
        cost: |d| {
            let conv = Conv2dDims::of(d);
            conv.cost(conv.x_len() + conv.weight_len() + conv.pooled_len() + argmax_len(d))
        },
        made: 1.0,
        twin: Twin { f32: forward_f32, f64: forward },
        bound: Bound::Twin(|d| Conv2dDims::of(d).taps() as f64 + 2.0),
        cases: || forward_cases(cases()),
        input: crate::kernel::random_input,
    },
    Kernel {
        key: "conv2d_relu_maxpool2x2.backward_input",
        variant: None,
        formula: "dx[n,iy,ix,ci] = sum_{ky,kx,co} dz[n, iy+pad_top-ky, ix+pad_left-kx, co] * weight[ky,kx,ci,co]",
        file: "conv2d_relu_maxpool2x2_backward.wgsl",
        source: BACKWARD_SOURCE,
        shared: BACKWARD_SHARED,
        entry: "backward_input",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("dy", pooled_len),
            Binding::read("argmax", argmax_len).words(),
            Binding::read("weight", conv2d::weight_len),
            Binding::write("dx", conv2d::x_len),
        ],
        grid: conv2d::input_blocks,
        loops: |d| Conv2dDims::of(d).tap_passes(Conv2dDims::of(d).out_c),
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.weight_len() + d.pooled_len() + d.pooled_len() / 4)
        },
        made: 1.0,
        twin: Twin { f32: backward_input_f32, f64: backward_input },
        bound: Bound::Twin(conv2d::input_roundings),
        cases,
        input: |d, name, seed| (name == "argmax").then(|| codes(argmax_len(d), seed)),
    },
    Kernel {
        key: "conv2d_relu_maxpool2x2.backward_weight",
        variant: None,
        formula: "partial[s,ky,kx,ci,co] = sum over split s's rows of windows of x under the taken place, shifted by the tap, [ci] * dy[window,co]",
        file: "conv2d_relu_maxpool2x2_backward.wgsl",
        source: BACKWARD_SOURCE,
        shared: BACKWARD_SHARED,
        entry: "backward_weight",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("x", conv2d::x_len),
            Binding::read("pooled_dy", pooled_len),
            Binding::read("taken", argmax_len).words(),
            Binding::write("partial", conv2d::partial_len),
        ],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid(product(&[d.out_c / 4, d.in_c / 4, d.k_w.div_ceil(3), d.k_h, d.splits]))
        },
        loops: |d| Conv2dDims::of(d).row_passes(Conv2dDims::of(d).out_w / 2),
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.pooled_len() + d.pooled_len() / 4 + d.partial_len())
        },
        made: OF_TAKEN_PLACES,
        twin: Twin { f32: backward_weight_f32, f64: backward_weight },
        bound: Bound::Twin(|d| {
            let d = Conv2dDims::of(d);
            f64::from(d.rows_per_split * (d.out_w / 2)) + 1.0
        }),
        cases,
        input: |d, name, seed| (name == "taken").then(|| codes(argmax_len(d), seed)),
    },
];

/// The `--device cpu` path: the same sums with fewer products, where the shape allows it.
fn forward_f32(call: &mut Call<f32>) {
    forward_on(Arch::new(), call);
}

fn forward_on(arch: Arch, call: &mut Call<f32>) {
    let d: Conv2dDims = call.dims();
    let (x, inputs) = (Input::Floats(call.read(0)), [call.read(1), call.read(2)]);
    let [y, argmax] = call.writes else { panic!("forward writes two buffers") };
    forward_of(arch, &d, x, inputs, [y, argmax]);
}

/// The same for either kind of input, with weight and bias.
pub(super) fn forward_of(arch: Arch, d: &Conv2dDims, x: Input<f32>, inputs: [&[f32]; 2], writes: [&mut Buffer<f32>; 2]) {
    let fast = if winograd::fits(arch, d) {
        winograd::pooled
    } else if direct::fits(arch, d) {
        direct::pooled
    } else {
        return sum_up(d, x, inputs, writes);
    };
    let [weight, bias] = inputs;
    let inputs = [&weight[..d.weight_len()], &bias[..d.out_c as usize]];
    let [y, argmax] = writes;
    let len = d.pooled_len();
    fast(arch, d, x, inputs, &mut y.f_mut()[..len], &mut argmax.u_mut()[..d.places_len()]);
}

fn forward<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (x, inputs) = (Input::Floats(call.read(0)), [call.read(1), call.read(2)]);
    let [y, argmax] = call.writes else { panic!("forward writes two buffers") };
    sum_up(&d, x, inputs, [y, argmax]);
}

/// The sums as they are written, for either kind of input.
pub(super) fn sum_up<T: Real>(d: &Conv2dDims, x: Input<T>, inputs: [&[T]; 2], [y, argmax]: [&mut Buffer<T>; 2]) {
    let (y, places) = (&mut y.f_mut()[..d.pooled_len()], d.pooled_len() / 4);
    match d.splits {
        // Nobody reads the places.
        0 => with_scratch([places], |[unread]| sum_up_to(d, x, inputs, y, &mut unread[..places])),
        _ => sum_up_to(d, x, inputs, y, &mut argmax.u_mut()[..places]),
    }
}

fn sum_up_to<T: Real>(d: &Conv2dDims, x: Input<T>, [weight, bias]: [&[T]; 2], y: &mut [T], argmax: &mut [u32]) {
    let (pool_h, pool_w, c) = ((d.out_h / 2) as usize, (d.out_w / 2) as usize, d.out_c as usize);
    let (step, row) = (d.block_rows(), d.pitch() * c);
    let windows = pool_w * c;
    y.par_chunks_mut(pool_h * windows).zip(argmax.par_chunks_mut(pool_h * windows / 4)).enumerate().for_each(
        |(n, (y, argmax))| {
            let Some(picture) = d.picture(x, n) else { return };
            with_scratch(d.scratch(step), |[window, z]| {
                for (i, (y, argmax)) in
                    y.chunks_mut(step / 2 * windows).zip(argmax.chunks_mut(step / 2 * windows / 4)).enumerate()
                {
                    conv2d::correlate_rows(d, (picture, weight), [i * step, 2 * y.len() / windows], [window, z]);
                    let rows = y.chunks_exact_mut(windows).zip(argmax.chunks_exact_mut(windows / 4));
                    for ((y, argmax), z) in rows.zip(z.chunks_exact_mut(2 * row)) {
                        for pixel in z.chunks_exact_mut(c) {
                            for (v, &b) in pixel.iter_mut().zip(bias) {
                                *v += b;
                            }
                        }
                        let (upper, lower) = z.split_at(row);
                        pool_row([upper, lower], c, true, y, argmax);
                    }
                }
            });
        },
    );
}

/// Lends `work` the gradient before the relu at full size.
fn with_dz<T: Real>(d: &Conv2dDims, dy: &[T], argmax: &[u32], work: impl FnOnce(&[T])) {
    with_scratch([d.y_len()], |[dz]| {
        let dz = &mut dz[..d.y_len()];
        dz.fill(T::zero());
        let size = [d.out_h as usize, d.out_w as usize];
        route(size, size.map(|n| n / 2), d.out_c as usize, dy, argmax, dz);
        work(dz);
    });
}

fn backward_input<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (dy, argmax, weight) = (call.read(0), call.reads[1].u(), call.read(2));
    with_dz(&d, dy, argmax, |dz| conv2d::input_gradient(&d, dz, weight, call.writes[0].f_mut()));
}

fn backward_input_f32(call: &mut Call<f32>) {
    backward_input_on(Arch::new(), call);
}

fn backward_input_on(arch: Arch, call: &mut Call<f32>) {
    let d: Conv2dDims = call.dims();
    if !sparse::fits_input(arch, &d) {
        return backward_input(call);
    }
    let inputs = [&call.read(0)[..d.pooled_len()], &call.read(2)[..d.weight_len()]];
    let argmax = &call.reads[1].u()[..d.pooled_len() / 4];
    sparse::backward_input(arch, &d, inputs, argmax, &mut call.writes[0].f_mut()[..d.x_len()]);
}

fn backward_weight_f32(call: &mut Call<f32>) {
    backward_weight_on(Arch::new(), call);
}

fn backward_weight_on(arch: Arch, call: &mut Call<f32>) {
    let d: Conv2dDims = call.dims();
    let (x, dy, taken) = (Input::Floats(call.read(0)), call.read(1), call.reads[2].u());
    weight_gradient_of(arch, &d, x, dy, taken, call.writes[0].f_mut());
}

/// The same for either kind of input.
pub(super) fn weight_gradient_of(arch: Arch, d: &Conv2dDims, x: Input<f32>, dy: &[f32], taken: &[u32], partial: &mut [f32]) {
    if !sparse::fits_weight(arch, d) {
        return weight_gradient(d, x, dy, taken, partial);
    }
    let (dy, taken) = (&dy[..d.pooled_len()], &taken[..d.pooled_len() / 4]);
    sparse::backward_weight(arch, d, x, dy, taken, &mut partial[..d.partial_len()]);
}

fn backward_weight<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (x, dy, taken) = (Input::Floats(call.read(0)), call.read(1), call.reads[2].u());
    weight_gradient(&d, x, dy, taken, call.writes[0].f_mut());
}

/// The sums as they are written, for either kind of input.
pub(super) fn weight_gradient<T: Real>(d: &Conv2dDims, x: Input<T>, dy: &[T], taken: &[u32], partial: &mut [T]) {
    with_dz(d, dy, taken, |dz| conv2d::weight_gradient(d, x, dz, 2, partial));
}

#[cfg(test)]
mod tests {
    use super::super::simd::archs;
    use super::*;
    use crate::rng::hash3;

    /// What a twin writes, given small integers.
    fn play<T: Real>(kernel: &Kernel, d: &Conv2dDims, twin: impl Fn(&mut Call<T>)) -> Vec<(Vec<f64>, Vec<u32>)> {
        let dims = d.words();
        let fill = |(i, b): (usize, &'static Binding)| {
            let len = (b.len)(&dims) as u32;
            let integer = |k| T::of(f64::from(hash3(9, i as u32, k) % 9) - 4.0);
            match (kernel.input)(&dims, b.name, 5) {
                Some(Values::U(codes)) => Buffer::U(codes),
                _ => Buffer::F((0..len).map(integer).collect()),
            }
        };
        let reads: Vec<Buffer<T>> = kernel.reads().enumerate().map(fill).collect();
        let mut written: Vec<Buffer<T>> = kernel.writes().map(|b| Buffer::zeros(b.elem, (b.len)(&dims))).collect();
        let (reads, mut writes): (Vec<_>, Vec<_>) = (reads.iter().collect(), written.iter_mut().collect());
        twin(&mut Call { dims: &dims, step: &crate::verify::step(), reads: &reads, writes: &mut writes });
        let values = |b| match b {
            Buffer::F(v) => (v.iter().map(|v: &T| v.f64()).collect(), Vec::new()),
            Buffer::U(v) => (Vec::new(), v),
        };
        written.into_iter().map(values).collect()
    }

    /// Every instruction set, with shapes whose vectors and rows divide in all the ways there are.
    #[test]
    fn the_fast_twins_are_exact_on_integers() {
        let shapes = [
            ([7, 9, 16], 16, true),
            ([8, 13, 16], 48, false),
            ([9, 6, 32], 32, true),
            ([12, 12, 64], 16, false),
            ([4, 5, 128], 16, true),
            ([9, 8, 4], 16, false),
            ([6, 7, 4], 32, true),
            ([11, 15, 4], 16, true),
            ([7, 10, 8], 12, true),
            // More channels than a word of 64 bits has, and 9 AVX-512 vectors under a row of the kernel.
            ([6, 7, 48], 80, true),
            ([4, 6, 16], 128, false),
            ([7, 5, 80], 144, true),
            // 5 and 10 vectors: no block of these divides them.
            ([6, 5, 24], 16, true),
            ([6, 5, 20], 16, true),
        ];
        for arch in archs() {
            for (input, filters, same) in shapes {
                let d = Conv2dDims::new(3, input, filters, [3, 3], same, true).pooled();
                let whole = input[2] % 16 == 0 || input[2] < 16;
                assert!(!whole || sparse::fits_weight(arch, &d));
                assert!(!whole || filters == 12 || winograd::fits(arch, &d) || direct::fits(arch, &d));
                let [forward, input, weight] = KERNELS else { panic!("three kernels") };
                let what = format!("{arch:?}, {d:?}");
                for d in [d, d.without_gradient()] {
                    assert_eq!(play(forward, &d, |c| forward_on(arch, c)), play(forward, &d, super::forward::<f64>), "{what}");
                }
                assert_eq!(play(input, &d, |c| backward_input_on(arch, c)), play(input, &d, backward_input::<f64>), "{what}");
                assert_eq!(play(weight, &d, |c| backward_weight_on(arch, c)), play(weight, &d, backward_weight::<f64>), "{what}");
            }
        }
    }
}
