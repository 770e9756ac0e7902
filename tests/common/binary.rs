//! The binary as a user runs it, and pictures for it.

#![allow(dead_code, reason = "every test binary compiles this file, and few want all of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest run of the binary; the slowest takes a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// A network that trains in no time.
pub const SMALL: &str = "--size 32 --filters 4,8 --dense 8 --batch-size 8";

/// What a run of the binary left.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// The binary in the folder `dir`, on the way.
pub struct Running {
    pub child: Child,
    pub logs: TempDir,
}

/// `wgradcam ARGS` (split at spaces, '' being an empty one) in `dir`, with a cache folder of the tests' own: what the user has tuned
/// must change no test.
pub fn command(dir: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgradcam"));
    // Not in `dir`, where tests look for files that should not be there.
    command.env("WGRADCAM_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command.args(args.split_whitespace().map(|a| a.trim_matches('\''))).current_dir(dir).stdin(Stdio::null());
    command
}

pub fn start(mut command: Command) -> Running {
    let logs = TempDir::new().expect("a folder");
    let log = |name| fs::File::create(logs.path().join(name)).expect("a log");
    let child = command.stdout(log("out")).stderr(log("err")).spawn().expect("the binary starts");
    Running { child, logs }
}

impl Running {
    pub fn end(mut self) -> Ran {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                break status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().expect("an end");
                panic!("it hangs; so far:\n{}{}", self.log("out"), self.log("err"));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ran { code: status.code(), out: self.log("out"), err: self.log("err") }
    }

    pub fn log(&self, name: &str) -> String {
        String::from_utf8(fs::read(self.logs.path().join(name)).expect("a log")).expect("UTF-8")
    }
}

/// A run that must succeed, with the cache in the folder `cache` of `dir`.
pub fn cached(dir: &Path, args: &str) -> Ran {
    let mut command = command(dir, args);
    command.env("WGRADCAM_CACHE", dir.join("cache"));
    let ran = start(command).end();
    assert_eq!(ran.code, Some(0), "wgradcam {args}\n{}{}", ran.out, ran.err);
    ran
}

/// The file of a cache folder whose name begins so.
pub fn kept(dir: &Path, what: &str) -> Option<PathBuf> {
    let starts = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(what));
    files(&dir.join("cache")).into_keys().find(starts)
}

/// Alters the JSON file that `tune` left in the folder `cache` of `dir`.
pub fn alter_tuned(dir: &Path, alter: impl FnOnce(&mut serde_json::Value)) {
    let path = kept(dir, "tune-").expect("what tune left");
    let mut value = serde_json::from_str(&text(&path)).expect("JSON");
    alter(&mut value);
    fs::write(path, value.to_string()).expect("written");
}

/// In what `tune` left, chooses for every kernel its candidate of this number, or its last.
pub fn choose_candidate(value: &mut serde_json::Value, number: usize) {
    for m in value["kernels"].as_array_mut().expect("an array") {
        let candidates = m["candidates"].as_array().expect("an array");
        m["chosen"] = candidates[number.min(candidates.len() - 1)]["kernel"].clone();
    }
}

/// Runs `wgradcam ARGS` in `dir`.
pub fn run(dir: &Path, args: &str) -> Ran {
    start(command(dir, args)).end()
}

/// A run that must succeed.
pub fn good(dir: &Path, args: &str) -> Ran {
    let ran = run(dir, args);
    assert_eq!(ran.code, Some(0), "wgradcam {args}\n{}{}", ran.out, ran.err);
    ran
}

/// A run that must fail, saying in one error whatever `says` holds, and leave the folder as it was.
pub fn bad(dir: &Path, args: &str, says: &[&str]) {
    let before = files(dir);
    let ran = run(dir, args);
    is_error(args, &ran, says);
    assert_eq!(ran.out, "", "wgradcam {args}");
    assert!(files(dir) == before, "wgradcam {args} has changed the files, now {:?}", files(dir).keys());
}

pub fn is_error(args: &str, ran: &Ran, says: &[&str]) {
    let Ran { code, err, .. } = ran;
    // clap exits with 2 and has its own form; a panic would be 101 and a signal none.
    let start = match code {
        Some(1) => "Error: ",
        Some(2) => "error: ",
        _ => panic!("wgradcam {args} ends with {code:?}:\n{err}"),
    };
    // The Wayland library complains of missing variables in the same words as clap.
    let lines = err.lines().filter(|l| l.starts_with(start) && !l.contains("XDG_RUNTIME_DIR"));
    assert_eq!(lines.count(), 1, "wgradcam {args} does not say one `{start}`:\n{err}");
    assert!(!err.contains("panicked") && err.ends_with('\n') && !err.ends_with("\n\n"), "wgradcam {args}:\n{err}");
    for part in says {
        assert!(err.contains(part), "wgradcam {args} does not say \"{part}\":\n{err}");
    }
}

/// Every file and folder below `dir`, with the files' bytes.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            found.insert(path.clone(), if path.is_file() { fs::read(&path).expect("a file") } else { Vec::new() });
            if path.is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

pub fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `train/<class>/N.png` and `test/<class>/N.png`: the classes differ in hue, the pictures of one in noise.
pub fn make_pictures(dir: &Path, classes: &[&str], train: usize, test: usize) {
    for (part, n) in [("train", train), ("test", test)] {
        for (c, class) in classes.iter().enumerate() {
            let folder = dir.join(part).join(class);
            fs::create_dir_all(&folder).expect("a folder");
            for i in 0..n {
                crate::common::picture(c, (c * 1000 + i + 500 * usize::from(part == "test")) as u32)
                    .save(folder.join(format!("{i}.png")))
                    .expect("a picture");
            }
        }
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).expect("a copy");
        }
    }
}
