// What changes from step to step (src/kernel.rs, `StepUniform`).
struct Step {
    first: u32,
    step: u32,
    seed: u32,
    slot: u32,
    alpha: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    epsilon: f32,
}

@group(0) @binding(14) var<uniform> step: Step;
