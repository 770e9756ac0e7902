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
        let software = self.facts().software;
        for dispatch in program.plans.iter_mut().flat_map(|plan| &mut plan.dispatches) {
            // A variant stands behind what it is better than on the machines that it is made for, until `tune` knows more.
            let mut candidates = self.candidates(dispatch.kernel, &dispatch.dims).into_iter().rev();
            if let Some(best) = candidates.find(|k| k.variant.is_none_or(|v| v.software == software)) {
                dispatch.take(best);
            }
        }
    }
}
