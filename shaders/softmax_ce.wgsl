// The softmax head: categorical cross-entropy from the logits with their maximum subtracted, probabilities, gradient, hit.

@group(0) @binding(1) var<storage, read> logits: array<f32>; // (batch, stride)
@group(0) @binding(2) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(3) var<storage, read> labels: array<u32>; // (images)
@group(0) @binding(4) var<storage, read_write> probs: array<f32>; // (batch, stride), 0 in the padding
@group(0) @binding(5) var<storage, read_write> loss: array<f32>; // (offset + batch)
@group(0) @binding(6) var<storage, read_write> correct: array<f32>; // (offset + batch), 0 or 1
@group(0) @binding(7) var<storage, read_write> dlogits: array<f32>; // (batch, stride), 0 in the padding

// loss = log(sum_j exp(z_j - m)) - (z_t - m), m = max z; p = softmax(z); dlogits = (p - onehot(t)) / whole; correct = (argmax z == t)
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.batch) {
        let at = id * dims.stride;
        let picture = ordered(dims.offset + id);
        let label = labels[min(picture, dims.images - 1u)];
        var top = 0u;
        var m = logits[at];
        for (var j = 1u; j < dims.classes; j++) {
            let z = logits[at + j];
            top = select(top, j, z > m);
            m = max(m, z);
        }
        // The maximum's own term is exactly 1: summing the others apart keeps a confident loss accurate.
        var rest = 0.0;
        for (var j = 0u; j < dims.classes; j++) {
            rest += select(exp(logits[at + j] - m), 0.0, j == top);
        }
        let sum = 1.0 + rest;
        let log_sum = select(log(sum), log1p_unit(min(rest, 1.0)), rest <= 1.0);
        loss[dims.offset + id] = log_sum + (m - logits[at + label]);
        correct[dims.offset + id] = select(0.0, 1.0, top == label);
        for (var j = 0u; j < dims.stride; j++) {
            let z = logits[at + min(j, dims.classes - 1u)];
            let p = select(0.0, exp(z - m) / sum, j < dims.classes);
            probs[at + j] = p;
            dlogits[at + j] = (p - select(0.0, 1.0, j == label)) / f32(dims.whole);
        }
    }
}
