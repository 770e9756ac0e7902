// A word of four places, one per channel; 4 is the code of a window that the relu has closed.
fn places(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
}
