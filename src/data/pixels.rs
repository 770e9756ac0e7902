//! Decoded pixels of any kind to 8-bit RGB, the correct way and Pillow's; and 8-bit RGB to the words that the kernels read.

use image::{DynamicImage, ImageFormat};

/// Words of RGB bytes, a pixel each: R | G << 8 | B << 16 | 255 << 24, which is opaque RGBA in a little-endian memory. The kernels do
/// not read the top byte.
pub fn pack(rgb: &[u8]) -> Vec<u32> {
    let mut words = vec![0; rgb.len() / 3];
    pack_into(rgb, &mut words);
    words
}

/// As [`pack`], into `words`, one for each pixel.
pub(super) fn pack_into(rgb: &[u8], words: &mut [u32]) {
    for (word, &[r, g, b]) in words.iter_mut().zip(rgb.as_chunks::<3>().0) {
        *word = u32::from_le_bytes([r, g, b, 255]);
    }
}

/// The RGB bytes of [`pack`]'s words.
pub fn unpack(words: &[u32]) -> Vec<u8> {
    let mut rgb = vec![0; 3 * words.len()];
    for (pixel, word) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(words) {
        let [r, g, b, _] = word.to_le_bytes();
        *pixel = [r, g, b];
    }
    rgb
}

/// How Pillow brings 16-bit samples to 8, which depends on the file they came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth16 {
    /// Mode `I;16` or `I`: clipped at 255. Any grey without an alpha channel.
    Clip,
    /// Modes `RGB;16B`, `LA;16B`, ...: the high byte.
    HighByte,
    /// PNM: scaled.
    Scale,
}

impl Depth16 {
    /// The way for a file's colour samples; grey ones without alpha are clipped in any case.
    pub(super) fn of(format: ImageFormat, bytes: &[u8]) -> Self {
        // PNG colour type 0 (byte 25, in IHDR) is grey; with a tRNS chunk the decoder makes an alpha channel of it,
        // Pillow does not.
        match format {
            ImageFormat::Pnm => Depth16::Scale,
            ImageFormat::Png if bytes.get(25) == Some(&0) => Depth16::Clip,
            _ => Depth16::HighByte,
        }
    }

    fn to_8(self, v: u16) -> u8 {
        match self {
            Depth16::Clip => v.min(255) as u8,
            Depth16::HighByte => (v >> 8) as u8,
            Depth16::Scale => scale_16(v),
        }
    }
}

/// 16 bits to 8: round(v / 257), so that 0 and 65535 map to 0 and 255 and every step is equally wide.
fn scale_16(v: u16) -> u8 {
    ((u32::from(v) * 255 + 32_767) / 65_535) as u8
}

/// Whether the picture has more than 8 bits per channel.
pub(super) fn is_deep(image: &DynamicImage) -> bool {
    let color = image.color();
    color.bytes_per_pixel() > color.channel_count()
}

/// Scale to 8 bits and lay the picture over `background`. Returns RGB bytes, and whether any pixel was not opaque.
pub(super) fn over(image: DynamicImage, background: [u8; 3]) -> (Vec<u8>, bool) {
    let image = match image {
        DynamicImage::ImageLuma16(grey) => {
            return (grey.into_raw().into_iter().flat_map(|v| [scale_16(v); 3]).collect(), false);
        }
        DynamicImage::ImageRgb16(rgb) => {
            return (rgb.into_raw().into_iter().map(scale_16).collect(), false);
        }
        other if !other.color().has_alpha() => return (other.into_rgb8().into_raw(), false),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [p.0[0], p.0[0], p.0[0], p.0[1]].map(scale_16)).collect(),
        DynamicImage::ImageRgba16(rgba) => rgba.into_raw().into_iter().map(scale_16).collect(),
        other => other.into_rgba8().into_raw(),
    };
    let rgba = image.as_chunks::<4>().0;
    let transparent = rgba.iter().any(|p| p[3] != 255);
    let blend = |color: u8, behind: u8, alpha: u8| {
        let (color, behind, alpha) = (u32::from(color), u32::from(behind), u32::from(alpha));
        ((color * alpha + behind * (255 - alpha) + 127) / 255) as u8
    };
    let rgb = rgba.iter().flat_map(|p| [0, 1, 2].map(|c| blend(p[c], background[c], p[3]))).collect();
    (rgb, transparent)
}

/// RGB bytes as `PIL.Image.convert("RGB")` gives them: alpha dropped, 16 bits brought to 8 as `depth` says.
pub(super) fn as_pillow(image: DynamicImage, depth: Depth16) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma16(grey) => grey.into_raw().into_iter().flat_map(|v| [Depth16::Clip.to_8(v); 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [depth.to_8(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(rgb) => rgb.into_raw().into_iter().map(|v| depth.to_8(v)).collect(),
        DynamicImage::ImageRgba16(rgba) => rgba.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(|v| depth.to_8(v))).collect(),
        other => other.into_rgb8().into_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba, RgbaImage};

    #[test]
    fn a_word_is_an_opaque_pixel() {
        let words = pack(&[1, 2, 3, 253, 254, 255]);
        assert_eq!(words, [0xff03_0201, 0xffff_fefd]);
        assert_eq!(bytemuck::cast_slice::<u32, u8>(&[words[0].to_le(), words[1].to_le()]), [1, 2, 3, 255, 253, 254, 255, 255]);
        assert_eq!(unpack(&words), [1, 2, 3, 253, 254, 255]);
    }

    #[test]
    fn sixteen_bits_are_v_over_257_rounded() {
        for v in 0..=u16::MAX {
            assert_eq!(scale_16(v), (f64::from(v) / 257.0).round() as u8, "{v}");
        }
    }

    #[test]
    fn alpha_is_laid_over_the_background() {
        let one = |alpha| DynamicImage::from(RgbaImage::from_pixel(1, 1, Rgba([200, 0, 100, alpha])));
        assert_eq!(over(one(255), [1, 2, 3]), (vec![200, 0, 100], false));
        assert_eq!(over(one(0), [1, 2, 3]), (vec![1, 2, 3], true));
        assert_eq!(over(one(128), [255; 3]), (vec![227, 127, 177], true));
        assert_eq!(as_pillow(one(0), Depth16::HighByte), [200, 0, 100]);
    }

    #[test]
    fn grey_is_repeated_and_deep_grey_is_clipped_by_pillow_only() {
        let grey = DynamicImage::from(GrayImage::from_pixel(1, 1, Luma([9])));
        assert!(!is_deep(&grey));
        assert_eq!(over(grey, [255; 3]), (vec![9; 3], false));
        let deep = DynamicImage::from(ImageBuffer::from_pixel(1, 1, Luma([4096u16])));
        assert!(is_deep(&deep));
        assert_eq!(over(deep.clone(), [255; 3]), (vec![16; 3], false));
        assert_eq!(as_pillow(deep, Depth16::HighByte), [255; 3]);
        let grey_alpha = DynamicImage::from(ImageBuffer::from_pixel(1, 1, LumaA([4096u16, 0])));
        assert_eq!(over(grey_alpha.clone(), [7; 3]), (vec![7; 3], true));
        assert_eq!(as_pillow(grey_alpha.clone(), Depth16::Clip), [255; 3]);
        assert_eq!(as_pillow(grey_alpha, Depth16::HighByte), [16; 3]);
        let colour = DynamicImage::from(ImageBuffer::from_pixel(1, 1, Rgb([255u16, 256, 65535])));
        assert_eq!(over(colour.clone(), [0; 3]), (vec![1, 1, 255], false));
        assert_eq!(as_pillow(colour, Depth16::HighByte), [0, 1, 255]);
    }
}
