//! The model, written once: settings -> a `Sequential` list of layers with shapes -> parameters -> a plan of dispatches.

mod layers;
mod lower;
mod params;
mod settings;
mod summary;

pub use layers::{Layer, LayerOp, Model, Shape};
pub use lower::{Explain, Mode, PictureSet, Target, Technique, lower};
pub use params::Param;
pub use settings::{HeadChoice, ModelSettings, Padding};
