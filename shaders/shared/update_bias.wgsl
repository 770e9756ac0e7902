// Adam's update (shared/adam.wgsl) of four values of the including file's bias `b`, whose moments are `bm` and `bv`.
fn update_bias(j: u32, g: vec4<f32>) {
    let next = adam(g, bm[j], bv[j]);
    bm[j] = next.m;
    bv[j] = next.v;
    b[j] -= next.delta;
}
