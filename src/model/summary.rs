//! Keras 2.15's `model.summary()`, byte for byte.

use super::{LayerOp, Model, Shape};
use std::fmt::Write;

/// Where the columns end.
const ENDS: [usize; 3] = [29, 55, 65];

/// Keras's `readable_memory_size`.
fn readable(bytes: usize) -> String {
    let mut size = bytes as f64;
    for unit in ["Byte", "KB", "MB"] {
        if size / 1024.0 < 1.0 {
            return format!("{size:.2} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.2} GB")
}

/// One table row; cells that do not fit go on in the next line, as Keras breaks them.
fn row(out: &mut String, cells: [&str; 3]) {
    let mut left = cells.map(|c| c.chars().collect::<Vec<_>>());
    while left.iter().any(|c| !c.is_empty()) {
        let mut line = String::from(" ");
        for (i, end) in ENDS.into_iter().enumerate() {
            let start = if i == 0 { 1 } else { ENDS[i - 1] };
            // Two blanks stand between columns.
            let cut = (end - start - if i < 2 { 2 } else { 0 }).min(left[i].len());
            line.extend(left[i].drain(..cut));
            while line.chars().count() < end {
                line.push(' ');
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
}

impl Model {
    /// The table that Keras 2.15 prints for this network.
    pub fn summary(&self) -> String {
        let rule = |c: &str| c.repeat(65) + "\n";
        let mut out = String::from("Model: \"sequential\"\n") + &rule("_");
        row(&mut out, ["Layer (type)", "Output Shape", "Param #"]);
        out.push_str(&rule("="));
        for layer in &self.layers {
            let kind = match layer.op {
                LayerOp::Conv2d { .. } => "Conv2D",
                LayerOp::MaxPool2x2 => "MaxPooling2D",
                LayerOp::Flatten => "Flatten",
                LayerOp::Dense { .. } => "Dense",
                LayerOp::Dropout { .. } => "Dropout",
            };
            let shape = match layer.output {
                Shape::Image([h, w, c]) => format!("(None, {h}, {w}, {c})"),
                Shape::Flat(n) => format!("(None, {n})"),
            };
            let prefix = format!("{}/", layer.name);
            let count: usize = self.params().iter().filter(|p| p.name.starts_with(&prefix)).map(|p| p.len()).sum();
            row(&mut out, [&format!("{} ({kind})", layer.name), &shape, &count.to_string()]);
            out.push_str(&rule(" "));
        }
        out.push_str(&rule("="));
        let n = self.param_count();
        let total = format!("{n} ({})", readable(4 * n));
        // Writing to a String cannot fail.
        let _ = write!(out, "Total params: {total}\nTrainable params: {total}\nNon-trainable params: 0 (0.00 Byte)\n");
        out + &rule("_")
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Model, ModelSettings};

    #[test]
    fn the_notebooks_table_byte_for_byte() {
        let golden = include_str!("../../tests/golden/model_summary.txt");
        assert_eq!(Model::new(&ModelSettings::default(), 2).unwrap().summary(), golden);
    }

    #[test]
    fn a_size_changes_its_unit_at_1024_as_in_keras() {
        let sizes = [1023, 1024, 1_048_575, 1 << 20, 1 << 30].map(super::readable);
        assert_eq!(sizes, ["1023.00 Byte", "1.00 KB", "1024.00 KB", "1.00 MB", "1.00 GB"]);
    }

    #[test]
    fn a_cell_wider_than_its_column_goes_on_below_and_the_last_column_is_full_width() {
        let mut out = String::new();
        super::row(&mut out, [&"a".repeat(28), &"b".repeat(25), "1234567890123"]);
        let expected = format!(
            " {}  {}  1234567890\n {}  {} 123       \n",
            "a".repeat(26),
            "b".repeat(24),
            "a".repeat(2) + &" ".repeat(24),
            "b".to_string() + &" ".repeat(24),
        );
        assert_eq!(out, expected);
    }
}
