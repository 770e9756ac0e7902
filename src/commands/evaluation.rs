//! Predictions on a labelled set, and everything that is written about them.

use super::progress;
use crate::data::Dataset;
use crate::engine::{Engine, Outputs, PassRequest};
use crate::files::write_whole;
use crate::metrics::ConfusionMatrix;
use crate::model::Mode;
use crate::player::{Choice, FirstUse};
use crate::report::{confusion, save_png};
use crate::train::Weights;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;

/// Predictions on a set.
pub struct Evaluation {
    /// Rows true, columns predicted.
    pub matrix: ConfusionMatrix,
    /// Logits and probabilities in the set's order.
    pub outputs: Outputs,
    /// Mean loss.
    pub loss: f64,
}

/// An engine that holds the weights and plays a pass over the data in batches of `batch` pictures, or of as many as there is
/// memory for; returns that number too.
pub fn engine(weights: &Weights, choice: &Choice, data: &Dataset, batch: usize, mode: Mode) -> Result<(Engine, usize)> {
    let requests = |batch| vec![PassRequest { set: "val", data, batch, mode }];
    let (mut engine, batch) = Engine::fitting(&weights.model, choice, batch, requests)?;
    engine.first_use().filter(FirstUse::is_long).iter().for_each(|first| eprintln!("First use: {first}"));
    for (p, values) in weights.model.params().iter().zip(&weights.values) {
        engine.set_param(p, "", values)?;
    }
    Ok((engine, batch))
}

/// Runs the network over a set: outputs and mean loss.
pub fn outputs(weights: &Weights, choice: &Choice, data: &Dataset, batch: usize) -> Result<(Outputs, f64)> {
    let batch = batch.min(data.len());
    let (mut engine, _) = engine(weights, choice, data, batch, Mode::Evaluate)?;
    let pass = engine.pass(0);
    let bar = progress::bar(data.len(), "predict");
    let (loss, _) = engine.evaluate(&pass, |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    let outputs = engine.outputs(data.len())?;
    if let Some(i) = (0..outputs.len()).find(|&i| !outputs.logits(i).iter().all(|z| z.is_finite())) {
        bail!(
            "the network's output for {} is not a finite number: its weights overflow f32, so they are of no use",
            data.paths[i].display()
        );
    }
    Ok((outputs, loss))
}

/// Evaluates weights on a labelled set.
pub fn evaluate(weights: &Weights, choice: &Choice, data: &Dataset, batch: usize) -> Result<Evaluation> {
    let (outputs, loss) = outputs(weights, choice, data, batch)?;
    let matrix = ConfusionMatrix::from_labels(weights.card.classes.clone(), &data.labels, &outputs.classes())?;
    Ok(Evaluation { matrix, outputs, loss })
}

/// One picture's prediction as JSON: p of the second class with one sigmoid, else all probabilities.
pub fn prediction(data: &Dataset, outputs: &Outputs, classes: &[String], i: usize) -> Value {
    let path = data.paths[i].display().to_string();
    let class = &classes[outputs.class(i)];
    match (outputs.probs(i), outputs.logits(i)) {
        ([p], [z]) => json!({"path": path, "class": class, "probability": p, "logit": z}),
        (p, z) => json!({"path": path, "class": class, "probabilities": p, "logits": z}),
    }
}

impl Evaluation {
    /// Writes report.txt, confusion_matrix.{txt,json,png} and predictions.csv.
    pub fn write(&self, folder: &Path, data: &Dataset) -> Result<()> {
        write_whole(&folder.join("report.txt"), self.matrix.classification_report().as_bytes())?;
        write_whole(&folder.join("confusion_matrix.txt"), self.matrix.to_text().as_bytes())?;
        let json = serde_json::to_string_pretty(&self.to_json())?;
        write_whole(&folder.join("confusion_matrix.json"), (json + "\n").as_bytes())?;
        let mut csv = csv::Writer::from_writer(Vec::new());
        let classes = &self.matrix.classes;
        let single = self.outputs.width == 1;
        let mut header = vec!["path".to_owned(), "true".into(), "predicted".into()];
        let columns: &[String] = if single { &classes[1..] } else { classes };
        header.extend(columns.iter().map(|c| format!("probability_{c}")));
        header.extend(columns.iter().map(|c| format!("logit_{c}")));
        csv.write_record(&header).context("predictions.csv")?;
        for (i, path) in data.paths.iter().enumerate() {
            let mut row = vec![
                path.display().to_string(),
                classes[data.labels[i] as usize].clone(),
                classes[self.outputs.class(i)].clone(),
            ];
            row.extend(self.outputs.probs(i).iter().chain(self.outputs.logits(i)).map(f32::to_string));
            csv.write_record(&row).context("predictions.csv")?;
        }
        write_whole(&folder.join("predictions.csv"), &csv.into_inner().context("predictions.csv")?)?;
        match self.has_heatmap() {
            true => save_png(&folder.join("confusion_matrix.png"), &confusion::heatmap(&self.matrix)?),
            false => {
                eprintln!("Warning: no confusion_matrix.png: {} classes are too many for a picture", self.matrix.classes.len());
                Ok(())
            }
        }
    }

    /// Whether the matrix is small enough for a picture.
    pub fn has_heatmap(&self) -> bool {
        self.matrix.classes.len() <= confusion::MOST_CLASSES
    }

    /// The matrix and all scores, with the loss.
    pub fn to_json(&self) -> Value {
        let mut json = self.matrix.to_json();
        json["loss"] = json!(self.loss);
        json
    }
}
