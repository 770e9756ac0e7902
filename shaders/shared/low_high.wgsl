// The two floats of a 64-bit load, which drivers that run shaders on the CPU make for the price of one of 32 bits.

fn low(v: u64) -> f32 {
    return bitcast<f32>(u32(v));
}

fn high(v: u64) -> f32 {
    return bitcast<f32>(u32(v >> 32u));
}
