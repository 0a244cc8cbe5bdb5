//! How PyTorch spells reductions and operators along an axis.

use super::{Along, Reduce, ReduceKind};
use crate::graph::Extent;
use crate::ops::axis;
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::ops::reshape::Reshape;
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.mean", |cx| decode(cx, ReduceKind::Mean)),
    ("aten.sum", |cx| decode(cx, ReduceKind::Sum)),
    ("aten.prod", |cx| decode(cx, ReduceKind::Prod)),
    ("aten.amax", |cx| decode(cx, ReduceKind::Max)),
    ("aten.amin", |cx| decode(cx, ReduceKind::Min)),
    ("aten.all", |cx| decode(cx, ReduceKind::Min)),
    ("aten.any", |cx| decode(cx, ReduceKind::Max)),
    ("aten.std", |cx| decode(cx, ReduceKind::Variance)),
    ("aten.var", |cx| decode(cx, ReduceKind::Variance)),
    ("aten.var_mean", |cx| each(cx, [ReduceKind::Variance, ReduceKind::Mean])),
    ("aten.std_mean", |cx| each(cx, [ReduceKind::Variance, ReduceKind::Mean])),
    ("aten.logsumexp", |cx| decode(cx, ReduceKind::LogSumExp)),
    ("aten.norm", |cx| decode_norm(cx, "p")),
    ("aten.linalg_vector_norm", |cx| decode_norm(cx, "ord")),
    ("aten.argmax", |cx| decode(cx, ReduceKind::ArgMax)),
    ("aten.argmin", |cx| decode(cx, ReduceKind::ArgMax)),
    ("aten.median", |cx| decode(cx, ReduceKind::ArgMax)),
    ("aten.nanmedian", |cx| decode(cx, ReduceKind::ArgMax)),
    ("aten.count_nonzero", |cx| decode(cx, ReduceKind::Sum)),
    ("aten.nansum", |cx| decode(cx, ReduceKind::Sum)),
    ("aten._is_all_true", |cx| decode(cx, ReduceKind::Min)),
    ("aten._is_any_true", |cx| decode(cx, ReduceKind::Max)),
    ("aten.aminmax", |cx| each(cx, [ReduceKind::Min, ReduceKind::Max])),
    ("aten.cdist", decode_distances),
    ("aten._cdist_forward", decode_distances),
    ("aten._euclidean_dist", decode_distances),
    ("aten.cosine_similarity", |cx| {
        let axis = cx.int("dim", 1)?;
        differences(cx, ["x1", "x2"], Zeros::AllKept, ReduceKind::L2, Some(vec![axis]))
    }),
    ("aten.pairwise_distance", |cx| {
        differences(cx, ["x1", "x2"], Zeros::Lost, ReduceKind::L2, Some(vec![-1]))
    }),
    ("aten.mse_loss", |cx| loss(cx, Zeros::AllKept)),
    ("aten.l1_loss", |cx| loss(cx, Zeros::AllKept)),
    ("aten.smooth_l1_loss", |cx| loss(cx, Zeros::AllKept)),
    ("aten.huber_loss", |cx| loss(cx, Zeros::AllKept)),
    ("aten.kl_div", |cx| loss(cx, Zeros::Lost)),
    ("aten.soft_margin_loss", |cx| loss(cx, Zeros::Lost)),
    ("aten.binary_cross_entropy", |cx| loss(cx, Zeros::Lost)),
    ("aten.binary_cross_entropy_with_logits", |cx| loss(cx, Zeros::Lost)),
    ("aten.renorm", |cx| {
        let data = cx.tensor("self")?;
        let rank = cx.shape(data)?.len();
        let along = axis(cx.int("dim", 0)?, rank)?;
        let others = (0..rank).filter(|&axis| axis != along).map(|axis| axis as i64).collect();
        let norm = Reduce { kind: ReduceKind::L2, axes: Some(others), keep: true };
        let norm = cx.emit(norm, &[data])?;
        cx.node(Elementwise { zeros: Zeros::Quotient, results: 1 }, &[data, norm])
    }),
    ("aten.softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten._safe_softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten._softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten.log_softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten._log_softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten.cumprod", |cx| along(cx, "cumprod", "a cumulative product runs along it", "dim")),
    ("aten.cummax", |cx| along(cx, "cummax", "a cumulative maximum runs along it", "dim")),
    ("aten.cummin", |cx| along(cx, "cummin", "a cumulative minimum runs along it", "dim")),
    ("aten.logcumsumexp", |cx| along(cx, "cumsum", "a cumulative sum runs along it", "dim")),
    ("aten.sort", |cx| along(cx, "sort", "it is sorted", "dim")),
    ("aten.argsort", |cx| along(cx, "sort", "it is sorted", "dim")),
    ("aten.cumsum", |cx| moved(cx, "cumsum", "a cumulative sum runs along it")),
    ("aten.flip", |cx| {
        let axes = cx.ints("dims")?.unwrap_or_default();
        keeping(cx, "flip", "its order is reversed", axes)
    }),
    ("aten.roll", decode_roll),
    ("aten.tril", |cx| keeping(cx, "trilu", "a triangle is cut out of it", vec![-2, -1])),
    ("aten.triu", |cx| keeping(cx, "trilu", "a triangle is cut out of it", vec![-2, -1])),
    ("aten.topk", decode_topk),
    ("aten.mode", |cx| selected(cx, "the most frequent value along it is picked")),
    ("aten.kthvalue", |cx| selected(cx, "a value is picked by its rank")),
    ("aten.multinomial", |cx| {
        let size = usize::try_from(cx.int("num_samples", 1)?).unwrap_or(0);
        let along = Along::new("multinomial", "classes are drawn along it", -1);
        let data = cx.tensor("self")?;
        cx.node(Along { size: Some(Extent::fixed(size)), ..along }, &[data])
    }),
];

/// Named axes, or all.
fn axes(cx: &mut Decoder<'_, '_>) -> Result<Option<Vec<i64>>> {
    Ok(cx.ints("dim")?.filter(|axes| !axes.is_empty()))
}

/// `max.dim` and the like return positions too; `max.other` is elementwise, and decoded elsewhere.
pub(crate) fn decode(cx: &mut Decoder<'_, '_>, kind: ReduceKind) -> Result<()> {
    let data = cx.tensor("self")?;
    let (axes, keep) = (axes(cx)?, cx.flag("keepdim", false));
    let reduced = cx.emit(Reduce { kind, axes: axes.clone(), keep }, &[data])?;
    cx.bind(0, reduced);
    if cx.output_count() > 1 {
        let places = Reduce { kind: ReduceKind::ArgMax, axes, keep };
        match cx.is_read(1) {
            true => {
                let places = cx.emit(places, &[data])?;
                cx.bind(1, places);
            }
            false => cx.drop_results(1..2),
        }
    }
    Ok(())
}

/// A result for each kind of reduction.
fn each(cx: &mut Decoder<'_, '_>, kinds: [ReduceKind; 2]) -> Result<()> {
    let data = cx.tensor("self")?;
    let (axes, keep) = (axes(cx)?, cx.flag("keepdim", false));
    for (slot, kind) in kinds.into_iter().enumerate() {
        let reduced = cx.emit(Reduce { kind, axes: axes.clone(), keep }, &[data])?;
        cx.bind(slot, reduced);
    }
    Ok(())
}

/// Distances of rows `[b.., p, m]` and `[b.., q, m]`, `[b.., p, q]`.
fn decode_distances(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let operands = [cx.tensor("x1")?, cx.tensor("x2")?];
    let order = cx.number("p").unwrap_or(2.0);
    let mut rows = Vec::new();
    for (operand, back) in operands.into_iter().zip([1, 2]) {
        let mut shape = cx.shape(operand)?;
        let at = shape.len().checked_sub(back).ok_or_else(|| Error::malformed("no rows"))?;
        shape.insert(at, Extent::fixed(1));
        rows.push(cx.emit(Reshape::implied(shape), &[operand])?);
    }
    let differences = cx.emit(Elementwise { zeros: Zeros::AllKept, results: 1 }, &rows)?;
    cx.node(Reduce { kind: norm(order), axes: Some(vec![-1]), keep: false }, &[differences])
}

/// What two tensors make element by element, reduced.
fn differences(
    cx: &mut Decoder<'_, '_>,
    names: [&str; 2],
    zeros: Zeros,
    kind: ReduceKind,
    axes: Option<Vec<i64>>,
) -> Result<()> {
    let mut operands = vec![cx.tensor(names[0])?, cx.tensor(names[1])?];
    for weight in ["weight", "pos_weight"] {
        operands.extend(cx.optional(weight)?);
    }
    let differences = cx.emit(Elementwise { zeros, results: 1 }, &operands)?;
    let keep = cx.flag("keepdim", false);
    cx.node(Reduce { kind, axes, keep }, &[differences])
}

/// Losses of every element, or their mean or sum.
fn loss(cx: &mut Decoder<'_, '_>, zeros: Zeros) -> Result<()> {
    let (axes, kind) = match cx.int("reduction", 1)? {
        0 => (Some(Vec::new()), ReduceKind::Sum),
        1 => (None, ReduceKind::Mean),
        _ => (None, ReduceKind::Sum),
    };
    differences(cx, ["self", "target"], zeros, kind, axes)
}

/// Norms of a finite order above zero are sums.
fn decode_norm(cx: &mut Decoder<'_, '_>, order: &str) -> Result<()> {
    let order = cx.number(order).unwrap_or(2.0);
    decode(cx, norm(order))
}

fn norm(order: f64) -> ReduceKind {
    match order {
        order if order.is_infinite() && order > 0.0 => ReduceKind::Max,
        order if order > 0.0 => ReduceKind::L2,
        _ => ReduceKind::LogSumExp,
    }
}

fn along(
    cx: &mut Decoder<'_, '_>,
    name: &'static str,
    reason: &'static str,
    dim: &'static str,
) -> Result<()> {
    let axis = cx.int(dim, -1)?;
    let results = cx.output_count();
    let data = cx.tensor("self")?;
    cx.node(Along { results, ..Along::new(name, reason, axis) }, &[data])
}

/// A value along an axis, the last by default, and its place.
fn selected(cx: &mut Decoder<'_, '_>, reason: &'static str) -> Result<()> {
    let (axis, data) = (cx.int("dim", -1)?, cx.tensor("self")?);
    let one = Some(Extent::fixed(1));
    let kept = Along { size: one, results: 2, ..Along::new("selected", reason, axis) };
    if cx.flag("keepdim", false) {
        return cx.node(kept, &[data]);
    }
    for (slot, value) in cx.emit_all(kept, vec![Some(data)])?.into_iter().enumerate() {
        let shape = cx.result_shape(slot)?;
        let value = cx.emit(Reshape::implied(shape), &[value])?;
        cx.bind(slot, value);
    }
    Ok(())
}

fn moved(cx: &mut Decoder<'_, '_>, name: &'static str, reason: &'static str) -> Result<()> {
    let axis = cx.int("dim", -1)?;
    keeping(cx, name, reason, vec![axis])
}

fn keeping(
    cx: &mut Decoder<'_, '_>,
    name: &'static str,
    reason: &'static str,
    axes: Vec<i64>,
) -> Result<()> {
    let data = cx.tensor("self")?;
    cx.node(Along { axes, keeps_zero: true, ..Along::new(name, reason, 0) }, &[data])
}

/// A roll of no axis runs over all of them.
fn decode_roll(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let rank = cx.shape(data)?.len() as i64;
    cx.ints("shifts")?;
    let axes = cx.ints("dims")?.filter(|axes| !axes.is_empty());
    keeping(cx, "roll", "its order is turned", axes.unwrap_or_else(|| (0..rank).collect()))
}

fn decode_topk(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let size = usize::try_from(cx.int("k", 1)?).map_err(|_| Error::malformed("a negative `k`"))?;
    let along = Along::new("topk", "top-k runs along it", cx.int("dim", -1)?);
    let data = cx.tensor("self")?;
    axis(along.axes[0], cx.shape(data)?.len())?;
    cx.node(Along { size: Some(Extent::fixed(size)), results: 2, ..along }, &[data])
}
