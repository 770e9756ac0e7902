//! Bars on long work, and the line that Keras prints per epoch.

use super::say;
use crate::train::{Epoch, Observer, Running};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A bar over `pictures` pictures on stderr; it hides itself where stderr is no terminal.
pub fn bar(pictures: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg} {per_sec} ETA {eta}");
    // The template is a constant; a broken one falls back to the default bar.
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=>.");
    let style = style.with_key("per_sec", |state: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
        // A formatter has nobody to tell of an error.
        let _ = write!(w, "{:.0} images/s", state.per_sec());
    });
    ProgressBar::new(pictures as u64).with_style(style).with_prefix(what.to_owned())
}

/// A bar over `n` pieces of work of any length.
pub fn counter(n: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {elapsed} {wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=>.");
    let bar = ProgressBar::new(n as u64).with_style(style).with_prefix(what.to_owned());
    // A check may take seconds.
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Watches a training on the terminal.
pub struct Watch {
    epochs: usize,
    bar: ProgressBar,
}

impl Watch {
    /// For a run of so many epochs.
    pub fn new(epochs: usize) -> Self {
        Self { epochs, bar: ProgressBar::hidden() }
    }
}

/// Keras's number format: four decimals, or an exponent for small values.
fn number(v: f64) -> String {
    if v.abs() > 1e-3 {
        return format!("{v:.4}");
    }
    let text = format!("{v:.4e}");
    // Rust writes 1.0000e-4 where Python writes 1.0000e-04.
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

impl Observer for Watch {
    fn begin(&mut self, epoch: usize, pictures: usize) {
        if self.epochs > 1 {
            say!("Epoch {epoch}/{}", self.epochs);
        }
        self.bar = bar(pictures, "train");
    }

    fn progress(&mut self, running: &Running) {
        self.bar.set_message(format!("loss {} accuracy {:.4}", number(running.loss), running.accuracy));
        self.bar.set_position(running.pictures as u64);
    }

    fn end(&mut self, epoch: &Epoch, steps: usize, time: Duration, saved: bool) {
        self.bar.finish_and_clear();
        say!(
            "{steps}/{steps} - {:.0}s {:.0}ms/step - loss: {} - accuracy: {} - val_loss: {} - val_accuracy: {}{}",
            time.as_secs_f64(),
            1e3 * time.as_secs_f64() / steps.max(1) as f64,
            number(epoch.loss),
            number(epoch.accuracy),
            number(epoch.val_loss),
            number(epoch.val_accuracy),
            if saved { " (best so far)" } else { "" }
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_as_keras_prints_them() {
        for (value, text) in [(0.50131, "0.5013"), (1e-3, "1.0000e-03"), (2.5e-12, "2.5000e-12"), (0.0, "0.0000e+00")] {
            assert_eq!(super::number(value), text);
        }
    }
}
