//! A model as a list of steps on tensors, and running it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn_backend::tensor::Device;
use secateur::tensor::TensorView;
use secateur::{Error, Model, Result, Source};

use crate::fuse::{self, Fused};
use crate::ops::dropout::Drop;
use crate::ops::elementwise::Dropout;
use crate::ops::{Inputs, Op};
use crate::{Engine, Value};

/// A place that holds one tensor while a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The position in the program's list.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One application of an operator.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node's name (or its first output's, where it has none).
    pub name: String,
    /// The source's operator name.
    pub kind: String,
    /// What it computes.
    pub op: Op,
    /// Operands; `None` for an omitted one. What graphs inside the node read follows its own.
    pub inputs: Vec<Option<Slot>>,
    /// Results; `None` for one that nothing reads.
    pub outputs: Vec<Option<Slot>>,
}

/// Steps in order, and what comes out.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The steps, each after those that it depends on.
    pub steps: Vec<Step>,
    /// What is returned.
    pub outputs: Vec<Slot>,
}

/// A tensor that the file stores.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name in the file.
    pub name: String,
    /// Where it is while the program runs.
    pub slot: Slot,
    /// Its elements, as they are stored.
    pub view: TensorView,
}

/// A model that can run.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The values' names; empty inside compound operators.
    pub names: Vec<String>,
    /// What the user gives.
    pub inputs: Vec<Slot>,
    /// What the file stores.
    pub stored: Vec<Stored>,
    /// The steps.
    pub body: Block,
    /// What several steps compute together, by the position of the last.
    fused: BTreeMap<usize, Fused>,
}

/// What steps need to know besides their operands.
#[derive(Debug)]
pub struct Context<B: Engine> {
    /// Where tensors are made.
    pub device: Device<B>,
    /// Whether batch statistics are taken and units dropped.
    pub training: bool,
    /// Whether units are dropped in training.
    pub drops: bool,
    /// What stays of running statistics in one step, in place of what norms say.
    pub momentum: Option<f64>,
    /// New values of stored tensors that steps ask for: running statistics.
    pub updates: Vec<(Slot, Value<B>)>,
    /// The slots of the present step's operands.
    pub(crate) operands: Vec<Option<Slot>>,
}

impl<B: Engine> Context<B> {
    /// A context for inference.
    pub fn new(device: Device<B>) -> Self {
        Self {
            device,
            training: false,
            drops: true,
            momentum: None,
            updates: Vec::new(),
            operands: Vec::new(),
        }
    }

    /// Says what the stored tensor behind operand `index` is from now on.
    pub(crate) fn update(&mut self, index: usize, value: Value<B>) {
        if let Some(slot) = self.operands.get(index).copied().flatten() {
            self.updates.push((slot, value));
        }
    }
}

/// The steps that lead from given slots to wanted ones, and what can be dropped after each.
#[derive(Clone, Debug)]
pub struct Schedule {
    steps: Vec<Planned>,
    wanted: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Planned {
    /// The position of the step.
    step: usize,
    /// Whether it is done together with steps in front of it.
    fused: bool,
    /// What can be dropped behind it.
    dropped: Vec<Slot>,
}

impl Program {
    /// The program of a model.
    ///
    /// # Errors
    /// When the model has an operator that cannot be run; all of them are named.
    pub fn new(model: &Model) -> Result<Self> {
        let mut program = match model.source() {
            Source::Onnx(file, _) => crate::onnx::compile(file),
            Source::Torch(file, _) => crate::torch::compile(file),
            other => Err(Error::unsupported(format!("running a `{}` model", other.format()))),
        }?;
        program.fused = fuse::find(&program);
        Ok(program)
    }

    /// The number of slots.
    pub fn slots(&self) -> usize {
        self.names.len()
    }

    /// The slot of a named value.
    pub fn find(&self, name: &str) -> Option<Slot> {
        self.names.iter().position(|known| known == name).map(Slot::new)
    }

    /// The slots that hold running statistics, which batches move and gradients do not.
    pub fn statistics(&self) -> Vec<Slot> {
        let norms = self.body.steps.iter().filter(|step| matches!(step.op, Op::BatchNorm(_)));
        norms.flat_map(|step| step.inputs.iter().skip(3).flatten().copied()).collect()
    }

    /// What dropouts are given, in order.
    pub(crate) fn dropouts(&self) -> impl Iterator<Item = Slot> {
        let dropouts =
            self.body.steps.iter().filter(|step| matches!(step.op, Op::Dropout(_) | Op::Drop(_)));
        dropouts.filter_map(|step| step.inputs.first().copied().flatten())
    }

    /// Multiplies the rates of dropouts, in the same order.
    pub(crate) fn scale_dropouts(&mut self, by: &[f64]) {
        let mut by = by.iter();
        for step in &mut self.body.steps {
            let rate = match &mut step.op {
                Op::Dropout(Dropout { scale, .. }) => scale,
                Op::Drop(Drop::Channels(rate) | Drop::Alpha(rate)) => rate,
                _ => continue,
            };
            *rate *= by.next().unwrap_or(&1.0);
        }
    }

    /// The stored tensors, on a device.
    ///
    /// # Errors
    /// When one holds no numbers.
    pub fn load<B: Engine>(&self, device: &Device<B>) -> Result<Vec<Value<B>>> {
        let load = |stored: &Stored| {
            Value::of_view(&stored.view, device).map_err(|error| error.at(&stored.name))
        };
        self.stored.iter().map(load).collect()
    }

    /// The steps that compute `wanted` where `given` are known.
    pub fn schedule(&self, given: &[Slot], wanted: &[Slot]) -> Schedule {
        let mut known = vec![false; self.slots()];
        let mut needed = vec![false; self.slots()];
        given.iter().for_each(|slot| known[slot.index()] = true);
        wanted.iter().for_each(|slot| needed[slot.index()] = true);
        let mut chosen = Vec::new();
        for (index, step) in self.body.steps.iter().enumerate().rev() {
            let is_needed = |slot: &Slot| needed[slot.index()] && !known[slot.index()];
            if !step.outputs.iter().flatten().any(is_needed) {
                continue;
            }
            let is_free = |slot: &Slot| !needed[slot.index()] && !known[slot.index()];
            let fused = self.fused.get(&index).is_some_and(|fused| fused.inner.iter().all(is_free));
            let step = self.step(index, fused);
            step.inputs.iter().flatten().for_each(|slot| needed[slot.index()] = true);
            chosen.push((index, fused));
        }
        let mut kept = vec![false; self.slots()];
        wanted.iter().for_each(|slot| kept[slot.index()] = true);
        let mut steps = Vec::with_capacity(chosen.len());
        for (index, fused) in chosen {
            let step = self.step(index, fused);
            let mut dropped = Vec::new();
            for slot in step.inputs.iter().chain(&step.outputs).flatten() {
                if !std::mem::replace(&mut kept[slot.index()], true) {
                    dropped.push(*slot);
                }
            }
            steps.push(Planned { step: index, fused, dropped });
        }
        steps.reverse();
        Schedule { steps, wanted: wanted.to_vec() }
    }

    /// Whether values change where those in `slots` do, by slot; they themselves do.
    pub fn behind(&self, slots: &[Slot]) -> Vec<bool> {
        let mut behind = vec![false; self.slots()];
        slots.iter().for_each(|slot| behind[slot.index()] = true);
        for step in &self.body.steps {
            if step.inputs.iter().flatten().any(|slot| behind[slot.index()]) {
                step.outputs.iter().flatten().for_each(|slot| behind[slot.index()] = true);
            }
        }
        behind
    }

    /// What a schedule reads that it does not compute.
    pub fn reads(&self, schedule: &Schedule) -> Vec<Slot> {
        let mut made = vec![false; self.slots()];
        let mut read = Vec::new();
        for planned in &schedule.steps {
            let step = self.step(planned.step, planned.fused);
            let new = step.inputs.iter().flatten().filter(|slot| !made[slot.index()]);
            read.extend(new.copied());
            step.outputs.iter().flatten().for_each(|slot| made[slot.index()] = true);
        }
        read.extend(schedule.wanted.iter().filter(|slot| !made[slot.index()]));
        read.sort_unstable();
        read.dedup();
        read
    }

    /// Runs a schedule on what is in `memory`, and returns what is wanted.
    ///
    /// # Errors
    /// When a step cannot be computed; the error names it.
    pub fn run<B: Engine>(
        &self,
        schedule: &Schedule,
        memory: &mut Memory<B>,
        cx: &mut Context<B>,
    ) -> Result<Vec<Value<B>>> {
        self.run_watched(schedule, memory, cx, &mut |_, value| value)
    }

    /// As [`Program::run`]; every value that a step makes goes through `watch`. What is not wanted may not
    /// be made.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_watched<B: Engine>(
        &self,
        schedule: &Schedule,
        memory: &mut Memory<B>,
        cx: &mut Context<B>,
        watch: &mut dyn FnMut(Slot, Value<B>) -> Value<B>,
    ) -> Result<Vec<Value<B>>> {
        for Planned { step, fused, dropped } in &schedule.steps {
            execute(self.step(*step, *fused), memory, dropped, cx, watch)?;
        }
        let get = |slot: &Slot| memory.get(*slot).ok_or_else(|| self.unmade(*slot));
        schedule.wanted.iter().map(get).collect()
    }

    /// All outputs for these inputs.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn forward<B: Engine>(
        &self,
        stored: &[Value<B>],
        inputs: Vec<Value<B>>,
        cx: &mut Context<B>,
    ) -> Result<Vec<Value<B>>> {
        let mut memory = self.memory(stored, inputs)?;
        let schedule = self.schedule(&memory.known(), &self.body.outputs);
        self.run(&schedule, &mut memory, cx)
    }

    /// The memory that holds stored tensors and inputs.
    ///
    /// # Errors
    /// When the number of inputs is wrong.
    pub fn memory<B: Engine>(
        &self,
        stored: &[Value<B>],
        inputs: Vec<Value<B>>,
    ) -> Result<Memory<B>> {
        let (found, expected) = (inputs.len(), self.inputs.len());
        if found != expected {
            return Err(Error::argument(format!("{found} inputs for a model of {expected}")));
        }
        let mut memory = Memory { values: vec![None; self.slots()] };
        for (stored, value) in self.stored.iter().zip(stored) {
            memory.set(stored.slot, value.clone());
        }
        for (&slot, value) in self.inputs.iter().zip(inputs) {
            memory.set(slot, value);
        }
        Ok(memory)
    }

    /// The step at a position, or what is done together with steps in front of it.
    fn step(&self, index: usize, fused: bool) -> &Step {
        let fused = self.fused.get(&index).filter(|_| fused);
        fused.map_or_else(|| &self.body.steps[index], |fused| &fused.step)
    }

    fn unmade(&self, slot: Slot) -> Error {
        Error::malformed(format!("`{}` is read before anything makes it", self.names[slot.index()]))
    }
}

/// The tensors of a run.
#[derive(Clone, Debug)]
pub struct Memory<B: Engine> {
    values: Vec<Option<Value<B>>>,
}

impl<B: Engine> Memory<B> {
    /// What a slot holds.
    pub fn get(&self, slot: Slot) -> Option<Value<B>> {
        self.values.get(slot.index())?.clone()
    }

    /// What a slot held; it holds nothing any more.
    ///
    /// # Errors
    /// When it held nothing.
    pub fn take(&mut self, slot: Slot) -> Result<Value<B>> {
        let held = self.values.get_mut(slot.index()).and_then(Option::take);
        held.ok_or_else(|| Error::malformed("a value that was not computed"))
    }

    /// Puts a tensor in a slot.
    pub fn set(&mut self, slot: Slot, value: Value<B>) {
        if let Some(place) = self.values.get_mut(slot.index()) {
            *place = Some(value);
        }
    }

    /// The slots that hold something.
    pub fn known(&self) -> Vec<Slot> {
        let held = self.values.iter().enumerate().filter(|(_, value)| value.is_some());
        held.map(|(index, _)| Slot::new(index)).collect()
    }
}

/// Runs all steps of a block inside a node.
pub(crate) fn run_block<B: Engine>(
    block: &Block,
    values: HashMap<Slot, Value<B>>,
    slots: usize,
    cx: &mut Context<B>,
) -> Result<Vec<Value<B>>> {
    let mut memory = Memory { values: vec![None; slots] };
    values.into_iter().for_each(|(slot, value)| memory.set(slot, value));
    for step in &block.steps {
        execute(step, &mut memory, &[], cx, &mut |_, value| value)?;
    }
    let unmade = || Error::malformed("a branch returns what it does not make");
    block.outputs.iter().map(|slot| memory.get(*slot).ok_or_else(unmade)).collect()
}

thread_local! {
    /// Whether this thread is inside of a step.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics inside of steps, which become errors, from being printed. For programs that are
/// the only one to set a panic hook.
pub fn silence_refusals() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !INSIDE.get() {
            usual(info);
        }
    }));
}

fn execute<B: Engine>(
    step: &Step,
    memory: &mut Memory<B>,
    dropped: &[Slot],
    cx: &mut Context<B>,
    watch: &mut dyn FnMut(Slot, Value<B>) -> Value<B>,
) -> Result<()> {
    let mut values = Vec::with_capacity(step.inputs.len());
    for slot in &step.inputs {
        values.push(match slot {
            None => None,
            Some(slot) => {
                let value = memory.get(*slot);
                let unmade = || Error::malformed("an operand is not there yet").at(&step.name);
                Some(value.ok_or_else(unmade)?)
            }
        });
    }
    // An operand that nothing else reads can be computed in place.
    dropped.iter().for_each(|slot| memory.values[slot.index()] = None);
    cx.operands.clone_from(&step.inputs);
    let run = AssertUnwindSafe(|| step.op.run(cx, Inputs::new(values)));
    INSIDE.set(true);
    let results = catch_unwind(run);
    INSIDE.set(false);
    let results = match results {
        Ok(results) => results,
        Err(panic) => Err(Error::unsupported(reason(&*panic))),
    };
    let results =
        results.map_err(|error| error.at(format!("node `{}` ({})", step.name, step.kind)))?;
    for (slot, value) in step.outputs.iter().zip(results) {
        if let Some(slot) = slot
            && !dropped.contains(slot)
        {
            memory.set(*slot, watch(*slot, value));
        }
    }
    Ok(())
}

/// What a backend said when it refused.
fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the backend refuses: {}", text.unwrap_or("no reason given"))
}

/// What is said of operators that cannot be run, with the reason for each.
pub(crate) fn refusal(refused: &BTreeMap<String, String>) -> Result<()> {
    let Some((operator, why)) = refused.first_key_value() else { return Ok(()) };
    let each = refused.iter().map(|(operator, why)| format!("`{operator}` ({why})"));
    let text = match refused.len() {
        1 => format!("the operator `{operator}` cannot be run: {why}"),
        _ => format!("operators that cannot be run: {}", each.collect::<Vec<_>>().join(", ")),
    };
    Err(Error::unsupported(text))
}
