//! What the tests that need a GPU share.

use wgradcam::player::{Adapter, DeviceChoice, choose};

/// The adapter to test on, or none where `WGRADCAM_NO_GPU=1` opts out. No adapter is a failure.
pub fn adapter() -> Option<Adapter> {
    if std::env::var("WGRADCAM_NO_GPU").is_ok_and(|v| v == "1") {
        eprintln!("SKIPPED: WGRADCAM_NO_GPU=1 is set; no shader was run");
        return None;
    }
    let choice = choose(&DeviceChoice::Gpu).and_then(|c| c.adapter.ok_or_else(|| anyhow::anyhow!("no adapter")));
    let adapter = choice.unwrap_or_else(|e| {
        panic!(
            "{e:#}\nThese tests run the shaders and need a Vulkan, Metal or DX12 driver; a software one will do: \
             apt-get install mesa-vulkan-drivers. WGRADCAM_NO_GPU=1 leaves them out."
        )
    });
    eprintln!("adapter: {} ({})", adapter.facts().name, adapter.facts().driver);
    Some(adapter)
}
