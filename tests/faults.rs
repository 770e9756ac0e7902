//! The harness's own test: faults planted in the shaders' text, each of which the kernel test must catch.
//!
//! A fault is a text that stands once in a kernel's WGSL and what replaces it: an index, a dropped bias, `>` for `>=`. The
//! altered kernel must still be valid WGSL, and `verify` must say that it is wrong.

mod common;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use wgradcam::kernel::{self, Kernel};
use wgradcam::tune::{Contest, Tuner};
use wgradcam::verify;

/// Kernel, what stands in its text, what is put there.
type Fault = (&'static str, &'static str, &'static str);

/// Faults show in the small shapes; only a folded grid needs a large one.
const SMALL: usize = 60_000;

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    // gather.wgsl
    ("gather.forward", "picture < dims.chunk_len", "picture <= dims.chunk_len"),
    ("gather.forward", "b < dims.batch && ", ""),
    ("gather.forward", "id % dims.pixels", "0u"),
    ("gather.forward", "id / dims.pixels", "id % dims.batch"),
    ("gather.forward", "rescaled(word, 0u), rescaled(word, 8u)", "rescaled(word, 8u), rescaled(word, 0u)"),
    ("gather.forward", "rescaled(word, 16u), 0.0)", "rescaled(word, 16u), 1.0)"),
    // shared/ordered.wgsl, shared/picture_of.wgsl
    ("gather.forward", "step.first + place", "place"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "dims.pictures - 1u", "dims.pictures"),
    ("softmax_ce.forward", "step.first + place", "place"),
    ("gather.forward", " - dims.chunk_first", ""),
    ("gather.forward", "ordered(dims.offset + n)", "ordered(n)"),
    ("conv2d_relu_maxpool2x2.forward_pictures", " - dims.chunk_first", ""),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "ordered(dims.offset + n)", "ordered(n)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", " - dims.chunk_first", ""),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", " - dims.chunk_first", ""),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "ordered(dims.offset + n)", "ordered(n)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", " - dims.chunk_first", ""),
    // conv2d.wgsl
    ("conv2d.forward", "value + bias[co]", "value"),
    ("conv2d.forward", "dims.relu != 0u", "dims.relu == 0u"),
    ("conv2d.forward", "store_y(n, oy, ox + 2u, co_a, block.a[2])", "store_y(n, oy, ox + 2u, co_a, block.a[1])"),
    ("conv2d.forward", "store_y(n, oy + 1u, ox, co_b, block.b[4]);", ""),
    ("conv2d.forward", "if (oy < dims.out_h && ox", "if (oy <= dims.out_h && ox"),
    ("conv2d.forward", "ox < dims.out_w) {", "ox <= dims.out_w) {"),
    ("conv2d.forward", "let oy = (id / (c_blocks * x_blocks)) % y_blocks * 2u", "let oy = (id / (c_blocks * x_blocks)) % y_blocks"),
    ("conv2d.backward_input", "ox >= 0 && ox < i32(dims.out_w)", "ox >= 0"),
    ("conv2d.backward_input", "oy >= 0 && oy <", "oy <"),
    // conv2d_backward_weight.wgsl
    ("conv2d.backward_weight", "x0 = x1;", "x0 = x2;"),
    ("conv2d.backward_weight", " - i32(dims.pad_top)", ""),
    ("conv2d.backward_weight", " - i32(dims.pad_left)", ""),
    ("conv2d.backward_weight", "bias_b += db", "bias_b += da"),
    ("conv2d.backward_weight", "min((split + 1u) * dims.rows_per_split, dims.batch * dims.out_h)", "(split + 1u) * dims.rows_per_split"),
    ("conv2d.backward_weight", "var row = split * dims.rows_per_split", "var row = split * dims.rows_per_split + 1u"),
    ("conv2d.backward_weight", "a2 += outer(x2, da)", "a2 += outer(x2, db)"),
    ("conv2d.backward_weight", "if (third) { store_tap(split, tap + 2u, ci, co_a, a2); }", "store_tap(split, tap + 2u, ci, co_a, a2);"),
    ("conv2d.backward_weight", "= value[2]", "= value[1]"),
    ("conv2d.backward_weight", "ox < dims.out_w; ox++", "ox + 1u < dims.out_w; ox++"),
    ("conv2d.backward_weight", "i32(ox) + 2", "i32(ox) + 1"),
    ("conv2d.backward_weight", "tap == 0u && ci == 0u", "tap == 1u && ci == 0u"),
    ("conv2d.reduce_weight", "var s = 0u", "var s = 1u"),
    ("conv2d.reduce_weight", "sums[s * all + at]", "sums[s * all + at - s]"),
    ("conv2d.reduce_weight", "dims.in_c + 1u) * (dims.out_c", "dims.in_c) * (dims.out_c"),
    ("conv2d.reduce_weight", "dbias[id - weights] = sum", "dbias[id - weights] = -sum"),
    ("conv2d.update_weight", "var s = 0u", "var s = 1u"),
    ("conv2d.update_weight", "w[id] -= next.delta", "w[id] += next.delta"),
    ("conv2d.update_weight", "v[id] = next.v;", ""),
    ("conv2d.update_weight", "b[of_bias] -= next.delta", "b[of_bias] = -next.delta"),
    ("conv2d.update_weight", "select(bv[of_bias]", "select(bm[of_bias]"),
    // narrow/
    ("conv2d.update_weight/narrow", "min(s + {{ k * LANES }}u, last)", "min(s + {{ LANES }}u, last)"),
    ("conv2d.update_weight/narrow", "s + {{ k * LANES }}u <= last", "s + {{ k * LANES }}u < last"),
    ("conv2d.update_weight/narrow", "shares[id + {{ half * COLUMNS }}u]", "shares[id + {{ half }}u]"),
    ("conv2d.update_weight/narrow", "at < weights", "at <= weights"),
    ("conv2d.update_weight/narrow", "s += {{ 4 * LANES }}u", "s += {{ 3 * LANES }}u"),
    ("conv2d.update_weight/narrow", "update_bias(at - weights, sum)", "update_bias(at - weights, sum + sum)"),
    ("dense.forward/narrow", "i += {{ LANES }}u", "i += {{ LANES - 1 }}u"),
    ("dense.forward/narrow", "{{ r * OUT4 + j }}u", "{{ r * OUT4 }}u"),
    ("dense.forward/narrow", "[16, 8, 4, 2, 1]", "[16, 8, 4, 2]"),
    ("dense.forward/narrow", "b < dims.batch)", "b <= dims.batch)"),
    ("dense.forward/narrow", "(split * dims.batch + b)", "b"),
    ("dense.forward/narrow", "row, split * dims.per_split / 4u", "row, 0u"),
    ("dense.update_weight/narrow", "vec4<f32>(1.0, 0.0, 0.0, 0.0)", "vec4<f32>(0.0, 1.0, 0.0, 0.0)"),
    ("dense.update_weight/narrow", "n += {{ LANES }}u", "n += {{ LANES - 1 }}u"),
    ("dense.update_weight/narrow", "[64, 32, ", "[32, "),
    ("dense.update_weight/narrow", "row == dims.in_n", "row > dims.in_n"),
    ("dense.update_weight/narrow", "w[at] -= next.delta", "w[at] += next.delta"),
    ("dense.update_weight/narrow", "shares[lane * {{ LANES }}u]", "shares[lane]"),
    ("dense.update_weight/narrow", "{{ OUT4 }}u + {{ j }}u;", "{{ OUT4 }}u;"),
    ("dense.reduce/narrow", "min(s + {{ k * LANES }}u, last)", "min(s + {{ LANES }}u, last)"),
    ("dense.reduce/narrow", "s + {{ k * LANES }}u <= last", "s + {{ k * LANES }}u < last"),
    ("dense.reduce/narrow", "8, 4, 2, 1]", "8, 4, 2]"),
    ("dense.reduce/narrow", "s += {{ 4 * LANES }}u", "s += {{ 3 * LANES }}u"),
    ("dense.reduce/narrow", "at < all", "at <= all"),
    ("dense.reduce/narrow", "column % out4", "at % (out4 + 1u)"),
    ("bias_relu_dropout.forward/narrow", "min(s + {{ k * LANES }}u, last)", "min(s + {{ LANES }}u, last)"),
    ("bias_relu_dropout.forward/narrow", "s + {{ k * LANES }}u <= last", "s + {{ k * LANES }}u < last"),
    ("bias_relu_dropout.forward/narrow", "8, 4, 2, 1]", "8, 4, 2]"),
    ("bias_relu_dropout.forward/narrow", "at < all", "at <= all"),
    ("bias_relu_dropout.forward/narrow", "kept(4u * at + 2u)", "kept(4u * at + 1u)"),
    ("bias_relu_dropout.forward/narrow", "select(z, vec4<f32>(), z < vec4<f32>())", "z"),
    ("bias_relu_dropout.forward/narrow", "r * bitcast<f32>(dims.scale_bits)", "r"),
    ("bias_relu_dropout.forward/narrow", "dims.layer * 0x9E3779B9u", "dims.layer"),
    // shared/x_at.wgsl
    ("conv2d.backward_weight", "ix >= 0 && ix < i32(dims.in_w)", "ix < i32(dims.in_w)"),
    ("conv2d.forward", "iy < i32(dims.in_h)", "iy <= i32(dims.in_h)"),
    ("conv2d_relu_maxpool2x2.backward_weight", "iy >= 0 && iy", "iy"),
    // shared/conv2d_block.wgsl
    ("conv2d.forward", "x_at(n, iy + 1, ix + 2, ci)", "x_at(n, iy, ix + 2, ci)"),
    ("conv2d.forward", "(*block).b[3] += wb * x3", "(*block).b[3] += wa * x3"),
    ("conv2d.forward", "weight[row + out_c4 + co_b]", "weight[row + out_c4 + co_a]"),
    ("conv2d_relu_maxpool2x2.forward", "i32(oy + ky) - i32(dims.pad_top)", "i32(oy + ky)"),
    ("conv2d_relu_maxpool2x2.forward", "i32(ox + kx) - i32(dims.pad_left)", "i32(ox + kx) + i32(dims.pad_left)"),
    ("conv2d_relu_maxpool2x2.forward", "(*block).a[5] += wa * x5", "(*block).a[5] += x5 * wa"),
    // shared/conv2d_input_block.wgsl
    ("conv2d.backward_input", "i32(iy + dims.pad_top) - i32(ky)", "i32(iy + dims.pad_top) + i32(ky)"),
    ("conv2d.backward_input", "i32(ix + dims.pad_left)", "i32(ix)"),
    ("conv2d.backward_input", "weight[rb + 3u * out_c4]", "weight[rb + 2u * out_c4]"),
    ("conv2d.backward_input", "min(ca + 1u, in_c4 - 1u)", "ca"),
    ("conv2d.backward_input", "gradient_at(n_read, oy + 1, ox + 2, co)", "gradient_at(n_read, oy, ox + 2, co)"),
    ("conv2d.backward_input", "a0 += d0 * wa", "a0 += wa * d0"),
    ("conv2d.backward_input", "iy < dims.in_h && ix < dims.in_w", "iy < dims.in_h"),
    ("conv2d.backward_input", "let cb = min(ca + 1u, in_c4 - 1u);", "let cb = ca + 1u;"),
    ("conv2d_relu_maxpool2x2.backward_input", "i32(iy + dims.pad_top) - i32(ky)", "i32(iy + dims.pad_top) + i32(ky)"),
    ("conv2d_relu_maxpool2x2.backward_input", "i32(ix + dims.pad_left)", "i32(ix)"),
    ("conv2d_relu_maxpool2x2.backward_input", "weight[rb + 3u * out_c4]", "weight[rb + 2u * out_c4]"),
    ("conv2d_relu_maxpool2x2.backward_input", "let cb = min(ca + 1u, in_c4 - 1u);", "let cb = ca + 1u;"),
    ("conv2d_relu_maxpool2x2.backward_input", "gradient_at(n_read, oy + 1, ox + 1, co)", "gradient_at(n_read, oy + 1, ox, co)"),
    ("conv2d_relu_maxpool2x2.backward_input", "iy < dims.in_h && ix < dims.in_w", "iy < dims.in_h"),
    // shared/pooled_block.wgsl
    ("conv2d_relu_maxpool2x2.forward", "block.a[2], block.a[3], block.a[6]", "block.a[2], block.a[6], block.a[3]"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "store_window(n, py, px + 1u, co_b", "store_window(n, py, px, co_b"),
    // shared/pooled_window.wgsl, shared/store_window.wgsl
    ("conv2d_relu_maxpool2x2.forward", "vec4<u32>(1u), z1 > m", "vec4<u32>(1u), z1 >= m"),
    ("conv2d_relu_maxpool2x2.forward", "vec4<u32>(3u), z3 > m", "vec4<u32>(3u), z3 >= m"),
    ("conv2d_relu_maxpool2x2.forward", "n < dims.batch && py < pool_h && px < pool_w", "n < dims.batch && py < pool_h"),
    ("conv2d_relu_maxpool2x2.forward", "p10 + b", "p10"),
    ("conv2d_relu_maxpool2x2.forward", "select(m, vec4<f32>(), m < vec4<f32>())", "m"),
    ("conv2d_relu_maxpool2x2.forward", "code, m > vec4<f32>()", "code, m >= vec4<f32>()"),
    ("conv2d_relu_maxpool2x2.forward", "let pool_w = dims.out_w / 2u;\n    if", "let pool_w = (dims.out_w + 1u) / 2u;\n    if"),
    ("conv2d_relu_maxpool2x2.forward", "code.y << 8u", "code.y << 4u"),
    ("conv2d_relu_maxpool2x2.forward", "if (dims.splits > 0u) {", "if (true) {"),
    // conv2d_relu_maxpool2x2_backward.wgsl
    ("conv2d_relu_maxpool2x2.backward_weight", "place > vec4<u32>(3u)", "place > vec4<u32>(4u)"),
    ("conv2d_relu_maxpool2x2.backward_weight", "x10, x11, place == 3u", "x10, x11, place == 2u"),
    ("conv2d_relu_maxpool2x2.backward_weight", "upper, lower, place >= 2u", "upper, lower, place > 2u"),
    ("conv2d_relu_maxpool2x2.backward_weight", "u[2] * g.z", "u[2] * g.y"),
    ("conv2d_relu_maxpool2x2.backward_weight", "under(place, u1, u2, l1, l2)", "under(place, u1, u2, l1, l1)"),
    ("conv2d_relu_maxpool2x2.backward_weight", "u0 = u2", "u0 = u1"),
    ("conv2d_relu_maxpool2x2.backward_weight", " - i32(dims.pad_top)", ""),
    ("conv2d_relu_maxpool2x2.backward_weight", "i32(kx) - i32(dims.pad_left)", "i32(kx)"),
    ("conv2d_relu_maxpool2x2.backward_weight", "row % pool_h * 2u + ky", "row % pool_h + ky"),
    ("conv2d_relu_maxpool2x2.backward_weight", "min((split + 1u) * dims.rows_per_split, dims.batch * pool_h)", "(split + 1u) * dims.rows_per_split"),
    ("conv2d_relu_maxpool2x2.backward_weight", "transpose(value)", "value"),
    ("conv2d_relu_maxpool2x2.backward_weight", "bias += g", "bias += pooled_dy[at]"),
    ("conv2d_relu_maxpool2x2.backward_weight", "if (kx + 2u < dims.k_w) { store_tap(split, tap + 2u, ci, co, tap2); }", "store_tap(split, tap + 2u, ci, co, tap2);"),
    // conv2d_relu_maxpool2x2_pictures.wgsl
    ("conv2d_relu_maxpool2x2.forward_pictures", "rescaled(word, 8u), rescaled(word, 16u)", "rescaled(word, 16u), rescaled(word, 8u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "let iy = i32(oy + ky) - i32(dims.pad_top)", "let iy = i32(oy + ky)"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "select(0u, words[(picture * dims.in_h + u) * dims.in_w + v], inside)", "words[(picture * dims.in_h + u) * dims.in_w + v]"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "(ky * dims.k_w + kx) * 4u * out_c4", "(ky * dims.k_w + kx) * 3u * out_c4"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "weight[row + 2u * out_c4 + co_b]", "weight[row + 2u * out_c4 + co_a]"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "(*block).a[6] += wa * x6", "(*block).a[6] += wa * x5"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "vec4<u32>(1u), z1 > m", "vec4<u32>(1u), z1 >= m"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "code, m > vec4<f32>()", "code, m >= vec4<f32>()"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "p10 + b", "p10"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "if (dims.splits > 0u) {", "if (true) {"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "place > vec4<u32>(3u)", "place > vec4<u32>(4u)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "partial[at + 3u * out_c4] = vec4<f32>();", ""),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "under(place, u2, u3, l2, l3)", "under(place, u2, u3, l2, l2)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "u0 = u2", "u0 = u1"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "split * rows + tap * 4u", "split * rows + tap * 3u"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "picture >= dims.chunk_len", "picture > dims.chunk_len"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "< dims.chunk_len) {", "<= dims.chunk_len) {"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "picture_of(min(picture_of_block(id), dims.batch - 1u))", "picture_of(0u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "of_each.y * of_each.z);", "of_each.y * of_each.y);"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", "u[1] * g.y", "u[1] * g.x"),
    // tile/, Winograd
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "let r{{ i }} = m{{ i }}1 - m{{ i }}2 - m{{ i }}3;", "let r{{ i }} = m{{ i }}1 - m{{ i }}2 + m{{ i }}3;"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "d.z - d.y, d.y - d.w", "d.y - d.z, d.y - d.w"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "0.5 * (ends - g.y), g.z", "0.5 * (ends + g.y), g.z"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "x % 2u * {{ odd }}u", "x % 2u"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "select(outer, d1 + d2, half == 0u)", "select(outer, d2 - d1, half == 0u)"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "(right ^ {{ col4 // 2 }}u)", "(right ^ 1u)"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "outputs + bias[co + at.y]", "outputs + bias[co]"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "vec4<u32>(8u * part)", "vec4<u32>(8u)"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "select(m, 0.0, m < 0.0)", "m"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "z.{{ p }} > m);\n    m", "z.{{ p }} >= m);\n    m"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "pixel{{ q }}.y == 1u", "pixel{{ q }}.y < 2u"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "min(c + 1u, {{ from4 - 1 }}u)", "c"),
    ("conv2d_relu_maxpool2x2.forward/winograd_tile", "if (dims.splits > 0u && ", "if ("),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_tile", "{{ (8 - t) * FROM_C * TO_C }}", "{{ t * FROM_C * TO_C }}"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_tile", "select(5u, to.x % 2u * 2u + to.y % 2u, inside)", "to.x % 2u * 2u + to.y % 2u"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_tile", "dims.pad_left)) - 2;", "dims.pad_left)) - 1;"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_tile", "dx[below] = outputs.z", "dx[below] = outputs.y"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_tile", "pixel.y + 1u < dims.in_w", "pixel.y + 1u <= dims.in_w"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_tile", "l1 - l2 - l3, r1", "l1 - l2 + l3, r1"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "place % 2u == 1u", "place / 2u == 1u + 0u"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "column - {{ POOL_W }}u, wraps", "column, wraps"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "bias += g;", ""),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "let t{{ i }}2 = s{{ i }} - m{{ i }}3;", "let t{{ i }}2 = s{{ i }};"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "code < 4u && right.x < end", "code < 4u"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "vec4<f32>(0.0, 0.5, -0.5, 1.0)", "vec4<f32>(0.0, 0.5, 0.5, 1.0)"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "term < 4u; term++", "term < 3u; term++"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_tile", "- i32(dims.pad_left)", ""),
    ("conv2d_relu_maxpool2x2.forward/winograd_scalars", "return memory[4u * at + c];", "return memory[4u * at];"),
    ("conv2d_relu_maxpool2x2.forward/winograd_scalars", "memory[4u * at + c] = value", "memory[4u * at + 3u - c] = value"),
    ("conv2d_relu_maxpool2x2.forward/winograd_scalars", "memory[4u * at + 2u], memory[4u * at + 3u]", "memory[4u * at + 3u], memory[4u * at + 2u]"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_scalars", "memory[4u * at + {{ c }}u] = value", "memory[at + {{ c }}u] = value"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd_scalars", "return memory[4u * at + c];", "return memory[4u * at];"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_scalars", "memory[4u * at], memory", "memory[at], memory"),
    ("conv2d_relu_maxpool2x2.backward_weight/winograd_scalars", "of_four(term * {{ COLS // 4 }}u + id / 4u, id % 4u)", "of_four(term * {{ COLS // 4 }}u + id / 4u, 0u)"),
    // tile/
    ("conv2d_relu_maxpool2x2.forward/tile", "if (dims.splits > 0u) {", "if (true) {"),
    ("conv2d_relu_maxpool2x2.forward/tile", "by_channel[2];", "by_channel[3];"),
    ("conv2d_relu_maxpool2x2.forward/tile", "pixels[upper + 1u]", "pixels[upper]"),
    ("conv2d_relu_maxpool2x2.forward/tile", "p % 4 + kx %}", "p % 4 + 2 - kx %}"),
    ("conv2d_relu_maxpool2x2.forward/tile", "(ci * {{ rows }}u + 2u * row + ky)", "(ci * {{ rows }}u + row + ky)"),
    ("conv2d_relu_maxpool2x2.forward/tile", "taps[tap + {{ kx * to4 + to4 // 2 }}u]", "taps[tap + {{ kx * to4 }}u]"),
    ("conv2d_relu_maxpool2x2.forward/tile", "ky < 3u", "ky < 2u"),
    ("conv2d_relu_maxpool2x2.forward/tile", "- i32(dims.pad_top)", "- 0"),
    ("conv2d_relu_maxpool2x2.forward/tile", "i % {{ pitch }}u * 4u", "i % {{ pitch }}u * 2u"),
    ("conv2d_relu_maxpool2x2.forward/tile", "4u * c + ci)", "4u * c)"),
    ("conv2d_relu_maxpool2x2.forward/tile", "z3 > m);\n    m =", "z3 >= m);\n        m ="),
    ("conv2d_relu_maxpool2x2.forward/tile", "py < pool_h && px < pool_w", "px < pool_w"),
    ("conv2d_relu_maxpool2x2.forward/tile", "2u * column + 1u, to, sums.a[2]", "2u * column + 1u, to, sums.a[1]"),
    ("conv2d_relu_maxpool2x2.forward/tile", "ix >= 0 && ix < i32(dims.in_w)", "ix >= 0"),
    ("conv2d_relu_maxpool2x2.backward_input/tile", "(8u - i / {{ to4 }}u)", "(i / {{ to4 }}u)"),
    ("conv2d_relu_maxpool2x2.backward_input/tile", "dims.pad_left + i % {{ pitch }}u * 4u) - 2", "dims.pad_left + i % {{ pitch }}u * 4u) - 1"),
    ("conv2d_relu_maxpool2x2.backward_input/tile", "by_output[1];", "by_output[2];"),
    ("conv2d_relu_maxpool2x2.backward_input/tile", "iy < dims.in_h && ix < dims.in_w", "ix < dims.in_w"),
    ("conv2d_relu_maxpool2x2.backward_input/tile", "dx[at + {{ to4 // 2 }}u] = beside", "dx[at + {{ to4 // 2 }}u] = value"),
    ("conv2d_relu_maxpool2x2.backward_input/tile", "group.x % tiles_x * {{ 4 * COLUMNS }}u", "group.x % tiles_x * {{ 2 * COLUMNS }}u"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "x1 = x2;", "x1 = x0;"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "(own_row + ky) *", "(own_row + 2u - ky) *"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "let g = select(vec4<f32>(), pooled_dy[at], inside)", "let g = pooled_dy[at]"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "{{ width * co4 }}u] = select(vec4<f32>(), g, place == vec4<u32>(2u))", "{{ width * co4 }}u] = select(vec4<f32>(), g, place == vec4<u32>(1u))"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "bias_a += ga", "bias_a += gb"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "{{ LANES }}u; lane++", "{{ LANES - 1 }}u; lane++"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "k / 2u % 4u", "k % 4u"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "out_c4 + to + k % 2u", "out_c4 + to"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "lane / 2u * {{ run }}u", "lane / 2u * {{ run - 1 }}u"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "dims.batch * pool_h)", "dims.batch * pool_h - 1u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile_channels8", "{{ TO_C // TO_B }}u + group.y", "{{ TO_C // TO_B }}u"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile_channels8", "dims.out_c + group.x * {{ CO_B }}u + channel", "dims.out_c + channel"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "rescaled(pair.x, {{ 8 * c }}u)", "rescaled(pair.x, {{ 8 * (2 - c) }}u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "words[at + 1u]", "words[at]"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "in_line && at.y < last.y", "in_line"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "in_line && at.y >= 0 && at.y <= last.y", "in_line"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "at{{ q }} % {{ pitch }}u))", "at{{ q }} % {{ pitch - 1 }}u))"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "else \"right\" }}{{ p // 2 }}", "else \"right\" }}{{ p % 2 }}"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "= bias[{{ q }}u{{ block }}]", "= bias[{{ q }}u]"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "{{ TO_C // 4 }}u{{ block }};", "{{ TO_C // 4 }}u;"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "at + c * PLANE + ky *", "at + c * PLANE + (2u - ky) *"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "group.x / blocks_x", "group.x % blocks_x"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "py < pool_h && px < pool_w", "px < pool_w"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "{{ quads }}u + {{ q }}u] = window", "{{ quads }}u] = window"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "if (dims.splits > 0u) {", "if (true) {"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "p // 2 + t // 3", "p // 2 + t % 3"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "= p % 2 + t % 3", "= p % 2 + t // 3"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "% {{ pitch }}u));", "% {{ pitch - 1 }}u));"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "+ own) / 3u * 4u", "+ own) / 3u * 3u"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "4u * (i / {{ CO_B }}u) + 3u", "4u * (i / {{ CO_B }}u) + 2u"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "            py++;", "            py += 2u;"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "n = min(n + 1u, dims.batch - 1u);", ""),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "{% endif %}window{{ w }} < pool_w ", "{% endif %}window{{ w }} <= pool_w "),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "lane < {{ WINDOWS - w * LANES }}u && ", ""),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "for lane in range(LANES // parts)", "for lane in range(LANES // parts - 1)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "(id ^ {{ threads // 2 }}u)", "id"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "part * {{ LANES // parts }}u", "part"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "dims.batch * pool_h)", "dims.batch * pool_h - 1u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "picture >= dims.chunk_len", "picture > dims.chunk_len"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "pair_at(picture, ", "pair_at(n, "),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", " && picture < dims.chunk_len", ""),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "picture_of(first_row / pool_h) >= dims", "picture_of(first_row / pool_h) < dims"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "(first_row / pool_h + 1u) * pool_h", "(first_row / pool_h + 2u) * pool_h"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "picture_of((last - 1u) / pool_h) >= dims", "picture_of((last - 1u) / pool_h) < dims"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", "            picture = picture_of(n);\n", ""),
    ("dense.forward/tile", "{{ DEPTH // 4 * q }}u < last);", "{{ DEPTH // 4 * q }}u <= last);"),
    ("dense.forward/tile", "i < 4 else", "i < 3 else"),
    ("dense.forward/tile", "{{ DEPTH // 4 * q }}u, last - 1u)", "{{ DEPTH // 4 }}u, last - 1u)"),
    ("dense.forward/tile", "next = i + {{ DEPTH }}u", "next = i + {{ DEPTH // 2 }}u"),
    ("dense.forward/tile", "k += 64u", "k += 128u"),
    ("dense.forward/tile", "b + id % 16u * 4u + {{ q }}u", "b + id % 16u * 4u"),
    ("dense.forward/tile", "left[(term + 2u) * 16u + row4]", "left[(term + 2u) * 16u + row4 / 2u]"),
    ("dense.forward/tile", "(split * dims.batch + row", "(row"),
    ("dense.backward_input/tile", "4u * (i + four)", "i + four"),
    ("dense.backward_input/tile", "right[(term + 3u) * 16u + column4] = by_term[3]", "right[(term + 3u) * 16u + column4] = by_term[2]"),
    ("dense.backward_input/tile", "j < dims.out_n;", "j + {{ DEPTH }}u < dims.out_n;"),
    ("dense.backward_input/tile", "next{{ q }}, inside)", "next0, inside)"),
    ("dense.backward_input/tile", "j / 4u + part < out4", "j / 4u + part <= out4"),
    ("dense.backward_input/tile", "next = j + {{ DEPTH }}u", "next = j"),
    ("dense.backward_input/tile", "column < in4) {", "column <= in4) {"),
    ("dense.backward_weight/tile", "bias += next_grad{{ q }}", "bias += next_grad0"),
    ("dense.backward_weight/tile", "bias += right[id % 16u + {{ 16 * k }}u]", "bias += right[{{ 16 * k }}u]"),
    ("dense.backward_weight/tile", "while (b + {{ DEPTH }}u < dims.batch)", "while (b + {{ 2 * DEPTH }}u < dims.batch)"),
    ("dense.backward_weight/tile", "64u * group.x + id / 16u * 8u", "64u * group.x + id / 16u * 4u"),
    ("dense.backward_weight/tile", "{{ 8 * q }}u < dims.batch;", "{{ 8 * q }}u < dims.batch + 1u;"),
    // lanes8/
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "{{ 4 * tap + ci }}u * row_co", "{{ 3 * tap + ci }}u * row_co"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "min(4u * (first + {{ \"lane\" if c < 4 else \"7u\" }}) + {{ c }}u, dims.in_w - 2u)", "min(4u * (first + {{ \"lane\" if c < 4 else \"7u\" }}) + {{ c }}u, dims.in_w - 4u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "let p{{ r }}{{ c + 1 }} = u32(pair{{ r }}{{ c }} >> 32u)", "let p{{ r }}{{ c + 1 }} = u32(pair{{ r }}{{ c }})"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "u32(clamp(iy{{ r }}, 0, i32(dims.in_h) - 1))", "u32(clamp(iy{{ r }}, 0, i32(dims.in_h) - 2))"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "let x_inside{{ c }} = ix{{ c }} >= 0 && ix{{ c }} < i32(dims.in_w)", "let x_inside{{ c }} = ix{{ c }} >= 0"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "(lane + 1u) % 8u", "(lane + 2u) % 8u"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "subgroupShuffle(side{{ c }}, {{ r }}u)", "subgroupShuffle(side{{ c }}, {{ 5 - r }}u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "rescaled(p{{ r }}{{ c }}, {{ 8 * ci }}u)", "rescaled(p{{ r }}{{ c }}, {{ 16 - 8 * ci }}u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "[{{ j }}], t) * u_", "[{{ j }}], 7u - t) * u_"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "t < min(8u, tiles.x - first)", "t < min(7u, tiles.x - first)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "{{ wx }}u < rest.x && {{ wy }}u < rest.y", "{{ wy }}u < rest.y"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "lane / 4u < rest.x && {{ wy }}u < rest.y", "{{ wy }}u < rest.y"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "codes }}({{ p }}u), y{{ w }}_{{ p }} > best{{ w }}", "codes }}({{ p }}u), y{{ w }}_{{ p }} >= best{{ w }}"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "(odd{{ wy }} << 16u)", "(odd{{ wy }} << 8u)"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "4u * group + lane % 4u", "lane % 4u"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "if (dims.splits > 0u) {", "if (true) {"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "if (dims.splits > 0u && ", "if ("),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "select(u32(first_two >> 32u), u32(first_two), left)", "u32(first_two)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "min(px + c, pool_w - 1u) + 1u", "min(px + c, pool_w - 1u)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "subgroupShuffle(u32(two), 2u * r + {{ w }}u)", "subgroupShuffle(u32(two), 2u * r)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "words[line + 2u * px{{ w }} + 2u]", "words[line + 2u * px{{ w }} + 1u]"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "{{ 4 * tap + 3 }}u) * row_co + co] = {{ vec }}();", "{{ 4 * tap + 3 }}u) * row_co + co] = bias;"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "rescaled(first, {{ 8 * ci }}u)", "rescaled(first, 0u)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "(split * 37u + 36u)", "(split * 37u + 35u)"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "picture >= dims.chunk_len", "picture > dims.chunk_len"),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "picture_of(group.y) >= dims.chunk_len", "picture_of(group.y) > dims.chunk_len"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "0.041666668 * g0 + 0.16666667 * g2", "0.041666668 * g0 + 0.083333336 * g2"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "0.25 * g0, even - odd, even + odd", "0.25 * g0, even + odd, even - odd"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "d4 - 4.0 * d2", "d4 - 4.0 * d1"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "let even_of_two = d4 - d2", "let even_of_two = d4 - d1"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "2.0 * (d3 - d1)", "2.0 * (d3 + d1)"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "4.0 * (d0 - d2) + even_of_two", "4.0 * (d0 - d2) + even"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "(d5 - d3) - 2.0 * odd_of_two", "(d4 - d3) - 2.0 * odd_of_two"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "odd + 8.0 * odd_of_two + m5", "odd + 8.0 * odd_of_two"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "even + 4.0 * even_of_two", "even + 2.0 * even_of_two"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "min(4u * ty + {{ r }}u, dims.in_h - 1u)", "min(4u * ty + {{ r }}u, dims.in_h - 2u)"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "min(4u * tx + {{ c }}u, dims.in_w - 1u)", "min(4u * tx + {{ c }}u, dims.in_w - 2u)"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "{{ ci // regs }}u)), u_", "{{ ci % regs }}u)), u_"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "{{ wx }}u < rest.x && {{ wy }}u < rest.y", "{{ wx }}u < rest.x"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "{{ wx }}u < rest.x && {{ wy }}u < rest.y", "{{ wy }}u < rest.y"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "lane / 4u < rest.x && {{ wy }}u < rest.y", "lane / 4u < rest.x"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "lane % 4u * 2u + 1u", "lane % 4u * 2u"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "let y_inside{{ r }} = iy{{ r }} >= 0 && ", "let y_inside{{ r }} = "),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "let x_inside{{ c }} = ix{{ c }} >= 0 && ix{{ c }} < i32(dims.in_w)", "let x_inside{{ c }} = ix{{ c }} >= 0"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "u32(clamp(iy{{ r }}, 0, i32(dims.in_h) - 1))", "u32(clamp(iy{{ r }}, 0, i32(dims.in_h) - 2))"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "~ c ~ \".\" ~ \"xyzw\"[k]", "~ c ~ \".\" ~ \"xxzw\"[k]"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "codes }}({{ p }}u), y{{ w }}_{{ p }} > best{{ w }}", "codes }}({{ p }}u), y{{ w }}_{{ p }} >= best{{ w }}"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "code{{ w }}, best{{ w }} > {{ vec }}()", "code{{ w }}, best{{ w }} >= {{ vec }}()"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "z{{ 2 * wx }}[{{ 2 * wy }}] + b", "z{{ 2 * wx }}[{{ 2 * wy }}]"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "if (dims.splits > 0u) {", "if (true) {"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "if (dims.splits > 0u && ", "if ("),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8_channels4", "{{ LANE_C }}u * ci + {{ v }}u", "{{ LANE_C }}u * ci"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "{{ 8 - tap }}u * dims.in_c", "{{ tap }}u * dims.in_c"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "i32(2u * ty + {{ r }}u) - 1", "i32(2u * ty + {{ r }}u)"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "row_inside{{ r }} && inside{{ c }}", "row_inside{{ r }}"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "row{{ r }} < i32(pool_h)", "row{{ r }} <= i32(pool_h)"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "g{{ k }}_{{ r }}0 = g{{ k }}_{{ r }}2", "g{{ k }}_{{ r }}0 = g{{ k }}_{{ r }}1"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "word{{ r }}0 = word{{ r }}2", "word{{ r }}0 = word{{ r }}1"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "2u * tx + {{ c - 1 }}u < pool_w", "true"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "& 7u", "& 3u"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "if (part > 0u)", "if (part > 1u)"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "if (part > 0u)", "if (true)"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "n < dims.batch; n +=", "n < dims.batch - 1u; n +="),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "* row_co + 8u * part + lane", "* row_co + lane"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "{{ PART_C // 4 }}u * part + {{ q }}u", "{{ q }}u"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "{{ 2 * r + p // 2 }}{{ 2 * c + p % 2 }}", "{{ 2 * r + p % 2 }}{{ 2 * c + p // 2 }}"),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "4u * ty + {{ r }}u < dims.in_h && ", ""),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", " && 4u * tx + {{ c }}u < dims.in_w", ""),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_lanes8", "even_of_two - odd_of_two, g2", "even_of_two - odd_of_two, g1"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "< {{ codes }}(4u)", "< {{ codes }}(5u)"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "i{{ w }}_0 + {{ codes }}(2u)", "i{{ w }}_0 + {{ codes }}(1u)"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "n{{ w }}_{{ 4 * q + j }}, left), across)", "n{{ w }}_{{ 4 * q + j }}, left), lane)"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "{{ ci }}, i{{ w }}_{{ ky }}", "{{ ci }}, i{{ w }}_{{ 2 - ky }}"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "p{{ ci }} = n1_{{ ci }};", "p{{ ci }} = n0_{{ ci }};"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "bias += g0 + g1", "bias += g0"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "vec{{ LANE_C }}<bool>(px + {{ w }}u < pool_w)", "vec{{ LANE_C }}<bool>(true)"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "(row * pool_w + px{{ w }}) * row_co + co", "(row * pool_w + px) * row_co + co"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "dims.rows_per_split, dims.batch * pool_h)", "dims.rows_per_split, dims.batch * pool_h - 1u)"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "vec2<u32>(16u * c)", "vec2<u32>(8u * c)"),
    ("conv2d_relu_maxpool2x2.backward_weight/sparse_lanes8", "block * {{ CI_B }}u + {{ ci }}u", "{{ ci }}u"),
    ("resize.bilinear/lanes8", "blend(load_x(y1 + x0), load_x(y1 + x1), tx)", "blend(load_x(y1 + x0), load_x(y0 + x1), tx)"),
    ("resize.bilinear/lanes8", "blend(upper, lower, u - floor(u))", "blend(upper, lower, tx)"),
    ("resize.bilinear/lanes8", "u32(max(ceil(u), 0.0))", "u32(max(floor(u), 0.0))"),
    ("resize.bilinear/lanes8", "n * dims.in_h * dims.in_w", "0u"),
    ("resize.bilinear/lanes8", "if (ox < dims.out_w)", "if (true)"),
    ("resize.bilinear/lanes8", "group.y * {{ ROWS }}u", "group.y * {{ ROWS - 1 }}u"),
    ("dense.forward/lanes8_pictures32", "({{ INPUTS }}u * k + {{ e }}u) * out8 + j));", "(8u * k + {{ e }}u) * out8 + j));"),
    ("dense.forward/lanes8", "min(b + {{ 8 * q }}u + lane, dims.batch - 1u)", "min(b + lane, dims.batch - 1u)"),
    ("conv2d_relu_maxpool2x2.forward/winograd4_lanes8", "left = lane % 2u == 0u", "left = lane % 2u == 1u"),
    ("dense.forward/lanes8", "({{ INPUTS }}u * k + {{ e }}u) * out8 + j));", "({{ INPUTS }}u * k + {{ e }}u) * out8));"),
    ("dense.forward/lanes8", "+ 2u * j;", "+ j;"),
    ("dense.forward/lanes8", "(split * dims.batch + b", "(b"),
    ("dense.forward/lanes8", "* out8 + j) + 1u)", "* out8 + j))"),
    ("dense.forward/lanes8", "k < last", "k + 1u < last"),
    ("dense.forward/lanes8", "if (b + {{ p }}u < dims.batch)", "if (b + {{ p }}u + 1u < dims.batch)"),
    ("dense.backward_input/lanes8", "{{ j % 32 // 4 }}u), subgroupShuffle(w1", "{{ j % 32 // 8 }}u), subgroupShuffle(w1"),
    ("dense.backward_input/lanes8", "{{ 8 * l }}u + lane);", "lane);"),
    ("dense.backward_input/lanes8", "if (first + {{ 8 * q }}u + lane < {{ BATCH }}u)", "if (true)"),
    ("dense.backward_input/lanes8", "if (first + {{ 8 * q }}u + lane < {{ BATCH }}u)", "if (first + {{ 8 * q }}u + lane < {{ BATCH - 1 }}u)"),
    ("dense.backward_input/lanes8", "k < dims.in_n / 2u", "k < dims.in_n / 2u - 1u"),
    ("dense.backward_input/lanes8", "_{{ j // 4 }}.{{ \"xyzw\"[j % 4] }} *", "_{{ j // 4 }}.{{ \"xyww\"[j % 4] }} *"),
    ("dense.backward_input/lanes8", "load_dy(b{{ q }} *", "load_dy(b0 *"),
    // relu.wgsl
    ("relu.backward", "y[id] > vec4<f32>()", "y[id] >= vec4<f32>()"),
    ("relu.backward", "dy[id], y[id] >", "y[id], dy[id] >"),
    ("relu.backward", "id < dims.len / 4u", "id < dims.len / 4u - 1u"),
    ("relu.backward", "id < dims.len / 4u", "id <= dims.len / 4u"),
    // maxpool2x2.wgsl
    ("maxpool2x2.forward", "x2 > m", "x2 >= m"),
    ("maxpool2x2.forward", "x[at + down + c4]", "x[at + down]"),
    ("maxpool2x2.forward", "let down = dims.in_w * c4", "let down = 2u * pool_w * c4"),
    ("maxpool2x2.forward", "vec4<u32>(3u), x3 > m", "vec4<u32>(2u), x3 > m"),
    ("maxpool2x2.backward", "(iy - 2u * py) * 2u + (ix - 2u * px)", "(ix - 2u * px) * 2u + (iy - 2u * py)"),
    ("maxpool2x2.backward", "iy < pool_h * 2u && ix < pool_w * 2u", "iy < pool_h * 2u"),
    ("maxpool2x2.backward", "codes == here", "codes <= here"),
    // dense.wgsl
    ("dense.forward", "a3 += wa * x3", "a3 += wa * x2"),
    ("dense.forward", "min((split + 1u) * dims.per_split / 4u, in4)", "(split + 1u) * dims.per_split / 4u"),
    ("dense.forward", "split < dims.splits && b < dims.batch", "split < dims.splits"),
    ("dense.forward", "c5 += wb * x5;", ""),
    ("dense.forward", "x[r6 + i]", "x[r5 + i]"),
    ("dense.forward", "weight[row + 3u * out4 + ja]", "weight[row + 3u * out4 + jb]"),
    ("dense.reduce", "sum + bias[id % out4]", "sum"),
    ("dense.reduce", "bias[id % out4]", "bias[id / out4 % out4]"),
    ("dense.reduce", "s < dims.splits; s++", "s + 1u < dims.splits; s++"),
    ("dense.reduce", "select(z, vec4<f32>(), ", "select(z, z, "),
    ("dense.backward_input", "a4 += dy[r4 + j] * w", "a4 += w * dy[r4 + j]"),
    ("dense.backward_input", "id / in4 * 8u", "id / in4 * 4u"),
    ("dense.backward_input", "if (b < dims.batch) {\n        dx", "if (b <= dims.batch) {\n        dx"),
    ("dense.backward_input", "j < out4; j++", "j + 1u < out4; j++"),
    ("dense.backward_weight", "bias_b += db;", ""),
    ("dense.backward_weight", "outer(xb, db)", "outer(xb, da)"),
    ("dense.backward_weight", "a.x * b, a.y * b", "a.y * b, a.x * b"),
    ("dense.backward_weight", "b < dims.batch; b++", "b + 1u < dims.batch; b++"),
    ("dense.backward_weight", "dbias[block.ja] = block.bias_a", "dbias[block.ja] = block.bias_b"),
    ("dense.update_weight", "w[at] -= next.delta", "w[at] += next.delta"),
    ("dense.update_weight", "v[at] = next.v;", ""),
    ("dense.update_weight", "update_bias(block.jb, block.bias_b)", "update_bias(block.jb, block.bias_a)"),
    ("dense.update_weight", "update_row(at + 2u * out4, g[2])", "update_row(at + 2u * out4, g[1])"),
    ("dense.update_weight/tile", "w{{ r }} - next.delta", "-next.delta"),
    ("dense.update_weight/tile", "m{{ r }}, v{{ r }})", "m{{ r }}, m{{ r }})"),
    ("dense.update_weight/tile", "select(now, now + 4u * out4, second_four)", "now"),
    ("dense.update_weight/tile", "row + 4u < dims.in_n &&", "row + 8u < dims.in_n &&"),
    ("dense.update_weight/tile", "update_bias(column, bias)", "update_bias(column, bias + bias)"),
    ("dense.update_weight/lanes8", "- b{{ e }}.delta", "- a{{ e }}.delta"),
    ("dense.update_weight/lanes8", "range(1, BATCH)", "range(2, BATCH)"),
    ("dense.update_weight/lanes8", "{{ b % 8 }}u", "{{ (b + 1) % 8 }}u"),
    ("dense.update_weight/lanes8", "var k = group.y * count", "var k = group.y * count + 1u"),
    ("dense.update_weight/lanes8", "(2u * k + {{ e }}u) * out8 + j;", "(2u * k + {{ 1 - e }}u) * out8 + j;"),
    ("dense.update_weight/lanes8", "j + {{ h }}u, bias_{{ h }})", "j + {{ h }}u, bias_0)"),
    ("dense.update_weight/lanes8", "(group.y + 1u) * count, dims.in_n / 2u)", "(group.y + 1u) * count, dims.in_n / 2u - 1u)"),
    ("dense.update_weight/lanes8", "<< 32u", "<< 31u"),
    // dense_bias_relu.wgsl
    ("dense_bias_relu.forward", "sum + bias[j]", "sum"),
    ("dense_bias_relu.forward", "dims.relu != 0u", "dims.relu == 0u"),
    ("dense_bias_relu.forward", "if (b < dims.batch)", "if (b <= dims.batch)"),
    ("dense_bias_relu.forward", "w * x[r2 + i]", "w * x[r1 + i]"),
    ("dense_bias_relu.forward", "w * x[r3 + i]", "x[r3 + i] * w"),
    ("dense_bias_relu.forward", "i < in4; i++", "i + 1u < in4; i++"),
    ("dense_bias_relu.forward", "store_y(b + 2u, j, sum2);", ""),
    ("dense_bias_relu.forward/narrow", "i += {{ LANES }}u", "i += {{ LANES - 1 }}u"),
    ("dense_bias_relu.forward/narrow", "{{ r * OUT4 + j }}u", "{{ r * OUT4 }}u"),
    ("dense_bias_relu.forward/narrow", "[16, 8, 4, 2, 1]", "[16, 8, 4, 2]"),
    ("dense_bias_relu.forward/narrow", "b < dims.batch)", "b <= dims.batch)"),
    ("dense_bias_relu.forward/narrow", "+ bias[{{ j }}]", ""),
    ("dense_bias_relu.forward/narrow", "dims.relu != 0u", "dims.relu == 0u"),
    // bias_relu_dropout.wgsl
    ("bias_relu_dropout.forward", "kept(4u * id + 2u)", "kept(4u * id + 1u)"),
    ("bias_relu_dropout.forward", ">= dims.threshold", "< dims.threshold"),
    ("bias_relu_dropout.forward", "select(z, vec4<f32>(), z < vec4<f32>())", "z"),
    ("bias_relu_dropout.forward", "sum + bias[id % out4]", "sum"),
    ("bias_relu_dropout.forward", "s < dims.splits; s++", "s + 1u < dims.splits; s++"),
    ("bias_relu_dropout.forward", "r * bitcast<f32>(dims.scale_bits)", "r"),
    ("bias_relu_dropout.forward", "dims.layer * 0x9E3779B9u", "dims.layer"),
    ("bias_relu_dropout.backward", "dropped[id] > vec4<f32>()", "dropped[id] >= vec4<f32>()"),
    ("bias_relu_dropout.backward", "dy[id] * bitcast<f32>(dims.scale_bits)", "dy[id]"),
    ("bias_relu_dropout.backward", "id < dims.batch * (dims.out_n / 4u)", "id <= dims.batch * (dims.out_n / 4u)"),
    // dropout.wgsl
    ("dropout.forward", "dims.offset + index", "index"),
    ("dropout.backward", "dims.offset + index", "dims.offset - index"),
    ("dropout.forward", ">> 8u) >= dims.threshold", ">> 7u) >= dims.threshold"),
    ("dropout.forward", ">> 8u) >= dims.threshold", ">> 8u) < dims.threshold"),
    ("dropout.forward", "step.seed + dims.layer * 0x9E3779B9u", "step.seed"),
    ("dropout.forward", "masked(x[id], id)", "masked(x[id], id + 1u)"),
    ("dropout.backward", "masked(dy[id], id)", "dy[id]"),
    ("dropout.backward", "value * bitcast<f32>(dims.scale_bits)", "value"),
    ("dropout.backward", "step.step", "step.first"),
    // shared/places.wgsl
    ("conv2d_relu_maxpool2x2.backward_input", "vec4<u32>(0u, 8u, 16u, 24u)", "vec4<u32>(8u, 0u, 16u, 24u)"),
    ("conv2d_relu_maxpool2x2.backward_input", "& vec4<u32>(255u)", "& vec4<u32>(3u)"),
    ("maxpool2x2.backward", "vec4<u32>(0u, 8u, 16u, 24u)", "vec4<u32>(0u, 16u, 8u, 24u)"),
    ("conv2d_relu_maxpool2x2.backward_weight/tile", "& vec4<u32>(255u)", "& vec4<u32>(3u)"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "& vec4<u32>(255u)", "& vec4<u32>(3u)"),
    // shared/pooled_gradient.wgsl
    ("conv2d_relu_maxpool2x2.backward_input/tile", "u % 2u * 2u + v % 2u", "v % 2u * 2u + u % 2u"),
    ("conv2d_relu_maxpool2x2.backward_input", "u % 2u * 2u + v % 2u", "v % 2u * 2u + u % 2u"),
    ("conv2d_relu_maxpool2x2.backward_input", "ox >= 0 && ox < i32(pool_w * 2u)", "ox >= 0 && ox < i32(dims.out_w)"),
    ("conv2d_relu_maxpool2x2.backward_input", "oy >= 0 && oy <", "oy <"),
    // shared/rescaled.wgsl
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_lanes8", "& 255u)", "& 127u)"),
    ("gather.forward", "* 0.003921569", "/ 255.0"),
    ("conv2d_relu_maxpool2x2.forward_pictures", "* 0.003921569", "* 0.003921568"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures", ">> at) & 255u", ">> at) & 127u"),
    ("conv2d_relu_maxpool2x2.forward_pictures/tile", "(word >> at)", "(word >> (at / 2u))"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/tile", ">> at) & 255u", ">> at) & 127u"),
    ("conv2d_relu_maxpool2x2.backward_weight_pictures/sparse_lanes8", "* 0.003921569", "* 0.003921568"),
    // shared/update_bias.wgsl
    ("dense.update_weight", "b[j] -= next.delta", "b[j] += next.delta"),
    ("dense.update_weight", "adam(g, bm[j], bv[j])", "adam(g, bm[j], bm[j])"),
    ("conv2d.update_weight/narrow", "b[j] -= next.delta", "b[j] += next.delta"),
    ("dense.update_weight/narrow", "bv[j] = next.v;", ""),
    ("dense.update_weight/lanes8", "bm[j] = next.m;", ""),
    // shared/low_high.wgsl
    ("dense.update_weight/lanes8", "bitcast<f32>(u32(v))", "bitcast<f32>(u32(v) & 0xfffff000u)"),
    ("dense.update_weight/lanes8", "u32(v >> 32u)", "u32(v >> 31u)"),
    // shared/rng.wgsl
    ("dropout.forward", "277803737u", "277803739u"),
    ("dropout.forward", "pcg(b + pcg(a))", "pcg(a + pcg(b))"),
    ("dropout.backward", "(state >> 28u) + 4u", "(state >> 28u) + 3u"),
    // shared/slice.wgsl
    ("dropout.forward", "((slice.first.y + gid.y) * slice.groups.x + slice.first.x) * 64u + gid.x", "slice.first.x * 64u + gid.x"),
    ("dropout.forward", "slice.groups.x + slice.first.x) * 64u", "slice.groups.x + slice.first.x) * 32u"),
    ("maxpool2x2.forward", "slice.groups.x + slice.first.x) * 64u", "slice.groups.x) * 64u"),
    ("dropout.backward", "(slice.first.y + gid.y)", "gid.y"),
    ("dense.backward_input/lanes8", "k += slice.groups.x", "k += slice.groups.x + 1u"),
    ("conv2d_relu_maxpool2x2.forward/tile", "let group = in_slice + slice.first;", "let group = in_slice;"),
    ("dense.forward/lanes8", "in_slice + slice.first", "in_slice + slice.first.zyx"),
    // shared/step.wgsl
    ("adam.update", "alpha: f32,\n    one_minus_beta1: f32,", "one_minus_beta1: f32,\n    alpha: f32,"),
    ("collect.forward", "first: u32,\n    step: u32,", "step: u32,\n    first: u32,"),
    // sigmoid_bce.wgsl
    ("sigmoid_bce.forward", "(p - t) / f32(whole)", "(p - t)"),
    ("sigmoid_bce.forward", "dims.offset + id, dims.whole)", "dims.offset + id, dims.batch)"),
    ("sigmoid_bce.forward", "head(id, dims.offset + id,", "head(id, id,"),
    ("sigmoid_bce.forward", "loss[dims.offset + id]", "loss[id]"),
    ("sigmoid_bce.forward", "correct[dims.offset + id]", "correct[id]"),
    ("sigmoid_bce.forward", "labels[min(picture, dims.images - 1u)]", "labels[min(place, dims.images - 1u)]"),
    ("sigmoid_bce.forward", "order[min(step.first + place, dims.pictures - 1u)]", "order[min(place, dims.pictures - 1u)]"),
    ("sigmoid_bce.forward", "exp(-abs(z))", "exp(-z)"),
    ("sigmoid_bce.forward", "select(0.0, picture.p, j == 0u)", "picture.p"),
    ("sigmoid_bce.forward", "log1p_unit(e), select", "log(1.0 + e), select"),
    ("sigmoid_bce.forward", "select(max(z, 0.0), max(-z, 0.0), one)", "select(max(-z, 0.0), max(z, 0.0), one)"),
    ("sigmoid_bce.forward", "(p > 0.5) == one", "(p < 0.5) == one"),
    ("sigmoid_bce.forward", "(p > 0.5) == one", "(p >= 0.5) == one"),
    // sigmoid_bce_mean.wgsl
    ("sigmoid_bce_mean.forward", "head(i, i, dims.batch)", "head(i, lane, dims.batch)"),
    ("sigmoid_bce_mean.forward", "loss += picture.loss", "loss = picture.loss"),
    ("sigmoid_bce_mean.forward", "i += 64u", "i += 65u"),
    ("sigmoid_bce_mean.forward", "select(0.0, picture.dlogit, j == 0u)", "picture.dlogit"),
    ("sigmoid_bce_mean.forward", "hits[lane] += hits[lane + width]", "hits[lane] += losses[lane + width]"),
    ("sigmoid_bce_mean.forward", "width = 32u", "width = 16u"),
    ("sigmoid_bce_mean.forward", "losses[0] / f32(dims.batch)", "losses[0]"),
    ("sigmoid_bce_mean.forward", "metrics[2u * slot + 1u]", "metrics[2u * slot + 2u]"),
    // shared/log1p.wgsl
    ("sigmoid_bce.forward", "1.0 / 5.0", "1.0 / 6.0"),
    ("softmax_ce.forward", "e / (2.0 + e)", "e / (1.0 + e)"),
    // softmax_ce.wgsl
    ("softmax_ce.forward", "exp(logits[at + j] - m), 0.0", "exp(logits[at + j]), 0.0"),
    ("softmax_ce.forward", "z > m", "z >= m"),
    ("softmax_ce.forward", "p - select(0.0, 1.0, j == label)", "p"),
    ("softmax_ce.forward", "select(0.0, 1.0, j == label)) / f32(dims.whole)", "select(0.0, 1.0, j == label))"),
    ("softmax_ce.forward", "/ f32(dims.whole)", "/ f32(dims.batch)"),
    ("softmax_ce.forward", "ordered(dims.offset + id)", "ordered(id)"),
    ("softmax_ce.forward", "loss[dims.offset + id]", "loss[id]"),
    ("softmax_ce.forward", "correct[dims.offset + id]", "correct[id]"),
    ("softmax_ce.forward", "(m - logits[at + label])", "m"),
    ("softmax_ce.forward", "select(0.0, exp(z - m) / sum, j < dims.classes)", "exp(z - m) / sum"),
    ("softmax_ce.forward", "let sum = 1.0 + rest", "let sum = rest"),
    ("softmax_ce.forward", "top == label)", "top != label)"),
    // batch_mean.wgsl
    ("batch_mean.forward", "losses[0] / f32(dims.batch)", "losses[0]"),
    ("batch_mean.forward", "i += 64u", "i += 65u"),
    ("batch_mean.forward", "hits[lane] += hits[lane + width]", "hits[lane] += losses[lane + width]"),
    ("batch_mean.forward", "width = 32u", "width = 16u"),
    ("batch_mean.forward", "metrics[2u * slot + 1u]", "metrics[2u * slot + 2u]"),
    // accumulate.wgsl
    ("accumulate.add", "sum[id] += part[id]", "sum[id] = part[id]"),
    ("accumulate.add", "sum[id] += part[id]", "sum[id] += part[0]"),
    ("accumulate.add", "dims.len / 4u", "dims.len / 8u"),
    // adam.wgsl
    ("adam.update", "weight[id] -=", "weight[id] +="),
    ("adam.update", "m[id] = next.m;", ""),
    // shared/adam.wgsl
    ("adam.update", "g * g - v)", "g - v)"),
    ("adam.update", "sqrt(v_new) + step.epsilon", "sqrt(v_new + step.epsilon)"),
    ("adam.update", "sqrt(v_new) + step.epsilon", "sqrt(v_new)"),
    ("dense.update_weight/lanes8", "- v) * step.one_minus_beta2", "- v) * step.one_minus_beta1"),
    ("dense.update_weight/tile", "return Moments(m_new, v_new", "return Moments(m, v_new"),
    // coop/conv2d_relu_maxpool2x2.wgsl.jinja
    ("conv2d_relu_maxpool2x2.forward/coop8", "if (dims.splits > 0u) {", "if (true) {"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "vec4<u32>(1u), z1 > m", "vec4<u32>(1u), z1 >= m"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "let z2 = p10 + b", "let z2 = p10"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "vec2<u32>(dims.pad_top, dims.pad_left)", "vec2<u32>(0u, dims.pad_left)"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "all(at < vec2<u32>(dims.in_h, dims.in_w))", "all(at <= vec2<u32>(dims.in_h, dims.in_w))"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "if (all(window < pool))", "if (all(window <= pool))"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "code, m > vec4<f32>()", "code, m >= vec4<f32>()"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "select(pooled.y, all_four, lost)", "all_four"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "c + id % 4u < {{ from4 }}u{% endif %}", "c + id % 4u <= {{ from4 }}u{% endif %}"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "term{{ q }} / 16u * {{ FROM_C }}u", "term{{ q }} / 16u * 16u"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "tiles[e + {{ fours }}u]", "tiles[e]"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "group.x % blocks_x * 8u", "group.x % blocks_x * 9u"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "c = next / 3u * 4u", "c = 0u * next"),
    // coop/conv2d_relu_maxpool2x2_backward_input.wgsl.jinja
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "first + vec2<u32>(dims.pad_top, dims.pad_left)", "first + vec2<u32>(0u, dims.pad_left)"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "all(at < pool))", "all(at <= pool))"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "let half = scaled(g);", "let half = half4(g);"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "all(pixel < vec2<u32>(10u, 18u))", "all(pixel < vec2<u32>(10u, 17u))"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "if (all(pixel < vec2<u32>(dims.in_h, dims.in_w)))", "if (all(pixel <= vec2<u32>(dims.in_h, dims.in_w)))"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "vec2<u32>({{ p // 2 }}u, {{ p % 2 }}u)", "vec2<u32>({{ p % 2 }}u, {{ p // 2 }}u)"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "let odd = vec2<u32>(begin & vec2<i32>(1))", "let odd = vec2<u32>(begin & vec2<i32>(0))"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "* {{ TO_C }}u + ci + term", "* {{ TO_C }}u + 0u * ci + term"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "2u - row, &sums", "row, &sums"),
    // coop/conv2d_relu_maxpool2x2_backward_weight.wgsl.jinja
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "window < pool_w && column", "window <= pool_w && column"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "let first = 2u * vec2<u32>(round.x %", "let first = vec2<u32>(round.x %"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "let end = min(first_row + dims.rows_per_split, dims.batch * (dims.out_h / 2u))", "let end = first_row + dims.rows_per_split"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "all(pixel < vec2<u32>(dims.in_h, dims.in_w))", "all(pixel <= vec2<u32>(dims.in_h, dims.in_w))"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "[{{ 3 * ky + kx }}] = coopM", "[{{ 3 * kx + ky }}] = coopM"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "(first + {{ 34 * r + k + kx }}u) * 6u", "(first + {{ 34 * r + k + 1 }}u) * 6u"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "let first = subgroup / {{ places }}u * 16u;", "let first = 0u * subgroup;"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "unscaled(tiles[id] + tiles[id + 128u])", "unscaled(tiles[id])"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "(gradients[to] + gradients[to + 10u])", "(gradients[to] + gradients[to])"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "lane < 128u; lane += 8u", "lane < 120u; lane += 8u"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "% {{ SEGMENTS }}u * 16u)", "% {{ SEGMENTS }}u * 15u)"),
    ("conv2d_relu_maxpool2x2.backward_weight/coop8", "{{ p // 2 * 320 + p % 2 * 10 }}u", "{{ p % 2 * 320 + p // 2 * 10 }}u"),
    // coop/dense_*.wgsl.jinja
    ("dense.forward/coop8", "let j = group.x * 16u", "let j = group.x * 8u"),
    ("dense.forward/coop8", "b + at.x < dims.batch && j", "b + at.x <= dims.batch && j"),
    ("dense.forward/coop8", "partial[(split * dims.batch + b", "partial[(b"),
    ("dense.forward/coop8", "var next = split * dims.per_split", "var next = split * dims.per_split + 4u"),
    ("dense.backward_input/coop8", "= unscaled(tiles[e]);", "= tiles[e];"),
    ("dense.backward_input/coop8", "i / 4u + at.y < in4", "i / 4u + at.y <= in4"),
    ("dense.backward_input/coop8", "min(i + {{ r * step }}u", "min({{ r * step }}u"),
    ("dense.update_weight/coop8", "vec4<f32>(right[{{ 18 * r }}u + id])", "vec4<f32>(right[{{ r }}u + id])"),
    ("dense.update_weight/coop8", "group.x == 0u && id < 16u", "group.x == 0u && id < 15u"),
    ("dense.update_weight/coop8", "unscaled(bias)", "bias"),
    ("dense.update_weight/coop8", "w{{ j }} - next.delta", "w{{ j }} + next.delta"),
    ("dense.update_weight/coop8", "m{{ j }}, v{{ j }});", "m{{ j }}, m{{ j }});"),
    // shared/half.wgsl
    ("dense.backward_input/coop8", "(127u - gradient_exponent())", "(128u - gradient_exponent())"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "return 40u - countLeadingZeros", "return 32u - countLeadingZeros"),
    // shared/coop_patch.wgsl.jinja
    ("conv2d_relu_maxpool2x2.forward/coop8", "(at.x + row) * 18u + at.y", "(at.x + row) * 18u"),
    ("conv2d_relu_maxpool2x2.forward/coop8", "place / {{ tiles_x }}u * 2u", "place / {{ tiles_x }}u"),
    ("conv2d_relu_maxpool2x2.backward_input/coop8", "(2 - kx if BY_COLUMN else kx)", "(kx)"),
    // shared/coop.wgsl.jinja
    ("dense.forward/coop8", "let column = subgroup % {{ COLUMNS }}u * {{ ACROSS * SIDE }}u;", "let column = 0u * subgroup;"),
    ("dense.forward/coop8", "{{ DOWN }}u + down) *", "{{ DOWN }}u + across) *"),
    ("dense.update_weight/coop8", "{{ ACROSS }}u + across) *", "{{ ACROSS }}u + down) *"),
    ("dense.update_weight/coop8", "{{ k * left_pitch + m * fours }}u + row / 4u", "{{ k * left_pitch + m * fours }}u"),
    // collect.wgsl
    ("collect.forward", "step.first + id / dims.stride", "id / dims.stride"),
    ("collect.forward", " - dims.table_first", ""),
    ("collect.forward", "row < dims.table_len", "row <= dims.table_len"),
    ("collect.forward", "row * dims.stride + id % dims.stride", "row * dims.stride"),
    ("collect.forward", "all_probs[to] = probs[id]", "all_probs[to] = logits[id]"),
    ("collect.forward", "id < dims.batch * dims.stride", "id < dims.batch"),
    // score.wgsl
    ("score.backward", "p > 0.5", "p < 0.5"),
    ("score.backward", "z > m", "z >= m"),
    ("score.backward", "p * (1.0 - p)", "p"),
    ("score.backward", "pc * (hot - probs[at + j])", "hot - probs[at + j]"),
    ("score.backward", "dims.class_index == 1u", "dims.class_index == 0u"),
    ("score.backward", "select(0.0, signed, j == 0u)", "signed"),
    ("score.backward", "|| dims.target_kind == 1u", ""),
    // conv2d_relu_map.wgsl, conv2d_relu_map_pictures.wgsl, shared/map_block.wgsl, shared/pictures_block.wgsl
    ("conv2d_relu_map.forward", "z + bias[co]", "z"),
    ("conv2d_relu_map.forward", "alpha[n * (dims.out_c / 4u) + co]", "alpha[co]"),
    ("conv2d_relu_map.forward", "select(y, vec4<f32>(), y < vec4<f32>())", "y"),
    ("conv2d_relu_map.forward", "co += 2u * sharing", "co += 4u * sharing"),
    ("conv2d_relu_map.forward", "countLeadingZeros(eights - 1u)", "countLeadingZeros(eights)"),
    ("conv2d_relu_map.forward", "select(weighed(block.b[3], n, co_b), 0.0, co_b == co)", "weighed(block.b[3], n, co_b)"),
    ("conv2d_relu_map.forward", "weighed(block.a[2], n, co)", "weighed(block.a[1], n, co)"),
    ("conv2d_relu_map.forward", "k < sharing; k++", "k + 1u < sharing; k++"),
    ("conv2d_relu_map.forward", "k * 8u * blocks + i", "k * 8u + i"),
    ("conv2d_relu_map.forward", "i < 8u * blocks; i += 64u", "i < min(8u * blocks, 64u); i += 64u"),
    ("conv2d_relu_map.forward", "y < dims.out_h && x < dims.out_w", "y < dims.out_h"),
    ("conv2d_relu_map.forward", "y < dims.out_h && x < dims.out_w", "x < dims.out_w"),
    ("conv2d_relu_map.forward", "block / of_each.x % of_each.y * 2u", "block / of_each.x % of_each.y"),
    ("conv2d_relu_map.forward", "return n < dims.batch;", "return true;"),
    ("conv2d_relu_map.forward_pictures", "n < dims.batch && picture_of(min(n, dims.batch - 1u)) < dims.chunk_len", "n < dims.batch"),
    ("conv2d_relu_map.forward_pictures", "- 1u)) < dims.chunk_len", "- 1u)) <= dims.chunk_len"),
    ("conv2d_relu_map.forward_pictures", "step.first + place", "place"),
    ("conv2d_relu_map.forward_pictures", "rescaled(word, 0u), rescaled(word, 8u)", "rescaled(word, 8u), rescaled(word, 0u)"),
    ("conv2d_relu_map.forward_pictures", "let iy = i32(oy + ky) - i32(dims.pad_top)", "let iy = i32(oy + ky)"),
    // lanes8/conv2d_relu_map_winograd4.wgsl.jinja, lanes8/conv2d_relu_map_pictures.wgsl.jinja, shared/map_tile.wgsl.jinja
    ("conv2d_relu_map.forward/winograd4_lanes8", "(lane & bit) != 0u", "(lane & bit) == 0u"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "lane ^ bit", "lane"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "z + own.bias", "z"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "select(y, {{ vec }}(), y < {{ vec }}())", "y"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "if (place.group > 0u)", "if (true)"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "if (place.group > 0u)", "if (false)"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "group < dims.out_c", "group + 1u < dims.out_c"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "y{{ half }} < dims.out_h && x{{ half }} < dims.out_w", "y{{ half }} < dims.out_h"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "y{{ half }} < dims.out_h && x{{ half }} < dims.out_w", "x{{ half }} < dims.out_w"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "alpha[n * (dims.out_c / {{ LANE_C }}u) + co]", "alpha[co]"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "(vec2<u32>(dims.out_w, dims.out_h) + 3u) / 4u", "vec2<u32>(dims.out_w, dims.out_h) / 4u"),
    ("conv2d_relu_map.forward/winograd4_lanes8", "weighed(z{{ p % 4 + 1 }}[{{ r }}], own)", "weighed(z{{ p % 4 }}[{{ r }}], own)"),
    ("conv2d_relu_map.forward_pictures/winograd4_lanes8", "picture_of(n) >= dims.chunk_len", "picture_of(n) > dims.chunk_len"),
    ("conv2d_relu_map.forward_pictures/winograd4_lanes8", "group < dims.out_c", "group + 1u < dims.out_c"),
    ("conv2d_relu_map.forward_pictures/winograd4_lanes8", "(vec2<u32>(dims.out_w, dims.out_h) + 3u) / 4u", "vec2<u32>(dims.out_w, dims.out_h) / 4u"),
    ("conv2d_relu_map.forward_pictures/winograd4_lanes8", "4u * place.x + lane % 4u", "4u * place.x + lane / 2u"),
    ("conv2d_relu_map.forward_pictures/winograd4_lanes8", "(place.n * dims.out_h + y{{ half }})", "y{{ half }}"),
    ("conv2d_relu_map.forward_pictures/winograd4_lanes8", "own_of(n, group, lane)", "own_of(n, 0u, lane)"),
    // gradcam.wgsl
    ("gradcam.row_sum", "at / c4 * dims.w * c4", "at / c4 * dims.h * c4"),
    ("gradcam.row_sum", "dx[start + i * c4]", "dx[start + i]"),
    ("gradcam.row_sum", "i < dims.w; i++) {\n        sum", "i + 1u < dims.w; i++) {\n        sum"),
    ("gradcam.open_row_sum", "y[place] > vec4<f32>()", "y[place] < vec4<f32>()"),
    ("gradcam.open_row_sum", "let place = first + i * c4", "let place = first + i"),
    ("gradcam.weights", "sum / f32(dims.area)", "sum"),
    ("gradcam.weights", "sum / f32(dims.area)", "sum / f32(dims.h * dims.w)"),
    ("gradcam.weights", "at / c4 * dims.h * c4", "at * dims.h"),
    ("gradcam.map", "dims.positive != 0u", "dims.positive == 0u"),
    ("gradcam.map", "max(d, vec4<f32>())", "d"),
    ("gradcam.map", "c < c4; c++", "c + 1u < c4; c++"),
    ("gradcam.map", "2u * here.y + here.x", "2u * here.x + here.y"),
    ("gradcam.map", "here.x < 2u && here.y < 2u", "here.x < 2u"),
    ("gradcam.map", "here.x < 2u && here.y < 2u", "here.y < 2u"),
    ("gradcam.map", "min(pixel / 2u, pool - 1u)", "min(pixel, pool - 1u)"),
    ("gradcam.map", "pooled[first + c]", "pooled[first]"),
    ("gradcam.row_maximum", "m = max(m, raw_map[start + i])", "m = min(m, raw_map[start + i])"),
    ("gradcam.row_maximum", "var m = raw_map[start]", "var m = 0.0"),
    ("gradcam.row_maximum", "var i = 1u; i < dims.w", "var i = 2u; i < dims.w"),
    ("gradcam.normalise", "max(r, 0.0) / m", "r / m"),
    ("gradcam.normalise", "m > 0.0", "m >= 0.0"),
    ("gradcam.normalise", "row_maxima[n * dims.h + i]", "row_maxima[i]"),
    ("gradcam.normalise", "max(r, 0.0) / m, m > 0.0", "max(r, 0.0), m > 0.0"),
    // gradcam_weights_before.wgsl
    ("gradcam.weights_before", "tap < dims.taps", "tap + 1u < dims.taps"),
    ("gradcam.weights_before", "(tap * dims.in_c + ci) * c4 + co", "(tap * dims.in_c + ci) * c4"),
    ("gradcam.weights_before", "sums[n * c4 + co]", "sums[co]"),
    ("gradcam.weights_before", "sum / f32(dims.area)", "sum"),
    // resize.wgsl
    ("resize.bilinear", "bitcast<f32>(dims.scale_x_bits) - 0.5", "bitcast<f32>(dims.scale_x_bits)"),
    ("resize.bilinear", "(f32(oy) + 0.5)", "f32(oy)"),
    ("resize.bilinear", "bitcast<f32>(dims.scale_y_bits)", "bitcast<f32>(dims.scale_x_bits)"),
    ("resize.bilinear", "dims.in_w - 1u", "dims.in_w"),
    ("resize.bilinear", "(lower - upper) * (u - floor(u))", "(lower - upper) * tx"),
    ("resize.bilinear", "lower = blended(base + y1 * dims.in_w", "lower = blended(base + y0 * dims.in_w"),
    ("resize.bilinear", "if (y0 != lower_row)", "if (false)"),
    ("resize.bilinear", "                upper = lower;\n", ""),
    ("resize.bilinear", "if (y1 != lower_row)", "if (y1 > lower_row + 1u)"),
    ("resize.bilinear", "% parts * ROWS", "% parts"),
    ("resize.bilinear", "min(first + ROWS, dims.out_h)", "min(first + ROWS - 1u, dims.out_h)"),
    ("resize.bilinear", "n * dims.in_h * dims.in_w", "n * dims.in_h"),
    // peak.wgsl
    ("peak.flops", "a + b + c", "a + b + b"),
    ("peak.flops", "round < dims.rounds", "round + 1u < dims.rounds"),
    ("peak.flops", "vec4<f32>(line[0])", "vec4<f32>(1.0)"),
    ("peak.flops", "8.0, 9.0, 10.0, 11.0", "8.0, 9.0, 10.0, 10.0"),
    ("peak.flops", "id < dims.len)", "id <= dims.len)"),
    ("peak.copy", "copied[id] = source[id]", "copied[id] = source[id ^ 1u]"),
    ("peak.copy", "dims.len / 4u", "dims.len / 8u"),
    // peak_products.wgsl, coop/peak_products.wgsl.jinja
    ("peak.products", "round < dims.rounds", "round + 1u < dims.rounds"),
    ("peak.products", "l < 16u", "l < 15u"),
    ("peak.products", "id % 128u]", "id % 64u]"),
    ("peak.products", "row * 16u + l", "row * 16u"),
    ("peak.products/coop8", "round < dims.rounds", "round < max(dims.rounds, 1u)"),
    ("peak.products/coop8", "a{{ k }}_{{ m }}, b{{ k }}_{{ n }}, sums", "a{{ k }}_{{ m }}, b{{ k }}_{{ n // 2 }}, sums"),
    ("peak.products/coop8", "{{ k * 32 + n * fours }}u", "{{ n * fours }}u"),
    ("peak.products/coop8", "owner / {{ beside }}u * {{ 2 * SIDE }}u", "owner / {{ beside }}u * {{ SIDE }}u"),
    ("peak.products/coop8", "x[group * 256u + id", "x[id"),
];

/// Faults that the harness lets pass on some driver, and why it may.
const SURVIVORS: &[(Fault, &str)] = &[
    (
        ("sigmoid_bce.forward", "(p > 0.5) == one", "(p >= 0.5) == one"),
        "differs at z = 0 only, where WGSL allows exp(0) to be a few ulps off 1 and so p to be on either side of 0.5",
    ),
    (
        ("dense.backward_input/lanes8", "if (first + {{ 8 * q }}u + lane < {{ BATCH }}u)", "if (true)"),
        "the lanes past the batch hold the last picture's gradients and would store its own values once more",
    ),
    (
        ("gather.forward", "* 0.003921569", "/ 255.0"),
        "WGSL allows a quotient 2.5 ulp: SwiftShader multiplies by the reciprocal, and is right by accident",
    ),
];

/// How often a fault's find text stands in its kernel's file and shared texts, which of a variant are templates.
fn found(&(key, find, _): &Fault) -> usize {
    let kernel = kernel::by_key(key);
    format!("{}{}", kernel.source, kernel.shared.concat()).matches(find).count()
}

/// The kernel with the fault in its own file or in a shared text.
fn plant(fault: &Fault) -> &'static Kernel {
    let &(key, find, replace) = fault;
    let kernel = kernel::by_key(key);
    assert_eq!(found(fault), 1, "{key}: {find:?}");
    let alter = |text: &'static str| -> &'static str { Box::leak(text.replace(find, replace).into_boxed_str()) };
    let shared: Vec<&'static str> = kernel.shared.iter().map(|text| alter(text)).collect();
    let mutant = Kernel { source: alter(kernel.source), shared: Box::leak(shared.into_boxed_slice()), ..*kernel };
    let text = mutant.wgsl(&(kernel.cases)()[0]);
    let module =
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{key} with {replace:?}: {}", e.emit_to_string(&text)));
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), common::capabilities(kernel))
        .validate(&module)
        .unwrap_or_else(|e| panic!("{key} with {replace:?}: {}", e.emit_to_string(&text)));
    Box::leak(Box::new(mutant))
}

/// Whether a fault of the kernel with this key stands in this kernel's text too: the two sizes of cooperative matrices share theirs, and
/// so do the two forms of the tiled Winograd and the constants of a technique.
fn same_text(key: &str, kernel: &Kernel) -> bool {
    let of = kernel::by_key(key);
    of.file == kernel.file && of.entry == kernel.entry
}

#[test]
fn every_fault_has_one_place_in_its_kernels_texts() {
    let places: Vec<_> = FAULTS.iter().map(|fault| (found(fault), fault)).filter(|(places, _)| *places != 1).collect();
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn every_kernel_and_every_shared_text_has_faults() {
    for k in kernel::all() {
        let planted = FAULTS.iter().filter(|f| same_text(f.0, k)).count();
        assert!(planted >= 2, "{} has {planted} faults planted", k.key);
    }
    for text in kernel::all().flat_map(|k| k.shared) {
        let in_text = |f: &&Fault| kernel::by_key(f.0).shared.contains(text) && text.contains(f.1);
        assert!(FAULTS.iter().filter(in_text).count() >= 2, "too few faults in\n{text}");
    }
}

#[test]
fn planted_faults_are_caught() {
    let Some(adapter) = common::adapter() else { return };
    let filter = std::env::var("WGRADCAM_KERNEL").unwrap_or_default();
    let faults: Vec<&Fault> = FAULTS.iter().filter(|f| f.0.contains(&filter)).collect();
    let next = Mutex::new(faults.iter().copied());
    let survivors = Mutex::new(Vec::new());
    let skipped = AtomicUsize::new(0);
    // How many faults a case of a kernel has shown.
    let shown = Mutex::new(BTreeMap::<(&str, Vec<u32>), usize>::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(fault) = next.lock().expect("no thread panicked").next() else { return };
                    let own = std::iter::once(kernel::by_key(fault.0));
                    let mut of_its_text = own.chain(kernel::all().filter(|k| same_text(fault.0, k)));
                    let Some(played) = of_its_text.find(|k| adapter.can_run(k)) else {
                        plant(fault);
                        skipped.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let mutant = plant(&(played.key, fault.1, fault.2));
                    // A grid is folded only where it is large.
                    let any = kernel::SLICE_WGSL.contains(fault.1);
                    let wanted = |dims: &Vec<u32>| any || verify::elements(mutant, dims) <= SMALL;
                    let mut cases: Vec<_> = (mutant.cases)().into_iter().filter(wanted).collect();
                    assert!(!cases.is_empty(), "{} has no case for this fault", mutant.key);
                    // One case after the other, what has shown most faults first: every case of a variant is compiled anew, some for
                    // ten seconds.
                    cases.sort_by_cached_key(|dims| {
                        Reverse(shown.lock().expect("no thread panicked").get(&(mutant.key, dims.clone())).copied())
                    });
                    let failure = cases.into_iter().find_map(|dims| {
                        let failure = verify::check(&adapter, mutant, std::slice::from_ref(&dims)).failure?;
                        *shown.lock().expect("no thread panicked").entry((mutant.key, dims)).or_default() += 1;
                        Some(failure)
                    });
                    match failure {
                        None => survivors.lock().expect("no thread panicked").push(*fault),
                        Some(text) => {
                            // A fault that the CPU twin fails, or that the driver refuses, was not caught by a comparison.
                            let compared = ["should be", "behind the end", "other bytes"].iter().any(|what| text.contains(what));
                            assert!(compared && !text.contains("CPU twin"), "{}: {text}", mutant.key);
                        }
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().expect("no thread panicked");
    let planted = faults.len() - skipped.into_inner();
    let caught = planted - survivors.len();
    eprintln!("{caught} of {planted} planted faults were caught");
    for (key, find, replace) in &survivors {
        let reason = SURVIVORS.iter().find(|(f, _)| *f == (*key, *find, *replace)).map(|(_, reason)| *reason);
        eprintln!("survived: {key}: {find:?} -> {replace:?}: {}", reason.unwrap_or("NOT EXPLAINED"));
    }
    assert!(survivors.iter().all(|s| SURVIVORS.iter().any(|(f, _)| f == s)), "a fault survived unexplained");
    assert!(20 * caught >= 19 * planted, "fewer than 95 % caught");
}

#[test]
fn an_unaltered_kernel_passes() {
    let Some(adapter) = common::adapter() else { return };
    let mutant = plant(&("dense.forward", "// 8 rows by 8 outputs", "// eight rows by eight outputs"));
    let row = verify::check(&adapter, mutant, &(mutant.cases)());
    assert!(row.passed, "{:?}", row.failure);
}

#[test]
fn tune_never_chooses_a_technique_that_fails_its_check() {
    let Some(adapter) = common::adapter() else { return };
    let kernel = kernel::by_key("dense.forward");
    let faulty = plant(FAULTS.iter().find(|f| f.0 == kernel.key).expect("a fault"));
    let faulty: &'static Kernel = Box::leak(Box::new(Kernel { key: "dense.forward/faulty", ..*faulty }));
    let right: &'static Kernel = Box::leak(Box::new(Kernel { key: "dense.forward/right", ..*kernel }));
    let dims = (kernel.cases)()[0].clone();
    let contest = |candidates| Contest { kernel, dims: dims.clone(), candidates };
    let mut tuner = Tuner::new(&adapter, 3);
    let measured = tuner.hold(&contest(vec![kernel, faulty]), |_| ()).expect("it is held");
    assert_eq!(measured.chosen, kernel.key);
    let [a, b] = &measured.candidates[..] else { panic!("{measured:?}") };
    assert!(a.failure.is_none() && a.median_ms.is_some(), "{a:?}");
    assert!(b.median_ms.is_none() && b.failure.as_ref().is_some_and(|f| f.contains("should be")), "{b:?}");
    // Not even where it stands in the kernel's own place.
    assert_eq!(tuner.hold(&contest(vec![faulty, right]), |_| ()).expect("it is held").chosen, right.key);
    let error = format!("{:#}", tuner.hold(&contest(vec![faulty]), |_| ()).expect_err("nothing is right"));
    assert!(error.contains("no technique for dense.forward passes"), "{error}");
}
