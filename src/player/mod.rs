//! Two players of one [`Program`]: the GPU's and the CPU's. Only this module names `wgpu`.

mod adapters;
mod cache;
mod cpu;
mod gpu;
mod machine_code;
mod pace;
mod pipelines;
mod profile;
mod techniques;
mod texels;
mod tuned;

pub use adapters::{AdapterFacts, Choice, DeviceChoice, adapters, choose, choose_with};
pub use cache::Cache;
pub use cpu::CpuPlayer;
pub use gpu::{Adapter, Floor, GpuPlayer};
pub use pipelines::{FirstUse, Kept};
pub use profile::{Clock, Peaks, Span, Timing, peaks};
pub use techniques::Technique;
pub use tuned::{Candidate, Measured, Record, StepTimes, Tuned, named, now, shaders};

use crate::kernel::Step;
use crate::plan::{PlanId, Program};
use anyhow::Result;

/// There is no memory for a program: a smaller batch, or a batch in parts, may fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory(pub String);

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutOfMemory {}

/// Plays plans over the program's tensors.
pub trait Player {
    /// What it plays on, for messages.
    fn device(&self) -> String;
    /// Overwrites the start of a float tensor.
    fn write(&mut self, tensor: &str, values: &[f32]) -> Result<()>;
    /// Overwrites a word tensor from this element on.
    fn write_words(&mut self, tensor: &str, first: usize, words: &[u32]) -> Result<()>;
    /// The whole float tensor.
    fn read(&mut self, tensor: &str) -> Result<Vec<f32>>;
    /// Plays a plan once per step, in order, and returns when all are done.
    fn play(&mut self, plan: PlanId, steps: &[Step]) -> Result<()>;
    /// Plays as [`Player::play`] does and returns a float tensor as it is then; with one wait for both where the player can.
    fn play_and_read(&mut self, plan: PlanId, steps: &[Step], tensor: &str) -> Result<Vec<f32>> {
        self.play(plan, steps)?;
        self.read(tensor)
    }
    /// What it plays.
    fn program(&self) -> &Program;
    /// Plays as [`Player::play`] does, slower, and tells when each dispatch began and ended. What may be long is played up to twice
    /// more before, with the first step.
    fn time(&mut self, plan: PlanId, steps: &[Step]) -> Result<Timing>;
    /// What opening the device and compiling for it took; none on the CPU path.
    fn first_use(&self) -> Option<FirstUse> {
        None
    }
}
