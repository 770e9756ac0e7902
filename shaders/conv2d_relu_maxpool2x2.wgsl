// conv2d + bias + relu + 2x2 max-pooling of stride 2 in one pass: the full-size activation is never stored.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, in_c)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_c)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(5) var<storage, read_write> argmax: array<u32>; // (batch, out_h/2, out_w/2, out_c/4), a byte per channel

// y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co]; argmax = its place in the window, row-major, or 4 if y is 0, where a gradient follows (splits > 0)
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    store_windows(linear_id(gid));
}
