//! Finds the messages of the main graph in the file.

use std::ops::Range;

use crate::Result;
use crate::onnx::{OnnxFile, TensorRef, wire};

/// Where the messages of the main graph are.
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
        for graph in wire::all(bytes, 0..bytes.len(), 7)? {
            places.nodes.extend(wire::all(bytes, graph.clone(), 1)?);
            places.initializers.extend(wire::all(bytes, graph, 5)?);
        }
        Ok(places)
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
