// tf.image.resize, bilinear, half-pixel centres, no antialiasing.

@group(0) @binding(1) var<storage, read> x: array<f32>; // (batch, in_h, in_w)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (batch, out_h, out_w)

// Rows of a column that an invocation makes from the top down: where a map grows, the next one mostly lies between the same two rows of x or
// one further on.
const ROWS = 16u;

// u = (out + 0.5) scale - 0.5; y = the linear blend of x at floor(u) and ceil(u), clamped, in both directions
@compute @workgroup_size(64)
fn bilinear(@builtin(global_invocation_id) gid: vec3<u32>) {
    let id = linear_id(gid);
    let parts = (dims.out_h + ROWS - 1u) / ROWS;
    let ox = id % dims.out_w;
    let first = id / dims.out_w % parts * ROWS;
    let n = id / (dims.out_w * parts);
    if (n < dims.batch) {
        let v = (f32(ox) + 0.5) * bitcast<f32>(dims.scale_x_bits) - 0.5;
        let x0 = u32(max(floor(v), 0.0));
        let x1 = min(u32(max(ceil(v), 0.0)), dims.in_w - 1u);
        let tx = v - floor(v);
        let base = n * dims.in_h * dims.in_w;
        var lower_row = 0u;
        var lower = blended(base, x0, x1, tx);
        var upper_row = 0u;
        var upper = lower;
        for (var oy = first; oy < min(first + ROWS, dims.out_h); oy++) {
            let u = (f32(oy) + 0.5) * bitcast<f32>(dims.scale_y_bits) - 0.5;
            let y0 = u32(max(floor(u), 0.0));
            let y1 = min(u32(max(ceil(u), 0.0)), dims.in_h - 1u);
            if (y0 != upper_row) {
                upper = lower;
                if (y0 != lower_row) {
                    upper = blended(base + y0 * dims.in_w, x0, x1, tx);
                }
                upper_row = y0;
            }
            if (y1 != lower_row) {
                lower = blended(base + y1 * dims.in_w, x0, x1, tx);
                lower_row = y1;
            }
            y[(n * dims.out_h + oy) * dims.out_w + ox] = upper + (lower - upper) * (u - floor(u));
        }
    }
}

// Of a row of x that begins at `row`, the blend of two columns.
fn blended(row: u32, x0: u32, x1: u32, tx: f32) -> f32 {
    let a = x[row + x0];
    return a + (x[row + x1] - a) * tx;
}
