// A batch of pictures by index out of one resident chunk of the data set, as floats in [0, 1], RGB padded to 4 channels.

@group(0) @binding(1) var<storage, read> words: array<u32>; // (chunk_len, pixels): R | G << 8 | B << 16
@group(0) @binding(2) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>; // (batch, pixels, 4)

// x[b,p,:] = (R, G, B, 0) of pixel p of picture order[first+offset+b], times fl32(1/255), if that picture lies in this chunk
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    let b = id / dims.pixels;
    let picture = picture_of(b);
    if (b < dims.batch && picture < dims.chunk_len) {
        let word = words[picture * dims.pixels + id % dims.pixels];
        x[id] = vec4<f32>(rescaled(word, 0u), rescaled(word, 8u), rescaled(word, 16u), 0.0);
    }
}
