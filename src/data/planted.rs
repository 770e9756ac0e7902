//! Made pictures with a known artefact: data for `demo`, and ground truth for judging explanations.
//!
//! Every picture is a scene of a sky, a ground, soft shapes and sometimes a car, under mild noise. A "fake" one also has a
//! checkerboard patch like the traces of up-sampling layers (Odena et al., "Deconvolution and Checkerboard Artifacts",
//! Distill 2016), whose place goes into `planted.csv`. Nothing else differs between the classes, so an explanation is right
//! when it points into the box. Only + - * / and comparisons are used: the same bytes on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::scene;

/// The file in the generated folder that lists every picture and its box.
pub const BOXES: &str = "planted.csv";
/// Class names, in Keras's order.
pub const CLASSES: [&str; 2] = ["fake", "real"];
/// The smallest picture that leaves the artefact room to move.
const MIN_SIZE: u32 = 48;

/// What [`generate`] makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Planted {
    /// Rows and columns of each picture, at least 48.
    pub size: u32,
    /// Training pictures of both classes together.
    pub train: u32,
    /// Test pictures of both classes together.
    pub test: u32,
    /// Same seed, same bytes.
    pub seed: u32,
}

impl Default for Planted {
    fn default() -> Self {
        Planted { size: 128, train: 480, test: 160, seed: 0 }
    }
}

/// Where an artefact lies, in pixels from the top left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlantedBox {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// One made picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlantedPicture {
    /// The file, under the folder given to [`generate`] or beside the list given to [`read_boxes`].
    pub path: PathBuf,
    /// "fake" or "real".
    pub class: String,
    /// The artefact; none in real pictures.
    pub artefact: Option<PlantedBox>,
}

/// A made data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlantedSet {
    /// The folder with the training classes.
    pub train: PathBuf,
    /// The folder with the test classes.
    pub test: PathBuf,
    /// The list of pictures and boxes, [`BOXES`].
    pub boxes: PathBuf,
    /// Every picture, training ones first.
    pub pictures: Vec<PlantedPicture>,
}

/// One line of `planted.csv`; the path is relative to the file, with forward slashes.
#[derive(Serialize, Deserialize)]
struct Row {
    path: String,
    class: String,
    x: Option<u32>,
    y: Option<u32>,
    width: Option<u32>,
    height: Option<u32>,
}

/// Make `dir/{train,test}/{fake,real}/NNNN.png` and `dir/planted.csv`, on all cores.
///
/// Classes alternate, so they differ by one picture at most.
///
/// # Errors
/// When the settings leave a class empty or the pictures too small, when `dir` exists and is not empty (stale pictures
/// would join the new ones), or when a file cannot be written.
pub fn generate(dir: &Path, settings: &Planted) -> Result<PlantedSet> {
    let Planted { size, train, test, seed } = *settings;
    let here = dir.display();
    ensure!((MIN_SIZE..=4096).contains(&size), "made pictures must be {MIN_SIZE} to 4096 pixels wide, not {size}");
    ensure!(train >= 2 && test >= 2, "each part needs 2 pictures, one per class; asked for {train} and {test}");
    let total = train.checked_add(test).context("that many pictures cannot be counted")?;
    if dir.exists() {
        let mut inside = fs::read_dir(dir).with_context(|| format!("{here} cannot be read"))?;
        ensure!(inside.next().is_none(), "{here} is not empty; name a new folder, or delete that one first");
    }
    for part in ["train", "test"] {
        for class in CLASSES {
            let folder = dir.join(part).join(class);
            fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
    }

    let make = |index: u32| {
        let (part, within) = if index < train { ("train", index) } else { ("test", index - train) };
        let class = CLASSES[(within % 2) as usize];
        let path = dir.join(part).join(class).join(format!("{:04}.png", within / 2));
        let (pixels, artefact) = scene::picture(size, seed, index, class == "fake");
        let image = RgbImage::from_raw(size, size, pixels).context("a made picture has the wrong length")?;
        image.save(&path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(PlantedPicture { path, class: class.to_owned(), artefact })
    };
    let pictures = (0..total).into_par_iter().map(make).collect::<Result<Vec<_>>>()?;
    let boxes = dir.join(BOXES);
    write_boxes(&boxes, dir, &pictures).with_context(|| format!("{} cannot be written", boxes.display()))?;
    Ok(PlantedSet { train: dir.join("train"), test: dir.join("test"), boxes, pictures })
}

fn write_boxes(file: &Path, dir: &Path, pictures: &[PlantedPicture]) -> Result<()> {
    let mut rows = csv::Writer::from_path(file)?;
    for PlantedPicture { path, class, artefact } in pictures {
        let parts: Vec<_> = path.strip_prefix(dir)?.iter().map(|part| part.to_string_lossy()).collect();
        rows.serialize(Row {
            path: parts.join("/"),
            class: class.clone(),
            x: artefact.map(|a| a.x),
            y: artefact.map(|a| a.y),
            width: artefact.map(|a| a.width),
            height: artefact.map(|a| a.height),
        })?;
    }
    Ok(rows.flush()?)
}

/// Read a list that [`generate`] wrote: `path,class,x,y,width,height`, the box empty for pictures without an artefact.
/// Paths come back joined to the list's folder.
///
/// # Errors
/// When the file cannot be read, a column is missing, a number is none, or a box is given in part.
pub fn read_boxes(file: &Path) -> Result<Vec<PlantedPicture>> {
    let here = file.display();
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut rows = csv::Reader::from_path(file).with_context(|| format!("the list of boxes {here} cannot be read"))?;
    let picture = |(index, row): (usize, csv::Result<Row>)| {
        // The header is line 1.
        let line = index + 2;
        let row = row.with_context(|| format!("{here}, line {line}"))?;
        let artefact = match (row.x, row.y, row.width, row.height) {
            (Some(x), Some(y), Some(width), Some(height)) => Some(PlantedBox { x, y, width, height }),
            (None, None, None, None) => None,
            _ => anyhow::bail!("{here}, line {line}: a box needs x, y, width and height, or none of them"),
        };
        let path = row.path.split('/').fold(folder.to_owned(), |path, part| path.join(part));
        Ok(PlantedPicture { path, class: row.class, artefact })
    };
    rows.deserialize().enumerate().map(picture).collect()
}

#[cfg(test)]
#[path = "planted_tests.rs"]
mod tests;
