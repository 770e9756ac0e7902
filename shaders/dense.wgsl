// y = x weight + bias and its gradients. Widths are multiples of 4 (zero-padded by the plan).

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_n)
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // (in_n, out_n)
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>; // (splits, batch, out_n)

fn store_partial(split: u32, b: u32, j: u32, value: vec4<f32>) {
    if (split < dims.splits && b < dims.batch) {
        partial[(split * dims.batch + b) * (dims.out_n / 4u) + j] = value;
    }
}

// partial[s,b,j] = sum over the inputs i of split s of x[b,i] * weight[i,j]
// 8 rows by 8 outputs per invocation; rows past the batch repeat the last one and are not stored.
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let in4 = dims.in_n / 4u;
    let out4 = dims.out_n / 4u;
    let j_blocks = (out4 + 1u) / 2u;
    let b_blocks = (dims.batch + 7u) / 8u;
    let id = linear_id(gid);
    let ja = (id % j_blocks) * 2u;
    let jb = min(ja + 1u, out4 - 1u);
    let b = (id / j_blocks) % b_blocks * 8u;
    let split = id / (j_blocks * b_blocks);
    let r0 = b * in4;
    let r1 = min(b + 1u, dims.batch - 1u) * in4;
    let r2 = min(b + 2u, dims.batch - 1u) * in4;
    let r3 = min(b + 3u, dims.batch - 1u) * in4;
    let r4 = min(b + 4u, dims.batch - 1u) * in4;
    let r5 = min(b + 5u, dims.batch - 1u) * in4;
    let r6 = min(b + 6u, dims.batch - 1u) * in4;
    let r7 = min(b + 7u, dims.batch - 1u) * in4;
    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var a4 = vec4<f32>();
    var a5 = vec4<f32>();
    var a6 = vec4<f32>();
    var a7 = vec4<f32>();
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    var c4 = vec4<f32>();
    var c5 = vec4<f32>();
    var c6 = vec4<f32>();
    var c7 = vec4<f32>();
    let last = min((split + 1u) * dims.per_split / 4u, in4);
    for (var i = split * dims.per_split / 4u; i < last; i++) {
        let row = i * 4u * out4;
        let wa = mat4x4<f32>(weight[row + ja], weight[row + out4 + ja], weight[row + 2u * out4 + ja], weight[row + 3u * out4 + ja]);
        let wb = mat4x4<f32>(weight[row + jb], weight[row + out4 + jb], weight[row + 2u * out4 + jb], weight[row + 3u * out4 + jb]);
        let x0 = x[r0 + i];
        let x1 = x[r1 + i];
        let x2 = x[r2 + i];
        let x3 = x[r3 + i];
        let x4 = x[r4 + i];
        let x5 = x[r5 + i];
        let x6 = x[r6 + i];
        let x7 = x[r7 + i];
        a0 += wa * x0;
        a1 += wa * x1;
        a2 += wa * x2;
        a3 += wa * x3;
        a4 += wa * x4;
        a5 += wa * x5;
        a6 += wa * x6;
        a7 += wa * x7;
        c0 += wb * x0;
        c1 += wb * x1;
        c2 += wb * x2;
        c3 += wb * x3;
        c4 += wb * x4;
        c5 += wb * x5;
        c6 += wb * x6;
        c7 += wb * x7;
    }
    store_partial(split, b, ja, a0);
    store_partial(split, b + 1u, ja, a1);
    store_partial(split, b + 2u, ja, a2);
    store_partial(split, b + 3u, ja, a3);
    store_partial(split, b + 4u, ja, a4);
    store_partial(split, b + 5u, ja, a5);
    store_partial(split, b + 6u, ja, a6);
    store_partial(split, b + 7u, ja, a7);
    if (jb != ja) {
        store_partial(split, b, jb, c0);
        store_partial(split, b + 1u, jb, c1);
        store_partial(split, b + 2u, jb, c2);
        store_partial(split, b + 3u, jb, c3);
        store_partial(split, b + 4u, jb, c4);
        store_partial(split, b + 5u, jb, c5);
        store_partial(split, b + 6u, jb, c6);
        store_partial(split, b + 7u, jb, c7);
    }
}

@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>; // (splits, batch, out_n)
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>; // (out_n)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // (batch, out_n)

// y[b,j] = relu?(bias[j] + sum_s partial[s,b,j])
@compute @workgroup_size(64)
fn reduce(@builtin(global_invocation_id) gid: vec3<u32>) {
    let out4 = dims.out_n / 4u;
    let all = dims.batch * out4;
    let id = linear_id(gid);
    let at = min(id, all - 1u);
    var sum = vec4<f32>();
    for (var s = 0u; s < dims.splits; s++) {
        sum += sums[s * all + at];
    }
    if (id < all) {
        let z = sum + bias[id % out4];
        y[id] = select(z, vec4<f32>(), (z < vec4<f32>()) & vec4<bool>(dims.relu != 0u));
    }
}

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, out_n)
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>; // (batch, in_n)

fn store_dx(b: u32, i: u32, value: vec4<f32>) {
    if (b < dims.batch) {
        dx[b * (dims.in_n / 4u) + i] = value;
    }
}

// dx[b,i] = sum_j dy[b,j] * weight[i,j]
// 8 rows by 4 inputs per invocation.
@compute @workgroup_size(64)
fn backward_input(@builtin(global_invocation_id) gid: vec3<u32>) {
    let in4 = dims.in_n / 4u;
    let out4 = dims.out_n / 4u;
    let id = linear_id(gid);
    let i = id % in4;
    let b = id / in4 * 8u;
    let r0 = min(b, dims.batch - 1u) * out4;
    let r1 = min(b + 1u, dims.batch - 1u) * out4;
    let r2 = min(b + 2u, dims.batch - 1u) * out4;
    let r3 = min(b + 3u, dims.batch - 1u) * out4;
    let r4 = min(b + 4u, dims.batch - 1u) * out4;
    let r5 = min(b + 5u, dims.batch - 1u) * out4;
    let r6 = min(b + 6u, dims.batch - 1u) * out4;
    let r7 = min(b + 7u, dims.batch - 1u) * out4;
    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var a4 = vec4<f32>();
    var a5 = vec4<f32>();
    var a6 = vec4<f32>();
    var a7 = vec4<f32>();
    for (var j = 0u; j < out4; j++) {
        let row = i * 4u * out4 + j;
        let w = mat4x4<f32>(weight[row], weight[row + out4], weight[row + 2u * out4], weight[row + 3u * out4]);
        a0 += dy[r0 + j] * w;
        a1 += dy[r1 + j] * w;
        a2 += dy[r2 + j] * w;
        a3 += dy[r3 + j] * w;
        a4 += dy[r4 + j] * w;
        a5 += dy[r5 + j] * w;
        a6 += dy[r6 + j] * w;
        a7 += dy[r7 + j] * w;
    }
    store_dx(b, i, a0);
    store_dx(b + 1u, i, a1);
    store_dx(b + 2u, i, a2);
    store_dx(b + 3u, i, a3);
    store_dx(b + 4u, i, a4);
    store_dx(b + 5u, i, a5);
    store_dx(b + 6u, i, a6);
    store_dx(b + 7u, i, a7);
}

@group(0) @binding(2) var<storage, read> grad: array<vec4<f32>>; // (batch, out_n): dy
@group(0) @binding(3) var<storage, read_write> dweight: array<vec4<f32>>; // (in_n, out_n)
@group(0) @binding(4) var<storage, read_write> dbias: array<vec4<f32>>; // (out_n)

fn store_dweight(i: u32, j: u32, value: mat4x4<f32>) {
    let out4 = dims.out_n / 4u;
    let at = i * 4u * out4 + j;
    dweight[at] = value[0];
    dweight[at + out4] = value[1];
    dweight[at + 2u * out4] = value[2];
    dweight[at + 3u * out4] = value[3];
}

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

// The gradients of 4 inputs' weights to 8 outputs, and of these outputs' biases.
struct WeightBlock {
    i: u32, // of the 4 inputs, in fours
    ja: u32, // of the outputs, in fours
    jb: u32, // ja where there are only 4
    wa: mat4x4<f32>,
    wb: mat4x4<f32>,
    bias_a: vec4<f32>,
    bias_b: vec4<f32>,
}

fn weight_block(id: u32) -> WeightBlock {
    let in4 = dims.in_n / 4u;
    let out4 = dims.out_n / 4u;
    let j_blocks = (out4 + 1u) / 2u;
    let ja = (id % j_blocks) * 2u;
    let jb = min(ja + 1u, out4 - 1u);
    let i = id / j_blocks;
    let i_read = min(i, in4 - 1u);
    var wa = mat4x4<f32>();
    var wb = mat4x4<f32>();
    var bias_a = vec4<f32>();
    var bias_b = vec4<f32>();
    for (var b = 0u; b < dims.batch; b++) {
        let xb = x[b * in4 + i_read];
        let da = grad[b * out4 + ja];
        let db = grad[b * out4 + jb];
        wa += outer(xb, da);
        wb += outer(xb, db);
        bias_a += da;
        bias_b += db;
    }
    return WeightBlock(i, ja, jb, wa, wb, bias_a, bias_b);
}

// dweight[i,j] = sum_b x[b,i] * dy[b,j]; dbias[j] = sum_b dy[b,j]
@compute @workgroup_size(64)
fn backward_weight(@builtin(global_invocation_id) gid: vec3<u32>) {
    let block = weight_block(linear_id(gid));
    if (block.i < dims.in_n / 4u) {
        store_dweight(block.i, block.ja, block.wa);
        if (block.jb != block.ja) { store_dweight(block.i, block.jb, block.wb); }
        if (block.i == 0u) {
            dbias[block.ja] = block.bias_a;
            if (block.jb != block.ja) { dbias[block.jb] = block.bias_b; }
        }
    }
}

@group(0) @binding(3) var<storage, read_write> w: array<vec4<f32>>; // (in_n, out_n): weight
@group(0) @binding(4) var<storage, read_write> m: array<vec4<f32>>; // (in_n, out_n)
@group(0) @binding(5) var<storage, read_write> v: array<vec4<f32>>; // (in_n, out_n)
@group(0) @binding(6) var<storage, read_write> b: array<vec4<f32>>; // (out_n): bias
@group(0) @binding(7) var<storage, read_write> bm: array<vec4<f32>>; // (out_n)
@group(0) @binding(8) var<storage, read_write> bv: array<vec4<f32>>; // (out_n)

fn update_row(at: u32, g: vec4<f32>) {
    let next = adam(g, m[at], v[at]);
    m[at] = next.m;
    v[at] = next.v;
    w[at] -= next.delta;
}

fn update_rows(i: u32, j: u32, g: mat4x4<f32>) {
    let out4 = dims.out_n / 4u;
    let at = i * 4u * out4 + j;
    update_row(at, g[0]);
    update_row(at + out4, g[1]);
    update_row(at + 2u * out4, g[2]);
    update_row(at + 3u * out4, g[3]);
}

// g[i,j] = sum_b x[b,i] * dy[b,j]: Adam's update of w, m, v (see adam.update), and from sum_b dy[b,j] that of the bias's b, bm, bv
@compute @workgroup_size(64)
fn update_weight(@builtin(global_invocation_id) gid: vec3<u32>) {
    let block = weight_block(linear_id(gid));
    if (block.i < dims.in_n / 4u) {
        update_rows(block.i, block.ja, block.wa);
        if (block.jb != block.ja) { update_rows(block.i, block.jb, block.wb); }
        if (block.i == 0u) {
            update_bias(block.ja, block.bias_a);
            if (block.jb != block.ja) { update_bias(block.jb, block.bias_b); }
        }
    }
}
