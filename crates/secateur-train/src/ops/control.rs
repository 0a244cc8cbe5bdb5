//! Graphs inside nodes.

use std::collections::HashMap;

use super::shape::concat;
use super::{Decode, Inputs, Operator, axis};
use crate::program::run_block;
use crate::{Block, Context, Engine, Error, Result, Slot, Value};

/// A graph inside a node.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What runs.
    pub block: Block,
    /// Where its inputs stand.
    pub formals: Vec<Slot>,
    /// What it reads of the graph around it; the node's last operands.
    pub captures: Vec<Slot>,
    /// The number of slots that it needs.
    pub slots: usize,
}

impl Graph {
    fn captured<B: Engine>(
        &self,
        inputs: &mut Inputs<B>,
        first: usize,
    ) -> Result<HashMap<Slot, Value<B>>> {
        let captures = self.captures.iter().enumerate();
        captures.map(|(index, &slot)| Ok((slot, inputs.take(first + index)?))).collect()
    }

    fn run<B: Engine>(
        &self,
        around: &HashMap<Slot, Value<B>>,
        inputs: impl IntoIterator<Item = Value<B>>,
        cx: &mut Context<B>,
    ) -> Result<Vec<Value<B>>> {
        let mut values = around.clone();
        values.extend(self.formals.iter().copied().zip(inputs));
        run_block(&self.block, values, self.slots, cx)
    }
}

/// One of two graphs, as operand 0 decides.
#[derive(Clone, Debug)]
pub struct If {
    /// What runs where it holds, and where not.
    pub branches: [Graph; 2],
}

impl Operator for If {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let holds = holds(inputs.take(0)?)?;
        let [yes, no] = &self.branches;
        let (branch, first) = if holds { (yes, 1) } else { (no, 1 + yes.captures.len()) };
        let around = branch.captured(&mut inputs, first)?;
        branch.run(&around, [], cx)
    }
}

fn holds<B: Engine>(condition: Value<B>) -> Result<bool> {
    let condition = condition.to_ints()?;
    Ok(*condition.first().ok_or_else(|| Error::malformed("no condition"))? != 0)
}

/// A graph that runs as often as operand 0 says, as long as operand 1 and then its first result
/// hold. Operands after these go through all runs.
#[derive(Clone, Debug)]
pub struct Loop {
    /// What runs.
    pub body: Graph,
    /// How many values go through.
    pub carried: usize,
}

/// The most runs of one loop.
const MOST_RUNS: i64 = 1 << 24;

impl Operator for Loop {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let trips = inputs.optional(0).map(Value::to_ints).transpose()?;
        let trips = trips.and_then(|trips| trips.first().copied()).unwrap_or(MOST_RUNS);
        let mut goes_on = inputs.optional(1).map(holds).transpose()?.unwrap_or(true);
        let take = |index| inputs.take(2 + index);
        let mut state = (0..self.carried).map(take).collect::<Result<Vec<_>>>()?;
        let around = self.body.captured(&mut inputs, 2 + self.carried)?;
        let kept = self.body.block.outputs.len() - 1 - self.carried;
        let mut scans: Vec<Vec<Value<B>>> = vec![Vec::new(); kept];
        let mut run = 0;
        while goes_on && run < trips {
            let number = Value::of_ints(vec![run], Vec::new(), &cx.device);
            let condition = Value::of_bools(vec![true], Vec::new(), &cx.device);
            let operands = [number, condition].into_iter().chain(state);
            let mut results = self.body.run(&around, operands, cx)?.into_iter();
            goes_on = results.next().map(holds).transpose()?.unwrap_or(false);
            state = results.by_ref().take(self.carried).collect();
            scans.iter_mut().zip(results).for_each(|(scan, value)| scan.push(value));
            run += 1;
        }
        if run == MOST_RUNS {
            return Err(Error::unsupported(format!("more than {MOST_RUNS} runs of a loop")));
        }
        let stacked = scans.into_iter().map(|scan| stack(scan, 0));
        state.into_iter().map(Ok).chain(stacked).collect()
    }
}

/// Values one after the other along a new axis.
fn stack<B: Engine>(values: Vec<Value<B>>, along: i64) -> Result<Value<B>> {
    let rank = values.first().map(Value::rank);
    let rank = rank.ok_or_else(|| Error::unsupported("the results of no run"))?;
    let at = axis(along, rank + 1)?;
    let lift = |value: Value<B>| {
        let mut shape = value.shape();
        shape.insert(at, 1);
        value.reshape(shape)
    };
    concat(values.into_iter().map(lift).collect(), at as i64)
}

/// A graph that runs once per position of the last operands' axes; the first operands go through all
/// runs.
#[derive(Clone, Debug)]
pub struct Scan {
    /// What runs.
    pub body: Graph,
    /// How many values go through.
    pub carried: usize,
    /// The axes of what goes in and comes out; 0 where none is given.
    pub axes: [Vec<i64>; 2],
    /// Whether they run from the end.
    pub directions: [Vec<i64>; 2],
}

impl Operator for Scan {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let scanned = self.body.formals.len() - self.carried;
        let mut state =
            (0..self.carried).map(|index| inputs.take(index)).collect::<Result<Vec<_>>>()?;
        let mut slices = Vec::new();
        for index in 0..scanned {
            slices.push(self.slices(inputs.take(self.carried + index)?, index)?);
        }
        let around = self.body.captured(&mut inputs, self.body.formals.len())?;
        let runs = slices.iter().map(Vec::len).min().unwrap_or(0);
        let kept = self.body.block.outputs.len() - self.carried;
        let mut scans: Vec<Vec<Value<B>>> = vec![Vec::new(); kept];
        for run in 0..runs {
            let parts = slices.iter().map(|slices| slices[run].clone());
            let mut results =
                self.body.run(&around, state.into_iter().chain(parts), cx)?.into_iter();
            state = results.by_ref().take(self.carried).collect();
            scans.iter_mut().zip(results).for_each(|(scan, value)| scan.push(value));
        }
        let put = |(index, mut scan): (usize, Vec<Value<B>>)| {
            if is_reversed(&self.directions[1], index) {
                scan.reverse();
            }
            stack(scan, self.axes[1].get(index).copied().unwrap_or(0))
        };
        let scans = scans.into_iter().enumerate().map(put);
        state.into_iter().map(Ok).chain(scans).collect()
    }
}

fn is_reversed(directions: &[i64], index: usize) -> bool {
    directions.get(index).is_some_and(|&direction| direction != 0)
}

impl Scan {
    /// The positions of an operand's axis, in the order in which they are read.
    fn slices<B: Engine>(&self, value: Value<B>, index: usize) -> Result<Vec<Value<B>>> {
        let mut shape = value.shape();
        let along = axis(self.axes[0].get(index).copied().unwrap_or(0), shape.len())?;
        let count = shape.remove(along);
        let slice =
            |at| super::shape::segment(value.clone(), along, at, at + 1).reshape(shape.clone());
        let mut slices: Vec<Value<B>> = (0..count).map(slice).collect();
        if is_reversed(&self.directions[0], index) {
            slices.reverse();
        }
        Ok(slices)
    }
}

/// Nodes with graphs are compiled where the names around them are known.
pub(crate) const ONNX: &[(&str, Decode)] = &[];
