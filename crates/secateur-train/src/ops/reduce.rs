//! Reductions, and what runs along an axis.

pub(crate) mod aten;

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use super::order::in_order;
use super::shape::segment;
use super::{Decode, Inputs, Op, Operator, axis};
use crate::onnx::Node;
use crate::value::INT;
use crate::{Context, Engine, Error, Result, Value};

/// What elements become together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

/// A reduction of axes: given ones, operand 1, or all.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// What is computed.
    pub kind: Reduction,
    /// The axes, unless operand 1 gives them.
    pub axes: Option<Vec<i64>>,
    /// Whether reduced axes stay with size 1.
    pub keep: bool,
    /// Whether an empty list of axes reduces nothing.
    pub none: bool,
}

impl Operator for Reduce {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let given = inputs.optional(1).map(Value::to_ints).transpose()?;
        let axes = given.or_else(|| self.axes.clone()).unwrap_or_default();
        let mut axes = match axes.is_empty() && !self.none {
            true => (0..shape.len()).collect(),
            false => axes.iter().map(|&a| axis(a, shape.len())).collect::<Result<Vec<_>>>()?,
        };
        axes.sort_unstable();
        axes.dedup();
        let reduced = match x {
            Value::Float(x) => Value::Float(self.floats::<B>(x, &axes)),
            Value::Int(x) => Value::Int(self.ints::<B>(x, &axes)?),
            Value::Bool(_) => return Err(Error::unsupported("a reduction of truth values")),
        };
        if self.keep {
            return Ok(vec![reduced]);
        }
        let left = (0..shape.len()).filter(|axis| !axes.contains(axis));
        Ok(vec![reduced.reshape(left.map(|axis| shape[axis]).collect())])
    }
}

impl Reduce {
    fn floats<B: Engine>(&self, x: FloatTensor<B>, axes: &[usize]) -> FloatTensor<B> {
        let fold = |x: FloatTensor<B>, f: &dyn Fn(FloatTensor<B>, usize) -> FloatTensor<B>| {
            axes.iter().fold(x, |x, &axis| f(x, axis))
        };
        let sum = |x: FloatTensor<B>| fold(x, &B::float_sum_dim);
        let square = |x: FloatTensor<B>| B::float_mul(x.clone(), x);
        match self.kind {
            Reduction::Sum => sum(x),
            Reduction::Mean => fold(x, &B::float_mean_dim),
            Reduction::Max => fold(x, &B::float_max_dim),
            Reduction::Min => fold(x, &B::float_min_dim),
            Reduction::Prod => fold(x, &B::float_prod_dim),
            Reduction::L1 => sum(B::float_abs(x)),
            Reduction::L2 => B::float_sqrt(sum(square(x))),
            Reduction::SumSquare => sum(square(x)),
            Reduction::LogSum => B::float_log(sum(x)),
            Reduction::LogSumExp => {
                let top = B::float_detach(fold(x.clone(), &B::float_max_dim));
                let rest = B::float_exp(B::float_sub(x, top.clone()));
                B::float_add(B::float_log(sum(rest)), top)
            }
        }
    }

    fn ints<B: Engine>(
        &self,
        x: B::IntTensorPrimitive,
        axes: &[usize],
    ) -> Result<B::IntTensorPrimitive> {
        let f: fn(B::IntTensorPrimitive, usize) -> B::IntTensorPrimitive = match self.kind {
            Reduction::Sum => B::int_sum_dim,
            Reduction::Max => B::int_max_dim,
            Reduction::Min => B::int_min_dim,
            Reduction::Prod => B::int_prod_dim,
            other => return Err(Error::unsupported(format!("`{other:?}` of integers"))),
        };
        Ok(axes.iter().fold(x, |x, &axis| f(x, axis)))
    }
}

/// The position of the largest or smallest element; the first one, or the last.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Whether it is the largest.
    pub largest: bool,
    /// The axis.
    pub axis: i64,
    /// Whether the axis stays with size 1.
    pub keep: bool,
    /// Whether the last of equal elements counts.
    pub last: bool,
}

impl Operator for Arg {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.to_float();
        let mut shape = x.shape().to_vec();
        let axis = axis(self.axis, shape.len())?;
        let x = if self.last { B::float_flip(x, &[axis]) } else { x };
        let mut found = match self.largest {
            true => B::float_argmax(x, axis, INT),
            false => B::float_argmin(x, axis, INT),
        };
        if self.last {
            found = B::int_add_scalar(B::int_neg(found), (shape[axis] as i64 - 1).into());
        }
        shape[axis] = 1;
        if !self.keep {
            shape.remove(axis);
        }
        Ok(vec![Value::<B>::Int(found).reshape(shape)])
    }
}

/// Shares that sum to one along an axis.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    /// The axis.
    pub axis: i64,
    /// Whether all axes from there on are one, as before opset 13.
    pub rest: bool,
    /// Whether logarithms are returned.
    pub log: bool,
}

impl Operator for Softmax {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let mut axis = axis(self.axis, shape.len())?;
        let mut x = x;
        if self.rest {
            let outer = shape[..axis].iter().product();
            x = x.reshape(vec![outer, shape[axis..].iter().product()]);
            axis = 1;
        }
        let x = x.float()?;
        let result = if self.log { B::log_softmax(x, axis) } else { B::softmax(x, axis) };
        Ok(vec![Value::<B>::Float(result).reshape(shape)])
    }
}

/// Ones at the first largest elements along an axis, else zeros.
#[derive(Clone, Copy, Debug)]
pub struct Hardmax {
    /// The axis.
    pub axis: i64,
    /// Whether all axes from there on are one, as before opset 13.
    pub rest: bool,
}

impl Operator for Hardmax {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let along = axis(self.axis, shape.len())?;
        let inner = if self.rest { 1 } else { shape[along + 1..].iter().product() };
        let outer: usize = shape[..along].iter().product();
        let size = shape.iter().product::<usize>() / usize::max(outer * inner, 1);
        let flat = x.reshape(vec![outer, size, inner]).float()?;
        let best = B::float_argmax(flat, 1, INT);
        let places = Value::<B>::of_ints((0..size as i64).collect(), vec![1, size, 1], &cx.device);
        let all = vec![outer, size, inner];
        let best = super::shape::expand(Value::<B>::Int(best), all.clone()).int()?;
        let places = super::shape::expand(places, all).int()?;
        let hit = B::int_equal(best, places, crate::value::bool_dtype::<B>(&cx.device));
        Ok(vec![Value::<B>::Float(Value::<B>::Bool(hit).to_float()).reshape(shape)])
    }
}

/// Running sums along the axis that operand 1 gives.
#[derive(Clone, Copy, Debug)]
pub struct CumSum {
    /// Whether an element is not part of its own sum.
    pub exclusive: bool,
    /// Whether sums run from the end.
    pub reverse: bool,
}

impl Operator for CumSum {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let given = inputs.ints(1)?.first().copied().unwrap_or(0);
        let axis = axis(given, x.rank())?;
        let axes = [axis];
        Ok(vec![match x {
            Value::Float(x) => {
                let flip = |x| if self.reverse { B::float_flip(x, &axes) } else { x };
                let sums = flip(B::float_cumsum(flip(x.clone()), axis));
                Value::Float(if self.exclusive { B::float_sub(sums, x) } else { sums })
            }
            x => {
                let x = x.to_int();
                let flip = |x| if self.reverse { B::int_flip(x, &axes) } else { x };
                let sums = flip(B::int_cumsum(flip(x.clone()), axis));
                Value::Int(if self.exclusive { B::int_sub(sums, x) } else { sums })
            }
        }])
    }
}

/// The largest or smallest elements along an axis, sorted, and where they were; operand 1 says how
/// many.
#[derive(Clone, Copy, Debug)]
pub struct TopK {
    /// The axis.
    pub axis: i64,
    /// Whether they are the largest.
    pub largest: bool,
    /// How many, as before opset 10.
    pub count: Option<i64>,
}

impl Operator for TopK {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let count = match self.count {
            Some(count) => vec![count],
            None => inputs.ints(1)?,
        };
        let axis = axis(self.axis, x.rank())?;
        let (count, size) = (count.first().copied().unwrap_or(0), x.shape()[axis]);
        let count = usize::try_from(count).ok().filter(|&count| count <= size);
        let count = count
            .ok_or_else(|| Error::malformed(format!("the first {count:?} of {size} elements")))?;
        let sorted = in_order(x, axis, self.largest)?;
        Ok(sorted.map(|all| segment(all, axis, 0, count)).into())
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("ReduceSum", |node| Ok(reduce(node, Reduction::Sum))),
    ("ReduceMean", |node| Ok(reduce(node, Reduction::Mean))),
    ("ReduceMax", |node| Ok(reduce(node, Reduction::Max))),
    ("ReduceMin", |node| Ok(reduce(node, Reduction::Min))),
    ("ReduceProd", |node| Ok(reduce(node, Reduction::Prod))),
    ("ReduceL1", |node| Ok(reduce(node, Reduction::L1))),
    ("ReduceL2", |node| Ok(reduce(node, Reduction::L2))),
    ("ReduceSumSquare", |node| Ok(reduce(node, Reduction::SumSquare))),
    ("ReduceLogSum", |node| Ok(reduce(node, Reduction::LogSum))),
    ("ReduceLogSumExp", |node| Ok(reduce(node, Reduction::LogSumExp))),
    ("ArgMax", |node| Ok(arg(node, true))),
    ("ArgMin", |node| Ok(arg(node, false))),
    ("Softmax", |node| Ok(softmax(node, false))),
    ("LogSoftmax", |node| Ok(softmax(node, true))),
    ("Hardmax", |node| {
        let rest = node.opset < 13;
        Ok(Hardmax { axis: node.int("axis", if rest { 1 } else { -1 }), rest }.into())
    }),
    ("CumSum", |node| {
        let (exclusive, reverse) = (node.int("exclusive", 0) != 0, node.int("reverse", 0) != 0);
        Ok(CumSum { exclusive, reverse }.into())
    }),
    ("TopK", |node| {
        let count = node.has("k").then(|| node.int("k", 1));
        Ok(TopK { axis: node.int("axis", -1), largest: node.int("largest", 1) != 0, count }.into())
    }),
];

fn reduce(node: &Node<'_>, kind: Reduction) -> Op {
    let none = node.int("noop_with_empty_axes", 0) != 0;
    let keep = node.int("keepdims", 1) != 0;
    Reduce { kind, axes: node.ints("axes"), keep, none }.into()
}

fn arg(node: &Node<'_>, largest: bool) -> Op {
    Arg {
        largest,
        axis: node.int("axis", 0),
        keep: node.int("keepdims", 1) != 0,
        last: node.int("select_last_index", 0) != 0,
    }
    .into()
}

fn softmax(node: &Node<'_>, log: bool) -> Op {
    let rest = node.opset < 13;
    let default = if rest { 1 } else { -1 };
    Softmax { axis: node.int("axis", default), rest, log }.into()
}
