// Grad-CAM's map of a convolution layer, from the layer's input: its output behind the relu is weighed and summed over the channels as it is
// made, and stored nowhere.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, in_c)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_c)
@group(0) @binding(4) var<storage, read> alpha: array<vec4<f32>>; // (batch, out_c)
@group(0) @binding(5) var<storage, read_write> raw: array<f32>; // (batch, out_h, out_w)

// Whether the picture is here: in a batch of floats all are.
fn is_here(n: u32) -> bool {
    return n < dims.batch;
}

// raw[n,y,x] = sum_c alpha[n,c] relu(conv2d(x))[n,y,x,c]
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    store_map(linear_id(gid));
}
