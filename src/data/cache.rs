//! Decoded pictures kept from one run to the next, one file per data set and way of reading, in the user's cache folder.
//!
//! ```text
//! magic  length and CRC-32 of the index  index (JSON): path, size, time of change, CRC-32, traits  pixels, a word each
//! ```
//!
//! A picture is taken from it when path, size and time of change are the file's own and its pixels have their checksum; every
//! other one is decoded, so that what a data set holds does not depend on whether there is a cache. Nothing about a cache is an error.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::decode::{Reader, Traits};
use super::folder::Item;
use crate::files;

/// Stands first in a file and in its name's hash. To be raised when a change to this crate changes a pixel.
const MAGIC: &[u8; 8] = b"wgcache2";
/// What makes pixels of a file's bytes, in the name's hash: pictures that another version decoded are decoded again.
const DECODERS: [(&str, &str); 5] =
    [("image", "0.25.10"), ("image-webp", "0.2.4"), ("png", "0.18.1"), ("tiff", "0.11.3"), ("zune-jpeg", "0.5.15")];
/// Bytes of magic, length and checksum.
const HEAD: usize = 20;
/// How the files' names end.
const EXTENSION: &str = "pictures";
/// All files together; the least recently used go first.
const MOST_BYTES: u64 = 4 << 30;
/// A file that changed so short a time ago may change again without a new time of change: FAT counts in steps of two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// The folder of the cached data sets.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    most: u64,
}

/// What is known of one cached picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
    crc32: u32,
    /// Position among the file's pictures.
    at: u64,
    pub(super) traits: Traits,
}

/// What a file was when it was looked at, before its bytes were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    bytes: u64,
    modified: u64,
    /// Whether a later change would show.
    settled: bool,
}

impl Seen {
    fn of(about: &Metadata) -> Option<Self> {
        let modified = about.modified().ok()?;
        let settled = SystemTime::now().duration_since(modified).is_ok_and(|age| age > SETTLED);
        let modified = u64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?;
        about.is_file().then_some(Self { bytes: about.len(), modified, settled })
    }
}

/// One data set's file.
pub(super) struct Store<'a> {
    cache: &'a Cache,
    file: PathBuf,
    kept: HashMap<PathBuf, Kept>,
    /// Where the pixels begin.
    start: u64,
    /// Bytes of a picture.
    size: usize,
}

impl Cache {
    /// The user's, if the system has a place for it.
    pub fn of_user() -> Option<Self> {
        files::cache_folder().map(|folder| Self::at(folder.join("pictures")))
    }

    /// In this folder, which is made when something is written.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder, most: MOST_BYTES }
    }

    /// The store of these pictures read in this way; `part` tells the sets of one folder apart. `None` for pictures whose place
    /// cannot be named.
    pub(super) fn open(&self, items: &[Item], reader: &Reader, part: &str) -> Option<Store<'_>> {
        let mut common = absolute(&items.first()?.path)?;
        for item in items {
            let path = absolute(&item.path)?;
            while !path.starts_with(&common) {
                common.pop();
            }
        }
        let settings = serde_json::to_string(reader).ok()?;
        let version = env!("CARGO_PKG_VERSION");
        let key = format!("{MAGIC:?} {version} {DECODERS:?} {settings} {}x{} {part} {common:?}", reader.height, reader.width);
        // Two checksums of 32 bits: a file of another key would do no harm, its paths would not be found.
        let name = format!(
            "{:08x}{:08x}.{EXTENSION}",
            crc32fast::hash(key.as_bytes()),
            crc32fast::hash(&[b"again ", key.as_bytes()].concat())
        );
        let file = self.folder.join(name);
        let size = reader.height * reader.width * 4;
        let (kept, start) = index(&file).unwrap_or_default();
        Some(Store { cache: self, file, kept, start, size })
    }

    /// Removes the least recently used files until `more` bytes have room.
    fn make_room(&self, more: u64) {
        let about = |e: fs::DirEntry| {
            let (path, about) = (e.path(), e.metadata().ok()?);
            (path.extension()? == EXTENSION).then_some((about.modified().ok()?, about.len(), path))
        };
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut found: Vec<_> = entries.flatten().filter_map(about).collect();
        found.sort();
        let mut all = found.iter().fold(more, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
        for (_, bytes, path) in found {
            if all <= self.most {
                break;
            }
            if fs::remove_file(path).is_ok() {
                all = all.saturating_sub(bytes);
            }
        }
    }
}

fn absolute(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    // The index is text.
    path.to_str().is_some().then_some(path)
}

/// A file's index by path, and where its pixels begin; `None` if it is not whole.
fn index(path: &Path) -> Option<(HashMap<PathBuf, Kept>, u64)> {
    let mut file = File::open(path).ok()?;
    let mut head = [0; HEAD];
    file.read_exact(&mut head).ok()?;
    let (magic, rest) = head.split_at(8);
    let (len, crc32) = rest.split_at(8);
    let len = u64::from_le_bytes(len.try_into().ok()?);
    if magic != MAGIC || len > file.metadata().ok()?.len() {
        return None;
    }
    let mut text = Vec::new();
    file.take(len).read_to_end(&mut text).ok()?;
    if crc32fast::hash(&text) != u32::from_le_bytes(crc32.try_into().ok()?) {
        return None;
    }
    let kept: Vec<Kept> = serde_json::from_slice(&text).ok()?;
    Some((kept.into_iter().map(|k| (k.path.clone(), k)).collect(), head.len() as u64 + len))
}

impl Store<'_> {
    /// The open file, for one thread.
    pub(super) fn reader(&self) -> Option<File> {
        if self.kept.is_empty() { None } else { File::open(&self.file).ok() }
    }

    /// What a picture's file is now.
    pub(super) fn see(&self, path: &Path) -> Option<Seen> {
        Seen::of(&fs::metadata(path).ok()?)
    }

    /// Reads the picture's pixels into `out`, if they are there and those of the file as it was seen.
    pub(super) fn read(&self, from: &mut File, path: &Path, seen: &Seen, out: &mut [u32]) -> Option<&Kept> {
        let kept = self.kept.get(&absolute(path)?)?;
        if (kept.bytes, kept.modified) != (seen.bytes, seen.modified) {
            return None;
        }
        from.seek(SeekFrom::Start(self.start.checked_add(kept.at.checked_mul(self.size as u64)?)?)).ok()?;
        let out: &mut [u8] = bytemuck::cast_slice_mut(out);
        from.read_exact(out).ok()?;
        (crc32fast::hash(out) == kept.crc32).then_some(kept)
    }

    /// What to keep of a decoded picture; `None` if it may change without a trace.
    pub(super) fn keep(&self, path: &Path, seen: &Seen, traits: Traits, pixels: &[u32]) -> Option<Kept> {
        let path = absolute(path).filter(|_| seen.settled)?;
        Some(Kept {
            path,
            bytes: seen.bytes,
            modified: seen.modified,
            crc32: crc32fast::hash(bytemuck::cast_slice(pixels)),
            at: 0,
            traits,
        })
    }

    /// Notes that the file was of use.
    pub(super) fn used(&self) {
        // Where that fails it is removed earlier than it might be.
        let _ = File::options().append(true).open(&self.file).and_then(|f| f.set_modified(SystemTime::now()));
    }

    /// Writes the file anew: `kept[i]` is about picture `i` of `pixels`. Nothing is lost where it cannot be written.
    pub(super) fn write(&self, kept: Vec<Option<Kept>>, pixels: &[u32]) {
        let pixels: &[u8] = bytemuck::cast_slice(pixels);
        let placed = (0..).zip(kept).filter_map(|(at, k)| k.map(|k| Kept { at, ..k }));
        let Ok(text) = serde_json::to_vec(&placed.collect::<Vec<_>>()) else { return };
        let bytes = (HEAD + text.len() + pixels.len()) as u64;
        if bytes > self.cache.most {
            return;
        }
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.cache.folder)?;
            // The one that this replaces is not to be counted.
            let _ = fs::remove_file(&self.file);
            self.cache.make_room(bytes);
            // Not brought to the disk: what a crash leaves half written has another checksum.
            let mut file = tempfile::NamedTempFile::new_in(&self.cache.folder)?;
            file.write_all(MAGIC)?;
            file.write_all(&(text.len() as u64).to_le_bytes())?;
            file.write_all(&crc32fast::hash(&text).to_le_bytes())?;
            file.write_all(&text)?;
            file.write_all(pixels)?;
            file.persist(&self.file)?;
            Ok(())
        };
        let _ = write();
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
