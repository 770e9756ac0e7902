//! The same bytes again: whatever the number of threads, and however often a training is stopped, killed or refused a write.

#[path = "common/binary.rs"]
mod binary;
mod common;

use binary::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use wgradcam::rng;
use wgradcam::train::{Checkpoint, load, save};

/// Trains with dropout, shuffled, in batches of which the last is smaller, on what `folder` makes.
const TRAIN: &str = "train set --size 32 --filters 4,8 --dense 8 --batch-size 8 --seed 3";

/// A folder of one's own with pictures in `set`: 20 to train on, 10 to validate on.
fn folder() -> TempDir {
    let dir = TempDir::new().expect("a folder");
    make_pictures(&dir.path().join("set"), &["blue", "red"], 10, 5);
    dir
}

/// What a run leaves, by path below its folder.
fn left(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let below = |path: PathBuf| path.strip_prefix(run).expect("a path below").to_owned();
    files(run).into_iter().map(|(path, bytes)| (below(path), bytes)).collect()
}

fn same(a: &Path, b: &Path, what: &str) {
    let (x, y) = (left(a), left(b));
    assert_eq!(x.keys().collect::<Vec<_>>(), y.keys().collect::<Vec<_>>(), "{what}");
    for (path, bytes) in &x {
        assert!(*bytes == y[path], "{what}: {} differs", path.display());
    }
}

/// The devices to test on.
fn devices() -> Vec<&'static str> {
    if common::adapter().is_some() { vec!["cpu", "gpu"] } else { vec!["cpu"] }
}

#[test]
fn one_thread_two_and_five_give_the_same_files_and_heatmaps() {
    let dir = folder();
    let dir = dir.path();
    for (out, threads) in [("one", "1"), ("two", "2"), ("five", "5"), ("again", "5")] {
        let mut train = command(dir, &format!("{TRAIN} --out {out} --epochs 2 --panels 4 --log-steps --device cpu"));
        let ran = start({
            train.env("RAYON_NUM_THREADS", threads);
            train
        })
        .end();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let mut explain = command(dir, &format!("gradcam {out} set/test --out {out}/maps --npy --device cpu"));
        let ran = start({
            explain.env("RAYON_NUM_THREADS", threads);
            explain
        })
        .end();
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    assert!(left(&dir.join("one")).keys().filter(|p| p.extension().is_some_and(|e| e == "npy")).count() > 10);
    for other in ["two", "five", "again"] {
        same(&dir.join("one"), &dir.join(other), other);
    }
}

#[test]
fn the_adapter_gives_the_same_files_and_heatmaps_again() {
    let Some(_) = common::adapter() else { return };
    let dir = folder();
    let dir = dir.path();
    for out in ["a", "b"] {
        good(dir, &format!("{TRAIN} --out {out} --epochs 2 --panels 4 --log-steps --device gpu"));
        good(dir, &format!("gradcam {out} set/test --out {out}/maps --npy --device gpu"));
    }
    same(&dir.join("a"), &dir.join("b"), "twice on the adapter");
}

#[test]
fn five_epochs_and_five_more_are_ten() {
    for device in devices() {
        let dir = folder();
        let dir = dir.path();
        good(dir, &format!("{TRAIN} --out ten --epochs 10 --panels 2 --log-steps --device {device}"));
        good(dir, &format!("{TRAIN} --out five --epochs 5 --panels 2 --log-steps --device {device}"));
        let ran = good(dir, &format!("train --resume five --epochs 10 --panels 2 --device {device}"));
        assert!(ran.out.contains("Going on after epoch 5") && ran.out.contains("Epoch 6/10"), "{}", ran.out);
        assert!(!ran.out.contains("Epoch 5/10"), "{}", ran.out);
        same(&dir.join("ten"), &dir.join("five"), device);
        // A finished run is evaluated and explained again, and nothing else.
        good(dir, &format!("train --resume five --panels 2 --device {device}"));
        same(&dir.join("ten"), &dir.join("five"), device);
    }
}

#[test]
fn a_training_goes_on_with_its_own_variants_whatever_was_tuned_meanwhile() {
    let Some(_) = common::adapter() else { return };
    let dir = folder();
    let dir = dir.path();
    let network = "--size 16 --filters 16 --dense 64 --batch-size 8";
    cached(dir, &format!("tune {network} --repeat 1"));
    let train = format!("train set {network} --panels 0 --device gpu");
    alter_tuned(dir, |v| choose_candidate(v, 0));
    cached(dir, &format!("{train} --out two --epochs 2"));
    cached(dir, &format!("{train} --out one --epochs 1"));
    alter_tuned(dir, |v| choose_candidate(v, 1));
    cached(dir, "train --resume one --epochs 2 --panels 0 --device gpu");
    cached(dir, &format!("{train} --out other --epochs 2"));
    let last = |run: &str| Checkpoint::load(&dir.join(run).join("last.safetensors")).expect("a state");
    let [two, one, other] = ["two", "one", "other"].map(last);
    assert_eq!(one.progress, two.progress);
    for name in ["last.safetensors", "best.safetensors", "history.csv"] {
        let [a, b] = ["one", "two"].map(|run| fs::read(dir.join(run).join(name)).expect("a file"));
        assert!(a == b, "{name} differs");
    }
    // Without the record it would have been another training.
    if !two.progress.techniques.is_empty() {
        assert!(two.progress.techniques != other.progress.techniques);
        assert!(two.weights.values != other.weights.values, "the variants round alike: this test cannot fail");
    }
    // The CPU path has no variants and goes on all the same.
    good(dir, "train --resume one --epochs 3 --panels 0 --device cpu");
    assert!(last("one").progress.techniques.is_empty());
}

#[test]
fn a_worse_epoch_after_a_resume_leaves_the_best_as_it_was() {
    for device in devices() {
        let dir = TempDir::new().expect("a folder");
        let dir = dir.path();
        // Pictures that say nothing of their class, so that the accuracy goes up and down.
        for (class, part, seeds) in [("a", "train", 0..10), ("b", "train", 10..20), ("a", "test", 20..27), ("b", "test", 27..34)]
        {
            let place = dir.join("set").join(part).join(class);
            fs::create_dir_all(&place).expect("a folder");
            for seed in seeds {
                common::picture(7, seed).save(place.join(format!("{seed}.png"))).expect("a picture");
            }
        }
        let train = format!("{TRAIN} --learning-rate 0.01 --panels 0 --device {device}");
        good(dir, &format!("{train} --out whole --epochs 12"));
        let accuracies: Vec<f64> = text(dir.join("whole/history.csv"))
            .lines()
            .skip(1)
            .map(|line| line.rsplit(',').next().and_then(|cell| cell.parse().ok()).expect("val_accuracy"))
            .collect();
        let worse = (1..12)
            .find(|&e| accuracies[..e].iter().any(|&before| before > accuracies[e]))
            .unwrap_or_else(|| panic!("{device}: no epoch is worse than one before it: {accuracies:?}"));
        good(dir, &format!("{train} --out run --epochs {worse}"));
        let best = dir.join("run/best.safetensors");
        let before = fs::read(&best).expect("the best");
        good(dir, &format!("train --resume run --epochs {} --panels 0 --device {device}", worse + 1));
        assert!(fs::read(&best).expect("the best") == before, "{device}: epoch {} took the best's place", worse + 1);
        good(dir, &format!("train --resume run --epochs 12 --panels 0 --device {device}"));
        same(&dir.join("whole"), &dir.join("run"), device);
    }
}

/// Weights are data: what they say about themselves names no file to write.
#[test]
fn weights_that_name_paths_write_nowhere_else() {
    let dir = folder();
    let dir = dir.path();
    good(dir, &format!("{TRAIN} --out run --epochs 1 --panels 0 --device cpu"));
    let mut hostile = load(&dir.join("run/best.safetensors"), None).expect("weights");
    let outside = dir.join("outside");
    hostile.card.classes = vec!["../../escaped".into(), outside.join("absolute").display().to_string()];
    fs::create_dir_all(dir.join("a/b")).expect("a folder");
    save(&dir.join("a/b/w.safetensors"), &hostile).expect("weights");
    fs::create_dir(dir.join("photos")).expect("a folder");
    for i in 0..3 {
        fs::copy(dir.join(format!("set/test/red/{i}.png")), dir.join(format!("photos/{i}.png"))).expect("a picture");
    }
    let before = files(dir);
    good(dir, "predict a/b/w.safetensors photos --device cpu");
    good(dir, "gradcam a/b/w.safetensors photos --out a/b/out --npy --device cpu");
    let ran = run(dir, "evaluate a/b/w.safetensors set --out a/b/out --device cpu");
    assert!(matches!(ran.code, Some(0..=2)), "{}", ran.err);
    let allowed = dir.join("a/b/out");
    let mut made = 0;
    for path in files(dir).keys().filter(|path| !before.contains_key(*path)) {
        assert!(path.starts_with(&allowed), "{} was written", path.display());
        made += 1;
    }
    assert!(made > 6 && !outside.exists(), "{made} files");
}

/// `steps.csv` is read back by a resume, and may have been put in its place by anybody.
#[cfg(unix)]
#[test]
fn a_step_log_that_is_no_text_or_no_file_is_refused_and_a_torn_one_goes_on() {
    let dir = folder();
    let dir = dir.path();
    good(dir, &format!("{TRAIN} --out whole --epochs 4 --panels 0 --log-steps --device cpu"));
    good(dir, &format!("{TRAIN} --out run --epochs 2 --panels 0 --log-steps --device cpu"));
    let resume = "train --resume run --epochs 4 --panels 0 --device cpu";
    let log = dir.join("run/steps.csv");
    let was = text(&log);
    fs::write(&log, b"epoch,step,loss\n\xff\xfe\n").expect("written");
    bad(dir, resume, &["steps.csv", "remove it"]);
    fs::remove_file(&log).expect("it goes");
    // A pipe would never end.
    assert!(Command::new("mkfifo").arg(&log).status().expect("mkfifo runs").success());
    is_error(resume, &run(dir, resume), &["steps.csv", "not a file", "remove it"]);
    fs::remove_file(&log).expect("it goes");
    // Lines of no step and of steps that the state has not done, as a kill or an editor leaves them.
    fs::write(&log, format!("{was}3,1,0.5\n18446744073709551616,1,1\n,,\n3,2")).expect("written");
    good(dir, resume);
    same(&dir.join("whole"), &dir.join("run"), "after a torn log");
}

#[test]
fn a_death_at_any_point_of_any_write_costs_nothing() {
    if !cfg!(debug_assertions) {
        eprintln!("SKIPPED: a release build has no faults on demand");
        return;
    }
    let dir = folder();
    let dir = dir.path();
    let train = "--epochs 2 --panels 0 --log-steps --device cpu";
    good(dir, &format!("{TRAIN} --out whole {train}"));
    let (mut deaths, mut begun) = (0, 0);
    loop {
        let out = format!("killed-{deaths}");
        let mut doomed = command(dir, &format!("{TRAIN} --out {out} {train}"));
        doomed.env("WGRADCAM_FAULT", format!("die={}", deaths + 1));
        let ran = start(doomed).end();
        if ran.code == Some(0) {
            break;
        }
        assert_eq!(ran.code, None, "{}", ran.err);
        deaths += 1;
        let run = dir.join(&out);
        for name in ["last.safetensors", "best.safetensors"] {
            let path = run.join(name);
            assert!(!path.exists() || load(&path, None).is_ok(), "death {deaths}: {name} is not whole");
        }
        if run.join("last.safetensors").exists() {
            good(dir, &format!("train --resume {out} --panels 0 --device cpu"));
        } else {
            begun += 1;
            good(dir, &format!("{TRAIN} --out {out} {train}"));
        }
        same(&dir.join("whole"), &run, &format!("death {deaths}"));
        fs::remove_dir_all(run).expect("it goes");
    }
    println!("{deaths} deaths survived, {begun} of them before anything was saved");
    // Three saves of the state, a best and two histories at the least, four points each.
    assert!(deaths >= 24 && begun < deaths / 2, "{deaths} {begun}");
}

#[test]
fn a_kill_at_any_moment_costs_nothing() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |v| v.parse().expect("a number"));
    let (kills, device) = (number("WGRADCAM_KILLS", 10), std::env::var("WGRADCAM_KILL_DEVICE").unwrap_or("cpu".into()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seed = number("WGRADCAM_KILL_SEED", now) as u32;
    println!("WGRADCAM_KILL_SEED={seed} repeats these moments");
    let dir = folder();
    let dir = dir.path();
    // A state is saved after every group of steps, so that kills meet writes and resumes begin within epochs.
    let train = format!("{TRAIN} --epochs 30 --save-every 0 --panels 0 --log-steps --device {device}");
    let begun = Instant::now();
    good(dir, &format!("{train} --out whole"));
    let whole = begun.elapsed();
    let (mut tried, mut within, mut left_over, mut finished, mut before) = (0, 0, 0, 0, 0);
    while tried < kills || finished == 0 {
        let run = dir.join("killed");
        let going_on = run.join("last.safetensors").exists();
        let args = if going_on {
            format!("train --resume killed --panels 0 --device {device}")
        } else {
            format!("{train} --out killed")
        };
        let mut running = start(command(dir, &args));
        let moment = whole.mul_f32(rng::unit(rng::hash3(seed, 77, tried as u32)));
        let born = Instant::now();
        let mut ended = tried >= kills;
        while !ended && born.elapsed() < moment {
            std::thread::sleep(Duration::from_millis(1));
            ended = running.child.try_wait().expect("a status").is_some();
        }
        if ended {
            let ran = running.end();
            assert_eq!(ran.code, Some(0), "{args}\n{}{}", ran.out, ran.err);
            same(&dir.join("whole"), &run, "after kills");
            fs::remove_dir_all(run).expect("it goes");
            finished += 1;
            continue;
        }
        running.child.kill().expect("SIGKILL");
        running.child.wait().expect("its end");
        tried += 1;
        left_over += usize::from(files(&run).keys().any(|p| p.to_string_lossy().ends_with(".tmp")));
        let [last, best] = ["last.safetensors", "best.safetensors"].map(|name| run.join(name));
        if last.exists() {
            within += usize::from(Checkpoint::load(&last).expect("a whole state").progress.batches > 0);
        } else {
            before += 1;
        }
        if best.exists() {
            load(&best, None).expect("whole weights");
        }
    }
    println!(
        "{tried} kills on {device}, all survived: {finished} runs came to the bytes of the one never stopped; {within} kills left a state \
         within an epoch, {left_over} an unfinished file, {before} came before the first save"
    );
}

#[test]
fn a_full_disk_at_any_write_is_said_and_costs_nothing() {
    if !cfg!(debug_assertions) {
        eprintln!("SKIPPED: a release build has no faults on demand");
        return;
    }
    let dir = folder();
    let dir = dir.path();
    let train = "--epochs 2 --panels 0 --device cpu";
    good(dir, &format!("{TRAIN} --out whole {train}"));
    for file in 1.. {
        let out = format!("full-{file}");
        let args = format!("{TRAIN} --out {out} {train}");
        let mut full = command(dir, &args);
        full.env("WGRADCAM_FAULT", format!("full={file}"));
        let ran = start(full).end();
        if ran.code == Some(0) {
            assert!(file > 7, "only {file} writes");
            break;
        }
        is_error(&args, &ran, &[&out, "cannot write", "no storage space"]);
        let run = dir.join(&out);
        // A folder that the run made and could not write into is gone.
        assert!(!run.exists() || left(&run).keys().all(|p| !p.to_string_lossy().contains(".tmp")), "file {file}");
        if run.join("last.safetensors").exists() {
            good(dir, &format!("train --resume {out} --panels 0 --device cpu"));
        } else {
            good(dir, &args);
        }
        same(&dir.join("whole"), &run, &format!("file {file}"));
    }
}

#[test]
fn a_lost_device_is_said_and_costs_nothing() {
    let Some(_) = common::adapter() else { return };
    if !cfg!(debug_assertions) {
        eprintln!("SKIPPED: a release build has no faults on demand");
        return;
    }
    let dir = folder();
    let dir = dir.path();
    let train = "--epochs 3 --panels 0 --save-every 0 --device gpu";
    good(dir, &format!("{TRAIN} --out whole {train}"));
    for submission in [1, 4, 9] {
        let out = format!("lost-{submission}");
        let args = format!("{TRAIN} --out {out} {train}");
        let mut lost = command(dir, &args);
        lost.env("WGRADCAM_FAULT", format!("lost={submission}"));
        let ran = start(lost).end();
        is_error(&args, &ran, &["lost", &format!("--resume {out}"), "last.safetensors is whole"]);
        good(dir, &format!("train --resume {out} --panels 0 --device gpu"));
        same(&dir.join("whole"), &dir.join(&out), &out);
    }
}

#[test]
fn too_little_memory_splits_the_batch_as_asked_for_by_hand() {
    if !cfg!(debug_assertions) {
        eprintln!("SKIPPED: a release build has no faults on demand");
        return;
    }
    let limited = |dir: &Path, bytes: u64, args: &str| {
        let mut command = command(dir, args);
        command.env("WGRADCAM_FAULT", format!("memory={bytes}"));
        start(command).end()
    };
    // The limit that makes parts of 2 of the batches of 8, by bisection: the program has the same size on every device, since
    // its kernels read no textures.
    let (mut low, mut high) = (0, 4_000_000);
    let memory = loop {
        let (middle, dir) = ((low + high) / 2, folder());
        assert!(high - low > 100, "no limit makes parts of 2");
        let ran = limited(dir.path(), middle, &format!("{TRAIN} --out tried --epochs 1 --panels 0 --device cpu"));
        match ran.err.contains("with 1 pictures at a time") {
            true => low = middle,
            false if ran.err.contains("as --micro-batch 2 asks for") => break middle,
            false => high = middle,
        }
    };
    for device in devices() {
        let dir = folder();
        let dir = dir.path();
        let train = format!("--epochs 3 --panels 2 --log-steps --device {device}");
        good(dir, &format!("{TRAIN} --out whole {train}"));
        good(dir, &format!("{TRAIN} --out asked {train} --micro-batch 2"));
        let ran = limited(dir, memory, &format!("{TRAIN} --out made {train}"));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(ran.err.contains("Trying with 4 pictures at a time"), "{}", ran.err);
        assert!(text(dir.join("made/config.toml")).contains("micro_batch = 2"));
        same(&dir.join("asked"), &dir.join("made"), device);
        // The same mathematics as the whole batch's, in another rounding.
        let [a, b] =
            ["whole", "made"].map(|run| load(&dir.join(run).join("last.safetensors"), None).expect("weights").values.concat());
        assert_ne!(a, b);
        let mut off: Vec<f32> = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).collect();
        off.sort_by(f32::total_cmp);
        assert!(off[off.len() * 99 / 100] <= 2e-6, "{device}: {:e}", off[off.len() * 99 / 100]);
        // A resume takes the split from config.toml.
        good(dir, &format!("{TRAIN} --out asked-5 --epochs 5 --panels 2 --log-steps --device {device} --micro-batch 2"));
        good(dir, &format!("train --resume made --epochs 5 --panels 2 --device {device}"));
        same(&dir.join("asked-5"), &dir.join("made"), device);
        // Too little for one picture.
        let ran = limited(dir, 1000, &format!("{TRAIN} --out none {train}"));
        is_error("with 1000 bytes", &ran, &["--batch-size", "Trying with 1 pictures at a time"]);
        assert!(!dir.join("none").exists());
    }
}

#[cfg(unix)]
#[test]
fn interrupts_once_and_twice_cost_nothing() {
    let dir = folder();
    let dir = dir.path();
    let train = "--epochs 40 --panels 0 --save-every 0 --device cpu";
    good(dir, &format!("{TRAIN} --out whole {train}"));
    for (times, out) in [(1, "once"), (2, "twice")] {
        let running = start(command(dir, &format!("{TRAIN} --out {out} {train}")));
        let begun = Instant::now();
        while !dir.join(out).join("history.csv").exists() {
            assert!(begun.elapsed() < PATIENCE, "no epoch came to an end:\n{}", running.log("err"));
            std::thread::sleep(Duration::from_millis(2));
        }
        for _ in 0..times {
            // The second may come after the end.
            let _ =
                Command::new("kill").args(["-INT", &running.child.id().to_string()]).stderr(std::process::Stdio::null()).status();
        }
        let ran = running.end();
        assert_eq!(ran.code, Some(130), "{}", ran.err);
        assert!(ran.err.contains("Interrupted"), "{}", ran.err);
        good(dir, &format!("train --resume {out} --panels 0 --device cpu"));
        same(&dir.join("whole"), &dir.join(out), out);
    }
}

#[test]
fn pictures_that_go_while_a_training_runs_are_not_missed() {
    let dir = folder();
    let dir = dir.path();
    let train = "--epochs 20 --panels 2 --device cpu";
    good(dir, &format!("{TRAIN} --out whole {train}"));
    let running = start(command(dir, &format!("{TRAIN} --out run {train}")));
    let begun = Instant::now();
    // The first save comes after the pictures were read.
    while !dir.join("run/last.safetensors").exists() {
        assert!(begun.elapsed() < PATIENCE, "nothing was saved:\n{}", running.log("err"));
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::remove_dir_all(dir.join("set")).expect("they go");
    let ran = running.end();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    same(&dir.join("whole"), &dir.join("run"), "without pictures");
    bad(dir, "train --resume run --epochs 30 --device cpu", &["set does not exist"]);
}

#[test]
fn a_resume_that_would_not_be_the_same_training_is_refused() {
    let dir = folder();
    let dir = dir.path();
    good(dir, &format!("{TRAIN} --out run --epochs 3 --panels 0 --device cpu"));
    let resume = "train --resume run --epochs 4 --panels 0 --device cpu";
    bad(dir, "train --resume nowhere --device cpu", &["--resume nowhere", "no run folder"]);
    bad(dir, "train --resume run --epochs 2 --device cpu", &["--epochs 2", "has done 3"]);
    for flag in ["--seed 1", "--batch-size 4", "--size 64", "--keras-exact", "--out other", "--init run", "--overwrite"] {
        bad(dir, &format!("train --resume run {flag} --device cpu"), &["--resume", "cannot be used with"]);
    }
    // A picture less, another one, one in place of another, another class.
    let (zero, nine) = (dir.join("set/train/red/0.png"), dir.join("set/train/red/9.png"));
    let [was_zero, was_nine, was_test] =
        [&zero, &nine, &dir.join("set/test/red/0.png")].map(|path| fs::read(path).expect("a picture"));
    fs::remove_file(&nine).expect("it goes");
    bad(dir, resume, &["--resume run", "training pictures have changed", "20 pictures then, 19 now"]);
    fs::write(&nine, &was_zero).expect("written");
    bad(dir, resume, &["training pictures have changed", "other pixels"]);
    fs::write(&nine, &was_nine).expect("written");
    fs::remove_file(dir.join("set/test/red/0.png")).expect("it goes");
    bad(dir, resume, &["validation pictures have changed", "10 pictures then, 9 now"]);
    fs::write(dir.join("set/test/red/0.png"), &was_test).expect("written");
    for part in ["train", "test"] {
        fs::rename(dir.join("set").join(part).join("red"), dir.join("set").join(part).join("tomato")).expect("renamed");
    }
    bad(dir, resume, &["--resume run", "blue, tomato", "begun with blue, red"]);
    for part in ["train", "test"] {
        fs::rename(dir.join("set").join(part).join("tomato"), dir.join("set").join(part).join("red")).expect("renamed");
    }
    // Other settings.
    let config = text(dir.join("run/config.toml"));
    for (from, to, says) in [
        (
            "learning_rate = 0.001",
            "learning_rate = 0.002",
            &["learning_rate = 0.001, now learning_rate = 0.002", "config.toml"][..],
        ),
        ("seed = 3", "seed = 4", &["seed = 3, now seed = 4"]),
        ("dropout = 0.5", "dropout = 0.25", &["config.toml", "another network"]),
    ] {
        assert!(config.contains(from), "{config}");
        fs::write(dir.join("run/config.toml"), config.replace(from, to)).expect("written");
        bad(dir, resume, says);
    }
    fs::write(dir.join("run/config.toml"), &config).expect("written");
    // The folder may have moved.
    fs::rename(dir.join("set"), dir.join("moved")).expect("renamed");
    bad(dir, resume, &["set does not exist", "give the folder"]);
    good(dir, &format!("{resume} moved"));
    assert!(text(dir.join("run/config.toml")).contains("data = \"moved\""));
}

#[test]
fn damaged_and_missing_files_are_refused_by_name() {
    let dir = folder();
    let dir = dir.path();
    good(dir, &format!("{TRAIN} --out run --epochs 3 --panels 0 --device cpu"));
    let resume = "train --resume run --epochs 9 --panels 0 --device cpu";
    let [last, best] = ["last", "best"].map(|name| dir.join(format!("run/{name}.safetensors")));
    let [whole_last, whole_best] = [&last, &best].map(|path| fs::read(path).expect("weights"));
    // One bit, in the header and in the tensors; a part; nothing.
    for at in [200, whole_last.len() / 2, whole_last.len() - 1] {
        let mut damaged = whole_last.clone();
        damaged[at] ^= 1;
        fs::write(&last, damaged).expect("written");
        bad(dir, resume, &["last.safetensors", "damaged", "best.safetensors (epoch", "is whole"]);
    }
    fs::write(&last, &whole_last[..whole_last.len() / 2]).expect("written");
    bad(dir, resume, &["last.safetensors", "damaged", "best.safetensors (epoch", "is whole"]);
    // Weights that are no state.
    fs::write(&last, &whole_best).expect("written");
    bad(dir, resume, &["last.safetensors", "no state of a training", "--init"]);
    fs::remove_file(&last).expect("it goes");
    bad(dir, resume, &["no last.safetensors", "begin it again", "--config run/config.toml --out run"]);
    fs::write(&last, &whole_last).expect("written");
    // The best is needed where the last epoch is not it: on it goes until it is not.
    let mut epochs = 3;
    while load(&best, None).expect("weights").card.epoch == epochs {
        epochs += 1;
        assert!(epochs < 30, "every epoch is the best");
        good(dir, &format!("train --resume run --epochs {epochs} --panels 0 --device cpu"));
    }
    let resume = format!("train --resume run --epochs {} --panels 0 --device cpu", epochs + 1);
    let mut damaged = fs::read(&best).expect("weights");
    let end = damaged.len() - 1;
    damaged[end] ^= 0x10;
    fs::write(&best, damaged).expect("written");
    bad(dir, &resume, &["best.safetensors", "damaged", "last.safetensors (epoch", "remove it"]);
    fs::remove_file(&best).expect("it goes");
    let ran = good(dir, &resume);
    assert!(ran.err.contains("Warning") && ran.err.contains("chosen anew"), "{}", ran.err);
    assert_eq!(load(&best, None).expect("weights").card.epoch, epochs + 1);
}

#[cfg(unix)]
#[test]
fn two_trainings_do_not_share_a_folder() {
    let dir = folder();
    let dir = dir.path();
    let mut first = start(command(dir, &format!("{TRAIN} --out run --epochs 1000000 --device cpu")));
    let begun = Instant::now();
    while !dir.join("run/last.safetensors").exists() {
        assert!(begun.elapsed() < PATIENCE, "nothing was saved:\n{}", first.log("err"));
        std::thread::sleep(Duration::from_millis(2));
    }
    for args in ["train --resume run --device cpu".to_owned(), format!("{TRAIN} --out run --overwrite --device cpu")] {
        is_error(&args, &run(dir, &args), &["another wgradcam is training into run"]);
    }
    first.child.kill().expect("SIGKILL");
    first.child.wait().expect("its end");
    assert!(!dir.join("run/best.safetensors").exists() || load(&dir.join("run/best.safetensors"), None).is_ok());
}
