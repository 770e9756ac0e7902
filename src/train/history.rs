//! The history of a run, with Keras's numbers and names.

use crate::files::write_whole;
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::Path;

/// One epoch: sample-weighted means; the training numbers while the weights changed and with dropout on, the validation
/// numbers with the epoch's last weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean training loss.
    pub loss: f64,
    /// Training accuracy.
    pub accuracy: f64,
    /// Mean validation loss.
    pub val_loss: f64,
    /// Validation accuracy.
    pub val_accuracy: f64,
}

/// All epochs so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    /// In order.
    pub epochs: Vec<Epoch>,
}

impl History {
    /// Writes `history.csv`: epoch, loss, accuracy, val_loss, val_accuracy.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for epoch in &self.epochs {
            writer.serialize(epoch).context("history.csv")?;
        }
        write_whole(path, &writer.into_inner().context("history.csv")?)
    }

    /// One column.
    pub fn column(&self, value: impl Fn(&Epoch) -> f64) -> Vec<f64> {
        self.epochs.iter().map(value).collect()
    }
}
