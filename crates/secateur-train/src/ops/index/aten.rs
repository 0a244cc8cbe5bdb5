//! How PyTorch spells elements at computed places.

use super::{Gather, OneHot, Pick, Place, Update};
use crate::ops::advanced::{Index, IndexPut};
use crate::ops::axis;
use crate::ops::view::View;
use crate::torch::{Call, Decode, Sort};
use crate::{Error, Result, Slot};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.embedding", |call| {
        let operands = [call.tensor("weight")?, call.tensor("indices")?];
        call.make(Gather { axis: 0 }, &operands)
    }),
    ("aten.index_select", |call| {
        let operands = [call.tensor("self")?, call.tensor("index")?];
        let axis = call.int("dim", 0)?;
        call.make(Gather { axis }, &operands)
    }),
    ("aten.gather", |call| pick(call, "index")),
    ("aten.take_along_dim", |call| pick(call, "indices")),
    ("aten.scatter", put),
    ("aten.scatter_add", |call| put_by(call, Update::Add)),
    ("aten.scatter_reduce", |call| {
        if !call.flag("include_self", true) {
            return Err(Error::unsupported("what is put there without what was there"));
        }
        let update = match call.text("reduce") {
            Some("sum") => Update::Add,
            Some("prod") => Update::Mul,
            Some("amin") => Update::Min,
            Some("amax") => Update::Max,
            other => {
                let other = other.unwrap_or_default();
                return Err(Error::unsupported(format!("`reduce` is `{other}`")));
            }
        };
        put_by(call, update)
    }),
    ("aten.index_add", |call| {
        let alpha = call.number_or("alpha", 1.0)?;
        if alpha != 1.0 {
            return Err(Error::unsupported("a factor of what is added"));
        }
        put_rows(call, "source", true)
    }),
    ("aten.index_copy", |call| put_rows(call, "source", false)),
    ("aten.index_fill", |call| put_rows(call, "value", false)),
    ("aten.index", advanced),
    ("aten._unsafe_index", advanced),
    ("aten.index_put", advanced_put),
    ("aten._unsafe_index_put", advanced_put),
    ("aten.one_hot", |call| {
        let sizes = call.result_sizes(0)?;
        let depth = sizes.last().copied().flatten();
        let depth = depth.ok_or_else(|| Error::unsupported("as many classes as data has"))?;
        let operands = [call.tensor("self")?, call.integer(depth as i64), call.integers(&[0, 1])];
        call.make(OneHot { axis: -1 }, &operands)
    }),
];

fn pick(call: &mut Call<'_, '_>, index: &str) -> Result<()> {
    let operands = [call.tensor("self")?, call.tensor(index)?];
    let place = Place::Elements(call.int("dim", 0)?);
    call.make(Pick { place, update: None }, &operands)
}

fn put(call: &mut Call<'_, '_>) -> Result<()> {
    match call.text("reduce") {
        None => put_by(call, Update::Replace),
        Some("add") => put_by(call, Update::Add),
        Some(other) => Err(Error::unsupported(format!("`reduce` is `{other}`"))),
    }
}

fn put_by(call: &mut Call<'_, '_>, update: Update) -> Result<()> {
    let sort = call.sort("self")?;
    let (x, index) = (call.tensor("self")?, call.tensor("index")?);
    let values = match call.has("src") {
        true => call.operand("src", sort)?,
        false => {
            let value = call.operand("value", sort)?;
            call.emit(View::ExpandLike, &[value, index])
        }
    };
    let place = Place::Elements(call.int("dim", 0)?);
    call.make(Pick { place, update: Some(update) }, &[x, index, values])
}

/// Slices along an axis, at positions of a vector.
fn put_rows(call: &mut Call<'_, '_>, values: &str, add: bool) -> Result<()> {
    let sort = call.sort("self")?;
    let operands = [call.tensor("self")?, call.operand(values, sort)?, call.tensor("index")?];
    let along = axis(call.int("dim", 0)?, call.rank("self")?)?;
    let given = (0..=along).map(|axis| axis == along).collect();
    call.make(IndexPut { index: Index { given }, add }, &operands)
}

/// Which indices are given, and those.
fn indices(call: &mut Call<'_, '_>) -> Result<(Index, Vec<Option<Slot>>)> {
    let slots = call.tensors("indices")?;
    if slots.iter().all(Option::is_none) {
        return Err(Error::malformed("no index"));
    }
    let given = slots.iter().map(Option::is_some).collect();
    Ok((Index { given }, slots.into_iter().filter(Option::is_some).collect()))
}

fn advanced(call: &mut Call<'_, '_>) -> Result<()> {
    let x = call.tensor("self")?;
    let (index, slots) = indices(call)?;
    call.make_over(index, [vec![Some(x)], slots].concat())
}

fn advanced_put(call: &mut Call<'_, '_>) -> Result<()> {
    let sort: Sort = call.sort("self")?;
    let operands = vec![Some(call.tensor("self")?), Some(call.operand("values", sort)?)];
    let (index, slots) = indices(call)?;
    let add = call.flag("accumulate", false);
    call.make_over(IndexPut { index, add }, [operands, slots].concat())
}
