//! Parts of an axis, taken and put back.

use super::index::select;
use super::shape::{concat, permute, segment, stride};
use super::{Inputs, Operator, axis};
use crate::{Context, Engine, Error, Result, Value};

/// A part of an axis: from operand 1 to before operand 2 in steps, or what stands at operand 1,
/// without the axis.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// The axis, and the step.
    Slice(i64, i64),
    /// The axis that one position is picked of.
    Select(i64),
}

/// The tensor of operand 0 with operand 1 in place of the part that operands 2 and 3 bound.
#[derive(Clone, Copy, Debug)]
pub struct Put(pub Part);

impl Part {
    fn axis(self, rank: usize) -> Result<usize> {
        let (Part::Slice(along, _) | Part::Select(along)) = self;
        axis(along, rank)
    }

    /// Start, end and step in an axis of `size`.
    fn bounds<B: Engine>(
        self,
        inputs: &mut Inputs<B>,
        first: usize,
        size: usize,
    ) -> Result<(i64, i64, i64)> {
        let mut number = |index| -> Result<i64> {
            let none = || Error::malformed("a bound without a number");
            inputs.ints(index)?.first().copied().ok_or_else(none)
        };
        let (start, size) = (number(first)?, size as i64);
        match self {
            Part::Slice(_, step) => Ok((start, number(first + 1)?, step)),
            Part::Select(_) => {
                let at = if start < 0 { start + size } else { start };
                match (0..size).contains(&at) {
                    true => Ok((at, at + 1, 1)),
                    false => Err(Error::argument(format!("position {start} of {size}"))),
                }
            }
        }
    }
}

impl Operator for Part {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let mut shape = x.shape();
        let along = self.axis(shape.len())?;
        let (start, end, step) = self.bounds(&mut inputs, 1, shape[along])?;
        let part = stride(x, along, start, end, step)?;
        Ok(vec![match self {
            Part::Slice(..) => part,
            Part::Select(_) => {
                shape.remove(along);
                part.reshape(shape)
            }
        }])
    }
}

impl Operator for Put {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, value) = (inputs.take(0)?, inputs.take(1)?);
        let shape = x.shape();
        let along = self.0.axis(shape.len())?;
        let size = shape[along];
        let (start, end, step) = self.0.bounds(&mut inputs, 2, size)?;
        let all = Value::<B>::of_ints((0..size as i64).collect(), vec![size], &cx.device);
        let places = stride(all, 0, start, end, step)?.to_ints()?;
        let count = places.len();
        let target = [&shape[..along], &[count], &shape[along + 1..]].concat();
        if value.shape().iter().product::<usize>() != target.iter().product::<usize>() {
            let text = format!("{:?} in place of {target:?}", value.shape());
            return Err(Error::malformed(text));
        }
        let value = value.reshape(target);
        let Some(&first) = places.first() else { return Ok(vec![x]) };
        if step == 1 {
            let (first, last) = (first as usize, first as usize + count);
            let before = segment(x.clone(), along, 0, first);
            let after = segment(x, along, last, size);
            return Ok(vec![concat(vec![before, value, after], along as i64)?]);
        }
        let mut order: Vec<i64> = (0..size as i64).collect();
        for (index, place) in places.into_iter().enumerate() {
            order[place as usize] = (size + index) as i64;
        }
        let order = Value::<B>::of_ints(order, vec![size], &cx.device).int()?;
        Ok(vec![select(concat(vec![x, value], along as i64)?, along, order)])
    }
}

/// Windows of an axis, one after another, as a new last axis.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// The axis, which then counts windows.
    pub axis: i64,
    /// Elements of a window.
    pub size: usize,
    /// From the start of one window to that of the next.
    pub step: usize,
    /// From one element of a window to the next.
    pub dilation: usize,
}

impl Operator for Windows {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let along = axis(self.axis, shape.len())?;
        let spread = self.dilation * self.size.saturating_sub(1) + 1;
        let room = shape[along].checked_sub(spread);
        let room = room.ok_or_else(|| Error::malformed("a window that is larger than its axis"))?;
        let count = room / self.step.max(1) + 1;
        let place = |at: usize| at / self.size * self.step + at % self.size * self.dilation;
        let places: Vec<i64> = (0..count * self.size).map(|at| place(at) as i64).collect();
        let places = Value::<B>::of_ints(places, vec![count * self.size], &cx.device).int()?;
        let split = [&shape[..along], &[count, self.size], &shape[along + 1..]].concat();
        let rank = split.len();
        let mut order: Vec<usize> = (0..rank).filter(|&axis| axis != along + 1).collect();
        order.push(along + 1);
        Ok(vec![permute(select(x, along, places).reshape(split), &order)])
    }
}

/// Every row of an axis as often as operand 1 says, which has a number for all or for each.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    /// The axis.
    pub axis: i64,
}

impl Operator for Repeat {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, times) = (inputs.take(0)?, inputs.ints(1)?);
        let along = axis(self.axis, x.rank())?;
        let size = x.shape()[along];
        let wrong = || Error::malformed(format!("{} repetitions of {size} rows", times.len()));
        let mut places = Vec::new();
        for row in 0..size {
            let count = if times.len() == 1 { times.first() } else { times.get(row) };
            let count = count.and_then(|&count| usize::try_from(count).ok()).ok_or_else(wrong)?;
            places.extend(std::iter::repeat_n(row as i64, count));
        }
        let count = places.len();
        let places = Value::<B>::of_ints(places, vec![count], &cx.device).int()?;
        Ok(vec![select(x, along, places)])
    }
}
