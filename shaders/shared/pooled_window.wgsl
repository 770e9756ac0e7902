// What every fused convolution and pool does with a window.

// Four channels of a window.
struct Pooled {
    y: vec4<f32>,
    argmax: u32, // a byte per channel
}

// The first maximum in row-major order of four pixels, then the relu: strict > keeps the earlier one, as TensorFlow does. NaN
// stays, where the driver keeps it at all, so that it reaches the logits and is noticed.
fn pooled_window(z0: vec4<f32>, z1: vec4<f32>, z2: vec4<f32>, z3: vec4<f32>) -> Pooled {
    var m = z0;
    var code = vec4<u32>();
    code = select(code, vec4<u32>(1u), z1 > m);
    m = select(m, z1, z1 > m);
    code = select(code, vec4<u32>(2u), z2 > m);
    m = select(m, z2, z2 > m);
    code = select(code, vec4<u32>(3u), z3 > m);
    m = select(m, z3, z3 > m);
    code = select(vec4<u32>(4u), code, m > vec4<f32>());
    return Pooled(select(m, vec4<f32>(), m < vec4<f32>()), code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u));
}
