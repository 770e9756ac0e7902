//! A white sheet to draw on: boxes, anti-aliased strokes and lettering, which is all our figures need.
//!
//! Coordinates are pixels from the top left corner; a whole number is a pixel's left or upper edge.
//! Whatever falls outside the sheet is not drawn.

use ab_glyph::{Font, point};
use image::{Rgb, RgbImage};

use super::text::{self, Weight};

/// The ground of every figure.
pub const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
/// Headings and numbers.
pub const INK: Rgb<u8> = Rgb([31, 35, 40]);
/// Captions and ticks.
pub const SOFT: Rgb<u8> = Rgb([87, 96, 106]);
/// Frames and axes.
pub const LINE: Rgb<u8> = Rgb([190, 196, 203]);
/// Grid lines.
pub const FAINT: Rgb<u8> = Rgb([233, 236, 239]);
/// A wrong prediction.
pub const RED: Rgb<u8> = Rgb([196, 30, 30]);

/// Where a text stands in relation to the point it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Begins at the point.
    Start,
    /// Is centred on the point.
    Middle,
    /// Ends at the point.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Pixels per em.
    pub size: f32,
    /// Regular or bold.
    pub weight: Weight,
    /// sRGB.
    pub colour: Rgb<u8>,
    /// Where it stands by its point.
    pub align: Align,
}

impl Style {
    /// Regular letters that start at their point.
    pub const fn new(size: f32, colour: Rgb<u8>) -> Self {
        Style { size, weight: Weight::Regular, colour, align: Align::Start }
    }
    /// The same in bold.
    pub const fn bold(self) -> Self {
        Style { weight: Weight::Bold, ..self }
    }
    /// The same, standing otherwise by its point.
    pub const fn align(self, align: Align) -> Self {
        Style { align, ..self }
    }
    /// How far below the middle of a line of digits and capitals its baseline lies: half of DejaVu's cap height, 0.729 em.
    pub fn drop(&self) -> f32 {
        self.size * 0.3645
    }
}

/// The sheet.
pub struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// A white sheet of at least one pixel.
    pub fn new(width: u32, height: u32) -> Self {
        Canvas { image: RgbImage::from_pixel(width.max(1), height.max(1), WHITE) }
    }

    /// The finished picture.
    pub fn into_image(self) -> RgbImage {
        self.image
    }

    /// Mixes `colour` into the pixel by `coverage` in [0, 1].
    fn blend(&mut self, x: i64, y: i64, colour: Rgb<u8>, coverage: f32) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
            return;
        };
        if let Some(pixel) = self.image.get_pixel_mut_checked(x, y) {
            let a = coverage.clamp(0.0, 1.0);
            for (to, from) in pixel.0.iter_mut().zip(colour.0) {
                *to = (f32::from(*to) * (1.0 - a) + f32::from(from) * a).round() as u8;
            }
        }
    }

    /// Fills a box.
    pub fn fill(&mut self, x: i64, y: i64, width: i64, height: i64, colour: Rgb<u8>) {
        for row in y..y + height {
            for column in x..x + width {
                self.blend(column, row, colour, 1.0);
            }
        }
    }

    /// Draws the edge of a box, `thick` pixels wide and inside it.
    pub fn frame(&mut self, x: i64, y: i64, width: i64, height: i64, thick: i64, colour: Rgb<u8>) {
        self.fill(x, y, width, thick, colour);
        self.fill(x, y + height - thick, width, thick, colour);
        self.fill(x, y, thick, height, colour);
        self.fill(x + width - thick, y, thick, height, colour);
    }

    /// Puts a picture at a place.
    pub fn paste(&mut self, picture: &RgbImage, x: i64, y: i64) {
        image::imageops::replace(&mut self.image, picture, x, y);
    }

    /// A straight stroke with round ends; a stroke from a point to itself is a disc.
    ///
    /// A pixel is covered by as much as its centre lies inside the stroke's edge, over a ramp one pixel wide.
    pub fn stroke(&mut self, from: (f32, f32), to: (f32, f32), thick: f32, colour: Rgb<u8>) {
        let radius = thick / 2.0;
        let reach = radius + 1.0;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length2 = dx * dx + dy * dy;
        for y in (from.1.min(to.1) - reach).floor() as i64..=(from.1.max(to.1) + reach).ceil() as i64 {
            for x in (from.0.min(to.0) - reach).floor() as i64..=(from.0.max(to.0) + reach).ceil() as i64 {
                let (px, py) = (x as f32 + 0.5 - from.0, y as f32 + 0.5 - from.1);
                let along = if length2 > 0.0 { ((px * dx + py * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (px - along * dx).hypot(py - along * dy);
                self.blend(x, y, colour, radius - distance + 0.5);
            }
        }
    }

    /// Writes a text; `y` is its baseline.
    pub fn text(&mut self, words: &str, x: f32, y: f32, style: Style) {
        self.letters(words, style, |along, up| (x.round() + along, y.round() + up));
    }

    /// Writes a text that reads upwards; `x` is its baseline and `y` its point on it.
    pub fn text_up(&mut self, words: &str, x: f32, y: f32, style: Style) {
        self.letters(words, style, |along, up| (x.round() + up, y.round() - along - 1.0));
    }

    /// Rasterises a text; `place` takes pixels along and below its baseline to pixels of the sheet.
    fn letters(&mut self, words: &str, style: Style, place: impl Fn(f32, f32) -> (f32, f32)) {
        let (glyphs, width) = text::lay_out(words, style.size, style.weight);
        let start = match style.align {
            Align::Start => 0.0,
            Align::Middle => -width / 2.0,
            Align::End => -width,
        };
        let (font, scale) = (style.weight.font(), style.weight.scale(style.size));
        for (id, x) in glyphs {
            let glyph = id.with_scale_and_position(scale, point(start + x, 0.0));
            let Some(outline) = font.outline_glyph(glyph) else {
                continue;
            };
            let bounds = outline.px_bounds();
            outline.draw(|column, row, coverage| {
                let (x, y) = place(bounds.min.x + column as f32, bounds.min.y + row as f32);
                self.blend(x as i64, y as i64, style.colour, coverage);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pixels of a box are not white.
    fn inked(image: &RgbImage, x: std::ops::Range<u32>, y: std::ops::Range<u32>) -> usize {
        y.flat_map(|y| x.clone().map(move |x| (x, y))).filter(|&(x, y)| *image.get_pixel(x, y) != WHITE).count()
    }

    #[test]
    fn a_box_covers_its_pixels_and_no_more_and_may_hang_over_the_edge() {
        let mut canvas = Canvas::new(10, 8);
        canvas.fill(2, 3, 4, 2, RED);
        let image = canvas.into_image();
        assert_eq!(inked(&image, 0..10, 0..8), 8);
        assert_eq!((*image.get_pixel(2, 3), *image.get_pixel(5, 4)), (RED, RED));
        let mut canvas = Canvas::new(4, 4);
        canvas.fill(-5, -5, 6, 6, RED);
        canvas.stroke((-9.0, -9.0), (30.0, 2.0), 3.0, RED);
        canvas.text("hanging over every edge", -20.0, 3.0, Style::new(12.0, RED));
        assert_eq!(*canvas.into_image().get_pixel(0, 0), RED);
    }

    #[test]
    fn a_stroke_is_solid_inside_and_fades_at_its_edge() {
        let mut canvas = Canvas::new(20, 11);
        canvas.stroke((2.0, 5.5), (18.0, 5.5), 2.0, Rgb([0, 0, 0]));
        let image = canvas.into_image();
        assert_eq!(image.get_pixel(10, 5).0, [0, 0, 0]);
        assert_eq!(image.get_pixel(10, 4).0, [128, 128, 128]);
        assert_eq!(image.get_pixel(10, 3).0, [255, 255, 255]);
    }

    #[test]
    fn alignment_puts_the_ink_on_the_right_side() {
        for (align, left, right) in [(Align::Start, false, true), (Align::Middle, true, true), (Align::End, true, false)] {
            let mut canvas = Canvas::new(100, 30);
            canvas.text("HHHH", 50.0, 20.0, Style::new(12.0, INK).align(align));
            let image = canvas.into_image();
            assert_eq!((inked(&image, 0..49, 0..30) > 0, inked(&image, 51..100, 0..30) > 0), (left, right));
        }
    }

    #[test]
    fn upward_text_is_the_level_text_turned_left() {
        let mut level = Canvas::new(60, 40);
        level.text("Lp", 5.0, 25.0, Style::new(14.0, INK));
        let mut up = Canvas::new(40, 60);
        up.text_up("Lp", 25.0, 55.0, Style::new(14.0, INK));
        assert_eq!(image::imageops::rotate270(&level.into_image()), up.into_image());
    }
}
