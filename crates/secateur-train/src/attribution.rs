//! How much every unit of a group matters, measured on data: the attributions of Ancona, Öztireli
//! and Gross, "Shapley Value as Principled Metric for Structured Network Pruning", 2020
//! (arXiv:2006.01795). In all of them a larger score means a unit that matters more.

use burn_autodiff::Autodiff;
use burn_backend::TensorMetadata;
use burn_backend::backend::AutodiffBackend;
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use secateur::criterion::Scores;
use secateur::group::{Group, GroupId};

use crate::point::{Finder, On, Point};
use crate::trainer::{Trainer, lift};
use crate::value::{FLOAT, bool_dtype};
use crate::{Context, Engine, Error, Result, Slot, Value};

/// What is measured, of the activation `a` of a unit and the loss `L` of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attribution {
    /// Uniform numbers.
    Random,
    /// The share of samples and positions where `a > 0`: one minus the average percentage of zeros
    /// (Hu et al., 2016).
    Apoz,
    /// `|∂L/∂a|`, summed over positions (Mittal et al., 2018).
    Sensitivity,
    /// `|a · ∂L/∂a|`, with the sum over positions inside (Molchanov et al., 2017).
    Taylor,
    /// `−a · ∂L/∂a`, summed over positions: positive where removing the unit raises the loss.
    SignedTaylor,
    /// `√Σ a²`, over positions (after Wanda: Sun et al., 2023).
    Norm,
    /// The sum of the absolute weights that make the unit (Li et al., 2017).
    WeightNorm,
    /// How much the loss rises when the unit is set to zero after those that precede it in a random
    /// order; the mean over so many orders.
    Shapley(usize),
}

impl Attribution {
    /// All that have a name of their own in flags: random numbers are a criterion, too.
    pub const ALL: [Attribution; 7] = [
        Attribution::Shapley(5),
        Attribution::Taylor,
        Attribution::SignedTaylor,
        Attribution::Sensitivity,
        Attribution::Apoz,
        Attribution::Norm,
        Attribution::WeightNorm,
    ];

    /// The name in flags.
    pub fn name(self) -> &'static str {
        match self {
            Attribution::Random => "random",
            Attribution::Apoz => "apoz",
            Attribution::Sensitivity => "sensitivity",
            Attribution::Taylor => "taylor-activation",
            Attribution::SignedTaylor => "taylor-signed",
            Attribution::Norm => "activation-norm",
            Attribution::WeightNorm => "weight-norm",
            Attribution::Shapley(_) => "shapley",
        }
    }

    /// One line for `--help`.
    pub fn about(self) -> &'static str {
        match self {
            Attribution::Random => "uniform numbers",
            Attribution::Apoz => "share of positive activations (Hu et al. 2016)",
            Attribution::Sensitivity => "gradients of activations (Mittal et al. 2018)",
            Attribution::Taylor => "first-order change of the loss without a unit (Molchanov 2017)",
            Attribution::SignedTaylor => "the same with its sign: what lowers the loss goes first",
            Attribution::Norm => "norm of activations (after Wanda, Sun et al. 2023)",
            Attribution::WeightNorm => "sum of the weights that make a unit (Li et al. 2017)",
            Attribution::Shapley(_) => "mean change of the loss over orders (Ancona et al. 2020)",
        }
    }

    /// The attribution of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().chain([Attribution::Random]);
        all.find(|method| method.name() == name)
    }

    /// The same with so many orders, where orders are drawn.
    #[must_use]
    pub fn with_samples(self, samples: usize) -> Self {
        match self {
            Attribution::Shapley(_) => Attribution::Shapley(samples.max(1)),
            other => other,
        }
    }

    /// Whether it is measured on data.
    pub fn needs_data(self) -> bool {
        !matches!(self, Attribution::Random | Attribution::WeightNorm)
    }

    fn needs_gradient(self) -> bool {
        use Attribution::{Sensitivity, SignedTaylor, Taylor};
        matches!(self, Sensitivity | Taylor | SignedTaylor)
    }
}

/// How the scores of samples become one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Reduction {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their mean and so many standard deviations.
    MeanPlus(f64),
}

/// What to measure, and where.
#[derive(Clone, Copy, Debug)]
pub struct AttributionOptions {
    /// What is measured.
    pub method: Attribution,
    /// Where.
    pub on: On,
    /// How samples become one score.
    pub reduction: Reduction,
    /// For random numbers and orders.
    pub seed: u64,
}

impl Default for AttributionOptions {
    fn default() -> Self {
        AttributionOptions {
            method: Attribution::Shapley(5),
            on: On::Output,
            reduction: Reduction::Mean,
            seed: 0,
        }
    }
}

/// Sums over samples, of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    count: usize,
    sum: Vec<f64>,
    square: Vec<f64>,
}

impl Sums {
    /// Adds scores by sample and unit.
    pub(crate) fn add(&mut self, scores: &[f64], units: usize) {
        self.sum.resize(units, 0.0);
        self.square.resize(units, 0.0);
        for row in scores.chunks(units) {
            self.count += 1;
            for (unit, score) in row.iter().enumerate() {
                self.sum[unit] += score;
                self.square[unit] += score * score;
            }
        }
    }

    fn reduce(&self, reduction: Reduction) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        let one = |(sum, square): (&f64, &f64)| match reduction {
            Reduction::Sum => *sum,
            Reduction::Mean => sum / count,
            Reduction::MeanPlus(times) => {
                let mean = sum / count;
                let variance = (square - sum * mean).max(0.0) / (count - 1.0).max(1.0);
                mean + times * variance.sqrt()
            }
        };
        self.sum.iter().zip(&self.square).map(one).collect()
    }
}

/// A batch of inputs and targets.
pub type Batch<B> = (Vec<Value<B>>, Value<B>);

/// Scores the units of groups on batches; of all groups where none are given. A group that no value
/// shows has no scores.
///
/// # Errors
/// When a batch does not fit the model, or there is none.
pub fn attribute<B: Engine>(
    trainer: &Trainer<B>,
    batches: &mut dyn Iterator<Item = Result<Batch<B>>>,
    only: Option<&[GroupId]>,
    options: &AttributionOptions,
) -> Result<Scores> {
    let groups = trainer.model().groups();
    let wanted = |id: GroupId| only.is_none_or(|only| only.contains(&id));
    let finder = Finder::new(trainer.model(), trainer.program(), options.on);
    let mut targets = Vec::new();
    for (id, group) in groups.iter().filter(|(id, _)| wanted(*id)) {
        let points = finder.points(group);
        if !points.is_empty() || options.method == Attribution::Random {
            targets.push(Target { id, group, points, sums: Sums::default() });
        }
    }
    match options.method {
        Attribution::Random => noise(&mut targets, options.seed),
        Attribution::WeightNorm => weight_norms(trainer, &mut targets)?,
        _ => {
            let mut seen = false;
            for batch in batches {
                seen = true;
                measure(trainer, batch?, &mut targets, options)?;
            }
            if !seen {
                return Err(Error::argument("there is no data to measure on").hint("give `--data`"));
            }
        }
    }
    let mut scores = vec![None; groups.len()];
    for target in targets {
        scores[target.id.index()] = Some(target.sums.reduce(options.reduction));
    }
    Ok(Scores::new(scores, "no value of the program shows its units"))
}

/// A group that is scored.
pub(crate) struct Target<'a> {
    pub(crate) id: GroupId,
    pub(crate) group: &'a Group,
    pub(crate) points: Vec<Point>,
    pub(crate) sums: Sums,
}

fn noise(targets: &mut [Target<'_>], seed: u64) {
    for target in targets {
        let mut random = fastrand::Rng::with_seed(seed ^ (target.id.index() as u64 + 1));
        let scores: Vec<f64> = (0..target.group.size).map(|_| random.f64()).collect();
        target.sums.add(&scores, scores.len());
    }
}

/// Sums of the absolute weights of producers, by the positions of every unit.
fn weight_norms<B: Engine>(trainer: &Trainer<B>, targets: &mut [Target<'_>]) -> Result<()> {
    use secateur::group::Role;
    let (model, program) = (trainer.model(), trainer.program());
    for target in targets {
        let mut scores = vec![0.0; target.group.size];
        let made = target.group.slices.iter().filter(|slice| slice.role == Role::Producer);
        for slice in made.filter(|slice| model.graph().param(slice.param).shape.len() > 1) {
            let name = model.tensor_name(slice.param).unwrap_or_default();
            let stored = program.stored.iter().position(|stored| stored.name == name);
            let Some(stored) = stored else { continue };
            let weight = B::float_abs(trainer.values()[stored].clone().float()?);
            let sums = along::<B>(weight, slice.axis).to_floats()?;
            let tree = &model.groups().trees(slice.param)[slice.axis];
            tree.visit_positions(target.group.atom, 0, &mut |at, unit| {
                scores[unit as usize] += f64::from(sums[at]);
            });
        }
        target.sums.add(&scores, scores.len());
    }
    Ok(())
}

/// Sums over all axes but one.
fn along<B: Engine>(x: FloatTensor<B>, axis: usize) -> Value<B> {
    let size = x.shape()[axis];
    let axes: Vec<usize> = (0..x.shape().num_dims()).filter(|&other| other != axis).collect();
    let sum = axes.iter().fold(x, |x, &axis| B::float_sum_dim(x, axis));
    Value::Float(sum).reshape(vec![size])
}

fn measure<B: Engine>(
    trainer: &Trainer<B>,
    batch: Batch<B>,
    targets: &mut [Target<'_>],
    options: &AttributionOptions,
) -> Result<()> {
    if let Attribution::Shapley(samples) = options.method {
        return crate::shapley::measure(trainer, batch, targets, (samples, options.seed));
    }
    let seen = match options.method.needs_gradient() {
        true => with_gradients(trainer, batch, targets)?,
        false => activations(trainer, batch, targets)?,
    };
    for target in targets {
        let (units, mut total) = (target.group.size, Vec::new());
        for point in &target.points {
            let Some((value, grad)) = seen.get(point.slot) else { continue };
            let scores =
                by_sample::<B>(score::<B>(options.method, value, grad), point, options.method)?;
            total.resize(scores.len(), 0.0);
            total.iter_mut().zip(&scores).for_each(|(total, score)| *total += score);
        }
        let parts = target.points.len().max(1) as f64;
        total.iter_mut().for_each(|score| *score /= parts);
        target.sums.add(&total, units);
    }
    Ok(())
}

/// What was seen at every point: the activation, and the gradient where it was asked for.
struct Seen<B: Engine> {
    values: Vec<(Slot, FloatTensor<B>, Option<FloatTensor<B>>)>,
}

impl<B: Engine> Seen<B> {
    fn get(&self, slot: Slot) -> Option<(FloatTensor<B>, Option<FloatTensor<B>>)> {
        let found = self.values.iter().find(|(other, ..)| *other == slot)?;
        Some((found.1.clone(), found.2.clone()))
    }
}

fn slots(targets: &[Target<'_>]) -> Vec<Slot> {
    let points = targets.iter().flat_map(|target| &target.points);
    let mut slots: Vec<Slot> = points.map(|point| point.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

fn activations<B: Engine>(
    trainer: &Trainer<B>,
    (inputs, _): Batch<B>,
    targets: &[Target<'_>],
) -> Result<Seen<B>> {
    let (program, slots) = (trainer.program(), slots(targets));
    let mut memory = program.memory(trainer.values(), trainer.fit_inputs(inputs))?;
    let schedule = program.schedule(&memory.known(), &slots);
    let mut cx = Context::new(trainer.device().clone());
    let values = program.run(&schedule, &mut memory, &mut cx)?;
    let seen = slots.into_iter().zip(values).map(|(slot, value)| Ok((slot, value.float()?, None)));
    Ok(Seen { values: seen.collect::<Result<_>>()? })
}

/// Runs with a zero added at every point: its gradient is that of the activation.
fn with_gradients<B: Engine>(
    trainer: &Trainer<B>,
    (inputs, target): Batch<B>,
    targets: &[Target<'_>],
) -> Result<Seen<B>> {
    let (program, slots) = (trainer.program(), slots(targets));
    let values: Vec<Value<Autodiff<B>>> = trainer.values().iter().cloned().map(lift).collect();
    let inputs = trainer.fit_inputs(inputs).into_iter().map(lift).collect();
    let mut memory = program.memory(&values, inputs)?;
    let wanted = [&program.body.outputs[..1], &slots].concat();
    let schedule = program.schedule(&memory.known(), &wanted);
    let mut cx = Context::<Autodiff<B>>::new(trainer.device().clone());
    let mut leaves = Vec::new();
    let mut watch = |slot: Slot, value: Value<Autodiff<B>>| match value {
        Value::Float(value) if slots.contains(&slot) => {
            let own = Autodiff::<B>::inner(value.clone());
            let zero = B::float_zeros(own.shape(), trainer.device(), FLOAT);
            let leaf = Autodiff::<B>::from_inner(zero).require_grad();
            leaves.push((slot, own, leaf.clone()));
            Value::Float(Autodiff::<B>::float_add(value, leaf))
        }
        other => other,
    };
    let output = program.run_watched(&schedule, &mut memory, &mut cx, &mut watch)?;
    let output = output.into_iter().next().ok_or_else(|| Error::unsupported("no output"))?;
    let (losses, _) = trainer.options().loss.each(output, lift(target))?;
    let mut grads = Autodiff::<B>::backward(Autodiff::<B>::float_sum(losses));
    let seen = leaves.into_iter().map(|(slot, value, leaf)| {
        let grad = Autodiff::<B>::grad_remove(&leaf, &mut grads);
        (slot, value, grad)
    });
    Ok(Seen { values: seen.collect() })
}

/// The score of every element.
fn score<B: Engine>(
    method: Attribution,
    value: FloatTensor<B>,
    grad: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let grad = |value: &FloatTensor<B>| {
        grad.unwrap_or_else(|| B::float_zeros(value.shape(), &value.device(), FLOAT))
    };
    match method {
        Attribution::Apoz => {
            let dtype = bool_dtype::<B>(&value.device());
            B::bool_into_float(B::float_greater_elem(value, 0.0.into(), dtype), FLOAT)
        }
        Attribution::Sensitivity => B::float_abs(grad(&value)),
        Attribution::Norm => B::float_mul(value.clone(), value),
        _ => {
            let grad = grad(&value);
            B::float_neg(B::float_mul(value, grad))
        }
    }
}

/// Scores by sample and unit: sums over positions, means for shares.
fn by_sample<B: Engine>(
    scores: FloatTensor<B>,
    point: &Point,
    method: Attribution,
) -> Result<Vec<f64>> {
    let shape = scores.shape().to_vec();
    if point.axis == 0 {
        return Err(Error::unsupported("units on the axis of samples"));
    }
    let (samples, width) = (shape[0], shape[point.axis]);
    let axes = (1..shape.len()).filter(|&axis| axis != point.axis);
    let positions: usize = axes.clone().map(|axis| shape[axis]).product();
    let sums = axes.fold(scores, |x, axis| B::float_sum_dim(x, axis));
    let sums = Value::<B>::Float(sums).to_floats()?;
    let mut found = Vec::with_capacity(samples * point.members.len());
    for row in sums.chunks(width) {
        for held in &point.members {
            let sum: f64 = held.iter().map(|&at| f64::from(row[at as usize])).sum();
            found.push(match method {
                Attribution::Apoz => sum / (positions * held.len()) as f64,
                Attribution::Taylor => sum.abs(),
                Attribution::Norm => sum.sqrt(),
                _ => sum,
            });
        }
    }
    Ok(found)
}
