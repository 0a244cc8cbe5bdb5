//! Axes in another order along themselves.

use std::cmp::Ordering;

use burn_backend::TensorMetadata;

use super::shape::{concat, segment};
use super::{Inputs, Operator, axis};
use crate::{Context, Engine, Error, Result, Value};

/// Axes backwards.
#[derive(Clone, Debug)]
pub struct Flip {
    /// The axes.
    pub axes: Vec<i64>,
}

impl Operator for Flip {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let axes = self.axes.iter().map(|&a| axis(a, x.rank())).collect::<Result<Vec<_>>>()?;
        let flipped = match x {
            Value::Bool(_) => {
                let ints = B::int_flip(x.to_int(), &axes);
                Value::Bool(Value::<B>::Int(ints).to_bool())
            }
            Value::Float(x) => Value::Float(B::float_flip(x, &axes)),
            Value::Int(x) => Value::Int(B::int_flip(x, &axes)),
        };
        Ok(vec![flipped])
    }
}

/// Positions moved on by a number, those at the end to the start; of one axis or of all as one.
#[derive(Clone, Debug)]
pub struct Roll {
    /// The axes and how far they are moved; no axis means all of them as one.
    pub shifts: Vec<(Option<i64>, i64)>,
}

impl Operator for Roll {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.take(0)?;
        let shape = x.shape();
        for &(along, shift) in &self.shifts {
            let (flat, along) = match along {
                Some(along) => (x, axis(along, shape.len())?),
                None => (x.reshape(vec![shape.iter().product()]), 0),
            };
            let size = flat.shape()[along];
            let cut = (-shift).rem_euclid(size.max(1) as i64) as usize;
            x = match cut {
                0 => flat,
                cut => {
                    let (near, far) =
                        (segment(flat.clone(), along, 0, cut), segment(flat, along, cut, size));
                    concat(vec![far, near], along as i64)?
                }
            };
            x = x.reshape(shape.clone());
        }
        Ok(vec![x])
    }
}

/// Elements in order along an axis, and where they were.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    /// The axis.
    pub axis: i64,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Operator for Sort {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let along = axis(self.axis, x.rank())?;
        in_order(x, along, self.descending).map(Vec::from)
    }
}

/// The elements in order along an axis, and where they were; of equal ones that one first which was,
/// as ONNX's TopK wants it. What is no number counts as the largest, as in PyTorch.
pub(super) fn in_order<B: Engine>(
    x: Value<B>,
    along: usize,
    descending: bool,
) -> Result<[Value<B>; 2]> {
    let (shape, device) = (x.shape(), x.device());
    let by_float = |a: &f32, b: &f32| a.partial_cmp(b).unwrap_or(a.is_nan().cmp(&b.is_nan()));
    let order = match &x {
        Value::Float(_) => order(&x.clone().to_floats()?, (&shape, along), descending, by_float),
        Value::Int(_) => order(&x.clone().to_ints()?, (&shape, along), descending, i64::cmp),
        Value::Bool(_) => return Err(Error::unsupported("truth values in order")),
    };
    let places = Value::<B>::of_ints(order, shape, &device).int()?;
    let sorted = match x {
        Value::Int(x) => Value::Int(B::int_gather(along, x, places.clone())),
        x => Value::Float(B::float_gather(along, x.float()?, places.clone())),
    };
    Ok([sorted, Value::Int(places)])
}

/// Where the elements in order along an axis were.
fn order<T>(
    values: &[T],
    (shape, along): (&[usize], usize),
    descending: bool,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Vec<i64> {
    let size = shape[along];
    let inner: usize = shape[along + 1..].iter().product();
    let outer: usize = shape[..along].iter().product();
    let mut order = vec![0; values.len()];
    for lane in 0..outer * inner {
        let at = |place: usize| (lane / inner * size + place) * inner + lane % inner;
        let mut places: Vec<usize> = (0..size).collect();
        places.sort_by(|&a, &b| match descending {
            true => compare(&values[at(b)], &values[at(a)]),
            false => compare(&values[at(a)], &values[at(b)]),
        });
        places.iter().enumerate().for_each(|(rank, &place)| order[at(rank)] = place as i64);
    }
    order
}

/// Running products of real numbers.
#[derive(Clone, Copy, Debug)]
pub struct CumProd {
    /// The axis.
    pub axis: i64,
}

impl Operator for CumProd {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let along = axis(self.axis, x.rank())?;
        Ok(vec![Value::Float(B::float_cumprod(x.float()?, along))])
    }
}

/// The variance over axes, or its root.
#[derive(Clone, Debug)]
pub struct Variance {
    /// The axes; all where there are none.
    pub axes: Vec<i64>,
    /// What is taken off the number of elements.
    pub correction: f64,
    /// Whether reduced axes stay with size 1.
    pub keep: bool,
    /// Whether the root is taken: the standard deviation.
    pub root: bool,
}

impl Operator for Variance {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.float()?;
        let shape = x.shape().to_vec();
        let axes = match self.axes.is_empty() {
            true => (0..shape.len()).collect(),
            false => self.axes.iter().map(|&a| axis(a, shape.len())).collect::<Result<Vec<_>>>()?,
        };
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        let mean = axes.iter().fold(x.clone(), |x, &axis| B::float_mean_dim(x, axis));
        let rest = B::float_sub(x, mean);
        let square = B::float_mul(rest.clone(), rest);
        let sum = axes.iter().fold(square, |x, &axis| B::float_sum_dim(x, axis));
        let below = (count as f64 - self.correction).max(0.0);
        let variance = B::float_div_scalar(sum, below.into());
        let result = if self.root { B::float_sqrt(variance) } else { variance };
        let size = |axis: usize| if axes.contains(&axis) { 1 } else { shape[axis] };
        let left = (0..shape.len()).filter(|axis| self.keep || !axes.contains(axis));
        Ok(vec![Value::<B>::Float(result).reshape(left.map(size).collect())])
    }
}
