//! Pictures and maps at the size on show.

/// The side that pictures are scaled to, about. Pixels.
pub const SIDE: u32 = 256;

/// The size on show of a picture: a whole multiple of a small one's, so that each of its pixels is a square; a large one
/// shrinks to [`SIDE`].
pub fn shown_size(width: u32, height: u32) -> (u32, u32) {
    let long = width.max(height);
    let times = (f64::from(SIDE) / f64::from(long)).round();
    let times = if times >= 1.0 && long <= SIDE * 4 / 3 { times } else { f64::from(SIDE) / f64::from(long) };
    let scaled = |side: u32| ((f64::from(side) * times).round() as u32).max(1);
    (scaled(width), scaled(height))
}

/// A map resampled with half-pixel centres; values beyond the edge are the edge's.
pub fn bilinear(map: &[f32], (w, h): (u32, u32), (to_w, to_h): (u32, u32)) -> Vec<f32> {
    if (w, h) == (to_w, to_h) {
        return map.to_vec();
    }
    // Both neighbours along one side and how far between them the point lies.
    let neighbours = |i: u32, from: u32, to: u32| {
        let u = ((i as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        (u.floor() as usize, u.ceil() as usize, u.fract())
    };
    let columns: Vec<_> = (0..to_w).map(|x| neighbours(x, w, to_w)).collect();
    let mut out = Vec::with_capacity(to_w as usize * to_h as usize);
    for y in 0..to_h {
        let (upper, lower, down) = neighbours(y, h, to_h);
        let at = |row: usize, column: usize| map[row * w as usize + column];
        for &(left, right, across) in &columns {
            let top = at(upper, left) + (at(upper, right) - at(upper, left)) * across;
            let bottom = at(lower, left) + (at(lower, right) - at(lower, left)) * across;
            out.push(top + (bottom - top) * down);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_grow_by_whole_numbers_and_large_ones_shrink() {
        assert_eq!(shown_size(128, 128), (256, 256));
        assert_eq!(shown_size(100, 50), (300, 150));
        assert_eq!(shown_size(224, 224), (224, 224));
        assert_eq!(shown_size(1024, 512), (256, 128));
        assert_eq!(shown_size(1, 5000), (1, 256));
    }

    #[test]
    fn resampling_interpolates_between_pixel_centres_and_keeps_constants() {
        assert_eq!(bilinear(&[0.0, 1.0], (2, 1), (4, 1)), [0.0, 0.25, 0.75, 1.0]);
        assert!(bilinear(&[0.3; 6], (3, 2), (7, 9)).iter().all(|&v| v == 0.3));
    }
}
