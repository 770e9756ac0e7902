//! `wgradcam profile`.

use super::{common, say};
use crate::cli::{ProfileArgs, ProfileMode, RowOrder};
use crate::engine::{Engine, PassRequest, reading_step};
use crate::files::write_whole;
use crate::kernel::{self, Cost, Kernel, Precision, Step};
use crate::model::{Explain, Mode, Model, ModelSettings, Target, Technique};
use crate::ops::adam::Adam;
use crate::plan::Plan;
use crate::player::{AdapterFacts, Choice, Clock, FirstUse, Peaks, Timing, peaks};
use crate::report::roofline::{self, digits};
use crate::report::{save_png, trace};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Steps in the submission whose wall time is set beside the sum: the submission's own cost is shared among them.
const STEPS_PER_SUBMIT: usize = 3;

/// Plays a step kernel by kernel and as a whole, and prints where the time goes.
pub fn run(args: &ProfileArgs) -> Result<ExitCode> {
    ensure!(args.batch_size > 0, "--batch-size 0: a step needs a picture");
    ensure!(args.repeat > 0, "--repeat 0: nothing would be timed");
    for (flag, path) in [("--trace", &args.trace), ("--roofline", &args.roofline)] {
        path.as_deref().map_or(Ok(()), |path| writable(flag, path))?;
    }
    let model = Model::new(&common::model_settings(ModelSettings::default(), &args.model), args.classes)?;
    let choice = common::device(&args.device, args.device.precision.unwrap_or_default())?;
    let profile = measure(args, &model, &choice)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&profile)?);
    } else {
        profile.print(args.order);
    }
    if let Some(path) = &args.trace {
        write_whole(path, profile.trace().to_string().as_bytes())?;
        eprintln!("Wrote {}: open it at ui.perfetto.dev", path.display());
    }
    if let Some(path) = &args.roofline {
        save_png(path, &profile.roofline())?;
        eprintln!("Wrote {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails before any long work if a file could not be written.
fn writable(flag: &str, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(!path.is_dir(), "{flag} {} is a folder: name a file in it", path.display());
    tempfile::tempfile_in(folder)
        .with_context(|| format!("{flag} {}: cannot write into {}", path.display(), folder.display()))?;
    Ok(())
}

fn measure(args: &ProfileArgs, model: &Model, choice: &Choice) -> Result<Profile> {
    // Before the step, with the memory to itself, and again after it, if both fit.
    let before = peaks(choice)?;
    let mode = match args.mode {
        ProfileMode::Train => Mode::Train,
        ProfileMode::Evaluate => Mode::Evaluate,
        ProfileMode::Explain => Mode::Explain(Explain { target: Target::Predicted, technique: Technique::Gradcam, check: false }),
    };
    let data = common::random_pictures(model, args.batch_size);
    let request = PassRequest { set: "random", data: &data, batch: args.batch_size, mode };
    let mut engine = Engine::new(model, choice, &[request])?;
    for (i, p) in model.params().iter().enumerate() {
        engine.set_param(p, "", &p.initial(0, i))?;
    }
    let plan = engine.pass(0).batches()[0].plan;
    let step = |i: usize| match mode {
        Mode::Train => Step { step: i as u32, adam: Adam::default().at(i as u32 + 1), ..reading_step(0, 0) },
        _ => reading_step(0, 0),
    };
    let player = engine.player();
    let wall = |player: &mut dyn crate::player::Player, first: usize| -> Result<f64> {
        let steps: Vec<Step> = (first..first + STEPS_PER_SUBMIT).map(step).collect();
        let start = Instant::now();
        player.play(plan, &steps)?;
        Ok(start.elapsed().as_secs_f64() / STEPS_PER_SUBMIT as f64)
    };
    // The first steps pay for the driver's compilation and the memory's first touch.
    let start = Instant::now();
    player.play(plan, &[step(0)])?;
    let first_step = start.elapsed().as_secs_f64();
    wall(player, 0)?;
    player.time(plan, &[step(STEPS_PER_SUBMIT)])?;
    let (mut walls, mut timing) = (Vec::new(), None::<Timing>);
    for i in 1..=args.repeat {
        // In turn, so that whatever else this machine does disturbs both alike.
        let first = i * (STEPS_PER_SUBMIT + 1);
        walls.push(wall(player, first)?);
        let timed = player.time(plan, &[step(first + STEPS_PER_SUBMIT)])?;
        match &mut timing {
            // A clock that fails half-way is not mixed with another: the CPU's, once it is needed, stays.
            Some(t) if t.clock == timed.clock => t.steps.extend(timed.steps),
            _ => timing = Some(timed),
        }
    }
    let timing = timing.context("nothing was timed")?;
    let peaks = peaks(choice).map_or(before, |after| before.better(after));
    let (device, first_use) = (player.device(), player.first_use());
    let plan = &player.program().plans[plan.0];
    let facts = choice.adapter.as_ref().map(|a| a.facts().clone());
    let profile = Profile::new(device, facts, args.mode, plan, peaks, Spread::of(walls), timing);
    Ok(Profile { first_use, first_step, ..profile })
}

/// A quantity that was measured several times.
#[derive(Clone, Debug, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
    samples: Vec<f64>,
}

impl Spread {
    /// Of at least one sample.
    fn of(samples: Vec<f64>) -> Self {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        Self { median: (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0, min: sorted[0], max: sorted[n - 1], samples }
    }
}

/// What keeps a kernel from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum BoundBy {
    /// More operations per byte than the device's peaks are apart.
    Compute,
    /// Fewer.
    Memory,
    /// At peak its work would take less than a dispatch that does nothing: it cannot be told from one.
    Dispatch,
}

/// A kernel of a layer; more than one dispatch of a label are one row.
#[derive(Clone, Debug, Serialize)]
struct Row {
    label: String,
    kernel: &'static str,
    /// Dispatches per step.
    calls: usize,
    /// Per step.
    seconds: Spread,
    /// Of the sum of all rows' medians.
    share: f64,
    /// Per step, as the sums are written: what other programs that compute the same are measured by.
    flops: f64,
    /// Of these what the kernel's technique makes; on the CPU path, whose twins choose their technique themselves, unknown.
    flops_made: Option<f64>,
    /// Per step.
    bytes: f64,
    /// Of `flops`.
    flops_per_second: f64,
    bytes_per_second: f64,
    /// Achieved over what the roofline allows at this intensity, by what is made.
    of_peak: f64,
    bound: BoundBy,
}

impl Row {
    fn precision(&self) -> Precision {
        kernel::by_key(self.kernel).precision()
    }

    /// What the device is known to have worked.
    fn work(&self) -> f64 {
        self.flops_made.unwrap_or(self.flops)
    }
}

/// Everything that was measured.
#[derive(Serialize)]
struct Profile {
    device: String,
    adapter: Option<AdapterFacts>,
    plan: String,
    #[serde(skip)]
    mode: ProfileMode,
    batch: usize,
    repeat: usize,
    clock: Clock,
    peaks: Peaks,
    /// What the device cost before the first step; none on the CPU path.
    first_use: Option<FirstUse>,
    /// Seconds of the first step.
    first_step: f64,
    /// Seconds of a step played without any clock inside.
    wall: Spread,
    /// Seconds of all rows' medians.
    sum: f64,
    /// In the plan's order.
    rows: Vec<Row>,
    #[serde(skip)]
    labels: Vec<String>,
    #[serde(skip)]
    timing: Timing,
}

impl Profile {
    fn new(
        device: String,
        adapter: Option<AdapterFacts>,
        mode: ProfileMode,
        plan: &Plan,
        peaks: Peaks,
        wall: Spread,
        timing: Timing,
    ) -> Self {
        let rows = rows(plan, &timing, &peaks);
        let f16 = rows.iter().any(|r| r.precision() == Precision::F16);
        // A network without products of f16 has none to divide by it.
        let peaks = Peaks { products: peaks.products.filter(|_| f16), ..peaks };
        Self {
            device,
            adapter,
            plan: plan.name.clone(),
            mode,
            batch: plan.batch,
            repeat: timing.steps.len(),
            clock: timing.clock,
            peaks,
            first_use: None,
            first_step: 0.0,
            wall,
            sum: rows.iter().map(|r| r.seconds.median).sum(),
            rows,
            labels: plan.dispatches.iter().map(|d| d.label.clone()).collect(),
            timing,
        }
    }

    fn print(&self, order: RowOrder) {
        let driver = self.adapter.as_ref().map_or(String::new(), |a| format!(" ({})", a.driver));
        let (p, ms) = (&self.peaks, |seconds: f64| 1e3 * seconds);
        say!("{}{driver}", self.device);
        say!("A step of {} at batch {}, median of {}, by {}", self.mode(), self.batch, self.repeat, self.clock_text());
        let measured = if self.adapter.is_some() { "multiply-adds in registers" } else { "matrix products in cache" };
        let products = p.products.map_or(String::new(), |flops| format!("{} GFLOP/s (products of f16), ", digits(flops / 1e9)));
        say!(
            "Measured peaks: {} GFLOP/s ({measured}), {products}{} GB/s (a copy of {:.0} MiB), {} us for a dispatch that does nothing",
            digits(p.flops / 1e9),
            digits(p.bytes / 1e9),
            p.copied / 2.0 / f64::from(1 << 20),
            digits(1e6 * p.dispatch)
        );
        let first = self.first_use.map_or(String::new(), |first| format!("{first}; "));
        say!("First use: {first}first step {:.2} s", self.first_step);
        say!("");
        let width = self.rows.iter().map(|r| r.label.chars().count()).max().unwrap_or(0).max(22);
        say!(
            "{:width$} {:>5} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8} {:>8}  bound by",
            "layer: kernel",
            "calls",
            "median ms",
            "min",
            "max",
            "share",
            "GFLOP/s",
            "GB/s",
            "of peak"
        );
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        if order == RowOrder::Time {
            rows.sort_by(|a, b| b.seconds.median.total_cmp(&a.seconds.median));
        }
        for r in rows {
            say!(
                "{:width$} {:>5} {:>9.3} {:>9.3} {:>9.3} {:>5.1} % {:>8} {:>8} {:>6.1} %  {}",
                r.label,
                r.calls,
                ms(r.seconds.median),
                ms(r.seconds.min),
                ms(r.seconds.max),
                100.0 * r.share,
                digits(r.flops_per_second / 1e9),
                digits(r.bytes_per_second / 1e9),
                100.0 * r.of_peak,
                format!("{:?}", r.bound).to_lowercase()
            );
        }
        let calls: usize = self.rows.iter().map(|r| r.calls).sum();
        say!("");
        let fastest = self.rows.iter().map(|r| r.seconds.min).sum();
        say!("{:width$} {calls:>5} {:>9.3} {:>9.3}", "sum", ms(self.sum), ms(fastest));
        let w = &self.wall;
        say!("{:width$} {:>5} {:>9.3} {:>9.3} {:>9.3}", "a step without clocks", "", ms(w.median), ms(w.min), ms(w.max));
        say!("{:width$} {:>5} {:>9.3}  {}", "difference", "", ms(w.median - self.sum), self.gap());
        let flops: f64 = self.rows.iter().map(|r| r.flops).sum();
        say!(
            "{:.1} pictures/s and {} GFLOP/s over the step without clocks",
            self.batch as f64 / w.median,
            digits(flops / w.median / 1e9)
        );
        if self.rows.iter().any(|r| r.work() < r.flops) {
            say!(
                "GFLOP/s counts a layer's sums as they are written. Of peak counts the products that a kernel makes of them: Winograd's \
                 a half to a quarter, its transforms left out, and the sparse ones, behind a pool, a quarter."
            );
        }
        if self.rows.iter().any(|r| r.of_peak > 1.0) {
            let twins = "the work is counted as the sums are written, of which the CPU path makes a half to a quarter where it takes \
                         Winograd's algorithm or passes over zeros; or ";
            say!(
                "Above 100 % of peak: {}the data stayed in cache, which the copy's did not, or the measurement of the peaks met a busier \
                 machine.",
                if self.clock == Clock::Twins { twins } else { "" }
            );
        }
    }

    fn mode(&self) -> &'static str {
        match self.mode {
            ProfileMode::Train => "training",
            ProfileMode::Evaluate => "evaluation",
            ProfileMode::Explain => "explanation",
        }
    }

    fn clock_text(&self) -> &'static str {
        match self.clock {
            Clock::Timestamps => "GPU timestamps around every kernel",
            Clock::Submits => {
                "the CPU's clock around submission and end of every kernel, which each time includes: the adapter's timestamps are \
                 missing, stand still or are turned off, or a kernel takes so long that it is played in slices"
            }
            Clock::Twins => "the CPU's clock around every kernel's twin",
        }
    }

    /// Why the sum and the wall time differ.
    fn gap(&self) -> &'static str {
        let gap = (self.wall.median - self.sum) / self.wall.median;
        match self.clock {
            _ if gap.abs() < 0.02 => "nothing to speak of: the kernels are the step",
            Clock::Timestamps if gap > 0.0 => "barriers and gaps between kernels; submission and waiting, shared by 3 steps",
            Clock::Timestamps => "a pass of its own costs each kernel its overlap with its neighbours; or the machine was busy",
            Clock::Submits if gap > 0.0 => "the machine was busy: with a submission per kernel the sum should be the larger",
            Clock::Submits => "each kernel's own submission and waiting, which a step has once",
            Clock::Twins => "what else this machine did: the CPU path plays the twins one after the other",
        }
    }

    fn trace(&self) -> serde_json::Value {
        let steps: Vec<Vec<trace::Event>> = self
            .timing
            .steps
            .iter()
            .map(|spans| {
                spans
                    .iter()
                    .zip(&self.labels)
                    .filter_map(|(span, label)| {
                        let row = self.rows.iter().find(|r| r.label == *label)?;
                        let mut facts = serde_json::Map::new();
                        facts.insert("bound by".into(), serde_json::to_value(row.bound).ok()?);
                        facts.insert("GFLOP/s (median)".into(), (row.flops_per_second / 1e9).into());
                        facts.insert("GB/s (median)".into(), (row.bytes_per_second / 1e9).into());
                        facts.insert("of peak (median)".into(), row.of_peak.into());
                        Some(trace::Event { name: label, start: span.start, seconds: span.seconds(), facts })
                    })
                    .collect()
            })
            .collect();
        trace::trace(&self.device, &steps)
    }

    fn roofline(&self) -> image::RgbImage {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by(|a, b| b.seconds.median.total_cmp(&a.seconds.median));
        let points: Vec<_> = rows
            .iter()
            .map(|r| roofline::Point {
                label: &r.label,
                flops: r.work(),
                bytes: r.bytes,
                seconds: r.seconds.median,
                f16: r.precision() == Precision::F16,
            })
            .collect();
        let title = format!("{}: a step of {} at batch {}", self.device, self.mode(), self.batch);
        let note = format!(
            "Median of {}; a disc's area is the kernel's share of the time; roof measured on this device; {}",
            self.repeat,
            if self.clock == Clock::Twins { "sums as they are written" } else { "products as kernels make them" }
        );
        let Peaks { flops, products, bytes, .. } = self.peaks;
        roofline::chart(&title, &note, &roofline::Roof { flops, products, bytes }, &points)
    }
}

/// A row per label, in the plan's order.
fn rows(plan: &Plan, timing: &Timing, peaks: &Peaks) -> Vec<Row> {
    let mut labels: Vec<&str> = Vec::new();
    for d in &plan.dispatches {
        if !labels.contains(&d.label.as_str()) {
            labels.push(&d.label);
        }
    }
    let mut rows: Vec<Row> = labels
        .into_iter()
        .map(|label| {
            let places: Vec<usize> = (0..plan.dispatches.len()).filter(|&i| plan.dispatches[i].label == label).collect();
            let kernel = plan.dispatches[places[0]].kernel;
            let cost = places.iter().map(|&i| &plan.dispatches[i]).map(|d| (d.kernel.cost)(&d.dims));
            let cost = cost.fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes });
            let made = (timing.clock != Clock::Twins).then_some(kernel.made);
            let step = |spans: &Vec<crate::player::Span>| places.iter().map(|&i| spans[i].seconds()).sum();
            row(label, kernel, places.len(), Spread::of(timing.steps.iter().map(step).collect()), cost, made, peaks)
        })
        .collect();
    let sum: f64 = rows.iter().map(|r| r.seconds.median).sum();
    rows.iter_mut().for_each(|r| r.share = if sum > 0.0 { r.seconds.median / sum } else { 0.0 });
    rows
}

/// `made` of the cost's flops, if it is known.
fn row(label: &str, kernel: &'static Kernel, calls: usize, seconds: Spread, cost: Cost, made: Option<f64>, peaks: &Peaks) -> Row {
    // A clock too coarse for the kernel reads 0; its rates are unknown, not infinite.
    let rate = |amount: f64| if seconds.median > 0.0 { amount / seconds.median } else { 0.0 };
    let flops_made = made.map(|share| share * cost.flops);
    let at_compute = flops_made.unwrap_or(cost.flops) / peaks.of(kernel.precision());
    let at_memory = cost.bytes / peaks.bytes;
    let bound = match () {
        () if at_compute.max(at_memory) < peaks.dispatch * calls as f64 => BoundBy::Dispatch,
        () if at_compute > at_memory => BoundBy::Compute,
        () => BoundBy::Memory,
    };
    Row {
        label: label.to_owned(),
        kernel: kernel.key,
        calls,
        share: 0.0,
        flops: cost.flops,
        flops_made,
        bytes: cost.bytes,
        flops_per_second: rate(cost.flops),
        bytes_per_second: rate(cost.bytes),
        of_peak: rate(at_compute.max(at_memory)),
        bound,
        seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Dims;
    use crate::ops::dense::DenseDims;
    use crate::ops::relu::FlatDims;
    use crate::plan::Program;
    use crate::player::Span;

    const PEAKS: Peaks = Peaks { flops: 1e9, products: Some(4e9), bytes: 1e9, copied: 8.0, dispatch: 1e-6 };

    fn profile(lens: &[(&str, u32)], seconds: &[&[f64]]) -> Profile {
        let mut program = Program::new();
        program.begin("train", 2);
        for (layer, len) in lens {
            program.dispatch(layer, "relu.backward", FlatDims { len: *len }.words(), &["dy", "y", "dx"]);
        }
        let spans = |step: &&[f64]| step.iter().map(|&s| Span { start: 1.0, end: 1.0 + s }).collect();
        let timing = Timing { clock: Clock::Timestamps, steps: seconds.iter().map(spans).collect() };
        Profile::new("a".into(), None, ProfileMode::Train, &program.plans[0], PEAKS, Spread::of(vec![1.0]), timing)
    }

    #[test]
    fn dispatches_of_one_label_are_one_row_and_shares_sum_to_one() {
        let p = profile(&[("a", 4), ("b", 8), ("a", 8)], &[&[0.5, 0.25, 0.5], &[0.25, 0.25, 0.25], &[1.0, 0.25, 3.0]]);
        let [a, b] = &p.rows[..] else { panic!("{} rows", p.rows.len()) };
        assert_eq!((a.calls, a.seconds.median, a.seconds.min, a.seconds.max), (2, 1.0, 0.5, 4.0));
        assert_eq!((b.calls, b.seconds.median, b.seconds.samples.len()), (1, 0.25, 3));
        let cost = |len| (crate::kernel::by_key("relu.backward").cost)(&[len]);
        assert_eq!((a.bytes, b.bytes), (cost(12).bytes, cost(8).bytes));
        assert!((p.rows.iter().map(|r| r.share).sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(p.sum, 1.25);
    }

    #[test]
    fn a_clock_that_reads_zero_gives_numbers_all_the_same() {
        let p = profile(&[("a", 4)], &[&[0.0]]);
        assert_eq!((p.rows[0].share, p.rows[0].bytes_per_second, p.rows[0].bound), (0.0, 0.0, BoundBy::Dispatch));
        let text = serde_json::to_string(&p).unwrap();
        assert!(!text.contains("null,\"min"), "{text}");
        p.roofline();
        p.print(RowOrder::Time);
    }

    #[test]
    fn the_trace_holds_every_dispatch() {
        let p = profile(&[("a", 4), ("b", 8)], &[&[0.5, 0.25], &[0.5, 0.25]]);
        let value: serde_json::Value = serde_json::from_str(&p.trace().to_string()).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        assert_eq!(events.iter().filter(|e| e["cat"] == "kernel").count(), 4);
    }

    #[test]
    fn what_bounds_a_kernel() {
        let of = |kernel, flops, bytes| {
            let kernel = kernel::by_key(kernel);
            row("a", kernel, 1, Spread::of(vec![0.1]), Cost { flops, bytes }, Some(kernel.made), &PEAKS)
        };
        let bound = |flops, bytes| of("dense.forward", flops, bytes).bound;
        assert_eq!(bound(2e6, 1e6), BoundBy::Compute);
        assert_eq!(bound(0.0, 1e6), BoundBy::Memory);
        assert_eq!(bound(500.0, 100.0), BoundBy::Dispatch);
        // Products of f16 have a peak of their own.
        let f16 = |flops, bytes| of("dense.forward/coop", flops, bytes);
        assert_eq!((f16(2e6, 1e6).bound, f16(5e6, 1e6).bound), (BoundBy::Memory, BoundBy::Compute));
        let ratio = of("dense.forward", 2e7, 1e6).of_peak / f16(2e7, 1e6).of_peak;
        assert!((ratio - 4.0).abs() < 1e-9, "{ratio}");
        // Of Winograd's what it makes is counted, and its sums as they are written beside it.
        let [plain, winograd] = ["conv2d_relu_maxpool2x2.forward", "conv2d_relu_maxpool2x2.forward/winograd4_lanes8"]
            .map(|kernel| of(kernel, 2e7, 6e6));
        assert_eq!((plain.bound, winograd.bound), (BoundBy::Compute, BoundBy::Memory));
        assert_eq!((plain.flops_per_second, plain.flops_made), (winograd.flops_per_second, winograd.flops_made.map(|f| 4.0 * f)));
    }

    #[test]
    fn the_peak_of_f16_is_told_where_f16_is_multiplied() {
        let of = |kernel: &str| {
            let mut program = Program::new();
            program.begin("train", 1);
            program.dispatch("a", kernel, DenseDims::new(1, 32, 32, true).words(), &["x", "weight", "partial"]);
            let timing = Timing { clock: Clock::Timestamps, steps: vec![vec![Span { start: 0.0, end: 1e-3 }]] };
            let p = Profile::new("a".into(), None, ProfileMode::Train, &program.plans[0], PEAKS, Spread::of(vec![1.0]), timing);
            p.roofline();
            serde_json::to_value(&p).unwrap()["peaks"].as_object().unwrap().clone()
        };
        assert!(!of("dense.forward").contains_key("products"));
        assert_eq!(of("dense.forward/coop")["products"], 4e9);
    }

    #[test]
    fn an_even_number_of_samples_has_a_median_between() {
        let s = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((s.median, s.min, s.max, s.samples[0]), (2.5, 1.0, 4.0, 4.0));
    }
}
