// The sum of gradients over the parts of a batch, or over the chunks of a data set, in the order in which these are played.

@group(0) @binding(1) var<storage, read> part: array<vec4<f32>>; // (len)
@group(0) @binding(2) var<storage, read_write> sum: array<vec4<f32>>; // (len)

// sum += part
@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.len / 4u) {
        sum[id] += part[id];
    }
}
