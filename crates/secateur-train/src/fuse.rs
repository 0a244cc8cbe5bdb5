//! Activations that files spell out in several steps. They are found by what they compute, and run as one
//! step where nothing else needs what lies between.

use std::collections::{BTreeMap, HashMap};

use crate::ops::elementwise::{Binary, Unary};
use crate::ops::{Inputs, Op};
use crate::{Context, Cpu, Program, Slot, Step, Value};

/// The most steps of one activation.
const MAX_STEPS: usize = 9;
/// What is looked for.
const KNOWN: [Unary; 4] =
    [Unary::Gelu, Unary::GeluTanh, Unary::Swish(1.0), Unary::Swish(QUICK_GELU)];
/// Of the sigmoid in CLIP's activation.
pub(crate) const QUICK_GELU: f64 = 1.702;

/// An activation in one step.
#[derive(Clone, Debug)]
pub(crate) struct Fused {
    /// What stands for the last of its steps.
    pub(crate) step: Step,
    /// What the others make.
    pub(crate) inner: Vec<Slot>,
}

/// The activations of a program, by the position of their last step.
pub(crate) fn find(program: &Program) -> BTreeMap<usize, Fused> {
    let steps = &program.body.steps;
    let (mut makers, mut reads) = (HashMap::new(), vec![0; program.slots()]);
    for (index, step) in steps.iter().enumerate() {
        step.inputs.iter().flatten().for_each(|slot| reads[slot.index()] += 1);
        if let ([Some(output)], Op::Unary(_) | Op::Binary(_) | Op::Clip(_)) =
            (&step.outputs[..], &step.op)
        {
            makers.insert(*output, index);
        }
    }
    program.body.outputs.iter().for_each(|slot| reads[slot.index()] += 1);
    let scalars = program.stored.iter().filter(|stored| stored.view.dims.is_empty());
    let scalars = scalars.filter_map(|stored| {
        Some((stored.slot, Value::of_view(&stored.view, &Default::default()).ok()?))
    });
    let finder = Finder { steps, makers, reads, scalars: scalars.collect() };
    let products = steps.iter().enumerate().filter(|(_, step)| is_product(&step.op));
    products.filter_map(|(last, _)| Some((last, finder.ending(last)?))).collect()
}

fn is_product(op: &Op) -> bool {
    matches!(op, Op::Binary(Binary::Mul | Binary::Div))
}

struct Finder<'a> {
    steps: &'a [Step],
    /// The functions of elements, by what they make.
    makers: HashMap<Slot, usize>,
    /// How often slots are read.
    reads: Vec<usize>,
    /// Stored tensors without axes.
    scalars: HashMap<Slot, Value<Cpu>>,
}

impl Finder<'_> {
    /// The activation whose last step this is: steps are added, the latest first, until they read one
    /// value alone and compute what is known of it.
    fn ending(&self, last: usize) -> Option<Fused> {
        // In order of their positions.
        let mut chosen = vec![last];
        loop {
            let read: Vec<Slot> = chosen.iter().flat_map(|&at| self.operands(at)).collect();
            let made = |slot: &Slot| self.makers.get(slot).copied();
            let mut open: Vec<Slot> = read.clone();
            open.retain(|slot| made(slot).is_none_or(|maker| !chosen.contains(&maker)));
            open.sort_unstable();
            open.dedup();
            if let [data] = open[..]
                && let Some(activation) = self.compute(&chosen, data)
            {
                let inner = chosen[..chosen.len() - 1].iter();
                let inner = inner.flat_map(|&at| self.steps[at].outputs.iter().flatten().copied());
                let (inner, inputs) = (inner.collect(), vec![Some(data)]);
                let step = Step { op: activation.into(), inputs, ..self.steps[last].clone() };
                return Some(Fused { step, inner });
            }
            let next = open.into_iter().max_by_key(|slot| made(slot))?;
            let here = read.iter().filter(|&&slot| slot == next).count();
            if chosen.len() == MAX_STEPS || self.reads[next.index()] != here {
                return None;
            }
            chosen.insert(0, made(&next)?);
            chosen.sort_unstable();
        }
    }

    fn operands(&self, step: usize) -> impl Iterator<Item = Slot> {
        let inputs = self.steps[step].inputs.iter().flatten().copied();
        inputs.filter(|slot| !self.scalars.contains_key(slot))
    }

    /// What steps make of one value, if it is known.
    fn compute(&self, chosen: &[usize], data: Slot) -> Option<Unary> {
        let bends = |&at: &usize| {
            matches!(
                self.steps[at].op,
                Op::Unary(Unary::Erf | Unary::Tanh | Unary::Sigmoid | Unary::Exp)
            )
        };
        if !chosen.iter().any(bends) {
            return None;
        }
        let points: Vec<f32> =
            (-24..=24).map(|at| at as f32 * 0.37 + 0.01).chain([-40.0, 60.0]).collect();
        let points =
            Value::<Cpu>::of_floats(points.clone(), vec![points.len()], &Default::default());
        let mut values = HashMap::from([(data, points.clone())]);
        let mut cx = Context::<Cpu>::new(Default::default());
        for &at in chosen {
            let step = &self.steps[at];
            let get = |slot: &Option<Slot>| {
                let Some(slot) = slot else { return Some(None) };
                values.get(slot).or_else(|| self.scalars.get(slot)).cloned().map(Some)
            };
            let operands = step.inputs.iter().map(get).collect::<Option<Vec<_>>>()?;
            let results = step.op.run(&mut cx, Inputs::new(operands)).ok()?;
            values.extend(step.outputs.iter().flatten().copied().zip(results));
        }
        let last = self.steps[*chosen.last()?].outputs.iter().flatten().next()?;
        let found = values.remove(last)?.to_floats().ok()?;
        let is_near = |known: &Unary| {
            let expected = known.apply::<Cpu>(points.clone().float().ok()?);
            let expected = Value::<Cpu>::Float(expected).to_floats().ok()?;
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
            (found.len() == expected.len() && found.iter().zip(&expected).all(near))
                .then_some(*known)
        };
        KNOWN.iter().find_map(is_near)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secateur::DType;
    use secateur::tensor::TensorView;

    use super::*;
    use crate::{Block, Stored};

    /// A program of one input, numbers, and steps on these: slots in this order.
    fn program(numbers: &[f32], steps: Vec<(Op, Vec<usize>)>) -> Program {
        let mut program = Program::default();
        program.inputs = vec![Slot::new(0)];
        let count = 1 + numbers.len() + steps.len();
        program.names = (0..count).map(|slot| slot.to_string()).collect();
        for (at, number) in numbers.iter().enumerate() {
            let bytes = number.to_le_bytes().to_vec();
            let view = TensorView::new(DType::F32, Vec::new(), bytes.into()).unwrap();
            let slot = Slot::new(1 + at);
            program.stored.push(Stored { name: at.to_string(), slot, view });
        }
        let step = |(at, (op, inputs)): (usize, (Op, Vec<usize>))| Step {
            name: at.to_string(),
            kind: String::new(),
            op,
            inputs: inputs.into_iter().map(|slot| Some(Slot::new(slot))).collect(),
            outputs: vec![Some(Slot::new(1 + numbers.len() + at))],
        };
        let steps = steps.into_iter().enumerate().map(step).collect();
        program.body = Block { steps, outputs: vec![Slot::new(count - 1)] };
        program
    }

    fn found(program: &Program) -> Option<Op> {
        let mut found = find(program).into_values();
        let first = found.next().filter(|fused| fused.step.inputs == [Some(Slot::new(0))]);
        first.map(|fused| fused.step.op)
    }

    fn gelu(half: f32) -> Program {
        let steps = vec![
            (Binary::Div.into(), vec![0, 1]),
            (Unary::Erf.into(), vec![4]),
            (Binary::Add.into(), vec![5, 2]),
            (Binary::Mul.into(), vec![0, 6]),
            (Binary::Mul.into(), vec![7, 3]),
        ];
        program(&[std::f32::consts::SQRT_2, 1.0, half], steps)
    }

    #[test]
    fn activations_are_found_in_all_spellings() {
        assert!(matches!(found(&gelu(0.5)), Some(Op::Unary(Unary::Gelu))));
        let swish = vec![(Unary::Sigmoid.into(), vec![0]), (Binary::Mul.into(), vec![1, 0])];
        assert!(matches!(found(&program(&[], swish)), Some(Op::Unary(Unary::Swish(1.0)))));
        let tanh = vec![
            (Binary::Pow.into(), vec![0, 1]),
            (Binary::Mul.into(), vec![6, 2]),
            (Binary::Add.into(), vec![0, 7]),
            (Binary::Mul.into(), vec![3, 8]),
            (Unary::Tanh.into(), vec![9]),
            (Binary::Add.into(), vec![10, 4]),
            (Binary::Mul.into(), vec![0, 5]),
            (Binary::Mul.into(), vec![12, 11]),
        ];
        let tanh = program(&[3.0, 0.044715, (2.0 / std::f32::consts::PI).sqrt(), 1.0, 0.5], tanh);
        assert!(matches!(found(&tanh), Some(Op::Unary(Unary::GeluTanh))));
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        assert!(found(&gelu(0.501)).is_none());
        let mut seen = gelu(0.5);
        seen.body.outputs.push(Slot::new(5));
        assert!(found(&seen).is_none());
    }
}
