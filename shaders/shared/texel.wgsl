// Where the i-th texel of a tensor lies in the texture that the player copies it to, row after row.
fn texel(i: u32) -> vec2<u32> {
    return vec2<u32>(i & 4095u, i >> 12u);
}
