//! conv2d + bias + relu + 2x2 max-pool in one kernel: `shaders/conv2d_relu_maxpool2x2.wgsl`.
//!
//! Training and prediction never need the full-size activation, only the pooled value and which of the four pixels it came
//! from. Ties go to the first maximum in row-major order, as in TensorFlow.

use super::conv2d::{self, BLOCK_WGSL, Conv2dDims, Scratch};
use super::maxpool2x2::{pool_row, route};
use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, INDEX_WGSL, Kernel, Real, Values, grid};
use rayon::prelude::*;

fn pooled_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).pooled_len()
}
fn argmax_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).pooled_len() / 4
}

/// The convolution's shapes that have a whole window.
fn cases() -> Vec<Vec<u32>> {
    conv2d::cases().into_iter().filter(|d| Conv2dDims::of(d).pooled_len() > 0).collect()
}

/// Window codes 0..=3 in every byte, as a forward pass leaves them.
pub(super) fn codes(len: usize, seed: u32) -> Values {
    Values::U((0..len as u32).map(|i| crate::rng::hash3(seed, 77, i) & 0x0303_0303).collect())
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "conv2d_relu_maxpool2x2.forward",
        formula: "y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co]; argmax = its place in the window, row-major",
        file: "conv2d_relu_maxpool2x2.wgsl",
        source: include_str!("../../shaders/conv2d_relu_maxpool2x2.wgsl"),
        shared: &[INDEX_WGSL, BLOCK_WGSL],
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
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid(product(&[d.batch, d.out_h / 2, (d.out_w / 2).div_ceil(2), (d.out_c / 4).div_ceil(2)]))
        },
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.weight_len() + d.pooled_len() + d.pooled_len() / 4)
        },
        twin: crate::twin!(forward),
        bound: Bound::Twin(|d| Conv2dDims::of(d).taps() as f64 + 2.0),
        cases,
        input: crate::kernel::random_input,
    },
    Kernel {
        key: "conv2d_relu_maxpool2x2.backward",
        formula: "dz[n,oy,ox,co] = dy of its window where argmax points at (oy,ox) and y > 0, else 0",
        file: "conv2d_relu_maxpool2x2.wgsl",
        source: include_str!("../../shaders/conv2d_relu_maxpool2x2.wgsl"),
        shared: &[INDEX_WGSL, BLOCK_WGSL],
        entry: "backward",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("dy", pooled_len),
            Binding::read("pooled", pooled_len),
            Binding::read("taken", argmax_len).words(),
            Binding::write("dz", conv2d::y_len),
        ],
        grid: |d| grid(Conv2dDims::of(d).y_len() / 4),
        cost: |d| {
            let d = Conv2dDims::of(d);
            Cost { flops: 0.0, bytes: 4.0 * (2 * d.pooled_len() + d.pooled_len() / 4 + d.y_len()) as f64 }
        },
        twin: crate::twin!(backward),
        bound: Bound::Twin(|_| 0.0),
        cases,
        input: |d, name, seed| (name == "taken").then(|| codes(argmax_len(d), seed)),
    },
];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (inputs, bias) = ([call.read(0), call.read(1)], call.read(2));
    let (pool_h, pool_w, c) = ((d.out_h / 2) as usize, (d.out_w / 2) as usize, d.out_c as usize);
    let (step, row) = (d.block_rows(), d.pitch() * c);
    let [y, argmax] = call.writes else { panic!("forward writes two buffers") };
    let windows = pool_w * c;
    y.f_mut()[..d.pooled_len()]
        .par_chunks_mut(pool_h * windows)
        .zip(argmax.u_mut()[..d.pooled_len() / 4].par_chunks_mut(pool_h * windows / 4))
        .enumerate()
        .for_each_init(Scratch::default, |scratch, (n, (y, argmax))| {
            for (i, (y, argmax)) in y.chunks_mut(step / 2 * windows).zip(argmax.chunks_mut(step / 2 * windows / 4)).enumerate() {
                conv2d::correlate_rows(&d, inputs, [n, i * step, 2 * y.len() / windows], scratch);
                for ((y, argmax), z) in
                    y.chunks_exact_mut(windows).zip(argmax.chunks_exact_mut(windows / 4)).zip(scratch.z.chunks_exact_mut(2 * row))
                {
                    for pixel in z.chunks_exact_mut(c) {
                        for (v, &b) in pixel.iter_mut().zip(bias) {
                            let sum = *v + b;
                            // A comparison instead of max(): relu(NaN) must stay NaN.
                            *v = if sum < T::zero() { T::zero() } else { sum };
                        }
                    }
                    let (upper, lower) = z.split_at(row);
                    pool_row(upper, lower, c, y, argmax);
                }
            }
        });
}

fn backward<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (dy, y, argmax) = (call.read(0), call.read(1), call.reads[2].u());
    let pooled = [(d.out_h / 2) as usize, (d.out_w / 2) as usize];
    let dz = &mut call.writes[0].f_mut()[..d.y_len()];
    route([d.out_h as usize, d.out_w as usize], pooled, d.out_c as usize, [dy, y], argmax, dz);
}
