// The relu's gradient; its forward is part of conv2d and dense.

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (len)
@group(0) @binding(2) var<storage, read> y: array<vec4<f32>>; // (len): the relu's output
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>; // (len)

// dx = dy where y > 0, else 0
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.len / 4u) {
        dx[id] = select(vec4<f32>(), dy[id], y[id] > vec4<f32>());
    }
}
