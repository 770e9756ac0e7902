//! `wgradcam predict`.

use super::{common, evaluation, say};
use crate::cli::PredictArgs;
use anyhow::Result;
use std::process::ExitCode;

/// Classifies pictures.
pub fn run(args: &PredictArgs) -> Result<ExitCode> {
    let batch_size = common::batch_size(args.batch_size)?;
    let weights = common::weights(&args.weights)?;
    let data = common::unlabelled(&args.pictures, &weights.card.reader, &args.load)?;
    let choice = common::device(&args.device, args.device.precision.unwrap_or_default())?;
    let (outputs, _) = evaluation::outputs(&weights, &choice, &data, batch_size)?;
    let classes = &weights.card.classes;
    for i in 0..data.len() {
        if args.json {
            say!("{}", evaluation::prediction(&data, &outputs, classes, i));
        } else {
            let class = outputs.class(i);
            say!("{:.4}  {}  {}", outputs.probability(i, class), classes[class], data.paths[i].display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
