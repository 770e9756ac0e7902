//! Which technique is the fastest for each kernel of a program on an adapter: every candidate is checked against its CPU twin, then
//! all of them are timed in turn. Behind `wgradcam tune`; what it finds is a [`Tuned`](crate::player::Tuned).

use crate::engine::reading_step;
use crate::kernel::Kernel;
use crate::model::{Explain, Mode, Model, PictureSet, Target, Technique, lower};
use crate::plan::{PlanId, Program, Spread};
use crate::player::{Adapter, Candidate, GpuPlayer, Measured, Player, named, now};
use crate::verify;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;

/// The plans of a network on an adapter, or on the CPU path: of a training step, at once and with its gradients stored as parts of a batch
/// store them, of an evaluation and of an explanation.
pub fn plans(model: &Model, adapter: Option<&Adapter>, batch: usize) -> Program {
    let chunk = adapter.map_or(batch, |a| PictureSet::chunk_of(a.max_tensor_bytes(), model.settings.size));
    let set = PictureSet { name: "random", pictures: batch, chunk, table: batch };
    let mut program = Program::spread(adapter.map_or(Spread::Few, Adapter::spread));
    let explain = Explain { target: Target::Predicted, technique: Technique::Gradcam, check: false };
    for mode in [Mode::Train, Mode::TrainInParts(batch), Mode::Evaluate, Mode::Explain(explain)] {
        lower(&mut program, model, &set, batch, mode);
    }
    program
}

/// A kernel at the sizes of one dispatch, with what can do its work on the adapter.
#[derive(Clone)]
pub struct Contest {
    /// The kernel that every adapter can run.
    pub kernel: &'static Kernel,
    /// The words of its dims.
    pub dims: Vec<u32>,
    /// The kernel itself, then its variants.
    pub candidates: Vec<&'static Kernel>,
}

/// What there is to choose in a program to which [`Adapter::choose_variants`] was not applied: each kernel and sizes once, those left
/// out that only one technique can do.
pub fn contests(adapter: &Adapter, program: &Program) -> Vec<Contest> {
    let mut found: Vec<Contest> = Vec::new();
    for d in program.plans.iter().flat_map(|plan| &plan.dispatches) {
        let candidates = adapter.candidates(d.kernel, &d.dims);
        if candidates.len() > 1 && !found.iter().any(|c| c.kernel.key == d.kernel.key && c.dims == d.dims) {
            found.push(Contest { kernel: d.kernel, dims: d.dims.clone(), candidates });
        }
    }
    found
}

/// What tells a kernel's text apart: its key and what it was made for.
type Text = (&'static str, Vec<(&'static str, u32)>);

fn text(kernel: &Kernel, dims: &[u32]) -> Text {
    (kernel.key, kernel.constants(dims))
}

/// Holds the contests on one adapter.
pub struct Tuner<'a> {
    adapter: &'a Adapter,
    repeat: usize,
    /// What `verify` said of the texts that were checked.
    checked: HashMap<Text, Option<String>>,
}

impl<'a> Tuner<'a> {
    /// For so many times of each candidate.
    pub fn new(adapter: &'a Adapter, repeat: usize) -> Self {
        Self { adapter, repeat, checked: HashMap::new() }
    }

    /// Checks the candidates that were not yet, each on its own cases; its very text if none of them has it, on the sizes that it is to be
    /// timed at.
    fn check(&mut self, Contest { dims, candidates, .. }: &Contest, mut tick: impl FnMut(&str)) {
        let (known, unknown): (Vec<&Kernel>, Vec<_>) = candidates.iter().partition(|k| self.checked.contains_key(&text(k, dims)));
        known.iter().for_each(|k| tick(k.key));
        let checks: Vec<(&'static Kernel, Vec<Vec<u32>>)> = unknown
            .into_iter()
            .map(|kernel| {
                let mut cases = (kernel.cases)();
                if cases.iter().all(|case| kernel.constants(case) != kernel.constants(dims)) {
                    cases.push(dims.clone());
                }
                (kernel, cases)
            })
            .collect();
        let rows = verify::check_all(self.adapter, &checks, |row| tick(&row.key));
        self.checked.extend(checks.iter().zip(rows).map(|((kernel, _), row)| (text(kernel, dims), row.failure)));
    }

    /// Checks the candidates, times those that pass in turn, and chooses the fastest median; of equals what the adapter takes by itself.
    /// `tick(key)` behind each candidate's check and before the timing.
    ///
    /// # Errors
    /// No candidate passes, or the adapter fails.
    pub fn hold(&mut self, contest: &Contest, mut tick: impl FnMut(&str)) -> Result<Measured> {
        let Contest { kernel, dims, candidates } = contest;
        self.check(contest, &mut tick);
        let mut rows: Vec<Candidate> = candidates
            .iter()
            .map(|candidate| {
                let failure = self.checked.get(&text(candidate, dims)).cloned().flatten();
                Candidate { kernel: candidate.key.to_owned(), median_ms: None, range_ms: None, failure }
            })
            .collect();
        let passed: Vec<&'static Kernel> =
            candidates.iter().zip(&rows).filter(|(_, row)| row.failure.is_none()).map(|(&candidate, _)| candidate).collect();
        tick(kernel.key);
        let mut program = Program::new();
        let names: Vec<&str> = kernel.bindings.iter().map(|b| b.name).collect();
        let plans: Vec<PlanId> = passed
            .iter()
            .map(|candidate| {
                let plan = program.begin(candidate.key, 1);
                program.dispatch_kernel("tune", candidate, dims.clone(), &names);
                plan
            })
            .collect();
        if plans.is_empty() {
            let why = rows.iter().find_map(|r| r.failure.as_deref()).unwrap_or_default();
            bail!("no technique for {} passes its check, so there is none to choose: {why}", kernel.key);
        }
        let mut player = GpuPlayer::new(self.adapter, program)?;
        verify::fill(&mut player, kernel, dims, &names)?;
        let step = [reading_step(0, 0)];
        let mut seconds = vec![Vec::with_capacity(self.repeat); plans.len()];
        let mut clock = None;
        let mut round = 0;
        // The first round pays for the driver's compilation and the memory's first touch.
        while round <= self.repeat {
            for (i, plan) in plans.iter().enumerate() {
                let timing = player.time(*plan, &step)?;
                // Times by two clocks cannot be compared; the CPU's, once it is needed, stays.
                if clock != Some(timing.clock) {
                    seconds.iter_mut().for_each(Vec::clear);
                    (clock, round) = (Some(timing.clock), 0);
                }
                if round > 0 {
                    seconds[i].push(timing.steps[0][0].seconds());
                }
            }
            round += 1;
        }
        for (candidate, seconds) in passed.iter().zip(&mut seconds) {
            seconds.sort_by(f64::total_cmp);
            if let (Some(row), [first, .., last] | [first @ last]) =
                (rows.iter_mut().find(|r| r.kernel == candidate.key), seconds.as_slice())
            {
                row.median_ms = Some(1e3 * median(seconds));
                row.range_ms = Some([1e3 * first, 1e3 * last]);
            }
        }
        let default = self.adapter.default_of(&passed).key;
        let timed = rows.iter().filter_map(|r| Some((r, r.median_ms?)));
        let order = |a: &(&Candidate, f64), b: &(&Candidate, f64)| {
            a.1.total_cmp(&b.1).then_with(|| (a.0.kernel != default).cmp(&(b.0.kernel != default)))
        };
        let fastest = timed.min_by(order).context("nothing was timed: take a larger --repeat")?.0.kernel.clone();
        Ok(Measured {
            kernel: kernel.key.to_owned(),
            dims: named(kernel, dims),
            precision: self.adapter.precision(),
            chosen: fastest,
            clock: clock.context("nothing was timed")?,
            date: now(),
            candidates: rows,
        })
    }
}

/// Of sorted values, one at least.
pub fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
}
