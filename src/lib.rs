//! # wgradcam
//!
//! Trains a convolutional image classifier, evaluates it and explains it with Grad-CAM; every bit of that arithmetic is a WGSL
//! compute shader dispatched through wgpu, with a CPU path that does the same work and that the shaders are checked against.
//! ("wgrad" is the field's own word for the weight gradient.)
//!
//! ```text
//!  picture files ──> data ──────────> engine ──────────> train ───> metrics ──> report
//!                    scan, decode,    the model on its   epochs,    confusion   panels, charts,
//!                    resize           device with its    history,   matrix,     pages
//!                                     resident pictures  checkpoint report        ^
//!                                       |       |                                 |
//!                     model ── lower ──>|       └──────> explain ─────────────────┘
//!                     layers, shapes,   |                Grad-CAM maps of every layer
//!                     parameters        v                from one backward pass
//!                                     plan ──> player (gpu: wgpu | cpu: the twins)
//!                                       ^
//!                     ops ──> kernel ───┘
//!                     one op = one .wgsl + one .rs     the registry
//! ```
//!
//! A batch goes: bytes on the device, which the first layer reads where they lie ->
//! convolutions, dense layers -> loss -> the same list reversed -> Adam. Nothing is read back in between: losses wait in a table on
//! the device until the host asks for many at once.
//!
//! # What must stay true
//! 1. **A kernel is data.** [`kernel::REGISTRY`] lists every WGSL entry point with its bindings, grid, cost, error bound, test
//!    shapes and CPU twin. Tests and `verify` are loops over it; a kernel without a twin or a test cannot exist.
//! 2. **The model is written once**, as a layer list ([`model::Model`]); [`model::lower`] makes a plan of it, the backward pass being
//!    the forward list reversed. The GPU and the CPU player play the same plan. Only [`player`] names `wgpu`.
//! 3. **One op is two files with one stem**: `shaders/dense.wgsl` and `src/ops/dense.rs`, and one line in the registry.
//! 4. **One name everywhere**: `maxpool2x2.backward` is the registry key, the wgpu label and the test's name; tensors are `x, weight,
//!    bias, y, dy, dx` in the WGSL, the twin and the formula.
//! 5. **The reference is nearer the truth than what it judges**: a twin is generic over f32 (the `--device cpu` path) and f64 (the
//!    oracle), and takes another way than the shader.
//! 6. **Same seed, same device, same bytes**: no float atomics, sums in a fixed tree, random numbers from a counter hash that is
//!    bit-equal in Rust and WGSL ([`rng`]).
//! 7. **Channels are padded to a multiple of 4** on the device, with zeros that stay zero; Keras's layouts hold everywhere else.
//! 8. **Files are written whole** ([`files`]); all that a training needs to go on is in one of them, `last.safetensors`
//!    ([`train::Checkpoint`]), so that a kill at any moment costs time and nothing else.
//! 9. **`unsafe`** stands in four places, each with its reason: unchecked shader modules and wgpu's leave for cooperative matrices
//!    (`player/gpu.rs`), the pipeline cache of
//!    an earlier run (`player/pipelines.rs`) and the call into `gemm`, whose interface is raw pointers (`ops/gemm.rs`).

#![deny(unsafe_code, missing_docs)]

// The order of the data's way.
pub mod data;
pub mod model;
// What a model is made of.
pub mod kernel;
pub mod ops;
pub mod plan;
pub mod player;
// The model on its device, and what is done with it.
pub mod engine;
pub mod explain;
pub mod metrics;
pub mod report;
pub mod train;
pub mod tune;
pub mod verify;
// What all of them share.
mod fault;
pub mod files;
pub mod rng;
// The program.
pub mod cli;
pub mod commands;
