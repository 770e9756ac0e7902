//! The check that nobody ships: a relu network's evidence must add up to its verdict.
//!
//! At any layer, `sum(gradient x activation) + sum over later layers of (gradient before the relu x bias)` equals the score
//! exactly, because relu and max-pool only route. A backward pass that does not belong to its forward pass breaks the sum.

use crate::engine::Engine;
use crate::model::{Layer, LayerOp, Shape};
use crate::ops::padded;
use anyhow::Result;
use serde::Serialize;

/// How one layer's evidence adds up for one picture, in units of the score (logits).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Completeness {
    /// The convolution layer.
    pub layer: String,
    /// The score: the logits weighted by the score's gradient.
    pub score: f64,
    /// Sum of gradient times activation over the layer.
    pub evidence: f64,
    /// What the biases of the later layers add.
    pub biases: f64,
    /// Sum of the absolute terms, what rounding errors are relative to.
    pub scale: f64,
}

impl Completeness {
    /// What is missing, relative to the size of the terms.
    pub fn error(&self) -> f64 {
        (self.evidence + self.biases - self.score).abs() / self.scale.max(f64::MIN_POSITIVE)
    }
}

/// The check for every picture of the batch that was just explained, summed in f64 from the device's tensors.
pub(super) fn of_batch(engine: &mut Engine, batch: usize) -> Result<Vec<Vec<Completeness>>> {
    let model = engine.model().clone();
    let stride = padded(model.outputs);
    let logits = engine.player().read("output/y")?;
    let dlogits = engine.player().read("output/dy")?;
    let score: Vec<f64> = (0..batch).map(|b| dot(&logits[b * stride..][..stride], &dlogits[b * stride..][..stride]).0).collect();
    let mut biases = vec![0.0; batch];
    let mut scale = vec![0.0; batch];
    let mut checks: Vec<Vec<Completeness>> = vec![Vec::new(); batch];
    // From the output back to the first convolution, the biases met so far are those of the later layers.
    for (i, layer) in model.layers.iter().enumerate().rev() {
        let name = &layer.name;
        // A convolution's output and its gradient as they are behind its pool, which passes on every value that has a gradient.
        let at = match layer.op {
            LayerOp::Conv2d { .. } => &model.layers[i + 1],
            _ => layer,
        };
        let n = per_picture(at);
        if let LayerOp::Conv2d { .. } = layer.op {
            let y = engine.player().read(&format!("{}/y", at.name))?;
            let dy = engine.player().read(&format!("{}/dy", at.name))?;
            for (b, checks) in checks.iter_mut().enumerate() {
                let (evidence, size) = dot(&y[b * n..(b + 1) * n], &dy[b * n..(b + 1) * n]);
                let scale = size + scale[b];
                checks.insert(0, Completeness { layer: name.clone(), score: score[b], evidence, biases: biases[b], scale });
            }
        }
        let gradient = match layer.op {
            LayerOp::Conv2d { .. } | LayerOp::Dense { relu: true } => format!("{}/dz", at.name),
            LayerOp::Dense { relu: false } => format!("{name}/dy"),
            _ => continue,
        };
        let dz = engine.player().read(&gradient)?;
        let bias = engine.player().read(&format!("{name}/bias"))?;
        for b in 0..batch {
            for pixel in dz[b * n..(b + 1) * n].chunks_exact(bias.len()) {
                let (sum, size) = dot(pixel, &bias);
                biases[b] += sum;
                scale[b] += size;
            }
        }
    }
    Ok(checks)
}

/// Elements of a layer's output per picture on the device; a tensor may be longer, when another plan has larger batches.
fn per_picture(layer: &Layer) -> usize {
    match layer.output {
        Shape::Image([h, w, c]) => h * w * padded(c),
        Shape::Flat(n) => padded(n),
    }
}

/// The dot product and the sum of its absolute terms.
fn dot(a: &[f32], b: &[f32]) -> (f64, f64) {
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (&a, &b)| {
        let term = f64::from(a) * f64::from(b);
        (sum + term, size + term.abs())
    })
}
