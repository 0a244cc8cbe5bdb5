//! Compound operators of ONNX Runtime, made of those of other families.

use super::conv::Conv;
use super::elementwise::{Binary, Unary};
use super::matmul::{Gemm, MatMul};
use super::norm::{Norm, Over};
use super::shape::permute;
use super::{Decode, Inputs, Op, Operator, axis, sizes};
use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// The first result of an operator.
fn first<B: Engine>(
    op: &impl Operator,
    cx: &mut Context<B>,
    operands: Vec<Option<Value<B>>>,
) -> Result<Value<B>> {
    let result = op.run(cx, Inputs::new(operands))?.into_iter().next();
    result.ok_or_else(|| Error::malformed("no result"))
}

/// The sum of the first operands that are given.
fn sum<B: Engine>(inputs: &mut Inputs<B>, slots: &[usize]) -> Result<Real<B>> {
    let mut total = inputs.real(slots[0])?;
    for &slot in &slots[1..] {
        if let Some(term) = inputs.optional_real(slot)? {
            total = total + term;
        }
    }
    Ok(total)
}

/// What is done with a sum of operands.
#[derive(Clone, Copy, Debug)]
pub enum Biased {
    /// A function of every element.
    Through(Unary),
    /// Softmax over all axes from this one on; whether the bias repeats in blocks of the batch, and
    /// not as a whole.
    Softmax(i64),
    /// The first half of the last axis, gated by the second.
    Split,
}

impl Operator for Biased {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let total = sum(&mut inputs, &[0, 1, 2])?;
        Ok(vec![match self {
            Biased::Through(function) => total.apply(*function).into(),
            Biased::Softmax(first) => {
                let shape = total.shape();
                let at = axis(*first, shape.len())?;
                let (outer, inner) = shape.split_at(at);
                let flat: Vec<usize> = vec![outer.iter().product(), inner.iter().product()];
                total.reshape(flat).softmax(1).reshape(shape).into()
            }
            Biased::Split => {
                let [left, right] = total.parts::<2>(total.rank() - 1);
                let operands = vec![Some(left.into()), Some(right.apply(Unary::Gelu).into())];
                return Binary::Mul.run(cx, Inputs::new(operands));
            }
        }])
    }
}

/// A norm of a sum, which is also a result.
#[derive(Clone, Copy, Debug)]
pub struct SkipNorm {
    /// The norm.
    pub norm: Norm,
    /// The operands that are added.
    pub terms: [usize; 3],
    /// The norm's scale and offset.
    pub affine: [usize; 2],
    /// The result that the sum is.
    pub sum: usize,
    /// What comes last.
    pub activation: Unary,
    /// Whether channels are the last axis, and not the second.
    pub channels_last: bool,
}

impl Operator for SkipNorm {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut total = inputs.real(self.terms[0])?;
        for &slot in &self.terms[1..] {
            if let Some(term) = inputs.optional_real(slot)? {
                total = total.clone() + self.fitted(term, total.rank());
            }
        }
        let rank = total.rank();
        let forth: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let back: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let turned = |x: Value<B>, order: &[usize]| match self.channels_last {
            true => permute(x, order),
            false => x,
        };
        let [scale, offset] = self.affine.map(|slot| inputs.optional(slot));
        let data = turned(total.clone().into(), &forth);
        let normed = first(&self.norm, cx, vec![Some(data), scale, offset])?;
        let result = Real(turned(normed, &back).float()?).apply(self.activation);
        let mut results = vec![result.into()];
        let shape = total.shape();
        let empty = || Value::of_floats(vec![0.0; shape[0]], vec![shape[0]], &cx.device);
        results.resize_with(self.sum, empty);
        results.push(total.into());
        Ok(results)
    }
}

impl SkipNorm {
    /// A term of one number per batch and channel, with axes of size 1 for space.
    fn fitted<B: Engine>(&self, term: Real<B>, rank: usize) -> Real<B> {
        match term.shape()[..] {
            [c] if matches!(self.norm.over, Over::Groups(_)) && !self.channels_last => {
                term.reshape([vec![c], vec![1; rank - 2]].concat())
            }
            [n, c] if rank == 4 => {
                term.reshape(if self.channels_last { [n, 1, 1, c] } else { [n, c, 1, 1] })
            }
            _ => term,
        }
    }
}

/// The sum of a word's, a position's and a segment's row, and a norm of it.
#[derive(Clone, Copy, Debug)]
pub struct EmbedNorm {
    /// The norm.
    pub norm: Norm,
    /// Whether the mask's ones are counted.
    pub counts: bool,
}

impl Operator for EmbedNorm {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let ids = inputs.take(0)?;
        let shape = ids.shape();
        let [n, t] = shape[..] else {
            return Err(Error::malformed(format!("words in the shape {shape:?}")));
        };
        let rows = |table: Real<B>, ids: Value<B>| -> Result<Real<B>> {
            let (size, width) = (table.size(0) as i64, table.size(1));
            let ids = ids.to_ints()?;
            if let Some(wrong) = ids.iter().find(|&&id| id < 0 || id >= size) {
                return Err(Error::argument(format!("position {wrong} of {size}")));
            }
            let count = ids.len();
            Ok(table.rows(0, ids)?.reshape([count / t.max(1), t, width]))
        };
        let mut total = rows(inputs.real(2)?, ids)?;
        let counted = (0..t as i64).collect();
        let places = inputs.optional(8);
        let places = places.unwrap_or_else(|| Value::of_ints(counted, vec![1, t], &cx.device));
        total = total + rows(inputs.real(3)?, places)?;
        if let (Some(segments), Some(table)) = (inputs.optional(1), inputs.optional_real(4)?) {
            total = total + rows(table, segments)?;
        }
        let affine = [inputs.optional(5), inputs.optional(6)];
        let operands = [Some(total.clone().into())].into_iter().chain(affine).collect();
        let normed = first(&self.norm, cx, operands)?;
        let counts = match inputs.optional(7) {
            Some(mask) => mask.to_ints()?.chunks(t.max(1)).map(|row| row.iter().sum()).collect(),
            None => vec![0; n],
        };
        Ok(vec![normed, Value::of_ints(counts, vec![n], &cx.device), total.into()])
    }
}

/// A product of matrices with a factor, transposed where asked for.
#[derive(Clone, Copy, Debug)]
pub struct FusedMatMul {
    /// Whether the last two axes are swapped.
    pub swapped: [bool; 2],
    /// Whether the first axis is put before the last.
    pub batches: [bool; 2],
    /// The factor.
    pub alpha: f64,
}

impl Operator for FusedMatMul {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let sides = [inputs.real(0)?, inputs.real(1)?];
        let mut index = 0;
        let [a, b] = sides.map(|side| {
            let (swapped, batches) = (self.swapped[index], self.batches[index]);
            index += 1;
            let rank = side.rank();
            let mut side = side;
            if batches && rank > 2 {
                let order: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
                side = side.permute(&order);
            }
            if swapped && rank > 1 { side.transpose() } else { side }
        });
        Ok(vec![(a.matmul(b)? * self.alpha).into()])
    }
}

/// An operator, a last summand, and a function of every element.
#[derive(Clone, Debug)]
pub struct Activated {
    /// The operator.
    pub op: Box<Op>,
    /// How many operands it has.
    pub operands: usize,
    /// The function.
    pub activation: super::recurrent::Activation,
}

impl Operator for Activated {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let operands = (0..self.operands).map(|index| inputs.optional(index)).collect();
        let result = self.op.run(cx, Inputs::new(operands))?.into_iter().next();
        let mut result = Real(result.ok_or_else(|| Error::malformed("no result"))?.float()?);
        if let Some(term) = inputs.optional_real(self.operands)? {
            result = result + term;
        }
        Ok(vec![self.activation.apply(result).into()])
    }
}

/// How ONNX Runtime spells them.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[
    ("BiasAdd", |_| Ok(Biased::Through(Unary::Identity).into())),
    ("BiasDropout", |_| Ok(Biased::Through(Unary::Identity).into())),
    ("BiasGelu", |_| Ok(Biased::Through(Unary::Gelu).into())),
    ("FastGelu", |_| Ok(Biased::Through(Unary::GeluTanh).into())),
    ("BiasSoftmax", |node| Ok(Biased::Softmax(node.int("axis", 1)).into())),
    ("BiasSplitGelu", |_| Ok(Biased::Split.into())),
    ("SkipLayerNormalization", |node| {
        Ok(SkipNorm { terms: [0, 1, 4], affine: [2, 3], ..skip(layer(node, 1e-12, true)) }.into())
    }),
    ("SkipSimplifiedLayerNormalization", |node| {
        Ok(SkipNorm { terms: [0, 1, 3], affine: [2, 5], ..skip(layer(node, 1e-5, false)) }.into())
    }),
    ("EmbedLayerNormalization", |node| {
        Ok(EmbedNorm { norm: layer(node, 1e-12, true), counts: node.reads(7) }.into())
    }),
    ("GroupNorm", |node| group_norm(node, [0, 8, 8])),
    ("SkipGroupNorm", |node| group_norm(node, [0, 3, 4])),
    ("FusedMatMul", |node| Ok(fused_matmul(node).into())),
    ("TransposeMatMul", |node| Ok(fused_matmul(node).into())),
    ("FusedGemm", |node| {
        let gemm = Gemm {
            left: node.int("transA", 0) != 0,
            right: node.int("transB", 0) != 0,
            alpha: node.float("alpha", 1.0),
            beta: node.float("beta", 1.0),
        };
        let params = ["activation_alpha", "activation_beta"];
        activated(node, gemm, 3, params.map(|name| node.has(name).then(|| node.float(name, 0.0))))
    }),
    ("GemmFastGelu", |_| {
        let activation = super::recurrent::Activation::Plain(Unary::GeluTanh);
        Ok(Activated { op: Box::new(MatMul.into()), operands: 2, activation }.into())
    }),
    ("FusedConv", |node| {
        let params = node.floats("activation_params").unwrap_or_default();
        let params = [params.first().copied(), params.get(1).copied()];
        activated(node, Conv::decode(node)?, 3, params)
    }),
];

fn layer(node: &Node<'_>, epsilon: f64, centered: bool) -> Norm {
    Norm { over: Over::From(-1), epsilon: node.float("epsilon", epsilon), centered, told: false }
}

fn skip(norm: Norm) -> SkipNorm {
    SkipNorm {
        norm,
        terms: [0; 3],
        affine: [0; 2],
        sum: 3,
        activation: Unary::Identity,
        channels_last: false,
    }
}

fn group_norm(node: &Node<'_>, terms: [usize; 3]) -> Result<Op> {
    let groups = sizes(&[node.int("groups", 1)])?;
    let over = Over::Groups(groups[0]);
    let norm = Norm { over, epsilon: node.float("epsilon", 1e-5), centered: true, told: false };
    let activation = match node.int("activation", 0) {
        0 => Unary::Identity,
        _ => Unary::Swish(1.0),
    };
    let channels_last = node.int("channels_last", 1) != 0;
    let affine = [1, 2];
    Ok(SkipNorm { terms, affine, sum: 1, activation, channels_last, ..skip(norm) }.into())
}

fn fused_matmul(node: &Node<'_>) -> FusedMatMul {
    let flag = |name: &str| node.int(name, 0) != 0;
    FusedMatMul {
        swapped: [flag("transA"), flag("transB")],
        batches: [flag("transBatchA"), flag("transBatchB")],
        alpha: node.float("alpha", 1.0),
    }
}

fn activated(
    node: &Node<'_>,
    op: impl Into<Op>,
    operands: usize,
    [alpha, beta]: [Option<f64>; 2],
) -> Result<Op> {
    let name = node.string("activation").unwrap_or_default();
    let activation = match name.as_str() {
        "" => super::recurrent::Activation::Plain(Unary::Identity),
        "Clip" => super::recurrent::Activation::Clip(
            alpha.unwrap_or(f64::from(f32::MIN)),
            beta.unwrap_or(f64::from(f32::MAX)),
        ),
        name => super::recurrent::named(name, || alpha, || beta)?,
    };
    Ok(Activated { op: Box::new(op.into()), operands, activation }.into())
}
