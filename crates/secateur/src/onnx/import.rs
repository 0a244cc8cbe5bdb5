//! Reads an ONNX graph into a [`Graph`]: inputs, constants, shape subgraphs, operators.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use super::decode::{Decode, Decoder};
use super::eval::{self, Known};
use super::hints::{Hints, InputShapes};
use super::order::{captured, order};
use super::proto::{NodeProto, ValueInfoProto, dtype, node_name};
use super::{OnnxFile, TensorRef};
use crate::graph::{
    Extent, Graph, Node, NodeId, Origin, Param, ParamId, Value, ValueId, is_countable,
};
use crate::ops::{self, Op};
use crate::size::{Expr, ExprId, Literal, Scalar};
use crate::tensor::TensorView;
use crate::tensor::element_count;
use crate::{DType, Error, Result};

#[cfg(test)]
mod tests;

/// Largest integer constant that is read as sizes.
pub(super) const MAX_KNOWN_INTS: usize = 1024;
/// Largest float constant that is read as numbers (scales, bounds).
const MAX_KNOWN_FLOATS: usize = 16;

/// The opsets of the ONNX standard whose operators are read.
const OPSETS: RangeInclusive<i64> = 7..=23;

/// All decode tables, one per operator family.
const TABLES: &[&[(&str, Decode)]] = &[
    ops::attention::ONNX,
    ops::contract::ONNX,
    ops::conv::ONNX,
    ops::elementwise::ONNX,
    ops::elementwise::ONNX_SPECIAL,
    ops::fill::ONNX,
    ops::gather::ONNX,
    ops::join::ONNX,
    ops::norm::ONNX,
    ops::pad::ONNX,
    ops::pool::ONNX,
    ops::reduce::ONNX,
    ops::reshape::ONNX,
    ops::resize::ONNX,
];

/// The operators of the ONNX standard that Secateur knows, sorted.
pub fn known_operators() -> Vec<&'static str> {
    let names: BTreeSet<&str> = TABLES.iter().copied().flatten().map(|entry| entry.0).collect();
    names.into_iter().collect()
}

/// A graph, and which stored tensor each of its tensor numbers is.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// Stored tensors, by the number that parameters and literals use.
    pub tensors: Vec<TensorRef>,
    /// Inputs whose symbolic sizes were guessed, as they were taken.
    pub guessed: Hints,
}

/// Reads the main graph of a file.
///
/// # Errors
/// When the opset is older than 7, when the graph is not well-formed (dangling, cyclic, doubly defined names), when an input's size
/// is needed and unknown, or when sizes do not fit together under guessed input sizes.
pub fn import(file: &OnnxFile, hints: &Hints) -> Result<Imported> {
    let mut importer = Importer::new(file);
    importer.check_opset()?;
    importer.add_initializers()?;
    importer.add_inputs(hints)?;
    let order = order(&file.graph().node, |name| importer.names.contains_key(name))?;
    for index in order {
        importer.add_node(index)?;
    }
    importer.add_outputs()?;
    if importer.behind > 0 {
        let text = format!("{} nodes behind these are left as they are", importer.behind);
        importer.graph.warnings.push(text + ": the shapes of what they read are not known");
    }
    super::labels::add_labels(file, &mut importer.graph);
    let Importer { graph, tensors, guessed, .. } = importer;
    Ok(Imported { graph, tensors, guessed })
}

/// Whether a domain is that of the ONNX standard.
pub(super) fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// What a name stands for, as far as it has been asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Binding {
    value: Option<ValueId>,
    known: Option<Known>,
    tensor: Option<u32>,
}

pub(super) struct Importer<'a> {
    pub(super) file: &'a OnnxFile,
    pub(super) graph: Graph,
    pub(super) opset: i64,
    names: HashMap<&'a str, Binding>,
    tensors: Vec<TensorRef>,
    tensor_names: Vec<&'a str>,
    uses: HashMap<&'a str, u32>,
    declared: HashMap<&'a str, &'a ValueInfoProto>,
    symbols: BTreeMap<String, usize>,
    pub(super) guessed: Hints,
    /// The parameters that stand for one use only, by node and input.
    separate: HashMap<(u32, u32), ValueId>,
    /// How many parameters were made of a tensor.
    copies: HashMap<u32, usize>,
    table: HashMap<&'static str, Decode>,
    opaque: BTreeSet<String>,
    /// Nodes that read something of unknown shape.
    behind: usize,
}

impl<'a> Importer<'a> {
    fn new(file: &'a OnnxFile) -> Self {
        let imports = &file.proto().opset_import;
        let opset = imports.iter().find(|o| is_standard(&o.domain)).map_or(1, |o| o.version);
        let mut uses: HashMap<&str, u32> = HashMap::new();
        for node in &file.graph().node {
            let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
            captured(node, &mut names);
            names.into_iter().for_each(|name| *uses.entry(name).or_default() += 1);
        }
        let graph = file.graph();
        let declared = graph.value_info.iter().chain(&graph.output);
        Importer {
            file,
            graph: Graph::default(),
            opset,
            names: HashMap::new(),
            tensors: Vec::new(),
            tensor_names: Vec::new(),
            uses,
            declared: declared.map(|info| (info.name.as_str(), info)).collect(),
            symbols: BTreeMap::new(),
            guessed: Hints::new(),
            separate: HashMap::new(),
            copies: HashMap::new(),
            table: TABLES.iter().copied().flatten().copied().collect(),
            opaque: BTreeSet::new(),
            behind: 0,
        }
    }

    /// Before opset 7, operators broadcast by other rules.
    fn check_opset(&mut self) -> Result<()> {
        let (oldest, newest, opset) = (OPSETS.start(), OPSETS.end(), self.opset);
        let reads_any = self.file.graph().node.iter().any(|node| is_standard(&node.domain));
        if opset < *oldest && reads_any {
            let text = format!("opset {opset} is older than {oldest}, the oldest that can be read");
            return Err(Error::unsupported(text)
                .hint("convert the model with `onnx.version_converter.convert_version`"));
        }
        if opset > *newest {
            self.graph.warnings.push(format!(
                "opset {opset} is newer than {newest}: operators are read as those of opset {newest}"
            ));
        }
        Ok(())
    }

    fn add_initializers(&mut self) -> Result<()> {
        for (index, tensor) in self.file.graph().initializer.iter().enumerate() {
            let at = TensorRef::Initializer(index as u32);
            self.add_tensor(&tensor.name, at, &tensor.dims)?;
        }
        for sparse in &self.file.graph().sparse_initializer {
            let Some(values) = &sparse.values else { continue };
            let shape = sparse.dims.iter().map(|&d| usize::try_from(d).map(Extent::fixed).ok());
            let value = Value {
                name: values.name.clone(),
                dtype: None,
                shape: shape.collect(),
                origin: Origin::Input,
            };
            let value = self.add_value(value);
            self.define(&values.name, Binding { value: Some(value), ..Binding::default() })?;
        }
        Ok(())
    }

    /// Registers a stored tensor under a name, and reads it if it is small enough to be sizes.
    fn add_tensor(&mut self, name: &'a str, at: TensorRef, dims: &[i64]) -> Result<()> {
        let tensor = self.tensors.len() as u32;
        self.tensors.push(at);
        self.tensor_names.push(name);
        let count = dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d)).unwrap_or(i64::MAX);
        let known = match count <= MAX_KNOWN_INTS as i64 {
            true => self.read_known(tensor, at)?,
            false => None,
        };
        self.define(name, Binding { value: None, known, tensor: Some(tensor) })
    }

    fn read_known(&mut self, tensor: u32, at: TensorRef) -> Result<Option<Known>> {
        let view = self.file.resolve(at)?;
        let float = view.dtype.is_float();
        let limit = if float { MAX_KNOWN_FLOATS } else { MAX_KNOWN_INTS };
        if element_count(&view.dims)? > limit {
            return Ok(None);
        }
        let scalars: Vec<Scalar> = if float {
            let Some(values) = view.to_f64s() else { return Ok(None) };
            values.into_iter().map(Scalar::Float).collect()
        } else {
            let Some(values) = view.to_i64s() else { return Ok(None) };
            values.into_iter().map(Scalar::Int).collect()
        };
        let each = scalars.into_iter().enumerate();
        let exprs = each.map(|(index, value)| {
            let literal = Literal::Constant { tensor, index: index as u32 };
            self.graph.sizes.add(Expr::Number(value, (!float).then_some(literal)))
        });
        Ok(Some(Known {
            exprs: exprs.collect(),
            dims: view.dims.clone(),
            dtype: view.dtype,
            open: false,
        }))
    }

    fn add_inputs(&mut self, hints: &Hints) -> Result<()> {
        let mut shapes = InputShapes::new(hints);
        let inputs = self.file.graph().input.iter();
        let inputs: Vec<_> =
            inputs.filter(|input| !self.names.contains_key(input.name.as_str())).collect();
        shapes.learn(&inputs)?;
        for input in inputs {
            let shape = shapes.shape(input)?;
            let info = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            let value = self.add_value(Value {
                name: input.name.clone(),
                dtype: info.and_then(|info| dtype(info.elem_type)),
                shape,
                origin: Origin::Input,
            });
            self.define(&input.name, Binding { value: Some(value), ..Binding::default() })?;
            self.graph.inputs.push(value);
        }
        (self.symbols, self.guessed) = shapes.finish()?;
        Ok(())
    }

    fn add_outputs(&mut self) -> Result<()> {
        for output in &self.file.graph().output {
            let name = output.name.as_str();
            let missing = || Error::malformed(format!("the output `{name}` is made by no node"));
            if !self.names.contains_key(name) {
                return Err(missing());
            }
            let value = self.data(name, None)?.ok_or_else(missing)?;
            self.graph.outputs.push(value);
        }
        Ok(())
    }

    fn define(&mut self, name: &'a str, binding: Binding) -> Result<()> {
        if self.names.insert(name, binding).is_some() {
            return Err(Error::malformed(format!("the name `{name}` is defined twice")));
        }
        Ok(())
    }

    pub(super) fn add_value(&mut self, mut value: Value) -> ValueId {
        value.shape = value.shape.filter(|shape| is_countable(shape));
        let id = ValueId::new(self.graph.values.len());
        self.graph.values.push(value);
        id
    }

    fn add_node(&mut self, index: u32) -> Result<()> {
        let node = &self.file.graph().node[index as usize];
        if self.add_constant(index, node)? || self.add_evaluated(node)? {
            return Ok(());
        }
        let nodes = self.graph.nodes.len();
        let entry = self.table.get(node.op_type.as_str()).copied();
        let entry = entry.filter(|_| is_standard(&node.domain));
        let outcome = match entry {
            None => Err(None),
            Some(decode) => {
                let mut cx = Decoder::new(self, index, node);
                decode(&mut cx).and_then(|()| cx.finish()).map_err(Some)
            }
        };
        match outcome {
            Ok(bound) => bound.into_iter().try_for_each(|(name, value)| {
                self.define(name, Binding { value: Some(value), ..Binding::default() })
            }),
            Err(Some(error)) if error.kind() == crate::ErrorKind::Argument => Err(error),
            Err(error) => {
                self.graph.nodes.truncate(nodes);
                self.add_opaque(index, node, error)
            }
        }
    }

    /// A `Constant` node is a stored tensor.
    fn add_constant(&mut self, index: u32, node: &'a NodeProto) -> Result<bool> {
        if node.op_type != "Constant" || !is_standard(&node.domain) {
            return Ok(false);
        }
        let ([name], Some(attribute)) = (node.output.as_slice(), node.attribute.first()) else {
            return Ok(false);
        };
        let Some(view) = self.file.constant(attribute)? else { return Ok(false) };
        if view.dtype == DType::String {
            return Ok(false);
        }
        let dims: Vec<i64> = view.dims.iter().map(|&d| d as i64).collect();
        self.add_tensor(name, TensorRef::Attribute { node: index, attribute: 0 }, &dims)?;
        Ok(true)
    }

    /// A node of a shape subgraph is evaluated, element by element.
    fn add_evaluated(&mut self, node: &'a NodeProto) -> Result<bool> {
        let [name] = node.output.as_slice() else { return Ok(false) };
        let known = if matches!(node.op_type.as_str(), "Shape" | "Size") {
            self.shape_of(node)?
        } else {
            let inputs: Option<Vec<Option<Known>>> = node
                .input
                .iter()
                .map(|input| match input.is_empty() {
                    true => Some(None),
                    false => self.names.get(input.as_str())?.known.clone().map(Some),
                })
                .collect();
            inputs.and_then(|inputs| eval::evaluate(&mut self.graph, node, &inputs))
        };
        let Some(known) = known.filter(|known| known.exprs.len() <= MAX_KNOWN_INTS) else {
            return Ok(false);
        };
        self.define(name, Binding { known: Some(known), ..Binding::default() })?;
        Ok(true)
    }

    /// `Shape` of a value, or of a computed tensor of sizes.
    fn shape_of(&mut self, node: &'a NodeProto) -> Result<Option<Known>> {
        let Some(name) = node.input.first() else { return Ok(None) };
        let binding = self.names.get(name.as_str());
        let computed = binding.filter(|b| b.value.is_none() && b.tensor.is_none());
        if let Some(known) = computed.and_then(|binding| binding.known.clone()) {
            return Ok(Some(eval::shape_of_known(&mut self.graph, &known, node)));
        }
        let value = self.data(name, None)?;
        Ok(value.and_then(|value| eval::shape_of(&mut self.graph, value, node)))
    }

    fn add_opaque(&mut self, index: u32, node: &'a NodeProto, why: Option<Error>) -> Result<()> {
        let mut names: Vec<&'a str> = node.input.iter().map(String::as_str).collect();
        captured(node, &mut names);
        let mut inputs = Vec::new();
        for (slot, name) in names.into_iter().enumerate() {
            // A name that a subgraph defines for itself is not known out here.
            if name.is_empty() || self.names.contains_key(name) {
                let user = (slot < node.input.len()).then_some((index, slot as u32));
                inputs.push(self.data(name, user)?);
            }
        }
        let mut outputs = Vec::new();
        for name in &node.output {
            let shape = self.declared.get(name.as_str()).and_then(|info| self.declared_shape(info));
            let origin = Origin::Node(NodeId::new(self.graph.nodes.len()));
            let value = self.add_value(Value { name: name.clone(), dtype: None, shape, origin });
            outputs.push(value);
            if !name.is_empty() {
                self.define(name, Binding { value: Some(value), ..Binding::default() })?;
            }
        }
        let unknown = |value: &ValueId| self.graph.value(*value).shape.is_none();
        if inputs.iter().flatten().any(unknown) {
            self.behind += 1;
        } else {
            self.warn(node, why);
        }
        self.graph.nodes.push(Node {
            name: node_name(node),
            kind: node.op_type.clone(),
            source: index,
            op: Op::Opaque,
            rule: None,
            inputs,
            outputs,
        });
        Ok(())
    }

    /// One warning per kind of operator.
    fn warn(&mut self, node: &NodeProto, why: Option<Error>) {
        let kind = match is_standard(&node.domain) {
            true => node.op_type.clone(),
            false => format!("{}::{}", node.domain, node.op_type),
        };
        let text = match why {
            None => format!("operator `{kind}` is unknown: what it touches is left as it is"),
            Some(error) => format!("operator `{kind}` is left as it is: {error}"),
        };
        if self.opaque.insert(kind) {
            self.graph.warnings.push(format!("{text} (first at node `{}`)", node_name(node)));
        }
    }

    fn declared_shape(&self, info: &ValueInfoProto) -> Option<Vec<Extent>> {
        let shape = info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
        shape.dim.iter().map(|dim| super::hints::extent(dim, &self.symbols)).collect()
    }

    /// The expressions behind a name, where it is small and computed from sizes and literals.
    pub(super) fn known(&self, name: &str) -> Option<&Known> {
        self.names.get(name)?.known.as_ref()
    }

    /// Whether a node reads a name, or the model returns it.
    pub(super) fn is_read(&self, name: &str) -> bool {
        let returned = self.file.graph().output.iter().any(|output| output.name == name);
        returned || self.uses.contains_key(name)
    }

    /// The stored tensor behind a name.
    pub(super) fn stored(&self, name: &str) -> Result<Option<TensorView>> {
        let tensor = self.names.get(name).and_then(|binding| binding.tensor);
        tensor.map(|tensor| self.file.resolve(self.tensors[tensor as usize])).transpose()
    }

    /// The value behind a name; `None` for an omitted input. `user` is the node and input that
    /// reads it: stored vectors, which exporters share between layers, get one parameter per use.
    pub(super) fn data(
        &mut self,
        name: &'a str,
        user: Option<(u32, u32)>,
    ) -> Result<Option<ValueId>> {
        if name.is_empty() {
            return Ok(None);
        }
        let binding = self.names.get(name).cloned();
        let binding = binding.ok_or_else(|| {
            Error::malformed(format!("`{name}` is read before anything makes it"))
        })?;
        let separate = user.and_then(|user| self.separate.get(&user).copied());
        if let Some(known) = &binding.known {
            // A computed number that a node reads as data can be held; a stored one is frozen.
            let held = binding.tensor.is_none()
                && user.is_some()
                && !self.graph.is_open(known.exprs.iter().copied());
            if !held {
                self.graph.frozen.extend(&known.exprs);
            }
        }
        if let Some(value) = binding.value.or(separate) {
            return Ok(Some(value));
        }
        let value = match (binding.tensor, binding.known) {
            (Some(tensor), _) => {
                let shared = self.uses.get(name).is_some_and(|&uses| uses > 1);
                let user = user.filter(|_| shared);
                let (value, only_use) = self.add_param(tensor, user)?;
                if let Some(user) = only_use {
                    self.separate.insert(user, value);
                    return Ok(Some(value));
                }
                value
            }
            (None, Some(known)) => self.add_value(Value {
                name: name.to_string(),
                dtype: Some(known.dtype),
                shape: Some(
                    known.dims.iter().map(|&size| Extent { size, dynamic: known.open }).collect(),
                ),
                origin: Origin::Sizes(known.exprs),
            }),
            (None, None) => return Ok(None),
        };
        if let Some(binding) = self.names.get_mut(name) {
            binding.value = Some(value);
        }
        Ok(Some(value))
    }

    /// Makes a parameter, and names the one use that it stands for, if it does not stand for all.
    fn add_param(
        &mut self,
        tensor: u32,
        user: Option<(u32, u32)>,
    ) -> Result<(ValueId, Option<(u32, u32)>)> {
        let view = self.file.resolve(self.tensors[tensor as usize])?;
        let count = element_count(&view.dims)?;
        let only_use = user.filter(|&(node, _)| {
            let kind = self.file.graph().node[node as usize].op_type.as_str();
            let vector = view.dims.len() <= 1;
            count > 1 && (vector || ops::elementwise::is(kind))
        });
        let base = self.tensor_names[tensor as usize];
        let shape: Vec<Extent> = view.dims.iter().map(|&size| Extent::fixed(size)).collect();
        if !is_countable(&shape) {
            let name = base.to_string();
            let value = Value { name, dtype: None, shape: None, origin: Origin::Input };
            return Ok((self.add_value(value), None));
        }
        let copies = self.copies.entry(tensor).or_insert(0);
        *copies += 1;
        let name = match *copies {
            1 => base.to_string(),
            count => format!("{base}@{count}"),
        };
        let param = ParamId::new(self.graph.params.len());
        let value = self.add_value(Value {
            name: base.to_string(),
            dtype: Some(view.dtype),
            shape: Some(shape),
            origin: Origin::Param(param),
        });
        self.graph.params.push(Param {
            label: name.clone(),
            name,
            dtype: view.dtype,
            shape: view.dims,
            tensor,
            only_use,
            value,
        });
        Ok((value, only_use))
    }

    /// Marks the literals behind expressions as read for something other than a size.
    pub(super) fn freeze(&mut self, exprs: &[ExprId]) {
        self.graph.frozen.extend(exprs);
    }
}
