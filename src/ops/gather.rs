//! A batch out of the resident pictures, rescaled: `shaders/gather.wgsl`.
//!
//! The data set stays on the device as bytes; a set too large for one binding lies in several chunks, each gathered by a
//! dispatch of its own that leaves the other chunks' rows alone.

use super::product;
use crate::kernel::{
    Binding, Bound, Call, Cost, Dims, Kernel, RESCALED_WGSL, Real, SLICE_WGSL, STEP_WGSL, Values, grid, no_loops,
};
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

fn words_len(d: &[u32]) -> usize {
    let d = GatherDims::of(d);
    product(&[d.batch, d.pixels])
}

fn cases() -> Vec<Vec<u32>> {
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
}

fn input(d: &[u32], name: &'static str, seed: u32) -> Option<Values> {
    let pictures = GatherDims::of(d).pictures;
    let shuffled = || crate::rng::permutation(seed, crate::rng::Stream::Shuffle(0), pictures as usize);
    (name == "order").then(|| Values::U(shuffled()))
}

/// A lane takes four pixels, which are three words.
fn quads(d: &[u32]) -> [u32; 3] {
    let d = GatherDims::of(d);
    grid(product(&[d.batch, d.pixels.div_ceil(4)]))
}

const SOURCE: &str = include_str!("../../shaders/gather.wgsl");
/// What that file refers to.
const SHARED: &[&str] = &[SLICE_WGSL, STEP_WGSL, RESCALED_WGSL];

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "gather.forward",
        variant: None,
        formula: "x[b,p,:] = (R, G, B, 0) of pixel p of picture order[first+offset+b], times fl32(1/255), if that picture lies in this chunk",
        file: "gather.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "forward",
        dims: GatherDims::FIELDS,
        step: true,
        bindings: &[
            Binding::read("images", images_len).words(),
            Binding::read("order", order_len).words(),
            Binding::write("x", x_len).updated(),
        ],
        grid: quads,
        loops: no_loops,
        cost: |d| Cost { flops: x_len(d) as f64, bytes: x_len(d) as f64 * 4.75 },
        twin: crate::twin!(forward),
        bound: Bound::Twin(|_| 0.0),
        cases,
        input,
    },
    Kernel {
        key: "gather.bytes",
        variant: None,
        formula: "words[b,p] = R | G << 8 | B << 16 of pixel p of picture order[first+offset+b], if that picture lies in this chunk",
        file: "gather.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "bytes",
        dims: GatherDims::FIELDS,
        step: true,
        bindings: &[
            Binding::read("images", images_len).words(),
            Binding::read("order", order_len).words(),
            Binding::write("words", words_len).words().updated(),
        ],
        grid: quads,
        loops: no_loops,
        cost: |d| Cost { flops: 0.0, bytes: words_len(d) as f64 * 7.0 },
        twin: crate::twin!(bytes),
        bound: Bound::Twin(|_| 0.0),
        cases,
        input,
    },
];

/// Hands every picture of the batch that lies in this chunk, as bytes, to `take` with where it belongs.
fn pictures<T: Real, E: Send>(
    d: &GatherDims,
    call: &[&crate::kernel::Buffer<T>],
    first: u32,
    to: &mut [E],
    take: impl Fn(&mut [E], &[[u8; 3]]) + Sync,
) {
    let (images, order) = (call[0].u(), call[1].u());
    let (first, words) = ((first + d.offset) as usize, words_per_picture(d.pixels as usize));
    let each = to.len() / d.batch as usize;
    to.par_chunks_exact_mut(each).enumerate().for_each(|(b, to)| {
        let picture = order[(first + b).min(d.pictures as usize - 1)].wrapping_sub(d.chunk_first);
        if picture < d.chunk_len {
            let bytes: &[u8] = bytemuck::cast_slice(&images[picture as usize * words..][..words]);
            take(to, bytes.as_chunks::<3>().0);
        }
    });
}

fn forward<T: Real>(call: &mut Call<T>) {
    let d: GatherDims = call.dims();
    pictures(&d, call.reads, call.step.first, &mut call.writes[0].f_mut()[..x_len(call.dims)], |x, pixels| {
        x.as_chunks_mut::<4>().0.iter_mut().zip(pixels).for_each(|(to, rgb)| scale(to, rgb));
    });
}

fn bytes<T: Real>(call: &mut Call<T>) {
    let d: GatherDims = call.dims();
    pictures(&d, call.reads, call.step.first, &mut call.writes[0].u_mut()[..words_len(call.dims)], |words, pixels| {
        words.iter_mut().zip(pixels).for_each(|(to, &[r, g, b])| *to = u32::from_le_bytes([r, g, b, 0]));
    });
}

fn scale<T: Real>(to: &mut [T; 4], rgb: &[u8; 3]) {
    // In f32 for every T, as Keras's iterator does it before any cast.
    let [r, g, b] = rgb.map(|byte| T::of(f64::from(f32::from(byte) * RESCALE)));
    *to = [r, g, b, T::zero()];
}

/// The x that `gather.forward` makes of these pixels of `gather.bytes`.
pub fn pixels<T: Real>(words: &[u32]) -> Vec<T> {
    let mut x = vec![T::zero(); 4 * words.len()];
    rescale(words, &mut x);
    x
}

/// What `gather.forward` makes of these pixels of `gather.bytes`.
pub(super) fn rescale<T: Real>(words: &[u32], x: &mut [T]) {
    for (to, word) in x.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = (word & 0xff_ffff).to_le_bytes().map(|byte| T::of(f64::from(f32::from(byte) * RESCALE)));
    }
}
