//! Ctrl-C: once to end a training after the step under way, twice to end it at once.

use anyhow::{Context, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a training that Ctrl-C ended, as shells count SIGINT.
pub(super) const INTERRUPTED: u8 = 130;

/// What Ctrl-C does.
#[derive(Default)]
pub(super) struct Interrupt {
    /// Set by Ctrl-C: the training is to end.
    pub(super) stop: AtomicBool,
    /// Whether a training looks at `stop`; elsewhere Ctrl-C ends the program at once, all files being written whole.
    pub(super) training: AtomicBool,
}

/// Installs the handler, once per process.
pub(super) fn interrupt() -> Result<&'static Interrupt> {
    static INTERRUPT: OnceLock<Interrupt> = OnceLock::new();
    if let Some(interrupt) = INTERRUPT.get() {
        return Ok(interrupt);
    }
    let interrupt = INTERRUPT.get_or_init(Interrupt::default);
    ctrlc::set_handler(|| {
        if !interrupt.training.load(Ordering::Relaxed) || interrupt.stop.swap(true, Ordering::Relaxed) {
            // Nothing to save, or the second Ctrl-C: the user does not want to wait for the step.
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\nInterrupted: ending after this step. Once more ends at once, and what was saved last stays.");
    })
    .context("cannot catch Ctrl-C")?;
    Ok(interrupt)
}
