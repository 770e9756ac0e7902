// A batch of pictures by index out of one resident chunk of the data set: as floats in [0, 1], RGB padded to 4 channels, or still as
// bytes, a word to a pixel.

@group(0) @binding(1) var<storage, read> images: array<u32>; // (chunk_len, ceil(pixels/4)*3): bytes R G B R G B ...
@group(0) @binding(2) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>; // (batch, pixels, 4)
@group(0) @binding(3) var<storage, read_write> words: array<u32>; // (batch, pixels): R | G << 8 | B << 16

// Four neighbouring pixels of the batch, words as in `words`, and where they go.
struct Quad {
    words: vec4<u32>,
    to: u32,
    pixels: u32, // of the four, those that the picture has; 0 where the picture lies in another chunk
}

fn quad_of(id: u32) -> Quad {
    let quads = (dims.pixels + 3u) / 4u;
    let quad = id % quads;
    let b = id / quads;
    let picture = order[min(step.first + dims.offset + b, dims.pictures - 1u)] - dims.chunk_first;
    if (b >= dims.batch || picture >= dims.chunk_len) {
        return Quad();
    }
    let at = (picture * quads + quad) * 3u;
    let w0 = images[at];
    let w1 = images[at + 1u];
    let w2 = images[at + 2u];
    let words = vec4<u32>(w0 & 0xffffffu, (w0 >> 24u) | ((w1 & 0xffffu) << 8u), (w1 >> 16u) | ((w2 & 0xffu) << 16u), w2 >> 8u);
    return Quad(words, b * dims.pixels + quad * 4u, dims.pixels - quad * 4u);
}

fn colours(word: u32) -> vec4<f32> {
    return vec4<f32>(rescaled(word, 0u), rescaled(word, 8u), rescaled(word, 16u), 0.0);
}

// x[b,p,:] = (R, G, B, 0) of pixel p of picture order[first+offset+b], times fl32(1/255), if that picture lies in this chunk
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let quad = quad_of(linear_id(gid));
    if (quad.pixels > 0u) { x[quad.to] = colours(quad.words.x); }
    if (quad.pixels > 1u) { x[quad.to + 1u] = colours(quad.words.y); }
    if (quad.pixels > 2u) { x[quad.to + 2u] = colours(quad.words.z); }
    if (quad.pixels > 3u) { x[quad.to + 3u] = colours(quad.words.w); }
}

// words[b,p] = R | G << 8 | B << 16 of pixel p of picture order[first+offset+b], if that picture lies in this chunk
@compute @workgroup_size(64)
fn bytes(@builtin(global_invocation_id) gid: vec3<u32>) {
    let quad = quad_of(linear_id(gid));
    if (quad.pixels > 0u) { words[quad.to] = quad.words.x; }
    if (quad.pixels > 1u) { words[quad.to + 1u] = quad.words.y; }
    if (quad.pixels > 2u) { words[quad.to + 2u] = quad.words.z; }
    if (quad.pixels > 3u) { words[quad.to + 3u] = quad.words.w; }
}
