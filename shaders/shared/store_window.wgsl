// What the fused convolutions and pools of every shape of block share. It reads the including file's `dims` and `bias` and writes its `y` and `argmax`.

// The first maximum in row-major order of four pixels, then the relu: strict > keeps the earlier one, as TensorFlow does. NaN
// stays, where the driver keeps it at all, so that it reaches the logits and is noticed.
fn store_window(n: u32, py: u32, px: u32, co: u32, p00: vec4<f32>, p01: vec4<f32>, p10: vec4<f32>, p11: vec4<f32>) {
    let pool_h = dims.out_h / 2u;
    let pool_w = dims.out_w / 2u;
    if (n < dims.batch && py < pool_h && px < pool_w) {
        let b = bias[co];
        let z1 = p01 + b;
        let z2 = p10 + b;
        let z3 = p11 + b;
        var m = p00 + b;
        var code = vec4<u32>();
        code = select(code, vec4<u32>(1u), z1 > m);
        m = select(m, z1, z1 > m);
        code = select(code, vec4<u32>(2u), z2 > m);
        m = select(m, z2, z2 > m);
        code = select(code, vec4<u32>(3u), z3 > m);
        m = select(m, z3, z3 > m);
        code = select(vec4<u32>(4u), code, m > vec4<f32>());
        let at = ((n * pool_h + py) * pool_w + px) * (dims.out_c / 4u) + co;
        y[at] = select(m, vec4<f32>(), m < vec4<f32>());
        argmax[at] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
    }
}
