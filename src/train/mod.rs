//! Training: epochs over an engine, the history, and the checkpoints.

mod checkpoint;
mod config;
mod epochs;
mod history;

pub use checkpoint::{Card, Weights, load, save};
pub use config::{MAX_BATCH, RunConfig, TrainSettings};
pub use epochs::{Observer, Outcome, Running, Trainer};
pub use history::{Epoch, History};
