//! How PyTorch spells reductions, and what runs along an axis.

use super::{Arg, CumSum, Reduce, Reduction, Softmax, TopK};
use crate::ops::elementwise::{Binary, Unary};
use crate::ops::index::Trilu;
use crate::ops::order::{CumProd, Flip, Roll, Sort as Sorted, Variance};
use crate::ops::shape::Reshape;
use crate::torch::{Call, Decode, Sort};
use crate::{Error, Result, Slot};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.mean", |call| summed(call, Reduction::Mean)),
    ("aten.sum", |call| summed(call, Reduction::Sum)),
    ("aten.prod", |call| summed(call, Reduction::Prod)),
    ("aten.amax", |call| extreme(call, Reduction::Max)),
    ("aten.amin", |call| extreme(call, Reduction::Min)),
    ("aten.max", |call| either(call, Reduction::Max, Binary::Max)),
    ("aten.min", |call| either(call, Reduction::Min, Binary::Min)),
    ("aten.all", |call| truth(call, Reduction::Min)),
    ("aten.any", |call| truth(call, Reduction::Max)),
    ("aten.std", |call| {
        let made = variance(call, |v| Variance { root: true, ..v })?;
        call.bind(0, made);
        Ok(())
    }),
    ("aten.var", |call| {
        let made = variance(call, |v| v)?;
        call.bind(0, made);
        Ok(())
    }),
    ("aten.var_mean", |call| {
        let made = variance(call, |v| v)?;
        with_mean(call, made)
    }),
    ("aten.std_mean", |call| {
        let made = variance(call, |v| Variance { root: true, ..v })?;
        with_mean(call, made)
    }),
    ("aten.logsumexp", |call| {
        let x = call.float("self")?;
        reduced(call, x, Reduction::LogSumExp)
    }),
    ("aten.norm", |call| norm(call, "p")),
    ("aten.linalg_vector_norm", |call| norm(call, "ord")),
    ("aten.aminmax", |call| {
        let x = call.tensor("self")?;
        for (slot, kind) in [Reduction::Min, Reduction::Max].into_iter().enumerate() {
            let reduce = reduce(call, kind)?;
            let made = call.emit(reduce, &[x]);
            call.bind(slot, made);
        }
        Ok(())
    }),
    ("aten.cosine_similarity", |call| {
        let axis = call.int("dim", 1)?;
        let [x, y] = [call.float("x1")?, call.float("x2")?];
        let along = |kind| Reduce { kind, axes: Some(vec![axis]), keep: false, none: false };
        let least = call.number_or("eps", 1e-8)?;
        let least = call.real(least);
        let product = call.emit(Binary::Mul, &[x, y]);
        let mut quotient = call.emit(along(Reduction::Sum), &[product]);
        for side in [x, y] {
            let length = call.emit(along(Reduction::L2), &[side]);
            let length = call.emit(Binary::Max, &[length, least]);
            quotient = call.emit(Binary::Div, &[quotient, length]);
        }
        call.bind(0, quotient);
        Ok(())
    }),
    ("aten.pairwise_distance", |call| {
        let difference = difference(call, "x1", "x2")?;
        let epsilon = call.number_or("eps", 1e-6)?;
        let epsilon = call.real(epsilon);
        let x = call.emit(Binary::Add, &[difference, epsilon]);
        distance(call, x)
    }),
    ("aten.cdist", distances),
    ("aten._cdist_forward", distances),
    ("aten._euclidean_dist", distances),
    ("aten.mse_loss", |call| {
        let x = difference(call, "self", "target")?;
        let x = call.emit(Binary::Mul, &[x, x]);
        loss(call, x)
    }),
    ("aten.l1_loss", |call| {
        let x = difference(call, "self", "target")?;
        let x = call.emit(Unary::Abs, &[x]);
        loss(call, x)
    }),
    ("aten.argmax", |call| position(call, true)),
    ("aten.argmin", |call| position(call, false)),
    ("aten.softmax", |call| shares(call, false)),
    ("aten._softmax", |call| shares(call, false)),
    ("aten.log_softmax", |call| shares(call, true)),
    ("aten._log_softmax", |call| shares(call, true)),
    ("aten._safe_softmax", |call| {
        let (axis, x) = (call.int("dim", -1)?, call.float("self")?);
        call.make(crate::ops::scaled::SafeSoftmax { axis }, &[x])
    }),
    ("aten.cumsum", |call| {
        let axis = call.int("dim", -1)?;
        let sort = call.result_sort(0)?;
        let (x, axis) = (call.operand("self", sort)?, call.integers(&[axis]));
        call.make(CumSum { exclusive: false, reverse: false }, &[x, axis])
    }),
    ("aten.cumprod", |call| {
        let (axis, x) = (call.int("dim", -1)?, call.float("self")?);
        call.make(CumProd { axis }, &[x])
    }),
    ("aten.sort", |call| {
        let (x, order) = (call.tensor("self")?, order(call)?);
        let [sorted, places] = call.emit_two(order, &[x]);
        call.bind(0, sorted);
        call.bind(1, places);
        Ok(())
    }),
    ("aten.argsort", |call| {
        let (x, order) = (call.tensor("self")?, order(call)?);
        let [_, places] = call.emit_two(order, &[x]);
        call.bind(0, places);
        Ok(())
    }),
    ("aten.topk", |call| {
        let (axis, largest) = (call.int("dim", -1)?, call.flag("largest", true));
        let (x, count) = (call.tensor("self")?, call.scalar("k", 1)?);
        let [values, places] = call.emit_two(TopK { axis, largest, count: None }, &[x, count]);
        call.bind(0, values);
        call.bind(1, places);
        Ok(())
    }),
    ("aten.flip", |call| {
        let (axes, x) = (call.ints("dims")?, call.tensor("self")?);
        call.make(Flip { axes }, &[x])
    }),
    ("aten.roll", |call| {
        let (shifts, axes, x) = (call.ints("shifts")?, call.ints("dims")?, call.tensor("self")?);
        let axes = axes.into_iter().map(Some).chain(std::iter::repeat(None));
        let shifts = axes.zip(shifts).collect();
        call.make(Roll { shifts }, &[x])
    }),
    ("aten.tril", |call| triangle(call, false)),
    ("aten.triu", |call| triangle(call, true)),
];

fn axes(call: &Call<'_, '_>) -> Result<Option<Vec<i64>>> {
    Ok(Some(call.ints("dim")?).filter(|axes| !axes.is_empty()))
}

fn reduce(call: &Call<'_, '_>, kind: Reduction) -> Result<Reduce> {
    Ok(Reduce { kind, axes: axes(call)?, keep: call.flag("keepdim", false), none: false })
}

fn reduced(call: &mut Call<'_, '_>, x: Slot, kind: Reduction) -> Result<()> {
    let reduce = reduce(call, kind)?;
    call.make(reduce, &[x])
}

/// A reduction in the sort of its result.
fn summed(call: &mut Call<'_, '_>, kind: Reduction) -> Result<()> {
    let sort = call.result_sort(0)?;
    let x = call.operand("self", sort)?;
    reduced(call, x, kind)
}

fn extreme(call: &mut Call<'_, '_>, kind: Reduction) -> Result<()> {
    let x = call.tensor("self")?;
    reduced(call, x, kind)
}

/// Of two tensors, or of axes, then with positions.
fn either(call: &mut Call<'_, '_>, kind: Reduction, of_two: Binary) -> Result<()> {
    if call.has("other") {
        let sort = call.sort("self")?.max(call.sort("other")?);
        let operands = [call.operand("self", sort)?, call.operand("other", sort)?];
        return call.make(of_two, &operands);
    }
    extreme(call, kind)?;
    if call.outputs() > 1 && call.is_read(1) {
        let (axis, keep) = (call.int("dim", -1)?, call.flag("keepdim", false));
        let x = call.tensor("self")?;
        let arg = Arg { largest: kind == Reduction::Max, axis, keep, last: false };
        let places = call.emit(arg, &[x]);
        call.bind(1, places);
    }
    Ok(())
}

fn truth(call: &mut Call<'_, '_>, kind: Reduction) -> Result<()> {
    let x = call.operand("self", Sort::Bool)?;
    let x = call.cast(x, Sort::Bool, Sort::Int);
    let reduce = reduce(call, kind)?;
    let made = call.emit(reduce, &[x]);
    call.make(Sort::Bool.cast(), &[made])
}

fn variance(call: &mut Call<'_, '_>, change: fn(Variance) -> Variance) -> Result<Slot> {
    let unbiased = if call.flag("unbiased", true) { 1.0 } else { 0.0 };
    let correction = call.number_or("correction", unbiased)?;
    let (axes, keep) = (call.ints("dim")?, call.flag("keepdim", false));
    let x = call.float("self")?;
    Ok(call.emit(change(Variance { axes, correction, keep, root: false }), &[x]))
}

fn with_mean(call: &mut Call<'_, '_>, made: Slot) -> Result<()> {
    call.bind(0, made);
    let (x, reduce) = (call.float("self")?, reduce(call, Reduction::Mean)?);
    let mean = call.emit(reduce, &[x]);
    call.bind(1, mean);
    Ok(())
}

fn norm(call: &mut Call<'_, '_>, order: &str) -> Result<()> {
    let (order, x) = (call.number_or(order, 2.0)?, call.float("self")?);
    let kind = match order {
        1.0 => Reduction::L1,
        2.0 => Reduction::L2,
        order if order.is_infinite() => {
            let x = call.emit(Unary::Abs, &[x]);
            let kind = if order > 0.0 { Reduction::Max } else { Reduction::Min };
            return reduced(call, x, kind);
        }
        order if order > 0.0 => {
            let x = call.emit(Unary::Abs, &[x]);
            let exponents = [call.real(order), call.real(1.0 / order)];
            let x = call.emit(Binary::Pow, &[x, exponents[0]]);
            let reduce = reduce(call, Reduction::Sum)?;
            let sum = call.emit(reduce, &[x]);
            return call.make(Binary::Pow, &[sum, exponents[1]]);
        }
        order => return Err(Error::unsupported(format!("a norm of order {order}"))),
    };
    reduced(call, x, kind)
}

fn difference(call: &mut Call<'_, '_>, one: &str, other: &str) -> Result<Slot> {
    let operands = [call.float(one)?, call.float(other)?];
    Ok(call.emit(Binary::Sub, &operands))
}

/// The length of differences along the last axis.
fn distance(call: &mut Call<'_, '_>, differences: Slot) -> Result<()> {
    let kind = match call.number_or("p", 2.0)? {
        1.0 => Reduction::L1,
        2.0 => Reduction::L2,
        order => return Err(Error::unsupported(format!("a distance of order {order}"))),
    };
    let keep = call.flag("keepdim", false);
    call.make(Reduce { kind, axes: Some(vec![-1]), keep, none: false }, &[differences])
}

/// Distances of all rows from all others.
fn distances(call: &mut Call<'_, '_>) -> Result<()> {
    let [x, y] = [call.float("x1")?, call.float("x2")?];
    let x = call.emit(Reshape::Unsqueeze(Some(vec![-2])), &[x]);
    let y = call.emit(Reshape::Unsqueeze(Some(vec![-3])), &[y]);
    let x = call.emit(Binary::Sub, &[x, y]);
    distance(call, x)
}

/// What becomes of the loss of every element.
fn loss(call: &mut Call<'_, '_>, elements: Slot) -> Result<()> {
    let kind = match call.int("reduction", 1)? {
        0 => {
            call.bind(0, elements);
            return Ok(());
        }
        1 => Reduction::Mean,
        _ => Reduction::Sum,
    };
    call.make(Reduce { kind, axes: None, keep: false, none: false }, &[elements])
}

/// Without an axis, the position among all elements.
fn position(call: &mut Call<'_, '_>, largest: bool) -> Result<()> {
    let mut x = call.tensor("self")?;
    let axis = match call.has("dim") {
        true => call.int("dim", -1)?,
        false => {
            x = call.emit(crate::ops::view::View::Flatten(0, -1), &[x]);
            0
        }
    };
    let keep = call.flag("keepdim", false);
    call.make(Arg { largest, axis, keep, last: false }, &[x])
}

fn shares(call: &mut Call<'_, '_>, log: bool) -> Result<()> {
    let (axis, x) = (call.int("dim", -1)?, call.float("self")?);
    call.make(Softmax { axis, rest: false, log }, &[x])
}

fn order(call: &Call<'_, '_>) -> Result<Sorted> {
    Ok(Sorted { axis: call.int("dim", -1)?, descending: call.flag("descending", false) })
}

fn triangle(call: &mut Call<'_, '_>, upper: bool) -> Result<()> {
    let (x, diagonal) = (call.tensor("self")?, call.scalar("diagonal", 0)?);
    call.make(Trilu { upper }, &[x, diagonal])
}
