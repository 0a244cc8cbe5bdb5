//! The same elements in another shape, as PyTorch counts axes and sizes.

use super::{Inputs, Operator, axis};
use crate::{Context, Engine, Error, Result, Value};

/// How the new shape follows.
#[derive(Clone, Debug)]
pub enum View {
    /// That of operand 1.
    Like,
    /// No axes: there is one element.
    Scalar,
    /// All axes between these two are one.
    Flatten(i64, i64),
    /// An axis is split into the sizes that operand 1 gives, of which one may be -1.
    Unflatten(i64),
    /// Without these axes, or all, where their size is 1.
    Squeeze(Option<Vec<i64>>),
    /// Broadcast to the sizes that operand 1 gives; -1 keeps a size.
    Expand,
    /// Broadcast to the shape of operand 1.
    ExpandLike,
}

impl Operator for View {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let target = match self {
            View::Like => inputs.take(1)?.shape(),
            View::Scalar => Vec::new(),
            View::Flatten(first, last) => flattened(&shape, *first, *last)?,
            View::Unflatten(along) => unflattened(&shape, *along, &inputs.ints(1)?)?,
            View::Squeeze(axes) => squeezed(&shape, axes.as_deref())?,
            View::Expand => {
                let target = inputs.ints(1)?;
                return expand(x, &target).map(|x| vec![x]);
            }
            View::ExpandLike => {
                let target: Vec<i64> =
                    inputs.take(1)?.shape().iter().map(|&size| size as i64).collect();
                return expand(x, &target).map(|x| vec![x]);
            }
        };
        if target.iter().product::<usize>() != shape.iter().product::<usize>() {
            return Err(Error::malformed(format!("{shape:?} as {target:?}")));
        }
        Ok(vec![x.reshape(target)])
    }
}

fn flattened(shape: &[usize], first: i64, last: i64) -> Result<Vec<usize>> {
    if shape.is_empty() {
        return Ok(vec![1]);
    }
    let (first, last) = (axis(first, shape.len())?, axis(last, shape.len())?);
    if first > last {
        return Err(Error::malformed("axes in the wrong order"));
    }
    let middle = shape[first..=last].iter().product();
    Ok([&shape[..first], &[middle], &shape[last + 1..]].concat())
}

fn unflattened(shape: &[usize], along: i64, sizes: &[i64]) -> Result<Vec<usize>> {
    let along = axis(along, shape.len())?;
    let known: i64 = sizes.iter().filter(|&&size| size != -1).product();
    let size = |&size: &i64| match size {
        -1 => shape[along].checked_div(known as usize).unwrap_or(0),
        size => size as usize,
    };
    let middle: Vec<usize> = sizes.iter().map(size).collect();
    Ok([&shape[..along], &middle, &shape[along + 1..]].concat())
}

fn squeezed(shape: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>> {
    // A scalar has an axis to name, but none to drop.
    let rank = shape.len().max(1);
    let named = match axes {
        None => (0..rank).collect(),
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
    };
    let gone = |index: &usize| shape[*index] == 1 && named.contains(index);
    Ok((0..shape.len()).filter(|index| !gone(index)).map(|index| shape[index]).collect())
}

/// Broadcasts to a shape of at least as many axes.
pub(crate) fn expand<B: Engine>(x: Value<B>, target: &[i64]) -> Result<Value<B>> {
    let shape = x.shape();
    let wrong = || Error::malformed(format!("{shape:?} does not broadcast to {target:?}"));
    let lead = target.len().checked_sub(shape.len()).ok_or_else(wrong)?;
    let shape = [vec![1; lead], shape.clone()].concat();
    let size = |(&old, &new): (&usize, &i64)| match new {
        -1 => Some(old),
        new => usize::try_from(new).ok().filter(|&new| old == new || old == 1),
    };
    let target: Option<Vec<usize>> = shape.iter().zip(target).map(size).collect();
    let target = target.ok_or_else(wrong)?;
    Ok(super::shape::expand(x.reshape(shape), target))
}
