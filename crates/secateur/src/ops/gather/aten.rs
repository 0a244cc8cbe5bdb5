//! How PyTorch spells rows and elements picked by index.

use super::{Gather, OneHot, PICKED, Pick};
use crate::graph::{Extent, ValueId};
use crate::ops::written::Written;
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
    ("aten.index_add", put_rows),
    ("aten.index_copy", put_rows),
    ("aten.index_fill", |cx| {
        let axis = cx.int("dim", 0)?;
        let (data, index) = (cx.tensor("self")?, cx.tensor("index")?);
        let mut r = rows(&cx.shape(data)?, &cx.shape(index)?, None, axis)?;
        r.flow = filled(cx);
        cx.node(Written(r), &[data, index])
    }),
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

/// Slices along an axis are put, or added.
fn put_rows(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let axis = cx.int("dim", 0)?;
    let operands = [cx.tensor("self")?, cx.tensor("index")?, cx.tensor("source")?];
    let [data, index, source] = operands.map(|operand| cx.shape(operand));
    let mut r = rows(&data?, &index?, Some(&source?), axis)?;
    r.flow = Flow::product([], [0, 2]);
    cx.node(Written(r), &operands)
}

/// The data of which slices along an axis are replaced, by those of `source` if there is one.
fn rows(data: &[Extent], index: &[Extent], source: Option<&[Extent]>, along: i64) -> Result<Rule> {
    let along = crate::ops::axis(along, data.len())?;
    let mut r = Rule::new("put_rows");
    let dims: Vec<Dim> = data
        .iter()
        .enumerate()
        .map(|(i, &extent)| match i == along {
            true => r.fixed(letter(i), extent, PICKED).into(),
            false => r.free(letter(i), extent).into(),
        })
        .collect();
    let places = super::fix(&mut r, "i", index);
    r.operand(Use::Data, dims.clone());
    r.operand(Use::Data, places.clone());
    if let Some(source) = source {
        agree("ranks of data and source", data.len(), source.len())?;
        let mut put = dims.clone();
        let count = places.first().cloned().unwrap_or(Dim::one());
        agree("slices and their places", r.extent(&count).size, source[along].size)?;
        put[along] = count;
        r.operand(Use::Data, put);
    }
    r.result(dims);
    Ok(r)
}

/// Where the picks of an advanced index stand: the axes that are indexed, and the first axis of
/// the result that the picks make. Masks of Booleans are not followed: their counts are data.
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

fn spell(cx: &Decoder<'_, '_>, r: &mut Rule, data: &[Extent], places: &Places) -> Result<Spelled> {
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
    let picks: Vec<Dim> =
        wide.iter().enumerate().map(|(i, &e)| Dim::from(r.free(format!("i{i}"), e))).collect();
    let spelled = |shape: &Vec<Extent>| -> Vec<Dim> {
        let axes = shape.iter().zip(&picks[rank - shape.len()..]);
        axes.map(|(extent, dim)| match extent.size == r.extent(dim).size {
            true => dim.clone(),
            false => Dim::one(),
        })
        .collect()
    };
    let indices = shapes.iter().map(spelled).collect();
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

fn decode_index(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let shape = cx.shape(data)?;
    let places = places(cx, shape.len())?;
    let mut r = Rule::new("index");
    let (dims, indices, result) = spell(cx, &mut r, &shape, &places)?;
    r.operand(Use::Table, dims);
    for dims in indices {
        r.operand(Use::Data, dims);
    }
    r.result(result);
    r.flow = Flow::First;
    let operands = std::iter::once(data).chain(places.indexed.iter().map(|&(_, index)| index));
    cx.node(Written(r), &operands.collect::<Vec<_>>())
}

/// Slices of the data are replaced: axes that are not indexed are those of what is put there.
fn decode_index_put(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, values) = (cx.tensor("self")?, cx.tensor("values")?);
    let shape = cx.shape(data)?;
    let places = places(cx, shape.len())?;
    let mut r = Rule::new("index_put");
    let (dims, indices, result) = spell(cx, &mut r, &shape, &places)?;
    let given = cx.shape(values)?;
    let skip = result.len().checked_sub(given.len());
    let skip = skip.ok_or_else(|| Error::malformed("values of too many axes"))?;
    let one = |(extent, dim): (&Extent, &Dim)| match extent.size == r.extent(dim).size {
        true => dim.clone(),
        false => Dim::one(),
    };
    let put = given.iter().zip(&result[skip..]).map(one).collect();
    r.operand(Use::Data, dims.clone());
    for dims in indices {
        r.operand(Use::Data, dims);
    }
    r.operand(Use::Data, put);
    let last = r.operands.len() - 1;
    r.result(dims);
    r.flow = Flow::product([], [0, last]);
    let indices = places.indexed.iter().map(|&(_, index)| index);
    let operands: Vec<ValueId> = std::iter::once(data).chain(indices).chain([values]).collect();
    cx.node(Written(r), &operands)
}
