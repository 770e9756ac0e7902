//! How good the predictions are: confusion matrix and classification report, with scikit-learn's definitions and text.
//!
//! Sources: `sklearn.metrics._classification` (1.9) for the report's bytes and the zero-division rule, checked against that
//! program on random matrices. Counts are pictures, scores are fractions in [0, 1]. This module knows no GPU.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// How many pictures of each true class (row) were predicted as each class (column).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfusionMatrix {
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// `counts[truth][predicted]`, pictures; as many rows, and as many columns, as classes.
    pub counts: Vec<Vec<u64>>,
}

/// The scores of one class, or an average of them. A score whose denominator is 0 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Of the pictures predicted as this class, the fraction that are.
    pub precision: f64,
    /// Of the pictures of this class, the fraction predicted as it.
    pub recall: f64,
    /// 2 tp / (2 tp + fp + fn).
    pub f1: f64,
    /// Pictures of this class.
    pub support: u64,
}

/// Everything the report says, at full precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Rows are true classes, columns predicted ones.
    pub confusion_matrix: Vec<Vec<u64>>,
    /// In the order of `classes`.
    pub per_class: Vec<Scores>,
    /// The fraction of all pictures on the diagonal.
    pub accuracy: f64,
    /// The plain mean over classes.
    pub macro_average: Scores,
    /// The mean over classes weighted by support.
    pub weighted_average: Scores,
}

impl ConfusionMatrix {
    /// Counts pairs of true and predicted labels, each an index into `classes`.
    ///
    /// # Errors
    /// When the lists differ in length or a label is not below the number of classes.
    pub fn from_labels(classes: Vec<String>, truth: &[u32], predicted: &[u32]) -> Result<Self> {
        ensure!(truth.len() == predicted.len(), "{} true labels but {} predictions", truth.len(), predicted.len());
        let n = classes.len();
        let mut counts = vec![vec![0; n]; n];
        for (i, (&t, &p)) in truth.iter().zip(predicted).enumerate() {
            *counts.get_mut(t as usize).and_then(|row| row.get_mut(p as usize)).with_context(|| {
                format!("picture {i}: true label {t}, predicted label {p}, but there are only {n} classes")
            })? += 1;
        }
        Ok(ConfusionMatrix { classes, counts })
    }

    /// Pictures of true class `class`.
    fn support(&self, class: usize) -> u64 {
        self.counts[class].iter().sum()
    }

    /// Pictures predicted as `class`.
    fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().map(|row| row[class]).sum()
    }

    /// The fraction of pictures predicted right; 0 when there are none.
    pub fn accuracy(&self) -> f64 {
        let right = (0..self.classes.len()).map(|c| self.counts[c][c]).sum();
        ratio(right, self.counts.iter().flatten().sum())
    }

    /// The scores of each class and their averages.
    pub fn summary(&self) -> Summary {
        let per_class: Vec<Scores> = (0..self.classes.len())
            .map(|c| {
                let (right, support, predicted) = (self.counts[c][c], self.support(c), self.predicted(c));
                Scores {
                    precision: ratio(right, predicted),
                    recall: ratio(right, support),
                    f1: ratio(2 * right, support + predicted),
                    support,
                }
            })
            .collect();
        Summary {
            classes: self.classes.clone(),
            confusion_matrix: self.counts.clone(),
            accuracy: self.accuracy(),
            macro_average: average(&per_class, |_| 1),
            weighted_average: average(&per_class, |s| s.support),
            per_class,
        }
    }

    /// The text of scikit-learn's `classification_report(truth, predicted, target_names=classes)`, byte for byte.
    ///
    /// Every class has its row, also one that never occurs (as with `labels=range(n)`). One oddity is left out: when not a
    /// single prediction is right, scikit-learn prints the supports as `561.0`; here a count is a whole number always.
    pub fn classification_report(&self) -> String {
        let summary = self.summary();
        let names = self.classes.iter().map(|name| name.chars().count());
        let width = names.max().unwrap_or(0).max("weighted avg".len());
        let mut out = format!("{:>width$}  {:>9} {:>9} {:>9} {:>9}\n\n", "", "precision", "recall", "f1-score", "support");
        let row = |out: &mut String, name: &str, s: &Scores| {
            let Scores { precision, recall, f1, support } = s;
            let _ = writeln!(out, "{name:>width$}  {precision:>9.2} {recall:>9.2} {f1:>9.2} {support:>9}");
        };
        for (name, scores) in self.classes.iter().zip(&summary.per_class) {
            row(&mut out, name, scores);
        }
        let (accuracy, total) = (summary.accuracy, summary.macro_average.support);
        let _ = writeln!(out, "\n{:>width$}  {:>9} {:>9} {accuracy:>9.2} {total:>9}", "accuracy", "", "");
        row(&mut out, "macro avg", &summary.macro_average);
        row(&mut out, "weighted avg", &summary.weighted_average);
        out
    }

    /// What scikit-learn's `UndefinedMetricWarning`s say, once each and naming the classes meant.
    pub fn undefined_warnings(&self) -> Vec<String> {
        let warning = |score: &str, samples: &str, undefined: &dyn Fn(usize) -> bool| {
            let classes = (0..self.classes.len()).filter(|&c| undefined(c));
            let names: Vec<&str> = classes.map(|c| self.classes[c].as_str()).collect();
            (!names.is_empty()).then(|| {
                let names = names.join(", ");
                format!("{score} is ill-defined and being set to 0.0 in labels with no {samples} samples: {names}.")
            })
        };
        [
            warning("Precision", "predicted", &|c| self.predicted(c) == 0),
            warning("Recall", "true", &|c| self.support(c) == 0),
            warning("F-score", "true nor predicted", &|c| self.support(c) + self.predicted(c) == 0),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The matrix as an aligned table, rows the true classes and columns the predicted ones.
    pub fn to_text(&self) -> String {
        let label = |c: usize| if c == 0 { "Actual" } else { "" };
        let names = self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        // Each column is as wide as its name or its largest number, with a gap of two.
        let cell = |column: usize| {
            let numbers = self.counts.iter().map(|row| row[column].to_string().len());
            numbers.max().unwrap_or(0).max(self.classes[column].chars().count()) + 2
        };
        let cells: Vec<usize> = (0..self.classes.len()).map(cell).collect();
        let mut out = format!("{:>w$}  Predicted\n{:>w$}", "", "", w = "Actual ".len() + names);
        for (name, &cell) in self.classes.iter().zip(&cells) {
            let _ = write!(out, "{name:>cell$}");
        }
        out.push('\n');
        for (c, (name, row)) in self.classes.iter().zip(&self.counts).enumerate() {
            let _ = write!(out, "{:<6} {name:>names$}", label(c));
            for (n, &cell) in row.iter().zip(&cells) {
                let _ = write!(out, "{n:>cell$}");
            }
            out.push('\n');
        }
        out
    }

    /// The summary as JSON, at full precision.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self.summary()).expect("strings, whole numbers and finite fractions are JSON")
    }
}

/// `part / whole`, or 0 where `whole` is 0: scikit-learn's default `zero_division`.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The mean of the classes' scores by weight; the support is the number of all pictures.
fn average(scores: &[Scores], weight: impl Fn(&Scores) -> u64) -> Scores {
    let total: u64 = scores.iter().map(&weight).sum();
    let mean = |value: fn(&Scores) -> f64| {
        let terms: Vec<f64> = scores.iter().map(|s| value(s) * weight(s) as f64).collect();
        if total == 0 { 0.0 } else { numpy_sum(&terms) / total as f64 }
    };
    Scores {
        precision: mean(|s| s.precision),
        recall: mean(|s| s.recall),
        f1: mean(|s| s.f1),
        support: scores.iter().map(|s| s.support).sum(),
    }
}

/// The sum in numpy's order (`pairwise_sum` of its umath loops): another order can turn a last digit that lies on a tie.
fn numpy_sum(terms: &[f64]) -> f64 {
    let n = terms.len();
    if n < 8 {
        return terms.iter().sum();
    }
    if n > 128 {
        let half = n / 2 - n / 2 % 8;
        return numpy_sum(&terms[..half]) + numpy_sum(&terms[half..]);
    }
    let eights = terms.chunks_exact(8);
    let rest = eights.remainder();
    let mut r = [0.0; 8];
    for eight in eights {
        for (sum, term) in r.iter_mut().zip(eight) {
            *sum += term;
        }
    }
    let body = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    rest.iter().fold(body, |sum, term| sum + term)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of terms and the bits of their sum.
    const NUMPY: [(u64, u64); 14] = [
        (7, 0x4007debd106b4513),
        (8, 0x400fd3a60d9a2dec),
        (9, 0x40119a58202d1066),
        (16, 0x4020abe65fddb772),
        (20, 0x4024902c0f7f899d),
        (33, 0x4031e091f90a14dd),
        (127, 0x405073d16dfd2158),
        (128, 0x405088f53ec67e3c),
        (129, 0x4050b97a193c6370),
        (136, 0x40518bb9215490a4),
        (200, 0x40590b2f468ff60f),
        (300, 0x4063174adf958766),
        (1000, 0x407f6f5dfbb36448),
        (1003, 0x407f8a311d91736a),
    ];

    fn matrix(names: &[&str], counts: &[&[u64]]) -> ConfusionMatrix {
        ConfusionMatrix {
            classes: names.iter().map(ToString::to_string).collect(),
            counts: counts.iter().map(|row| row.to_vec()).collect(),
        }
    }

    #[test]
    fn the_report_is_scikit_learns_byte_for_byte() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/classification_report_1122.txt");
        let golden = std::fs::read_to_string(path).expect("the golden report is in tests/golden");
        assert_eq!(matrix(&["0", "1"], &[&[537, 24], &[58, 503]]).classification_report(), golden);
    }

    #[test]
    fn a_long_name_widens_the_first_column_and_a_class_never_predicted_scores_zero() {
        let m = matrix(&["a_rather_long_class", "réel"], &[&[3, 0], &[1, 0]]);
        let expected = "                     precision    recall  f1-score   support

a_rather_long_class       0.75      1.00      0.86         3
               réel       0.00      0.00      0.00         1

           accuracy                           0.75         4
          macro avg       0.38      0.50      0.43         4
       weighted avg       0.56      0.75      0.64         4
";
        assert_eq!(m.classification_report(), expected);
        assert_eq!(
            m.undefined_warnings(),
            ["Precision is ill-defined and being set to 0.0 in labels with no predicted samples: réel."]
        );
    }

    #[test]
    fn labels_are_counted_into_rows_of_truth_and_columns_of_prediction() {
        let names = || vec!["fake".to_string(), "real".to_string()];
        let m = ConfusionMatrix::from_labels(names(), &[0, 0, 1, 1, 0], &[0, 1, 1, 1, 1]).unwrap();
        assert_eq!(m.counts, [[1, 2], [0, 2]]);
        assert_eq!(m.accuracy(), 0.6);
        let error = ConfusionMatrix::from_labels(names(), &[0, 2], &[0, 0]).unwrap_err().to_string();
        assert!(error.contains("picture 1") && error.contains("label 2"), "{error}");
        assert!(ConfusionMatrix::from_labels(names(), &[0], &[]).is_err());
    }

    #[test]
    fn nothing_at_all_is_zeros_and_all_three_warnings() {
        let m = matrix(&["fake", "real"], &[&[0, 0], &[0, 0]]);
        assert!(m.classification_report().contains("    accuracy                           0.00         0\n"));
        assert_eq!(m.undefined_warnings().len(), 3);
        assert!(m.undefined_warnings()[2].contains("true nor predicted samples: fake, real."));
        assert!(matrix(&["fake", "real"], &[&[2, 1], &[0, 3]]).undefined_warnings().is_empty());
    }

    #[test]
    fn sums_are_numpys_to_the_last_bit() {
        // np.float64((k * 2654435761 % 1000003 + 1) / 1000003 for k in range(n)).sum() of numpy 2.4.6, in a serial sum other bits but for 7.
        for (n, bits) in NUMPY {
            let terms: Vec<f64> = (0..n).map(|k: u64| (k * 2_654_435_761 % 1_000_003 + 1) as f64 / 1_000_003.0).collect();
            assert_eq!(numpy_sum(&terms).to_bits(), bits, "{n} terms");
        }
        let serial = |n: u64| (0..n).map(|k| (k * 2_654_435_761 % 1_000_003 + 1) as f64 / 1_000_003.0).sum::<f64>().to_bits();
        assert!(NUMPY.iter().filter(|&&(n, bits)| serial(n) != bits).count() >= 5);
        // Ones beside 1e16 are lost or kept by what they are added to first: the order at 8 terms, at 128 and where halves begin.
        for (n, kept) in [(8, 6.0), (128, 112.0), (129, 120.0), (300, 290.0)] {
            let mut terms = vec![1.0; n];
            terms[0] = 1e16;
            assert_eq!(numpy_sum(&terms) - 1e16, kept, "{n} terms");
        }
    }

    #[test]
    fn the_table_lines_up() {
        let m = matrix(&["fake", "real"], &[&[537, 24], &[58, 503]]);
        let expected = "             Predicted
             fake  real
Actual fake   537    24
       real    58   503
";
        assert_eq!(m.to_text(), expected);
    }

    #[test]
    fn json_keeps_full_precision() {
        let json = matrix(&["fake", "real"], &[&[537, 24], &[58, 503]]).to_json();
        assert_eq!(json["per_class"][0]["precision"], 537.0 / 595.0);
        assert_eq!(json["accuracy"], 1040.0 / 1122.0);
        assert_eq!(json["confusion_matrix"][1][0], 58);
        assert_eq!(json["weighted_average"]["support"], 1122);
    }
}
