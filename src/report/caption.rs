//! The rows of text over and under the pictures of a panel, made to fit their column.

use super::canvas::{Align, INK, RED, SOFT, Style};
use super::text;

/// A caption's first row.
pub const HEADING: Style = Style::new(14.0, INK).bold().align(Align::Middle);
/// Its other rows, and the notes.
pub const CAPTION: Style = Style::new(12.0, SOFT).align(Align::Middle);
/// No row is set smaller than this; what is still too long loses its middle. Pixels per em.
const SMALLEST: f32 = 10.0;

/// The rows of a caption for a column of `room` pixels: the first as heading, the others below it, red with a cross when `wrong`.
///
/// A row too long for the column is broken once, at its last comma, which parts a verdict from the truth.
pub fn lines<'t>(caption: impl Iterator<Item = &'t str>, room: f32, wrong: bool) -> Vec<(String, Style)> {
    let below = Style { colour: if wrong { RED } else { CAPTION.colour }, ..CAPTION };
    let fit = |words: &str, style: Style| {
        let (words, size) = text::fit(words, style.size, SMALLEST, style.weight, room);
        (words, Style { size, ..style })
    };
    let mut out = Vec::new();
    for (i, words) in caption.enumerate() {
        if i == 0 {
            out.push(fit(words, HEADING));
            continue;
        }
        let words = if wrong { format!("✗ {words}") } else { words.to_string() };
        match words.rsplit_once(", ") {
            Some((head, tail)) if text::width(&words, SMALLEST, below.weight) > room => {
                out.push(fit(&format!("{head},"), below));
                out.push(fit(tail, below));
            }
            _ => out.push(fit(&words, below)),
        }
    }
    out
}

/// The rows of a note: wrapped, three at most.
pub fn note(words: &str, room: f32) -> Vec<String> {
    text::wrap(words, CAPTION.size, CAPTION.weight, room, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(lines: &[(String, Style)]) -> Vec<&str> {
        lines.iter().map(|(words, _)| words.as_str()).collect()
    }

    #[test]
    fn a_verdict_that_fits_is_one_row_and_one_that_does_not_breaks_before_the_truth() {
        let short = ["Original", "Predicted: fake (0.97), Actual: fake"];
        assert_eq!(words(&lines(short.into_iter(), 256.0, false)), short);
        let long = ["Original", "Predicted: counterfeit_portrait (0.97), Actual: photograph"];
        let rows = lines(long.into_iter(), 256.0, true);
        assert_eq!(words(&rows), ["Original", "✗ Predicted: counterfeit_portrait (0.97),", "Actual: photograph"]);
        assert!(rows[0].1.colour == INK && rows[1].1.colour == RED && rows[2].1.colour == RED);
    }

    #[test]
    fn every_row_fits_its_column() {
        let endless = "no commas here, but one ".repeat(30);
        for (row, style) in lines([endless.as_str(), &endless, &endless].into_iter(), 200.0, true) {
            assert!(text::width(&row, style.size, style.weight) <= 200.0, "{row}");
        }
    }
}
