//! Which picture files there are and which class each belongs to, from the folder layout `dir/<class>/picture`.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Picture extensions; Keras has no `webp` and looks for these as suffixes without a dot.
/// Source: Keras 2.15 `preprocessing/image.py`, `white_list_formats`.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff", "webp"];
/// Folder names of whole parts: a folder with nothing else is one level too high.
const PARTS: [&str; 6] = ["train", "test", "val", "valid", "validation", "dev"];

/// One picture file and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The file.
    pub path: PathBuf,
    /// Index into [`Folder::classes`].
    pub class: u32,
}

/// What [`scan`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Class names, the sub-folders' names in code-point order.
    pub classes: Vec<String>,
    /// The pictures in Keras's order: by class, by folder path, by file name.
    pub items: Vec<Item>,
    /// What Keras would have counted otherwise, in words; empty in `keras_exact`.
    pub notes: Vec<String>,
}

/// Find the pictures of a folder laid out as `dir/<class>/picture`, searching each class recursively.
///
/// By default hidden folders and files (a leading dot, so AppleDouble `._x.png` too) are left out, an extension needs its
/// dot, `webp` counts, and symlinked folders are followed (each once, so a loop ends). With `keras_exact` it is as in
/// Keras 2.15: hidden and empty folders are classes, suffixes need no dot, no `webp`, symlinked sub-folders are skipped.
///
/// # Errors
/// When `dir` is missing, no folder or unreadable; with fewer than two classes; with a class that has no picture (in
/// `keras_exact`: with no picture at all).
pub fn scan(dir: &Path, keras_exact: bool) -> Result<Folder> {
    let here = dir.display();
    let about = fs::metadata(dir).with_context(|| format!("the picture folder {here} cannot be opened"))?;
    ensure!(about.is_dir(), "{here} is a file; a folder with one sub-folder per class is needed: {here}/<class>/picture");
    let (mut folders, mut hidden, mut loose) = (Vec::new(), Vec::new(), 0);
    for Entry { name, path, is_dir } in entries(dir)? {
        if !is_dir {
            loose += usize::from(is_picture(&name, keras_exact));
        } else if name.starts_with('.') && !keras_exact {
            hidden.push(name);
        } else {
            folders.push((name, path));
        }
    }
    let classes: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
    if classes.len() < 2 {
        let found = if classes.is_empty() { "none".to_owned() } else { format!("one ({})", classes[0]) };
        bail!(
            "{here} needs at least two class folders with pictures in them, {here}/<class>/picture, like train/cat/1.jpg \
             and train/dog/1.jpg; found {found}, and {loose} picture(s) lying directly in it"
        );
    }
    if classes.iter().all(|name| PARTS.contains(&name.to_lowercase().as_str())) {
        bail!("{here} holds {}, which look like parts of a data set, not classes; give one of them", classes.join(", "));
    }

    let mut items = Vec::new();
    let mut tally = Tally::default();
    let mut empty = Vec::new();
    for (class, (name, path)) in folders.iter().enumerate() {
        let files = walk(path, keras_exact, &mut tally)?;
        if files.is_empty() {
            empty.push(name.as_str());
        }
        items.extend(files.into_iter().map(|path| Item { path, class: class as u32 }));
    }
    if !keras_exact && !empty.is_empty() {
        bail!(
            "no pictures ({}) in the class folder(s) {} of {here}; fill or remove them",
            EXTENSIONS.join(", "),
            empty.join(", ")
        );
    }
    ensure!(!items.is_empty(), "no pictures in the {} class folders of {here}", classes.len());
    let notes = if keras_exact { Vec::new() } else { tally.notes(&hidden) };
    Ok(Folder { classes, items, notes })
}

/// The pictures that `paths` name: files as they are (whatever their extension), folders searched recursively with the
/// default rules of [`scan`]. In the order given, a folder's files in order of folder path and name.
///
/// # Errors
/// When a path does not exist, a folder holds no picture, or `paths` is empty.
pub fn list_pictures(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    ensure!(!paths.is_empty(), "no pictures were named");
    let mut files = Vec::new();
    for path in paths {
        let here = path.display();
        let about = fs::metadata(path).with_context(|| format!("the picture or folder {here} cannot be opened"))?;
        if about.is_dir() {
            let found = walk(path, false, &mut Tally::default())?;
            ensure!(!found.is_empty(), "no pictures ({}) in the folder {here}", EXTENSIONS.join(", "));
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Where the default rules and Keras's part ways, counted while walking.
#[derive(Default)]
struct Tally {
    /// Taken here, not by Keras.
    extra: BTreeMap<&'static str, usize>,
    /// Taken by Keras, not here.
    missed: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn notes(&self, hidden: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if !hidden.is_empty() {
            let names = hidden.join(", ");
            notes.push(format!("{} hidden folder(s) left out ({names}); Keras makes each a class", hidden.len()));
        }
        let line = |(what, n): (&&str, &usize), end| format!("{n} {what} {end}");
        notes.extend(self.extra.iter().map(|e| line(e, "used, which Keras passes over")));
        notes.extend(self.missed.iter().map(|e| line(e, "left out, which Keras reads")));
        notes
    }

    /// Count the file and say whether the rules asked for take it.
    fn takes(&mut self, name: &str, keras_exact: bool, through_link: bool) -> bool {
        let (ours, keras) = (is_picture(name, false), is_picture(name, true));
        if ours && through_link {
            *self.extra.entry("picture(s) behind symlinked folders").or_default() += 1;
        } else if ours && !keras {
            *self.extra.entry("WebP picture(s)").or_default() += 1;
        } else if keras && !ours {
            let what = if name.starts_with('.') { "hidden file(s)" } else { "file(s) with an extension but no dot" };
            *self.missed.entry(what).or_default() += 1;
        }
        if keras_exact { keras } else { ours }
    }
}

fn is_picture(name: &str, keras_exact: bool) -> bool {
    let name = name.to_lowercase();
    if keras_exact {
        return EXTENSIONS.iter().any(|&e| e != "webp" && name.ends_with(e));
    }
    !name.starts_with('.') && name.rsplit_once('.').is_some_and(|(_, end)| EXTENSIONS.contains(&end))
}

/// What lies in a folder.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: String,
    path: PathBuf,
    /// Whether it is a folder or a link to one.
    is_dir: bool,
}

/// The entries of a folder by name in code-point order (which is the order of UTF-8 bytes).
fn entries(dir: &Path) -> Result<Vec<Entry>> {
    let entry = |e: fs::DirEntry| {
        let path = e.path();
        // The folder itself tells of most entries what they are; only a link must be asked.
        let is_dir = e.file_type().map_or_else(|_| path.is_dir(), |t| if t.is_symlink() { path.is_dir() } else { t.is_dir() });
        Entry { name: e.file_name().to_string_lossy().into_owned(), path, is_dir }
    };
    let read = || -> std::io::Result<Vec<Entry>> { fs::read_dir(dir)?.map(|e| e.map(entry)).collect() };
    let mut found = read().with_context(|| format!("the folder {} cannot be read", dir.display()))?;
    found.sort_unstable();
    Ok(found)
}

/// The pictures under `top` as Keras orders them: `sorted(os.walk(top))` by the folder's path string, then by name.
fn walk(top: &Path, keras_exact: bool, tally: &mut Tally) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    // Real places already entered, so that a loop of links ends and no picture comes twice.
    let mut entered = HashSet::new();
    let mut todo = vec![(top.to_owned(), false)];
    while let Some((dir, through_link)) = todo.pop() {
        if !entered.insert(fs::canonicalize(&dir).with_context(|| format!("the folder {}", dir.display()))?) {
            continue;
        }
        for Entry { name, path, is_dir } in entries(&dir)? {
            if is_dir {
                let link = path.is_symlink();
                let hidden = name.starts_with('.');
                if !keras_exact && hidden {
                    *tally.missed.entry("hidden sub-folder(s)").or_default() += 1;
                } else if !(keras_exact && link) {
                    todo.push((path, through_link || link));
                }
            } else if tally.takes(&name, keras_exact, through_link) {
                files.push((dir.clone(), name, path));
            }
        }
    }
    // As strings: `Path` would compare component by component, and put `a/b` before `a.b`.
    files.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()).then_with(|| a.1.cmp(&b.1)));
    Ok(files.into_iter().map(|(_, _, path)| path).collect())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
