//! Which variant of a kernel an adapter plays.

use super::Choice;
use super::gpu::Adapter;
use crate::kernel::{Kernel, MAX_ITERATIONS, MadeFor, Needs, Precision};
use crate::plan::{Program, Spread};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The variant that was chosen for a kernel at some sizes. Variants round differently, so a training that goes on must go on with its
/// own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Technique {
    /// Key of the kernel that every adapter can run.
    pub kernel: String,
    /// The words of its dims.
    pub dims: Vec<u32>,
    /// Key of what is played.
    pub variant: String,
}

impl Choice {
    /// The same device, on which products are of this precision where there is a variant for it.
    ///
    /// # Errors
    /// The device has nothing for f16; the error names it.
    pub fn with_precision(self, precision: Precision) -> Result<Self> {
        let Self { adapter, why } = self;
        ensure!(
            adapter.is_some() || precision == Precision::F32,
            "--precision f16 needs an adapter with cooperative matrices, and the device is {why}. Take --precision f32, or by --device an \
             adapter for which `wgradcam devices` lists cooperative-matrix"
        );
        Ok(Self { adapter: adapter.map(|a| a.with_precision(precision)).transpose()?, why })
    }

    /// The same device, on which these techniques are chosen again wherever they can run.
    pub fn replaying(&self, techniques: &[Technique]) -> Self {
        let mut adapter = self.adapter.clone();
        adapter.iter_mut().for_each(|a| a.replayed = techniques.to_vec());
        Self { adapter, why: self.why.clone() }
    }
}

impl Adapter {
    /// How far sums are cut for it.
    pub fn spread(&self) -> Spread {
        if self.facts().software { Spread::Few } else { Spread::Many }
    }

    /// Whether the adapter has what a kernel needs.
    pub fn can_run(&self, kernel: &Kernel) -> bool {
        match kernel.variant.as_ref().map_or(Needs::Nothing, |v| v.needs) {
            Needs::Nothing => true,
            Needs::ComponentStores => self.facts().backend == "Vulkan",
            Needs::EightLanes => self.has_eight_lanes(),
            Needs::CooperativeMatrix(tiles) => self.matrices.contains(&tiles),
        }
    }

    /// The kernels that can do the work of `kernel` for these dims here at the precision that was asked for, itself first.
    pub fn candidates(&self, kernel: &'static Kernel, dims: &[u32]) -> Vec<&'static Kernel> {
        let fits = |k: &&'static Kernel| {
            k.fits(dims) && (k.loops)(dims) <= MAX_ITERATIONS && k.precision() <= self.precision && self.can_run(k)
        };
        std::iter::once(kernel).chain(kernel.variants().filter(fits)).collect()
    }

    /// The one of these candidates that it takes by itself: a variant stands behind what it is better than on the machines that it is made
    /// for.
    pub fn default_of(&self, candidates: &[&'static Kernel]) -> &'static Kernel {
        let suits = |made_for: MadeFor| made_for.suits(self.facts().software, self.gathers());
        candidates.iter().rev().find(|k| k.variant.is_none_or(|v| suits(v.made_for))).unwrap_or(&candidates[0])
    }

    /// Puts the best variant that is known in the place of every kernel of the program, and returns what was chosen where there was a
    /// choice: a training's own choice if it is replayed ([`Choice::replaying`]), else what `tune` measured
    /// ([`crate::player::Tuned::chosen`]), else the default.
    pub fn choose_variants(&self, program: &mut Program) -> Vec<Technique> {
        let mut chosen = Vec::new();
        for dispatch in program.plans.iter_mut().flat_map(|plan| &mut plan.dispatches) {
            let (kernel, dims) = (dispatch.kernel, &dispatch.dims);
            let candidates = self.candidates(kernel, dims);
            let replayed = self.replayed.iter().find(|t| t.kernel == kernel.key && t.dims == *dims).map(|t| t.variant.as_str());
            let known = replayed.or_else(|| self.tuned.as_ref()?.chosen(kernel, dims, self.precision));
            let known = known.and_then(|key| candidates.iter().find(|k| k.key == key));
            let gone = replayed.filter(|_| known.is_none());
            let best = known.copied().unwrap_or_else(|| self.default_of(&candidates));
            let technique = Technique { kernel: kernel.key.to_owned(), dims: dims.clone(), variant: best.key.to_owned() };
            if !chosen.contains(&technique)
                && let Some(gone) = gone
            {
                eprintln!("Note: this training began with {gone}, which is not to be had here; it goes on with {}", best.key);
            }
            if candidates.len() > 1 && !chosen.contains(&technique) {
                chosen.push(technique);
            }
            dispatch.take(best);
        }
        chosen
    }
}
