//! When each dispatch of a plan began and ended, and what the device can do at best.

use super::{Choice, CpuPlayer, GpuPlayer, Player};
use crate::engine::reading_step;
use crate::kernel::{self, Cost, Dims, Kernel, Precision, Step};
use crate::ops::peak::{PeakDims, cpu_flops};
use crate::plan::{PlanId, Program};
use crate::rng;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What a [`Timing`] was taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The adapter's own timestamps, one compute pass per dispatch.
    Timestamps,
    /// The CPU's clock around submission and end of each dispatch, for an adapter without timestamps or with dead ones, and for
    /// dispatches that are too long for one submission.
    Submits,
    /// The CPU's clock around each twin of the CPU path.
    Twins,
}

impl Clock {
    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Timestamps => "GPU timestamps",
            Self::Submits => "the CPU's clock around submissions",
            Self::Twins => "the CPU's clock around twins",
        }
    }
}

/// One dispatch, in seconds since its step began.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Span {
    /// When it began.
    pub start: f64,
    /// When it ended.
    pub end: f64,
}

impl Span {
    /// How long it took.
    pub fn seconds(&self) -> f64 {
        self.end - self.start
    }
}

/// The dispatches of a plan as they were played.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The clock.
    pub clock: Clock,
    /// Per step a span per dispatch, in the plan's order.
    pub steps: Vec<Vec<Span>>,
}

/// What a device reached in the kernels of [`crate::ops::peak`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// Floating-point operations per second: multiply-adds in registers (`peak.flops`); on the CPU path a matrix product.
    pub flops: f64,
    /// Floating-point operations per second of matrix units that multiply f16 (`peak.products`), where products of f16 are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub products: Option<f64>,
    /// Bytes read and written per second in a copy (`peak.copy`).
    pub bytes: f64,
    /// Bytes that the copy read and wrote.
    pub copied: f64,
    /// Seconds that a dispatch of four elements took, the median: what every dispatch costs.
    pub dispatch: f64,
}

impl Peaks {
    /// Floating-point operations per second of kernels of this precision.
    pub fn of(&self, precision: Precision) -> f64 {
        self.products.filter(|_| precision == Precision::F16).unwrap_or(self.flops)
    }

    /// The better of two measurements: a busy machine only ever makes them worse.
    pub fn better(self, other: Self) -> Self {
        Self {
            flops: self.flops.max(other.flops),
            products: self.products.zip(other.products).map(|(a, b)| a.max(b)),
            bytes: self.bytes.max(other.bytes),
            copied: self.copied,
            dispatch: self.dispatch.min(other.dispatch),
        }
    }
}

/// Most dispatches in a query set, at two queries each.
const MOST_CALLS: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

impl GpuPlayer {
    /// Times by timestamps, or by the CPU's clock where the adapter has none or they stand still.
    pub(super) fn time_steps(&self, plan: PlanId, steps: &[Step]) -> Result<Timing> {
        let mut played = Vec::with_capacity(steps.len());
        // `WGRADCAM_NO_TIMESTAMPS=1` takes the other way on an adapter that has them, to try it.
        let refused = std::env::var("WGRADCAM_NO_TIMESTAMPS").is_ok_and(|v| v == "1");
        // Nor are the slices of a long dispatch one span.
        let refused = refused || self.by_submits;
        if !refused && self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            for step in steps {
                played.extend(self.time_by_timestamps(plan, step)?);
            }
            if played.len() == steps.len() {
                return Ok(Timing { clock: Clock::Timestamps, steps: played });
            }
        }
        let played = steps.iter().map(|step| self.time_by_submits(plan, step)).collect::<Result<_>>()?;
        Ok(Timing { clock: Clock::Submits, steps: played })
    }

    /// One step with a compute pass per dispatch; none if the adapter's timestamps cannot be believed.
    fn time_by_timestamps(&self, plan: PlanId, step: &Step) -> Result<Option<Vec<Span>>> {
        self.write_steps(&[*step]);
        let (all, pace) = (&self.plans[plan.0], &self.paces[plan.0]);
        let mut ticks: Vec<u64> = Vec::with_capacity(2 * all.len());
        let mut at = 0;
        while at < all.len() {
            let calls = &all[at..pace.end(at, all.len()).min(at + MOST_CALLS)];
            at += calls.len();
            let count = 2 * calls.len() as u32;
            let query_set = self.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let size = u64::from(count) * u64::from(wgpu::QUERY_SIZE);
            let resolved = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let encoder = || self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("profile") });
            let mut playing = encoder();
            for (i, call) in (0u32..).zip(calls) {
                let pass = |beginning_of_pass_write_index, end_of_pass_write_index| wgpu::ComputePassDescriptor {
                    label: Some("profile"),
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &query_set,
                        beginning_of_pass_write_index,
                        end_of_pass_write_index,
                    }),
                };
                let [begin, end] = [Some(2 * i), Some(2 * i + 1)];
                if call.copies() {
                    // What it copies is its time too.
                    drop(playing.begin_compute_pass(&pass(begin, None)));
                    call.encode_copies(&mut playing);
                    call.encode(&mut playing.begin_compute_pass(&pass(None, end)), 0);
                } else {
                    call.encode(&mut playing.begin_compute_pass(&pass(begin, end)), 0);
                }
            }
            self.queue.submit([playing.finish()]);
            self.wait()?;
            // Played, resolved and copied in a submission each: together, some drivers read zeros (gfx-rs/wgpu#6406).
            let mut resolving = encoder();
            resolving.resolve_query_set(&query_set, 0..count, &resolved, 0);
            self.queue.submit([resolving.finish()]);
            self.wait()?;
            ticks.extend(bytemuck::pod_collect_to_vec::<u8, u64>(&self.read_buffer(&resolved, size, "the timestamps")?));
        }
        Ok(spans(&ticks, f64::from(self.queue.get_timestamp_period())))
    }

    /// One step with a submission per dispatch, several where it is long.
    fn time_by_submits(&self, plan: PlanId, step: &Step) -> Result<Vec<Span>> {
        self.write_steps(&[*step]);
        self.queue.submit([]);
        self.wait()?;
        let zero = Instant::now();
        let mut spans = Vec::new();
        for call in 0..self.plans[plan.0].len() {
            let start = zero.elapsed().as_secs_f64();
            self.submit_call(plan, call)?;
            spans.push(Span { start, end: zero.elapsed().as_secs_f64() });
        }
        Ok(spans)
    }
}

/// Pairs of timestamps as spans from the first on; none where they stand still, run backwards or were never written.
fn spans(ticks: &[u64], nanoseconds: f64) -> Option<Vec<Span>> {
    let zero = *ticks.first()?;
    let seconds = |tick: u64| Some(tick.checked_sub(zero)? as f64 * nanoseconds * 1e-9);
    let spans: Option<Vec<Span>> = ticks
        .chunks_exact(2)
        .map(|pair| Some(Span { start: seconds(pair[0])?, end: seconds(pair[1])? }).filter(|s| s.end >= s.start))
        .collect();
    spans.filter(|spans| spans.iter().any(|s| s.seconds() > 0.0))
}

/// Rounds of the multiply-adds: far below the 65,535 at which lavapipe leaves a loop.
const ROUNDS: u32 = 1024;
/// Invocations of `peak.flops`, tried in this order until one takes [`LONG_ENOUGH`].
const INVOCATIONS: [u32; 4] = [1 << 12, 1 << 15, 1 << 19, 1 << 22];
/// Elements and rounds of the products, tried in the same way: few where a CPU multiplies them one by one.
const PRODUCTS: [(u32, u32); 5] = [(1 << 17, 32), (1 << 20, 64), (1 << 21, 512), (1 << 22, 4096), (1 << 23, 8192)];
/// Seconds beside which a dispatch's own cost is nothing.
const LONG_ENOUGH: f64 = 0.01;
/// Bytes of each side of the copy on a real GPU, past every cache, and on a software adapter or the CPU path.
const COPY: [u64; 2] = [256 << 20, 64 << 20];

/// Measures the device's peaks: the best of five runs each, and the median dispatch.
///
/// # Errors
/// A device that cannot be opened or has no memory for the copy.
pub fn peaks(choice: &Choice) -> Result<Peaks> {
    let facts = choice.adapter.as_ref().map(|a| (a.max_tensor_bytes(), a.facts().software));
    let (most, software) = facts.unwrap_or((u64::MAX, true));
    let len = (COPY[usize::from(software)].min(most) / 16 * 4) as u32;
    let mut program = Program::new();
    let mut plan = |kernel: &'static Kernel, dims: PeakDims, tensors: &[&str]| {
        let id = program.begin(kernel.key, 1);
        program.dispatch_kernel("peak", kernel, dims.words(), tensors);
        id
    };
    let [copies, chains] = ["peak.copy", "peak.flops"].map(kernel::by_key);
    let copy = plan(copies, PeakDims { len, rounds: 0 }, &["source", "copied"]);
    let dispatch = plan(copies, PeakDims { len: 4, rounds: 0 }, &["source", "copied"]);
    let flops = INVOCATIONS.map(|len| plan(chains, PeakDims { len, rounds: ROUNDS }, &["x", "line", "y"]));
    let matrices = choice.adapter.as_ref().and_then(|adapter| {
        let mut variants = kernel::by_key("peak.products").variants();
        variants.find(|k| adapter.precision() == Precision::F16 && adapter.can_run(k))
    });
    let products =
        matrices.map(|kernel| PRODUCTS.map(|(len, rounds)| plan(kernel, PeakDims { len, rounds }, &["left", "right", "y"])));
    let mut player: Box<dyn Player> = match &choice.adapter {
        Some(adapter) => Box::new(GpuPlayer::new(adapter, program)?),
        None => Box::new(CpuPlayer::<f32>::new(program)),
    };
    // The chains settle at 2: denormals and infinities may be slow.
    player.write("line", &[0.5, 1.0])?;
    if products.is_some() {
        // A matrix unit takes less power for equal factors, and its clock may rise.
        for name in ["left", "right"] {
            let id = player.program().find(name).context("a factor of the products")?;
            let len = player.program().tensors[id.0].len as u32;
            player.write(name, &(0..len).map(|i| rng::unit(rng::hash3(0, len, i)) - 0.5).collect::<Vec<_>>())?;
        }
    }
    // The fastest run's seconds, the median's, and the cost.
    let mut time = |plan| -> Result<(f64, f64, Cost)> {
        // The first pays for the driver's compilation and the memory's first touch.
        let timing = player.time(plan, &[reading_step(0, 0); 6])?;
        let mut seconds: Vec<f64> = timing.steps[1..].iter().map(|s| s[0].seconds()).collect();
        seconds.sort_by(f64::total_cmp);
        let call = &player.program().plans[plan.0].dispatches[0];
        Ok((seconds[0], seconds[seconds.len() / 2], (call.kernel.cost)(&call.dims)))
    };
    let (seconds, _, cost) = time(copy)?;
    let (_, dispatch, _) = time(dispatch)?;
    let mut best = |plans: &[PlanId]| -> Result<f64> {
        let mut peak = 0.0f64;
        for &plan in plans {
            let (seconds, _, cost) = time(plan)?;
            peak = peak.max(cost.flops / seconds);
            if seconds > LONG_ENOUGH {
                break;
            }
        }
        Ok(peak)
    };
    let flops = if choice.adapter.is_none() { cpu_flops() } else { best(&flops)? };
    let products = products.map(|plans| best(&plans)).transpose()?;
    Ok(Peaks { flops, products, bytes: cost.bytes / seconds, copied: cost.bytes, dispatch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_timestamps_are_known() {
        assert_eq!(spans(&[5, 7, 9, 9], 1e9), Some(vec![Span { start: 0.0, end: 2.0 }, Span { start: 4.0, end: 4.0 }]));
        for dead in [vec![0, 0, 0, 0], vec![8, 8, 8, 8], vec![5, 4], vec![5, 6, 0, 0], vec![]] {
            assert_eq!(spans(&dead, 1.0), None, "{dead:?}");
        }
    }

    #[test]
    fn the_cpu_path_has_peaks() {
        let peaks = peaks(&Choice { adapter: None, why: String::new() }).unwrap();
        assert!(peaks.flops > 1e8 && peaks.bytes > 1e7 && peaks.dispatch > 0.0 && peaks.dispatch < 1.0, "{peaks:?}");
    }
}
