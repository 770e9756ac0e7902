// 2-D cross-correlation, stride 1, NHWC x HWIO -> NHWC, and its gradients. Channels are multiples of 4 (zero-padded by the plan).

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, in_c)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_c)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_h, out_w, out_c)

fn store_y(n: u32, oy: u32, ox: u32, co: u32, value: vec4<f32>) {
    if (oy < dims.out_h && ox < dims.out_w) {
        let z = value + bias[co];
        y[((n * dims.out_h + oy) * dims.out_w + ox) * (dims.out_c / 4u) + co] =
            select(z, vec4<f32>(), (z < vec4<f32>()) & vec4<bool>(dims.relu != 0u));
    }
}

// y[n,oy,ox,co] = relu?(bias[co] + sum_{ky,kx,ci} x[n, oy+ky-pad_top, ox+kx-pad_left, ci] * weight[ky,kx,ci,co])
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let out_c4 = dims.out_c / 4u;
    let c_blocks = (out_c4 + 1u) / 2u;
    let x_blocks = (dims.out_w + 3u) / 4u;
    let y_blocks = (dims.out_h + 1u) / 2u;
    let id = linear_id(gid);
    let co_a = (id % c_blocks) * 2u;
    let co_b = min(co_a + 1u, out_c4 - 1u);
    let ox = (id / c_blocks) % x_blocks * 4u;
    let oy = (id / (c_blocks * x_blocks)) % y_blocks * 2u;
    let n = id / (c_blocks * x_blocks * y_blocks);
    let n_read = min(n, dims.batch - 1u);
    var block = Block();
    correlate(n_read, oy, ox, co_a, co_b, &block);
    if (n < dims.batch) {
        store_y(n, oy, ox, co_a, block.a[0]);
        store_y(n, oy, ox + 1u, co_a, block.a[1]);
        store_y(n, oy, ox + 2u, co_a, block.a[2]);
        store_y(n, oy, ox + 3u, co_a, block.a[3]);
        store_y(n, oy + 1u, ox, co_a, block.a[4]);
        store_y(n, oy + 1u, ox + 1u, co_a, block.a[5]);
        store_y(n, oy + 1u, ox + 2u, co_a, block.a[6]);
        store_y(n, oy + 1u, ox + 3u, co_a, block.a[7]);
        if (co_b != co_a) {
            store_y(n, oy, ox, co_b, block.b[0]);
            store_y(n, oy, ox + 1u, co_b, block.b[1]);
            store_y(n, oy, ox + 2u, co_b, block.b[2]);
            store_y(n, oy, ox + 3u, co_b, block.b[3]);
            store_y(n, oy + 1u, ox, co_b, block.b[4]);
            store_y(n, oy + 1u, ox + 1u, co_b, block.b[5]);
            store_y(n, oy + 1u, ox + 2u, co_b, block.b[6]);
            store_y(n, oy + 1u, ox + 3u, co_b, block.b[7]);
        }
    }
}

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, out_h, out_w, out_c)
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>; // (batch, in_h, in_w, in_c)

// dy where the output has a pixel, else 0.
fn gradient_at(n: u32, oy: i32, ox: i32, c: u32) -> vec4<f32> {
    let inside = oy >= 0 && oy < i32(dims.out_h) && ox >= 0 && ox < i32(dims.out_w);
    let u = u32(clamp(oy, 0, i32(dims.out_h) - 1));
    let v = u32(clamp(ox, 0, i32(dims.out_w) - 1));
    return select(vec4<f32>(), dy[((n * dims.out_h + u) * dims.out_w + v) * (dims.out_c / 4u) + c], inside);
}

// dx[n,iy,ix,ci] = sum_{ky,kx,co} dy[n, iy+pad_top-ky, ix+pad_left-kx, co] * weight[ky,kx,ci,co]
@compute @workgroup_size(64)
fn backward_input(@builtin(global_invocation_id) gid: vec3<u32>) {
    store_input_block(linear_id(gid));
}
