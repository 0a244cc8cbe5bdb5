//! Elements at places that several tensors of positions give together, as in numpy's advanced
//! indexing.

use std::collections::HashMap;

use burn_std::IndexingUpdateOp;

use super::index::select;
use super::shape::{concat, permute};
use super::view::expand;
use super::{Inputs, Operator};
use crate::{Context, Engine, Error, Result, Value};

/// Elements of operand 0 at the positions in the operands after it: one tensor per indexed axis, or a
/// mask for as many axes as it has.
#[derive(Clone, Debug)]
pub struct Index {
    /// Which indices are given; one that is not stands for a whole axis.
    pub given: Vec<bool>,
}

/// Operand 0 with operand 1 at the places that the operands after it give.
#[derive(Clone, Debug)]
pub struct IndexPut {
    /// As in [`Index`].
    pub index: Index,
    /// Whether it is added.
    pub add: bool,
}

/// Where picked elements stand.
struct Places {
    /// Indexed axes, then the others.
    order: Vec<usize>,
    /// The sizes of the indexed axes, and of the others.
    sizes: [Vec<usize>; 2],
    /// One position per pick in the indexed axes as one.
    flat: Vec<i64>,
    /// The shape of the picks, and the axis of the result where they start.
    picks: Vec<usize>,
    at: usize,
}

impl Index {
    fn places<B: Engine>(&self, shape: &[usize], indices: Vec<Value<B>>) -> Result<Places> {
        let mut indices = indices.into_iter();
        let (mut axes, mut positions) = (Vec::new(), Vec::new());
        let mut axis = 0;
        for &given in &self.given {
            if !given {
                axis += 1;
                continue;
            }
            match indices.next() {
                Some(mask @ Value::Bool(_)) => {
                    let rank = mask.rank();
                    positions.extend(nonzero(mask)?);
                    axes.extend(axis..axis + rank);
                    axis += rank;
                }
                Some(index) => {
                    positions.push((index.shape(), index.to_ints()?));
                    axes.push(axis);
                    axis += 1;
                }
                None => return Err(Error::malformed("an index is missing")),
            }
        }
        if axes.is_empty() || axis > shape.len() {
            return Err(Error::malformed(format!("{} indices of {shape:?}", axes.len())));
        }
        let picks = positions.iter().try_fold(Vec::new(), |all, (one, _)| broadcast(&all, one))?;
        let mut flat = vec![0; picks.iter().product()];
        for (&axis, (own, values)) in axes.iter().zip(&positions) {
            let size = shape[axis] as i64;
            for (at, flat) in flat.iter_mut().enumerate() {
                let value = values[source(at, &picks, own)];
                let value = if value < 0 { value + size } else { value };
                if !(0..size).contains(&value) {
                    return Err(Error::argument(format!("position {value} of {size}")));
                }
                *flat = *flat * size + value;
            }
        }
        let rest: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let adjacent = axes.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let at = if adjacent { axes[0] } else { 0 };
        let sizes = [&axes, &rest].map(|axes| axes.iter().map(|&axis| shape[axis]).collect());
        Ok(Places { order: [axes, rest].concat(), sizes, flat, picks, at })
    }
}

/// The positions of what holds in a mask, one list per axis.
fn nonzero<B: Engine>(mask: Value<B>) -> Result<Vec<(Vec<usize>, Vec<i64>)>> {
    let shape = mask.shape();
    let values = mask.to_ints()?;
    let hits = values.iter().enumerate().filter(|(_, value)| **value != 0);
    let hits: Vec<usize> = hits.map(|(at, _)| at).collect();
    let inner = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let along = |axis: usize| {
        let place = |&at: &usize| (at / inner(axis) % shape[axis]) as i64;
        (vec![hits.len()], hits.iter().map(place).collect())
    };
    Ok((0..shape.len()).map(along).collect())
}

/// The shape that two broadcast to.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
    };
    let both = |axis: usize| match (size(a, axis), size(b, axis)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(Error::malformed(format!("indices of shapes {a:?} and {b:?}"))),
    };
    (0..rank).map(both).collect()
}

/// The flat place in a tensor of shape `own` of place `at` in what it broadcasts to.
fn source(at: usize, all: &[usize], own: &[usize]) -> usize {
    let lead = all.len() - own.len();
    let (mut at, mut step, mut place) = (at, 1, 0);
    for axis in (lead..all.len()).rev() {
        let size = own[axis - lead];
        place += if size == 1 { 0 } else { at % all[axis] } * step;
        step *= size;
        at /= all[axis].max(1);
    }
    place
}

impl Places {
    fn rows<B: Engine>(&self, x: Value<B>) -> Value<B> {
        let [indexed, rest] = &self.sizes;
        let flat = vec![indexed.iter().product(), rest.iter().product()];
        permute(x, &self.order).reshape(flat)
    }

    /// The shape of what is picked, with the axes of the picks first.
    fn first(&self) -> Vec<usize> {
        [&self.picks[..], &self.sizes[1]].concat()
    }

    /// The place that every axis of what is picked has when the picks come first.
    fn forward(&self) -> Vec<usize> {
        let picks = self.picks.len();
        let before = picks..picks + self.at;
        let after = picks + self.at..picks + self.sizes[1].len();
        before.chain(0..picks).chain(after).collect()
    }
}

impl Operator for Index {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let places = self.places(&x.shape(), inputs.rest())?;
        let flat = Value::<B>::of_ints(places.flat.clone(), vec![places.flat.len()], &cx.device);
        let picked = select(places.rows(x), 0, flat.int()?).reshape(places.first());
        Ok(vec![permute(picked, &places.forward())])
    }
}

impl Operator for IndexPut {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, values) = (inputs.take(0)?, inputs.take(1)?);
        let shape = x.shape();
        let places = self.index.places(&shape, inputs.rest())?;
        let (first, forward) = (places.first(), places.forward());
        let target: Vec<i64> = forward.iter().map(|&axis| first[axis] as i64).collect();
        let mut back = vec![0; forward.len()];
        forward.iter().enumerate().for_each(|(new, &old)| back[old] = new);
        let count = places.flat.len();
        let values = permute(expand(values, &target)?, &back);
        let width = places.sizes[1].iter().product();
        let values = values.reshape(vec![count, width]);
        let rows = self.put(places.rows(x), values, &places.flat, cx)?;
        let rows = rows.reshape(places.sizes.concat());
        let mut back = vec![0; places.order.len()];
        places.order.iter().enumerate().for_each(|(new, &old)| back[old] = new);
        Ok(vec![permute(rows, &back)])
    }
}

impl IndexPut {
    fn put<B: Engine>(
        &self,
        rows: Value<B>,
        values: Value<B>,
        flat: &[i64],
        cx: &Context<B>,
    ) -> Result<Value<B>> {
        if flat.is_empty() {
            return Ok(rows);
        }
        let size = rows.shape()[0];
        if self.add {
            let places = Value::<B>::of_ints(flat.to_vec(), vec![flat.len()], &cx.device).int()?;
            return Ok(match (rows, values) {
                (Value::Float(rows), Value::Float(values)) => Value::Float(B::float_select_assign(
                    rows,
                    0,
                    places,
                    values,
                    IndexingUpdateOp::Add,
                )),
                (Value::Int(rows), Value::Int(values)) => {
                    Value::Int(B::int_select_assign(rows, 0, places, values, IndexingUpdateOp::Add))
                }
                (rows, _) => return Err(Error::unsupported(format!("adding to {}", rows.sort()))),
            });
        }
        // What is put in a place last stays there.
        let last: HashMap<i64, usize> =
            flat.iter().enumerate().map(|(at, &place)| (place, at)).collect();
        let from = |row: i64| last.get(&row).map_or(row, |&at| (size + at) as i64);
        let order = (0..size as i64).map(from).collect();
        let order = Value::<B>::of_ints(order, vec![size], &cx.device).int()?;
        Ok(select(concat(vec![rows, values], 0)?, 0, order))
    }
}
