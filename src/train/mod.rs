//! Training: epochs over an engine, the history, the checkpoints, and going on from one.

mod checkpoint;
mod config;
mod epochs;
mod history;
mod resume;
mod sealed;

pub use checkpoint::{Card, Weights, load, save};
pub use config::{MAX_BATCH, RunConfig, TrainSettings};
pub use epochs::{Observer, Outcome, Running, Trainer};
pub use history::{Epoch, History};
pub use resume::{Checkpoint, Progress};
