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
        let mut read = |tensor: &str| engine.player().read(&format!("{}/{tensor}", at.name));
        let dz = match layer.op {
            LayerOp::Conv2d { .. } => {
                let [y, mut dz] = [read("y")?, read("dy")?];
                for (b, checks) in checks.iter_mut().enumerate() {
                    let (evidence, size) = dot(&y[b * n..(b + 1) * n], &dz[b * n..(b + 1) * n]);
                    let scale = size + scale[b];
                    checks.insert(0, Completeness { layer: name.clone(), score: score[b], evidence, biases: biases[b], scale });
                }
                // The relu is closed where the pool passes on nothing.
                dz.iter_mut().zip(y).for_each(|(dz, y)| *dz = if y > 0.0 { *dz } else { 0.0 });
                dz
            }
            LayerOp::Dense { relu: true } => read("dz")?,
            LayerOp::Dense { relu: false } => read("dy")?,
            _ => continue,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, TraitCounts};
    use crate::engine::PassRequest;
    use crate::explain::{Explanation, explain};
    use crate::model::{Explain, Mode, Model, ModelSettings, Target, Technique};
    use crate::player::Choice;
    use crate::rng;
    use std::path::PathBuf;

    #[test]
    fn the_error_is_what_is_missing_relative_to_the_terms() {
        let check = Completeness { layer: "conv2d_1".into(), score: 3.0, evidence: 1.5, biases: 0.5, scale: 4.0 };
        assert_eq!(check.error(), 0.25);
        assert_eq!(Completeness { biases: 2.5, ..check.clone() }.error(), 0.25);
        assert_eq!(Completeness { biases: 1.5, ..check.clone() }.error(), 0.0);
        // No terms and nothing missing is no error, and no NaN.
        assert_eq!(Completeness { score: 0.0, evidence: 0.0, biases: 0.0, scale: 0.0, ..check }.error(), 0.0);
    }

    #[test]
    fn a_dot_product_comes_with_the_size_of_its_terms() {
        assert_eq!(dot(&[1.0, -2.0, 3.0], &[4.0, 5.0, -6.0]), (-24.0, 32.0));
    }

    /// What element `k` of parameter `i` differs by from its initial value, the biases' too.
    fn noise(i: u32, k: u32) -> f32 {
        0.5 * (rng::unit(rng::hash3(9, i, k)) - 0.5)
    }

    /// Five pictures in batches of two, biases everywhere and three classes, so that no size equals another.
    fn explained(pictures: &[usize], check: bool) -> Vec<Explanation> {
        explained_with(3, (Target::Predicted, Technique::Gradcam), pictures, check, |i, k, initial| initial + noise(i, k))
    }

    /// The same with element `k` of parameter `i` changed from its initial value.
    fn explained_with(
        classes: usize,
        (target, technique): (Target, Technique),
        pictures: &[usize],
        check: bool,
        value: impl Fn(u32, u32, f32) -> f32,
    ) -> Vec<Explanation> {
        let settings = ModelSettings { size: [14, 10], filters: vec![5, 3], dense: vec![6, 7], ..ModelSettings::default() };
        let model = Model::new(&settings, classes).unwrap();
        let data = Dataset {
            classes: ["a", "b", "c"].map(String::from).to_vec(),
            paths: vec![PathBuf::new(); 5],
            labels: vec![0, 1, 2, 0, 1],
            pixels: (0..5 * 14 * 10).map(|i| rng::hash3(1, 2, i)).collect(),
            height: 14,
            width: 10,
            traits: TraitCounts::default(),
        };
        let mode = Mode::Explain(Explain { target, technique, check });
        let request = PassRequest { set: "explain", data: &data, batch: 2, mode };
        let choice = Choice { adapter: None, why: String::new() };
        let mut engine = Engine::new(&model, &choice, &[request]).unwrap();
        for (i, p) in model.params().iter().enumerate() {
            let values: Vec<f32> = (0..).zip(p.initial(3, i)).map(|(k, v)| value(i as u32, k, v)).collect();
            engine.set_param(p, "", &values).unwrap();
        }
        let pass = engine.pass(0);
        let mut all = Vec::new();
        explain(&mut engine, &pass, 2, pictures, |e| {
            all.push(e);
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn the_evidence_of_every_layer_adds_up_to_the_score() {
        let all = explained(&[3, 0, 4], true);
        assert_eq!(all.iter().map(|e| e.picture).collect::<Vec<_>>(), [3, 0, 4]);
        for e in &all {
            let checks = e.check.as_ref().unwrap();
            assert_eq!(checks.iter().map(|c| c.layer.as_str()).collect::<Vec<_>>(), ["conv2d_1", "conv2d_2"]);
            let [first, second] = [&checks[0], &checks[1]];
            for c in checks {
                assert!(c.error() < 1e-6, "{c:?}");
                // The sizes bound the sums, and cancellation is not so strong as to make the error mean nothing.
                assert!(c.scale >= c.evidence.abs() + c.biases.abs() && c.scale < 1e3 * c.score.abs().max(0.1), "{c:?}");
                assert!(c.biases.abs() > 1e-3 && c.score == first.score, "{c:?}");
            }
            // The first layer has the second one's biases besides.
            assert!((first.biases - second.biases).abs() > 1e-4, "{checks:?}");
        }
        assert!(all.windows(2).all(|w| w[0].check != w[1].check), "the pictures do not differ");
        // Without the check the gradient that only it reads is not made, and the maps are the same.
        for (e, unchecked) in all.iter().zip(explained(&[3, 0, 4], false)) {
            assert_eq!(e.layers, unchecked.layers);
        }
    }

    /// HiResCAM's map is gradient times activation, pixel by pixel: all of a layer's evidence, and LayerCAM's no less.
    #[test]
    fn the_other_techniques_maps_add_up_to_the_evidence_and_to_no_less() {
        let maps = |technique| {
            explained_with(3, (Target::Predicted, technique), &[3, 0, 4], true, |i, k, initial| initial + noise(i, k))
        };
        for (hirescam, layercam) in maps(Technique::Hirescam).iter().zip(maps(Technique::Layercam)) {
            let layers = hirescam.layers.iter().zip(&layercam.layers).zip(hirescam.check.as_ref().unwrap());
            for ((hirescam, layercam), check) in layers {
                let [all, positive] = [hirescam, layercam].map(|map| map.raw.iter().map(|&v| f64::from(v)).sum::<f64>());
                assert!((all - check.evidence).abs() < 1e-6 * check.scale, "{all} of {check:?}");
                assert!(positive >= all && layercam.raw.iter().all(|v| *v >= 0.0), "{positive} of {check:?}");
                assert!(hirescam.raw.iter().any(|v| *v < 0.0), "no gradient is negative");
            }
        }
    }

    #[test]
    fn every_picture_of_a_batch_is_scored_by_its_own_verdict() {
        let scores = |bias: f64, target: Target| -> Vec<f64> {
            let value = |i, k, initial| if i == 9 { bias as f32 } else { initial + noise(i, k) };
            let all = explained_with(2, (target, Technique::Gradcam), &[3, 0], true, value);
            let first = all.iter().map(|e| &e.check.as_ref().unwrap()[0]);
            first.clone().for_each(|c| assert!(c.error() < 1e-6, "{c:?}"));
            first.map(|c| c.score).collect()
        };
        let logits = scores(0.0, Target::Logit);
        // With the output's bias between the two logits, the verdicts are different classes, each with half the distance.
        let half = (logits[0] - logits[1]).abs() / 2.0;
        assert!(half > 1e-3, "the pictures do not differ: {logits:?}");
        for score in scores(-(logits[0] + logits[1]) / 2.0, Target::Predicted) {
            assert!((score - half).abs() < 1e-6, "{score} is not half of the distance between {logits:?}");
        }
    }

    #[test]
    fn a_pictures_maps_do_not_depend_on_its_place_in_a_batch() {
        let all = explained(&[0, 1, 2, 3, 4], false);
        assert_eq!(all.len(), 5);
        for (picture, e) in all.iter().enumerate() {
            assert!(e.check.is_none() && e.picture == picture && e.layers.len() == 2);
            assert_eq!(explained(&[picture], false)[0].layers, e.layers, "picture {picture}");
            for (map, size) in e.layers.iter().zip([[12, 8], [4, 2]]) {
                assert_eq!((map.size, map.raw.len(), map.map.len()), (size, size[0] * size[1], 140));
                let positive = map.raw.iter().filter(|v| **v > 0.0).count() as f64 / map.raw.len() as f64;
                let largest = map.raw.iter().copied().fold(f32::MIN, f32::max);
                assert_eq!((map.positive, map.raw_max), (positive, largest));
            }
        }
        assert!(all.windows(2).all(|w| w[0].layers != w[1].layers), "the pictures do not differ");
    }

    #[test]
    fn without_evidence_the_notebooks_score_gives_the_notebooks_map_and_every_other_zeros() {
        // Positive throughout but for the last layer: every activation is, and every gradient has that layer's sign.
        for (last, notebook) in [(-0.01, (-0.0f32).to_bits()), (0.0, f32::NAN.to_bits()), (0.01, 0)] {
            for target in [Target::Output, Target::Logit] {
                let all =
                    explained_with(2, (target, Technique::Gradcam), &[3, 0, 4], false, |i, _, _| if i < 8 { 0.01 } else { last });
                for map in all.iter().flat_map(|e| &e.layers) {
                    assert_eq!(map.no_evidence(), last <= 0.0, "{last}");
                    assert_eq!(map.positive > 0.0, last > 0.0, "{last}");
                    let bits = |b: u32| map.map.iter().all(|v| v.to_bits() == b);
                    match (last > 0.0, target) {
                        (true, _) => assert!(map.map.iter().all(|v| *v > 0.0 && *v <= 1.0), "{map:?}"),
                        (false, Target::Output) => assert!(bits(notebook), "{last}: {:?}", map.map),
                        (false, _) => assert!(bits(0), "{last}: {:?}", map.map),
                    }
                }
            }
        }
    }
}
