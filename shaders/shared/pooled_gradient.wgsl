// The gradient before the relu and the pool, dz, from the including file's `dy` and `argmax`. It calls shared/places.wgsl.

// dz of a pixel, 0 where there is none: an odd last row or column belongs to no window.
fn gradient_at(n: u32, oy: i32, ox: i32, c: u32) -> vec4<f32> {
    let pool_h = dims.out_h / 2u;
    let pool_w = dims.out_w / 2u;
    let inside = oy >= 0 && oy < i32(pool_h * 2u) && ox >= 0 && ox < i32(pool_w * 2u);
    let u = u32(clamp(oy, 0, i32(pool_h * 2u) - 1));
    let v = u32(clamp(ox, 0, i32(pool_w * 2u) - 1));
    let at = ((n * pool_h + u / 2u) * pool_w + v / 2u) * (dims.out_c / 4u) + c;
    let here = vec4<u32>(u % 2u * 2u + v % 2u);
    return select(vec4<f32>(), dy[at], (places(argmax[at]) == here) & vec4<bool>(inside));
}
