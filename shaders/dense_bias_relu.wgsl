// A dense layer of few inputs in one dispatch: dense.wgsl's `forward` and `reduce` where there is one partial sum.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_n)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (in_n, out_n)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_n)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_n)

fn store_y(b: u32, j: u32, sum: vec4<f32>) {
    if (b < dims.batch) {
        let z = sum + bias[j];
        y[b * (dims.out_n / 4u) + j] = select(z, vec4<f32>(), (z < vec4<f32>()) & vec4<bool>(dims.relu != 0u));
    }
}

// y[b,j] = relu?(bias[j] + sum_i x[b,i] * weight[i,j])
// 4 rows by 4 outputs per invocation; rows past the batch repeat the last one and are not stored.
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let in4 = dims.in_n / 4u;
    let out4 = dims.out_n / 4u;
    let id = linear_id(gid);
    let j = id % out4;
    let b = id / out4 * 4u;
    let last = dims.batch - 1u;
    let r0 = min(b, last) * in4;
    let r1 = min(b + 1u, last) * in4;
    let r2 = min(b + 2u, last) * in4;
    let r3 = min(b + 3u, last) * in4;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var i = 0u; i < in4; i++) {
        let row = 4u * i * out4 + j;
        let w = mat4x4<f32>(weight[row], weight[row + out4], weight[row + 2u * out4], weight[row + 3u * out4]);
        sum0 += w * x[r0 + i];
        sum1 += w * x[r1 + i];
        sum2 += w * x[r2 + i];
        sum3 += w * x[r3 + i];
    }
    store_y(b, j, sum0);
    store_y(b + 1u, j, sum1);
    store_y(b + 2u, j, sum2);
    store_y(b + 3u, j, sum3);
}
