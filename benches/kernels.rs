//! Times every kernel of the notebook's training step alone: `cargo bench --bench kernels -- --device gpu --filter conv2d`.
//!
//! Dims are those of the real plan; every kernel is checked against its twin (`verify`) on small shapes before it is timed.

use clap::Parser;
use std::time::Instant;
use wgradcam::engine::reading_step;
use wgradcam::model::{Mode, Model, ModelSettings, PictureSet, lower};
use wgradcam::plan::{Program, Spread};
use wgradcam::player::{Adapter, CpuPlayer, DeviceChoice, GpuPlayer, Player, choose};
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

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = Model::new(&ModelSettings::default(), 2)?;
    let choice = choose(&args.device)?;
    let mut whole = Program::spread(choice.adapter.as_ref().map_or(Spread::Few, Adapter::spread));
    let set = PictureSet { name: "train", pictures: args.batch, chunk: args.batch, table: args.batch };
    let plan = lower(&mut whole, &model, &set, args.batch, Mode::Train);
    if let Some(adapter) = &choice.adapter {
        adapter.choose_variants(&mut whole);
    }
    if let Some(adapter) = &choice.adapter {
        let report = verify::run(adapter, Some(&args.filter).filter(|f| !f.is_empty()).map(String::as_str), None, |_| ())?;
        anyhow::ensure!(report.passed, "a kernel fails verify; nothing is timed");
    }
    let mut total = 0.0;
    for dispatch in whole.plans[plan.0].dispatches.iter().filter(|d| d.kernel.key.contains(&args.filter)) {
        let mut program = Program::new();
        let names: Vec<&str> = dispatch.kernel.bindings.iter().map(|b| b.name).collect();
        let id = program.begin("bench", args.batch);
        program.dispatch_kernel("bench", dispatch.kernel, dispatch.dims.clone(), &names);
        let mut player: Box<dyn Player> = match &choice.adapter {
            Some(adapter) => Box::new(GpuPlayer::new(adapter, program)?),
            None => Box::new(CpuPlayer::<f32>::new(program)),
        };
        verify::fill(&mut *player, dispatch.kernel, &dispatch.dims, &names)?;
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
        let (median, cost) = (times[times.len() / 2], (dispatch.kernel.cost)(&dispatch.dims));
        total += median;
        let (gflops, gbytes) = (cost.flops / median / 1e6, cost.bytes / median / 1e6);
        if args.json {
            let json = serde_json::json!({"kernel": dispatch.label, "median_ms": median, "min_ms": times[0],
                "max_ms": times[times.len() - 1], "gflops": gflops, "gbytes_per_s": gbytes});
            println!("{json}");
        } else {
            println!(
                "{:56} {median:9.3} ms  ({:.3}..{:.3})  {gflops:7.1} GFLOP/s  {gbytes:6.1} GB/s",
                dispatch.label,
                times[0],
                times[times.len() - 1]
            );
        }
    }
    if !args.json {
        println!("{:56} {total:9.3} ms", "sum");
    }
    Ok(())
}
