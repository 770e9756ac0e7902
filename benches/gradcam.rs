//! Times the Grad-CAM maps of every convolution layer over a whole set: `cargo bench --bench gradcam -- --device cpu`.
//!
//! What is timed ends where the notebook's function ends, at the arrays (raw and resized); predictions, panels and files are not
//! in it. The device's maps must first agree with the CPU path's of one picture at a time.

mod common;

use anyhow::{Result, ensure};
use clap::Parser;
use common::{Times, pictures};
use wgradcam::data::Dataset;
use wgradcam::engine::{Engine, PassRequest};
use wgradcam::explain::{BATCH, Explanation, explain};
use wgradcam::model::{Explain, Mode, Model, ModelSettings, Target, Technique};
use wgradcam::player::{Choice, DeviceChoice, choose};

/// Largest difference between two paths' maps, relative to the map's largest value.
const TOLERANCE: f32 = 2e-5;
/// Pictures of the comparison: a whole batch and some more.
const COMPARED: usize = 5;

#[derive(Parser)]
struct Args {
    /// auto, gpu, cpu, an adapter's name or index
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Pictures to explain; the notebook's test set has 1,122
    #[arg(long, default_value_t = 1122)]
    pictures: usize,
    /// Pictures per batch
    #[arg(long, default_value_t = BATCH)]
    batch: usize,
    /// Timed runs
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// One JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

/// The maps of a set, by batches of `batch`.
fn maps(choice: &Choice, data: &Dataset, batch: usize) -> Result<Vec<Explanation>> {
    let mut all = Vec::new();
    bench(choice, data, batch)?(&mut |e| all.push(e))?;
    Ok(all)
}

type Run<'a> = Box<dyn FnMut(&mut dyn FnMut(Explanation)) -> Result<()> + 'a>;

/// An engine that explains `data` each time it is called.
fn bench<'a>(choice: &Choice, data: &'a Dataset, batch: usize) -> Result<Run<'a>> {
    let model = Model::new(&ModelSettings::default(), 2)?;
    let mode = Mode::Explain(Explain { target: Target::Predicted, technique: Technique::Gradcam, check: false });
    let mut engine = Engine::new(&model, choice, &[PassRequest { set: "val", data, batch, mode }])?;
    for (i, p) in model.params().iter().enumerate() {
        engine.set_param(p, "", &p.initial(0, i))?;
    }
    let pass = engine.pass(0);
    let chosen: Vec<usize> = (0..data.len()).collect();
    Ok(Box::new(move |each| {
        explain(&mut engine, &pass, batch, &chosen, |e| {
            each(e);
            Ok(())
        })
    }))
}

fn agree(what: &str, layer: &str, found: &[f32], expected: &[f32]) -> Result<()> {
    ensure!(found.len() == expected.len(), "{what} of {layer} has {} values, not {}", found.len(), expected.len());
    let largest = expected.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
    let off = found.iter().zip(expected).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs()));
    ensure!(largest > 0.0, "{what} of {layer} is all zero: that compares nothing");
    ensure!(off <= TOLERANCE * largest, "{what} of {layer} is off by {:.1e} of its largest value", off / largest);
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    let choice = choose(&args.device)?;
    let few = pictures(COMPARED, 128);
    let expected = maps(&choose(&DeviceChoice::Cpu)?, &few, 1)?;
    let found = maps(&choice, &few, 3)?;
    ensure!(found.len() == COMPARED && expected.len() == COMPARED, "not every picture has its maps");
    for (found, expected) in found.iter().zip(&expected) {
        for (a, b) in found.layers.iter().zip(&expected.layers) {
            agree("the raw map", &a.layer, &a.raw, &b.raw)?;
            if !b.no_evidence() {
                agree("the map", &a.layer, &a.map, &b.map)?;
            }
        }
    }
    let data = pictures(args.pictures, 128);
    let mut run = bench(&choice, &data, args.batch)?;
    let times = Times::of(args.runs, || {
        let mut explained = 0;
        run(&mut |e| {
            explained += 1;
            std::hint::black_box(e);
        })?;
        ensure!(explained == args.pictures, "{explained} of {} pictures were explained", args.pictures);
        Ok(())
    })?;
    let each = times.per(args.pictures);
    if args.json {
        let json = serde_json::json!({"device": choice.why, "pictures": args.pictures, "batch": args.batch,
            "whole": times.to_json(), "per_picture": each.to_json()});
        println!("{json}");
    } else {
        println!("{}: {} pictures, 3 layers, batch {}", choice.why, args.pictures, args.batch);
        println!("whole        {times}\nper picture  {each}");
    }
    Ok(())
}
