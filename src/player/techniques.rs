//! Which variant of a kernel an adapter plays.

use super::gpu::Adapter;
use crate::kernel::{Kernel, Needs};
use crate::plan::Program;

impl Adapter {
    /// Whether the adapter has what a kernel needs.
    pub fn can_run(&self, kernel: &Kernel) -> bool {
        match kernel.variant.as_ref().map_or(Needs::Nothing, |v| v.needs) {
            Needs::Nothing => true,
            Needs::EightLanes => self.has_eight_lanes(),
        }
    }

    /// The kernels that can do the work of `kernel` for these dims here, itself first.
    pub fn candidates(&self, kernel: &'static Kernel, dims: &[u32]) -> Vec<&'static Kernel> {
        let fits = |k: &&'static Kernel| k.variant.as_ref().is_some_and(|v| (v.fits)(dims)) && self.can_run(k);
        std::iter::once(kernel).chain(kernel.variants().filter(fits)).collect()
    }

    /// Puts the best variant that is known in the place of every kernel of the program.
    pub fn choose_variants(&self, program: &mut Program) {
        for dispatch in program.plans.iter_mut().flat_map(|plan| &mut plan.dispatches) {
            // A variant stands behind what it is better than wherever it runs at all, until `tune` knows more.
            if let Some(best) = self.candidates(dispatch.kernel, &dispatch.dims).pop() {
                dispatch.take(best);
            }
        }
    }
}
