//! The CPU player: the twins, in f32 for `--device cpu` and in f64 as the oracle.

use super::{Clock, Player, Span, Timing};
use crate::kernel::{Access, Buffer, Call, Real, Step, Twin};
use crate::plan::{PlanId, Program};
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use std::time::Instant;

/// Words that a thread copies at once.
const PART: usize = 1 << 18;

/// A float type that a CPU player can play in.
pub trait Playable: Real {
    #[doc(hidden)]
    fn call(twin: &Twin, call: &mut Call<Self>);
}

impl Playable for f32 {
    fn call(twin: &Twin, call: &mut Call<Self>) {
        (twin.f32)(call);
    }
}

impl Playable for f64 {
    fn call(twin: &Twin, call: &mut Call<Self>) {
        (twin.f64)(call);
    }
}

/// Plays a program on the CPU.
pub struct CpuPlayer<T> {
    program: Program,
    tensors: Vec<Buffer<T>>,
}

impl<T: Playable> CpuPlayer<T> {
    /// Allocates the program's tensors, zeroed.
    pub fn new(program: Program) -> Self {
        let tensors = program.tensors.iter().map(|t| Buffer::zeros(t.elem, t.len)).collect();
        Self { program, tensors }
    }

    fn tensor(&mut self, name: &str) -> Result<&mut Buffer<T>> {
        let id = self.program.find(name).with_context(|| format!("the program has no tensor {name}"))?;
        Ok(&mut self.tensors[id.0])
    }

    /// Calls one dispatch's twin.
    fn call(&mut self, plan: PlanId, dispatch: usize, step: &Step) {
        let dispatch = &self.program.plans[plan.0].dispatches[dispatch];
        let bindings = dispatch.kernel.bindings;
        // What is written leaves the store for the call, so that the borrow checker sees it apart from what is read.
        let written: Vec<_> =
            dispatch.buffers.iter().zip(bindings).filter(|(_, b)| b.access != Access::Read).map(|(id, _)| id.0).collect();
        let mut owned: Vec<Buffer<T>> =
            written.iter().map(|&id| std::mem::replace(&mut self.tensors[id], Buffer::U(Vec::new()))).collect();
        let reads: Vec<&Buffer<T>> = dispatch
            .buffers
            .iter()
            .zip(bindings)
            .filter(|(_, b)| b.access == Access::Read)
            .map(|(id, _)| &self.tensors[id.0])
            .collect();
        let mut writes: Vec<&mut Buffer<T>> = owned.iter_mut().collect();
        T::call(&dispatch.kernel.twin, &mut Call { dims: &dispatch.dims, step, reads: &reads, writes: &mut writes });
        for (id, buffer) in written.into_iter().zip(owned) {
            self.tensors[id] = buffer;
        }
    }

    /// A float tensor in the player's own type.
    pub fn floats(&mut self, name: &str) -> Result<&[T]> {
        Ok(self.tensor(name)?.f())
    }
}

impl<T: Playable> Player for CpuPlayer<T> {
    fn device(&self) -> String {
        let bits = 8 * std::mem::size_of::<T>();
        format!("CPU path (f{bits}, {} threads)", rayon::current_num_threads())
    }

    fn write(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
        let to = self.tensor(tensor)?.f_mut();
        ensure!(values.len() <= to.len(), "{tensor} holds {} values, not {}", to.len(), values.len());
        to.iter_mut().zip(values).for_each(|(to, &v)| *to = T::of(v.into()));
        Ok(())
    }

    fn write_words(&mut self, tensor: &str, first: usize, words: &[u32]) -> Result<()> {
        let to = self.tensor(tensor)?.u_mut();
        let end = first + words.len();
        ensure!(end <= to.len(), "{tensor} holds {} words, not {end}", to.len());
        // On all cores for the sake of a whole set's pictures, whose pages the system makes as they are first written.
        to[first..end].par_chunks_mut(PART).zip(words.par_chunks(PART)).for_each(|(to, words)| to.copy_from_slice(words));
        Ok(())
    }

    fn read(&mut self, tensor: &str) -> Result<Vec<f32>> {
        Ok(self.tensor(tensor)?.f().iter().map(|v| v.f64() as f32).collect())
    }

    fn play(&mut self, plan: PlanId, steps: &[Step]) -> Result<()> {
        for step in steps {
            for dispatch in 0..self.program.plans[plan.0].dispatches.len() {
                self.call(plan, dispatch, step);
            }
        }
        Ok(())
    }

    fn program(&self) -> &Program {
        &self.program
    }

    fn time(&mut self, plan: PlanId, steps: &[Step]) -> Result<Timing> {
        let mut played = Vec::with_capacity(steps.len());
        for step in steps {
            let zero = Instant::now();
            let now = || zero.elapsed().as_secs_f64();
            let mut spans = Vec::new();
            for dispatch in 0..self.program.plans[plan.0].dispatches.len() {
                let start = now();
                self.call(plan, dispatch, step);
                spans.push(Span { start, end: now() });
            }
            played.push(spans);
        }
        Ok(Timing { clock: Clock::Twins, steps: played })
    }
}
