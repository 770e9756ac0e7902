//! What a device can do at best: `shaders/peak.wgsl` and, for matrix units, `shaders/coop/peak_products.wgsl.jinja`. No network plays
//! these kernels; `wgradcam profile` measures the adapter's peaks with them and divides by those.

use super::gemm::{Mat, matmul};
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, Values, grid, no_loops, passes, random_input};
use rayon::prelude::*;
use std::time::Instant;

crate::dims! {
    /// Size of one measurement.
    pub struct PeakDims {
        /// Elements, a multiple of 4 for the copy, of 128 for products.
        len,
        /// Rounds of four multiply-adds in each chain of `peak.flops`, or of `peak.products`, at most 65,535, where lavapipe leaves a loop; the
        /// copy has none.
        rounds,
    }
}

/// Chains of dependent multiply-adds that every invocation of `peak.flops` keeps going at once.
const CHAINS: usize = 12;

/// Columns of `peak.products`.
const COLUMNS: usize = 128;
/// Terms of its products.
const TERMS: usize = 16;

const SOURCE: &str = include_str!("../../shaders/peak.wgsl");

fn len(d: &[u32]) -> usize {
    PeakDims::of(d).len as usize
}
/// Multiply-adds of one chain.
fn links(d: &[u32]) -> usize {
    4 * rounds(d)
}
fn rounds(d: &[u32]) -> usize {
    PeakDims::of(d).rounds as usize
}
/// Elements of the left factor of `peak.products`.
fn left(d: &[u32]) -> usize {
    len(d) / COLUMNS * TERMS
}
pub(super) fn cases(cases: &[[u32; 2]]) -> Vec<Vec<u32>> {
    cases.iter().map(|&[len, rounds]| PeakDims { len, rounds }.words()).collect()
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "peak.flops",
        variant: None,
        formula: "y[i] = sum of 12 chains k, each 4 rounds times a = a line[0] + line[1], from a = x[i] + k",
        file: "peak.wgsl",
        source: SOURCE,
        shared: &[SLICE_WGSL],
        entry: "flops",
        dims: PeakDims::FIELDS,
        step: false,
        bindings: &[Binding::read("x", len), Binding::read("line", |_| 2), Binding::write("y", len)],
        grid: |d| grid(len(d)),
        loops: |d| passes(&[rounds(d)]),
        cost: |d| Cost { flops: 2.0 * (CHAINS * links(d)) as f64 * len(d) as f64, bytes: 8.0 * len(d) as f64 },
        made: 1.0,
        twin: crate::twin!(flops),
        // The start's, two per link where the adapter has no fused multiply-add, and the sum of the chains.
        bound: Bound::Twin(|d| (1 + 2 * links(d) + CHAINS) as f64),
        cases: || cases(&[[1, 1], [67, 3], [64, 17], [130, 0], [5000, 40]]),
        // A scale of 1 or -1 keeps the chains small and every partial sum a whole number.
        input: |_, name, seed| (name == "line").then(|| Values::F(vec![2.0 * (seed % 2) as f32 - 1.0, 3.0])),
    },
    Kernel {
        key: "peak.copy",
        variant: None,
        formula: "copied[i] = source[i]",
        file: "peak.wgsl",
        source: SOURCE,
        shared: &[SLICE_WGSL],
        entry: "copy",
        dims: PeakDims::FIELDS,
        step: false,
        bindings: &[Binding::read("source", len), Binding::write("copied", len)],
        grid: |d| grid(len(d) / 4),
        loops: no_loops,
        cost: |d| Cost { flops: 0.0, bytes: 8.0 * len(d) as f64 },
        made: 1.0,
        twin: crate::twin!(copy),
        bound: Bound::Twin(|_| 0.0),
        cases: || cases(&[[4, 0], [256, 0], [260, 0], [70_000, 0]]),
        input: random_input,
    },
    Kernel {
        key: "peak.products",
        variant: None,
        formula: "y[i,j] = rounds times the sum over 16 terms l of x[i,l] * weight[l,j], with 128 columns j",
        file: "peak_products.wgsl",
        source: include_str!("../../shaders/peak_products.wgsl"),
        shared: &[SLICE_WGSL],
        entry: "products",
        dims: PeakDims::FIELDS,
        step: false,
        bindings: &[Binding::read("x", left), Binding::read("weight", |_| TERMS * COLUMNS), Binding::write("y", len)],
        grid: |d| grid(len(d)),
        loops: |d| passes(&[rounds(d), TERMS]),
        cost: |d| Cost {
            flops: 2.0 * (TERMS * rounds(d)) as f64 * len(d) as f64,
            bytes: 4.0 * (left(d) + TERMS * COLUMNS + len(d)) as f64,
        },
        made: 1.0,
        twin: crate::twin!(products),
        bound: Bound::Twin(|d| (2 * TERMS * rounds(d) + 1) as f64),
        cases: || cases(&[[128, 1], [640, 0], [384, 3], [8192, 5], [24_576, 40]]),
        input: random_input,
    },
];

fn flops<T: Real>(call: &mut Call<T>) {
    let (x, line, n) = (call.read(0), call.read(1), links(call.dims));
    // The chains differ by their start only, so the links are folded into one scale and one shift.
    let (mut scale, mut shift) = (T::one(), T::zero());
    for _ in 0..n {
        (scale, shift) = (scale * line[0], shift * line[0] + line[1]);
    }
    for (y, &x) in call.writes[0].f_mut()[..len(call.dims)].iter_mut().zip(x) {
        *y = (0..CHAINS).map(|k| (x + T::of(k as f64)) * scale + shift).sum();
    }
}

fn copy<T: Real>(call: &mut Call<T>) {
    let n = len(call.dims);
    let source = &call.read(0)[..n];
    let pieces = call.writes[0].f_mut()[..n].par_chunks_mut(1 << 16);
    pieces.zip(source.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from));
}

fn products<T: Real>(call: &mut Call<T>) {
    let (x, weight, n) = (call.read(0), call.read(1), T::of(rounds(call.dims) as f64));
    for (y, x) in call.writes[0].f_mut()[..len(call.dims)].chunks_exact_mut(COLUMNS).zip(x.chunks_exact(TERMS)) {
        for (j, y) in y.iter_mut().enumerate() {
            *y = n * (0..TERMS).map(|l| x[l] * weight[l * COLUMNS + j]).sum::<T>();
        }
    }
}

/// Operations per second of the CPU path at its best: a square matrix product in every thread, small enough to stay in cache.
/// A twin in plain Rust would not tell, because only `gemm` takes AVX2 or AVX-512 where the processor has it.
pub fn cpu_flops() -> f64 {
    let run = || {
        let start = Instant::now();
        rayon::broadcast(|_| {
            let (a, mut c) = (vec![0.5f32; N * N], vec![0.0f32; N * N]);
            for _ in 0..PRODUCTS {
                matmul(&mut c, true, Mat::new(&a, N, N), Mat::new(&a, N, N));
            }
            std::hint::black_box(&c);
        });
        start.elapsed().as_secs_f64()
    };
    let best = (0..8).map(|_| run()).fold(f64::INFINITY, f64::min);
    operations(rayon::current_num_threads()) / best
}

/// Rows of the square matrices and products per thread of [`cpu_flops`].
const N: usize = 256;
const PRODUCTS: usize = 16;

/// Multiplications and additions of one run in so many threads.
fn operations(threads: usize) -> f64 {
    2.0 * (N * N * N * PRODUCTS * threads) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_peak_counts_every_product_and_divides_by_the_time() {
        assert_eq!(operations(3), 3.0 * 16.0 * 2.0 * 256f64.powi(3));
        // One thread's product takes part of a second on any processor, and none does 1e14 a second.
        let peak = cpu_flops();
        assert!((5e7..1e14).contains(&peak), "{peak}");
    }
}
