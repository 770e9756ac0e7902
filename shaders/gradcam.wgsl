// Grad-CAM and its relatives on one convolution layer: dx = the score's gradient behind the layer's pool, which holds the same values
// as the one before it without the zeros between them.

@group(0) @binding(1) var<storage, read> dx: array<vec4<f32>>; // (batch, h, w, c)
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<f32>>; // (batch, h, c)

// rows[n,y,c] = sum_x dx[n,y,x,c]
@compute @workgroup_size(64)
fn row_sum(@builtin(global_invocation_id) gid: vec3<u32>) {
    let c4 = dims.c / 4u;
    let all = dims.batch * dims.h * c4;
    let id = linear_id(gid);
    let at = min(id, all - 1u);
    let start = row_start(at);
    var sum = vec4<f32>();
    for (var i = 0u; i < dims.w; i++) {
        sum += dx[start + i * c4];
    }
    if (id < all) {
        rows[id] = sum;
    }
}

// Where the four channels of a row that the `at`-th sums are of begin in dx.
fn row_start(at: u32) -> u32 {
    let c4 = dims.c / 4u;
    return at / c4 * dims.w * c4 + at % c4;
}

@group(0) @binding(2) var<storage, read> y: array<vec4<f32>>; // (batch, h, w, c): what the relu and the pool give
@group(0) @binding(3) var<storage, read_write> open_rows: array<vec4<f32>>; // (batch, h, c)

// rows[n,y,c] = sum_x dx[n,y,x,c] where y[n,y,x,c] > 0: of the gradient before the relu
@compute @workgroup_size(64)
fn open_row_sum(@builtin(global_invocation_id) gid: vec3<u32>) {
    let c4 = dims.c / 4u;
    let all = dims.batch * dims.h * c4;
    let id = linear_id(gid);
    let at = min(id, all - 1u);
    let first = row_start(at);
    var sum = vec4<f32>();
    for (var i = 0u; i < dims.w; i++) {
        let place = first + i * c4;
        sum += select(vec4<f32>(), dx[place], y[place] > vec4<f32>());
    }
    if (id < all) {
        open_rows[id] = sum;
    }
}

@group(0) @binding(1) var<storage, read> row_sums: array<vec4<f32>>; // (batch, h, c)
@group(0) @binding(2) var<storage, read_write> alpha: array<vec4<f32>>; // (batch, c)

// alpha[n,c] = sum_y rows[n,y,c] / area
@compute @workgroup_size(64)
fn weights(@builtin(global_invocation_id) gid: vec3<u32>) {
    let c4 = dims.c / 4u;
    let all = dims.batch * c4;
    let id = linear_id(gid);
    let at = min(id, all - 1u);
    let start = at / c4 * dims.h * c4 + at % c4;
    var sum = vec4<f32>();
    for (var i = 0u; i < dims.h; i++) {
        sum += row_sums[start + i * c4];
    }
    if (id < all) {
        alpha[id] = sum / f32(dims.area);
    }
}

@group(0) @binding(2) var<storage, read> pooled: array<vec4<f32>>; // (batch, h/2, w/2, c): what the pool gives
@group(0) @binding(3) var<storage, read> taken: array<u32>; // (batch, h/2, w/2, c/4): its places, a byte per channel
@group(0) @binding(4) var<storage, read_write> raw: array<f32>; // (batch, h, w)

// raw[n,y,x] = over the channels whose window took the pixel sum_c dx pooled (HiResCAM) or, if positive, sum_c relu(dx) pooled (LayerCAM)
@compute @workgroup_size(64)
fn map(@builtin(global_invocation_id) gid: vec3<u32>) {
    let c4 = dims.c / 4u;
    let all = dims.batch * dims.h * dims.w;
    let id = linear_id(gid);
    let at = min(id, all - 1u);
    let pool = vec2<u32>(dims.w, dims.h) / 2u;
    let pixel = vec2<u32>(at % dims.w, at / dims.w % dims.h);
    let window = min(pixel / 2u, pool - 1u);
    let here = pixel - 2u * window;
    let first = ((at / (dims.w * dims.h) * pool.y + window.y) * pool.x + window.x) * c4;
    var sum = 0.0;
    for (var c = 0u; c < c4; c++) {
        let d = dx[first + c];
        let g = select(d, max(d, vec4<f32>()), dims.positive != 0u);
        // The odd last row and column are past every place.
        let took = places(taken[first + c]) == vec4<u32>(2u * here.y + here.x);
        sum += dot(select(vec4<f32>(), g, took & vec4<bool>(in_window(here))), pooled[first + c]);
    }
    if (id < all) {
        raw[id] = sum;
    }
}

// Whether a pixel is one of its window's.
fn in_window(here: vec2<u32>) -> bool {
    return here.x < 2u && here.y < 2u;
}

@group(0) @binding(1) var<storage, read> raw_map: array<f32>; // (batch, h, w)
@group(0) @binding(2) var<storage, read_write> row_max: array<f32>; // (batch, h)

// row_max[n,y] = max_x raw[n,y,x]
@compute @workgroup_size(64)
fn row_maximum(@builtin(global_invocation_id) gid: vec3<u32>) {
    let all = dims.batch * dims.h;
    let id = linear_id(gid);
    let start = min(id, all - 1u) * dims.w;
    var m = raw_map[start];
    for (var i = 1u; i < dims.w; i++) {
        m = max(m, raw_map[start + i]);
    }
    if (id < all) {
        row_max[id] = m;
    }
}

@group(0) @binding(2) var<storage, read> row_maxima: array<f32>; // (batch, h)
@group(0) @binding(3) var<storage, read_write> normalised: array<f32>; // (batch, h, w)

// normalised = max(raw, 0) / max(raw of the picture) if that maximum is positive, else 0
@compute @workgroup_size(64)
fn normalise(@builtin(global_invocation_id) gid: vec3<u32>) {
    let all = dims.batch * dims.h;
    let id = linear_id(gid);
    let row = min(id, all - 1u);
    let n = row / dims.h;
    var m = row_maxima[n * dims.h];
    for (var i = 1u; i < dims.h; i++) {
        m = max(m, row_maxima[n * dims.h + i]);
    }
    if (id < all) {
        for (var i = 0u; i < dims.w; i++) {
            let r = raw_map[id * dims.w + i];
            normalised[id * dims.w + i] = select(0.0, max(r, 0.0) / m, m > 0.0);
        }
    }
}
