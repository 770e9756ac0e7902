//! The binary as a user runs it, on pictures made here: what it writes and prints, and what it says when something is wrong.

#[path = "common/binary.rs"]
mod binary;
mod common;

use binary::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wgradcam::train::{load, save};

/// A folder for the whole test binary, made anew by `make` on first use.
fn shared(name: &'static str, cell: &'static OnceLock<PathBuf>, make: impl FnOnce(&Path)) -> &'static Path {
    cell.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).expect("an old folder goes");
        }
        fs::create_dir_all(&dir).expect("a folder");
        make(&dir);
        dir
    })
}

/// Two classes in `set`, a run of three epochs in `run`, with all that a training writes. Nobody may write here.
fn two() -> &'static Path {
    static CELL: OnceLock<PathBuf> = OnceLock::new();
    shared("two", &CELL, |dir| {
        make_pictures(&dir.join("set"), &["blue", "red"], 20, 9);
        good(dir, &format!("train set --out run --epochs 3 --log-steps --device cpu {SMALL}"));
    })
}

/// Six classes, likewise.
fn six() -> &'static Path {
    static CELL: OnceLock<PathBuf> = OnceLock::new();
    shared("six", &CELL, |dir| {
        make_pictures(&dir.join("set"), &["a", "b", "c", "d", "e", "f"], 8, 4);
        good(dir, &format!("train set --out run --epochs 6 --device cpu {SMALL}"));
    })
}

/// A folder of one's own with a copy of the two classes' pictures.
fn own() -> TempDir {
    let dir = TempDir::new().expect("a folder");
    copy(&two().join("set"), &dir.path().join("set"));
    dir
}

/// The absolute path of something in a shared folder, for an argument.
fn at(dir: &Path, name: &str) -> String {
    let path = dir.join(name).display().to_string();
    assert!(!path.contains(' '), "the tests split arguments at spaces");
    path
}

// Good paths.

#[test]
fn train_writes_every_file_and_they_agree() {
    let run = two().join("run");
    for name in [
        "best.safetensors",
        "last.safetensors",
        "config.toml",
        "summary.txt",
        "history.csv",
        "history.png",
        "steps.csv",
        "report.txt",
        "report.html",
        "confusion_matrix.txt",
        "confusion_matrix.json",
        "confusion_matrix.png",
        "predictions.csv",
        "gradcam/gallery.html",
    ] {
        assert!(fs::metadata(run.join(name)).is_ok_and(|m| m.len() > 0), "{name}");
    }
    let history = text(run.join("history.csv"));
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines[0], "epoch,loss,accuracy,val_loss,val_accuracy");
    assert_eq!(lines.len(), 4);
    let steps = text(run.join("steps.csv"));
    assert_eq!(steps.lines().next(), Some("epoch,step,loss"));
    assert_eq!(steps.lines().count(), 1 + 3 * 5);
    for name in ["history.png", "confusion_matrix.png"] {
        image::open(run.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let panels: Vec<_> = files(&run.join("gradcam")).into_keys().filter(|p| p.extension().is_some_and(|e| e == "png")).collect();
    assert_eq!(panels.len(), 10);
    let gallery = text(run.join("gradcam/gallery.html"));
    for panel in panels {
        image::open(&panel).unwrap_or_else(|e| panic!("{}: {e}", panel.display()));
        let name = panel.file_name().and_then(|n| n.to_str()).expect("a name");
        assert!(gallery.contains(name), "{name} is not in the gallery");
    }
    // The best epoch is the first of the highest validation accuracy.
    let accuracy: Vec<f64> =
        lines[1..].iter().map(|l| l.rsplit(',').next().and_then(|v| v.parse().ok()).expect("a number")).collect();
    let top = accuracy.iter().copied().fold(0.0, f64::max);
    let best = load(&run.join("best.safetensors"), None).expect("weights");
    assert_eq!(Some(best.card.epoch), accuracy.iter().position(|a| *a == top).map(|i| i + 1));
    assert_eq!(best.card.classes, ["blue", "red"]);
    assert_eq!(load(&run.join("last.safetensors"), None).expect("weights").card.epoch, 3);
    assert_eq!(text(run.join("predictions.csv")).lines().count(), 1 + 18);
    // No temporary file stays behind.
    assert!(files(&run).keys().all(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))));
}

#[test]
fn evaluate_says_the_same_as_train_in_text_json_and_files() {
    let (dir, here) = (two(), TempDir::new().expect("a folder"));
    let args = format!("evaluate {} {} --device cpu --batch-size 5", at(dir, "run"), at(dir, "set"));
    let ran = good(here.path(), &format!("{args} --out e"));
    for name in ["report.txt", "confusion_matrix.txt"] {
        let written = text(dir.join("run").join(name));
        assert!(ran.out.contains(written.trim_end()), "{name}:\n{written}\n{}", ran.out);
        assert_eq!(text(here.path().join("e").join(name)), written);
    }
    for name in ["confusion_matrix.png", "predictions.csv"] {
        assert!(here.path().join("e").join(name).is_file(), "{name}");
    }
    let json: Value = serde_json::from_str(&good(here.path(), &format!("{args} --json")).out).expect("JSON only on stdout");
    let mut of_train: Value = serde_json::from_str(&text(dir.join("run/confusion_matrix.json"))).expect("JSON");
    // The mean over batches of another size rounds differently.
    let [a, b] = [&json, &of_train].map(|v| v["loss"].as_f64().expect("a loss"));
    assert!((a - b).abs() < 1e-6, "{a} {b}");
    of_train["loss"] = json["loss"].clone();
    assert_eq!(json, of_train);
}

#[test]
fn a_second_run_reads_the_cache_unless_told_not_to() {
    let here = own();
    let dir = here.path();
    let cache = TempDir::new().expect("a folder");
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for file in files(&dir.join("set")).into_keys().filter(|f| f.is_file()) {
        fs::File::options().append(true).open(file).expect("a picture").set_modified(old).expect("a time");
    }
    let evaluate = |flags: &str| {
        let args = format!("evaluate {} set --json --device cpu {flags}", at(two(), "run"));
        let mut command = command(dir, &args);
        command.env("WGRADCAM_CACHE", cache.path());
        let ran = start(command).end();
        assert_eq!(ran.code, Some(0), "wgradcam {args}\n{}", ran.err);
        ran
    };
    let first = evaluate("--no-cache");
    assert_eq!(files(cache.path()).len(), 0);
    for (flags, said) in [("", false), ("", true), ("--no-cache", false)] {
        let ran = evaluate(flags);
        assert_eq!(ran.err.contains("18 pictures (18 from the cache)"), said, "{}", ran.err);
        assert_eq!(ran.out, first.out);
    }
}

#[test]
fn predict_prints_one_line_per_picture_in_order() {
    let (dir, here) = (two(), TempDir::new().expect("a folder"));
    let (run, blue, red) = (at(dir, "run"), at(dir, "set/test/blue"), at(dir, "set/test/red/3.png"));
    let ran = good(here.path(), &format!("predict {run} {red} {blue} --device cpu"));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 1 + 9);
    assert!(lines[0].ends_with(&red), "{}", lines[0]);
    let probability: f64 = lines[0].split_whitespace().next().and_then(|p| p.parse().ok()).expect("a probability");
    assert!((0.5..=1.0).contains(&probability));

    let ran = good(here.path(), &format!("predict {run} {blue} --device cpu --json --batch-size 1"));
    for (line, i) in ran.out.lines().zip(0..) {
        let json: Value = serde_json::from_str(line).expect("JSON");
        let [p, z] = ["probability", "logit"].map(|k| json[k].as_f64().expect(k));
        assert_eq!(json["path"], format!("{blue}/{i}.png"));
        assert_eq!(json["class"], if p > 0.5 { "red" } else { "blue" });
        assert!((p - 1.0 / (1.0 + (-z).exp())).abs() < 1e-6, "{json}");
    }
    assert_eq!(ran.out.lines().count(), 9);
}

#[test]
fn six_classes_have_a_softmax_and_so_may_two() {
    let (dir, here) = (six(), own());
    let ran = good(here.path(), &format!("predict {} {} --device cpu --json", at(dir, "run"), at(dir, "set/test")));
    assert_eq!(ran.out.lines().count(), 24);
    is_softmax(&ran, 6);
    let csv = text(dir.join("run/predictions.csv"));
    assert!(csv.starts_with("path,true,predicted,probability_a,probability_b,"), "{csv}");
    good(here.path(), &format!("train set --out run --epochs 1 --head softmax --device cpu {SMALL}"));
    is_softmax(&good(here.path(), "predict run set/test --device cpu --json"), 2);
    good(here.path(), "gradcam run set --target class:blue --limit 2 --check --device cpu");
}

fn is_softmax(ran: &Ran, classes: usize) {
    for line in ran.out.lines() {
        let json: Value = serde_json::from_str(line).expect("JSON");
        let p: Vec<f64> = json["probabilities"].as_array().expect("an array").iter().filter_map(Value::as_f64).collect();
        assert_eq!((p.len(), json["logits"].as_array().map(Vec::len)), (classes, Some(classes)));
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{json}");
    }
}

#[test]
fn gradcam_writes_panels_and_arrays_and_the_evidence_adds_up() {
    let (dir, here) = (two(), TempDir::new().expect("a folder"));
    let args = format!("gradcam {} {} --device cpu", at(dir, "run"), at(dir, "set"));
    for target in ["predicted", "logit", "class:red", "class:blue"] {
        let ran = good(here.path(), &format!("{args} --npy --check --limit 3 --out {target} --target {target}"));
        assert!(ran.out.contains("adds up to the score at every layer"), "{}", ran.out);
        let found = files(&here.path().join(target));
        assert_eq!(found.len(), 3 + 3 * 2 * 2 + 1, "{:?}", found.keys());
        for (path, bytes) in found.iter().filter(|(p, _)| p.extension().is_some_and(|e| e == "npy")) {
            let npy = npyz::NpyFile::new(&bytes[..]).expect("an array");
            let raw = path.to_string_lossy().ends_with("_raw.npy");
            let first = path.to_string_lossy().contains("conv2d_1");
            let side = if !raw {
                32
            } else if first {
                30
            } else {
                13
            };
            assert_eq!(npy.shape(), [side, side], "{}", path.display());
            let values: Vec<f32> = npy.into_vec().expect("floats");
            // The raw map is signed; NaN is in no range.
            let range = if raw { f32::MIN..=f32::MAX } else { 0.0..=1.0 };
            assert!(values.iter().all(|v| range.contains(v)), "{}", path.display());
        }
    }
    for technique in ["hirescam", "layercam"] {
        good(here.path(), &format!("{args} --limit 1 --out {technique} --technique {technique}"));
    }
    good(here.path(), &format!("{args} --limit 1 --out output --target output"));
    assert_eq!(files(&here.path().join("output")).len(), 2);
}

#[test]
fn gradcam_filters_and_sorts() {
    let (dir, here) = (two(), TempDir::new().expect("a folder"));
    let mut weights = load(&dir.join("run/best.safetensors"), None).expect("weights");
    // Shift the threshold to the middle of the blue pictures' logits, so that half of them are wrong.
    let logits = |weights: &wgradcam::train::Weights| -> Vec<(String, f64)> {
        save(&here.path().join("w.safetensors"), weights).expect("saved");
        let ran = good(here.path(), &format!("predict w.safetensors {} --device cpu --json", at(dir, "set/test")));
        let json = ran.out.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
        json.map(|j| (j["path"].as_str().expect("a path").to_owned(), j["logit"].as_f64().expect("a logit"))).collect()
    };
    let mut blue: Vec<f64> = logits(&weights).iter().filter(|(p, _)| p.contains("/blue/")).map(|(_, z)| *z).collect();
    blue.sort_by(f64::total_cmp);
    let bias = weights.model.params().iter().position(|p| p.name == "output/bias").expect("a bias");
    weights.values[bias][0] -= ((blue[4] + blue[5]) / 2.0) as f32;
    let all = logits(&weights);

    let listed = |flags: &str| -> Vec<String> {
        let ran = good(here.path(), &format!("gradcam w.safetensors {} --out g --device cpu {flags}", at(dir, "set/test")));
        let captions = ran.out.lines().filter(|l| l.contains("Predicted: "));
        captions.map(|l| l.split_once("  ").and_then(|(_, c)| c.split_once(": ")).expect("a caption").0.to_owned()).collect()
    };
    let expect = |keep: &dyn Fn(bool, bool) -> bool, key: &dyn Fn(f64) -> f64| -> Vec<String> {
        let mut kept: Vec<_> = all.iter().filter(|(p, z)| keep(p.contains("/red/"), *z > 0.0)).collect();
        kept.sort_by(|a, b| key(a.1).total_cmp(&key(b.1)));
        kept.into_iter().map(|(p, _)| p.clone()).collect()
    };
    let (sure, path) = (|z: f64| -z.abs(), |_: f64| 0.0);
    assert_eq!(listed("--limit 0"), expect(&|_, _| true, &sure));
    assert_eq!(listed("--limit 0 --sort unsure"), expect(&|_, _| true, &|z| z.abs()));
    assert_eq!(listed("--limit 0 --sort path"), expect(&|_, _| true, &path));
    assert_eq!(listed("--limit 4"), expect(&|_, _| true, &sure)[..4]);
    assert_eq!(listed("--true blue --sort path"), expect(&|red, _| !red, &path));
    assert_eq!(listed("--predicted blue --sort path"), expect(&|_, p| !p, &path));
    assert_eq!(listed("--only wrong --sort path"), expect(&|red, p| red != p, &path));
    assert_eq!(listed("--only right --true blue"), expect(&|red, p| !red && !p, &sure));
}

#[test]
fn summary_devices_and_help() {
    let here = TempDir::new().expect("a folder");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/model_summary.txt");
    assert_eq!(good(here.path(), "summary").out, text(golden));
    let small = good(here.path(), "summary --classes 6 --size 64x48 --filters 8 --dense ''").out;
    assert!(small.contains("(None, 62, 46, 8)") && small.contains("(None, 6)"), "{small}");
    assert!(good(here.path(), "devices").out.contains("--device cpu"));
    assert!(serde_json::from_str::<Value>(&good(here.path(), "devices --json").out).is_ok_and(|v| v.is_array()));
    assert!(good(here.path(), "--version").out.starts_with("wgradcam "));
    let help = good(here.path(), "--help").out;
    for command in ["train", "evaluate", "predict", "gradcam", "demo", "summary", "devices", "verify", "profile", "tune"] {
        assert!(help.contains(command), "{help}");
        let own = good(here.path(), &format!("{command} --help")).out;
        assert!(own.contains(&format!("Usage: wgradcam {command}")) && own.contains("Options:"), "{own}");
    }
}

#[test]
fn a_run_repeats_from_its_own_settings_file() {
    let (dir, here) = (two(), TempDir::new().expect("a folder"));
    for out in ["a", "b"] {
        good(here.path(), &format!("train {} --config {} --out {out} --device cpu", at(dir, "set"), at(dir, "run/config.toml")));
        for name in ["best.safetensors", "last.safetensors", "history.csv", "report.txt"] {
            let [again, first] = [here.path().join(out), dir.join("run")].map(|d| fs::read(d.join(name)).expect("a file"));
            assert!(again == first, "{name} differs");
        }
        // But for the pictures' folder, which was given otherwise.
        let [again, first] = [here.path().join(out), dir.join("run")].map(|d| text(d.join("config.toml")));
        let [again, first] = [&again, &first].map(|t| t.lines().filter(|l| !l.starts_with("data = ")).collect::<Vec<_>>());
        assert_eq!(again, first);
    }
    good(here.path(), &format!("train {} --config a/config.toml --seed 1 --out c --device cpu", at(dir, "set")));
    assert_ne!(text(here.path().join("c/history.csv")), text(here.path().join("a/history.csv")));
    assert!(text(here.path().join("c/config.toml")).contains("seed = 1"));
}

#[test]
fn a_validation_split_with_and_without_a_test_folder() {
    let here = own();
    let ran = good(here.path(), &format!("train set/train --val-split 0.25 --out one --epochs 1 --device cpu {SMALL}"));
    assert!(
        ran.out.contains("Found 30 images") && ran.out.contains("Validating on 10 images (25 % of set/train)"),
        "{}",
        ran.out
    );
    assert_eq!(text(here.path().join("one/predictions.csv")).lines().count(), 1 + 10);
    let ran = good(here.path(), &format!("train set --val-split 0.25 --out two --epochs 1 --device cpu {SMALL}"));
    assert!(ran.out.contains("Validating on 10 images"), "{}", ran.out);
    // The report is on the untouched test folder, so nothing flatters it.
    let predictions = text(here.path().join("two/predictions.csv"));
    assert_eq!(predictions.lines().skip(1).filter(|l| l.contains("set/test/")).count(), 18);
    assert!(!ran.err.contains("flatters"), "{}", ran.err);
}

#[test]
fn weights_from_elsewhere_and_weights_to_start_from() {
    let (dir, here) = (two(), own());
    let bytes = fs::read(dir.join("run/best.safetensors")).expect("weights");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let plain = safetensors::serialize(tensors.tensors(), None).expect("bytes");
    fs::write(here.path().join("plain.safetensors"), plain).expect("written");
    let described = "--size 32 --filters 4,8 --dense 8 --classes blue,red";
    let a = good(here.path(), &format!("predict {} set/test --device cpu --json", at(dir, "run")));
    let b = good(here.path(), &format!("predict plain.safetensors set/test --device cpu --json {described}"));
    assert_eq!(a.out, b.out);
    bad(here.path(), "predict plain.safetensors set/test --device cpu", &["plain.safetensors", "--classes"]);
    let other = "predict plain.safetensors set/test --device cpu --size 32 --filters 4,9 --dense 8 --classes blue,red";
    bad(here.path(), other, &["plain.safetensors", "conv2d_2/kernel", "--filters"]);
    // A learning rate that moves nothing leaves the weights that it starts from.
    let args = format!("train set --out init --overwrite --epochs 1 --learning-rate 1e-30 --device cpu {SMALL}");
    for init in ["plain.safetensors".to_owned(), at(dir, "run/best.safetensors"), at(dir, "run")] {
        good(here.path(), &format!("{args} --init {init}"));
        let [start, end] = [&dir.join("run"), &here.path().join("init")].map(|d| load(&d.join("best.safetensors"), None));
        let [start, end] = [start, end].map(|w| w.expect("weights").values.concat());
        // Where a weight was 0 it is now some 1e-30.
        assert!(start.iter().zip(&end).all(|(a, b)| (a - b).abs() < 1e-20), "{init}");
    }
    let args = "train set --out other --device cpu --batch-size 8 --init plain.safetensors --size 32 --dense 8";
    bad(here.path(), &format!("{args} --filters 4,9"), &["--init", "plain.safetensors", "conv2d_2/kernel"]);
}

#[test]
fn train_and_explain_on_the_adapter() {
    let Some(_) = common::adapter() else { return };
    let here = own();
    good(here.path(), &format!("train set --out run --epochs 2 --panels 2 --device gpu {SMALL}"));
    let ran = good(here.path(), "gradcam run set --limit 2 --check --npy --device gpu");
    assert!(ran.out.contains("adds up"), "{}", ran.out);
    // The CPU path says the same of the same weights.
    let losses = ["gpu", "cpu"].map(|device| {
        let ran = good(here.path(), &format!("evaluate run set --json --device {device}"));
        serde_json::from_str::<Value>(&ran.out).expect("JSON")["loss"].as_f64().expect("a loss")
    });
    assert!((losses[0] - losses[1]).abs() < 2e-6, "{losses:?}");
}

/// A network with kernels that llvmpipe has variants for, and small enough to be tuned in a second.
const TUNED: &str = "--size 16 --filters 16 --dense 64 --batch-size 8";

/// Keys of the kernels that a profiled step plays.
fn played(ran: &Ran) -> Vec<String> {
    let json: Value = serde_json::from_str(&ran.out).expect("JSON only on stdout");
    json["rows"].as_array().expect("rows").iter().map(|r| r["kernel"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn tune_chooses_shows_and_forgets_and_later_runs_play_what_it_chose() {
    let Some(adapter) = common::adapter() else { return };
    let here = own();
    let dir = here.path();
    let nothing = cached(dir, "tune --show");
    assert!(nothing.out.contains("Nothing was tuned") && nothing.out.contains(&adapter.facts().name), "{}", nothing.out);
    assert_eq!(cached(dir, "tune --show --json").out, "null\n");
    assert!(cached(dir, "tune --forget").out.contains("nothing to forget"));

    let tuned: Value = serde_json::from_str(&cached(dir, &format!("tune {TUNED} --repeat 3 --json")).out).expect("JSON");
    assert_eq!(tuned["adapter"], adapter.facts().name.as_str());
    assert_eq!((&tuned["driver"], &tuned["stale"]), (&adapter.facts().driver.as_str().into(), &Value::Null));
    assert!(["adapter_ms", "cpu_ms"].iter().all(|k| tuned["step"][k].as_f64().is_some_and(|ms| ms > 0.0)), "{tuned}");
    let kernels = tuned["kernels"].as_array().expect("an array");
    let ms = |c: &Value| c["median_ms"].as_f64().expect("every technique passes its check and is timed");
    for m in kernels {
        let candidates = m["candidates"].as_array().expect("an array");
        assert!(candidates.len() > 1 && candidates[0]["kernel"] == m["kernel"], "{m}");
        let least = candidates.iter().map(ms).fold(f64::INFINITY, f64::min);
        let chosen = candidates.iter().find(|c| c["kernel"] == m["chosen"]).expect("the chosen");
        assert_eq!(ms(chosen), least, "{m}");
    }
    // Told again as it was measured.
    let again: Value = serde_json::from_str(&cached(dir, "tune --show --json").out).expect("JSON");
    assert_eq!(again, tuned);
    let table = cached(dir, "tune --show").out;
    assert!(table.contains("A training step of 8 pictures") && table.contains("Valid"), "{table}");
    for m in kernels {
        let chosen = format!("* {}", m["chosen"].as_str().expect("a key"));
        assert!(table.contains(&chosen) && table.contains("batch 8, in h 16") && table.contains(" ms  ("), "{chosen}:\n{table}");
    }

    // Later runs take what is chosen, for batches of other sizes too.
    let profile = |flags: &str| cached(dir, &format!("profile --json --repeat 1 --device gpu {flags}"));
    // The contests are those of a training, an evaluation and an explanation.
    let plays = |flags: &str| ["", "--mode explain"].map(|mode| played(&profile(&format!("{flags} {mode}")))).concat();
    let network = TUNED.rsplit_once("--").expect("a last flag").0;
    alter_tuned(dir, |v| choose_candidate(v, 0));
    let base = plays(TUNED);
    assert!(base.iter().all(|k| !k.contains('/')), "{base:?}");
    for number in [0, 1] {
        alter_tuned(dir, |v| choose_candidate(v, number));
        for batch in ["8", "5"] {
            let keys = plays(&format!("{network} --batch-size {batch}"));
            // Another layer may have no variant, and play the kernel itself in any case.
            for m in kernels.iter().filter(|m| base.iter().any(|k| m["kernel"] == k.as_str())) {
                let variant = m["candidates"][1]["kernel"].as_str().expect("a key").to_owned();
                assert_eq!(keys.contains(&variant), number == 1, "{variant} at batch {batch}: {keys:?}");
            }
        }
    }
    alter_tuned(dir, |v| choose_candidate(v, 0));
    let default = played(&{
        let own = TempDir::new().expect("a folder");
        cached(own.path(), &format!("profile --json --repeat 1 --device gpu {TUNED}"))
    });
    assert_eq!(!base.starts_with(&default), !kernels.is_empty());

    // auto goes by the measured step where the adapter is a software one.
    if adapter.facts().software {
        for (adapter_ms, wanted) in [(1.0, "Device: llvmpipe"), (3.0, "Device: the CPU path")] {
            alter_tuned(dir, |v| {
                v["step"] = serde_json::json!({"batch": 8, "parameters": 1, "adapter_ms": adapter_ms, "cpu_ms": 2.0, "date": ""})
            });
            let ran = cached(dir, &format!("profile --repeat 1 --device auto {TUNED}"));
            assert!(ran.err.contains(wanted) && ran.err.contains("`wgradcam tune` measured"), "{}", ran.err);
        }
    }

    // Another driver's or other shaders' measurements are of no use, say so in one line, and are made anew.
    for field in ["driver", "shaders"] {
        alter_tuned(dir, |v| v[field] = "of yore".into());
        let ran = profile(TUNED);
        assert_eq!(ran.err.lines().filter(|l| l.starts_with("Note: ") && l.contains("of yore")).count(), 1, "{}", ran.err);
        assert_eq!(played(&ran), default);
        assert!(cached(dir, "tune --show").out.contains("STALE"));
        assert!(cached(dir, "tune --show --json").out.contains("of yore"));
        let ran = cached(dir, &format!("tune {TUNED} --repeat 1"));
        assert!(ran.err.contains("made anew") && ran.out.contains("Valid"), "{}", ran.err);
    }
    // A damaged file is a warning and no error.
    let path = kept(dir, "tune-").expect("a file");
    let whole = text(&path);
    fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let ran = profile(TUNED);
    assert!(ran.err.lines().any(|l| l.starts_with("Warning: ") && l.contains("damaged") && l.contains("tune-")), "{}", ran.err);
    assert_eq!(played(&ran), default);
    assert!(cached(dir, "tune --show").err.contains("Warning: "));
    let ran = cached(dir, &format!("tune {TUNED} --repeat 1"));
    assert!(ran.err.contains("Warning: what was measured before is damaged"), "{}", ran.err);

    assert!(cached(dir, "tune --forget").out.contains("Removed"));
    assert_eq!(kept(dir, "tune-"), None);
    assert_eq!(played(&profile(TUNED)), default);
}

#[test]
fn tuning_adds_to_what_is_kept_and_trainings_use_it() {
    let Some(_) = common::adapter() else { return };
    let here = own();
    let dir = here.path();
    let count = |args: &str| -> usize {
        let json: Value = serde_json::from_str(&cached(dir, &format!("tune {args} --repeat 1 --json")).out).expect("JSON");
        json["kernels"].as_array().map_or(0, Vec::len)
    };
    let first = count(TUNED);
    assert_eq!(count(TUNED), first, "the same sizes are replaced");
    assert!(count(&TUNED.replace("-size 8", "-size 4")) == 2 * first);
    alter_tuned(dir, |v| choose_candidate(v, 0));
    let ran = cached(dir, &format!("train set --out base --epochs 1 --panels 0 --device gpu {TUNED}"));
    assert!(ran.err.contains("First use: opened the device in ") && ran.err.contains("kernels in "), "{}", ran.err);
    cached(dir, "tune --forget");
    cached(dir, &format!("train set --out default --epochs 1 --panels 0 --device gpu {TUNED}"));
    let techniques = |run: &str| {
        let last = wgradcam::train::Checkpoint::load(&dir.join(run).join("last.safetensors")).expect("a state");
        last.progress.techniques
    };
    assert!(techniques("base").iter().all(|t| t.variant == t.kernel));
    assert_eq!(techniques("base").is_empty(), first == 0);
    assert_eq!(techniques("default") == techniques("base"), first == 0);
}

#[test]
fn products_of_f16_are_a_setting_of_the_run_and_an_error_where_there_are_none() {
    let here = own();
    let dir = here.path();
    const NETWORK: &str = "--size 32 --filters 16,16 --dense 32 --batch-size 8 --panels 0";
    let train = |out: &str, rest: &str| format!("train set --out {out} {NETWORK} {rest}");
    bad(dir, &train("x", "--precision f16 --device cpu"), &["--precision f16", "the CPU path, as asked", "--precision f32"]);
    bad(dir, &format!("evaluate {} set --precision f16 --device cpu", at(two(), "run")), &["the CPU path", "--precision f32"]);
    bad(dir, &train("x", "--precision f8"), &["f8", "f32, f16"]);
    bad(dir, "train --resume x --precision f16", &["--precision", "--resume"]);
    good(dir, &train("plain", "--epochs 1 --device cpu"));
    assert!(text(dir.join("plain/config.toml")).contains("precision = \"f32\""));

    let Some(adapter) = common::adapter() else { return };
    if !adapter.facts().features.contains(&"cooperative-matrix") {
        let name = adapter.facts().name.as_str();
        bad(dir, &train("x", "--precision f16 --device gpu"), &[name, "cooperative matrices", "--precision f32"]);
        eprintln!("SKIPPED: {name} has no cooperative matrices; no training of f16 was made");
        return;
    }
    good(dir, &train("whole", "--precision f16 --epochs 2 --device gpu"));
    good(dir, &train("half", "--precision f16 --epochs 1 --device gpu"));
    good(dir, "train --resume half --epochs 2 --panels 0 --device gpu");
    assert!(text(dir.join("half/config.toml")).contains("precision = \"f16\""));
    let [whole, half] = ["whole", "half"].map(|run| fs::read(dir.join(run).join("last.safetensors")).expect("a state"));
    assert!(whole == half, "the second epoch is another one");
    let state = wgradcam::train::Checkpoint::load(&dir.join("half/last.safetensors")).expect("a state");
    assert!(state.progress.techniques.iter().any(|t| t.variant.contains("/coop")), "{:?}", state.progress.techniques);
    // The settings of the run decide, and the CPU path has no f16.
    let ran = run(dir, "train --resume half --epochs 3 --device cpu");
    is_error("train --resume half --epochs 3 --device cpu", &ran, &["config.toml", "the CPU path"]);
    // Read by f32, the weights say the same of every picture but for rounding.
    let accuracy = |precision: &str| -> Value {
        let ran = good(dir, &format!("evaluate half set --json --device gpu --precision {precision}"));
        serde_json::from_str(&ran.out).expect("JSON")
    };
    let loss = |precision| accuracy(precision)["loss"].as_f64().expect("a loss");
    assert!((loss("f16") - loss("f32")).abs() < 0.01 * loss("f32"), "{} {}", loss("f16"), loss("f32"));
    let ran = good(dir, "gradcam half set --limit 2 --check --device gpu --precision f16");
    assert!(ran.out.contains("adds up to the score"), "{}", ran.out);
    // A profile divides them by a peak of their own.
    let peaks = |flags: &str| -> Value {
        let ran = good(dir, &format!("profile --json --repeat 1 --device gpu {TUNED} --precision {flags}"));
        serde_json::from_str::<Value>(&ran.out).expect("JSON")["peaks"].take()
    };
    assert!(peaks("f16")["products"].as_f64().is_some_and(|flops| flops > 0.0));
    assert!(peaks("f32").get("products").is_none());
}

#[test]
fn what_the_driver_compiled_is_kept_and_a_damaged_file_is_not_used() {
    let Some(adapter) = common::adapter() else { return };
    let here = TempDir::new().expect("a folder");
    let dir = here.path();
    let first_use = || -> Value {
        let ran = cached(dir, &format!("profile --json --repeat 1 --device gpu {TUNED}"));
        let json: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert!(json["first_step"].as_f64().is_some_and(|s| s > 0.0));
        json["first_use"].clone()
    };
    let first = first_use();
    assert!(first["kernels"].as_u64().is_some_and(|n| n > 10), "{first}");
    assert!(["find", "open", "compile"].iter().all(|k| first[k].as_f64().is_some_and(|s| s > 0.0)), "{first}");
    if !adapter.facts().features.contains(&"pipeline-cache") {
        assert_eq!(first["pipeline_cache"], "nothing");
        assert_eq!(kept(dir, "pipelines-"), None);
        return;
    }
    let path = kept(dir, "pipelines-").expect("a file");
    let whole = fs::read(&path).expect("a file");
    assert!(first_use()["pipeline_cache"]["bytes"].as_u64().is_some_and(|n| n > 0 && n < whole.len() as u64));
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("a byte") ^= 1;
    fs::write(&path, &damaged).expect("written");
    // The measurement of the peaks is the first to open the device: it finds nothing that it can use and makes the file anew.
    assert!(first_use()["pipeline_cache"]["bytes"].as_u64().is_some_and(|n| n > 0));
    assert!(fs::read(&path).expect("a file") != damaged);
    // The CPU path compiles nothing.
    let ran = cached(dir, &format!("profile --json --repeat 1 --device cpu {TUNED}"));
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON")["first_use"], Value::Null);
}

// Bad paths.

#[test]
fn wrong_folders() {
    let here = own();
    let dir = here.path();
    fs::create_dir_all(dir.join("empty")).expect("a folder");
    fs::create_dir_all(dir.join("one/cat")).expect("a folder");
    fs::copy(dir.join("set/test/red/0.png"), dir.join("one/cat/0.png")).expect("a copy");
    fs::create_dir_all(dir.join("bare/cat")).expect("a folder");
    fs::create_dir_all(dir.join("bare/dog")).expect("a folder");
    fs::write(dir.join("file"), "text").expect("a file");
    copy(&dir.join("set"), &dir.join("more"));
    copy(&dir.join("set/test/red"), &dir.join("more/test/green"));
    let run = at(two(), "run");
    let train = |data: &str| format!("train {data} --out out --device cpu {SMALL}");
    bad(dir, &train("nowhere"), &["nowhere", "train/ and test/"]);
    bad(dir, &train("empty"), &["empty", "test/"]);
    bad(dir, &train("empty --val-split 0.2"), &["empty", "at least two class folders", "found none"]);
    bad(dir, &train("one --val-split 0.2"), &["one", "at least two class folders", "found one (cat)"]);
    bad(dir, &train("bare --val-split 0.2"), &["no pictures", "cat, dog", "fill or remove"]);
    bad(dir, &train("file"), &["file is a file", "give the folder"]);
    bad(dir, &train("set/train"), &["set/train", "--val-split"]);
    bad(dir, &train("more"), &["more/test", "class green", "blue, red"]);
    bad(dir, &format!("evaluate {run} more --device cpu"), &["more/test", "class folder green", "blue, red"]);
    bad(dir, &format!("evaluate {run} set/test/red --device cpu"), &["set/test/red", "class folders"]);
    bad(dir, &format!("evaluate {run} file --device cpu"), &["file is a file"]);
    bad(dir, &format!("evaluate {run} nowhere --device cpu"), &["nowhere", "cannot be opened"]);
    bad(dir, &format!("predict {run} nowhere.png --device cpu"), &["nowhere.png"]);
    bad(dir, &format!("predict {run} empty --device cpu"), &["no pictures", "empty"]);
    bad(dir, &format!("predict {run} file --device cpu"), &["file: not a picture", "--on-bad skip"]);
    bad(dir, "train --device cpu", &["<DATA>"]);
}

#[test]
fn wrong_weights() {
    let here = own();
    let dir = here.path();
    let whole = fs::read(two().join("run/best.safetensors")).expect("weights");
    for cut in [0, 1, 7, 8, 9, 200, whole.len() / 2, whole.len() - 1] {
        fs::write(dir.join("cut.safetensors"), &whole[..cut]).expect("written");
        bad(dir, "predict cut.safetensors set --device cpu", &["cut.safetensors", "damaged"]);
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(dir.join("cut.safetensors"), longer).expect("written");
    bad(dir, "evaluate cut.safetensors set --device cpu", &["cut.safetensors", "damaged"]);
    let mut nan = load(&two().join("run/best.safetensors"), None).expect("weights");
    nan.values[0][0] = f32::NAN;
    save(&dir.join("nan.safetensors"), &nan).expect("written");
    bad(dir, "gradcam nan.safetensors set --device cpu --out g", &["nan.safetensors", "NaN"]);
    bad(dir, "predict set/test/red/0.png set --device cpu", &["0.png", "safetensors"]);
    bad(dir, "predict set set --device cpu", &["set", "best.safetensors"]);
    bad(dir, "predict nowhere set --device cpu", &["nowhere", ".safetensors file or a run folder"]);
    let run = at(two(), "run");
    bad(dir, &format!("predict {run} set --device cpu --filters 4,9"), &["best.safetensors", "leave out", "--filters"]);
    bad(dir, &format!("predict {run} set --device cpu --classes a,b,c"), &["best.safetensors", "leave out", "--classes"]);
    let init = format!("--init {run}/best.safetensors --device cpu --out out");
    bad(dir, &format!("train set --size 32 --filters 4,9 --dense 8 {init}"), &["--init", "best.safetensors", "--filters"]);
}

#[test]
fn pictures_that_cannot_be_read() {
    let here = own();
    let dir = here.path();
    let good_picture = fs::read(dir.join("set/train/red/0.png")).expect("a picture");
    fs::write(dir.join("set/train/red/1.png"), "").expect("written");
    fs::write(dir.join("set/train/blue/1.png"), &good_picture[..good_picture.len() / 2]).expect("written");
    fs::write(dir.join("set/test/blue/1.png"), bomb()).expect("written");
    let train = format!("train set --epochs 1 --panels 0 --out out --device cpu {SMALL}");
    bad(dir, &train, &["2 of 40 pictures", "train/red/1.png: the file is empty", "train/blue/1.png", "--on-bad skip"]);
    let ran = good(dir, &format!("{train} --on-bad skip"));
    assert!(ran.out.contains("Found 38 images") && ran.out.contains("Validating on 17 images"), "{}", ran.out);
    for part in ["Warning: 2 of 40", "Warning: 1 of 18", "test/blue/1.png", "above the limit", "38 pictures remain"] {
        assert!(ran.err.contains(part), "{part}:\n{}", ran.err);
    }
    bad(dir, "predict out set/test --device cpu", &["1 of 18", "test/blue/1.png", "above the limit"]);
    assert_eq!(good(dir, "predict out set/test --device cpu --on-bad skip").out.lines().count(), 17);
    // All pictures of a class, and all there are.
    for i in 0..9 {
        fs::write(dir.join(format!("set/test/blue/{i}.png")), "no picture").expect("written");
    }
    bad(dir, "evaluate out set --device cpu --on-bad skip", &["class blue has no picture left", "blue/0.png"]);
    bad(dir, "predict out set/test/blue --device cpu --on-bad skip", &["9 of 9", "no picture left"]);
    bad(dir, "predict out set/test/blue --device cpu", &["9 of 9"]);
}

/// A PNG of 100,000 x 100,000 pixels in a few bytes.
fn bomb() -> Vec<u8> {
    let mut png = Vec::new();
    common::picture(0, 0).write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).expect("a picture");
    for at in [16, 20] {
        png[at..at + 4].copy_from_slice(&100_000u32.to_be_bytes());
    }
    let mut crc = !0u32;
    for &byte in &png[12..29] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    png[29..33].copy_from_slice(&(!crc).to_be_bytes());
    png
}

#[test]
fn wrong_flags() {
    let here = own();
    let dir = here.path();
    fs::write(dir.join("typo.toml"), "[train]\nepoch = 3\n").expect("written");
    fs::write(dir.join("broken.toml"), "[train\n").expect("written");
    let train = |flags: &str| format!("train set --out out --device cpu {flags}");
    for (flags, says) in [
        ("--batch-size 0", &["--batch-size 0"][..]),
        ("--batch-size 41 --size 32 --filters 4", &["--batch-size 41", "40 pictures"]),
        ("--epochs 0", &["--epochs is 0"]),
        ("--micro-batch 0", &["--micro-batch 0", "1..=64"]),
        ("--micro-batch 9 --batch-size 8", &["--micro-batch 9", "1..=8"]),
        ("--save-every -1", &["--save-every -1"]),
        ("--epochs many", &["--epochs", "many"]),
        ("--size 64x", &["--size", "64x", "80x96"]),
        ("--size 0", &["size 0x0"]),
        ("--size 99999999999", &["size", "4096"]),
        ("--size 16", &["conv2d_3", "--size"]),
        ("--background 1,2", &["--background", "1,2"]),
        ("--background 1,2,256", &["--background", "1,2,256"]),
        ("--filters 0", &["filters", "0 is outside"]),
        ("--filters ''", &["--filters"]),
        ("--dense 0", &["dense", "0 is outside"]),
        ("--dense x", &["--dense", "x"]),
        ("--kernel-size 0", &["kernel_size 0"]),
        ("--dropout 1", &["dropout 1"]),
        ("--dropout -1", &["dropout -1"]),
        ("--learning-rate 0", &["--learning-rate 0"]),
        ("--learning-rate nan", &["--learning-rate NaN"]),
        ("--beta1 1", &["--beta1 1"]),
        ("--epsilon -1", &["--epsilon -1"]),
        ("--val-split 1", &["--val-split 1"]),
        ("--val-split -0.5", &["--val-split -0.5"]),
        ("--head soft", &["--head", "softmax"]),
        ("--config typo.toml", &["typo.toml", "unknown field `epoch`"]),
        ("--config broken.toml", &["broken.toml", "line 1"]),
        ("--config nowhere.toml", &["nowhere.toml"]),
        ("--config set", &["the settings file set"]),
        ("--init nowhere", &["--init", "nowhere"]),
        ("--size 4096 --filters 64", &["dense_1/kernel", "2^29"]),
        ("--size 4096 --filters 65536 --dense 65536", &["filters"]),
        // Half a TiB of activations per picture of a network with few parameters.
        ("--size 4096 --filters 8192,8,8,8,8 --batch-size 40", &["GiB", "with 1 pictures at a time", "--filters"]),
        ("--nonsense", &["--nonsense"]),
    ] {
        bad(dir, &train(flags), says);
    }
    for (flags, says) in [
        ("--repeat 0", &["--repeat 0"][..]),
        ("--batch-size 0", &["--batch-size 0"]),
        ("--device cpu", &["tune needs an adapter", "wgradcam devices"]),
        ("--show --forget", &["--show", "--forget"]),
        ("--size 2", &["--size"]),
    ] {
        bad(dir, &format!("tune {flags}"), says);
    }
    bad(dir, "train set --out out --device 77", &["--device 77", "wgradcam devices"]);
    bad(dir, "train set --out out --device nosuchcard", &["--device nosuchcard", "wgradcam devices"]);
    let run = at(two(), "run");
    for (flags, says) in [
        ("--target class:dog", &["--target", "dog", "blue, red"][..]),
        ("--true dog", &["--true", "dog", "blue, red"]),
        ("--predicted dog", &["--predicted", "dog", "blue, red"]),
        ("--target dog", &["--target", "class:NAME"]),
        ("--batch-size 0", &["--batch-size 0"]),
        ("--technique magic", &["--technique", "gradcam"]),
    ] {
        bad(dir, &format!("gradcam {run} set --out g --device cpu {flags}"), says);
    }
    for command in ["predict", "evaluate"] {
        bad(dir, &format!("{command} {run} set --device cpu --batch-size 0"), &["--batch-size 0"]);
    }
    bad(dir, &format!("gradcam {run} set/test/red --true red --out g --device cpu"), &["--true and --only", "blue, red"]);
}

#[test]
fn an_output_folder_that_cannot_be_written() {
    let here = own();
    let dir = here.path();
    fs::write(dir.join("file"), "text").expect("a file");
    let run = at(two(), "run");
    let mut places = vec!["file", "file/below"];
    if cfg!(target_os = "linux") {
        // Where not even root may write.
        places.push("/proc/nowhere");
        places.push("/proc/self");
    }
    for place in places {
        bad(dir, &format!("train set --out {place} --device cpu {SMALL}"), &[place, "--out"]);
        bad(dir, &format!("evaluate {run} set --out {place} --device cpu"), &[place, "--out"]);
        bad(dir, &format!("gradcam {run} set --out {place} --device cpu"), &[place, "--out"]);
    }
}

#[test]
fn a_training_that_diverges_stops_and_keeps_what_there_was() {
    let here = own();
    let dir = here.path();
    good(dir, &format!("train set --out out --epochs 1 --device cpu {SMALL}"));
    let before = files(&dir.join("out"));
    bad(dir, &format!("train set --out out --device cpu {SMALL}"), &["out holds an earlier run", "--out", "--overwrite"]);
    let args = format!("train set --out out --overwrite --epochs 3 --device cpu --learning-rate 1e30 {SMALL}");
    is_error(&args, &run(dir, &args), &["diverged in epoch 1", "NaN", "--learning-rate"]);
    let after = files(&dir.join("out"));
    for name in ["best.safetensors", "history.csv", "report.html"] {
        let path = dir.join("out").join(name);
        assert!(before[&path] == after[&path], "{name}");
    }
    // One step an epoch: the step is still finite, the validation after it is not.
    let args = "train set --out new --size 32 --filters 4,8 --dense 8 --batch-size 40 --learning-rate 1e30 --device cpu";
    is_error(args, &run(dir, args), &["diverged in epoch 1", "validation loss", "new/last.safetensors", "initial weights"]);
    assert!(!dir.join("new/best.safetensors").exists());
    assert_eq!(load(&dir.join("new/last.safetensors"), None).expect("weights").card.epoch, 0);
    // Losses of 1e20 are no reason to stop, and no reason for the chart to hang.
    let args = format!("train set --out large --epochs 2 --panels 0 --device cpu --learning-rate 1e5 {SMALL}");
    good(dir, &args);
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_the_weights_as_they_are() {
    let here = own();
    let dir = here.path();
    let running = start(command(dir, &format!("train set --out out --epochs 1000000 --device cpu {SMALL}")));
    let begun = Instant::now();
    while !dir.join("out/history.csv").exists() {
        assert!(begun.elapsed() < PATIENCE, "no epoch came to an end:\n{}", running.log("err"));
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let ran = running.end();
    assert_eq!(ran.code, Some(130), "{}", ran.err);
    assert!(ran.err.contains("Interrupted") && ran.err.contains("last.safetensors"), "{}", ran.err);
    let last = load(&dir.join("out/last.safetensors"), None).expect("whole weights");
    assert_eq!(text(dir.join("out/history.csv")).lines().count(), 1 + last.card.epoch);
    assert_eq!(good(dir, "predict out/last.safetensors set/test --device cpu").out.lines().count(), 18);
    assert!(files(&dir.join("out")).keys().all(|p| !p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))));
}
