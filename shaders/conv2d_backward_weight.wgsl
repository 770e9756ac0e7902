// The weight and bias gradients of conv2d: partial sums over runs of output rows, then a sum in fixed order, stored
// or taken by Adam.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, in_c)
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>; // (batch, out_h, out_w, out_c)
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>; // (splits, k_h*k_w*in_c + 1, out_c), bias last

// The rank-1 update of 4 input by 4 output channels: columns are input channels.
fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

fn store_tap(split: u32, tap: u32, ci: u32, co: u32, value: mat4x4<f32>) {
    let out_c4 = dims.out_c / 4u;
    let rows = dims.k_h * dims.k_w * dims.in_c + 1u;
    let at = (split * rows + tap * dims.in_c + ci * 4u) * out_c4 + co;
    partial[at] = value[0];
    partial[at + out_c4] = value[1];
    partial[at + 2u * out_c4] = value[2];
    partial[at + 3u * out_c4] = value[3];
}

// partial[s,ky,kx,ci,co] = sum over the output rows of split s of x[n, oy+ky-pad_top, ox+kx-pad_left, ci] * dy[n,oy,ox,co]
// Three neighbouring taps by 4 x 8 channels per invocation: a pixel of x, once loaded, serves all three.
@compute @workgroup_size(64)
fn backward_weight(@builtin(global_invocation_id) gid: vec3<u32>) {
    let in_c4 = dims.in_c / 4u;
    let out_c4 = dims.out_c / 4u;
    let c_blocks = (out_c4 + 1u) / 2u;
    let x_blocks = (dims.k_w + 2u) / 3u;
    let id = linear_id(gid);
    let co_a = (id % c_blocks) * 2u;
    let co_b = min(co_a + 1u, out_c4 - 1u);
    let ci = (id / c_blocks) % in_c4;
    let kx = (id / (c_blocks * in_c4)) % x_blocks * 3u;
    let ky = (id / (c_blocks * in_c4 * x_blocks)) % dims.k_h;
    let split = id / (c_blocks * in_c4 * x_blocks * dims.k_h);
    var a0 = mat4x4<f32>();
    var a1 = mat4x4<f32>();
    var a2 = mat4x4<f32>();
    var b0 = mat4x4<f32>();
    var b1 = mat4x4<f32>();
    var b2 = mat4x4<f32>();
    var bias_a = vec4<f32>();
    var bias_b = vec4<f32>();
    let last = min((split + 1u) * dims.rows_per_split, dims.batch * dims.out_h);
    for (var row = split * dims.rows_per_split; row < last; row++) {
        let n = row / dims.out_h;
        let iy = i32(row % dims.out_h + ky) - i32(dims.pad_top);
        let ix = i32(kx) - i32(dims.pad_left);
        var x0 = x_at(n, iy, ix, ci);
        var x1 = x_at(n, iy, ix + 1, ci);
        for (var ox = 0u; ox < dims.out_w; ox++) {
            let x2 = x_at(n, iy, ix + i32(ox) + 2, ci);
            let at = (row * dims.out_w + ox) * out_c4;
            let da = dy[at + co_a];
            let db = dy[at + co_b];
            a0 += outer(x0, da);
            a1 += outer(x1, da);
            a2 += outer(x2, da);
            b0 += outer(x0, db);
            b1 += outer(x1, db);
            b2 += outer(x2, db);
            bias_a += da;
            bias_b += db;
            x0 = x1;
            x1 = x2;
        }
    }
    if (split < dims.splits) {
        let tap = ky * dims.k_w + kx;
        let second = kx + 1u < dims.k_w;
        let third = kx + 2u < dims.k_w;
        store_tap(split, tap, ci, co_a, a0);
        if (second) { store_tap(split, tap + 1u, ci, co_a, a1); }
        if (third) { store_tap(split, tap + 2u, ci, co_a, a2); }
        if (co_b != co_a) {
            store_tap(split, tap, ci, co_b, b0);
            if (second) { store_tap(split, tap + 1u, ci, co_b, b1); }
            if (third) { store_tap(split, tap + 2u, ci, co_b, b2); }
        }
        if (tap == 0u && ci == 0u) {
            let rows = dims.k_h * dims.k_w * dims.in_c + 1u;
            partial[(split * rows + rows - 1u) * out_c4 + co_a] = bias_a;
            if (co_b != co_a) { partial[(split * rows + rows - 1u) * out_c4 + co_b] = bias_b; }
        }
    }
}

@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>; // (splits, k_h*k_w*in_c + 1, out_c)
@group(0) @binding(2) var<storage, read_write> dweight: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(3) var<storage, read_write> dbias: array<vec4<f32>>; // (out_c)

// Of all partial sums the element `at`, a weight's or, behind them, a bias's.
fn sum_of_splits(at: u32) -> vec4<f32> {
    let all = (dims.k_h * dims.k_w * dims.in_c + 1u) * (dims.out_c / 4u);
    var sum = vec4<f32>();
    for (var s = 0u; s < dims.splits; s++) {
        sum += sums[s * all + at];
    }
    return sum;
}

// dweight = sum_s partial[s], dbias likewise from the last row
@compute @workgroup_size(64)
fn reduce_weight(@builtin(global_invocation_id) gid: vec3<u32>) {
    let out_c4 = dims.out_c / 4u;
    let weights = dims.k_h * dims.k_w * dims.in_c * out_c4;
    let all = weights + out_c4;
    let id = linear_id(gid);
    let sum = sum_of_splits(min(id, all - 1u));
    if (id < weights) {
        dweight[id] = sum;
    } else if (id < all) {
        dbias[id - weights] = sum;
    }
}

@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>; // (k_h, k_w, in_c, out_c): weight
@group(0) @binding(3) var<storage, read_write> m: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>; // (k_h, k_w, in_c, out_c)
@group(0) @binding(5) var<storage, read_write> b: array<vec4<f32>>; // (out_c): bias
@group(0) @binding(6) var<storage, read_write> bm: array<vec4<f32>>; // (out_c)
@group(0) @binding(7) var<storage, read_write> bv: array<vec4<f32>>; // (out_c)

// g = sum_s partial[s]: Adam's update of w, m, v (see adam.update), and from the last row that of the bias's b, bm, bv
@compute @workgroup_size(64)
fn update_weight(@builtin(global_invocation_id) gid: vec3<u32>) {
    let out_c4 = dims.out_c / 4u;
    let weights = dims.k_h * dims.k_w * dims.in_c * out_c4;
    let all = weights + out_c4;
    let id = linear_id(gid);
    let g = sum_of_splits(min(id, all - 1u));
    let of_weight = min(id, weights - 1u);
    let of_bias = min(max(id, weights) - weights, out_c4 - 1u);
    let is_weight = id < weights;
    // One update for either: drivers on CPUs play both sides of a branch.
    let next = adam(g, select(bm[of_bias], m[of_weight], is_weight), select(bv[of_bias], v[of_weight], is_weight));
    if (is_weight) {
        m[id] = next.m;
        v[id] = next.v;
        w[id] -= next.delta;
    } else if (id < all) {
        bm[of_bias] = next.m;
        bv[of_bias] = next.v;
        b[of_bias] -= next.delta;
    }
}
