//! 2-D cross-correlation, stride 1, NHWC x HWIO (Keras `Conv2D`): `shaders/conv2d.wgsl`, `shaders/conv2d_backward_weight.wgsl`.
//!
//! Forward: `y[n,oy,ox,co] = relu?(bias[co] + sum_{ky,kx,ci} x[n,oy+ky-pt,ox+kx-pl,ci] weight[ky,kx,ci,co])`.
//! The gradients are its adjoints in `x` and in `weight`.
//!
//! Every plan plays the ops that are fused with the pool, and of these kernels the last two. The others are what those are compared with: by
//! `verify`, the golden set's activations and the adjoint identities.

use super::adam::{self, Update};
use super::gather::{Chunk, rescale};
use super::gemm::{Mat, matmul};
use super::product;
use super::simd::with_scratch;
use crate::kernel::{
    ADAM_WGSL, Binding, Bound, Call, Cost, Dims, Kernel, MAX_ITERATIONS, OutputTiles, Real, SLICE_WGSL, STEP_WGSL, grid, passes,
    random_input,
};
use crate::plan::Spread;
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
        /// Output height; where a pool follows in the same kernel, the convolution's.
        out_h,
        /// Output width, likewise.
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
        /// Partial sums of `backward_weight`; 0 where no gradient follows, which spares the fused `forward` its places.
        splits,
        /// Rows of outputs, or of pooling windows in the fused op, of all pictures one after the other, per partial sum.
        rows_per_split,
    }
}

/// Partial sums of a weight gradient on CPUs, little enough to add up. Large inputs get more.
const SPLITS: [usize; 2] = [32, 128];
/// The same on GPUs, all blocks of 16 x 32 channels together: a round of workgroups on some 130 multiprocessors, each of which takes two
/// of the first layer's and three of the others' (measured on an H200; a few workgroups more would be a round of their own).
const GPU_SPLITS: [usize; 2] = [264, 384];

impl Conv2dDims {
    /// Sizes of a stride-1 convolution with Keras's `same` or `valid` padding.
    pub fn new(batch: usize, input: [usize; 3], filters: usize, kernel: [usize; 2], same: bool, relu: bool) -> Self {
        let [in_h, in_w, in_c] = input;
        let [k_h, k_w] = kernel;
        // Keras pads (k-1)/2 before and the rest after.
        let (out_h, out_w, pad_top, pad_left) =
            if same { (in_h, in_w, (k_h - 1) / 2, (k_w - 1) / 2) } else { (in_h + 1 - k_h, in_w + 1 - k_w, 0, 0) };
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
            splits: 0,
            rows_per_split: 0,
        }
        .split(batch * out_h, out_w)
    }
    /// The same for the op fused with its pool, whose partial sums run over rows of windows.
    pub fn pooled(self) -> Self {
        self.split((self.batch * (self.out_h / 2)) as usize, self.out_w as usize / 2)
    }
    /// Of a forward pass that no gradient follows.
    pub fn without_gradient(self) -> Self {
        Self { splits: 0, rows_per_split: 0, ..self }
    }
    /// The fused op's with as many partial sums as the device wants.
    pub fn spread(self, spread: Spread) -> Self {
        let rows = (self.batch * (self.out_h / 2)) as usize;
        match spread {
            Spread::Few => self.pooled(),
            Spread::Many => {
                let blocks = (self.in_c as usize / 16).max(1) * (self.out_c as usize / 32).max(1);
                let splits = GPU_SPLITS[usize::from(self.in_c >= 16)];
                self.split_into((splits / blocks).max(SPLITS[0]), rows, self.out_w as usize / 2)
            }
        }
    }
    /// The same with partial sums over `rows` rows of `width` iterations.
    fn split(self, rows: usize, width: usize) -> Self {
        // Writing and adding them up may cost half as much as reading x, and more only for the least number.
        let [least, most] = SPLITS;
        self.split_into((self.x_len() / (2 * self.weight_len())).clamp(least, most), rows, width)
    }
    fn split_into(self, wanted: usize, rows: usize, width: usize) -> Self {
        // So many rows that `passes(&[rows, width])` stays within the limit.
        let rows_per_split = rows.div_ceil(wanted).min((MAX_ITERATIONS - 1) / (width + 2)).max(1);
        Self { splits: rows.div_ceil(rows_per_split) as u32, rows_per_split: rows_per_split as u32, ..self }
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
    /// Words of the pooled y's places: none where no gradient asks for them.
    pub fn places_len(&self) -> usize {
        if self.splits == 0 { 0 } else { self.pooled_len() / 4 }
    }
    /// Products per output element.
    pub fn taps(&self) -> usize {
        product(&[self.k_h, self.k_w, self.in_c])
    }
    /// Elements of weight.
    pub fn weight_len(&self) -> usize {
        self.taps() * self.out_c as usize
    }
    /// Elements of a partial weight gradient, bias row included.
    pub(super) fn split_len(&self) -> usize {
        (self.taps() + 1) * self.out_c as usize
    }
    /// Elements of all of them.
    pub fn partial_len(&self) -> usize {
        self.splits as usize * self.split_len()
    }
    /// Loop passes over all taps of `channels` channels, four at a time.
    pub(super) fn tap_passes(&self, channels: u32) -> usize {
        passes(&[self.k_h as usize, self.k_w as usize, channels as usize / 4])
    }
    /// Loop passes over a split's rows of `width` steps.
    pub(super) fn row_passes(&self, width: u32) -> usize {
        passes(&[self.rows_per_split as usize, width as usize])
    }
    /// The pooled output in tiles of so many pixels a side.
    pub(super) fn pooled_tiles(&self, side: usize) -> OutputTiles {
        let [height, width, channels] = [self.out_h / 2, self.out_w / 2, self.out_c].map(|n| n as usize);
        OutputTiles { height, width, channels, side }
    }

    /// The input's gradient likewise.
    pub(super) fn input_tiles(&self, side: usize) -> OutputTiles {
        let [height, width, channels] = [self.in_h, self.in_w, self.in_c].map(|n| n as usize);
        OutputTiles { height, width, channels, side }
    }

    /// Cost of one pass over all products.
    pub fn cost(&self, elements: usize) -> Cost {
        Cost { flops: 2.0 * self.y_len() as f64 * self.taps() as f64, bytes: 4.0 * elements as f64 }
    }
}

pub(super) const X_AT_WGSL: &str = include_str!("../../shaders/shared/x_at.wgsl");
pub(super) const BLOCK_WGSL: &str = include_str!("../../shaders/shared/conv2d_block.wgsl");
pub(super) const INPUT_BLOCK_WGSL: &str = include_str!("../../shaders/shared/conv2d_input_block.wgsl");
const SOURCE: &str = include_str!("../../shaders/conv2d.wgsl");
const WEIGHT_SOURCE: &str = include_str!("../../shaders/conv2d_backward_weight.wgsl");
/// What the first file refers to, and the second.
const SHARED: &[&str] = &[SLICE_WGSL, X_AT_WGSL, BLOCK_WGSL, INPUT_BLOCK_WGSL];
const WEIGHT_SHARED: &[&str] = &[SLICE_WGSL, STEP_WGSL, ADAM_WGSL, X_AT_WGSL];

/// Roundings of an element of the input's gradient: as many as it has products, which are those of taps and output channels, and one.
pub(super) fn input_roundings(d: &[u32]) -> f64 {
    let d = Conv2dDims::of(d);
    f64::from(d.k_h * d.k_w * d.out_c) + 1.0
}

/// An invocation takes one of [`INPUT_BLOCK_WGSL`]'s blocks.
pub(super) fn input_blocks(d: &[u32]) -> [u32; 3] {
    let d = Conv2dDims::of(d);
    grid(product(&[d.batch, d.in_h.div_ceil(2), d.in_w.div_ceil(4), (d.in_c / 4).div_ceil(2)]))
}

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
pub(super) fn partial_len(d: &[u32]) -> usize {
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
        Conv2dDims::new(17, [21, 3, 4], 4, [3, 2], false, false),
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
        variant: None,
        formula: "y[n,oy,ox,co] = relu?(bias[co] + sum_{ky,kx,ci} x[n, oy+ky-pad_top, ox+kx-pad_left, ci] * weight[ky,kx,ci,co])",
        file: "conv2d.wgsl",
        source: SOURCE,
        shared: SHARED,
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
        loops: |d| Conv2dDims::of(d).tap_passes(Conv2dDims::of(d).in_c),
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.weight_len() + d.y_len())
        },
        made: 1.0,
        twin: crate::twin!(forward),
        bound: Bound::Twin(|d| Conv2dDims::of(d).taps() as f64 + 2.0),
        cases,
        input: random_input,
    },
    Kernel {
        key: "conv2d.backward_input",
        variant: None,
        formula: "dx[n,iy,ix,ci] = sum_{ky,kx,co} dy[n, iy+pad_top-ky, ix+pad_left-kx, co] * weight[ky,kx,ci,co]",
        file: "conv2d.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "backward_input",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[Binding::read("dy", y_len), Binding::read("weight", weight_len), Binding::write("dx", x_len)],
        grid: input_blocks,
        loops: |d| Conv2dDims::of(d).tap_passes(Conv2dDims::of(d).out_c),
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.weight_len() + d.y_len())
        },
        made: 1.0,
        twin: crate::twin!(backward_input),
        bound: Bound::Twin(input_roundings),
        cases,
        input: random_input,
    },
    Kernel {
        key: "conv2d.backward_weight",
        variant: None,
        formula: "partial[s,ky,kx,ci,co] = sum over the output rows of split s of x[n, oy+ky-pad_top, ox+kx-pad_left, ci] * dy[n,oy,ox,co]",
        file: "conv2d_backward_weight.wgsl",
        source: WEIGHT_SOURCE,
        shared: WEIGHT_SHARED,
        entry: "backward_weight",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[Binding::read("x", x_len), Binding::read("dy", y_len), Binding::write("partial", partial_len)],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid(product(&[(d.out_c / 4).div_ceil(2), d.in_c / 4, d.k_w.div_ceil(3), d.k_h, d.splits]))
        },
        loops: |d| Conv2dDims::of(d).row_passes(Conv2dDims::of(d).out_w),
        cost: |d| {
            let d = Conv2dDims::of(d);
            d.cost(d.x_len() + d.y_len() + d.partial_len())
        },
        made: 1.0,
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
        variant: None,
        formula: "dweight = sum_s partial[s], dbias likewise from the last row",
        file: "conv2d_backward_weight.wgsl",
        source: WEIGHT_SOURCE,
        shared: WEIGHT_SHARED,
        entry: "reduce_weight",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[Binding::read("sums", partial_len), Binding::write("dweight", weight_len), Binding::write("dbias", bias_len)],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid((d.weight_len() + d.out_c as usize) / 4)
        },
        loops: |d| passes(&[Conv2dDims::of(d).splits as usize]),
        cost: |d| {
            let d = Conv2dDims::of(d);
            Cost { flops: d.partial_len() as f64, bytes: 4.0 * (d.partial_len() + d.weight_len()) as f64 }
        },
        made: 1.0,
        twin: crate::twin!(reduce_weight),
        bound: Bound::Twin(|d| f64::from(Conv2dDims::of(d).splits)),
        cases,
        input: random_input,
    },
    // A convolution's parameters are few: three dispatches for what one can do would cost a GPU more time than the work in them.
    Kernel {
        key: "conv2d.update_weight",
        variant: None,
        formula: "g = sum_s partial[s]: Adam's update of w, m, v (see adam.update), and from the last row that of the bias's b, bm, bv",
        file: "conv2d_backward_weight.wgsl",
        source: WEIGHT_SOURCE,
        shared: WEIGHT_SHARED,
        entry: "update_weight",
        dims: Conv2dDims::FIELDS,
        step: true,
        bindings: &[
            Binding::read("sums", partial_len),
            Binding::write("w", weight_len).updated(),
            Binding::write("m", weight_len).updated(),
            Binding::write("v", weight_len).updated(),
            Binding::write("b", bias_len).updated(),
            Binding::write("bm", bias_len).updated(),
            Binding::write("bv", bias_len).updated(),
        ],
        grid: |d| {
            let d = Conv2dDims::of(d);
            grid((d.weight_len() + d.out_c as usize) / 4)
        },
        loops: |d| passes(&[Conv2dDims::of(d).splits as usize]),
        cost: |d| {
            let d = Conv2dDims::of(d);
            let (sums, weights) = (d.partial_len() as f64, d.weight_len() as f64);
            Cost { flops: sums + 12.0 * weights, bytes: 4.0 * sums + 24.0 * weights }
        },
        made: 1.0,
        twin: crate::twin!(update_weight),
        bound: Bound::Own(update_bound),
        cases,
        input: |d, name, seed| match name {
            "v" => Some(adam::squares(weight_len(d), [seed, 16])),
            "bv" => Some(adam::squares(bias_len(d), [seed, 17])),
            _ => None,
        },
    },
];

/// The kernel of the weights' update.
pub(super) const UPDATE_WEIGHT: &Kernel = &KERNELS[4];

/// Floats of one block of rows: 256 KiB in f32 stay in a core's second-level cache.
const BLOCK: usize = 65_536;

/// Output rows that are computed at once.
fn block_rows(pitch: usize, channels: usize, rows: usize) -> usize {
    // An even number, so that a block is whole pooling windows.
    (BLOCK / (pitch * channels)).next_multiple_of(2).clamp(2, rows.max(2))
}

/// What a convolution sees: a batch.
#[derive(Clone, Copy)]
pub(super) enum Input<'a, T> {
    /// Activations: (batch, h, w, channels).
    Floats(&'a [T]),
    /// Those of its pictures that lie in a chunk of the data set.
    Chunk(Chunk<'a>),
}

/// One picture of it.
#[derive(Clone, Copy)]
pub(super) enum Picture<'a, T> {
    /// Activations: (h, w, channels).
    Floats(&'a [T]),
    /// (h, w): a word for four channels, of which the last is 0.
    Words(&'a [u32]),
}

impl<T: Real> Picture<'_, T> {
    /// Copies elements `from..from+to.len()` of the activations; of words only whole pixels.
    pub(super) fn copy_to(self, from: usize, to: &mut [T]) {
        match self {
            Self::Floats(x) => to.copy_from_slice(&x[from..][..to.len()]),
            Self::Words(words) => rescale(&words[from / 4..][..to.len() / 4], to),
        }
    }
}

/// Rows of pixels with the padding made real. A patch of `k_h` x `k_w` pixels is then `k_h` contiguous runs, and the patches of
/// neighbouring pixels are one matrix whose rows overlap: im2col without copying.
pub(super) struct Window<'a, T> {
    pub(super) data: &'a [T],
    /// Pixels per row, `out_w + k_w - 1`.
    pub(super) pitch: usize,
    channels: usize,
}

impl<'a, T: Real> Window<'a, T> {
    /// Rows `top..top+rows` of `picture` ((`h`, `w`, channels), `left` zeros before each row); rows outside it are zeros.
    /// Floats without padding are the picture's own memory; all else is copied into `scratch`.
    fn new(
        picture: Picture<'a, T>,
        [h, w, channels]: [usize; 3],
        [top, left]: [isize; 2],
        [rows, pitch]: [usize; 2],
        scratch: &'a mut [T],
    ) -> Self {
        let inside = top >= 0 && top as usize + rows <= h;
        if let (Picture::Floats(picture), true) = (picture, inside && left == 0 && pitch == w) {
            return Self { data: &picture[top as usize * w * channels..][..rows * w * channels], pitch, channels };
        }
        let scratch = &mut scratch[..rows * pitch * channels];
        for (r, to) in scratch.chunks_exact_mut(pitch * channels).enumerate() {
            let y = top + r as isize;
            if (0..h as isize).contains(&y) {
                let (before, to) = to.split_at_mut(left as usize * channels);
                let (to, behind) = to.split_at_mut(w * channels);
                picture.copy_to(y as usize * w * channels, to);
                before.fill(T::zero());
                behind.fill(T::zero());
            } else {
                to.fill(T::zero());
            }
        }
        Self { data: scratch, pitch, channels }
    }

    /// The patches' row `ky`: a (pixels, k_w * channels) matrix whose rows overlap.
    fn patches(&self, ky: usize, pixels: usize, k_w: usize) -> Mat<'a, T> {
        let data = &self.data[ky * self.pitch * self.channels..];
        Mat { data, rows: pixels, cols: k_w * self.channels, row_stride: self.channels, col_stride: 1 }
    }

    /// `z = correlation with weight` for `rows` rows of `pitch` pixels; the last `k_w - 1` pixels of each row mean nothing.
    fn correlate(&self, weight: &[T], [k_h, k_w, out_c]: [usize; 3], rows: usize, z: &mut [T]) {
        let pixels = rows * self.pitch + 1 - k_w;
        let taps = k_w * self.channels;
        for ky in 0..k_h {
            let weight = Mat::new(&weight[ky * taps * out_c..][..taps * out_c], taps, out_c);
            matmul(z, ky > 0, self.patches(ky, pixels, k_w), weight);
        }
    }
}

impl Conv2dDims {
    /// Pixels per row of the products before bias and relu.
    pub(super) fn pitch(&self) -> usize {
        (self.out_w + self.k_w - 1) as usize
    }

    /// Output rows that are computed at once.
    pub(super) fn block_rows(&self) -> usize {
        block_rows(self.pitch(), self.out_c as usize, self.out_h as usize)
    }

    /// Elements of the window that so many output rows see, and of their products before bias and relu.
    pub(super) fn scratch(&self, rows: usize) -> [usize; 2] {
        let [k_h, _, out_c] = self.kernel();
        [(rows + k_h - 1) * self.pitch() * self.in_c as usize, rows * self.pitch() * out_c]
    }

    fn kernel(&self) -> [usize; 3] {
        [self.k_h, self.k_w, self.out_c].map(|n| n as usize)
    }

    /// Picture `n` of x, if it is there.
    pub(super) fn picture<'a, T: Real>(&self, x: Input<'a, T>, n: usize) -> Option<Picture<'a, T>> {
        let pixels = product(&[self.in_h, self.in_w]);
        let len = pixels * self.in_c as usize;
        match x {
            Input::Floats(x) => Some(Picture::Floats(&x[n * len..][..len])),
            Input::Chunk(chunk) => chunk.picture(n, pixels).map(Picture::Words),
        }
    }

    /// What output rows `oy..oy+rows` of this picture see.
    pub(super) fn window<'a, T: Real>(
        &self,
        picture: Picture<'a, T>,
        oy: usize,
        rows: usize,
        scratch: &'a mut [T],
    ) -> Window<'a, T> {
        let size = [self.in_h, self.in_w, self.in_c].map(|n| n as usize);
        let start = [oy as isize - self.pad_top as isize, self.pad_left as isize];
        Window::new(picture, size, start, [rows + self.k_h as usize - 1, self.pitch()], scratch)
    }
}

/// The product of output rows `oy..oy+rows` of a picture, before bias and relu, into `z`.
pub(super) fn correlate_rows<T: Real>(
    d: &Conv2dDims,
    (picture, weight): (Picture<T>, &[T]),
    [oy, rows]: [usize; 2],
    [window, z]: [&mut [T]; 2],
) {
    d.window(picture, oy, rows, window).correlate(weight, d.kernel(), rows, z);
}

fn forward<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let (x, weight, bias) = (call.read(0), call.read(1), call.read(2));
    let (out_h, out_c) = (d.out_h as usize, d.out_c as usize);
    let row = d.out_w as usize * out_c;
    let step = d.block_rows();
    call.writes[0].f_mut()[..d.y_len()].par_chunks_mut(out_h * row).enumerate().for_each(|(n, y)| {
        let one = d.x_len() / d.batch as usize;
        let picture = Picture::Floats(&x[n * one..][..one]);
        with_scratch(d.scratch(step), |[window, z]| {
            for (i, y) in y.chunks_mut(step * row).enumerate() {
                correlate_rows(&d, (picture, weight), [i * step, y.len() / row], [window, z]);
                for (y, z) in y.chunks_exact_mut(row).zip(z.chunks_exact(d.pitch() * out_c)) {
                    for (y, z) in y.chunks_exact_mut(out_c).zip(z.chunks_exact(out_c)) {
                        for ((y, &z), &b) in y.iter_mut().zip(z).zip(bias) {
                            let v = z + b;
                            // A comparison instead of max(): relu(NaN) must stay NaN.
                            *y = if d.relu != 0 && v < T::zero() { T::zero() } else { v };
                        }
                    }
                }
            }
        });
    });
}

fn backward_input<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    input_gradient(&d, call.read(0), call.read(1), call.writes[0].f_mut());
}

/// `dx` of [`Conv2dDims::x_len`] from `dy` at full size.
pub(super) fn input_gradient<T: Real>(d: &Conv2dDims, dy: &[T], weight: &[T], dx: &mut [T]) {
    let (in_h, in_w, in_c) = (d.in_h as usize, d.in_w as usize, d.in_c as usize);
    let [k_h, k_w, out_c] = d.kernel();
    let size = [d.out_h, d.out_w, d.out_c].map(|n| n as usize);
    let (above, left) = (k_h as isize - 1 - d.pad_top as isize, k_w as isize - 1 - d.pad_left as isize);
    let pitch = in_w + k_w - 1;
    let step = block_rows(pitch, in_c.max(out_c), in_h);
    let row = in_w * in_c;
    with_scratch([weight.len()], |[turned]| {
        // The adjoint of a correlation is a correlation with the kernel turned by 180 degrees and its channels exchanged.
        for tap in 0..k_h * k_w {
            let (from, to) = (tap * in_c * out_c, (k_h * k_w - 1 - tap) * in_c * out_c);
            for ci in 0..in_c {
                for co in 0..out_c {
                    turned[to + co * in_c + ci] = weight[from + ci * out_c + co];
                }
            }
        }
        let turned = &*turned;
        dx[..d.x_len()].par_chunks_mut(in_h * row).enumerate().for_each(|(n, dx)| {
            let picture = Picture::Floats(&dy[n * size.iter().product::<usize>()..][..size.iter().product()]);
            with_scratch([(step + k_h - 1) * pitch * out_c, step * pitch * in_c], |[window, z]| {
                for (i, dx) in dx.chunks_mut(step * row).enumerate() {
                    let rows = dx.len() / row;
                    let start = [(i * step) as isize - above, left];
                    Window::new(picture, size, start, [rows + k_h - 1, pitch], window).correlate(
                        turned,
                        [k_h, k_w, in_c],
                        rows,
                        z,
                    );
                    for (dx, z) in dx.chunks_exact_mut(row).zip(z.chunks_exact(pitch * in_c)) {
                        dx.copy_from_slice(&z[..row]);
                    }
                }
            });
        });
    });
}

fn backward_weight<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    weight_gradient(&d, Input::Floats(call.read(0)), call.read(1), 1, call.writes[0].f_mut());
}

/// The partial sums of the weight gradient from `x` and `dy` at full size. A split's rows are `height` output rows each: 1, or
/// 2 for rows of pooling windows, where an odd last row counts for nothing.
pub(super) fn weight_gradient<T: Real>(d: &Conv2dDims, x: Input<T>, dy: &[T], height: usize, partial: &mut [T]) {
    let (out_h, out_w, in_c) = (d.out_h as usize, d.out_w as usize, d.in_c as usize);
    let [k_h, k_w, out_c] = d.kernel();
    let per_picture = out_h / height;
    let rows = d.batch as usize * per_picture;
    let (step, pitch) = (d.block_rows() / height, d.pitch());
    partial[..d.partial_len()].par_chunks_mut(d.split_len()).enumerate().for_each(|(s, partial)| {
        partial.fill(T::zero());
        let (sums, bias) = partial.split_at_mut(d.taps() * out_c);
        let last = ((s + 1) * d.rows_per_split as usize).min(rows);
        let mut row = s * d.rows_per_split as usize;
        with_scratch(d.scratch(step * height), |[window, wide]| {
            while row < last {
                // A block of rows of one picture, dy's rows as wide as the window's, zeros behind them.
                let (n, y) = (row / per_picture, row % per_picture);
                let blocks = step.min(last - row).min(per_picture - y);
                let (oy, count) = (y * height, blocks * height);
                row += blocks;
                let Some(picture) = d.picture(x, n) else { continue };
                let gradient = &dy[(n * out_h + oy) * out_w * out_c..][..count * out_w * out_c];
                for (wide, row) in wide.chunks_exact_mut(pitch * out_c).zip(gradient.chunks_exact(out_w * out_c)) {
                    let (wide, behind) = wide.split_at_mut(out_w * out_c);
                    wide.copy_from_slice(row);
                    behind.fill(T::zero());
                }
                let window = d.window(picture, oy, count, window);
                let pixels = count * pitch + 1 - k_w;
                for (ky, sums) in sums.chunks_exact_mut(k_w * in_c * out_c).enumerate().take(k_h) {
                    matmul(sums, true, window.patches(ky, pixels, k_w).t(), Mat::new(&wide[..pixels * out_c], pixels, out_c));
                }
                for pixel in gradient.chunks_exact(out_c) {
                    for (b, &g) in bias.iter_mut().zip(pixel) {
                        *b += g;
                    }
                }
            }
        });
    });
}

/// Elements of a piece: of every partial sum one is added at a time, so that memory is read in runs.
const PIECE: usize = 1024;

impl Conv2dDims {
    /// Elements `from..from+to.len()` of the sum of all partial sums, in their order.
    fn sum_partial<T: Real>(&self, partial: &[T], from: usize, to: &mut [T]) {
        to.fill(T::zero());
        for partial in partial[..self.partial_len()].chunks_exact(self.partial_len() / self.splits as usize) {
            to.iter_mut().zip(&partial[from..]).for_each(|(to, &v)| *to += v);
        }
    }
}

fn reduce_weight<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let partial = call.read(0);
    let weights = d.weight_len();
    let [dweight, dbias] = call.writes else { panic!("reduce_weight writes two buffers") };
    let dweight = dweight.f_mut()[..weights].par_chunks_mut(PIECE).enumerate();
    dweight.for_each(|(i, to)| d.sum_partial(partial, i * PIECE, to));
    d.sum_partial(partial, weights, &mut dbias.f_mut()[..d.out_c as usize]);
}

fn update_weight<T: Real>(call: &mut Call<T>) {
    let d: Conv2dDims = call.dims();
    let partial = call.read(0);
    let (weights, out_c) = (d.weight_len(), d.out_c as usize);
    let adam = Update::<T>::new(&call.step.adam);
    let [w, m, v, b, bm, bv] = call.writes else { panic!("update_weight writes six buffers") };
    let update = |from: usize, [w, m, v]: [&mut [T]; 3]| {
        with_scratch([w.len()], |[grad]| {
            let grad = &mut grad[..w.len()];
            d.sum_partial(partial, from, grad);
            grad.iter().zip(w).zip(m).zip(v).for_each(|(((&g, w), m), v)| adam.apply(g, w, m, v));
        });
    };
    let [w, m, v] = [w, m, v].map(|t| t.f_mut()[..weights].par_chunks_mut(PIECE));
    w.zip(m).zip(v).enumerate().for_each(|(i, ((w, m), v))| update(i * PIECE, [w, m, v]));
    update(weights, [b, bm, bv].map(|t| &mut t.f_mut()[..out_c]));
}

/// Adam's bound with what the sums of partial sums may be off, in whatever order they are added up.
fn update_bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let d: Conv2dDims = call.dims();
    let partial = call.read(0);
    let sizes: Vec<f64> = partial[..d.partial_len()].iter().map(|v| v.abs()).collect();
    let scale = f64::from(d.splits) * 2f64.powi(-24);
    let mut bounds = Vec::new();
    for (first, from, len) in [(0, 0, d.weight_len()), (3, d.weight_len(), d.out_c as usize)] {
        let [mut grad, mut error] = [(); 2].map(|()| vec![0.0; len]);
        d.sum_partial(partial, from, &mut grad);
        d.sum_partial(&sizes, from, &mut error);
        error.iter_mut().for_each(|e| *e *= scale);
        let state = [0, 1, 2].map(|n| &call.writes[first + n].f()[..len]);
        bounds.extend(adam::bounds(&call.step.adam, &grad, &error, state));
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_sums_cover_every_row_and_none_is_empty() {
        for (batch, height) in [(1, 4), (45, 8), (3, 11), (16, 128), (4096, 30)] {
            let d = Conv2dDims::new(batch, [height, 6, 4], 8, [3, 3], false, true);
            for (d, rows) in [(d, d.batch * d.out_h), (d.pooled(), d.batch * (d.out_h / 2))] {
                let before_the_last = (d.splits - 1) * d.rows_per_split;
                assert!(before_the_last < rows && rows <= before_the_last + d.rows_per_split, "{rows} rows: {d:?}");
            }
        }
    }
}
