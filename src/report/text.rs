//! Lettering: the fonts inside the program, and how wide a text comes out.
//!
//! The font is DejaVu Sans, matplotlib's own, so the figures look like the notebook's on a machine with no fonts at all.
//! Sizes are pixels per em, widths are pixels.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont};

/// Regular or bold letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// DejaVu Sans.
    Regular,
    /// DejaVu Sans Bold.
    Bold,
}

impl Weight {
    /// The font of this weight.
    pub fn font(self) -> &'static FontRef<'static> {
        static REGULAR: LazyLock<FontRef<'static>> = LazyLock::new(|| parse(dejavu::sans::regular()));
        static BOLD: LazyLock<FontRef<'static>> = LazyLock::new(|| parse(dejavu::sans::bold()));
        match self {
            Weight::Regular => &REGULAR,
            Weight::Bold => &BOLD,
        }
    }

    /// `ab_glyph`'s scale (pixels from descent to ascent) for a size in pixels per em.
    pub fn scale(self, size: f32) -> PxScale {
        let font = self.font();
        PxScale::from(size * font.height_unscaled() / font.units_per_em().unwrap_or(2048.0))
    }
}

/// Parses a font compiled into the program; only a broken build could make it fail.
fn parse(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the font compiled into the program is whole")
}

/// The glyphs of `text` with the x of each one's origin, and the width of the whole.
///
/// A control character (a folder's name may hold a newline) counts as a space, so a text is always one row.
pub fn lay_out(text: &str, size: f32, weight: Weight) -> (Vec<(GlyphId, f32)>, f32) {
    let font = weight.font().as_scaled(weight.scale(size));
    let mut x = 0.0;
    let mut previous: Option<GlyphId> = None;
    let mut glyphs = Vec::with_capacity(text.len());
    for c in text.chars() {
        let id = font.glyph_id(if c.is_control() { ' ' } else { c });
        if let Some(p) = previous {
            x += font.kern(p, id);
        }
        glyphs.push((id, x));
        x += font.h_advance(id);
        previous = Some(id);
    }
    (glyphs, x)
}

/// The width of `text` in pixels.
pub fn width(text: &str, size: f32, weight: Weight) -> f32 {
    lay_out(text, size, weight).1
}

/// `text` cut to `room` pixels, with an ellipsis where something is missing.
///
/// The middle goes: names made by programs differ at both ends (`run7_class_a`, `run7_class_b`).
pub fn ellipsize(text: &str, size: f32, weight: Weight, room: f32) -> String {
    if width(text, size, weight) <= room {
        return text.to_string();
    }
    let (glyphs, total) = lay_out(text, size, weight);
    let half = (room - width("…", size, weight)) / 2.0;
    // A glyph's right edge is the next one's origin.
    let right_edge = |i: usize| glyphs.get(i + 1).map_or(total, |g| g.1);
    let head: String = text.chars().enumerate().take_while(|&(i, _)| right_edge(i) <= half).map(|(_, c)| c).collect();
    let tail: String = text.chars().enumerate().skip_while(|&(i, _)| total - glyphs[i].1 > half).map(|(_, c)| c).collect();
    format!("{}…{}", head.trim_end(), tail.trim_start())
}

/// `text` made to fit into `room` pixels: first smaller, down to `smallest`, then with an ellipsis. Returns it with its size.
pub fn fit(text: &str, size: f32, smallest: f32, weight: Weight, room: f32) -> (String, f32) {
    let natural = width(text, size, weight);
    if natural <= room {
        return (text.to_string(), size);
    }
    // A hair under the exact quotient, so that rounding cannot push the text over.
    let shrunk = (size * room / natural * 0.999).max(smallest);
    (ellipsize(text, shrunk, weight, room), shrunk)
}

/// `text` broken at spaces into at most `rows` rows of `room` pixels; what still does not fit is cut with an ellipsis.
pub fn wrap(text: &str, size: f32, weight: Weight, room: f32, rows: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match out.last_mut() {
            Some(row) if width(&format!("{row} {word}"), size, weight) <= room => {
                row.push(' ');
                row.push_str(word);
            }
            _ => out.push(word.to_string()),
        }
    }
    if out.len() > rows {
        let rest = out.split_off(rows.max(1) - 1).join(" ");
        out.push(rest);
    }
    out.iter().map(|row| ellipsize(row, size, weight, room)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_texts_are_wider_and_bold_is_wider_still() {
        assert!(width("fake", 12.0, Weight::Regular) < width("fakes", 12.0, Weight::Regular));
        assert!(width("fake", 12.0, Weight::Regular) < width("fake", 12.0, Weight::Bold));
        assert!((width("fake", 24.0, Weight::Regular) / width("fake", 12.0, Weight::Regular) - 2.0).abs() < 0.05);
    }

    #[test]
    fn what_fits_is_left_alone_and_what_does_not_is_cut_to_the_room() {
        assert_eq!(ellipsize("real", 12.0, Weight::Regular, 100.0), "real");
        let long = "a_very_long_class_name_that_no_axis_has_room_for_0007";
        for room in [1.0, 20.0, 60.0, 150.0] {
            let cut = ellipsize(long, 12.0, Weight::Regular, room);
            assert!(cut.contains('…'));
            // Below the ellipsis' own width nothing more can be given up.
            assert!(width(&cut, 12.0, Weight::Regular) <= room.max(width("…", 12.0, Weight::Regular)) + 0.5, "{cut} in {room}");
        }
        assert!(ellipsize(long, 12.0, Weight::Regular, 150.0).ends_with("0007"));
    }

    #[test]
    fn fit_shrinks_before_it_cuts() {
        let room = width("conv2d_1", 12.0, Weight::Regular) * 0.9;
        let (text, size) = fit("conv2d_1", 12.0, 8.0, Weight::Regular, room);
        assert_eq!(text, "conv2d_1");
        assert!(size < 12.0 && width(&text, size, Weight::Regular) <= room);
    }

    #[test]
    fn wrap_keeps_every_word_while_there_are_rows() {
        let rows = wrap("no positive evidence for fake", 11.0, Weight::Regular, 100.0, 9);
        assert!(rows.len() > 1);
        assert_eq!(rows.join(" "), "no positive evidence for fake");
        assert_eq!(wrap("no positive evidence for fake", 11.0, Weight::Regular, 60.0, 2).len(), 2);
        assert!(wrap("", 11.0, Weight::Regular, 60.0, 2).is_empty());
    }

    #[test]
    fn a_newline_in_a_name_is_a_space() {
        assert_eq!(width("a\nb", 12.0, Weight::Regular), width("a b", 12.0, Weight::Regular));
    }
}
