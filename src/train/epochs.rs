//! The epochs: shuffled batches on the device, validation at the end of each, the best weights kept.

use super::{Card, Epoch, History, TrainSettings, Weights, save};
use crate::data::Dataset;
use crate::engine::{Batch, Engine, Pass, PassRequest};
use crate::files::write_whole;
use crate::kernel::Step;
use crate::model::Mode;
use crate::player::Choice;
use crate::rng::{self, Stream};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The running numbers of an epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running {
    /// Pictures seen in this epoch.
    pub pictures: usize,
    /// Sample-weighted mean loss so far.
    pub loss: f64,
    /// Accuracy so far.
    pub accuracy: f64,
}

/// Who watches a training.
pub trait Observer {
    /// An epoch of `pictures` pictures begins.
    fn begin(&mut self, epoch: usize, pictures: usize);
    /// Some steps are done.
    fn progress(&mut self, running: &Running);
    /// The epoch is over; `saved` says whether these are the best weights so far.
    fn end(&mut self, epoch: &Epoch, steps: usize, time: Duration, saved: bool);
}

/// How a training ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All finished epochs.
    pub history: History,
    /// The epoch whose weights `best.safetensors` holds, if any.
    pub best: Option<Epoch>,
    /// Whether Ctrl-C ended it early.
    pub interrupted: bool,
}

/// A training run on its device.
pub struct Trainer<'a> {
    engine: Engine,
    train: Pass,
    validation: Pass,
    settings: &'a TrainSettings,
    card: Card,
    folder: PathBuf,
    log_steps: bool,
}

/// Time that one submit of several steps should take: long enough to hide its cost, short enough for a live bar and Ctrl-C.
const GROUP: Duration = Duration::from_millis(150);

impl<'a> Trainer<'a> {
    /// Puts the pictures, the weights and a zeroed Adam on the device. `folder` must exist.
    ///
    /// # Errors
    /// A batch larger than the set, or a device without the memory.
    pub fn new(
        choice: &Choice,
        weights: &Weights,
        sets: [&Dataset; 2],
        settings: &'a TrainSettings,
        folder: &Path,
        log_steps: bool,
    ) -> Result<Self> {
        let [train, validation] = sets;
        let batch = settings.batch_size;
        ensure!(
            batch <= train.len(),
            "--batch-size {batch} is larger than the training set ({} pictures): take {} or fewer",
            train.len(),
            train.len()
        );
        let requests = [
            PassRequest { set: "train", data: train, batch, mode: Mode::Train },
            PassRequest { set: "val", data: validation, batch, mode: Mode::Evaluate },
        ];
        let mut engine = Engine::new(&weights.model, choice, &requests)?;
        for (p, values) in weights.model.params().iter().zip(&weights.values) {
            engine.set_param(p, "", values)?;
        }
        let (train, validation) = (engine.pass(0), engine.pass(1));
        Ok(Self { engine, train, validation, settings, card: weights.card.clone(), folder: folder.to_owned(), log_steps })
    }

    /// Trains all epochs. `stop` ends it after the steps under way.
    ///
    /// Writes into the run folder: `history.csv` and `last.safetensors` after every epoch, `best.safetensors` when the
    /// validation accuracy is strictly better than before, `steps.csv` if asked for.
    ///
    /// # Errors
    /// A loss or weight that is no finite number (the files of the epoch before stay), a device or disk that fails.
    pub fn run(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let mut outcome = Outcome { history: History::default(), best: None, interrupted: false };
        let mut log = String::from("epoch,step,loss\n");
        // From here on there are good weights on the disk, whatever happens.
        self.save("last.safetensors", 0, None)?;
        for epoch in 1..=self.settings.epochs {
            observer.begin(epoch, self.train.pictures());
            let start = Instant::now();
            let running = self.train_epoch(epoch, observer, stop, &mut log)?;
            if self.log_steps {
                write_whole(&self.folder.join("steps.csv"), log.as_bytes())?;
            }
            if stop.load(Ordering::Relaxed) {
                self.save("last.safetensors", epoch - 1, None)?;
                outcome.interrupted = true;
                return Ok(outcome);
            }
            let (val_loss, val_accuracy) = self.engine.evaluate(&self.validation, |_| ())?;
            if !val_loss.is_finite() {
                bail!("{}", self.diverged(epoch, &format!("the validation loss is {val_loss}")));
            }
            let row = Epoch { epoch, loss: running.loss, accuracy: running.accuracy, val_loss, val_accuracy };
            // Strictly better, as Keras's ModelCheckpoint compares: a tie keeps the earlier epoch.
            let saved = outcome.best.is_none_or(|best| val_accuracy > best.val_accuracy);
            self.save("last.safetensors", epoch, Some(val_accuracy))?;
            if saved {
                self.save("best.safetensors", epoch, Some(val_accuracy))?;
                outcome.best = Some(row);
            }
            outcome.history.epochs.push(row);
            outcome.history.write_csv(&self.folder.join("history.csv"))?;
            observer.end(&row, self.train.batches().len(), start.elapsed(), saved);
            if stop.load(Ordering::Relaxed) {
                outcome.interrupted = true;
                return Ok(outcome);
            }
        }
        Ok(outcome)
    }

    fn train_epoch(&mut self, epoch: usize, observer: &mut dyn Observer, stop: &AtomicBool, log: &mut String) -> Result<Running> {
        let n = self.train.pictures();
        if self.settings.shuffle {
            let order = rng::permutation(self.settings.seed, Stream::Shuffle(epoch as u32), n);
            self.engine.set_order(&self.train, &order)?;
        }
        let batches = self.train.batches();
        let done_before = (epoch - 1) * batches.len();
        let (mut done, mut group) = (0, 1);
        let (mut loss, mut correct, mut running) = (0.0, 0.0, Running::default());
        while done < batches.len() && !stop.load(Ordering::Relaxed) {
            let some = &batches[done..(done + group).min(batches.len())];
            let start = Instant::now();
            let played: Vec<(Batch, Step)> =
                some.iter().enumerate().map(|(i, &b)| (b, self.step(b, done_before + done + i, i))).collect();
            for ((batch, _), metrics) in played.iter().zip(self.engine.play(&played)?) {
                done += 1;
                if !metrics.loss.is_finite() {
                    bail!("{}", self.diverged(epoch, &format!("the loss of step {done} is {}", metrics.loss)));
                }
                if self.log_steps {
                    log.push_str(&format!("{epoch},{done},{}\n", metrics.loss as f32));
                }
                loss += metrics.loss * batch.len as f64;
                correct += metrics.correct;
                running.pictures += batch.len;
            }
            running.loss = loss / running.pictures as f64;
            running.accuracy = correct / running.pictures as f64;
            observer.progress(&running);
            let per_step = start.elapsed().as_secs_f64() / some.len() as f64;
            group = ((GROUP.as_secs_f64() / per_step) as usize).clamp(1, 64);
        }
        Ok(running)
    }

    /// Step number `number` of the run (from 0) on a batch, its loss kept in `slot`.
    fn step(&self, batch: Batch, number: usize, slot: usize) -> Step {
        Step {
            first: batch.first as u32,
            step: number as u32,
            seed: self.settings.seed,
            slot: slot as u32,
            adam: self.settings.adam.at(number as u32 + 1),
        }
    }

    fn diverged(&self, epoch: usize, what: &str) -> String {
        let last = self.folder.join("last.safetensors");
        let kept = match epoch {
            1 => format!("no epoch was finished; {} holds the initial weights", last.display()),
            _ => format!("{} holds the last good weights (epoch {})", last.display(), epoch - 1),
        };
        format!(
            "training diverged in epoch {epoch}: {what}; {kept}. A smaller --learning-rate than {} may help",
            self.settings.adam.learning_rate
        )
    }

    fn save(&mut self, name: &str, epoch: usize, val_accuracy: Option<f64>) -> Result<()> {
        let model = self.engine.model().clone();
        let mut values = Vec::new();
        for p in model.params() {
            let read = self.engine.param(&p, "")?;
            if !read.iter().all(|v| v.is_finite()) {
                bail!("{}", self.diverged(epoch, &format!("{} holds NaN or infinity", p.name)));
            }
            values.push(read);
        }
        let card = Card { epoch, val_accuracy, ..self.card.clone() };
        save(&self.folder.join(name), &Weights { card, model, values }).with_context(|| format!("saving {name}"))
    }
}
