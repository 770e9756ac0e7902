// Inverted dropout: the mask is a hash of (seed, step, layer, index), made again in the backward pass instead of stored.

@group(0) @binding(1) var<storage, read> x: array<f32>; // (len)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (len)

fn masked(value: f32, index: u32) -> f32 {
    return select(0.0, value * bitcast<f32>(dims.scale_bits), kept(dims.offset + index));
}

// y[i] = x[i] / (1 - rate) where u(seed, step, layer, offset + i) >= rate, else 0
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.len) {
        y[id] = masked(x[id], id);
    }
}

@group(0) @binding(1) var<storage, read> dy: array<f32>; // (len)
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // (len)

// dx[i] = dy[i] / (1 - rate) where the forward kept i, else 0
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.len) {
        dx[id] = masked(dy[id], id);
    }
}
