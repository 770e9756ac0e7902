// tf.image.resize, bilinear, half-pixel centres, no antialiasing.

@group(0) @binding(1) var<storage, read> x: array<f32>; // (batch, in_h, in_w)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (batch, out_h, out_w)

// u = (out + 0.5) scale - 0.5; y = the linear blend of x at floor(u) and ceil(u), clamped, in both directions
@compute @workgroup_size(64)
fn bilinear(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    let ox = id % dims.out_w;
    let oy = (id / dims.out_w) % dims.out_h;
    let n = id / (dims.out_w * dims.out_h);
    if (n < dims.batch) {
        let u = (f32(oy) + 0.5) * bitcast<f32>(dims.scale_y_bits) - 0.5;
        let v = (f32(ox) + 0.5) * bitcast<f32>(dims.scale_x_bits) - 0.5;
        let y0 = u32(max(floor(u), 0.0));
        let x0 = u32(max(floor(v), 0.0));
        let y1 = min(u32(max(ceil(u), 0.0)), dims.in_h - 1u);
        let x1 = min(u32(max(ceil(v), 0.0)), dims.in_w - 1u);
        let ty = u - floor(u);
        let tx = v - floor(v);
        let base = n * dims.in_h * dims.in_w;
        let a = x[base + y0 * dims.in_w + x0];
        let b = x[base + y0 * dims.in_w + x1];
        let c = x[base + y1 * dims.in_w + x0];
        let d = x[base + y1 * dims.in_w + x1];
        let upper = a + (b - a) * tx;
        let lower = c + (d - c) * tx;
        y[id] = upper + (lower - upper) * ty;
    }
}
