// The workgroups that a dispatch plays: the kernel's whole grid, or a slice of it where the whole would take so long that a driver
// ends it (src/player/pace.rs).
struct Slice {
    first: vec3<u32>,  // the grid's workgroup that is the dispatch's (0, 0, 0)
    groups: vec3<u32>, // workgroups of the whole grid
}

@group(0) @binding(15) var<uniform> slice: Slice;

// One number per invocation of a 1-D grid that may be folded into 2-D (src/kernel.rs, `grid`).
fn linear_id(gid: vec3<u32>) -> u32 {
    return ((slice.first.y + gid.y) * slice.groups.x + slice.first.x) * 64u + gid.x;
}
