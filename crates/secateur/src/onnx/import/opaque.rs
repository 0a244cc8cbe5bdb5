//! Nodes that are not followed: all that they read is pinned, with one warning per kind.

use super::scope::{Binding, Kind, Scope};
use super::{Importer, is_standard};
use crate::graph::{Node, NodeId, Origin, Value, ValueId};
use crate::onnx::order::captured;
use crate::onnx::proto::{NodeProto, node_name};
use crate::ops::Op;
use crate::{Error, ErrorKind, Result};

impl<'a> Importer<'a> {
    pub(super) fn add_opaque(
        &mut self,
        index: u32,
        node: &'a NodeProto,
        why: Option<Error>,
    ) -> Result<()> {
        let mut inside: Vec<&'a str> = Vec::new();
        captured(node, &mut inside);
        let mut inputs = Vec::with_capacity(node.input.len() + inside.len());
        for (slot, name) in node.input.iter().chain(inside).enumerate() {
            // What a graph inside reads and nothing makes is its own matter.
            if name.is_empty() || self.find(name).is_some() {
                let user = (slot < node.input.len()).then_some((index, slot as u32));
                inputs.push(self.data(name, user)?);
            }
        }
        if self.never_runs(why.as_ref(), &inputs) {
            inputs.retain(|input| input.is_some_and(|value| self.graph.as_param(value).is_some()));
        }
        self.add_inside(index, node, &mut inputs)?;
        let mut outputs = Vec::new();
        for name in node.output.iter() {
            let declared = self.scope().declared.get(name);
            let shape = declared.and_then(|info| self.declared_shape(info));
            let origin = Origin::Node(NodeId::new(self.graph.nodes.len()));
            let value =
                self.graph.add_value(Value { name: name.to_string(), dtype: None, shape, origin });
            outputs.push(value);
            if !name.is_empty() {
                self.define(name, Binding { value: Some(value), ..Binding::default() })?;
            }
        }
        if self.is_behind(&inputs) {
            self.behind += 1;
        } else {
            self.warn(node, why);
        }
        self.graph.nodes.push(Node {
            name: self.node_name(node),
            kind: node.op_type.clone(),
            source: index,
            in_function: self.in_function(),
            op: Op::Opaque,
            rule: None,
            inputs,
            outputs,
        });
        Ok(())
    }

    /// The weights in the graphs inside a node: what is not followed still counts.
    fn add_inside(
        &mut self,
        index: u32,
        node: &'a NodeProto,
        weights: &mut Vec<Option<ValueId>>,
    ) -> Result<()> {
        let opset = self.opset();
        for body in self.file.bodies().inside(index) {
            let mut scope = Scope::new(self.file, Kind::DeadBranch, body, opset);
            scope.folder = format!("{}{}/", self.scope().folder, node_name(node));
            scope.in_function = self.in_function();
            self.scopes.push(scope);
            self.add_initializers()?;
            let first = self.file.bodies().first_node(body);
            for (index, node) in (first..).zip(self.file.nodes(body)) {
                self.add_constant(index, node)?;
            }
            weights.extend(self.weights()?);
            self.pop_scope();
        }
        Ok(())
    }

    /// The stored tensors of the innermost scope, without those that may be sizes.
    fn weights(&mut self) -> Result<Vec<Option<ValueId>>> {
        let is_weight = |binding: &Binding| {
            let sizes = binding.known.as_ref().is_some_and(|known| !known.dtype.is_float());
            binding.tensor.is_some() && !sizes
        };
        let stored = self.scope().names.iter().filter(|(_, binding)| is_weight(binding));
        let mut stored: Vec<(Option<u32>, &'a str)> =
            stored.map(|(name, binding)| (binding.tensor, *name)).collect();
        stored.sort_unstable();
        stored.into_iter().map(|(_, name)| self.data(name, None)).collect()
    }

    /// Whether some input has no known shape.
    fn is_behind(&self, inputs: &[Option<ValueId>]) -> bool {
        inputs.iter().flatten().any(|&value| self.graph.value(value).shape.is_none())
    }

    /// Whether a node stands in a branch that does not run, for sizes that it was not made for.
    fn never_runs(&self, why: Option<&Error>, inputs: &[Option<ValueId>]) -> bool {
        let misfit = why.is_some_and(|error| {
            matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Argument)
        });
        self.scope().kind == Kind::DeadBranch && (misfit || self.is_behind(inputs))
    }

    /// One warning per kind of operator.
    pub(super) fn warn(&mut self, node: &NodeProto, why: Option<Error>) {
        if self.scope().kind == Kind::DeadBranch {
            return;
        }
        let kind = match is_standard(&node.domain) {
            true => node.op_type.clone(),
            false => format!("{}::{}", node.domain, node.op_type),
        };
        let text = match why {
            None => format!("operator `{kind}` is unknown: what it touches is left as it is"),
            Some(error) => format!("operator `{kind}` is left as it is: {error}"),
        };
        if self.opaque.insert(kind) {
            let name = self.node_name(node);
            self.graph.warnings.push(format!("{text} (first at node `{name}`)"));
        }
    }
}
