// What an adapter can do at best in products of matrices: what `shaders/coop/peak_products.wgsl.jinja` does with their factors in
// registers, on any adapter.

@group(0) @binding(1) var<storage, read> x: array<f32>; // (len / 128, 16)
@group(0) @binding(2) var<storage, read> weight: array<f32>; // (16, 128)
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (len / 128, 128)

// y[i,j] = rounds times the sum over 16 terms l of x[i,l] * weight[l,j], with 128 columns j
@compute @workgroup_size(64)
fn products(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    let row = min(id, dims.len - 1u) / 128u;
    var sum = 0.0;
    for (var round = 0u; round < dims.rounds; round++) {
        for (var l = 0u; l < 16u; l++) {
            sum += x[row * 16u + l] * weight[l * 128u + id % 128u];
        }
    }
    if (id < dims.len) {
        y[id] = sum;
    }
}
