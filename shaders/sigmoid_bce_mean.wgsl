// The sigmoid head (sigmoid_bce.wgsl) of a whole batch, and the batch's mean loss and hits (batch_mean.wgsl) with it.

@group(0) @binding(1) var<storage, read> logits: array<f32>; // (batch, stride)
@group(0) @binding(2) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(3) var<storage, read> labels: array<u32>; // (images), 0 or 1
@group(0) @binding(4) var<storage, read_write> probs: array<f32>; // (batch, stride): p, 0, 0, 0
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>; // (batch, stride)
@group(0) @binding(6) var<storage, read_write> metrics: array<f32>; // (slots, 2)

// p = sigmoid(z); dlogits = (p - t) / batch; metrics[slot] = (mean of max(z,0) - z t + log1p(exp(-|z|)), sum of ((p > 0.5) == t))
// The sums are batch_mean's, in its order: a batch played in parts comes to the same bytes.
@compute @workgroup_size(64)
fn forward(@builtin(local_invocation_index) lane: u32) {
    var loss = 0.0;
    var correct = 0.0;
    for (var i = lane; i < dims.batch; i += 64u) {
        let picture = head(i, i, dims.batch);
        loss += picture.loss;
        correct += picture.correct;
        let at = i * dims.stride;
        for (var j = 0u; j < dims.stride; j++) {
            probs[at + j] = select(0.0, picture.p, j == 0u);
            dlogits[at + j] = select(0.0, picture.dlogit, j == 0u);
        }
    }
    store_metrics(lane, loss, correct);
}
