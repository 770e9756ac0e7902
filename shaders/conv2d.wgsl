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
fn dy_at(n: u32, oy: i32, ox: i32, c: u32) -> vec4<f32> {
    let inside = oy >= 0 && oy < i32(dims.out_h) && ox >= 0 && ox < i32(dims.out_w);
    let u = u32(clamp(oy, 0, i32(dims.out_h) - 1));
    let v = u32(clamp(ox, 0, i32(dims.out_w) - 1));
    return select(vec4<f32>(), dy[((n * dims.out_h + u) * dims.out_w + v) * (dims.out_c / 4u) + c], inside);
}

fn store_dx(n: u32, iy: u32, ix: u32, c: u32, value: vec4<f32>) {
    if (n < dims.batch && iy < dims.in_h && ix < dims.in_w) {
        dx[((n * dims.in_h + iy) * dims.in_w + ix) * (dims.in_c / 4u) + c] = value;
    }
}

// dx[n,iy,ix,ci] = sum_{ky,kx,co} dy[n, iy+pad_top-ky, ix+pad_left-kx, co] * weight[ky,kx,ci,co]
@compute @workgroup_size(64)
fn backward_input(@builtin(global_invocation_id) gid: vec3<u32>) {
    let in_c4 = dims.in_c / 4u;
    let out_c4 = dims.out_c / 4u;
    let c_blocks = (in_c4 + 1u) / 2u;
    let x_blocks = (dims.in_w + 3u) / 4u;
    let y_blocks = (dims.in_h + 1u) / 2u;
    let id = linear_id(gid);
    let ca = (id % c_blocks) * 2u;
    let cb = min(ca + 1u, in_c4 - 1u);
    let ix = (id / c_blocks) % x_blocks * 4u;
    let iy = (id / (c_blocks * x_blocks)) % y_blocks * 2u;
    let n = id / (c_blocks * x_blocks * y_blocks);
    let n_read = min(n, dims.batch - 1u);
    var a0 = vec4<f32>();
    var b0 = vec4<f32>();
    var a1 = vec4<f32>();
    var b1 = vec4<f32>();
    var a2 = vec4<f32>();
    var b2 = vec4<f32>();
    var a3 = vec4<f32>();
    var b3 = vec4<f32>();
    var a4 = vec4<f32>();
    var b4 = vec4<f32>();
    var a5 = vec4<f32>();
    var b5 = vec4<f32>();
    var a6 = vec4<f32>();
    var b6 = vec4<f32>();
    var a7 = vec4<f32>();
    var b7 = vec4<f32>();
    for (var ky = 0u; ky < dims.k_h; ky++) {
        let oy = i32(iy + dims.pad_top) - i32(ky);
        for (var kx = 0u; kx < dims.k_w; kx++) {
            let ox = i32(ix + dims.pad_left) - i32(kx);
            for (var co = 0u; co < out_c4; co++) {
                let ra = ((ky * dims.k_w + kx) * dims.in_c + ca * 4u) * out_c4 + co;
                let rb = ((ky * dims.k_w + kx) * dims.in_c + cb * 4u) * out_c4 + co;
                let wa = mat4x4<f32>(weight[ra], weight[ra + out_c4], weight[ra + 2u * out_c4], weight[ra + 3u * out_c4]);
                let wb = mat4x4<f32>(weight[rb], weight[rb + out_c4], weight[rb + 2u * out_c4], weight[rb + 3u * out_c4]);
                let d0 = dy_at(n_read, oy, ox, co);
                let d1 = dy_at(n_read, oy, ox + 1, co);
                let d2 = dy_at(n_read, oy, ox + 2, co);
                let d3 = dy_at(n_read, oy, ox + 3, co);
                let d4 = dy_at(n_read, oy + 1, ox, co);
                let d5 = dy_at(n_read, oy + 1, ox + 1, co);
                let d6 = dy_at(n_read, oy + 1, ox + 2, co);
                let d7 = dy_at(n_read, oy + 1, ox + 3, co);
                a0 += d0 * wa;
                b0 += d0 * wb;
                a1 += d1 * wa;
                b1 += d1 * wb;
                a2 += d2 * wa;
                b2 += d2 * wb;
                a3 += d3 * wa;
                b3 += d3 * wb;
                a4 += d4 * wa;
                b4 += d4 * wb;
                a5 += d5 * wa;
                b5 += d5 * wb;
                a6 += d6 * wa;
                b6 += d6 * wb;
                a7 += d7 * wa;
                b7 += d7 * wb;
            }
        }
    }
    store_dx(n, iy, ix, ca, a0);
    store_dx(n, iy, ix + 1u, ca, a1);
    store_dx(n, iy, ix + 2u, ca, a2);
    store_dx(n, iy, ix + 3u, ca, a3);
    store_dx(n, iy + 1u, ix, ca, a4);
    store_dx(n, iy + 1u, ix + 1u, ca, a5);
    store_dx(n, iy + 1u, ix + 2u, ca, a6);
    store_dx(n, iy + 1u, ix + 3u, ca, a7);
    if (cb != ca) {
        store_dx(n, iy, ix, cb, b0);
        store_dx(n, iy, ix + 1u, cb, b1);
        store_dx(n, iy, ix + 2u, cb, b2);
        store_dx(n, iy, ix + 3u, cb, b3);
        store_dx(n, iy + 1u, ix, cb, b4);
        store_dx(n, iy + 1u, ix + 1u, cb, b5);
        store_dx(n, iy + 1u, ix + 2u, cb, b6);
        store_dx(n, iy + 1u, ix + 3u, cb, b7);
    }
}
