// Grad-CAM's weights of the layer before a convolution without padding, without the gradient of its input: each of its products adds to one
// pixel of the picture, so over the picture they add up to the kernel's taps times the sums of its own gradient.

@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>; // (batch, out_c): of the gradient before the relu
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (taps, in_c, out_c)
@group(0) @binding(3) var<storage, read_write> alpha_before: array<f32>; // (batch, in_c)

// alpha[n,ci] = sum_{tap,co} weight[tap,ci,co] sums[n,co] / area
@compute @workgroup_size(64)
fn weights_before(@builtin(global_invocation_id) gid: vec3<u32>) {
    let c4 = dims.out_c / 4u;
    let all = dims.batch * dims.in_c;
    let id = linear_id(gid);
    let at = min(id, all - 1u);
    let ci = at % dims.in_c;
    let n = at / dims.in_c;
    var sum = 0.0;
    for (var tap = 0u; tap < dims.taps; tap++) {
        for (var co = 0u; co < c4; co++) {
            sum += dot(weight[(tap * dims.in_c + ci) * c4 + co], sums[n * c4 + co]);
        }
    }
    if (id < all) {
        alpha_before[id] = sum / f32(dims.area);
    }
}
