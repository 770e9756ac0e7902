//! What the driver compiled, kept between runs where the adapter lets it be read back (wgpu's pipeline cache).

use crate::files::{read_whole, write_whole};
use serde::Serialize;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Before the checksum; another form of the file needs another name.
const MAGIC: &[u8] = b"wgradcam pipelines 1\n";
/// A larger file is dropped and begun anew: nothing else ever removes what a driver keeps of networks that nobody plays any more.
const MOST: u64 = 64 << 20;

/// Seconds of waiting for the driver's compilation of which the user is told.
pub(super) const WORTH_A_LINE: f64 = 1.0;

/// What the pipeline cache gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// The adapter has none, or nothing is kept in this run.
    Nothing,
    /// So many bytes of earlier runs; 0 the first time.
    Bytes(usize),
}

/// What a device cost before its first step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FirstUse {
    /// Seconds that loading the drivers and looking for adapters took, once per process.
    pub find: f64,
    /// Seconds that opening the device took.
    pub open: f64,
    /// Kernels that were compiled, a text for other sizes counted apart.
    pub kernels: usize,
    /// Seconds that creating their pipelines took. Some drivers put off the machine code until a kernel's first dispatch.
    pub compile: f64,
    /// What the pipeline cache had for them.
    pub pipeline_cache: Kept,
    /// Seconds that a software adapter's machine code took, so far, when plans were first played.
    pub machine_code: f64,
    /// Kernels among them whose code other devices of the adapter made.
    pub helped: usize,
}

impl FirstUse {
    /// Whether the user of a command that takes seconds noticed it.
    pub fn is_long(&self) -> bool {
        self.find + self.open + self.compile > WORTH_A_LINE
    }
}

impl Display for FirstUse {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        let Self { find, open, kernels, compile, pipeline_cache, machine_code, helped } = self;
        write!(f, "opened the device in {:.2} s, compiled {kernels} kernels in {compile:.2} s ", find + open)?;
        match pipeline_cache {
            Kept::Nothing => write!(f, "(no pipeline cache)")?,
            Kept::Bytes(0) => write!(f, "(pipeline cache: empty)")?,
            Kept::Bytes(n) => write!(f, "(pipeline cache: {:.1} KiB of earlier runs)", *n as f64 / 1024.0)?,
        }
        if *machine_code > 0.0 {
            write!(f, ", machine code in {machine_code:.2} s")?;
        }
        if *helped > 0 {
            write!(f, " (that of {helped} by other devices of the adapter)")?;
        }
        Ok(())
    }
}

/// The pipeline cache of an open device and its file.
pub(super) struct Pipelines {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    before: Vec<u8>,
}

impl Pipelines {
    /// For a device that was opened with [`wgpu::Features::PIPELINE_CACHE`]. A file that is damaged or too large counts as none.
    pub(super) fn open(device: &wgpu::Device, path: PathBuf) -> Self {
        let before = read(&path).unwrap_or_default();
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("wgradcam"),
            data: (!before.is_empty()).then_some(before.as_slice()),
            // A driver that does not know the data any more begins with none.
            fallback: true,
        };
        // SAFETY: wgpu asks for it because a driver may trust the data blindly. It is what `PipelineCache::get_data` gave an
        // earlier run: the file's checksum says that it is whole, and wgpu's own header that it is this adapter's and driver's.
        #[allow(unsafe_code)]
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Self { cache, path, before }
    }

    pub(super) fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    pub(super) fn kept(&self) -> Kept {
        Kept::Bytes(self.before.len())
    }

    /// Writes the file if there is something new in it. A run that cannot is no worse for it, and says so once.
    pub(super) fn store(&self) {
        let Some(data) = self.cache.get_data().filter(|data| *data != self.before) else { return };
        if let Err(error) = write(&self.path, &data) {
            static SAID: Once = Once::new();
            SAID.call_once(|| eprintln!("Note: the compiled kernels are not kept for the next run: {error:#}"));
        }
    }
}

fn write(path: &Path, data: &[u8]) -> anyhow::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    write_whole(path, &[MAGIC, &crc32fast::hash(data).to_le_bytes(), data].concat())
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = read_whole(path, MOST).ok()?;
    let (checksum, data) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    (crc32fast::hash(data) == u32::from_le_bytes(*checksum)).then(|| data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/p.bin");
        assert_eq!(read(&path), None);
        write(&path, b"compiled").unwrap();
        assert_eq!(read(&path).as_deref(), Some(&b"compiled"[..]));
        let whole = std::fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[i] ^= 4;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path), None, "byte {i}");
            std::fs::write(&path, &whole[..i]).unwrap();
            assert_eq!(read(&path), None, "cut at {i}");
        }
    }

    #[test]
    fn the_line_says_what_was_kept() {
        let (find, open, compile) = (0.25, 0.5, 0.8);
        let first_use =
            |pipeline_cache| FirstUse { find, open, kernels: 31, compile, pipeline_cache, machine_code: 0.0, helped: 0 };
        let line = |pipeline_cache| first_use(pipeline_cache).to_string();
        let start = "opened the device in 0.75 s, compiled 31 kernels in 0.80 s ";
        assert_eq!(line(Kept::Nothing), format!("{start}(no pipeline cache)"));
        assert_eq!(line(Kept::Bytes(0)), format!("{start}(pipeline cache: empty)"));
        assert_eq!(line(Kept::Bytes(1536)), format!("{start}(pipeline cache: 1.5 KiB of earlier runs)"));
        let made = FirstUse { machine_code: 6.25, ..first_use(Kept::Nothing) };
        assert_eq!(made.to_string(), format!("{start}(no pipeline cache), machine code in 6.25 s"));
        let helped = FirstUse { helped: 14, ..made }.to_string();
        assert_eq!(helped, format!("{made} (that of 14 by other devices of the adapter)"));
    }
}
