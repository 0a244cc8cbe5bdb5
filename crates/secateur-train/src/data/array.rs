//! Dense arrays on the host. Knows no file and no tensor framework.

use secateur::tensor::element_count;
use secateur::{Error, Result};

/// A dense row-major array on the host: its elements, and its shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Real numbers.
    Float(Vec<f32>, Vec<usize>),
    /// Integers.
    Int(Vec<i64>, Vec<usize>),
    /// Truth values.
    Bool(Vec<bool>, Vec<usize>),
}

impl Array {
    /// The sizes; none for a scalar.
    pub fn shape(&self) -> &[usize] {
        match self {
            Array::Float(_, shape) | Array::Int(_, shape) | Array::Bool(_, shape) => shape,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::Float(values, _) => values.len(),
            Array::Int(values, _) => values.len(),
            Array::Bool(values, _) => values.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the first axis; 0 for a scalar.
    pub fn samples(&self) -> usize {
        self.shape().first().copied().unwrap_or(0)
    }

    /// What it holds, for messages.
    pub fn sort(&self) -> &'static str {
        match self {
            Array::Float(..) => "real numbers",
            Array::Int(..) => "integers",
            Array::Bool(..) => "truth values",
        }
    }

    /// Fails unless the shape has as many elements as there are.
    ///
    /// # Errors
    /// When it has not.
    pub fn check(&self) -> Result<()> {
        let expected = element_count(self.shape())?;
        if expected == self.len() {
            return Ok(());
        }
        let (shape, len) = (self.shape(), self.len());
        Err(Error::argument(format!("{len} elements do not fill the shape {shape:?}")))
    }
}
