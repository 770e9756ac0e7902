//! Products of f16 on cooperative matrices: taken when they are asked for and never else, and what f16 has no room for is seen.

mod common;

use wgradcam::kernel::{self, Access, Dims, Kernel, Precision};
use wgradcam::ops::adam::Adam;
use wgradcam::ops::conv2d::Conv2dDims;
use wgradcam::ops::dense::DenseDims;
use wgradcam::plan::Program;
use wgradcam::player::{Adapter, GpuPlayer, Player};
use wgradcam::verify;

/// The adapter of the tests for f16, or none where it has no cooperative matrices.
fn adapter() -> Option<Adapter> {
    let adapter = common::adapter()?;
    let name = adapter.facts().name.clone();
    match adapter.with_precision(Precision::F16) {
        Ok(adapter) => Some(adapter),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&name) && text.contains("--precision f32"), "{text}");
            eprintln!("SKIPPED: {name} has no cooperative matrices; no shader of theirs was played");
            None
        }
    }
}

/// A program of every case of every kernel that has variants.
fn all_cases() -> Program {
    let mut program = Program::new();
    for kernel in kernel::all().filter(|k| k.variant.is_none() && k.variants().next().is_some()) {
        for (i, dims) in kernel.variants().flat_map(|k| (k.cases)()).enumerate() {
            program.begin(format!("{} {i}", kernel.key), 1);
            let names: Vec<&str> = kernel.bindings.iter().map(|b| b.name).collect();
            program.dispatch_kernel(kernel.key, kernel, dims, &names);
        }
    }
    program
}

fn precisions(program: &Program) -> Vec<Precision> {
    program.plans.iter().flat_map(|plan| &plan.dispatches).map(|d| d.kernel.precision()).collect()
}

#[test]
fn f16_is_taken_when_it_is_asked_for_and_never_else() {
    let Some(plain) = common::adapter() else { return };
    for kernel in kernel::all().filter(|k| k.variant.is_none()) {
        for dims in (kernel.cases)() {
            assert!(plain.candidates(kernel, &dims).iter().all(|k| k.precision() == Precision::F32), "{}", kernel.key);
        }
    }
    let mut program = all_cases();
    plain.choose_variants(&mut program);
    assert!(precisions(&program).iter().all(|&p| p == Precision::F32));

    let Some(half) = adapter() else { return };
    let mut program = all_cases();
    let chosen = half.choose_variants(&mut program);
    let f16 = precisions(&program).iter().filter(|&&p| p == Precision::F16).count();
    assert!(f16 > 30, "{f16} of {} calls multiply f16", precisions(&program).len());
    // Another run does not play them again without being asked.
    let replayed = wgradcam::player::Choice { adapter: Some(plain), why: String::new() }.replaying(&chosen);
    let mut program = all_cases();
    replayed.adapter.expect("it is there").choose_variants(&mut program);
    assert!(precisions(&program).iter().all(|&p| p == Precision::F32));
}

/// The floats that a kernel writes, of inputs by name; what is not named is 0.
fn play(adapter: &Adapter, kernel: &'static Kernel, dims: &[u32], inputs: &[(&str, Vec<f32>)]) -> Vec<Vec<f32>> {
    let mut program = Program::new();
    let plan = program.begin("one", 1);
    let names: Vec<&str> = kernel.bindings.iter().map(|b| b.name).collect();
    program.dispatch_kernel("one", kernel, dims.to_vec(), &names);
    let mut player = GpuPlayer::new(adapter, program).expect("a player");
    inputs.iter().for_each(|(name, values)| player.write(name, values).expect("written"));
    player.play(plan, &[verify::step()]).expect("played");
    let written = kernel.bindings.iter().filter(|b| b.access != Access::Read && b.elem == kernel::Elem::F32);
    written.map(|b| player.read(b.name).expect("read")).collect()
}

/// The f16 variant that the adapter plays.
fn variant(adapter: &Adapter, key: &str) -> &'static Kernel {
    let found = kernel::by_key(key).variants().find(|k| k.precision() == Precision::F16 && adapter.can_run(k));
    found.unwrap_or_else(|| panic!("{key} has none"))
}

#[test]
fn what_is_past_f16_is_no_number_in_all_that_it_goes_into() {
    let Some(adapter) = adapter() else { return };
    let lone = |len: usize, at: usize, value: f32| -> Vec<f32> { (0..len).map(|i| if i == at { value } else { 0.0 }).collect() };
    // The largest number of f16 still goes through.
    for (value, lost) in [(65_504.0, false), (65_520.0, true), (-1e30, true), (f32::INFINITY, true)] {
        // A single window; negative weights, whose sums the relu makes 0; each pixel is alone in some place of the window.
        let d = Conv2dDims::new(1, [4, 4, 4], 16, [3, 3], false, true).pooled();
        let kernel = variant(&adapter, "conv2d_relu_maxpool2x2.forward");
        for pixel in 0..16 {
            let sign = if value > 0.0 { -1.0 } else { 1.0 };
            let inputs = [("x", lone(64, 4 * pixel, value)), ("weight", vec![sign; d.weight_len()])];
            let y = &play(&adapter, kernel, &d.words(), &inputs)[0];
            assert!(y.iter().all(|v| v.is_finite() != lost), "{value:e} at {pixel}: {y:?}");
        }
        let d = DenseDims::new(1, 32, 32, true).words();
        let kernel = variant(&adapter, "dense.forward");
        let partial = &play(&adapter, kernel, &d, &[("x", lone(32, 5, value)), ("weight", vec![0.5; 1024])])[0];
        assert!(partial[..32].iter().all(|v| v.is_finite() != lost), "{value:e}: {partial:?}");
    }
    // Of one picture, gradients up to 255 go through.
    for (value, lost) in [(255.0, false), (256.0, true), (f32::NAN, true)] {
        let d = DenseDims::new(1, 32, 32, true).words();
        let kernel = variant(&adapter, "dense.backward_input");
        let dx = &play(&adapter, kernel, &d, &[("dy", lone(32, 3, value)), ("weight", vec![0.5; 1024])])[0];
        assert!(dx[..32].iter().all(|&v| if lost { !v.is_finite() } else { v == 127.5 }), "{value}: {dx:?}");
        let kernel = variant(&adapter, "dense.update_weight");
        let written = play(&adapter, kernel, &d, &[("x", vec![1.0; 32]), ("grad", lone(32, 3, value))]);
        let w: Vec<bool> = (0..32).map(|i| written[0][32 * i + 3].is_finite()).collect();
        assert_eq!(w, [!lost; 32], "{value}");
        // The mean of the bias's gradients so far, of one gradient.
        let mean = value * (1.0 - Adam::default().beta1) as f32;
        assert!(if lost { !written[4][3].is_finite() } else { written[4][3] == mean }, "{value}: {:?}", written[4]);
        let d = Conv2dDims::new(1, [4, 4, 16], 16, [3, 3], false, true).pooled();
        let inputs = [("dy", lone(16, 3, value)), ("weight", vec![0.5; d.weight_len()])];
        let dx = &play(&adapter, variant(&adapter, "conv2d_relu_maxpool2x2.backward_input"), &d.words(), &inputs)[0];
        assert!(dx[..16].iter().all(|&v| if lost { !v.is_finite() } else { v == 127.5 }), "{value}: {dx:?}");
        let inputs = [("pooled_dy", lone(16, 3, value)), ("x", vec![0.5; d.x_len()])];
        let partial = &play(&adapter, variant(&adapter, "conv2d_relu_maxpool2x2.backward_weight"), &d.words(), &inputs)[0];
        let taps: Vec<f32> = partial.chunks_exact(16).map(|row| row[3]).collect();
        let want = |i: usize| if i == 9 * 16 { value } else { value / 2.0 };
        assert!(taps.iter().enumerate().all(|(i, &v)| if lost { !v.is_finite() } else { v == want(i) }), "{value}: {taps:?}");
    }
}
