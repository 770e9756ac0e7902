//! A whole dense layer in one dispatch, `y = relu?(x weight + bias)`: `shaders/dense_bias_relu.wgsl`.
//!
//! What [`super::dense`] makes in two where the inputs are few enough for one partial sum and the outputs are few, as the output layer's
//! are: a second dispatch would take a GPU as long as all the products.

use super::dense::{DenseDims, bias_len, weight_len, x_len, y_len};
use super::gemm::{Mat, matmul};
use super::product;
use crate::kernel::{Binding, Bound, Call, Dims, Kernel, Real, SLICE_WGSL, grid, passes, random_input};

/// Most outputs of a layer that is played so: `/narrow` keeps 16 of each of four inputs in registers.
pub(crate) const MOST_OUTPUTS: u32 = 16;

/// One four of outputs and several, rows past the batch, and the notebook's output layer.
fn cases() -> Vec<Vec<u32>> {
    [
        DenseDims::new(1, 4, 4, false),
        DenseDims::new(3, 20, 12, true),
        DenseDims::new(9, 252, 16, false),
        DenseDims::new(64, 128, 4, false),
        DenseDims::new(270, 36, 8, true),
    ]
    .iter()
    .map(Dims::words)
    .collect()
}

/// The kernel that every adapter can run.
pub(super) const FORWARD: &Kernel = &KERNELS[0];

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "dense_bias_relu.forward",
    variant: None,
    formula: "y[b,j] = relu?(bias[j] + sum_i x[b,i] * weight[i,j])",
    file: "dense_bias_relu.wgsl",
    source: include_str!("../../shaders/dense_bias_relu.wgsl"),
    shared: &[SLICE_WGSL],
    entry: "forward",
    dims: DenseDims::FIELDS,
    step: false,
    bindings: &[
        Binding::read("x", x_len),
        Binding::read("weight", weight_len),
        Binding::read("bias", bias_len),
        Binding::write("y", y_len),
    ],
    grid: |d| {
        let d = DenseDims::of(d);
        grid(product(&[d.out_n / 4, d.batch.div_ceil(4)]))
    },
    loops: |d| passes(&[DenseDims::of(d).in_n as usize / 4]),
    cost: |d| DenseDims::of(d).cost(),
    made: 1.0,
    twin: crate::twin!(forward),
    bound: Bound::Twin(|d| f64::from(DenseDims::of(d).in_n) + 2.0),
    cases,
    input: random_input,
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let d: DenseDims = call.dims();
    let [b, i, o] = d.sizes();
    let (x, weight, bias) = (call.read(0), call.read(1), call.read(2));
    let y = &mut call.writes[0].f_mut()[..b * o];
    matmul(y, false, Mat::new(x, b, i), Mat::new(weight, i, o));
    for y in y.chunks_exact_mut(o) {
        for (y, &bias) in y.iter_mut().zip(bias) {
            let z = *y + bias;
            // A comparison instead of max(): relu(NaN) must stay NaN.
            *y = if d.relu != 0 && z < T::zero() { T::zero() } else { z };
        }
    }
}
