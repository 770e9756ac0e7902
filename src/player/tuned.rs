//! What `wgradcam tune` measured on an adapter, and what is chosen by it.

use super::{AdapterFacts, Cache, Clock};
use crate::files::{read_whole, write_whole};
use crate::kernel::{self, Kernel, Precision};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Fields of the dims that differ between batches of other sizes: the batch, and in how many parts its rows are
/// shared out, which are none where no gradient follows; and between sets of other pictures: where a batch's lie.
const OF_THE_BATCH: &[&str] = &["batch", "splits", "rows_per_split", "pictures", "offset", "chunk_first", "chunk_len"];
/// Largest file that is read.
const MOST: u64 = 16 << 20;

/// One technique for a kernel, as it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its key.
    pub kernel: String,
    /// Median of its times in milliseconds; none where it was not timed.
    pub median_ms: Option<f64>,
    /// The shortest and the longest.
    pub range_ms: Option<[f64; 2]>,
    /// Why it was not timed: what `verify` says of it.
    pub failure: Option<String>,
}

/// A kernel at the sizes of one dispatch, with every technique for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Key of the kernel that every adapter can run.
    pub kernel: String,
    /// Its sizes by their names.
    pub dims: BTreeMap<String, u32>,
    /// The precision of the runs that take it.
    #[serde(default)]
    pub precision: Precision,
    /// Key of the fastest that passed its check.
    pub chosen: String,
    /// What it was timed with.
    pub clock: Clock,
    /// When, in UTC.
    pub date: String,
    /// The kernel itself and its variants.
    pub candidates: Vec<Candidate>,
}

/// A training step on the adapter and on the CPU path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTimes {
    /// Pictures of the step.
    pub batch: usize,
    /// Parameters of the network.
    pub parameters: usize,
    /// Milliseconds per picture on the adapter, median.
    pub adapter_ms: f64,
    /// Milliseconds per picture on the CPU path, median.
    pub cpu_ms: f64,
    /// When, in UTC.
    pub date: String,
}

/// Everything that was measured on one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// The adapter's name.
    pub adapter: String,
    /// Its backend.
    pub backend: String,
    /// Its driver and the driver's version.
    pub driver: String,
    /// [`shaders`] of the program that measured.
    pub shaders: String,
    /// The step, by which `--device auto` decides between a software adapter and the CPU path.
    pub step: Option<StepTimes>,
    /// The kernels.
    pub kernels: Vec<Measured>,
}

/// What there is of an adapter in the cache.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Nothing.
    None,
    /// What was measured with this driver and these shaders.
    Valid(Tuned),
    /// What was measured with others, and in what they differ: not used.
    Stale(Tuned, String),
    /// A file that cannot be read, and why: not used.
    Damaged(String),
}

/// Tells the texts of all kernels apart from those of another version: this program's version and a checksum over them.
pub fn shaders() -> &'static str {
    static SHADERS: LazyLock<String> = LazyLock::new(|| {
        let mut hasher = crc32fast::Hasher::new();
        for k in kernel::all() {
            for text in [&[k.key, k.entry, k.source], k.shared, k.dims].concat() {
                hasher.update(text.as_bytes());
                hasher.update(&[0]);
            }
            hasher.update(&[u8::from(k.variant.is_some_and(|v| v.textures))]);
            let values = |case: &Vec<u32>| [k.constants(case), k.variant.map_or_else(Vec::new, |v| (v.loads)(case))].concat();
            for (name, value) in (k.cases)().iter().flat_map(values) {
                hasher.update(name.as_bytes());
                hasher.update(&value.to_le_bytes());
            }
        }
        format!("{} {:08x}", env!("CARGO_PKG_VERSION"), hasher.finalize())
    });
    &SHADERS
}

/// Now, in UTC, as `2026-11-24T16:00:00Z`.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

/// Dims under their names.
pub fn named(kernel: &Kernel, dims: &[u32]) -> BTreeMap<String, u32> {
    kernel.dims.iter().zip(dims).map(|(name, &v)| ((*name).to_owned(), v)).collect()
}

impl Tuned {
    /// Of an adapter on which nothing was measured yet.
    pub fn new(facts: &AdapterFacts) -> Self {
        Self {
            adapter: facts.name.clone(),
            backend: facts.backend.clone(),
            driver: facts.driver.clone(),
            shaders: shaders().to_owned(),
            step: None,
            kernels: Vec::new(),
        }
    }

    /// Adds a measurement in the place of an earlier one of the same kernel, sizes and precision.
    pub fn insert(&mut self, measured: Measured) {
        self.kernels.retain(|m| (&m.kernel, &m.dims, m.precision) != (&measured.kernel, &measured.dims, measured.precision));
        self.kernels.push(measured);
    }

    /// The technique measured to be the fastest for a kernel at these sizes in runs of this precision; else that for sizes which differ
    /// in the batch alone: of the same purpose first, training or evaluation, and then of the nearest batch.
    pub fn chosen(&self, kernel: &Kernel, dims: &[u32], precision: Precision) -> Option<&str> {
        let wanted = named(kernel, dims);
        let alike = |m: &&Measured| {
            let known = |name: &String| OF_THE_BATCH.contains(&name.as_str());
            m.kernel == kernel.key
                && m.precision == precision
                && m.dims.len() == wanted.len()
                && wanted.iter().all(|(name, v)| known(name) || m.dims.get(name) == Some(v))
        };
        let batch = |dims: &BTreeMap<String, u32>| dims.get("batch").copied().unwrap_or_default();
        let evaluated = |dims: &BTreeMap<String, u32>| dims.get("splits") == Some(&0);
        let distance = |m: &&Measured| {
            let purpose = evaluated(&m.dims) != evaluated(&wanted);
            (m.dims != wanted, purpose, batch(&m.dims).abs_diff(batch(&wanted)))
        };
        let nearest = self.kernels.iter().filter(alike).min_by_key(distance);
        nearest.map(|m| m.chosen.as_str())
    }
}

impl Cache {
    fn tuned_file(&self, facts: &AdapterFacts) -> Option<PathBuf> {
        self.file("tune", facts, "json")
    }

    /// What `tune` left of an adapter.
    pub fn tuned(&self, facts: &AdapterFacts) -> Record {
        let Some(path) = self.tuned_file(facts).filter(|path| path.exists()) else { return Record::None };
        let read = || -> Result<Tuned> { Ok(serde_json::from_slice(&read_whole(&path, MOST)?)?) };
        let tuned = match read() {
            Ok(tuned) => tuned,
            Err(error) => return Record::Damaged(format!("{}: {error:#}", path.display())),
        };
        let here = Tuned::new(facts);
        let differs = [
            ("the adapter", &tuned.adapter, &here.adapter),
            ("the backend", &tuned.backend, &here.backend),
            ("the driver", &tuned.driver, &here.driver),
            ("wgradcam's version and shaders", &tuned.shaders, &here.shaders),
        ]
        .into_iter()
        .find(|(_, was, is)| was != is)
        .map(|(what, was, is)| format!("{what} was {was} and is {is}"));
        match differs {
            Some(why) => Record::Stale(tuned, why),
            None => Record::Valid(tuned),
        }
    }

    /// Keeps it, whole; returns the file.
    ///
    /// # Errors
    /// No cache folder, or one that cannot be written.
    pub fn keep_tuned(&self, facts: &AdapterFacts, tuned: &Tuned) -> Result<PathBuf> {
        let path = self.tuned_file(facts).context("there is no cache folder: set WGRADCAM_CACHE to one")?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the cache folder {}; WGRADCAM_CACHE names another", folder.display()))?;
        }
        write_whole(&path, serde_json::to_string_pretty(tuned)?.as_bytes()).context("WGRADCAM_CACHE names another folder")?;
        Ok(path)
    }

    /// Forgets it; returns the file that went, if there was one.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn forget_tuned(&self, facts: &AdapterFacts) -> Result<Option<PathBuf>> {
        let Some(path) = self.tuned_file(facts).filter(|path| path.exists()) else { return Ok(None) };
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        Ok(Some(path))
    }
}

impl Record {
    /// What may be used, and the one line about what may not.
    pub(super) fn usable(self) -> (Option<Tuned>, Option<String>) {
        match self {
            Self::None => (None, None),
            Self::Valid(tuned) => (Some(tuned), None),
            Self::Stale(_, why) => {
                (None, Some(format!("Note: what `wgradcam tune` measured is not used, since {why}; run it again")))
            }
            Self::Damaged(why) => {
                (None, Some(format!("Warning: what `wgradcam tune` measured is damaged and not used ({why}); run it again")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> AdapterFacts {
        AdapterFacts {
            index: 0,
            name: "A card (model 2)".into(),
            backend: "Vulkan".into(),
            kind: "Cpu".into(),
            driver: "made 1.0".into(),
            software: true,
            features: Vec::new(),
            max_storage_binding: 0,
            max_buffer: 0,
            workgroup_memory: 0,
            workgroup_invocations: 0,
            subgroup: [8, 8],
        }
    }

    const KEY: &str = "dense.forward";

    fn measured(dims: [u32; 6], chosen: &str) -> Measured {
        let candidate =
            Candidate { kernel: chosen.into(), median_ms: Some(0.1 + 0.2), range_ms: Some([0.25, 1.5]), failure: None };
        Measured {
            kernel: KEY.into(),
            dims: named(kernel::by_key(KEY), &dims),
            precision: Precision::F32,
            chosen: chosen.into(),
            clock: Clock::Timestamps,
            date: now(),
            candidates: vec![
                candidate,
                Candidate { kernel: "b".into(), median_ms: None, range_ms: None, failure: Some("x".into()) },
            ],
        }
    }

    fn tuned() -> Tuned {
        let step = StepTimes { batch: 64, parameters: 7, adapter_ms: 1.0 / 3.0, cpu_ms: 2.0, date: now() };
        let mut tuned = Tuned { step: Some(step), ..Tuned::new(&facts()) };
        tuned.insert(measured([64, 8, 64, 1, 1, 8], "wide"));
        tuned
    }

    #[test]
    fn what_is_kept_is_found_again_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("made"));
        assert_eq!(cache.tuned(&facts()), Record::None);
        let path = cache.keep_tuned(&facts(), &tuned()).unwrap();
        assert_eq!(path.file_name().unwrap(), "tune-a-card-model-2-vulkan.json");
        assert_eq!(cache.tuned(&facts()), Record::Valid(tuned()));
        // Another backend's is another file.
        assert_eq!(cache.tuned(&AdapterFacts { backend: "Dx12".into(), ..facts() }), Record::None);
        assert_eq!(cache.forget_tuned(&facts()).unwrap(), Some(path));
        assert_eq!((cache.tuned(&facts()), cache.forget_tuned(&facts()).unwrap()), (Record::None, None));
        let error = format!("{:#}", Cache::none().keep_tuned(&facts(), &tuned()).unwrap_err());
        assert!(error.contains("WGRADCAM_CACHE"), "{error}");
    }

    #[test]
    fn another_driver_or_other_shaders_make_it_stale() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        cache.keep_tuned(&facts(), &tuned()).unwrap();
        let newer = AdapterFacts { driver: "made 1.1".into(), ..facts() };
        let Record::Stale(found, why) = cache.tuned(&newer) else { panic!("{:?}", cache.tuned(&newer)) };
        assert_eq!(found, tuned());
        assert!(why.contains("made 1.0") && why.contains("made 1.1"), "{why}");
        let other = Tuned { shaders: "0.0.0 01234567".into(), ..tuned() };
        cache.keep_tuned(&facts(), &other).unwrap();
        let Record::Stale(_, why) = cache.tuned(&facts()) else { panic!("{:?}", cache.tuned(&facts())) };
        assert!(why.contains("shaders") && why.contains("01234567") && why.contains(shaders()), "{why}");
        // One line, and nothing that is used.
        let (used, line) = cache.tuned(&facts()).usable();
        assert!(used.is_none() && line.is_some_and(|l| l.starts_with("Note: ") && l.lines().count() == 1));
    }

    #[test]
    fn a_damaged_file_is_ignored_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let path = cache.keep_tuned(&facts(), &tuned()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"{}", b"\xff\xfe"] {
            std::fs::write(&path, damaged).unwrap();
            let (used, line) = cache.tuned(&facts()).usable();
            let line = line.unwrap();
            assert!(used.is_none() && line.starts_with("Warning: ") && line.contains("tune-a-card"), "{line}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(cache.tuned(&facts()), Record::Damaged(_)));
    }

    #[test]
    fn the_first_layer_takes_what_was_measured_for_other_sets_of_pictures() {
        use crate::kernel::Dims;
        use crate::ops::{conv2d::Conv2dDims, gather::ChunkDims, pictures::PicturesDims};
        let kernel = kernel::by_key("conv2d_relu_maxpool2x2.forward_pictures");
        let dims =
            |in_w, chunk| PicturesDims { conv: Conv2dDims::new(8, [8, in_w, 4], 4, [3, 3], false, true).pooled(), chunk }.words();
        let mut tuned = tuned();
        let own = named(kernel, &dims(8, ChunkDims::whole(8)));
        tuned.insert(Measured { kernel: kernel.key.to_owned(), dims: own, ..measured([0; 6], "tile") });
        let chosen = |d: Vec<u32>| tuned.chosen(kernel, &d, Precision::F32);
        let elsewhere = ChunkDims { pictures: 100, offset: 2, chunk_first: 50, chunk_len: 50 };
        assert_eq!(chosen(dims(8, elsewhere)), Some("tile"));
        assert_eq!(chosen(dims(10, elsewhere)), None);
    }

    #[test]
    fn other_batches_take_the_nearest_measurement_and_other_sizes_none() {
        let mut tuned = tuned();
        let kernel = kernel::by_key(KEY);
        let chosen = |tuned: &Tuned, dims: [u32; 6]| tuned.chosen(kernel, &dims, Precision::F32).map(str::to_owned);
        assert_eq!(chosen(&tuned, [64, 8, 64, 1, 1, 8]).as_deref(), Some("wide"));
        assert_eq!(chosen(&tuned, [3, 8, 64, 1, 2, 8]).as_deref(), Some("wide"));
        for other in [[64, 12, 64, 1, 1, 8], [64, 8, 64, 0, 1, 8], [64, 8, 64, 1, 1, 4]] {
            assert_eq!(chosen(&tuned, other), None, "{other:?}");
        }
        assert_eq!(tuned.chosen(kernel::by_key("dense.backward_input"), &[64, 8, 64, 1, 1, 8], Precision::F32), None);
        tuned.insert(measured([8, 8, 64, 1, 1, 8], "narrow"));
        assert_eq!(chosen(&tuned, [3, 8, 64, 1, 2, 8]).as_deref(), Some("narrow"));
        assert_eq!(chosen(&tuned, [64, 8, 64, 1, 1, 8]).as_deref(), Some("wide"));
        // What was measured without a gradient is for plans without one, and for others where there is nothing else.
        let mut evaluated = tuned.clone();
        evaluated.insert(measured([64, 8, 64, 1, 0, 8], "evaluated"));
        assert_eq!(chosen(&evaluated, [3, 8, 64, 1, 0, 8]).as_deref(), Some("evaluated"));
        assert_eq!(chosen(&evaluated, [40, 8, 64, 1, 2, 8]).as_deref(), Some("wide"));
        evaluated.kernels.retain(|m| m.chosen == "evaluated");
        assert_eq!(chosen(&evaluated, [40, 8, 64, 1, 2, 8]).as_deref(), Some("evaluated"));
        // The same sizes again replace what was known.
        tuned.insert(measured([8, 8, 64, 1, 1, 8], "newer"));
        assert_eq!((tuned.kernels.len(), chosen(&tuned, [8, 8, 64, 1, 1, 8]).as_deref()), (2, Some("newer")));
        // What f16 takes is its own.
        assert_eq!(tuned.chosen(kernel, &[8, 8, 64, 1, 1, 8], Precision::F16), None);
        tuned.insert(Measured { precision: Precision::F16, ..measured([8, 8, 64, 1, 1, 8], "half") });
        assert_eq!((tuned.kernels.len(), chosen(&tuned, [8, 8, 64, 1, 1, 8]).as_deref()), (3, Some("newer")));
        assert_eq!(tuned.chosen(kernel, &[8, 8, 64, 1, 1, 8], Precision::F16), Some("half"));
    }
}
