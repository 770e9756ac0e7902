// The inner loop that conv2d.wgsl, conv2d_relu_maxpool2x2.wgsl and conv2d_relu_map.wgsl share: a register block of 2 x 4 output pixels by 8 channels.
// It reads the including file's `weight`, and `x` by shared/x_at.wgsl.
struct Block {
    a: array<vec4<f32>, 8>, // channels 4*co .. of pixel row*4 + column
    b: array<vec4<f32>, 8>, // the four channels after them
}

// block[p] += sum_{ky,kx,ci} x[n, oy+row+ky-pad_top, ox+col+kx-pad_left, ci] * weight[ky, kx, ci, :]
fn correlate(n: u32, oy: u32, ox: u32, co_a: u32, co_b: u32, block: ptr<function, Block>) {
    let in_c4 = dims.in_c / 4u;
    let out_c4 = dims.out_c / 4u;
    for (var ky = 0u; ky < dims.k_h; ky++) {
        let iy = i32(oy + ky) - i32(dims.pad_top);
        for (var kx = 0u; kx < dims.k_w; kx++) {
            let ix = i32(ox + kx) - i32(dims.pad_left);
            for (var ci = 0u; ci < in_c4; ci++) {
                let row = ((ky * dims.k_w + kx) * dims.in_c + ci * 4u) * out_c4;
                let wa = mat4x4<f32>(weight[row + co_a], weight[row + out_c4 + co_a],
                    weight[row + 2u * out_c4 + co_a], weight[row + 3u * out_c4 + co_a]);
                let wb = mat4x4<f32>(weight[row + co_b], weight[row + out_c4 + co_b],
                    weight[row + 2u * out_c4 + co_b], weight[row + 3u * out_c4 + co_b]);
                let x0 = x_at(n, iy, ix, ci);
                let x1 = x_at(n, iy, ix + 1, ci);
                let x2 = x_at(n, iy, ix + 2, ci);
                let x3 = x_at(n, iy, ix + 3, ci);
                let x4 = x_at(n, iy + 1, ix, ci);
                let x5 = x_at(n, iy + 1, ix + 1, ci);
                let x6 = x_at(n, iy + 1, ix + 2, ci);
                let x7 = x_at(n, iy + 1, ix + 3, ci);
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
}
