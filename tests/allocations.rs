//! The CPU path works in memory that it has: after its first steps it allocates nothing that grows with the pictures or the network.

use peak_alloc::PeakAlloc;
use std::path::PathBuf;
use wgradcam::data::{Dataset, TraitCounts};
use wgradcam::engine::{Engine, PassRequest, reading_step};
use wgradcam::kernel::Step;
use wgradcam::model::{Mode, Model, ModelSettings, Padding};
use wgradcam::ops::adam::Adam;
use wgradcam::player::Choice;

/// It counts the whole process, so this file has one test.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The most bytes at once beyond those before, in a step of training and in one of evaluation, on the CPU path.
fn more(settings: &ModelSettings, classes: u32) -> usize {
    let model = Model::new(settings, classes as usize).expect("a network");
    let (n, [height, width]) = (16, settings.size);
    let data = Dataset {
        classes: (0..classes).map(|c| c.to_string()).collect(),
        paths: vec![PathBuf::new(); n],
        labels: (0..n as u32).map(|i| i % classes).collect(),
        pixels: (0..n * height * width).map(|i| i as u32 % 251 * 0x1_0101).collect(),
        height,
        width,
        traits: TraitCounts::default(),
    };
    let cpu = Choice { adapter: None, why: String::new() };
    let requests = [Mode::Train, Mode::Evaluate].map(|mode| PassRequest { set: "set", data: &data, batch: n, mode });
    let mut engine = Engine::new(&model, &cpu, &requests).expect("an engine");
    for (i, p) in model.params().iter().enumerate() {
        engine.set_param(p, "", &p.initial(0, i)).expect("weights");
    }
    let [train, evaluate] = [0, 1].map(|i| engine.pass(i).batches()[0]);
    let step = |t| {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        engine.play(&[(train, Step { adam: Adam::default().at(t), ..reading_step(0, 0) })]).expect("a step");
        engine.play(&[(evaluate, reading_step(0, 0))]).expect("a prediction");
        MEMORY.peak_usage() - before
    };
    // A thread keeps what it needs from when it first comes by a kernel, which may be late: so the least of some steps.
    (1..=8).map(step).min().expect("eight steps")
}

#[test]
fn a_step_of_the_cpu_path_allocates_next_to_nothing() {
    let notebook = ModelSettings::default();
    // No vector's worth of filters, no kernel of 3 x 3, padding, more outputs than one: the sums as they are written.
    let other =
        ModelSettings { filters: vec![12, 20], kernel_size: 5, padding: Padding::Same, dense: vec![20], ..notebook.clone() };
    // What the `gemm` crate packs matrices into, which are small where the kernels have their own products.
    for (what, settings, classes, per_thread) in [("the notebook's", &notebook, 2, 64 << 10), ("another", &other, 3, 1 << 20)] {
        let (more, most) = (more(settings, classes), per_thread * (rayon::current_num_threads() + 1));
        println!("{what} network: {more} bytes");
        assert!(more <= most, "a step of {what} network took {more} bytes more, over {most}");
    }
}
