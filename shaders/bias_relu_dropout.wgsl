// What stands between a hidden dense layer's products and the next layer in training: bias, relu and dropout (dropout.wgsl), and their
// gradient.

@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>; // (splits, batch, out_n)
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>; // (out_n)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_n)

// y[b,j] = relu(bias[j] + sum_s partial[s,b,j]) / (1 - rate) where u(seed, step, layer, b out_n + j) >= rate, else 0
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let out4 = dims.out_n / 4u;
    let all = dims.batch * out4;
    let id = linear_id(gid);
    let at = min(id, all - 1u);
    var sum = vec4<f32>();
    for (var s = 0u; s < dims.splits; s++) {
        sum += sums[s * all + at];
    }
    if (id < all) {
        let z = sum + bias[id % out4];
        let r = select(z, vec4<f32>(), z < vec4<f32>());
        let keep = vec4<bool>(kept(4u * id), kept(4u * id + 1u), kept(4u * id + 2u), kept(4u * id + 3u));
        y[id] = select(vec4<f32>(), r * bitcast<f32>(dims.scale_bits), keep);
    }
}

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, out_n)
@group(0) @binding(2) var<storage, read> dropped: array<vec4<f32>>; // (batch, out_n): the forward's y
@group(0) @binding(3) var<storage, read_write> dz: array<vec4<f32>>; // (batch, out_n)

// dz = dy / (1 - rate) where the forward's y > 0, else 0
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.batch * (dims.out_n / 4u)) {
        // y is 0 wherever the relu is closed or the dropout has dropped it: no mask need be made again.
        dz[id] = select(vec4<f32>(), dy[id] * bitcast<f32>(dims.scale_bits), dropped[id] > vec4<f32>());
    }
}
