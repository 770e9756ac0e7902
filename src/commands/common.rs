//! What several commands begin with: settings, weights, device, pictures.

use crate::cli::{DeviceArgs, LoadArgs, ModelArgs, ReaderArgs, WeightsArgs};
use crate::data::{self, Dataset, Item, Limit, Reader};
use crate::kernel::Precision;
use crate::model::{Model, ModelSettings};
use crate::player::{Cache, Choice, choose_with};
use crate::rng::hash3;
use crate::train::{self, MAX_BATCH, RunConfig, Weights};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// The settings file, or the defaults.
pub fn config(path: Option<&Path>) -> Result<RunConfig> {
    path.map_or_else(|| Ok(RunConfig::default()), RunConfig::read)
}

/// The settings with the flags laid over them.
pub fn model_settings(base: ModelSettings, args: &ModelArgs) -> ModelSettings {
    ModelSettings {
        size: args.size.unwrap_or(base.size),
        filters: args.filters.clone().unwrap_or(base.filters),
        kernel_size: args.kernel_size.unwrap_or(base.kernel_size),
        padding: args.padding.unwrap_or(base.padding),
        dense: args.dense.clone().map_or(base.dense, |units| units.0),
        dropout: args.dropout.unwrap_or(base.dropout),
        head: args.head.unwrap_or(base.head),
    }
}

/// The reader with the flags laid over it, for pictures of this size.
pub fn reader(base: Reader, args: &ReaderArgs, size: [usize; 2]) -> Reader {
    Reader {
        height: size[0],
        width: size[1],
        resize: args.resize.unwrap_or(base.resize),
        background: args.background.unwrap_or(base.background),
        keras_exact: args.keras_exact || base.keras_exact,
        max_pixels: args.max_pixels.unwrap_or(base.max_pixels),
    }
}

/// Chooses the device, for products of this precision, and says in one line on stderr what was taken and why.
///
/// # Errors
/// There is no such device, or it has nothing for the precision.
pub fn device(args: &DeviceArgs, precision: Precision) -> Result<Choice> {
    let choice = choose_with(&args.device, &Cache::of_user())?.with_precision(precision)?;
    eprintln!("Device: {}{}", choice.why, if precision == Precision::F16 { "; products of f16" } else { "" });
    Ok(choice)
}

/// The weights file of a run folder, or the file itself.
pub fn weights_file(path: &Path) -> Result<PathBuf> {
    ensure!(path.exists(), "{} does not exist; give a .safetensors file or a run folder", path.display());
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let best = path.join("best.safetensors");
    ensure!(best.is_file(), "{} is a folder without best.safetensors: give a run folder or a .safetensors file", path.display());
    Ok(best)
}

/// Reads the weights, with the network from the flags where the file does not state it.
pub fn weights(args: &WeightsArgs) -> Result<Weights> {
    let path = weights_file(&args.weights)?;
    let m = &args.model;
    let given = m.size.is_some() || m.filters.is_some() || m.kernel_size.is_some() || m.padding.is_some() || m.dense.is_some();
    let mut weights = match (&args.classes, given || m.head.is_some()) {
        (Some(classes), _) => train::load(&path, Some((&model_settings(ModelSettings::default(), m), classes)))?,
        (None, false) => train::load(&path, None)?,
        (None, true) => {
            let stated =
                train::load(&path, None).with_context(|| "with the network given by flags, --classes must name its classes")?;
            // The file states its network; flags may repeat it but not change it.
            let repeated = model_settings(stated.card.model.clone(), m);
            train::load(&path, Some((&repeated, &stated.card.classes)))?
        }
    };
    let reader = reader(weights.card.reader.clone(), &args.reader, weights.card.model.size);
    weights.card.reader = reader;
    Ok(weights)
}

/// The folder that holds the class folders: `dir` itself, or its test/ if it has one and no class is called so.
pub fn class_folder(dir: &Path, classes: &[String]) -> PathBuf {
    let test = dir.join("test");
    if test.is_dir() && !classes.iter().any(|c| c == "test") { test } else { dir.to_owned() }
}

/// Checks a `--batch-size`.
pub fn batch_size(n: usize) -> Result<usize> {
    ensure!((1..=MAX_BATCH).contains(&n), "--batch-size {n} is outside 1..={MAX_BATCH}");
    Ok(n)
}

/// Reads pictures as the flags say, those that an earlier run has read from the cache.
pub fn load(items: &[Item], classes: &[String], reader: &Reader, args: &LoadArgs, label: &str) -> Result<Dataset> {
    let cache = if args.no_cache { None } else { data::Cache::of_user() };
    Dataset::load(items, classes, reader, args.on_bad, Limit::default(), Some(label), cache.as_ref())
}

/// A folder of class folders, its labels numbered as `classes` numbers them.
///
/// # Errors
/// A class that the weights do not know, by name.
pub fn labelled(dir: &Path, classes: &[String], reader: &Reader, args: &LoadArgs, label: &str) -> Result<Dataset> {
    let dir = &class_folder(dir, classes);
    let folder = data::scan(dir, reader.keras_exact)?;
    folder.notes.iter().for_each(|note| eprintln!("Note: {note}"));
    let numbers: Vec<u32> = folder
        .classes
        .iter()
        .map(|c| match classes.iter().position(|known| known == c) {
            Some(i) => Ok(i as u32),
            None => bail!("{} has a class folder {c}, and the network knows only {}", dir.display(), classes.join(", ")),
        })
        .collect::<Result<_>>()?;
    let items: Vec<Item> = folder.items.into_iter().map(|i| Item { class: numbers[i.class as usize], path: i.path }).collect();
    load(&items, classes, reader, args, label)
}

/// Pictures without labels.
pub fn unlabelled(paths: &[PathBuf], reader: &Reader, args: &LoadArgs) -> Result<Dataset> {
    let files = data::list_pictures(paths)?;
    let items: Vec<Item> = files.into_iter().map(|path| Item { path, class: 0 }).collect();
    load(&items, &["pictures".to_owned()], reader, args, "read")
}

/// Random pictures of the model's size, the classes in turn.
pub fn random_pictures(model: &Model, n: usize) -> Dataset {
    let [height, width] = model.settings.size;
    let classes = model.outputs.max(2);
    Dataset {
        classes: (0..classes).map(|c| format!("class {c}")).collect(),
        paths: vec!["made".into(); n],
        labels: (0..n).map(|i| (i % classes) as u32).collect(),
        pixels: (0..n * height * width).map(|i| hash3(1, 2, i as u32)).collect(),
        height,
        width,
        traits: Default::default(),
    }
}

/// Makes a folder to write into and checks that it can be written, before any long work.
pub fn output_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}; choose another with --out", path.display()))?;
    tempfile::tempfile_in(path)
        .with_context(|| format!("cannot write into the folder {}; choose another with --out", path.display()))?;
    Ok(())
}

/// An output folder that goes again if the command made it and then failed before it wrote anything.
pub struct EmptyFolder<'a>(Option<&'a Path>);

impl<'a> EmptyFolder<'a> {
    /// Makes it, as [`output_folder`] does.
    pub fn make(path: &'a Path) -> Result<Self> {
        let new = !path.exists();
        output_folder(path)?;
        Ok(Self(new.then_some(path)))
    }
}

impl Drop for EmptyFolder<'_> {
    fn drop(&mut self) {
        // Fails where there is something in it, as it should.
        let _ = self.0.map(std::fs::remove_dir);
    }
}
