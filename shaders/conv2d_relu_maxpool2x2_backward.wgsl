// The gradients of conv2d + bias + relu + 2x2 max-pool. dz, the gradient before the relu, is never stored: it is dy at the one
// place of each window that the forward took, and 0 at the three others.

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(2) var<storage, read> argmax: array<u32>; // (batch, out_h/2, out_w/2, out_c/4), a byte per channel
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>; // (batch, in_h, in_w, in_c)

// dx[n,iy,ix,ci] = sum_{ky,kx,co} dz[n, iy+pad_top-ky, ix+pad_left-kx, co] * weight[ky,kx,ci,co]
@compute @workgroup_size(64)
fn backward_input(@builtin(global_invocation_id) gid: vec3<u32>) {
    store_input_block(linear_id(gid));
}

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, in_c)
@group(0) @binding(2) var<storage, read> pooled_dy: array<vec4<f32>>; // (batch, out_h/2, out_w/2, out_c)
@group(0) @binding(3) var<storage, read> taken: array<u32>; // the forward's argmax
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>; // (splits, k_h*k_w*in_c + 1, out_c), bias last

// The pixel of a window, 4 input channels, that each of 4 output channels took: column o is the x under channel o's place.
fn under(place: vec4<u32>, x00: vec4<f32>, x01: vec4<f32>, x10: vec4<f32>, x11: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(pick(place.x, x00, x01, x10, x11), pick(place.y, x00, x01, x10, x11),
        pick(place.z, x00, x01, x10, x11), pick(place.w, x00, x01, x10, x11));
}

fn pick(place: u32, x00: vec4<f32>, x01: vec4<f32>, x10: vec4<f32>, x11: vec4<f32>) -> vec4<f32> {
    let upper = select(x00, x01, place == 1u);
    let lower = select(x10, x11, place == 3u);
    return select(upper, lower, place >= 2u);
}

// Column o of `u` times channel o of g: what a window adds to 4 input by 4 output channels of one tap.
fn scaled(u: mat4x4<f32>, g: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(u[0] * g.x, u[1] * g.y, u[2] * g.z, u[3] * g.w);
}

fn store_tap(split: u32, tap: u32, ci: u32, co: u32, value: mat4x4<f32>) {
    let out_c4 = dims.out_c / 4u;
    let rows = dims.k_h * dims.k_w * dims.in_c + 1u;
    let at = (split * rows + tap * dims.in_c + ci * 4u) * out_c4 + co;
    let by_input = transpose(value);
    partial[at] = by_input[0];
    partial[at + out_c4] = by_input[1];
    partial[at + 2u * out_c4] = by_input[2];
    partial[at + 3u * out_c4] = by_input[3];
}

// partial[s,ky,kx,ci,co] = sum over split s's rows of windows of x under the taken place, shifted by the tap, [ci] * dy[window,co]
// Three neighbouring taps by 4 x 4 channels per invocation; one multiplication where dz at full size would take four.
@compute @workgroup_size(64)
fn backward_weight(@builtin(global_invocation_id) gid: vec3<u32>) {
    let in_c4 = dims.in_c / 4u;
    let out_c4 = dims.out_c / 4u;
    let pool_h = dims.out_h / 2u;
    let pool_w = dims.out_w / 2u;
    let x_blocks = (dims.k_w + 2u) / 3u;
    let id = linear_id(gid);
    let co = id % out_c4;
    let ci = (id / out_c4) % in_c4;
    let kx = (id / (out_c4 * in_c4)) % x_blocks * 3u;
    let ky = (id / (out_c4 * in_c4 * x_blocks)) % dims.k_h;
    let split = id / (out_c4 * in_c4 * x_blocks * dims.k_h);
    var tap0 = mat4x4<f32>();
    var tap1 = mat4x4<f32>();
    var tap2 = mat4x4<f32>();
    var bias = vec4<f32>();
    let last = min((split + 1u) * dims.rows_per_split, dims.batch * pool_h);
    for (var row = split * dims.rows_per_split; row < last; row++) {
        let n = row / pool_h;
        let iy = i32(row % pool_h * 2u + ky) - i32(dims.pad_top);
        let ix = i32(kx) - i32(dims.pad_left);
        // Upper and lower row of pixels, columns 0 and 1 of four; the next window begins two columns on.
        var u0 = x_at(n, iy, ix, ci);
        var u1 = x_at(n, iy, ix + 1, ci);
        var l0 = x_at(n, iy + 1, ix, ci);
        var l1 = x_at(n, iy + 1, ix + 1, ci);
        for (var px = 0u; px < pool_w; px++) {
            let at = (row * pool_w + px) * out_c4 + co;
            let place = places(taken[at]);
            let g = select(pooled_dy[at], vec4<f32>(), place > vec4<u32>(3u));
            let right = ix + i32(px) * 2;
            let u2 = x_at(n, iy, right + 2, ci);
            let u3 = x_at(n, iy, right + 3, ci);
            let l2 = x_at(n, iy + 1, right + 2, ci);
            let l3 = x_at(n, iy + 1, right + 3, ci);
            tap0 += scaled(under(place, u0, u1, l0, l1), g);
            tap1 += scaled(under(place, u1, u2, l1, l2), g);
            tap2 += scaled(under(place, u2, u3, l2, l3), g);
            bias += g;
            u0 = u2;
            u1 = u3;
            l0 = l2;
            l1 = l3;
        }
    }
    if (split < dims.splits) {
        let tap = ky * dims.k_w + kx;
        store_tap(split, tap, ci, co, tap0);
        if (kx + 1u < dims.k_w) { store_tap(split, tap + 1u, ci, co, tap1); }
        if (kx + 2u < dims.k_w) { store_tap(split, tap + 2u, ci, co, tap2); }
        if (tap == 0u && ci == 0u) {
            let rows = dims.k_h * dims.k_w * dims.in_c + 1u;
            partial[(split * rows + rows - 1u) * out_c4 + co] = bias;
        }
    }
}
