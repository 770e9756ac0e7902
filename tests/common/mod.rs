//! What the tests that need a GPU share.

use wgradcam::player::{Adapter, DeviceChoice, choose};

/// A 32 x 32 picture of a class, unlike that of any other `seed`: the classes differ in their hue.
#[allow(dead_code, reason = "every test binary compiles this file and few want pictures")]
pub fn picture(class: usize, seed: u32) -> image::RgbImage {
    image::RgbImage::from_fn(32, 32, |x, y| {
        let noise = |channel: u32| (wgradcam::rng::hash3(seed, channel, 32 * y + x) >> 25) as u8;
        let lit = |bit: usize| if (class + 1) >> bit & 1 == 1 { 120 } else { 0 };
        image::Rgb([0, 1, 2].map(|c| lit(2 - c as usize) + noise(c)))
    })
}

/// The adapter to test on, or none where `WGRADCAM_NO_GPU=1` opts out. No adapter is a failure.
#[allow(dead_code, reason = "every test binary compiles this file and not all of them have shaders to run")]
pub fn adapter() -> Option<Adapter> {
    if std::env::var("WGRADCAM_NO_GPU").is_ok_and(|v| v == "1") {
        eprintln!("SKIPPED: WGRADCAM_NO_GPU=1 is set; no shader was run");
        return None;
    }
    let wanted: DeviceChoice = std::env::var("WGRADCAM_DEVICE").map_or(DeviceChoice::Gpu, |d| d.parse().unwrap_or_default());
    let choice = choose(&wanted).and_then(|c| c.adapter.ok_or_else(|| anyhow::anyhow!("no adapter")));
    let adapter = choice.unwrap_or_else(|e| {
        panic!(
            "{e:#}\nThese tests run the shaders and need a Vulkan, Metal or DX12 driver; a software one will do: \
             apt-get install mesa-vulkan-drivers. WGRADCAM_NO_GPU=1 leaves them out."
        )
    });
    eprintln!("adapter: {} ({})", adapter.facts().name, adapter.facts().driver);
    Some(adapter)
}

/// What naga must allow for a kernel's text.
#[allow(dead_code)]
pub fn capabilities(kernel: &wgradcam::kernel::Kernel) -> naga::valid::Capabilities {
    use wgradcam::kernel::Needs;
    match kernel.variant.map_or(Needs::Nothing, |v| v.needs) {
        Needs::Nothing | Needs::ComponentStores => naga::valid::Capabilities::empty(),
        Needs::EightLanes => naga::valid::Capabilities::SUBGROUP | naga::valid::Capabilities::SHADER_INT64,
        Needs::CooperativeMatrix(_) => {
            use naga::valid::Capabilities as C;
            C::SUBGROUP | C::SHADER_FLOAT16 | C::COOPERATIVE_MATRIX
        }
    }
}
