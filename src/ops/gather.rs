//! A batch out of the resident pictures: `shaders/gather.wgsl` makes it floats, and [`Chunk`] is how everybody finds the pictures.
//!
//! The data set stays on the device as bytes, a word to a pixel; a set too large for one binding lies in several chunks. Who reads
//! pictures is dispatched once for each chunk and leaves the rows of the other chunks' pictures alone.

use super::product;
use crate::kernel::{
    Binding, Bound, Call, Cost, Dims, Kernel, ORDERED_WGSL, RESCALED_WGSL, Real, SLICE_WGSL, STEP_WGSL, Step, Values, grid,
    joined, no_loops,
};
use rayon::prelude::*;

crate::dims! {
    /// Where a batch's pictures lie.
    pub struct ChunkDims {
        /// Pictures in `order`.
        pictures,
        /// Where in the step's batch these pictures begin: 0 but in a micro-batch.
        offset,
        /// The chunk's first picture.
        chunk_first,
        /// Pictures in the chunk.
        chunk_len,
    }
}

impl ChunkDims {
    /// All pictures of a set in one chunk.
    pub fn whole(pictures: u32) -> Self {
        Self { pictures, offset: 0, chunk_first: 0, chunk_len: pictures }
    }
}

/// Sizes of one gather.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct GatherDims {
    /// Pictures in the batch.
    pub batch: u32,
    /// Pixels of one picture.
    pub pixels: u32,
    /// Where they lie.
    pub chunk: ChunkDims,
}

impl Dims for GatherDims {
    const FIELDS: &'static [&'static str] = &joined::<{ 2 + ChunkDims::FIELDS.len() }>(&["batch", "pixels"], ChunkDims::FIELDS);
}

/// fl32(1/255), by which Keras multiplies; dividing by 255 gives another float for 126 of the 256 bytes.
pub const RESCALE: f32 = 1.0 / 255.0;

/// A batch's pictures in a chunk of the data set.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    dims: ChunkDims,
    step: &'a Step,
    /// (chunk_len, pixels): R | G << 8 | B << 16, as [`crate::data::pack`] makes them; the top byte is not read.
    words: &'a [u32],
    /// (pictures): the whole set's.
    order: &'a [u32],
}

impl<'a> Chunk<'a> {
    /// Of a call whose buffers these are.
    pub fn new<T: Real>(dims: ChunkDims, call: &Call<'a, T>, [words, order]: [usize; 2]) -> Self {
        let order = &call.reads[order].u()[..dims.pictures as usize];
        Self { dims, step: call.step, words: call.reads[words].u(), order }
    }

    /// The words of the batch's picture `n`, if it lies in this chunk.
    pub fn picture(&self, n: usize, pixels: usize) -> Option<&'a [u32]> {
        let place = self.step.ordered(self.order, self.dims.offset as usize + n).wrapping_sub(self.dims.chunk_first);
        (place < self.dims.chunk_len).then(|| &self.words[place as usize * pixels..][..pixels])
    }
}

/// `shaders/shared/picture_of.wgsl`; it calls [`ORDERED_WGSL`].
pub(super) const PICTURE_OF_WGSL: &str = include_str!("../../shaders/shared/picture_of.wgsl");

fn words_len(d: &[u32]) -> usize {
    let d = GatherDims::of(d);
    product(&[d.chunk.chunk_len, d.pixels])
}
fn order_len(d: &[u32]) -> usize {
    GatherDims::of(d).chunk.pictures as usize
}
fn x_len(d: &[u32]) -> usize {
    let d = GatherDims::of(d);
    product(&[d.batch, d.pixels, 4])
}

fn cases() -> Vec<Vec<u32>> {
    [
        [1, 1, 1, 0, 0, 1],
        [3, 15, 9, 0, 0, 4],
        [2, 8, 5, 1, 0, 5],
        [2, 6, 9, 2, 3, 6],
        [5, 25, 9, 0, 2, 3],
        [2, 128 * 128, 6, 0, 0, 6],
    ]
    .map(|[batch, pixels, pictures, offset, chunk_first, chunk_len]| {
        GatherDims { batch, pixels, chunk: ChunkDims { pictures, offset, chunk_first, chunk_len } }.words()
    })
    .to_vec()
}

/// Every picture once, shuffled.
pub(super) fn shuffled(pictures: usize, seed: u32) -> Values {
    Values::U(crate::rng::permutation(seed, crate::rng::Stream::Shuffle(0), pictures))
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "gather.forward",
    variant: None,
    formula: "x[b,p,:] = (R, G, B, 0) of pixel p of picture order[first+offset+b], times fl32(1/255), if that picture lies in this chunk",
    file: "gather.wgsl",
    source: include_str!("../../shaders/gather.wgsl"),
    shared: &[SLICE_WGSL, STEP_WGSL, ORDERED_WGSL, PICTURE_OF_WGSL, RESCALED_WGSL],
    entry: "forward",
    dims: GatherDims::FIELDS,
    step: true,
    bindings: &[
        Binding::read("words", words_len).words(),
        Binding::read("order", order_len).words(),
        Binding::write("x", x_len).updated(),
    ],
    grid: |d| grid(x_len(d) / 4),
    loops: no_loops,
    cost: |d| Cost { flops: x_len(d) as f64, bytes: x_len(d) as f64 * 5.0 },
    made: 1.0,
    twin: crate::twin!(forward),
    bound: Bound::Twin(|_| 0.0),
    cases,
    input: |d, name, seed| (name == "order").then(|| shuffled(order_len(d), seed)),
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: GatherDims = call.dims();
    let chunk = Chunk::new(d.chunk, call, [0, 1]);
    let pixels = d.pixels as usize;
    call.writes[0].f_mut()[..x_len(call.dims)].par_chunks_exact_mut(4 * pixels).enumerate().for_each(|(b, x)| {
        if let Some(words) = chunk.picture(b, pixels) {
            rescale(words, x);
        }
    });
}

/// The floats of these pixels.
pub(super) fn rescale<T: Real>(words: &[u32], x: &mut [T]) {
    for (to, word) in x.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        // In f32 for every T, as Keras's iterator does it before any cast.
        *to = (word & 0xff_ffff).to_le_bytes().map(|byte| T::of(f64::from(f32::from(byte) * RESCALE)));
    }
}
