//! The settings of a run: what `--config FILE` reads and what `config.toml` in the run folder records.

use crate::data::Reader;
use crate::files::read_whole;
use crate::kernel::Precision;
use crate::model::ModelSettings;
use crate::ops::adam::Adam;
use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How to train; the defaults are the notebook's, but for the number of epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Pictures per step.
    pub batch_size: usize,
    /// Pictures that are on the way through the network at once: a batch of more is played in parts, whose gradients are added up.
    /// Without it the whole batch, or what the device has memory for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Seed of the initial weights, the order, dropout and the validation split.
    pub seed: u32,
    /// Whether every epoch takes the pictures in a new order.
    pub shuffle: bool,
    /// Share of the training pictures kept apart for validation; 0 validates on the test folder, as the notebook does.
    pub val_split: f64,
    /// Seconds of training after which `last.safetensors` is written within an epoch too; 0 writes it after every group of steps.
    pub save_every: f64,
    /// What the factors of the products are rounded to.
    pub precision: Precision,
    /// The optimiser.
    pub adam: Adam,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 64,
            micro_batch: None,
            seed: 0,
            shuffle: true,
            val_split: 0.0,
            save_every: 300.0,
            precision: Precision::F32,
            adam: Adam::default(),
        }
    }
}

/// Largest batch: the weight gradient of a dense layer is one loop over it, and lavapipe cuts loops off at 65,535.
pub const MAX_BATCH: usize = 32_768;

/// Largest settings file.
const MAX_BYTES: u64 = 1 << 20;

/// Everything that shapes a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// The folder of pictures as it was given, for a resume.
    #[serde(skip_serializing_if = "not_text")]
    pub data: Option<PathBuf>,
    /// The network.
    pub model: ModelSettings,
    /// The training.
    pub train: TrainSettings,
    /// The reading of pictures.
    pub reader: Reader,
}

/// TOML holds text: a folder whose name is none must be given again on a resume.
fn not_text(data: &Option<PathBuf>) -> bool {
    data.as_ref().is_none_or(|path| path.to_str().is_none())
}

impl RunConfig {
    /// Reads a TOML file; what it leaves out keeps its default.
    ///
    /// # Errors
    /// Names the file and what is wrong in it.
    pub fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the settings file {}", path.display());
        let text = String::from_utf8(read_whole(path, MAX_BYTES).with_context(cannot)?).with_context(cannot)?;
        // The parser's message shows the line and ends with a line break.
        let mut config: Self = toml::from_str(&text)
            .map_err(|e| anyhow!("{} is no settings file of wgradcam: {}", path.display(), e.to_string().trim_end()))?;
        // Not in the file: a picture is read at the network's size.
        [config.reader.height, config.reader.width] = config.model.size;
        Ok(config)
    }

    /// The settings as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).context("the settings cannot be written as TOML")
    }

    /// Checks what the types cannot.
    pub fn validate(&self) -> Result<()> {
        let t = &self.train;
        ensure!(t.epochs > 0, "--epochs is 0: nothing would be trained");
        ensure!((1..=MAX_BATCH).contains(&t.batch_size), "--batch-size {} is outside 1..={MAX_BATCH}", t.batch_size);
        if let Some(part) = t.micro_batch {
            ensure!((1..=t.batch_size).contains(&part), "--micro-batch {part} is outside 1..={} (--batch-size)", t.batch_size);
        }
        ensure!((0.0..1.0).contains(&t.val_split), "--val-split {} is outside 0..1 (1 excluded)", t.val_split);
        ensure!(t.save_every >= 0.0, "--save-every {} is no number of seconds", t.save_every);
        let a = &t.adam;
        ensure!(a.learning_rate.is_finite() && a.learning_rate > 0.0, "--learning-rate {} is not above 0", a.learning_rate);
        for (name, beta) in [("beta1", a.beta1), ("beta2", a.beta2)] {
            ensure!((0.0..1.0).contains(&beta), "--{name} {beta} is outside 0..1 (1 excluded)");
        }
        ensure!(a.epsilon.is_finite() && a.epsilon > 0.0, "--epsilon {} is not above 0", a.epsilon);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_round_trip_and_unknown_keys() {
        let config = RunConfig::default();
        let text = config.to_toml().unwrap();
        assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[train]\nepoch = 3\n").unwrap();
        let error = format!("{:#}", RunConfig::read(file.path()).unwrap_err());
        assert!(error.contains("epoch"), "{error}");
    }
}
