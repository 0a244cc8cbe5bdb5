//! How PyTorch spells reductions and operators along an axis.

use super::{Along, Reduce, ReduceKind};
use crate::graph::Extent;
use crate::ops::axis;
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
    ("aten.var_mean", decode_var_mean),
    ("aten.std_mean", decode_var_mean),
    ("aten.logsumexp", |cx| decode(cx, ReduceKind::LogSumExp)),
    ("aten.norm", |cx| decode_norm(cx, "p")),
    ("aten.linalg_vector_norm", |cx| decode_norm(cx, "ord")),
    ("aten.argmax", |cx| decode(cx, ReduceKind::ArgMax)),
    ("aten.argmin", |cx| decode(cx, ReduceKind::ArgMax)),
    ("aten.softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten._safe_softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten._softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten.log_softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten._log_softmax", |cx| along(cx, "softmax", "softmax runs along it", "dim")),
    ("aten.cumprod", |cx| along(cx, "cumprod", "a cumulative product runs along it", "dim")),
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

fn decode_var_mean(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let (axes, keep) = (axes(cx)?, cx.flag("keepdim", false));
    for (slot, kind) in [ReduceKind::Variance, ReduceKind::Mean].into_iter().enumerate() {
        let reduced = cx.emit(Reduce { kind, axes: axes.clone(), keep }, &[data])?;
        cx.bind(slot, reduced);
    }
    Ok(())
}

/// Norms of a finite order above zero are sums.
fn decode_norm(cx: &mut Decoder<'_, '_>, order: &str) -> Result<()> {
    let order = cx.number(order).unwrap_or(2.0);
    let kind = match order {
        order if order.is_infinite() && order > 0.0 => ReduceKind::Max,
        order if order > 0.0 => ReduceKind::L2,
        _ => ReduceKind::LogSumExp,
    };
    decode(cx, kind)
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
