//! The program on the least adapter that there may be: WebGPU's default limits and wgpu's downlevel ones, requested for real, so
//! that wgpu refuses whatever asks for more.

mod common;

use std::path::PathBuf;
use wgradcam::data::{Dataset, TraitCounts};
use wgradcam::engine::{Engine, PassRequest};
use wgradcam::kernel::{self, Needs};
use wgradcam::model::{Explain, Mode, Model, ModelSettings, PictureSet, Target, Technique, lower};
use wgradcam::ops::RESCALE;
use wgradcam::ops::dropout::DropoutDims;
use wgradcam::plan::Program;
use wgradcam::player::{Adapter, Choice, Floor, GpuPlayer, Player};
use wgradcam::verify;

/// Larger cases say nothing more about a limit.
const SMALL: usize = 20_000;
/// WebGPU's largest storage binding.
const BINDING: usize = 128 << 20;
const EXPLAIN: Mode = Mode::Explain(Explain { target: Target::Predicted, technique: Technique::Gradcam, check: false });

fn floors() -> Option<[Adapter; 2]> {
    let adapters = [Floor::Default, Floor::Downlevel].map(|floor| common::adapter().map(|a| a.within(floor)));
    let [Some(a), Some(b)] = adapters else { return None };
    Some([a, b])
}

fn choice(adapter: Adapter) -> Choice {
    Choice { adapter: Some(adapter), why: String::new() }
}

#[test]
fn every_kernel_equals_its_twin_within_the_least_limits() {
    let Some(floors) = floors() else { return };
    for adapter in &floors {
        assert!(adapter.max_tensor_bytes() <= BINDING as u64 && adapter.facts().features.is_empty());
        // A variant that needs a feature is nothing for an adapter held to a floor, whatever its driver could do.
        let plain: Vec<_> = kernel::all()
            .filter(|k| k.variant.is_none_or(|v| matches!(v.needs, Needs::Nothing | Needs::ComponentStores)))
            .collect();
        let runs: Vec<_> = kernel::all().filter(|k| adapter.can_run(k)).collect();
        assert!(runs.iter().map(|k| k.key).eq(plain.iter().map(|k| k.key)));
        for kernel in plain {
            let mut cases = (kernel.cases)();
            cases.retain(|dims| verify::elements(kernel, dims) <= SMALL);
            let row = verify::check(adapter, kernel, &cases);
            assert!(row.passed && !cases.is_empty(), "{}: {:?}", kernel.key, row.failure);
        }
    }
}

#[test]
fn a_grid_past_65535_workgroups_is_folded() {
    let Some(floors) = floors() else { return };
    let kernel = kernel::by_key("dropout.forward");
    let dims = (kernel.cases)().into_iter().max_by_key(|dims| verify::elements(kernel, dims)).expect("a case");
    assert_eq!((kernel.grid)(&dims)[1], 2, "{} fields", DropoutDims::new(1, 0, 0.5, 0).len);
    let row = verify::check(&floors[1], kernel, &[dims]);
    assert!(row.passed, "{:?}", row.failure);
}

/// Pictures whose every byte tells which they are.
fn told_apart(pictures: usize, [height, width]: [usize; 2]) -> Dataset {
    Dataset {
        classes: vec!["a".into(), "b".into()],
        paths: vec![PathBuf::new(); pictures],
        labels: (0..pictures).map(|i| (i % 2) as u32).collect(),
        pixels: (0..pictures).flat_map(|i| std::iter::repeat_n(i as u32 % 251 * 0x1_0101, height * width)).collect(),
        height,
        width,
        traits: TraitCounts::default(),
    }
}

#[test]
fn pictures_past_one_binding_are_split_and_read_from_every_part() {
    let Some([adapter, _]) = floors() else { return };
    let size = [256, 256];
    // 512 of them fill a binding.
    let data = told_apart(700, size);
    let settings = ModelSettings { size, filters: vec![4], dense: vec![], ..ModelSettings::default() };
    let model = Model::new(&settings, 2).expect("a network");
    let requests = [Mode::Train, EXPLAIN].map(|mode| PassRequest { set: "train", data: &data, batch: 4, mode });
    let mut engine = Engine::new(&model, &choice(adapter), &requests).expect("it fits in parts");
    let parts = (0..).take_while(|k| engine.player().program().find(&format!("train/images.{k}")).is_some()).count();
    assert_eq!(parts, 2);
    let pass = engine.pass(0);
    let mut order: Vec<u32> = (0..700).collect();
    order[..4].copy_from_slice(&[699, 0, 511, 512]);
    engine.set_order(&pass, &order).expect("an order");
    // Filter 0 is the green of the pixel in the middle.
    let kernel: Vec<f32> = (0..9 * 4 * 4).map(|i| f32::from(u8::from(i == 4 * 16 + 4))).collect();
    engine.player().write("conv2d_1/kernel", &kernel).expect("weights");
    engine.player().write("output/kernel", &vec![0.25; 127 * 127 * 4 * 4]).expect("weights");
    engine.player().write("conv2d_1/cam_raw", &vec![f32::NAN; 4 * 254 * 254]).expect("written");
    let [train, explain] = [0, 1].map(|i| [(engine.pass(i).batches()[0], wgradcam::engine::reading_step(0, 0))]);
    // A step of no update leaves no weights to read afterwards: it divides 0 by 0.
    for plan in [explain, train] {
        let nothing = vec![0.0; 4 * 127 * 127 * 4];
        engine.player().write("max_pooling2d_1/y", &nothing).expect("written");
        engine.play(&plan).expect("a step");
        let y = engine.player().read("max_pooling2d_1/y").expect("the first layer's output");
        for (row, picture) in y.chunks_exact(127 * 127 * 4).zip(&order) {
            let value = (picture % 251) as f32 * RESCALE;
            assert!(row.chunks_exact(4).all(|p| p == [value, 0.0, 0.0, 0.0]), "picture {picture}");
        }
    }
    let [raw, alpha] = ["cam_raw", "cam_alpha"].map(|t| engine.player().read(&format!("conv2d_1/{t}")).expect("a map"));
    for ((row, alpha), picture) in raw.chunks_exact(254 * 254).zip(alpha.chunks_exact(4)).zip(order) {
        let value = (picture % 251) as f32 * RESCALE;
        assert!(alpha[0] != 0.0 && row.iter().all(|&v| v == alpha[0] * value), "picture {picture}");
    }
}

#[test]
fn outputs_past_one_binding_are_split_and_read_back_in_order() {
    let Some(adapter) = common::adapter() else { return };
    let settings = ModelSettings { size: [6, 6], filters: vec![4], dense: vec![], ..ModelSettings::default() };
    let model = Model::new(&settings, 5).expect("a network");
    // What the engine does with 50,000 pictures of 1,000 classes, at the size of a test: tables of 3 rows.
    let mut program = Program::new();
    let set = PictureSet { name: "val", pictures: 8, chunk: 8, table: 3 };
    let plans = [5, 3].map(|batch| lower(&mut program, &model, &set, batch, Mode::Evaluate));
    let mut player = GpuPlayer::new(&adapter, program).expect("a player");
    for (i, p) in model.params().iter().enumerate() {
        player.write(&p.name, &p.pad(&p.initial(5, i))).expect("weights");
    }
    let data = told_apart(8, [6, 6]);
    player.write_words("val/images.0", 0, &data.pixels).expect("pictures");
    player.write_words("val/order", 0, &[0, 1, 2, 3, 4, 5, 6, 7]).expect("an order");
    let mut rows = Vec::new();
    for (plan, first) in plans.into_iter().zip([0, 5]) {
        player.play(plan, &[wgradcam::engine::reading_step(first, 0)]).expect("a batch");
        rows.extend(player.read("probs").expect("probabilities").chunks_exact(8).take([5, 3][first / 5]).map(<[f32]>::to_vec));
    }
    let tables: Vec<f32> =
        (0..3).flat_map(|k| player.read(&format!("all_probs.{k}")).expect("a table").into_iter().take(3 * 8)).collect();
    assert_eq!(tables[..8 * 8], rows.concat());
    assert!(rows.windows(2).all(|w| w[0] != w[1]), "the pictures do not differ");
}

#[test]
fn a_tensor_past_the_binding_is_an_error_with_the_remedy() {
    let Some([adapter, _]) = floors() else { return };
    let data = told_apart(40, [512, 512]);
    let settings = ModelSettings { size: [512, 512], filters: vec![16], dense: vec![], ..ModelSettings::default() };
    let model = Model::new(&settings, 2).expect("a network");
    let request = PassRequest { set: "val", data: &data, batch: 40, mode: EXPLAIN };
    let error = format!("{:#}", Engine::new(&model, &choice(adapter), &[request]).err().expect("159 MiB in one binding"));
    assert!(error.contains("max_pooling2d_1/y needs 166464000 bytes") && error.contains("--batch-size"), "{error}");
}
