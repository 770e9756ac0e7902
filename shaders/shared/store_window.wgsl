// What the fused convolutions and pools of every shape of block share, beside shared/pooled_window.wgsl. It reads the including file's
// `bias` and writes its `y` and `argmax`.

fn store_window(n: u32, py: u32, px: u32, co: u32, p00: vec4<f32>, p01: vec4<f32>, p10: vec4<f32>, p11: vec4<f32>) {
    let pool_h = dims.out_h / 2u;
    let pool_w = dims.out_w / 2u;
    if (n < dims.batch && py < pool_h && px < pool_w) {
        let b = bias[co];
        let window = pooled_window(p00 + b, p01 + b, p10 + b, p11 + b);
        let at = ((n * pool_h + py) * pool_w + px) * (dims.out_c / 4u) + co;
        y[at] = window.y;
        if (dims.splits > 0u) {
            argmax[at] = window.argmax;
        }
    }
}
