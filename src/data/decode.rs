//! One picture file to 8-bit RGB, or an error that names the file and says what is wrong with it.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use serde::{Deserialize, Serialize};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::pixels::{self, Depth16};
use super::resize::{Resize, nearest, resize};

/// Decoders may allocate this many bytes per permitted pixel: RGBA at 16 bits.
const BYTES_PER_PIXEL: u64 = 8;
/// What this build decodes, for error messages.
const READABLE: &str = "this program reads BMP, JPEG, PNG, PNM, TIFF and WebP";

/// A file of up to this many bytes is read whatever `max_pixels` says.
const SMALL_FILE: u64 = 16 << 20;

/// An 8-bit RGB picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbPixels {
    /// `height * width * 3` bytes: rows from the top, then columns, then red, green, blue.
    pub pixels: Vec<u8>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// What was met in a file that Keras would have treated differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits {
    /// EXIF (or TIFF) asks for a rotation or a flip.
    pub orientation: bool,
    /// At least one pixel is not opaque.
    pub alpha: bool,
    /// More than 8 bits per channel.
    pub deep: bool,
    /// The stored size is not the size asked for.
    pub resized: bool,
}

/// How picture files become arrays. It goes into the checkpoint, so that `predict` reads as `train` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reader {
    /// Rows of the result; stored with the model's settings, not here.
    #[serde(skip)]
    pub height: usize,
    /// Columns of the result.
    #[serde(skip)]
    pub width: usize,
    /// How the size is reached. `keras_exact` always takes the nearest pixel.
    pub resize: Resize,
    /// The colour behind transparent pixels, RGB; white by default, as a browser or a paper shows them.
    pub background: [u8; 3],
    /// Read as Keras 2.15 with Pillow does: EXIF orientation ignored, alpha dropped, 16-bit grey clipped at 255,
    /// 16-bit colour cut to its high byte.
    pub keras_exact: bool,
    /// Pictures with more pixels are refused before they are decoded. Pillow's own limit by default.
    /// Decoders may allocate 8 bytes for each of these pixels, and files may not be larger than that.
    pub max_pixels: u64,
}

impl Default for Reader {
    fn default() -> Self {
        Reader {
            height: 128,
            width: 128,
            resize: Resize::Nearest,
            background: [255; 3],
            keras_exact: false,
            max_pixels: 178_956_970,
        }
    }
}

impl Reader {
    /// Decode a file and bring it to `height` x `width`.
    ///
    /// # Errors
    /// Names the path and the reason: not there, not a file, empty, not a picture, truncated, damaged, too large.
    pub fn read(&self, path: &Path) -> Result<RgbPixels> {
        let size = self.height.checked_mul(self.width);
        let size = size.filter(|n| n.checked_mul(4).is_some_and(|bytes| isize::try_from(bytes).is_ok()));
        let mut words = vec![0; size.with_context(|| format!("{}: cannot be resized: picture size overflows", path.display()))?];
        self.read_into(path, &mut words)?;
        Ok(RgbPixels { pixels: pixels::unpack(&words), height: self.height, width: self.width })
    }

    /// As [`Reader::read`], into `out`, which has a zero for each pixel and gets [`pack`](super::pack)'s words; tells what was met on
    /// the way. After an error `out` means nothing.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_into(&self, path: &Path, out: &mut [u32]) -> Result<Traits> {
        guarded(path, || {
            let wanted = self.height.checked_mul(self.width).filter(|&pixels| pixels > 0);
            ensure!(wanted == Some(out.len()), "{} words are no picture of {} x {}", out.len(), self.height, self.width);
            let bytes = self.bytes(path)?;
            let (picture, traits) = match self.jpeg(&bytes, out) {
                Some(Jpeg::There(traits)) => return Ok(traits),
                Some(Jpeg::Another(picture)) => (picture, Traits::default()),
                // Whatever is special about it, or wrong with it, is for the general way to say.
                None => self.decode(&bytes, path)?,
            };
            let resized = (picture.height, picture.width) != (self.height, self.width);
            let picture = resize(picture, self.height, self.width, self.how()).context("cannot be resized")?;
            pixels::pack_into(&picture.pixels, out);
            Ok(Traits { resized, ..traits })
        })
    }

    /// Decode a file at the size it has (after its EXIF orientation, unless `keras_exact`).
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_native(&self, path: &Path) -> Result<(RgbPixels, Traits)> {
        guarded(path, || self.decode(&self.bytes(path)?, path))
    }

    fn how(&self) -> Resize {
        if self.keras_exact { Resize::Nearest } else { self.resize }
    }

    fn max_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(BYTES_PER_PIXEL)
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let about = fs::metadata(path).context("cannot be opened")?;
        ensure!(about.is_file(), "not a file, so not a picture");
        ensure!(about.len() > 0, "the file is empty (0 bytes): an interrupted copy or download?");
        // Small pictures may carry large metadata.
        let limit = self.max_bytes().max(SMALL_FILE);
        ensure!(about.len() <= limit, "the file has {} bytes, above the limit of {limit}", about.len());
        let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
        let file = File::open(path).context("cannot be opened")?;
        // As long as it was said to be, which also saves asking whether it ends there.
        file.take(about.len()).read_to_end(&mut bytes).context("cannot be read")?;
        Ok(bytes)
    }

    /// The plain case, a whole upright JPEG in YCbCr, without what `image` does three times over: reading the headers, which is
    /// a third of a small picture's time. It becomes RGBA at once, which is [`pack`](super::pack)'s words; other colour spaces are left
    /// to `image`, for this decoder makes RGBA of none but YCbCr and grey: of RGB it refuses to, of CMYK and YCCK its rows are wrong.
    fn jpeg(&self, bytes: &[u8], out: &mut [u32]) -> Option<Jpeg> {
        let options = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
        let options = options.jpeg_set_out_colorspace(ColorSpace::RGBA);
        if image::guess_format(bytes).ok()? != ImageFormat::Jpeg || !jpeg_ends(bytes) {
            return None;
        }
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().ok()?;
        let (width, height) = decoder.dimensions()?;
        let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
        let upright = orientation.is_none_or(|o| o == Orientation::NoTransforms);
        let count = width.checked_mul(height)?;
        let plain = decoder.input_colorspace()? == ColorSpace::YCbCr && upright;
        if !plain || count == 0 || count as u64 > self.max_pixels {
            return None;
        }
        let mut decode = |words: &mut [u32]| {
            decoder.decode_into(bytemuck::cast_slice_mut(words)).ok()?;
            // What a damaged file lacks is filled with another alpha.
            words.iter_mut().for_each(|word| *word = u32::from_le(*word) | 0xff00_0000);
            Some(())
        };
        if (height, width) == (self.height, self.width) {
            decode(out)?;
            return Some(Jpeg::There(Traits::default()));
        }
        let mut words = vec![0; count];
        decode(&mut words)?;
        if self.how() != Resize::Nearest {
            return Some(Jpeg::Another(RgbPixels { pixels: pixels::unpack(&words), height, width }));
        }
        nearest(&words, [height, width], out, [self.height, self.width]);
        Some(Jpeg::There(Traits { resized: true, ..Traits::default() }))
    }

    fn decode(&self, bytes: &[u8], path: &Path) -> Result<(RgbPixels, Traits)> {
        let format = format_of(bytes, path)?;
        // Checked before decoding: the decoder makes room for what a value states to hold before it looks whether it is there.
        ensure!(
            format != ImageFormat::Tiff || tiff_lists_fit(bytes),
            "the TIFF is damaged: a value in its directory would be longer than the file"
        );
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.max_bytes());
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| self.explain(e))?;

        let (width, height) = decoder.dimensions();
        ensure!(width > 0 && height > 0, "its header says {width} x {height} pixels: damaged");
        let count = u64::from(width) * u64::from(height);
        let limit = self.max_pixels;
        ensure!(
            count <= limit && decoder.total_bytes() <= self.max_bytes(),
            "its header says {width} x {height} = {count} pixels, above the limit of {limit}: \
             a damaged or hostile file, or a picture to scale down first"
        );
        // Checked before decoding: the decoder fills what is missing with grey and reports success.
        ensure!(
            format != ImageFormat::Jpeg || jpeg_ends(bytes),
            "the JPEG is truncated (no end marker): the rest of the picture is missing, an interrupted copy?"
        );
        // A broken EXIF block is no broken picture: Pillow and the browsers show such files too.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| self.explain(e))?;

        let oriented = orientation != Orientation::NoTransforms;
        if oriented && !self.keras_exact {
            image.apply_orientation(orientation);
        }
        let deep = pixels::is_deep(&image);
        let (height, width) = (image.height() as usize, image.width() as usize);
        let (pixels, alpha) = if self.keras_exact {
            (pixels::as_pillow(image, Depth16::of(format, bytes)), false)
        } else {
            pixels::over(image, self.background)
        };
        Ok((RgbPixels { pixels, height, width }, Traits { orientation: oriented, alpha, deep, resized: false }))
    }

    /// A decoder's error in words that say what to do.
    fn explain(&self, error: ImageError) -> anyhow::Error {
        match error {
            ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                anyhow!("the file ends too early: the rest of the picture is missing, an interrupted copy?")
            }
            ImageError::Limits(e) => {
                anyhow!("decoding it needs more than the limit of {} bytes ({} pixels): {e}", self.max_bytes(), self.max_pixels)
            }
            ImageError::Unsupported(e) => {
                anyhow!("a kind of picture that is not supported: {e} ({READABLE})")
            }
            e => anyhow!("the picture data is damaged: {e}"),
        }
    }
}

/// What became of a plain JPEG.
enum Jpeg {
    /// It is where it was asked for, with what was met on the way.
    There(Traits),
    /// It is to be resized.
    Another(RgbPixels),
}

/// Reads a file; names it in any error.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    // The decoders promise errors, not panics, for any bytes; a bug in one of them must still not end a run.
    let outcome = catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(anyhow!("the decoder crashed on it: the file is most likely damaged")));
    // Some decoders end their messages with a line break.
    outcome.map_err(|reason| anyhow!("{}: {}", path.display(), format!("{reason:#}").trim_end()))
}

/// The format by the first bytes, whatever the name says; by the extension where the bytes tell nothing.
fn format_of(bytes: &[u8], path: &Path) -> Result<ImageFormat> {
    match image::guess_format(bytes) {
        Ok(format) if format.reading_enabled() => Ok(format),
        Ok(format) => bail!("it is a {format:?} picture, which is not supported ({READABLE}); convert it first"),
        Err(_) => match ImageFormat::from_path(path) {
            Ok(format) if format.reading_enabled() => Ok(format),
            _ => bail!("not a picture: its first bytes match no known format ({READABLE})"),
        },
    }
}

/// Whether the end-of-image marker is reached: libjpeg, and so Pillow, calls a file without it truncated.
///
/// Walks the markers of ITU T.81 annex B from the start. Segments are skipped by their length, so the end marker of an
/// embedded thumbnail does not count; in entropy-coded data 0xFF is followed by a zero or a restart marker. Bytes after
/// the end marker do not matter.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(marker) = bytes.get(at..).and_then(|rest| memchr::memchr(0xFF, rest)) {
        at += marker;
        let Some(&[byte, code]) = bytes.get(at..at + 2) else { return false };
        at += match (byte, code) {
            (0xFF, 0xD9) => return true,
            (0xFF, 0xFF) => 1,                      // fill byte
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => 2, // stuffed byte, or a marker that stands alone
            (0xFF, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            _ => 1,
        };
    }
    false
}

/// The tags that the TIFF decoder reads before it knows of any limit (TIFF 6.0): size, depth, compression, colour, samples and
/// their planes and format, predictor, strips, tiles, JPEG tables, chroma.
const TIFF_TAGS: [u64; 20] = [256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 347, 530];

/// Whether the values of those tags in a TIFF's first directory are no longer than the file. One that says too little is left to the decoder.
fn tiff_lists_fit(bytes: &[u8]) -> bool {
    let big_endian = bytes.starts_with(b"MM");
    let number = |at: u64, len: u64| {
        let part = bytes.get(usize::try_from(at).ok()?..usize::try_from(at.checked_add(len)?).ok()?)?;
        let append = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if big_endian { part.iter().fold(0, append) } else { part.iter().rev().fold(0, append) })
    };
    // Where the directory's place stands, and the bytes of its number of entries and of an entry's count: BigTIFF has 8 each.
    let [start, few, word] = if number(2, 2) == Some(43) { [8, 8, 8] } else { [4, 2, 4] };
    let Some(directory) = number(start, word) else { return true };
    let entries = number(directory, few).unwrap_or(0);
    for i in 0..entries {
        let at = directory.saturating_add(few).saturating_add(i.saturating_mul(4 + 2 * word));
        let (Some(tag), Some(kind), Some(count)) =
            (number(at, 2), number(at.saturating_add(2), 2), number(at.saturating_add(4), word))
        else {
            return true;
        };
        let size = match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            _ => 8,
        };
        if TIFF_TAGS.contains(&tag) && count.saturating_mul(size) > bytes.len() as u64 {
            return false;
        }
    }
    true
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
