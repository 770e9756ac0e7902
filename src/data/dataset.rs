//! A whole picture folder in memory, decoded once.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crc32fast::Hasher;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::cache::{Cache, Kept, Store};
use super::decode::{Reader, Traits};
use super::differences::TraitCounts;
use super::folder::Item;
use super::pixels::unpack;

/// What to do with pictures that cannot be read.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBad {
    /// Stop, with an error that lists them.
    #[default]
    Fail,
    /// Leave them out, with a warning that lists them.
    Skip,
}

/// The most bytes that the decoded pictures may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub u64);

impl Default for Limit {
    /// 16 GiB: 262,144 pictures of 128 x 128.
    fn default() -> Self {
        Limit(16 << 30)
    }
}

/// Pixels of which a thread takes the checksum at once.
const FINGERPRINT_PART: usize = 1 << 16;

/// Decoded pictures with their labels. Picture i is `paths[i]`, `labels[i]` and `image(i)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// The file of each picture.
    pub paths: Vec<PathBuf>,
    /// The class of each picture.
    pub labels: Vec<u32>,
    /// (len, height, width), a word each as [`pack`](super::pack) makes them: what the kernels read, so it is uploaded as it is.
    pub pixels: Vec<u32>,
    /// Rows of every picture.
    pub height: usize,
    /// Columns of every picture.
    pub width: usize,
    /// What the pictures carry that Keras would have treated differently, counted while decoding.
    pub traits: TraitCounts,
}

/// What a data set is to a training: one of another fingerprint would not train to the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Number of pictures.
    pub pictures: usize,
    /// CRC-32 of their labels and RGB bytes, in order; not of their names, which change nothing.
    pub crc32: u32,
}

impl Dataset {
    /// The fingerprint of labels and pixels.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hasher = Hasher::new();
        hasher.update(bytemuck::cast_slice(&self.labels));
        let part = |words: &[u32]| {
            let mut hasher = Hasher::new();
            hasher.update(&unpack(words));
            hasher
        };
        let parts: Vec<_> = self.pixels.par_chunks(FINGERPRINT_PART).map(part).collect();
        parts.iter().for_each(|part| hasher.combine(part));
        Fingerprint { pictures: self.len(), crc32: hasher.finalize() }
    }

    /// Decode all pictures on all cores, straight into one buffer, in the order of `items`.
    ///
    /// A progress bar headed `label` goes to stderr when that is a terminal; without a label there is none. Every file is
    /// tried before anything is reported. While it runs each core also holds one picture at its stored size, at
    /// most 8 bytes a pixel, which `reader.max_pixels` bounds.
    ///
    /// With a `cache` the pictures that an earlier run has decoded come from there, and the others go there; `label` tells the sets
    /// of one folder apart. The result is the same.
    ///
    /// # Errors
    /// With no items; when the decoded pictures would pass `limit`; when a file cannot be read and `on_bad` is `Fail`; when
    /// skipping leaves a class that had pictures without any.
    pub fn load(
        items: &[Item],
        classes: &[String],
        reader: &Reader,
        on_bad: OnBad,
        limit: Limit,
        label: Option<&str>,
        cache: Option<&Cache>,
    ) -> Result<Dataset> {
        ensure!(!items.is_empty(), "there are no pictures to load");
        let out_of_range = items.iter().find(|item| item.class as usize >= classes.len());
        ensure!(out_of_range.is_none(), "class out of range: {out_of_range:?} with {} classes", classes.len());
        let size = reader.height.saturating_mul(reader.width);
        ensure!(size > 0, "pictures of {} x {} have no pixels", reader.height, reader.width);
        let mut pixels = buffer(items.len(), size, reader, limit)?;

        let bar = label.map_or_else(ProgressBar::hidden, |label| progress_bar(items.len(), label));
        let store = cache.and_then(|cache| cache.open(items, reader, label.unwrap_or_default()));
        let outcomes: Vec<_> = pixels
            .par_chunks_mut(size)
            .zip(items)
            .map_init(
                || store.as_ref().and_then(Store::reader),
                |from, (out, item)| {
                    let outcome = Picture::fetch(store.as_ref(), from.as_mut(), reader, item, out);
                    bar.inc(1);
                    outcome
                },
            )
            .collect();
        bar.finish_and_clear();

        let mut dataset = Dataset {
            classes: classes.to_vec(),
            paths: Vec::new(),
            labels: Vec::new(),
            pixels,
            height: reader.height,
            width: reader.width,
            traits: TraitCounts::default(),
        };
        let (mut bad, mut kept) = (Vec::new(), Vec::new());
        let (mut cached, mut news) = (0, false);
        for (index, (outcome, item)) in outcomes.into_iter().zip(items).enumerate() {
            match outcome {
                Err(reason) => bad.push(format!("{reason:#}")),
                Ok(picture) => {
                    let webp = item.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("webp"));
                    dataset.traits.add(picture.traits, webp);
                    cached += u64::from(picture.cached);
                    news |= !picture.cached && picture.kept.is_some();
                    kept.push(picture.kept);
                    // Good pictures move up over the bad ones before them.
                    let place = dataset.paths.len();
                    if place != index {
                        dataset.pixels.copy_within(index * size..(index + 1) * size, place * size);
                    }
                    dataset.paths.push(item.path.clone());
                    dataset.labels.push(item.class);
                }
            }
        }
        dataset.pixels.truncate(dataset.len() * size);
        if !bad.is_empty() {
            dataset.judge(items, &bad, on_bad)?;
        }
        match store {
            Some(store) if news => store.write(kept, &dataset.pixels),
            Some(store) if cached > 0 => store.used(),
            _ => {}
        }
        if let (Some(label), 1..) = (label, cached) {
            eprintln!("{label}: {} pictures ({} from the cache)", HumanCount(dataset.len() as u64), HumanCount(cached));
        }
        Ok(dataset)
    }

    fn judge(&self, items: &[Item], bad: &[String], on_bad: OnBad) -> Result<()> {
        let mut list = format!("{} of {} pictures cannot be read:", bad.len(), items.len());
        bad.iter().for_each(|line| list.push_str(&format!("\n  {line}")));
        if on_bad == OnBad::Fail {
            bail!("{list}\nMend or remove them, or leave them out with --on-bad skip");
        }
        for (class, count) in self.class_counts().into_iter().enumerate() {
            let had_some = items.iter().any(|item| item.class as usize == class);
            ensure!(count > 0 || !had_some, "{list}\nWithout them class {} has no picture left", self.classes[class]);
        }
        eprintln!("Warning: {list}\nThey are left out (--on-bad skip); {} pictures remain", self.len());
        Ok(())
    }

    /// The number of pictures.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The pixels of picture `i`: `height * width * 3` bytes, rows of RGB.
    ///
    /// # Panics
    /// When `i >= len()`, as indexing a slice does.
    pub fn image(&self, i: usize) -> Vec<u8> {
        let size = self.height * self.width;
        unpack(&self.pixels[i * size..(i + 1) * size])
    }

    /// The number of pictures of each class, in the order of `classes`.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }
}

/// A picture whose pixels are in place.
struct Picture {
    traits: Traits,
    /// What the cache is to know of it.
    kept: Option<Kept>,
    /// Whether it came from there.
    cached: bool,
}

impl Picture {
    /// From the cache if it is there, else from its own file.
    fn fetch(store: Option<&Store>, from: Option<&mut File>, reader: &Reader, item: &Item, out: &mut [u32]) -> Result<Self> {
        // Before the file is read: a change after this shows in the next run.
        let seen = store.and_then(|store| store.see(&item.path));
        if let (Some(store), Some(from), Some(seen)) = (store, from, &seen) {
            if let Some(kept) = store.read(from, &item.path, seen, out) {
                return Ok(Self { traits: kept.traits, kept: Some(kept.clone()), cached: true });
            }
            out.fill(0);
        }
        let traits = reader.read_into(&item.path, out)?;
        let kept = store.zip(seen).and_then(|(store, seen)| store.keep(&item.path, &seen, traits, out));
        Ok(Self { traits, kept, cached: false })
    }
}

/// Zeros for `count` pictures of `size` words, or an error that says what they would take.
fn buffer(count: usize, size: usize, reader: &Reader, Limit(limit): Limit) -> Result<Vec<u32>> {
    let what = format!("{count} pictures of {} x {}", reader.height, reader.width);
    let mib = |bytes: u64| bytes >> 20;
    let words = count.checked_mul(size).filter(|words| words.checked_mul(4).is_some());
    let words = words.with_context(|| format!("{what} take more bytes than can be counted"))?;
    let bytes = 4 * words;
    ensure!(
        bytes as u64 <= limit,
        "{what} take {} MiB in memory, above the limit of {} MiB; use fewer or smaller pictures, or raise the limit",
        mib(bytes as u64),
        mib(limit)
    );
    // Zeroed by the system page by page, when the threads come by.
    let pixels = bytemuck::allocation::try_zeroed_vec(words).ok();
    pixels.with_context(|| format!("{what} need {} MiB, which this machine does not give", mib(bytes as u64)))
}

fn progress_bar(count: usize, label: &str) -> ProgressBar {
    let bar = ProgressBar::new(count as u64).with_prefix(label.to_owned());
    let template = "{prefix} [{bar:30}] {human_pos}/{human_len} pictures, {per_sec}, {eta} left";
    // A template that does not parse would be a slip here, and the plain bar still serves.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
