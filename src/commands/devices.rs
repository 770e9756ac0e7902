//! `wgradcam devices`.

use super::say;
use crate::cli::DevicesArgs;
use crate::player::adapters;
use anyhow::Result;
use std::process::ExitCode;

/// Lists the adapters.
pub fn run(args: &DevicesArgs) -> Result<ExitCode> {
    let all = adapters();
    if args.json {
        let facts: Vec<_> = all.iter().map(|a| a.facts()).collect();
        say!("{}", serde_json::to_string_pretty(&facts)?);
        return Ok(ExitCode::SUCCESS);
    }
    for a in &all {
        let f = a.facts();
        say!("{}  {}", f.index, f.name);
        say!("   {} {}, driver {}", f.backend, f.kind, f.driver);
        let features = if f.features.is_empty() { "none".into() } else { f.features.join(", ") };
        say!("   optional features: {features}; subgroups of {} to {}", f.subgroup[0], f.subgroup[1]);
        say!(
            "   largest binding {} MiB, buffer {} MiB, workgroup {} invocations and {} KiB",
            f.max_storage_binding >> 20,
            f.max_buffer >> 20,
            f.workgroup_invocations,
            f.workgroup_memory >> 10
        );
    }
    if all.is_empty() {
        say!("No adapter was found. Install your GPU's Vulkan driver (on Debian, mesa-vulkan-drivers for a software one).");
    }
    say!("cpu  the CPU path, {} threads: --device cpu", rayon::current_num_threads());
    Ok(ExitCode::SUCCESS)
}
