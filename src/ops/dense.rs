//! `y = relu?(x weight + bias)` (Keras `Dense`) and its gradients: `shaders/dense.wgsl`.
//!
//! The forward pass is split over the inputs (dense_1 has 12,544 of them and only 64 x 128 outputs) and summed in fixed order.

use super::adam::{self, Update};
use super::gemm::{Mat, matmul};
use super::product;
use super::simd::with_scratch;
use crate::kernel::{
    ADAM_WGSL, Binding, Bound, Call, Cost, Dims, Kernel, MAX_ITERATIONS, Real, SLICE_WGSL, STEP_WGSL, UPDATE_BIAS_WGSL, grid,
    passes, random_input,
};
use crate::plan::Spread;
use rayon::prelude::*;

crate::dims! {
    /// Sizes of one dense layer. Widths are multiples of 4.
    pub struct DenseDims {
        /// Pictures.
        batch,
        /// Inputs.
        in_n,
        /// Outputs (units).
        out_n,
        /// 1 to apply relu.
        relu,
        /// Partial sums of `forward`.
        splits,
        /// Inputs per partial sum, a multiple of 4.
        per_split,
    }
}

impl DenseDims {
    /// Sizes with the split that keeps a slice at 256 inputs or more and the slices at 64 or fewer; only past 16 million inputs
    /// are there more slices, because a loop over one may not be longer.
    pub fn new(batch: usize, in_n: usize, out_n: usize, relu: bool) -> Self {
        Self::spread(batch, in_n, out_n, relu, Spread::Few)
    }
    /// Sizes with half as long slices, and twice as many, for a GPU; fewer where the pictures make workgroups enough, as every partial
    /// sum is written and read again: 64 x 64 outputs of a slice are a workgroup's, and with some 1,024 of them the largest GPUs are
    /// busy.
    pub fn spread(batch: usize, in_n: usize, out_n: usize, relu: bool, spread: Spread) -> Self {
        let [most, least, multiple] = match spread {
            Spread::Few => [64, 256, 4],
            // Whole rounds of the tiled kernel.
            Spread::Many => [(1024 / (batch.div_ceil(64) * out_n.div_ceil(64)).max(1)).clamp(1, 128), 128, 16],
        };
        let longest = 4 * (MAX_ITERATIONS - 1);
        let per_split = in_n.div_ceil(most).max(least).next_multiple_of(multiple).min(longest).min(in_n);
        Self {
            batch: batch as u32,
            in_n: in_n as u32,
            out_n: out_n as u32,
            relu: relu.into(),
            splits: in_n.div_ceil(per_split) as u32,
            per_split: per_split as u32,
        }
    }
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.batch as usize, self.in_n as usize, self.out_n as usize]
    }
    pub(super) fn cost(&self) -> Cost {
        let [b, i, o] = self.sizes();
        Cost { flops: 2.0 * (b * i * o) as f64, bytes: 4.0 * (b * i + i * o + b * o) as f64 }
    }
}

const SOURCE: &str = include_str!("../../shaders/dense.wgsl");
/// What the file refers to.
pub(super) const SHARED: &[&str] = &[SLICE_WGSL, STEP_WGSL, ADAM_WGSL, UPDATE_BIAS_WGSL];

pub(super) fn x_len(d: &[u32]) -> usize {
    let [b, i, _] = DenseDims::of(d).sizes();
    b * i
}
pub(super) fn y_len(d: &[u32]) -> usize {
    let [b, _, o] = DenseDims::of(d).sizes();
    b * o
}
pub(super) fn weight_len(d: &[u32]) -> usize {
    let [_, i, o] = DenseDims::of(d).sizes();
    i * o
}
pub(super) fn bias_len(d: &[u32]) -> usize {
    DenseDims::of(d).out_n as usize
}
fn partial_len(d: &[u32]) -> usize {
    y_len(d) * DenseDims::of(d).splits as usize
}

fn cases() -> Vec<Vec<u32>> {
    [
        DenseDims::new(1, 4, 4, false),
        DenseDims::new(3, 20, 12, true),
        DenseDims::new(9, 516, 20, false),
        DenseDims::new(64, 128, 4, false),
        DenseDims::new(6, 12_544, 128, true),
        DenseDims::new(65, 260, 8, true),
    ]
    .iter()
    .map(Dims::words)
    .collect()
}

/// The kernel of the products.
pub(super) const FORWARD: &Kernel = &KERNELS[0];
/// The kernel of the products' sums.
pub(super) const REDUCE: &Kernel = &KERNELS[1];
/// The kernel of the input's gradient.
pub(super) const BACKWARD_INPUT: &Kernel = &KERNELS[2];
/// The kernel of the weights' gradient.
pub(super) const BACKWARD_WEIGHT: &Kernel = &KERNELS[3];
/// The kernel of the weights' gradient that ends in their update.
pub(super) const UPDATE_WEIGHT: &Kernel = &KERNELS[4];

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "dense.forward",
        variant: None,
        formula: "partial[s,b,j] = sum over the inputs i of split s of x[b,i] * weight[i,j]",
        file: "dense.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "forward",
        dims: DenseDims::FIELDS,
        step: false,
        bindings: &[Binding::read("x", x_len), Binding::read("weight", weight_len), Binding::write("partial", partial_len)],
        grid: |d| {
            let d = DenseDims::of(d);
            grid(product(&[(d.out_n / 4).div_ceil(2), d.batch.div_ceil(8), d.splits]))
        },
        loops: |d| passes(&[DenseDims::of(d).per_split as usize / 4]),
        cost: |d| Cost { bytes: 4.0 * (x_len(d) + weight_len(d) + partial_len(d)) as f64, ..DenseDims::of(d).cost() },
        made: 1.0,
        twin: crate::twin!(forward),
        bound: Bound::Twin(|d| f64::from(DenseDims::of(d).per_split) + 1.0),
        cases,
        input: random_input,
    },
    Kernel {
        key: "dense.reduce",
        variant: None,
        formula: "y[b,j] = relu?(bias[j] + sum_s partial[s,b,j])",
        file: "dense.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "reduce",
        dims: DenseDims::FIELDS,
        step: false,
        bindings: &[Binding::read("sums", partial_len), Binding::read("bias", bias_len), Binding::write("y", y_len)],
        grid: |d| grid(y_len(d) / 4),
        loops: |d| passes(&[DenseDims::of(d).splits as usize]),
        cost: |d| Cost { flops: partial_len(d) as f64, bytes: 4.0 * (partial_len(d) + y_len(d)) as f64 },
        made: 1.0,
        twin: crate::twin!(reduce),
        bound: Bound::Twin(|d| f64::from(DenseDims::of(d).splits) + 1.0),
        cases,
        input: random_input,
    },
    Kernel {
        key: "dense.backward_input",
        variant: None,
        formula: "dx[b,i] = sum_j dy[b,j] * weight[i,j]",
        file: "dense.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "backward_input",
        dims: DenseDims::FIELDS,
        step: false,
        bindings: &[Binding::read("dy", y_len), Binding::read("weight", weight_len), Binding::write("dx", x_len)],
        grid: |d| {
            let d = DenseDims::of(d);
            grid(product(&[d.in_n / 4, d.batch.div_ceil(8)]))
        },
        loops: |d| passes(&[DenseDims::of(d).out_n as usize / 4]),
        cost: |d| DenseDims::of(d).cost(),
        made: 1.0,
        twin: crate::twin!(backward_input),
        bound: Bound::Twin(|d| f64::from(DenseDims::of(d).out_n) + 1.0),
        cases,
        input: random_input,
    },
    Kernel {
        key: "dense.backward_weight",
        variant: None,
        formula: "dweight[i,j] = sum_b x[b,i] * dy[b,j]; dbias[j] = sum_b dy[b,j]",
        file: "dense.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "backward_weight",
        dims: DenseDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("x", x_len),
            Binding::read("grad", y_len),
            Binding::write("dweight", weight_len),
            Binding::write("dbias", bias_len),
        ],
        grid: |d| {
            let d = DenseDims::of(d);
            grid(product(&[d.in_n / 4, (d.out_n / 4).div_ceil(2)]))
        },
        loops: |d| passes(&[DenseDims::of(d).batch as usize]),
        cost: |d| DenseDims::of(d).cost(),
        made: 1.0,
        twin: crate::twin!(backward_weight),
        bound: Bound::Twin(|d| f64::from(DenseDims::of(d).batch) + 1.0),
        cases,
        input: random_input,
    },
    // The gradient of dense_1 is 98 % of all gradients of the notebook's network: written and read again it would cost as much time as
    // making it does.
    Kernel {
        key: "dense.update_weight",
        variant: None,
        formula: "g[i,j] = sum_b x[b,i] * dy[b,j]: Adam's update of w, m, v (see adam.update), and from sum_b dy[b,j] that of the bias's b, bm, bv",
        file: "dense.wgsl",
        source: SOURCE,
        shared: SHARED,
        entry: "update_weight",
        dims: DenseDims::FIELDS,
        step: true,
        bindings: &[
            Binding::read("x", x_len),
            Binding::read("grad", y_len),
            Binding::write("w", weight_len).updated(),
            Binding::write("m", weight_len).updated(),
            Binding::write("v", weight_len).updated(),
            Binding::write("b", bias_len).updated(),
            Binding::write("bm", bias_len).updated(),
            Binding::write("bv", bias_len).updated(),
        ],
        grid: |d| {
            let d = DenseDims::of(d);
            grid(product(&[d.in_n / 4, (d.out_n / 4).div_ceil(2)]))
        },
        loops: |d| passes(&[DenseDims::of(d).batch as usize]),
        cost: |d| {
            let products = DenseDims::of(d).cost().flops;
            let n = weight_len(d) as f64;
            Cost { flops: products + 12.0 * n, bytes: 4.0 * (x_len(d) + y_len(d)) as f64 + 24.0 * n }
        },
        made: 1.0,
        twin: crate::twin!(update_weight),
        bound: Bound::Own(|call| update_bound(call, 1.0)),
        cases,
        input: |d, name, seed| match name {
            "v" => Some(adam::squares(weight_len(d), [seed, 15])),
            "bv" => Some(adam::squares(bias_len(d), [seed, 18])),
            _ => None,
        },
    },
];

/// Inputs that one task of the backward passes takes.
const CHUNK: usize = 256;

fn forward<T: Real>(call: &mut Call<T>) {
    let d: DenseDims = call.dims();
    let [b, i, o] = d.sizes();
    let (x, weight) = (call.read(0), call.read(1));
    let per = d.per_split as usize;
    call.writes[0].f_mut()[..partial_len(call.dims)].par_chunks_mut(b * o).enumerate().for_each(|(s, partial)| {
        let (from, to) = (s * per, ((s + 1) * per).min(i));
        let rows = Mat { data: &x[from..], rows: b, cols: to - from, row_stride: i, col_stride: 1 };
        matmul(partial, false, rows, Mat::new(&weight[from * o..to * o], to - from, o));
    });
}

fn reduce<T: Real>(call: &mut Call<T>) {
    let d: DenseDims = call.dims();
    let (sums, bias) = (call.read(0), call.read(1));
    let (n, o) = (y_len(call.dims), d.out_n as usize);
    // A picture's run of every partial sum after the other, so that memory is read in order.
    call.writes[0].f_mut()[..n].par_chunks_exact_mut(o).enumerate().for_each(|(b, y)| {
        y.fill(T::zero());
        for sums in sums[..partial_len(call.dims)].chunks_exact(n) {
            y.iter_mut().zip(&sums[b * o..]).for_each(|(y, &v)| *y += v);
        }
        for (y, &bias) in y.iter_mut().zip(bias) {
            let z = *y + bias;
            // A comparison instead of max(): relu(NaN) must stay NaN.
            *y = if d.relu != 0 && z < T::zero() { T::zero() } else { z };
        }
    });
}

fn backward_input<T: Real>(call: &mut Call<T>) {
    let d: DenseDims = call.dims();
    let [b, i, o] = d.sizes();
    let (dy, weight) = (call.read(0), call.read(1));
    let rows = Mat::new(dy, b, o);
    // A few pictures per task: their rows of dx are contiguous. Each task reads all weights.
    const PICTURES: usize = 32;
    call.writes[0].f_mut()[..b * i].par_chunks_mut(PICTURES * i).enumerate().for_each(|(n, dx)| {
        let count = dx.len() / i;
        let some = Mat { data: &rows.data[n * PICTURES * o..], rows: count, ..rows };
        matmul(dx, false, some, Mat::new(weight, i, o).t());
    });
}

fn backward_weight<T: Real>(call: &mut Call<T>) {
    let d: DenseDims = call.dims();
    let [b, i, o] = d.sizes();
    let (x, dy) = (call.read(0), call.read(1));
    let [dweight, dbias] = call.writes else { panic!("backward_weight writes two buffers") };
    dweight.f_mut()[..i * o].par_chunks_mut(CHUNK * o).enumerate().for_each(|(n, dweight)| {
        let count = dweight.len() / o;
        let columns = Mat { data: &x[n * CHUNK..], rows: count, cols: b, row_stride: 1, col_stride: i };
        matmul(dweight, false, columns, Mat::new(dy, b, o));
    });
    sum_rows(&mut dbias.f_mut()[..o], &dy[..b * o]);
}

/// sums[j] = sum of the rows' element j.
fn sum_rows<T: Real>(sums: &mut [T], rows: &[T]) {
    sums.fill(T::zero());
    for row in rows.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += v);
    }
}

fn update_weight<T: Real>(call: &mut Call<T>) {
    let d: DenseDims = call.dims();
    let [b, i, o] = d.sizes();
    let (x, dy) = (call.read(0), call.read(1));
    let adam = Update::<T>::new(&call.step.adam);
    let [w, m, v, b_now, bm, bv] = call.writes else { panic!("update_weight writes six buffers") };
    let [w, m, v] = [w, m, v].map(|t| t.f_mut()[..i * o].par_chunks_mut(CHUNK * o));
    // A task's gradient never leaves its core's cache.
    w.zip(m).zip(v).enumerate().for_each(|(n, ((w, m), v))| {
        with_scratch([w.len()], |[grad]| {
            let grad = &mut grad[..w.len()];
            let columns = Mat { data: &x[n * CHUNK..], rows: grad.len() / o, cols: b, row_stride: 1, col_stride: i };
            matmul(grad, false, columns, Mat::new(dy, b, o));
            grad.iter().zip(w).zip(m).zip(v).for_each(|(((&g, w), m), v)| adam.apply(g, w, m, v));
        });
    });
    with_scratch([o], |[grad]| {
        let grad = &mut grad[..o];
        sum_rows(grad, &dy[..b * o]);
        let state = b_now.f_mut().iter_mut().zip(bm.f_mut()).zip(bv.f_mut());
        grad.iter().zip(state).for_each(|(&g, ((w, m), v))| adam.apply(g, w, m, v));
    });
}

/// Adam's bound with what the sums over the batch may be off, where an addition errs `by` times as much as a rounding to the nearest.
pub(super) fn update_bound(call: &Call<f64>, by: f64) -> Vec<Vec<f64>> {
    let d: DenseDims = call.dims();
    let [b, i, o] = d.sizes();
    let (x, dy) = (call.read(0), call.read(1));
    let scale = by * (f64::from(d.batch) + 1.0) * 2f64.powi(-24);
    let sum = |map: fn(f64) -> f64| -> Vec<f64> {
        let product = |at: usize| (0..b).map(|n| map(x[n * i + at / o]) * map(dy[n * o + at % o])).sum();
        (0..i * o).into_par_iter().map(product).collect()
    };
    let (grad, mut error) = (sum(|v| v), sum(f64::abs));
    error.iter_mut().for_each(|e| *e *= scale);
    let of_bias = |map: fn(f64) -> f64| -> Vec<f64> { (0..o).map(|j| (0..b).map(|n| map(dy[n * o + j])).sum()).collect() };
    let (bias_grad, mut bias_error) = (of_bias(|v| v), of_bias(f64::abs));
    bias_error.iter_mut().for_each(|e| *e *= scale);
    let state = |first: usize, len| [0, 1, 2].map(|n| &call.writes[first + n].f()[..len]);
    let adam = &call.step.adam;
    let weights = adam::bounds(adam, &grad, &error, state(0, i * o));
    weights.into_iter().chain(adam::bounds(adam, &bias_grad, &bias_error, state(3, o))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_fewer_partial_sums_where_a_large_batch_makes_workgroups_enough() {
        let splits = |batch, in_n, out_n| {
            let d = DenseDims::spread(batch, in_n, out_n, true, Spread::Many);
            assert!(d.per_split * d.splits >= d.in_n && d.per_split * (d.splits - 1) < d.in_n, "{d:?}");
            (d.splits, d.per_split)
        };
        assert_eq!(splits(64, 12_544, 128), (98, 128));
        assert_eq!(splits(1024, 12_544, 128), (32, 400));
        assert_eq!(splits(65_536, 12_544, 128), (1, 12_544));
        assert_eq!(splits(64, 100, 4), (1, 100));
    }
}
