// One update of a parameter (shared/adam.wgsl).

@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>; // (len)
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>; // (len)
@group(0) @binding(3) var<storage, read_write> m: array<vec4<f32>>; // (len)
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>; // (len)

// m += (g - m)(1 - beta1); v += (g g - v)(1 - beta2); weight -= m alpha / (sqrt(v) + epsilon)
@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.len / 4u) {
        let next = adam(grad[id], m[id], v[id]);
        m[id] = next.m;
        v[id] = next.v;
        weight[id] -= next.delta;
    }
}
