use super::*;
use crate::data::folder::scan;
use tempfile::TempDir;

const SMALL: Planted = Planted { size: 64, train: 7, test: 4, seed: 3 };

#[test]
fn the_same_seed_makes_the_same_bytes_in_a_scannable_folder() {
    let dir = TempDir::new().expect("temporary folder");
    let make = |name: &str, seed| generate(&dir.path().join(name), &Planted { seed, ..SMALL }).expect("generate");
    let (a, b, c) = (make("a", 3), make("b", 3), make("c", 4));
    let bytes = |set: &PlantedSet| -> Vec<Vec<u8>> {
        let files = set.pictures.iter().map(|p| &p.path).chain([&set.boxes]);
        files.map(|path| fs::read(path).expect("read")).collect()
    };
    assert_eq!(bytes(&a), bytes(&b));
    assert!(bytes(&a).iter().zip(bytes(&c)).all(|(x, y)| *x != y));
    assert_eq!(a.pictures.len(), 11);
    let folder = scan(&a.train, false).expect("scan");
    assert_eq!(folder.classes, CLASSES);
    assert_eq!(folder.items.iter().filter(|item| item.class == 0).count(), 4);
    assert_eq!(scan(&a.test, true).expect("scan").items.len(), 4);
}

#[test]
fn boxes_read_back_as_they_were_made() {
    let dir = TempDir::new().expect("temporary folder");
    let set = generate(dir.path(), &SMALL).expect("generate");
    assert_eq!(read_boxes(&set.boxes).expect("read"), set.pictures);
    for picture in &set.pictures {
        assert_eq!(picture.artefact.is_some(), picture.class == "fake");
        if let Some(PlantedBox { x, y, width, height }) = picture.artefact {
            assert!(width >= 20 && height >= 20 && x + width <= 64 && y + height <= 64);
        }
    }
    let again = generate(dir.path(), &SMALL).expect_err("not empty").to_string();
    assert!(again.contains("not empty"), "{again}");
}

#[test]
fn bad_settings_and_lists_are_errors() {
    let dir = TempDir::new().expect("temporary folder");
    let at = dir.path().join("x");
    assert!(generate(&at, &Planted { size: 20, ..SMALL }).is_err());
    assert!(generate(&at, &Planted { train: 1, ..SMALL }).is_err());
    assert!(!at.exists());
    let list = |text: &str| {
        fs::write(dir.path().join("list.csv"), text).expect("write");
        format!("{:#}", read_boxes(&dir.path().join("list.csv")).expect_err("bad list"))
    };
    assert!(list("path,class,x,y,width,height\na.png,fake,1,2,,4\n").contains("line 2"));
    assert!(list("path,class,x,y,width,height\na.png,fake,one,2,3,4\n").contains("line 2"));
    assert!(read_boxes(&dir.path().join("absent.csv")).is_err());
}
