// The byte of a word that begins at bit `at` as the float that Keras makes of it, times fl32(1/255): dividing by 255 differs in 126 of
// 256 values. By way of i32, which CPUs make floats of in one instruction.
fn rescaled(word: u32, at: u32) -> f32 {
    return f32(i32((word >> at) & 255u)) * 0.003921569;
}
