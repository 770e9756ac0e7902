//! Times a training step of the notebook's network on random resident pictures: `cargo bench --bench step -- --device cpu`.
//!
//! The device must first give the losses of the f64 twins over steps without dropout. `--write FILE` stores that problem (weights,
//! pictures, labels, losses) and ends: `benches/peers/compare.py` hands it to the peers, who must give the same losses before
//! they are timed.

mod common;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::{Times, pictures};
use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};
use std::time::Instant;
use wgradcam::data::{Dataset, unpack};
use wgradcam::engine::{Batch, Engine, PassRequest, reading_step};
use wgradcam::kernel::{Precision, Step};
use wgradcam::model::{Mode, Model, ModelSettings, PictureSet, lower};
use wgradcam::ops::adam::Adam;
use wgradcam::plan::Program;
use wgradcam::player::{Choice, CpuPlayer, DeviceChoice, Player, choose};

/// Losses that the check compares: at the initial weights and after each of two updates.
const CHECKED: usize = 3;
/// What rounding may change of a loss, as a share of it: at the same weights, and after updates. Adam's first updates are nearly
/// the gradient's sign, so that a gradient near 0 whose rounding differs moves its weight the other way.
const TOLERANCE: [f64; 2] = [1e-5, 1e-3];
/// The same where products are of f16.
const TOLERANCE_F16: [f64; 2] = [1e-3, 1e-2];

#[derive(Parser)]
struct Args {
    /// auto, gpu, cpu, an adapter's name or index
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// f32, or f16 for adapters with cooperative matrices
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Pictures per step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Timed steps
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Time an epoch of the notebook too: 4,486 resident pictures trained on, 1,122 validated on
    #[arg(long)]
    epoch: bool,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Write the problem as safetensors and end
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

/// The model on a device with its first weights, and its training and evaluating batch.
struct Bench {
    engine: Engine,
    train: Batch,
    evaluate: Batch,
}

impl Bench {
    fn new(choice: &Choice, dropout: f64, data: &Dataset) -> Result<Self> {
        let model = Model::new(&ModelSettings { dropout, ..ModelSettings::default() }, 2)?;
        let batch = data.len();
        let requests = [
            PassRequest { set: "train", data, batch, mode: Mode::Train },
            PassRequest { set: "train", data, batch, mode: Mode::Evaluate },
        ];
        let mut engine = Engine::new(&model, choice, &requests)?;
        for (i, p) in model.params().iter().enumerate() {
            engine.set_param(p, "", &p.initial(0, i))?;
        }
        let [train, evaluate] = [0, 1].map(|i| engine.pass(i).batches()[0]);
        Ok(Self { engine, train, evaluate })
    }

    /// Trains steps `first..first + n` with one wait at their end; the losses.
    fn steps(&mut self, first: usize, n: usize) -> Result<Vec<f64>> {
        let step = |i: usize| Step { step: i as u32, adam: Adam::default().at(i as u32 + 1), ..reading_step(0, i - first) };
        let steps: Vec<_> = (first..first + n).map(|i| (self.train, step(i))).collect();
        Ok(self.engine.play(&steps)?.iter().map(|m| m.loss).collect())
    }
}

/// What the CPU's twins give in f64: the losses of the first `n` steps without dropout.
fn losses_in_f64(data: &Dataset, n: usize) -> Result<Vec<f64>> {
    let model = Model::new(&ModelSettings { dropout: 0.0, ..ModelSettings::default() }, 2)?;
    let pictures = data.len();
    let set = PictureSet { name: "train", pictures, chunk: pictures, table: pictures };
    let mut program = Program::new();
    let plan = lower(&mut program, &model, &set, pictures, Mode::Train);
    let mut player = CpuPlayer::<f64>::new(program);
    player.write_words("train/images.0", 0, &data.pixels)?;
    player.write_words("train/labels", 0, &data.labels)?;
    player.write_words("train/order", 0, &(0..pictures as u32).collect::<Vec<_>>())?;
    for (i, p) in model.params().iter().enumerate() {
        player.write(&p.name, &p.pad(&p.initial(0, i)))?;
    }
    let mut loss = |i: usize| {
        player.play(plan, &[Step { step: i as u32, adam: Adam::default().at(i as u32 + 1), ..reading_step(0, i) }])?;
        Ok(player.floats("metrics")?[2 * i])
    };
    (0..n).map(&mut loss).collect()
}

/// The notebook's epoch, its pictures resident and its pipelines warm: every batch of the training set, then of the validation set.
fn epoch(choice: &Choice, batch: usize, runs: usize) -> Result<Times> {
    let model = Model::new(&ModelSettings::default(), 2)?;
    let [train, validation] = [4_486, 1_122].map(|n| pictures(n, 128));
    let requests = [
        PassRequest { set: "train", data: &train, batch, mode: Mode::Train },
        PassRequest { set: "val", data: &validation, batch, mode: Mode::Evaluate },
    ];
    let mut engine = Engine::new(&model, choice, &requests)?;
    for (i, p) in model.params().iter().enumerate() {
        engine.set_param(p, "", &p.initial(0, i))?;
    }
    let [train, validation] = [0, 1].map(|i| engine.pass(i).clone());
    let order: Vec<u32> = (0..train.pictures() as u32).collect();
    let mut updates = 0;
    Times::of(runs, || {
        engine.set_order(&train, &order)?;
        let steps: Vec<_> = train
            .batches()
            .into_iter()
            .zip(0u32..)
            .map(|(b, slot)| {
                updates += 1;
                let step = Step { step: updates - 1, adam: Adam::default().at(updates), ..reading_step(b.first, slot as usize) };
                (b, step)
            })
            .collect();
        engine.play(&steps)?;
        engine.evaluate(&validation, |_| ()).map(drop)
    })
}

fn write(path: &Path, data: &Dataset, losses: &[f64]) -> Result<()> {
    let model = Model::new(&ModelSettings::default(), 2)?;
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let floats = |values: Vec<f32>| (Dtype::F32, vec![values.len()], bytes(&values));
    let mut tensors = vec![
        ("pictures".to_owned(), (Dtype::U8, vec![data.len(), data.height, data.width, 3], unpack(&data.pixels))),
        ("labels".to_owned(), floats(data.labels.iter().map(|&l| l as f32).collect())),
        ("losses".to_owned(), floats(losses.iter().map(|&l| l as f32).collect())),
    ];
    for (i, p) in model.params().iter().enumerate() {
        tensors.push((p.name.clone(), (Dtype::F32, p.shape.clone(), bytes(&p.initial(0, i)))));
    }
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)));
    let file = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?;
    std::fs::write(path, file).with_context(|| format!("cannot write {}", path.display()))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let data = pictures(args.batch, 128);
    let expected = losses_in_f64(&data, CHECKED)?;
    if let Some(path) = &args.write {
        return write(path, &data, &expected);
    }
    let choice = choose(&args.device)?.with_precision(args.precision)?;
    let found = Bench::new(&choice, 0.0, &data)?.steps(0, CHECKED)?;
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let tolerance = if args.precision == Precision::F32 { TOLERANCE } else { TOLERANCE_F16 }[i.min(1)] * expected.abs();
        ensure!((found - expected).abs() <= tolerance, "the device's loss of step {i} is {found}, the oracle's {expected}");
    }

    let start = Instant::now();
    let mut bench = Bench::new(&choice, 0.5, &data)?;
    let opened = start.elapsed().as_secs_f64();
    bench.steps(0, 1)?;
    let first_step = start.elapsed().as_secs_f64() - opened;
    let mut at = 1;
    let mut train = |n: usize| {
        at += n;
        bench.steps(at - n, n).map(drop)
    };
    let waited = Times::of(args.steps, || train(1))?;
    let run = Times::of(3, || train(args.steps))?.per(args.steps);
    let evaluate = bench.evaluate;
    let predict = Times::of(args.steps, || bench.engine.play(&[(evaluate, reading_step(0, 0))]).map(drop))?;
    let device = bench.engine.player().device();
    let epoch = args.epoch.then(|| epoch(&choice, args.batch, 5)).transpose()?;
    if args.json {
        let json = serde_json::json!({
            "device": device,
            "batch": args.batch,
            "steps": args.steps,
            "losses": found,
            "open_s": opened,
            "first_step_s": first_step,
            "train_step": waited.to_json(),
            "train_run": run.to_json(),
            "predict_batch": predict.to_json(),
            "epoch": epoch.as_ref().map(Times::to_json),
        });
        println!("{json}");
    } else {
        println!("{device}, batch {}: opened in {opened:.2} s, first step {first_step:.2} s", args.batch);
        println!("train_step     {waited}   waiting for every step");
        println!("train_run      {run}   a step of {} with one wait", args.steps);
        println!("predict_batch  {predict}");
        if let Some(epoch) = epoch {
            println!("epoch          {epoch}   4,486 pictures trained on, 1,122 validated on");
        }
    }
    Ok(())
}
