//! Grad-CAM's map of a convolution layer, from the layer's input: `shaders/conv2d_relu_map.wgsl` and, for the first layer, which reads
//! the pictures where they lie, `shaders/conv2d_relu_map_pictures.wgsl`.
//!
//! `raw[n,y,x] = sum_c alpha[n,c] relu(conv2d(x) + bias)[n,y,x,c]`. The weights alpha are known only after the backward pass. Keeping the
//! layer's output until then would take four times the memory of what its pool leaves, written once and read twice; it is computed again.

use super::conv2d::{self, Conv2dDims, Input, correlate_rows};
use super::gather::{Chunk, PICTURE_OF_WGSL};
use super::lanes8::{self, LANES, LOW_HIGH_WGSL, TILES_WGSL, WINOGRAD4_WGSL, lane_channels};
use super::pictures::{self, BLOCK_WGSL, COLOURS, PicturesDims};
use super::simd::with_scratch;
use super::{direct, product, winograd};
use crate::kernel::{
    Binding, Bound, Call, Cost, Dims, Kernel, MadeFor, Needs, OF_WINOGRAD_4, ORDERED_WGSL, OutputTiles, RESCALED_WGSL, Real,
    SLICE_WGSL, STEP_WGSL, Twin, Variant, WORKGROUP, another, grid, passes, random_input,
};
use pulp::Arch;
use rayon::prelude::*;

const MAP_BLOCK_WGSL: &str = include_str!("../../shaders/shared/map_block.wgsl");
const MAP_TILE_WGSL: &str = include_str!("../../shaders/shared/map_tile.wgsl.jinja");

/// Elements of a picture's map.
fn pixels(d: &Conv2dDims) -> usize {
    product(&[d.out_h, d.out_w])
}
fn raw_len(d: &Conv2dDims) -> usize {
    d.batch as usize * pixels(d)
}
fn alpha_len(d: &Conv2dDims) -> usize {
    product(&[d.batch, d.out_c])
}

/// Invocations that share the channels of a block of 2 x 4 pixels, eight at a time.
fn shares(d: &Conv2dDims) -> usize {
    (d.out_c as usize / 4).div_ceil(2).min(WORKGROUP as usize).next_power_of_two()
}

/// As many blocks to a workgroup as it has room for.
fn blocks(d: &Conv2dDims) -> [u32; 3] {
    grid(product(&[d.batch, d.out_h.div_ceil(2), d.out_w.div_ceil(4)]) * shares(d))
}

/// Loop passes of an invocation's share of the channels, over so many fours of input channels, and of the last sums.
fn loops(d: &Conv2dDims, in_c4: Option<u32>) -> usize {
    let rounds = (d.out_c / 4).div_ceil(2 * shares(d) as u32);
    let all: Vec<usize> = [rounds, d.k_h, d.k_w].into_iter().chain(in_c4).map(|n| n as usize).collect();
    passes(&all) + passes(&[(8 / shares(d)).max(1), shares(d)])
}

/// The loop passes of the plain kernel for a convolution.
pub(crate) fn loop_passes(d: &Conv2dDims) -> usize {
    loops(d, Some(d.in_c / 4))
}

/// The roundings of a pixel's channel, and of their weighted sum.
fn roundings(d: &Conv2dDims, channels: u32) -> f64 {
    f64::from(d.k_h * d.k_w * channels) + 2.0 + f64::from(d.out_c) + 1.0
}

fn map_tiles(d: &Conv2dDims) -> OutputTiles {
    OutputTiles { height: d.out_h as usize, width: d.out_w as usize, channels: 1, side: 4 }
}

/// The convolution's, and more channels than the shares of a block take at once.
fn cases() -> Vec<Vec<u32>> {
    let many = [(4, 68), (8, 516)].map(|(in_c, filters)| Conv2dDims::new(1, [4, 5, in_c], filters, [3, 3], false, true).words());
    conv2d::cases().into_iter().chain(many).collect()
}

/// The op's kernels.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        key: "conv2d_relu_map.forward",
        variant: None,
        formula: "raw[n,y,x] = sum_c alpha[n,c] relu(conv2d(x))[n,y,x,c]",
        file: "conv2d_relu_map.wgsl",
        source: include_str!("../../shaders/conv2d_relu_map.wgsl"),
        shared: &[SLICE_WGSL, conv2d::X_AT_WGSL, conv2d::BLOCK_WGSL, MAP_BLOCK_WGSL],
        entry: "forward",
        dims: Conv2dDims::FIELDS,
        step: false,
        bindings: &[
            Binding::read("x", conv2d::x_len),
            Binding::read("weight", conv2d::weight_len),
            Binding::read("bias", conv2d::bias_len),
            Binding::read("alpha", |d| alpha_len(Conv2dDims::of(d))),
            // A variant that takes the channels in groups reads what it wrote of the ones before.
            Binding::write("raw", |d| raw_len(Conv2dDims::of(d))),
        ],
        grid: |d| blocks(Conv2dDims::of(d)),
        loops: |d| loop_passes(Conv2dDims::of(d)),
        cost: |d| {
            let d = Conv2dDims::of(d);
            let Cost { flops, bytes } = d.cost(d.x_len() + d.weight_len() + alpha_len(d) + raw_len(d));
            Cost { flops: flops + 2.0 * d.y_len() as f64, bytes }
        },
        made: 1.0,
        twin: Twin {
            f32: |call| of_floats(call, |d, x, i, raw| map_of(Arch::new(), d, x, i, raw)),
            f64: |call| of_floats(call, sum_up),
        },
        bound: Bound::Twin(|d| roundings(Conv2dDims::of(d), Conv2dDims::of(d).in_c)),
        cases,
        input: random_input,
    },
    Kernel {
        key: "conv2d_relu_map.forward_pictures",
        variant: None,
        formula: "raw[n,y,x] = sum_c alpha[n,c] relu(conv2d(x))[n,y,x,c], x = (R, G, B) times fl32(1/255), of the pictures in this chunk",
        file: "conv2d_relu_map_pictures.wgsl",
        source: include_str!("../../shaders/conv2d_relu_map_pictures.wgsl"),
        shared: &[SLICE_WGSL, STEP_WGSL, ORDERED_WGSL, PICTURE_OF_WGSL, RESCALED_WGSL, BLOCK_WGSL, MAP_BLOCK_WGSL],
        entry: "forward_pictures",
        dims: PicturesDims::FIELDS,
        step: true,
        bindings: &[
            Binding::read("words", pictures::words_len).words(),
            Binding::read("weight", pictures::weight_len),
            Binding::read("bias", pictures::bias_len),
            Binding::read("order", pictures::order_len).words(),
            Binding::read("alpha", |d| alpha_len(pictures::conv(d))),
            Binding::write("raw", |d| raw_len(pictures::conv(d))).updated(),
        ],
        grid: |d| blocks(pictures::conv(d)),
        loops: |d| loops(pictures::conv(d), None),
        cost: |d| {
            let PicturesDims { conv, chunk } = *PicturesDims::of(d);
            let share = f64::from(chunk.chunk_len) / f64::from(chunk.pictures);
            let terms = product(&[conv.k_h, conv.k_w, COLOURS]) + 1;
            let moved = product(&[conv.batch, conv.in_h, conv.in_w]) + raw_len(&conv);
            let own = conv.weight_len() + alpha_len(&conv);
            Cost { flops: 2.0 * share * (conv.y_len() * terms) as f64, bytes: 4.0 * (share * moved as f64 + own as f64) }
        },
        made: 1.0,
        twin: Twin {
            f32: |call| of_pictures(call, |d, x, i, raw| map_of(Arch::new(), d, x, i, raw)),
            f64: |call| of_pictures(call, sum_up),
        },
        bound: Bound::Twin(|d| roundings(pictures::conv(d), COLOURS)),
        cases: || pictures::placed(pictures::cases()),
        input: pictures::input,
    },
];

const fn variant(of: &'static str, fits: fn(&[u32]) -> bool, constants: crate::kernel::Constants) -> Variant {
    Variant::new(of, Needs::EightLanes, MadeFor::Software, fits, constants)
}

/// Loop passes over the tiles of a picture, of each group of channels.
fn tile_loops(d: &Conv2dDims, in_row: impl Fn(usize) -> usize) -> usize {
    let groups = (d.out_c / (lane_channels(d.out_c) * LANES)) as usize;
    let [rows, tiles] = [d.out_h, d.out_w].map(|n| n.div_ceil(4) as usize);
    passes(&[groups, rows]) + groups * rows * in_row(tiles)
}

/// The variants for drivers on CPUs.
pub const TECHNIQUES: &[Kernel] = &[
    FORWARD,
    lanes8::gathered_forward("conv2d_relu_map.forward/winograd4_lanes8_gathered", FORWARD),
    Kernel {
        shared: &[
            SLICE_WGSL,
            STEP_WGSL,
            ORDERED_WGSL,
            PICTURE_OF_WGSL,
            RESCALED_WGSL,
            LOW_HIGH_WGSL,
            WINOGRAD4_WGSL,
            pictures::TILES_WGSL,
            MAP_TILE_WGSL,
        ],
        grid: |d| [pictures::conv(d).batch, 1, 1],
        loops: |d| {
            // As the pooled one's: a row's tiles eight at a time, and each of them.
            tile_loops(pictures::conv(d), |tiles| {
                passes(&[tiles.div_ceil(LANES as usize)]) + tiles + tiles.div_ceil(LANES as usize)
            })
        },
        bound: Bound::Tile(|d| roundings(pictures::conv(d), COLOURS) + pictures::TRANSFORMS, |d| map_tiles(pictures::conv(d))),
        made: OF_WINOGRAD_4,
        cases: || pictures::placed(pictures::variant_cases(pictures::lanes8_fits)),
        ..another(
            &KERNELS[1],
            "conv2d_relu_map.forward_pictures/winograd4_lanes8",
            "lanes8/conv2d_relu_map_pictures.wgsl.jinja",
            include_str!("../../shaders/lanes8/conv2d_relu_map_pictures.wgsl.jinja"),
            variant("conv2d_relu_map.forward_pictures", pictures::lanes8_fits, pictures::lanes8_constants),
        )
    },
];

const FORWARD: Kernel = Kernel {
    shared: &[SLICE_WGSL, WINOGRAD4_WGSL, TILES_WGSL, MAP_TILE_WGSL],
    grid: |d| [Conv2dDims::of(d).batch, 1, 1],
    loops: |d| tile_loops(Conv2dDims::of(d), |tiles| passes(&[tiles])),
    bound: Bound::Tile(|d| roundings(Conv2dDims::of(d), Conv2dDims::of(d).in_c), |d| map_tiles(Conv2dDims::of(d))),
    made: OF_WINOGRAD_4,
    cases: || lanes8::cases(lanes8::forward_fits),
    ..another(
        &KERNELS[0],
        "conv2d_relu_map.forward/winograd4_lanes8",
        "lanes8/conv2d_relu_map_winograd4.wgsl.jinja",
        include_str!("../../shaders/lanes8/conv2d_relu_map_winograd4.wgsl.jinja"),
        lanes8::forward_variant("conv2d_relu_map.forward"),
    )
};

/// What plays a call: the sizes, the input, weight, bias and alpha, and the maps of all pictures.
fn of_floats<T: Real>(call: &mut Call<T>, play: impl Fn(&Conv2dDims, Input<T>, [&[T]; 3], &mut [T])) {
    let d: Conv2dDims = call.dims();
    let inputs = [call.read(1), call.read(2), call.read(3)];
    play(&d, Input::Floats(call.read(0)), inputs, &mut call.writes[0].f_mut()[..raw_len(&d)]);
}

/// The same of a first layer's call.
fn of_pictures<T: Real>(call: &mut Call<T>, play: impl Fn(&Conv2dDims, Input<T>, [&[T]; 3], &mut [T])) {
    let PicturesDims { conv, chunk } = call.dims();
    let x = Input::Chunk(Chunk::new(chunk, call, [0, 3]));
    let inputs = [call.read(1), call.read(2), call.read(4)];
    play(&conv, x, inputs, &mut call.writes[0].f_mut()[..raw_len(&conv)]);
}

/// The `--device cpu` path: the same sums with fewer products or loads, where the shape allows it.
fn map_of(arch: Arch, d: &Conv2dDims, x: Input<f32>, inputs: [&[f32]; 3], raw: &mut [f32]) {
    let fast = if d.pooled_len() > 0 && winograd::fits(arch, d) {
        winograd::map
    } else if d.pooled_len() > 0 && direct::fits(arch, d) {
        direct::map
    } else {
        return sum_up(d, x, inputs, raw);
    };
    let [weight, bias, alpha] = inputs;
    fast(arch, d, x, [&weight[..d.weight_len()], &bias[..d.out_c as usize], &alpha[..alpha_len(d)]], raw);
}

/// The sums as they are written, for either kind of input; the maps of pictures elsewhere stay as they are.
fn sum_up<T: Real>(d: &Conv2dDims, x: Input<T>, [weight, bias, alpha]: [&[T]; 3], raw: &mut [T]) {
    let (width, c) = (d.out_w as usize, d.out_c as usize);
    let step = d.block_rows();
    raw.par_chunks_mut(pixels(d)).zip(alpha.par_chunks(c)).enumerate().for_each(|(n, (raw, alpha))| {
        let Some(picture) = d.picture(x, n) else { return };
        with_scratch(d.scratch(step), |[window, z]| {
            for (i, raw) in raw.chunks_mut(step * width).enumerate() {
                correlate_rows(d, (picture, weight), [i * step, raw.len() / width], [window, z]);
                for (raw, z) in raw.chunks_exact_mut(width).zip(z.chunks(d.pitch() * c)) {
                    for (raw, z) in raw.iter_mut().zip(z.chunks_exact(c)) {
                        *raw = z.iter().zip(bias).zip(alpha).map(|((&z, &b), &a)| a * relu(z + b)).sum();
                    }
                }
            }
        });
    });
}

/// By a comparison: NaN must stay NaN.
fn relu<T: Real>(v: T) -> T {
    if v < T::zero() { T::zero() } else { v }
}

#[cfg(test)]
mod tests {
    use super::super::simd::archs;
    use super::*;
    use crate::rng::hash3;

    #[test]
    fn the_fast_twins_are_exact_on_integers() {
        let shapes = [
            ([7, 9, 16], 16, true),
            ([8, 13, 16], 48, false),
            ([9, 6, 32], 32, true),
            ([9, 8, 4], 16, false),
            ([6, 7, 4], 32, true),
            ([11, 15, 4], 16, true),
            ([7, 10, 8], 12, true),
        ];
        for (arch, (input, filters, same)) in archs().into_iter().flat_map(|arch| shapes.map(|shape| (arch, shape))) {
            let d = Conv2dDims::new(3, input, filters, [3, 3], same, true);
            let integers = |seed, len| (0..len).map(|i| f64::from(hash3(seed, 0, i as u32) % 9) - 4.0).collect::<Vec<_>>();
            let [x, weight, bias, alpha] =
                [d.x_len(), d.weight_len(), filters, alpha_len(&d)].map(|len| integers(len as u32, len));
            let mut want = vec![0.0; raw_len(&d)];
            sum_up(&d, Input::Floats(&x), [&weight, &bias, &alpha], &mut want);
            let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
            let [x, weight, bias, alpha] = [&x, &weight, &bias, &alpha].map(|v| narrow(v));
            let mut got = vec![0.0; raw_len(&d)];
            map_of(arch, &d, Input::Floats(&x), [&weight, &bias, &alpha], &mut got);
            assert!(got.iter().zip(&want).all(|(&g, &w)| f64::from(g) == w), "{arch:?}, {d:?}");
            assert!(want.iter().any(|&w| w != 0.0));
        }
    }
}
