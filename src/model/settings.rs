//! The settings that describe a network; the defaults are the notebook's.

use serde::{Deserialize, Serialize};

/// Keras's `padding` of the convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// No padding: the output is smaller by kernel size - 1.
    #[default]
    Valid,
    /// Zeros around, the output as large as the input.
    Same,
}

/// Which output layer and loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HeadChoice {
    /// One sigmoid output for two classes, softmax for more.
    #[default]
    Auto,
    /// One sigmoid output with binary cross-entropy; two classes only.
    Sigmoid,
    /// One softmax output per class with categorical cross-entropy.
    Softmax,
}

/// The shape of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// Input height and width in pixels.
    pub size: [usize; 2],
    /// Filters of each Conv2D; each is followed by relu and a 2x2 max-pool.
    pub filters: Vec<usize>,
    /// Side of the square convolution kernels.
    pub kernel_size: usize,
    /// Padding of the convolutions.
    pub padding: Padding,
    /// Units of each hidden Dense layer; each is followed by relu and, if the rate is above 0, dropout.
    pub dense: Vec<usize>,
    /// Dropout rate after each hidden Dense layer.
    pub dropout: f64,
    /// The output layer.
    pub head: HeadChoice,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            size: [128, 128],
            filters: vec![16, 32, 64],
            kernel_size: 3,
            padding: Padding::Valid,
            dense: vec![128],
            dropout: 0.5,
            head: HeadChoice::Auto,
        }
    }
}
