//! The CPU path works in memory that it has: after its first step it allocates nothing that grows with the pictures or the network.

use peak_alloc::PeakAlloc;
use std::path::PathBuf;
use wgradcam::data::{Dataset, TraitCounts};
use wgradcam::engine::{Engine, PassRequest, reading_step};
use wgradcam::kernel::Step;
use wgradcam::model::{Mode, Model, ModelSettings};
use wgradcam::ops::adam::Adam;
use wgradcam::player::Choice;

/// It counts the whole process, so this file has one test.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What the `gemm` crate packs a small matrix into, and the lists of a dispatch's buffers.
const PER_THREAD: usize = 64 << 10;

#[test]
fn a_step_of_the_cpu_path_allocates_next_to_nothing() {
    let model = Model::new(&ModelSettings::default(), 2).expect("the notebook's network");
    let (n, side) = (16, 128);
    let data = Dataset {
        classes: vec!["a".into(), "b".into()],
        paths: vec![PathBuf::new(); n],
        labels: (0..n as u32).map(|i| i % 2).collect(),
        pixels: (0..n * side * side * 3).map(|i| (i % 251) as u8).collect(),
        height: side,
        width: side,
        traits: TraitCounts::default(),
    };
    let cpu = Choice { adapter: None, why: String::new() };
    let requests = [Mode::Train, Mode::Evaluate].map(|mode| PassRequest { set: "set", data: &data, batch: n, mode });
    let mut engine = Engine::new(&model, &cpu, &requests).expect("an engine");
    for (i, p) in model.params().iter().enumerate() {
        engine.set_param(p, "", &p.initial(0, i)).expect("weights");
    }
    let [train, evaluate] = [0, 1].map(|i| engine.pass(i).batches()[0]);
    let mut more = |step| {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        engine.play(&[(train, Step { adam: Adam::default().at(step), ..reading_step(0, 0) })]).expect("a step");
        engine.play(&[(evaluate, reading_step(0, 0))]).expect("a prediction");
        MEMORY.peak_usage() - before
    };
    // A thread keeps what it needs from when it first comes by a kernel, which may be late: so the least of some steps.
    let least = (1..=8).map(&mut more).min().expect("eight steps");
    let most = PER_THREAD * (rayon::current_num_threads() + 1);
    assert!(least <= most, "a step took {least} bytes more, over {most}");
}
