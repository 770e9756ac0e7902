// The sigmoid head: binary cross-entropy from the logit in its stable form, the probability, the gradient and the hit.

@group(0) @binding(1) var<storage, read> logits: array<f32>; // (batch, stride)
@group(0) @binding(2) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(3) var<storage, read> labels: array<u32>; // (images), 0 or 1
@group(0) @binding(4) var<storage, read_write> probs: array<f32>; // (batch, stride): p, 0, 0, 0
@group(0) @binding(5) var<storage, read_write> loss: array<f32>; // (offset + batch)
@group(0) @binding(6) var<storage, read_write> correct: array<f32>; // (offset + batch), 0 or 1
@group(0) @binding(7) var<storage, read_write> dlogits: array<f32>; // (batch, stride)

// loss = max(z,0) - z t + log1p(exp(-|z|)); p = sigmoid(z); dlogits = (p - t) / whole; correct = ((p > 0.5) == t)
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.batch) {
        let picture = head(id, dims.offset + id, dims.whole);
        loss[dims.offset + id] = picture.loss;
        correct[dims.offset + id] = picture.correct;
        let at = id * dims.stride;
        for (var j = 0u; j < dims.stride; j++) {
            probs[at + j] = select(0.0, picture.p, j == 0u);
            dlogits[at + j] = select(0.0, picture.dlogit, j == 0u);
        }
    }
}
