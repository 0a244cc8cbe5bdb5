//! Calls of the model's own functions: their bodies are read in place, once per call.
//!
//! What a body spells is shared by all calls, so that its nodes and constants keep their numbers
//! in the file: a literal that two calls need differently is one literal, and is found to be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::scope::{Binding, Formal, Kind, Reader, Scope};
use super::{Importer, OPSETS, is_standard};
use crate::onnx::OnnxFile;
use crate::onnx::bodies::{BodyId, Place};
use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, node_name};
use crate::{Error, Result};

/// Domain, name, overload.
type Key<'a> = (&'a str, &'a str, &'a str);

/// The functions of a model, and which calls are being read.
#[derive(Default)]
pub(super) struct Functions<'a> {
    by_key: HashMap<Key<'a>, u32>,
    calls: Vec<u32>,
    /// How many nodes calls may still add.
    budget: usize,
}

fn domain(name: &str) -> &str {
    if is_standard(name) { "" } else { name }
}

impl<'a> Functions<'a> {
    pub(super) fn new(file: &'a OnnxFile) -> Result<Self> {
        const MIN_BUDGET: usize = 1 << 15;
        let mut by_key = HashMap::new();
        let mut nodes = file.graph().node.len();
        for (index, function) in (0..).zip(&file.proto().functions) {
            let key =
                (domain(&function.domain), function.name.as_str(), function.overload.as_str());
            if by_key.insert(key, index).is_some() {
                let name = &function.name;
                return Err(Error::malformed(format!("the function `{name}` is defined twice")));
            }
            nodes += function.node.len();
        }
        Ok(Functions { by_key, calls: Vec::new(), budget: nodes.max(MIN_BUDGET) })
    }

    /// The function that a node calls.
    pub(super) fn called(&self, node: &NodeProto) -> Option<u32> {
        let key = (domain(&node.domain), node.op_type.as_str(), node.overload.as_str());
        self.by_key.get(&key).copied()
    }
}

impl<'a> Importer<'a> {
    /// Reads the body of the function that a node calls. Gives the reason where it cannot be.
    pub(super) fn add_call(
        &mut self,
        index: u32,
        node: &'a NodeProto,
        called: u32,
    ) -> Result<Option<Error>> {
        let place = Place::Function(called);
        let function = self.file.proto().functions.get(called as usize);
        let (Some(function), Some(body)) = (function, self.file.bodies().at(place)) else {
            return Ok(None);
        };
        if let Some(why) = self.refusal(node, called, function) {
            return Ok(Some(why));
        }
        let scope = self.call_scope(index, node, function, body)?;
        self.functions.budget -= function.node.len();
        self.functions.calls.push(called);
        self.scopes.push(scope);
        self.add_body(body)?;
        let results: Result<Vec<Binding>> =
            function.output.iter().map(|name| self.result(function, name)).collect();
        self.pop_scope();
        self.functions.calls.pop();
        for (name, binding) in node.output.iter().zip(results?) {
            if !name.is_empty() {
                self.define(name, binding)?;
            }
        }
        Ok(None)
    }

    fn result(&self, function: &FunctionProto, name: &str) -> Result<Binding> {
        let found = self.find(name).filter(|binding| !binding.is_omitted());
        let binding = found.cloned().ok_or_else(|| {
            let function = &function.name;
            Error::malformed(format!("the function `{function}` does not make its output `{name}`"))
        })?;
        Ok(Binding { reader: Reader::Node, ..binding })
    }

    /// Why a call cannot be read.
    fn refusal(&self, node: &NodeProto, called: u32, function: &FunctionProto) -> Option<Error> {
        const MAX_DEPTH: usize = 32;
        let opset = standard_opset(function);
        let reads_any = function.node.iter().any(|node| is_standard(&node.domain));
        let text = if is_standard(&node.domain) && self.table.contains_key(node.op_type.as_str()) {
            "the model has a function of this name".to_string()
        } else if self.functions.calls.contains(&called) {
            "the function calls itself".to_string()
        } else if self.functions.calls.len() >= MAX_DEPTH {
            format!("its calls are nested more than {MAX_DEPTH} deep")
        } else if function.node.len() > self.functions.budget {
            "the calls of functions take too many nodes".to_string()
        } else if reads_any && opset.is_some_and(|opset| opset < *OPSETS.start()) {
            format!("its function's opset is older than {}", OPSETS.start())
        } else if node.input.len() > function.input.len() {
            format!("{} inputs, its function has {}", node.input.len(), function.input.len())
        } else if node.output.len() > function.output.len() {
            format!("{} results, its function has {}", node.output.len(), function.output.len())
        } else {
            return None;
        };
        Some(Error::unsupported(text))
    }

    fn call_scope(
        &self,
        index: u32,
        node: &'a NodeProto,
        function: &'a FunctionProto,
        body: BodyId,
    ) -> Result<Scope<'a>> {
        let opset = standard_opset(function).unwrap_or(self.scope().opset);
        let mut scope = Scope::new(self.file, Kind::Function, body, opset);
        for (slot, name) in (0..).zip(&function.input) {
            let actual = node.input.get(slot as usize).unwrap_or_default();
            let binding = self.actual(index, slot, actual)?;
            if scope.names.insert(name, binding).is_some() {
                return Err(Error::malformed(format!("the name `{name}` is defined twice")));
            }
        }
        scope.returned = function.output.iter().map(String::as_str).collect();
        scope.formals = Arc::new(self.formals(index, node, function));
        scope.path = format!("{}{}/", self.scope().path, node_name(node));
        scope.folder = format!("{}/", function.name);
        scope.in_function = true;
        Ok(scope)
    }

    /// What a call gives for an input.
    fn actual(&self, index: u32, slot: u32, name: &str) -> Result<Binding> {
        if name.is_empty() {
            return Ok(Binding::default());
        }
        let found = self.find(name).cloned();
        let binding = found.ok_or_else(|| super::unmade(name))?;
        let reader = match binding.reader {
            Reader::Node => Reader::Call((!self.scope().in_function).then_some((index, slot))),
            Reader::Call(_) => binding.reader,
        };
        Ok(Binding { reader, ..binding })
    }

    /// The attributes that the function's nodes may refer to.
    fn formals(
        &self,
        index: u32,
        node: &'a NodeProto,
        function: &'a FunctionProto,
    ) -> HashMap<&'a str, Formal<'a>> {
        let references = references(&function.node);
        let defaults = function.attribute_proto.iter();
        let defaults = defaults
            .map(|default| (default.name.as_str(), Formal { attribute: Some(default), at: None }));
        let mut formals: HashMap<&str, Formal<'_>> = defaults.collect();
        for (position, attribute) in (0..).zip(&node.attribute) {
            let mut formal = self.spelled(index, position, attribute);
            if references.get(attribute.name.as_str()).is_some_and(|&count| count > 1) {
                formal.at = None;
            }
            if formal.attribute.is_some() {
                formals.insert(&attribute.name, formal);
            }
        }
        formals
    }

    /// What an attribute of a node is, and where it stands: it may refer to one of a call.
    pub(in crate::onnx) fn spelled(
        &self,
        node: u32,
        position: u32,
        attribute: &'a AttributeProto,
    ) -> Formal<'a> {
        if attribute.ref_attr_name.is_empty() {
            return Formal { attribute: Some(attribute), at: Some((node, position)) };
        }
        let formal = self.scope().formals.get(attribute.ref_attr_name.as_str());
        formal.copied().unwrap_or_default()
    }
}

fn standard_opset(function: &FunctionProto) -> Option<i64> {
    let imports = function.opset_import.iter();
    imports.filter(|import| is_standard(&import.domain)).map(|import| import.version).next()
}

/// How often nodes refer to each attribute of a call.
fn references(nodes: &[NodeProto]) -> BTreeMap<&str, usize> {
    let mut references = BTreeMap::new();
    let mut bodies = vec![nodes];
    while let Some(nodes) = bodies.pop() {
        for attribute in nodes.iter().flat_map(|node| &node.attribute) {
            *references.entry(attribute.ref_attr_name.as_str()).or_default() += 1;
            let inside = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
            bodies.extend(inside.map(|graph: &GraphProto| graph.node.as_slice()));
        }
    }
    references
}
