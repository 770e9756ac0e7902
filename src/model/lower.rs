//! Lowers the layer list to plans: the forward list, and the same list reversed.
//!
//! Activations are `layer/y`, their gradients `layer/dy`; a dense layer's `layer/dz` is the gradient before the relu. Convolution, relu and
//! pool are one, and the first layer reads the pictures' bytes where they lie. No convolution's output is kept at full size: Grad-CAM's
//! maps are made by computing it again, and the other techniques' gradients are not 0 only where the pool has the value too.

use super::{Layer, LayerOp, Model, Shape};
use crate::kernel::Dims;
use crate::ops::batch_mean::BatchMeanDims;
use crate::ops::bias_relu_dropout::BiasReluDropoutDims;
use crate::ops::collect::CollectDims;
use crate::ops::conv2d::Conv2dDims;
use crate::ops::dense::DenseDims;
use crate::ops::dense_bias_relu::MOST_OUTPUTS;
use crate::ops::dropout::DropoutDims;
use crate::ops::gather::ChunkDims;
use crate::ops::gradcam::{GradCamDims, WeightsBeforeDims};
use crate::ops::padded;
use crate::ops::pictures::PicturesDims;
use crate::ops::relu::FlatDims;
use crate::ops::resize::ResizeDims;
use crate::ops::score::ScoreDims;
use crate::ops::sigmoid_bce::SigmoidDims;
use crate::ops::sigmoid_bce_mean::{self, SigmoidMeanDims};
use crate::ops::softmax_ce::SoftmaxDims;
use crate::plan::{PlanId, Program};

/// A data set as it lies on the device: bytes in chunks, labels, and the order in which batches take the pictures.
#[derive(Clone, Copy, Debug)]
pub struct PictureSet {
    /// Prefix of its tensors: `train`, `val`, ...
    pub name: &'static str,
    /// Pictures in the set.
    pub pictures: usize,
    /// Pictures per resident chunk; the last chunk may hold fewer.
    pub chunk: usize,
    /// Pictures per table of logits and probabilities, the same for all sets of a program.
    pub table: usize,
}

impl PictureSet {
    /// The chunks as (first picture, number of pictures).
    pub fn chunks(&self) -> impl Iterator<Item = (usize, usize)> {
        parts(self.pictures, self.chunk)
    }

    /// Pictures of a size that a binding of so many bytes holds, a word to a pixel, whose number of 32 bits a shader counts in.
    pub fn chunk_of(bytes: u64, [h, w]: [usize; 2]) -> usize {
        usize::try_from(bytes.min(4 << 32) / (4 * h as u64 * w as u64)).unwrap_or(usize::MAX)
    }

    /// The tables of logits and probabilities, likewise.
    pub fn tables(&self) -> impl Iterator<Item = (usize, usize)> {
        parts(self.pictures, self.table)
    }
}

/// `n` things in parts of `size`: (first, number).
fn parts(n: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(size).map(move |first| (first, size.min(n - first)))
}

/// What Grad-CAM explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The class that was predicted (a sigmoid's logit with the sign of its side).
    Predicted,
    /// The logit itself: of the second class (sigmoid) or of the predicted one (softmax).
    Logit,
    /// The output probability, as the notebook does; it saturates.
    Output,
    /// This class.
    Class(usize),
}

/// How the map is made of activations and gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Technique {
    /// Channel means of the gradient weigh the activations (Selvaraju et al. 2017).
    Gradcam,
    /// Gradient times activation, summed over channels (Draelos and Carin 2020).
    Hirescam,
    /// Positive gradient times activation, summed over channels (Jiang et al. 2021).
    Layercam,
}

/// Settings of an explaining plan.
#[derive(Clone, Copy, Debug)]
pub struct Explain {
    /// The score.
    pub target: Target,
    /// The kind of map.
    pub technique: Technique,
    /// Whether the gradient behind every layer's pool can be read afterwards, for [`crate::explain::Completeness`]; the maps are the same.
    pub check: bool,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Forward, backward, Adam; the parameters' gradients are nowhere stored.
    Train,
    /// The same for a batch that is played in parts of at most so many pictures, whose gradients are added up before Adam: the
    /// mathematics of the whole batch in the memory of a part. A part may be the whole batch: then every gradient can be read.
    TrainInParts(usize),
    /// Forward; losses, hits, logits and probabilities.
    Evaluate,
    /// Forward, the score's gradient, a map per convolution layer.
    Explain(Explain),
}

/// Steps whose loss and hits the device keeps before the host reads them.
pub(crate) const METRIC_SLOTS: usize = 1024;

/// Writes one plan for batches of `batch` pictures of `set` into the program.
pub fn lower(program: &mut Program, model: &Model, set: &PictureSet, batch: usize, mode: Mode) -> PlanId {
    let verb = match mode {
        Mode::Train | Mode::TrainInParts(_) => "train",
        Mode::Evaluate => "evaluate",
        Mode::Explain(_) => "explain",
    };
    let id = program.begin(format!("{verb} {} x{batch}", set.name), batch);
    let part = match mode {
        Mode::TrainInParts(part) => part,
        _ => batch,
    };
    for first in (0..batch).step_by(part) {
        let here = part.min(batch - first);
        let mut lowering = Lowering { program, model, set, batch: here, first, whole: batch, mode };
        for i in 0..model.layers.len() {
            lowering.forward(i);
        }
        lowering.head();
        let last = first + here == batch;
        if last {
            lowering.metrics();
        }
        match mode {
            Mode::Train | Mode::TrainInParts(_) => {
                for i in (0..model.layers.len()).rev() {
                    lowering.backward(i);
                }
                lowering.accumulate();
            }
            Mode::Evaluate => lowering.collect(),
            Mode::Explain(explain) => {
                lowering.collect();
                lowering.score(explain);
                for i in (0..model.layers.len()).rev() {
                    lowering.backward(i);
                }
                for (i, _) in model.layers.iter().enumerate().filter(|(_, l)| matches!(l.op, LayerOp::Conv2d { .. })) {
                    lowering.map(i, explain);
                }
            }
        }
        if last && lowering.training() && !lowering.updates_at_once() {
            lowering.adam();
        }
    }
    id
}

struct Lowering<'a> {
    program: &'a mut Program,
    model: &'a Model,
    set: &'a PictureSet,
    /// Pictures in this part of the batch, which is all of it but in [`Mode::TrainInParts`].
    batch: usize,
    /// The part's first picture in the batch.
    first: usize,
    /// Pictures in the batch.
    whole: usize,
    mode: Mode,
}

impl Lowering<'_> {
    fn training(&self) -> bool {
        matches!(self.mode, Mode::Train | Mode::TrainInParts(_))
    }

    /// Where the part's gradient of a parameter goes: the first part's is the sum so far, a later one's is added to it.
    fn gradient_of(&self, layer: &str, kind: &str) -> String {
        format!("{layer}/{}{kind}", if self.first == 0 { "d" } else { "dpart_" })
    }

    fn accumulate(&mut self) {
        if self.first == 0 {
            return;
        }
        for p in self.model.params() {
            let (layer, kind) = p.name.split_once('/').unwrap_or((&p.name, ""));
            let dims = FlatDims { len: p.padded_len() as u32 }.words();
            let tensors = [&*self.gradient_of(layer, kind), &format!("{layer}/d{kind}")];
            self.program.dispatch(layer, "accumulate.add", dims, &tensors);
        }
    }

    /// Whether no parameter's gradient is stored, because Adam takes each as it is made: no other part of the batch adds to it.
    fn updates_at_once(&self) -> bool {
        matches!(self.mode, Mode::Train)
    }

    /// Name of the activation that layer `i` reads. The first layer has none: it reads pictures.
    fn input(&self, i: usize) -> String {
        match i {
            0 => "pictures".into(),
            _ => self.output(i - 1),
        }
    }

    /// Name of the activation that layer `i` gives; flatten, and dropout outside training, pass theirs on.
    fn output(&self, i: usize) -> String {
        match self.model.layers[i].op {
            LayerOp::Flatten => self.input(i),
            LayerOp::Dropout { .. } if !self.training() => self.input(i),
            _ => format!("{}/y", self.model.layers[i].name),
        }
    }

    fn conv_dims(&self, layer: &Layer) -> Conv2dDims {
        let (LayerOp::Conv2d { kernel, same }, Shape::Image([h, w, ci]), Shape::Image([_, _, co])) =
            (&layer.op, layer.input, layer.output)
        else {
            panic!("{} is no convolution", layer.name)
        };
        Conv2dDims::new(self.batch, [h, w, padded(ci)], padded(co), *kernel, *same, true)
    }

    /// Of the convolution and its pool in one.
    fn fused_dims(&self, layer: &Layer) -> Conv2dDims {
        self.conv_dims(layer).spread(self.program.spread)
    }

    fn dense_dims(&self, i: usize, relu: bool) -> DenseDims {
        // Behind flatten the padding of the channels lies inside the row.
        let width = |shape: Shape| match shape {
            Shape::Image([h, w, c]) => h * w * padded(c),
            Shape::Flat(n) => padded(n),
        };
        let before = self.model.layers[..i].iter().rev().find(|l| l.op != LayerOp::Flatten);
        let layer = &self.model.layers[i];
        let from = before.map_or(layer.input, |l| l.output);
        DenseDims::spread(self.batch, width(from), width(layer.output), relu, self.program.spread)
    }

    fn dropout_dims(&self, i: usize, rate: f64) -> DropoutDims {
        let Shape::Flat(n) = self.model.layers[i].output else { panic!("dropout stands behind dense layers only") };
        let number = self.model.layers[..i].iter().filter(|l| matches!(l.op, LayerOp::Dropout { .. })).count();
        DropoutDims::new(self.batch * padded(n), number as u32, rate, self.first * padded(n))
    }

    /// The sizes of dense layer `i`'s bias, relu and the dropout behind them where one dispatch plays them, in a step that stores no
    /// more than it needs.
    fn dropped_at_once(&self, i: usize) -> Option<BiasReluDropoutDims> {
        match (self.mode, &self.model.layers[i].op, self.model.layers.get(i + 1).map(|l| &l.op)) {
            (Mode::Train, LayerOp::Dense { relu: true }, Some(&LayerOp::Dropout { rate })) => {
                Some(BiasReluDropoutDims::new(&self.dense_dims(i, true), &self.dropout_dims(i + 1, rate)))
            }
            _ => None,
        }
    }

    fn set_tensor(&self, what: &str) -> String {
        format!("{}/{what}", self.set.name)
    }

    /// The set's chunks: their tensors, and where the batch's pictures lie in them.
    fn chunks(&self) -> Vec<(String, ChunkDims)> {
        let place = |(k, (first, len)): (usize, (usize, usize))| {
            let [pictures, offset] = [self.set.pictures, self.first].map(|n| n as u32);
            let dims = ChunkDims { pictures, offset, chunk_first: first as u32, chunk_len: len as u32 };
            (self.set_tensor(&format!("images.{k}")), dims)
        };
        self.set.chunks().enumerate().map(place).collect()
    }

    fn forward(&mut self, i: usize) {
        let layer = &self.model.layers[i];
        let name = layer.name.as_str();
        let [kernel, bias] = ["kernel", "bias"].map(|p| format!("{name}/{p}"));
        let (x, y) = (self.input(i), self.output(i));
        match layer.op {
            LayerOp::Conv2d { .. } => {
                let dims = self.fused_dims(layer);
                let conv = if matches!(self.mode, Mode::Evaluate) { dims.without_gradient() } else { dims };
                let pool = self.model.layers[i + 1].name.as_str();
                let [y, argmax] = ["y", "argmax"].map(|t| format!("{pool}/{t}"));
                if i == 0 {
                    for (images, chunk) in self.chunks() {
                        let tensors = [&*images, &kernel, &bias, &self.set_tensor("order"), &y, &argmax];
                        let dims = PicturesDims { conv, chunk }.words();
                        self.program.dispatch(name, "conv2d_relu_maxpool2x2.forward_pictures", dims, &tensors);
                    }
                } else {
                    let tensors = [&*x, &kernel, &bias, &y, &argmax];
                    self.program.dispatch(name, "conv2d_relu_maxpool2x2.forward", conv.words(), &tensors);
                }
            }
            // Its convolution pools.
            LayerOp::MaxPool2x2 => {}
            LayerOp::Flatten => {}
            LayerOp::Dense { relu } => {
                let d = self.dense_dims(i, relu);
                let dims = d.words();
                // Of few outputs a workgroup makes all at once, and with one partial sum there is nothing to add up.
                if d.splits == 1 && d.out_n <= MOST_OUTPUTS && self.dropped_at_once(i).is_none() {
                    self.program.dispatch(name, "dense_bias_relu.forward", dims, &[&x, &kernel, &bias, &y]);
                    return;
                }
                let partial = format!("{name}/partial");
                self.program.dispatch(name, "dense.forward", dims.clone(), &[&x, &kernel, &partial]);
                if let Some(dims) = self.dropped_at_once(i) {
                    let tensors = [&*partial, &bias, &self.output(i + 1)];
                    self.program.dispatch(name, "bias_relu_dropout.forward", dims.words(), &tensors);
                } else {
                    self.program.dispatch(name, "dense.reduce", dims, &[&partial, &bias, &y]);
                }
            }
            LayerOp::Dropout { .. } if self.dropped_at_once(i - 1).is_some() => {}
            LayerOp::Dropout { rate } => {
                if self.training() {
                    let dims = self.dropout_dims(i, rate).words();
                    self.program.dispatch(name, "dropout.forward", dims, &[&x, &y]);
                }
            }
        }
    }

    /// Whether the head makes the batch's mean loss and hits as well, and stores none of a picture.
    fn mean_at_once(&self) -> bool {
        let whole = matches!(self.mode, Mode::Train | Mode::Evaluate);
        whole && self.model.outputs == 1 && self.batch <= sigmoid_bce_mean::MOST_PICTURES
    }

    /// Loss, probabilities, hits and the loss's gradient at the logits.
    fn head(&mut self) {
        let (batch, pictures) = (self.batch as u32, self.set.pictures as u32);
        let (offset, whole) = (self.first as u32, self.whole as u32);
        let stride = padded(self.model.outputs) as u32;
        let (order, labels) = (self.set_tensor("order"), self.set_tensor("labels"));
        let tensors = ["output/y", &order, &labels, "probs", "loss", "correct", "output/dy"];
        if self.mean_at_once() {
            let dims = SigmoidMeanDims { batch, stride, pictures, images: pictures, slots: METRIC_SLOTS as u32 };
            let tensors = ["output/y", &order, &labels, "probs", "output/dy", "metrics"];
            self.program.dispatch("loss", "sigmoid_bce_mean.forward", dims.words(), &tensors);
        } else if self.model.outputs == 1 {
            let dims = SigmoidDims { batch, stride, pictures, images: pictures, offset, whole };
            self.program.dispatch("loss", "sigmoid_bce.forward", dims.words(), &tensors);
        } else {
            let dims =
                SoftmaxDims { batch, classes: self.model.outputs as u32, stride, pictures, images: pictures, offset, whole };
            self.program.dispatch("loss", "softmax_ce.forward", dims.words(), &tensors);
        }
    }

    /// The batch's mean loss and hits, from its pictures'.
    fn metrics(&mut self) {
        if self.mean_at_once() {
            return;
        }
        let dims = BatchMeanDims { batch: self.whole as u32, slots: METRIC_SLOTS as u32 };
        self.program.dispatch("metrics", "batch_mean.forward", dims.words(), &["loss", "correct", "metrics"]);
    }

    fn collect(&mut self) {
        let stride = padded(self.model.outputs) as u32;
        for (k, (first, len)) in self.set.tables().enumerate() {
            let dims = CollectDims { batch: self.batch as u32, stride, table_first: first as u32, table_len: len as u32 };
            let tables = ["all_logits", "all_probs"].map(|name| format!("{name}.{k}"));
            self.program.dispatch("output", "collect.forward", dims.words(), &["output/y", "probs", &tables[0], &tables[1]]);
        }
    }

    fn score(&mut self, explain: Explain) {
        let (target_kind, class_index) = match explain.target {
            Target::Predicted => (0, 0),
            Target::Logit => (1, 0),
            Target::Output => (2, 0),
            Target::Class(c) => (3, c as u32),
        };
        let dims = ScoreDims {
            batch: self.batch as u32,
            classes: self.model.outputs as u32,
            stride: padded(self.model.outputs) as u32,
            target_kind,
            class_index,
        };
        self.program.dispatch("score", "score.backward", dims.words(), &["output/y", "probs", "output/dy"]);
    }

    /// Layer `i`'s gradients, from `layer/dy` to its input's: the parameters' only in training.
    fn backward(&mut self, i: usize) {
        let layer = &self.model.layers[i];
        let name = layer.name.as_str();
        let [dy, dz, kernel, bias] = ["dy", "dz", "kernel", "bias"].map(|t| format!("{name}/{t}"));
        let [dkernel, dbias] = ["kernel", "bias"].map(|kind| self.gradient_of(name, kind));
        let [[m, v], [bm, bv]] = [&kernel, &bias].map(|p| ["m", "v"].map(|t| format!("{p}/{t}")));
        let (x, y) = (self.input(i), self.output(i));
        let dx = gradient(&x);
        match layer.op {
            LayerOp::Flatten => {}
            LayerOp::Dropout { .. } if self.dropped_at_once(i - 1).is_some() => {}
            LayerOp::Dropout { rate } => {
                if self.training() {
                    let dims = self.dropout_dims(i, rate).words();
                    self.program.dispatch(name, "dropout.backward", dims, &[&dy, &dx]);
                }
            }
            LayerOp::Dense { relu } => {
                let d = self.dense_dims(i, relu);
                let at_z = if relu { &dz } else { &dy };
                if let Some(dims) = self.dropped_at_once(i) {
                    let y = self.output(i + 1);
                    self.program.dispatch(name, "bias_relu_dropout.backward", dims.words(), &[&gradient(&y), &y, &dz]);
                } else if relu {
                    let dims = FlatDims { len: d.batch * d.out_n }.words();
                    self.program.dispatch(name, "relu.backward", dims, &[&dy, &y, &dz]);
                }
                // It reads the weights that an update changes.
                self.program.dispatch(name, "dense.backward_input", d.words(), &[at_z, &kernel, &dx]);
                if self.updates_at_once() {
                    let tensors = [&*x, at_z, &kernel, &m, &v, &bias, &bm, &bv];
                    self.program.dispatch(name, "dense.update_weight", d.words(), &tensors);
                } else if self.training() {
                    self.program.dispatch(name, "dense.backward_weight", d.words(), &[&x, at_z, &dkernel, &dbias]);
                }
            }
            LayerOp::MaxPool2x2 => {}
            LayerOp::Conv2d { .. } => {
                let d = self.fused_dims(layer);
                let partial = format!("{name}/dpartial");
                let pool = self.model.layers[i + 1].name.as_str();
                let [dy, argmax] = ["dy", "argmax"].map(|t| format!("{pool}/{t}"));
                let op = "conv2d_relu_maxpool2x2";
                if self.training() && i == 0 {
                    let of_chunk = format!("{name}/dpartial_of_chunk");
                    for (k, (images, chunk)) in self.chunks().into_iter().enumerate() {
                        let sums = if k == 0 { &partial } else { &of_chunk };
                        let tensors = [&*images, &dy, &argmax, &self.set_tensor("order"), sums];
                        let dims = PicturesDims { conv: d, chunk }.words();
                        self.program.dispatch(name, &format!("{op}.backward_weight_pictures"), dims, &tensors);
                        if k > 0 {
                            let dims = FlatDims { len: d.partial_len() as u32 }.words();
                            self.program.dispatch(name, "accumulate.add", dims, &[&of_chunk, &partial]);
                        }
                    }
                } else if self.training() {
                    let tensors = [&*x, &dy, &argmax, &partial];
                    self.program.dispatch(name, &format!("{op}.backward_weight"), d.words(), &tensors);
                }
                // Nobody asks for the pictures' own gradient.
                if i > 0 && !(self.sums_up_for_the_first(i) && matches!(self.mode, Mode::Explain(e) if !e.check)) {
                    let tensors = [&*dy, &argmax, &kernel, &dx];
                    self.program.dispatch(name, &format!("{op}.backward_input"), d.words(), &tensors);
                }
                if self.updates_at_once() {
                    let tensors = [&*partial, &kernel, &m, &v, &bias, &bm, &bv];
                    self.program.dispatch(name, "conv2d.update_weight", d.words(), &tensors);
                } else if self.training() {
                    self.program.dispatch(name, "conv2d.reduce_weight", d.words(), &[&partial, &dkernel, &dbias]);
                }
            }
        }
    }

    fn adam(&mut self) {
        for p in self.model.params() {
            let (layer, kind) = p.name.split_once('/').unwrap_or((&p.name, ""));
            let dims = FlatDims { len: p.padded_len() as u32 }.words();
            let [m, v] = ["m", "v"].map(|t| format!("{}/{t}", p.name));
            self.program.dispatch(layer, "adam.update", dims, &[&format!("{layer}/d{kind}"), &p.name, &m, &v]);
        }
    }

    fn map(&mut self, i: usize, explain: Explain) {
        let (layer, pool) = (&self.model.layers[i], &self.model.layers[i + 1]);
        let (Shape::Image([h, w, c]), Shape::Image([pool_h, pool_w, _])) = (layer.output, pool.output) else {
            panic!("{} gives no image", layer.name)
        };
        let positive = u32::from(explain.technique == Technique::Layercam);
        let [batch, area] = [self.batch, h * w].map(|n| n as u32);
        let sized =
            |[h, w]: [usize; 2]| GradCamDims { batch, h: h as u32, w: w as u32, c: padded(c) as u32, positive, area }.words();
        let (dims, pooled) = (sized([h, w]), sized([pool_h, pool_w]));
        let name = layer.name.as_str();
        let [rows, alpha, raw, row_max, normalised, cam] =
            ["cam_rows", "cam_alpha", "cam_raw", "cam_row_max", "cam_normalised", "cam"].map(|t| format!("{name}/{t}"));
        let [y, dy, argmax] = ["y", "dy", "argmax"].map(|t| format!("{}/{t}", pool.name));
        if explain.technique == Technique::Gradcam {
            match (i + 1..self.model.layers.len()).find(|&behind| i == 0 && self.sums_up_for_the_first(behind)) {
                Some(behind) => self.weights_before(behind, area, &alpha),
                None => {
                    self.program.dispatch(name, "gradcam.row_sum", pooled.clone(), &[&dy, &rows]);
                    self.program.dispatch(name, "gradcam.weights", pooled, &[&rows, &alpha]);
                }
            }
            self.weighted_sum(i, &alpha, &raw);
        } else {
            self.program.dispatch(name, "gradcam.map", dims.clone(), &[&dy, &y, &argmax, &raw]);
        }
        self.program.dispatch(name, "gradcam.row_maximum", dims.clone(), &[&raw, &row_max]);
        self.program.dispatch(name, "gradcam.normalise", dims, &[&raw, &row_max, &normalised]);
        let dims = ResizeDims::new(self.batch, [h, w], self.model.settings.size).words();
        self.program.dispatch(name, "resize.bilinear", dims, &[&normalised, &cam]);
    }

    /// Whether layer `i` is the second convolution and Grad-CAM asks for no more of the gradient of its input than the sums over the
    /// picture, for which its own gradient's sums do: without padding every product of a pixel's gradient lies in the picture.
    fn sums_up_for_the_first(&self, i: usize) -> bool {
        let is_conv = |layer: &&Layer| matches!(layer.op, LayerOp::Conv2d { .. });
        let second = self.model.layers[..=i].iter().filter(is_conv).count() == 2;
        let gradcam = matches!(self.mode, Mode::Explain(Explain { technique: Technique::Gradcam, .. }));
        gradcam && second && matches!(self.model.layers[i].op, LayerOp::Conv2d { same: false, .. })
    }

    /// The weights of the map of the layer before convolution `i`, by the sums of that one's gradient.
    fn weights_before(&mut self, i: usize, area: u32, alpha: &str) {
        let (layer, pool) = (&self.model.layers[i], &self.model.layers[i + 1]);
        let Shape::Image([h, w, _]) = pool.output else { panic!("{} gives no image", pool.name) };
        let d = self.conv_dims(layer);
        let name = layer.name.as_str();
        let [y, dy] = ["y", "dy"].map(|t| format!("{}/{t}", pool.name));
        let [kernel, rows, sums] = ["kernel", "dz_rows", "dz_sums"].map(|t| format!("{name}/{t}"));
        let pooled = GradCamDims { batch: d.batch, h: h as u32, w: w as u32, c: d.out_c, positive: 0, area: 1 }.words();
        self.program.dispatch(name, "gradcam.open_row_sum", pooled.clone(), &[&dy, &y, &rows]);
        self.program.dispatch(name, "gradcam.weights", pooled, &[&rows, &sums]);
        let dims = WeightsBeforeDims { batch: d.batch, taps: d.k_h * d.k_w, in_c: d.in_c, out_c: d.out_c, area };
        self.program.dispatch(name, "gradcam.weights_before", dims.words(), &[&sums, &kernel, alpha]);
    }

    /// Grad-CAM's map of convolution `i`, by its channels' weights.
    fn weighted_sum(&mut self, i: usize, alpha: &str, raw: &str) {
        let layer = &self.model.layers[i];
        let name = layer.name.as_str();
        let conv = self.conv_dims(layer).without_gradient();
        let [kernel, bias] = ["kernel", "bias"].map(|p| format!("{name}/{p}"));
        if i == 0 {
            for (images, chunk) in self.chunks() {
                let tensors = [&*images, &kernel, &bias, &self.set_tensor("order"), alpha, raw];
                self.program.dispatch(name, "conv2d_relu_map.forward_pictures", PicturesDims { conv, chunk }.words(), &tensors);
            }
        } else {
            self.program.dispatch(name, "conv2d_relu_map.forward", conv.words(), &[&self.input(i), &kernel, &bias, alpha, raw]);
        }
    }
}

/// Name of an activation's gradient.
fn gradient(activation: &str) -> String {
    match activation.strip_suffix("/y") {
        Some(layer) => format!("{layer}/dy"),
        None => format!("d{activation}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelSettings, Padding};

    #[test]
    fn parts_are_all_of_it_once_and_the_last_is_what_is_left() {
        assert_eq!(parts(7, 3).collect::<Vec<_>>(), [(0, 3), (3, 3), (6, 1)]);
        assert_eq!(parts(6, 3).collect::<Vec<_>>(), [(0, 3), (3, 3)]);
        assert_eq!(parts(2, 3).collect::<Vec<_>>(), [(0, 2)]);
    }

    #[test]
    fn a_plan_calls_what_its_mode_needs_and_no_more() {
        let settings = ModelSettings { size: [20, 20], filters: vec![3, 4], dense: vec![5], dropout: 0.5, ..Default::default() };
        let model = Model::new(&settings, 2).unwrap();
        let set = PictureSet { name: "some", pictures: 9, chunk: 4, table: 5 };
        let explain = Explain { target: Target::Predicted, technique: Technique::Gradcam, check: false };
        // Means apart from the head, forward passes of dropout by itself and with what is before it, tables filled, gradients of a
        // convolution's input, maps by weights and by the pool's places.
        for (mode, counts) in [
            (Mode::Train, [0, 0, 1, 0, 1, 0, 0]),
            (Mode::TrainInParts(2), [1, 3, 0, 0, 3, 0, 0]),
            (Mode::Evaluate, [0, 0, 0, 2, 0, 0, 0]),
            (Mode::Explain(explain), [1, 0, 0, 2, 0, 1, 0]),
            (Mode::Explain(Explain { check: true, ..explain }), [1, 0, 0, 2, 1, 1, 0]),
            (Mode::Explain(Explain { technique: Technique::Hirescam, ..explain }), [1, 0, 0, 2, 1, 0, 2]),
            (Mode::Explain(Explain { technique: Technique::Layercam, ..explain }), [1, 0, 0, 2, 1, 0, 2]),
        ] {
            let mut program = Program::new();
            let plan = lower(&mut program, &model, &set, 5, mode);
            let dispatches = &program.plans[plan.0].dispatches;
            let calls = |key: &str| dispatches.iter().filter(|d| d.kernel.key == key).count();
            let head = |d: &&crate::plan::Dispatch| d.kernel.key.starts_with("sigmoid_bce");
            let keys = [
                "batch_mean.forward",
                "dropout.forward",
                "bias_relu_dropout.forward",
                "collect.forward",
                "conv2d_relu_maxpool2x2.backward_input",
                "conv2d_relu_map.forward",
                "gradcam.map",
            ];
            assert_eq!(keys.map(calls), counts, "{mode:?}");
            // Both dense layers of every part, but not one with its dropout.
            let whole = match mode {
                Mode::Train => 1,
                Mode::TrainInParts(_) => 6,
                Mode::Evaluate | Mode::Explain(_) => 2,
            };
            assert_eq!(calls("dense_bias_relu.forward"), whole, "{mode:?}");
            // Every part is as large as it says.
            assert_eq!(dispatches.iter().filter(head).map(|d| d.dims[0]).sum::<u32>(), 5, "{mode:?}");
            let parts = if matches!(mode, Mode::TrainInParts(_)) { 3 } else { 1 };
            assert_eq!(dispatches.iter().filter(head).count(), parts, "{mode:?}");
            // Every part is made of every chunk's pictures, and the weights' sums of a part are added up.
            let [forward, weight] =
                ["forward", "backward_weight"].map(|e| calls(&format!("conv2d_relu_maxpool2x2.{e}_pictures")));
            let trains = !matches!(mode, Mode::Evaluate | Mode::Explain(_));
            let chunks = 3 * parts;
            assert_eq!(forward, chunks, "{mode:?}");
            assert_eq!(calls("conv2d_relu_map.forward_pictures"), chunks * counts[5], "{mode:?}");
            // A later part's gradients are added to an earlier one's: two convolutions, two dense layers, kernel and bias.
            let [sums, parts_added] = if trains { [chunks - parts, 8 * (parts - 1)] } else { [0, 0] };
            assert_eq!((weight, calls("accumulate.add")), (if trains { chunks } else { 0 }, sums + parts_added), "{mode:?}");
            // A pool's places are kept where a gradient goes back through it.
            let places: usize = program.tensors.iter().filter(|t| t.name.ends_with("/argmax")).map(|t| t.len).sum();
            assert_eq!(places > 0, !matches!(mode, Mode::Evaluate), "{mode:?}");
        }
    }
    /// Over the picture the gradient of the second convolution's input is its own gradient times the taps, but for what padding takes away.
    #[test]
    fn the_first_layers_weights_need_no_gradient_unless_there_is_padding_behind() {
        for (padding, filters, sums, gradients) in
            [(Padding::Valid, vec![3, 4, 5], 1, 1), (Padding::Same, vec![3, 4, 5], 0, 2), (Padding::Valid, vec![3], 0, 0)]
        {
            let model = Model::new(&ModelSettings { size: [40, 40], filters, padding, ..Default::default() }, 2).unwrap();
            let set = PictureSet { name: "some", pictures: 2, chunk: 2, table: 2 };
            let explain = Explain { target: Target::Predicted, technique: Technique::Gradcam, check: false };
            let mut program = Program::new();
            let plan = lower(&mut program, &model, &set, 2, Mode::Explain(explain));
            let calls = |key: &str| program.plans[plan.0].dispatches.iter().filter(|d| d.kernel.key == key).count();
            let got = [calls("gradcam.weights_before"), calls("conv2d_relu_maxpool2x2.backward_input")];
            assert_eq!(got, [sums, gradients], "{padding:?}");
        }
    }

    #[test]
    fn the_mean_is_the_heads_where_a_workgroup_takes_the_batch() {
        let settings = ModelSettings { size: [8, 8], filters: vec![1], dense: vec![], ..Default::default() };
        let most = sigmoid_bce_mean::MOST_PICTURES;
        for (classes, batch, means) in [(2, 1, 0), (2, most, 0), (2, most + 1, 1), (3, 4, 1)] {
            let model = Model::new(&settings, classes).unwrap();
            let set = PictureSet { name: "some", pictures: batch, chunk: batch, table: batch };
            let mut program = Program::new();
            let plan = lower(&mut program, &model, &set, batch, Mode::Train);
            let dispatches = &program.plans[plan.0].dispatches;
            let got = dispatches.iter().filter(|d| d.kernel.key == "batch_mean.forward").count();
            assert_eq!(got, means, "{classes} classes, {batch} pictures");
            assert_eq!(program.find("loss").is_some(), means == 1);
        }
    }
}
