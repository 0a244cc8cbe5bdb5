//! Reductions of whole axes, and operators that run along one axis.

pub(super) mod aten;

use super::elementwise::{Elementwise, Zeros};
use super::{Operator, Shapes, axis, letter, operand, ranked};
use crate::graph::{Extent, Open};
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Kind, Rule, Use};
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// A reduction of axes to one element each.
#[derive(Clone, Debug)]
pub struct Reduce {
    /// What is computed.
    pub kind: ReduceKind,
    /// Which axes; `None`: all of them.
    pub axes: Option<Vec<i64>>,
    /// Whether reduced axes stay, with size 1.
    pub keep: bool,
}

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ReduceKind {
    Sum,
    L1,
    L2,
    SumSquare,
    Mean,
    Variance,
    Max,
    Min,
    Prod,
    LogSum,
    LogSumExp,
    ArgMax,
}

impl ReduceKind {
    fn effect(self) -> Kind {
        match self {
            ReduceKind::Sum | ReduceKind::L1 | ReduceKind::L2 | ReduceKind::SumSquare => {
                Kind::Summed
            }
            ReduceKind::LogSum => Kind::Summed,
            ReduceKind::Mean => Kind::Coupled("a mean is taken over it"),
            ReduceKind::Variance => Kind::Coupled("a variance is taken over it"),
            ReduceKind::Max | ReduceKind::Min => Kind::Coupled("an extremum is taken over it"),
            ReduceKind::Prod => Kind::Coupled("a product is taken over it"),
            ReduceKind::LogSumExp => Kind::Coupled("a sum of exponentials is taken over it"),
            ReduceKind::ArgMax => Kind::Fixed("argmax runs along it"),
        }
    }

    fn keeps_zero(self) -> bool {
        !matches!(self, ReduceKind::LogSumExp | ReduceKind::ArgMax)
    }
}

impl Operator for Reduce {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let reduced = match &self.axes {
            None => (0..data.len()).collect(),
            Some(axes) => axes.iter().map(|&a| axis(a, data.len())).collect::<Result<Vec<_>>>()?,
        };
        let mut r = Rule::new("reduce");
        let mut result: Vec<Dim> = Vec::new();
        let mut dims: Vec<Dim> = Vec::new();
        for (i, &extent) in data.iter().enumerate() {
            if reduced.contains(&i) {
                dims.push(r.factor(letter(i), extent, self.kind.effect()).into());
                result.extend(self.keep.then(Dim::one));
            } else {
                let factor = r.free(letter(i), extent);
                dims.push(factor.into());
                result.push(factor.into());
            }
        }
        r.operand(Use::Data, dims);
        r.result(result);
        r.flow = match self.kind {
            ReduceKind::LogSum => Flow::Pole,
            kind if kind.keeps_zero() => Flow::product([0], []),
            _ => Flow::Break,
        };
        Ok(r)
    }
}

/// An operator whose result along one axis depends on all of that axis.
#[derive(Clone, Debug)]
pub struct Along {
    /// Printed name.
    pub name: &'static str,
    /// Why the axis must stay whole.
    pub reason: &'static str,
    /// The axes.
    pub axes: Vec<i64>,
    /// The size of the axis in the results, where it differs.
    pub size: Option<Extent>,
    /// Number of results.
    pub results: usize,
    /// Whether a slice of zeros on another axis stays zero.
    pub keeps_zero: bool,
}

impl Along {
    /// An operator that keeps the shape.
    pub fn new(name: &'static str, reason: &'static str, axis: i64) -> Self {
        Along { name, reason, axes: vec![axis], size: None, results: 1, keeps_zero: false }
    }
}

impl Operator for Along {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = ranked(shapes, 0, 1)?;
        let axes =
            self.axes.iter().map(|&a| axis(a, data.len())).collect::<Result<Vec<usize>>>()?;
        let mut r = Rule::new(self.name);
        let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
        for (i, &extent) in data.iter().enumerate() {
            let factor = match axes.contains(&i) {
                true => r.fixed(letter(i), extent, self.reason),
                false => r.free(letter(i), extent),
            };
            dims.push(factor.into());
            result.push(match self.size.filter(|_| axes.contains(&i)) {
                Some(size) => r.fixed(letter(i) + "'", size, self.reason).into(),
                None => factor.into(),
            });
        }
        r.operand(Use::Data, dims);
        for _ in 0..self.results {
            r.result(result.clone());
        }
        r.flow = if self.keeps_zero { Flow::product([0], []) } else { Flow::Break };
        Ok(r)
    }
}

/// Softmax of the first opset versions: over all axes from `axis` on.
fn decode_softmax(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let rank = cx.input_shape(0)?.len();
    let modern = cx.opset() >= 13;
    let first = axis(cx.int("axis").unwrap_or(if modern { -1 } else { 1 }), rank)?;
    let last = if modern { first + 1 } else { rank };
    let axes = (first..last).map(|axis| axis as i64).collect();
    cx.node(Along { axes, ..Along::new("softmax", "softmax runs along it", 0) })
}

/// How many are picked, and what may become of that number.
fn topk_size(cx: &mut Decoder<'_, '_>, from: Extent) -> Result<(i64, Open)> {
    if cx.is_computed(1) {
        let count = cx.count(&[from]);
        return Ok((count.size as i64, count.open));
    }
    let exprs = cx.exprs(1)?;
    cx.freeze(&exprs);
    cx.eval(*exprs.first().ok_or_else(|| Error::malformed("no `k`"))?)
}

fn decode_topk(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let along = cx.int("axis").unwrap_or(-1);
    let from = data[axis(along, data.len())?];
    let (k, open) = match cx.int("k") {
        Some(k) => (k, Open::Stated),
        None => topk_size(cx, from)?,
    };
    let k = usize::try_from(k).map_err(|_| Error::malformed(format!("`k` is {k}")))?;
    let size = Some(Extent { size: k, open: open.max(from.open) });
    let along = Along::new("topk", "top-k runs along it", along);
    cx.node_over(1, Along { size, results: 2, ..along })
}

fn decode_cumsum(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let axis = *cx.known(1)?.first().ok_or_else(|| Error::malformed("no axis"))?;
    let along = Along::new("cumsum", "a cumulative sum runs along it", axis);
    cx.node_over(1, Along { keeps_zero: true, ..along })
}

fn decode(cx: &mut Decoder<'_, '_>, kind: ReduceKind) -> Result<()> {
    let keep = cx.int("keepdims").unwrap_or(1) != 0;
    let axes = match cx.ints("axes") {
        Some(axes) => Some(axes),
        None if cx.has(1) => Some(cx.known(1)?),
        None => None,
    };
    let axes = axes.filter(|axes| !axes.is_empty());
    if axes.is_none() && cx.int("noop_with_empty_axes").unwrap_or(0) != 0 {
        return cx.node_over(1, Elementwise { zeros: noop(kind), results: 1 });
    }
    cx.node_over(1, Reduce { kind, axes, keep })
}

/// What a reduction of no axes makes of zeros, element by element.
fn noop(kind: ReduceKind) -> Zeros {
    match kind {
        ReduceKind::LogSum => Zeros::Pole,
        kind if kind.keeps_zero() || kind == ReduceKind::LogSumExp => Zeros::FirstKept,
        _ => Zeros::Lost,
    }
}

fn decode_multinomial(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let size = usize::try_from(cx.int("sample_size").unwrap_or(1)).unwrap_or(0);
    let size = Extent::fixed(size);
    let along = Along::new("multinomial", "classes are drawn along it", 1);
    cx.node(Along { size: Some(size), ..along })
}

fn decode_global(cx: &mut Decoder<'_, '_>, kind: ReduceKind) -> Result<()> {
    let rank = cx.input_shape(0)?.len() as i64;
    cx.node(Reduce { kind, axes: Some((2..rank).collect()), keep: true })
}

fn decode_arg(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let axes = Some(vec![cx.int("axis").unwrap_or(0)]);
    let keep = cx.int("keepdims").unwrap_or(1) != 0;
    cx.node(Reduce { kind: ReduceKind::ArgMax, axes, keep })
}

/// How ONNX spells reductions and operators along an axis.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("ReduceSum", |cx| decode(cx, ReduceKind::Sum)),
    ("ReduceL1", |cx| decode(cx, ReduceKind::L1)),
    ("ReduceL2", |cx| decode(cx, ReduceKind::L2)),
    ("ReduceSumSquare", |cx| decode(cx, ReduceKind::SumSquare)),
    ("ReduceMean", |cx| decode(cx, ReduceKind::Mean)),
    ("ReduceMax", |cx| decode(cx, ReduceKind::Max)),
    ("ReduceMin", |cx| decode(cx, ReduceKind::Min)),
    ("ReduceProd", |cx| decode(cx, ReduceKind::Prod)),
    ("ReduceLogSum", |cx| decode(cx, ReduceKind::LogSum)),
    ("ReduceLogSumExp", |cx| decode(cx, ReduceKind::LogSumExp)),
    ("GlobalAveragePool", |cx| decode_global(cx, ReduceKind::Mean)),
    ("GlobalMaxPool", |cx| decode_global(cx, ReduceKind::Max)),
    ("GlobalLpPool", |cx| decode_global(cx, ReduceKind::L2)),
    ("ArgMax", decode_arg),
    ("ArgMin", decode_arg),
    ("Softmax", decode_softmax),
    ("LogSoftmax", decode_softmax),
    ("Hardmax", decode_softmax),
    ("Multinomial", decode_multinomial),
    ("TopK", decode_topk),
    ("CumSum", decode_cumsum),
    ("LRN", |cx| {
        let along = Along::new("lrn", "neighboring channels are compared", 1);
        cx.node(Along { keeps_zero: true, ..along })
    }),
    ("Trilu", |cx| {
        let along = Along::new("trilu", "a triangle is cut out of it", -1);
        cx.node_over(1, Along { axes: vec![-2, -1], keeps_zero: true, ..along })
    }),
];
