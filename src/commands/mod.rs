//! The commands, each of which reads like a recipe.

mod common;
mod demo;
mod devices;
mod evaluate;
mod evaluation;
mod gradcam;
mod interrupt;
mod panels;
mod predict;
mod profile;
mod progress;
mod sets;
mod summary;
mod train;
mod tune;
mod verify;

use crate::cli::Command;
use anyhow::Result;
use std::process::ExitCode;

/// Prints a line to stdout. A reader that has gone away (`| head`) stops neither the work nor its files.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout().lock(), $($text)*);
    }};
}
pub(crate) use say;

/// Runs a command.
///
/// # Errors
/// Whatever went wrong, as a chain from what was attempted to the cause, naming the file and the remedy.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Gradcam(args) => gradcam::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Summary(args) => summary::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Tune(args) => tune::run(&args),
    }
}
