//! Two players of one [`Program`]: the GPU's and the CPU's. Only this module names `wgpu`.

mod adapters;
mod cpu;
mod gpu;
mod profile;

pub use adapters::{AdapterFacts, Choice, DeviceChoice, adapters, choose};
pub use cpu::CpuPlayer;
pub use gpu::{Adapter, GpuPlayer};
pub use profile::{Clock, Peaks, Span, Timing, peaks};

use crate::kernel::Step;
use crate::plan::{PlanId, Program};
use anyhow::Result;

/// Plays plans over the program's tensors.
pub trait Player {
    /// What it plays on, for messages.
    fn device(&self) -> String;
    /// Overwrites the start of a float tensor.
    fn write(&mut self, tensor: &str, values: &[f32]) -> Result<()>;
    /// Overwrites the start of a word tensor.
    fn write_words(&mut self, tensor: &str, words: &[u32]) -> Result<()>;
    /// The whole float tensor.
    fn read(&mut self, tensor: &str) -> Result<Vec<f32>>;
    /// Plays a plan once per step, in order, and returns when all are done.
    fn play(&mut self, plan: PlanId, steps: &[Step]) -> Result<()>;
    /// What it plays.
    fn program(&self) -> &Program;
    /// Plays as [`Player::play`] does, slower, and tells when each dispatch began and ended.
    fn time(&mut self, plan: PlanId, steps: &[Step]) -> Result<Timing>;
}
