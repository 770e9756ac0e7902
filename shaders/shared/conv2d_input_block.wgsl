// The input's gradient of conv2d.wgsl and of conv2d_relu_maxpool2x2_backward.wgsl: a register block of 2 x 4 pixels by 8 channels. It reads
// the including file's `weight`, and by `gradient_at` the output's gradient, which is 0 where there is no pixel; it writes `dx`.

fn store_dx(n: u32, iy: u32, ix: u32, c: u32, value: vec4<f32>) {
    if (n < dims.batch && iy < dims.in_h && ix < dims.in_w) {
        dx[((n * dims.in_h + iy) * dims.in_w + ix) * (dims.in_c / 4u) + c] = value;
    }
}

// The `id`-th block.
fn store_input_block(id: u32) {
    let in_c4 = dims.in_c / 4u;
    let out_c4 = dims.out_c / 4u;
    let c_blocks = (in_c4 + 1u) / 2u;
    let x_blocks = (dims.in_w + 3u) / 4u;
    let y_blocks = (dims.in_h + 1u) / 2u;
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
                let d0 = gradient_at(n_read, oy, ox, co);
                let d1 = gradient_at(n_read, oy, ox + 1, co);
                let d2 = gradient_at(n_read, oy, ox + 2, co);
                let d3 = gradient_at(n_read, oy, ox + 3, co);
                let d4 = gradient_at(n_read, oy + 1, ox, co);
                let d5 = gradient_at(n_read, oy + 1, ox + 1, co);
                let d6 = gradient_at(n_read, oy + 1, ox + 2, co);
                let d7 = gradient_at(n_read, oy + 1, ox + 3, co);
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
