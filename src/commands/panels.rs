//! Grad-CAM of chosen pictures as panels, arrays and a gallery.

use super::{evaluation, progress};
use crate::data::{Dataset, PlantedBox};
use crate::engine::Outputs;
use crate::explain::{BATCH, Explanation, LayerMap, explain};
use crate::files::write_whole;
use crate::model::{Explain, Mode, Target, Technique};
use crate::player::Choice;
use crate::report::colour::Scale;
use crate::report::gallery::{self, Entry};
use crate::report::panel::{Outline, Panel, Picture, Tile, no_evidence};
use crate::report::save_png;
use crate::train::Weights;
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What to draw.
pub struct Request<'a> {
    /// The weights.
    pub weights: &'a Weights,
    /// The pictures.
    pub data: &'a Dataset,
    /// Their predictions.
    pub outputs: &'a Outputs,
    /// Whether `data.labels` are the true classes.
    pub labelled: bool,
    /// Indices of the pictures to explain, in the order to show them.
    pub chosen: &'a [usize],
    /// The score.
    pub target: Target,
    /// The kind of map.
    pub technique: Technique,
    /// Folder to write, which exists.
    pub folder: &'a Path,
    /// Whether to write arrays.
    pub npy: bool,
    /// Whether to check that the evidence adds up.
    pub check: bool,
    /// Known artefacts by path, drawn as a box.
    pub boxes: &'a HashMap<PathBuf, PlantedBox>,
}

/// A drawn picture.
pub struct Drawn {
    /// The panel's file and caption.
    pub entry: Entry,
    /// The maps behind it.
    pub explanation: Explanation,
}

fn technique_name(technique: Technique) -> &'static str {
    match technique {
        Technique::Gradcam => "Grad-CAM",
        Technique::Hirescam => "HiResCAM",
        Technique::Layercam => "LayerCAM",
    }
}

/// File stems, one per chosen picture: the file's own, with its folder's name before it where two would be the same.
fn stems(data: &Dataset, chosen: &[usize]) -> Vec<String> {
    let name = |p: Option<&std::ffi::OsStr>| p.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: Vec<String> = chosen.iter().map(|&i| name(data.paths[i].file_stem())).collect();
    let count = |all: &[String]| {
        all.iter().fold(HashMap::new(), |mut m: HashMap<String, usize>, s| {
            *m.entry(s.clone()).or_default() += 1;
            m
        })
    };
    let counts = count(&plain);
    let with_folder: Vec<String> = chosen
        .iter()
        .zip(plain)
        .map(|(&i, stem)| match counts[&stem] {
            1 => stem,
            _ => format!("{}_{stem}", name(data.paths[i].parent().and_then(Path::file_name))),
        })
        .collect();
    let counts = count(&with_folder);
    (with_folder.iter().zip(chosen))
        .map(|(stem, i)| if counts[stem] == 1 { stem.clone() } else { format!("{stem}_{i}") })
        .collect()
}

/// Explains the chosen pictures and writes a panel for each, the arrays if asked for, and gallery.html.
pub fn draw(request: &Request, choice: &Choice) -> Result<Vec<Drawn>> {
    let Request { weights, data, chosen, .. } = *request;
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let mode = Mode::Explain(Explain { target: request.target, technique: request.technique, check: request.check });
    // As equal as they come: a whole batch is played in any case.
    let batch = chosen.len().div_ceil(chosen.len().div_ceil(BATCH));
    let (mut engine, batch) = evaluation::engine(weights, choice, data, batch, mode)?;
    let pass = engine.pass(0);
    let stems = stems(data, chosen);
    let bar = progress::bar(chosen.len(), "explain");
    let (mut drawn, mut waiting) = (Vec::new(), Vec::new());
    explain(&mut engine, &pass, batch, chosen, |explanation| {
        waiting.push(explanation);
        // Drawing and compressing a panel takes longer than its maps: a batch of them goes on all cores.
        if waiting.len() == batch || drawn.len() + waiting.len() == chosen.len() {
            let stems = &stems[drawn.len()..];
            let panels = std::mem::take(&mut waiting).into_par_iter().zip(stems).map(|(explanation, stem)| {
                let panel = write_one(request, stem, explanation)?;
                bar.inc(1);
                Ok(panel)
            });
            drawn.extend(panels.collect::<Result<Vec<Drawn>>>()?);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let entries: Vec<Entry> = drawn.iter().map(|d| d.entry.clone()).collect();
    let introduction = format!(
        "{} of {}. Bright is where the evidence for it lies; each map is scaled by its own maximum.",
        technique_name(request.technique),
        target_name(request.target, &weights.card.classes)
    );
    gallery::write(&request.folder.join("gallery.html"), "Where the network looks", &introduction, &entries)?;
    Ok(drawn)
}

fn target_name(target: Target, classes: &[String]) -> String {
    match target {
        Target::Predicted => "the predicted class".into(),
        Target::Logit => "the logit".into(),
        Target::Output => "the output probability, as in the notebook".into(),
        Target::Class(c) => format!("the class {}", classes[c]),
    }
}

/// The class that a picture's maps speak for.
fn explained_class(request: &Request, picture: usize) -> usize {
    match request.target {
        Target::Class(c) => c,
        // With one sigmoid, the logit and the output are the second class's.
        Target::Logit | Target::Output if request.outputs.width == 1 => 1,
        _ => request.outputs.class(picture),
    }
}

fn write_one(request: &Request, stem: &str, explanation: Explanation) -> Result<Drawn> {
    let Request { weights, data, outputs, .. } = *request;
    let i = explanation.picture;
    let classes = &weights.card.classes;
    let predicted = outputs.class(i);
    let mut verdict = format!("Predicted: {} ({:.2})", classes[predicted], outputs.probability(i, predicted));
    let mut wrong = false;
    if request.labelled {
        let actual = data.labels[i] as usize;
        verdict.push_str(&format!(", Actual: {}", classes[actual]));
        wrong = actual != predicted;
    }
    let technique = technique_name(request.technique);
    let class = &classes[explained_class(request, i)];
    let tiles = explanation.layers.iter().map(|l| Tile {
        caption: format!("{technique}\nLayer: {}", l.layer),
        map: l.map.clone(),
        note: l.no_evidence().then(|| no_evidence(class)),
    });
    let outline = request.boxes.get(&data.paths[i]).map(|b| Outline { x: b.x, y: b.y, width: b.width, height: b.height });
    let panel = Panel {
        picture: Picture { width: data.width as u32, height: data.height as u32, rgb: &data.image(i) },
        title: vec!["Original".into(), verdict.clone()],
        wrong,
        outline,
        // The notebook's imshow stretches every map to its own range; otherwise the scale is fixed.
        scale: if request.target == Target::Output { Scale::Stretch } else { Scale::Unit },
        tiles: tiles.collect(),
    };
    let file = format!("{stem}.png");
    save_png(&request.folder.join(&file), &panel.render()?)?;
    if request.npy {
        for l in &explanation.layers {
            write_npy(request.folder, stem, l, [data.height, data.width])?;
        }
    }
    let entry = Entry { file, caption: format!("{}: {verdict}", data.paths[i].display()), wrong };
    Ok(Drawn { entry, explanation })
}

fn write_npy(folder: &Path, stem: &str, map: &LayerMap, size: [usize; 2]) -> Result<()> {
    use npyz::WriterBuilder;
    for (suffix, values, [h, w]) in [("", &map.map, size), ("_raw", &map.raw, map.size)] {
        let path = folder.join(format!("{stem}_{}{suffix}.npy", map.layer));
        let mut bytes = Vec::new();
        let encode = |bytes: &mut Vec<u8>| -> std::io::Result<()> {
            let mut writer = npyz::WriteOptions::new().default_dtype().shape(&[h as u64, w as u64]).writer(bytes).begin_nd()?;
            writer.extend(values.iter().copied())?;
            writer.finish()
        };
        encode(&mut bytes).with_context(|| format!("cannot encode {}", path.display()))?;
        write_whole(&path, &bytes)?;
    }
    Ok(())
}
