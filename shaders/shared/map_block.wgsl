// What conv2d_relu_map.wgsl and conv2d_relu_map_pictures.wgsl do with register blocks of 2 x 4 pixels by 8 channels. It makes a `Block` by
// `correlate`, asks `is_here` of the including file, reads its `bias` and `alpha` and writes its `raw`.

// Of a workgroup: (invocations, 8 pixels of their block).
var<workgroup> parts: array<f32, 512>;

// Invocations that share the channels of a block: one for every eight of them, a power of two, a workgroup at most.
fn shares() -> u32 {
    let eights = min((dims.out_c / 4u + 1u) / 2u, 64u);
    return 1u << (32u - countLeadingZeros(eights - 1u));
}

// Column, row and picture of a block's first pixel.
fn first_pixel(block: u32) -> vec3<u32> {
    let of_each = vec2<u32>((dims.out_w + 3u) / 4u, (dims.out_h + 1u) / 2u);
    return vec3<u32>(block % of_each.x * 4u, block / of_each.x % of_each.y * 2u, block / (of_each.x * of_each.y));
}

// What four channels of a pixel add to the map.
fn weighed(z: vec4<f32>, n: u32, co: u32) -> f32 {
    let y = z + bias[co];
    return dot(alpha[n * (dims.out_c / 4u) + co], select(y, vec4<f32>(), y < vec4<f32>()));
}

// The `id`-th invocation's share of a block, and then its pixels of the workgroup's blocks.
fn store_map(id: u32) {
    let own = id % 64u;
    let sharing = shares();
    let blocks = 64u / sharing;
    let first_block = id / 64u * blocks;
    let out_c4 = dims.out_c / 4u;
    let first = first_pixel(first_block + own % blocks);
    let n = first.z;
    var sums = array<f32, 8>();
    if (is_here(n)) {
        for (var co = own / blocks * 2u; co < out_c4; co += 2u * sharing) {
            let co_b = min(co + 1u, out_c4 - 1u);
            var block = Block();
            correlate(n, first.y, first.x, co, co_b, &block);
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
    parts[own * 8u + 0u] = sums[0];
    parts[own * 8u + 1u] = sums[1];
    parts[own * 8u + 2u] = sums[2];
    parts[own * 8u + 3u] = sums[3];
    parts[own * 8u + 4u] = sums[4];
    parts[own * 8u + 5u] = sums[5];
    parts[own * 8u + 6u] = sums[6];
    parts[own * 8u + 7u] = sums[7];
    workgroupBarrier();
    for (var i = own; i < 8u * blocks; i += 64u) {
        let corner = first_pixel(first_block + i / 8u);
        let y = corner.y + i % 8u / 4u;
        let x = corner.x + i % 4u;
        var sum = 0.0;
        for (var k = 0u; k < sharing; k++) {
            sum += parts[k * 8u * blocks + i];
        }
        if (is_here(corner.z) && y < dims.out_h && x < dims.out_w) {
            raw[(corner.z * dims.out_h + y) * dims.out_w + x] = sum;
        }
    }
}
