//! A step's mean loss and number of hits, kept on the device until the host reads many steps at once: `shaders/batch_mean.wgsl`.

use crate::kernel::{Binding, Bound, Call, Cost, Dims, Kernel, Real, STEP_WGSL, passes, random_input};

pub(super) const METRICS_WGSL: &str = include_str!("../../shaders/shared/metrics.wgsl");

crate::dims! {
    /// Sizes of one reduction.
    pub struct BatchMeanDims {
        /// Pictures in the batch.
        batch,
        /// Rows of `metrics`.
        slots,
    }
}

fn batch(d: &[u32]) -> usize {
    BatchMeanDims::of(d).batch as usize
}
fn metrics(d: &[u32]) -> usize {
    2 * BatchMeanDims::of(d).slots as usize
}

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "batch_mean.forward",
    variant: None,
    formula: "metrics[slot] = (mean of loss, sum of correct); one workgroup, a fixed tree",
    file: "batch_mean.wgsl",
    source: include_str!("../../shaders/batch_mean.wgsl"),
    shared: &[STEP_WGSL, METRICS_WGSL],
    entry: "forward",
    dims: BatchMeanDims::FIELDS,
    step: true,
    bindings: &[Binding::read("loss", batch), Binding::read("correct", batch), Binding::write("metrics", metrics).updated()],
    grid: |_| [1, 1, 1],
    loops: |d| passes(&[batch(d).div_ceil(64)]) + passes(&[6]),
    cost: |d| Cost { flops: 2.0 * batch(d) as f64, bytes: 8.0 * batch(d) as f64 },
    made: 1.0,
    twin: crate::twin!(forward),
    // A lane's serial sum, six levels of the tree, the quotient's 2.5 ulp.
    bound: Bound::Twin(|d| batch(d).div_ceil(64) as f64 + 6.0 + 5.0),
    cases: || [[1, 3], [64, 5], [65, 9], [1000, 4]].map(|[batch, slots]| BatchMeanDims { batch, slots }.words()).to_vec(),
    input: random_input,
}];

fn forward<T: Real>(call: &mut Call<T>) {
    let n = batch(call.dims);
    let slot = call.step.slot as usize;
    let loss: T = call.read(0)[..n].iter().copied().sum();
    let correct: T = call.read(1)[..n].iter().copied().sum();
    let metrics = call.writes[0].f_mut();
    metrics[2 * slot] = loss / T::of(n as f64);
    metrics[2 * slot + 1] = correct;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Buffer;

    #[test]
    fn every_slot_has_its_two_places() {
        let dims = BatchMeanDims { batch: 2, slots: 9 }.words();
        let step = crate::kernel::Step { slot: 8, ..crate::verify::step() };
        let reads = [vec![1.0, 2.0], vec![0.0, 1.0]].map(Buffer::F);
        let mut written = Buffer::F(vec![0.0; (KERNELS[0].bindings[2].len)(&dims)]);
        let mut call = Call { dims: &dims, step: &step, reads: &[&reads[0], &reads[1]], writes: &mut [&mut written] };
        forward::<f64>(&mut call);
        assert_eq!(written.f()[16..], [1.5, 1.0]);
    }
}
