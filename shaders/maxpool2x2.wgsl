// 2x2 max-pooling of stride 2, valid: an odd last row or column is dropped.

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>; // (batch, in_h, in_w, c)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // (batch, in_h/2, in_w/2, c)
@group(0) @binding(3) var<storage, read_write> argmax: array<u32>; // (batch, in_h/2, in_w/2, c/4), a byte per channel

// y[n,py,px,c] = max of x[n, 2py..2py+2, 2px..2px+2, c]; argmax = the first maximum's place in row-major order
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let c4 = dims.c / 4u;
    let pool_h = dims.in_h / 2u;
    let pool_w = dims.in_w / 2u;
    let id = linear_id(gid);
    let c = id % c4;
    let px = (id / c4) % pool_w;
    let py = (id / (c4 * pool_w)) % pool_h;
    let n = id / (c4 * pool_w * pool_h);
    let at = ((min(n, dims.batch - 1u) * dims.in_h + 2u * py) * dims.in_w + 2u * px) * c4 + c;
    let down = dims.in_w * c4;
    let x1 = x[at + c4];
    let x2 = x[at + down];
    let x3 = x[at + down + c4];
    var m = x[at];
    var code = vec4<u32>();
    code = select(code, vec4<u32>(1u), x1 > m);
    m = max(m, x1);
    code = select(code, vec4<u32>(2u), x2 > m);
    m = max(m, x2);
    code = select(code, vec4<u32>(3u), x3 > m);
    m = max(m, x3);
    if (n < dims.batch) {
        y[id] = m;
        argmax[id] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
    }
}

@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>; // (batch, in_h/2, in_w/2, c)
@group(0) @binding(2) var<storage, read> taken: array<u32>; // the forward's argmax
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>; // (batch, in_h, in_w, c)

// dx[n,y,x,c] = dy of its window where argmax points at (y,x), else 0
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let c4 = dims.c / 4u;
    let pool_h = dims.in_h / 2u;
    let pool_w = dims.in_w / 2u;
    let id = linear_id(gid);
    let c = id % c4;
    let ix = (id / c4) % dims.in_w;
    let iy = (id / (c4 * dims.in_w)) % dims.in_h;
    let n = id / (c4 * dims.in_w * dims.in_h);
    let py = min(iy / 2u, pool_h - 1u);
    let px = min(ix / 2u, pool_w - 1u);
    let at = ((min(n, dims.batch - 1u) * pool_h + py) * pool_w + px) * c4 + c;
    let codes = places(taken[at]);
    let here = vec4<u32>((iy - 2u * py) * 2u + (ix - 2u * px));
    if (n < dims.batch) {
        // The odd last row or column belongs to no window.
        let inside = iy < pool_h * 2u && ix < pool_w * 2u;
        dx[id] = select(vec4<f32>(), dy[at], (codes == here) & vec4<bool>(inside));
    }
}
