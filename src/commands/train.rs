//! `wgradcam train`.

use super::evaluation::Evaluation;
use super::panels::{Drawn, Request, draw};
use super::progress::Watch;
use super::{common, evaluation, gradcam, say};
use crate::cli::{OnBadArgs, TrainArgs};
use crate::data::{self, Dataset, Folder, Item, Limit, PlantedBox, Reader, keras_differences};
use crate::files::write_whole;
use crate::model::{Model, Target, Technique};
use crate::ops::adam::Adam;
use crate::player::Choice;
use crate::report::gallery::Entry;
use crate::report::{history, page::Page, save_png};
use crate::train::{Card, History, Outcome, RunConfig, TrainSettings, Trainer, Weights, load};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a training that Ctrl-C ended, as shells count SIGINT.
const INTERRUPTED: u8 = 130;

/// Trains, evaluates the best weights and explains some pictures.
pub fn run(args: &TrainArgs) -> Result<ExitCode> {
    let config = run_config(args)?;
    config.validate()?;
    let sets = Sets::scan(&args.data, &config)?;
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
        "{} holds an earlier run; choose another --out, or give --overwrite to replace it",
        folder.display()
    );
    let choice = common::device(&args.device)?;
    let _empty = common::EmptyFolder::make(&folder)?;
    let loaded = sets.load(&config.reader, &args.on_bad)?;
    let run = Run { config: &config, folder: &folder, choice: &choice, panels: args.panels, boxes: HashMap::new() };
    run.train(&weights, &loaded, args.log_steps)
        .map(|finished| if finished.is_some() { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) })
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
        seed: args.seed.unwrap_or(t.seed),
        shuffle: t.shuffle && !args.no_shuffle,
        val_split: args.val_split.unwrap_or(t.val_split),
        adam,
    };
    let reader = common::reader(base.reader, &args.reader, model.size);
    Ok(RunConfig { model, train, reader })
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

/// Where the pictures are, before any is read.
struct Sets {
    classes: Vec<String>,
    train: Folder,
    validation: Vec<Item>,
    validation_name: String,
    test: Option<Vec<Item>>,
}

/// The pictures of a run, read.
pub struct Loaded {
    /// To train on.
    pub train: Dataset,
    /// To choose the best weights by.
    pub validation: Dataset,
    /// What the validation set is, for messages.
    pub validation_name: String,
    /// Untouched pictures for the final report, where there are any.
    pub test: Option<Dataset>,
}

impl Sets {
    fn scan(dir: &Path, config: &RunConfig) -> Result<Self> {
        let exact = config.reader.keras_exact;
        ensure!(dir.exists(), "{} does not exist; give the folder that holds train/ and test/", dir.display());
        ensure!(dir.is_dir(), "{} is a file; give the folder that holds train/ and test/", dir.display());
        let train_dir = dir.join("train");
        let split = config.train.val_split;
        let (train_dir, val_dir, test_dir) = if train_dir.is_dir() {
            let found = |names: &[&str]| names.iter().map(|n| dir.join(n)).find(|p| p.is_dir());
            (train_dir, found(&["val", "validation", "valid"]), found(&["test"]))
        } else {
            (dir.to_owned(), None, None)
        };
        // Validation pictures of their own leave the test pictures to the final report.
        let (val_dir, test_dir) = match (val_dir, test_dir) {
            (Some(val), Some(test)) if split == 0.0 => (Some(val), Some(test)),
            (val, test) => (None, test.or(val)),
        };
        if test_dir.is_none() && split == 0.0 {
            bail!(
                "{} has no {}test/ folder to validate on: add one, or give --val-split 0.2 to keep a share of the training pictures apart",
                dir.display(),
                if train_dir == dir { "train/ and " } else { "" }
            );
        }
        let mut train = data::scan(&train_dir, exact)?;
        let classes = train.classes.clone();
        let test = test_dir.as_ref().map(|dir| Self::items(dir, &classes, exact)).transpose()?;
        if split > 0.0 {
            let labels: Vec<u32> = train.items.iter().map(|i| i.class).collect();
            let (keep, apart) = data::stratified(&labels, classes.len(), split, config.train.seed)
                .with_context(|| format!("--val-split {split} of {} (classes {})", train_dir.display(), classes.join(", ")))?;
            let take = |indices: Vec<usize>| indices.into_iter().map(|i| train.items[i].clone()).collect::<Vec<_>>();
            let (kept, validation) = (take(keep), take(apart));
            train.items = kept;
            let validation_name = format!("{:.0} % of {}", 100.0 * split, train_dir.display());
            return Ok(Self { classes, train, validation, validation_name, test });
        }
        let named = |d: &PathBuf| d.display().to_string();
        if let Some(val) = &val_dir {
            let validation = Self::items(val, &classes, exact)?;
            return Ok(Self { classes, train, validation, validation_name: named(val), test });
        }
        let validation_name = test_dir.as_ref().map(named).unwrap_or_default();
        Ok(Self { classes, train, validation: test.unwrap_or_default(), validation_name, test: None })
    }

    /// The pictures of another folder, numbered by the training folder's classes.
    fn items(dir: &Path, classes: &[String], exact: bool) -> Result<Vec<Item>> {
        let folder = data::scan(dir, exact)?;
        let number = |name: &String| {
            classes.iter().position(|c| c == name).map(|i| i as u32).with_context(|| {
                format!("{} has a class {name} that the training folder lacks ({})", dir.display(), classes.join(", "))
            })
        };
        let numbers: Vec<u32> = folder.classes.iter().map(number).collect::<Result<_>>()?;
        Ok(folder.items.into_iter().map(|i| Item { class: numbers[i.class as usize], path: i.path }).collect())
    }

    fn load(self, reader: &Reader, on_bad: &OnBadArgs) -> Result<Loaded> {
        let read =
            |items: &[Item], what| Dataset::load(items, &self.classes, reader, on_bad.on_bad, Limit::default(), Some(what));
        let train = read(&self.train.items, "read train");
        let validation = read(&self.validation, "read validation");
        let test = self.test.as_ref().map(|t| read(t, "read test")).transpose();
        // All sets are read before any is judged: one run names every bad file.
        let errors = [train.as_ref().err(), validation.as_ref().err(), test.as_ref().err()];
        let errors: Vec<String> = errors.into_iter().flatten().map(|e| format!("{e:#}")).collect();
        ensure!(errors.len() < 2, "{}", errors.join("\n"));
        let (train, validation, test) = (train?, validation?, test?);
        for difference in keras_differences(&self.train, reader, &train.traits) {
            eprintln!("Note: unlike Keras: {difference}");
        }
        Ok(Loaded { train, validation, validation_name: self.validation_name, test })
    }
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

impl Run<'_> {
    /// Trains, evaluates and explains; `None` when Ctrl-C ended it.
    pub fn train(&self, weights: &Weights, sets: &Loaded, log_steps: bool) -> Result<Option<Finished>> {
        let t = &self.config.train;
        // Nothing is written before the batch size and the device's memory are known to do.
        let mut trainer = Trainer::new(self.choice, weights, [&sets.train, &sets.validation], t, self.folder, log_steps)?;
        write_whole(&self.folder.join("config.toml"), self.config.to_toml()?.as_bytes())?;
        write_whole(&self.folder.join("summary.txt"), weights.model.summary().as_bytes())?;
        say!("Found {} images belonging to {} classes.", sets.train.len(), sets.train.classes.len());
        say!("Validating on {} images ({}).", sets.validation.len(), sets.validation_name);
        say!(
            "{} parameters, batch size {}, seed {}; run folder {}",
            weights.model.param_count(),
            t.batch_size,
            t.seed,
            self.folder.display()
        );
        let interrupt = interrupt()?;
        interrupt.training.store(true, Ordering::Relaxed);
        let outcome = trainer.run(&mut Watch::new(t.epochs), &interrupt.stop)?;
        interrupt.training.store(false, Ordering::Relaxed);
        // The device's memory is wanted for the evaluation.
        drop(trainer);
        if outcome.interrupted {
            let done = outcome.history.epochs.len();
            eprintln!(
                "Interrupted after {done} whole epochs: the weights as they were are in {}",
                self.folder.join("last.safetensors").display()
            );
            return Ok(None);
        }
        let finished = self.evaluate(sets, &outcome.history)?;
        self.explain(sets, &outcome, finished).map(Some)
    }

    fn evaluate(&self, sets: &Loaded, history: &History) -> Result<Finished> {
        save_png(&self.folder.join("history.png"), &chart(history))?;
        let best = load(&self.folder.join("best.safetensors"), None)?;
        let data = sets.test.as_ref().unwrap_or(&sets.validation);
        let evaluation = evaluation::evaluate(&best, self.choice, data, self.config.train.batch_size)?;
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

/// What Ctrl-C does.
#[derive(Default)]
struct Interrupt {
    /// Set by Ctrl-C: the training is to end.
    stop: AtomicBool,
    /// Whether a training looks at `stop`; elsewhere Ctrl-C ends the program at once, all files being written whole.
    training: AtomicBool,
}

/// Installs the handler, once per process.
fn interrupt() -> Result<&'static Interrupt> {
    static INTERRUPT: OnceLock<Interrupt> = OnceLock::new();
    if let Some(interrupt) = INTERRUPT.get() {
        return Ok(interrupt);
    }
    let interrupt = INTERRUPT.get_or_init(Interrupt::default);
    ctrlc::set_handler(|| {
        if !interrupt.training.load(Ordering::Relaxed) || interrupt.stop.swap(true, Ordering::Relaxed) {
            // Nothing to save, or the second Ctrl-C: the user does not want to wait for the step.
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\nInterrupted: ending after this step. Once more ends at once, without saving.");
    })
    .context("cannot catch Ctrl-C")?;
    Ok(interrupt)
}
