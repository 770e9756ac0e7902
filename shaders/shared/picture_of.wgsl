// Where a batch's pictures lie in a resident chunk of the data set. It calls shared/ordered.wgsl.

// The place in the chunk of the batch's picture n: dims.chunk_len or more if it lies in another one.
fn picture_of(n: u32) -> u32 {
    return ordered(dims.offset + n) - dims.chunk_first;
}
