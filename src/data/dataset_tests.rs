use super::*;
use crate::data::resize::Resize;
use image::{Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

fn reader() -> Reader {
    Reader { height: 4, width: 6, resize: Resize::Nearest, ..Reader::default() }
}

/// Pictures of one colour each, `n` per class for two classes, alternating.
fn room(n: u32) -> (TempDir, Vec<Item>, Vec<String>) {
    let dir = TempDir::new().expect("temporary folder");
    let item = |i: u32| {
        let path = dir.path().join(format!("{i:03}.png"));
        RgbImage::from_pixel(9, 5, Rgb([i as u8, 1, 2])).save(&path).expect("save");
        Item { path, class: i % 2 }
    };
    let items = (0..2 * n).map(item).collect();
    (dir, items, vec!["a".to_owned(), "b".to_owned()])
}

fn load(items: &[Item], classes: &[String], on_bad: OnBad) -> Result<Dataset> {
    Dataset::load(items, classes, &reader(), on_bad, Limit::default(), Some("Reading"), None)
}

#[test]
fn pictures_lie_in_the_order_of_the_items() {
    let (_dir, items, classes) = room(20);
    let data = load(&items, &classes, OnBad::Fail).expect("load");
    assert_eq!((data.len(), data.is_empty(), data.class_counts()), (40, false, vec![20, 20]));
    assert_eq!(data.pixels.len(), 40 * 4 * 6);
    for (i, item) in items.iter().enumerate() {
        assert_eq!(data.image(i), [i as u8, 1, 2].repeat(24));
        assert_eq!((data.labels[i], &data.paths[i]), (item.class, &item.path));
    }
    assert_eq!(data.traits.resized, 40);
}

#[test]
fn bad_files_are_all_named_and_can_be_skipped() {
    let (dir, items, classes) = room(15);
    for i in [0, 7, 29] {
        std::fs::write(&items[i].path, b"").expect("write");
    }
    std::fs::remove_file(&items[12].path).expect("remove");
    let error = load(&items, &classes, OnBad::Fail).expect_err("bad files").to_string();
    for part in ["4 of 30", "000.png", "007.png", "012.png", "029.png", "empty", "--on-bad skip"] {
        assert!(error.contains(part), "{error}");
    }
    let data = load(&items, &classes, OnBad::Skip).expect("load");
    assert_eq!(data.class_counts(), [13, 13]);
    assert_eq!(data.pixels.len(), 26 * 24);
    for i in 0..data.len() {
        let red: u8 = data.paths[i].file_stem().and_then(|s| s.to_str()?.parse().ok()).expect("number");
        assert_eq!(data.image(i)[0], red);
    }
    drop(dir);
}

#[test]
fn every_bad_file_is_listed_and_an_emptied_class_is_an_error() {
    let (_dir, items, classes) = room(25);
    items.iter().filter(|item| item.class == 1).for_each(|item| std::fs::write(&item.path, b"x").expect("write"));
    let error = load(&items, &classes, OnBad::Skip).expect_err("class b").to_string();
    assert_eq!(error.lines().filter(|line| line.starts_with("  ")).count(), 25, "{error}");
    assert!(error.contains("class b has no picture left"), "{error}");
}

#[test]
fn too_much_is_refused_before_it_is_allocated() {
    let (_dir, items, classes) = room(2);
    let limit = |n| Dataset::load(&items, &classes, &reader(), OnBad::Fail, Limit(n), None, None);
    assert!(limit(4 * 96).is_ok());
    assert!(limit(4 * 96 - 1).expect_err("limit").to_string().contains("above the limit"));
    let huge = Reader { height: usize::MAX / 2, ..reader() };
    assert!(Dataset::load(&items, &classes, &huge, OnBad::Fail, Limit(u64::MAX), None, None).is_err());
    assert!(load(&[], &classes, OnBad::Fail).is_err());
    assert!(load(&items, &classes[..1], OnBad::Fail).is_err());
}

#[test]
fn traits_are_counted() {
    let (dir, mut items, classes) = room(1);
    let path = dir.path().join("clear.png");
    RgbaImage::from_pixel(6, 4, Rgba([0, 0, 0, 0])).save(&path).expect("save");
    items.push(Item { path, class: 0 });
    let data = load(&items, &classes, OnBad::Fail).expect("load");
    assert_eq!((data.traits.alpha, data.traits.pictures, data.traits.resized), (1, 3, 2));
    assert_eq!(data.image(2), [255; 72]);
}

#[test]
fn the_fingerprint_is_the_checksum_of_labels_and_rgb_bytes() {
    let (_dir, items, classes) = room(3);
    let mut data = load(&items, &classes, OnBad::Fail).expect("load");
    // More than a thread takes at once, and not a multiple of it.
    data.pixels = (0..3 * FINGERPRINT_PART as u32 + 5).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    let bytes = [bytemuck::cast_slice(&data.labels), &unpack(&data.pixels)].concat();
    assert_eq!(data.fingerprint(), Fingerprint { pictures: 6, crc32: crc32fast::hash(&bytes) });
}
