//! Every reader of a user's file on damaged and hostile ones: an error or a result, never a panic, a hang or memory past the limit.
//!
//! Real files, made here, are mutated by a counter hash, so that any failure comes back with its number. `WGRADCAM_FUZZ=N` tries N
//! inputs per reader instead of a few thousand, `WGRADCAM_FUZZ_SEED=S` others, and `WGRADCAM_FUZZ_PICTURES=FOLDER` adds the
//! pictures of a folder to those mutated. A failing input is kept under `target/tmp`.

use image::{DynamicImage, ImageFormat};
use peak_alloc::PeakAlloc;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wgradcam::data::{Dataset, Reader, TraitCounts, planted};
use wgradcam::model::{Model, ModelSettings};
use wgradcam::rng::hash3;
use wgradcam::train::{Card, Checkpoint, Epoch, History, Progress, RunConfig, Weights, load, save};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Longest that one input may take on a busy machine; they are a few KB each.
const PATIENCE: Duration = Duration::from_secs(30);

/// Memory is counted for the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn setting(name: &str) -> Option<u32> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

/// Random numbers of one input: the same number, the same input.
struct Draw {
    seed: u32,
    input: u32,
    drawn: u32,
}

impl Draw {
    fn word(&mut self) -> u32 {
        self.drawn += 1;
        hash3(self.seed, self.input, self.drawn)
    }
    /// Below `n`; 0 for an empty range.
    fn below(&mut self, n: usize) -> usize {
        self.word() as usize % n.max(1)
    }
}

/// Numbers at which sizes and offsets break.
const EDGES: [u32; 12] = [0, 1, 4, 255, 256, 65_535, 65_536, 0x7fff_fffe, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff];
/// Words at which a text's reader may stumble.
const TEXTS: [&str; 14] = [
    "0",
    "-1",
    "1e999",
    "18446744073709551615",
    "99999999999999999999",
    "nan",
    "[]",
    "{}",
    "\"",
    "\n",
    "null",
    "../../x",
    "\u{0}",
    ",",
];

/// One to eight changes of `bytes`; `others` are spliced in.
fn mutate(mut bytes: Vec<u8>, others: &[Vec<u8>], draw: &mut Draw) -> Vec<u8> {
    for _ in 0..=draw.below(8) {
        let at = draw.below(bytes.len());
        let len = draw.below(64).min(bytes.len() - at);
        match draw.below(11) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= 0x80),
            2 | 3 => {
                let byte = draw.word() as u8;
                bytes.iter_mut().skip(at).take(1).for_each(|b| *b = byte);
            }
            4 | 5 => {
                let edge = EDGES[draw.below(EDGES.len())];
                let word = if draw.below(2) == 0 { edge.to_le_bytes() } else { edge.to_be_bytes() };
                let width = [1, 2, 4][draw.below(3)];
                let part = if draw.below(2) == 0 { &word[..width] } else { &word[4 - width..] };
                bytes.iter_mut().skip(at).zip(part).for_each(|(b, w)| *b = *w);
            }
            6 => bytes.truncate(at),
            7 => drop(bytes.drain(at..at + len)),
            8 => {
                let part = bytes[at..at + len].to_vec();
                bytes.splice(at..at, part);
            }
            9 => {
                let other = &others[draw.below(others.len())];
                let from = draw.below(other.len());
                let part = other[from..].iter().take(len.max(1)).copied().collect::<Vec<_>>();
                let end = (at + part.len()).min(bytes.len());
                bytes.splice(at..end, part);
            }
            _ => {
                let text = TEXTS[draw.below(TEXTS.len())];
                let end = (at + draw.below(4)).min(bytes.len());
                bytes.splice(at..end, text.bytes());
            }
        }
    }
    bytes
}

/// What a reader did with its inputs.
#[derive(Default)]
struct Tally {
    inputs: u32,
    accepted: u32,
    /// Errors that say that a decoder panicked and was caught.
    contained: u32,
    /// Most bytes that one input took.
    most: usize,
}

/// Tries `inputs` mutations of the seeds. `read` gets a path and says whether it was taken; an input may take `limit(its bytes)`
/// bytes of memory.
fn fuzz(
    name: &str,
    inputs: u32,
    seeds: &[Vec<u8>],
    mend: impl Fn(&mut Vec<u8>, &mut Draw),
    limit: impl Fn(&[u8]) -> usize,
    read: impl Fn(&Path) -> anyhow::Result<()>,
) -> Tally {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let inputs = setting("WGRADCAM_FUZZ").unwrap_or(inputs);
    let seed = setting("WGRADCAM_FUZZ_SEED").unwrap_or(1);
    // Files in memory where there is such a place: a disk would be most of the time.
    let shm = Path::new("/dev/shm");
    let folder = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }.expect("a folder");
    let path = folder.path().join(name);
    let mut tally = Tally { inputs, ..Tally::default() };
    for input in 0..inputs {
        let mut draw = Draw { seed, input, drawn: 0 };
        let start = seeds[draw.below(seeds.len())].clone();
        // The first inputs are the seeds themselves.
        let mut bytes = seeds.get(input as usize).cloned().unwrap_or_else(|| mutate(start, seeds, &mut draw));
        mend(&mut bytes, &mut draw);
        std::fs::write(&path, &bytes).expect("a file");
        MEMORY.reset_peak_usage();
        let (before, start) = (MEMORY.current_usage(), Instant::now());
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(&path)));
        let (took, memory) = (start.elapsed(), MEMORY.peak_usage().saturating_sub(before));
        let fails = match &outcome {
            Err(_) => Some("it panics".to_owned()),
            _ if took > PATIENCE => Some(format!("it takes {took:?}")),
            _ if memory > limit(&bytes) => Some(format!("it takes {memory} bytes, and {} are the limit", limit(&bytes))),
            _ => None,
        };
        if let Some(what) = fails {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{seed}-{input}-{name}"));
            std::fs::write(&kept, &bytes).expect("the input is kept");
            // Said here too: a panic hook may be silent.
            eprintln!("{name}: input {input} of seed {seed}, kept as {}: {what}", kept.display());
            panic!("{name}: {what}");
        }
        tally.most = tally.most.max(memory);
        match outcome.expect("no panic") {
            Ok(()) => tally.accepted += 1,
            Err(error) => {
                let text = format!("{error:#}");
                tally.contained += u32::from(text.contains("the decoder crashed"));
                assert!(text.contains(name) || text.contains("--"), "{name}: input {input}: no file and no remedy in: {text}");
            }
        }
    }
    let Tally { inputs, accepted, contained, most } = tally;
    eprintln!(
        "{name}: {inputs} inputs, {accepted} accepted, {contained} decoder panics contained, at most {most} bytes of memory"
    );
    tally
}

fn nothing(_: &mut Vec<u8>, _: &mut Draw) {}

/// A small picture in every format and depth that there is an encoder for.
fn pictures() -> Vec<Vec<u8>> {
    let rgba = image::RgbaImage::from_fn(23, 17, |x, y| image::Rgba([0, 1, 2, 3].map(|c| (hash3(c, x, y) >> 25) as u8)));
    let rgba = DynamicImage::from(rgba);
    let depths = [
        DynamicImage::from(rgba.to_luma8()),
        DynamicImage::from(rgba.to_luma_alpha16()),
        DynamicImage::from(rgba.to_rgb8()),
        rgba.clone(),
        DynamicImage::from(rgba.to_rgb16()),
        DynamicImage::from(rgba.to_rgba16()),
    ];
    let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Pnm, ImageFormat::Tiff, ImageFormat::WebP];
    let mut files = Vec::new();
    for format in formats {
        for picture in &depths {
            let mut file = Cursor::new(Vec::new());
            // Not every format has every depth.
            if picture.write_to(&mut file, format).is_ok() {
                files.push(file.into_inner());
            }
        }
    }
    assert!(files.len() > 15, "{} pictures", files.len());
    if let Ok(folder) = std::env::var("WGRADCAM_FUZZ_PICTURES") {
        let mut folders = vec![PathBuf::from(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of pictures").map(|e| e.expect("an entry").path()) {
                match entry.is_dir() {
                    true => folders.push(entry),
                    false => files.extend(std::fs::read(&entry).ok().filter(|f| !f.is_empty() && f.len() < 100_000)),
                }
            }
        }
    }
    files
}

/// Puts the checksums of a PNG's chunks right, else no mutation would come past them.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize) {
        let Some(chunk) = bytes.get(at + 4..(at + 8).saturating_add(length)) else { return };
        let crc = crc32fast::hash(chunk).to_be_bytes();
        let Some(stated) = bytes.get_mut(at + 8 + length..at + 12 + length) else { return };
        stated.copy_from_slice(&crc);
        at += 12 + length;
    }
}

#[test]
fn pictures_are_refused_within_their_limits() {
    const MAX_PIXELS: u64 = 1 << 14;
    let reader = Reader { height: 8, width: 8, max_pixels: MAX_PIXELS, ..Reader::default() };
    let exact = Reader { keras_exact: true, ..reader.clone() };
    let before = std::panic::take_hook();
    // A decoder's panic is contained and counted; its text says nothing here.
    std::panic::set_hook(Box::new(|_| ()));
    let tally = fuzz(
        "picture",
        4000,
        &pictures(),
        |bytes, draw| {
            if draw.below(4) > 0 {
                mend_png(bytes);
            }
        },
        // The file, what the decoder holds, the decoded picture beside its copies, and tables that do not grow with the picture.
        // A TIFF's lists of strips grow from a byte in the file to 32 in memory.
        |bytes| 100 * bytes.len() + 3 * 8 * MAX_PIXELS as usize + (1 << 20),
        |path| {
            let read = reader.read(path).map(drop);
            let as_keras = exact.read(path).map(drop);
            assert_eq!(read.is_ok(), as_keras.is_ok(), "{read:?} {as_keras:?}");
            read
        },
    );
    std::panic::set_hook(before);
    assert!(tally.accepted > tally.inputs / 50 && tally.accepted < tally.inputs * 49 / 50, "{} accepted", tally.accepted);
}

fn weights() -> Weights {
    let settings = ModelSettings { size: [12, 10], filters: vec![3], dense: vec![2], ..ModelSettings::default() };
    let model = Model::new(&settings, 2).expect("a network");
    let reader = Reader { height: 12, width: 10, ..Reader::default() };
    let card = Card::new(&model, &["fake".into(), "real".into()], &reader);
    Weights::initial(&model, card, 3)
}

/// Weights and a training's state, sealed, in format 1 and without metadata.
fn weights_files() -> Vec<Vec<u8>> {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("w");
    let w = weights();
    save(&path, &w).expect("it is saved");
    let sealed = std::fs::read(&path).expect("a file");
    let pixels = vec![7; 2 * 12 * 10];
    let data = Dataset {
        classes: w.card.classes.clone(),
        paths: vec![PathBuf::from("a"), PathBuf::from("b")],
        labels: vec![0, 1],
        pixels,
        height: 12,
        width: 10,
        traits: TraitCounts::default(),
    };
    let zeros: Vec<Vec<f32>> = w.values.iter().map(|v| vec![0.0; v.len()]).collect();
    let epoch = Epoch { epoch: 1, loss: 0.5, accuracy: 0.5, val_loss: 0.5, val_accuracy: 0.5 };
    let mut state = Checkpoint {
        weights: w.clone(),
        m: zeros.clone(),
        v: zeros,
        history: History { epochs: vec![epoch] },
        sums: [0.0; 2],
        progress: Progress {
            batches: 0,
            updates: 1,
            best: Some(1),
            settings: RunConfig::default().to_toml().expect("settings"),
            techniques: Vec::new(),
            train: data.fingerprint(),
            validation: data.fingerprint(),
        },
    };
    state.weights.card.epoch = 1;
    state.save(&path).expect("it is saved");
    let checkpoint = std::fs::read(&path).expect("a file");
    let params = w.model.params();
    let views = || {
        let view = |values: &'static [f32], shape: &[usize]| {
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values))
                .expect("a tensor")
        };
        params.iter().zip(&w.values).map(move |(p, v)| (p.name.clone(), view(v.clone().leak(), &p.shape)))
    };
    let card = serde_json::to_string(&Card { format: 1, ..w.card.clone() }).expect("a card");
    let first = safetensors::serialize(views(), Some([("wgradcam".to_owned(), card)].into())).expect("a file");
    let bare = safetensors::serialize(views(), None).expect("a file");
    vec![sealed, checkpoint, first, bare]
}

/// Puts the header's length and the checksum right, else no mutation would come past them.
fn mend_weights(bytes: &mut Vec<u8>, draw: &mut Draw) {
    if draw.below(4) == 0 || bytes.len() < 9 {
        return;
    }
    // The header is JSON, ends with its last tensor's offsets and is filled up with spaces.
    if let Some(end) = bytes.windows(3).rposition(|w| w == b"]}}").map(|i| i + 2) {
        let padded = end + 1 + bytes[end + 1..].iter().take_while(|&&b| b == b' ').count();
        bytes[..8].copy_from_slice(&(padded.saturating_sub(8) as u64).to_le_bytes());
    }
    // The checksum is what the message of the refusal says it should be: none of its own arithmetic here.
    let folder = std::env::temp_dir().join(format!("wgradcam-fuzz-{}", std::process::id()));
    std::fs::write(&folder, &bytes).expect("a file");
    let said = load(&folder, None).err().map(|e| format!("{e:#}")).unwrap_or_default();
    std::fs::remove_file(&folder).expect("the file goes");
    let sums = said.split_once("its checksum is ").and_then(|(_, rest)| rest.split_once(", and its contents give "));
    if let Some((stated, found)) = sums
        // An emptied checksum stands nowhere that could be told.
        && !stated.is_empty()
        && let Some(at) = bytes.windows(stated.len()).position(|w| w == stated.as_bytes())
    {
        bytes.splice(at..at + stated.len(), found.bytes().take(8));
    }
}

#[test]
fn weights_and_states_are_refused_within_their_limits() {
    let settings = weights().card.model;
    let classes = ["fake".to_owned(), "real".to_owned()];
    let tally = fuzz(
        "weights.safetensors",
        4000,
        &weights_files(),
        mend_weights,
        // The file, its header as text and as a tree, and the values copied out.
        |bytes| 24 * bytes.len() + (1 << 17),
        |path| {
            let state = Checkpoint::load(path).map(drop);
            let read = load(path, None).map(drop);
            let given = load(path, Some((&settings, &classes))).map(drop);
            // A state is weights and more.
            assert!(read.is_ok() || state.is_err());
            read.and(given)
        },
    );
    assert!(tally.accepted > 2 && tally.accepted < tally.inputs, "{} accepted", tally.accepted);
}

#[test]
fn settings_are_refused_within_their_limits() {
    let default = RunConfig::default().to_toml().expect("settings").into_bytes();
    let seeds = [default, b"[model]\nfilters = [4, 8]\n[train]\nepochs = 3\nbatch_size = 16\n".to_vec()];
    let tally = fuzz(
        "settings.toml",
        4000,
        &seeds,
        nothing,
        |bytes| 200 * bytes.len() + (1 << 18),
        |path| {
            let config = RunConfig::read(path)?;
            // What the command line does next; their errors name the setting.
            config
                .validate()
                .and_then(|()| Model::new(&config.model, 2).map(drop))
                .map_err(|e| e.context(path.display().to_string()))
        },
    );
    assert!(tally.accepted > 2 && tally.accepted < tally.inputs, "{} accepted", tally.accepted);
}

#[test]
fn lists_of_boxes_are_refused_within_their_limits() {
    let seed = b"path,class,x,y,width,height\ntest/fake/0001.png,fake,3,4,5,6\ntest/real/0002.png,real,,,,\n".to_vec();
    let tally = fuzz(
        "planted.csv",
        4000,
        &[seed],
        nothing,
        |bytes| 100 * bytes.len() + (1 << 18),
        |path| planted::read_boxes(path).map(drop),
    );
    assert!(tally.accepted > 2 && tally.accepted < tally.inputs, "{} accepted", tally.accepted);
}

#[test]
#[cfg(unix)]
fn what_never_ends_is_no_file() {
    let device = Path::new("/dev/zero");
    for error in [load(device, None).map(drop), RunConfig::read(device).map(drop), Reader::default().read(device).map(drop)] {
        let error = format!("{:#}", error.expect_err("a device"));
        assert!(error.contains("/dev/zero") && error.contains("not a file"), "{error}");
    }
}
