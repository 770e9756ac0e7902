// The counter hash of src/rng.rs, bit for bit.
fn pcg(x: u32) -> u32 {
    let state = x * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

fn hash3(a: u32, b: u32, c: u32) -> u32 {
    return pcg(c + pcg(b + pcg(a)));
}

// Whether dropout keeps an element of the batch.
fn kept(index: u32) -> bool {
    return (hash3(step.seed + dims.layer * 0x9E3779B9u, step.step, index) >> 8u) >= dims.threshold;
}
