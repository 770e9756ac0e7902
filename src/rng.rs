//! Counter-based random numbers: a hash of (seed, stream, index), the same bits in Rust and in WGSL.
//!
//! There is no generator state to save, so a resumed run, another thread count or another device draws the same numbers.
//! The hash is the 32-bit PCG output permutation (Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 2020);
//! its WGSL twin is `shaders/shared/rng.wgsl`.

/// What a stream of random numbers is for. Streams with different names never share draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Initial weights of the parameter tensor with this index.
    Init(u32),
    /// The order of the pictures in this epoch.
    Shuffle(u32),
    /// Which pictures of this class go to the validation part.
    Split(u32),
    /// Made pictures of the `demo` command, by picture index.
    Picture(u32),
}

impl Stream {
    /// A 32-bit number unlike that of any other stream: the purpose in the top 4 bits, its index below.
    fn id(self) -> u32 {
        let (purpose, index) = match self {
            Stream::Init(i) => (1u32, i),
            Stream::Shuffle(i) => (2, i),
            Stream::Split(i) => (3, i),
            Stream::Picture(i) => (4, i),
        };
        purpose << 28 | (index & 0x0fff_ffff)
    }
}

/// The PCG hash of one word.
pub fn pcg(x: u32) -> u32 {
    let state = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// The hash of three words, as dropout uses it with (seed, step, index).
pub fn hash3(a: u32, b: u32, c: u32) -> u32 {
    pcg(c.wrapping_add(pcg(b.wrapping_add(pcg(a)))))
}

/// The `index`-th 32-bit number of a stream.
pub fn bits(seed: u32, stream: Stream, index: u32) -> u32 {
    hash3(seed, stream.id(), index)
}

/// The top 24 bits as a float in [0, 1), exact in f32.
pub fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1u32 << 24) as f32
}

/// A permutation of `0..n`: the Fisher-Yates shuffle fed by a stream.
pub fn permutation(seed: u32, stream: Stream, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        // Multiply-shift maps 32 bits onto 0..=i; its bias is below i / 2^32.
        let j = (u64::from(bits(seed, stream, i as u32)) * (i as u64 + 1)) >> 32;
        order.swap(i, j as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_holds_every_index_once_and_depends_on_seed_and_stream() {
        let a = permutation(7, Stream::Shuffle(0), 1000);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_ne!(a, permutation(8, Stream::Shuffle(0), 1000));
        assert_ne!(a, permutation(7, Stream::Shuffle(1), 1000));
        assert_eq!(a, permutation(7, Stream::Shuffle(0), 1000));
    }

    #[test]
    fn unit_is_uniform_and_below_one() {
        let n = 1 << 16;
        let mean: f64 = (0..n).map(|i| f64::from(unit(hash3(1, 2, i)))).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        assert!(unit(u32::MAX) < 1.0);
    }
}
