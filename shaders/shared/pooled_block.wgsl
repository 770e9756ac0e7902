// What conv2d_relu_maxpool2x2.wgsl and conv2d_relu_maxpool2x2_pictures.wgsl do with a register block: it is two windows side by side. It
// makes a `Block` by `correlate`, of shared/conv2d_block.wgsl or shared/pictures_block.wgsl, and calls shared/store_window.wgsl.

// Blocks of a picture: of channels, side by side, below each other.
fn blocks() -> vec3<u32> {
    return vec3<u32>((dims.out_c / 4u + 1u) / 2u, (dims.out_w / 2u + 1u) / 2u, dims.out_h / 2u);
}

// The batch's picture that has the `id`-th block.
fn picture_of_block(id: u32) -> u32 {
    let of_each = blocks();
    return id / (of_each.x * of_each.y * of_each.z);
}

// The windows of the `id`-th block.
fn store_windows(id: u32) {
    let of_each = blocks();
    let co_a = (id % of_each.x) * 2u;
    let co_b = min(co_a + 1u, dims.out_c / 4u - 1u);
    let px = (id / of_each.x) % of_each.y * 2u;
    let py = (id / (of_each.x * of_each.y)) % of_each.z;
    let n = picture_of_block(id);
    var block = Block();
    correlate(min(n, dims.batch - 1u), py * 2u, px * 2u, co_a, co_b, &block);
    store_window(n, py, px, co_a, block.a[0], block.a[1], block.a[4], block.a[5]);
    store_window(n, py, px + 1u, co_a, block.a[2], block.a[3], block.a[6], block.a[7]);
    if (co_b != co_a) {
        store_window(n, py, px, co_b, block.b[0], block.b[1], block.b[4], block.b[5]);
        store_window(n, py, px + 1u, co_b, block.b[2], block.b[3], block.b[6], block.b[7]);
    }
}
