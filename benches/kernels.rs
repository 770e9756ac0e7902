//! Times every kernel of the registry that the device can run, alone: `cargo bench --bench kernels -- --device gpu --filter conv2d`.
//!
//! At the sizes of the notebook's network where its plans have the kernel, else at its largest case; a star marks what a training step
//! plays. Every kernel is checked against its twin (`verify`) before it is timed.

use clap::Parser;
use std::time::Instant;
use wgradcam::engine::reading_step;
use wgradcam::kernel::{self, Kernel};
use wgradcam::model::{Model, ModelSettings};
use wgradcam::plan::Program;
use wgradcam::player::{CpuPlayer, DeviceChoice, GpuPlayer, Player, choose};
use wgradcam::tune::plans;
use wgradcam::verify;

#[derive(Parser)]
struct Args {
    /// gpu, cpu, an adapter's name or index
    #[arg(long, default_value = "gpu")]
    device: DeviceChoice,
    /// Only kernels whose key contains this
    #[arg(long, default_value = "")]
    filter: String,
    /// Pictures per step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Timed runs of each
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// One JSON object per kernel
    #[arg(long)]
    json: bool,
    /// cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

/// Sizes at which a kernel is timed, with whether a training step plays it so.
type Sizes = Vec<(Vec<u32>, bool)>;

/// At the sizes that the plans have for it, else at its largest case.
fn sizes(kernel: &'static Kernel, program: &Program, step: &[(&str, Vec<u32>)]) -> Sizes {
    let of = kernel.variant.map_or(kernel.key, |v| v.of);
    let fits = |dims: &Vec<u32>| kernel.fits(dims);
    let mut sizes = Sizes::new();
    for dispatch in program.plans.iter().flat_map(|plan| &plan.dispatches) {
        if dispatch.kernel.key == of && fits(&dispatch.dims) && !sizes.iter().any(|(dims, _)| *dims == dispatch.dims) {
            sizes.push((dispatch.dims.clone(), step.contains(&(kernel.key, dispatch.dims.clone()))));
        }
    }
    if sizes.is_empty() {
        let cases = (kernel.cases)();
        sizes.extend(cases.into_iter().max_by_key(|dims| verify::elements(kernel, dims)).map(|dims| (dims, false)));
    }
    sizes
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = Model::new(&ModelSettings::default(), 2)?;
    let choice = choose(&args.device)?;
    let adapter = choice.adapter.as_ref();
    let program = plans(&model, adapter, args.batch);
    let mut played = plans(&model, adapter, args.batch);
    if let Some(adapter) = adapter {
        adapter.choose_variants(&mut played);
    }
    let step: Vec<(&str, Vec<u32>)> = played.plans[0].dispatches.iter().map(|d| (d.kernel.key, d.dims.clone())).collect();
    // The CPU path has no variants.
    let runs = |k: &&'static Kernel| k.key.contains(&args.filter) && adapter.map_or(k.variant.is_none(), |a| a.can_run(k));
    let kernels: Vec<&'static Kernel> = kernel::all().filter(runs).collect();
    for kernel in &kernels {
        match adapter {
            Some(adapter) => {
                let row = verify::check(adapter, kernel, &(kernel.cases)());
                anyhow::ensure!(row.passed, "{} fails verify; nothing is timed: {:?}", kernel.key, row.failure);
            }
            None => verify::check_twin(kernel, &(kernel.cases)())?,
        }
    }
    let mut total = 0.0;
    for (kernel, (dims, in_step)) in kernels.iter().flat_map(|&k| sizes(k, &program, &step).into_iter().map(move |s| (k, s))) {
        let mut program = Program::new();
        let names: Vec<&str> = kernel.bindings.iter().map(|b| b.name).collect();
        let id = program.begin("bench", args.batch);
        program.dispatch_kernel("bench", kernel, dims.clone(), &names);
        let mut player: Box<dyn Player> = match adapter {
            Some(adapter) => Box::new(GpuPlayer::new(adapter, program)?),
            None => Box::new(CpuPlayer::<f32>::new(program)),
        };
        verify::fill(&mut *player, kernel, &dims, &names)?;
        let step = [reading_step(0, 0)];
        player.play(id, &step)?;
        let mut times: Vec<f64> = (0..args.runs)
            .map(|_| {
                let start = Instant::now();
                player.play(id, &step)?;
                Ok(1e3 * start.elapsed().as_secs_f64())
            })
            .collect::<anyhow::Result<_>>()?;
        times.sort_by(f64::total_cmp);
        let (median, cost) = (times[times.len() / 2], (kernel.cost)(&dims));
        total += if in_step { median } else { 0.0 };
        let (least, most) = (times[0], times[times.len() - 1]);
        let (gflops, gbytes) = (cost.flops / median / 1e6, cost.bytes / median / 1e6);
        let named: Vec<String> = kernel.dims.iter().zip(&dims).map(|(name, v)| format!("{name}={v}")).collect();
        if args.json {
            let json = serde_json::json!({"kernel": kernel.key, "dims": named, "in_step": in_step, "median_ms": median,
                "min_ms": least, "max_ms": most, "gflops": gflops, "gbytes_per_s": gbytes});
            println!("{json}");
        } else {
            let star = if in_step { '*' } else { ' ' };
            println!(
                "{star} {:64} {median:9.3} ms  ({least:.3}..{most:.3})  {gflops:7.1} GFLOP/s  {gbytes:6.1} GB/s",
                kernel.key
            );
            println!("    {}", named.join(" "));
        }
    }
    if args.json {
        println!("{}", serde_json::json!({"kernel": "sum of a training step's", "median_ms": total}));
    } else {
        println!("* {:64} {total:9.3} ms", "sum of what a training step plays");
    }
    Ok(())
}
