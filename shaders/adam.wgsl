// Adam as Keras computes it: epsilon outside the bias correction, the step size alpha made on the host.
struct Dims {
    len: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> grad: array<vec4<f32>>; // (len)
@group(0) @binding(3) var<storage, read_write> weight: array<vec4<f32>>; // (len)
@group(0) @binding(4) var<storage, read_write> m: array<vec4<f32>>; // (len)
@group(0) @binding(5) var<storage, read_write> v: array<vec4<f32>>; // (len)

// m += (g - m)(1 - beta1); v += (g g - v)(1 - beta2); weight -= m alpha / (sqrt(v) + epsilon)
@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    if (id < dims.len / 4u) {
        let g = grad[id];
        let m_new = m[id] + (g - m[id]) * step.one_minus_beta1;
        let v_new = v[id] + (g * g - v[id]) * step.one_minus_beta2;
        m[id] = m_new;
        v[id] = v_new;
        weight[id] -= (m_new * step.alpha) / (sqrt(v_new) + step.epsilon);
    }
}
