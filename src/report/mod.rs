//! What a run leaves for the eye: charts, the confusion matrix, Grad-CAM panels and the pages that gather them.
//!
//! Each file draws or writes one thing from plain numbers and names; none of them knows a GPU, a model or a data set.
//! [`text`] and [`canvas`] are the lettering and the sheet under all pictures, [`html`] the frame of both pages.
//! Pictures are made in memory and saved whole: a reader, or a crash, never meets half a file.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage};

pub mod canvas;
pub mod caption;
pub mod colour;
pub mod confusion;
pub mod gallery;
pub mod history;
pub mod html;
pub mod page;
pub mod panel;
pub mod resample;
pub mod roofline;
pub mod text;
pub mod ticks;
pub mod trace;

use crate::files::write_whole;

/// Saves a picture as PNG, whole or not at all.
///
/// # Errors
/// As [`write_whole`]'s.
pub fn save_png(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).with_context(|| format!("cannot encode {}", path.display()))?;
    write_whole(path, &bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write_whole(&path, b"a long first version").unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/report.html");
        let error = write_whole(&path, b"").unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains("report.html"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_an_ordinary_file_would_let_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_whole(&ours, b"").unwrap();
        std::fs::write(&plain, b"").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_saved_picture_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        let picture = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 200]));
        save_png(&path, &picture).unwrap();
        let back = image::load_from_memory(&std::fs::read(&path).unwrap()).unwrap().into_rgb8();
        assert_eq!(back, picture);
    }
}
