//! Elements in other places: reshapes, orders, joins, parts, borders.

pub(crate) mod aten;

use burn_backend::ops::PadMode;
use burn_std::{Shape as BurnShape, Slice as BurnSlice};

use super::{Decode, Inputs, Op, Operator, axis, sizes};
use crate::onnx::Node;
use crate::value::each;
use crate::{Context, Engine, Error, Result, Value};

/// The same elements in another shape.
#[derive(Clone, Debug)]
pub enum Reshape {
    /// The shape that operand 1 gives: 0 copies a size unless the flag holds, -1 is what is left.
    Given(bool),
    /// Two axes, cut here.
    Flatten(i64),
    /// Without these axes of size 1, or those that operand 1 gives, or all.
    Squeeze(Option<Vec<i64>>),
    /// With new axes of size 1 here, or where operand 1 says.
    Unsqueeze(Option<Vec<i64>>),
}

impl Operator for Reshape {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let mut axes = |fixed: &Option<Vec<i64>>| -> Result<Option<Vec<i64>>> {
            let given = inputs.optional(1).map(Value::to_ints).transpose()?;
            Ok(given.or_else(|| fixed.clone()))
        };
        let target = match self {
            Reshape::Given(zeros) => {
                let target = axes(&None)?.ok_or_else(|| Error::malformed("no shape"))?;
                spelled(&shape, &target, *zeros)?
            }
            Reshape::Flatten(at) => {
                let at = if *at < 0 { *at + shape.len() as i64 } else { *at };
                let at = usize::try_from(at).ok().filter(|&at| at <= shape.len());
                let at = at.ok_or_else(|| Error::malformed("it is cut beyond its axes"))?;
                vec![shape[..at].iter().product(), shape[at..].iter().product()]
            }
            Reshape::Squeeze(fixed) => {
                let axes = axes(fixed)?.map(|axes| -> Result<Vec<usize>> {
                    axes.iter().map(|&a| axis(a, shape.len())).collect()
                });
                let axes = axes.transpose()?;
                let gone = |index: usize| match &axes {
                    Some(axes) => axes.contains(&index),
                    None => shape[index] == 1,
                };
                (0..shape.len()).filter(|&index| !gone(index)).map(|index| shape[index]).collect()
            }
            Reshape::Unsqueeze(fixed) => {
                let new = axes(fixed)?.unwrap_or_default();
                let rank = shape.len() + new.len();
                let new = new.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
                let mut old = shape.iter();
                let size = |index| match new.contains(&index) {
                    true => 1,
                    false => old.next().copied().unwrap_or(1),
                };
                (0..rank).map(size).collect()
            }
        };
        if target.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(Error::malformed(format!("{shape:?} as {target:?}")));
        }
        Ok(vec![x.reshape(target)])
    }
}

/// The shape that a target spells.
fn spelled(shape: &[usize], target: &[i64], zeros: bool) -> Result<Vec<usize>> {
    let wrong = || Error::malformed(format!("{shape:?} as {target:?}"));
    let mut rest = None;
    let mut result = Vec::with_capacity(target.len());
    for (index, &size) in target.iter().enumerate() {
        result.push(match size {
            -1 => {
                rest = Some(index);
                1
            }
            0 if !zeros => *shape.get(index).ok_or_else(wrong)?,
            size => usize::try_from(size).map_err(|_| wrong())?,
        });
    }
    if let Some(index) = rest {
        let known: usize = result.iter().product();
        let all: usize = shape.iter().product();
        result[index] = all.checked_div(known).unwrap_or(0);
    }
    Ok(result)
}

/// Axes in another order; reversed where it is empty.
#[derive(Clone, Debug)]
pub struct Transpose {
    /// The old axis at every new place.
    pub order: Vec<i64>,
}

impl Operator for Transpose {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let rank = x.rank();
        let order: Vec<usize> = match self.order.is_empty() {
            true => (0..rank).rev().collect(),
            false => self.order.iter().map(|&a| axis(a, rank)).collect::<Result<_>>()?,
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted != (0..rank).collect::<Vec<_>>() {
            return Err(Error::malformed(format!("{order:?} is no order of {rank} axes")));
        }
        Ok(vec![permute(x, &order)])
    }
}

/// Axes in this order.
pub(crate) fn permute<B: Engine>(x: Value<B>, order: &[usize]) -> Value<B> {
    each!(x, float_permute, int_permute, bool_permute, |t| (t, order))
}

/// Broadcasting to the shape that operand 1 gives, and to the operand's own.
#[derive(Clone, Copy, Debug)]
pub struct Expand;

impl Operator for Expand {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, target) = (inputs.take(0)?, sizes(&inputs.ints(1)?)?);
        let shape = x.shape();
        let rank = shape.len().max(target.len());
        let shape = [vec![1; rank - shape.len()], shape].concat();
        let target = [vec![1; rank - target.len()], target].concat();
        let fits = shape.iter().zip(&target).all(|(&a, &b)| a == b || a == 1 || b == 1);
        if !fits {
            return Err(Error::malformed(format!("{shape:?} does not broadcast to {target:?}")));
        }
        let size = |(&a, &b): (&usize, &usize)| if a == 1 { b } else { a };
        let target = shape.iter().zip(&target).map(size).collect();
        Ok(vec![expand(x.reshape(shape), target)])
    }
}

/// Broadcasting to a shape of as many axes.
pub(crate) fn expand<B: Engine>(x: Value<B>, shape: Vec<usize>) -> Value<B> {
    if x.shape() == shape {
        return x;
    }
    let shape = BurnShape::from(shape);
    each!(x, float_expand, int_expand, bool_expand, |t| (t, shape))
}

/// Repetition of whole axes, as often as operand 1 says.
#[derive(Clone, Copy, Debug)]
pub struct Tile;

impl Operator for Tile {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (mut x, times) = (inputs.take(0)?, sizes(&inputs.ints(1)?)?);
        for (axis, &times) in times.iter().enumerate() {
            if axis >= x.rank() {
                return Err(Error::malformed("more repetitions than axes"));
            }
            if times != 1 {
                x = each!(x, float_repeat_dim, int_repeat_dim, bool_repeat_dim, |t| (
                    t, axis, times
                ));
            }
        }
        Ok(vec![x])
    }
}

/// Segments laid end to end.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// The axis.
    pub axis: i64,
}

impl Operator for Concat {
    fn run<B: Engine>(&self, _: &mut Context<B>, inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        Ok(vec![concat(inputs.rest(), self.axis)?])
    }
}

/// Tensors laid end to end along an axis.
pub(crate) fn concat<B: Engine>(values: Vec<Value<B>>, along: i64) -> Result<Value<B>> {
    let first = values.first().ok_or_else(|| Error::malformed("no operand"))?;
    let along = axis(along, first.rank())?;
    let mut common = first.shape();
    for value in &values {
        let mut shape = value.shape();
        if shape.len() != common.len() {
            return Err(Error::malformed("operands with different numbers of axes"));
        }
        common[along] = shape[along];
        if shape != common {
            shape[along] = 0;
            return Err(Error::malformed(format!("{shape:?} does not fit the other operands")));
        }
    }
    let mut values: Vec<Value<B>> =
        values.into_iter().filter(|value| value.shape()[along] != 0).collect();
    match values.len() {
        0 => Err(Error::malformed("all operands are empty")),
        1 => Ok(values.swap_remove(0)),
        _ => Ok(match &values[0] {
            Value::Float(_) => Value::Float(B::float_cat(
                values.into_iter().map(Value::float).collect::<Result<_>>()?,
                along,
            )),
            Value::Int(_) => Value::Int(B::int_cat(
                values.into_iter().map(Value::int).collect::<Result<_>>()?,
                along,
            )),
            Value::Bool(_) => Value::Bool(B::bool_cat(
                values.into_iter().map(Value::bool).collect::<Result<_>>()?,
                along,
            )),
        }),
    }
}

/// Segments taken apart: of these sizes, of those that operand 1 gives, or as many as there are
/// results.
#[derive(Clone, Debug)]
pub struct Split {
    /// The axis.
    pub axis: i64,
    /// Sizes of the segments.
    pub parts: Option<Vec<i64>>,
    /// The number of results.
    pub count: usize,
}

impl Operator for Split {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let axis = axis(self.axis, shape.len())?;
        let given = inputs.optional(1).map(Value::to_ints).transpose()?;
        let parts = match given.or_else(|| self.parts.clone()) {
            Some(parts) => sizes(&parts)?,
            None => {
                let size = shape[axis].div_ceil(self.count.max(1));
                let part = |index| size.min(shape[axis].saturating_sub(index * size));
                (0..self.count).map(part).collect()
            }
        };
        if parts.iter().sum::<usize>() != shape[axis] {
            return Err(Error::malformed(format!("{} in parts of {parts:?}", shape[axis])));
        }
        let mut at = 0;
        let part = |&size: &usize| {
            at += size;
            segment(x.clone(), axis, at - size, at)
        };
        Ok(parts.iter().map(part).collect())
    }
}

/// The part of an axis between two positions.
pub(crate) fn segment<B: Engine>(x: Value<B>, axis: usize, from: usize, to: usize) -> Value<B> {
    let shape = x.shape();
    if from == 0 && to == shape[axis] {
        return x;
    }
    let bounds = |index: usize| if index == axis { from..to } else { 0..shape[index] };
    let slices: Vec<BurnSlice> = (0..shape.len()).map(|index| bounds(index).into()).collect();
    each!(x, float_slice, int_slice, bool_slice, |t| (t, &slices))
}

/// Parts of axes: starts, ends, axes and steps as operands 1 to 4, or fixed.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Starts, ends and axes, as before opset 10.
    pub fixed: Option<[Vec<i64>; 3]>,
}

impl Operator for Slice {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.take(0)?;
        let rank = x.rank();
        let (starts, ends, axes, steps) = match &self.fixed {
            Some([starts, ends, axes]) => (starts.clone(), ends.clone(), axes.clone(), Vec::new()),
            None => {
                let mut list = |index| inputs.optional(index).map_or(Ok(vec![]), Value::to_ints);
                (list(1)?, list(2)?, list(3)?, list(4)?)
            }
        };
        if ends.len() != starts.len() {
            return Err(Error::malformed("more starts than ends"));
        }
        for (index, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
            let along = axis(axes.get(index).copied().unwrap_or(index as i64), rank)?;
            let step = steps.get(index).copied().unwrap_or(1);
            x = stride(x, along, start, end, step)?;
        }
        Ok(vec![x])
    }
}

/// Every `step`-th position of an axis from `start` to before `end`, as numpy counts.
pub(crate) fn stride<B: Engine>(
    x: Value<B>,
    axis: usize,
    start: i64,
    end: i64,
    step: i64,
) -> Result<Value<B>> {
    let size = x.shape()[axis] as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (start, end) = (from_end(start), from_end(end));
    match step {
        0 => Err(Error::malformed("a step of 0")),
        1 => {
            let (start, end) = (start.clamp(0, size), end.clamp(0, size));
            Ok(segment(x, axis, start as usize, end.max(start) as usize))
        }
        _ => {
            let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
            let (start, end) = (start.clamp(low.max(0), high), end.clamp(low, high.max(low)));
            let mut picks = Vec::new();
            let mut at = start;
            while if step > 0 { at < end } else { at > end } {
                picks.push(at);
                at = at.saturating_add(step);
            }
            let device = x.device();
            let count = picks.len();
            let picks = Value::<B>::of_ints(picks, vec![count], &device).int()?;
            Ok(super::index::select(x, axis, picks))
        }
    }
}

/// How borders are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// With one number, operand 2 or zero.
    Constant,
    /// Mirrored, without the outermost element.
    Reflect,
    /// With the outermost element.
    Edge,
    /// With what stands at the other end.
    Wrap,
}

/// Borders: near and far ends as operand 1 or fixed; negative ones cut. Operand 3 says of which axes.
#[derive(Clone, Debug)]
pub struct Pad {
    /// How they are filled.
    pub border: Border,
    /// Sizes and number, as before opset 11.
    pub fixed: Option<(Vec<i64>, f32)>,
}

impl Operator for Pad {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let rank = x.rank();
        let (pads, number) = match &self.fixed {
            Some((pads, number)) => (pads.clone(), *number),
            None => {
                let pads = inputs.ints(1)?;
                let number = inputs.optional(2).map(Value::to_floats).transpose()?;
                (pads, number.and_then(|number| number.first().copied()).unwrap_or(0.0))
            }
        };
        let axes = match inputs.optional(3) {
            Some(axes) => {
                axes.to_ints()?.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?
            }
            None => (0..rank).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(Error::malformed(format!("{} borders of {} axes", pads.len(), axes.len())));
        }
        let mut borders = vec![(0, 0); rank];
        for (index, &axis) in axes.iter().enumerate() {
            borders[axis] = (pads[index], pads[axes.len() + index]);
        }
        let x = crop(x, &borders)?;
        Ok(vec![match self.border {
            Border::Constant => pad_constant(x, &borders, number)?,
            border => borrow(x, &borders, border)?,
        }])
    }
}

/// Cuts where borders are negative.
pub(crate) fn crop<B: Engine>(x: Value<B>, borders: &[(i64, i64)]) -> Result<Value<B>> {
    let mut x = x;
    for (axis, &(near, far)) in borders.iter().enumerate() {
        let size = x.shape()[axis] as i64;
        let (from, to) = (near.min(0).saturating_neg(), size.saturating_add(far.min(0)));
        if from > to {
            return Err(Error::malformed(format!("borders of {near} and {far} around {size}")));
        }
        x = segment(x, axis, from as usize, to as usize);
    }
    Ok(x)
}

/// Puts a number around where borders are positive; cuts nothing.
pub(crate) fn pad_constant<B: Engine>(
    x: Value<B>,
    borders: &[(i64, i64)],
    number: f32,
) -> Result<Value<B>> {
    let pads: Vec<(usize, usize)> =
        borders.iter().map(|&(near, far)| (near.max(0) as usize, far.max(0) as usize)).collect();
    if pads.iter().all(|&pad| pad == (0, 0)) {
        return Ok(x);
    }
    Ok(match x {
        Value::Float(t) => Value::Float(B::float_pad(t, &pads, PadMode::Constant(number))),
        Value::Int(t) => Value::Int(B::int_pad(t, &pads, PadMode::Constant(number))),
        Value::Bool(_) => {
            let ints = x.to_int();
            let padded = B::int_pad(ints, &pads, PadMode::Constant(number));
            Value::Bool(Value::<B>::Int(padded).to_bool())
        }
    })
}

/// Fills borders from the tensor itself, axis by axis.
fn borrow<B: Engine>(x: Value<B>, borders: &[(i64, i64)], border: Border) -> Result<Value<B>> {
    let mut x = x;
    for (axis, &(near, far)) in borders.iter().enumerate() {
        let (near, far, size) = (near.max(0), far.max(0), x.shape()[axis] as i64);
        if near == 0 && far == 0 {
            continue;
        }
        if size == 0 || border == Border::Reflect && near.max(far) >= size {
            return Err(Error::malformed(format!("borders of {near} and {far} around {size}")));
        }
        let place = |at: i64| match border {
            Border::Reflect if at < 0 => -at,
            Border::Reflect if at >= size => 2 * (size - 1) - at,
            Border::Wrap => at.rem_euclid(size),
            _ => at.clamp(0, size - 1),
        };
        let picks: Vec<i64> = (-near..size + far).map(place).collect();
        let (count, device) = (picks.len(), x.device());
        let picks = Value::<B>::of_ints(picks, vec![count], &device).int()?;
        x = super::index::select(x, axis, picks);
    }
    Ok(x)
}

/// The middle of axes, or zeros around them, so that they have the sizes that operand 1 gives.
#[derive(Clone, Debug)]
pub struct CenterCropPad {
    /// The axes; all where none is given.
    pub axes: Option<Vec<i64>>,
}

impl Operator for CenterCropPad {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, target) = (inputs.take(0)?, inputs.ints(1)?);
        let shape = x.shape();
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|&a| axis(a, shape.len())).collect::<Result<Vec<_>>>()?,
            None => (0..shape.len()).collect(),
        };
        if axes.len() != target.len() {
            return Err(Error::malformed(format!("sizes {target:?} of {} axes", axes.len())));
        }
        let mut borders = vec![(0, 0); shape.len()];
        for (&axis, &size) in axes.iter().zip(&target) {
            let room = size - shape[axis] as i64;
            let near = room.div_euclid(2) + i64::from(room < 0 && room % 2 != 0);
            borders[axis] = (near, room - near);
        }
        Ok(vec![pad_constant(crop(x, &borders)?, &borders, 0.0)?])
    }
}

/// Blocks of space to channels, or back.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// The side of a block.
    pub size: usize,
    /// Whether channels become space.
    pub to_space: bool,
    /// Whether channels are the outer part of what becomes space (`CRD`).
    pub channels_first: bool,
}

impl Operator for Blocks {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let size = self.size;
        let fits = shape.len() == 4
            && match self.to_space {
                true => shape[1] % (size * size) == 0,
                false => shape[2] % size == 0 && shape[3] % size == 0,
            };
        if !fits {
            return Err(Error::malformed(format!("blocks of {size} in {shape:?}")));
        }
        let [n, c, h, w] = [shape[0], shape[1], shape[2], shape[3]];
        Ok(vec![match (self.to_space, self.channels_first) {
            (true, channels_first) => {
                let inner = c / (size * size);
                let (parts, order): (Vec<usize>, _) = match channels_first {
                    true => (vec![n, inner, size, size, h, w], [0, 1, 4, 2, 5, 3]),
                    false => (vec![n, size, size, inner, h, w], [0, 3, 4, 1, 5, 2]),
                };
                let x = permute(x.reshape(parts), &order);
                x.reshape(vec![n, inner, h * size, w * size])
            }
            (false, _) => {
                let x = x.reshape(vec![n, c, h / size, size, w / size, size]);
                let x = permute(x, &[0, 3, 5, 1, 2, 4]);
                x.reshape(vec![n, c * size * size, h / size, w / size])
            }
        }])
    }
}

/// The sizes of a tensor between two axes, or their product.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// The sizes.
    Sizes(i64, i64),
    /// The number of elements.
    Count,
}

impl Operator for Shape {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let shape = inputs.take(0)?.shape();
        let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let rank = sizes.len() as i64;
        Ok(vec![match self {
            Shape::Count => Value::of_ints(vec![sizes.iter().product()], Vec::new(), &cx.device),
            Shape::Sizes(start, end) => {
                let place = |at: i64| if at < 0 { at.saturating_add(rank) } else { at };
                let (start, end) = (place(*start).clamp(0, rank), place(*end).clamp(0, rank));
                let part = sizes.get(start as usize..end as usize).unwrap_or_default().to_vec();
                let count = part.len();
                Value::of_ints(part, vec![count], &cx.device)
            }
        }])
    }
}

/// A tensor that operands describe.
#[derive(Clone, Debug)]
pub enum Fill {
    /// One real number in the shape that operand 0 gives.
    Float(f32),
    /// One integer.
    Int(i64),
    /// One truth value.
    Bool(bool),
    /// From operand 0 to before operand 1 in steps of operand 2.
    Range,
    /// Ones on a diagonal of a matrix as large as operand 0, else zeros.
    Eye(i64),
}

impl Operator for Fill {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        const MOST: usize = 1 << 31;
        let mut shape = || -> Result<(Vec<usize>, usize)> {
            let shape = sizes(&inputs.ints(0)?)?;
            let count = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
            let count = count.filter(|&count| count <= MOST);
            Ok((shape, count.ok_or_else(|| Error::malformed("a tensor that is too large"))?))
        };
        Ok(vec![match self {
            Fill::Float(number) => {
                let (shape, count) = shape()?;
                Value::of_floats(vec![*number; count], shape, &cx.device)
            }
            Fill::Int(number) => {
                let (shape, count) = shape()?;
                Value::of_ints(vec![*number; count], shape, &cx.device)
            }
            Fill::Bool(number) => {
                let (shape, count) = shape()?;
                Value::of_bools(vec![*number; count], shape, &cx.device)
            }
            Fill::Eye(diagonal) => {
                let shape = inputs.take(0)?.shape();
                let [rows, columns] = shape[..] else {
                    return Err(Error::malformed(format!("a diagonal of {shape:?}")));
                };
                let one = |at: usize| {
                    let (row, column) = ((at / columns) as i64, (at % columns) as i64);
                    f32::from(column - row == *diagonal)
                };
                Value::of_floats((0..rows * columns).map(one).collect(), shape, &cx.device)
            }
            Fill::Range => {
                let (start, limit, step) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
                match start {
                    Value::Int(_) => {
                        let number = |value: Value<B>| -> Result<i64> {
                            value.to_ints()?.first().copied().ok_or_else(no_number)
                        };
                        let (start, limit, step) = (number(start)?, number(limit)?, number(step)?);
                        let count = steps((limit - start) as f64, step as f64, MOST)?;
                        let values = (0..count as i64).map(|at| start + at * step).collect();
                        Value::of_ints(values, vec![count], &cx.device)
                    }
                    start => {
                        let number = |value: Value<B>| -> Result<f32> {
                            value.to_floats()?.first().copied().ok_or_else(no_number)
                        };
                        let (start, limit, step) = (number(start)?, number(limit)?, number(step)?);
                        let count = steps(f64::from(limit) - f64::from(start), step.into(), MOST)?;
                        let values = (0..count).map(|at| start + at as f32 * step).collect();
                        Value::of_floats(values, vec![count], &cx.device)
                    }
                }
            }
        }])
    }
}

fn no_number() -> Error {
    Error::malformed("a number is missing")
}

fn steps(way: f64, step: f64, most: usize) -> Result<usize> {
    let count = (way / step).ceil();
    match count.is_finite() && count <= most as f64 {
        true => Ok(count.max(0.0) as usize),
        false => Err(Error::malformed(format!("{way} in steps of {step}"))),
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Reshape", |node| Ok(Reshape::Given(node.int("allowzero", 0) != 0).into())),
    ("Flatten", |node| Ok(Reshape::Flatten(node.int("axis", 1)).into())),
    ("Squeeze", |node| Ok(Reshape::Squeeze(node.ints("axes")).into())),
    ("Unsqueeze", |node| Ok(Reshape::Unsqueeze(node.ints("axes")).into())),
    ("Transpose", |node| Ok(Transpose { order: node.ints("perm").unwrap_or_default() }.into())),
    ("Expand", |_| Ok(Expand.into())),
    ("Tile", |_| Ok(Tile.into())),
    ("Concat", |node| Ok(Concat { axis: node.int("axis", 0) }.into())),
    ("Split", |node| {
        let (axis, parts) = (node.int("axis", 0), node.ints("split"));
        Ok(Split { axis, parts, count: node.outputs() }.into())
    }),
    ("Slice", |node| {
        let fixed = node.ints("starts").map(|starts| {
            let axes = node.ints("axes").unwrap_or_default();
            [starts, node.ints("ends").unwrap_or_default(), axes]
        });
        Ok(Slice { fixed }.into())
    }),
    ("Pad", pad),
    ("CenterCropPad", |node| Ok(CenterCropPad { axes: node.ints("axes") }.into())),
    ("DepthToSpace", |node| {
        let channels_first = node.string("mode").as_deref() == Some("CRD");
        Ok(Blocks { size: block(node)?, to_space: true, channels_first }.into())
    }),
    ("SpaceToDepth", |node| {
        Ok(Blocks { size: block(node)?, to_space: false, channels_first: false }.into())
    }),
    ("Shape", |node| Ok(Shape::Sizes(node.int("start", 0), node.int("end", i64::MAX)).into())),
    ("Size", |_| Ok(Shape::Count.into())),
    ("ConstantOfShape", |node| {
        let Some(view) = node.tensor("value")? else { return Ok(Fill::Float(0.0).into()) };
        if let Some(value) = view.to_f64s() {
            return Ok(Fill::Float(value.first().map_or(0.0, |&value| value as f32)).into());
        }
        let value = view.to_i64s().and_then(|value| value.first().copied()).unwrap_or(0);
        Ok(match view.dtype {
            secateur::DType::Bool => Fill::Bool(value != 0),
            _ => Fill::Int(value),
        }
        .into())
    }),
    ("Range", |_| Ok(Fill::Range.into())),
    ("EyeLike", |node| Ok(Fill::Eye(node.int("k", 0)).into())),
];

fn pad(node: &Node<'_>) -> Result<Op> {
    let border = match node.string("mode").as_deref() {
        None | Some("constant") => Border::Constant,
        Some("reflect") => Border::Reflect,
        Some("edge") => Border::Edge,
        Some("wrap") => Border::Wrap,
        Some(other) => return Err(Error::malformed(format!("`mode` is `{other}`"))),
    };
    let fixed = node.ints("pads").map(|pads| (pads, node.float("value", 0.0) as f32));
    Ok(Pad { border, fixed }.into())
}

fn block(node: &Node<'_>) -> Result<usize> {
    let size = node.int("blocksize", 0);
    let found = usize::try_from(size).ok().filter(|&size| size > 0);
    found.ok_or_else(|| Error::malformed(format!("blocks of {size}")))
}
