//! A kernel is data: one [`Kernel`] value per WGSL entry point, all of them in [`REGISTRY`].
//!
//! The tests, `verify` and the players are loops over the registry, so a kernel without a CPU twin, a cost or test cases
//! cannot exist. Buffers are bound in one order everywhere: group 0, binding 0 = `dims`, then what is read, then what is
//! written; at the end [`STEP_BINDING`], if the kernel asks for it, and [`SLICE_BINDING`].

use crate::ops;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`, every element of the stated length written, and none read before.
    Write,
    /// `var<storage, read_write>`, read and written in place, or only some elements written.
    Update,
}

/// What a buffer's 32-bit elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    /// Floats: f32 on the GPU, the player's own type on the CPU.
    F32,
    /// Words: indices, labels, packed bytes.
    U32,
}

/// One storage buffer of a kernel.
pub struct Binding {
    /// Its name in the WGSL, the twin and the formula.
    pub name: &'static str,
    /// How it is used.
    pub access: Access,
    /// Its element type.
    pub elem: Elem,
    /// How many elements the kernel touches, as a function of the dims' words.
    pub len: fn(&[u32]) -> usize,
}

impl Binding {
    /// A float buffer that is read.
    pub const fn read(name: &'static str, len: fn(&[u32]) -> usize) -> Self {
        Self { name, access: Access::Read, elem: Elem::F32, len }
    }
    /// A float buffer that is written.
    pub const fn write(name: &'static str, len: fn(&[u32]) -> usize) -> Self {
        Self { name, access: Access::Write, elem: Elem::F32, len }
    }
    /// The same buffer holding words.
    pub const fn words(self) -> Self {
        Self { elem: Elem::U32, ..self }
    }
    /// The same buffer updated in place.
    pub const fn updated(self) -> Self {
        Self { access: Access::Update, ..self }
    }
}

/// A struct of u32 fields, from which the WGSL `dims` uniform is written ([`Kernel::wgsl`]); made by [`crate::dims!`].
pub trait Dims: bytemuck::Pod {
    /// Field names in order.
    const FIELDS: &'static [&'static str];

    /// The struct seen in the words of a dispatch. Panics when the words are another struct's: a programming error.
    fn of(words: &[u32]) -> &Self {
        bytemuck::from_bytes(bytemuck::cast_slice(words))
    }

    /// The struct as words.
    fn words(&self) -> Vec<u32> {
        bytemuck::cast_slice(std::slice::from_ref(self)).to_vec()
    }
}

/// [`Dims::FIELDS`] of a struct that has the fields of two.
pub const fn joined<const N: usize>(first: &[&'static str], then: &[&'static str]) -> [&'static str; N] {
    assert!(first.len() + then.len() == N);
    let mut all = [""; N];
    let mut i = 0;
    while i < N {
        all[i] = if i < first.len() { first[i] } else { then[i - first.len()] };
        i += 1;
    }
    all
}

/// Declares a dims struct: u32 fields only, so that Rust's and WGSL's layouts cannot differ.
#[macro_export]
macro_rules! dims {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_meta])* pub $field: u32,)* }
        impl $crate::kernel::Dims for $name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field),)*];
        }
    };
}

/// Arithmetic and traffic of one dispatch, for profiles and benches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of the formula, a multiply-add counted as two, whatever a technique saves of them.
    pub flops: f64,
    /// Bytes that must move at least once between memory and the processor.
    pub bytes: f64,
}

/// The values that change from step to step; the `step` uniform of the kernels that ask for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Position of the batch's first picture in `order`.
    pub first: u32,
    /// Steps done before this one since training began: the counter of dropout's hash.
    pub step: u32,
    /// Seed of the run.
    pub seed: u32,
    /// Row of `metrics` that this step writes.
    pub slot: u32,
    /// Adam's scalars.
    pub adam: AdamScalars,
}

impl Step {
    /// Which picture has a place in the batch, as `shaders/shared/ordered.wgsl` finds it: past the end of `order` the last one.
    pub fn ordered(&self, order: &[u32], place: usize) -> u32 {
        order[(self.first as usize + place).min(order.len() - 1)]
    }
}

/// Adam's scalars at one step, in f64; the f32 paths use `alpha_f32`, computed in f32 as Keras does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamScalars {
    /// `lr * sqrt(1 - beta2^t) / (1 - beta1^t)` in f64.
    pub alpha: f64,
    /// The same in f32 arithmetic.
    pub alpha_f32: f32,
    /// `1 - beta1`.
    pub one_minus_beta1: f64,
    /// `1 - beta2`.
    pub one_minus_beta2: f64,
    /// Keras's epsilon, added outside the bias correction.
    pub epsilon: f64,
}

/// The words of the `step` uniform as `shaders/shared/step.wgsl` declares them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct StepUniform {
    first: u32,
    step: u32,
    seed: u32,
    slot: u32,
    alpha: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    epsilon: f32,
}

impl From<&Step> for StepUniform {
    fn from(s: &Step) -> Self {
        Self {
            first: s.first,
            step: s.step,
            seed: s.seed,
            slot: s.slot,
            alpha: s.adam.alpha_f32,
            one_minus_beta1: s.adam.one_minus_beta1 as f32,
            one_minus_beta2: s.adam.one_minus_beta2 as f32,
            epsilon: s.adam.epsilon as f32,
        }
    }
}

/// Field names of [`StepUniform`], for the layout test.
pub const STEP_FIELDS: &[&str] = &["first", "step", "seed", "slot", "alpha", "one_minus_beta1", "one_minus_beta2", "epsilon"];

/// The float type of a CPU twin: f32 for the `--device cpu` path, f64 for the oracle.
pub trait Real:
    num_traits::Float + num_traits::NumAssign + std::iter::Sum + bytemuck::Pod + Default + Send + Sync + std::fmt::Debug + 'static
{
    /// The nearest value of this type.
    fn of(value: f64) -> Self;
    /// The value as f64, exact.
    fn f64(self) -> f64;
    /// Adam's step size in this type's own arithmetic.
    fn alpha(adam: &AdamScalars) -> Self;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn f64(self) -> f64 {
        f64::from(self)
    }
    fn alpha(adam: &AdamScalars) -> Self {
        adam.alpha_f32
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn f64(self) -> f64 {
        self
    }
    fn alpha(adam: &AdamScalars) -> Self {
        adam.alpha
    }
}

/// A tensor on the CPU.
#[derive(Clone, Debug)]
pub enum Buffer<T> {
    /// Floats.
    F(Vec<T>),
    /// Words.
    U(Vec<u32>),
}

impl<T: Real> Buffer<T> {
    /// A buffer of `len` zeros.
    pub fn zeros(elem: Elem, len: usize) -> Self {
        match elem {
            Elem::F32 => Self::F(vec![T::zero(); len]),
            Elem::U32 => Self::U(vec![0; len]),
        }
    }
    /// The floats; panics on words, which the registry's element types rule out.
    pub fn f(&self) -> &[T] {
        match self {
            Self::F(v) => v,
            Self::U(_) => panic!("the buffer holds words"),
        }
    }
    /// The words; panics on floats.
    pub fn u(&self) -> &[u32] {
        match self {
            Self::U(v) => v,
            Self::F(_) => panic!("the buffer holds floats"),
        }
    }
    /// The floats, to write.
    pub fn f_mut(&mut self) -> &mut [T] {
        match self {
            Self::F(v) => v,
            Self::U(_) => panic!("the buffer holds words"),
        }
    }
    /// The words, to write.
    pub fn u_mut(&mut self) -> &mut [u32] {
        match self {
            Self::U(v) => v,
            Self::F(_) => panic!("the buffer holds floats"),
        }
    }
}

/// One call of a twin: the dims, the step and the buffers in the kernel's binding order.
pub struct Call<'a, T> {
    /// The words of the dims struct.
    pub dims: &'a [u32],
    /// The step.
    pub step: &'a Step,
    /// What is read.
    pub reads: &'a [&'a Buffer<T>],
    /// What is written.
    pub writes: &'a mut [&'a mut Buffer<T>],
}

impl<'a, T: Real> Call<'a, T> {
    /// The dims as their struct.
    pub fn dims<D: Dims>(&self) -> D {
        *D::of(self.dims)
    }
    /// The `i`-th buffer that is read, as floats.
    pub fn read(&self, i: usize) -> &'a [T] {
        self.reads[i].f()
    }
}

/// The CPU twin of a kernel, for both float types; made by [`crate::twin!`].
#[derive(Clone, Copy)]
pub struct Twin {
    /// In f32: the `--device cpu` path.
    pub f32: fn(&mut Call<f32>),
    /// In f64: the oracle.
    pub f64: fn(&mut Call<f64>),
}

/// The [`Twin`] made of one generic function.
#[macro_export]
macro_rules! twin {
    ($function:path) => {
        $crate::kernel::Twin { f32: $function, f64: $function }
    };
}

/// How the first buffer that a kernel writes, (pictures, height, width, channels), is cut into tiles.
#[derive(Clone, Copy, Debug)]
pub struct OutputTiles {
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Rows and columns of a tile, the first at the picture's corner.
    pub side: usize,
}

impl OutputTiles {
    /// For each element the largest value of its channel in its tile.
    pub fn largest(&self, values: &[f64]) -> Vec<f64> {
        let Self { height, width, channels, side } = *self;
        let place = |i: usize| (i / channels % width, i / channels / width % height, i / channels / width / height);
        let mut most = vec![0.0f64; values.len()];
        let first = |i: usize| {
            let (x, y, n) = place(i);
            ((n * height + y / side * side) * width + x / side * side) * channels + i % channels
        };
        for (i, value) in values.iter().enumerate() {
            most[first(i)] = most[first(i)].max(*value);
        }
        (0..values.len()).map(|i| most[first(i)]).collect()
    }
}

/// [`Kernel::made`] of a weight gradient behind a pool that passes over the three gradients of a window that are 0.
pub const OF_TAKEN_PLACES: f64 = 1.0 / 4.0;
/// [`Kernel::made`] of Winograd's F(2x2,3x3) and F(3x3,2x2): 16 products for 36.
pub const OF_WINOGRAD_2: f64 = 16.0 / 36.0;
/// [`Kernel::made`] of Winograd's F(4x4,3x3): 36 products for 144.
pub const OF_WINOGRAD_4: f64 = 36.0 / 144.0;

/// How far a correct f32 kernel may stray from its f64 twin, per element.
#[derive(Clone, Copy)]
pub enum Bound {
    /// `roundings(dims) * 2^-24 * twin(|inputs|)`: each of the roundings on the way to an element is at most half an ulp of a
    /// partial result that the twin of the absolute inputs bounds. For sums, products, maxima and masks.
    Twin(fn(&[u32]) -> f64),
    /// `Twin`'s roundings for a technique that makes whole tiles of its pictures at once and so lets each element of a tile round
    /// what belongs to the others: of the largest `twin(|inputs|)` in the element's tile.
    Tile(fn(&[u32]) -> f64, fn(&[u32]) -> OutputTiles),
    /// The bound worked out by hand: given the call's inputs (in f64, before the call), one bound per element of every written
    /// float buffer. For exponentials, roots and quotients.
    Own(fn(&Call<f64>) -> Vec<Vec<f64>>),
}

/// What a variant asks of the adapter beyond WebGPU's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Stores to one component of a vector in workgroup memory that leave the other components to the invocations that store those:
    /// Vulkan. WGSL promises it nowhere, and on Metal and DX12 the whole vector is loaded and stored again.
    ComponentStores,
    /// Subgroups of exactly 8 lanes and 64-bit integers: software drivers on CPUs with 256-bit vectors.
    EightLanes,
    /// Cooperative matrices of these sizes that multiply f16 and add in f32, f16 itself, and subgroups.
    CooperativeMatrix(Tiles),
}

/// The machines a variant is made for, which take it by themselves. Others that have what it needs may: `tune` times it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeFor {
    /// GPUs.
    Gpus,
    /// Drivers that run shaders on the CPU.
    Software,
    /// Those of them that load from a buffer in one instruction for all lanes, and not in one for each: Mesa 26 on CPUs with AVX-512.
    Gathering,
}

impl MadeFor {
    /// Whether that is an adapter which runs shaders on the CPU (`software`) and there loads for all lanes at once (`gathers`).
    pub fn suits(self, software: bool, gathers: bool) -> bool {
        match self {
            Self::Gpus => !software,
            Self::Software => software,
            Self::Gathering => software && gathers,
        }
    }
}

/// Sizes of cooperative matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tiles {
    /// Rows and columns of each factor and of the sum.
    pub side: u32,
    /// Lanes of every subgroup, which multiply together.
    pub subgroup: u32,
}

/// What the factors of the products of convolutions and dense layers are rounded to. Sums, weights, moments, activations and gradients
/// are f32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Nothing: f32.
    #[default]
    F32,
    /// f16, where a matrix unit multiplies.
    F16,
}

/// For dims and the name of a float buffer, the power of two by which its values are multiplied before they are rounded to f16; none for
/// a buffer that is not rounded.
pub type Scale = fn(&[u32], &str) -> Option<f32>;

/// Another technique for the work of a kernel: the same bindings, twin and contract.
#[derive(Clone, Copy)]
pub struct Variant {
    /// Key of the kernel that every adapter can run.
    pub of: &'static str,
    /// What the adapter must have.
    pub needs: Needs,
    /// Which machines take it by themselves.
    pub made_for: MadeFor,
    /// Which dims it can do.
    pub fits: fn(&[u32]) -> bool,
    /// What its text is made for: values of the names in the template. Where a value is a matter of the adapter, a kernel with another one
    /// is a variant of its own, named after it (`.../tile_channels8`), so that `tune` checks and times both.
    pub constants: Constants,
    /// Of a variant of [`Precision::F16`].
    pub f16: Option<Scale>,
    /// Names of buffers that it reads as `var<uniform>`: at most 16 KiB, which every adapter takes, of which all invocations read the
    /// same value at a time. A GPU's products take such a value from its constant cache, without a load.
    pub uniform: &'static [&'static str],
    /// Buffers that its template reads by `load_<name>(i)`, whose declarations and functions [`Kernel::wgsl`] appends.
    pub loads: Loads,
    /// Whether these are no buffers but textures, `texture_storage_2d<.., read>`, texel after texel in rows of [`TEXTURE_WIDTH`], that the
    /// player copies from the buffers.
    pub textures: bool,
}

/// For dims the names of buffers, and how many of their elements are loaded at a time: 1, 2 or 4.
pub type Loads = fn(&[u32]) -> Vec<(&'static str, u32)>;

/// Texels in a row of a texture: as many rows of 16 bytes a texel are as large as the largest buffer that WebGPU promises.
pub const TEXTURE_WIDTH: u32 = 4096;

/// Most rows of a texture: WebGPU promises one more.
const MAX_TEXTURE_ROWS: usize = 8191;

/// Rows of a texture for so many elements, `texel` to a texel. llvmpipe makes other code where a side is a power of two, as this never is:
/// what was made for one size is there for all.
pub fn texture_rows(len: usize, texel: u32) -> u32 {
    (len.div_ceil(texel as usize).div_ceil(TEXTURE_WIDTH as usize) as u32).max(3) | 1
}

/// Values of the names in a template, for these dims.
pub type Constants = fn(&[u32]) -> Vec<(&'static str, u32)>;

impl Variant {
    /// One in f32 that reads buffers, and no uniform but its dims.
    pub const fn new(of: &'static str, needs: Needs, made_for: MadeFor, fits: fn(&[u32]) -> bool, constants: Constants) -> Self {
        Self { of, needs, made_for, fits, constants, f16: None, uniform: &[], loads: |_| Vec::new(), textures: false }
    }
}

/// One WGSL entry point with everything the house needs to know of it.
pub struct Kernel {
    /// `op.entry`, or `op.entry/technique` for a variant: registry key, wgpu label, profile row, bench and test name.
    pub key: &'static str,
    /// Set for a variant, whose `source` is then a template ([`Kernel::wgsl`]).
    pub variant: Option<Variant>,
    /// What it computes, in one line; the first line of the shader's entry point says the same.
    pub formula: &'static str,
    /// File name under `shaders/`.
    pub file: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// Texts from `shaders/shared/` that are appended.
    pub shared: &'static [&'static str],
    /// Name of the entry point.
    pub entry: &'static str,
    /// Field names of the dims struct, which is the text's `Dims`.
    pub dims: &'static [&'static str],
    /// Whether it has the `step` uniform.
    pub step: bool,
    /// The storage buffers: what is read, then what is written.
    pub bindings: &'static [Binding],
    /// Workgroups to dispatch.
    pub grid: fn(&[u32]) -> [u32; 3],
    /// Loop passes of the busiest invocation as [`passes`] counts them: at most [`MAX_ITERATIONS`], or `GpuPlayer` refuses the
    /// dispatch.
    pub loops: fn(&[u32]) -> usize,
    /// Flops, as the formula's sums are written, and bytes.
    pub cost: fn(&[u32]) -> Cost,
    /// Share of these flops that the text makes: below 1 where a technique saves products. What it adds beside products, as Winograd's
    /// transforms, is not counted.
    pub made: f64,
    /// The CPU twin.
    pub twin: Twin,
    /// The bounded tier's bound.
    pub bound: Bound,
    /// Dims to test and bench with: 1, odd, border-heavy, one over a workgroup, the real layers.
    pub cases: fn() -> Vec<Vec<u32>>,
    /// Test inputs for one word buffer or for floats with a meaning; `None` takes the harness's random numbers.
    pub input: fn(&[u32], &'static str, u32) -> Option<Values>,
}

/// Values for one input buffer of a test.
#[derive(Clone, Debug)]
pub enum Values {
    /// Floats.
    F(Vec<f32>),
    /// Words.
    U(Vec<u32>),
}

/// The default of [`Kernel::input`]: the harness draws every buffer.
pub fn random_input(_: &[u32], _: &'static str, _: u32) -> Option<Values> {
    None
}

/// The text of a template with these values: WGSL has no loops that a compiler must unroll, and drivers do not.
fn unroll(name: &str, template: &str, constants: &BTreeMap<String, u32>) -> Result<String, minijinja::Error> {
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.render_named_str(name, template, constants)
}

impl Kernel {
    /// The complete WGSL for these dims: the file, then the shared functions, the loads and the `dims` uniform (module scope is
    /// order-free, so line numbers stay the file's own). A variant's file is a template whose loops are unrolled for the dims' channel counts.
    pub fn wgsl(&self, dims: &[u32]) -> String {
        let mut text = self.unrolled(self.source, dims);
        for shared in self.shared {
            text.push('\n');
            text.push_str(&self.unrolled(shared, dims));
        }
        if let Some(variant) = self.variant {
            for (name, width) in (variant.loads)(dims) {
                text += &self.load(name, width, variant.textures);
            }
        }
        let fields: String = self.dims.iter().map(|field| format!("    {field}: u32,\n")).collect();
        text + &format!("\nstruct Dims {{\n{fields}}}\n\n@group(0) @binding(0) var<uniform> dims: Dims;\n")
    }

    /// The declaration of a buffer of the bindings and of the function that loads `width` elements of it.
    fn load(&self, name: &str, width: u32, texture: bool) -> String {
        let found = (FIRST_BINDING..).zip(self.bindings).find(|(_, b)| b.name == name);
        let (i, binding) = found.unwrap_or_else(|| panic!("{} has no buffer {name}", self.key));
        let (scalar, kind) = match binding.elem {
            Elem::F32 => ("f32", "float"),
            Elem::U32 => ("u32", "uint"),
        };
        let (value, channels, taken) = match width {
            1 => (scalar.to_owned(), "r", ".x"),
            2 => (format!("vec2<{scalar}>"), "rg", ".xy"),
            4 => (format!("vec4<{scalar}>"), "rgba", ""),
            _ => panic!("{}: {width} elements of {name} are no load", self.key),
        };
        let (declared, loaded) = if texture {
            let place = format!("vec2<u32>(i % {TEXTURE_WIDTH}u, i / {TEXTURE_WIDTH}u)");
            (format!("var {name}: texture_storage_2d<{channels}32{kind}, read>"), format!("textureLoad({name}, {place}){taken}"))
        } else {
            (format!("var<storage, read> {name}: array<{value}>"), format!("{name}[i]"))
        };
        format!("\n@group(0) @binding({i}) {declared};\n\nfn load_{name}(i: u32) -> {value} {{\n    return {loaded};\n}}\n")
    }

    /// A text of this kernel's, which is a template where the kernel is a variant.
    fn unrolled(&self, text: &str, dims: &[u32]) -> String {
        let Some(variant) = &self.variant else { return text.to_owned() };
        let mut constants: BTreeMap<_, _> = (variant.constants)(dims).into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
        constants.extend((variant.loads)(dims).into_iter().map(|(name, width)| (format!("{name}_width"), width)));
        unroll(self.file, text, &constants).unwrap_or_else(|e| panic!("{}: {e:#}", self.file))
    }

    /// What tells the texts of this kernel's pipelines apart.
    pub fn constants(&self, dims: &[u32]) -> Vec<(&'static str, u32)> {
        self.variant.as_ref().map_or_else(Vec::new, |variant| (variant.constants)(dims))
    }

    /// What the factors of its products are.
    pub fn precision(&self) -> Precision {
        if self.variant.is_some_and(|v| v.f16.is_some()) { Precision::F16 } else { Precision::F32 }
    }

    /// Whether it reads a buffer of its bindings as a uniform.
    pub fn takes_uniform(&self, binding: &Binding) -> bool {
        self.variant.is_some_and(|v| v.uniform.contains(&binding.name))
    }

    /// How many elements of a buffer of its bindings a texel holds, where it reads it as a texture.
    pub fn texel(&self, binding: &Binding, dims: &[u32]) -> Option<u32> {
        let variant = self.variant.filter(|v| v.textures)?;
        (variant.loads)(dims).iter().find(|(name, _)| *name == binding.name).map(|(_, texel)| *texel)
    }

    /// Whether it can do these dims: a variant's text is made for them, and what it reads as textures has room there.
    pub fn fits(&self, dims: &[u32]) -> bool {
        let room = |b: &Binding| {
            let texel = self.texel(b, dims).map(|texel| texel as usize);
            texel.is_none_or(|texel| (b.len)(dims) <= texel * TEXTURE_WIDTH as usize * MAX_TEXTURE_ROWS)
        };
        self.variant.is_none_or(|v| (v.fits)(dims)) && self.bindings.iter().all(room)
    }

    /// The variants of this kernel.
    pub fn variants(&self) -> impl Iterator<Item = &'static Kernel> {
        let key = self.key;
        all().filter(move |k| k.variant.as_ref().is_some_and(|v| v.of == key))
    }

    /// The buffers that are read.
    pub fn reads(&self) -> impl Iterator<Item = &'static Binding> {
        self.bindings.iter().filter(|b| b.access == Access::Read)
    }

    /// The buffers that are written.
    pub fn writes(&self) -> impl Iterator<Item = &'static Binding> {
        self.bindings.iter().filter(|b| b.access != Access::Read)
    }
}

/// A variant of `base`: all of it but the text and what the text asks for.
pub const fn another(
    base: &'static Kernel,
    key: &'static str,
    file: &'static str,
    source: &'static str,
    variant: Variant,
) -> Kernel {
    Kernel {
        key,
        variant: Some(variant),
        formula: base.formula,
        file,
        source,
        shared: &[SLICE_WGSL],
        entry: base.entry,
        dims: base.dims,
        step: base.step,
        bindings: base.bindings,
        grid: base.grid,
        loops: base.loops,
        cost: base.cost,
        made: 1.0,
        twin: base.twin,
        bound: base.bound,
        cases: base.cases,
        input: base.input,
    }
}

/// Binding number of the first storage buffer.
pub const FIRST_BINDING: u32 = 1;
/// Binding number of the `step` uniform (`shaders/shared/step.wgsl`): past every kernel's buffers.
pub const STEP_BINDING: u32 = 14;
/// Binding number of the `slice` uniform (`shaders/shared/slice.wgsl`).
pub const SLICE_BINDING: u32 = 15;

/// Invocations per workgroup of every kernel that is no variant: inside every limit, a whole number of subgroups everywhere.
pub const WORKGROUP: u32 = 64;

/// Most loop passes that one invocation may make, all its loops together: lavapipe silently leaves a kernel's loops after
/// 65,535 (`LP_MAX_TGSI_LOOP_ITERATIONS` in Mesa's `lp_bld_limits.h`).
pub const MAX_ITERATIONS: usize = 65_000;

/// Passes of loops that lie in each other, the outermost first: each loop passes once more than it iterates, to find its end.
pub fn passes(iterations: &[usize]) -> usize {
    iterations.iter().rev().fold(0, |inner, &n| n.saturating_mul(inner.saturating_add(1)).saturating_add(1))
}

/// [`Kernel::loops`] of a kernel without a loop.
pub fn no_loops(_: &[u32]) -> usize {
    0
}

/// Most workgroups per dimension that WebGPU promises.
pub(crate) const MAX_GROUPS: u32 = 65_535;

/// The grid for `threads` invocations: 1-D, or folded into 2-D past 65,535 workgroups; `linear_id` in `shared/slice.wgsl`
/// turns it back into one number.
pub fn grid(threads: usize) -> [u32; 3] {
    let groups = threads.div_ceil(WORKGROUP as usize).max(1) as u32;
    let rows = groups.div_ceil(MAX_GROUPS);
    [groups.div_ceil(rows), rows, 1]
}

/// `shaders/shared/slice.wgsl`.
pub const SLICE_WGSL: &str = include_str!("../shaders/shared/slice.wgsl");
/// `shaders/shared/step.wgsl`.
pub const STEP_WGSL: &str = include_str!("../shaders/shared/step.wgsl");
/// `shaders/shared/adam.wgsl`; it reads the step.
pub const ADAM_WGSL: &str = include_str!("../shaders/shared/adam.wgsl");
/// `shaders/shared/ordered.wgsl`; it reads the step and `order`.
pub const ORDERED_WGSL: &str = include_str!("../shaders/shared/ordered.wgsl");
/// `shaders/shared/update_bias.wgsl`; it calls [`ADAM_WGSL`] and updates `b`, `bm` and `bv`.
pub const UPDATE_BIAS_WGSL: &str = include_str!("../shaders/shared/update_bias.wgsl");
/// `shaders/shared/places.wgsl`.
pub const PLACES_WGSL: &str = include_str!("../shaders/shared/places.wgsl");
/// `shaders/shared/rescaled.wgsl`.
pub const RESCALED_WGSL: &str = include_str!("../shaders/shared/rescaled.wgsl");
/// `shaders/shared/rng.wgsl`.
pub const RNG_WGSL: &str = include_str!("../shaders/shared/rng.wgsl");

/// `shaders/shared/pooled_window.wgsl`.
pub const POOLED_WINDOW_WGSL: &str = include_str!("../shaders/shared/pooled_window.wgsl");
/// `shaders/shared/store_window.wgsl`; it calls [`POOLED_WINDOW_WGSL`], reads `bias` and writes `y` and `argmax`.
pub const STORE_WINDOW_WGSL: &str = include_str!("../shaders/shared/store_window.wgsl");

/// Every kernel of the house, a line per op, in the order of the data.
pub static REGISTRY: &[&[Kernel]] = &[
    ops::gather::KERNELS,
    ops::conv2d::KERNELS,
    ops::conv2d_relu_maxpool2x2::KERNELS,
    ops::pictures::KERNELS,
    ops::pictures::TECHNIQUES,
    ops::conv2d_relu_map::KERNELS,
    ops::conv2d_relu_map::TECHNIQUES,
    ops::relu::KERNELS,
    ops::maxpool2x2::KERNELS,
    ops::dense::KERNELS,
    ops::dense_bias_relu::KERNELS,
    // Before the direct tiles, which are the default until a GPU has timed these.
    ops::winograd_tile::SCALAR_KERNELS,
    ops::tile::KERNELS,
    ops::winograd_tile::KERNELS,
    ops::narrow::KERNELS,
    ops::lanes8::KERNELS,
    ops::coop::KERNELS,
    ops::coop::KERNELS8,
    ops::dropout::KERNELS,
    ops::bias_relu_dropout::KERNELS,
    ops::sigmoid_bce::KERNELS,
    ops::softmax_ce::KERNELS,
    ops::batch_mean::KERNELS,
    ops::sigmoid_bce_mean::KERNELS,
    ops::accumulate::KERNELS,
    ops::adam::KERNELS,
    ops::collect::KERNELS,
    ops::score::KERNELS,
    ops::gradcam::KERNELS,
    ops::resize::KERNELS,
    ops::resize::TECHNIQUES,
    ops::peak::KERNELS,
];

/// All kernels in registry order.
pub fn all() -> impl Iterator<Item = &'static Kernel> {
    REGISTRY.iter().flat_map(|op| op.iter())
}

/// The kernel with this key. Panics when there is none: keys are written in this crate only.
pub fn by_key(key: &str) -> &'static Kernel {
    all().find(|k| k.key == key).unwrap_or_else(|| panic!("no kernel is called {key}"))
}
