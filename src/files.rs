//! Files written whole: what is on the disk is always a finished file, the old one or the new one.

use crate::fault;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// How the temporary files begin and end, so that those of a killed run can be told from anybody else's.
const TEMPORARY: [&str; 2] = [".wgradcam-", ".tmp"];

/// Writes a file whole or not at all: into a temporary file beside it, to the disk, then renamed into place; the rename is on
/// the disk too when this returns.
///
/// # Errors
/// When the folder does not exist or cannot be written, or the disk is full; the error names the path.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    // A rename is only atomic inside one file system, so the temporary file must be a neighbour.
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut options = tempfile::Builder::new();
        options.prefix(TEMPORARY[0]).suffix(TEMPORARY[1]);
        // A temporary file is for its owner only by default; a report is for whoever the umask lets read it.
        #[cfg(unix)]
        options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        fault::die();
        let mut file = options.tempfile_in(folder)?;
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        file.write_all(head)?;
        fault::die();
        if fault::due("full") {
            return Err(ErrorKind::StorageFull.into());
        }
        file.write_all(tail)?;
        file.as_file().sync_all()?;
        fault::die();
        file.persist(path)?;
        fault::die();
        sync_folder(folder)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Brings a folder's entries to the disk, where the file system has a way to.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        return match File::open(folder)?.sync_all() {
            // Some network file systems take no fsync on a folder; there the rename is as safe as they make it.
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            other => other,
        };
    }
    // Windows flushes a rename with the file; a folder cannot be opened there.
    Ok(())
}

/// The bytes of a file that a user names; a pipe or a device, which may never end, is none.
///
/// # Errors
/// When it is not there, is no file or is larger than `most` bytes.
pub fn read_whole(path: &Path, most: u64) -> Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    ensure!(about.is_file(), "it is not a file");
    ensure!(about.len() <= most, "it has {} bytes, more than {most}", about.len());
    Ok(fs::read(path)?)
}

/// Where this program may keep what it can make again: `$WGRADCAM_CACHE`, else wgradcam's folder where the system keeps caches
/// (`XDG_CACHE_HOME`, `~/.cache`, `%LOCALAPPDATA%`). Not made here; `None` for a user without a home.
pub fn cache_folder() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    match std::env::var_os("WGRADCAM_CACHE") {
        Some(folder) if !folder.is_empty() => Some(folder.into()),
        _ => Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("wgradcam")),
    }
}

/// Keeps other processes from training into the folder until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code, reason = "held for its lock")] Option<File>);

impl FolderLock {
    /// Takes the lock and removes the unfinished files of a run that was killed while it wrote.
    ///
    /// # Errors
    /// When another process holds it. File systems without locks give none, and no error.
    pub fn take(folder: &Path) -> Result<Self> {
        let held = if cfg!(unix) { File::open(folder).ok() } else { None };
        if let Some(file) = &held
            && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
        {
            bail!("another wgradcam is training into {}: wait for it, or choose another folder", folder.display());
        }
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))? {
            let name = entry.as_ref().map(|e| e.file_name()).unwrap_or_default();
            let name = name.to_string_lossy();
            if let (Ok(entry), true) = (entry, name.starts_with(TEMPORARY[0]) && name.ends_with(TEMPORARY[1])) {
                // One that stays is untidy and does no harm.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_writers_leftovers_go_and_other_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".wgradcam-x1.tmp", ".wgradcam-notes", "a.tmp"] {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        let lock = FolderLock::take(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".wgradcam-notes", "a.tmp"]);
        if cfg!(unix) {
            let error = FolderLock::take(dir.path()).unwrap_err().to_string();
            assert!(error.contains("another wgradcam"), "{error}");
        }
        drop(lock);
        FolderLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = format!("{:#}", write_whole(Path::new("/nowhere/at/all"), b"x").unwrap_err());
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
