//! The command line: clap structs only.

// The docs here are the help texts, where <class> is a placeholder and no tag.
#![allow(rustdoc::invalid_html_tags)]

use crate::data::{OnBad, Resize};
use crate::kernel::Precision;
use crate::model::{HeadChoice, Padding, Target, Technique};
use crate::player::DeviceChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Train an image classifier, evaluate it, and see where it looks: every bit of the arithmetic in WGSL compute shaders, on any
/// Vulkan, Metal or DX12 GPU, or on the CPU.
#[derive(Debug, Parser)]
#[command(name = "wgradcam", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train on folders of pictures, evaluate the best weights and explain some pictures, all into one run folder
    Train(TrainArgs),
    /// Confusion matrix and classification report of weights on labelled pictures
    Evaluate(EvaluateArgs),
    /// Classify pictures
    Predict(PredictArgs),
    /// Draw where the network looks: a panel per picture with a heatmap per convolution layer
    Gradcam(GradcamArgs),
    /// Make a small set of pictures with a planted artefact, train on it, and see whether the heatmaps find the artefact
    Demo(DemoArgs),
    /// Print the network as Keras's model.summary() does
    Summary(SummaryArgs),
    /// List the adapters of this machine and what matters about each
    Devices(DevicesArgs),
    /// Check every kernel against its CPU twin on an adapter
    Verify(VerifyArgs),
    /// Time every kernel of a real step and say what bounds it
    Profile(ProfileArgs),
    /// Find the fastest technique and constants for each kernel on an adapter, and keep them for later runs
    Tune(TuneArgs),
}

/// `--device`.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// auto, gpu, cpu, or an adapter's name or index from `wgradcam devices`. auto takes a real GPU, else the CPU path, because
    /// a software adapter is slower than it on the same cores, unless `wgradcam tune` has measured otherwise
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// What the factors of the convolutions' and dense layers' products are rounded to: f32, which every device has and whose results
    /// are those that the tests hold to Keras's, or f16, for devices with cooperative matrices (NVIDIA's tensor cores): three digits
    /// instead of seven in the factors of 3x3 convolutions of a multiple of 16 filters and of dense layers 32 wide and more. All else
    /// stays f32: sums, weights, Adam's moments, stored activations and gradients. The default is f32, for a run the precision in its
    /// settings; evaluate, predict and gradcam take f32 whatever the run was trained with
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
}

/// Settings of the network. What is left out comes from --config or is the notebook's.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct ModelArgs {
    /// Input size in pixels, N or HxW [default: 128]
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub size: Option<[usize; 2]>,
    /// Filters of each Conv2D [default: 16,32,64]
    #[arg(long, value_delimiter = ',', value_name = "N,N,..")]
    pub filters: Option<Vec<usize>>,
    /// Side of the square convolution kernels [default: 3]
    #[arg(long, value_name = "N")]
    pub kernel_size: Option<usize>,
    /// Padding of the convolutions [default: valid]
    #[arg(long)]
    pub padding: Option<Padding>,
    /// Units of each hidden Dense layer; --dense "" for none [default: 128]
    #[arg(long, value_parser = parse_units, value_name = "N,N,..")]
    pub dense: Option<Units>,
    /// Dropout rate after each hidden Dense layer [default: 0.5]
    #[arg(long, allow_negative_numbers = true, value_name = "RATE")]
    pub dropout: Option<f64>,
    /// Output layer; auto is one sigmoid for two classes and softmax for more [default: auto]
    #[arg(long)]
    pub head: Option<HeadChoice>,
}

/// How pictures are read.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Pictures")]
pub struct ReaderArgs {
    /// How pictures of another size are resized; nearest is Keras's default [default: nearest]
    #[arg(long)]
    pub resize: Option<Resize>,
    /// Colour behind transparent pixels [default: 255,255,255]
    #[arg(long, value_parser = parse_colour, value_name = "R,G,B")]
    pub background: Option<[u8; 3]>,
    /// Scan and decode as Keras's flow_from_directory does: EXIF orientation ignored, alpha dropped, 16-bit grey clipped, hidden
    /// folders counted as classes, no webp. PNG and BMP then give Keras's own bytes; the JPEG decoder is another one, whose
    /// levels differ by a few
    #[arg(long)]
    pub keras_exact: bool,
    /// Refuse pictures with more pixels than this [default: 178956970, as Pillow]
    #[arg(long, value_name = "N")]
    pub max_pixels: Option<u64>,
}

/// How a folder of pictures is gone through.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// What to do about pictures that cannot be read: fail before anything starts, or skip them with a warning
    #[arg(long, default_value = "fail", value_name = "WHAT")]
    pub on_bad: OnBad,
    /// Decode every picture and keep none. Without it decoded pictures are kept in the user's cache folder (or $WGRADCAM_CACHE; 4 GiB
    /// at most), and a picture whose path, size and time of change are still the same is taken from there in a later run: the
    /// same pixels sooner. For a file system that does not keep those times, or to leave nothing behind
    #[arg(long)]
    pub no_cache: bool,
}

/// The weights to use.
#[derive(Args, Clone, Debug)]
pub struct WeightsArgs {
    /// A .safetensors file, or a run folder (its best.safetensors is taken)
    #[arg(value_name = "WEIGHTS")]
    pub weights: PathBuf,
    /// Class names in label order, for a weights file from elsewhere that does not carry them
    #[arg(long, value_delimiter = ',', value_name = "A,B,..")]
    pub classes: Option<Vec<String>>,
    /// The network, for such a file.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Reading of pictures; the weights file's own settings unless given.
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// `train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// A folder with train/<class>/ and test/<class>/ (and val/<class>/, which then chooses the best epoch), or, with --val-split,
    /// one folder of <class>/. With --resume or --config the folder that those name, unless given
    #[arg(required_unless_present_any = ["resume", "config"])]
    pub data: Option<PathBuf>,
    /// Go on with the run in this folder from its last.safetensors, with the settings in its config.toml, as if it had never
    /// stopped; --epochs is the new total
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = [
            "out", "overwrite", "config", "batch_size", "micro_batch", "seed", "learning_rate", "beta1", "beta2", "epsilon",
            "val_split", "no_shuffle", "save_every", "init", "precision", "ModelArgs", "ReaderArgs",
        ]
    )]
    pub resume: Option<PathBuf>,
    /// Run folder to write [default: the next free runs/train-N]
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write into --out even if it holds an earlier run, whose files are then replaced
    #[arg(long)]
    pub overwrite: bool,
    /// Settings file (TOML); flags override it. Every run folder holds its own as config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Passes over the training pictures [default: 10]
    #[arg(long, short, value_name = "N")]
    pub epochs: Option<usize>,
    /// Pictures per step [default: 64]
    #[arg(long, short, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Play a batch in parts of so many pictures and add up their gradients: the same training, but for rounding, in the memory of
    /// a part [default: the whole batch, or halves of it as often as the device's memory asks for]
    #[arg(long, value_name = "N")]
    pub micro_batch: Option<usize>,
    /// Seed of the initial weights, the order, dropout and the split [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// Adam's step size [default: 0.001]
    #[arg(long, allow_negative_numbers = true, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Adam's beta1 [default: 0.9]
    #[arg(long, allow_negative_numbers = true, value_name = "B")]
    pub beta1: Option<f64>,
    /// Adam's beta2 [default: 0.999]
    #[arg(long, allow_negative_numbers = true, value_name = "B")]
    pub beta2: Option<f64>,
    /// Adam's epsilon, outside the bias correction as in Keras [default: 1e-7]
    #[arg(long, allow_negative_numbers = true, value_name = "E")]
    pub epsilon: Option<f64>,
    /// Keep this share of the training pictures for validation (stratified, by the seed), and the test folder untouched for the
    /// final report [default: 0, which validates on the test folder as the notebook does]
    #[arg(long, allow_negative_numbers = true, value_name = "SHARE")]
    pub val_split: Option<f64>,
    /// Take the pictures in folder order in every epoch
    #[arg(long)]
    pub no_shuffle: bool,
    /// Seconds of training after which last.safetensors is written within an epoch too: what a kill costs at most [default: 300]
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS")]
    pub save_every: Option<f64>,
    /// Start from these weights instead of random ones
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Write steps.csv: epoch, step, loss of that batch
    #[arg(long)]
    pub log_steps: bool,
    /// Test pictures to explain at the end
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub panels: usize,
    /// The network.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The pictures.
    #[command(flatten)]
    pub reader: ReaderArgs,
    /// Going through them.
    #[command(flatten)]
    pub load: LoadArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// The weights.
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// A folder of <class>/ (or one that has such a test/ in it)
    pub data: PathBuf,
    /// Also write report.txt, confusion_matrix.{txt,json,png} and predictions.csv into this folder
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the matrix and all scores as JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Pictures per batch
    #[arg(long, short, default_value_t = 64, value_name = "N")]
    pub batch_size: usize,
    /// Going through them.
    #[command(flatten)]
    pub load: LoadArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `predict`.
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// The weights.
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Pictures, or folders to search for pictures
    #[arg(required = true)]
    pub pictures: Vec<PathBuf>,
    /// Print one JSON object per picture: path, class, probability (of the second class, with one sigmoid) or probabilities,
    /// and logit or logits
    #[arg(long)]
    pub json: bool,
    /// Pictures per batch
    #[arg(long, short, default_value_t = 64, value_name = "N")]
    pub batch_size: usize,
    /// Going through them.
    #[command(flatten)]
    pub load: LoadArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Which pictures to explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    /// All of them.
    #[default]
    All,
    /// Those predicted right.
    Right,
    /// Those predicted wrong.
    Wrong,
}

/// The order of the panels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Most confident prediction first.
    #[default]
    Confident,
    /// Least confident prediction first.
    Unsure,
    /// By path.
    Path,
}

/// `gradcam`.
#[derive(Args, Debug)]
pub struct GradcamArgs {
    /// The weights.
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Pictures, folders of pictures, or one folder of <class>/ whose names then are the true classes
    #[arg(required = true)]
    pub pictures: Vec<PathBuf>,
    /// Folder to write [default: gradcam beside the weights, or the next free gradcam-N]
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What to explain: predicted (the predicted class, by its signed logit), logit (the second class's logit, or the predicted
    /// one's with softmax), output (the probability, as the notebook does: it saturates and can leave no map), class:NAME
    #[arg(long, default_value = "predicted", value_name = "WHAT")]
    pub target: TargetName,
    /// How the map is made
    #[arg(long, default_value = "gradcam")]
    pub technique: Technique,
    /// Only pictures of this true class
    #[arg(long = "true", value_name = "CLASS")]
    pub true_class: Option<String>,
    /// Only pictures predicted as this class
    #[arg(long, value_name = "CLASS")]
    pub predicted: Option<String>,
    /// Only pictures predicted right or wrong
    #[arg(long, default_value = "all", value_name = "VERDICT")]
    pub only: Verdict,
    /// Order of the panels
    #[arg(long, default_value = "confident", value_name = "ORDER")]
    pub sort: Sort,
    /// At most this many pictures; 0 for all
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub limit: usize,
    /// Also write <stem>_<layer>.npy (normalised, resized) and <stem>_<layer>_raw.npy
    #[arg(long)]
    pub npy: bool,
    /// Print, for every picture and layer, how the evidence adds up to the score, and fail if it does not
    #[arg(long)]
    pub check: bool,
    /// Pictures per batch of predictions
    #[arg(long, short, default_value_t = 64, value_name = "N")]
    pub batch_size: usize,
    /// Going through them.
    #[command(flatten)]
    pub load: LoadArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Folder to write
    #[arg(long, short, default_value = "runs/demo", value_name = "DIR")]
    pub out: PathBuf,
    /// Passes over the 480 made training pictures
    #[arg(long, short, default_value_t = 8, value_name = "N")]
    pub epochs: usize,
    /// Seed of the pictures and of the training
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u32,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `summary`.
#[derive(Args, Debug)]
pub struct SummaryArgs {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Number of classes
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub classes: usize,
    /// The network.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `devices`.
#[derive(Args, Debug)]
pub struct DevicesArgs {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Only kernels whose key contains this, such as conv2d or dense.forward
    pub filter: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The adapter: gpu (the best there is), or a name or index from `wgradcam devices`
    #[arg(long, default_value = "gpu", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// Only kernels whose products are of this precision; without it all that the adapter can play
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
    /// Check nothing: write every shader as it is compiled into this folder, a file per kernel
    #[arg(long, value_name = "FOLDER")]
    pub print_shaders: Option<PathBuf>,
}

/// What `profile` plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProfileMode {
    /// Forward, backward, Adam.
    #[default]
    Train,
    /// Forward.
    Evaluate,
    /// Forward, the score's gradient, a Grad-CAM map per convolution layer.
    Explain,
}

/// The order of the profile's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RowOrder {
    /// Longest first.
    #[default]
    Time,
    /// As the step plays them.
    Plan,
}

/// `profile`.
#[derive(Args, Debug)]
pub struct ProfileArgs {
    /// Which step to play, on random pictures
    #[arg(long, default_value = "train", value_name = "MODE")]
    pub mode: ProfileMode,
    /// Pictures per step; 64 is training's default
    #[arg(long, short, default_value_t = 64, value_name = "N")]
    pub batch_size: usize,
    /// Timed steps, of which medians are taken; more are steadier on a busy machine
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub repeat: usize,
    /// Order of the rows
    #[arg(long, default_value = "time", value_name = "ORDER")]
    pub order: RowOrder,
    /// Print everything that was measured as JSON: seconds, flops and bytes
    #[arg(long)]
    pub json: bool,
    /// Also write the steps as trace events, for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Also draw the kernels under the device's roofline
    #[arg(long, value_name = "FILE.png")]
    pub roofline: Option<PathBuf>,
    /// Number of classes
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub classes: usize,
    /// The network.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `tune`.
#[derive(Args, Debug)]
pub struct TuneArgs {
    /// Tune nothing: print what is kept of this adapter
    #[arg(long, conflicts_with = "forget")]
    pub show: bool,
    /// Tune nothing: remove what is kept of this adapter, so that the defaults are used again
    #[arg(long, conflicts_with = "json")]
    pub forget: bool,
    /// Print what is kept as JSON
    #[arg(long)]
    pub json: bool,
    /// Pictures per batch; 64 is training's default. Batches of other sizes take what was measured for the nearest one
    #[arg(long, short, default_value_t = 64, value_name = "N")]
    pub batch_size: usize,
    /// Timed runs of each technique, of which the median is taken; more are steadier on a busy machine
    #[arg(long, default_value_t = 7, value_name = "N")]
    pub repeat: usize,
    /// Number of classes
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub classes: usize,
    /// The network.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The adapter: gpu (the best there is), or a name or index from `wgradcam devices`
    #[arg(long, default_value = "gpu", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// Tune for runs of this --precision: those of f16 take the faster of the techniques of either precision, those of f32 never one of
    /// f16
    #[arg(long, default_value = "f32", value_name = "PRECISION")]
    pub precision: Precision,
}

/// Units of the hidden layers, possibly none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units(pub Vec<usize>);

fn parse_units(text: &str) -> Result<Units, String> {
    let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
    let units: Result<Vec<usize>, _> = parts.map(str::parse).collect();
    units.map(Units).map_err(|_| format!("{text} is no list of numbers such as 128 or 256,64"))
}

fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let number =
        |t: &str| t.trim().parse::<usize>().map_err(|_| format!("{text} is no size such as 128 or 80x96 (height x width)"));
    match text.split_once(['x', 'X']) {
        Some((h, w)) => Ok([number(h)?, number(w)?]),
        None => number(text).map(|n| [n, n]),
    }
}

fn parse_colour(text: &str) -> Result<[u8; 3], String> {
    let parts: Result<Vec<u8>, _> = text.split(',').map(|p| p.trim().parse()).collect();
    let parts = parts.map_err(|_| format!("{text} is no colour such as 255,255,255"))?;
    parts.try_into().map_err(|_| format!("{text} is no colour of three numbers"))
}

/// The value of `--target`; a class is known by name only until the weights are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetName {
    /// A target that needs no class.
    Known(Target),
    /// `class:NAME`.
    Class(String),
}

impl std::str::FromStr for TargetName {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "predicted" => Ok(Self::Known(Target::Predicted)),
            "logit" => Ok(Self::Known(Target::Logit)),
            "output" => Ok(Self::Known(Target::Output)),
            _ => match s.strip_prefix("class:") {
                Some(name) if !name.is_empty() => Ok(Self::Class(name.to_owned())),
                _ => Err(format!("{s} is none of predicted, logit, output, class:NAME")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values() {
        assert_eq!(parse_size("80x96"), Ok([80, 96]));
        assert_eq!(parse_size("64"), Ok([64, 64]));
        assert!(parse_size("64x").is_err());
        assert_eq!(parse_units(""), Ok(Units(vec![])));
        assert_eq!(parse_colour("1,2,3"), Ok([1, 2, 3]));
        assert!("class:".parse::<TargetName>().is_err());
    }
}
