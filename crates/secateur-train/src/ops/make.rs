//! Tensors that a program spells.

pub(crate) mod aten;

use super::{Inputs, Operator};
use crate::{Context, Engine, Result, Value};

/// Elements, row-major, and their shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// Real numbers.
    Floats(Vec<f32>, Vec<usize>),
    /// Integers.
    Ints(Vec<i64>, Vec<usize>),
}

impl Operator for Constant {
    fn run<B: Engine>(&self, cx: &mut Context<B>, _: Inputs<B>) -> Result<Vec<Value<B>>> {
        Ok(vec![match self.clone() {
            Constant::Floats(values, shape) => Value::of_floats(values, shape, &cx.device),
            Constant::Ints(values, shape) => Value::of_ints(values, shape, &cx.device),
        }])
    }
}
