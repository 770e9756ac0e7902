//! The model as the players see it: an ordered list of dispatches over named tensors.
//!
//! A [`Program`] holds several plans (train, validate, explain, each for a full and for a last, smaller batch) over one set of
//! tensors: a tensor that two plans name is the same memory, as large as the larger of them asks for.

use crate::kernel::{self, Access, Elem, Kernel};
use std::collections::HashMap;

/// A tensor's place in [`Program::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorId(pub usize);

/// A named buffer of the program.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name, such as `conv2d_1/kernel` or `conv2d_1/y`.
    pub name: String,
    /// 32-bit elements.
    pub len: usize,
    /// What they are.
    pub elem: Elem,
}

/// One kernel call.
pub struct Dispatch {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// `layer: kernel key`, the profile's row.
    pub label: String,
    /// The words of the kernel's dims struct.
    pub dims: Vec<u32>,
    /// The tensors in binding order.
    pub buffers: Vec<TensorId>,
}

/// A tensor as textures hold it for the kernels that read it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Texels {
    /// The tensor.
    pub tensor: TensorId,
    /// What its elements are.
    pub elem: Elem,
    /// How many of them a texel holds.
    pub texel: u32,
}

impl Dispatch {
    /// For each binding what it reads as a texture, if it does, and how many elements of it.
    pub fn texels(&self) -> impl Iterator<Item = Option<(Texels, usize)>> {
        self.kernel.bindings.iter().zip(&self.buffers).map(|(b, &tensor)| {
            let texel = self.kernel.texel(b, &self.dims)?;
            Some((Texels { tensor, elem: b.elem, texel }, (b.len)(&self.dims)))
        })
    }

    /// Plays another variant of the same kernel.
    pub fn take(&mut self, variant: &'static Kernel) {
        if let Some(layer) = self.label.strip_suffix(self.kernel.key) {
            self.label = format!("{layer}{}", variant.key);
        }
        self.kernel = variant;
    }
}

/// An ordered list of dispatches for batches of one size.
pub struct Plan {
    /// What it does, for messages and profiles.
    pub name: String,
    /// Pictures per batch.
    pub batch: usize,
    /// The kernel calls in order.
    pub dispatches: Vec<Dispatch>,
}

/// A plan's place in [`Program::plans`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanId(pub usize);

/// Into how many partial sums a long sum is cut, that workgroups make side by side and one pass adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// As the cores of a CPU want it: few, since each is written and read again.
    #[default]
    Few,
    /// As a GPU wants it, which is idle below hundreds of workgroups.
    Many,
}

/// Plans over one set of named tensors.
#[derive(Default)]
pub struct Program {
    /// The tensors.
    pub tensors: Vec<Tensor>,
    /// The plans.
    pub plans: Vec<Plan>,
    /// How sums are cut in plans that are lowered into it.
    pub spread: Spread,
    names: HashMap<String, TensorId>,
}

impl Program {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty program whose sums are cut so.
    pub fn spread(spread: Spread) -> Self {
        Self { spread, ..Self::default() }
    }

    /// The tensor of this name, made or grown to `len` elements.
    pub fn tensor(&mut self, name: impl Into<String>, elem: Elem, len: usize) -> TensorId {
        let name = name.into();
        if let Some(&id) = self.names.get(&name) {
            let tensor = &mut self.tensors[id.0];
            assert_eq!(tensor.elem, elem, "{name} is used as floats and as words");
            tensor.len = tensor.len.max(len);
            return id;
        }
        let id = TensorId(self.tensors.len());
        self.tensors.push(Tensor { name: name.clone(), len, elem });
        self.names.insert(name, id);
        id
    }

    /// The tensor of this name, if the program has it.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        self.names.get(name).copied()
    }

    /// Begins a plan; the dispatches that follow belong to it.
    pub fn begin(&mut self, name: impl Into<String>, batch: usize) -> PlanId {
        self.plans.push(Plan { name: name.into(), batch, dispatches: Vec::new() });
        PlanId(self.plans.len() - 1)
    }

    /// Appends a dispatch to the plan begun last. `tensors` name the kernel's buffers in binding order; each is made or grown
    /// to the length that the kernel needs for these dims.
    pub fn dispatch(&mut self, layer: &str, key: &str, dims: Vec<u32>, tensors: &[&str]) {
        self.dispatch_kernel(layer, kernel::by_key(key), dims, tensors);
    }

    /// The same for a kernel that need not be the registry's: `verify` plays altered ones to test its own harness.
    pub fn dispatch_kernel(&mut self, layer: &str, kernel: &'static Kernel, dims: Vec<u32>, tensors: &[&str]) {
        let key = kernel.key;
        assert_eq!(kernel.bindings.len(), tensors.len(), "{key} has another number of buffers");
        let buffers: Vec<TensorId> = kernel
            .bindings
            .iter()
            .zip(tensors)
            .map(|(binding, name)| self.tensor(*name, binding.elem, (binding.len)(&dims)))
            .collect();
        for (i, (a, binding)) in buffers.iter().zip(kernel.bindings).enumerate() {
            let shared = buffers[i + 1..].contains(a);
            // WebGPU refuses a buffer that is read and written in one dispatch.
            assert!(!shared || binding.access == Access::Read, "{key} of {layer} would alias {}", tensors[i]);
        }
        let plan = self.plans.last_mut().expect("begin() comes before dispatch()");
        plan.dispatches.push(Dispatch { kernel, label: format!("{layer}: {key}"), dims, buffers });
    }

    /// Bytes of all tensors together, and of the textures that its kernels read.
    pub fn bytes(&self) -> u64 {
        let texture =
            |(Texels { texel, .. }, len)| [kernel::texture_rows(len, texel), kernel::TEXTURE_WIDTH, texel].map(u64::from);
        let textures = self.textures().into_iter().map(texture).map(|sides| 4 * sides.iter().product::<u64>());
        let tensors = self.tensors.iter().map(|t| (t.len as u64).saturating_mul(4));
        tensors.chain(textures).fold(0, u64::saturating_add)
    }

    /// What its kernels read as textures, and how many elements at most.
    pub fn textures(&self) -> HashMap<Texels, usize> {
        let mut textures = HashMap::new();
        for (texels, len) in self.plans.iter().flat_map(|plan| &plan.dispatches).flat_map(Dispatch::texels).flatten() {
            let most = textures.entry(texels).or_default();
            *most = len.max(*most);
        }
        textures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Dims, Elem};
    use crate::ops::dense::DenseDims;

    #[test]
    fn a_tensor_is_as_long_as_the_longest_that_asks_and_counts_once() {
        let mut program = Program::new();
        let a = program.tensor("a", Elem::F32, 3);
        program.tensor("b", Elem::U32, 5);
        assert_eq!(program.tensor("a", Elem::F32, 10), a);
        program.tensor("a", Elem::F32, 2);
        assert_eq!(program.tensors[a.0].len, 10);
        assert_eq!(program.bytes(), 60);
        program.begin("plan", 1);
        let dims = DenseDims::new(1, 8, 64, true).words();
        program.dispatch_kernel("dense", kernel::by_key("dense.forward/lanes8"), dims, &["x", "w", "y"]);
        // Textures of three rows for x and w, of 16 bytes a texel.
        assert_eq!(program.bytes(), 60 + 4 * (8 + 8 * 64 + 64) + 2 * 3 * 4096 * 16);
    }
}
