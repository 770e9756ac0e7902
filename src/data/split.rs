//! A validation part held back from the training pictures.

use anyhow::{Context, Result, bail, ensure};

use crate::rng::{Stream, permutation};

/// Split `0..labels.len()` into training and validation indices, class by class.
///
/// `labels[i] < classes` is the class of picture i. Each class gives `round(fraction * n)` of its n pictures to the
/// validation part, though at least 1 and at most n - 1, picked by `Stream::Split(class)`: adding pictures to one class
/// leaves the split of the others as it was. Returns (training, validation), both in ascending order.
///
/// # Errors
/// When `fraction` is not inside (0, 1), a label is out of range, or a class has fewer than 2 pictures.
pub fn stratified(labels: &[u32], classes: usize, fraction: f64, seed: u32) -> Result<(Vec<usize>, Vec<usize>)> {
    ensure!(fraction > 0.0 && fraction < 1.0, "the validation fraction must lie between 0 and 1 (both excluded), not {fraction}");
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        let class = members.get_mut(label as usize);
        class.with_context(|| format!("picture {index} has label {label}, but there are {classes} classes"))?.push(index);
    }
    let mut in_validation = vec![false; labels.len()];
    for (class, pictures) in members.iter().enumerate() {
        let n = pictures.len();
        if n < 2 {
            bail!("class {class} has {n} picture(s); a split needs at least 2 in every class, one for each part");
        }
        let take = ((fraction * n as f64).round() as usize).clamp(1, n - 1);
        let order = permutation(seed, Stream::Split(class as u32), n);
        order.iter().take(take).for_each(|&i| in_validation[pictures[i as usize]] = true);
    }
    let (validation, training) = (0..labels.len()).partition(|&i| in_validation[i]);
    Ok((training, validation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_in_one_part_and_each_class_gives_its_share() {
        for n in [2usize, 3, 10, 101] {
            for fraction in [0.01, 0.1, 0.25, 0.5, 0.99] {
                let labels: Vec<u32> = (0..3 * n).map(|i| (i % 3) as u32).collect();
                let (training, validation) = stratified(&labels, 3, fraction, 5).expect("split");
                assert!(training.is_sorted() && validation.is_sorted());
                let mut all = [training, validation.clone()].concat();
                all.sort_unstable();
                assert_eq!(all, (0..3 * n).collect::<Vec<_>>());
                let want = ((fraction * n as f64).round() as usize).clamp(1, n - 1);
                for class in 0..3 {
                    assert_eq!(validation.iter().filter(|&&i| labels[i] == class).count(), want);
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_and_other_classes_do_not() {
        let labels: Vec<u32> = (0..200).map(|i| u32::from(i >= 100)).collect();
        let split = |labels: &[u32], seed| stratified(labels, 2, 0.2, seed).expect("split").1;
        assert_eq!(split(&labels, 1), split(&labels, 1));
        assert_ne!(split(&labels, 1), split(&labels, 2));
        let longer = [labels.clone(), vec![1; 50]].concat();
        let of_class_0 = |v: Vec<usize>| v.into_iter().filter(|&i| i < 100).collect::<Vec<_>>();
        assert_eq!(of_class_0(split(&labels, 1)), of_class_0(split(&longer, 1)));
    }

    #[test]
    fn bad_requests_are_errors() {
        for fraction in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(stratified(&[0, 0, 1, 1], 2, fraction, 0).is_err());
        }
        let error = stratified(&[0, 0, 1], 2, 0.5, 0).expect_err("one picture");
        assert!(error.to_string().contains("class 1 has 1 picture"), "{error}");
        assert!(stratified(&[0, 0, 7, 7], 2, 0.5, 0).is_err());
    }
}
