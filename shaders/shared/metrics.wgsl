// What the means of a batch share. It reads the step and writes the including file's `metrics`.

var<workgroup> losses: array<f32, 64>;
var<workgroup> hits: array<f32, 64>;

// The step's row of metrics, from the sums of a workgroup's 64 invocations: added up as a fixed tree.
fn store_metrics(lane: u32, loss: f32, correct: f32) {
    losses[lane] = loss;
    hits[lane] = correct;
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
