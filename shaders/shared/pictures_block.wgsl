// The inner loop that conv2d_relu_maxpool2x2_pictures.wgsl and conv2d_relu_map_pictures.wgsl share: as shared/conv2d_block.wgsl, on a word a
// pixel where x has four floats, of which the fourth, which is always 0, is neither loaded nor multiplied. It reads the including file's `words` and
// `weight` and calls shared/picture_of.wgsl and shared/rescaled.wgsl. A weight gradient uses its `x_at`.

// The picture at a position that may lie in the padding, where it is 0.
fn x_at(picture: u32, iy: i32, ix: i32) -> vec3<f32> {
    let inside = iy >= 0 && iy < i32(dims.in_h) && ix >= 0 && ix < i32(dims.in_w);
    let u = u32(clamp(iy, 0, i32(dims.in_h) - 1));
    let v = u32(clamp(ix, 0, i32(dims.in_w) - 1));
    let word = select(0u, words[(picture * dims.in_h + u) * dims.in_w + v], inside);
    return vec3<f32>(rescaled(word, 0u), rescaled(word, 8u), rescaled(word, 16u));
}

struct Block {
    a: array<vec4<f32>, 8>, // channels 4*co .. of pixel row*4 + column
    b: array<vec4<f32>, 8>, // the four channels after them
}

// block[p] += sum_{ky,kx,ci<3} x[n, oy+row+ky-pad_top, ox+col+kx-pad_left, ci] * weight[ky, kx, ci, :]
fn correlate(n: u32, oy: u32, ox: u32, co_a: u32, co_b: u32, block: ptr<function, Block>) {
    let out_c4 = dims.out_c / 4u;
    let picture = picture_of(n);
    for (var ky = 0u; ky < dims.k_h; ky++) {
        let iy = i32(oy + ky) - i32(dims.pad_top);
        for (var kx = 0u; kx < dims.k_w; kx++) {
            let ix = i32(ox + kx) - i32(dims.pad_left);
            let row = (ky * dims.k_w + kx) * 4u * out_c4;
            let wa = mat3x4<f32>(weight[row + co_a], weight[row + out_c4 + co_a], weight[row + 2u * out_c4 + co_a]);
            let wb = mat3x4<f32>(weight[row + co_b], weight[row + out_c4 + co_b], weight[row + 2u * out_c4 + co_b]);
            let x0 = x_at(picture, iy, ix);
            let x1 = x_at(picture, iy, ix + 1);
            let x2 = x_at(picture, iy, ix + 2);
            let x3 = x_at(picture, iy, ix + 3);
            let x4 = x_at(picture, iy + 1, ix);
            let x5 = x_at(picture, iy + 1, ix + 1);
            let x6 = x_at(picture, iy + 1, ix + 2);
            let x7 = x_at(picture, iy + 1, ix + 3);
            (*block).a[0] += wa * x0;
            (*block).b[0] += wb * x0;
            (*block).a[1] += wa * x1;
            (*block).b[1] += wb * x1;
            (*block).a[2] += wa * x2;
            (*block).b[2] += wb * x2;
            (*block).a[3] += wa * x3;
            (*block).b[3] += wb * x3;
            (*block).a[4] += wa * x4;
            (*block).b[4] += wb * x4;
            (*block).a[5] += wa * x5;
            (*block).b[5] += wb * x5;
            (*block).a[6] += wa * x6;
            (*block).b[6] += wb * x6;
            (*block).a[7] += wa * x7;
            (*block).b[7] += wb * x7;
        }
    }
}
