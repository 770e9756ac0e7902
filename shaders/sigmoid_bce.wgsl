// The sigmoid head: binary cross-entropy from the logit in its stable form, the probability, the gradient and the hit.
struct Dims {
    batch: u32,
    stride: u32, // floats per row; the logit is the first
    pictures: u32, // in `order`
    images: u32, // in `labels`
    offset: u32, // of the first row in the step's batch
    whole: u32, // pictures in the step's batch
}

@group(0) @binding(0) var<uniform> dims: Dims;
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
        let z = logits[id * dims.stride];
        let picture = order[min(step.first + dims.offset + id, dims.pictures - 1u)];
        let one = labels[min(picture, dims.images - 1u)] == 1u;
        let t = select(0.0, 1.0, one);
        let e = exp(-abs(z));
        let p = select(e, 1.0, z >= 0.0) / (1.0 + e);
        // max(z,0) - z t without the cancellation: the part of |z| on the wrong side of the label.
        let wrong = select(max(z, 0.0), max(-z, 0.0), one);
        loss[dims.offset + id] = wrong + log1p_unit(e);
        correct[dims.offset + id] = select(0.0, 1.0, (p > 0.5) == one);
        let at = id * dims.stride;
        for (var j = 0u; j < dims.stride; j++) {
            probs[at + j] = select(0.0, p, j == 0u);
            dlogits[at + j] = select(0.0, (p - t) / f32(dims.whole), j == 0u);
        }
    }
}
