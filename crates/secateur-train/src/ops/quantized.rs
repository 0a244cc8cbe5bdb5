//! Operators of ONNX Runtime on integers of few bits that are computed in real numbers: what the
//! integers stand for goes in, and what comes out is rounded again.

use super::elementwise::{Binary, Unary, Where};
use super::pool::{Pool, PoolKind};
use super::quantize::{Range, numbers, rounded};
use super::recurrent::{Cell, Recurrent};
use super::reduce::Softmax;
use super::shape::{Concat, permute};
use super::{Decode, Inputs, Op, Operator};
use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// An operand of the operator inside.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// As it is.
    Plain(usize),
    /// Integers, their scale and their zero point.
    Codes([usize; 3]),
}

/// An operator between integers.
#[derive(Clone, Debug)]
pub struct Between {
    /// What is computed of real numbers.
    pub op: Box<Op>,
    /// Its operands.
    pub operands: Vec<Operand>,
    /// The operands that hold the result's scale and zero point.
    pub result: [usize; 2],
    /// Which integers there are.
    pub range: Range,
    /// Whether channels are the last axis, and not the second.
    pub channels_last: bool,
}

impl Operator for Between {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut operands = Vec::new();
        for operand in &self.operands {
            let value = match *operand {
                Operand::Plain(index) => inputs.take(index)?,
                Operand::Codes([codes, scale, zero]) => {
                    let (codes, scale) = (inputs.take(codes)?, inputs.real(scale)?);
                    let zero = inputs.optional(zero).map(|zero| Real(zero.to_float()));
                    numbers(codes, scale, zero).into()
                }
            };
            operands.push(Some(if self.channels_last { turned(value, 1) } else { value }));
        }
        let [scale, zero] = self.result;
        let scale = inputs.real(scale)?;
        let zero = inputs.optional(zero).map(|zero| Real(zero.to_float()));
        let result = self.op.run(cx, Inputs::new(operands))?.into_iter().next();
        let result = result.ok_or_else(|| Error::malformed("no result"))?;
        let codes = self.range.codes(Real(result.float()?), scale, zero);
        let last = codes.rank() - 1;
        Ok(vec![if self.channels_last { turned(codes, last) } else { codes }])
    }
}

/// The last axis put second, or the second put last: so that axis 1 comes to `place`.
fn turned<B: Engine>(x: Value<B>, place: usize) -> Value<B> {
    let mut order: Vec<usize> = (0..x.rank()).collect();
    if place == 1 {
        order[1..].rotate_right(1);
    } else {
        order[1..].rotate_left(1);
    }
    permute(x, &order)
}

/// An LSTM with kernels of integers, whose data and states are rounded to bytes for products.
#[derive(Clone, Debug)]
pub struct RoundedLstm {
    /// The layer.
    pub layer: Recurrent,
}

impl Operator for RoundedLstm {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let data = rounded(inputs.real(0)?)?;
        let mut kernel = |codes: usize, scale: usize| -> Result<Value<B>> {
            let codes = inputs.take(codes)?;
            let directions = codes.shape()[0];
            let lift = |part: Real<B>| {
                let each = part.shape().iter().product::<usize>() / directions.max(1);
                part.reshape([directions, 1, each])
            };
            let zero = inputs.optional(scale + 1).map(|zero| lift(Real(zero.to_float())));
            let numbers = numbers(codes, lift(inputs.real(scale)?), zero);
            Ok(numbers.transpose().into())
        };
        let kernels = [kernel(1, 8)?, kernel(2, 10)?];
        let mut operands = vec![Some(data.into())];
        operands.extend(kernels.map(Some));
        operands.extend((3..8).map(|index| inputs.optional(index)));
        self.layer.run(cx, Inputs::new(operands))
    }
}

/// How ONNX Runtime spells them.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[
    ("QLinearAdd", |node| pair(node, Binary::Add)),
    ("QLinearMul", |node| pair(node, Binary::Mul)),
    ("QLinearSigmoid", |node| alone(node, Unary::Sigmoid)),
    ("QLinearLeakyRelu", |node| alone(node, Unary::LeakyRelu(node.float("alpha", 0.01)))),
    ("QLinearSoftmax", |node| {
        let rest = node.int("opset", 13) < 13;
        alone(node, Softmax { axis: node.int("axis", if rest { 1 } else { -1 }), rest, log: false })
    }),
    ("QLinearWhere", |node| {
        let operands =
            vec![Operand::Plain(0), Operand::Codes([1, 2, 3]), Operand::Codes([4, 5, 6])];
        between(node, Where, operands, [7, 8])
    }),
    ("QLinearConcat", |node| {
        let parts = (2..node.inputs()).step_by(3);
        let operands = parts.map(|at| Operand::Codes([at, at + 1, at + 2])).collect();
        between(node, Concat { axis: node.int("axis", 0) }, operands, [0, 1])
    }),
    ("QLinearAveragePool", |node| {
        let kind = PoolKind::Mean(node.int("count_include_pad", 0) != 0);
        alone(node, Pool::decode(node, kind)?)
    }),
    ("QLinearGlobalAveragePool", |node| alone(node, Pool::whole(PoolKind::Mean(false)))),
    ("DynamicQuantizeLSTM", |node| {
        let mut layer = super::recurrent::decode(node, Cell::Lstm)?;
        layer.rounds = true;
        Ok(RoundedLstm { layer }.into())
    }),
];

fn between(
    node: &Node<'_>,
    op: impl Into<Op>,
    operands: Vec<Operand>,
    result: [usize; 2],
) -> Result<Op> {
    let range = Range::like(node, result[1])?;
    let channels_last = node.int("channels_last", 0) != 0;
    Ok(Between { op: Box::new(op.into()), operands, result, range, channels_last }.into())
}

fn pair(node: &Node<'_>, op: Binary) -> Result<Op> {
    between(node, op, vec![Operand::Codes([0, 1, 2]), Operand::Codes([3, 4, 5])], [6, 7])
}

fn alone(node: &Node<'_>, op: impl Into<Op>) -> Result<Op> {
    between(node, op, vec![Operand::Codes([0, 1, 2])], [3, 4])
}
