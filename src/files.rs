//! Files written whole: what is on the disk is always a finished file, the old one or the new one.

use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;

/// Writes a file whole or not at all: into a temporary file beside it, to the disk, then renamed into place.
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
        // A temporary file is for its owner only by default; a report is for whoever the umask lets read it.
        #[cfg(unix)]
        options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = options.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
