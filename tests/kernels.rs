//! Every kernel of the registry against its CPU twin, on this machine's adapter: exact on small integers, within the rounding
//! bound on random floats.

mod common;

use wgradcam::kernel::{self, Access, Dims, Step, Values};
use wgradcam::ops::batch_mean::BatchMeanDims;
use wgradcam::ops::conv2d::Conv2dDims;
use wgradcam::ops::dense::DenseDims;
use wgradcam::ops::pictures::PicturesDims;
use wgradcam::ops::relu::FlatDims;
use wgradcam::ops::sigmoid_bce::SigmoidDims;
use wgradcam::ops::sigmoid_bce_mean::SigmoidMeanDims;
use wgradcam::plan::Program;
use wgradcam::player::{CpuPlayer, GpuPlayer, Player};
use wgradcam::verify;

#[test]
fn every_kernel_equals_its_twin() {
    let Some(adapter) = common::adapter() else { return };
    let filter = std::env::var("WGRADCAM_KERNEL").ok();
    eprintln!(
        "{:34} {:>5} {:>9} {:>9} {:>10} {:>10} {:>10} {:>4} {:>7}",
        "", "cases", "exact", "bounded", "err/bound", "error", "cpu/bound", "ties", "s"
    );
    let report = verify::run(&adapter, filter.as_deref(), None, |r| {
        eprintln!(
            "{:34} {:>5} {:>9} {:>9} {:>10.4} {:>10.2e} {:>10.4} {:>4} {:>7.2} {}",
            r.key,
            r.cases,
            r.exact,
            r.bounded,
            r.ratio,
            r.error,
            r.cpu_ratio,
            r.near_ties,
            r.seconds,
            r.failure.as_deref().unwrap_or("")
        );
    })
    .expect("the filter names a kernel");
    let failures: Vec<_> = report.rows.iter().filter_map(|r| r.failure.as_deref()).collect();
    assert!(
        report.passed && failures.is_empty(),
        "{} of {} kernels failed:\n{}",
        failures.len(),
        report.rows.len(),
        failures.join("\n")
    );
    // A harness that compares nothing would pass too.
    for row in &report.rows {
        assert!(row.cases > 0 && row.exact + row.bounded > 0, "{} was not tested", row.key);
        let kernel = kernel::by_key(&row.key);
        let one = (kernel.cases)().iter().all(|dims| (kernel.grid)(dims) == [1; 3]);
        assert!(row.slices > 0 || one, "{} was not played in slices", row.key);
    }
}

/// What a kernel says that it moves and computes is what the profile, the roofline and the benches divide by.
#[test]
fn stated_bytes_are_those_of_the_buffers_and_stated_products_are_counted() {
    for kernel in kernel::all() {
        for dims in (kernel.cases)() {
            let field = |name: &str| kernel.dims.iter().position(|f| *f == name).map(|at| dims[at] as f64);
            let product = |names: &[&str]| names.iter().map(|n| field(n).unwrap_or_else(|| panic!("no {n}"))).product::<f64>();
            let cost = (kernel.cost)(&dims);
            let pictures = kernel.dims == PicturesDims::FIELDS;
            // Of a chunk that has a share of the pictures.
            let share = if pictures { field("chunk_len").unwrap_or(1.0) / field("pictures").unwrap_or(1.0) } else { 1.0 };
            let moved = |counted: &dyn Fn(&kernel::Binding) -> bool| {
                let bytes = |b: &kernel::Binding| match b.name {
                    // The batch's, of all there are; what the first layer leaves alone is not read.
                    "words" if pictures => 4 * product(&["batch", "in_h", "in_w"]) as usize,
                    _ => 4 * (b.len)(&dims) * if b.access == Access::Update && !pictures { 2 } else { 1 },
                };
                kernel.bindings.iter().filter(|b| counted(b)).map(bytes).sum::<usize>() as f64
            };
            // Labels, orders, biases and what a head says of a picture are not counted; of large shapes they are nothing.
            let ratio = cost.bytes / moved(&|_| true);
            let large = verify::elements(kernel, &dims) > 10_000;
            let counted = |b: &kernel::Binding| {
                let heads = b.access == Access::Update && ["loss", "correct"].contains(&b.name);
                !heads && !["bias", "dbias", "b", "bm", "bv", "order", "labels", "line", "metrics"].contains(&b.name)
            };
            // These touch part of a buffer.
            let exact = !["gather.forward", "collect.forward"].contains(&kernel.key) && share == 1.0;
            if exact {
                assert_eq!(cost.bytes, moved(&counted), "{} of {dims:?}", kernel.key);
            }
            if kernel.key == "peak.flops" {
                // 12 chains of 4 multiply-adds a round.
                assert_eq!(cost.flops, 2.0 * 48.0 * product(&["rounds", "len"]), "{dims:?}");
            }
            if kernel.key.starts_with("peak.products") {
                // 16 multiply-adds an element and round.
                assert_eq!(cost.flops, 2.0 * 16.0 * product(&["rounds", "len"]), "{dims:?}");
            }
            let sums = ["reduce", "conv2d.update_weight"].iter().any(|what| kernel.key.contains(what));
            let products = !sums && (kernel.key.starts_with("conv2d") || kernel.key.starts_with("dense"));
            if large && !kernel.key.starts_with("gather") && share == 1.0 {
                assert!((0.95..=1.001).contains(&ratio), "{} of {dims:?}: {ratio} of the bytes moved", kernel.key);
            }
            if products && kernel.key.starts_with("dense") {
                // Adam takes 12 a weight.
                let adam = if kernel.step { 12.0 * product(&["in_n", "out_n"]) } else { 0.0 };
                assert_eq!(cost.flops, 2.0 * product(&["batch", "in_n", "out_n"]) + adam, "{} of {dims:?}", kernel.key);
            } else if products {
                // Of a picture's four channels three count.
                let channels = if pictures { 3.0 } else { product(&["in_c"]) };
                // Grad-CAM's map weighs what the taps make.
                let weighed = if kernel.key.starts_with("conv2d_relu_map") { 1.0 } else { 0.0 };
                let taps = product(&["k_h", "k_w"]) * channels + weighed;
                assert_eq!(
                    cost.flops,
                    2.0 * share * (taps * product(&["batch", "out_h", "out_w", "out_c"])),
                    "{} of {dims:?}",
                    kernel.key
                );
            }
        }
    }
}

/// Adam in the dispatch that adds up a convolution's gradient, and Adam behind it: the same sums in the same order.
#[test]
fn a_convolutions_update_in_one_dispatch_comes_to_the_bytes_of_three() {
    let Some(adapter) = common::adapter() else { return };
    let kernel = kernel::by_key("conv2d.update_weight");
    for dims in (kernel.cases)() {
        let d = *Conv2dDims::of(&dims);
        let build = || {
            let mut program = Program::new();
            let at_once = program.begin("at once", 1);
            program.dispatch("conv", kernel.key, dims.clone(), &["sums", "1/w", "1/m", "1/v", "1/b", "1/bm", "1/bv"]);
            let stored = program.begin("stored", 1);
            program.dispatch("conv", "conv2d.reduce_weight", dims.clone(), &["sums", "dw", "db"]);
            let updates = [(d.weight_len(), ["dw", "3/w", "3/m", "3/v"]), (d.out_c as usize, ["db", "3/b", "3/bm", "3/bv"])];
            for (len, names) in updates {
                program.dispatch("conv", "adam.update", FlatDims { len: len as u32 }.words(), &names);
            }
            (program, [at_once, stored])
        };
        let plans = build().1;
        let cpu: Box<dyn Player> = Box::new(CpuPlayer::<f32>::new(build().0));
        let gpu: Box<dyn Player> = Box::new(GpuPlayer::new(&adapter, build().0).expect("a player"));
        for mut player in [cpu, gpu] {
            for (values, binding) in verify::inputs(kernel, &dims).into_iter().zip(kernel.bindings) {
                let Some(Values::F(values)) = values else { panic!("{} is drawn as floats", binding.name) };
                match binding.access {
                    Access::Read => player.write(binding.name, &values).expect("written"),
                    _ => ["1", "3"]
                        .iter()
                        .for_each(|of| player.write(&format!("{of}/{}", binding.name), &values).expect("written")),
                }
            }
            plans.iter().for_each(|&plan| player.play(plan, &[verify::step()]).expect("played"));
            for binding in kernel.writes() {
                let [one, three] = ["1", "3"].map(|of| player.read(&format!("{of}/{}", binding.name)).expect("read"));
                let same = one.iter().zip(&three).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && !one.is_empty(), "{} of {dims:?} on {}", binding.name, player.device());
            }
        }
    }
}

/// What two dispatches make of what they share, and one of the same: kernels, dims and tensors, then what must be equal.
type Pair = ([(&'static str, Vec<u32>, Vec<&'static str>); 3], Vec<[&'static str; 2]>);

/// A batch that is played in parts, or is too large for one workgroup, takes two dispatches where others take one: the same sums in the
/// same order.
#[test]
fn one_dispatch_comes_to_the_bytes_of_two() {
    let Some(adapter) = common::adapter() else { return };
    let mut pairs: Vec<Pair> = Vec::new();
    for dims in (kernel::by_key("sigmoid_bce_mean.forward").cases)() {
        let d = *SigmoidMeanDims::of(&dims);
        let SigmoidMeanDims { batch, stride, pictures, images, slots } = d;
        let head = SigmoidDims { batch, stride, pictures, images, offset: 0, whole: batch }.words();
        pairs.push((
            [
                ("sigmoid_bce_mean.forward", dims, vec!["logits", "order", "labels", "1/probs", "1/dlogits", "1/metrics"]),
                ("sigmoid_bce.forward", head, vec!["logits", "order", "labels", "probs", "loss", "correct", "dlogits"]),
                ("batch_mean.forward", BatchMeanDims { batch, slots }.words(), vec!["loss", "correct", "metrics"]),
            ],
            vec![["1/probs", "probs"], ["1/dlogits", "dlogits"], ["1/metrics", "metrics"]],
        ));
    }
    for [whole, split] in
        [["dense_bias_relu.forward", "dense.forward"], ["dense_bias_relu.forward/narrow", "dense.forward/narrow"]]
    {
        for dims in (kernel::by_key(whole).cases)().into_iter().filter(|d| DenseDims::of(d).splits == 1) {
            pairs.push((
                [
                    (whole, dims.clone(), vec!["x", "weight", "bias", "1/y"]),
                    (split, dims.clone(), vec!["x", "weight", "partial"]),
                    ("dense.reduce", dims, vec!["partial", "bias", "y"]),
                ],
                vec![["1/y", "y"]],
            ));
        }
    }
    for (dispatches, equal) in pairs {
        let mut program = Program::new();
        let plan = program.begin("one and two", 1);
        for (key, dims, tensors) in &dispatches {
            program.dispatch("layer", key, dims.clone(), tensors);
        }
        let mut player = GpuPlayer::new(&adapter, program).expect("a player");
        let (key, dims, tensors) = &dispatches[0];
        for (values, name) in verify::inputs(kernel::by_key(key), dims).into_iter().zip(tensors) {
            match values {
                Some(Values::F(values)) if !name.starts_with("1/") => player.write(name, &values).expect("written"),
                Some(Values::U(words)) => player.write_words(name, 0, &words).expect("written"),
                _ => {}
            }
        }
        player.play(plan, &[Step { slot: 1, ..verify::step() }]).expect("played");
        for names in equal {
            let [one, two] = names.map(|name| player.read(name).expect("read"));
            assert!(one.iter().any(|v| *v != 0.0), "{key} of {dims:?} gives nothing");
            let same = one.iter().zip(&two).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && one.len() == two.len(), "{} of {key} of {dims:?}", names[1]);
        }
    }
}
