// What Grad-CAM explains: the gradient of the chosen score with respect to the logits.

@group(0) @binding(1) var<storage, read> logits: array<f32>; // (batch, stride)
@group(0) @binding(2) var<storage, read> probs: array<f32>; // (batch, stride)
@group(0) @binding(3) var<storage, read_write> dlogits: array<f32>; // (batch, stride)

// sigmoid: +1 or -1 for the logit's side, p(1-p) for the output; softmax: onehot(c), or p_c (onehot(c) - p) for the output
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.batch) {
        let at = id * dims.stride;
        var top = 0u;
        var m = logits[at];
        for (var j = 1u; j < dims.classes; j++) {
            let z = logits[at + j];
            top = select(top, j, z > m);
            m = max(m, z);
        }
        let p = probs[at];
        let second = (dims.target_kind == 0u && p > 0.5) || dims.target_kind == 1u
            || (dims.target_kind == 3u && dims.class_index == 1u);
        let signed = select(select(-1.0, 1.0, second), p * (1.0 - p), dims.target_kind == 2u);
        let c = select(top, dims.class_index, dims.target_kind == 3u);
        let pc = probs[at + c % dims.stride];
        for (var j = 0u; j < dims.stride; j++) {
            let hot = select(0.0, 1.0, j == c);
            let categorical = select(hot, pc * (hot - probs[at + j]), dims.target_kind == 2u);
            let one_output = select(0.0, signed, j == 0u);
            dlogits[at + j] = select(categorical, one_output, dims.classes == 1u);
        }
    }
}
