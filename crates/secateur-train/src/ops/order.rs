//! Axes in another order along themselves.

use burn_backend::TensorMetadata;

use super::shape::{concat, segment};
use super::{Inputs, Operator, axis};
use crate::value::INT;
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
        match x {
            Value::Float(x) => {
                let order = B::float_argsort(x.clone(), along, self.descending, INT);
                let sorted = B::float_gather(along, x, order.clone());
                Ok(vec![Value::Float(sorted), Value::Int(order)])
            }
            Value::Int(x) => {
                let order = B::int_argsort(x.clone(), along, self.descending);
                let sorted = B::int_gather(along, x, order.clone());
                Ok(vec![Value::Int(sorted), Value::Int(order)])
            }
            Value::Bool(_) => Err(Error::unsupported("truth values in order")),
        }
    }
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
