//! A long training: memory that stays flat, epochs that take no longer at the end, and the bytes of a run that was resumed on the way.
//! `WGRADCAM_SOAK_EPOCHS` (1000) and `WGRADCAM_SOAK_DEVICE` (cpu) may be set.

#[path = "common/binary.rs"]
mod binary;
mod common;

use binary::*;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// Batches of 10: at 2, 4 and 8 the process grows by some MiB per epoch on Mesa 22.3's llvmpipe (4.4 MiB at 8), at the sizes from
/// 9 up that were tried by less than 1 KiB. What grows is not known.
const TRAIN: &str = "train set --size 32 --filters 4,8 --dense 8 --batch-size 10 --panels 0";

/// A moment of the run: epochs done, processor time in clock ticks (a busy machine or disk does not change it), resident memory in
/// KiB.
type Sample = (usize, f64, f64);

#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes: cargo test --test soak -- --ignored --nocapture"]
fn a_thousand_epochs_leave_memory_and_pace_as_they_were() {
    let epochs: usize = std::env::var("WGRADCAM_SOAK_EPOCHS").map_or(1000, |v| v.parse().expect("a number"));
    let device = std::env::var("WGRADCAM_SOAK_DEVICE").unwrap_or("cpu".into());
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    make_pictures(&dir.join("set"), &["blue", "red"], 20, 10);
    let train = format!("{TRAIN} --device {device}");
    let mut running = start(command(dir, &format!("{train} --out run --epochs {epochs}")));
    let mut samples: Vec<Sample> = Vec::new();
    while running.child.try_wait().expect("a status").is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap_or_default();
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
        let done = fs::read_to_string(dir.join("run/history.csv")).map_or(0, |t| t.lines().count().saturating_sub(1));
        // Behind the program's name: state, then utime and stime as the 12th and 13th.
        let stat = fs::read_to_string(format!("/proc/{}/stat", running.child.id())).unwrap_or_default();
        let cells: Vec<f64> = stat.rsplit(')').next().unwrap_or("").split(' ').map(|c| c.parse().unwrap_or(0.0)).collect();
        if let (Some(resident), Some(ticks), 1..) = (resident, cells.get(12..14), done) {
            samples.push((done, ticks.iter().sum(), resident));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(running.end().code, Some(0));
    // The evaluation at the end is another engine; the samples with every epoch done are its.
    samples.retain(|s| s.0 < epochs);
    let tenth = |k: usize| -> Vec<&Sample> { samples.iter().filter(|s| s.0 * 10 / epochs == k).collect() };
    let [second, last] = [1, 9].map(tenth);
    assert!(second.len() > 3 && last.len() > 3, "too few samples: take more --epochs");
    let memory = |part: &[&Sample]| part.iter().map(|s| s.2).sum::<f64>() / part.len() as f64 / 1024.0;
    let pace = |part: &[&Sample]| {
        let (a, b) = (part[0], part[part.len() - 1]);
        10.0 * (b.1 - a.1) / (b.0 - a.0).max(1) as f64
    };
    println!(
        "{epochs} epochs on {device}: {:.1} MiB in the second tenth, {:.1} MiB in the last; {:.2} and {:.2} ms of processor time per epoch",
        memory(&second),
        memory(&last),
        pace(&second),
        pace(&last)
    );
    assert!(memory(&last) - memory(&second) < 2.0, "memory grows");
    // A cost that grows with the epochs done would come to six times.
    assert!(pace(&last) < 3.0 * pace(&second), "epochs grow longer");
    good(dir, &format!("{train} --out stopped --epochs {}", epochs / 3));
    good(dir, &format!("train --resume stopped --panels 0 --device {device} --epochs {}", 2 * epochs / 3));
    good(dir, &format!("train --resume stopped --panels 0 --device {device} --epochs {epochs}"));
    for name in ["best.safetensors", "last.safetensors", "history.csv"] {
        let [a, b] = ["run", "stopped"].map(|run| fs::read(dir.join(run).join(name)).expect("a file"));
        assert!(a == b, "{name} differs");
    }
}
