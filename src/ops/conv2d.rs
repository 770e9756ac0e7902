//! 2-D cross-correlation, stride 1, NHWC x HWIO (Keras `Conv2D`): `shaders/conv2d.wgsl`, `shaders/conv2d_backward_weight.wgsl`.
//!
//! Forward: `y[n,oy,ox,co] = relu?(bias[co] + sum_{ky,kx,ci} x[n,oy+ky-pt,ox+kx-pl,ci] weight[ky,kx,ci,co])`.
//! The gradients are its adjoints in `x` and in `weight`.

use super::gemm::{Mat, matmul};
use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, INDEX_WGSL, Kernel, Real, grid, random_input};
use rayon::prelude::*;

crate::dims! {
    /// Sizes of one convolution. Channels are multiples of 4.
    pub struct Conv2dDims {
        /// Pictures.
        batch,
        /// Input height.
        in_h,
        /// Input width.
        in_w,
        /// Input channels.
        in_c,
        /// Output height.
        out_h,
        /// Output width.
        out_w,
        /// Output channels (filters).
        out_c,
        /// Kernel height.
        k_h,
        /// Kernel width.
        k_w,
        /// Rows of zeros above the input.
        pad_top,
        /// Columns of zeros left of the input.
        pad_left,
        /// 1 to apply relu in `forward`.
        relu,
        /// Partial sums of `backward_weight`.
        splits,
        /// Output rows (of all pictures, one after the other) per partial sum.
        rows_per_split,
    }
}

/// Most partial sums of a weight gradient: enough invocations for a large GPU, little enough to add up.
const MAX_SPLITS: usize = 128;

impl Conv2dDims {
    /// Sizes of a stride-1 convolution with Keras's `same` or `valid` padding.
    pub fn new(batch: usize, input: [usize; 3], filters: usize, kernel: [usize; 2], same: bool, relu: bool) -> Self {
        let [in_h, in_w, in_c] = input;
        let [k_h, k_w] = kernel;
        // Keras pads (k-1)/2 before and the rest after.
        let (out_h, out_w, pad_top, pad_left) =
            if same { (in_h, in_w, (k_h - 1) / 2, (k_w - 1) / 2) } else { (in_h + 1 - k_h, in_w + 1 - k_w, 0, 0) };
        let rows = batch * out_h;
        let rows_per_split = rows.div_ceil(MAX_SPLITS);
        Self {
            batch: batch as u32,
            in_h: in_h as u32,
            in_w: in_w as u32,
            in_c: in_c as u32,
            out_h: out_h as u32,
            out_w: out_w as u32,
            out_c: filters as u32,
            k_h: k_h as u32,
            k_w: k_w as u32,
            pad_top: pad_top as u32,
            pad_left: pad_left as u32,
            relu: relu.into(),
            splits: rows.div_ceil(rows_per_split) as u32,
            rows_per_split: rows_per_split as u32,
        }
    }
    /// Elements of x.
    pub fn x_len(&self) -> usize {
        product(&[self.batch, self.in_h, self.in_w, self.in_c])
    }
    /// Elements of y.
    pub fn y_len(&self) -> usize {
        product(&[self.batch, self.out_h, self.out_w, self.out_c])
    }
    /// Elements of the pooled y.
    pub fn pooled_len(&self) -> usize {
        product(&[self.batch, self.out_h / 2, self.out_w / 2, self.out_c])
    }
    /// Products per output element.
    pub fn taps(&self) -> usize {
        product(&[self.k_h, self.k_w, self.in_c])
    }
    /// Elements of weight.
    pub fn weight_len(&self) -> usize {
        self.taps() * self.out_c as usize
    }
    /// Elements of all partial weight gradients, bias row included.
    pub fn partial_len(&self) -> usize {
        self.splits as usize * (self.taps() + 1) * self.out_c as usize
    }
    /// Cost of one pass over all products.
    pub fn cost(&self, elements: usize) -> Cost {
        Cost { flops: 2.0 * self.y_len() as f64 * self.taps() as f64, bytes: 4.0 * elements as f64 }
    }
}

pub(super) const BLOCK_WGSL: &str = include_str!("../../shaders/shared/conv2d_block.wgsl");
const SOURCE: &str = include_str!("../../shaders/conv2d.wgsl");
const WEIGHT_SOURCE: &str = include_str!("../../shaders/conv2d_backward_weight.wgsl");

pub(super) fn x_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).x_len()
}
pub(super) fn y_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).y_len()
}
pub(super) fn weight_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).weight_len()
}
pub(super) fn bias_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).out_c as usize
}
fn partial_len(d: &[u32]) -> usize {
    Conv2dDims::of(d).partial_len()
}

/// Test shapes: one pixel, odd sizes, all border, one block over, Keras's `same` with an even kernel, more rows than partial
/// sums, the notebook's layers.
pub(super) fn cases() -> Vec<Vec<u32>> {
    [
        Conv2dDims::new(1, [1, 1, 4], 4, [1, 1], false, false),
        Conv2dDims::new(2, [5, 7, 4], 12, [3, 3], false, true),
        Conv2dDims::new(1, [3, 3, 8], 8, [3, 3], false, false),
        Conv2dDims::new(1, [4, 9, 4], 4, [5, 5], true, true),
        Conv2dDims::new(1, [6, 6, 8], 20, [2, 4], true, false),
        Conv2dDims::new(3, [11, 13, 8], 16, [3, 3], true, true),
        Conv2dDims::new(7, [21, 3, 4], 4, [3, 2], false, false),
        Conv2dDims::new(1, [128, 128, 4], 16, [3, 3], false, true),
        Conv2dDims::new(1, [63, 63, 16], 32, [3, 3], false, true),
        Conv2dDims::new(2, [30, 30, 32], 64, [3, 3], false, true),
    ]
    .iter()
    .map(Dims::words)
    .collect()
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "conv2d.forward",
        formula: "y[n,oy,ox,co] = relu?(bias[co] + sum_{ky,kx,ci} x[n, oy+ky-pad_top, ox+kx-pad_left, ci] * weight[ky,kx,ci,co])",
        file: "conv2d.wgsl",
        source: SOURCE,
        shared: &[INDEX_WGSL, BLOCK_WGSL],
        entry: "forward",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("x", x_len),
            Binding::read("weight", weight_len),
            Binding::read("bias", bias_len),
            Binding::write("y", y_len),
        ],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid(product(&[d.batch, d.out_h.div_ceil(2), d.out_w.div_ceil(4), (d.out_c / 4).div_ceil(2)]))
        },
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.weight_len() + d.y_len())
        },
        twin: crate::twin!(forward),
        bound: Bound::Twin(|d| Conv2dDims::of(d).taps() as f64 + 2.0),
        cases,
        input: random_input,
    },
    Kernel {
        key: "conv2d.backward_input",
        formula: "dx[n,iy,ix,ci] = sum_{ky,kx,co} dy[n, iy+pad_top-ky, ix+pad_left-kx, co] * weight[ky,kx,ci,co]",
        file: "conv2d.wgsl",
        source: SOURCE,
        shared: &[INDEX_WGSL, BLOCK_WGSL],
        entry: "backward_input",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[Binding::read("dy", y_len), Binding::read("weight", weight_len), Binding::write("dx", x_len)],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid(product(&[d.batch, d.in_h.div_ceil(2), d.in_w.div_ceil(4), d.in_c / 4]))
        },
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.weight_len() + d.y_len())
        },
        twin: crate::twin!(backward_input),
        bound: Bound::Twin(|d| {
            let d = Conv2dDims::of(d);
            f64::from(d.k_h * d.k_w * d.out_c) + 1.0
        }),
        cases,
        input: random_input,
    },
    Kernel {
        key: "conv2d.backward_weight",
        formula: "partial[s,ky,kx,ci,co] = sum over the output rows of split s of x[n, oy+ky-pad_top, ox+kx-pad_left, ci] * dy[n,oy,ox,co]",
        file: "conv2d_backward_weight.wgsl",
        source: WEIGHT_SOURCE,
        shared: &[INDEX_WGSL],
        entry: "backward_weight",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[Binding::read("x", x_len), Binding::read("dy", y_len), Binding::write("partial", partial_len)],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid(product(&[(d.out_c / 4).div_ceil(2), d.in_c / 4, d.k_w.div_ceil(3), d.k_h, d.splits]))
        },
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.y_len() + d.partial_len())
        },
        twin: crate::twin!(backward_weight),
        bound: Bound::Twin(|d| {
            let d = Conv2dDims::of(d);
            f64::from(d.rows_per_split * d.out_w) + 1.0
        }),
        cases,
        input: random_input,
    },
    Kernel {
        key: "conv2d.reduce_weight",
        formula: "dweight = sum_s partial[s], dbias likewise from the last row",
        file: "conv2d_backward_weight.wgsl",
        source: WEIGHT_SOURCE,
        shared: &[INDEX_WGSL],
        entry: "reduce_weight",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[Binding::read("sums", partial_len), Binding::write("dweight", weight_len), Binding::write("dbias", bias_len)],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid((d.weight_len() + d.out_c as usize) / 4)
        },
        cost: |d| {
            let n = Conv2dDims::of(d).partial_len() as f64;
            Cost { flops: n, bytes: 4.0 * n }
        },
        twin: crate::twin!(reduce_weight),
        bound: Bound::Twin(|d| f64::from(Conv2dDims::of(d).splits)),
        cases,
        input: random_input,
    },
];

/// Output rows that one im2col block holds: a block of about 256 KiB stays in a core's second-level cache.
fn block_rows(d: &Conv2dDims) -> usize {
    (65_536 / (d.out_w as usize * d.taps())).clamp(1, d.out_h as usize)
}

/// Copies the input patches of output rows `oy..oy+rows` of picture `n` into `cols`, a row of `taps` values per output pixel.
fn im2col<T: Real>(d: &Conv2dDims, x: &[T], n: usize, oy: usize, rows: usize, cols: &mut Vec<T>) {
    let (in_h, in_w, c) = (d.in_h as usize, d.in_w as usize, d.in_c as usize);
    cols.clear();
    for y in oy..oy + rows {
        for ox in 0..d.out_w as usize {
            for ky in 0..d.k_h as usize {
                let iy = (y + ky).wrapping_sub(d.pad_top as usize);
                for kx in 0..d.k_w as usize {
                    let ix = (ox + kx).wrapping_sub(d.pad_left as usize);
                    if iy < in_h && ix < in_w {
                        let at = ((n * in_h + iy) * in_w + ix) * c;
                        cols.extend_from_slice(&x[at..at + c]);
                    } else {
                        cols.resize(cols.len() + c, T::zero());
                    }
                }
            }
        }
    }
}

/// `z = conv2d(x) + bias` of output rows `oy..oy+rows` of picture `n`, relu'd if the dims say so, through `cols` as scratch.
pub(super) fn forward_rows<T: Real>(
    d: &Conv2dDims,
    [x, weight, bias]: [&[T]; 3],
    [n, oy, rows]: [usize; 3],
    cols: &mut Vec<T>,
    z: &mut [T],
) {
    let pixels = rows * d.out_w as usize;
    im2col(d, x, n, oy, rows, cols);
    matmul(z, false, Mat::new(cols, pixels, d.taps()), Mat::new(weight, d.taps(), d.out_c as usize));
    for pixel in z.chunks_exact_mut(d.out_c as usize) {
        for (v, &b) in pixel.iter_mut().zip(bias) {
            *v += b;
            // A comparison instead of max(): relu(NaN) must stay NaN.
            if d.relu != 0 && *v < T::zero() {
                *v = T::zero();
            }
        }
    }
}

fn forward<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let inputs = [call.read(0), call.read(1), call.read(2)];
    let (out_h, row) = (d.out_h as usize, product(&[d.out_w, d.out_c]));
    let step = block_rows(&d);
    call.writes[0].f_mut()[..d.y_len()].par_chunks_mut(out_h * row).enumerate().for_each_init(Vec::new, |cols, (n, y)| {
        for (i, z) in y.chunks_mut(step * row).enumerate() {
            forward_rows(&d, inputs, [n, i * step, z.len() / row], cols, z);
        }
    });
}

fn backward_input<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (dy, weight) = (call.read(0), call.read(1));
    let (in_h, in_w, c) = (d.in_h as usize, d.in_w as usize, d.in_c as usize);
    let (out_h, out_w, out_c) = (d.out_h as usize, d.out_w as usize, d.out_c as usize);
    let step = block_rows(&d);
    call.writes[0].f_mut()[..d.x_len()].par_chunks_mut(in_h * in_w * c).enumerate().for_each_init(Vec::new, |cols, (n, dx)| {
        dx.fill(T::zero());
        for oy in (0..out_h).step_by(step) {
            let rows = step.min(out_h - oy);
            cols.resize(rows * out_w * d.taps(), T::zero());
            let from = (n * out_h + oy) * out_w * out_c;
            let gradient = Mat::new(&dy[from..from + rows * out_w * out_c], rows * out_w, out_c);
            matmul(cols, false, gradient, Mat::new(weight, d.taps(), out_c).t());
            // col2im: every patch value goes back to the pixel it was copied from.
            for (pixel, patch) in cols.chunks_exact(d.taps()).enumerate() {
                let (y, x) = (oy + pixel / out_w, pixel % out_w);
                for (tap, values) in patch.chunks_exact(c).enumerate() {
                    let iy = (y + tap / d.k_w as usize).wrapping_sub(d.pad_top as usize);
                    let ix = (x + tap % d.k_w as usize).wrapping_sub(d.pad_left as usize);
                    if iy < in_h && ix < in_w {
                        let at = (iy * in_w + ix) * c;
                        for (to, &v) in dx[at..at + c].iter_mut().zip(values) {
                            *to += v;
                        }
                    }
                }
            }
        }
    });
}

fn backward_weight<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (x, dy) = (call.read(0), call.read(1));
    let (out_h, out_w, out_c) = (d.out_h as usize, d.out_w as usize, d.out_c as usize);
    let rows = (d.batch as usize) * out_h;
    let step = block_rows(&d);
    let split_len = (d.taps() + 1) * out_c;
    call.writes[0].f_mut()[..d.partial_len()].par_chunks_mut(split_len).enumerate().for_each_init(
        Vec::new,
        |cols, (s, partial)| {
            partial.fill(T::zero());
            let (sums, bias) = partial.split_at_mut(d.taps() * out_c);
            let last = ((s + 1) * d.rows_per_split as usize).min(rows);
            let mut row = s * d.rows_per_split as usize;
            while row < last {
                // A block of rows of one picture.
                let (n, oy) = (row / out_h, row % out_h);
                let count = step.min(last - row).min(out_h - oy);
                im2col(&d, x, n, oy, count, cols);
                let gradient = &dy[row * out_w * out_c..(row + count) * out_w * out_c];
                matmul(sums, true, Mat::new(cols, count * out_w, d.taps()).t(), Mat::new(gradient, count * out_w, out_c));
                for pixel in gradient.chunks_exact(out_c) {
                    for (b, &g) in bias.iter_mut().zip(pixel) {
                        *b += g;
                    }
                }
                row += count;
            }
        },
    );
}

fn reduce_weight<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let partial = call.read(0);
    let all = (d.taps() + 1) * d.out_c as usize;
    let sum = |i: usize| (0..d.splits as usize).fold(T::zero(), |sum, s| sum + partial[s * all + i]);
    let weights = d.weight_len();
    let [dweight, dbias] = call.writes else { panic!("reduce_weight writes two buffers") };
    dweight.f_mut()[..weights].iter_mut().enumerate().for_each(|(i, v)| *v = sum(i));
    dbias.f_mut()[..d.out_c as usize].iter_mut().enumerate().for_each(|(i, v)| *v = sum(weights + i));
}
