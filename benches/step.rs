//! Times a training step of the notebook's network on random resident pictures: `cargo bench --bench step -- --device cpu`.
//!
//! Checks first that the device's loss agrees with the CPU path's, then prints the median and spread over the steps as JSON.

use clap::Parser;
use std::time::Instant;
use wgradcam::data::Dataset;
use wgradcam::engine::{Engine, PassRequest, reading_step};
use wgradcam::kernel::Step;
use wgradcam::model::{Mode, Model, ModelSettings};
use wgradcam::ops::adam::Adam;
use wgradcam::player::{Choice, DeviceChoice, choose};
use wgradcam::rng::hash3;

#[derive(Parser)]
struct Args {
    /// auto, gpu, cpu, an adapter's name or index
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Pictures per step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Timed steps
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

fn pictures(n: usize) -> Dataset {
    let bytes = n * 128 * 128 * 3;
    Dataset {
        classes: vec!["a".into(), "b".into()],
        paths: vec!["made".into(); n],
        labels: (0..n as u32).map(|i| i % 2).collect(),
        pixels: (0..bytes as u32).map(|i| hash3(1, 2, i) as u8).collect(),
        height: 128,
        width: 128,
        traits: Default::default(),
    }
}

fn engine(choice: &Choice, model: &Model, data: &Dataset, batch: usize) -> anyhow::Result<Engine> {
    let requests = [
        PassRequest { set: "train", data, batch, mode: Mode::Train },
        PassRequest { set: "train", data, batch, mode: Mode::Evaluate },
    ];
    let mut engine = Engine::new(model, choice, &requests)?;
    for (i, p) in model.params().iter().enumerate() {
        engine.set_param(p, "", &p.initial(0, i))?;
    }
    Ok(engine)
}

/// Milliseconds of each run of `work`, after one that is not counted.
fn times(steps: usize, mut work: impl FnMut(usize) -> anyhow::Result<f64>) -> anyhow::Result<(Vec<f64>, f64)> {
    let first = work(0)?;
    let mut times = Vec::new();
    for i in 1..=steps {
        let start = Instant::now();
        work(i)?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok((times, first))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = Model::new(&ModelSettings::default(), 2)?;
    let data = pictures(args.batch);
    let choice = choose(&args.device)?;
    let start = Instant::now();
    let mut ours = engine(&choice, &model, &data, args.batch)?;
    let opened = start.elapsed().as_secs_f64();
    let (train, evaluate) = (ours.pass(0).batches()[0], ours.pass(1).batches()[0]);
    let step = |i: usize| Step { step: i as u32, adam: Adam::default().at(i as u32 + 1), ..reading_step(0, 0) };
    let start = Instant::now();
    let mut first_step = None;
    let (train_times, loss) = times(args.steps, |i| {
        let loss = ours.play(&[(train, step(i))])?[0].loss;
        first_step.get_or_insert(start.elapsed().as_secs_f64());
        Ok(loss)
    })?;
    let mut cpu = engine(&choose(&DeviceChoice::Cpu)?, &model, &data, args.batch)?;
    let expected = cpu.play(&[(train, step(0))])?[0].loss;
    anyhow::ensure!((loss - expected).abs() < 2e-5, "the device's first loss is {loss}, the CPU path's {expected}");
    let (predict_times, _) = times(args.steps, |_| Ok(ours.play(&[(evaluate, reading_step(0, 0))])?[0].loss))?;
    let row = |t: &[f64]| serde_json::json!({"median_ms": t[t.len() / 2], "min_ms": t[0], "max_ms": t[t.len() - 1]});
    let json = serde_json::json!({
        "device": ours.player().device(),
        "batch": args.batch,
        "steps": args.steps,
        "open_s": opened,
        "first_step_s": first_step,
        "train_step": row(&train_times),
        "predict_batch": row(&predict_times),
    });
    println!("{json}");
    Ok(())
}
