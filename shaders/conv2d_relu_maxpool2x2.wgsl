// conv2d + bias + relu + 2x2 max-pooling of stride 2 in one pass: the full-size activation is never stored.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, in_c)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_c)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(5) var<storage, read_write> argmax: array<u32>; // (batch, out_h/2, out_w/2, out_c/4), a byte per channel

// y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co]; argmax = its place in the window, row-major, or 4 if y is 0, where a gradient follows (splits > 0)
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let out_c4 = dims.out_c / 4u;
    let c_blocks = (out_c4 + 1u) / 2u;
    let x_blocks = (dims.out_w / 2u + 1u) / 2u;
    let pool_h = dims.out_h / 2u;
    let id = linear_id(gid);
    let co_a = (id % c_blocks) * 2u;
    let co_b = min(co_a + 1u, out_c4 - 1u);
    let px = (id / c_blocks) % x_blocks * 2u;
    let py = (id / (c_blocks * x_blocks)) % pool_h;
    let n = id / (c_blocks * x_blocks * pool_h);
    var block = Block();
    correlate(min(n, dims.batch - 1u), py * 2u, px * 2u, co_a, co_b, &block);
    store_window(n, py, px, co_a, block.a[0], block.a[1], block.a[4], block.a[5]);
    store_window(n, py, px + 1u, co_a, block.a[2], block.a[3], block.a[6], block.a[7]);
    if (co_b != co_a) {
        store_window(n, py, px, co_b, block.b[0], block.b[1], block.b[4], block.b[5]);
        store_window(n, py, px + 1u, co_b, block.b[2], block.b[3], block.b[6], block.b[7]);
    }
}
