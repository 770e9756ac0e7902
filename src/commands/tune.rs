//! `wgradcam tune`.

use super::{common, progress, say};
use crate::cli::TuneArgs;
use crate::engine::{Engine, PassRequest, reading_step};
use crate::kernel::{Precision, Step};
use crate::model::{Mode, Model, ModelSettings};
use crate::ops::adam::Adam;
use crate::player::{Adapter, AdapterFacts, Cache, Candidate, Choice, Measured, Record, StepTimes, Tuned, choose_with, now};
use crate::tune::{Contest, Tuner, contests, median, plans};
use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use std::process::ExitCode;
use std::time::Instant;

/// Times every technique for every kernel of a network on an adapter and keeps the fastest; or shows or forgets what is kept.
pub fn run(args: &TuneArgs) -> Result<ExitCode> {
    let batch = common::batch_size(args.batch_size)?;
    ensure!(args.repeat > 0, "--repeat 0: nothing would be timed");
    let model = Model::new(&common::model_settings(ModelSettings::default(), &args.model), args.classes)?;
    let choice = choose_with(&args.device, &Cache::none())?;
    let adapter = choice.adapter.context("tune needs an adapter: --device gpu, or a name or index from `wgradcam devices`")?;
    ensure!(
        !adapter.is_held(),
        "WGRADCAM_LIMITS holds {} to less than it has, so what it does best cannot be measured: unset it",
        adapter.facts().name
    );
    let adapter = adapter.with_precision(args.precision)?;
    let (cache, facts) = (Cache::of_user(), adapter.facts().clone());
    if args.forget {
        match cache.forget_tuned(&facts)? {
            Some(path) => say!("Removed {}", path.display()),
            None => say!("There was nothing to forget of {}", facts.name),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.show {
        show(&cache.tuned(&facts), &facts, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tuned = match cache.tuned(&facts) {
        Record::Valid(tuned) => tuned,
        Record::None => Tuned::new(&facts),
        Record::Stale(_, why) => {
            eprintln!("Note: what was measured before is made anew, since {why}");
            Tuned::new(&facts)
        }
        Record::Damaged(why) => {
            eprintln!("Warning: what was measured before is damaged and made anew ({why})");
            Tuned::new(&facts)
        }
    };
    // A folder that cannot be written is known before the work.
    cache.keep_tuned(&facts, &tuned)?;
    eprintln!("Tuning {} ({}) for batches of {batch}", facts.name, facts.driver);
    let tuned = measure(args, &model, &adapter, tuned)?;
    let path = cache.keep_tuned(&facts, &tuned)?;
    show(&Record::Valid(tuned), &facts, args.json)?;
    let runs = if args.precision == Precision::F16 { "later runs of --precision f16" } else { "later runs" };
    eprintln!("Kept in {}; {runs} on this adapter use it, and `wgradcam tune --forget` removes it", path.display());
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &TuneArgs, model: &Model, adapter: &Adapter, mut tuned: Tuned) -> Result<Tuned> {
    let program = plans(model, Some(adapter), args.batch_size);
    let contests = contests(adapter, &program);
    drop(program);
    // A tick for every candidate's check, one for the timing, and the steps at the end.
    let ticks: usize = contests.iter().map(|c| c.candidates.len() + 1).sum();
    let steps = if args.precision == Precision::F32 { 2 * (args.repeat + 1) } else { 0 };
    let bar = progress::counter(ticks + steps, "tune");
    let mut tuner = Tuner::new(adapter, args.repeat);
    for contest in &contests {
        tuned.insert(hold(&mut tuner, contest, &bar)?);
    }
    // By it `--device auto` chooses for runs of f32; the CPU path has no other.
    if args.precision == Precision::F32 {
        bar.set_message("a training step, on the adapter and on the CPU path");
        let adapter = adapter.clone().with_tuned(Some(tuned.clone()));
        tuned.step = Some(step(args, model, adapter, || bar.inc(1))?);
    }
    bar.finish_and_clear();
    Ok(tuned)
}

fn hold(tuner: &mut Tuner, contest: &Contest, bar: &ProgressBar) -> Result<Measured> {
    bar.set_message(contest.kernel.key);
    let measured = tuner.hold(contest, |what| {
        bar.inc(1);
        bar.set_message(what.to_owned());
    })?;
    for c in &measured.candidates {
        if let Some(failure) = &c.failure {
            bar.suspend(|| {
                eprintln!("Warning: {} fails its check and is not used: {failure}. `wgradcam verify` tells more", c.kernel);
            });
        }
    }
    Ok(measured)
}

/// Times training steps on the adapter and on the CPU path in turn.
fn step(args: &TuneArgs, model: &Model, adapter: Adapter, tick: impl Fn()) -> Result<StepTimes> {
    let batch = args.batch_size;
    let data = common::random_pictures(model, batch);
    let engine = |adapter: Option<Adapter>| -> Result<Engine> {
        let choice = Choice { adapter, why: String::new() };
        let mut engine = Engine::new(model, &choice, &[PassRequest { set: "random", data: &data, batch, mode: Mode::Train }])?;
        for (i, p) in model.params().iter().enumerate() {
            engine.set_param(p, "", &p.initial(0, i))?;
        }
        Ok(engine)
    };
    let mut engines = [engine(Some(adapter))?, engine(None)?];
    let mut seconds = [Vec::new(), Vec::new()];
    // The first round pays for compilation and the memory's first touch.
    for round in 0..=args.repeat as u32 {
        for (engine, seconds) in engines.iter_mut().zip(&mut seconds) {
            let plan = engine.pass(0).batches()[0].plan;
            let step = Step { step: round, adam: Adam::default().at(round + 1), ..reading_step(0, 0) };
            let start = Instant::now();
            engine.player().play(plan, &[step])?;
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
            tick();
        }
    }
    let [adapter_ms, cpu_ms] = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        1e3 * median(&seconds) / batch as f64
    });
    Ok(StepTimes { batch, parameters: model.param_count(), adapter_ms, cpu_ms, date: now() })
}

fn show(record: &Record, facts: &AdapterFacts, json: bool) -> Result<()> {
    let (tuned, stale) = match record {
        Record::Valid(tuned) => (Some(tuned), None),
        Record::Stale(tuned, why) => (Some(tuned), Some(why)),
        Record::None => (None, None),
        Record::Damaged(why) => {
            eprintln!("Warning: what was measured is damaged and not used ({why}); `wgradcam tune` makes it anew");
            (None, None)
        }
    };
    if json {
        let mut value = serde_json::to_value(tuned)?;
        if let Some(map) = value.as_object_mut() {
            map.insert("stale".into(), serde_json::to_value(stale)?);
        }
        say!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(());
    }
    let Some(tuned) = tuned else {
        say!("Nothing was tuned for {} ({}): every kernel's default is used; `wgradcam tune` measures", facts.name, facts.driver);
        return Ok(());
    };
    print(tuned, stale);
    Ok(())
}

fn print(tuned: &Tuned, stale: Option<&String>) {
    say!("{}, {}, driver {}", tuned.adapter, tuned.backend, tuned.driver);
    match stale {
        Some(why) => say!("STALE, so that nothing of it is used: {why}; `wgradcam tune` makes it anew"),
        None => say!("Valid: runs on this adapter take what is marked with *"),
    }
    if tuned.kernels.is_empty() {
        say!("There is one technique for each kernel of this network on this adapter: nothing to choose.");
    }
    for m in &tuned.kernels {
        say!("");
        let half = if m.precision == Precision::F16 { ", for runs of f16" } else { "" };
        say!("{}  ({}, by {}{half})", m.kernel, m.date, m.clock.words());
        say!("  {}", dims_in_words(m));
        let width = m.candidates.iter().map(|c| c.kernel.len()).max().unwrap_or(0);
        for c in &m.candidates {
            say!("  {} {:width$}  {}", if c.kernel == m.chosen { "*" } else { " " }, c.kernel, times(c));
        }
    }
    if let Some(s) = &tuned.step {
        say!("");
        say!(
            "A training step of {} pictures, {} parameters  ({})\n    {:.3} ms per picture on the adapter, {:.3} ms on the CPU path",
            s.batch,
            s.parameters,
            s.date,
            s.adapter_ms,
            s.cpu_ms
        );
    }
}

fn times(c: &Candidate) -> String {
    match (c.median_ms, c.range_ms, &c.failure) {
        (Some(median), Some([least, most]), _) => format!("{median:10.3} ms  ({least:.3}..{most:.3})"),
        (_, _, Some(failure)) => format!("not timed, fails its check: {failure}"),
        _ => "not timed".to_owned(),
    }
}

/// The sizes as the kernel orders them, without the zeros.
fn dims_in_words(m: &Measured) -> String {
    // A stale file may name a kernel that is gone.
    let order = crate::kernel::all().find(|k| k.key == m.kernel).map_or(&[][..], |k| k.dims);
    let mut dims: Vec<(&String, &u32)> = m.dims.iter().filter(|(_, v)| **v > 0).collect();
    dims.sort_by_key(|(name, _)| order.iter().position(|o| o == name));
    dims.iter().map(|(name, v)| format!("{} {v}", name.replace('_', " "))).collect::<Vec<_>>().join(", ")
}
