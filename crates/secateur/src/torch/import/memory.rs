//! Tensors that share memory: what reads it after something wrote it, reads what was written.

use std::collections::HashMap;

use super::{Binding, Importer, Scope, operator, short, tensor_names};
use crate::Result;
use crate::graph::{NodeId, Origin, Value, ValueId};
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::ops::{Op, Operator};
use crate::torch::schema::{NamedArgument, Node as Call};

/// Operators whose result may share the memory of their first operand.
const VIEWS: &[&str] = &[
    "_unsafe_view",
    "alias",
    "alpha_dropout",
    "as_strided",
    "atleast_1d",
    "broadcast_to",
    "chunk",
    "contiguous",
    "detach",
    "diagonal",
    "dropout",
    "expand",
    "expand_as",
    "feature_dropout",
    "flatten",
    "imag",
    "lift_fresh",
    "mT",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "ravel",
    "real",
    "reshape",
    "reshape_as",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "swapaxes",
    "t",
    "tensor_split",
    "to",
    "transpose",
    "type_as",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
    "view_as",
    "view_as_complex",
    "view_as_real",
];

impl<'a> Scope<'a> {
    /// The names that show a piece of memory and are read by a later call.
    fn read_later(&mut self, root: ValueId) -> Vec<&'a str> {
        let Some(names) = self.memory.get_mut(&root) else { return Vec::new() };
        names.retain(|name| self.last_use.get(name) > Some(&self.position));
        names.clone()
    }
}

impl<'a> Importer<'a> {
    /// The tensor whose memory a tensor shares.
    fn root(&self, value: ValueId) -> ValueId {
        self.roots.get(&value).copied().unwrap_or(value)
    }

    /// Notes that a name shows the memory of a tensor.
    pub(super) fn note_reads(&mut self, name: &'a str, value: ValueId) {
        let root = self.root(value);
        let scope = self.scope_mut();
        if scope.last_use.contains_key(name) {
            scope.memory.entry(root).or_default().push(name);
        }
    }

    /// Notes what shares memory. What reads memory after a call that `writes` an argument of it,
    /// reads other numbers in tensors of the same axes; unless the call is known, these are pinned.
    pub(super) fn follow_memory(
        &mut self,
        index: u32,
        node: &'a Call,
        writes: Option<(&'a NamedArgument, bool)>,
    ) -> Result<()> {
        let name = operator(&node.target);
        let views = name.split_once('.').is_some_and(|(_, name)| VIEWS.contains(&name));
        let first = writes.map(|(argument, _)| argument);
        let first = first.or(node.arguments.first().filter(|_| views));
        let first = first.map(|argument| tensor_names(&argument.value));
        let first = first.as_deref();
        let Some(&[first]) = first else { return Ok(()) };
        let value = self.tensor(first)?;
        let root = self.root(value);
        let read: Vec<Vec<&'a str>> = match writes {
            Some(_) => self.scopes.iter_mut().map(|scope| scope.read_later(root)).collect(),
            None => Vec::new(),
        };
        let mut made = None;
        for name in node.outputs.iter().flat_map(tensor_names) {
            let value = self.tensor(name)?;
            if value != root {
                self.roots.insert(value, root);
            }
            self.note_reads(name, value);
            made = made.or(Some(value));
        }
        let known = writes.filter(|(_, known)| *known).map(|(argument, _)| argument);
        if let Some(made) = made.filter(|_| known.is_some_and(|argument| argument.name == "out")) {
            let op = Elementwise { zeros: Zeros::AllKept, results: 0 };
            self.push_write(&node.name, op, &[value, made]);
        }
        if read.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let same = |made: &ValueId| self.graph.shape(*made) == self.graph.shape(value);
        match made.filter(same).filter(|_| known.is_some()) {
            Some(made) => self.overwrite(read, [value, made], root),
            None => {
                self.push_opaque(index, node, vec![Some(root)], Vec::new());
                let text = format!("`{}` writes memory that is read again", short(&node.target));
                self.warn(&text, node);
            }
        }
        Ok(())
    }

    /// Names of memory, in every scope, stand for what `value` became, or for what they showed of
    /// it and no longer do.
    fn overwrite(&mut self, read: Vec<Vec<&'a str>>, [value, made]: [ValueId; 2], root: ValueId) {
        let mut newer = HashMap::from([(value, made)]);
        for (depth, names) in read.into_iter().enumerate() {
            for name in names {
                let Some(&Binding::Tensor(old)) = self.scopes[depth].names.get(name) else {
                    continue;
                };
                if self.graph.value(old).shape.is_none() {
                    continue; // what nothing is known of
                }
                let new = match newer.get(&old) {
                    Some(&new) => new,
                    None => self.overwritten(old),
                };
                newer.insert(old, new);
                self.roots.insert(new, root);
                self.scopes[depth].names.insert(name, Binding::Tensor(new));
            }
        }
    }

    /// A tensor of the same axes, in which other numbers were written.
    fn overwritten(&mut self, old: ValueId) -> ValueId {
        let id = NodeId::new(self.graph.nodes.len());
        let value = Value { origin: Origin::Node(id), ..self.graph.value(old).clone() };
        let name = value.name.clone();
        let new = self.graph.add_value(value);
        self.push_write(&name, Elementwise { zeros: Zeros::Lost, results: 1 }, &[old]);
        self.graph.nodes[id.index()].outputs.push(new);
        new
    }

    /// Numbers that are written where others were: both have the same axes.
    pub(super) fn push_write(&mut self, name: &str, op: Elementwise, inputs: &[ValueId]) {
        let shapes: Vec<_> = inputs.iter().map(|&value| Some(self.graph.shape(value))).collect();
        let rule = op.rule(&shapes).ok().filter(|rule| rule.check(&shapes).is_ok());
        let op = if rule.is_some() { Op::Elementwise(op) } else { Op::Opaque };
        self.push_own(name, "write", (op, rule), inputs);
    }
}
