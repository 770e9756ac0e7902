//! The confusion matrix as a picture, after seaborn's `heatmap(annot=True)` but with whole numbers and a scale from zero.

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage};

use super::canvas::{Align, Canvas, INK, LINE, SOFT, Style, WHITE};
use super::{colour, text, ticks};
use crate::metrics::ConfusionMatrix;

/// More classes than this make a picture nobody can read.
pub const MOST_CLASSES: usize = 100;

/// Pixels, as all below.
const MARGIN: i64 = 24;
/// The longest a class name may be at its tick.
const NAME_ROOM: f32 = 150.0;
const BAR_WIDTH: i64 = 18;
const TITLE: Style = Style::new(18.0, INK).bold().align(Align::Middle);
const LABEL: Style = Style::new(14.0, INK).align(Align::Middle);
const TICK: Style = Style::new(13.0, SOFT).align(Align::Middle);

/// Draws the matrix: rows are true classes, columns predicted ones, colour runs from 0 to the largest count.
///
/// # Errors
/// When the matrix has no class, more than [`MOST_CLASSES`], or is not square.
pub fn heatmap(matrix: &ConfusionMatrix) -> Result<RgbImage> {
    let n = matrix.classes.len();
    ensure!((1..=MOST_CLASSES).contains(&n), "a heatmap shows 1 to {MOST_CLASSES} classes, not {n}");
    ensure!(
        matrix.counts.len() == n && matrix.counts.iter().all(|row| row.len() == n),
        "the confusion matrix of {n} classes is not {n} x {n}"
    );
    let largest = matrix.counts.iter().flatten().copied().max().unwrap_or(0);
    let number = Style::new(if n <= 6 { 16.0 } else { 11.0 }, INK).align(Align::Middle);
    let number_width = text::width(&largest.to_string(), number.size, number.weight);
    let cell = (380 / n as i64).clamp(32, 130).max(number_width as i64 + 10);
    let side = cell * n as i64;

    let names: Vec<String> = matrix.classes.iter().map(|c| text::ellipsize(c, TICK.size, TICK.weight, NAME_ROOM)).collect();
    let name_width = |name: &String| text::width(name, TICK.size, TICK.weight);
    let widest = names.iter().map(name_width).fold(0.0, f32::max).ceil() as i64;
    // Names that do not fit side by side stand upright.
    let upright = widest + 8 > cell;
    let name_height = if upright { widest } else { TICK.size as i64 };

    let bar_label = text::width(&largest.to_string(), TICK.size, TICK.weight).ceil() as i64;
    let left = MARGIN + 26 + widest + 10;
    let top = MARGIN + 34;
    let bar_x = left + side + 24;
    let width = bar_x + BAR_WIDTH + 8 + bar_label + MARGIN;
    let height = top + side + 12 + name_height + 30 + MARGIN;
    let mut canvas = Canvas::new(width as u32, height as u32);

    let (centre_x, centre_y) = ((left + side / 2) as f32, (top + side / 2) as f32);
    canvas.text("Confusion Matrix", centre_x, (MARGIN + 14) as f32, TITLE);
    canvas.text("Predicted", centre_x, (height - MARGIN) as f32, LABEL);
    canvas.text_up("Actual Classes", (MARGIN + 12) as f32, centre_y, LABEL);

    let fraction = |count: u64| {
        if largest == 0 { 0.0 } else { (count as f64 / largest as f64) as f32 }
    };
    for (i, (name, row)) in names.iter().zip(&matrix.counts).enumerate() {
        let at = i as i64 * cell;
        let middle = at as f32 + cell as f32 / 2.0;
        canvas.text(name, (left - 10) as f32, top as f32 + middle + TICK.drop(), TICK.align(Align::End));
        let below = (top + side + 12) as f32;
        if upright {
            canvas.text_up(name, left as f32 + middle + TICK.drop(), below, TICK.align(Align::End));
        } else {
            canvas.text(name, left as f32 + middle, below + TICK.size * 0.8, TICK);
        }
        for (j, &count) in row.iter().enumerate() {
            let ground = colour::heat(fraction(count));
            let (x, y) = (left + j as i64 * cell, top + at);
            canvas.fill(x, y, cell, cell, Rgb(ground));
            let ink = if colour::wants_dark_ink(ground) { INK } else { WHITE };
            let centre = x as f32 + cell as f32 / 2.0;
            canvas.text(
                &count.to_string(),
                centre,
                y as f32 + cell as f32 / 2.0 + number.drop(),
                Style { colour: ink, ..number },
            );
        }
    }
    colour_bar(&mut canvas, bar_x, top, side, largest);
    Ok(canvas.into_image())
}

/// The colours from the largest count down to 0, with a few counts beside them.
fn colour_bar(canvas: &mut Canvas, x: i64, y: i64, height: i64, largest: u64) {
    for row in 0..height {
        let v = 1.0 - (row as f32 + 0.5) / height as f32;
        canvas.fill(x, y + row, BAR_WIDTH, 1, Rgb(colour::heat(v)));
    }
    // Round counts, and none so close under the largest that their labels would touch; a fraction of a picture is no count.
    let highest = largest as f64 * 0.93;
    let mut counts: Vec<u64> = ticks::values([0.0, largest as f64].into_iter(), f64::INFINITY)
        .into_iter()
        .filter(|v| *v < highest && v.fract() == 0.0)
        .map(|v| v as u64)
        .collect();
    counts.push(largest);
    for count in counts {
        let v = if largest == 0 { 0.0 } else { count as f64 / largest as f64 };
        let at = y as f32 + height as f32 * (1.0 - v as f32);
        canvas.fill(x + BAR_WIDTH, (at.round() as i64).min(y + height - 1), 4, 1, LINE);
        canvas.text(&count.to_string(), (x + BAR_WIDTH + 8) as f32, at + TICK.drop(), TICK.align(Align::Start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(n: usize, name: impl Fn(usize) -> String, count: impl Fn(usize, usize) -> u64) -> ConfusionMatrix {
        let counts = (0..n).map(|i| (0..n).map(|j| count(i, j)).collect()).collect();
        ConfusionMatrix { classes: (0..n).map(name).collect(), counts }
    }

    /// How many pixels have exactly this colour.
    fn pixels(image: &RgbImage, colour: [u8; 3]) -> usize {
        image.pixels().filter(|p| p.0 == colour).count()
    }

    #[test]
    fn cells_have_the_colour_of_their_count() {
        let image = heatmap(&matrix(2, |i| i.to_string(), |i, j| if i == j { 500 } else { 0 })).unwrap();
        // Two cells of 130 x 130 less their numbers, plus a bar row or two.
        for end in [0.0, 1.0] {
            let count = pixels(&image, colour::heat(end));
            assert!((30_000..=34_000).contains(&count), "{count}");
        }
    }

    #[test]
    fn any_number_of_classes_any_names_and_any_counts_can_be_drawn() {
        let long = |i: usize| format!("class_{i}_{}", "name".repeat(40));
        for n in [1, 2, 3, 8, 20, MOST_CLASSES] {
            assert!(heatmap(&matrix(n, long, |_, _| 0)).is_ok());
            let image = heatmap(&matrix(n, |i| i.to_string(), |i, j| (i * j) as u64)).unwrap();
            assert!(image.width() > 200 && image.height() > 200);
        }
        assert!(heatmap(&matrix(3, long, |_, _| u64::MAX)).is_ok());
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        assert!(heatmap(&matrix(0, |i| i.to_string(), |_, _| 0)).is_err());
        assert!(heatmap(&matrix(MOST_CLASSES + 1, |i| i.to_string(), |_, _| 0)).is_err());
        let ragged = ConfusionMatrix { classes: vec!["a".into(), "b".into()], counts: vec![vec![1, 2], vec![3]] };
        assert!(heatmap(&ragged).unwrap_err().to_string().contains("2 x 2"));
    }
}
