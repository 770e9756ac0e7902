//! Resizing of 8-bit RGB pictures: the three ways that `--resize` offers.

use anyhow::{Context, Result};
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb};
use serde::{Deserialize, Serialize};

use super::decode::RgbPixels;

/// How a picture is brought to the network's size.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// The nearest source pixel, as Keras's `target_size` does (Pillow NEAREST). Aliases on strong reduction.
    #[default]
    Nearest,
    /// Four neighbours, half-pixel centres, no antialias: `tf.image.resize(..., "bilinear")`.
    Bilinear,
    /// Triangle filter widened on reduction, so that every source pixel counts (Pillow BILINEAR).
    Antialias,
}

/// Resize a picture to `height` x `width`; the same size returns it as it is.
///
/// # Errors
/// When `pixels` is not `height * width * 3` bytes long, a size is zero or the result would not fit in memory.
pub fn resize(picture: RgbPixels, height: usize, width: usize, how: Resize) -> Result<RgbPixels> {
    let bytes = height.checked_mul(width).and_then(|n| n.checked_mul(3)).context("picture size overflows")?;
    anyhow::ensure!(bytes > 0 && picture.height > 0 && picture.width > 0, "a picture size of zero");
    anyhow::ensure!(
        picture.pixels.len() == picture.height * picture.width * 3,
        "{} bytes are not a {} x {} RGB picture",
        picture.pixels.len(),
        picture.height,
        picture.width
    );
    if (picture.height, picture.width) == (height, width) {
        return Ok(picture);
    }
    let pixels = match how {
        Resize::Nearest => {
            let mut out = vec![[0; 3]; height * width];
            nearest(picture.pixels.as_chunks().0, [picture.height, picture.width], &mut out, [height, width]);
            out.into_flattened()
        }
        Resize::Bilinear => bilinear(&picture, height, width),
        Resize::Antialias => antialias(picture, height, width)?,
    };
    Ok(RgbPixels { pixels, height, width })
}

/// The source index of output index `i`: floor((i + 0.5) * input / output), in integers so that no rounding can enter.
/// Source: Pillow `Geometry.c` ImagingScaleAffine, whose f64 sums give the same numbers.
pub fn nearest_index(i: usize, input: usize, output: usize) -> usize {
    ((2 * i + 1) * input) / (2 * output)
}

/// The nearest pixels of a picture of `from` rows and columns, as a picture of `to`.
pub(super) fn nearest<P: Copy>(pixels: &[P], from: [usize; 2], out: &mut [P], to: [usize; 2]) {
    let columns: Vec<usize> = (0..to[1]).map(|x| nearest_index(x, from[1], to[1])).collect();
    for (y, out) in out.chunks_exact_mut(to[1]).enumerate() {
        let row = &pixels[nearest_index(y, from[0], to[0]) * from[1]..][..from[1]];
        out.iter_mut().zip(&columns).for_each(|(out, &x)| *out = row[x]);
    }
}

/// For each output index the two source indices and the weight of the second. Source: TensorFlow
/// `resize_bilinear_op.cc` with half-pixel centres; the weight uses the floor before clamping, as there.
fn taps(input: usize, output: usize) -> Vec<(usize, usize, f32)> {
    let scale = input as f32 / output as f32;
    (0..output)
        .map(|i| {
            let at = (i as f32 + 0.5) * scale - 0.5;
            let low = at.floor();
            // A negative float becomes 0 in the cast, which is the clamp wanted at the first edge.
            (low as usize, (at.ceil() as usize).min(input - 1), at - low)
        })
        .collect()
}

fn bilinear(picture: &RgbPixels, height: usize, width: usize) -> Vec<u8> {
    let columns = taps(picture.width, width);
    let at = |y: usize, x: usize, c: usize| f32::from(picture.pixels[(y * picture.width + x) * 3 + c]);
    let mut out = Vec::with_capacity(height * width * 3);
    for (top, bottom, ty) in taps(picture.height, height) {
        for &(left, right, tx) in &columns {
            for c in 0..3 {
                let upper = at(top, left, c) + (at(top, right, c) - at(top, left, c)) * tx;
                let lower = at(bottom, left, c) + (at(bottom, right, c) - at(bottom, left, c)) * tx;
                out.push((upper + (lower - upper) * ty + 0.5) as u8);
            }
        }
    }
    out
}

fn antialias(picture: RgbPixels, height: usize, width: usize) -> Result<Vec<u8>> {
    let size = |n: usize| u32::try_from(n).context("picture side above 2^32");
    let source: ImageBuffer<Rgb<u8>, _> =
        ImageBuffer::from_raw(size(picture.width)?, size(picture.height)?, picture.pixels).context("picture buffer too short")?;
    Ok(imageops::resize(&source, size(width)?, size(height)?, FilterType::Triangle).into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(height: usize, width: usize, value: impl Fn(usize, usize) -> u8) -> RgbPixels {
        let pixels = (0..height * width).flat_map(|i| [value(i / width, i % width); 3]).collect();
        RgbPixels { pixels, height, width }
    }

    #[test]
    fn integer_form_equals_the_f64_form() {
        for output in [1, 2, 7, 32, 127, 128, 224] {
            for input in 1..=700usize {
                for i in 0..output {
                    let float = ((i as f64 + 0.5) * input as f64 / output as f64).floor() as usize;
                    let integer = nearest_index(i, input, output);
                    assert_eq!(integer, float, "{i} {input} {output}");
                    assert!(integer < input);
                }
            }
        }
    }

    #[test]
    fn nearest_takes_the_pixels_that_pillow_takes() {
        // Pillow: 5 columns to 3 gives columns 0, 2, 4; 4 rows to 2 gives rows 1, 3.
        let out = resize(grey(4, 5, |y, x| (10 * y + x) as u8), 2, 3, Resize::Nearest).expect("resize");
        let values: Vec<u8> = out.pixels.chunks(3).map(|p| p[0]).collect();
        assert_eq!(values, [10, 12, 14, 30, 32, 34]);
    }

    #[test]
    fn bilinear_has_half_pixel_centres() {
        let out = resize(grey(1, 2, |_, x| [0, 100][x]), 1, 4, Resize::Bilinear).expect("resize");
        let values: Vec<u8> = out.pixels.chunks(3).map(|p| p[0]).collect();
        assert_eq!(values, [0, 25, 75, 100]);
    }

    #[test]
    fn antialias_averages_what_the_others_skip() {
        let checks = || grey(64, 64, |y, x| if (x + y) % 2 == 0 { 255 } else { 0 });
        let mean = |how| resize(checks(), 4, 4, how).expect("resize").pixels;
        assert!(mean(Resize::Antialias).iter().all(|v| v.abs_diff(128) <= 2));
        assert!(mean(Resize::Nearest).iter().all(|&v| v == 0 || v == 255));
    }

    #[test]
    fn flat_pictures_stay_flat_and_equal_sizes_stay_untouched() {
        for how in [Resize::Nearest, Resize::Bilinear, Resize::Antialias] {
            for (height, width) in [(1, 1), (3, 9), (40, 2)] {
                let out = resize(grey(7, 5, |_, _| 77), height, width, how).expect("resize");
                assert_eq!(out.pixels, vec![77; height * width * 3], "{how:?}");
            }
            let picture = grey(3, 4, |y, x| (y * 4 + x) as u8);
            assert_eq!(resize(picture.clone(), 3, 4, how).expect("resize"), picture);
        }
        assert!(resize(grey(2, 2, |_, _| 0), 0, 2, Resize::Nearest).is_err());
    }
}
