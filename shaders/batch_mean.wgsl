// One step's loss and hits, kept on the device: the host reads many steps at once.
struct Dims {
    batch: u32,
    slots: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> loss: array<f32>; // (batch)
@group(0) @binding(2) var<storage, read> correct: array<f32>; // (batch)
@group(0) @binding(3) var<storage, read_write> metrics: array<f32>; // (slots, 2)

var<workgroup> losses: array<f32, 64>;
var<workgroup> hits: array<f32, 64>;

// metrics[slot] = (mean of loss, sum of correct); one workgroup, a fixed tree
@compute @workgroup_size(64)
fn forward(@builtin(local_invocation_index) lane: u32) {
    var a = 0.0;
    var b = 0.0;
    for (var i = lane; i < dims.batch; i += 64u) {
        a += loss[i];
        b += correct[i];
    }
    losses[lane] = a;
    hits[lane] = b;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width >>= 1u) {
        if (lane < width) {
            losses[lane] += losses[lane + width];
            hits[lane] += hits[lane + width];
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        let slot = min(step.slot, dims.slots - 1u);
        metrics[2u * slot] = losses[0] / f32(dims.batch);
        metrics[2u * slot + 1u] = hits[0];
    }
}
