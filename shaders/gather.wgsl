// A batch of pictures by index out of one resident chunk of the data set: as floats in [0, 1], RGB padded to 4 channels, or still as
// bytes, a word to a pixel.
struct Dims {
    batch: u32,
    pixels: u32, // of one picture
    pictures: u32, // in `order`
    chunk_first: u32, // the chunk's first picture
    chunk_len: u32, // pictures in the chunk
    offset: u32, // of the first picture in the step's batch
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> images: array<u32>; // (chunk_len, ceil(pixels/4)*3): bytes R G B R G B ...
@group(0) @binding(2) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>; // (batch, pixels, 4)
@group(0) @binding(3) var<storage, read_write> words: array<u32>; // (batch, pixels): R | G << 8 | B << 16

// The batch's picture b, counted from the chunk's first.
fn picture_of(b: u32) -> u32 {
    return order[min(step.first + dims.offset + b, dims.pictures - 1u)] - dims.chunk_first;
}

fn lies_here(picture: u32) -> bool {
    return picture < dims.chunk_len;
}

fn rescaled(word: u32, at: u32) -> f32 {
    // Keras multiplies by fl32(1/255); dividing by 255 differs in 126 of 256 values.
    return f32((word >> (8u * at)) & 255u) * 0.003921569;
}

// x[b,p,:] = (R, G, B, 0) of pixel p of picture order[first+offset+b], times fl32(1/255), if that picture lies in this chunk
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let quads = (dims.pixels + 3u) / 4u;
    let id = linear_id(gid);
    let quad = id % quads;
    let b = id / quads;
    let picture = picture_of(b);
    if (b < dims.batch && lies_here(picture)) {
        let at = (picture * quads + quad) * 3u;
        let w0 = images[at];
        let w1 = images[at + 1u];
        let w2 = images[at + 2u];
        let to = b * dims.pixels + quad * 4u;
        let left = dims.pixels - quad * 4u;
        x[to] = vec4<f32>(rescaled(w0, 0u), rescaled(w0, 1u), rescaled(w0, 2u), 0.0);
        if (left > 1u) { x[to + 1u] = vec4<f32>(rescaled(w0, 3u), rescaled(w1, 0u), rescaled(w1, 1u), 0.0); }
        if (left > 2u) { x[to + 2u] = vec4<f32>(rescaled(w1, 2u), rescaled(w1, 3u), rescaled(w2, 0u), 0.0); }
        if (left > 3u) { x[to + 3u] = vec4<f32>(rescaled(w2, 1u), rescaled(w2, 2u), rescaled(w2, 3u), 0.0); }
    }
}

// words[b,p] = R | G << 8 | B << 16 of pixel p of picture order[first+offset+b], if that picture lies in this chunk
@compute @workgroup_size(64)
fn bytes(@builtin(global_invocation_id) gid: vec3<u32>) {
    let quads = (dims.pixels + 3u) / 4u;
    let id = linear_id(gid);
    let quad = id % quads;
    let b = id / quads;
    let picture = picture_of(b);
    if (b < dims.batch && lies_here(picture)) {
        let at = (picture * quads + quad) * 3u;
        let w0 = images[at];
        let w1 = images[at + 1u];
        let w2 = images[at + 2u];
        let to = b * dims.pixels + quad * 4u;
        let left = dims.pixels - quad * 4u;
        words[to] = w0 & 0xffffffu;
        if (left > 1u) { words[to + 1u] = (w0 >> 24u) | ((w1 & 0xffffu) << 8u); }
        if (left > 2u) { words[to + 2u] = (w1 >> 16u) | ((w2 & 0xffu) << 16u); }
        if (left > 3u) { words[to + 3u] = w2 >> 8u; }
    }
}
