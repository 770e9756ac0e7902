// The batch's logits and probabilities put into their rows of the whole set's table, read back once at the end.
struct Dims {
    batch: u32,
    stride: u32,
    pictures: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> logits: array<f32>; // (batch, stride)
@group(0) @binding(3) var<storage, read> probs: array<f32>; // (batch, stride)
@group(0) @binding(4) var<storage, read_write> all_logits: array<f32>; // (pictures, stride)
@group(0) @binding(5) var<storage, read_write> all_probs: array<f32>; // (pictures, stride)

// all_logits[first+b, :] = logits[b, :]; all_probs likewise
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let id = linear_id(gid, groups);
    let to = step.first * dims.stride + id;
    if (id < dims.batch * dims.stride && to < dims.pictures * dims.stride) {
        all_logits[to] = logits[id];
        all_probs[to] = probs[id];
    }
}
