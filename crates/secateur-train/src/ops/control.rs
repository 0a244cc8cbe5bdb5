//! Graphs inside nodes.

use std::collections::HashMap;

use super::{Decode, Inputs, Operator};
use crate::program::run_block;
use crate::{Block, Context, Engine, Error, Result, Slot, Value};

/// One of two graphs, as operand 0 decides. The operands after it are what the graphs read of the
/// graph around them.
#[derive(Clone, Debug)]
pub struct If {
    /// What runs where it holds, and where not.
    pub branches: [Block; 2],
    /// Where the operands after the first stand.
    pub captures: Vec<Slot>,
    /// The number of slots of the program.
    pub slots: usize,
}

impl Operator for If {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let condition = inputs.ints(0)?;
        let holds = *condition.first().ok_or_else(|| Error::malformed("no condition"))? != 0;
        let mut values = HashMap::new();
        for (index, &slot) in self.captures.iter().enumerate() {
            values.insert(slot, inputs.take(index + 1)?);
        }
        run_block(&self.branches[usize::from(!holds)], values, self.slots, cx)
    }
}

/// Nodes with graphs are compiled where the names around them are known.
pub(crate) const ONNX: &[(&str, Decode)] = &[];
