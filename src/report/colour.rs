//! From a Grad-CAM map and a picture to the pixels on show, as the notebook's two `imshow` calls composite them.

use anyhow::{Result, ensure};

/// How a map's values become positions in the colour table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Fixed [0, 1]: an almost flat map looks flat, and two maps can be compared.
    #[default]
    Unit,
    /// Each map stretched from its own smallest to its own largest value, as the notebook's `imshow` does.
    Stretch,
    /// Fixed [-1, 1] on a diverging table: blue speaks against the class, red for it.
    Signed,
}

impl Scale {
    /// The colour of a value that is already on the scale: [0, 1], or [-1, 1] for `Signed`.
    pub fn colour(self, v: f32) -> [u8; 3] {
        match self {
            Scale::Unit | Scale::Stretch => magma(v),
            Scale::Signed => diverging(v),
        }
    }
}

/// matplotlib's `magma` at v in [0, 1]: entry min(255, trunc(256 v)) of its table of 256 colours; outside, the nearer end.
pub fn magma(v: f32) -> [u8; 3] {
    // `as` truncates, sends NaN to 0 and saturates.
    table(colorous::MAGMA, ((v * 256.0) as usize).min(255))
}

/// A diverging colour for v in [-1, 1]: blue, near white at 0, red (ColorBrewer's RdBu, turned round).
pub fn diverging(v: f32) -> [u8; 3] {
    table(colorous::RED_BLUE, 255 - (((v + 1.0) * 128.0) as usize).min(255))
}

/// Entry `index` of a gradient's 256 colours.
fn table(gradient: colorous::Gradient, index: usize) -> [u8; 3] {
    gradient.eval_rational(index, 256).into_array()
}

/// A confusion matrix cell's colour for v in [0, 1], dark for few and light for many like seaborn's `rocket`.
///
/// `rocket` itself is not in colorous; `magma` is its nearest relation there.
pub fn heat(v: f32) -> [u8; 3] {
    magma(v)
}

/// Whether dark letters read better than white ones on this colour: seaborn's rule, relative luminance above 0.408 (WCAG 2.0).
pub fn wants_dark_ink(colour: [u8; 3]) -> bool {
    let linear = |c: u8| {
        let c = f32::from(c) / 255.0;
        if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]) > 0.408
}

/// The smallest and largest finite value of a map, if it has one.
pub fn range(map: &[f32]) -> Option<(f32, f32)> {
    map.iter().filter(|v| v.is_finite()).fold(None, |range, &v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((v.min(low), v.max(high))),
    })
}

/// A map's values moved so that its smallest is 0 and its largest 1, as `imshow` does; values that are not finite stay.
///
/// A map without any spread (all values equal) becomes zeros, as matplotlib's `Normalize` has it.
pub fn stretch(map: &[f32]) -> Vec<f32> {
    let (low, high) = range(map).unwrap_or((0.0, 1.0));
    let place = |v: f32| match v {
        v if !v.is_finite() => v,
        v if high > low => (v - low) / (high - low),
        _ => 0.0,
    };
    map.iter().map(|&v| place(v)).collect()
}

/// The pixels on show: `0.5 colour(v) + 0.3 picture + 0.2`, which is the picture at alpha 0.6 on white and the map at 0.5 over it.
///
/// A value that is not finite is transparent, as in matplotlib: `0.6 picture + 0.4`.
///
/// `picture` is RGB, three bytes a pixel; `map` has one value a pixel, in the same row-major order. Returns RGB bytes.
///
/// # Errors
/// When the picture has not three bytes for each value of the map.
pub fn overlay(picture: &[u8], map: &[f32], scale: Scale) -> Result<Vec<u8>> {
    ensure!(
        picture.len() == map.len() * 3,
        "a map of {} values does not cover a picture of {} RGB bytes (three for each value)",
        map.len(),
        picture.len()
    );
    let stretched = (scale == Scale::Stretch).then(|| stretch(map));
    let values = stretched.as_deref().unwrap_or(map);
    let mut out = Vec::with_capacity(picture.len());
    for (pixel, &v) in picture.chunks_exact(3).zip(values) {
        for (&p, m) in pixel.iter().zip(scale.colour(v)) {
            let (p, m) = (f32::from(p), f32::from(m));
            let shown = if v.is_finite() { 0.5 * m + 0.3 * p + 0.2 * 255.0 } else { 0.6 * p + 0.4 * 255.0 };
            out.push(shown.round() as u8);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of matplotlib 3.11's `magma` as bytes. One level of slack: matplotlib truncates its floats to bytes, colorous
    /// keeps d3's rounded ones. All 256 entries were compared so.
    #[test]
    fn magma_is_matplotlibs_table() {
        for (index, rgb) in [
            (0, [0, 0, 3]),
            (1, [0, 0, 4]),
            (100, [137, 40, 129]),
            (128, [182, 54, 121]),
            (200, [253, 151, 104]),
            (254, [251, 250, 189]),
            (255, [251, 252, 191]),
        ] {
            for (ours, theirs) in table(colorous::MAGMA, index).into_iter().zip::<[u8; 3]>(rgb) {
                assert!(ours.abs_diff(theirs) <= 1, "entry {index}");
            }
        }
    }

    #[test]
    fn the_index_truncates_and_the_ends_hold() {
        assert_eq!(magma(1.0 / 256.0), table(colorous::MAGMA, 1));
        assert_eq!(magma(0.999 / 256.0), table(colorous::MAGMA, 0));
        assert_eq!(magma(0.5), table(colorous::MAGMA, 128));
        assert_eq!(magma(1.0), table(colorous::MAGMA, 255));
        assert_eq!(magma(7.0), table(colorous::MAGMA, 255));
        assert_eq!(magma(-7.0), table(colorous::MAGMA, 0));
    }

    #[test]
    fn overlay_is_the_notebooks_mix_pixel_for_pixel() {
        // Black with the last colour (252, 253, 191), then white with the first (0, 0, 4), then grey under NaN.
        let shown = overlay(&[0, 0, 0, 255, 255, 255, 100, 100, 100], &[1.0, 0.0, f32::NAN], Scale::Unit).unwrap();
        assert_eq!(shown, [177, 178, 147, 128, 128, 130, 162, 162, 162]);
    }

    #[test]
    fn stretching_makes_a_weak_map_dramatic_and_the_fixed_scale_does_not() {
        let (picture, map) = ([0; 6], [8.2e-5, 1.25e-4]);
        let full = overlay(&picture, &[0.0, 1.0], Scale::Unit).unwrap();
        assert_eq!(overlay(&picture, &map, Scale::Stretch).unwrap(), full);
        let flat = overlay(&picture, &map, Scale::Unit).unwrap();
        assert_eq!(flat[..3], flat[3..]);
        // All equal, all -0.0, all NaN.
        assert_eq!(overlay(&picture, &[0.7, 0.7], Scale::Stretch).unwrap(), flat);
        assert_eq!(overlay(&picture, &[-0.0, -0.0], Scale::Stretch).unwrap(), flat);
        assert_eq!(overlay(&picture, &[f32::NAN; 2], Scale::Stretch).unwrap(), [102; 6]);
    }

    #[test]
    fn signed_maps_are_red_for_and_blue_against() {
        let (against, neutral, for_it) = (diverging(-1.0), diverging(0.0), diverging(1.0));
        assert!(against[2] > against[0] && for_it[0] > for_it[2]);
        assert!(neutral.iter().all(|&c| c > 230));
    }

    #[test]
    fn a_map_of_another_size_is_refused() {
        let error = overlay(&[0; 6], &[0.0; 3], Scale::Unit).unwrap_err().to_string();
        assert!(error.contains("3 values") && error.contains("6 RGB bytes"), "{error}");
    }

    #[test]
    fn ink_contrasts_with_its_ground() {
        assert!(wants_dark_ink([255, 255, 255]) && wants_dark_ink(heat(1.0)));
        assert!(!wants_dark_ink([0, 0, 0]) && !wants_dark_ink(heat(0.0)));
    }
}
