//! `wgradcam evaluate`.

use super::{common, evaluation, say};
use crate::cli::EvaluateArgs;
use anyhow::Result;
use std::process::ExitCode;

/// Evaluates weights on a labelled folder.
pub fn run(args: &EvaluateArgs) -> Result<ExitCode> {
    let batch_size = common::batch_size(args.batch_size)?;
    let weights = common::weights(&args.weights)?;
    let _empty = args.out.as_deref().map(common::EmptyFolder::make).transpose()?;
    let card = &weights.card;
    let data = common::labelled(&args.data, &card.classes, &card.reader, &args.load, "read")?;
    let choice = common::device(&args.device, args.device.precision.unwrap_or_default())?;
    let evaluation = evaluation::evaluate(&weights, &choice, &data, batch_size)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&evaluation.to_json())?);
    } else {
        say!("{} pictures, loss {:.4}, accuracy {:.4}\n", data.len(), evaluation.loss, evaluation.matrix.accuracy());
        say!("{}", evaluation.matrix.to_text());
        say!("{}", evaluation.matrix.classification_report().trim_end());
        evaluation.matrix.undefined_warnings().iter().for_each(|w| eprintln!("Warning: {w}"));
    }
    if let Some(out) = &args.out {
        evaluation.write(out, &data)?;
        eprintln!("Written: {}", out.display());
    }
    Ok(ExitCode::SUCCESS)
}
