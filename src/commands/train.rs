//! `wgradcam train`.

use super::evaluation::Evaluation;
use super::interrupt::{INTERRUPTED, interrupt};
use super::panels::{Drawn, Request, draw};
use super::progress::Watch;
use super::sets::{Loaded, Sets};
use super::{common, evaluation, gradcam, say};
use crate::cli::TrainArgs;
use crate::data::{PlantedBox, Reader};
use crate::files::{FolderLock, write_whole};
use crate::model::{Model, Target, Technique};
use crate::ops::adam::Adam;
use crate::player::Choice;
use crate::report::gallery::Entry;
use crate::report::{history, page::Page, save_png};
use crate::train::{Card, Checkpoint, History, Outcome, RunConfig, TrainSettings, Trainer, Weights, load};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

/// Trains, evaluates the best weights and explains some pictures; or goes on with a training that stopped.
pub fn run(args: &TrainArgs) -> Result<ExitCode> {
    let outcome = match &args.resume {
        Some(folder) => resume(args, folder),
        None => begin(args),
    };
    outcome.map(|finished| if finished.is_some() { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
}

fn begin(args: &TrainArgs) -> Result<Option<Finished>> {
    let mut config = run_config(args)?;
    config.validate()?;
    let data = args.data.clone().or(config.data.take()).context("which pictures? Give the folder that holds train/ and test/")?;
    let sets = Sets::scan(&data, &config)?;
    let classes = sets.classes.clone();
    let model = Model::new(&config.model, classes.len())?;
    let card = Card::new(&model, &classes, &config.reader);
    let weights = match &args.init {
        Some(path) => initial_from(path, &card)?,
        None => Weights::initial(&model, card, config.train.seed),
    };
    let folder = args.out.clone().map_or_else(free_folder, Ok)?;
    let earlier = ["best.safetensors", "last.safetensors"].iter().any(|f| folder.join(f).exists());
    ensure!(
        args.overwrite || !earlier,
        "{} holds an earlier run; choose another --out, go on with it by --resume, or give --overwrite to replace it",
        folder.display()
    );
    let choice = common::device(&args.device, config.train.precision)?;
    let _empty = common::EmptyFolder::make(&folder)?;
    let _lock = FolderLock::take(&folder)?;
    let loaded = sets.load(&config.reader, &args.load)?;
    config.data = Some(data);
    let run = Run { config: &config, folder: &folder, choice: &choice, panels: args.panels, boxes: HashMap::new() };
    run.train(Start::New(&weights), &loaded, args.log_steps)
}

/// Goes on where the run's `last.safetensors` is, with the settings of its `config.toml`.
fn resume(args: &TrainArgs, folder: &Path) -> Result<Option<Finished>> {
    let shown = folder.display();
    let (settings, last) = (folder.join("config.toml"), folder.join("last.safetensors"));
    ensure!(settings.is_file(), "--resume {shown}: it is no run folder, having no config.toml");
    ensure!(
        last.is_file(),
        "--resume {shown}: there is no last.safetensors in it, so nothing of the run was saved; begin it again: wgradcam train DATA \
         --config {} --out {shown}",
        settings.display()
    );
    common::output_folder(folder)?;
    // Before anything is read that a training may be writing.
    let _lock = FolderLock::take(folder)?;
    let mut config = RunConfig::read(&settings)?;
    let checkpoint = Checkpoint::load(&last).with_context(|| format!("--resume {shown}"))?;
    let done = checkpoint.weights.card.epoch;
    if let Some(epochs) = args.epochs {
        ensure!(epochs >= done, "--epochs {epochs} is the new total, and the run has done {done} already");
        config.train.epochs = epochs;
    }
    config.validate()?;
    let card = &checkpoint.weights.card;
    // The file's own limit on decoding is lowered when it is read, and changes no pixel.
    let reader = Reader { max_pixels: config.reader.max_pixels, ..card.reader.clone() };
    ensure!(
        card.model == config.model && reader == config.reader,
        "--resume {shown}: config.toml states another network or another reading of pictures than last.safetensors: put it right, or \
         begin a new run"
    );
    let data = args.data.clone().or(config.data.take()).context("--resume: config.toml names no folder of pictures; give it")?;
    let sets = Sets::scan(&data, &config).with_context(|| format!("--resume {shown}"))?;
    ensure!(
        sets.classes == card.classes,
        "--resume {shown}: the classes of {} are {}, and the run was begun with {}",
        data.display(),
        sets.classes.join(", "),
        card.classes.join(", ")
    );
    let choice = common::device(&args.device, config.train.precision)
        .with_context(|| format!("--resume {shown}: a run goes on at the precision in its config.toml"))?;
    let loaded = sets.load(&config.reader, &args.load)?;
    config.data = Some(data);
    let run = Run { config: &config, folder, choice: &choice, panels: args.panels, boxes: HashMap::new() };
    run.train(Start::From(&checkpoint), &loaded, args.log_steps)
}

/// The settings file with the flags laid over it.
fn run_config(args: &TrainArgs) -> Result<RunConfig> {
    let base = common::config(args.config.as_deref())?;
    let model = common::model_settings(base.model, &args.model);
    let t = base.train;
    let adam = Adam {
        learning_rate: args.learning_rate.unwrap_or(t.adam.learning_rate),
        beta1: args.beta1.unwrap_or(t.adam.beta1),
        beta2: args.beta2.unwrap_or(t.adam.beta2),
        epsilon: args.epsilon.unwrap_or(t.adam.epsilon),
    };
    let train = TrainSettings {
        epochs: args.epochs.unwrap_or(t.epochs),
        batch_size: args.batch_size.unwrap_or(t.batch_size),
        micro_batch: args.micro_batch.or(t.micro_batch),
        seed: args.seed.unwrap_or(t.seed),
        shuffle: t.shuffle && !args.no_shuffle,
        val_split: args.val_split.unwrap_or(t.val_split),
        save_every: args.save_every.unwrap_or(t.save_every),
        precision: args.device.precision.unwrap_or(t.precision),
        adam,
    };
    let reader = common::reader(base.reader, &args.reader, model.size);
    Ok(RunConfig { data: base.data, model, train, reader })
}

/// Weights to start from: the file's own network if it states one, which must be the run's.
fn initial_from(path: &Path, card: &Card) -> Result<Weights> {
    let path = &common::weights_file(path).context("--init")?;
    let read = load(path, None).or_else(|_| load(path, Some((&card.model, &card.classes)))).context("--init")?;
    if read.card.classes != card.classes {
        let names = |c: &Card| c.classes.join(", ");
        eprintln!("Note: --init {} was trained for {}, this run is for {}", path.display(), names(&read.card), names(card));
    }
    let same =
        |w: &Weights| w.model.params() == Model::new(&card.model, card.classes.len()).map(|m| m.params()).unwrap_or_default();
    ensure!(
        same(&read),
        "--init {}: it is for another network; give its --size, --filters, --kernel-size, --padding, --dense and number of classes",
        path.display()
    );
    let model = Model::new(&card.model, card.classes.len())?;
    Ok(Weights { card: card.clone(), model, values: read.values })
}

/// The next free runs/train-N.
fn free_folder() -> Result<PathBuf> {
    (1..100_000).map(|n| PathBuf::from(format!("runs/train-{n}"))).find(|p| !p.exists()).context("runs/ is full: give --out")
}

/// A training run and where its results go.
pub struct Run<'a> {
    /// The settings.
    pub config: &'a RunConfig,
    /// The run folder, which exists.
    pub folder: &'a Path,
    /// The device.
    pub choice: &'a Choice,
    /// Pictures to explain at the end.
    pub panels: usize,
    /// Known artefacts by path.
    pub boxes: HashMap<PathBuf, PlantedBox>,
}

/// What a finished run leaves besides its files.
pub struct Finished {
    /// The best weights.
    pub best: Weights,
    /// Their predictions on the final set.
    pub evaluation: Evaluation,
}

/// What a run starts from.
pub enum Start<'a> {
    /// Weights that this run has not trained yet.
    New(&'a Weights),
    /// Where it stopped.
    From(&'a Checkpoint),
}

impl Run<'_> {
    /// Trains, evaluates and explains; `None` when Ctrl-C ended it.
    pub fn train(&self, start: Start, sets: &Loaded, log_steps: bool) -> Result<Option<Finished>> {
        let t = &self.config.train;
        // Nothing is written before the batch size and the device's memory are known to do.
        let pictures = [&sets.train, &sets.validation];
        let (model, going_on) = match &start {
            Start::New(weights) => (weights.model.clone(), None),
            Start::From(c) => (c.weights.model.clone(), Some((c.weights.card.epoch, c.progress.batches))),
        };
        let mut trainer = match start {
            Start::New(weights) => Trainer::new(self.choice, weights, pictures, t, self.folder, log_steps),
            Start::From(checkpoint) => Trainer::resume(self.choice, checkpoint.clone(), pictures, t, self.folder, log_steps)
                .with_context(|| format!("--resume {}", self.folder.display())),
        }?;
        trainer.first_use().iter().for_each(|first| eprintln!("First use: {first}"));
        let config = RunConfig { train: trainer.settings().clone(), ..self.config.clone() };
        write_whole(&self.folder.join("config.toml"), config.to_toml()?.as_bytes())?;
        write_whole(&self.folder.join("summary.txt"), model.summary().as_bytes())?;
        say!("Found {} images belonging to {} classes.", sets.train.len(), sets.train.classes.len());
        say!("Validating on {} images ({}).", sets.validation.len(), sets.validation_name);
        say!(
            "{} parameters, batch size {}, seed {}; run folder {}",
            model.param_count(),
            t.batch_size,
            t.seed,
            self.folder.display()
        );
        if let Some((epoch, batches)) = going_on {
            let within = if batches > 0 { format!(" and {batches} batches") } else { String::new() };
            say!("Going on after epoch {epoch}{within} of {}.", t.epochs);
        }
        let interrupt = interrupt()?;
        interrupt.training.store(true, Ordering::Relaxed);
        let outcome = trainer.run(&mut Watch::new(t.epochs), &interrupt.stop)?;
        interrupt.training.store(false, Ordering::Relaxed);
        let at_once = trainer.settings().micro_batch.unwrap_or(t.batch_size);
        // The device's memory is wanted for the evaluation.
        drop(trainer);
        if outcome.interrupted {
            let done = outcome.history.epochs.len();
            eprintln!(
                "Interrupted after {done} whole epochs: the training as it was is in {}, and `wgradcam train --resume {}` goes on with it",
                self.folder.join("last.safetensors").display(),
                self.folder.display()
            );
            return Ok(None);
        }
        let finished = self.evaluate(sets, &outcome.history, at_once)?;
        self.explain(sets, &outcome, finished).map(Some)
    }

    fn evaluate(&self, sets: &Loaded, history: &History, at_once: usize) -> Result<Finished> {
        save_png(&self.folder.join("history.png"), &chart(history))?;
        let best = load(&self.folder.join("best.safetensors"), None)?;
        let data = sets.test.as_ref().unwrap_or(&sets.validation);
        let evaluation = evaluation::evaluate(&best, self.choice, data, at_once)?;
        evaluation.write(self.folder, data)?;
        Ok(Finished { best, evaluation })
    }

    fn explain(&self, sets: &Loaded, outcome: &Outcome, finished: Finished) -> Result<Finished> {
        let data = sets.test.as_ref().unwrap_or(&sets.validation);
        let Finished { best, evaluation } = &finished;
        let folder = self.folder.join("gradcam");
        common::output_folder(&folder)?;
        let chosen = gradcam::pick(data, &evaluation.outputs, self.panels);
        let drawn = draw(
            &Request {
                weights: best,
                data,
                outputs: &evaluation.outputs,
                labelled: true,
                chosen: &chosen,
                target: Target::Predicted,
                technique: Technique::Gradcam,
                folder: &folder,
                npy: false,
                check: false,
                boxes: &self.boxes,
            },
            self.choice,
        )?;
        say!("\n{}", evaluation.matrix.to_text());
        say!("{}", evaluation.matrix.classification_report().trim_end());
        evaluation.matrix.undefined_warnings().iter().for_each(|w| eprintln!("Warning: {w}"));
        let warnings = warnings(sets);
        warnings.iter().for_each(|w| eprintln!("Warning: {w}"));
        self.page(outcome, evaluation, &drawn, &warnings)?;
        say!("Best weights: epoch {}, {}", best.card.epoch, self.folder.join("best.safetensors").display());
        say!("Report with pictures: {}", self.folder.join("report.html").display());
        Ok(finished)
    }

    fn page(&self, outcome: &Outcome, evaluation: &Evaluation, drawn: &[Drawn], warnings: &[String]) -> Result<()> {
        let c = self.config;
        let best = outcome.best.map_or(0, |b| b.epoch);
        let list = |v: &[usize]| v.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let settings = [
            ("Classes", evaluation.matrix.classes.join(", ")),
            ("Input", format!("{} x {} pixels", c.model.size[0], c.model.size[1])),
            ("Filters", list(&c.model.filters)),
            ("Dense units", list(&c.model.dense)),
            ("Dropout", c.model.dropout.to_string()),
            ("Epochs", format!("{}, best {best}", outcome.history.epochs.len())),
            ("Batch size", c.train.batch_size.to_string()),
            ("Learning rate", c.train.adam.learning_rate.to_string()),
            ("Seed", c.train.seed.to_string()),
            ("Device", self.choice.adapter.as_ref().map_or("CPU path".into(), |a| a.facts().name.clone())),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let panels: Vec<Entry> =
            drawn.iter().map(|d| Entry { file: format!("gradcam/{}", d.entry.file), ..d.entry.clone() }).collect();
        let summary = format!("Accuracy {:.4} on {} pictures.", evaluation.matrix.accuracy(), evaluation.outputs.len());
        Page {
            title: "wgradcam run",
            summary: &summary,
            warnings,
            settings: &settings,
            history: Some("history.png"),
            confusion: evaluation.has_heatmap().then_some("confusion_matrix.png"),
            report: &evaluation.matrix.classification_report(),
            panels: &panels,
            gallery: (!panels.is_empty()).then_some("gradcam/gallery.html"),
        }
        .write(&self.folder.join("report.html"))
    }
}

fn chart(history: &History) -> image::RgbImage {
    history::chart(&history::Curves {
        loss: &history.column(|e| e.loss),
        val_loss: &history.column(|e| e.val_loss),
        accuracy: &history.column(|e| e.accuracy),
        val_accuracy: &history.column(|e| e.val_accuracy),
    })
}

fn warnings(sets: &Loaded) -> Vec<String> {
    if sets.test.is_some() {
        return Vec::new();
    }
    vec![format!(
        "the best epoch was chosen by its accuracy on {}, and the report is on the same pictures, so it flatters; --val-split 0.2 with a \
         test folder keeps the test pictures apart",
        sets.validation_name
    )]
}
