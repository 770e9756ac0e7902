//! Where the marks of an axis stand.

/// Round numbers, evenly spaced, that enclose the values: two to a dozen.
pub fn values(values: impl Iterator<Item = f64>, ceiling: f64) -> Vec<f64> {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    // No value at all, or one at the end of the numbers, where a step further is infinity: an empty axis.
    let (low, high) = if low <= high && high.abs().max(low.abs()) < 1e305 { (low, high) } else { (0.0, 1.0) };
    // Around values that are all alike, a tenth to either side.
    let spread = (high - low).max(low.abs() * 0.1).max(1e-6);
    let rough = spread / 5.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * unit).into_iter().find(|&s| s >= rough * 0.999).unwrap_or(rough);
    let mut first = (low / step).floor();
    let mut last = ((high / step).ceil()).max(first + 1.0);
    if high == low {
        (first, last) = (first - 1.0, last + 1.0);
    }
    // Losses and accuracies are never negative, and accuracy ends at 1.
    if low >= 0.0 {
        first = first.max(0.0);
    }
    if high <= ceiling {
        last = last.min((ceiling / step).round()).max(first + 1.0);
    }
    (0..=(last - first) as usize).map(|i| (first + i as f64) * step).collect()
}

/// Whole epochs at a round distance, at most about ten.
pub fn epochs(epochs: usize) -> impl Iterator<Item = usize> {
    let mut steps = (0..).flat_map(|power| [1, 2, 5].map(|m| m * 10usize.pow(power)));
    let step = steps.find(|s| epochs / s <= 10).unwrap_or(1);
    (1..=epochs).filter(move |e| step == 1 || e % step == 0)
}

/// How many decimals tell ticks of this distance apart.
pub fn decimals(step: f64) -> usize {
    (-step.log10()).ceil().clamp(0.0, 9.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let near = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near(&values([0.22, 0.5013].into_iter(), f64::INFINITY), &[0.2, 0.3, 0.4, 0.5, 0.6]));
        assert!(near(&values([0.757, 0.9269, 1.0].into_iter(), 1.0), &[0.75, 0.8, 0.85, 0.9, 0.95, 1.0]));
        for given in [
            vec![],
            vec![f64::NAN],
            vec![0.0],
            vec![1.0],
            vec![3.5; 4],
            vec![1e300],
            vec![-2.0, 7e5],
            vec![0.0, 1e-30],
            vec![3.0, 1.2e23],
            vec![f64::MAX],
        ] {
            let ticks = values(given.iter().copied(), f64::INFINITY);
            assert!((2..=14).contains(&ticks.len()) && ticks[0] < ticks[ticks.len() - 1], "{given:?}: {ticks:?}");
        }
        assert_eq!(*values([1.0, 1.0].into_iter(), 1.0).last().unwrap(), 1.0);
    }

    #[test]
    fn epochs_are_whole_and_not_crowded() {
        assert_eq!(epochs(1).collect::<Vec<_>>(), [1]);
        assert_eq!(epochs(10).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        assert_eq!(epochs(50).collect::<Vec<_>>(), (1..=10).map(|i| 5 * i).collect::<Vec<_>>());
        assert!(epochs(123_456).count() <= 13);
    }
}
