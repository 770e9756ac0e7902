//! Where a driver makes machine code at a kernel's first dispatch, several devices make it; what they make is the same.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use wgradcam::data::{Dataset, TraitCounts, pack};
use wgradcam::engine::{Engine, PassRequest};
use wgradcam::kernel::Step;
use wgradcam::model::{Mode, Model, ModelSettings};
use wgradcam::ops::adam::Adam;
use wgradcam::player::Choice;

/// Set in the processes that the test starts: a driver reads once where its cache is.
const CHILD: &str = "WGRADCAM_TEST_MACHINE_CODE";

/// Plays a step; the kernels whose code other devices made, and the checksum of what the step left.
fn step() -> String {
    let pictures = (0..4).flat_map(|i| common::picture(i % 2, i as u32).into_raw());
    let data = Dataset {
        classes: ["a", "b"].map(str::to_owned).to_vec(),
        paths: (0..4).map(|i| PathBuf::from(format!("{i}.png"))).collect(),
        labels: vec![0, 1, 0, 1],
        pixels: pack(&pictures.collect::<Vec<u8>>()),
        height: 32,
        width: 32,
        traits: TraitCounts::default(),
    };
    let settings = ModelSettings { size: [32, 32], filters: vec![16, 32], dense: vec![32], ..ModelSettings::default() };
    let model = Model::new(&settings, 2).expect("a network");
    let choice = Choice { adapter: common::adapter(), why: String::new() };
    let request = PassRequest { set: "train", data: &data, batch: 4, mode: Mode::Train };
    let mut engine = Engine::new(&model, &choice, &[request]).expect("an engine");
    for param in model.params() {
        let values: Vec<f32> = (0..param.len()).map(|i| (i % 17) as f32 / 100.0 - 0.08).collect();
        engine.set_param(&param, "", &values).expect("written");
    }
    let batch = engine.pass(0).batches()[0];
    let metrics =
        engine.play(&[(batch, Step { first: 0, step: 0, seed: 3, slot: 0, adam: Adam::default().at(1) })]).expect("played");
    let mut left: Vec<f32> = metrics.iter().map(|m| m.loss as f32).collect();
    for param in model.params() {
        left.extend(engine.param(&param, "").expect("read"));
    }
    assert!(left.iter().all(|v| v.is_finite()));
    let bytes: Vec<u8> = left.iter().flat_map(|v| v.to_le_bytes()).collect();
    format!("{} {:08x}", engine.first_use().expect("a device").helped, crc32fast::hash(&bytes))
}

/// [`step`] in a process of its own, with this folder for Mesa's cache or with none.
fn step_with(cache: Option<&Path>) -> (usize, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "other_devices_make_a_share_of_the_machine_code_and_the_same", "--nocapture"]).env(CHILD, "1");
    for disable in ["MESA_SHADER_CACHE_DISABLE", "MESA_GLSL_CACHE_DISABLE"] {
        command.env_remove(disable);
    }
    match cache {
        Some(folder) => command.env("MESA_SHADER_CACHE_DIR", folder),
        None => command.env("MESA_SHADER_CACHE_DISABLE", "true"),
    };
    let output = command.output().expect("a process");
    let out = String::from_utf8_lossy(&output.stdout);
    let line = out.lines().find_map(|l| l.split_once("STEP ")).unwrap_or_else(|| panic!("{out}{:?}", output.stderr)).1;
    let (helped, left) = line.split_once(' ').expect("two words");
    (helped.parse().expect("a number"), left.to_owned())
}

#[test]
fn other_devices_make_a_share_of_the_machine_code_and_the_same() {
    if std::env::var(CHILD).is_ok() {
        println!("STEP {}", step());
        return;
    }
    let Some(adapter) = common::adapter() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (helped, left) = step_with(Some(folder.path()));
    let (again, same) = step_with(Some(folder.path()));
    let (useless, alone) = step_with(None);
    println!("{helped} kernels by other devices, then {again}, and {useless} without a cache");
    assert_eq!((again, useless), (0, 0), "what lies in the cache needs no help, and without one there is none");
    assert_eq!(left, same);
    assert_eq!(left, alone);
    // Other drivers have none of it.
    let lazy = adapter.facts().name.starts_with("llvmpipe") && available_parallelism().is_ok_and(|n| n.get() > 1);
    assert_eq!(helped > 0, lazy);
}
