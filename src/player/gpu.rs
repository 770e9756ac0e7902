//! The GPU player: the registry's WGSL through wgpu, many steps in one submission where they are fast, nothing read back
//! in between.

use super::machine_code::MachineCode;
use super::pace::{Pace, Slice};
use super::pipelines::Pipelines;
use super::texels::{self, Copy, stale};
use super::{AdapterFacts, Cache, Clock, FirstUse, Kept, OutOfMemory, Player, Technique, Timing, Tuned};
use crate::fault;
use crate::kernel::{
    self, Access, FIRST_BINDING, MAX_ITERATIONS, Needs, Precision, SLICE_BINDING, STEP_BINDING, Step, StepUniform, TEXTURE_WIDTH,
    Tiles,
};
use crate::plan::{Dispatch, PlanId, Program, Texels};
use anyhow::{Context, Result, anyhow, bail, ensure};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What the least adapter offers: to try the program on a better one as if it were that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// WebGPU's default limits: 128 MiB per binding, 256 MiB per buffer, 8 storage buffers, 16 KiB of workgroup memory, 256
    /// invocations, 65,535 workgroups per dimension, and no optional feature.
    Default,
    /// `wgpu::Limits::downlevel_defaults()`: less again in what this program does not use, 32 bytes less workgroup memory, and 8
    /// storage buffers where it has 4, because the two losses bind 7.
    Downlevel,
}

impl Floor {
    /// The value of `WGRADCAM_LIMITS`, if it is set.
    ///
    /// # Errors
    /// It is neither `default` nor `downlevel`.
    pub fn from_env() -> Result<Option<Self>> {
        match std::env::var("WGRADCAM_LIMITS") {
            Err(_) => Ok(None),
            Ok(v) if v.is_empty() => Ok(None),
            Ok(v) if v == "default" => Ok(Some(Self::Default)),
            Ok(v) if v == "downlevel" => Ok(Some(Self::Downlevel)),
            Ok(v) => bail!("WGRADCAM_LIMITS={v}: it may be default or downlevel"),
        }
    }

    fn limits(self) -> wgpu::Limits {
        let webgpu = wgpu::Limits::default();
        match self {
            Self::Default => webgpu,
            Self::Downlevel => wgpu::Limits {
                max_storage_buffers_per_shader_stage: webgpu.max_storage_buffers_per_shader_stage,
                ..wgpu::Limits::downlevel_defaults()
            },
        }
    }
}

/// One adapter of this machine.
#[derive(Clone)]
pub struct Adapter {
    inner: wgpu::Adapter,
    facts: AdapterFacts,
    /// What [`Needs::CooperativeMatrix`] may ask for.
    pub(super) matrices: Vec<Tiles>,
    floor: Option<Floor>,
    /// Seconds that it took to find all adapters.
    find: f64,
    cache: Cache,
    pub(super) tuned: Option<Arc<Tuned>>,
    pub(super) replayed: Vec<Technique>,
    pub(super) precision: Precision,
}

impl Adapter {
    /// Every adapter of the primary backends (Vulkan, Metal, DX12).
    pub(super) fn all() -> Vec<Self> {
        let start = Instant::now();
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::PRIMARY;
        // Set, not inherited from the build: debug builds would turn on validation layers and change timings.
        descriptor.flags = wgpu::InstanceFlags::empty().with_env();
        let instance = wgpu::Instance::new(descriptor);
        let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let find = start.elapsed().as_secs_f64();
        let adapter = |(index, inner)| {
            let matrices = matrices(&inner);
            Self {
                facts: facts(index, &inner, &matrices),
                matrices,
                inner,
                floor: None,
                find,
                cache: Cache::none(),
                tuned: None,
                replayed: Vec::new(),
                precision: Precision::F32,
            }
        };
        found.into_iter().enumerate().map(adapter).collect()
    }

    /// The adapter with what it left in this cache; where that is of no use, one line on stderr says why. An adapter that is held to a
    /// floor leaves and finds nothing: it is not itself.
    pub(super) fn with_cache(mut self, cache: &Cache) -> Self {
        if self.floor.is_none() {
            let (tuned, line) = cache.tuned(&self.facts).usable();
            line.iter().for_each(|line| eprintln!("{line}"));
            (self.tuned, self.cache) = (tuned.map(Arc::new), cache.clone());
        }
        self
    }

    /// The adapter with other measurements, or none, in the place of those that it has.
    pub fn with_tuned(mut self, tuned: Option<Tuned>) -> Self {
        self.tuned = tuned.map(Arc::new);
        self
    }

    /// What `tune` measured on it, if that is of use.
    pub fn tuned(&self) -> Option<&Tuned> {
        self.tuned.as_deref()
    }

    /// Whether it is held to a [`Floor`].
    pub fn is_held(&self) -> bool {
        self.floor.is_some()
    }

    /// What matters about it.
    pub fn facts(&self) -> &AdapterFacts {
        &self.facts
    }

    /// Whether a workgroup of 8 is one subgroup, always, and 64-bit integers are there.
    pub(super) fn has_eight_lanes(&self) -> bool {
        self.floor.is_none() && self.facts.subgroup == [8, 8] && self.inner.features().contains(EIGHT_LANES)
    }

    /// Whether the code that its driver makes loads from a buffer for all lanes at once: llvmpipe does from Mesa 26 on, where the CPU has
    /// AVX-512. Measured: Mesa 22 and 25 load lane after lane, and without AVX-512 Mesa 26's loads are as slow and slower to compile.
    pub(super) fn gathers(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let gathers = std::arch::is_x86_feature_detected!("avx512f");
        #[cfg(not(target_arch = "x86_64"))]
        let gathers = false;
        let mesa = self.facts.driver.split_once("Mesa ").map_or("", |(_, version)| version);
        let major = mesa.split('.').next().and_then(|major| major.parse::<u32>().ok());
        gathers && major.is_some_and(|major| major >= 26)
    }

    /// The precision that was asked for.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same adapter, on which products are of this precision where there is a variant for it.
    ///
    /// # Errors
    /// It has nothing for f16.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self> {
        self.precision = precision;
        ensure!(
            precision == Precision::F32 || kernel::all().any(|k| k.precision() == Precision::F16 && self.can_run(k)),
            "--precision f16: {} ({}) has no cooperative matrices that multiply f16 and add in f32; take --precision f32, or another \
             --device",
            self.facts.name,
            self.facts.driver
        );
        Ok(self)
    }

    /// The adapter with no more than the floor's limits and no optional feature, and without what was measured on it.
    pub fn within(mut self, floor: Floor) -> Self {
        let limits = floor.limits();
        let f = &mut self.facts;
        f.max_storage_binding = f.max_storage_binding.min(limits.max_storage_buffer_binding_size);
        f.max_buffer = f.max_buffer.min(limits.max_buffer_size);
        f.workgroup_memory = f.workgroup_memory.min(limits.max_compute_workgroup_storage_size);
        f.workgroup_invocations = f.workgroup_invocations.min(limits.max_compute_invocations_per_workgroup);
        f.features.clear();
        self.matrices.clear();
        self.floor = Some(floor);
        (self.cache, self.tuned) = (Cache::none(), None);
        self
    }

    /// What its devices are asked for: WebGPU's defaults as far as it has them, and buffers as large as it has them.
    fn request(&self) -> (wgpu::Limits, wgpu::Features) {
        let limits = self.inner.limits();
        match self.floor {
            Some(floor) => (floor.limits(), wgpu::Features::empty()),
            None => {
                let required = wgpu::Limits {
                    max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                    max_buffer_size: limits.max_buffer_size,
                    // An adapter without some limit for drawing can compute all the same.
                    ..wgpu::Limits::default().or_worse_values_from(&limits)
                };
                // For the profile and for what is kept between runs; a run without them loses nothing.
                (required, self.inner.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE))
            }
        }
    }

    /// Largest tensor in bytes that a kernel can bind.
    pub fn max_tensor_bytes(&self) -> u64 {
        self.facts.max_storage_binding.min(self.facts.max_buffer)
    }
}

/// Bytes that go to the device at once: staging memory takes no more than this.
const UPLOAD: usize = 16 << 20;
/// What [`Needs::EightLanes`] asks for.
const EIGHT_LANES: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64);
/// What [`Needs::CooperativeMatrix`] asks for.
const COOPERATIVE_MATRIX: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

/// The cooperative matrices that multiply f16 and add in f32, if all subgroups are of one size: where the driver chooses between sizes, a
/// kernel does not know how its workgroup is divided.
fn matrices(adapter: &wgpu::Adapter) -> Vec<Tiles> {
    let info = adapter.get_info();
    if info.subgroup_min_size != info.subgroup_max_size || !adapter.features().contains(COOPERATIVE_MATRIX) {
        return Vec::new();
    }
    let types = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
    let all = adapter.cooperative_matrix_properties();
    let usable = all.iter().filter(|p| p.n_size == p.m_size && p.k_size == p.m_size && (p.ab_type, p.cr_type) == types);
    usable.map(|p| Tiles { side: p.m_size, subgroup: info.subgroup_min_size }).collect()
}

fn facts(index: usize, adapter: &wgpu::Adapter, matrices: &[Tiles]) -> AdapterFacts {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let named = [
        (wgpu::Features::SHADER_F16, "f16"),
        (wgpu::Features::SUBGROUP, "subgroups"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
        (wgpu::Features::PIPELINE_CACHE, "pipeline-cache"),
    ];
    let mut names: Vec<_> = named.iter().filter(|(f, _)| features.contains(*f)).map(|(_, n)| *n).collect();
    if kernel::all().any(|k| k.variant.is_some_and(|v| matches!(v.needs, Needs::CooperativeMatrix(t) if matrices.contains(&t)))) {
        names.push("cooperative-matrix");
    }
    AdapterFacts {
        index,
        name: info.name,
        backend: format!("{:?}", info.backend),
        kind: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        software: info.device_type == wgpu::DeviceType::Cpu,
        features: names,
        max_storage_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        workgroup_memory: limits.max_compute_workgroup_storage_size,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        subgroup: [info.subgroup_min_size, info.subgroup_max_size],
    }
}

/// Distance between two steps in the step uniform: WebGPU's largest offset alignment.
const STEP_STRIDE: u64 = 256;
/// Most steps in one submit.
const MAX_STEPS: usize = 64;
/// Where a dispatch's [`Slice`] lies in its uniform buffer, after its dims: WebGPU's largest offset alignment.
const SLICE_OFFSET: u64 = 256;

pub(super) struct Prepared {
    label: String,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    stepped: bool,
    grid: [u32; 3],
    /// What goes to textures before it.
    copies: Vec<Copy>,
    /// Its dims and, from [`SLICE_OFFSET`] on, what of the grid is played: all of it but within [`GpuPlayer::submit_call`].
    uniform: wgpu::Buffer,
    /// Of its kernel's text.
    pub(super) text_bytes: usize,
}

impl Prepared {
    /// A call over a device's memory: the steps' buffer, a resource for each of the kernel's bindings, and what of them is copied before.
    pub(super) fn new<'a>(
        (device, queue): (&wgpu::Device, &wgpu::Queue),
        compiled: &Compiled,
        d: &Dispatch,
        steps: &wgpu::Buffer,
        resources: impl Iterator<Item = wgpu::BindingResource<'a>>,
        copies: Vec<Copy>,
    ) -> Self {
        let grid = (d.kernel.grid)(&d.dims);
        let uniform = uniform(device, queue, d, grid);
        let bytes = |buffer, offset, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size: std::num::NonZeroU64::new(size) })
        };
        let mut entries = vec![
            wgpu::BindGroupEntry { binding: 0, resource: bytes(&uniform, 0, SLICE_OFFSET) },
            wgpu::BindGroupEntry { binding: SLICE_BINDING, resource: bytes(&uniform, SLICE_OFFSET, size_of::<Slice>() as u64) },
        ];
        if d.kernel.step {
            let resource = bytes(steps, 0, size_of::<StepUniform>() as u64);
            entries.push(wgpu::BindGroupEntry { binding: STEP_BINDING, resource });
        }
        entries.extend((FIRST_BINDING..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }));
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&d.label),
            layout: &compiled.layout,
            entries: &entries,
        });
        Self {
            label: d.label.clone(),
            pipeline: compiled.pipeline.clone(),
            bind_group,
            stepped: d.kernel.step,
            grid,
            copies,
            uniform,
            text_bytes: compiled.text_bytes,
        }
    }

    /// Whether something is copied before the call: then it needs a pass of its own.
    pub(super) fn copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Appends what is copied before the call.
    pub(super) fn encode_copies(&self, encoder: &mut wgpu::CommandEncoder) {
        self.copies.iter().for_each(|copy| copy.encode(encoder));
    }

    /// Appends the call to a pass, with the `i`-th of the steps that were written.
    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass, i: u32) {
        self.encode_slice(pass, i, self.grid);
    }

    /// As [`Prepared::encode`], of the slice that lies in the uniform buffer: so many workgroups.
    pub(super) fn encode_slice(&self, pass: &mut wgpu::ComputePass, i: u32, [x, y, z]: [u32; 3]) {
        let offset = [i * STEP_STRIDE as u32];
        pass.push_debug_group(&self.label);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, if self.stepped { &offset } else { &[] });
        pass.dispatch_workgroups(x, y, z);
        pass.pop_debug_group();
    }
}

/// What a submission copies at its end for the CPU to read: the steps' losses, without a submission and a wait of their own.
struct ReadBack {
    source: wgpu::Buffer,
    staging: wgpu::Buffer,
    size: u64,
}

/// Plays a program on an adapter.
pub struct GpuPlayer {
    name: String,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) program: Program,
    buffers: Vec<wgpu::Buffer>,
    steps: wgpu::Buffer,
    pub(super) plans: Vec<Vec<Prepared>>,
    pub(super) paces: Vec<Pace>,
    fault: Arc<Mutex<Option<String>>>,
    /// Where the driver makes it at a kernel's first dispatch.
    pub(super) machine_code: Option<MachineCode>,
    pub(super) first_use: FirstUse,
    /// What [`Player::play_and_read`] read last: its memory serves again.
    read_back: Option<ReadBack>,
    /// Whether something that was timed is too long for one submission, or the timestamps were dead: from then on all is timed by the
    /// CPU's clock.
    pub(super) by_submits: bool,
}

impl GpuPlayer {
    /// Opens the adapter, allocates the program's tensors (zeroed) and compiles its kernels.
    ///
    /// # Errors
    /// A tensor larger than the adapter can bind, no memory, or a driver that refuses a shader.
    pub fn new(adapter: &Adapter, program: Program) -> Result<Self> {
        let name = adapter.facts.name.clone();
        let max_tensor_bytes = adapter.max_tensor_bytes();
        for tensor in &program.tensors {
            let bytes = 4 * tensor.len as u64;
            if bytes > max_tensor_bytes {
                bail!(OutOfMemory(format!(
                    "{} needs {bytes} bytes and {name} binds at most {max_tensor_bytes}: take a smaller --batch-size, or for a \
                     layer's own weights fewer --filters or --dense units",
                    tensor.name
                )));
            }
        }
        for call in program.plans.iter().flat_map(|plan| &plan.dispatches) {
            let passes = (call.kernel.loops)(&call.dims);
            ensure!(
                passes <= MAX_ITERATIONS,
                "{} would pass its loops {passes} times and some drivers stop at {MAX_ITERATIONS} without a word: take a smaller \
                 --batch-size or --size, or fewer --filters or --dense units",
                call.label
            );
        }
        let (required_limits, mut required_features) = adapter.request();
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        for kernel in program.plans.iter().flat_map(|plan| &plan.dispatches).map(|d| d.kernel) {
            match kernel.variant.map_or(Needs::Nothing, |v| v.needs) {
                Needs::Nothing | Needs::ComponentStores => {}
                Needs::EightLanes => required_features |= EIGHT_LANES,
                Needs::CooperativeMatrix(_) => {
                    required_features |= COOPERATIVE_MATRIX;
                    experimental_features = experimental();
                }
            }
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgradcam"),
            required_limits,
            required_features,
            experimental_features,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let start = Instant::now();
        let (device, queue) = pollster::block_on(adapter.inner.request_device(&descriptor))
            .with_context(|| format!("{name} gave no device; try another --device"))?;
        let open = start.elapsed().as_secs_f64();
        let fault = Arc::new(Mutex::new(None));
        let (uncaptured, lost) = (Arc::clone(&fault), Arc::clone(&fault));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            // The first fault is the cause; what follows it is noise.
            if let Ok(mut slot) = uncaptured.lock() {
                slot.get_or_insert(error.to_string());
            }
        }));
        device.set_device_lost_callback(move |reason, text| {
            // A loss is the cause of whatever was reported before it. That of our own drop finds nobody who looks.
            if let Ok(mut slot) = lost.lock() {
                *slot = Some(format!(
                    "the device was lost ({reason:?}): {text}; if the driver ended a kernel that took too long, a smaller \
                     --batch-size makes it shorter"
                ));
            }
        });
        let mut player = Self {
            name,
            steps: step_buffer(&device),
            device,
            queue,
            buffers: Vec::new(),
            plans: Vec::new(),
            paces: Vec::new(),
            program,
            fault,
            read_back: None,
            by_submits: false,
            machine_code: adapter.facts.software.then(|| MachineCode::new(adapter.inner.clone(), descriptor)),
            first_use: FirstUse {
                find: adapter.find,
                open,
                kernels: 0,
                compile: 0.0,
                pipeline_cache: Kept::Nothing,
                machine_code: 0.0,
                helped: 0,
            },
        };
        let keeps = required_features.contains(wgpu::Features::PIPELINE_CACHE);
        let file = adapter.cache.file("pipelines", &adapter.facts, "bin").filter(|_| keeps);
        player.prepare(file)?;
        Ok(player)
    }

    /// `kept` is the file of pipelines of earlier runs.
    fn prepare(&mut self, kept: Option<PathBuf>) -> Result<()> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let dispatches = self.program.plans.iter().flat_map(|plan| &plan.dispatches);
        let uniform: HashSet<_> = dispatches
            .flat_map(|d| d.buffers.iter().zip(d.kernel.bindings).filter(|(_, b)| d.kernel.takes_uniform(b)).map(|(id, _)| id.0))
            .collect();
        self.buffers = self
            .program
            .tensors
            .iter()
            .enumerate()
            .map(|(i, t)| {
                let usage = if uniform.contains(&i) { usage | wgpu::BufferUsages::UNIFORM } else { usage };
                // A binding may not be empty.
                let size = 4 * t.len.max(4) as u64;
                self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(&t.name),
                    size,
                    usage,
                    mapped_at_creation: false,
                })
            })
            .collect();
        let copies: Vec<Vec<_>> = self.program.plans.iter().map(|plan| stale(&plan.dispatches)).collect();
        let textures: HashMap<Texels, _> = self
            .program
            .textures()
            .into_iter()
            .map(|(texels, len)| {
                let name = &self.program.tensors[texels.tensor.0].name;
                let texture = texels::texture(&self.device, name, texels.elem, texels.texel, len);
                let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
                (texels, (texture, view))
            })
            .collect();
        let refused = pollster::block_on(memory.pop()).map(|error| error.to_string());
        let refused = refused.or_else(|| fault::no_memory(self.program.bytes()).then(|| "on demand".to_owned()));
        if let Some(error) = refused {
            bail!(OutOfMemory(format!(
                "{} has no memory for the {} MiB that this run needs: take a smaller --batch-size ({error})",
                self.name,
                self.program.bytes() >> 20
            )));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let kept = kept.map(|path| Pipelines::open(&self.device, path));
        let cache = kept.as_ref().map(Pipelines::cache);
        let start = Instant::now();
        let texts: HashMap<_, _> = self.program.plans.iter().flat_map(|plan| &plan.dispatches).map(|d| (text_of(d), d)).collect();
        let mut texts: Vec<_> = texts.into_iter().map(|(text, d)| (text, d, d.kernel.wgsl(&d.dims))).collect();
        // The longest first, beside which all others are compiled.
        texts.sort_by_key(|(_, _, wgsl)| Reverse(wgsl.len()));
        // Side by side: many drivers make the machine code here.
        let pipelines: HashMap<_, _> = texts
            .into_par_iter()
            .map(|(text, d, wgsl)| Ok((text, compile(&self.device, d, wgsl, cache)?)))
            .collect::<Result<_>>()
            .with_context(|| format!("{} refused a kernel; `wgradcam verify` tells which", self.name))?;
        let compiling = start.elapsed();
        let prepared = |(d, copies): (&Dispatch, Vec<(Texels, usize)>)| {
            let resources = d.buffers.iter().zip(d.texels()).map(|(id, texels)| match texels {
                Some((texels, _)) => wgpu::BindingResource::TextureView(&textures[&texels].1),
                None => self.buffers[id.0].as_entire_binding(),
            });
            let copies = copies.into_iter().map(|(texels, len)| Copy {
                buffer: self.buffers[texels.tensor.0].clone(),
                texture: textures[&texels].0.clone(),
                texels: {
                    // To the end of the last row, as far as the tensor reaches: what lies behind shows itself to whoever reads too far.
                    let row = (TEXTURE_WIDTH * texels.texel) as usize;
                    let end = len.next_multiple_of(row).min(self.program.tensors[texels.tensor.0].len);
                    end as u32 / texels.texel
                },
            });
            let device = (&self.device, &self.queue);
            Prepared::new(device, &pipelines[&text_of(d)], d, &self.steps, resources, copies.collect())
        };
        let plans = self.program.plans.iter().zip(copies);
        self.plans = plans.map(|(plan, copies)| plan.dispatches.iter().zip(copies).map(prepared).collect()).collect();
        let cost = |d: &Dispatch| (d.kernel.cost)(&d.dims);
        self.paces = self.program.plans.iter().map(|plan| Pace::new(plan.dispatches.iter().map(cost))).collect();
        self.first_use.kernels = pipelines.len();
        self.first_use.compile = compiling.as_secs_f64();
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(anyhow!("{error}")).with_context(|| format!("{} refused a binding of a kernel", self.name));
        }
        if let Some(kept) = kept {
            self.first_use.pipeline_cache = kept.kept();
            kept.store();
        }
        self.check()
    }

    /// Plays every dispatch in slices of so many workgroups from now on, or again as its time asks for: so that tests see whether a
    /// kernel can be played in slices.
    pub fn slice_by(&mut self, groups: Option<u64>) {
        self.paces.iter_mut().for_each(|pace| pace.force(groups));
    }

    /// Fails with the first fault that the driver reported.
    fn check(&self) -> Result<()> {
        let fault = self.fault.lock().map_err(|_| anyhow!("the fault slot is poisoned"))?;
        match &*fault {
            Some(text) => bail!("{} failed: {text}", self.name),
            None => Ok(()),
        }
    }

    pub(super) fn wait(&self) -> Result<()> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).with_context(|| format!("{} did not finish", self.name))?;
        self.check()
    }

    /// Plays a plan once per step; whether `read_back` then lies mapped in its staging memory.
    fn play_steps(&mut self, plan: PlanId, steps: &[Step], read_back: Option<&ReadBack>) -> Result<bool> {
        self.make_code(plan)?;
        let n = self.plans[plan.0].len();
        let (total, written) = (steps.len() * n, MAX_STEPS * n);
        let mut mapped = false;
        let mut next = (total > 0).then(|| self.submission(plan, 0, total, read_back));
        while let Some((calls, commands)) = next.take() {
            if calls.start % written == 0 {
                if fault::due("lost") {
                    self.device.destroy();
                }
                let first = calls.start / n;
                self.write_steps(&steps[first..steps.len().min(first + MAX_STEPS)]);
            }
            let at = calls.start % written;
            let start = Instant::now();
            match commands {
                Some(commands) => {
                    self.queue.submit([commands]);
                    mapped = calls.end == total && read_back.is_some();
                    if let (true, Some(ReadBack { staging, .. })) = (mapped, read_back) {
                        // A failure is the device's, which the wait below tells.
                        staging.map_async(wgpu::MapMode::Read, .., |_| ());
                    }
                    // The next one's are written while the device plays these.
                    next = (calls.end < total).then(|| self.submission(plan, calls.end, total, read_back));
                    self.wait()?;
                }
                None => self.submit_call(plan, at)?,
            }
            self.paces[plan.0].took(at, at + calls.len(), start.elapsed().as_secs_f64());
            if next.is_none() && calls.end < total {
                next = Some(self.submission(plan, calls.end, total, read_back));
            }
        }
        Ok(mapped)
    }

    /// Puts at most [`MAX_STEPS`] steps where the next submission's kernels read them.
    pub(super) fn write_steps(&self, steps: &[Step]) {
        let mut words = vec![0u8; steps.len() * STEP_STRIDE as usize];
        for (step, to) in steps.iter().zip(words.chunks_exact_mut(STEP_STRIDE as usize)) {
            to[..size_of::<StepUniform>()].copy_from_slice(bytemuck::bytes_of(&StepUniform::from(step)));
        }
        self.queue.write_buffer(&self.steps, 0, &words);
    }

    /// Plays these calls of a plan, its dispatches repeated for each step that was written, in one submission.
    fn submit(&self, plan: PlanId, calls: Range<usize>) -> Result<()> {
        self.queue.submit([self.encode(plan, calls, None)]);
        self.wait()
    }

    /// The calls of the submission that begins with call `at` of `total`, and its commands if it is more than one call: that one may have
    /// to be played in slices.
    fn submission(
        &self,
        plan: PlanId,
        at: usize,
        total: usize,
        read_back: Option<&ReadBack>,
    ) -> (Range<usize>, Option<wgpu::CommandBuffer>) {
        // A submission's steps were written together.
        let written = MAX_STEPS * self.plans[plan.0].len();
        let first = at / written * written;
        let end = self.paces[plan.0].end(at - first, written.min(total - first));
        let read_back = read_back.filter(|_| first + end == total);
        let commands = (first + end > at + 1).then(|| self.encode(plan, at - first..end, read_back));
        (at..first + end, commands)
    }

    /// The commands of a submission, at its end the copy of what is read back.
    fn encode(&self, plan: PlanId, calls: Range<usize>, read_back: Option<&ReadBack>) -> wgpu::CommandBuffer {
        let dispatches = &self.plans[plan.0];
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("steps") });
        let mut pass = None;
        for i in calls {
            let call = &dispatches[i % dispatches.len()];
            if call.copies() {
                drop(pass.take());
                call.encode_copies(&mut encoder);
            }
            let descriptor = wgpu::ComputePassDescriptor { label: Some("steps"), timestamp_writes: None };
            let pass = pass.get_or_insert_with(|| encoder.begin_compute_pass(&descriptor).forget_lifetime());
            call.encode(pass, (i / dispatches.len()) as u32);
        }
        drop(pass);
        if let Some(ReadBack { source, staging, size }) = read_back {
            encoder.copy_buffer_to_buffer(source, 0, staging, 0, *size);
        }
        encoder.finish()
    }

    /// Plays a call, in as many submissions as it takes to keep each below the watchdog.
    pub(super) fn submit_call(&self, plan: PlanId, call: usize) -> Result<()> {
        let calls = &self.plans[plan.0];
        let prepared = &calls[call % calls.len()];
        let Some(mut slices) = self.paces[plan.0].slices(call, prepared.grid) else { return self.submit(plan, call..call + 1) };
        while let Some((slice, size)) = slices.next() {
            let start = Instant::now();
            self.queue.write_buffer(&prepared.uniform, SLICE_OFFSET, bytemuck::bytes_of(&slice));
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("slice") });
            if slice.is_first() {
                prepared.encode_copies(&mut encoder);
            }
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            prepared.encode_slice(&mut pass, (call / calls.len()) as u32, size);
            drop(pass);
            self.queue.submit([encoder.finish()]);
            self.wait()?;
            slices.took(size, start.elapsed().as_secs_f64());
        }
        let all = Slice::beginning_at([0; 3], prepared.grid);
        self.queue.write_buffer(&prepared.uniform, SLICE_OFFSET, bytemuck::bytes_of(&all));
        Ok(())
    }

    fn buffer(&self, tensor: &str, values: usize) -> Result<&wgpu::Buffer> {
        let id = self.program.find(tensor).with_context(|| format!("the program has no tensor {tensor}"))?;
        let len = self.program.tensors[id.0].len;
        ensure!(values <= len, "{tensor} holds {len} values, not {values}");
        Ok(&self.buffers[id.0])
    }

    /// Overwrites a tensor from element `first` on.
    fn upload(&self, tensor: &str, first: usize, words: &[u8]) -> Result<()> {
        let buffer = self.buffer(tensor, first + words.len() / 4)?;
        for (i, part) in words.chunks(UPLOAD).enumerate() {
            self.queue.write_buffer(buffer, (4 * first + i * UPLOAD) as u64, part);
            if part.len() == UPLOAD {
                // Let go of the staging memory before the next part, which may come with the next call.
                self.queue.submit([]);
                self.wait()?;
            }
        }
        self.check()
    }

    /// The whole tensor's words, as they lie on the device.
    pub fn read_bytes(&self, tensor: &str) -> Result<Vec<u8>> {
        let id = self.program.find(tensor).with_context(|| format!("the program has no tensor {tensor}"))?;
        self.read_buffer(&self.buffers[id.0], 4 * self.program.tensors[id.0].len as u64, tensor)
    }

    /// Memory that the CPU can read.
    fn staging(&self, size: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: size.max(4),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// The first `size` bytes of a buffer, copied in a submission of their own; `name` is for messages.
    pub(super) fn read_buffer(&self, buffer: &wgpu::Buffer, size: u64, name: &str) -> Result<Vec<u8>> {
        let staging = self.staging(size);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("read-back") });
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
        self.queue.submit([encoder.finish()]);
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver outlives the wait below.
            let _ = sender.send(result);
        });
        self.wait()?;
        receiver.recv().context("the driver dropped a read-back")?.with_context(|| format!("reading {name} back"))?;
        let bytes = staging.get_mapped_range(..).map_err(|e| anyhow!("reading {name} back: {e:?}"))?.to_vec();
        Ok(bytes)
    }
}

impl Player for GpuPlayer {
    fn device(&self) -> String {
        self.name.clone()
    }

    fn write(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
        self.upload(tensor, 0, bytemuck::cast_slice(values))
    }

    fn write_words(&mut self, tensor: &str, first: usize, words: &[u32]) -> Result<()> {
        self.upload(tensor, first, bytemuck::cast_slice(words))
    }

    fn read(&mut self, tensor: &str) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(&self.read_bytes(tensor)?))
    }

    fn play(&mut self, plan: PlanId, steps: &[Step]) -> Result<()> {
        self.play_steps(plan, steps, None).map(drop)
    }

    fn play_and_read(&mut self, plan: PlanId, steps: &[Step], tensor: &str) -> Result<Vec<f32>> {
        let id = self.program.find(tensor).with_context(|| format!("the program has no tensor {tensor}"))?;
        let size = 4 * self.program.tensors[id.0].len as u64;
        // Out of its place until it is unmapped again: after an error it is not used once more.
        let kept = self.read_back.take().filter(|r| r.source == self.buffers[id.0]);
        let read_back =
            kept.unwrap_or_else(|| ReadBack { source: self.buffers[id.0].clone(), staging: self.staging(size), size });
        let values = if self.play_steps(plan, steps, Some(&read_back))? {
            let bytes = read_back.staging.get_mapped_range(..).map_err(|e| anyhow!("reading {tensor} back: {e:?}"))?;
            let values = bytemuck::pod_collect_to_vec(&bytes);
            drop(bytes);
            read_back.staging.unmap();
            values
        } else {
            // The last call was played by itself, without the copy.
            self.read(tensor)?
        };
        self.read_back = Some(read_back);
        Ok(values)
    }

    fn program(&self) -> &Program {
        &self.program
    }

    fn time(&mut self, plan: PlanId, steps: &[Step]) -> Result<Timing> {
        self.make_code(plan)?;
        // What might be long is played before, to know: twice, since the first time may be the driver's compilation.
        for _ in 0..2 {
            if let (true, Some(first)) = (self.paces[plan.0].has_slices(), steps.first()) {
                self.play(plan, &[*first])?;
            }
        }
        self.by_submits |= self.paces[plan.0].has_slices();
        let timing = self.time_steps(plan, steps)?;
        self.by_submits |= timing.clock == Clock::Submits;
        Ok(timing)
    }

    fn first_use(&self) -> Option<FirstUse> {
        Some(self.first_use)
    }
}

/// wgpu's leave for features that it calls experimental.
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: wgpu asks for it because a feature under way may have gaps through which a shader does what is undefined. It is asked for
    // where a program has kernels of cooperative matrices, and they load and store whole tiles inside their own workgroup's memory,
    // whose sizes are the text's constants; `verify` plays each of them beside its twin.
    #[allow(unsafe_code)]
    unsafe {
        wgpu::ExperimentalFeatures::enabled()
    }
}

/// A dispatch's dims and, behind them, all of its grid as the slice to play.
fn uniform(device: &wgpu::Device, queue: &wgpu::Queue, d: &Dispatch, grid: [u32; 3]) -> wgpu::Buffer {
    let Dispatch { label, dims, .. } = d;
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: SLICE_OFFSET + size_of::<Slice>() as u64,
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    debug_assert!(4 * dims.len() as u64 <= SLICE_OFFSET, "{label}: the slice would lie on its dims");
    queue.write_buffer(&buffer, 0, bytemuck::cast_slice(dims));
    queue.write_buffer(&buffer, SLICE_OFFSET, bytemuck::bytes_of(&Slice::beginning_at([0; 3], grid)));
    buffer
}

pub(super) fn step_buffer(device: &wgpu::Device) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("steps"),
        size: STEP_STRIDE * MAX_STEPS as u64,
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// See [`text_of`].
pub(super) type Text = (&'static str, Vec<(&'static str, u32)>);

/// What tells a dispatch's pipeline from others: the kernel, and what its text is unrolled for.
pub(super) fn text_of(d: &Dispatch) -> Text {
    (d.kernel.key, d.kernel.constants(&d.dims))
}

/// A kernel as a device has it.
pub(super) struct Compiled {
    /// The layout that the registry states.
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
    text_bytes: usize,
}

/// Creates a kernel's pipeline, or tells what the driver has against it.
pub(super) fn compile(
    device: &wgpu::Device,
    Dispatch { kernel, dims, .. }: &Dispatch,
    wgsl: String,
    cache: Option<&wgpu::PipelineCache>,
) -> Result<Compiled> {
    // A scope is its thread's own.
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let bound = |binding, ty| wgpu::BindGroupLayoutEntry { binding, visibility: wgpu::ShaderStages::COMPUTE, ty, count: None };
    let entry = |binding, ty, has_dynamic_offset| {
        bound(binding, wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None })
    };
    let mut entries = [0, SLICE_BINDING].map(|i| entry(i, wgpu::BufferBindingType::Uniform, false)).to_vec();
    if kernel.step {
        entries.push(entry(STEP_BINDING, wgpu::BufferBindingType::Uniform, true));
    }
    for (i, binding) in (FIRST_BINDING..).zip(kernel.bindings) {
        if let Some(texel) = kernel.texel(binding, dims) {
            let ty = wgpu::BindingType::StorageTexture {
                access: wgpu::StorageTextureAccess::ReadOnly,
                format: texels::format(binding.elem, texel),
                view_dimension: wgpu::TextureViewDimension::D2,
            };
            entries.push(bound(i, ty));
            continue;
        }
        let storage = wgpu::BufferBindingType::Storage { read_only: binding.access == Access::Read };
        let ty = if kernel.takes_uniform(binding) { wgpu::BufferBindingType::Uniform } else { storage };
        entries.push(entry(i, ty, false));
    }
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.key), entries: &entries });
    let text_bytes = wgsl.len();
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(kernel.file), source: wgpu::ShaderSource::Wgsl(wgsl.into()) };
    // SAFETY: wgpu asks for it because the module is compiled without injected bounds and loop checks, which cost up to five
    // times a kernel's time. The source is this crate's own registry: every index is clamped or guarded by the dims, every loop
    // ends, no divisor is zero, and `tests/kernels.rs` runs each kernel with sentinels behind every buffer.
    #[allow(unsafe_code)]
    let module = unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(kernel.key),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(kernel.key),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some(kernel.entry),
        // Every kernel writes what it reads of workgroup memory, and zeroing it costs a pass over all of it.
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
        cache,
    });
    pollster::block_on(scope.pop()).map_or(Ok(Compiled { layout, pipeline, text_bytes }), |error| Err(anyhow!("{error}")))
}
