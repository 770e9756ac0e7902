// conv2d + bias + relu + 2x2 max-pooling of stride 2 in one pass: the full-size activation is never stored.
struct Dims {
    batch: u32,
    in_h: u32,
    in_w: u32,
    in_c: u32,
    out_h: u32, // of the convolution, before the pool
    out_w: u32,
    out_c: u32,
    k_h: u32,
    k_w: u32,
    pad_top: u32,
    pad_left: u32,
    relu: u32,
    splits: u32,
    rows_per_split: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, in_c)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_c)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(5) var<storage, read_write> argmax: array<u32>; // (batch, out_h/2, out_w/2, out_c/4), a byte per channel

// Below 0 is 0; NaN stays, where the driver keeps it at all, so that it reaches the logits and is noticed.
fn relu(z: vec4<f32>) -> vec4<f32> {
    return select(z, vec4<f32>(), z < vec4<f32>());
}

// The first maximum in row-major order of four relu'd pixels: strict > keeps the earlier one, as TensorFlow does.
fn store_window(n: u32, py: u32, px: u32, co: u32, p00: vec4<f32>, p01: vec4<f32>, p10: vec4<f32>, p11: vec4<f32>) {
    let pool_h = dims.out_h / 2u;
    let pool_w = dims.out_w / 2u;
    if (n < dims.batch && px < pool_w) {
        let b = bias[co];
        let r0 = relu(p00 + b);
        let r1 = relu(p01 + b);
        let r2 = relu(p10 + b);
        let r3 = relu(p11 + b);
        var m = r0;
        var code = vec4<u32>();
        code = select(code, vec4<u32>(1u), r1 > m);
        m = max(m, r1);
        code = select(code, vec4<u32>(2u), r2 > m);
        m = max(m, r2);
        code = select(code, vec4<u32>(3u), r3 > m);
        m = max(m, r3);
        let at = ((n * pool_h + py) * pool_w + px) * (dims.out_c / 4u) + co;
        y[at] = m;
        argmax[at] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
    }
}

// y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co]; argmax = its place in the window, row-major
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let out_c4 = dims.out_c / 4u;
    let c_blocks = (out_c4 + 1u) / 2u;
    let x_blocks = (dims.out_w / 2u + 1u) / 2u;
    let pool_h = dims.out_h / 2u;
    let id = linear_id(gid, groups);
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

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(2) var<storage, read> pooled: array<vec4<f32>>; // the forward's y
@group(0) @binding(3) var<storage, read> taken: array<u32>; // the forward's argmax
@group(0) @binding(4) var<storage, read_write> dz: array<vec4<f32>>; // (batch, out_h, out_w, out_c): before the relu

// dz[n,oy,ox,co] = dy of its window where argmax points at (oy,ox) and y > 0, else 0
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c4 = dims.out_c / 4u;
    let pool_h = dims.out_h / 2u;
    let pool_w = dims.out_w / 2u;
    let id = linear_id(gid, groups);
    let c = id % c4;
    let ox = (id / c4) % dims.out_w;
    let oy = (id / (c4 * dims.out_w)) % dims.out_h;
    let n = id / (c4 * dims.out_w * dims.out_h);
    let py = min(oy / 2u, pool_h - 1u);
    let px = min(ox / 2u, pool_w - 1u);
    let at = ((min(n, dims.batch - 1u) * pool_h + py) * pool_w + px) * c4 + c;
    let codes = (vec4<u32>(taken[at]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    let here = vec4<u32>((oy - 2u * py) * 2u + (ox - 2u * px));
    let alive = (codes == here) & (pooled[at] > vec4<f32>());
    if (n < dims.batch) {
        // The odd last row or column belongs to no window.
        let inside = oy < pool_h * 2u && ox < pool_w * 2u;
        dz[id] = select(vec4<f32>(), dy[at], alive & vec4<bool>(inside));
    }
}
