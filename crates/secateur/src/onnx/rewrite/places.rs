//! Finds the messages of nodes and initializers in the file.

use std::ops::Range;

use crate::Result;
use crate::onnx::bodies::{self, BodyId};
use crate::onnx::wire::{self, Wire};
use crate::onnx::{OnnxFile, TensorRef};

/// Where the messages of all bodies are.
#[derive(Default)]
pub(super) struct Places {
    initializers: Vec<Range<usize>>,
    nodes: Vec<Range<usize>>,
}

impl Places {
    /// Looks only when there is something to find.
    pub(super) fn new<T>(file: &OnnxFile, needed: &[T]) -> Result<Self> {
        let mut places = Self::default();
        if needed.is_empty() {
            return Ok(places);
        }
        let bytes = file.bytes();
        let functions = wire::all(bytes, 0..bytes.len(), 25)?;
        for body in file.bodies().ids() {
            let nodes = if file.body_graph(body).is_some() { 1 } else { 7 };
            for message in places.messages(file, &functions, body)? {
                for field in wire::fields(bytes, message) {
                    let field = field?;
                    match (field.number, field.wire) {
                        (number, Wire::Length) if number == nodes => {
                            places.nodes.push(field.payload);
                        }
                        (5, Wire::Length) if nodes == 1 => {
                            file.release(&bytes[field.payload.clone()]);
                            places.initializers.push(field.payload);
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(places)
    }

    /// The messages that a body is in: a graph may be spread over several.
    fn messages(
        &self,
        file: &OnnxFile,
        functions: &[Range<usize>],
        body: BodyId,
    ) -> Result<Vec<Range<usize>>> {
        let bytes = file.bytes();
        let nth = |list: Vec<Range<usize>>, index: u32| list.into_iter().nth(index as usize);
        match file.bodies().place(body) {
            bodies::Place::Main => wire::all(bytes, 0..bytes.len(), 7),
            bodies::Place::Function(index) => {
                Ok(functions.get(index as usize).cloned().into_iter().collect())
            }
            bodies::Place::Inside { node, attribute, graph } => {
                let Some(node) = self.nodes.get(node as usize) else { return Ok(Vec::new()) };
                let attributes = wire::all(bytes, node.clone(), 5)?;
                let Some(attribute) = nth(attributes, attribute) else { return Ok(Vec::new()) };
                match graph.checked_sub(1) {
                    None => wire::all(bytes, attribute, 6),
                    Some(index) => {
                        Ok(nth(wire::all(bytes, attribute, 11)?, index).into_iter().collect())
                    }
                }
            }
        }
    }

    /// The `TensorProto` of a reference; `None` for the numbers of a `Constant`.
    pub(super) fn tensor(&self, bytes: &[u8], at: TensorRef) -> Result<Option<Range<usize>>> {
        match at {
            TensorRef::Initializer(index) => Ok(self.initializers.get(index as usize).cloned()),
            TensorRef::Attribute { node, attribute } => {
                let Some(node) = self.nodes.get(node as usize) else { return Ok(None) };
                let attributes = wire::all(bytes, node.clone(), 5)?;
                let Some(range) = attributes.get(attribute as usize) else { return Ok(None) };
                wire::last(bytes, range.clone(), 5)
            }
        }
    }
}
