//! Elements picked from or put at computed places.

pub(crate) mod aten;

use std::collections::HashMap;

use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
use burn_std::IndexingUpdateOp;

use super::elementwise::Binary;
use super::shape::concat;
use super::{Decode, Inputs, Operator, axis};
use crate::onnx::Node;
use crate::value::{INT, bool_dtype};
use crate::{Context, Engine, Error, Result, Value};

/// Rows at the positions in a vector.
pub(crate) fn select<B: Engine>(x: Value<B>, axis: usize, picks: IntTensor<B>) -> Value<B> {
    match x {
        Value::Float(t) => Value::Float(B::float_select(t, axis, picks)),
        Value::Int(t) => Value::Int(B::int_select(t, axis, picks)),
        // Some backends make integers of truth values here.
        Value::Bool(t) => {
            let rows = B::int_select(B::bool_into_int(t, INT), axis, picks);
            Value::Bool(Value::<B>::Int(rows).to_bool())
        }
    }
}

/// Positions counted from the start, checked to be among `size`.
fn counted<B: Engine>(indices: Value<B>, size: usize) -> Result<IntTensor<B>> {
    let indices = indices.to_int();
    let size = size as i64;
    let values = Value::<B>::Int(indices.clone()).to_ints()?;
    if let Some(wrong) = values.iter().find(|&&at| at < -size || at >= size) {
        return Err(Error::argument(format!("position {wrong} of {size}")));
    }
    if values.iter().all(|&at| at >= 0) {
        return Ok(indices);
    }
    let shape = indices.shape().to_vec();
    let values = values.into_iter().map(|at| if at < 0 { at + size } else { at }).collect();
    Value::<B>::of_ints(values, shape, &indices.device()).int()
}

/// Rows of operand 0 at the positions in operand 1.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    /// The axis that they are counted along.
    pub axis: i64,
}

impl Operator for Gather {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, indices) = (inputs.take(0)?, inputs.take(1)?);
        let (shape, picked) = (x.shape(), indices.shape());
        let axis = axis(self.axis, shape.len())?;
        let count = picked.iter().product();
        let indices = counted::<B>(indices.reshape(vec![count]), shape[axis])?;
        let rows = select(x, axis, indices);
        Ok(vec![rows.reshape([&shape[..axis], &picked, &shape[axis + 1..]].concat())])
    }
}

/// How elements are picked or put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One position along an axis for every element.
    Elements(i64),
    /// Positions on all leading axes, after this many that are common.
    Nd(usize),
}

/// Elements picked from operand 0 at the places in operand 1; or, with an update, operand 2 put
/// there.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// How places are given.
    pub place: Place,
    /// How they are put; `None` picks.
    pub update: Option<Update>,
}

/// What happens to elements that something is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Update {
    Replace,
    Add,
    Mul,
    Min,
    Max,
}

impl Operator for Pick {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, indices) = (inputs.take(0)?, inputs.take(1)?);
        let shape = x.shape();
        let (flat, result) = match self.place {
            Place::Elements(along) => elements(&shape, indices, along)?,
            Place::Nd(common) => nd(&shape, indices, common)?,
        };
        let count = shape.iter().product();
        let places = Value::<B>::of_ints(flat.clone(), vec![flat.len()], &cx.device).int()?;
        let x = x.reshape(vec![count]);
        let Some(update) = self.update else {
            return Ok(vec![select(x, 0, places).reshape(result)]);
        };
        let values = inputs.take(2)?.reshape(vec![flat.len()]);
        Ok(vec![put(x, places, &flat, values, update, cx)?.reshape(shape)])
    }
}

/// Puts values in a vector.
fn put<B: Engine>(
    x: Value<B>,
    places: IntTensor<B>,
    flat: &[i64],
    values: Value<B>,
    update: Update,
    cx: &Context<B>,
) -> Result<Value<B>> {
    match (x, values) {
        (Value::Float(x), Value::Float(values)) => Ok(Value::Float(match update {
            Update::Add => B::float_select_assign(x, 0, places, values, IndexingUpdateOp::Add),
            Update::Replace => {
                // What is put there last stays: all others are taken out of the sum.
                let mut last = HashMap::new();
                last.extend(flat.iter().enumerate().map(|(at, place)| (place, at)));
                let stays = flat.iter().enumerate().map(|(at, place)| last[place] == at);
                let stays = stays.map(|stays| f32::from(u8::from(stays))).collect();
                let stays = Value::<B>::of_floats(stays, vec![flat.len()], &cx.device).float()?;
                let hit = B::float_zeros(x.shape(), &cx.device, crate::value::FLOAT);
                let hit = B::float_select_assign(
                    hit,
                    0,
                    places.clone(),
                    stays.clone(),
                    IndexingUpdateOp::Add,
                );
                let hit = B::float_not_equal_elem(hit, 0.0.into(), bool_dtype::<B>(&cx.device));
                let rest = B::float_mask_fill(x, hit, 0.0.into());
                let values = B::float_mul(values, stays);
                B::float_select_assign(rest, 0, places, values, IndexingUpdateOp::Add)
            }
            Update::Mul | Update::Min | Update::Max => {
                return folded(x, flat, values, update, cx);
            }
        })),
        (Value::Int(x), values) => {
            let (mut all, new) = (Value::<B>::Int(x).to_ints()?, values.to_ints()?);
            for (&place, value) in flat.iter().zip(new) {
                let old = &mut all[place as usize];
                *old = match update {
                    Update::Replace => value,
                    Update::Add => old.wrapping_add(value),
                    Update::Mul => old.wrapping_mul(value),
                    Update::Min => value.min(*old),
                    Update::Max => value.max(*old),
                };
            }
            let count = all.len();
            Ok(Value::of_ints(all, vec![count], &cx.device))
        }
        (Value::Bool(x), values) => {
            let mut all = Value::<B>::Bool(x).to_ints()?;
            for (&place, value) in flat.iter().zip(values.to_ints()?) {
                all[place as usize] = value;
            }
            let count = all.len();
            let all = all.into_iter().map(|value| value != 0).collect();
            Ok(Value::of_bools(all, vec![count], &cx.device))
        }
        (x, values) => Err(Error::malformed(format!("{} into {}", values.sort(), x.sort()))),
    }
}

/// Elements joined with what is put on them, as many times as something is.
fn folded<B: Engine>(
    x: FloatTensor<B>,
    flat: &[i64],
    values: FloatTensor<B>,
    update: Update,
    cx: &Context<B>,
) -> Result<Value<B>> {
    let operator = match update {
        Update::Mul => Binary::Mul,
        Update::Min => Binary::Min,
        _ => Binary::Max,
    };
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut met = HashMap::new();
    for (at, place) in flat.iter().enumerate() {
        let round = met.entry(place).or_insert(0);
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(at);
        *round += 1;
    }
    let (count, mut x) = (x.shape().num_elements(), Value::<B>::Float(x));
    for round in rounds {
        // What nothing is put on is joined with itself and stays; a factor is one there.
        let mut picks: Vec<i64> = (0..count as i64).map(|at| at + flat.len() as i64).collect();
        round.iter().for_each(|&at| picks[flat[at] as usize] = at as i64);
        let picks = Value::<B>::of_ints(picks, vec![count], &cx.device).int()?;
        let rest = match update {
            Update::Mul => Value::of_floats(vec![1.0; count], vec![count], &cx.device),
            _ => x.clone(),
        };
        let all = concat(vec![Value::Float(values.clone()), rest], 0)?;
        x = operator.apply(x, select(all, 0, picks))?;
    }
    Ok(x)
}

/// The flat place of every element, and the shape of the result.
fn elements<B: Engine>(
    shape: &[usize],
    indices: Value<B>,
    along: i64,
) -> Result<(Vec<i64>, Vec<usize>)> {
    let along = axis(along, shape.len())?;
    let picked = indices.shape();
    let fits = picked.len() == shape.len()
        && (0..shape.len()).all(|axis| axis == along || picked[axis] <= shape[axis]);
    if !fits {
        return Err(Error::malformed(format!("places {picked:?} in {shape:?}")));
    }
    let values = Value::<B>::Int(counted::<B>(indices, shape[along])?).to_ints()?;
    let strides = strides(shape);
    let picks = strides_of(&picked);
    let flat = values.iter().enumerate().map(|(at, &index)| {
        let place = |axis: usize| match axis == along {
            true => index as usize,
            false => at / picks[axis] % picked[axis],
        };
        (0..shape.len()).map(|axis| place(axis) * strides[axis]).sum::<usize>() as i64
    });
    Ok((flat.collect(), picked.clone()))
}

fn strides_of(shape: &[usize]) -> Vec<usize> {
    strides(shape).into_iter().map(|stride| stride.max(1)).collect()
}

/// How many elements apart the positions of every axis are.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The same where every place is a list of positions.
fn nd<B: Engine>(
    shape: &[usize],
    indices: Value<B>,
    common: usize,
) -> Result<(Vec<i64>, Vec<usize>)> {
    let picked = indices.shape();
    let wrong = || Error::malformed(format!("places {picked:?} in {shape:?}"));
    let (&depth, lead) = picked.split_last().ok_or_else(wrong)?;
    if common > lead.len() || common + depth > shape.len() {
        return Err(wrong());
    }
    let (strides, values) = (strides(shape), indices.to_ints()?);
    let inner: usize = shape[common + depth..].iter().product();
    let each: usize = lead[common..].iter().product();
    let outer: usize = shape[common..].iter().product();
    let mut flat = Vec::new();
    let count = lead.iter().product::<usize>();
    for at in 0..count {
        let mut base = at / each.max(1) * outer;
        for (axis, &index) in values[at * depth..(at + 1) * depth].iter().enumerate() {
            let size = shape[common + axis] as i64;
            let index = if index < 0 { index + size } else { index };
            if !(0..size).contains(&index) {
                return Err(Error::argument(format!("position {index} of {size}")));
            }
            base += index as usize * strides[common + axis];
        }
        flat.extend((base..base + inner).map(|place| place as i64));
    }
    Ok((flat, [lead, &shape[common + depth..]].concat()))
}

/// One row per index: operand 0 holds them, operand 1 says how many there are, operand 2 holds what
/// stands elsewhere and there.
#[derive(Clone, Copy, Debug)]
pub struct OneHot {
    /// The new axis.
    pub axis: i64,
}

impl Operator for OneHot {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (indices, depth, values) = (inputs.take(0)?, inputs.ints(1)?, inputs.take(2)?);
        let mut shape = indices.shape();
        let axis = axis(self.axis, shape.len() + 1)?;
        let depth = depth.first().and_then(|&depth| usize::try_from(depth).ok());
        let depth = depth.ok_or_else(|| Error::malformed("no depth"))?;
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis..].iter().product();
        let indices = indices.to_ints()?;
        let mut hits = vec![0_usize; outer * depth * inner];
        for (at, &index) in indices.iter().enumerate() {
            let index = if index < 0 { index + depth as i64 } else { index };
            if (0..depth as i64).contains(&index) {
                hits[(at / inner * depth + index as usize) * inner + at % inner] = 1;
            }
        }
        shape.insert(axis, depth);
        Ok(vec![match values {
            Value::Float(_) => {
                let values = values.to_floats()?;
                let [off, on] = values[..] else { return Err(Error::malformed("not two values")) };
                let hits = hits.into_iter().map(|hit| if hit == 1 { on } else { off }).collect();
                Value::of_floats(hits, shape, &cx.device)
            }
            values => {
                let values = values.to_ints()?;
                let [off, on] = values[..] else { return Err(Error::malformed("not two values")) };
                let hits = hits.into_iter().map(|hit| if hit == 1 { on } else { off }).collect();
                Value::of_ints(hits, shape, &cx.device)
            }
        }])
    }
}

/// The places that are not zero, one column each.
#[derive(Clone, Copy, Debug)]
pub struct NonZero;

impl Operator for NonZero {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let hits: Vec<usize> = x
            .to_floats()?
            .iter()
            .enumerate()
            .filter(|(_, x)| **x != 0.0)
            .map(|(at, _)| at)
            .collect();
        let strides = strides_of(&shape);
        let places = (0..shape.len()).flat_map(|axis| {
            let (stride, size) = (strides[axis], shape[axis]);
            hits.iter().map(move |at| (at / stride % size) as i64)
        });
        Ok(vec![Value::of_ints(places.collect(), vec![shape.len(), hits.len()], &cx.device)])
    }
}

/// The triangle above or below a diagonal, which operand 1 gives.
#[derive(Clone, Copy, Debug)]
pub struct Trilu {
    /// Whether what stands above stays.
    pub upper: bool,
}

impl Operator for Trilu {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let diagonal = inputs.optional(1).map(Value::to_ints).transpose()?;
        let diagonal = diagonal.and_then(|d| d.first().copied()).unwrap_or(0);
        let shape = x.shape();
        let [.., rows, columns] = shape[..] else {
            return Err(Error::malformed(format!("a triangle of {shape:?}")));
        };
        let gone = |at: usize| {
            let distance = (at % columns) as i64 - (at / columns) as i64;
            if self.upper { distance < diagonal } else { distance > diagonal }
        };
        let gone = (0..rows * columns).map(gone).collect();
        let lead = vec![1; shape.len() - 2];
        let gone = Value::<B>::of_bools(gone, [lead, vec![rows, columns]].concat(), &cx.device);
        let gone = super::shape::expand(gone, shape).bool()?;
        Ok(vec![match x {
            Value::Bool(x) => {
                let kept = B::bool_not(gone);
                Value::Bool(B::bool_and(x, kept))
            }
            x => {
                let zero = if matches!(x, Value::Int(_)) { 0.into() } else { 0.0.into() };
                match x {
                    Value::Float(x) => Value::Float(B::float_mask_fill(x, gone, zero)),
                    Value::Int(x) => Value::Int(B::int_mask_fill(x, gone, zero)),
                    Value::Bool(x) => Value::Bool(x),
                }
            }
        }])
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Gather", |node| Ok(Gather { axis: node.int("axis", 0) }.into())),
    ("GatherElements", |node| {
        Ok(Pick { place: Place::Elements(node.int("axis", 0)), update: None }.into())
    }),
    ("GatherND", |node| {
        let common = usize::try_from(node.int("batch_dims", 0)).unwrap_or(usize::MAX);
        Ok(Pick { place: Place::Nd(common), update: None }.into())
    }),
    ("ScatterElements", |node| {
        let place = Place::Elements(node.int("axis", 0));
        Ok(Pick { place, update: Some(update(node)?) }.into())
    }),
    ("Scatter", |node| {
        let place = Place::Elements(node.int("axis", 0));
        Ok(Pick { place, update: Some(Update::Replace) }.into())
    }),
    ("ScatterND", |node| Ok(Pick { place: Place::Nd(0), update: Some(update(node)?) }.into())),
    ("OneHot", |node| Ok(OneHot { axis: node.int("axis", -1) }.into())),
    ("NonZero", |_| Ok(NonZero.into())),
    ("Trilu", |node| Ok(Trilu { upper: node.int("upper", 1) != 0 }.into())),
];

fn update(node: &Node<'_>) -> Result<Update> {
    Ok(match node.string("reduction").as_deref() {
        None | Some("none") => Update::Replace,
        Some("add") => Update::Add,
        Some("mul") => Update::Mul,
        Some("min") => Update::Min,
        Some("max") => Update::Max,
        Some(other) => return Err(Error::malformed(format!("`reduction` is `{other}`"))),
    })
}
