// What conv2d_relu_map.wgsl and conv2d_relu_map_pictures.wgsl do with register blocks of 2 x 4 pixels by 8 channels. Eight invocations share the
// channels of a block's pixels, and each stores one of the eight pixels. It makes a `Block` by `correlate`, asks `is_here` of the including file, reads
// its `bias` and `alpha` and writes its `raw`.

// Of eight blocks: (8 invocations of a block, 8 blocks, 8 pixels).
var<workgroup> parts: array<f32, 512>;

// What four channels of a pixel add to the map.
fn weighed(z: vec4<f32>, n: u32, co: u32) -> f32 {
    let y = z + bias[co];
    return dot(alpha[n * (dims.out_c / 4u) + co], select(y, vec4<f32>(), y < vec4<f32>()));
}

// The `id`-th invocation's pixel.
fn store_map(id: u32) {
    let x_blocks = (dims.out_w + 3u) / 4u;
    let y_blocks = (dims.out_h + 1u) / 2u;
    let out_c4 = dims.out_c / 4u;
    let at = id / 64u * 8u + id % 8u;
    let share = id % 64u / 8u;
    let ox = at % x_blocks * 4u;
    let oy = at / x_blocks % y_blocks * 2u;
    let n = at / (x_blocks * y_blocks);
    var sums = array<f32, 8>();
    if (is_here(n)) {
        for (var co = 2u * share; co < out_c4; co += 16u) {
            let co_b = min(co + 1u, out_c4 - 1u);
            var block = Block();
            correlate(n, oy, ox, co, co_b, &block);
            sums[0] += weighed(block.a[0], n, co) + select(weighed(block.b[0], n, co_b), 0.0, co_b == co);
            sums[1] += weighed(block.a[1], n, co) + select(weighed(block.b[1], n, co_b), 0.0, co_b == co);
            sums[2] += weighed(block.a[2], n, co) + select(weighed(block.b[2], n, co_b), 0.0, co_b == co);
            sums[3] += weighed(block.a[3], n, co) + select(weighed(block.b[3], n, co_b), 0.0, co_b == co);
            sums[4] += weighed(block.a[4], n, co) + select(weighed(block.b[4], n, co_b), 0.0, co_b == co);
            sums[5] += weighed(block.a[5], n, co) + select(weighed(block.b[5], n, co_b), 0.0, co_b == co);
            sums[6] += weighed(block.a[6], n, co) + select(weighed(block.b[6], n, co_b), 0.0, co_b == co);
            sums[7] += weighed(block.a[7], n, co) + select(weighed(block.b[7], n, co_b), 0.0, co_b == co);
        }
    }
    parts[id % 64u * 8u + 0u] = sums[0];
    parts[id % 64u * 8u + 1u] = sums[1];
    parts[id % 64u * 8u + 2u] = sums[2];
    parts[id % 64u * 8u + 3u] = sums[3];
    parts[id % 64u * 8u + 4u] = sums[4];
    parts[id % 64u * 8u + 5u] = sums[5];
    parts[id % 64u * 8u + 6u] = sums[6];
    parts[id % 64u * 8u + 7u] = sums[7];
    workgroupBarrier();
    var sum = 0.0;
    for (var k = 0u; k < 8u; k++) {
        sum += parts[(k * 8u + id % 8u) * 8u + share];
    }
    let y = oy + share / 4u;
    let x = ox + share % 4u;
    if (is_here(n) && y < dims.out_h && x < dims.out_w) {
        raw[(n * dims.out_h + y) * dims.out_w + x] = sum;
    }
}
