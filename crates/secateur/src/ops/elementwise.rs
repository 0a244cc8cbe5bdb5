//! Elementwise operators with numpy's broadcasting, of any number of operands.

mod aten;

use super::{Operator, Shapes, letter};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// An elementwise operator.
#[derive(Clone, Debug)]
pub struct Elementwise {
    /// What zeros become.
    pub zeros: Zeros,
    /// Number of results (a dropout also returns its mask).
    pub results: usize,
}

/// What an elementwise operator makes of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// The first operand, as it is.
    Moved,
    /// Zero where the first operand is: relu, gelu, tanh, …; `x^p` with `p > 0`.
    FirstKept,
    /// Zero where any operand is: a product.
    AnyKept,
    /// Zero where all operands are: sum, difference, maximum.
    AllKept,
    /// Zero where both branches of a selection are.
    BranchesKept,
    /// Zero where these operands are, one bit for each: the other terms are zero themselves.
    SomeKept(u64),
    /// Zero where the first operand is, undefined where the second is: a quotient.
    Quotient,
    /// No longer zero: sigmoid, exponential, comparisons.
    Lost,
    /// Not defined at zero: logarithm, reciprocal.
    Pole,
}

impl Zeros {
    fn flow(self, operands: usize) -> Flow {
        match self {
            Zeros::Moved => Flow::First,
            Zeros::FirstKept => Flow::product([0], []),
            Zeros::AnyKept => Flow::product((0..operands).collect::<Vec<_>>(), []),
            Zeros::AllKept => Flow::product([], (0..operands).collect::<Vec<_>>()),
            Zeros::BranchesKept => Flow::product([], [1, 2]),
            Zeros::SomeKept(terms) => {
                let is_term =
                    |operand: &usize| terms.checked_shr(*operand as u32).unwrap_or(0) & 1 == 1;
                Flow::product([], (0..operands).filter(is_term).collect::<Vec<_>>())
            }
            Zeros::Quotient => {
                Flow::Product { factors: vec![0], terms: Vec::new(), divisors: vec![1] }
            }
            Zeros::Lost => Flow::Break,
            Zeros::Pole => Flow::Pole,
        }
    }
}

impl Operator for Elementwise {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let rank = shapes.iter().flatten().map(|shape| shape.len()).max().unwrap_or(0);
        let mut r = Rule::new("elementwise");
        let result: Vec<Dim> = (0..rank)
            .map(|index| {
                let extent = broadcast(shapes, rank, index)?;
                Ok(r.free(letter(index), extent).into())
            })
            .collect::<Result<_>>()?;
        for shape in shapes {
            let shape = shape.unwrap_or_default();
            let spell = |(extent, dim): (&Extent, &Dim)| {
                if extent.size == r.extent(dim).size { dim.clone() } else { Dim::one() }
            };
            let dims = shape.iter().zip(&result[rank - shape.len()..]).map(spell).collect();
            r.operand(if shapes.len() == 1 { Use::Data } else { Use::Affine }, dims);
        }
        r.flow = self.zeros.flow(shapes.len());
        for _ in 0..self.results {
            r.result(result.clone());
        }
        Ok(r)
    }
}

/// The extent of axis `index` of the broadcast shape.
fn broadcast(shapes: &Shapes<'_>, rank: usize, index: usize) -> Result<Extent> {
    let mut result = Extent::fixed(1);
    for shape in shapes.iter().flatten() {
        let Some(&extent) = (index + shape.len()).checked_sub(rank).map(|i| &shape[i]) else {
            continue;
        };
        if result.size == extent.size {
            result.open = result.open.max(extent.open);
        } else if result.size == 1 {
            result = extent;
        } else if extent.size != 1 {
            let message = format!("sizes {} and {} do not broadcast", result.size, extent.size);
            return Err(Error::malformed(message));
        }
    }
    Ok(result)
}

macro_rules! table {
    ($($zeros:ident: $($name:literal)*;)*) => {
        &[$($(($name, |cx| cx.node(Elementwise { zeros: Zeros::$zeros, results: 1 })),)*)*]
    };
}

/// Operators whose zeros do not depend on attributes or operands.
pub(crate) const ONNX: &[(&str, Decode)] = table! {
    Moved: "Identity";
    FirstKept: "Abs" "Asin" "Asinh" "Atan" "Atanh" "Bernoulli" "BitShift" "Cast" "Ceil" "Celu"
        "Elu" "Erf" "Floor" "Gelu" "HardSwish" "LeakyRelu" "Mish" "Neg" "PRelu" "Relu" "Round" "Selu" "Shrink" "Sign" "Sin" "Sinh" "Softsign"
        "Sqrt" "Swish" "Tan" "Tanh" "ThresholdedRelu" "IsNaN" "IsInf";
    AnyKept: "Mul" "And" "BitwiseAnd";
    Quotient: "Div" "Mod";
    Pole: "Acosh" "Log" "Reciprocal";
    Lost: "Acos" "BitwiseNot" "Cos" "Cosh" "Equal" "Exp" "Greater" "GreaterOrEqual"
        "HardSigmoid" "Less" "LessOrEqual" "Not" "RandomNormalLike" "RandomUniformLike" "Sigmoid" "Softplus";
};

/// How ONNX Runtime spells more of them.
pub(crate) const CONTRIB: &[(&str, Decode)] = table! {
    FirstKept: "Gelu" "QuickGelu";
};

/// Operators whose zeros do.
pub(crate) const ONNX_SPECIAL: &[(&str, Decode)] = &[
    ("Add", decode_terms),
    ("BitwiseOr", decode_terms),
    ("BitwiseXor", decode_terms),
    ("CastLike", |cx| {
        // Of the other operand, the type alone is read.
        cx.node_over(1, Elementwise { zeros: Zeros::FirstKept, results: 1 })
    }),
    ("Clip", decode_clip),
    ("Dropout", decode_dropout),
    ("Max", decode_terms),
    ("Mean", decode_terms),
    ("Min", decode_terms),
    ("Or", decode_terms),
    ("Pow", decode_pow),
    ("Sub", decode_terms),
    ("Sum", decode_terms),
    ("Where", |cx| decode_terms_from(cx, 1, Zeros::BranchesKept)),
    ("Xor", decode_terms),
];

fn decode_terms(cx: &mut Decoder<'_, '_>) -> Result<()> {
    decode_terms_from(cx, 0, Zeros::AllKept)
}

/// A constant zero among the terms, from operand `first` on, does not keep the result from zero.
fn decode_terms_from(cx: &mut Decoder<'_, '_>, first: usize, all: Zeros) -> Result<()> {
    let count = cx.input_count();
    let terms: Vec<usize> = (first..count).filter(|&slot| !cx.is_zero(slot)).collect();
    let some = terms.iter().filter_map(|&slot| 1u64.checked_shl(slot as u32)).fold(0, |a, b| a | b);
    let whole = terms.is_empty() || terms.len() + first == count || count > 64;
    cx.node(Elementwise { zeros: if whole { all } else { Zeros::SomeKept(some) }, results: 1 })
}

fn decode_clip(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let bound = |cx: &mut Decoder<'_, '_>, slot: usize, name: &str| match cx.has(slot) {
        true => cx.number(slot),
        false => Some(cx.float(name).map_or(0.0, f64::from)),
    };
    let low = bound(cx, 1, "min").is_some_and(|low| low <= 0.0);
    let high = bound(cx, 2, "max").is_some_and(|high| high >= 0.0);
    let zeros = if low && high { Zeros::FirstKept } else { Zeros::Lost };
    cx.node_over(1, Elementwise { zeros, results: 1 })
}

fn decode_pow(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let power = cx.number(1);
    let positive = power.is_some_and(|power| power > 0.0);
    let zeros = match power {
        Some(power) if power > 0.0 => Zeros::FirstKept,
        Some(power) if power < 0.0 => Zeros::Pole,
        _ => Zeros::Lost,
    };
    if positive {
        cx.node_over(1, Elementwise { zeros, results: 1 })
    } else {
        cx.node(Elementwise { zeros, results: 1 })
    }
}

fn decode_dropout(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let results = cx.output_count();
    cx.node_over(1, Elementwise { zeros: Zeros::FirstKept, results })
}

/// Whether an ONNX operator is elementwise.
pub(crate) fn is(kind: &str) -> bool {
    ONNX.iter().chain(ONNX_SPECIAL).any(|entry| entry.0 == kind)
}
