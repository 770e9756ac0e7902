// One number per invocation of a 1-D grid that may be folded into 2-D (src/kernel.rs, `grid`).
fn linear_id(gid: vec3<u32>, groups: vec3<u32>) -> u32 {
    return gid.y * (groups.x * 64u) + gid.x;
}
