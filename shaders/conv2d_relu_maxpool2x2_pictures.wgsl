// conv2d + bias + relu + 2x2 max-pooling of those of a batch's pictures that lie in one chunk of the data set, and
// its weights' gradient by them: a word a pixel where x has four floats, and of these the fourth, which is always 0, is neither loaded nor
// multiplied.

@group(0) @binding(1) var<storage, read> words: array<u32>; // (chunk_len, in_h, in_w): R | G << 8 | B << 16
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, 4, out_c)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (out_c)
@group(0) @binding(4) var<storage, read> order: array<u32>; // (pictures)
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(6) var<storage, read_write> argmax: array<u32>; // (batch, out_h/2, out_w/2, out_c/4), a byte per channel

// y[n,py,px,co] = max of relu(conv2d(x))[n, 2py..2py+2, 2px..2px+2, co], x = (R, G, B) times fl32(1/255); argmax = its place in the window, row-major, or 4 if y is 0, where a gradient follows (splits > 0); of the pictures in this chunk
@compute @workgroup_size(64)
fn forward_pictures(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    // Behind the last block it is looked at once more, and not stored.
    if (picture_of(min(picture_of_block(id), dims.batch - 1u)) < dims.chunk_len) {
        store_windows(id);
    }
}

@group(0) @binding(2) var<storage, read> pooled_dy: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(3) var<storage, read> taken: array<u32>; // the forward's argmax
@group(0) @binding(5) var<storage, read_write> partial: array<vec4<f32>>; // (splits, k_h*k_w*4 + 1, out_c), bias last

// The pixel of a window that each of 4 output channels took: column o is the x under channel o's place.
fn under(place: vec4<u32>, x00: vec3<f32>, x01: vec3<f32>, x10: vec3<f32>, x11: vec3<f32>) -> mat4x3<f32> {
    return mat4x3<f32>(pick(place.x, x00, x01, x10, x11), pick(place.y, x00, x01, x10, x11),
        pick(place.z, x00, x01, x10, x11), pick(place.w, x00, x01, x10, x11));
}

fn pick(place: u32, x00: vec3<f32>, x01: vec3<f32>, x10: vec3<f32>, x11: vec3<f32>) -> vec3<f32> {
    let upper = select(x00, x01, place == 1u);
    let lower = select(x10, x11, place == 3u);
    return select(upper, lower, place >= 2u);
}

// Column o of `u` times channel o of g: what a window adds to 3 input by 4 output channels of one tap.
fn scaled(u: mat4x3<f32>, g: vec4<f32>) -> mat4x3<f32> {
    return mat4x3<f32>(u[0] * g.x, u[1] * g.y, u[2] * g.z, u[3] * g.w);
}

fn store_tap(split: u32, tap: u32, co: u32, value: mat4x3<f32>) {
    let out_c4 = dims.out_c / 4u;
    let rows = dims.k_h * dims.k_w * 4u + 1u;
    let at = (split * rows + tap * 4u) * out_c4 + co;
    let by_input = transpose(value);
    partial[at] = by_input[0];
    partial[at + out_c4] = by_input[1];
    partial[at + 2u * out_c4] = by_input[2];
    partial[at + 3u * out_c4] = vec4<f32>();
}

// partial[s,ky,kx,ci,co] = sum over split s's rows of windows of (R, G, B, 0) times fl32(1/255) under the taken place, shifted by the tap, [ci] * dy[window,co], of the pictures in this chunk
// Three neighbouring taps by 3 x 4 channels per invocation.
@compute @workgroup_size(64)
fn backward_weight_pictures(@builtin(global_invocation_id) gid: vec3<u32>) {
    let out_c4 = dims.out_c / 4u;
    let pool_h = dims.out_h / 2u;
    let pool_w = dims.out_w / 2u;
    let x_blocks = (dims.k_w + 2u) / 3u;
    let id = linear_id(gid);
    let co = id % out_c4;
    let kx = (id / out_c4) % x_blocks * 3u;
    let ky = (id / (out_c4 * x_blocks)) % dims.k_h;
    let split = id / (out_c4 * x_blocks * dims.k_h);
    var tap0 = mat4x3<f32>();
    var tap1 = mat4x3<f32>();
    var tap2 = mat4x3<f32>();
    var bias_sum = vec4<f32>();
    let last = min((split + 1u) * dims.rows_per_split, dims.batch * pool_h);
    for (var row = split * dims.rows_per_split; row < last; row++) {
        let n = row / pool_h;
        let picture = picture_of(n);
        if (picture >= dims.chunk_len) {
            // All of its rows at once: llvmpipe goes through a loop's body before it finds that there is nothing to do.
            row = (n + 1u) * pool_h - 1u;
            continue;
        }
        let iy = i32(row % pool_h * 2u + ky) - i32(dims.pad_top);
        let ix = i32(kx) - i32(dims.pad_left);
        // Upper and lower row of pixels, columns 0 and 1 of four; the next window begins two columns on.
        var u0 = x_at(picture, iy, ix);
        var u1 = x_at(picture, iy, ix + 1);
        var l0 = x_at(picture, iy + 1, ix);
        var l1 = x_at(picture, iy + 1, ix + 1);
        for (var px = 0u; px < pool_w; px++) {
            let at = (row * pool_w + px) * out_c4 + co;
            let place = places(taken[at]);
            let g = select(pooled_dy[at], vec4<f32>(), place > vec4<u32>(3u));
            let right = ix + i32(px) * 2;
            let u2 = x_at(picture, iy, right + 2);
            let u3 = x_at(picture, iy, right + 3);
            let l2 = x_at(picture, iy + 1, right + 2);
            let l3 = x_at(picture, iy + 1, right + 3);
            tap0 += scaled(under(place, u0, u1, l0, l1), g);
            tap1 += scaled(under(place, u1, u2, l1, l2), g);
            tap2 += scaled(under(place, u2, u3, l2, l3), g);
            bias_sum += g;
            u0 = u2;
            u1 = u3;
            l0 = l2;
            l1 = l3;
        }
    }
    if (split < dims.splits) {
        let tap = ky * dims.k_w + kx;
        store_tap(split, tap, co, tap0);
        if (kx + 1u < dims.k_w) { store_tap(split, tap + 1u, co, tap1); }
        if (kx + 2u < dims.k_w) { store_tap(split, tap + 2u, co, tap2); }
        if (tap == 0u) {
            let rows = dims.k_h * dims.k_w * 4u + 1u;
            partial[(split * rows + rows - 1u) * out_c4 + co] = bias_sum;
        }
    }
}
