//! Where a training stands: all that it needs to go on as if it had never stopped, in one file, `last.safetensors`.
//!
//! The weights lie there as in any weights file. Beside each lie Adam's `m` and `v` under the parameter's name, and the history
//! and the running sums of the epoch under way as f64 tensors, whose bits no decimal can lose. One file is renamed into place in
//! one step, so a kill at any moment leaves a state that is whole. The order of the pictures and the dropout masks need no
//! state: they are hashes of seed, epoch and step.

use super::checkpoint::{MAX_BYTES, values, views};
use super::{Epoch, History, TrainSettings, Weights, load, sealed};
use crate::data::{Dataset, Fingerprint};
use crate::files::read_whole;
use crate::player::Technique;
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Columns of the history tensor.
const COLUMNS: usize = 4;

/// How far a training has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Batches done of the epoch after the card's.
    pub batches: usize,
    /// Adam updates made, all epochs together.
    pub updates: u32,
    /// The epoch whose weights `best.safetensors` holds.
    pub best: Option<usize>,
    /// The training's settings as TOML, those left out that change no byte.
    pub settings: String,
    /// The kernels' variants that it is trained with, where there was a choice: others round differently.
    #[serde(default)]
    pub techniques: Vec<Technique>,
    /// The pictures trained on.
    pub train: Fingerprint,
    /// The pictures validated on.
    pub validation: Fingerprint,
}

/// A training as it stands between two steps.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The weights; their card says how many epochs are done.
    pub weights: Weights,
    /// Adam's means of the gradients, one per parameter, in Keras's order.
    pub m: Vec<Vec<f32>>,
    /// Adam's means of their squares.
    pub v: Vec<Vec<f32>>,
    /// The finished epochs.
    pub history: History,
    /// Sums over the pictures of the epoch under way: loss, hits.
    pub sums: [f64; 2],
    /// The rest.
    pub progress: Progress,
}

/// The metadata: the card of any weights file, and the progress.
#[derive(Serialize, Deserialize)]
struct Stated<C> {
    #[serde(flatten)]
    card: C,
    progress: Option<Progress>,
}

/// What [`Stated`] is read into, the card having been read with the weights.
#[derive(Deserialize)]
struct Ignored {}

/// The settings without what changes no byte of a training: how long it is and how often it is saved.
pub(super) fn lasting(settings: &TrainSettings) -> TrainSettings {
    let TrainSettings { epochs, save_every, .. } = TrainSettings::default();
    TrainSettings { epochs, save_every, ..settings.clone() }
}

impl Checkpoint {
    /// A training that has not begun.
    pub(super) fn initial(weights: &Weights, settings: &TrainSettings, sets: [&Dataset; 2]) -> Result<Self> {
        let zeros: Vec<Vec<f32>> = weights.values.iter().map(|v| vec![0.0; v.len()]).collect();
        let [train, validation] = sets.map(Dataset::fingerprint);
        let settings = toml::to_string(&lasting(settings)).context("the settings cannot be written as TOML")?;
        Ok(Self {
            weights: weights.clone(),
            m: zeros.clone(),
            v: zeros,
            history: History::default(),
            sums: [0.0; 2],
            progress: Progress { batches: 0, updates: 0, best: None, settings, techniques: Vec::new(), train, validation },
        })
    }

    /// Writes it whole.
    ///
    /// # Errors
    /// As [`crate::files::write_whole`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let params = self.weights.model.params();
        let mut tensors = views(&params, &self.weights.values, "")?;
        tensors.extend(views(&params, &self.m, "/m")?);
        tensors.extend(views(&params, &self.v, "/v")?);
        let rows: Vec<f64> = self.history.epochs.iter().flat_map(|e| [e.loss, e.accuracy, e.val_loss, e.val_accuracy]).collect();
        let f64s = |shape, values| TensorView::new(Dtype::F64, shape, values).context("the history");
        tensors.push(("history".into(), f64s(vec![rows.len() / COLUMNS, COLUMNS], bytemuck::cast_slice(&rows))?));
        tensors.push(("sums".into(), f64s(vec![2], bytemuck::cast_slice(&self.sums))?));
        let stated = Stated { card: &self.weights.card, progress: Some(self.progress.clone()) };
        sealed::write(path, &serde_json::to_string(&stated).context("the checkpoint's metadata")?, tensors)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the file is missing or damaged, or holds weights only.
    pub fn load(path: &Path) -> Result<Self> {
        let weights = load(path, None)?;
        let shown = path.display().to_string();
        let bytes = read_whole(path, MAX_BYTES).with_context(|| format!("cannot read {shown}"))?;
        let (tensors, text) = sealed::open(&bytes, &shown)?;
        let stated: Stated<Ignored> = serde_json::from_str(&text.unwrap_or_default()).with_context(|| shown.clone())?;
        let Some(progress) = stated.progress else {
            bail!(
                "{shown} holds weights and no state of a training, being of an older wgradcam or another program: begin a new run with \
                 --init {shown}"
            )
        };
        let params = weights.model.params();
        let state = |suffix| values(&tensors, &params, suffix).with_context(|| shown.clone());
        let (m, v) = (state("/m")?, state("/v")?);
        let history = f64s(&tensors, "history").with_context(|| shown.clone())?;
        let &[loss, hits] = f64s(&tensors, "sums").with_context(|| shown.clone())?.as_slice() else {
            bail!("{shown}: sums is not loss and hits")
        };
        let epochs = history.chunks_exact(COLUMNS).zip(1..);
        let epochs =
            epochs.map(|(row, epoch)| Epoch { epoch, loss: row[0], accuracy: row[1], val_loss: row[2], val_accuracy: row[3] });
        let history = History { epochs: epochs.collect() };
        let (done, best) = (history.epochs.len(), progress.best);
        ensure!(
            done == weights.card.epoch && best.is_none_or(|b| (1..=done).contains(&b)),
            "{shown}: its history has {done} epochs, its card {} and its best is {best:?}",
            weights.card.epoch
        );
        Ok(Self { weights, m, v, history, sums: [loss, hits], progress })
    }

    /// Whether the settings and the pictures are those that it was trained with.
    ///
    /// # Errors
    /// Names what has changed.
    pub(super) fn belongs_to(&self, settings: &TrainSettings, sets: [&Dataset; 2]) -> Result<()> {
        let before: TrainSettings = toml::from_str(&self.progress.settings).context("the settings in last.safetensors")?;
        let now = lasting(settings);
        if before != now {
            let [was, is] = [&before, &now].map(|s| toml::to_string(s).unwrap_or_default());
            let changed: Vec<String> =
                was.lines().zip(is.lines()).filter(|(a, b)| a != b).map(|(a, b)| format!("{a}, now {b}")).collect();
            bail!(
                "the settings are not those that the run was begun with: {}. Put config.toml right, or begin a new run",
                changed.join("; ")
            );
        }
        let known = [("training", &self.progress.train), ("validation", &self.progress.validation)];
        for ((what, before), set) in known.into_iter().zip(sets) {
            let now = set.fingerprint();
            ensure!(
                *before == now,
                "the {what} pictures have changed since the run was begun ({} pictures then, {} now{}): resume on the same pictures, or \
                 begin a new run, with --init to keep the weights",
                before.pictures,
                now.pictures,
                if before.pictures == now.pictures { ", with other pixels, labels or another order" } else { "" }
            );
        }
        Ok(())
    }
}

fn f64s(tensors: &SafeTensors, name: &str) -> Result<Vec<f64>> {
    let tensor = tensors.tensor(name).with_context(|| format!("no tensor {name}"))?;
    ensure!(tensor.dtype() == Dtype::F64, "{name} is stored as {:?} and not as F64", tensor.dtype());
    Ok(bytemuck::pod_collect_to_vec(tensor.data()))
}
