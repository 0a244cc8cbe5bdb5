//! How PyTorch spells rows and elements picked by index.

use super::{Gather, OneHot, PICKED, Pick};
use crate::graph::{Extent, ValueId};
use crate::ops::written::{Written, kept};
use crate::ops::{agree, letter};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::torch::{Decode, Decoder};
use crate::{DType, Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.embedding", |cx| {
        let operands = [cx.tensor("weight")?, cx.tensor("indices")?];
        cx.node(Gather { axis: 0, matters: true }, &operands)
    }),
    ("aten.index_select", |cx| {
        let axis = cx.int("dim", 0)?;
        let operands = [cx.tensor("self")?, cx.tensor("index")?];
        cx.node(Gather { axis, matters: true }, &operands)
    }),
    ("aten.gather", |cx| {
        let axis = cx.int("dim", 0)?;
        let operands = [cx.tensor("self")?, cx.tensor("index")?];
        cx.node(Pick::Elements { axis }, &operands)
    }),
    ("aten.take_along_dim", |cx| {
        let axis = cx.int("dim", 0)?;
        let operands = [cx.tensor("self")?, cx.tensor("indices")?];
        cx.node(Pick::Elements { axis }, &operands)
    }),
    ("aten.scatter", put),
    ("aten.scatter_add", put),
    ("aten.scatter_reduce", put),
    ("aten.index_add", put_along),
    ("aten.index_copy", put_along),
    ("aten.index_fill", put_along),
    ("aten.index_reduce", put_along),
    ("aten.embedding_bag", decode_bags),
    ("aten._embedding_bag", decode_bags),
    ("aten._embedding_bag_forward_only", decode_bags),
    ("aten.index", decode_index),
    ("aten.index_put", decode_index_put),
    ("aten._unsafe_index", decode_index),
    ("aten.one_hot", |cx| {
        let indices = cx.tensor("self")?;
        let shape = cx.result_shape(0)?;
        let depth = shape.last().copied().ok_or_else(|| Error::malformed("no classes"))?;
        cx.ints("num_classes")?;
        cx.node(OneHot { axis: -1, depth }, &[indices])
    }),
];

/// Rows of a table, summed up or the like by bag.
fn decode_bags(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let weight = cx.tensor("weight")?;
    let (table, bags) = (cx.shape(weight)?, cx.result_shape(0)?);
    let (&[rows, width], &[count, _]) = (&table[..], &bags[..]) else {
        return Err(Error::malformed("a table or bags of other than two axes"));
    };
    let mut r = Rule::new("embedding_bag");
    let (rows, width) = (r.fixed("rows", rows, PICKED), r.free("d", width));
    r.operand(Use::Table, vec![rows.into(), width.into()]);
    let mut operands = vec![weight];
    operands.extend(kept(cx, &mut r, &["indices", "offsets", "per_sample_weights"], PICKED)?);
    let count = r.fixed("b", count, PICKED);
    r.result(vec![count.into(), width.into()]);
    r.flow = Flow::First;
    let made = cx.emit(Written(r), &operands)?;
    cx.bind(0, made);
    cx.drop_results(1..4);
    Ok(())
}

/// Elements are put, or one number instead of each.
fn put(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let axis = cx.int("dim", 0)?;
    let (data, index) = (cx.tensor("self")?, cx.tensor("index")?);
    if let Some(updates) = cx.optional("src")? {
        return cx.node(Pick::PutElements { axis }, &[data, index, updates]);
    }
    let places = cx.shape(index)?;
    let mut r = super::elements(&cx.shape(data)?, &places, axis, Some(&places))?;
    r.operands.pop();
    r.flow = filled(cx);
    cx.node(Written(r), &[data, index])
}

/// Where zeros go when one number is put into the data.
fn filled(cx: &Decoder<'_, '_>) -> Flow {
    if cx.number("value") == Some(0.0) { Flow::product([], [0]) } else { Flow::Break }
}

/// Slices along an axis are put or added, or one number instead of each.
fn put_along(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, index, source) = (cx.tensor("self")?, cx.tensor("index")?, cx.optional("source")?);
    let along = crate::ops::axis(cx.int("dim", 0)?, cx.shape(data)?.len())?;
    put_slices(cx, data, &Places { indexed: vec![(along, index)], at: along }, source)
}

/// Where the picks of an advanced index stand: the axes that are indexed, and the first axis of
/// the result that the picks make. A mask beside other indices is not followed.
struct Places {
    indexed: Vec<(usize, ValueId)>,
    at: usize,
}

fn places(cx: &mut Decoder<'_, '_>, rank: usize) -> Result<Places> {
    let mut indexed = Vec::new();
    for (axis, index) in cx.tensors("indices")?.into_iter().enumerate() {
        let Some(index) = index else { continue };
        if matches!(cx.dtype(index), Some(DType::Bool | DType::U8)) {
            return Err(Error::unsupported("elements picked by a mask"));
        }
        indexed.push((axis, index));
    }
    let (Some(first), Some(last)) = (indexed.first(), indexed.last()) else {
        return Err(Error::malformed("no index"));
    };
    if last.0 >= rank {
        return Err(Error::malformed("more indices than axes"));
    }
    let adjacent = last.0 - first.0 + 1 == indexed.len();
    let at = if adjacent { first.0 } else { 0 };
    Ok(Places { indexed, at })
}

/// The axes of data that is picked from, of the indices, and of what is picked.
type Spelled = (Vec<Dim>, Vec<Vec<Dim>>, Vec<Dim>);

/// `picks` makes the axes of the indices.
fn spell(
    cx: &Decoder<'_, '_>,
    r: &mut Rule,
    data: &[Extent],
    places: &Places,
    picks: impl Fn(&mut Rule, &[Extent]) -> Vec<Dim>,
) -> Result<Spelled> {
    let shapes = places.indexed.iter().map(|&(_, index)| cx.shape(index));
    let shapes = shapes.collect::<Result<Vec<Vec<Extent>>>>()?;
    let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
    let mut wide = vec![Extent::fixed(1); rank];
    for shape in &shapes {
        for (wide, &extent) in wide[rank - shape.len()..].iter_mut().zip(shape) {
            if wide.size == 1 {
                *wide = extent;
            } else if extent.size != 1 {
                agree("sizes of the indices", wide.size, extent.size)?;
            }
        }
    }
    let picks = picks(r, &wide);
    let indices = shapes.iter().map(|shape| spread(r, shape, &picks)).collect::<Result<_>>()?;
    let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
    for (axis, &extent) in data.iter().enumerate() {
        if places.indexed.iter().any(|&(indexed, _)| indexed == axis) {
            dims.push(r.fixed(letter(axis), extent, PICKED).into());
            continue;
        }
        let factor = r.free(letter(axis), extent);
        dims.push(factor.into());
        result.push(factor.into());
    }
    result.splice(places.at..places.at, picks);
    Ok((dims, indices, result))
}

/// The one mask of an index, and the axis of the data from which on it lies.
fn mask(cx: &mut Decoder<'_, '_>) -> Result<Option<(usize, ValueId)>> {
    let indices = cx.tensors("indices")?;
    let mut given = indices.iter().enumerate().filter_map(|(axis, index)| Some((axis, (*index)?)));
    let only = given.next().filter(|_| given.next().is_none());
    Ok(only.filter(|&(_, index)| matches!(cx.dtype(index), Some(DType::Bool | DType::U8))))
}

/// The axes of values that meet these from the last one on: those of size 1 are spread.
fn spread(r: &Rule, values: &[Extent], dims: &[Dim]) -> Result<Vec<Dim>> {
    let skip = dims.len().checked_sub(values.len());
    let skip = skip.ok_or_else(|| Error::malformed("values of too many axes"))?;
    let one = |(extent, dim): (&Extent, &Dim)| match extent.size == r.extent(dim).size {
        true => dim.clone(),
        false => Dim::one(),
    };
    Ok(values.iter().zip(&dims[skip..]).map(one).collect())
}

/// What lies where a mask is true, picked or, with `values`, put.
fn masked(
    cx: &mut Decoder<'_, '_>,
    data: ValueId,
    (at, mask): (usize, ValueId),
    values: Option<ValueId>,
) -> Result<()> {
    let (shape, mask_shape) = (cx.shape(data)?, cx.shape(mask)?);
    let end = at + mask_shape.len();
    let covered = shape.get(at..end).ok_or_else(|| Error::malformed("a mask of too many axes"))?;
    for (one, other) in covered.iter().zip(&mask_shape) {
        agree("sizes of data and mask", one.size, other.size)?;
    }
    // One number, wherever the mask is true: nothing is picked.
    let fills = match values {
        Some(values) => cx.shape(values)?.iter().all(|extent| extent.size == 1),
        None => false,
    };
    let mut r = Rule::new("mask");
    let axes = shape.iter().enumerate();
    let dims: Vec<Dim> = axes
        .map(|(axis, &extent)| match (at..end).contains(&axis) && !fills {
            true => r.fixed(letter(axis), extent, PICKED).into(),
            false => r.free(letter(axis), extent).into(),
        })
        .collect();
    r.operand(Use::Data, dims.clone());
    r.operand(Use::Data, dims[at..end].to_vec());
    let count = match values {
        None => cx.result_shape(0)?.get(at).copied(),
        Some(values) => {
            let given = cx.shape(values)?;
            let rest = shape.len() - end;
            given.len().checked_sub(rest + 1).map(|axis| given[axis])
        }
    };
    let count = count.map(|count| Dim::from(r.fixed("n", count, PICKED)));
    let picked = [&dims[..at], count.as_slice(), &dims[end..]].concat();
    let mut operands = vec![data, mask];
    match values {
        None => {
            r.result(picked);
            r.flow = Flow::product([0], []);
        }
        Some(values) => {
            let given = cx.shape(values)?;
            let put = spread(&r, &given, &picked)?;
            r.operand(Use::Data, put);
            operands.push(values);
            r.result(dims);
            r.flow = Flow::product([], [0, 2]);
        }
    }
    cx.node(Written(r), &operands)
}

fn decode_index(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    if let Some(mask) = mask(cx)? {
        return masked(cx, data, mask, None);
    }
    let shape = cx.shape(data)?;
    let places = places(cx, shape.len())?;
    let mut r = Rule::new("index");
    let (dims, indices, result) = spell(cx, &mut r, &shape, &places, picks)?;
    r.operand(Use::Table, dims);
    for dims in indices {
        r.operand(Use::Data, dims);
    }
    r.result(result);
    r.flow = Flow::First;
    let operands = std::iter::once(data).chain(places.indexed.iter().map(|&(_, index)| index));
    cx.node(Written(r), &operands.collect::<Vec<_>>())
}

fn picks(r: &mut Rule, shape: &[Extent]) -> Vec<Dim> {
    let axes = shape.iter().enumerate();
    axes.map(|(i, &extent)| r.free(format!("i{i}"), extent).into()).collect()
}

fn decode_index_put(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, values) = (cx.tensor("self")?, cx.tensor("values")?);
    if let Some(mask) = mask(cx)? {
        return masked(cx, data, mask, Some(values));
    }
    let places = places(cx, cx.shape(data)?.len())?;
    put_slices(cx, data, &places, Some(values))
}

/// Slices of the data are replaced by `values`, or by one number: axes that are not indexed are
/// those of what is put there.
fn put_slices(
    cx: &mut Decoder<'_, '_>,
    data: ValueId,
    places: &Places,
    values: Option<ValueId>,
) -> Result<()> {
    let shape = cx.shape(data)?;
    let mut r = Rule::new("put_slices");
    // Without a slice, old data would stay in its place.
    let fixed = |r: &mut Rule, shape: &[Extent]| super::fix(r, "i", shape);
    let (dims, indices, result) = spell(cx, &mut r, &shape, places, fixed)?;
    r.operand(Use::Data, dims.clone());
    for dims in indices {
        r.operand(Use::Data, dims);
    }
    r.flow = filled(cx);
    if let Some(values) = values {
        let given = cx.shape(values)?;
        let put = spread(&r, &given, &result)?;
        r.flow = Flow::product([], [0, r.operands.len()]);
        r.operand(Use::Data, put);
    }
    r.result(dims);
    let indices = places.indexed.iter().map(|&(_, index)| index);
    let operands: Vec<ValueId> = std::iter::once(data).chain(indices).chain(values).collect();
    cx.node(Written(r), &operands)
}
