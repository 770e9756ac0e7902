//! `tf.image.resize` with its defaults (bilinear, half-pixel centres, no antialiasing): `shaders/resize.wgsl`.
//!
//! `u = (out + 0.5) in/out - 0.5`, blend of floor(u) and ceil(u), clamped; coordinates in f32 for every float type, as
//! TensorFlow computes them.

use super::lanes8::{LANES, gathered, variant};
use super::product;
use crate::kernel::{
    Binding, Bound, Call, Cost, Dims, Kernel, MAX_GROUPS, Real, SLICE_WGSL, Variant, another, grid, passes, random_input,
};
use rayon::prelude::*;

crate::dims! {
    /// Sizes of one resize.
    pub struct ResizeDims {
        /// Maps.
        batch,
        /// Input height.
        in_h,
        /// Input width.
        in_w,
        /// Output height.
        out_h,
        /// Output width.
        out_w,
        /// fl32(in_h) / fl32(out_h) as bits.
        scale_y_bits,
        /// fl32(in_w) / fl32(out_w) as bits.
        scale_x_bits,
    }
}

impl ResizeDims {
    /// A resize of `batch` maps.
    pub fn new(batch: usize, [in_h, in_w]: [usize; 2], [out_h, out_w]: [usize; 2]) -> Self {
        Self {
            batch: batch as u32,
            in_h: in_h as u32,
            in_w: in_w as u32,
            out_h: out_h as u32,
            out_w: out_w as u32,
            scale_y_bits: (in_h as f32 / out_h as f32).to_bits(),
            scale_x_bits: (in_w as f32 / out_w as f32).to_bits(),
        }
    }
}

fn x_len(d: &[u32]) -> usize {
    let d = ResizeDims::of(d);
    product(&[d.batch, d.in_h, d.in_w])
}
fn y_len(d: &[u32]) -> usize {
    let d = ResizeDims::of(d);
    product(&[d.batch, d.out_h, d.out_w])
}

/// Rows of a column that an invocation makes.
const ROWS: u32 = 16;

/// The op's kernel.
pub const KERNELS: &[Kernel] = &[Kernel {
    key: "resize.bilinear",
    variant: None,
    formula: "u = (out + 0.5) scale - 0.5; y = the linear blend of x at floor(u) and ceil(u), clamped, in both directions",
    file: "resize.wgsl",
    source: include_str!("../../shaders/resize.wgsl"),
    shared: &[SLICE_WGSL],
    entry: "bilinear",
    dims: ResizeDims::FIELDS,
    step: false,
    bindings: &[Binding::read("x", x_len), Binding::write("y", y_len)],
    grid: |d| {
        let d = ResizeDims::of(d);
        grid(product(&[d.batch, d.out_w, d.out_h.div_ceil(ROWS)]))
    },
    loops: |d| passes(&[ResizeDims::of(d).out_h.min(ROWS) as usize]),
    cost: |d| Cost { flops: 14.0 * y_len(d) as f64, bytes: 4.0 * (x_len(d) + y_len(d)) as f64 },
    made: 1.0,
    twin: crate::twin!(bilinear),
    bound: Bound::Own(bound),
    cases: || {
        [
            (1, [1, 1], [3, 5]),
            (2, [28, 28], [128, 128]),
            (1, [126, 61], [128, 130]),
            (3, [7, 9], [4, 9]),
            (1, [14, 14], [128, 128]),
        ]
        .map(|(batch, from, to)| ResizeDims::new(batch, from, to).words())
        .to_vec()
    },
    input: random_input,
}];

/// The variants for drivers on CPUs.
pub const TECHNIQUES: &[Kernel] = &[LANES8, gathered("resize.bilinear/lanes8_gathered", LANES8)];

const LANES8: Kernel = Kernel {
    grid: |d| {
        let d = ResizeDims::of(d);
        [d.out_w.div_ceil(LANES), d.out_h.div_ceil(ROWS), d.batch]
    },
    ..another(
        &KERNELS[0],
        "resize.bilinear/lanes8",
        "lanes8/resize.wgsl.jinja",
        include_str!("../../shaders/lanes8/resize.wgsl.jinja"),
        Variant {
            loads: |_| vec![("x", 1)],
            ..variant("resize.bilinear", |d| ResizeDims::of(d).batch <= MAX_GROUPS, |_| vec![("ROWS", ROWS)])
        },
    )
};

/// Three blends of three roundings each, and coordinates up to max(in) that may be contracted into an FMA on one side. The
/// largest value of the map stands for the window's: a contracted coordinate may fall into the next window, whose blend
/// starts where this one's ends.
fn bound(call: &Call<f64>) -> Vec<Vec<f64>> {
    let d: ResizeDims = call.dims();
    let (map, out) = (product(&[d.in_h, d.in_w]), product(&[d.out_h, d.out_w]));
    let scale = (18.0 + 8.0 * f64::from(d.in_h.max(d.in_w))) * 2f64.powi(-24);
    let maps = call.read(0)[..x_len(call.dims)].chunks_exact(map);
    let largest = maps.map(|map| map.iter().fold(0.0, |m: f64, v| m.max(v.abs())));
    vec![largest.flat_map(|m| std::iter::repeat_n(m * scale, out)).collect()]
}

/// The two source indices and the blend of one output coordinate.
fn source(out: usize, size: usize, scale: f32) -> (usize, usize, f32) {
    let u = (out as f32 + 0.5) * scale - 0.5;
    (u.floor().max(0.0) as usize, (u.ceil().max(0.0) as usize).min(size - 1), u - u.floor())
}

fn bilinear<T: Real>(call: &mut Call<T>) {
    let d: ResizeDims = call.dims();
    let (in_h, in_w, out_h, out_w) = (d.in_h as usize, d.in_w as usize, d.out_h as usize, d.out_w as usize);
    let n = y_len(call.dims);
    let x = call.read(0);
    let sources = |outputs: usize, size, bits| -> Vec<(usize, usize, T)> {
        let scale = f32::from_bits(bits);
        (0..outputs).map(|i| source(i, size, scale)).map(|(low, high, t)| (low, high, T::of(t.into()))).collect()
    };
    // The same for every map of the batch.
    let (rows, columns) = (sources(out_h, in_h, d.scale_y_bits), sources(out_w, in_w, d.scale_x_bits));
    let maps = call.writes[0].f_mut()[..n].par_chunks_exact_mut(out_h * out_w);
    maps.zip(x.par_chunks_exact(in_h * in_w)).for_each(|(y, map)| {
        for (y, &(y0, y1, ty)) in y.chunks_exact_mut(out_w).zip(&rows) {
            let (above, below) = (&map[y0 * in_w..][..in_w], &map[y1 * in_w..][..in_w]);
            for (y, &(x0, x1, tx)) in y.iter_mut().zip(&columns) {
                let (upper, lower) = (above[x0] + (above[x1] - above[x0]) * tx, below[x0] + (below[x1] - below[x0]) * tx);
                *y = upper + (lower - upper) * ty;
            }
        }
    });
}
