//! The machine code of software adapters, made by several devices side by side.
//!
//! lavapipe makes a kernel's machine code at its first dispatch, even one of no workgroups, in its device's only thread: up to 4 s for a
//! kernel, one after the other. What a device made lies in Mesa's disk cache, where the others find it. So where the code of a plan's
//! kernels is missing, more devices of the adapter are opened for a while and make a share of it.

use super::gpu::{GpuPlayer, Prepared, Text, compile, step_buffer, text_of};
use super::pipelines::WORTH_A_LINE;
use super::texels;
use crate::kernel::{Access, Binding};
use crate::plan::{Dispatch, PlanId};
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope, available_parallelism, scope, sleep};
use std::time::{Duration, Instant};

/// What takes longer is being made: from the disk cache it comes within 80 ms, or a few times that where others keep the machine busy.
const FROM_CACHE: Duration = Duration::from_millis(400);
/// How long after a dispatch its code is in the disk cache, which a thread of the driver's writes.
const TO_CACHE: Duration = Duration::from_millis(50);
/// Most devices at work, the player's own among them: the longest kernel of a training step takes a quarter of the time of all.
const DEVICES: usize = 4;

/// What machine code a player has, and what it takes to open more devices like its own.
pub(super) struct MachineCode {
    adapter: wgpu::Adapter,
    descriptor: wgpu::DeviceDescriptor<'static>,
    plans: HashSet<usize>,
    texts: HashSet<Text>,
}

/// The calls that the devices share out among themselves.
struct Calls<'a> {
    dispatches: &'a [Dispatch],
    /// As the player's device plays them.
    prepared: &'a [Prepared],
    /// One for each text, the longest first: the devices are to end at about the same time.
    order: Vec<usize>,
    taken: AtomicUsize,
    /// Whether other devices are to take no more.
    alone: AtomicBool,
}

/// A call whose code another device made, and how long that took.
struct Made {
    call: usize,
    took: Duration,
}

impl MachineCode {
    /// None yet, for a device that was opened like this.
    pub(super) fn new(adapter: wgpu::Adapter, descriptor: wgpu::DeviceDescriptor<'static>) -> Self {
        Self { adapter, descriptor, plans: HashSet::new(), texts: HashSet::new() }
    }

    /// The calls of a plan that nobody has seen to yet.
    fn missing(&mut self, plan: PlanId, dispatches: &[Dispatch], prepared: &[Prepared]) -> Vec<usize> {
        if !self.plans.insert(plan.0) {
            return Vec::new();
        }
        let mut calls: Vec<usize> = (0..dispatches.len()).filter(|&i| self.texts.insert(text_of(&dispatches[i]))).collect();
        calls.sort_by_key(|&i| Reverse(prepared[i].text_bytes));
        calls
    }

    /// Opens a device and makes machine code with it as long as there is some to make.
    ///
    /// # Errors
    /// They end the help and nothing else: the player makes itself what it does not find.
    fn help(&self, calls: &Calls, sender: &Sender<Made>) -> Result<()> {
        let (device, queue) = pollster::block_on(self.adapter.request_device(&self.descriptor))?;
        let failed = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&failed);
        device.on_uncaptured_error(Arc::new(move |_| tell.store(true, Ordering::Relaxed)));
        let buffer = || {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM;
            // Nothing is read or written; a binding must hold an element, or the whole of a uniform.
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 1 << 14, usage, mapped_at_creation: false })
        };
        let (read, written, steps) = (buffer(), buffer(), step_buffer(&device));
        let mut last = None;
        while !calls.alone.load(Ordering::Relaxed)
            && let Some(call) = calls.next()
        {
            let d = &calls.dispatches[call];
            let compiled = compile(&device, d, d.kernel.wgsl(&d.dims), None)?;
            let texels = |b: &Binding| {
                let texture = texels::texture(&device, b.name, b.elem, d.kernel.texel(b, &d.dims)?, 1);
                Some(texture.create_view(&wgpu::TextureViewDescriptor::default()))
            };
            let textures: Vec<_> = d.kernel.bindings.iter().map(texels).collect();
            let resources = d.kernel.bindings.iter().zip(&textures).map(|(b, texture)| match texture {
                Some(view) => wgpu::BindingResource::TextureView(view),
                None => (if b.access == Access::Read { &read } else { &written }).as_entire_binding(),
            });
            let prepared = Prepared::new((&device, &queue), &compiled, d, &steps, resources, Vec::new());
            let start = Instant::now();
            dispatch_nothing(&device, &queue, &prepared);
            device.poll(wgpu::PollType::wait_indefinitely())?;
            ensure!(!failed.load(Ordering::Relaxed), "the device reported an error");
            if let Some(before) = last.replace(Made { call, took: start.elapsed() }) {
                sender.send(before)?;
            }
        }
        sleep(TO_CACHE);
        Ok(last.map_or(Ok(()), |last| sender.send(last))?)
    }
}

impl Calls<'_> {
    fn next(&self) -> Option<usize> {
        self.order.get(self.taken.fetch_add(1, Ordering::Relaxed)).copied()
    }

    fn left(&self) -> usize {
        self.order.len().saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// A bar over the kernels on stderr; it hides itself where stderr is no terminal.
    fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} kernels {elapsed}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=>.");
        let bar = ProgressBar::new(self.order.len() as u64).with_style(style).with_prefix("compile");
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl GpuPlayer {
    /// Makes the machine code of a plan that is played for the first time, where playing it would make it one kernel after the other.
    pub(super) fn make_code(&mut self, plan: PlanId) -> Result<()> {
        // Out of its place while the player is borrowed.
        let Some(mut code) = self.machine_code.take() else { return Ok(()) };
        let (dispatches, prepared) = (&self.program.plans[plan.0].dispatches, &self.plans[plan.0]);
        let order = code.missing(plan, dispatches, prepared);
        if order.is_empty() {
            self.machine_code = Some(code);
            return Ok(());
        }
        let (start, kernels) = (Instant::now(), order.len());
        let calls = Calls { dispatches, prepared, order, taken: AtomicUsize::new(0), alone: AtomicBool::new(false) };
        let helped = scope(|scope| {
            let helped = self.make_side_by_side(scope, &code, &calls);
            // After an error nobody needs the rest.
            calls.alone.store(true, Ordering::Relaxed);
            helped
        });
        self.machine_code = Some(code);
        self.first_use.helped += helped?;
        let seconds = start.elapsed().as_secs_f64();
        self.first_use.machine_code += seconds;
        // Who plays kernels one by one tells of each himself.
        if seconds > WORTH_A_LINE && kernels > 1 {
            eprintln!("First use: the machine code of {kernels} kernels in {seconds:.1} s");
        }
        Ok(())
    }

    /// Returns how many kernels' code was found that other devices made.
    fn make_side_by_side<'a>(&self, scope: &'a Scope<'a, '_>, code: &'a MachineCode, calls: &'a Calls) -> Result<usize> {
        let mut helped = 0;
        let mut help: Option<(Receiver<Made>, ProgressBar)> = None;
        loop {
            // What others made comes first: whether it is found is known early.
            if let Some((made, bar)) = &help
                && let Ok(made) = made.try_recv()
            {
                helped += usize::from(self.find(&made, calls)?);
                bar.inc(1);
                continue;
            }
            let Some(call) = calls.next() else { break };
            dispatch_nothing(&self.device, &self.queue, &calls.prepared[call]);
            if help.is_none() && calls.left() > 0 && !self.done_within(FROM_CACHE)? {
                let (sender, receiver) = channel();
                let (cores, left) = (available_parallelism().map_or(1, NonZero::get), calls.left());
                for _ in 1..cores.min(DEVICES).min(1 + left) {
                    let sender = sender.clone();
                    // Without the thread there is no help, and no harm.
                    let _ = Builder::new().spawn_scoped(scope, move || code.help(calls, &sender));
                }
                // Without this one.
                let done = calls.order.len() - left - 1;
                help = Some((receiver, calls.bar().with_position(done as u64)));
            }
            self.wait()?;
            help.iter().for_each(|(_, bar)| bar.inc(1));
        }
        if let Some((made, bar)) = help {
            for made in made {
                helped += usize::from(self.find(&made, calls)?);
                bar.inc(1);
            }
            bar.finish_and_clear();
        }
        // After a miss nobody knows of the others.
        Ok(if calls.alone.load(Ordering::Relaxed) { 0 } else { helped })
    }

    /// Takes from the disk cache what another device made; whether it was there. Where it is missing it is made anew, as all others would
    /// have to be.
    fn find(&self, made: &Made, calls: &Calls) -> Result<bool> {
        // It takes a twentieth and less.
        let soon = made.took / 4;
        let start = Instant::now();
        dispatch_nothing(&self.device, &self.queue, &calls.prepared[made.call]);
        let found = self.done_within(soon)?;
        // A short one may be late for other reasons.
        if !found && !self.done_within(FROM_CACHE.saturating_sub(start.elapsed()))? {
            calls.alone.store(true, Ordering::Relaxed);
            self.wait()?;
        }
        Ok(found)
    }

    fn done_within(&self, timeout: Duration) -> Result<bool> {
        match self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(timeout) }) {
            Err(wgpu::PollError::Timeout) => Ok(false),
            // Another error shows itself in the wait.
            _ => self.wait().map(|()| true),
        }
    }
}

fn dispatch_nothing(device: &wgpu::Device, queue: &wgpu::Queue, prepared: &Prepared) {
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("machine code") });
    let mut pass =
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("machine code"), timestamp_writes: None });
    prepared.encode_slice(&mut pass, 0, [0; 3]);
    drop(pass);
    queue.submit([encoder.finish()]);
}
