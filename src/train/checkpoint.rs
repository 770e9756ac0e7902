//! Weights on the disk: safetensors under Keras's names and layouts, with what is needed to use them in the metadata.

use super::sealed;
use crate::data::Reader;
use crate::files::read_whole;
use crate::model::{Model, ModelSettings, Param};
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of what a file says about itself: 2 has a checksum, and `last.safetensors` has the state of the training. Both are
/// read.
const FORMAT: u32 = 2;

/// What a weights file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Version of this card.
    pub format: u32,
    /// The network.
    pub model: ModelSettings,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// How pictures are read for it.
    pub reader: Reader,
    /// Epochs done, 0 before training.
    pub epoch: usize,
    /// Validation accuracy of these weights, if they were validated.
    pub val_accuracy: Option<f64>,
}

impl Card {
    /// A card of the current format.
    pub fn new(model: &Model, classes: &[String], reader: &Reader) -> Self {
        Self {
            format: FORMAT,
            model: model.settings.clone(),
            classes: classes.to_vec(),
            reader: reader.clone(),
            epoch: 0,
            val_accuracy: None,
        }
    }
}

/// Weights with their network.
#[derive(Clone, Debug)]
pub struct Weights {
    /// What they are for.
    pub card: Card,
    /// The network.
    pub model: Model,
    /// Parameter values in Keras's order, one per [`Model::params`].
    pub values: Vec<Vec<f32>>,
}

impl Weights {
    /// Freshly initialised: Glorot uniform from the seed, zero biases.
    pub fn initial(model: &Model, card: Card, seed: u32) -> Self {
        let values = model.params().iter().enumerate().map(|(i, p)| p.initial(seed, i)).collect();
        Self { card, model: model.clone(), values }
    }
}

/// Writes weights whole.
pub fn save(path: &Path, weights: &Weights) -> Result<()> {
    let card = serde_json::to_string(&weights.card).context("the checkpoint's metadata")?;
    sealed::write(path, &card, views(&weights.model.params(), &weights.values, "")?)
}

/// The values as tensors called by their parameters' names and a suffix.
pub(super) fn views<'a>(params: &[Param], values: &'a [Vec<f32>], suffix: &str) -> Result<Vec<(String, TensorView<'a>)>> {
    let view = |(p, values): (&Param, &'a Vec<f32>)| {
        let name = format!("{}{suffix}", p.name);
        let view = TensorView::new(Dtype::F32, p.shape.clone(), bytemuck::cast_slice(values));
        view.with_context(|| format!("{name} does not fit its shape")).map(|view| (name, view))
    };
    params.iter().zip(values).map(view).collect()
}

/// Largest file of weights: a training's state of 2^32 parameters.
pub(super) const MAX_BYTES: u64 = 48 << 30;

/// Reads weights. A file without our metadata needs the network and its class names from the caller, who may also give them
/// for a file that has it: then they must agree.
///
/// # Errors
/// Names the file and the tensor that is missing, of another shape or of another type, and what to do.
pub fn load(path: &Path, given: Option<(&ModelSettings, &[String])>) -> Result<Weights> {
    let bytes = read_whole(path, MAX_BYTES).with_context(|| format!("cannot read the weights {}", path.display()))?;
    parse(path, &bytes, given).map_err(|error| match whole_neighbour(path) {
        Some(other) => error.context(format!("{other} is whole, but")),
        None => error,
    })
}

/// The other weights of the run folder, for the user whose file is damaged.
fn whole_neighbour(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let other = match name {
        "best.safetensors" => path.with_file_name("last.safetensors"),
        "last.safetensors" => path.with_file_name("best.safetensors"),
        _ => return None,
    };
    let found = parse(&other, &read_whole(&other, MAX_BYTES).ok()?, None).ok()?;
    Some(format!("{} (epoch {})", other.display(), found.card.epoch))
}

fn parse(path: &Path, bytes: &[u8], given: Option<(&ModelSettings, &[String])>) -> Result<Weights> {
    let shown = path.display();
    let (tensors, stated) = sealed::open(bytes, &shown.to_string())?;
    let card = match stated {
        Some(text) => Some(read_card(&text).with_context(|| format!("{shown} has metadata that wgradcam cannot use"))?),
        None => None,
    };
    let card = match (card, given) {
        (Some(card), Some((settings, classes))) => {
            ensure!(
                card.model == *settings && card.classes == classes,
                "{shown} states its own network and classes, and they are not those given: leave out --size, --filters, \
                 --kernel-size, --padding, --dense, --head and --classes"
            );
            card
        }
        (Some(card), None) => card,
        (None, Some((settings, classes))) => {
            let mut names: Vec<&String> = classes.iter().collect();
            names.sort_unstable();
            ensure!(names.windows(2).all(|w| w[0] != w[1]), "--classes names a class twice: {}", classes.join(", "));
            let reader = Reader { height: settings.size[0], width: settings.size[1], ..Reader::default() };
            Card::new(&Model::new(settings, classes.len())?, classes, &reader)
        }
        (None, None) => bail!(
            "{shown} carries no wgradcam metadata: say which network it is for, for example --size 80x96 --filters 8,24,40 \
             --dense 50 --classes a,b,c,d"
        ),
    };
    let model = Model::new(&card.model, card.classes.len()).with_context(|| format!("the network of {shown}"))?;
    let values = values(&tensors, &model.params(), "").with_context(|| shown.to_string())?;
    for (p, values) in model.params().iter().zip(&values) {
        ensure!(values.iter().all(|v| v.is_finite()), "{shown}: {} holds NaN or infinity", p.name);
    }
    Ok(Weights { card, model, values })
}

/// The tensors called by the parameters' names and a suffix.
pub(super) fn values(tensors: &SafeTensors, params: &[Param], suffix: &str) -> Result<Vec<Vec<f32>>> {
    let mut values = Vec::new();
    for p in params {
        let name = format!("{}{suffix}", p.name);
        let Ok(tensor) = tensors.tensor(&name) else {
            bail!("no tensor {name} for this network; it has: {}", tensors.names().join(", "))
        };
        ensure!(
            tensor.shape() == p.shape,
            "{name} has the shape {:?} and this network needs {:?}; is it of another size, --filters or --dense?",
            tensor.shape(),
            p.shape
        );
        ensure!(
            tensor.dtype() == Dtype::F32,
            "{name} is stored as {:?}; wgradcam reads F32, so convert it first",
            tensor.dtype()
        );
        let floats: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        values.push(floats);
    }
    Ok(values)
}

fn read_card(text: &str) -> Result<Card> {
    let mut card: Card = serde_json::from_str(text)?;
    ensure!(
        (1..=FORMAT).contains(&card.format),
        "its format is {}, and this wgradcam reads 1 to {FORMAT}: take a newer one",
        card.format
    );
    card.format = FORMAT;
    ensure!(card.classes.len() < 65_536, "it names {} classes", card.classes.len());
    [card.reader.height, card.reader.width] = card.model.size;
    // A file from elsewhere must not lift the limit on decoding.
    card.reader.max_pixels = card.reader.max_pixels.min(Reader::default().max_pixels);
    Ok(card)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights() -> Weights {
        let settings = ModelSettings { size: [12, 10], filters: vec![5], dense: vec![6], ..ModelSettings::default() };
        let model = Model::new(&settings, 2).unwrap();
        let reader = Reader { height: 12, width: 10, ..Reader::default() };
        let card = Card::new(&model, &["fake".into(), "real".into()], &reader);
        Weights::initial(&model, card, 3)
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_bytes_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        save(&a, &weights()).unwrap();
        save(&b, &weights()).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let read = load(&a, None).unwrap();
        assert_eq!(read.values, weights().values);
        assert_eq!(read.card, weights().card);
    }

    #[test]
    fn any_changed_byte_is_noticed_and_the_whole_neighbour_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let [best, last] = ["best.safetensors", "last.safetensors"].map(|name| dir.path().join(name));
        save(&best, &weights()).unwrap();
        save(&last, &weights()).unwrap();
        let whole = std::fs::read(&best).unwrap();
        for (i, bit) in (0..whole.len()).zip([0x01, 0x80, 0x20, 0x04].into_iter().cycle()) {
            let mut damaged = whole.clone();
            damaged[i] ^= bit;
            assert!(parse(&best, &damaged, None).is_err(), "byte {i}");
        }
        std::fs::write(&best, &whole[..whole.len() - 1]).unwrap();
        let error = format!("{:#}", load(&best, None).unwrap_err());
        assert!(error.contains("last.safetensors (epoch 0) is whole") && error.contains("best.safetensors is"), "{error}");
    }

    #[test]
    fn files_of_the_first_format_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let w = weights();
        let card = serde_json::to_string(&Card { format: 1, ..w.card.clone() }).unwrap();
        let tensors = views(&w.model.params(), &w.values, "").unwrap();
        let metadata = std::collections::HashMap::from([("wgradcam".to_owned(), card)]);
        std::fs::write(&path, safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
        let read = load(&path, None).unwrap();
        assert_eq!((read.values, read.card), (w.values, w.card));
    }

    #[test]
    fn a_cut_file_is_refused_at_every_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        save(&path, &weights()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in (0..bytes.len()).step_by(97) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = format!("{:#}", load(&path, None).unwrap_err());
            assert!(error.contains("w.safetensors"), "{error}");
        }
    }

    #[test]
    fn another_network_is_refused_by_name_and_shape() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let w = weights();
        // Without metadata, as another system writes it.
        let params = w.model.params();
        let views = params
            .iter()
            .zip(&w.values)
            .map(|(p, v)| (p.name.as_str(), TensorView::new(Dtype::F32, p.shape.clone(), bytemuck::cast_slice(v)).unwrap()));
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        assert!(format!("{:#}", load(&path, None).unwrap_err()).contains("--filters"));
        let classes = ["a".to_owned(), "b".to_owned()];
        assert_eq!(load(&path, Some((&w.card.model, &classes))).unwrap().values, w.values);
        let other = ModelSettings { dense: vec![7], ..w.card.model.clone() };
        let error = format!("{:#}", load(&path, Some((&other, &classes))).unwrap_err());
        assert!(error.contains("dense_1/kernel") && error.contains("[100, 6]"), "{error}");
    }
}
