//! The pictures of a training: which folder is what, and what to validate on.

use super::common;
use crate::cli::LoadArgs;
use crate::data::{self, Dataset, Folder, Item, Reader, keras_differences};
use crate::train::RunConfig;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Where the pictures are, before any is read.
pub(super) struct Sets {
    /// Class names in label order.
    pub(super) classes: Vec<String>,
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
    /// Finds the pictures of a run in the folder that the user gave.
    pub(super) fn scan(dir: &Path, config: &RunConfig) -> Result<Self> {
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

    /// Reads them all.
    pub(super) fn load(self, reader: &Reader, args: &LoadArgs) -> Result<Loaded> {
        let read = |items: &[Item], what| common::load(items, &self.classes, reader, args, what);
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
