// One step's loss and hits, kept on the device: the host reads many steps at once.

@group(0) @binding(1) var<storage, read> loss: array<f32>; // (batch)
@group(0) @binding(2) var<storage, read> correct: array<f32>; // (batch)
@group(0) @binding(3) var<storage, read_write> metrics: array<f32>; // (slots, 2)

// metrics[slot] = (mean of loss, sum of correct); one workgroup, a fixed tree
@compute @workgroup_size(64)
fn forward(@builtin(local_invocation_index) lane: u32) {
    var a = 0.0;
    var b = 0.0;
    for (var i = lane; i < dims.batch; i += 64u) {
        a += loss[i];
        b += correct[i];
    }
    store_metrics(lane, a, b);
}
