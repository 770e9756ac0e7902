//! From picture files to one block of pixels.
//!
//! ```text
//! folder of pictures -> folder::scan -> decode::Reader (+ resize) -> dataset::Dataset -> split::stratified
//!                                   \-> cache::Cache, the second time ->/
//!                                   \-> differences::keras_differences: what Keras would have done otherwise
//! planted::generate  -> a made folder of pictures with known artefacts, for `demo` and for judging explanations
//! ```
//!
//! Everything here runs on the CPU and ends in bytes, NHWC, RGB, in the words of a pixel that are uploaded as they are. The scaling to
//! `f32` belongs to the batch.
//! The default choices are the correct ones; `keras_exact` gives those of Keras 2.15's `flow_from_directory`.

pub mod cache;
pub mod dataset;
pub mod decode;
pub mod differences;
pub mod folder;
mod pixels;
pub mod planted;
pub mod resize;
mod scene;
pub mod split;

pub use cache::Cache;
pub use dataset::{Dataset, Fingerprint, Limit, OnBad};
pub use decode::{Reader, RgbPixels, Traits};
pub use differences::{TraitCounts, keras_differences};
pub use folder::{Folder, Item, list_pictures, scan};
pub use pixels::{pack, unpack};
pub use planted::{Planted, PlantedBox, PlantedPicture, PlantedSet};
pub use resize::Resize;
pub use split::stratified;
