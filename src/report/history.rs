//! The training history as a picture: loss on the left, accuracy on the right, by epoch.

use image::{Rgb, RgbImage};

use super::canvas::{Align, Canvas, FAINT, INK, LINE, SOFT, Style};
use super::{text, ticks};

/// One value per epoch; a curve may be empty (no validation), shorter than the others, or hold NaN where there is no value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Curves<'a> {
    /// Mean loss per picture, nats.
    pub loss: &'a [f64],
    /// As `loss`, on the validation pictures.
    pub val_loss: &'a [f64],
    /// Fraction of pictures in [0, 1].
    pub accuracy: &'a [f64],
    /// As `accuracy`, on the validation pictures.
    pub val_accuracy: &'a [f64],
}

/// Okabe and Ito's blue and vermilion: told apart with any colour vision.
const TRAIN: Rgb<u8> = Rgb([0, 114, 178]);
const VALIDATION: Rgb<u8> = Rgb([213, 94, 0]);

/// One half of the chart, in pixels: the plot's own box and what surrounds it.
const PLOT_WIDTH: f32 = 400.0;
const PLOT_HEIGHT: f32 = 260.0;
const LEFT: f32 = 72.0;
const RIGHT: f32 = 24.0;
const TOP: f32 = 74.0;
const BOTTOM: f32 = 62.0;
const TITLE: Style = Style::new(16.0, INK).bold().align(Align::Middle);
const TICK: Style = Style::new(12.0, SOFT);

/// Draws the chart. A single epoch is a pair of dots; up to 40 epochs are marked, more are plain lines.
pub fn chart(curves: &Curves) -> RgbImage {
    let half = LEFT + PLOT_WIDTH + RIGHT;
    let mut canvas = Canvas::new((2.0 * half) as u32, (TOP + PLOT_HEIGHT + BOTTOM) as u32);
    plot(&mut canvas, 0.0, "Loss", &[("loss", curves.loss, TRAIN), ("val_loss", curves.val_loss, VALIDATION)], f64::INFINITY);
    let accuracy = [("accuracy", curves.accuracy, TRAIN), ("val_accuracy", curves.val_accuracy, VALIDATION)];
    plot(&mut canvas, half, "Accuracy", &accuracy, 1.0);
    canvas.into_image()
}

/// Draws one half from x = `origin`; no value lies above `ceiling`.
fn plot(canvas: &mut Canvas, origin: f32, title: &str, curves: &[(&str, &[f64], Rgb<u8>)], ceiling: f64) {
    let left = origin + LEFT;
    let epochs = curves.iter().map(|c| c.1.len()).max().unwrap_or(0).max(1);
    let values = ticks::values(curves.iter().flat_map(|c| c.1).copied(), ceiling);
    let (low, high) = (values[0], values[values.len() - 1]);
    // One epoch stands in the middle; several reach from edge to edge, with a little air.
    let x = |epoch: f64| match epochs {
        1 => left + PLOT_WIDTH / 2.0,
        n => left + 14.0 + (PLOT_WIDTH - 28.0) * ((epoch - 1.0) / (n - 1) as f64) as f32,
    };
    // The axis encloses all values but the largest numbers there are, which stand at its end.
    let y = |value: f64| TOP + PLOT_HEIGHT * (1.0 - (value.clamp(low, high) - low) / (high - low)) as f32;

    canvas.text(title, left + PLOT_WIDTH / 2.0, 28.0, TITLE);
    canvas.text("Epoch", left + PLOT_WIDTH / 2.0, TOP + PLOT_HEIGHT + 44.0, Style::new(13.0, INK).align(Align::Middle));
    let places = ticks::decimals(values[1] - values[0]);
    for &value in &values {
        canvas.fill(left as i64, y(value).round() as i64, PLOT_WIDTH as i64, 1, FAINT);
        let label = if high < 1e6 { format!("{value:.places$}") } else { format!("{value:.2e}") };
        canvas.text(&label, left - 10.0, y(value) + TICK.drop(), TICK.align(Align::End));
    }
    for epoch in ticks::epochs(epochs) {
        let at = x(epoch as f64);
        canvas.fill(at.round() as i64, (TOP + PLOT_HEIGHT) as i64, 1, 5, LINE);
        canvas.text(&epoch.to_string(), at, TOP + PLOT_HEIGHT + 20.0, TICK.align(Align::Middle));
    }
    canvas.frame(left as i64, TOP as i64, PLOT_WIDTH as i64 + 1, PLOT_HEIGHT as i64 + 1, 1, LINE);

    let mut legend = left;
    for &(name, values, colour) in curves.iter().filter(|c| !c.1.is_empty()) {
        let points: Vec<Option<(f32, f32)>> =
            values.iter().enumerate().map(|(i, &v)| v.is_finite().then(|| (x((i + 1) as f64), y(v)))).collect();
        for pair in points.windows(2) {
            if let [Some(from), Some(to)] = *pair {
                canvas.stroke(from, to, 2.0, colour);
            }
        }
        // A value between two gaps would be invisible without its mark.
        let lone = |i: usize| (i == 0 || points[i - 1].is_none()) && points.get(i + 1).is_none_or(Option::is_none);
        for (i, point) in points.iter().enumerate() {
            if let Some(at) = point.filter(|_| epochs <= 40 || lone(i)) {
                canvas.stroke(at, at, 7.0, colour);
            }
        }
        canvas.stroke((legend + 2.0, 50.0), (legend + 22.0, 50.0), 2.0, colour);
        canvas.stroke((legend + 12.0, 50.0), (legend + 12.0, 50.0), 7.0, colour);
        canvas.text(name, legend + 30.0, 50.0 + TICK.drop(), TICK);
        legend += 30.0 + text::width(name, TICK.size, TICK.weight) + 24.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_value_stands_higher_and_a_later_one_further_right() {
        // The solid mark's middle pixel: where the strokes of a single rising line begin and end.
        let image = chart(&Curves { loss: &[0.0, 1.0], ..Curves::default() });
        let plot = |x: f32, y: f32| *image.get_pixel((LEFT + x) as u32, (TOP + y) as u32);
        assert_eq!(plot(14.0, PLOT_HEIGHT - 1.0), TRAIN);
        assert_eq!(plot(PLOT_WIDTH - 14.0, 1.0), TRAIN);
        assert_ne!(plot(14.0, 1.0), TRAIN);
    }

    #[test]
    fn a_diverged_loss_is_drawn_within_the_chart() {
        // A stroke to where 1e23 would stand never ended.
        chart(&Curves { loss: &[1.2e23, 3.0, 0.5], val_loss: &[f64::MAX, 1.0, 0.7], ..Curves::default() });
    }

    #[test]
    fn one_epoch_is_drawn_as_dots_and_gaps_are_left_open() {
        let count = |curves: &Curves, colour| chart(curves).pixels().filter(|p| **p == colour).count();
        let one = Curves { loss: &[0.5], val_loss: &[0.3], accuracy: &[0.7], val_accuracy: &[0.9] };
        // Two legends' marks, and two dots of about 38 solid pixels' area beside them.
        let legend_only = Curves { loss: &[f64::NAN], accuracy: &[f64::NAN], ..Curves::default() };
        assert!(count(&one, TRAIN) >= count(&legend_only, TRAIN) + 40);
        let full = Curves { loss: &[0.9, 0.5, 0.1], ..Curves::default() };
        let gap = Curves { loss: &[0.9, f64::NAN, 0.1], ..Curves::default() };
        assert!(count(&full, TRAIN) > count(&gap, TRAIN) + 200);
        assert_eq!(count(&full, VALIDATION), 0);
    }
}
