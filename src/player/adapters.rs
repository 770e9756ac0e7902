//! Which adapters there are, and which device to take.

use super::Cache;
use super::gpu::{Adapter, Floor};
use anyhow::{Result, bail};
use serde::Serialize;
use std::str::FromStr;

/// What matters here about one adapter.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterFacts {
    /// Its number for `--device INDEX`.
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// Vulkan, Metal or DX12.
    pub backend: String,
    /// DiscreteGpu, IntegratedGpu, VirtualGpu, Cpu (a software driver) or Other.
    pub kind: String,
    /// Driver name and version.
    pub driver: String,
    /// Whether the driver runs on the CPU.
    pub software: bool,
    /// Optional features that wgradcam can make use of, of those the adapter has.
    pub features: Vec<&'static str>,
    /// Largest storage binding in bytes: the resident pictures are split by it.
    pub max_storage_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Invocations per workgroup.
    pub workgroup_invocations: u32,
    /// Subgroup sizes, smallest and largest.
    pub subgroup: [u32; 2],
}

/// The adapters of this machine, in a stable order.
pub fn adapters() -> Vec<Adapter> {
    Adapter::all()
}

/// The value of `--device`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU, else whichever of the CPU path and the software adapter is faster.
    #[default]
    Auto,
    /// The best adapter, software ones included.
    Gpu,
    /// The CPU path.
    Cpu,
    /// The adapter of this number.
    Index(usize),
    /// The adapter whose name contains this, in any case.
    Name(String),
}

impl FromStr for DeviceChoice {
    type Err = std::convert::Infallible;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match s {
            "auto" => Self::Auto,
            "gpu" => Self::Gpu,
            "cpu" => Self::Cpu,
            other => other.parse().map_or_else(|_| Self::Name(other.to_owned()), Self::Index),
        })
    }
}

/// What was chosen and why.
pub struct Choice {
    /// The adapter, or none for the CPU path.
    pub adapter: Option<Adapter>,
    /// One line for the user: what, why and how to choose otherwise.
    pub why: String,
}

/// Better kinds first.
fn rank(facts: &AdapterFacts) -> usize {
    ["DiscreteGpu", "IntegratedGpu", "VirtualGpu", "Other"].iter().position(|k| *k == facts.kind).unwrap_or(4)
}

/// Takes the device that the user asked for; an error names what there is. `WGRADCAM_LIMITS=default|downlevel` holds an adapter
/// to that [`Floor`], to try it.
pub fn choose(choice: &DeviceChoice) -> Result<Choice> {
    choose_with(choice, &Cache::none())
}

/// The same with what earlier runs left in a cache: the adapter plays what `tune` found fastest, keeps what its driver compiles,
/// and of a software adapter and the CPU path `auto` takes whichever `tune` measured to train faster.
pub fn choose_with(choice: &DeviceChoice, cache: &Cache) -> Result<Choice> {
    if *choice == DeviceChoice::Cpu {
        return Ok(Choice { adapter: None, why: "the CPU path, as asked".into() });
    }
    let mut all = adapters();
    let list = all.iter().map(|a| format!("{} ({})", a.facts().index, a.facts().name)).collect::<Vec<_>>().join(", ");
    let list = if list.is_empty() { "none".to_owned() } else { list };
    let found = match choice {
        DeviceChoice::Index(i) => all.iter().position(|a| a.facts().index == *i),
        DeviceChoice::Name(name) => {
            let name = name.to_lowercase();
            all.iter().position(|a| a.facts().name.to_lowercase().contains(&name))
        }
        _ => (0..all.len()).min_by_key(|&i| rank(all[i].facts())),
    };
    let Some(found) = found else {
        return match choice {
            DeviceChoice::Auto => Ok(Choice {
                adapter: None,
                why: "the CPU path: no GPU driver was found; install one (mesa-vulkan-drivers, your GPU's) to use it".into(),
            }),
            DeviceChoice::Gpu => bail!(
                "--device gpu: no adapter was found. Install your GPU's Vulkan driver, or mesa-vulkan-drivers for a software \
                 one, or take --device cpu"
            ),
            DeviceChoice::Index(i) => {
                bail!("--device {i}: there is no adapter {i}; there are: {list}. `wgradcam devices` tells more")
            }
            DeviceChoice::Name(n) => {
                bail!("--device {n}: no adapter's name contains \"{n}\"; there are: {list}. `wgradcam devices` tells more")
            }
            DeviceChoice::Cpu => unreachable!("taken above"),
        };
    };
    let mut adapter = all.swap_remove(found);
    if let Some(floor) = Floor::from_env()? {
        adapter = adapter.within(floor);
    }
    adapter = adapter.with_cache(cache);
    let name = adapter.facts().name.clone();
    if *choice == DeviceChoice::Auto && adapter.facts().software {
        return Ok(software_or_cpu(adapter));
    }
    let why = match choice {
        DeviceChoice::Auto => format!("{name}: the best GPU found; --device cpu, NAME or INDEX chooses otherwise"),
        _ => format!("{name}, as asked"),
    };
    Ok(Choice { adapter: Some(adapter), why })
}

/// Between a software adapter and the CPU path, which share their cores.
fn software_or_cpu(adapter: Adapter) -> Choice {
    let name = adapter.facts().name.clone();
    let Some(step) = adapter.tuned().and_then(|tuned| tuned.step.clone()) else {
        // Measured in benches/results/: on the same cores the CPU path is several times faster than the shaders.
        let why = format!(
            "the CPU path: no GPU was found, and the software adapter {name} is slower than it on the same cores; --device gpu takes it"
        );
        return Choice { adapter: None, why };
    };
    let measured = format!(
        "`wgradcam tune` measured {:.3} ms per picture of a training step on {name} and {:.3} ms on the CPU path",
        step.adapter_ms, step.cpu_ms
    );
    if step.adapter_ms < step.cpu_ms {
        return Choice {
            why: format!("{name}: no GPU was found, and {measured}; --device cpu takes the other"),
            adapter: Some(adapter),
        };
    }
    Choice { adapter: None, why: format!("the CPU path: no GPU was found, and {measured}; --device gpu takes the other") }
}
