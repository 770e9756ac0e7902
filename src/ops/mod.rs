//! One op is two files with one stem: `shaders/conv2d.wgsl` and `src/ops/conv2d.rs`, which holds the dims, the CPU twin and
//! the op's [`Kernel`](crate::kernel::Kernel) entries. The twins take another way than the shaders (im2col and `gemm`, rayon
//! over pictures), so that both are unlikely to be wrong in the same way.

pub mod accumulate;
pub mod adam;
pub mod batch_mean;
pub mod bias_relu_dropout;
pub mod collect;
pub mod conv2d;
pub mod conv2d_relu_map;
pub mod conv2d_relu_maxpool2x2;
pub mod coop;
pub mod dense;
pub mod dense_bias_relu;
mod direct;
pub mod dropout;
pub mod gather;
mod gemm;
pub mod gradcam;
pub mod lanes8;
pub mod maxpool2x2;
pub mod narrow;
pub mod peak;
pub mod pictures;
pub mod relu;
pub mod resize;
pub mod score;
pub mod sigmoid_bce;
pub mod sigmoid_bce_mean;
mod simd;
pub mod softmax_ce;
mod sparse;
pub mod tile;
mod winograd;
pub mod winograd_tile;

pub use gather::RESCALE;

/// Channels and widths are padded with zeros to this multiple, so that every kernel loads and stores `vec4`.
pub const LANES: usize = 4;

/// The padded size of a channel or unit count.
pub fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// Elements of a tensor of these sizes, past 2^32 too: the players refuse what a device cannot bind.
fn product(sizes: &[u32]) -> usize {
    sizes.iter().map(|&n| n as usize).product()
}

/// Asserts that a variant takes these sizes and none of those.
#[cfg(test)]
fn takes<D: crate::kernel::Dims + std::fmt::Debug>(key: &str, taken: &[D], left: &[D]) {
    let fits = |d: &D| crate::kernel::by_key(key).fits(&d.words());
    taken.iter().for_each(|d| assert!(fits(d), "{key} leaves {d:?}"));
    left.iter().for_each(|d| assert!(!fits(d), "{key} takes {d:?}"));
}

/// Losses and hits that a loss's f64 twin gives the pictures `order[first..]`, taken in their own order.
#[cfg(test)]
fn head(kernel: &crate::kernel::Kernel, dims: &[u32], first: u32, logits: &[f64], labels: &[u32]) -> [Vec<f64>; 2] {
    use crate::kernel::{Buffer, Call, Step};
    let order = (0..labels.len() as u32).collect();
    let reads = [Buffer::F(logits.to_vec()), Buffer::U(order), Buffer::U(labels.to_vec())];
    let mut written: Vec<_> = kernel.writes().map(|b| Buffer::zeros(b.elem, (b.len)(dims))).collect();
    let step = Step { first, ..crate::verify::step() };
    let (reads, mut writes): (Vec<_>, Vec<_>) = (reads.iter().collect(), written.iter_mut().collect());
    (kernel.twin.f64)(&mut Call { dims, step: &step, reads: &reads, writes: &mut writes });
    [1, 2].map(|i| written[i].f().to_vec())
}
