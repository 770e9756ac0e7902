use super::*;
use tempfile::TempDir;

/// A folder with these empty files; a name that ends in `/` is an empty folder. Only names matter to a scan.
fn tree(names: &[&str]) -> TempDir {
    let dir = TempDir::new().expect("temporary folder");
    for name in names {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("folder");
        } else {
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, b"").expect("file");
        }
    }
    dir
}

fn names(dir: &TempDir, folder: &Folder) -> Vec<String> {
    let relative = |item: &Item| item.path.strip_prefix(dir.path()).expect("inside").to_string_lossy().replace('\\', "/");
    folder.items.iter().map(relative).collect()
}

#[test]
fn the_order_is_that_of_keras() {
    let dir = tree(&[
        "fake/a.png",
        "fake/A.png",
        "fake/9.png",
        "fake/10.png",
        "fake/sub.x/1.png",
        "fake/sub/2.JPG",
        "fake/sub/deep/3.jpeg",
        "Zed/1.bmp",
        "Zed/1.tif",
        "Zed/1.tiff",
        "Zed/1.ppm",
    ]);
    let folder = scan(dir.path(), false).expect("scan");
    assert_eq!(folder.classes, ["Zed", "fake"]);
    assert!(folder.notes.is_empty(), "{:?}", folder.notes);
    let want = [
        "Zed/1.bmp",
        "Zed/1.ppm",
        "Zed/1.tif",
        "Zed/1.tiff",
        "fake/10.png",
        "fake/9.png",
        "fake/A.png",
        "fake/a.png",
        "fake/sub/2.JPG",
        "fake/sub.x/1.png",
        "fake/sub/deep/3.jpeg",
    ];
    // By path string: "fake/sub" < "fake/sub.x" < "fake/sub/deep", since '.' comes before '/'.
    assert_eq!(names(&dir, &folder), want);
    assert_eq!(folder.items.iter().filter(|item| item.class == 0).count(), 4);
    assert_eq!(scan(dir.path(), true).expect("scan").items, folder.items);
}

#[test]
fn hidden_undotted_and_webp_files_are_treated_as_each_mode_says() {
    let dir = tree(&[
        ".ipynb_checkpoints/x.png",
        "a/1.png",
        "a/._1.png",
        "a/noextpng",
        "a/2.webp",
        "a/3.gif",
        "a/.cache/9.png",
        "b/1.png",
        "readme.txt",
    ]);
    let folder = scan(dir.path(), false).expect("scan");
    assert_eq!(folder.classes, ["a", "b"]);
    assert_eq!(names(&dir, &folder), ["a/1.png", "a/2.webp", "b/1.png"]);
    let notes = folder.notes.join("\n");
    for part in [
        "1 hidden folder(s)",
        ".ipynb_checkpoints",
        "1 WebP",
        "1 hidden file(s)",
        "1 hidden sub-folder(s)",
        "1 file(s) with an extension but no dot",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
    let folder = scan(dir.path(), true).expect("scan");
    assert_eq!(folder.classes, [".ipynb_checkpoints", "a", "b"]);
    let want = [".ipynb_checkpoints/x.png", "a/._1.png", "a/1.png", "a/noextpng", "a/.cache/9.png", "b/1.png"];
    assert_eq!(names(&dir, &folder), want);
    assert!(folder.notes.is_empty());
}

#[test]
fn empty_classes_are_errors_here_and_classes_in_keras() {
    let dir = tree(&["a/1.png", "b/", "c/x.txt", "d/1.png"]);
    let error = scan(dir.path(), false).expect_err("empty classes").to_string();
    assert!(error.contains("class folder(s) b, c of"), "{error}");
    assert_eq!(scan(dir.path(), true).expect("scan").classes, ["a", "b", "c", "d"]);
}

#[test]
fn wrong_layouts_are_errors_that_say_what_was_found() {
    let says = |dir: &Path, parts: &[&str]| {
        let error = format!("{:#}", scan(dir, false).expect_err("an error"));
        parts.iter().for_each(|part| assert!(error.contains(part), "{error} lacks {part}"));
    };
    let dir = tree(&["1.png", "2.jpg", "note.txt"]);
    says(dir.path(), &["two class folders", "found none", "2 picture(s)"]);
    says(&dir.path().join("1.png"), &["is a file", "<class>/picture"]);
    says(&dir.path().join("absent"), &["absent", "cannot be opened"]);
    says(tree(&["only/1.png"]).path(), &["found one (only)", "train/cat/1.jpg"]);
    says(tree(&[]).path(), &["found none"]);
    says(tree(&["train/a/1.png", "Test/a/1.png"]).path(), &["parts of a data set", "Test, train"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_once_here_and_not_inside_classes_by_keras() {
    use std::os::unix::fs::symlink;
    let dir = tree(&["set/a/1.png", "elsewhere/2.png"]);
    let at = |name: &str| dir.path().join(name);
    symlink(at("elsewhere"), at("set/b")).expect("link");
    symlink(at("elsewhere"), at("set/a/more")).expect("link");
    symlink(at("set/a"), at("set/a/loop")).expect("link");
    symlink(at("elsewhere/2.png"), at("set/a/3.png")).expect("link");
    let folder = scan(&at("set"), false).expect("scan");
    assert_eq!(names(&dir, &folder), ["set/a/1.png", "set/a/3.png", "set/a/more/2.png", "set/b/2.png"]);
    assert_eq!(folder.notes, ["1 picture(s) behind symlinked folders used, which Keras passes over"]);
    let folder = scan(&at("set"), true).expect("scan");
    assert_eq!(names(&dir, &folder), ["set/a/1.png", "set/a/3.png", "set/b/2.png"]);
}

#[test]
fn pictures_are_listed_from_files_and_folders() {
    let dir = tree(&["x/2.png", "x/1.png", "x/y/3.jpg", "odd.dat", "none/readme.txt"]);
    let at = |name: &str| dir.path().join(name);
    let list = list_pictures(&[at("odd.dat"), at("x")]).expect("list");
    assert_eq!(list, [at("odd.dat"), at("x/1.png"), at("x/2.png"), at("x/y/3.jpg")]);
    for (bad, why) in [("none", "no pictures"), ("absent", "cannot be opened")] {
        let error = format!("{:#}", list_pictures(&[at(bad)]).expect_err(why));
        assert!(error.contains(why) && error.contains(bad), "{error}");
    }
    assert!(list_pictures(&[]).is_err());
}
