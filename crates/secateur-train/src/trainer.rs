//! Training a model, and cutting it meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn_autodiff::Autodiff;
use burn_backend::TensorMetadata;
use burn_backend::backend::AutodiffBackend;
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::{Device, FloatTensor};
use secateur::graph::{ParamId, ValueId};
use secateur::group::Keeps;
use secateur::tensor::{Keep, TensorView};
use secateur::{Model, Saved};
use tempfile::TempDir;

use crate::attribution::Batch;
use crate::loss::{Loss, hits};
use crate::mix::Mixing;
use crate::optimizer::{Optimizer, Rate};
use crate::program::Schedule;
use crate::teacher::Teacher;
use crate::{Context, Engine, Error, Program, Result, Slot, Value};

/// How a model is trained.
#[derive(Clone)]
pub struct TrainOptions {
    /// What is made small.
    pub loss: Loss,
    /// How parameters move.
    pub optimizer: Optimizer,
    /// What is taken from weights in every step, times the learning rate; of tensors of two axes or
    /// more.
    pub decay: f64,
    /// The largest norm that all gradients have together; longer ones are scaled down.
    pub clip: Option<f64>,
    /// What is random depends on this and on the number of the step.
    pub seed: u64,
    /// Whether cuts lower the rates of dropouts, so that about as many units stay active as before.
    pub scale_dropout: bool,
    /// Parameters that stay as they are: whether one does, by name.
    pub frozen: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl std::fmt::Debug for TrainOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { loss, optimizer, decay, clip, seed, scale_dropout, frozen: _ } = self;
        write!(f, "{loss:?} {optimizer:?} decay {decay} clip {clip:?} seed {seed}")?;
        write!(f, " scale dropout {scale_dropout}")
    }
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            loss: Loss::CrossEntropy { smoothing: 0.0 },
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false },
            decay: 0.0,
            clip: None,
            seed: 0,
            scale_dropout: false,
            frozen: Arc::new(|_| false),
        }
    }
}

/// What one step or one batch of an evaluation told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The mean loss.
    pub loss: f64,
    /// Rows with the right class on top, and rows; zero where targets are no classes.
    pub hits: (usize, usize),
}

/// Gradients by parameter; `None` where the loss does not depend on one.
pub type Gradients<B> = Vec<Option<FloatTensor<B>>>;

/// A stored tensor that is trained.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its position among the program's stored tensors.
    pub stored: usize,
    /// What the core calls it; more than one where its uses may be cut apart.
    pub ids: Vec<ParamId>,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer<B: Engine> {
    model: Model,
    /// Where the model's file is, once it was cut.
    _folder: Option<TempDir>,
    program: Program,
    schedule: Schedule,
    parameters: Vec<Parameter>,
    values: Vec<Value<B>>,
    state: BTreeMap<usize, Vec<FloatTensor<B>>>,
    /// What the rates of dropouts are multiplied with, in order.
    dropouts: Vec<f64>,
    options: TrainOptions,
    teacher: Option<Teacher<B>>,
    steps: u64,
    device: Device<B>,
}

impl<B: Engine> Trainer<B> {
    /// Trains a model on a device.
    ///
    /// # Errors
    /// When it has operators that cannot be run.
    pub fn new(model: Model, options: TrainOptions, device: &Device<B>) -> Result<Self> {
        let program = Program::new(&model)?;
        let values = program.load(device)?;
        let mut trainer = Trainer {
            schedule: whole(&program, [])?,
            dropouts: vec![1.0; program.dropouts().count()],
            parameters: Vec::new(),
            teacher: None,
            state: BTreeMap::new(),
            device: device.clone(),
            _folder: None,
            steps: 0,
            model,
            program,
            values,
            options,
        };
        trainer.parameters = trainer.find_parameters();
        Ok(trainer)
    }

    /// The model alone.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// Learns from a teacher, too.
    ///
    /// # Errors
    /// When the model has no value of a name that is asked for.
    pub fn learn_from(&mut self, teacher: Teacher<B>) -> Result<()> {
        self.teacher = Some(teacher);
        self.schedule = whole(&self.program, self.features())?;
        Ok(())
    }

    /// The values that are compared with the teacher's.
    fn features(&self) -> impl Iterator<Item = &str> {
        self.teacher.iter().flat_map(Teacher::features)
    }

    /// The model as it was read or last cut; its file holds the weights of that time.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The program that runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What is trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The present stored tensors.
    pub fn values(&self) -> &[Value<B>] {
        &self.values
    }

    /// Puts other tensors of the same shapes in place of all stored ones, and returns those.
    pub(crate) fn replace_values(&mut self, values: Vec<Value<B>>) -> Vec<Value<B>> {
        std::mem::replace(&mut self.values, values)
    }

    /// How it is trained.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Where it runs.
    pub fn device(&self) -> &Device<B> {
        &self.device
    }

    /// The number of steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Puts numbers in stored tensors, by name.
    ///
    /// # Errors
    /// When a shape differs.
    pub fn set_values(&mut self, mut values: BTreeMap<String, Value<B>>) -> Result<()> {
        for (stored, tensor) in self.program.stored.iter().enumerate() {
            let Some(value) = values.remove(&tensor.name) else { continue };
            if value.shape() != tensor.view.dims {
                let (name, found, expected) = (&tensor.name, value.shape(), &tensor.view.dims);
                let text = format!("`{name}` has shape {found:?} in place of {expected:?}");
                return Err(Error::argument(text));
            }
            self.values[stored] = value;
        }
        Ok(())
    }

    /// What cuts have multiplied the rates of dropouts with, in order.
    pub fn dropouts(&self) -> &[f64] {
        &self.dropouts
    }

    /// Goes on from the number of steps, the factors of dropouts and the optimizer's state of another
    /// run, by name of the parameter.
    pub fn restore(
        &mut self,
        steps: u64,
        dropouts: Vec<f64>,
        mut state: BTreeMap<String, Vec<FloatTensor<B>>>,
    ) {
        self.steps = steps;
        self.program.scale_dropouts(&dropouts);
        self.dropouts = dropouts;
        let of = |parameter: &Parameter| {
            let name = &self.program.stored[parameter.stored].name;
            Some((parameter.stored, state.remove(name)?))
        };
        self.state = self.parameters.iter().filter_map(of).collect();
    }

    /// The optimizer's state by name of the parameter.
    pub fn state(&self) -> impl Iterator<Item = (&str, &[FloatTensor<B>])> {
        let name = |stored: usize| self.program.stored[stored].name.as_str();
        self.state.iter().map(move |(&stored, state)| (name(stored), state.as_slice()))
    }

    /// What the core calls stored tensors, by name: more than one where uses may be cut apart.
    pub fn ids(&self) -> BTreeMap<String, Vec<ParamId>> {
        let mut ids: BTreeMap<String, Vec<ParamId>> = BTreeMap::new();
        for id in self.model.graph().param_ids() {
            if let Some(name) = self.model.tensor_name(id) {
                ids.entry(name).or_default().push(id);
            }
        }
        ids
    }

    /// Real numbers that nodes compute with and that no batch moves: weights, biases, tables.
    fn find_parameters(&self) -> Vec<Parameter> {
        let mut ids = self.ids();
        let moved = self.program.statistics();
        let parameter = |(stored, tensor): (usize, &crate::Stored)| {
            let ids = ids.remove(&tensor.name)?;
            let trained = tensor.view.dtype.is_float()
                && tensor.view.dims.iter().product::<usize>() > 1
                && !moved.contains(&tensor.slot)
                && !(self.options.frozen)(&tensor.name);
            trained.then_some(Parameter { stored, ids })
        };
        self.program.stored.iter().enumerate().filter_map(parameter).collect()
    }

    /// One step on a batch, at a learning rate.
    ///
    /// # Errors
    /// When the batch does not fit the model, or the loss is no number any more.
    pub fn step(&mut self, (inputs, target): Batch<B>, rate: f64) -> Result<Outcome> {
        self.step_weighted(inputs, vec![(1.0, target)], rate)
    }

    /// One step on a batch whose samples are mixed in pairs.
    ///
    /// # Errors
    /// As [`Trainer::step`], and when samples cannot be mixed.
    pub fn step_mixed(
        &mut self,
        (inputs, target): Batch<B>,
        mixing: Mixing,
        rate: f64,
    ) -> Result<Outcome> {
        let mut inputs = self.fit_inputs(inputs);
        let shape = inputs.first().map(Value::shape).unwrap_or_default();
        let pairing = mixing.draw(self.options.seed, self.steps, &shape)?;
        inputs = inputs.into_iter().map(|input| pairing.mix(input)).collect::<Result<_>>()?;
        self.step_weighted(inputs, pairing.targets(target)?, rate)
    }

    fn step_weighted(
        &mut self,
        inputs: Vec<Value<B>>,
        targets: Vec<(f64, Value<B>)>,
        rate: f64,
    ) -> Result<Outcome> {
        if self.parameters.is_empty() {
            return Err(Error::unsupported("the model has no parameter that can be trained"));
        }
        let (mut grads, outcome) = self.gradients_weighted(inputs, targets, Mode::Train)?;
        if let Some(most) = self.options.clip {
            clip::<B>(&mut grads, most)?;
        }
        self.steps += 1;
        for (parameter, grad) in self.parameters.iter().zip(grads) {
            let Some(grad) = grad else { continue };
            // Taken out, so that it is moved in place.
            let none = Value::of_bools(Vec::new(), vec![0], &self.device);
            let value = std::mem::replace(&mut self.values[parameter.stored], none).float()?;
            let decay = if value.shape().num_dims() < 2 { 0.0 } else { self.options.decay };
            let state = self.state.entry(parameter.stored).or_default();
            let rate = Rate { rate, decay };
            let new = self.options.optimizer.step::<B>(value, grad, state, rate, self.steps);
            self.values[parameter.stored] = Value::Float(new);
        }
        Ok(outcome)
    }

    /// Inputs as the model takes them: as many elements per sample in another shape get its shape, and
    /// integers become real numbers where it asks for these.
    pub(crate) fn fit_inputs(&self, inputs: Vec<Value<B>>) -> Vec<Value<B>> {
        let graph = self.model.graph();
        if inputs.len() != graph.inputs.len() {
            // Running refuses them.
            return inputs;
        }
        let fit = |(value, &id): (Value<B>, &ValueId)| {
            let input = graph.value(id);
            let value = match (input.dtype, value) {
                (Some(dtype), Value::Int(ints)) if dtype.is_float() => {
                    Value::Float(Value::<B>::Int(ints).to_float())
                }
                (_, value) => value,
            };
            let (shape, expected) = (value.shape(), graph.shape(id));
            let Some(&samples) = shape.first().filter(|_| shape.len() != expected.len()) else {
                return value;
            };
            let wanted: Vec<usize> = expected.iter().skip(1).map(|extent| extent.size).collect();
            match wanted.iter().product::<usize>() == shape[1..].iter().product::<usize>() {
                true if !expected.is_empty() => value.reshape([vec![samples], wanted].concat()),
                _ => value,
            }
        };
        inputs.into_iter().zip(&graph.inputs).map(fit).collect()
    }

    /// The gradients of the loss. In training, running statistics move.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradients(
        &mut self,
        (inputs, target): Batch<B>,
        mode: Mode,
    ) -> Result<(Gradients<B>, Outcome)> {
        self.gradients_weighted(inputs, vec![(1.0, target)], mode)
    }

    /// The same for targets that count by these parts.
    fn gradients_weighted(
        &mut self,
        inputs: Vec<Value<B>>,
        targets: Vec<(f64, Value<B>)>,
        mode: Mode,
    ) -> Result<(Gradients<B>, Outcome)> {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        B::seed(&self.device, self.options.seed ^ (self.steps + 1).wrapping_mul(GOLDEN));
        let mut leaves: Vec<Value<Autodiff<B>>> = self.values.iter().cloned().map(lift).collect();
        for parameter in &self.parameters {
            if let Value::Float(leaf) = &mut leaves[parameter.stored] {
                *leaf = leaf.clone().require_grad();
            }
        }
        let inputs = self.fit_inputs(inputs);
        let taught = self.teacher.as_ref().map(|teacher| teacher.run(inputs.clone(), &self.device));
        let inputs = inputs.into_iter().map(lift).collect();
        let mut memory = self.program.memory(&leaves, inputs)?;
        let mut cx = Context::<Autodiff<B>>::new(self.device.clone());
        cx.training = mode == Mode::Train;
        let outputs = self.program.run(&self.schedule, &mut memory, &mut cx)?;
        drop(memory);
        let output = first(outputs.clone())?;
        let mut loss = self.loss(&output, &targets)?;
        if let (Some(teacher), Some(taught)) = (&self.teacher, taught) {
            loss = teacher.loss(loss, &outputs, taught?)?;
        }
        drop(outputs);
        let most = targets.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let target = most.ok_or_else(|| Error::argument("a batch without targets"))?.1;
        let hits = self.hits(lower(output), target)?;
        let number = number::<Autodiff<B>>(loss.clone())?;
        if !number.is_finite() {
            let text = format!("the loss is {number} in step {}", self.steps + 1);
            return Err(Error::argument(text).hint(
                "lower the learning rate, clip gradients, or look for bad numbers in the data",
            ));
        }
        let mut grads = Autodiff::<B>::backward(loss);
        let grad = |parameter: &Parameter| match &leaves[parameter.stored] {
            Value::Float(leaf) => Autodiff::<B>::grad_remove(leaf, &mut grads),
            _ => None,
        };
        let grads: Vec<Option<FloatTensor<B>>> = self.parameters.iter().map(grad).collect();
        if grads.iter().all(Option::is_none) {
            return Err(self.no_gradient());
        }
        let updates = cx.updates.into_iter().map(|(slot, value)| (slot, lower(value)));
        self.move_statistics(updates.collect())?;
        Ok((grads, Outcome { loss: number, hits }))
    }

    fn loss(
        &self,
        output: &Value<Autodiff<B>>,
        targets: &[(f64, Value<B>)],
    ) -> Result<FloatTensor<Autodiff<B>>> {
        let mut sum = None;
        for (part, target) in targets {
            let mut loss = self.options.loss.apply(output.clone(), lift(target.clone()))?;
            if *part != 1.0 {
                loss = Autodiff::<B>::float_mul_scalar(loss, (*part).into());
            }
            sum = Some(match sum {
                None => loss,
                Some(sum) => Autodiff::<B>::float_add(sum, loss),
            });
        }
        sum.ok_or_else(|| Error::argument("a batch without targets"))
    }

    /// Says what on the way from the loss has no gradient.
    fn no_gradient(&self) -> Error {
        let error = Error::unsupported("the loss does not depend on any parameter");
        let mut behind = vec![false; self.program.slots()];
        self.program.body.outputs.iter().take(1).for_each(|slot| behind[slot.index()] = true);
        for step in self.program.body.steps.iter().rev() {
            if !step.outputs.iter().flatten().any(|slot| behind[slot.index()]) {
                continue;
            }
            if step.op.is_counted() {
                let (name, kind) = (&step.name, &step.kind);
                return error.hint(format!(
                    "node `{name}` ({kind}) has no gradient: train a model without it"
                ));
            }
            step.inputs.iter().flatten().for_each(|slot| behind[slot.index()] = true);
        }
        error
    }

    /// Loss and hits on a batch, without training.
    ///
    /// # Errors
    /// When the batch does not fit the model.
    pub fn evaluate(&self, (inputs, target): Batch<B>) -> Result<Outcome> {
        let mut memory = self.program.memory(&self.values, self.fit_inputs(inputs))?;
        let mut cx = Context::<B>::new(self.device.clone());
        let output = first(self.program.run(&self.schedule, &mut memory, &mut cx)?)?;
        let loss = self.options.loss.apply(output.clone(), target.clone())?;
        let loss = number::<B>(loss)?;
        Ok(Outcome { loss, hits: self.hits(output, target)? })
    }

    /// Takes running statistics anew, as the means over batches, and keeps everything else: what
    /// pruning changes in front of a batch norm, its statistics follow.
    ///
    /// # Errors
    /// When a batch does not fit the model.
    pub fn recalibrate(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<Vec<Value<B>>>>,
    ) -> Result<()> {
        for (count, inputs) in (1..).zip(batches) {
            let inputs = self.fit_inputs(inputs?);
            let mut memory = self.program.memory(&self.values, inputs)?;
            let mut cx = Context::<B>::new(self.device.clone());
            cx.training = true;
            cx.drops = false;
            cx.momentum = Some(1.0 - 1.0 / f64::from(count));
            self.program.run(&self.schedule, &mut memory, &mut cx)?;
            self.move_statistics(cx.updates)?;
        }
        Ok(())
    }

    fn move_statistics(&mut self, updates: Vec<(Slot, Value<B>)>) -> Result<()> {
        for (slot, value) in updates {
            let stored = self.program.stored.iter().position(|stored| stored.slot == slot);
            let stored = stored.ok_or_else(|| {
                let name = &self.program.names[slot.index()];
                Error::unsupported(format!("the running statistics `{name}` are no stored tensor"))
                    .hint("exporters store equal tensors once: export the model in training mode")
            })?;
            self.values[stored] = value;
        }
        Ok(())
    }

    fn hits(&self, output: Value<B>, target: Value<B>) -> Result<(usize, usize)> {
        match self.options.loss {
            Loss::CrossEntropy { .. } => hits(output, target),
            _ => Ok((0, 0)),
        }
    }

    /// The present elements of a parameter, in the type that the file stores.
    ///
    /// # Errors
    /// When the device does not give them.
    pub fn view(&self, stored: usize) -> Result<TensorView> {
        let old = &self.program.stored[stored].view;
        let numbers = self.values[stored].clone().to_floats()?;
        let view = TensorView::from_f32s(old.dtype, old.dims.clone(), &numbers);
        view.ok_or_else(|| Error::unsupported(format!("weights of type {}", old.dtype)))?
    }

    /// Writes the model with its present weights.
    ///
    /// # Errors
    /// When the file cannot be written; then it is as it was.
    pub fn save(&self, out: &Path) -> Result<Saved> {
        let ids = self.ids();
        let mut elements = BTreeMap::new();
        for (stored, tensor) in self.program.stored.iter().enumerate() {
            let id = ids.get(&tensor.name).and_then(|ids| ids.first());
            if let (Some(&id), Value::Float(_)) = (id, &self.values[stored]) {
                elements.insert(id, self.view(stored)?);
            }
        }
        self.model.write_filled(&elements, out, &mut |_| ())
    }

    /// Cuts the model to what is kept, with its weights, running statistics and the optimizer's
    /// state.
    ///
    /// # Errors
    /// When the model cannot be cut so.
    pub fn cut(&mut self, keeps: &Keeps) -> Result<()> {
        let folder =
            tempfile::tempdir().map_err(|error| Error::io(&std::env::temp_dir(), error))?;
        let name = self.model.path().file_name().unwrap_or_default().to_owned();
        let (filled, pruned) = (folder.path().join("filled"), folder.path().join(name));
        self.save(&filled)?;
        let hints = self.model.id().shapes;
        Model::open(&filled, &hints)?.write_pruned(keeps, &pruned, &mut |_| ())?;
        let model = Model::open(&pruned, &hints)?;
        let kept = self.kept(keeps, &model)?;
        let mut program = Program::new(&model)?;
        let mut values = program.load(&self.device)?;
        let mut state = BTreeMap::new();
        for (stored, tensor) in program.stored.iter().enumerate() {
            let Some(&(old, ref keep)) = kept.get(&tensor.name) else { continue };
            let value = cut(self.values[old].clone(), keep, &self.device)?;
            if value.shape() != tensor.view.dims {
                let text = format!("`{}` has an unexpected shape after the cut", tensor.name);
                return Err(Error::malformed(text));
            }
            values[stored] = value;
            if let Some(tensors) = self.state.get(&old) {
                let tensors = tensors.iter().cloned();
                let tensors =
                    tensors.map(|t| cut(Value::<B>::Float(t), keep, &self.device)?.float());
                state.insert(stored, tensors.collect::<Result<_>>()?);
            }
        }
        if self.options.scale_dropout {
            let left = self.left(&model);
            self.dropouts.iter_mut().zip(left).for_each(|(factor, left)| *factor *= left);
        }
        program.scale_dropouts(&self.dropouts);
        self.schedule = whole(&program, self.features())?;
        (self.model, self.program, self.values, self.state) = (model, program, values, state);
        self._folder = Some(folder);
        self.parameters = self.find_parameters();
        Ok(())
    }

    /// By name, which stored tensor one of the cut model comes from, and what is kept of that. Where
    /// uses of one tensor are cut apart, several come from it.
    fn kept(&self, keeps: &Keeps, cut: &Model) -> Result<BTreeMap<String, (usize, Keep)>> {
        let changes = self.model.changes(keeps)?;
        let (graph, other) = (self.model.graph(), cut.graph());
        let stored = self.program.stored.iter().enumerate();
        let stored: BTreeMap<&str, usize> = stored.map(|(at, s)| (s.name.as_str(), at)).collect();
        let mut kept = BTreeMap::new();
        for (old, new) in graph.param_ids().zip(other.param_ids()) {
            let names = (self.model.tensor_name(old), cut.tensor_name(new));
            let (Some(from), Some(to)) = names else { continue };
            let Some(&at) = stored.get(from.as_str()) else { continue };
            let whole = || vec![None; self.program.stored[at].view.dims.len()];
            kept.insert(to, (at, changes.params.get(&old).cloned().unwrap_or_else(whole)));
        }
        Ok(kept)
    }

    /// The part of what every dropout is given that a cut model has left.
    fn left(&self, cut: &Model) -> Vec<f64> {
        let sizes = |model: &Model| -> Vec<usize> {
            let graph = model.graph();
            let size = |slot: Slot| {
                let name = &self.program.names[slot.index()];
                let value = graph.values.iter().find(|value| value.name == *name)?;
                Some(value.shape.as_ref()?.iter().map(|extent| extent.size).product())
            };
            self.program.dropouts().map(|slot| size(slot).unwrap_or(1)).collect()
        };
        let sizes = sizes(cut).into_iter().zip(sizes(&self.model));
        sizes.map(|(now, before)| now as f64 / before.max(1) as f64).collect()
    }
}

/// Whether batch statistics are taken and units dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    Train,
    /// They are not.
    Evaluate,
}

/// All steps to the first output and to named values.
pub(crate) fn whole<'a>(
    program: &Program,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Schedule> {
    let stored = program.stored.iter().map(|stored| stored.slot);
    let given: Vec<Slot> = stored.chain(program.inputs.iter().copied()).collect();
    let output = program.body.outputs.first().copied();
    let mut wanted = vec![output.ok_or_else(|| Error::unsupported("the model returns nothing"))?];
    for name in names {
        let found = program.find(name);
        wanted.push(found.ok_or_else(|| {
            Error::argument(format!("there is no value `{name}`"))
                .hint("`secateur inspect` lists the nodes; values are named after their results")
        })?);
    }
    Ok(program.schedule(&given, &wanted))
}

fn first<B: Engine>(outputs: Vec<Value<B>>) -> Result<Value<B>> {
    outputs.into_iter().next().ok_or_else(|| Error::unsupported("the model returns nothing"))
}

/// The one number of a tensor.
fn number<B: Engine>(x: FloatTensor<B>) -> Result<f64> {
    let numbers = Value::<B>::Float(x).to_floats()?;
    Ok(numbers.first().map_or(f64::NAN, |&number| number.into()))
}

/// A value on the backend that records gradients.
pub(crate) fn lift<B: Engine>(value: Value<B>) -> Value<Autodiff<B>> {
    match value {
        Value::Float(t) => Value::Float(Autodiff::<B>::from_inner(t)),
        Value::Int(t) => Value::Int(t),
        Value::Bool(t) => Value::Bool(t),
    }
}

/// A value without its gradient.
pub(crate) fn lower<B: Engine>(value: Value<Autodiff<B>>) -> Value<B> {
    match value {
        Value::Float(t) => Value::Float(Autodiff::<B>::inner(t)),
        Value::Int(t) => Value::Int(t),
        Value::Bool(t) => Value::Bool(t),
    }
}

/// The kept positions of every axis.
pub(crate) fn cut<B: Engine>(value: Value<B>, keep: &Keep, device: &Device<B>) -> Result<Value<B>> {
    let mut value = value;
    for (axis, keep) in keep.iter().enumerate() {
        let Some(keep) = keep else { continue };
        let picks: Vec<i64> = keep.iter().map(|&index| index.into()).collect();
        let count = picks.len();
        let picks = Value::<B>::of_ints(picks, vec![count], device).int()?;
        value = crate::ops::index::select(value, axis, picks);
    }
    Ok(value)
}

/// The stored tensors with what is not kept set to zero.
///
/// # Errors
/// When a size cannot follow.
pub(crate) fn masked<B: Engine>(trainer: &Trainer<B>, keeps: &Keeps) -> Result<Vec<Value<B>>> {
    let (changes, ids) = (trainer.model.changes(keeps)?, trainer.ids());
    let mut values = trainer.values.clone();
    for (value, tensor) in values.iter_mut().zip(&trainer.program.stored) {
        let ids = ids.get(&tensor.name).map(Vec::as_slice).unwrap_or_default();
        for keep in ids.iter().filter_map(|id| changes.params.get(id)) {
            let Value::Float(numbers) = value else { continue };
            let mut numbers = numbers.clone();
            for (axis, keep) in keep.iter().enumerate() {
                let Some(keep) = keep else { continue };
                let mut mask = vec![0.0; tensor.view.dims[axis]];
                keep.iter().for_each(|&at| mask[at as usize] = 1.0);
                let mut shape = vec![1; tensor.view.dims.len()];
                shape[axis] = mask.len();
                let mask = Value::<B>::of_floats(mask, shape, &trainer.device).float()?;
                numbers = B::float_mul(numbers, mask);
            }
            *value = Value::Float(numbers);
        }
    }
    Ok(values)
}

/// Scales gradients down to a norm that they have together.
fn clip<B: Engine>(grads: &mut [Option<FloatTensor<B>>], most: f64) -> Result<()> {
    let mut square = 0.0;
    for grad in grads.iter().flatten() {
        square += number::<B>(B::float_sum(B::float_mul(grad.clone(), grad.clone())))?;
    }
    let norm = square.sqrt();
    if norm <= most {
        return Ok(());
    }
    for grad in grads {
        *grad = grad.take().map(|g| B::float_mul_scalar(g, (most / (norm + 1e-6)).into()));
    }
    Ok(())
}
