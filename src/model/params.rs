//! Parameters: Keras's names and shapes outside, channels padded to a multiple of 4 on the device.

use crate::ops::padded;
use crate::rng::{self, Stream};

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Keras's name, such as `conv2d_1/kernel`.
    pub name: String,
    /// Keras's shape: HWIO, (in, out) or (out).
    pub shape: Vec<usize>,
    /// The same elements as (blocks, inputs, outputs); the last two are padded on the device.
    layout: [usize; 3],
    /// Fan-in and fan-out of the Glorot initialiser; none starts at zero.
    fans: Option<[usize; 2]>,
}

impl Param {
    /// A layer's kernel and bias.
    pub(super) fn pair(layer: &str, shape: &[usize], layout: &[usize; 3], field: usize) -> [Self; 2] {
        let [.., fan_in, fan_out] = *shape else { panic!("a kernel has two dimensions or more") };
        [
            Self {
                name: format!("{layer}/kernel"),
                shape: shape.to_vec(),
                layout: *layout,
                fans: Some([fan_in * field, fan_out * field]),
            },
            Self { name: format!("{layer}/bias"), shape: vec![fan_out], layout: [1, 1, fan_out], fans: None },
        ]
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element; never so in a valid model.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn padded_layout(&self) -> [usize; 3] {
        let [blocks, rows, cols] = self.layout;
        // A bias has one row and stays one row.
        [blocks, if self.fans.is_some() { padded(rows) } else { rows }, padded(cols)]
    }

    /// Number of elements on the device.
    pub fn padded_len(&self) -> usize {
        self.padded_layout().iter().product()
    }

    /// Keras's element order to the device's, zeros in the padding.
    pub fn pad<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let ([_, rows, cols], [_, padded_rows, padded_cols]) = (self.layout, self.padded_layout());
        let mut out = vec![T::default(); self.padded_len()];
        for (i, row) in values.chunks_exact(cols).enumerate() {
            let to = (i / rows * padded_rows + i % rows) * padded_cols;
            out[to..to + cols].copy_from_slice(row);
        }
        out
    }

    /// The device's element order to Keras's.
    pub fn strip<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let ([blocks, rows, cols], [_, padded_rows, padded_cols]) = (self.layout, self.padded_layout());
        let mut out = Vec::with_capacity(self.len());
        for i in 0..blocks * rows {
            let from = (i / rows * padded_rows + i % rows) * padded_cols;
            out.extend_from_slice(&values[from..from + cols]);
        }
        out
    }

    /// Initial values: Glorot uniform (Glorot and Bengio 2010) in [-limit, limit), `limit = sqrt(6 / (fan_in + fan_out))`; biases
    /// zero. `index` is the parameter's place in the model.
    pub fn initial(&self, seed: u32, index: usize) -> Vec<f32> {
        let Some([fan_in, fan_out]) = self.fans else { return vec![0.0; self.len()] };
        let limit = (6.0 / (fan_in + fan_out) as f64).sqrt() as f32;
        (0..self.len() as u32).map(|i| limit * (2.0 * rng::unit(rng::bits(seed, Stream::Init(index as u32), i)) - 1.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Model, ModelSettings};

    #[test]
    fn padding_is_undone_and_holds_zeros() {
        let settings = ModelSettings { size: [20, 24], filters: vec![5, 6], dense: vec![7], ..ModelSettings::default() };
        for p in Model::new(&settings, 3).unwrap().params() {
            assert!(!p.is_empty());
            let values: Vec<f32> = (1..=p.len()).map(|i| i as f32).collect();
            let device = p.pad(&values);
            assert_eq!(device.len(), p.padded_len());
            assert_eq!(device.len() % 4, 0);
            assert_eq!(device.iter().filter(|v| **v != 0.0).count(), p.len());
            assert_eq!(p.strip(&device), values, "{}", p.name);
        }
    }

    #[test]
    fn glorot_limits_are_keras() {
        let model = Model::new(&ModelSettings::default(), 2).unwrap();
        let limits = [0.187317, 0.117851, 0.083333, 0.0217597, 0.215666];
        let kernels: Vec<_> = model.params().into_iter().enumerate().filter(|(_, p)| p.shape.len() > 1).collect();
        for ((i, p), limit) in kernels.iter().zip(limits) {
            let values = p.initial(3, *i);
            let top = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(top < limit + 1e-6 && top > 0.95 * limit, "{}: {top} of {limit}", p.name);
        }
    }
}
