//! Grad-CAM (Selvaraju et al. 2017), HiResCAM (Draelos and Carin 2020) and LayerCAM (Jiang et al. 2021) on one convolution
//! layer: `shaders/gradcam.wgsl`.
//!
//! With A the layer's output after the relu and g the score's gradient there: Grad-CAM `sum_c mean(g)_c A_c`, HiResCAM
//! `sum_c g_c A_c`, LayerCAM `sum_c relu(g_c) A_c`; then `max(map, 0) / max(map)`.

use crate::kernel::{Binding, Bound, Call, Cost, Dims, INDEX_WGSL, Kernel, Real, grid, random_input};

crate::dims! {
    /// One layer's activations and the technique.
    pub struct GradCamDims {
        /// Pictures in the batch.
        batch,
        /// Height of the layer's output.
        h,
        /// Width.
        w,
        /// Channels, a multiple of 4.
        c,
        /// 0 Grad-CAM, 1 HiResCAM, 2 LayerCAM.
        technique,
    }
}

impl GradCamDims {
    fn sizes(&self) -> [usize; 4] {
        [self.batch, self.h, self.w, self.c].map(|n| n as usize)
    }
}

const SOURCE: &str = include_str!("../../shaders/gradcam.wgsl");

fn x_len(d: &[u32]) -> usize {
    GradCamDims::of(d).sizes().iter().product()
}
fn rows_len(d: &[u32]) -> usize {
    let [n, h, _, c] = GradCamDims::of(d).sizes();
    n * h * c
}
fn weights_len(d: &[u32]) -> usize {
    let [n, _, _, c] = GradCamDims::of(d).sizes();
    n * c
}
fn map_len(d: &[u32]) -> usize {
    let [n, h, w, _] = GradCamDims::of(d).sizes();
    n * h * w
}
fn maxima_len(d: &[u32]) -> usize {
    let [n, h, _, _] = GradCamDims::of(d).sizes();
    n * h
}

fn cases() -> Vec<Vec<u32>> {
    [
        [1, 1, 1, 4, 0],
        [16, 1, 2, 4, 0],
        [2, 3, 5, 12, 1],
        [5, 9, 7, 8, 2],
        [1, 126, 126, 16, 0],
        [2, 61, 61, 32, 1],
        [3, 28, 28, 64, 0],
    ]
    .map(|[batch, h, w, c, technique]| GradCamDims { batch, h, w, c, technique }.words())
    .to_vec()
}

const fn kernel(
    key: &'static str,
    formula: &'static str,
    entry: &'static str,
    bindings: &'static [Binding],
    grid: fn(&[u32]) -> [u32; 3],
    twin: crate::kernel::Twin,
    bound: Bound,
) -> Kernel {
    Kernel {
        key,
        formula,
        file: "gradcam.wgsl",
        source: SOURCE,
        shared: &[INDEX_WGSL],
        entry,
        dims: GradCamDims::FIELDS,
        step: false,
        bindings,
        grid,
        cost: |d| Cost { flops: 2.0 * x_len(d) as f64, bytes: 4.0 * x_len(d) as f64 },
        twin,
        bound,
        cases,
        input: random_input,
    }
}

/// The op's kernels, in the order they run.
pub const KERNELS: &[Kernel] = &[
    kernel(
        "gradcam.row_sum",
        "rows[n,y,c] = sum_x dx[n,y,x,c]",
        "row_sum",
        &[Binding::read("dx", x_len), Binding::write("rows", rows_len)],
        |d| grid(rows_len(d) / 4),
        crate::twin!(row_sum),
        Bound::Twin(|d| f64::from(GradCamDims::of(d).w)),
    ),
    kernel(
        "gradcam.weights",
        "alpha[n,c] = sum_y rows[n,y,c] / (h w)",
        "weights",
        &[Binding::read("row_sums", rows_len), Binding::write("alpha", weights_len)],
        |d| grid(weights_len(d) / 4),
        crate::twin!(weights),
        Bound::Twin(|d| f64::from(GradCamDims::of(d).h) + 5.0),
    ),
    kernel(
        "gradcam.map",
        "raw[n,y,x] = sum_c alpha[n,c] x[n,y,x,c]; HiResCAM: sum_c dx x; LayerCAM: sum_c relu(dx) x",
        "map",
        &[
            Binding::read("dx", x_len),
            Binding::read("x", x_len),
            Binding::read("channel_weights", weights_len),
            Binding::write("raw", map_len),
        ],
        |d| grid(map_len(d)),
        crate::twin!(map),
        Bound::Twin(|d| f64::from(GradCamDims::of(d).c) + 1.0),
    ),
    kernel(
        "gradcam.row_maximum",
        "row_max[n,y] = max_x raw[n,y,x]",
        "row_maximum",
        &[Binding::read("raw_map", map_len), Binding::write("row_max", maxima_len)],
        |d| grid(maxima_len(d)),
        crate::twin!(row_maximum),
        Bound::Twin(|_| 0.0),
    ),
    kernel(
        "gradcam.normalise",
        "normalised = max(raw, 0) / max(raw of the picture) if that maximum is positive, else 0",
        "normalise",
        &[Binding::read("raw_map", map_len), Binding::read("row_maxima", maxima_len), Binding::write("normalised", map_len)],
        |d| grid(maxima_len(d)),
        crate::twin!(normalise),
        Bound::Own(|call| vec![quotients(call).into_iter().map(|v| 6.0 * 2f64.powi(-24) * v).collect()]),
    ),
];

fn row_sum<T: Real>(call: &mut Call<T>) {
    let [n, h, w, c] = GradCamDims::of(call.dims).sizes();
    let dx = call.read(0);
    for (row, sums) in call.writes[0].f_mut()[..n * h * c].chunks_exact_mut(c).enumerate() {
        sums.fill(T::zero());
        for pixel in dx[row * w * c..(row + 1) * w * c].chunks_exact(c) {
            sums.iter_mut().zip(pixel).for_each(|(s, &v)| *s += v);
        }
    }
}

fn weights<T: Real>(call: &mut Call<T>) {
    let [n, h, w, c] = GradCamDims::of(call.dims).sizes();
    let rows = call.read(0);
    for (picture, alpha) in call.writes[0].f_mut()[..n * c].chunks_exact_mut(c).enumerate() {
        for (ch, a) in alpha.iter_mut().enumerate() {
            let sum: T = (0..h).map(|y| rows[(picture * h + y) * c + ch]).sum();
            *a = sum / T::of((h * w) as f64);
        }
    }
}

fn map<T: Real>(call: &mut Call<T>) {
    let d: GradCamDims = call.dims();
    let [n, h, w, c] = d.sizes();
    let (dx, x, alpha) = (call.read(0), call.read(1), call.read(2));
    for (at, raw) in call.writes[0].f_mut()[..n * h * w].iter_mut().enumerate() {
        let (g, a) = (&dx[at * c..(at + 1) * c], &x[at * c..(at + 1) * c]);
        let shared = &alpha[at / (h * w) * c..][..c];
        *raw = (0..c)
            .map(|ch| match d.technique {
                0 => shared[ch] * a[ch],
                1 => g[ch] * a[ch],
                _ => g[ch].max(T::zero()) * a[ch],
            })
            .sum();
    }
}

fn row_maximum<T: Real>(call: &mut Call<T>) {
    let [n, h, w, _] = GradCamDims::of(call.dims).sizes();
    let raw = call.read(0);
    for (m, row) in call.writes[0].f_mut()[..n * h].iter_mut().zip(raw.chunks_exact(w)) {
        *m = row.iter().copied().fold(T::neg_infinity(), T::max);
    }
}

fn quotients<T: Real>(call: &Call<T>) -> Vec<T> {
    let [n, h, w, _] = GradCamDims::of(call.dims).sizes();
    let (raw, maxima) = (call.read(0), call.read(1));
    (0..n * h * w)
        .map(|at| {
            let m = maxima[at / (h * w) * h..][..h].iter().copied().fold(T::neg_infinity(), T::max);
            if m > T::zero() { raw[at].max(T::zero()) / m } else { T::zero() }
        })
        .collect()
}

fn normalise<T: Real>(call: &mut Call<T>) {
    let values = quotients(call);
    call.writes[0].f_mut()[..values.len()].copy_from_slice(&values);
}
