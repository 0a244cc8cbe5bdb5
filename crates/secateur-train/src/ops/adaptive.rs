//! Pools that make a given number of windows.

use super::pool::PoolKind;
use super::shape::{concat, segment};
use super::{Inputs, Operator};
use crate::{Context, Engine, Error, Result, Value};

/// A pool over the last axes into as many windows as are given, of sizes that differ by one at most;
/// `None` keeps an axis.
#[derive(Clone, Debug)]
pub struct AdaptivePool {
    /// What is taken of each window.
    pub kind: PoolKind,
    /// The number of windows per axis.
    pub windows: Vec<Option<usize>>,
}

impl Operator for AdaptivePool {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.take(0)?;
        let first = x.rank().checked_sub(self.windows.len());
        let first =
            first.ok_or_else(|| Error::malformed("a pool over more axes than there are"))?;
        for (axis, windows) in self.windows.iter().enumerate() {
            if let Some(windows) = *windows {
                x = self.along(x, first + axis, windows)?;
            }
        }
        Ok(vec![x])
    }
}

impl AdaptivePool {
    /// A mean over a rectangle is one over its rows and then over its columns; so is a maximum.
    fn along<B: Engine>(&self, x: Value<B>, axis: usize, windows: usize) -> Result<Value<B>> {
        let shape = x.shape();
        let size = shape[axis];
        if windows == 0 || size == 0 {
            return Err(Error::malformed(format!("{windows} windows over {size}")));
        }
        if windows == size {
            return Ok(x);
        }
        if size.is_multiple_of(windows) {
            let (lead, tail) = (&shape[..axis], &shape[axis + 1..]);
            let x = x.reshape([lead, &[windows, size / windows], tail].concat());
            let pooled = self.reduce(x, axis + 1)?;
            return Ok(pooled.reshape([lead, &[windows], tail].concat()));
        }
        let window = |at: usize| {
            let (from, to) = (at * size / windows, ((at + 1) * size).div_ceil(windows));
            self.reduce(segment(x.clone(), axis, from, to), axis)
        };
        let parts = (0..windows).map(window).collect::<Result<Vec<_>>>()?;
        concat(parts, axis as i64)
    }

    fn reduce<B: Engine>(&self, x: Value<B>, axis: usize) -> Result<Value<B>> {
        let x = x.float()?;
        Ok(Value::Float(match self.kind {
            PoolKind::Max => B::float_max_dim(x, axis),
            PoolKind::Mean(_) => B::float_mean_dim(x, axis),
            PoolKind::Lp(_) => return Err(Error::unsupported("a p-norm over windows")),
        }))
    }
}
