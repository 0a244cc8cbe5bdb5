//! Rows picked by index: embeddings, selections.

mod aten;

use super::reshape::{PickAll, Reshape};
use super::written::fixed;
use super::{Operator, Shapes, agree, axis, letter, letters, operand, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// Rows of the data (operand 0) along one axis, at the positions in operand 1.
#[derive(Clone, Debug)]
pub struct Gather {
    /// The axis.
    pub axis: i64,
    /// Whether it matters which rows are picked: not where only the shape of the result is read,
    /// and the picks exist at any size.
    pub matters: bool,
}

impl Operator for Gather {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let (data, indices) = (ranked(shapes, 0, 1)?, operand(shapes, 1)?);
        let along = axis(self.axis, data.len())?;
        let mut r = Rule::new("gather");
        let rows = match self.matters {
            true => r.fixed("rows", data[along], "rows are picked by index"),
            false => r.free("rows", data[along]),
        };
        let picked: Vec<Dim> = indices
            .iter()
            .enumerate()
            .map(|(i, &extent)| r.free(format!("i{i}"), extent).into())
            .collect();
        let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
        for (index, &extent) in data.iter().enumerate() {
            if index == along {
                dims.push(rows.into());
                result.extend(picked.iter().cloned());
            } else {
                let factor = r.free(letter(index), extent);
                dims.push(factor.into());
                result.push(factor.into());
            }
        }
        r.operand(Use::Table, dims);
        r.operand(Use::Data, picked);
        r.result(result);
        r.flow = Flow::First;
        Ok(r)
    }
}

/// Elements picked from, or put into, the data (operand 0) at computed places (operand 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// One element of the data per index, along an axis; other axes keep their place.
    Elements {
        /// The axis.
        axis: i64,
    },
    /// One slice of the data per index vector (the last axis of operand 1), after shared leading
    /// axes.
    Slices {
        /// Number of shared leading axes.
        batch: usize,
    },
    /// The data with elements (operand 2) replaced along an axis; other axes keep their place.
    PutElements {
        /// The axis.
        axis: i64,
    },
    /// The data with slices (operand 2) replaced, one per index vector.
    PutSlices,
}

/// Why axes that indices point into stay whole.
const PICKED: &str = "elements are picked by index";

impl Operator for Pick {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let (data, indices) = (operand(shapes, 0)?, operand(shapes, 1)?);
        match *self {
            Pick::Elements { axis } => elements(data, indices, axis, None),
            Pick::PutElements { axis } => elements(data, indices, axis, Some(operand(shapes, 2)?)),
            Pick::Slices { batch } => slices(data, indices, batch),
            Pick::PutSlices => put_slices(data, indices, operand(shapes, 2)?),
        }
    }
}

fn fix(r: &mut Rule, name: &str, shape: &[Extent]) -> Vec<Dim> {
    fixed(r, name, shape, PICKED)
}

/// Picks or, with `updates`, puts single elements. An axis of which indices reach only the first
/// part stays whole.
fn elements(
    data: &[Extent],
    indices: &[Extent],
    along: i64,
    updates: Option<&[Extent]>,
) -> Result<Rule> {
    agree("ranks of data and indices", data.len(), indices.len())?;
    let along = axis(along, data.len())?;
    let mut r = Rule::new(if updates.is_some() { "put" } else { "pick" });
    let (mut dims, mut picked): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
    for (i, (&from, &to)) in data.iter().zip(indices).enumerate() {
        let name = letter(i);
        if i != along && from.size == to.size {
            let factor = r.free(name, from);
            dims.push(factor.into());
            picked.push(factor.into());
            continue;
        }
        let places = name.clone() + "'";
        dims.push(r.fixed(name, from, PICKED).into());
        picked.push(match updates {
            None if i == along => r.free(places, to).into(),
            _ => r.fixed(places, to, PICKED).into(),
        });
    }
    r.operand(Use::Data, dims.clone());
    r.operand(Use::Data, picked.clone());
    if updates.is_some() {
        r.operand(Use::Data, picked);
        r.result(dims);
        r.flow = Flow::product([], [0, 2]);
    } else {
        r.result(picked);
        r.flow = Flow::First;
    }
    Ok(r)
}

/// How many axes of the data an index vector points along.
fn depth(indices: &[Extent]) -> Result<usize> {
    let last = indices.last().copied().unwrap_or(Extent::fixed(0));
    if last.is_counted() {
        return Err(Error::unsupported("an index of a depth that is counted from data"));
    }
    Ok(last.size)
}

fn slices(data: &[Extent], indices: &[Extent], batch: usize) -> Result<Rule> {
    let depth = depth(indices)?;
    let inner = batch.checked_add(depth).filter(|&inner| inner <= data.len());
    let lead = indices.len().checked_sub(1).filter(|&lead| lead >= batch);
    let (Some(inner), Some(lead)) = (inner, lead) else {
        return Err(Error::malformed("an index deeper than the data"));
    };
    let mut r = Rule::new("pick");
    let shared = letters(&mut r, &data[..batch]);
    let places: Vec<Dim> =
        (batch..lead).map(|i| Dim::from(r.free(format!("i{i}"), indices[i]))).collect();
    let vector = fix(&mut r, "v", &indices[lead..]);
    let picked = fix(&mut r, "d", &data[batch..inner]);
    let whole = data.iter().enumerate().skip(inner);
    let rest: Vec<Dim> = whole.map(|(i, &e)| r.free(letter(i), e).into()).collect();
    r.operand(Use::Table, [shared.clone(), picked, rest.clone()].concat());
    r.operand(Use::Data, [shared.clone(), places.clone(), vector].concat());
    r.result([shared, places, rest].concat());
    r.flow = Flow::First;
    Ok(r)
}

fn put_slices(data: &[Extent], indices: &[Extent], updates: &[Extent]) -> Result<Rule> {
    let depth = depth(indices)?;
    let lead = indices.len().checked_sub(1).filter(|_| depth <= data.len());
    let lead = lead.ok_or_else(|| Error::malformed("an index deeper than the data"))?;
    agree("ranks of data and updates", lead + data.len() - depth, updates.len())?;
    let mut r = Rule::new("put");
    let picked = fix(&mut r, "d", &data[..depth]);
    let places = fix(&mut r, "i", indices);
    let whole = data.iter().enumerate().skip(depth);
    let rest: Vec<Dim> = whole.map(|(i, &e)| r.free(letter(i), e).into()).collect();
    let result = [picked, rest.clone()].concat();
    r.operand(Use::Data, result.clone());
    r.operand(Use::Data, places.clone());
    r.operand(Use::Data, [places[..lead].to_vec(), rest].concat());
    r.result(result);
    r.flow = Flow::product([], [0, 2]);
    Ok(r)
}

/// For every index (operand 0), a new axis that tells it from `depth` others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneHot {
    /// Where the new axis stands.
    pub axis: i64,
    /// Its size.
    pub depth: Extent,
}

impl Operator for OneHot {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let indices = operand(shapes, 0)?;
        let at = axis(self.axis, indices.len() + 1)?;
        let mut r = Rule::new("one_hot");
        let dims = letters(&mut r, indices);
        let classes = r.fixed("classes", self.depth, "indices are told apart along it");
        let mut result = dims.clone();
        result.insert(at, classes.into());
        r.operand(Use::Data, dims);
        r.result(result);
        r.flow = Flow::Break;
        Ok(r)
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Gather", decode),
    ("GatherElements", |cx| {
        let axis = cx.int("axis").unwrap_or(0);
        cx.node(Pick::Elements { axis })
    }),
    ("GatherND", |cx| {
        let batch = usize::try_from(cx.int("batch_dims").unwrap_or(0)).unwrap_or(0);
        cx.node(Pick::Slices { batch })
    }),
    ("Scatter", put_elements),
    ("ScatterElements", put_elements),
    ("ScatterND", |cx| cx.node(Pick::PutSlices)),
    ("OneHot", decode_one_hot),
];

fn put_elements(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let axis = cx.int("axis").unwrap_or(0);
    cx.node(Pick::PutElements { axis })
}

fn decode_one_hot(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let exprs = cx.exprs(1)?;
    let open = cx.open(&exprs);
    let depth = cx.value(&exprs).filter(|depth| (1.0..1e9).contains(depth));
    let depth = depth.ok_or_else(|| Error::malformed("no usable `depth`"))? as usize;
    let axis = cx.int("axis").unwrap_or(-1);
    cx.node_over(1, OneHot { axis, depth: Extent { size: depth, open } })
}

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if let [all] = cx.input_shape(0)?[..]
        && let Some(indices) = cx.stored(1)?
        && !all.is_open()
        && indices.to_i64s().is_some_and(|indices| indices.into_iter().eq(0..all.size as i64))
    {
        let shape = indices.dims.iter().map(|&size| Extent::fixed(size)).collect();
        return cx.node_over(1, PickAll(Reshape::implied(shape)));
    }
    let axis = cx.int("axis").unwrap_or(0);
    let ends = !cx.is_read_as_data(0) && matches!(cx.number(1), Some(0.0 | -1.0));
    cx.node(Gather { axis, matters: !ends })
}
