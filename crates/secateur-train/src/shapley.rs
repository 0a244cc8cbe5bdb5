//! Shapley values by sampling orders in which units are removed.
//!
//! Only what follows a unit is computed again. Where a linear operator is the first that mixes
//! units, what one unit adds to its result is subtracted, and no more than that is computed.

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use crate::attribution::{Batch, Target};
use crate::ops::conv::{Conv, Window};
use crate::ops::elementwise::Unary;
use crate::ops::index::select;
use crate::ops::matmul::{Gemm, product};
use crate::ops::{Inputs, Op, Operator};
use crate::point::{Point, point_at};
use crate::program::{Memory, Schedule};
use crate::trainer::Trainer;
use crate::{Context, Engine, Error, Result, Slot, Step, Value};

/// Adds the Shapley values of every sample of a batch: how much its loss rises when a unit goes.
pub(crate) fn measure<B: Engine>(
    trainer: &Trainer<B>,
    (inputs, goal): Batch<B>,
    targets: &mut [Target<'_>],
    (orders, seed): (usize, u64),
) -> Result<()> {
    for target in targets {
        let game = Game::new(trainer, inputs.clone(), goal.clone(), target)?;
        let units = target.group.size;
        let mut scores = vec![0.0; game.whole.len() * units];
        let mut random = fastrand::Rng::with_seed(seed ^ (target.id.index() as u64 + 1));
        for _ in 0..orders {
            let mut order: Vec<usize> = (0..units).collect();
            random.shuffle(&mut order);
            game.play(&order, &mut scores)?;
        }
        scores.iter_mut().for_each(|score| *score /= orders as f64);
        target.sums.add(&scores, units);
    }
    Ok(())
}

/// One batch, and the units of one group that are removed.
struct Game<'a, B: Engine> {
    trainer: &'a Trainer<B>,
    goal: Value<B>,
    /// What the rest of the program reads.
    memory: Memory<B>,
    rest: Schedule,
    /// The losses with all units there.
    whole: Vec<f64>,
    removal: Removal<B>,
}

/// How a unit is removed.
enum Removal<B: Engine> {
    /// By zeros at its positions of these values.
    Zeros(Vec<Point>),
    /// By taking from the result of a linear operator what the unit adds to it.
    Linear(Slot, Box<Linear<B>>),
}

impl<'a, B: Engine> Game<'a, B> {
    fn new(
        trainer: &'a Trainer<B>,
        inputs: Vec<Value<B>>,
        goal: Value<B>,
        target: &Target<'_>,
    ) -> Result<Self> {
        let program = trainer.program();
        let linear = match &target.points[..] {
            [point] => find_linear(trainer, target, point),
            _ => None,
        };
        let changed: Vec<Slot> = match &linear {
            Some(found) => vec![found.result],
            None => target.points.iter().map(|point| point.slot).collect(),
        };
        let behind = program.behind(&changed);
        let ahead = (0..program.slots()).map(Slot::new).filter(|slot| !behind[slot.index()]);
        let given: Vec<Slot> = ahead.chain(changed.iter().copied()).collect();
        let output = program.body.outputs.first().copied();
        let output = output.ok_or_else(|| Error::unsupported("the model returns nothing"))?;
        let rest = program.schedule(&given, &[output]);
        let mut wanted = program.reads(&rest);
        wanted.extend(linear.iter().flat_map(|found| [found.point.slot, found.weight]));
        wanted.extend(&changed);
        wanted.push(output);
        let mut memory = program.memory(trainer.values(), trainer.fit_inputs(inputs))?;
        let schedule = program.schedule(&memory.known(), &wanted);
        let mut cx = Context::new(trainer.device().clone());
        let values = program.run(&schedule, &mut memory, &mut cx)?;
        let result = values.last().cloned().ok_or_else(|| Error::unsupported("no output"))?;
        let removal = match linear {
            None => Removal::Zeros(target.points.clone()),
            Some(found) => Removal::Linear(found.result, Box::new(found.load(&memory)?)),
        };
        let whole = losses(trainer, result, &goal)?;
        Ok(Game { trainer, goal, memory, rest, whole, removal })
    }

    /// Removes units one after another, and adds what each costs every sample.
    fn play(&self, order: &[usize], scores: &mut [f64]) -> Result<()> {
        let mut before = self.whole.clone();
        let mut memory = self.memory.clone();
        for &unit in order {
            self.remove(&mut memory, unit)?;
            let mut run = memory.clone();
            let mut cx = Context::new(self.trainer.device().clone());
            let output = self.trainer.program().run(&self.rest, &mut run, &mut cx)?;
            let output =
                output.into_iter().next().ok_or_else(|| Error::unsupported("no output"))?;
            let now = losses(self.trainer, output, &self.goal)?;
            for (sample, (now, before)) in now.iter().zip(&before).enumerate() {
                scores[sample * order.len() + unit] += now - before;
            }
            before = now;
        }
        Ok(())
    }

    fn remove(&self, memory: &mut Memory<B>, unit: usize) -> Result<()> {
        match &self.removal {
            Removal::Linear(slot, linear) => {
                let value = memory.take(*slot)?.float()?;
                let less = B::float_sub(value, linear.part(unit)?);
                memory.set(*slot, Value::Float(less));
            }
            Removal::Zeros(points) => {
                for point in points {
                    let value = memory.take(point.slot)?.float()?;
                    memory.set(point.slot, Value::Float(without::<B>(value, point, unit)?));
                }
            }
        }
        Ok(())
    }
}

/// The loss of every sample.
fn losses<B: Engine>(trainer: &Trainer<B>, output: Value<B>, goal: &Value<B>) -> Result<Vec<f64>> {
    let samples = goal.shape().first().copied().unwrap_or(1).max(1);
    let (rows, _) = trainer.options().loss.each(output, goal.clone())?;
    let rows = Value::<B>::Float(rows).to_floats()?;
    let each = (rows.len() / samples).max(1);
    let mean = |part: &[f32]| part.iter().map(|&x| f64::from(x)).sum::<f64>() / each as f64;
    Ok(rows.chunks(each).map(mean).collect())
}

/// A value with zeros where a unit stands.
fn without<B: Engine>(x: FloatTensor<B>, point: &Point, unit: usize) -> Result<FloatTensor<B>> {
    let shape = x.shape();
    let mut mask = vec![1.0; shape[point.axis]];
    point.members[unit].iter().for_each(|&at| mask[at as usize] = 0.0);
    let mut sizes = vec![1; shape.num_dims()];
    sizes[point.axis] = mask.len();
    let mask = Value::<B>::of_floats(mask, sizes, &x.device()).float()?;
    Ok(B::float_mul(x, mask))
}

/// A linear operator that is the first to mix the units of a group.
struct Found {
    /// Where the units stand in its operand.
    point: Point,
    /// Its weights.
    weight: Slot,
    result: Slot,
    kind: LinearKind,
}

#[derive(Clone)]
enum LinearKind {
    /// Whether the weights are transposed.
    Matrix(bool),
    Conv(Window),
}

/// What is needed to tell what one unit adds.
struct Linear<B: Engine> {
    point: Point,
    data: Value<B>,
    weight: Value<B>,
    kind: LinearKind,
}

impl Found {
    fn load<B: Engine>(self, memory: &Memory<B>) -> Result<Linear<B>> {
        let get = |slot: Slot| {
            memory.get(slot).ok_or_else(|| Error::malformed("a value that was not computed"))
        };
        let (data, weight) = (get(self.point.slot)?, get(self.weight)?);
        Ok(Linear { point: self.point, data, weight, kind: self.kind })
    }
}

impl<B: Engine> Linear<B> {
    /// What a unit adds to the result.
    fn part(&self, unit: usize) -> Result<FloatTensor<B>> {
        let held: Vec<i64> = self.point.members[unit].iter().map(|&at| at.into()).collect();
        let device = self.data.device();
        let count = held.len();
        let held = Value::<B>::of_ints(held, vec![count], &device).int()?;
        let data = select(self.data.clone(), self.point.axis, held.clone());
        match &self.kind {
            LinearKind::Matrix(transposed) => {
                let weight = select(self.weight.clone(), usize::from(*transposed), held);
                let weight = match transposed {
                    true => Value::Float(B::float_transpose(weight.float()?)),
                    false => weight,
                };
                product(data, weight)?.float()
            }
            LinearKind::Conv(window) => {
                let weight = select(self.weight.clone(), 1, held);
                let conv = Conv {
                    groups: 1,
                    window: window.clone(),
                    transposed: None,
                    wanted: Vec::new(),
                };
                let inputs = Inputs::new(vec![Some(data), Some(weight)]);
                let result = conv.run(&mut Context::new(device), inputs)?;
                let result = result.into_iter().next();
                result.ok_or_else(|| Error::malformed("no result"))?.float()
            }
        }
    }
}

/// Follows a value through what keeps units apart, and zeros zero, to a linear operator.
fn find_linear<B: Engine>(
    trainer: &Trainer<B>,
    target: &Target<'_>,
    point: &Point,
) -> Option<Found> {
    let program = trainer.program();
    let mut slot = point.slot;
    loop {
        let step = only_reader(trainer, slot)?;
        let result = step.outputs.first().copied().flatten()?;
        let is_data = step.inputs.first().copied().flatten() == Some(slot);
        if !is_data {
            return None;
        }
        if keeps(&step.op) {
            slot = result;
            continue;
        }
        let weight = step.inputs.get(1).copied().flatten()?;
        let stored = program.stored.iter().find(|stored| stored.slot == weight)?;
        let kind = match &step.op {
            Op::MatMul(_) if stored.view.dims.len() == 2 => LinearKind::Matrix(false),
            Op::Gemm(Gemm { left: false, right, alpha: 1.0, .. }) => LinearKind::Matrix(*right),
            Op::Conv(Conv { groups: 1, window, transposed: None, .. }) => {
                LinearKind::Conv(window.clone())
            }
            _ => return None,
        };
        let point = point_at(trainer.model(), program, target.group, slot)?;
        let (point, rank) = point;
        let mixed = match &kind {
            LinearKind::Conv(_) => 1,
            LinearKind::Matrix(_) => rank - 1,
        };
        return (point.axis == mixed).then_some(Found { point, weight, result, kind });
    }
}

/// The step that alone reads a value.
fn only_reader<B: Engine>(trainer: &Trainer<B>, slot: Slot) -> Option<&Step> {
    let body = &trainer.program().body;
    let reads = |step: &&Step| step.inputs.contains(&Some(slot));
    let mut readers = body.steps.iter().filter(reads);
    let first = readers.next()?;
    (readers.next().is_none() && !body.outputs.contains(&slot)).then_some(first)
}

/// Whether an operator keeps units apart wherever the core says so, and zeros zero.
fn keeps(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape(_)
            | Op::Pool(_)
            | Op::Dropout(_)
            | Op::Unary(Unary::Relu | Unary::LeakyRelu(_) | Unary::Identity | Unary::Tanh)
            | Op::Unary(Unary::Gelu | Unary::GeluTanh | Unary::Swish(_) | Unary::HardSwish)
    )
}
