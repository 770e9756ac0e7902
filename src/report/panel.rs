//! The notebook's figure: the picture with its verdict, and beside it one Grad-CAM overlay per convolution.

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage, imageops};

use super::canvas::{Align, Canvas, LINE, RED, SOFT, Style};
use super::caption::{self, CAPTION};
use super::colour::{self, Scale};
use super::resample::{self, SIDE};

/// A picture as the model sees it: RGB, three bytes a pixel, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: &'a [u8],
}

/// A box on the picture, in its own pixels: where `demo` planted the artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Pixels from the left edge.
    pub x: u32,
    /// Pixels from the upper edge.
    pub y: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// One overlay.
#[derive(Clone, Debug)]
pub struct Tile {
    /// One row of text per line; the first is the heading, as in `Grad-CAM\nLayer: conv2d_1`.
    pub caption: String,
    /// One value per pixel of the picture, row by row, already resized to it.
    pub map: Vec<f32>,
    /// What stands under the overlay, such as [`no_evidence`]'s words.
    pub note: Option<String>,
}

/// A row of pictures.
#[derive(Clone, Debug)]
pub struct Panel<'a> {
    /// The original.
    pub picture: Picture<'a>,
    /// The rows over the picture; the first is the heading, as in `Original`, `Predicted: fake (0.97), Actual: fake`.
    pub title: Vec<String>,
    /// The prediction is wrong: its rows and the picture's frame are red, with a cross for those who see no red.
    pub wrong: bool,
    /// Drawn on the picture, not on the overlays.
    pub outline: Option<Outline>,
    /// How the maps become colours.
    pub scale: Scale,
    /// The overlays, from left to right.
    pub tiles: Vec<Tile>,
}

/// The note for a layer whose map is zero everywhere.
pub fn no_evidence(class: &str) -> String {
    format!("no positive evidence for {class}")
}

/// Pixels, as all below.
const MARGIN: u32 = 22;
const GAP: u32 = 18;
/// From one baseline to the next in captions and notes.
const LEADING: u32 = 18;
/// The room right of the last overlay for the colour bar and its labels.
const BAR_ROOM: u32 = 62;
/// Below this height of the pictures a colour bar says nothing.
const BAR_LEAST: u32 = 60;

impl Panel<'_> {
    /// Draws the panel. Its size follows from the picture's and the captions', never from what the maps hold.
    ///
    /// # Errors
    /// When the picture is empty or its bytes, or a map's values, do not match its width and height.
    pub fn render(&self) -> Result<RgbImage> {
        let Picture { width, height, rgb } = self.picture;
        let original = RgbImage::from_raw(width, height, rgb.to_vec())
            .filter(|image| width > 0 && height > 0 && rgb.len() == image.len())
            .with_context(|| format!("a picture of {width} x {height} pixels cannot have {} RGB bytes", rgb.len()))?;
        let (w, h) = resample::shown_size(width, height);
        let filter = if w >= width { imageops::Nearest } else { imageops::Triangle };
        let original = imageops::resize(&original, w, h, filter);

        let column = w.max(SIDE);
        let room = column as f32;
        let title = self.title.iter().map(String::as_str);
        let mut captions = vec![caption::lines(title, room, self.wrong)];
        let mut notes = vec![];
        for tile in &self.tiles {
            captions.push(caption::lines(tile.caption.lines(), room, false));
            notes.push(caption::note(tile.note.as_deref().unwrap_or(""), room));
        }
        let rows = |count: usize| count as u32 * LEADING;
        let above = rows(captions.iter().map(Vec::len).max().unwrap_or(0));
        let below = rows(notes.iter().map(Vec::len).max().unwrap_or(0));
        let has_bar = !self.tiles.is_empty() && h >= BAR_LEAST;

        let columns = captions.len() as u32;
        let inner = columns * column + (columns - 1) * GAP + if has_bar { BAR_ROOM } else { 0 };
        let top = MARGIN + above + 4;
        let mut canvas = Canvas::new(inner + 2 * MARGIN, top + h + below + MARGIN);
        for (i, caption) in captions.iter().enumerate() {
            let left = MARGIN + i as u32 * (column + GAP);
            let centre = left as f32 + column as f32 / 2.0;
            // Captions stand on their pictures: a shorter one starts lower.
            let first = MARGIN + above - rows(caption.len());
            for (row, (words, style)) in caption.iter().enumerate() {
                canvas.text(words, centre, (first + rows(row)) as f32 + 13.0, *style);
            }
            let x = i64::from(left + (column - w) / 2);
            if i == 0 {
                canvas.paste(&original, x, i64::from(top));
                self.mark_original(&mut canvas, x, i64::from(top), (w, h));
                continue;
            }
            let tile = &self.tiles[i - 1];
            canvas.paste(&self.overlay(tile, &original)?, x, i64::from(top));
            canvas.frame(x - 1, i64::from(top) - 1, i64::from(w) + 2, i64::from(h) + 2, 1, LINE);
            for (row, words) in notes[i - 1].iter().enumerate() {
                canvas.text(words, centre, (top + h + rows(row)) as f32 + 17.0, CAPTION);
            }
        }
        if has_bar {
            self.colour_bar(&mut canvas, i64::from(MARGIN + columns * (column + GAP)), i64::from(top), i64::from(h));
        }
        Ok(canvas.into_image())
    }

    /// The overlay of one tile at the size on show: the picture's pixels as they are, the map smooth.
    fn overlay(&self, tile: &Tile, original: &RgbImage) -> Result<RgbImage> {
        let Picture { width, height, .. } = self.picture;
        let name = tile.caption.replace('\n', ", ");
        ensure!(
            tile.map.len() == width as usize * height as usize,
            "{name}: a map of {} values does not cover a picture of {width} x {height} pixels",
            tile.map.len()
        );
        // Stretched before it is resized: the extremes are the map's own, not those that happen to be on show.
        let (map, scale) = match self.scale {
            Scale::Stretch => (colour::stretch(&tile.map), Scale::Unit),
            scale => (tile.map.clone(), scale),
        };
        let map = resample::bilinear(&map, (width, height), original.dimensions());
        let shown = colour::overlay(original.as_raw(), &map, scale)?;
        RgbImage::from_raw(original.width(), original.height(), shown).context("an overlay has its picture's size")
    }

    /// Frames the picture and draws the outline on it.
    fn mark_original(&self, canvas: &mut Canvas, x: i64, y: i64, (w, h): (u32, u32)) {
        let (thick, colour) = if self.wrong { (3, RED) } else { (1, LINE) };
        let (w, h) = (i64::from(w), i64::from(h));
        canvas.frame(x - thick, y - thick, w + 2 * thick, h + 2 * thick, thick, colour);
        if let Some(o) = self.outline {
            // From the picture's pixels to those on show; a box may reach over the picture's edge, its drawing may not.
            let across = |v: u32| (i64::from(v) * w / i64::from(self.picture.width)).min(w);
            let down = |v: u32| (i64::from(v) * h / i64::from(self.picture.height)).min(h);
            let (left, right) = (across(o.x), across(o.x.saturating_add(o.width)));
            let (upper, lower) = (down(o.y), down(o.y.saturating_add(o.height)));
            // Green between two dark lines stands out from any picture.
            let box_at = |grow: i64, thick, colour, canvas: &mut Canvas| {
                let (l, u) = ((left - grow).max(0), (upper - grow).max(0));
                let (r, d) = ((right + grow).min(w), (lower + grow).min(h));
                canvas.frame(x + l, y + u, r - l, d - u, thick, colour);
            };
            box_at(2, 4, Rgb([0, 0, 0]), canvas);
            box_at(1, 2, Rgb([64, 224, 96]), canvas);
        }
    }

    /// The colour table from its upper end down, with what its ends mean.
    fn colour_bar(&self, canvas: &mut Canvas, x: i64, y: i64, height: i64) {
        let (low, high, upper, lower) = match self.scale {
            Scale::Unit => (0.0, 1.0, "1", "0"),
            Scale::Stretch => (0.0, 1.0, "max", "min"),
            Scale::Signed => (-1.0, 1.0, "+1", "−1"),
        };
        for row in 0..height {
            let v = high - (high - low) * (row as f32 + 0.5) / height as f32;
            canvas.fill(x, y + row, 12, 1, Rgb(self.scale.colour(v)));
        }
        canvas.frame(x - 1, y - 1, 14, height + 2, 1, LINE);
        let style = Style::new(11.0, SOFT);
        canvas.text(upper, x as f32 + 18.0, y as f32 + 9.0, style);
        canvas.text(lower, x as f32 + 18.0, (y + height) as f32, style);
        let middle = y as f32 + height as f32 / 2.0;
        canvas.text_up("evidence", x as f32 + 27.0, middle, style.align(Align::Middle));
    }
}

#[cfg(test)]
#[path = "panel_tests.rs"]
mod tests;
