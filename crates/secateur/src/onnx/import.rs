//! Reads an ONNX graph into a [`Graph`]: inputs, constants, shape subgraphs, operators.

mod branch;
mod call;
mod count;
mod opaque;
mod scope;
#[cfg(test)]
mod tests;
mod value;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::bodies::BodyId;
use super::decode::{Decode, Decoder};
use super::eval::{self, Evaluated, Known};
use super::hints::{Hints, InputShapes};
use super::order::order;
use super::proto::{AttributeProto, NodeProto, ValueInfoProto, dtype, node_name};
use super::{OnnxFile, TensorRef};
use crate::graph::{Extent, Graph, Open, Origin, Value, ValueId};
use crate::ops;
use crate::size::{Expr, Literal, Scalar};
use crate::tensor::TensorView;
use crate::zero::Zeros;
use crate::{DType, Error, ErrorKind, Result};
use call::Functions;
pub(super) use scope::Formal;
use scope::{Binding, Kind, Scope, User};

/// Largest integer constant that is read as sizes.
pub(super) const MAX_KNOWN_INTS: usize = 1024;
/// Largest constant of another type that is read as numbers (scales, zero points, bounds).
const MAX_KNOWN_NUMBERS: usize = 16;
/// Most uses of a stored vector that can be cut apart; where there are more, they are cut alike.
const MAX_SEPARATE_USES: u32 = 1 << 14;
/// Most expressions that are made by evaluating nodes, however many nodes there are.
const MAX_EXPRS: usize = 1 << 20;

/// The opsets of the ONNX standard whose operators are read.
const OPSETS: RangeInclusive<i64> = 7..=24;

/// All decode tables, one per operator family.
const TABLES: &[&[(&str, Decode)]] = &[
    ops::attention::ONNX,
    ops::contract::ONNX,
    ops::conv::ONNX,
    ops::count::ONNX,
    ops::elementwise::ONNX,
    ops::elementwise::ONNX_SPECIAL,
    ops::fill::ONNX,
    ops::gather::ONNX,
    ops::join::ONNX,
    ops::norm::ONNX,
    ops::pad::ONNX,
    ops::pool::ONNX,
    ops::quantize::ONNX,
    ops::recurrent::ONNX,
    ops::reduce::ONNX,
    ops::reshape::ONNX,
    ops::resize::ONNX,
    ops::rotary::ONNX,
    ops::written::ONNX,
];

/// The same for the operators that ONNX Runtime adds, in the domain `com.microsoft`.
const CONTRIB_TABLES: &[&[(&str, Decode)]] = &[
    ops::attention::CONTRIB,
    ops::elementwise::CONTRIB,
    ops::ort::CONTRIB,
    ops::packed::CONTRIB,
    ops::quantize::CONTRIB,
    ops::rotary::CONTRIB,
    ops::written::CONTRIB,
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
    /// What the names of every body stand for; several values for a name in a function.
    pub(super) names: Vec<(BodyId, String, ValueId)>,
}

/// Reads the main graph of a file.
///
/// # Errors
/// When the opset is older than 7, when the graph is not well-formed (dangling, cyclic, doubly defined names), when an input's size
/// is needed and unknown, or when sizes do not fit together under guessed input sizes.
pub fn import(file: &OnnxFile, hints: &Hints) -> Result<Imported> {
    let mut importer = Importer::new(file)?;
    importer.check_opset()?;
    importer.add_initializers()?;
    importer.add_inputs(hints)?;
    importer.add_body(BodyId::MAIN)?;
    importer.add_outputs()?;
    importer.pop_scope();
    if importer.behind > 0 {
        let text = format!("{} nodes behind these are left as they are", importer.behind);
        importer.graph.warnings.push(text + ": the shapes of what they read are not known");
    }
    importer.graph.zeros = Zeros::new(&importer.graph);
    super::labels::add_labels(file, &mut importer.graph);
    let Importer { graph, tensors, guessed, mut names, .. } = importer;
    names.sort_unstable();
    Ok(Imported { graph, tensors, guessed, names })
}

/// Whether a domain is that of the ONNX standard.
pub(super) fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Whether an operator reads nothing of its input but the shape.
fn is_shape(kind: &str) -> bool {
    matches!(kind, "Shape" | "Size")
}

fn unmade(name: &str) -> Error {
    Error::malformed(format!("`{name}` is read before anything makes it"))
}

/// What a stored tensor is called.
struct TensorName<'a> {
    /// What stands before its name: the function or branch that it stands in.
    folder: String,
    name: &'a str,
}

/// A tensor that was met, and the numbers in it if they are few.
type Stored = (u32, Option<Arc<Known>>);

pub(super) struct Importer<'a> {
    pub(super) file: &'a OnnxFile,
    pub(super) graph: Graph,
    /// The main graph's, and those of calls and branches inside each other.
    scopes: Vec<Scope<'a>>,
    functions: Functions<'a>,
    names: Vec<(BodyId, String, ValueId)>,
    tensors: Vec<TensorRef>,
    tensor_names: Vec<TensorName<'a>>,
    /// Tensors in bodies that may be read several times.
    stored: HashMap<TensorRef, Stored>,
    symbols: BTreeMap<String, usize>,
    pub(super) guessed: Hints,
    /// Numbers that are computed from data and read as parts of a shape.
    parts: HashMap<ValueId, Arc<Known>>,
    /// The parameters that stand for all uses of a tensor.
    params: HashMap<u32, ValueId>,
    /// The parameters that stand for one use only, by node and input.
    separate: HashMap<User, ValueId>,
    /// How many parameters were made of a tensor.
    copies: HashMap<u32, usize>,
    param_names: HashSet<String>,
    table: HashMap<&'static str, Decode>,
    contrib: HashMap<&'static str, Decode>,
    opaque: BTreeSet<String>,
    /// Nodes that read something of unknown shape.
    behind: usize,
}

impl<'a> Importer<'a> {
    fn new(file: &'a OnnxFile) -> Result<Self> {
        let imports = &file.proto().opset_import;
        let opset = imports.iter().find(|o| is_standard(&o.domain)).map_or(1, |o| o.version);
        Ok(Importer {
            file,
            graph: Graph::default(),
            scopes: vec![Scope::new(file, Kind::Main, BodyId::MAIN, opset)],
            functions: Functions::new(file)?,
            names: Vec::new(),
            tensors: Vec::new(),
            tensor_names: Vec::new(),
            stored: HashMap::new(),
            symbols: BTreeMap::new(),
            guessed: Hints::new(),
            parts: HashMap::new(),
            params: HashMap::new(),
            separate: HashMap::new(),
            copies: HashMap::new(),
            param_names: HashSet::new(),
            table: TABLES.iter().copied().flatten().copied().collect(),
            contrib: CONTRIB_TABLES.iter().copied().flatten().copied().collect(),
            opaque: BTreeSet::new(),
            behind: 0,
        })
    }

    /// The scope of the nodes that are being read.
    fn scope(&self) -> &Scope<'a> {
        &self.scopes[self.scopes.len() - 1]
    }

    fn scope_mut(&mut self) -> &mut Scope<'a> {
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    /// Leaves a scope, and remembers what its names stand for.
    fn pop_scope(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        let made =
            |(name, binding): (&str, Binding)| Some((scope.body, name.to_string(), binding.value?));
        self.names.extend(scope.names.into_iter().filter_map(made));
    }

    pub(super) fn opset(&self) -> i64 {
        self.scope().opset
    }

    /// What a node is called, with the calls that led to it.
    pub(super) fn node_name(&self, node: &NodeProto) -> String {
        format!("{}{}", self.scope().path, node_name(node))
    }

    /// Whether nodes that are being read stand in a function.
    pub(super) fn in_function(&self) -> bool {
        self.scope().in_function
    }

    /// Before opset 7, operators broadcast by other rules.
    fn check_opset(&mut self) -> Result<()> {
        let (oldest, newest, opset) = (OPSETS.start(), OPSETS.end(), self.opset());
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
        let body = self.scope().body;
        let Some(graph) = self.file.body_graph(body) else { return Ok(()) };
        let first = self.file.bodies().first_initializer(body);
        for (index, tensor) in (first..).zip(&graph.initializer) {
            self.add_tensor(&tensor.name, TensorRef::Initializer(index))?;
        }
        for sparse in &graph.sparse_initializer {
            let Some(values) = &sparse.values else { continue };
            let shape = sparse.dims.iter().map(|&d| usize::try_from(d).map(Extent::fixed).ok());
            let value = Value {
                name: values.name.clone(),
                dtype: None,
                shape: shape.collect(),
                origin: Origin::Input,
            };
            let value = self.graph.add_value(value);
            self.define(&values.name, Binding { value: Some(value), ..Binding::default() })?;
        }
        Ok(())
    }

    /// Registers a stored tensor under a name, and reads it if it is small enough to be sizes.
    fn add_tensor(&mut self, name: &'a str, at: TensorRef) -> Result<()> {
        let (tensor, known) = match self.stored.get(&at) {
            Some(stored) => stored.clone(),
            None => self.add_stored(name, at)?,
        };
        let uses = self.scope().uses.get(name).copied().unwrap_or_default();
        let shared = (2..=MAX_SEPARATE_USES).contains(&uses.count);
        self.define(name, Binding { known, tensor: Some(tensor), shared, ..Binding::default() })
    }

    fn add_stored(&mut self, name: &'a str, at: TensorRef) -> Result<Stored> {
        let tensor = self.tensors.len() as u32;
        self.tensors.push(at);
        let folder = self.scope().folder.clone();
        self.tensor_names.push(TensorName { folder, name });
        let count = match at {
            TensorRef::Initializer(index) => count(&self.file.initializer(index)?.dims),
            TensorRef::Attribute { .. } => 0,
        };
        let known = match count <= MAX_KNOWN_INTS {
            true => self.read_known(Some(tensor), &self.file.resolve(at)?)?,
            false => None,
        };
        let stored = (tensor, known);
        self.stored.insert(at, stored.clone());
        Ok(stored)
    }

    /// The numbers of a tensor, if they are few. Those of one that is no stored tensor never change.
    fn read_known(&mut self, tensor: Option<u32>, view: &TensorView) -> Result<Option<Arc<Known>>> {
        let float = view.dtype.is_float();
        let limit = if view.dtype.holds_sizes() { MAX_KNOWN_INTS } else { MAX_KNOWN_NUMBERS };
        if eval::count(&view.dims).is_none_or(|count| count > limit) {
            return Ok(None);
        }
        let scalars: Vec<Scalar> = if float {
            let Some(values) = view.to_f64s() else { return Ok(None) };
            values.into_iter().map(Scalar::Float).collect()
        } else {
            let Some(values) = view.to_i64s() else { return Ok(None) };
            values.into_iter().map(Scalar::Int).collect()
        };
        let tensor = tensor.filter(|_| !float);
        let each = scalars.into_iter().enumerate();
        let exprs = each.map(|(index, value)| {
            let literal = tensor.map(|tensor| Literal::Constant { tensor, index: index as u32 });
            self.graph.sizes.add(Expr::Number(value, literal))
        });
        let (exprs, dims) = (exprs.collect(), view.dims.clone());
        Ok(Some(Arc::new(Known { exprs, dims, dtype: view.dtype, open: Open::Stated })))
    }

    fn add_inputs(&mut self, hints: &Hints) -> Result<()> {
        let mut shapes = InputShapes::new(hints);
        let inputs = self.file.graph().input.iter();
        let inputs: Vec<_> = inputs.filter(|input| self.find(&input.name).is_none()).collect();
        shapes.learn(&inputs)?;
        for input in inputs {
            let shape = shapes.shape(input)?;
            let info = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            let value = self.graph.add_value(Value {
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
            if self.find(name).is_none() {
                return Err(missing());
            }
            let value = self.data(name, None)?.ok_or_else(missing)?;
            self.graph.outputs.push(value);
        }
        Ok(())
    }

    /// Reads the nodes of a body, in an order in which they can run.
    fn add_body(&mut self, body: BodyId) -> Result<()> {
        let nodes = self.file.nodes(body);
        let first = self.file.bodies().first_node(body);
        let own = &self.scope().names;
        let order = order(nodes, |name| own.contains_key(name), |name| self.find(name).is_some())?;
        for index in order {
            self.add_node(first + index, &nodes[index as usize])?;
        }
        Ok(())
    }

    fn add_node(&mut self, index: u32, node: &'a NodeProto) -> Result<()> {
        if let Some(called) = self.functions.called(node) {
            return match self.add_call(index, node, called)? {
                None => Ok(()),
                why => self.add_opaque(index, node, why),
            };
        }
        if self.add_constant(index, node)? {
            return Ok(());
        }
        let evaluated = self.evaluate(node)?;
        let numbers = match evaluated {
            Some(Evaluated { known, may_be_weights: false }) => {
                let known = Some(Arc::new(known));
                return self.define(&node.output[0], Binding { known, ..Binding::default() });
            }
            evaluated => evaluated.map(|evaluated| Arc::new(evaluated.known)),
        };
        if self.add_parts_of_sizes(node)? || self.add_if(index, node)? {
            return Ok(());
        }
        let nodes = self.graph.nodes.len();
        let entry = self.decode(node);
        let outcome = match entry {
            None => Err(None),
            Some(decode) => {
                let mut cx = Decoder::new(self, index, node);
                let decoded = decode(&mut cx);
                cx.finish(decoded).map_err(Some)
            }
        };
        match outcome {
            Ok(bound) => bound.into_iter().try_for_each(|(name, value)| {
                let known = numbers.clone();
                self.define(name, Binding { value: Some(value), known, ..Binding::default() })
            }),
            Err(Some(error)) if error.kind() == ErrorKind::Argument && !self.may_not_run() => {
                Err(error)
            }
            Err(error) => {
                self.graph.nodes.truncate(nodes);
                self.add_opaque(index, node, error)
            }
        }
    }

    /// Whether the nodes that are being read may not run with the sizes at hand.
    fn may_not_run(&self) -> bool {
        self.scopes.iter().any(|scope| scope.kind.is_branch())
    }

    /// How a node is decoded, if its operator is known.
    fn decode(&self, node: &NodeProto) -> Option<Decode> {
        let table = match node.domain.as_str() {
            domain if is_standard(domain) => &self.table,
            "com.microsoft" => &self.contrib,
            _ => return None,
        };
        table.get(node.op_type.as_str()).copied()
    }

    /// A `Constant` node is a stored tensor.
    fn add_constant(&mut self, index: u32, node: &'a NodeProto) -> Result<bool> {
        if node.op_type != "Constant" || !is_standard(&node.domain) {
            return Ok(false);
        }
        let (Some(name), Some(spelled)) = (node.output.only(), node.attribute.first()) else {
            return Ok(false);
        };
        let formal = self.spelled(index, 0, spelled);
        let Some(attribute) = formal.attribute else { return Ok(false) };
        let Some(view) = self.file.constant(attribute)? else { return Ok(false) };
        if view.dtype == DType::String {
            return Ok(false);
        }
        if let Some((node, attribute)) = formal.at {
            self.add_tensor(name, TensorRef::Attribute { node, attribute })?;
            return Ok(true);
        }
        let known = self.read_known(None, &view)?;
        let is_known = known.is_some();
        if is_known {
            self.define(name, Binding { known, ..Binding::default() })?;
        }
        Ok(is_known)
    }

    /// A node of a shape subgraph is evaluated, element by element.
    fn evaluate(&mut self, node: &'a NodeProto) -> Result<Option<Evaluated>> {
        if node.output.len() != 1
            || !is_standard(&node.domain)
            || self.graph.sizes.len() > MAX_EXPRS
        {
            return Ok(None);
        }
        let spelled = self.with_attributes(node);
        let evaluated = if is_shape(&node.op_type) {
            let known = self.shape_of(node, &spelled)?;
            known.map(|known| Evaluated { known, may_be_weights: false })
        } else {
            let inputs = self.known_inputs(node)?;
            inputs.and_then(|inputs| eval::evaluate(&mut self.graph, &spelled, &inputs))
        };
        let fits = |evaluated: &Evaluated| evaluated.known.exprs.len() <= MAX_KNOWN_INTS;
        let Some(evaluated) = evaluated.filter(fits) else { return Ok(None) };
        if !evaluated.may_be_weights && !is_shape(&node.op_type) {
            node.input.iter().for_each(|input| self.keep_whole(input));
        }
        Ok(Some(evaluated))
    }

    /// A split of sizes.
    fn add_parts_of_sizes(&mut self, node: &'a NodeProto) -> Result<bool> {
        if node.op_type != "Split" || !is_standard(&node.domain) {
            return Ok(false);
        }
        let Some(inputs) = self.known_inputs(node)? else { return Ok(false) };
        let spelled = self.with_attributes(node);
        let Some(parts) = eval::split(&mut self.graph, &spelled, &inputs) else {
            return Ok(false);
        };
        node.input.iter().for_each(|input| self.keep_whole(input));
        for (name, known) in node.output.iter().zip(parts).filter(|(name, _)| !name.is_empty()) {
            self.define(name, Binding { known: Some(Arc::new(known)), ..Binding::default() })?;
        }
        Ok(true)
    }

    /// What a node reads, if all of it is known; nothing for an omitted input.
    fn known_inputs(&mut self, node: &'a NodeProto) -> Result<Option<Vec<Option<Arc<Known>>>>> {
        if let Some(parts) = self.parts_of_shape(node)? {
            return Ok(Some(parts));
        }
        let one = |input: &'a str| match self.is_given(input) {
            false => Some(None),
            true => self.known(input).cloned().map(Some),
        };
        Ok(node.input.iter().map(one).collect())
    }

    /// A node with what its attributes refer to.
    fn with_attributes(&self, node: &'a NodeProto) -> Cow<'a, NodeProto> {
        if node.attribute.iter().all(|attribute| attribute.ref_attr_name.is_empty()) {
            return Cow::Borrowed(node);
        }
        let resolved = |attribute: &'a AttributeProto| {
            let found = self.spelled(0, 0, attribute).attribute?;
            Some(AttributeProto { name: attribute.name.clone(), ..found.clone() })
        };
        let attribute = node.attribute.iter().filter_map(resolved).collect();
        Cow::Owned(NodeProto { attribute, ..node.clone() })
    }

    /// `Shape` of a value, or of a computed tensor of sizes.
    fn shape_of(&mut self, node: &'a NodeProto, spelled: &NodeProto) -> Result<Option<Known>> {
        let Some(name) = node.input.first() else { return Ok(None) };
        let binding = self.find(name);
        let computed = binding.filter(|b| b.value.is_none() && b.tensor.is_none());
        if let Some(known) = computed.and_then(|binding| binding.known.clone()) {
            return Ok(Some(eval::shape_of_known(&mut self.graph, &known, spelled)));
        }
        let value = self.data(name, None)?;
        Ok(value.and_then(|value| eval::shape_of(&mut self.graph, value, spelled)))
    }

    fn declared_shape(&self, info: &ValueInfoProto) -> Option<Vec<Extent>> {
        let shape = info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
        shape.dim.iter().map(|dim| super::hints::extent(dim, &self.symbols)).collect()
    }
}

/// The number of elements of a declared shape; the largest number where it has no sense.
fn count(dims: &[i64]) -> usize {
    let count = dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d));
    count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX)
}
