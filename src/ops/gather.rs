//! A batch out of the resident pictures, rescaled: `shaders/gather.wgsl`.
//!
//! The data set stays on the device as bytes; a set too large for one binding lies in several chunks, each gathered by a
//! dispatch of its own that leaves the other chunks' rows alone.

use super::product;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, STEP_WGSL, Values, grid, no_loops};
use rayon::prelude::*;

crate::dims! {
    /// Sizes of one gather.
    pub struct GatherDims {
        /// Pictures in the batch.
        batch,
        /// Pixels of one picture.
        pixels,
        /// Pictures in `order`.
        pictures,
        /// The chunk's first picture.
        chunk_first,
        /// Pictures in the chunk.
        chunk_len,
        /// Where in the step's batch these pictures begin: 0 but in a micro-batch.
        offset,
    }
}

/// fl32(1/255), by which Keras multiplies; dividing by 255 gives another float for 126 of the 256 bytes.
pub const RESCALE: f32 = 1.0 / 255.0;

/// u32 words of one picture of `pixels` RGB pixels: 4 pixels to 3 words, the last group padded.
pub fn words_per_picture(pixels: usize) -> usize {
    pixels.div_ceil(4) * 3
}

/// Packs RGB bytes of whole pictures into the words of a chunk.
pub fn pack(pixels: &[u8], pixels_per_picture: usize) -> Vec<u32> {
    let mut words = Vec::with_capacity(pixels.len().div_ceil(4));
    for picture in pixels.chunks_exact(pixels_per_picture * 3) {
        let start = words.len();
        for group in picture.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..group.len()].copy_from_slice(group);
            words.push(u32::from_le_bytes(bytes));
        }
        words.resize(start + words_per_picture(pixels_per_picture), 0);
    }
    words
}

fn images_len(d: &[u32]) -> usize {
    let d = GatherDims::of(d);
    d.chunk_len as usize * words_per_picture(d.pixels as usize)
}
fn order_len(d: &[u32]) -> usize {
    GatherDims::of(d).pictures as usize
}
fn x_len(d: &[u32]) -> usize {
    let d = GatherDims::of(d);
    product(&[d.batch, d.pixels, 4])
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "gather.forward",
    variant: None,
    formula: "x[b,p,:] = (R, G, B, 0) of pixel p of picture order[first+offset+b], times fl32(1/255), if that picture lies in this chunk",
    file: "gather.wgsl",
    source: include_str!("../../shaders/gather.wgsl"),
    shared: &[SLICE_WGSL, STEP_WGSL],
    entry: "forward",
    dims: GatherDims::FIELDS,
    step: true,
    bindings: &[
        Binding::read("images", images_len).words(),
        Binding::read("order", order_len).words(),
        Binding::write("x", x_len).updated(),
    ],
    grid: |d| {
        let d = GatherDims::of(d);
        grid(product(&[d.batch, d.pixels.div_ceil(4)]))
    },
    loops: no_loops,
    cost: |d| Cost { flops: x_len(d) as f64, bytes: x_len(d) as f64 * 4.75 },
    twin: crate::twin!(forward),
    bound: Bound::Twin(|_| 0.0),
    cases: || {
        [
            [1, 1, 1, 0, 1, 0],
            [3, 15, 9, 0, 4, 0],
            [2, 8, 5, 0, 5, 1],
            [2, 6, 9, 3, 6, 2],
            [5, 25, 9, 2, 3, 0],
            [2, 128 * 128, 6, 0, 6, 0],
        ]
        .map(|[batch, pixels, pictures, chunk_first, chunk_len, offset]| {
            GatherDims { batch, pixels, pictures, chunk_first, chunk_len, offset }.words()
        })
        .to_vec()
    },
    input: |d, name, seed| {
        let pictures = GatherDims::of(d).pictures;
        let shuffled = || crate::rng::permutation(seed, crate::rng::Stream::Shuffle(0), pictures as usize);
        (name == "order").then(|| Values::U(shuffled()))
    },
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: GatherDims = call.dims();
    let (images, order) = (call.reads[0].u(), call.reads[1].u());
    let (first, pixels) = ((call.step.first + d.offset) as usize, d.pixels as usize);
    let words = words_per_picture(pixels);
    let pictures = call.writes[0].f_mut()[..x_len(call.dims)].par_chunks_exact_mut(pixels * 4).enumerate();
    pictures.for_each(|(b, x)| {
        let picture = order[(first + b).min(d.pictures as usize - 1)].wrapping_sub(d.chunk_first);
        if picture >= d.chunk_len {
            return;
        }
        let bytes: &[u8] = bytemuck::cast_slice(&images[picture as usize * words..][..words]);
        x.as_chunks_mut::<4>().0.iter_mut().zip(bytes.as_chunks::<3>().0).for_each(|(to, rgb)| scale(to, rgb));
    });
}

fn scale<T: Real>(to: &mut [T; 4], rgb: &[u8; 3]) {
    // In f32 for every T, as Keras's iterator does it before any cast.
    let [r, g, b] = rgb.map(|byte| T::of(f64::from(f32::from(byte) * RESCALE)));
    *to = [r, g, b, T::zero()];
}
