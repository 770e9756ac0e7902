//! The maps of chosen pictures, batch by batch.

use super::Completeness;
use crate::engine::{Engine, Pass, reading_step};
use crate::model::{Explain, Layer, Mode, Shape, Target};
use anyhow::{Result, bail, ensure};
use rayon::prelude::*;

/// Pictures per explaining batch.
pub const BATCH: usize = 64;

/// One layer's map of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerMap {
    /// The convolution layer.
    pub layer: String,
    /// Height and width of the layer's output.
    pub size: [usize; 2],
    /// The weighted sum before the relu, (height, width), in units of the score.
    pub raw: Vec<f32>,
    /// `max(raw, 0) / max(raw)`, resized to the picture, (picture height, picture width).
    pub map: Vec<f32>,
    /// Largest raw value.
    pub raw_max: f32,
    /// Share of the layer's pixels with a positive raw value.
    pub positive: f64,
}

impl LayerMap {
    /// Whether nothing at this layer speaks for the score: the map is then all zero.
    pub fn no_evidence(&self) -> bool {
        self.raw_max <= 0.0
    }

    /// Row and column of the map's maximum, the first in row-major order.
    pub fn peak(&self, width: usize) -> (usize, usize) {
        let at = crate::ops::softmax_ce::argmax(&self.map);
        (at / width, at % width)
    }
}

/// The maps of one picture.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The picture's index in its data set.
    pub picture: usize,
    /// One map per convolution layer, first layer first.
    pub layers: Vec<LayerMap>,
    /// The adding-up check of every layer, if asked for.
    pub check: Option<Vec<Completeness>>,
}

/// Explains the given pictures of the pass's set, in that order; `each` gets them one by one as batches finish.
///
/// With [`Target::Output`] a map without positive evidence is what the notebook computes, NaN (maximum exactly 0) or -0.0
/// (maximum below 0); with every other target it is all zero.
pub fn explain(
    engine: &mut Engine,
    pass: &Pass,
    batch: usize,
    pictures: &[usize],
    mut each: impl FnMut(Explanation) -> Result<()>,
) -> Result<()> {
    let Mode::Explain(Explain { target, check, .. }) = pass.mode() else { bail!("a pass that explains nothing has no maps") };
    let order: Vec<u32> = pictures.iter().map(|&p| p as u32).collect();
    ensure!(order.len() <= pass.pictures(), "more pictures to explain than the set has");
    engine.set_order(pass, &order)?;
    let plan = pass.batches()[0].plan;
    let layers: Vec<Layer> = engine.model().conv_layers().cloned().collect();
    let [height, width] = engine.model().settings.size;
    for (i, some) in pictures.chunks(batch).enumerate() {
        engine.player().play(plan, &[reading_step(i * batch, 0)])?;
        let mut checks = if check { super::completeness::of_batch(engine, batch)? } else { Vec::new() };
        let mut maps: Vec<Vec<LayerMap>> = vec![Vec::new(); some.len()];
        for layer in &layers {
            let Shape::Image([h, w, _]) = layer.output else { continue };
            let raw = engine.player().read(&format!("{}/cam_raw", layer.name))?;
            let cam = engine.player().read(&format!("{}/cam", layer.name))?;
            // On all cores: on a fast device this is a good part of the time.
            maps.par_iter_mut().enumerate().try_for_each(|(b, maps)| {
                let raw = raw[b * h * w..(b + 1) * h * w].to_vec();
                ensure!(
                    raw.iter().all(|v| v.is_finite()),
                    "the map of {} is not a finite number: the weights overflow f32",
                    layer.name
                );
                let raw_max = raw.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let positive = raw.iter().filter(|v| **v > 0.0).count() as f64 / raw.len() as f64;
                let mut map = cam[b * height * width..(b + 1) * height * width].to_vec();
                if target == Target::Output && raw_max <= 0.0 {
                    map.fill(if raw_max == 0.0 { f32::NAN } else { -0.0 });
                }
                maps.push(LayerMap { layer: layer.name.clone(), size: [h, w], raw, map, raw_max, positive });
                Ok(())
            })?;
        }
        for (b, (&picture, layers)) in some.iter().zip(maps).enumerate() {
            let check = check.then(|| std::mem::take(&mut checks[b]));
            each(Explanation { picture, layers, check })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_first_maximum_by_row_and_column_and_zero_is_no_evidence() {
        let mut map = LayerMap {
            layer: "conv2d_1".into(),
            size: [3, 4],
            raw: vec![],
            map: vec![0.0, 0.1, 0.2, 0.0, 0.0, 0.3, 1.0, 0.0, 0.5, 0.4, 0.0, 1.0],
            raw_max: 0.5,
            positive: 0.5,
        };
        assert_eq!(map.peak(4), (1, 2));
        assert_eq!(map.peak(3), (2, 0));
        assert!(!map.no_evidence());
        for none in [0.0, -0.5] {
            map.raw_max = none;
            assert!(map.no_evidence());
        }
    }
}
