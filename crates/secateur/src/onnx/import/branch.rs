//! `If`: both branches are read in place. Where it is known which one runs, its results stand for
//! those of the node; where it is not, results of one shape are what either branch makes.

use std::sync::Arc;

use super::scope::{Binding, Kind, Reader, Scope};
use super::{Importer, is_standard};
use crate::graph::{Extent, Node, NodeId, Origin, Value, ValueId};
use crate::onnx::bodies::{BodyId, Place};
use crate::onnx::decode::Decoder;
use crate::onnx::proto::{NodeProto, node_name};
use crate::ops::Op;
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::{Error, Result};

const BRANCHES: [&str; 2] = ["then_branch", "else_branch"];

/// A result of a branch.
struct Output {
    binding: Binding,
    /// As data, where it is not known which branch runs.
    value: Option<ValueId>,
    shape: Option<Vec<Extent>>,
}

impl<'a> Importer<'a> {
    /// Reads an `If`, unless it has not two branches that fit it.
    pub(super) fn add_if(&mut self, index: u32, node: &'a NodeProto) -> Result<bool> {
        if node.op_type != "If" || !is_standard(&node.domain) {
            return Ok(false);
        }
        let Some(bodies) = self.branches(index, node) else { return Ok(false) };
        let live = self.taken(node);
        let mut results = Vec::new();
        for (branch, body) in bodies.into_iter().enumerate() {
            let kind = match live {
                Some(live) if live != branch => Kind::DeadBranch,
                _ => Kind::Branch,
            };
            results.push(self.add_branch(node, branch, body, kind, live.is_none())?);
        }
        if let Some(live) = live {
            for (name, output) in node.output.iter().zip(results.swap_remove(live)) {
                self.define_if(name, output.binding)?;
            }
            return Ok(true);
        }
        let (otherwise, then) =
            (results.pop().unwrap_or_default(), results.pop().unwrap_or_default());
        if let Some(condition) = node.input.first() {
            self.data(condition, None)?;
        }
        for (slot, pair) in then.into_iter().zip(otherwise).enumerate() {
            self.add_either(index, node, slot, pair)?;
        }
        Ok(true)
    }

    fn define_if(&mut self, name: &'a str, binding: Binding) -> Result<()> {
        if name.is_empty() { Ok(()) } else { self.define(name, binding) }
    }

    /// The bodies of both branches, where they fit the node.
    fn branches(&self, index: u32, node: &'a NodeProto) -> Option<[BodyId; 2]> {
        let mut found = Vec::new();
        for name in BRANCHES {
            let attribute = node.attribute.iter().position(|attribute| attribute.name == name)?;
            let place = Place::Inside { node: index, attribute: attribute as u32, graph: 0 };
            let body = self.file.bodies().at(place)?;
            let graph = self.file.body_graph(body)?;
            if !graph.input.is_empty() || graph.output.len() != node.output.len() {
                return None;
            }
            found.push(body);
        }
        found.try_into().ok()
    }

    /// The branch that runs, where that follows from numbers and fixed sizes, which then stay.
    fn taken(&mut self, node: &NodeProto) -> Option<usize> {
        let known = Arc::clone(self.find(node.input.first()?)?.known.as_ref()?);
        let [expr] = known.exprs[..] else { return None };
        if self.graph.is_open([expr]) {
            return None;
        }
        let condition = self.graph.scalar(expr)?;
        self.freeze(&[expr]);
        Some(usize::from(condition.float() == 0.0))
    }

    fn add_branch(
        &mut self,
        node: &'a NodeProto,
        branch: usize,
        body: BodyId,
        kind: Kind,
        as_data: bool,
    ) -> Result<Vec<Output>> {
        let outer = self.scope();
        let mut scope = Scope::new(self.file, kind, body, outer.opset);
        if outer.kind == Kind::DeadBranch {
            scope.kind = Kind::DeadBranch;
        }
        scope.formals = Arc::clone(&outer.formals);
        scope.path = outer.path.clone();
        scope.folder = format!("{}{}/{}/", outer.folder, node_name(node), BRANCHES[branch]);
        scope.in_function = outer.in_function;
        self.scopes.push(scope);
        self.add_initializers()?;
        self.add_body(body)?;
        let graph = self.file.body_graph(body);
        let mut outputs = Vec::new();
        for info in graph.into_iter().flat_map(|graph| &graph.output) {
            let found = self.find(&info.name).filter(|binding| !binding.is_omitted()).cloned();
            let binding = found.ok_or_else(|| {
                Error::malformed(format!("the output `{}` is made by no node", info.name))
            })?;
            let value = if as_data { self.data(&info.name, None)? } else { None };
            let shape = value.and_then(|value| self.graph.value(value).shape.clone());
            let shape = shape.or_else(|| self.declared_shape(info));
            outputs.push(Output {
                binding: Binding { reader: Reader::Node, ..binding },
                value,
                shape,
            });
        }
        self.pop_scope();
        Ok(outputs)
    }

    /// A result that is one of two.
    fn add_either(
        &mut self,
        index: u32,
        node: &'a NodeProto,
        slot: usize,
        (then, otherwise): (Output, Output),
    ) -> Result<()> {
        let sizes = |output: &Output| -> Option<Vec<usize>> {
            let shape = self.graph.value(output.value?).shape.as_ref()?;
            Some(shape.iter().map(|extent| extent.size).collect())
        };
        let alike = sizes(&then).is_some_and(|shape| sizes(&otherwise) == Some(shape));
        let values = [then.value, otherwise.value];
        let name = &node.output[slot];
        let value = match values {
            [Some(a), Some(b)] if alike => {
                let mut cx = Decoder::new(self, index, node);
                let value = cx.emit(Elementwise { zeros: Zeros::AllKept, results: 1 }, &[a, b])?;
                self.graph.values[value.index()].name = name.to_string();
                value
            }
            _ => {
                let agreed = self.agreed(then, otherwise);
                self.add_opaque_either(index, node, slot, values, agreed)
            }
        };
        self.define_if(name, Binding { value: Some(value), ..Binding::default() })
    }

    /// The shape on which two branches agree; sizes that differ depend on what is decided.
    fn agreed(&mut self, then: Output, otherwise: Output) -> Option<Vec<Extent>> {
        let (a, b) = (then.shape?, otherwise.shape?);
        let either = |(a, b): (&Extent, &Extent)| match a.size == b.size {
            true => Extent { open: a.open.max(b.open), ..*a },
            false => self.count(&[if a.size < b.size { *b } else { *a }]),
        };
        (a.len() == b.len()).then(|| a.iter().zip(&b).map(either).collect())
    }

    fn add_opaque_either(
        &mut self,
        index: u32,
        node: &'a NodeProto,
        slot: usize,
        inputs: [Option<ValueId>; 2],
        agreed: Option<Vec<Extent>>,
    ) -> ValueId {
        let name = node.output[slot].to_string();
        let declared = self.scope().declared.get(name.as_str()).copied();
        let counted = |shape: &Vec<Extent>| shape.iter().any(|extent| extent.is_counted());
        let declared = declared.filter(|_| !agreed.as_ref().is_some_and(counted));
        let shape = declared.and_then(|info| self.declared_shape(info)).or(agreed);
        let origin = Origin::Node(NodeId::new(self.graph.nodes.len()));
        let value = self.graph.add_value(Value { name, dtype: None, shape, origin });
        self.warn(node, Some(Error::unsupported("its branches make different shapes")));
        self.graph.nodes.push(Node {
            name: self.node_name(node),
            kind: node.op_type.clone(),
            source: index,
            in_function: self.scope().in_function,
            op: Op::Opaque,
            rule: None,
            inputs: inputs.to_vec(),
            outputs: vec![value],
        });
        value
    }
}
