use super::*;
use crate::data::{Dataset, Limit, OnBad};
use image::{Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

fn reader() -> Reader {
    Reader { height: 4, width: 6, ..Reader::default() }
}

fn old() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn date(path: &Path, time: SystemTime) {
    File::options().append(true).open(path).expect("open").set_modified(time).expect("date");
}

struct Room {
    dir: TempDir,
    items: Vec<Item>,
    cache: Cache,
}

impl Room {
    /// Twelve pictures changed long ago, one of them with transparent pixels.
    fn new() -> Self {
        let dir = TempDir::new().expect("temporary folder");
        let item = |i: u32| {
            let path = dir.path().join(format!("{i:02}.png"));
            match i {
                5 => RgbaImage::from_pixel(6, 4, Rgba([9, 0, 0, 40])).save(&path).expect("save"),
                _ => RgbImage::from_pixel(9, 5, Rgb([i as u8, 1, 2])).save(&path).expect("save"),
            }
            date(&path, old());
            Item { path, class: i % 2 }
        };
        let items = (0..12).map(item).collect();
        let cache = Cache::at(dir.path().join("cache"));
        Self { dir, items, cache }
    }

    fn read(&self, reader: &Reader, on_bad: OnBad, cache: Option<&Cache>) -> Dataset {
        let classes = ["a".to_owned(), "b".to_owned()];
        Dataset::load(&self.items, &classes, reader, on_bad, Limit::default(), None, cache).expect("load")
    }

    fn load(&self) -> Dataset {
        self.read(&reader(), OnBad::Fail, Some(&self.cache))
    }

    /// Overwrites a picture with as many bytes that are none, its time as it was: only a cache can still have it.
    fn spoil(&self, i: usize) {
        let path = &self.items[i].path;
        let len = fs::metadata(path).expect("file").len();
        fs::write(path, vec![0; len as usize]).expect("write");
        date(path, old());
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.cache.folder).map(|d| d.map(|e| e.expect("entry").path()).collect());
        entries.unwrap_or_default()
    }
}

#[test]
fn the_decoders_are_those_of_the_lock_file() {
    let lock = include_str!("../../Cargo.lock").replace("\r\n", "\n");
    for (name, version) in DECODERS {
        let stands = format!("name = \"{name}\"\nversion = ");
        let versions: Vec<_> = lock.match_indices(&stands).map(|(at, found)| &lock[at + found.len()..]).collect();
        assert!(
            matches!(versions[..], [found] if found.starts_with(&format!("\"{version}\"\n"))),
            "DECODERS says {name} {version} and Cargo.lock does not: pictures that the old one decoded would be taken from the cache"
        );
    }
}

#[test]
fn a_second_run_decodes_nothing_and_has_the_same() {
    let room = Room::new();
    let plain = room.read(&reader(), OnBad::Fail, None);
    assert_eq!(room.files(), Vec::<PathBuf>::new());
    assert_eq!(room.load(), plain);
    (0..12).for_each(|i| room.spoil(i));
    let again = room.load();
    assert_eq!(again, plain);
    assert_eq!((again.traits.alpha, again.traits.resized), (1, 11));
    // In another order and with some left out too.
    let some = Room { items: room.items.iter().rev().skip(3).cloned().collect(), ..room };
    let part = some.load();
    assert_eq!((part.image(0), part.image(8)), (plain.image(8), plain.image(0)));
}

#[test]
fn a_changed_file_is_decoded_again() {
    let room = Room::new();
    let plain = room.load();
    RgbImage::from_pixel(9, 5, Rgb([200, 1, 2])).save(&room.items[3].path).expect("save");
    date(&room.items[3].path, old() + Duration::from_nanos(1000));
    room.spoil(4);
    let again = room.load();
    assert_eq!((again.image(3)[0], again.image(4)), (200, plain.image(4)));
    // And the new one is kept.
    let path = &room.items[3].path;
    let len = fs::metadata(path).expect("file").len();
    fs::write(path, vec![0; len as usize]).expect("write");
    date(path, old() + Duration::from_nanos(1000));
    assert_eq!(room.load(), again);
}

#[test]
fn other_settings_are_another_data_set() {
    let room = Room::new();
    room.load();
    let blue = Reader { background: [0, 0, 255], ..reader() };
    assert_eq!(room.read(&blue, OnBad::Fail, Some(&room.cache)), room.read(&blue, OnBad::Fail, None));
    let large = Reader { height: 6, width: 4, ..reader() };
    assert_eq!(room.read(&large, OnBad::Fail, Some(&room.cache)), room.read(&large, OnBad::Fail, None));
    assert_eq!(room.files().len(), 3);
}

#[test]
fn a_damaged_cache_is_not_believed_anywhere() {
    let room = Room::new();
    let plain = room.load();
    let file = room.files().remove(0);
    let whole = fs::read(&file).expect("cache");
    for at in 0..whole.len() {
        let mut hurt = whole.clone();
        hurt[at] ^= 0x10;
        fs::write(&file, &hurt).expect("write");
        assert_eq!(room.load(), plain, "byte {at}");
    }
    for len in (0..whole.len()).step_by(13) {
        fs::write(&file, &whole[..len]).expect("write");
        assert_eq!(room.load(), plain, "cut to {len}");
    }
}

#[test]
fn a_file_that_has_just_changed_is_not_kept() {
    let room = Room::new();
    date(&room.items[7].path, SystemTime::now());
    let plain = room.load();
    let seven = fs::metadata(&room.items[7].path).expect("file").modified().expect("time");
    // Another picture of the same length with the same time, as a change within one step of the clock leaves it.
    let bytes = fs::read(&room.items[6].path).expect("picture");
    assert_eq!(bytes.len() as u64, fs::metadata(&room.items[7].path).expect("file").len());
    fs::write(&room.items[7].path, bytes).expect("write");
    date(&room.items[7].path, seven);
    assert_eq!((room.load().image(7), room.load().image(6)), (plain.image(6), plain.image(6)));
}

#[test]
fn bad_files_stay_bad_and_leave_the_others_in_place() {
    let room = Room::new();
    room.spoil(2);
    let plain = room.read(&reader(), OnBad::Skip, None);
    assert_eq!(room.read(&reader(), OnBad::Skip, Some(&room.cache)), plain);
    (3..12).for_each(|i| room.spoil(i));
    assert_eq!(room.read(&reader(), OnBad::Skip, Some(&room.cache)), plain);
}

#[test]
fn the_least_recently_used_goes_first() {
    let mut room = Room::new();
    room.load();
    let first = room.files().remove(0);
    room.cache.most = fs::metadata(&first).expect("cache").len() * 5 / 2;
    let other = |n| Reader { background: [n; 3], ..reader() };
    room.read(&other(1), OnBad::Fail, Some(&room.cache));
    let second = room.files().into_iter().find(|f| *f != first).expect("two files");
    date(&first, old());
    date(&second, old() + Duration::from_secs(1));
    // Using the first makes the second the one to go.
    room.load();
    room.read(&other(2), OnBad::Fail, Some(&room.cache));
    assert!(first.exists() && !second.exists() && room.files().len() == 2);
    room.cache.most = 10;
    room.read(&other(3), OnBad::Fail, Some(&room.cache));
    assert_eq!(room.files().len(), 2, "what is larger than the limit is not written");
    drop(room.dir);
}
