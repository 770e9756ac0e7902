//! What Grad-CAM explains: the gradient of the chosen score with respect to the logits: `shaders/score.wgsl`.
//!
//! A signed logit never saturates; the notebook's own score, the output p, does (its gradient p(1-p) is 0 once p rounds to 1).

use super::product;
use super::softmax_ce::argmax;
use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, SLICE_WGSL, Values, grid, passes};
use crate::rng;

crate::dims! {
    /// One batch and what to explain in it.
    pub struct ScoreDims {
        /// Pictures in the batch.
        batch,
        /// Logits per picture; 1 with the sigmoid head.
        classes,
        /// Floats per row of logits.
        stride,
        /// 0 the predicted class, 1 the logit (the second class's, or the predicted one's with softmax), 2 the output
        /// probability, 3 a class.
        target_kind,
        /// The class of kind 3.
        class_index,
    }
}

fn rows(d: &[u32]) -> usize {
    let d = ScoreDims::of(d);
    product(&[d.batch, d.stride])
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "score.backward",
    variant: None,
    formula: "sigmoid: +1 or -1 for the logit's side, p(1-p) for the output; softmax: onehot(c), or p_c (onehot(c) - p) for the output",
    file: "score.wgsl",
    source: include_str!("../../shaders/score.wgsl"),
    shared: &[SLICE_WGSL],
    entry: "backward",
    dims: ScoreDims::FIELDS,
    step: false,
    bindings: &[Binding::read("logits", rows), Binding::read("probs", rows), Binding::write("dlogits", rows)],
    grid: |d| grid(ScoreDims::of(d).batch as usize),
    loops: |d| {
        let d = ScoreDims::of(d);
        passes(&[d.classes as usize - 1]) + passes(&[d.stride as usize])
    },
    cost: |d| Cost { flops: 4.0 * rows(d) as f64, bytes: 12.0 * rows(d) as f64 },
    made: 1.0,
    twin: crate::twin!(backward),
    // At most 1 in size, a difference and a product.
    bound: Bound::Own(|call| vec![vec![3.0 * 2f64.powi(-24); rows(call.dims)]]),
    cases: || {
        let mut cases = Vec::new();
        for (batch, classes, stride) in [(1, 1, 4), (67, 1, 4), (5, 3, 4), (66, 6, 8)] {
            for target_kind in 0..4 {
                for class_index in 0..u32::min(2, target_kind) {
                    cases.push(ScoreDims { batch, classes, stride, target_kind, class_index }.words());
                }
            }
            cases.push(ScoreDims { batch, classes, stride, target_kind: 0, class_index: 0 }.words());
        }
        cases
    },
    input: |d, name, seed| {
        // Undecided pictures among them: exactly one half counts as the first class.
        let p = |i| if i % 12 == 4 { 0.5 } else { rng::unit(rng::hash3(seed, 9, i)) };
        (name == "probs").then(|| Values::F((0..rows(d) as u32).map(p).collect()))
    },
}];

fn backward<T: Real>(call: &mut Call<T>) {
    let d: ScoreDims = call.dims();
    let stride = d.stride as usize;
    let (logits, probs) = (call.read(0), call.read(1));
    let n = rows(call.dims);
    for (b, dlogits) in call.writes[0].f_mut()[..n].chunks_exact_mut(stride).enumerate() {
        let p = &probs[b * stride..][..stride];
        dlogits.fill(T::zero());
        if d.classes == 1 {
            let second = match d.target_kind {
                0 => p[0] > T::of(0.5),
                1 => true,
                _ => d.class_index == 1,
            };
            let sign = if second { T::one() } else { -T::one() };
            dlogits[0] = if d.target_kind == 2 { p[0] * (T::one() - p[0]) } else { sign };
        } else {
            let top = argmax(&logits[b * stride..][..d.classes as usize]);
            let c = if d.target_kind == 3 { d.class_index as usize } else { top };
            for (j, to) in dlogits.iter_mut().enumerate() {
                let hot = if j == c { T::one() } else { T::zero() };
                *to = if d.target_kind == 2 { p[c] * (hot - p[j]) } else { hot };
            }
        }
    }
}
