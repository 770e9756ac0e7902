//! `wgradcam verify`.

use super::say;
use crate::cli::VerifyArgs;
use crate::kernel;
use crate::player::choose;
use crate::verify;
use anyhow::{Context, Result};
use std::process::ExitCode;

/// Checks the registry on an adapter, exit code 1 on any failure; or writes its shaders.
pub fn run(args: &VerifyArgs) -> Result<ExitCode> {
    if let Some(folder) = &args.print_shaders {
        let written = verify::print_shaders(folder, args.filter.as_deref())?;
        say!("{written} shaders written to {}", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let choice = choose(&args.device)?;
    let adapter = choice.adapter.context("verify needs an adapter: --device gpu, or a name or index from `wgradcam devices`")?;
    let width = kernel::all().map(|k| k.key.len()).max().unwrap_or_default();
    if !args.json {
        say!("{} ({})", adapter.facts().name, adapter.facts().driver);
        say!("{:width$} {:>6} {:>11} {:>11}  exact tier", "kernel", "cases", "worst/bound", "worst error");
    }
    let adapter = adapter.with_precision(args.precision.unwrap_or_default())?;
    let report = verify::run(&adapter, args.filter.as_deref(), args.precision, |row| {
        if !args.json {
            let exact = if row.exact == 0 { "-".to_owned() } else { format!("{} bit for bit", row.exact) };
            say!(
                "{:width$} {:>6} {:>11.3} {:>11.2e}  {}{}",
                row.key,
                row.cases,
                row.ratio,
                row.error,
                exact,
                if row.passed { "" } else { "  FAILED" }
            );
            row.failure.iter().for_each(|f| say!("    {f}"));
        }
    })?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        let failed = report.rows.iter().filter(|r| !r.passed).count();
        say!("{} kernels, {failed} failed", report.rows.len());
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
