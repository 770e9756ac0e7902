//! Every kernel against its CPU twin: the harness behind `wgradcam verify`, `tests/kernels.rs` and `tests/faults.rs`.
//!
//! A case is a kernel, its dims and drawn inputs. It is judged in two tiers:
//!
//! * **exact**: every float is an integer of -4..=4, so that all partial sums stay below 2^24 and no order of summation rounds:
//!   the kernel must equal its f64 twin, rounded to f32, in every element. Small integers also force ties (pool, argmax, relu
//!   at 0). Pictures have bytes of 0 and 255, which are 0 and 1 as floats. Techniques with fractions of their own ([`FRACTIONS`]) get -1,
//!   0 and 1, and of their denominator's multiples what they take fractions of. Kernels with a quotient or an exponential
//!   ([`Bound::Own`], [`INEXACT`]) get the same inputs, judged by their bound.
//! * **bounded**: random floats of [-1, 1); `|got - twin| <= bound` in every element with the bound of [`Kernel::bound`], made
//!   from the inputs and the number of roundings, not picked by hand.
//!
//! What is asked of a variant whose products are of f16 is the same, of factors that were rounded to f16 before.
//!
//! Every case is then played once more in slices, as a long dispatch is cut up ([`GpuPlayer::slice_by`]): in thirds, and a small one a
//! workgroup at a time; it must come to the same bytes.
//!
//! Buffers that are written start as NaN (words as a pattern), behind every buffer lie sentinels that must survive and that
//! poison whoever reads them, and NaN equals nothing. The f32 twin is judged by the same rules as the shader.

use crate::kernel::{self, Access, Binding, Bound, Buffer, Call, Dims, Elem, Kernel, OutputTiles, Precision, Real, Step, Values};
use crate::ops::adam::Adam;
use crate::ops::conv2d::Conv2dDims;
use crate::ops::pictures::{self, PicturesDims};
use crate::plan::{PlanId, Program};
use crate::player::{Adapter, GpuPlayer, Player};
use crate::rng;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Instant;

/// Kernels with a [`Bound::Twin`] whose result is rounded even for small integers: a quotient each.
pub const INEXACT: &[&str] = &["gradcam.weights", "gradcam.weights_before", "batch_mean.forward"];

/// What keys of kernels begin with that have a [`Bound::Own`] and whose results are sums all the same, which small integers leave exact.
pub const SUMS: &[&str] = &["conv2d_relu_maxpool2x2.backward_weight/winograd_"];

/// What keys of techniques begin with that take fractions of their weights: their denominator. F(4x4,3x3) takes sixths and
/// twenty-fourths, of rows and of columns.
pub const FRACTIONS: &[(&str, u32)] = &[
    ("conv2d_relu_maxpool2x2.forward/winograd4_", 24 * 24),
    ("conv2d_relu_maxpool2x2.backward_input/winograd4_", 24 * 24),
    ("conv2d_relu_maxpool2x2.forward_pictures/winograd4_", 24 * 24),
    ("conv2d_relu_map.forward/winograd4_", 24 * 24),
    ("conv2d_relu_map.forward_pictures/winograd4_", 24 * 24),
];

/// Words behind every buffer.
const SENTINEL: usize = 64;
/// What stands there in float buffers, and what an output starts as: a NaN.
const NAN_BITS: u32 = 0x7fc0_5e17;
/// What stands there in word buffers, and what a word output starts as: no kernel writes it.
const PATTERN: u32 = 0x5e17_5e17;
/// Cases of at most this many elements are drawn [`ROUNDS`] times.
const SMALL: usize = 20_000;
/// Draws of a small case per tier; a large one gets a single draw.
const ROUNDS: u32 = 3;
/// Size of a gradient that is scaled into f16, after it was: near f16's least normal number, 2^-14.
const SMALL_GRADIENT: f32 = 1.0 / 1024.0;
/// Most checks at a time: each has a device of its own, with its threads and buffers.
const MOST_WORKERS: usize = 8;
/// Cases of at most this many workgroups are played one at a time too.
const MOST_SLICES: u64 = 256;

/// One kernel's result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// The registry key.
    pub key: String,
    /// Shapes that were tried.
    pub cases: usize,
    /// Elements compared in the exact tier; 0 where the kernel has none.
    pub exact: usize,
    /// Elements compared in the bounded tier.
    pub bounded: usize,
    /// Slices in which cases were played once more.
    pub slices: usize,
    /// Worst error of the adapter as a share of the bound.
    pub ratio: f64,
    /// Worst error of the adapter.
    pub error: f64,
    /// Worst error of the f32 CPU path as a share of the bound.
    pub cpu_ratio: f64,
    /// Indices (argmax) that fell on the other side of a near tie, within the bound.
    pub near_ties: usize,
    /// Wall time in seconds, compilation included, beside what else is checked at the time.
    pub seconds: f64,
    /// Whether every element stood the test.
    pub passed: bool,
    /// The first failure: case, element, what came and what should have.
    pub failure: Option<String>,
}

/// The results of all kernels.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the adapter.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// A row per kernel, in registry order.
    pub rows: Vec<Row>,
    /// Whether every row passed.
    pub passed: bool,
}

/// Checks every kernel that the adapter can run, whose key contains `filter` and whose products are of the precision; `on_row` sees
/// each result as [`check_all`] has it.
///
/// # Errors
/// There is no such kernel. A kernel that fails, or that the driver refuses, is a row and no error.
pub fn run(adapter: &Adapter, filter: Option<&str>, precision: Option<Precision>, on_row: impl FnMut(&Row)) -> Result<Report> {
    let wanted = |k: &&'static Kernel| adapter.can_run(k) && precision.is_none_or(|p| k.precision() == p);
    let chosen: Vec<_> = matching(filter)?.into_iter().filter(wanted).collect();
    let of = precision.map_or("", |p| if p == Precision::F16 { " of f16" } else { " of f32" });
    ensure!(!chosen.is_empty(), "no kernel{of} that this adapter can run is called \"{}\"", filter.unwrap_or_default());
    let checks: Vec<_> = chosen.into_iter().map(|kernel| (kernel, (kernel.cases)())).collect();
    let rows = check_all(adapter, &checks, on_row);
    let facts = adapter.facts();
    let passed = rows.iter().all(|r| r.passed);
    Ok(Report { adapter: facts.name.clone(), driver: facts.driver.clone(), rows, passed })
}

/// The kernels whose key contains `filter`.
fn matching(filter: Option<&str>) -> Result<Vec<&'static Kernel>> {
    let chosen: Vec<_> = kernel::all().filter(|k| filter.is_none_or(|f| k.key.contains(f))).collect();
    ensure!(!chosen.is_empty(), "no kernel's name contains \"{}\"", filter.unwrap_or_default());
    Ok(chosen)
}

/// Writes the WGSL of every kernel whose key contains `filter`, as it is compiled for its first case, to
/// `folder/`[`printed_name`]; returns how many. For
/// other compilers than wgpu's to judge.
///
/// # Errors
/// No kernel's key contains the filter, or the folder cannot be made or written.
pub fn print_shaders(folder: &Path, filter: Option<&str>) -> Result<usize> {
    let chosen = matching(filter)?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for kernel in &chosen {
        let path = folder.join(printed_name(kernel));
        std::fs::write(&path, kernel.wgsl(&(kernel.cases)()[0])).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(chosen.len())
}

/// `op.entry.wgsl`, or `op.entry.technique.wgsl`.
pub fn printed_name(kernel: &Kernel) -> String {
    format!("{}.wgsl", kernel.key.replace('/', "."))
}

/// Checks these kernels in these cases each, on a software adapter as many at a time as there are cores: there the CPU makes the machine
/// code too, which takes most of the time. `on_row` sees each result in this order.
pub fn check_all(adapter: &Adapter, checks: &[(&'static Kernel, Vec<Vec<u32>>)], mut on_row: impl FnMut(&Row)) -> Vec<Row> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if adapter.facts().software { cores.min(MOST_WORKERS) } else { 1 };
    let mut rows = Vec::with_capacity(checks.len());
    let next = Mutex::new(checks.iter().enumerate());
    let (done, checked) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(checks.len()) {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                loop {
                    let Some((i, (kernel, cases))) = next.lock().expect("no thread panicked").next() else { return };
                    if done.send((i, check(adapter, kernel, cases))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut early = BTreeMap::new();
        for (i, row) in checked {
            early.insert(i, row);
            while let Some(row) = early.remove(&rows.len()) {
                on_row(&row);
                rows.push(row);
            }
        }
    });
    rows
}

/// Checks one kernel, of the registry or not, in these cases. Stops at the first failure.
pub fn check(adapter: &Adapter, kernel: &'static Kernel, cases: &[Vec<u32>]) -> Row {
    let start = Instant::now();
    let mut row = Row { key: kernel.key.to_owned(), cases: cases.len(), ..Row::default() };
    row.failure = judge(adapter, kernel, cases, &mut row).err().map(|e| format!("{e:#}"));
    row.passed = row.failure.is_none();
    row.seconds = start.elapsed().as_secs_f64();
    row
}

/// Checks a kernel's f32 twin, which is the CPU path, against its f64 one in these cases.
///
/// # Errors
/// The first element that is wrong.
pub fn check_twin(kernel: &'static Kernel, cases: &[Vec<u32>]) -> Result<()> {
    for dims in cases {
        for tier in [Tier::Integers, Tier::Floats] {
            let case = Case::draw(kernel, dims, tier, 1);
            Truth::of(&case)?.compare(&case.play_f32()).with_context(|| format!("f32 CPU twin of {}", kernel.key))?;
        }
    }
    Ok(())
}

/// Elements of all buffers of a case.
pub fn elements(kernel: &Kernel, dims: &[u32]) -> usize {
    kernel.bindings.iter().map(|b| (b.len)(dims)).sum()
}

fn judge(adapter: &Adapter, kernel: &'static Kernel, cases: &[Vec<u32>], row: &mut Row) -> Result<()> {
    let mut gpu = Runner::new(adapter, kernel, cases)?;
    for (i, dims) in cases.iter().enumerate() {
        let rounds = if elements(kernel, dims) <= SMALL { ROUNDS } else { 1 };
        for (tier, round) in [Tier::Integers, Tier::Floats].into_iter().flat_map(|t| (0..rounds).map(move |r| (t, r))) {
            let case = Case::draw(kernel, dims, tier, 1 + round);
            let truth = Truth::of(&case)?;
            let at = || {
                let sizes: Vec<_> = kernel.dims.iter().zip(dims).map(|(name, v)| format!("{name}={v}")).collect();
                format!("{} with {}, {tier:?}, draw {round}", kernel.key, sizes.join(" "))
            };
            let cpu = truth.compare(&case.play_f32()).with_context(|| format!("f32 CPU twin of {}", at()))?;
            let got = gpu.play(i, &case).with_context(at)?;
            let tally = truth.compare(&got).with_context(at)?;
            row.exact += tally.exact;
            row.bounded += tally.bounded;
            row.ratio = row.ratio.max(tally.ratio);
            row.error = row.error.max(tally.error);
            row.near_ties += tally.near_ties;
            row.cpu_ratio = row.cpu_ratio.max(cpu.ratio);
            let groups: u64 = (kernel.grid)(dims).map(u64::from).iter().product();
            if (tier, round) == (Tier::Floats, 0) && groups > 1 {
                // Thirds are of a row, of rows or of layers, whatever the grid has.
                for size in [1, groups.div_ceil(3)].into_iter().filter(|&size| size > 1 || groups <= MOST_SLICES) {
                    gpu.player.slice_by(Some(size));
                    let slices = gpu.play(i, &case).with_context(at)?;
                    gpu.player.slice_by(None);
                    ensure!(bits(&slices) == bits(&got), "{} comes to other bytes in slices of {size} workgroups", at());
                    row.slices += groups.div_ceil(size) as usize;
                }
            }
        }
    }
    Ok(())
}

/// The step that every case is played at. Adam's step size is the f32 paths' own: what its f32 arithmetic loses is Keras's
/// loss too, and no kernel's.
pub fn step() -> Step {
    let mut adam = Adam::default().at(3);
    adam.alpha = f64::from(adam.alpha_f32);
    Step { first: 2, step: 5, seed: 20_260_101, slot: 1, adam }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Integers,
    Floats,
}

/// A kernel's buffers before the call, sentinels included, in binding order.
struct Case {
    kernel: &'static Kernel,
    dims: Vec<u32>,
    tier: Tier,
    step: Step,
    buffers: Vec<Values>,
}

impl Case {
    fn draw(kernel: &'static Kernel, dims: &[u32], tier: Tier, seed: u32) -> Self {
        let buffers = (0..).zip(kernel.bindings).map(|(i, b)| draw(kernel, dims, tier, [seed, i], b)).collect();
        Self { kernel, dims: dims.to_vec(), tier, step: step(), buffers }
    }

    /// The buffers as the kernel's products see them: the factors of a variant of f16 rounded as it rounds them, so that what is left to
    /// judge is its sums.
    fn rounded(&self) -> Cow<'_, [Values]> {
        let Some(scale) = self.kernel.variant.and_then(|v| v.f16) else { return Cow::Borrowed(&self.buffers) };
        let round = |(binding, values): (&Binding, &Values)| match (values, scale(&self.dims, binding.name)) {
            (Values::F(v), Some(scale)) => Values::F(v.iter().map(|&v| nearest_f16(v * scale) / scale).collect()),
            _ => values.clone(),
        };
        self.kernel.bindings.iter().zip(&self.buffers).map(round).collect()
    }

    /// The buffers in another type, through `map`.
    fn buffers<T: Real>(&self, map: impl Fn(f64) -> f64) -> Vec<Buffer<T>> {
        self.rounded()
            .iter()
            .map(|values| match values {
                Values::F(v) => Buffer::F(v.iter().map(|&v| T::of(map(f64::from(v)))).collect()),
                Values::U(v) => Buffer::U(v.clone()),
            })
            .collect()
    }

    /// Runs `call` on the buffers; returns those that were written, sentinels included.
    fn call<T: Real, R>(&self, mut buffers: Vec<Buffer<T>>, call: impl FnOnce(&mut Call<T>) -> R) -> (Vec<Buffer<T>>, R) {
        let reads = self.kernel.reads().count();
        let (reads, writes) = buffers.split_at_mut(reads);
        let reads: Vec<&Buffer<T>> = reads.iter().collect();
        let mut writes: Vec<&mut Buffer<T>> = writes.iter_mut().collect();
        let result = call(&mut Call { dims: &self.dims, step: &self.step, reads: &reads, writes: &mut writes });
        let first = reads.len();
        (buffers.split_off(first), result)
    }

    /// The f32 twin's outputs.
    fn play_f32(&self) -> Vec<Values> {
        let (written, ()) = self.call(self.buffers::<f32>(|v| v), self.kernel.twin.f32);
        let values = |b| match b {
            Buffer::F(v) => Values::F(v),
            Buffer::U(v) => Values::U(v),
        };
        written.into_iter().map(values).collect()
    }
}

/// Inputs of a kernel at these sizes, in binding order, as the bounded tier draws them; none for a buffer that is only written.
pub fn inputs(kernel: &Kernel, dims: &[u32]) -> Vec<Option<Values>> {
    let input = |(i, b): (u32, &Binding)| {
        (b.access != Access::Write).then(|| match draw(kernel, dims, Tier::Floats, [1, i], b) {
            Values::F(v) => Values::F(v[..v.len() - SENTINEL].to_vec()),
            Values::U(v) => Values::U(v[..v.len() - SENTINEL].to_vec()),
        })
    };
    (0..).zip(kernel.bindings).map(input).collect()
}

/// Writes these inputs into a player's tensors, which are named in binding order.
///
/// # Errors
/// A tensor that is not there or too small.
pub fn fill(player: &mut dyn Player, kernel: &Kernel, dims: &[u32], tensors: &[&str]) -> Result<()> {
    for (tensor, values) in tensors.iter().zip(inputs(kernel, dims)) {
        match values {
            Some(Values::F(v)) => player.write(tensor, &v)?,
            Some(Values::U(v)) => player.write_words(tensor, 0, &v)?,
            None => {}
        }
    }
    Ok(())
}

/// The nearest f16, ties to even, of a value that f16 has room for.
fn nearest_f16(v: f32) -> f32 {
    // The distance of two neighbours, that of the smallest below 2^-14.
    let exponent = (v.abs().to_bits() >> 23).max(127 - 14);
    let apart = f32::from_bits((exponent - 10) << 23);
    (v / apart).round_ties_even() * apart
}

fn draw(kernel: &Kernel, dims: &[u32], tier: Tier, [seed, place]: [u32; 2], binding: &Binding) -> Values {
    let len = (binding.len)(dims);
    let given = if binding.access == Access::Write { None } else { (kernel.input)(dims, binding.name, seed) };
    let indices = || 0..len as u32;
    let fractions = FRACTIONS.iter().find(|(key, _)| kernel.key.starts_with(key)).map(|(_, denominator)| *denominator as f32);
    let mut values = match (given, binding.access, binding.elem) {
        (Some(values), _, _) => values,
        (None, Access::Write, Elem::F32) => Values::F(vec![f32::from_bits(NAN_BITS); len]),
        (None, Access::Write, Elem::U32) => Values::U(vec![PATTERN; len]),
        (None, _, Elem::U32) => Values::U(
            indices()
                .map(|i| rng::hash3(seed, 100 + place, i))
                .map(|bits| match tier {
                    // Bytes of a picture: as floats 0 and 1, so that these are integers too.
                    Tier::Integers => (bits & 0x0101_0101) * 255,
                    Tier::Floats => bits,
                })
                .collect(),
        ),
        (None, _, Elem::F32) => Values::F(
            indices()
                .map(|i| rng::hash3(seed, 100 + place, i))
                .map(|bits| match (tier, fractions) {
                    (Tier::Integers, None) => (bits % 9) as f32 - 4.0,
                    (Tier::Integers, Some(unit)) => ((bits % 3) as f32 - 1.0) * if binding.name == "weight" { unit } else { 1.0 },
                    (Tier::Floats, _) => 2.0 * rng::unit(bits) - 1.0,
                })
                .collect(),
        ),
    };
    // Gradients that a variant of f16 scales are drawn as small as they come: without the scale they would be lost in f16.
    let scale = kernel.variant.and_then(|v| v.f16).and_then(|f16| f16(dims, binding.name)).filter(|&scale| scale != 1.0);
    if let (Some(scale), Values::F(v)) = (scale, &mut values) {
        v.iter_mut().for_each(|v| *v *= SMALL_GRADIENT / scale);
    }
    match &mut values {
        Values::F(v) => v.resize(len + SENTINEL, f32::from_bits(NAN_BITS)),
        Values::U(v) => v.resize(len + SENTINEL, PATTERN),
    }
    values
}

/// One written buffer as it should be.
enum Expected {
    /// Values and how far each may be off; no bound means bit for bit.
    Floats { want: Vec<f64>, bound: Option<Vec<f64>> },
    /// Words and, where their bytes are places in windows of rounded floats, the codes that may come: see [`near_ties`].
    Words { want: Vec<u32>, slack: Option<Vec<[bool; 5]>> },
}

/// What comparing one side with the truth found.
#[derive(Default)]
struct Tally {
    exact: usize,
    bounded: usize,
    ratio: f64,
    error: f64,
    near_ties: usize,
}

/// The f64 twin's outputs with their bounds.
struct Truth {
    outputs: Vec<(&'static Binding, Expected)>,
}

impl Truth {
    fn of(case: &Case) -> Result<Self> {
        let kernel = case.kernel;
        let lens: Vec<usize> = kernel.writes().map(|b| (b.len)(&case.dims)).collect();
        let (want, ()) = case.call(case.buffers::<f64>(|v| v), kernel.twin.f64);
        let sums = !matches!(kernel.bound, Bound::Own(_)) || SUMS.iter().any(|key| kernel.key.starts_with(key));
        let exact = case.tier == Tier::Integers && sums && !INEXACT.contains(&kernel.key);
        let mut bounds: Vec<Option<Vec<f64>>> = match kernel.bound {
            Bound::Own(_) if exact => vec![None; lens.len()],
            Bound::Own(bound) => case.call(case.buffers(|v| v), |call| bound(call)).1.into_iter().map(Some).collect(),
            Bound::Twin(roundings) | Bound::Tile(roundings, _) => {
                let scale = roundings(&case.dims) * 2f64.powi(-24);
                let (sizes, ()) = case.call(case.buffers::<f64>(f64::abs), kernel.twin.f64);
                let largest = |b: &Buffer<f64>, len: usize| b.f()[..len].iter().fold(0.0, |m: f64, &v| m.max(v));
                let mut bounds = Vec::new();
                for ((size, binding), &len) in sizes.iter().zip(kernel.writes()).zip(&lens) {
                    if binding.elem == Elem::U32 {
                        bounds.push(None);
                    } else if exact {
                        let top = largest(size, len);
                        ensure!(top < 2f64.powi(24), "{}: {} reaches {top}, past what f32 counts", kernel.key, binding.name);
                        bounds.push(None);
                    } else {
                        let sizes = match kernel.bound {
                            Bound::Tile(_, tiles) => tiles(&case.dims).largest(&size.f()[..len]),
                            _ => size.f()[..len].to_vec(),
                        };
                        bounds.push(Some(sizes.iter().map(|v| v * scale).collect()));
                    }
                }
                bounds
            }
        };
        bounds.resize(lens.len(), None);
        let outputs = kernel
            .writes()
            .zip(want)
            .zip(bounds)
            .map(|((binding, want), bound)| {
                let expected = match want {
                    Buffer::F(want) => Expected::Floats { want, bound },
                    Buffer::U(want) => Expected::Words { want, slack: if exact { None } else { near_ties(case) } },
                };
                (binding, expected)
            })
            .collect();
        Ok(Self { outputs })
    }

    /// Compares what one side wrote. The error names the first element that is wrong.
    fn compare(&self, got: &[Values]) -> Result<Tally> {
        let mut tally = Tally::default();
        for ((binding, expected), got) in self.outputs.iter().zip(got) {
            let name = binding.name;
            match (expected, got) {
                (Expected::Floats { want, bound }, Values::F(got)) => {
                    let len = want.len() - SENTINEL;
                    for (i, (&got, &want)) in got.iter().zip(want).enumerate().take(len) {
                        let Some(bound) = bound.as_ref().map(|b| b[i]) else {
                            // Equal as numbers: the zeros of either sign are one, NaN is none.
                            ensure!(got == want as f32, "{name}[{i}] is {got:e} and should be exactly {:e}", want as f32);
                            tally.exact += 1;
                            continue;
                        };
                        let error = (f64::from(got) - want).abs();
                        let fine = error <= bound;
                        ensure!(fine, "{name}[{i}] is {got:e} and should be {want:e}: {error:e} off, bound {bound:e}");
                        tally.bounded += 1;
                        tally.error = tally.error.max(error);
                        if error > 0.0 {
                            tally.ratio = tally.ratio.max(error / bound);
                        }
                    }
                    let behind = got[len..].iter().position(|v| v.to_bits() != NAN_BITS);
                    ensure!(behind.is_none(), "{name}: element {} behind the end was written", behind.unwrap_or_default());
                }
                (Expected::Words { want, slack }, Values::U(got)) => {
                    let len = want.len() - SENTINEL;
                    for (i, (&got, &want)) in got.iter().zip(want).enumerate().take(len) {
                        if got != want {
                            let close = slack.as_ref().is_some_and(|slack| within(got, want, &slack[4 * i..]));
                            ensure!(close, "{name}[{i}] is {got:#010x} and should be {want:#010x}");
                            tally.near_ties += 1;
                        }
                        if slack.is_some() { tally.bounded += 1 } else { tally.exact += 1 }
                    }
                    let behind = got[len..].iter().position(|&v| v != PATTERN);
                    ensure!(behind.is_none(), "{name}: word {} behind the end was written", behind.unwrap_or_default());
                }
                _ => anyhow::bail!("{name}: floats and words are mixed up"),
            }
        }
        Ok(tally)
    }
}

/// Whether every byte of `got` is a code that the rounding may have led to.
fn within(got: u32, want: u32, codes: &[[bool; 5]]) -> bool {
    got.to_le_bytes().iter().zip(want.to_le_bytes()).zip(codes).all(|((&g, w), ok)| g == w || (g < 5 && ok[usize::from(g)]))
}

/// For the fused convolution and pool under random floats: per pooled element, the codes that rounding may lead to: the places
/// of its window whose value cannot be told from the largest, and 4 where the largest cannot be told from 0. A value is off by
/// at most the kernel's bound, and so is the largest one: a place whose f64 value plus its bound reaches the largest one's
/// minus its bound, and 0, may win. Every other kernel compares its inputs themselves, which nothing has rounded: there the
/// words must be equal.
fn near_ties(case: &Case) -> Option<Vec<[bool; 5]>> {
    if !case.kernel.key.starts_with("conv2d_relu_maxpool2x2.forward") {
        return None;
    }
    let conv = kernel::by_key("conv2d.forward");
    let of_pictures = case.kernel.dims == PicturesDims::FIELDS;
    let d = if of_pictures { PicturesDims::of(&case.dims).conv } else { *Conv2dDims::of(&case.dims) };
    let d = Conv2dDims { relu: 0, ..d };
    if d.splits == 0 {
        return None;
    }
    let (Bound::Twin(roundings) | Bound::Tile(roundings, _)) = case.kernel.bound else { return None };
    let values = |map: fn(f64) -> f64| {
        let mut y = Buffer::zeros(Elem::F32, d.y_len());
        let mut inputs = case.buffers::<f64>(map);
        if of_pictures {
            inputs[0] = Buffer::F(case.call(inputs.clone(), |call| pictures::x(call)).1);
        }
        let reads: Vec<&Buffer<f64>> = inputs.iter().take(3).collect();
        let dims = d.words();
        (conv.twin.f64)(&mut Call { dims: &dims, step: &case.step, reads: &reads, writes: &mut [&mut y] });
        y
    };
    let (y, mut sizes) = (values(|v| v), values(f64::abs));
    if let Bound::Tile(_, tiles) = case.kernel.bound {
        // Of pooled windows, each two rows and columns of the convolution.
        let [height, width, channels] = [d.out_h, d.out_w, d.out_c].map(|n| n as usize);
        let tiles = OutputTiles { height, width, channels, side: 2 * tiles(&case.dims).side };
        sizes = Buffer::F(tiles.largest(sizes.f()));
    }
    let scale = roundings(&case.dims) * 2f64.powi(-24);
    let [out_h, out_w, c] = [d.out_h, d.out_w, d.out_c].map(|n| n as usize);
    let [pool_h, pool_w] = [out_h / 2, out_w / 2];
    let places = (0..d.pooled_len()).map(|i| {
        let (ch, px, py, n) = (i % c, i / c % pool_w, i / (c * pool_w) % pool_h, i / (c * pool_w * pool_h));
        let at = |place: usize| ((n * out_h + 2 * py + place / 2) * out_w + 2 * px + place % 2) * c + ch;
        let value = |place| (y.f()[at(place)], sizes.f()[at(place)] * scale);
        let floor = (0..4).map(value).fold(0.0, |m: f64, (v, bound)| m.max(v - bound));
        [0, 1, 2, 3, 4].map(|code| {
            let (v, bound) = if code < 4 { value(code) } else { (0.0, 0.0) };
            v + bound >= floor
        })
    });
    Some(places.collect())
}

/// Plays one kernel on an adapter: a plan per case over its own tensors, compiled once.
struct Runner {
    player: GpuPlayer,
    kernel: &'static Kernel,
    plans: Vec<PlanId>,
}

impl Runner {
    fn new(adapter: &Adapter, kernel: &'static Kernel, cases: &[Vec<u32>]) -> Result<Self> {
        let mut program = Program::new();
        let plans = cases
            .iter()
            .enumerate()
            .map(|(i, dims)| {
                let plan = program.begin(format!("case {i}"), 1);
                let names: Vec<String> = kernel.bindings.iter().map(|b| tensor(i, b)).collect();
                for (name, binding) in names.iter().zip(kernel.bindings) {
                    program.tensor(name, binding.elem, (binding.len)(dims) + SENTINEL);
                }
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                program.dispatch_kernel(&format!("case {i}"), kernel, dims.clone(), &names);
                plan
            })
            .collect();
        Ok(Self { player: GpuPlayer::new(adapter, program)?, kernel, plans })
    }

    /// What the kernel wrote, sentinels included.
    fn play(&mut self, i: usize, case: &Case) -> Result<Vec<Values>> {
        for (values, binding) in case.buffers.iter().zip(self.kernel.bindings) {
            match values {
                Values::F(v) => self.player.write(&tensor(i, binding), v)?,
                Values::U(v) => self.player.write_words(&tensor(i, binding), 0, v)?,
            }
        }
        self.player.play(self.plans[i], &[case.step])?;
        self.kernel
            .writes()
            .map(|binding| {
                let bytes = self.player.read_bytes(&tensor(i, binding))?;
                Ok(match binding.elem {
                    Elem::F32 => Values::F(bytemuck::pod_collect_to_vec(&bytes)),
                    Elem::U32 => Values::U(bytemuck::pod_collect_to_vec(&bytes)),
                })
            })
            .collect()
    }
}

/// Values as words, in which NaN equals itself.
fn bits(buffers: &[Values]) -> Vec<&[u32]> {
    buffers
        .iter()
        .map(|values| match values {
            Values::F(v) => bytemuck::cast_slice(v),
            Values::U(v) => v.as_slice(),
        })
        .collect()
}

fn tensor(case: usize, binding: &Binding) -> String {
    format!("{case}/{}", binding.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The f32 twin's outputs of a kernel's case, altered, as `compare` sees them.
    fn judged(key: &str, case: usize, tier: Tier, alter: impl FnOnce(&mut [Values])) -> Result<Tally> {
        let kernel = kernel::by_key(key);
        let case = Case::draw(kernel, &(kernel.cases)()[case], tier, 1);
        let mut got = case.play_f32();
        alter(&mut got);
        Truth::of(&case)?.compare(&got)
    }

    fn floats(values: &mut Values) -> &mut Vec<f32> {
        match values {
            Values::F(v) => v,
            Values::U(_) => panic!("words"),
        }
    }

    fn words(values: &mut Values) -> &mut Vec<u32> {
        match values {
            Values::U(v) => v,
            Values::F(_) => panic!("floats"),
        }
    }

    #[test]
    fn one_ulp_a_nan_or_a_touched_sentinel_fails() {
        let fails = |tier, alter: fn(&mut Vec<f32>)| judged("dense.reduce", 1, tier, |got| alter(floats(&mut got[0]))).is_err();
        for tier in [Tier::Integers, Tier::Floats] {
            assert!(!fails(tier, |_| ()));
            assert!(fails(tier, |v| v[3] = f32::NAN));
            assert!(fails(tier, |v| v[5] += 0.001));
            assert!(fails(tier, |v| *v.last_mut().expect("a sentinel") = 0.0));
        }
        assert!(fails(Tier::Integers, |v| v[7] = v[7].next_up()));
    }

    #[test]
    fn f16_is_the_nearest_and_ties_go_to_even() {
        for (v, nearest) in [
            (1.0, 1.0),
            (1.0 + 2f32.powi(-11), 1.0),
            (1.0 + 3.0 * 2f32.powi(-11), 1.0 + 2f32.powi(-9)),
            (-0.1, -0.099_975_586),
            (65_504.0, 65_504.0),
            (2f32.powi(-24), 2f32.powi(-24)),
            (2f32.powi(-25), 0.0),
            (-3.0 * 2f32.powi(-25), -(2f32.powi(-23))),
            (0.0, 0.0),
        ] {
            assert_eq!(nearest_f16(v), nearest, "{v:e}");
        }
        assert!(nearest_f16(f32::NAN).is_nan());
    }

    #[test]
    fn only_a_near_tie_may_change_an_argmax() {
        let key = "conv2d_relu_maxpool2x2.forward";
        assert!(judged(key, 1, Tier::Floats, |_| ()).is_ok());
        // Another place for every window: some of them have no tie at all.
        assert!(judged(key, 1, Tier::Floats, |got| words(&mut got[1])[..6].iter_mut().for_each(|w| *w ^= 0x0101_0101)).is_err());
        assert!(judged(key, 1, Tier::Floats, |got| words(&mut got[1])[0] |= 8).is_err());
        let places = [[false, true, true, false, false]; 4];
        assert!(within(0x0101_0101, 0x0102_0201, &places));
        assert!(!within(0x0103_0101, 0x0102_0201, &places));
        assert!(!within(0x0401_0101, 0x0102_0201, &places));
        assert!(!within(0x0501_0101, 0x0102_0201, &places));
    }
}
