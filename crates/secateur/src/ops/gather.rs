//! Rows picked by index: embeddings, selections.

use super::{Operator, Shapes, axis, letter, operand, ranked};
use crate::Result;
use crate::onnx::Decode;
use crate::rule::{Dim, Flow, Rule, Use};

/// Rows of the data (operand 0) along one axis, at the positions in operand 1.
#[derive(Clone, Debug)]
pub struct Gather {
    /// The axis.
    pub axis: i64,
}

impl Operator for Gather {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let (data, indices) = (ranked(shapes, 0, 1)?, operand(shapes, 1)?);
        let along = axis(self.axis, data.len())?;
        let mut r = Rule::new("gather");
        let rows = r.fixed("rows", data[along], "rows are picked by index");
        let picked: Vec<Dim> = indices
            .iter()
            .enumerate()
            .map(|(i, &extent)| r.free(format!("i{i}"), extent).into())
            .collect();
        let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
        for (index, &extent) in data.iter().enumerate() {
            if index == along {
                dims.push(rows.into());
                result.extend(picked.iter().cloned());
            } else {
                let factor = r.free(letter(index), extent);
                dims.push(factor.into());
                result.push(factor.into());
            }
        }
        r.operand(Use::Table, dims);
        r.operand(Use::Data, picked);
        r.result(result);
        r.flow = Flow::product([0], []);
        Ok(r)
    }
}

/// How ONNX spells it.
pub(crate) const ONNX: &[(&str, Decode)] = &[("Gather", |cx| {
    let axis = cx.int("axis").unwrap_or(0);
    cx.node(Gather { axis })
})];
