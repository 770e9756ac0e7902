//! The epochs: shuffled batches on the device, validation at the end of each, the best weights kept.

use super::{Card, Checkpoint, Epoch, History, TrainSettings, Weights, load, resume::lasting, save};
use crate::data::Dataset;
use crate::engine::{Batch, Engine, Group, Pass, PassRequest};
use crate::files::{read_whole, write_whole};
use crate::kernel::Step;
use crate::model::Mode;
use crate::player::{Choice, FirstUse};
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

/// The first line of `steps.csv`.
const LOG_HEADER: &str = "epoch,step,loss\n";
/// Most bytes of a `steps.csv` that is gone on with: the losses of some forty million steps.
const MAX_LOG: u64 = 1 << 30;

/// Who watches a training.
pub trait Observer {
    /// An epoch of `pictures` pictures begins.
    fn begin(&mut self, epoch: usize, pictures: usize);
    /// Some steps are done.
    fn progress(&mut self, running: &Running);
    /// The epoch is over; `steps` of it were made by this process, and `saved` says whether these are the best weights so far.
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

/// A training that came to numbers of no use; the files of before stay.
#[derive(Debug)]
struct Diverged(String);

impl std::fmt::Display for Diverged {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Diverged {}

/// A training run on its device.
pub struct Trainer {
    engine: Engine,
    train: Pass,
    validation: Pass,
    settings: TrainSettings,
    folder: PathBuf,
    /// The text of `steps.csv`, if it is wanted.
    log: Option<String>,
    /// Where the training stands; weights, m and v are as they were when it was last saved.
    at: Checkpoint,
    /// When that was, and at which epoch and batch; none before the first time.
    saved: Option<(Instant, usize, usize)>,
    /// Batches that are played at once.
    group: Group,
    /// The epoch whose order of the pictures the device has; 0 before the first.
    ordered: usize,
}

impl Trainer {
    /// Puts the pictures, the weights and a zeroed Adam on the device. `folder` must exist.
    ///
    /// # Errors
    /// A batch larger than the set, or a device without the memory.
    pub fn new(
        choice: &Choice,
        weights: &Weights,
        sets: [&Dataset; 2],
        settings: &TrainSettings,
        folder: &Path,
        log_steps: bool,
    ) -> Result<Self> {
        let start = Checkpoint::initial(weights, settings, sets)?;
        let mut trainer = Self::at(choice, start, sets, settings, folder)?;
        trainer.log = log_steps.then(|| LOG_HEADER.to_owned());
        Ok(trainer)
    }

    /// Goes on from the run folder's `last.safetensors`: the files that [`Trainer::run`] then writes are, byte for byte, those of a
    /// training that never stopped. `steps.csv` goes on where there is one.
    ///
    /// # Errors
    /// As [`Trainer::new`]; settings or pictures that are not those of the run; a damaged `best.safetensors`.
    pub fn resume(
        choice: &Choice,
        start: Checkpoint,
        sets: [&Dataset; 2],
        settings: &TrainSettings,
        folder: &Path,
        log_steps: bool,
    ) -> Result<Self> {
        start.belongs_to(settings, sets)?;
        let mut trainer = Self::at(choice, start, sets, settings, folder)?;
        let batches = trainer.train.batches().len();
        ensure!(
            trainer.at.progress.batches <= batches,
            "last.safetensors has done {} batches of an epoch that has {batches}",
            trainer.at.progress.batches
        );
        trainer.restore_best()?;
        let log = folder.join("steps.csv");
        if log.exists() {
            let remedy = || format!("cannot read {}: remove it to go on without the earlier steps' losses", log.display());
            let text = String::from_utf8(read_whole(&log, MAX_LOG).with_context(remedy)?).with_context(remedy)?;
            trainer.log = Some(trainer.rows_so_far(&text));
        } else if log_steps {
            trainer.log = Some(LOG_HEADER.to_owned());
        }
        let card = &trainer.at.weights.card;
        trainer.saved = Some((Instant::now(), card.epoch, trainer.at.progress.batches));
        Ok(trainer)
    }

    fn at(choice: &Choice, mut at: Checkpoint, sets: [&Dataset; 2], settings: &TrainSettings, folder: &Path) -> Result<Self> {
        let [train, validation] = sets;
        let batch = settings.batch_size;
        ensure!(
            batch <= train.len(),
            "--batch-size {batch} is larger than the training set ({} pictures): take {} or fewer",
            train.len(),
            train.len()
        );
        let mut settings = settings.clone();
        let part = settings.micro_batch.unwrap_or(batch);
        // Whatever `tune` has measured since it was begun.
        let choice = &choice.replaying(&at.progress.techniques);
        let (mut engine, fitting) = Engine::fitting(&at.weights.model, choice, part, |part| {
            let mode = if part < batch { Mode::TrainInParts(part) } else { Mode::Train };
            vec![
                PassRequest { set: "train", data: train, batch, mode },
                PassRequest { set: "val", data: validation, batch: part, mode: Mode::Evaluate },
            ]
        })?;
        if fitting < part {
            settings.micro_batch = Some(fitting);
            eprintln!("Note: batches of {batch} are played in parts, as --micro-batch {fitting} asks for");
        }
        at.progress.techniques = engine.techniques().to_vec();
        at.progress.settings = toml::to_string(&lasting(&settings)).context("the settings cannot be written as TOML")?;
        for (suffix, values) in [("", &at.weights.values), ("/m", &at.m), ("/v", &at.v)] {
            for (p, values) in at.weights.model.params().iter().zip(values) {
                engine.set_param(p, suffix, values)?;
            }
        }
        let (train, validation) = (engine.pass(0), engine.pass(1));
        Ok(Self {
            engine,
            train,
            validation,
            settings,
            folder: folder.to_owned(),
            log: None,
            at,
            saved: None,
            group: Group::default(),
            ordered: 0,
        })
    }

    /// The settings it trains with: those given, and the micro-batch that the device's memory asked for.
    pub fn settings(&self) -> &TrainSettings {
        &self.settings
    }

    /// What the device cost before the first step; none on the CPU path.
    pub fn first_use(&self) -> Option<FirstUse> {
        self.engine.first_use()
    }

    /// Makes sure that `best.safetensors` is what the training's state says. A kill between the two renames of an epoch's end leaves
    /// the one of before; its weights are then those of `last.safetensors`.
    fn restore_best(&mut self) -> Result<()> {
        let path = self.folder.join("best.safetensors");
        let Some(best) = self.at.progress.best else { return Ok(()) };
        if best == self.at.weights.card.epoch && self.at.progress.batches == 0 {
            return self.save_best();
        }
        if !path.exists() {
            eprintln!(
                "Warning: {} is gone: the best weights are chosen anew, from the epochs to come (the best so far was epoch {best})",
                path.display()
            );
            self.at.progress.best = None;
            return Ok(());
        }
        let remedy = "remove it to have the best weights chosen anew, from the epochs to come";
        let found = load(&path, None).context(remedy)?.card.epoch;
        ensure!(found == best, "{} is of epoch {found} and not of the best, {best}: {remedy}", path.display());
        Ok(())
    }

    /// The rows of an earlier `steps.csv` up to where the training stands: a killed run may have written more.
    fn rows_so_far(&self, text: &str) -> String {
        let (epoch, batches) = (self.at.weights.card.epoch, self.at.progress.batches);
        let known = |line: &&str| {
            let mut cells = line.split(',').map(str::parse::<usize>);
            let (Some(Ok(e)), Some(Ok(step))) = (cells.next(), cells.next()) else { return false };
            e <= epoch || (e == epoch + 1 && step <= batches)
        };
        std::iter::once(LOG_HEADER.to_owned()).chain(text.lines().filter(known).map(|line| format!("{line}\n"))).collect()
    }

    /// Trains all epochs that are still to do. `stop` ends it after the steps under way.
    ///
    /// Writes into the run folder: `last.safetensors` and `history.csv` after every epoch, the former also within one when
    /// [`TrainSettings::save_every`] has passed; `best.safetensors` when the validation accuracy is strictly better than before;
    /// `steps.csv` if asked for.
    ///
    /// # Errors
    /// A loss or weight that is no finite number, a device or disk that fails: the files of before stay, and the error says how to
    /// go on from them.
    pub fn run(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Outcome> {
        let interrupted = self
            .epochs(observer, stop)
            .map_err(|error| if error.is::<Diverged>() { error } else { error.context(self.way_on()) })?;
        let history = self.at.history.clone();
        let best = self.at.progress.best.map(|epoch| history.epochs[epoch - 1]);
        Ok(Outcome { history, best, interrupted })
    }

    /// Returns whether `stop` ended it.
    fn epochs(&mut self, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<bool> {
        if self.saved.is_none() {
            // From here on there is something on the disk to go on from, whatever happens.
            self.save_last()?;
        } else if !self.at.history.epochs.is_empty() {
            self.at.history.write_csv(&self.folder.join("history.csv"))?;
        }
        while self.at.weights.card.epoch < self.settings.epochs {
            let epoch = self.at.weights.card.epoch + 1;
            observer.begin(epoch, self.train.pictures());
            let start = Instant::now();
            let before = self.at.progress.batches;
            let running = self.train_epoch(epoch, observer, stop)?;
            if stop.load(Ordering::Relaxed) {
                self.save_last()?;
                return Ok(true);
            }
            // It goes to the device with the validation's first batches, and the next epoch begins without a wait.
            if epoch < self.settings.epochs {
                self.put_in_order(epoch + 1)?;
            }
            let (val_loss, val_accuracy) = self.engine.evaluate(&self.validation, |_| ())?;
            if !val_loss.is_finite() {
                bail!(self.diverged(epoch, &format!("the validation loss is {val_loss}")));
            }
            let row = Epoch { epoch, loss: running.loss, accuracy: running.accuracy, val_loss, val_accuracy };
            // Strictly better, as Keras's ModelCheckpoint compares: a tie keeps the earlier epoch.
            let best = self.at.progress.best.map(|epoch| self.at.history.epochs[epoch - 1].val_accuracy);
            let better = best.is_none_or(|best| val_accuracy > best);
            self.at.history.epochs.push(row);
            self.at.weights.card.epoch = epoch;
            self.at.weights.card.val_accuracy = Some(val_accuracy);
            self.at.sums = [0.0; 2];
            let done = std::mem::take(&mut self.at.progress.batches) - before;
            if better {
                self.at.progress.best = Some(epoch);
            }
            // The state first: what it says of the others can be made again from it, and not the other way round.
            self.save_last()?;
            if better {
                self.save_best()?;
            }
            self.at.history.write_csv(&self.folder.join("history.csv"))?;
            observer.end(&row, done, start.elapsed(), better);
            if stop.load(Ordering::Relaxed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives the device the order of an epoch's pictures, if it has it not yet.
    fn put_in_order(&mut self, epoch: usize) -> Result<()> {
        if self.settings.shuffle && self.ordered != epoch {
            let order = rng::permutation(self.settings.seed, Stream::Shuffle(epoch as u32), self.train.pictures());
            self.engine.set_order(&self.train, &order)?;
            self.ordered = epoch;
        }
        Ok(())
    }

    /// Trains what is left of an epoch; returns the numbers of all of it.
    fn train_epoch(&mut self, epoch: usize, observer: &mut dyn Observer, stop: &AtomicBool) -> Result<Running> {
        self.put_in_order(epoch)?;
        let batches = self.train.batches();
        self.at.weights.card.val_accuracy = None;
        let mut running = self.running(&batches);
        while self.at.progress.batches < batches.len() && !stop.load(Ordering::Relaxed) {
            let done = self.at.progress.batches;
            let some = &batches[done..(done + self.group.batches()).min(batches.len())];
            let start = Instant::now();
            let updates = self.at.progress.updates;
            let played: Vec<(Batch, Step)> =
                some.iter().zip(0..).map(|(&b, i)| (b, self.step(b, updates + i, i as usize))).collect();
            for ((batch, _), metrics) in played.iter().zip(self.engine.play(&played)?) {
                self.at.progress.batches += 1;
                self.at.progress.updates += 1;
                let done = self.at.progress.batches;
                if !metrics.loss.is_finite() {
                    bail!(self.diverged(epoch, &format!("the loss of step {done} is {}", metrics.loss)));
                }
                if let Some(log) = &mut self.log {
                    log.push_str(&format!("{epoch},{done},{}\n", metrics.loss as f32));
                }
                self.at.sums[0] += metrics.loss * batch.len as f64;
                self.at.sums[1] += metrics.correct;
            }
            running = self.running(&batches);
            observer.progress(&running);
            self.group.took(some, batches[0].len, start.elapsed());
            let due = self.saved.is_none_or(|(when, ..)| when.elapsed().as_secs_f64() >= self.settings.save_every);
            // The end of the epoch saves anyway.
            if due && self.at.progress.batches < batches.len() {
                self.save_last()?;
            }
        }
        Ok(running)
    }

    /// The means of the epoch so far.
    fn running(&self, batches: &[Batch]) -> Running {
        let pictures: usize = batches[..self.at.progress.batches].iter().map(|b| b.len).sum();
        let [loss, correct] = self.at.sums.map(|sum| if pictures == 0 { 0.0 } else { sum / pictures as f64 });
        Running { pictures, loss, accuracy: correct }
    }

    /// Update number `number` of the run (from 0) on a batch, its loss kept in `slot`.
    fn step(&self, batch: Batch, number: u32, slot: usize) -> Step {
        Step {
            first: batch.first as u32,
            step: number,
            seed: self.settings.seed,
            slot: slot as u32,
            adam: self.settings.adam.at(number + 1),
        }
    }

    fn diverged(&self, epoch: usize, what: &str) -> Diverged {
        let last = self.folder.join("last.safetensors");
        let kept = match self.saved {
            Some((_, 0, 0)) | None => format!("no epoch was finished; {} holds the initial weights", last.display()),
            Some((_, epoch, 0)) => format!("{} holds the last good weights (epoch {epoch})", last.display()),
            Some((_, epoch, batch)) => {
                format!("{} holds the last good weights (epoch {}, after {batch} batches)", last.display(), epoch + 1)
            }
        };
        Diverged(format!(
            "training diverged in epoch {epoch}: {what}; {kept}. A smaller --learning-rate than {} may help",
            self.settings.adam.learning_rate
        ))
    }

    /// What is left to somebody whose training failed.
    fn way_on(&self) -> String {
        let (last, folder) = (self.folder.join("last.safetensors"), self.folder.display());
        match self.saved {
            None => "the training failed before anything was saved".to_owned(),
            Some((_, epoch, batches)) => format!(
                "the training stopped; {} is whole (epoch {epoch}{}), and `wgradcam train --resume {folder}` goes on from there once the cause \
                 is mended",
                last.display(),
                if batches > 0 { format!(" and {batches} batches") } else { String::new() }
            ),
        }
    }

    /// Reads weights and Adam's state back and writes them with the rest of the state.
    fn save_last(&mut self) -> Result<()> {
        let params = self.engine.model().params();
        for (i, p) in params.iter().enumerate() {
            let values = self.engine.param(p, "")?;
            if !values.iter().all(|v| v.is_finite()) {
                let epoch = self.saved.map_or(1, |(_, epoch, _)| epoch + 1);
                bail!(self.diverged(epoch, &format!("{} holds NaN or infinity", p.name)));
            }
            self.at.weights.values[i] = values;
            self.at.m[i] = self.engine.param(p, "/m")?;
            self.at.v[i] = self.engine.param(p, "/v")?;
        }
        if let Some(log) = &self.log {
            write_whole(&self.folder.join("steps.csv"), log.as_bytes())?;
        }
        self.at.save(&self.folder.join("last.safetensors"))?;
        self.saved = Some((Instant::now(), self.at.weights.card.epoch, self.at.progress.batches));
        Ok(())
    }

    /// Writes the weights that were saved last as the best.
    fn save_best(&self) -> Result<()> {
        // Read from JSON the accuracy may have lost its last bit; the history has all of them.
        let val_accuracy = self.at.history.epochs.last().map(|e| e.val_accuracy);
        let card = Card { val_accuracy, ..self.at.weights.card.clone() };
        save(&self.folder.join("best.safetensors"), &Weights { card, ..self.at.weights.clone() })
    }
}
