use super::*;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ImageEncoder, Rgb, RgbImage};
use std::path::PathBuf;
use tempfile::TempDir;

/// 24 x 16 pixels: red, green, blue and white quarters, which tell all eight orientations apart.
fn quarters() -> RgbImage {
    RgbImage::from_fn(24, 16, |x, y| match (x < 12, y < 8) {
        (true, true) => Rgb([255, 0, 0]),
        (false, true) => Rgb([0, 255, 0]),
        (true, false) => Rgb([0, 0, 255]),
        (false, false) => Rgb([255; 3]),
    })
}

/// A little-endian EXIF block with the orientation tag (0x0112) alone.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

fn jpeg(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif(orientation)).expect("EXIF");
    encoder.encode_image(image).expect("encode");
    bytes
}

fn png(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif(orientation)).expect("EXIF");
    let (width, height) = image.dimensions();
    encoder.write_image(image, width, height, image::ExtendedColorType::Rgb8).expect("encode");
    bytes
}

struct Room(TempDir);

impl Room {
    fn new() -> Self {
        Room(TempDir::new().expect("temporary folder"))
    }
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("write");
        path
    }
}

fn fails(reader: &Reader, path: &Path, reason: &str) {
    let error = reader.read(path).expect_err(reason).to_string();
    assert!(error.contains(reason) && error.contains(&*path.to_string_lossy()), "{error}");
}

#[test]
fn all_orientations_come_out_upright_and_keras_leaves_them() {
    let room = Room::new();
    let (upright, correct) = (quarters(), Reader::default());
    let faithful = Reader { keras_exact: true, ..Reader::default() };
    for tag in 1..=8u8 {
        // Store the picture as a camera held that way would: undo the orientation beforehand.
        let inverse = match tag {
            6 => 8,
            8 => 6,
            same => same,
        };
        let mut stored = DynamicImage::from(upright.clone());
        stored.apply_orientation(Orientation::from_exif(inverse).expect("1 to 8"));
        let stored = stored.into_rgb8();
        for (name, bytes) in [("a.png", png(&stored, tag)), ("a.jpg", jpeg(&stored, tag))] {
            let path = room.file(name, &bytes);
            let (picture, traits) = correct.read_native(&path).expect("read");
            assert_eq!((picture.width, picture.height), (24, 16), "{name} {tag}");
            assert_eq!(traits.orientation, tag != 1);
            let far = picture.pixels.iter().zip(upright.as_raw()).filter(|(a, b)| a.abs_diff(**b) > 40);
            // Chroma bleeds over the borders of the quarters in the JPEG.
            assert!(far.count() <= if name == "a.png" { 0 } else { 300 }, "{name} {tag}");
            let as_stored = faithful.read_native(&path).expect("read").0;
            assert_eq!((as_stored.width, as_stored.height), (stored.width() as usize, stored.height() as usize));
        }
    }
}

#[test]
fn every_truncation_is_an_error_and_trailing_bytes_are_not() {
    let room = Room::new();
    let reader = Reader::default();
    for (name, whole) in [("t.jpg", jpeg(&quarters(), 6)), ("t.png", png(&quarters(), 1))] {
        // A PNG may lack its IEND chunk (12 bytes) and is whole all the same.
        let must_fail = if name == "t.png" { whole.len() - 16 } else { whole.len() };
        for length in 0..must_fail {
            let path = room.file(name, &whole[..length]);
            assert!(reader.read(&path).is_err(), "{name} cut to {length} of {}", whole.len());
        }
        let path = room.file(name, &[whole.as_slice(), b"trailing \xFF\xD8\xFF junk"].concat());
        reader.read(&path).expect("trailing bytes");
    }
    fails(&reader, &room.file("zero.png", b""), "empty");
    let whole = jpeg(&quarters(), 1);
    fails(&reader, &room.file("t.jpg", &whole[..whole.len() - 9]), "truncated");
}

#[test]
fn the_other_formats_are_read_and_notice_truncation_and_survive_damage() {
    let room = Room::new();
    let reader = Reader::default();
    for format in [ImageFormat::Bmp, ImageFormat::Pnm, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Png] {
        let mut whole = Cursor::new(Vec::new());
        quarters().write_to(&mut whole, format).expect("encode");
        let whole = whole.into_inner();
        // Without an extension: the content must be enough.
        let picture = reader.read_native(&room.file("whole", &whole)).expect("read").0;
        assert_eq!(picture.pixels, *quarters().as_raw(), "{format:?}");
        for length in (0..whole.len() * 3 / 4).step_by(7) {
            assert!(reader.read(&room.file("cut", &whole[..length])).is_err(), "{format:?} cut to {length}");
        }
        for at in (0..whole.len()).step_by(5) {
            let mut hurt = whole.clone();
            hurt[at] ^= 0x5A;
            if let Err(error) = reader.read(&room.file("hurt", &hurt)) {
                assert!(error.to_string().contains("hurt: "), "{error}");
            }
        }
    }
}

#[test]
fn the_end_marker_of_a_thumbnail_does_not_count() {
    // SOI, APP1 of 8 bytes with an end marker inside, then nothing.
    let start = [0xFF, 0xD8, 0xFF, 0xE1, 0, 8, 0xFF, 0xD8, 0xFF, 0xD9, 0, 0];
    assert!(!jpeg_ends(&start));
    assert!(jpeg_ends(&[&start[..], &[0xFF, 0xFF, 0xD9]].concat()));
    assert!(!jpeg_ends(&[0xFF, 0xD8]) && !jpeg_ends(&[]));
}

#[test]
fn bombs_are_refused_by_their_header() {
    let room = Room::new();
    let reader = Reader::default();
    let mut bomb = png(&quarters(), 1);
    bomb[16..24].copy_from_slice(&[0, 0, 255, 255, 0, 0, 255, 255]);
    // The header's checksum must hold, or the file is refused for that.
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    fails(&reader, &room.file("bomb.png", &bomb), "limit of 178956970");

    let mut bomb = jpeg(&quarters(), 1);
    let frame = bomb.windows(2).position(|w| w == [0xFF, 0xC0]).expect("SOF0");
    bomb[frame + 5..frame + 9].copy_from_slice(&[255; 4]);
    fails(&reader, &room.file("bomb.jpg", &bomb), "65535 x 65535");

    let strict = Reader { max_pixels: 24 * 16 - 1, ..Reader::default() };
    fails(&strict, &room.file("a.png", &png(&quarters(), 1)), "limit");
    let exact = Reader { max_pixels: 24 * 16, ..Reader::default() };
    exact.read(&room.file("a.png", &png(&quarters(), 1))).expect("at the limit");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xEDB8_8320 * (c & 1))))
}

#[test]
fn what_is_no_picture_is_said_so() {
    let room = Room::new();
    let reader = Reader::default();
    fails(&reader, &room.file("notes.txt", b"hello, this is text"), "not a picture");
    fails(&reader, &room.file("text.png", b"hello, this is text"), "damaged");
    fails(&reader, &room.file("animated.jpg", b"GIF89a\x01\0\x01\0\0\0\0"), "Gif");
    fails(&reader, &room.0.path().join("missing.png"), "cannot be opened");
    fails(&reader, room.0.path(), "not a file");
    // The content decides, not the name.
    let named = room.file("jpeg.png", &jpeg(&quarters(), 1));
    let picture = reader.read(&named).expect("JPEG bytes under a PNG name");
    assert_eq!(picture.pixels.len(), 128 * 128 * 3);
}

#[test]
fn settings_survive_json_and_missing_ones_take_the_default() {
    let reader = Reader { resize: Resize::Antialias, background: [1, 2, 3], ..Reader::default() };
    let text = serde_json::to_string(&reader).expect("to JSON");
    assert_eq!(serde_json::from_str::<Reader>(&text).expect("from JSON"), reader);
    assert_eq!(serde_json::from_str::<Reader>("{}").expect("from JSON"), Reader::default());
}

#[test]
fn a_tiff_whose_list_of_strips_outgrows_the_file_is_refused() {
    for big_endian in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.tif");
        let word = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let half = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let with = |count: u32| {
            let mut file = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
            file.extend(half(42));
            file.extend(word(8));
            file.extend(half(1));
            // StripByteCounts of `count` 32-bit numbers.
            file.extend([half(279), half(4)].concat());
            file.extend([word(count), word(0), word(0)].concat());
            file
        };
        let error = |count| {
            fs::write(&path, with(count)).expect("a file");
            Reader::default().read(&path).expect_err("no picture").to_string()
        };
        assert!(error(3_000_000).contains("longer than the file"), "{}", error(3_000_000));
        assert!(!error(1).contains("longer than the file"), "{}", error(1));
    }
}

#[test]
fn plain_jpegs_are_read_as_image_reads_them() {
    let room = Room::new();
    // Sides off the blocks of 8 and of 16 pixels, and below one.
    for (width, height) in [(1, 1), (7, 5), (16, 16), (17, 9), (33, 40), (128, 3), (65, 130)] {
        let stored = RgbImage::from_fn(width, height, |x, y| Rgb([(7 * x) as u8, (5 * y) as u8, (3 * x + 11 * y) as u8]));
        let path = room.file("a.jpg", &jpeg(&stored, 1));
        let want = image::open(&path).expect("decode").into_rgb8();
        let [height, width] = [height as usize, width as usize];
        let mut reader = Reader { height, width, ..Reader::default() };
        let mut words = vec![0; height * width];
        assert_eq!(reader.read_into(&path, &mut words).expect("read"), Traits::default());
        assert_eq!(words, pixels::pack(&want), "{width} x {height}");
        // All the ways to another size.
        (reader.height, reader.width) = (11, 70);
        for how in [Resize::Nearest, Resize::Bilinear, Resize::Antialias] {
            reader.resize = how;
            let native = RgbPixels { pixels: want.to_vec(), height, width };
            let mut words = vec![0; 11 * 70];
            assert!(reader.read_into(&path, &mut words).expect("read").resized);
            let resized = resize(native, 11, 70, how).expect("resize").pixels;
            assert_eq!(words, pixels::pack(&resized), "{width} x {height}, {how:?}");
        }
    }
}
