//! `wgradcam demo`: the whole way on made pictures, with a known answer to where the network should look.

use super::panels::{Drawn, Request, draw};
use super::sets::Loaded;
use super::train::{Run, Start};
use super::{common, say};
use crate::cli::DemoArgs;
use crate::data::{self, Dataset, Folder, Limit, OnBad, Planted, PlantedBox, Reader, planted};
use crate::files::{FolderLock, write_whole};
use crate::model::{Model, ModelSettings, Target, Technique};
use crate::train::{Card, RunConfig, TrainSettings, Weights};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Few pictures, so small batches: more steps per epoch.
const BATCH: usize = 16;

/// Makes pictures, trains, evaluates, explains, and compares the heatmaps with the planted artefacts.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    let config = RunConfig {
        data: None,
        model: ModelSettings::default(),
        train: TrainSettings {
            epochs: args.epochs,
            batch_size: BATCH,
            seed: args.seed,
            precision: args.device.precision.unwrap_or_default(),
            ..TrainSettings::default()
        },
        reader: Reader::default(),
    };
    config.validate()?;
    let choice = common::device(&args.device, config.train.precision)?;
    common::output_folder(&args.out)?;
    let _lock = FolderLock::take(&args.out)?;
    let dir = args.out.join("data");
    clear(&dir)?;
    let set = data::planted::generate(&dir, &Planted { seed: args.seed, ..Planted::default() })?;
    say!(
        "Made {} pictures in {}: half of them \"fake\", with a checkerboard patch planted in a known place.",
        set.pictures.len(),
        dir.display()
    );
    let config = RunConfig { data: Some(dir.clone()), ..config };
    let read = |folder: Folder, what| {
        Dataset::load(&folder.items, &folder.classes, &config.reader, OnBad::Fail, Limit::default(), Some(what), None)
    };
    let sets = Loaded {
        train: read(data::scan(&set.train, false)?, "read train")?,
        validation: read(data::scan(&set.test, false)?, "read test")?,
        validation_name: set.test.display().to_string(),
        test: None,
    };
    let model = Model::new(&config.model, sets.train.classes.len())?;
    let card = Card::new(&model, &sets.train.classes, &config.reader);
    let weights = Weights::initial(&model, card, config.train.seed);
    let boxes: HashMap<PathBuf, PlantedBox> =
        set.pictures.iter().filter_map(|p| p.artefact.map(|artefact| (p.path.clone(), artefact))).collect();
    let run = Run { config: &config, folder: &args.out, choice: &choice, panels: 10, boxes };
    let Some(finished) = run.train(Start::New(&weights), &sets, false)? else { return Ok(ExitCode::from(130)) };
    // Every test picture with an artefact that was found out.
    let (data, outputs) = (&sets.validation, &finished.evaluation.outputs);
    let chosen: Vec<usize> = (0..data.len())
        .filter(|&i| run.boxes.contains_key(&data.paths[i]) && outputs.class(i) == data.labels[i] as usize)
        .collect();
    let folder = args.out.join("fakes");
    common::output_folder(&folder)?;
    let request = Request {
        weights: &finished.best,
        data,
        outputs,
        labelled: true,
        chosen: &chosen,
        target: Target::Predicted,
        technique: Technique::Gradcam,
        folder: &folder,
        npy: false,
        check: false,
        boxes: &run.boxes,
    };
    let drawn = draw(&request, &choice)?;
    report(&drawn, &request, &args.out)?;
    say!("Look at {} and {}", args.out.join("report.html").display(), folder.join("gallery.html").display());
    Ok(ExitCode::SUCCESS)
}

/// Removes the pictures of an earlier demo, and nothing else.
fn clear(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    ensure!(dir.join(planted::BOXES).is_file(), "{} exists and is no earlier demo's data; choose another --out", dir.display());
    std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove the earlier demo's {}", dir.display()))
}

/// How often the maximum of each layer's map lies on the artefact, beside what chance would give.
fn report(drawn: &[Drawn], request: &Request, out: &Path) -> Result<()> {
    let (height, width) = (request.data.height, request.data.width);
    let boxes: Vec<&PlantedBox> = drawn.iter().map(|d| &request.boxes[&request.data.paths[d.explanation.picture]]).collect();
    if drawn.is_empty() {
        say!("No fake picture was recognised, so there is no heatmap to judge; more --epochs may help.");
        return Ok(());
    }
    let n = drawn.len() as f64;
    // A point thrown anywhere in the picture falls into the box as often as the box is large.
    let chance = boxes.iter().map(|b| f64::from(b.width * b.height) / (height * width) as f64).sum::<f64>() / n;
    let mut layers = Vec::new();
    say!(
        "\nHow often the heatmap's maximum lies on the planted artefact, over {} recognised fakes (chance: {:.1} %):",
        drawn.len(),
        100.0 * chance
    );
    for (k, layer) in request.weights.model.conv_layers().enumerate() {
        let hits = drawn.iter().zip(&boxes).filter(|(d, b)| {
            let map = &d.explanation.layers[k];
            let (y, x) = map.peak(width);
            !map.no_evidence() && (b.x..b.x + b.width).contains(&(x as u32)) && (b.y..b.y + b.height).contains(&(y as u32))
        });
        let share = hits.count() as f64 / n;
        say!("    {}: {:.1} %", layer.name, 100.0 * share);
        layers.push(json!({"layer": layer.name, "share": share}));
    }
    let json = json!({"pictures": drawn.len(), "chance": chance, "maximum_on_artefact": layers});
    write_whole(&out.join("artefact.json"), (serde_json::to_string_pretty(&json)? + "\n").as_bytes())
}
