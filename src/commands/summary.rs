//! `wgradcam summary`.

use super::{common, say};
use crate::cli::SummaryArgs;
use crate::model::Model;
use anyhow::Result;
use std::process::ExitCode;

/// Prints Keras's table for the network that the settings describe.
pub fn run(args: &SummaryArgs) -> Result<ExitCode> {
    let settings = common::model_settings(common::config(args.config.as_deref())?.model, &args.model);
    say!("{}", Model::new(&settings, args.classes)?.summary().trim_end());
    Ok(ExitCode::SUCCESS)
}
