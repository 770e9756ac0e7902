// Grad-CAM's map of the first layer, of those of a batch's pictures that lie in one chunk of the data set.

@group(0) @binding(1) var<storage, read> words: array<u32>; // (chunk_len, in_h, in_w): R | G << 8 | B << 16
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, 4, out_c)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_c)
@group(0) @binding(4) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(5) var<storage, read> alpha: array<vec4<f32>>; // (batch, out_c)
@group(0) @binding(6) var<storage, read_write> raw: array<f32>; // (batch, out_h, out_w)

// Whether the picture is in the batch and in this chunk.
fn is_here(n: u32) -> bool {
    return n < dims.batch && picture_of(min(n, dims.batch - 1u)) < dims.chunk_len;
}

// raw[n,y,x] = sum_c alpha[n,c] relu(conv2d(x))[n,y,x,c], x = (R, G, B) times fl32(1/255), of the pictures in this chunk
@compute @workgroup_size(64)
fn forward_pictures(@builtin(global_invocation_id) gid: vec3<u32>) {
    store_map(linear_id(gid));
}
