// What an adapter can do at best, for `wgradcam profile` to divide by: multiply-adds in registers, and a copy.

@group(0) @binding(1) var<storage, read> x: array<f32>; // (len)
@group(0) @binding(2) var<storage, read> line: array<f32>; // (2): scale and shift
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // (len)

// y[i] = sum of 12 chains k, each 4 rounds times a = a line[0] + line[1], from a = x[i] + k
@compute @workgroup_size(64)
fn flops(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    let start = vec4<f32>(x[min(id, dims.len - 1u)]);
    let scale = vec4<f32>(line[0]);
    let shift = vec4<f32>(line[1]);
    // Twelve chains hide the latency of an addition behind a multiplication, and their registers are fewer than AVX2's 16.
    var a = start + vec4<f32>(0.0, 1.0, 2.0, 3.0);
    var b = start + vec4<f32>(4.0, 5.0, 6.0, 7.0);
    var c = start + vec4<f32>(8.0, 9.0, 10.0, 11.0);
    for (var round = 0u; round < dims.rounds; round++) {
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
        a = fma(a, scale, shift);
        b = fma(b, scale, shift);
        c = fma(c, scale, shift);
    }
    let sum = a + b + c;
    if (id < dims.len) {
        y[id] = sum.x + sum.y + sum.z + sum.w;
    }
}

@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>; // (len)
@group(0) @binding(2) var<storage, read_write> copied: array<vec4<f32>>; // (len)

// copied[i] = source[i]
@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.len / 4u) {
        copied[id] = source[id];
    }
}
