// The including file's `x` (batch, in_h, in_w, in_c), in fours of channels, at a position that may lie in the padding, where it is 0.
fn x_at(n: u32, iy: i32, ix: i32, c: u32) -> vec4<f32> {
    let inside = iy >= 0 && iy < i32(dims.in_h) && ix >= 0 && ix < i32(dims.in_w);
    let u = u32(clamp(iy, 0, i32(dims.in_h) - 1));
    let v = u32(clamp(ix, 0, i32(dims.in_w) - 1));
    return select(vec4<f32>(), x[((n * dims.in_h + u) * dims.in_w + v) * (dims.in_c / 4u) + c], inside);
}
