//! Explaining: maps of where the network looked, for all convolution layers and a whole batch from one backward pass.

mod completeness;
mod maps;

pub use completeness::Completeness;
pub use maps::{BATCH, Explanation, LayerMap, explain};
