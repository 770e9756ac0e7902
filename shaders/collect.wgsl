// The batch's logits and probabilities put into their rows of the whole set's table, read back once at the end.

@group(0) @binding(1) var<storage, read> logits: array<f32>; // (batch, stride)
@group(0) @binding(2) var<storage, read> probs: array<f32>; // (batch, stride)
@group(0) @binding(3) var<storage, read_write> all_logits: array<f32>; // (table_len, stride)
@group(0) @binding(4) var<storage, read_write> all_probs: array<f32>; // (table_len, stride)

// all_logits[first+b-table_first, :] = logits[b, :] where that picture lies in this table; all_probs likewise
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    let row = step.first + id / dims.stride - dims.table_first;
    if (id < dims.batch * dims.stride && row < dims.table_len) {
        let to = row * dims.stride + id % dims.stride;
        all_logits[to] = logits[id];
        all_probs[to] = probs[id];
    }
}
