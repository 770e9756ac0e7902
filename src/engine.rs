//! A model on a device with its pictures: lowers the plans, uploads the data once, runs passes over it.

use crate::data::Dataset;
use crate::fault;
use crate::kernel::{AdamScalars, Step};
use crate::model::{Mode, Model, PictureSet, lower};
use crate::ops::padded;
use crate::plan::{PlanId, Program, Spread};
use crate::player::{Choice, CpuPlayer, FirstUse, GpuPlayer, OutOfMemory, Player, Technique};
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// A pass over one picture set in one mode, in batches.
#[derive(Clone, Debug)]
pub struct Pass {
    set: PictureSet,
    mode: Mode,
    batch: usize,
    full: Option<PlanId>,
    tail: Option<(PlanId, usize)>,
}

/// One batch of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The plan for its size.
    pub plan: PlanId,
    /// Position of its first picture in the order.
    pub first: usize,
    /// Pictures in it.
    pub len: usize,
}

impl Pass {
    /// Batches of a pass: `ceil(pictures / batch)`, the last one smaller where it does not come out even.
    pub fn batches(&self) -> Vec<Batch> {
        let full = self.full.map_or(0, |_| self.set.pictures / self.batch);
        let mut batches: Vec<Batch> = self
            .full
            .into_iter()
            .flat_map(|plan| (0..full).map(move |i| Batch { plan, first: i * self.batch, len: self.batch }))
            .collect();
        batches.extend(self.tail.map(|(plan, len)| Batch { plan, first: full * self.batch, len }));
        batches
    }

    /// Pictures in the set.
    pub fn pictures(&self) -> usize {
        self.set.pictures
    }

    /// What it does with them.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// What one pass is asked for.
pub struct PassRequest<'a> {
    /// Prefix of the set's tensors; two passes of one name share its pictures.
    pub set: &'static str,
    /// The pictures.
    pub data: &'a Dataset,
    /// Pictures per batch.
    pub batch: usize,
    /// What to do with them.
    pub mode: Mode,
}

/// Adam's scalars where no update is made.
const NO_UPDATE: AdamScalars =
    AdamScalars { alpha: 0.0, alpha_f32: 0.0, one_minus_beta1: 0.0, one_minus_beta2: 0.0, epsilon: 0.0 };

/// A step that changes no weight: for evaluation and explanation.
pub fn reading_step(first: usize, slot: usize) -> Step {
    Step { first: first as u32, step: 0, seed: 0, slot: slot as u32, adam: NO_UPDATE }
}

/// How many batches are played with one wait at their end: as many as take 150 ms, long enough to hide what a wait costs, short
/// enough for a live bar and Ctrl-C.
#[derive(Clone, Copy, Debug)]
pub struct Group(usize);

impl Default for Group {
    /// One batch, whose time is not known yet.
    fn default() -> Self {
        Self(1)
    }
}

impl Group {
    const TIME: Duration = Duration::from_millis(150);

    /// Batches of the next group.
    pub fn batches(self) -> usize {
        self.0
    }

    /// Takes the time of these batches of a pass whose whole batches are of `full` pictures; a last one may be smaller.
    pub fn took(&mut self, batches: &[Batch], full: usize, time: Duration) {
        let pictures: usize = batches.iter().map(|b| b.len).sum();
        let per_batch = time.as_secs_f64() * full as f64 / pictures as f64;
        self.0 = ((Self::TIME.as_secs_f64() / per_batch) as usize).clamp(1, 64);
    }
}

/// Loss and hits of one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchMetrics {
    /// Mean loss over the batch.
    pub loss: f64,
    /// Pictures predicted right.
    pub correct: f64,
}

/// Logits and probabilities of a whole set, in the order it was played.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// Logits per picture: 1 with the sigmoid head, else one per class.
    pub width: usize,
    /// (pictures, width).
    pub logits: Vec<f32>,
    /// (pictures, width): sigmoid's p of the second class, or softmax's probabilities.
    pub probs: Vec<f32>,
}

impl Outputs {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.logits.len() / self.width
    }
    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.logits.is_empty()
    }
    /// The logits of picture `i`.
    pub fn logits(&self, i: usize) -> &[f32] {
        &self.logits[i * self.width..(i + 1) * self.width]
    }
    /// The probabilities of picture `i` as the head gives them.
    pub fn probs(&self, i: usize) -> &[f32] {
        &self.probs[i * self.width..(i + 1) * self.width]
    }
    /// The predicted class: p > 0.5 strictly, or the first largest logit.
    pub fn class(&self, i: usize) -> usize {
        if self.width == 1 { usize::from(self.probs[i] > 0.5) } else { crate::ops::softmax_ce::argmax(self.logits(i)) }
    }
    /// The probability of class `c`.
    pub fn probability(&self, i: usize, c: usize) -> f32 {
        match (self.width, c) {
            (1, 0) => 1.0 - self.probs[i],
            (1, _) => self.probs[i],
            _ => self.probs(i)[c],
        }
    }
    /// All predicted classes.
    pub fn classes(&self) -> Vec<u32> {
        (0..self.len()).map(|i| self.class(i) as u32).collect()
    }
}

/// Looks whether this machine has the program's memory, so that a network too large is an error and no crash.
fn enough_memory(program: &Program) -> Result<()> {
    let bytes = program.bytes();
    // Asked for at once and given back.
    let mut memory = Vec::<u8>::new();
    let given = memory.try_reserve_exact(usize::try_from(bytes).unwrap_or(usize::MAX)).is_ok();
    // Memory that nobody looks at need not be allocated, says the compiler.
    std::hint::black_box(&memory);
    // What is given may be more than there is, and whoever then touches all of it is killed.
    let there = available_memory().is_none_or(|available| bytes <= available);
    if given && there && !fault::no_memory(bytes) {
        return Ok(());
    }
    bail!(OutOfMemory(format!(
        "the network and its batch need {:.1} GiB, which this machine does not give; take a smaller --batch-size, --size or \
         fewer --filters",
        bytes as f64 / f64::from(1 << 30)
    )))
}

/// Bytes that can be had without swapping, where the system tells (Linux).
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB"))?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The model on its device.
pub struct Engine {
    model: Model,
    player: Box<dyn Player>,
    passes: Vec<Pass>,
    techniques: Vec<Technique>,
    /// Batches of a reading pass that are played at once.
    reading: Group,
}

impl Engine {
    /// Lowers every requested pass, opens the device and uploads the pictures.
    ///
    /// # Errors
    /// A device that cannot be opened, or [`OutOfMemory`].
    pub fn new(model: &Model, choice: &Choice, requests: &[PassRequest]) -> Result<Self> {
        let [h, w] = model.settings.size;
        let most = choice.adapter.as_ref().map_or(u64::MAX, crate::player::Adapter::max_tensor_bytes);
        let chunk = PictureSet::chunk_of(most, [h, w]);
        ensure!(chunk > 0, "one {h}x{w} picture is larger than the device binds");
        let table = usize::try_from(most / (4 * padded(model.outputs)) as u64).unwrap_or(usize::MAX);
        let mut program = Program::spread(choice.adapter.as_ref().map_or(Spread::Few, crate::player::Adapter::spread));
        let passes: Vec<Pass> = requests
            .iter()
            .map(|r| {
                let set = PictureSet { name: r.set, pictures: r.data.len(), chunk, table };
                let batch = r.batch;
                // Explaining always plays whole batches: a row past the set repeats its last picture and is thrown away.
                let (full, tail) = match r.mode {
                    Mode::Explain(_) => (true, 0),
                    _ => (set.pictures >= batch, set.pictures % batch),
                };
                let full = full.then(|| lower(&mut program, model, &set, batch, r.mode));
                let tail = (tail > 0).then(|| (lower(&mut program, model, &set, tail, r.mode), tail));
                Pass { set, mode: r.mode, batch, full, tail }
            })
            .collect();
        let mut techniques = Vec::new();
        let player: Box<dyn Player> = match &choice.adapter {
            Some(adapter) => {
                techniques = adapter.choose_variants(&mut program);
                // Its memory is this machine's.
                if adapter.facts().software {
                    enough_memory(&program)?;
                }
                Box::new(GpuPlayer::new(adapter, program)?)
            }
            None => {
                enough_memory(&program)?;
                Box::new(CpuPlayer::<f32>::new(program))
            }
        };
        let mut engine = Self { model: model.clone(), player, passes, techniques, reading: Group::default() };
        let mut uploaded = Vec::new();
        for (r, pass) in requests.iter().zip(engine.passes.clone()) {
            if !uploaded.contains(&r.set) {
                uploaded.push(r.set);
                engine.upload(r, &pass)?;
            }
        }
        Ok(engine)
    }

    /// As [`Engine::new`], for passes that may be played in smaller batches or parts: `requests(n)` asks for n pictures at once, and n
    /// is halved as often as there is no memory. Returns the n that fitted.
    ///
    /// # Errors
    /// As [`Engine::new`] when one picture at a time is too much too.
    pub fn fitting<'a>(
        model: &Model,
        choice: &Choice,
        mut n: usize,
        requests: impl Fn(usize) -> Vec<PassRequest<'a>>,
    ) -> Result<(Self, usize)> {
        loop {
            match Self::new(model, choice, &requests(n)) {
                Err(error) if n > 1 && error.is::<OutOfMemory>() => {
                    n = n.div_ceil(2);
                    eprintln!("Note: {error:#}. Trying with {n} pictures at a time");
                }
                other => return other.map(|engine| (engine, n)),
            }
        }
    }

    fn upload(&mut self, request: &PassRequest, pass: &Pass) -> Result<()> {
        let [h, w] = self.model.settings.size;
        for (k, (first, len)) in pass.set.chunks().enumerate() {
            let words = &request.data.pixels[first * h * w..(first + len) * h * w];
            self.player.write_words(&format!("{}/images.{k}", request.set), 0, words)?;
        }
        self.player.write_words(&format!("{}/labels", request.set), 0, &request.data.labels)?;
        let order: Vec<u32> = (0..request.data.len() as u32).collect();
        self.set_order(pass, &order)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The variants that it plays, where there was a choice.
    pub fn techniques(&self) -> &[Technique] {
        &self.techniques
    }

    /// What its device cost before the first step; none on the CPU path.
    pub fn first_use(&self) -> Option<FirstUse> {
        self.player.first_use()
    }

    /// The pass of the request with this number.
    pub fn pass(&self, i: usize) -> Pass {
        self.passes[i].clone()
    }

    /// The player, for tensors by name.
    pub fn player(&mut self) -> &mut dyn Player {
        &mut *self.player
    }

    /// Sets the order in which the pass's set is played; shorter orders leave the rest as it is.
    pub fn set_order(&mut self, pass: &Pass, order: &[u32]) -> Result<()> {
        self.player.write_words(&format!("{}/order", pass.set.name), 0, order)
    }

    /// Overwrites a parameter or another tensor of its layout (`name/m`, `name/v`) with values in Keras's order.
    pub fn set_param(&mut self, param: &crate::model::Param, suffix: &str, values: &[f32]) -> Result<()> {
        self.player.write(&format!("{}{suffix}", param.name), &param.pad(values))
    }

    /// A parameter's values in Keras's order.
    pub fn param(&mut self, param: &crate::model::Param, suffix: &str) -> Result<Vec<f32>> {
        Ok(param.strip(&self.player.read(&format!("{}{suffix}", param.name))?))
    }

    /// Plays batches as the given steps, one after the other, and returns the loss and hits of each.
    pub fn play(&mut self, batches: &[(Batch, Step)]) -> Result<Vec<BatchMetrics>> {
        let mut metrics = Vec::new();
        let mut at = 0;
        while at < batches.len() {
            let plan = batches[at].0.plan;
            let run: Vec<Step> = batches[at..].iter().take_while(|(b, _)| b.plan == plan).map(|(_, s)| *s).collect();
            at += run.len();
            if at < batches.len() {
                self.player.play(plan, &run)?;
            } else {
                metrics = self.player.play_and_read(plan, &run, "metrics")?;
            }
        }
        Ok(batches
            .iter()
            .map(|(_, s)| 2 * s.slot as usize)
            .map(|slot| BatchMetrics { loss: metrics[slot].into(), correct: metrics[slot + 1].into() })
            .collect())
    }

    /// Plays a whole reading pass; returns the sample-weighted mean loss and the accuracy. `tick(pictures)` after each group of batches.
    pub fn evaluate(&mut self, pass: &Pass, mut tick: impl FnMut(usize)) -> Result<(f64, f64)> {
        let (mut loss, mut correct) = (0.0, 0.0);
        let batches = pass.batches();
        let mut left = &batches[..];
        while !left.is_empty() {
            let (some, rest) = left.split_at(self.reading.batches().min(left.len()));
            let steps: Vec<(Batch, Step)> = some.iter().zip(0..).map(|(b, slot)| (*b, reading_step(b.first, slot))).collect();
            let start = Instant::now();
            for (batch, metrics) in some.iter().zip(self.play(&steps)?) {
                loss += metrics.loss * batch.len as f64;
                correct += metrics.correct;
            }
            self.reading.took(some, batches[0].len, start.elapsed());
            tick(some.iter().map(|b| b.len).sum());
            left = rest;
        }
        let n = pass.pictures() as f64;
        Ok((loss / n, correct / n))
    }

    /// Logits and probabilities of the last reading pass over `pictures` pictures.
    pub fn outputs(&mut self, pictures: usize) -> Result<Outputs> {
        let (width, stride) = (self.model.outputs, padded(self.model.outputs));
        let mut rows = |name: &str| -> Result<Vec<f32>> {
            let mut all = Vec::with_capacity(pictures * width);
            for table in (0..).map(|k| format!("{name}.{k}")) {
                if all.len() == pictures * width || self.player.program().find(&table).is_none() {
                    break;
                }
                let wanted = pictures - all.len() / width;
                all.extend(self.player.read(&table)?.chunks_exact(stride).take(wanted).flat_map(|row| &row[..width]));
            }
            Ok(all)
        };
        Ok(Outputs { width, logits: rows("all_logits")?, probs: rows("all_probs")? })
    }
}
