//! Grad-CAM (Selvaraju et al. 2017), HiResCAM (Draelos and Carin 2020) and LayerCAM (Jiang et al. 2021) on one convolution
//! layer: `shaders/gradcam.wgsl`, `shaders/gradcam_weights_before.wgsl`.
//!
//! With A the layer's output after the relu and g the score's gradient there: Grad-CAM `sum_c mean(g)_c A_c`
//! ([`super::conv2d_relu_map`]), HiResCAM `sum_c g_c A_c`, LayerCAM `sum_c relu(g_c) A_c`; then `max(map, 0) / max(map)`.
//!
//! Behind the layer's pool lie the same gradients without the zeros between them, and the values of A that they belong to: that is where the
//! means are taken and where HiResCAM and LayerCAM are summed up.

use super::conv2d_relu_maxpool2x2::codes;
use super::product;
use crate::kernel::{
    Binding, Bound, Call, Cost, Dims, Kernel, PLACES_WGSL, Real, SLICE_WGSL, Values, grid, passes, random_input,
};
use rayon::prelude::*;

crate::dims! {
    /// One layer's map or gradient.
    pub struct GradCamDims {
        /// Pictures in the batch.
        batch,
        /// Height of the layer's output; of the sums over the gradient, of its pool's.
        h,
        /// Width likewise.
        w,
        /// Channels, a multiple of 4.
        c,
        /// 1 where only positive gradients count (LayerCAM), else 0 (HiResCAM).
        positive,
        /// Pixels that the weights are means over: the layer's; 1 where their sums are asked for.
        area,
    }
}

crate::dims! {
    /// The convolution behind a layer.
    pub struct WeightsBeforeDims {
        /// Pictures in the batch.
        batch,
        /// Taps of its kernel, `k_h * k_w`.
        taps,
        /// Its input channels, a multiple of 4.
        in_c,
        /// Its output channels, a multiple of 4.
        out_c,
        /// Pixels of the layer before it.
        area,
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
fn height(d: &[u32]) -> usize {
    GradCamDims::of(d).h as usize
}
fn width(d: &[u32]) -> usize {
    GradCamDims::of(d).w as usize
}
fn rows_len(d: &[u32]) -> usize {
    let [n, h, _, c] = GradCamDims::of(d).sizes();
    n * h * c
}
fn weights_len(d: &[u32]) -> usize {
    let [n, _, _, c] = GradCamDims::of(d).sizes();
    n * c
}
fn windows_len(d: &[u32]) -> usize {
    let d = GradCamDims::of(d);
    product(&[d.batch, d.h / 2, d.w / 2, d.c])
}
fn places_len(d: &[u32]) -> usize {
    windows_len(d) / 4
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
        [5, 9, 7, 8, 1],
        [1, 126, 126, 16, 0],
        [2, 61, 61, 32, 1],
        [3, 28, 28, 64, 0],
    ]
    .map(|[batch, h, w, c, positive]: [u32; 5]| {
        // Half of them as behind a pool of an odd size.
        let area = if c.is_multiple_of(16) { (2 * h + 1) * (2 * w) } else { h * w };
        GradCamDims { batch, h, w, c, positive, area }.words()
    })
    .to_vec()
}

/// Those with a window.
fn map_cases() -> Vec<Vec<u32>> {
    cases().into_iter().filter(|d| windows_len(d) > 0).collect()
}

fn map_input(d: &[u32], name: &'static str, seed: u32) -> Option<Values> {
    (name == "taken").then(|| codes(places_len(d), seed))
}

/// A kernel's grid, its loop passes and its cost.
type Work = (fn(&[u32]) -> [u32; 3], fn(&[u32]) -> usize, fn(&[u32]) -> Cost);

/// The cost of an operation for each of `flops` elements and of moving buffers of these lengths.
fn cost(flops: usize, lens: &[usize]) -> Cost {
    Cost { flops: flops as f64, bytes: 4.0 * lens.iter().sum::<usize>() as f64 }
}

const fn kernel(
    key: &'static str,
    formula: &'static str,
    entry: &'static str,
    bindings: &'static [Binding],
    (grid, loops, cost): Work,
    twin: crate::kernel::Twin,
    bound: Bound,
) -> Kernel {
    Kernel {
        variant: None,
        key,
        formula,
        file: "gradcam.wgsl",
        source: SOURCE,
        shared: &[SLICE_WGSL, PLACES_WGSL],
        entry,
        dims: GradCamDims::FIELDS,
        step: false,
        bindings,
        grid,
        loops,
        cost,
        made: 1.0,
        twin,
        bound,
        cases,
        input: random_input,
    }
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    kernel(
        "gradcam.row_sum",
        "rows[n,y,c] = sum_x dx[n,y,x,c]",
        "row_sum",
        &[Binding::read("dx", x_len), Binding::write("rows", rows_len)],
        (|d| grid(rows_len(d) / 4), |d| passes(&[width(d)]), |d| cost(x_len(d), &[x_len(d), rows_len(d)])),
        crate::twin!(row_sum),
        Bound::Twin(|d| f64::from(GradCamDims::of(d).w)),
    ),
    kernel(
        "gradcam.open_row_sum",
        "rows[n,y,c] = sum_x dx[n,y,x,c] where y[n,y,x,c] > 0: of the gradient before the relu",
        "open_row_sum",
        &[Binding::read("dx", x_len), Binding::read("y", x_len), Binding::write("open_rows", rows_len)],
        (|d| grid(rows_len(d) / 4), |d| passes(&[width(d)]), |d| cost(x_len(d), &[x_len(d), x_len(d), rows_len(d)])),
        crate::twin!(open_row_sum),
        Bound::Twin(|d| f64::from(GradCamDims::of(d).w)),
    ),
    kernel(
        "gradcam.weights",
        "alpha[n,c] = sum_y rows[n,y,c] / area",
        "weights",
        &[Binding::read("row_sums", rows_len), Binding::write("alpha", weights_len)],
        (|d| grid(weights_len(d) / 4), |d| passes(&[height(d)]), |d| cost(rows_len(d), &[rows_len(d), weights_len(d)])),
        crate::twin!(weights),
        Bound::Twin(|d| f64::from(GradCamDims::of(d).h) + 5.0),
    ),
    Kernel {
        cases: map_cases,
        input: map_input,
        ..kernel(
            "gradcam.map",
            "raw[n,y,x] = over the channels whose window took the pixel sum_c dx pooled (HiResCAM) or, if positive, sum_c relu(dx) pooled (LayerCAM)",
            "map",
            &[
                Binding::read("dx", windows_len),
                Binding::read("pooled", windows_len),
                Binding::read("taken", places_len).words(),
                Binding::write("raw", map_len),
            ],
            (
                |d| grid(map_len(d)),
                |d| passes(&[GradCamDims::of(d).c as usize / 4]),
                |d| cost(2 * windows_len(d), &[windows_len(d), windows_len(d), places_len(d), map_len(d)]),
            ),
            crate::twin!(map),
            Bound::Twin(|d| f64::from(GradCamDims::of(d).c) + 1.0),
        )
    },
    kernel(
        "gradcam.row_maximum",
        "row_max[n,y] = max_x raw[n,y,x]",
        "row_maximum",
        &[Binding::read("raw_map", map_len), Binding::write("row_max", maxima_len)],
        (|d| grid(maxima_len(d)), |d| passes(&[width(d) - 1]), |d| cost(map_len(d), &[map_len(d), maxima_len(d)])),
        crate::twin!(row_maximum),
        Bound::Twin(|_| 0.0),
    ),
    kernel(
        "gradcam.normalise",
        "normalised = max(raw, 0) / max(raw of the picture) if that maximum is positive, else 0",
        "normalise",
        &[Binding::read("raw_map", map_len), Binding::read("row_maxima", maxima_len), Binding::write("normalised", map_len)],
        (
            |d| grid(maxima_len(d)),
            |d| passes(&[height(d) - 1]) + passes(&[width(d)]),
            |d| cost(map_len(d), &[map_len(d), maxima_len(d), map_len(d)]),
        ),
        crate::twin!(normalise),
        Bound::Own(|call| vec![quotients(call).into_iter().map(|v| 6.0 * 2f64.powi(-24) * v).collect()]),
    ),
    Kernel {
        file: "gradcam_weights_before.wgsl",
        source: include_str!("../../shaders/gradcam_weights_before.wgsl"),
        dims: WeightsBeforeDims::FIELDS,
        cases: || {
            [[1, 1, 4, 4, 1], [3, 9, 4, 12, 30], [2, 6, 20, 8, 7], [17, 25, 16, 4, 100], [2, 9, 16, 32, 126 * 126]]
                .map(|[batch, taps, in_c, out_c, area]| WeightsBeforeDims { batch, taps, in_c, out_c, area }.words())
                .to_vec()
        },
        ..kernel(
            "gradcam.weights_before",
            "alpha[n,ci] = sum_{tap,co} weight[tap,ci,co] sums[n,co] / area",
            "weights_before",
            &[
                Binding::read("sums", |d| product(&[d[0], d[3]])),
                Binding::read("weight", |d| product(&d[1..4])),
                Binding::write("alpha_before", |d| product(&[d[0], d[2]])),
            ],
            (
                |d| grid(product(&[d[0], d[2]])),
                |d| passes(&[d[1] as usize, d[3] as usize / 4]),
                |d| cost(2 * product(&d[..4]), &[product(&[d[0], d[3]]), product(&d[1..4]), product(&[d[0], d[2]])]),
            ),
            crate::twin!(weights_before),
            Bound::Twin(|d| f64::from(d[1] * d[3]) + 5.0),
        )
    },
];

/// Rows or maps that one task of a twin takes together, so that small layers are no swarm of tasks.
const TASK: usize = 8;

fn row_sum<T: Real>(call: &mut Call<T>) {
    let [n, h, w, c] = GradCamDims::of(call.dims).sizes();
    let dx = call.read(0);
    let rows = call.writes[0].f_mut()[..n * h * c].par_chunks_exact_mut(c).with_min_len(TASK);
    rows.zip(dx.par_chunks_exact(w * c)).for_each(|(sums, row)| {
        sums.fill(T::zero());
        for pixel in row.chunks_exact(c) {
            sums.iter_mut().zip(pixel).for_each(|(s, &v)| *s += v);
        }
    });
}

fn open_row_sum<T: Real>(call: &mut Call<T>) {
    let [n, h, w, c] = GradCamDims::of(call.dims).sizes();
    let gradients = call.read(0).par_chunks_exact(w * c).zip(call.read(1).par_chunks_exact(w * c));
    let rows = call.writes[0].f_mut()[..n * h * c].par_chunks_exact_mut(c).with_min_len(TASK);
    rows.zip(gradients).for_each(|(sums, (dx, y))| {
        sums.fill(T::zero());
        for (dx, y) in dx.chunks_exact(c).zip(y.chunks_exact(c)) {
            for ((sum, &dx), &y) in sums.iter_mut().zip(dx).zip(y) {
                *sum += if y > T::zero() { dx } else { T::zero() };
            }
        }
    });
}

fn weights<T: Real>(call: &mut Call<T>) {
    let [n, h, _, c] = GradCamDims::of(call.dims).sizes();
    let area = GradCamDims::of(call.dims).area;
    let rows = call.read(0);
    for (picture, alpha) in call.writes[0].f_mut()[..n * c].chunks_exact_mut(c).enumerate() {
        for (ch, a) in alpha.iter_mut().enumerate() {
            let sum: T = (0..h).map(|y| rows[(picture * h + y) * c + ch]).sum();
            *a = sum / T::of(area.into());
        }
    }
}

fn weights_before<T: Real>(call: &mut Call<T>) {
    let d: WeightsBeforeDims = call.dims();
    let [in_c, out_c] = [d.in_c, d.out_c].map(|n| n as usize);
    let (sums, weight) = (call.read(0), call.read(1));
    let mut by_tap = vec![T::zero(); in_c * out_c];
    for weight in weight[..d.taps as usize * in_c * out_c].chunks_exact(in_c * out_c) {
        by_tap.iter_mut().zip(weight).for_each(|(sum, &w)| *sum += w);
    }
    let area = T::of(f64::from(d.area));
    let alpha = call.writes[0].f_mut()[..d.batch as usize * in_c].chunks_exact_mut(in_c);
    for (alpha, sums) in alpha.zip(sums.chunks_exact(out_c)) {
        for (alpha, weight) in alpha.iter_mut().zip(by_tap.chunks_exact(out_c)) {
            *alpha = weight.iter().zip(sums).map(|(&w, &s)| w * s).sum::<T>() / area;
        }
    }
}

fn map<T: Real>(call: &mut Call<T>) {
    let d: GradCamDims = call.dims();
    let [n, h, w, c] = d.sizes();
    let [pool_h, pool_w] = [h / 2, w / 2];
    let (dx, pooled, taken) = (call.read(0), call.read(1), call.reads[2].u());
    let maps = call.writes[0].f_mut()[..n * h * w].par_chunks_exact_mut(h * w);
    maps.enumerate().for_each(|(n, raw)| {
        raw.fill(T::zero());
        for window in 0..pool_h * pool_w {
            let first = (2 * (window / pool_w)) * w + 2 * (window % pool_w);
            let at = (n * pool_h * pool_w + window) * c;
            for i in at..at + c {
                let place = taken[i / 4].to_le_bytes()[i % 4] as usize;
                // What is not a finite number is to be noticed wherever it lies.
                if !pooled[i].is_finite() {
                    (0..4).for_each(|p| raw[first + p / 2 * w + p % 2] += T::zero() * pooled[i]);
                }
                if place < 4 {
                    let g = if d.positive != 0 { dx[i].max(T::zero()) } else { dx[i] };
                    raw[first + place / 2 * w + place % 2] += g * pooled[i];
                }
            }
        }
    });
}

/// The largest of `values`; a NaN is passed over, as by [`f32::max`].
fn maximum<T: Real>(values: &[T]) -> T {
    values.iter().copied().fold(T::neg_infinity(), T::max)
}

fn row_maximum<T: Real>(call: &mut Call<T>) {
    let [n, h, w, _] = GradCamDims::of(call.dims).sizes();
    let rows = call.read(0).par_chunks_exact(w).with_min_len(TASK);
    call.writes[0].f_mut()[..n * h].par_iter_mut().zip(rows).for_each(|(m, row)| *m = maximum(row));
}

fn quotients<T: Real>(call: &Call<T>) -> Vec<T> {
    let [n, h, w, _] = GradCamDims::of(call.dims).sizes();
    let (raw, maxima) = (call.read(0), call.read(1));
    let mut out = Vec::with_capacity(n * h * w);
    for (raw, maxima) in raw[..n * h * w].chunks_exact(h * w).zip(maxima.chunks_exact(h)) {
        let largest = maximum(maxima);
        out.extend(raw.iter().map(|&v| quotient(v, largest)));
    }
    out
}

fn quotient<T: Real>(raw: T, largest: T) -> T {
    if largest > T::zero() { raw.max(T::zero()) / largest } else { T::zero() }
}

fn normalise<T: Real>(call: &mut Call<T>) {
    let [n, h, w, _] = GradCamDims::of(call.dims).sizes();
    let (raw, maxima) = (call.read(0), call.read(1));
    let maps = call.writes[0].f_mut()[..n * h * w].par_chunks_exact_mut(h * w);
    maps.zip(raw.par_chunks_exact(h * w)).zip(maxima.par_chunks_exact(h)).for_each(|((to, raw), maxima)| {
        let largest = maximum(maxima);
        to.iter_mut().zip(raw).for_each(|(to, &v)| *to = quotient(v, largest));
    });
}
