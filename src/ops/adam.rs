//! Adam (Kingma and Ba 2015) as Keras 2.15 and 3 compute it: `shaders/adam.wgsl`.
//!
//! `alpha = lr sqrt(1 - beta2^t) / (1 - beta1^t)`; `m += (g - m)(1 - beta1)`; `v += (g^2 - v)(1 - beta2)`;
//! `w -= m alpha / (sqrt(v) + epsilon)`: epsilon stands outside the bias correction, so tiny gradients move less than in PyTorch.

use super::relu::{FlatDims, cases, len};
use crate::kernel::{
    ADAM_WGSL, AdamScalars, Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, STEP_WGSL, Values, grid, no_loops,
};
use crate::rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Adam's settings, with Keras's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root, outside the bias correction.
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 }
    }
}

impl Adam {
    /// The scalars of update number `t`, counted from 1.
    pub fn at(&self, t: u32) -> AdamScalars {
        let [lr, b1, b2] = [self.learning_rate, self.beta1, self.beta2].map(|v| v as f32);
        // tf.cast(beta, dtype) goes through f32 even where Keras computes in f64, so the oracle's alpha does too.
        let [beta1, beta2] = [b1, b2].map(f64::from);
        let alpha = self.learning_rate * (1.0 - beta2.powf(t.into())).sqrt() / (1.0 - beta1.powf(t.into()));
        let alpha_f32 = lr * (1.0 - b2.powf(t as f32)).sqrt() / (1.0 - b1.powf(t as f32));
        AdamScalars {
            alpha,
            alpha_f32,
            one_minus_beta1: 1.0 - self.beta1,
            one_minus_beta2: 1.0 - self.beta2,
            epsilon: self.epsilon,
        }
    }
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "adam.update",
    variant: None,
    formula: "m += (g - m)(1 - beta1); v += (g g - v)(1 - beta2); weight -= m alpha / (sqrt(v) + epsilon)",
    file: "adam.wgsl",
    source: include_str!("../../shaders/adam.wgsl"),
    shared: &[SLICE_WGSL, STEP_WGSL, ADAM_WGSL],
    entry: "update",
    dims: FlatDims::FIELDS,
    step: true,
    bindings: &[
        Binding::read("grad", len),
        Binding::write("weight", len).updated(),
        Binding::write("m", len).updated(),
        Binding::write("v", len).updated(),
    ],
    grid: |d| grid(len(d) / 4),
    loops: no_loops,
    cost: |d| Cost { flops: 12.0 * len(d) as f64, bytes: 28.0 * len(d) as f64 },
    made: 1.0,
    twin: crate::twin!(update),
    bound: Bound::Own(bound),
    cases,
    input: |d, name, seed| {
        // v is a mean of squares; gradients span the range where epsilon matters and where it does not.
        let draw = |i: u32, stream| rng::unit(rng::hash3(seed, stream, i));
        let size = |i| 10f32.powf(-8.0 * draw(i, 11));
        let n = len(d) as u32;
        match name {
            "v" => Some(Values::F((0..n).map(|i| (size(i) * draw(i, 12)).powi(2)).collect())),
            "grad" => Some(Values::F((0..n).map(|i| size(i) * (2.0 * draw(i, 13) - 1.0)).collect())),
            "m" => Some(Values::F((0..n).map(|i| size(i) * (2.0 * draw(i, 14) - 1.0)).collect())),
            _ => None,
        }
    },
}];

fn update<T: Real>(call: &mut Call<T>) {
    let n = len(call.dims);
    let adam = Update::<T>::new(&call.step.adam);
    let grad = call.reads[0].f();
    let [weight, m, v] = call.writes else { panic!("adam.update writes three buffers") };
    let state = weight.f_mut()[..n].par_iter_mut().zip(&mut m.f_mut()[..n]).zip(&mut v.f_mut()[..n]);
    state.zip(&grad[..n]).with_min_len(16_384).for_each(|(((w, m), v), &g)| adam.apply(g, w, m, v));
}

/// The update of one weight.
#[derive(Clone, Copy)]
pub(super) struct Update<T> {
    alpha: T,
    epsilon: T,
    one_minus_beta1: T,
    one_minus_beta2: T,
}

impl<T: Real> Update<T> {
    pub(super) fn new(adam: &AdamScalars) -> Self {
        let [epsilon, one_minus_beta1, one_minus_beta2] = [adam.epsilon, adam.one_minus_beta1, adam.one_minus_beta2].map(T::of);
        Self { alpha: T::alpha(adam), epsilon, one_minus_beta1, one_minus_beta2 }
    }

    #[inline(always)]
    pub(super) fn apply(&self, g: T, w: &mut T, m: &mut T, v: &mut T) {
        *m += (g - *m) * self.one_minus_beta1;
        *v += (g * g - *v) * self.one_minus_beta2;
        *w -= (*m * self.alpha) / (v.sqrt() + self.epsilon);
    }
}

/// Means of squares, for a test.
pub(super) fn squares(len: usize, [seed, stream]: [u32; 2]) -> Values {
    Values::F((0..len as u32).map(|i| rng::unit(rng::hash3(seed, stream, i)).powi(2)).collect())
}

fn bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let n = len(call.dims);
    let [weight, m, v] = [0, 1, 2].map(|i| &call.writes[i].f()[..n]);
    bounds(&call.step.adam, &call.reads[0].f()[..n], &vec![0.0; n], [weight, m, v]).into()
}

/// Bounds of the updated weight, m and v, given each gradient and how far it may be off. Rounding analysis of the three lines,
/// u = 2^-24; WGSL allows 2.5 ulp for the quotient and about as much for the root.
pub(super) fn bounds(a: &AdamScalars, grad: &[f64], grad_error: &[f64], [weight, m, v]: [&[f64]; 3]) -> [Vec<f64>; 3] {
    let u = 2f64.powi(-24);
    let mut bounds = [const { Vec::new() }; 3];
    for i in 0..grad.len() {
        let (g, g_error) = (grad[i], grad_error[i]);
        let dm = (g - m[i]) * a.one_minus_beta1;
        let dv = (g * g - v[i]) * a.one_minus_beta2;
        let (m_new, v_new) = (m[i] + dm, v[i] + dv);
        let m_error = u * (3.0 * dm.abs() + m_new.abs()) + g_error * a.one_minus_beta1;
        let v_error =
            u * (3.0 * dv.abs() + g * g * a.one_minus_beta2 + v_new) + (2.0 * g.abs() + g_error) * g_error * a.one_minus_beta2;
        let root = v_new.sqrt() + a.epsilon;
        let delta = m_new * a.alpha / root;
        let root_error = v_error / (2.0 * v_new.sqrt()).max(f64::MIN_POSITIVE) + 8.0 * u * root;
        let delta_error = m_error * a.alpha / root + delta.abs() * (root_error / root + 10.0 * u);
        bounds[0].push(delta_error + u * (weight[i] - delta).abs());
        bounds[1].push(m_error + f64::from(f32::MIN_POSITIVE));
        bounds[2].push(v_error + f64::from(f32::MIN_POSITIVE));
    }
    bounds
}
