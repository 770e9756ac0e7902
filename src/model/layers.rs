//! The `Sequential` list of layers with their shapes.

use super::{HeadChoice, ModelSettings, Padding, Param};
use crate::kernel::{MAX_ITERATIONS, passes};
use crate::ops::conv2d::Conv2dDims;
use crate::ops::{conv2d_relu_map, padded};
use anyhow::{Result, bail, ensure};

/// The shape of one picture's activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Height, width, channels.
    Image([usize; 3]),
    /// Units.
    Flat(usize),
}

/// What a layer does.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerOp {
    /// Convolution, stride 1, bias, relu.
    Conv2d {
        /// Kernel height and width.
        kernel: [usize; 2],
        /// Keras's `same` padding.
        same: bool,
    },
    /// 2x2, stride 2, valid.
    MaxPool2x2,
    /// Height x width x channels to units, row-major.
    Flatten,
    /// Fully connected, bias.
    Dense {
        /// Relu after it; the output layer gives logits.
        relu: bool,
    },
    /// Inverted dropout, in training only.
    Dropout {
        /// Share that is dropped.
        rate: f64,
    },
}

/// One layer of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Keras's name, such as `conv2d_1`.
    pub name: String,
    /// What it does.
    pub op: LayerOp,
    /// Shape of its input.
    pub input: Shape,
    /// Shape of its output.
    pub output: Shape,
}

/// The network: layers and head.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What it was made from.
    pub settings: ModelSettings,
    /// Number of classes.
    pub classes: usize,
    /// Logits per picture: 1 with the sigmoid head, else one per class.
    pub outputs: usize,
    /// The layers in order; the last is the Dense layer `output`.
    pub layers: Vec<Layer>,
}

/// Largest input side, layer width and number of layers that are accepted: beyond any use, below any overflow.
const MAX_SIDE: usize = 4096;
const MAX_WIDTH: usize = 65_536;
const MAX_LAYERS: usize = 64;
/// Most classes: the softmax's three loops over them stay inside [`MAX_ITERATIONS`].
const MAX_CLASSES: usize = 16_384;

impl Model {
    /// Builds the layer list. Fails with a message that names the setting when a shape cannot be.
    pub fn new(settings: &ModelSettings, classes: usize) -> Result<Self> {
        let s = settings;
        ensure!(classes >= 2, "a classifier needs at least two classes, not {classes}");
        ensure!(classes <= MAX_CLASSES, "{classes} classes are more than {MAX_CLASSES}");
        ensure!(!s.filters.is_empty(), "filters is empty: Grad-CAM needs at least one convolution layer");
        ensure!(s.filters.len() + s.dense.len() <= MAX_LAYERS, "more than {MAX_LAYERS} layers");
        for (what, values) in [("filters", &s.filters), ("dense", &s.dense)] {
            for &n in values {
                ensure!((1..=MAX_WIDTH).contains(&n), "{what}: {n} is outside 1..={MAX_WIDTH}");
            }
        }
        ensure!(s.size.iter().all(|n| (1..=MAX_SIDE).contains(n)), "size {}x{} is outside 1..={MAX_SIDE}", s.size[0], s.size[1]);
        ensure!((1..=63).contains(&s.kernel_size), "kernel_size {} is outside 1..=63", s.kernel_size);
        ensure!((0.0..1.0).contains(&s.dropout), "dropout {} is outside 0..1 (1 excluded)", s.dropout);
        let outputs = match s.head {
            HeadChoice::Auto if classes == 2 => 1,
            HeadChoice::Sigmoid if classes == 2 => 1,
            HeadChoice::Sigmoid => bail!("--head sigmoid is for two classes, and there are {classes}; use softmax"),
            _ => classes,
        };
        let mut layers: Vec<Layer> = Vec::new();
        let mut shape = Shape::Image([s.size[0], s.size[1], 3]);
        let mut push = |name: String, op: LayerOp, output: Shape| {
            layers.push(Layer { name, op, input: shape, output });
            shape = output;
        };
        let (k, same) = (s.kernel_size, s.padding == Padding::Same);
        let [mut h, mut w] = s.size;
        for (i, &c) in (1..).zip(&s.filters) {
            ensure!(
                same || (h >= k && w >= k),
                "conv2d_{i} gets {h}x{w} pixels, fewer than its {k}x{k} kernel: fewer filters, a larger --size or --padding same"
            );
            if !same {
                (h, w) = (h + 1 - k, w + 1 - k);
            }
            push(format!("conv2d_{i}"), LayerOp::Conv2d { kernel: [k, k], same }, Shape::Image([h, w, c]));
            ensure!(h >= 2 && w >= 2, "max_pooling2d_{i} gets {h}x{w} pixels, fewer than 2x2: fewer filters or a larger --size");
            (h, w) = (h / 2, w / 2);
            push(format!("max_pooling2d_{i}"), LayerOp::MaxPool2x2, Shape::Image([h, w, c]));
        }
        for pair in std::iter::once(&3).chain(&s.filters).collect::<Vec<_>>().windows(2) {
            let [before, here] = [pair[0], pair[1]].map(|n| padded(*n));
            let taps = passes(&[k, k, before.max(here) / 4]);
            let map = conv2d_relu_map::loop_passes(&Conv2dDims::new(1, [k, k, before], here, [k, k], false, true));
            ensure!(
                taps.max(map) <= MAX_ITERATIONS,
                "{k}x{k} kernels with {} channels are too much: a smaller --kernel-size or --filters",
                pair[0].max(pair[1])
            );
        }
        let c = s.filters[s.filters.len() - 1];
        push("flatten".into(), LayerOp::Flatten, Shape::Flat(h * w * c));
        for (i, &units) in (1..).zip(&s.dense) {
            push(format!("dense_{i}"), LayerOp::Dense { relu: true }, Shape::Flat(units));
            if s.dropout > 0.0 {
                push(format!("dropout_{i}"), LayerOp::Dropout { rate: s.dropout }, Shape::Flat(units));
            }
        }
        push("output".into(), LayerOp::Dense { relu: false }, Shape::Flat(outputs));
        let model = Self { settings: s.clone(), classes, outputs, layers };
        // Device buffers are indexed with 32-bit numbers.
        for p in model.params() {
            ensure!(p.padded_len() < 1 << 29, "{} would have {} parameters, past 2^29", p.name, p.len());
        }
        Ok(model)
    }

    /// Names of the convolution layers, in order: what Grad-CAM can explain.
    pub fn conv_layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|l| matches!(l.op, LayerOp::Conv2d { .. }))
    }

    /// The trainable parameters in Keras's order.
    pub fn params(&self) -> Vec<Param> {
        // The channel count behind flatten, whose padding lies inside the flattened row.
        let mut image = None;
        let mut params = Vec::new();
        for layer in &self.layers {
            match (&layer.op, layer.input, layer.output) {
                (LayerOp::Conv2d { kernel: [kh, kw], .. }, Shape::Image([_, _, ci]), Shape::Image([_, _, co])) => {
                    params.extend(Param::pair(&layer.name, &[*kh, *kw, ci, co], &[kh * kw, ci, co], kh * kw));
                }
                (LayerOp::Flatten, Shape::Image(shape), _) => image = Some(shape),
                (LayerOp::Dense { .. }, Shape::Flat(n), Shape::Flat(units)) => {
                    let layout = image.take().map_or([1, n, units], |[h, w, c]| [h * w, c, units]);
                    params.extend(Param::pair(&layer.name, &[n, units], &layout, 1));
                }
                _ => {}
            }
        }
        params
    }

    /// Number of trainable parameters.
    pub fn param_count(&self) -> usize {
        self.params().iter().map(Param::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notebooks_network_has_its_parameters() {
        let model = Model::new(&ModelSettings::default(), 2).unwrap();
        assert_eq!(model.param_count(), 1_629_473);
        assert_eq!(model.outputs, 1);
        assert_eq!(Model::new(&ModelSettings::default(), 6).unwrap().outputs, 6);
    }

    #[test]
    fn impossible_shapes_name_the_setting() {
        let small = ModelSettings { size: [16, 16], ..ModelSettings::default() };
        let error = Model::new(&small, 2).unwrap_err().to_string();
        assert!(error.contains("conv2d_3") && error.contains("--size"), "{error}");
        let head = ModelSettings { head: HeadChoice::Sigmoid, ..ModelSettings::default() };
        assert!(Model::new(&head, 3).unwrap_err().to_string().contains("softmax"));
    }
}
