//! Reads a program into a [`Graph`]: stored tensors, sizes, operators, and graphs inside nodes.

mod memory;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::decode::{Decode, Decoder};
use super::numbers;
use super::schema::{
    self, Argument, Input, Int, Meta, NamedArgument, Node as Call, Program, Source,
};
use crate::graph::{
    Extent, Graph, Node, NodeId, Open, Origin, Param, ParamId, Value, ValueId, is_countable,
};
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::ops::{self, Op};
use crate::rule::Rule;
use crate::size::{Expr, ExprId, Literal, Scalar};
use crate::zero;
use crate::{DType, Error, Result};

/// All decode tables, one per operator family.
const TABLES: &[&[(&str, Decode)]] = &[
    ops::attention::ATEN,
    ops::contract::ATEN,
    ops::conv::ATEN,
    ops::elementwise::ATEN,
    ops::fill::ATEN,
    ops::gather::ATEN,
    ops::join::ATEN,
    ops::norm::ATEN,
    ops::pad::ATEN,
    ops::pool::ATEN,
    ops::recurrent::ATEN,
    ops::reduce::ATEN,
    ops::reshape::ATEN,
    ops::resize::ATEN,
    ops::written::ATEN,
];

/// A stored tensor.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
    /// Whether another tensor shares a part of its memory: then it stays whole.
    pub(super) shared: bool,
}

/// What a program refers to: its stored tensors, and the number of each name.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) parameters: &'a [Parameter],
    pub(super) names: &'a HashMap<String, u32>,
}

/// A graph, and what its values are in the program.
#[derive(Clone, Debug)]
pub struct Imported {
    pub(crate) graph: Graph,
    /// The tensors of all graphs of the program, by the place of their description in its text.
    pub(super) tensors: BTreeMap<usize, ValueId>,
    /// The computed sizes, likewise.
    pub(super) numbers: BTreeMap<usize, ExprId>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
enum Binding {
    Tensor(ValueId),
    /// A stored tensor that nothing has read.
    Stored(u32),
    Number(ExprId),
}

/// The names of a graph that is being read.
struct Scope<'a> {
    graph: &'a schema::Graph,
    names: HashMap<&'a str, Binding>,
    /// Which of the graph's calls make what is needed.
    needed: Vec<bool>,
    /// The last of them that reads a name.
    last_use: HashMap<&'a str, usize>,
    /// The call that is being read.
    position: usize,
    /// The names of a piece of memory, by the tensor that it was made as, that a call reads.
    memory: HashMap<ValueId, Vec<&'a str>>,
}

pub(super) struct Importer<'a> {
    program: &'a Program,
    stored: Stored<'a>,
    pub(super) code: Code,
    pub(super) graph: Graph,
    scopes: Vec<Scope<'a>>,
    params: HashMap<u32, ValueId>,
    /// The stored tensors that are parameters.
    trained: HashSet<&'a str>,
    /// The tensor whose memory another shares.
    roots: HashMap<ValueId, ValueId>,
    tensors: BTreeMap<usize, ValueId>,
    numbers: BTreeMap<usize, ExprId>,
    table: HashMap<&'static str, Decode>,
    opaque: BTreeSet<String>,
}

/// The ATen operators that Secateur knows, sorted.
pub fn known_operators() -> Vec<&'static str> {
    let names: BTreeSet<&str> = TABLES.iter().copied().flatten().map(|entry| entry.0).collect();
    names.into_iter().collect()
}

/// `aten.conv2d.default` of `torch.ops.aten.conv2d.default`.
pub(super) fn short(target: &str) -> &str {
    target.strip_prefix("torch.ops.").unwrap_or(target)
}

/// Whether a program is all there is, or the trace of code that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// Calls can be spelled in another way.
    Program,
    /// Numbers may differ, calls not: parts that one call makes of one size stay of one size.
    Live,
}

/// Reads the main graph of a program.
///
/// # Errors
/// When the program is not well-formed: names that nothing makes, sizes without a value.
pub(super) fn import(program: &Program, stored: Stored<'_>, code: Code) -> Result<Imported> {
    let mut importer = Importer {
        program,
        stored,
        code,
        graph: Graph::default(),
        scopes: vec![Scope::new(program, &program.graph, code)],
        params: HashMap::new(),
        trained: program.inputs.iter().filter_map(Input::parameter).collect(),
        roots: HashMap::new(),
        tensors: BTreeMap::new(),
        numbers: BTreeMap::new(),
        table: TABLES.iter().copied().flatten().copied().collect(),
        opaque: BTreeSet::new(),
    };
    importer.add_inputs()?;
    importer.add_nodes()?;
    importer.add_outputs()?;
    importer.pop_scope();
    importer.graph.unread.sort_unstable();
    importer.graph.zeros = zero::Zeros::new(&importer.graph);
    let Importer { graph, tensors, numbers, .. } = importer;
    Ok(Imported { graph, tensors, numbers })
}

impl<'a> Scope<'a> {
    fn new(program: &'a Program, graph: &'a schema::Graph, code: Code) -> Self {
        let needed = match code {
            Code::Live => needed(program, graph),
            Code::Program => vec![true; graph.nodes.len()],
        };
        let mut last_use = HashMap::new();
        for (position, &index) in graph.nodes.iter().enumerate() {
            let Some(node) = program.nodes.get(index as usize) else { continue };
            if !needed[position] {
                continue;
            }
            for argument in &node.arguments {
                for name in tensor_names(&argument.value) {
                    last_use.insert(name, position);
                }
            }
        }
        for name in graph.outputs.iter().flat_map(tensor_names) {
            last_use.insert(name, usize::MAX);
        }
        let (names, memory) = (HashMap::new(), HashMap::new());
        Scope { graph, names, needed, last_use, position: 0, memory }
    }
}

/// Which calls of a graph make what is read, or write memory. Others might as well not run, such as
/// those with the positions of maxima that nobody asked for. Of code that stopped before it returned
/// anything, all calls are needed.
pub(super) fn needed(program: &Program, graph: &schema::Graph) -> Vec<bool> {
    let mut read: HashSet<&str> = graph.outputs.iter().flat_map(tensor_names).collect();
    let mut needed = vec![true; graph.nodes.len()];
    if read.is_empty() {
        return needed;
    }
    for (needed, &index) in needed.iter_mut().zip(&graph.nodes).rev() {
        let Some(node) = program.nodes.get(index as usize) else { continue };
        let writes =
            operator(&node.target).ends_with('_') || overload(&node.target).ends_with("out");
        let mut made = node.outputs.iter().flat_map(names).peekable();
        *needed = writes || made.peek().is_none() || made.any(|name| read.contains(name));
        if *needed {
            let arguments = node.arguments.iter().map(|argument| &argument.value);
            read.extend(arguments.flat_map(names));
        }
    }
    needed
}

/// The tensors that an argument names.
pub(super) fn tensor_names(argument: &Argument) -> Vec<&str> {
    match argument {
        Argument::Tensor(name) => vec![name],
        Argument::Tensors(names) => names.iter().flatten().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

fn unmade(name: &str) -> Error {
    Error::malformed(format!("`{name}` is read before anything makes it"))
}

impl<'a> Importer<'a> {
    fn scope(&self) -> &Scope<'a> {
        &self.scopes[self.scopes.len() - 1]
    }

    fn scope_mut(&mut self) -> &mut Scope<'a> {
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    fn pop_scope(&mut self) {
        let Some(scope) = self.scopes.pop() else { return };
        for (name, binding) in scope.names {
            match binding {
                Binding::Tensor(value) => {
                    let meta = scope.graph.tensors.get(name);
                    self.tensors.extend(meta.map(|meta| (meta.spans[0].start, value)));
                }
                Binding::Number(expr) => {
                    let number = scope.graph.numbers.get(name);
                    self.numbers.extend(number.map(|number| (number.span.start, expr)));
                }
                Binding::Stored(tensor) => {
                    let stored = self.stored.parameters.get(tensor as usize);
                    let name = stored.map(|stored| &*stored.name);
                    let name = name.filter(|name| self.trained.contains(name));
                    self.graph.unread.extend(name.map(str::to_string));
                }
            }
        }
    }

    fn define(&mut self, name: &'a str, binding: Binding) -> Result<()> {
        if let Binding::Tensor(value) = binding {
            self.note_reads(name, value);
        }
        if self.scope_mut().names.insert(name, binding).is_some() {
            return Err(Error::malformed(format!("the name `{name}` is defined twice")));
        }
        Ok(())
    }

    /// Whether a call, or the caller of the graph, reads a name.
    pub(super) fn is_read(&self, name: &str) -> bool {
        self.scope().last_use.contains_key(name)
    }

    /// What the program says of a tensor.
    pub(super) fn declared(&self, name: &str) -> Option<&'a Meta> {
        self.scope().graph.tensors.get(name)
    }

    /// The shape that the program declares.
    pub(super) fn declared_shape(&self, name: &str) -> Option<Vec<Extent>> {
        let extent = |size: &schema::Size| {
            let value = usize::try_from(size.value?).ok()?;
            Some(Extent { size: value, open: size.open() })
        };
        self.declared(name)?.sizes.iter().map(extent).collect()
    }

    /// A tensor that something outside gives.
    fn given(&mut self, name: &str) -> ValueId {
        let value = Value {
            name: name.to_string(),
            dtype: self.declared(name).and_then(|meta| meta.dtype),
            shape: self.declared_shape(name),
            origin: Origin::Input,
        };
        self.graph.add_value(value)
    }

    fn add_inputs(&mut self) -> Result<()> {
        let program = self.program;
        for input in program.inputs.iter().filter(|input| !input.name.is_empty()) {
            let name = input.name.as_str();
            let number = self.scope().graph.numbers.get(name);
            if let (Source::User, Some(number)) = (&input.from, number) {
                let expr = self.open_number(name, &number.size);
                self.define(name, Binding::Number(expr))?;
                continue;
            }
            let stored = match &input.from {
                Source::Stored(key) => self.stored.names.get(key).copied(),
                _ => None,
            };
            match stored {
                Some(tensor) => self.define(name, Binding::Stored(tensor))?,
                None => {
                    let value = self.given(name);
                    self.define(name, Binding::Tensor(value))?;
                    if input.from == Source::User {
                        self.graph.inputs.push(value);
                    }
                }
            }
        }
        Ok(())
    }

    /// A size that the user gives or that data decides: that of an axis that stays whole.
    pub(super) fn open_number(&mut self, name: &str, size: &schema::Size) -> ExprId {
        let known = size.value.and_then(|value| usize::try_from(value).ok());
        let shape = known.map(|size| vec![Extent { size, open: Open::Symbolic }]);
        let value = self.graph.add_value(Value {
            name: name.to_string(),
            dtype: None,
            shape,
            origin: Origin::Input,
        });
        self.graph.sizes.add(Expr::Dim(value, 0))
    }

    fn add_outputs(&mut self) -> Result<()> {
        let program = self.program;
        for output in program.outputs.iter().filter(|output| !output.name.is_empty()) {
            let name = output.name.as_str();
            match self.scope().names.get(name) {
                Some(Binding::Number(expr)) => {
                    let expr = *expr;
                    self.freeze(&[expr]);
                }
                Some(_) => {
                    let value = self.tensor(name)?;
                    let into = output.into.as_ref().and_then(|into| self.stored.names.get(into));
                    match into {
                        Some(&tensor) => {
                            let stored = self.stored(tensor, name);
                            let op = Elementwise { zeros: Zeros::AllKept, results: 0 };
                            self.push_write(name, op, &[stored, value]);
                        }
                        None => self.graph.outputs.push(value),
                    }
                }
                None => return Err(unmade(name)),
            }
        }
        Ok(())
    }

    /// A node that no call of the program stands for.
    fn push_own(
        &mut self,
        name: &str,
        kind: &str,
        (op, rule): (Op, Option<Rule>),
        inputs: &[ValueId],
    ) {
        self.graph.nodes.push(Node {
            name: name.to_string(),
            kind: kind.to_string(),
            source: u32::MAX,
            in_function: false,
            op,
            rule,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: Vec::new(),
        });
    }

    fn add_nodes(&mut self) -> Result<()> {
        let graph = self.scope().graph;
        for (position, &index) in graph.nodes.iter().enumerate() {
            let node = self.program.node(index)?;
            self.scope_mut().position = position;
            if !self.scope().needed[position] && !self.can_read(node) {
                continue;
            }
            self.add_node(index, node).map_err(|error| {
                error.at(format!("node `{}` (`{}`)", node.name, short(&node.target)))
            })?;
        }
        Ok(())
    }

    /// Whether all that a call reads is there: results that nothing needs may not be.
    fn can_read(&self, node: &Call) -> bool {
        let mut read = node.arguments.iter().flat_map(|argument| names(&argument.value));
        read.all(|name| self.scope().names.contains_key(name))
    }

    fn add_node(&mut self, index: u32, node: &'a Call) -> Result<()> {
        if self.add_number(index, node)? || self.add_inside(node)? {
            return Ok(());
        }
        let (decode, written) = self.decode(node);
        let before = self.graph.nodes.len();
        let mut known = true;
        let outcome = match decode {
            None => Err(None),
            Some(decode) => {
                let mut cx = Decoder::new(self, index, node);
                let decoded = decode(&mut cx);
                cx.finish(decoded).map_err(Some)
            }
        };
        match outcome {
            Ok(bound) => {
                for (name, value) in bound {
                    self.define(name, Binding::Tensor(value))?;
                }
            }
            Err(why) => {
                known = false;
                self.graph.nodes.truncate(before);
                self.add_opaque(index, node, why)?;
            }
        }
        self.follow_memory(index, node, written.map(|argument| (argument, known)))
    }

    /// How a call is decoded, if its operator is known, and the argument that it writes, if any.
    fn decode(&self, node: &'a Call) -> (Option<Decode>, Option<&'a NamedArgument>) {
        let name = operator(&node.target);
        let overload = overload(&node.target);
        if overload == "out" || overload.ends_with("_out") {
            let out = node.argument("out");
            return (out.and_then(|_| self.table.get(name).copied()), out);
        }
        let plain = name.strip_suffix('_').filter(|plain| !plain.ends_with('_'));
        let found = self.table.get(name).copied();
        match (found, plain) {
            (None, Some(plain)) => (self.table.get(plain).copied(), node.arguments.first()),
            (found, plain) => (found, plain.and(node.arguments.first())),
        }
    }

    fn warn(&mut self, text: &str, node: &Call) {
        if self.opaque.insert(text.to_string()) {
            let line = node.line.as_deref().map(|line| format!(", {line}")).unwrap_or_default();
            let warning = format!("{text} (first at node `{}`{line})", node.name);
            self.graph.warnings.push(warning);
        }
    }

    fn add_opaque(&mut self, index: u32, node: &'a Call, why: Option<Error>) -> Result<()> {
        let mut inputs = Vec::new();
        for argument in &node.arguments {
            for name in tensor_names(&argument.value) {
                inputs.push(Some(self.tensor(name)?));
            }
            let exprs = self.named_numbers(&argument.value)?;
            self.freeze(&exprs);
        }
        let id = NodeId::new(self.graph.nodes.len());
        let mut outputs = Vec::new();
        for output in &node.outputs {
            for name in tensor_names(output) {
                let value = self.given(name);
                self.graph.values[value.index()].origin = Origin::Node(id);
                self.define(name, Binding::Tensor(value))?;
                outputs.push(value);
            }
            if let Argument::Int(Int::Name(name)) = output {
                let number = self.scope().graph.numbers.get(name.as_str());
                let size = number.map(|number| number.size.clone());
                let size = size.unwrap_or(schema::Size { value: None, expression: None });
                let expr = self.open_number(name, &size);
                self.define(name, Binding::Number(expr))?;
            }
        }
        if inputs.is_empty() && outputs.is_empty() {
            return Ok(());
        }
        let kind = short(&node.target);
        let text = match why {
            None => format!("operator `{kind}` is unknown: what it touches is left as it is"),
            Some(error) => format!("operator `{kind}` is left as it is: {error}"),
        };
        self.warn(&text, node);
        self.push_opaque(index, node, inputs, outputs);
        Ok(())
    }

    fn push_opaque(
        &mut self,
        index: u32,
        node: &Call,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<ValueId>,
    ) {
        self.graph.nodes.push(Node {
            name: node.name.to_string(),
            kind: short(&node.target).to_string(),
            source: index,
            in_function: false,
            op: Op::Opaque,
            rule: None,
            inputs,
            outputs,
        });
    }

    /// The computed numbers that an argument names.
    fn named_numbers(&self, argument: &Argument) -> Result<Vec<ExprId>> {
        let ints: &[Int] = match argument {
            Argument::Int(int) => std::slice::from_ref(int),
            Argument::Ints(ints) => ints,
            _ => &[],
        };
        let name = |int: &Int| match int {
            Int::Name(name) => Some(self.named_number(name)),
            Int::Number(_) => None,
        };
        ints.iter().filter_map(name).collect()
    }

    fn named_number(&self, name: &str) -> Result<ExprId> {
        match self.scope().names.get(name) {
            Some(Binding::Number(expr)) => Ok(*expr),
            _ => Err(unmade(name)),
        }
    }

    /// The expression of an integer argument, or of an element of a list.
    pub(super) fn expr(&mut self, int: &Int, literal: Literal) -> Result<ExprId> {
        match int {
            Int::Name(name) => self.named_number(name),
            Int::Number(value) => {
                let number = Expr::Number(Scalar::Int(*value), Some(literal));
                Ok(self.graph.sizes.add(number))
            }
        }
    }

    pub(super) fn freeze(&mut self, exprs: &[ExprId]) {
        self.graph.frozen.extend(exprs);
    }

    /// The tensor of a name.
    pub(super) fn tensor(&mut self, name: &str) -> Result<ValueId> {
        match self.scope().names.get_key_value(name) {
            Some((_, &Binding::Tensor(value))) => Ok(value),
            Some((&name, &Binding::Stored(tensor))) => {
                let value = self.stored(tensor, name);
                self.note_reads(name, value);
                if let Some(binding) = self.scope_mut().names.get_mut(name) {
                    *binding = Binding::Tensor(value);
                }
                Ok(value)
            }
            _ => Err(unmade(name)),
        }
    }

    fn stored(&mut self, tensor: u32, name: &str) -> ValueId {
        if let Some(&value) = self.params.get(&tensor) {
            return value;
        }
        let Some(stored) = self.stored.parameters.get(tensor as usize) else {
            return self.given(name);
        };
        let shape: Vec<Extent> = stored.dims.iter().map(|&size| Extent::fixed(size)).collect();
        if !is_countable(&shape) {
            return self.given(name);
        }
        let param = ParamId::new(self.graph.params.len());
        let value = self.graph.add_value(Value {
            name: name.to_string(),
            dtype: Some(stored.dtype),
            shape: Some(shape),
            origin: Origin::Param(param),
        });
        self.graph.params.push(Param {
            name: stored.name.clone(),
            label: stored.name.clone(),
            dtype: stored.dtype,
            shape: stored.dims.clone(),
            tensor,
            trained: self.trained.contains(&*stored.name),
            only_use: None,
            value,
        });
        self.params.insert(tensor, value);
        if stored.shared {
            let warning =
                format!("`{}` shares memory with another weight: left whole", stored.name);
            self.graph.warnings.push(warning);
            self.push_own(&stored.name, "shared memory", (Op::Opaque, None), &[value]);
        }
        value
    }

    /// A call that computes with sizes.
    fn add_number(&mut self, index: u32, node: &'a Call) -> Result<bool> {
        let [Argument::Int(Int::Name(name))] = &node.outputs[..] else { return Ok(false) };
        let Some(expr) = numbers::evaluate(self, index, node)? else { return Ok(false) };
        self.define(name, Binding::Number(expr))?;
        Ok(true)
    }

    /// A call of a graph that stands in it: its nodes are read in place.
    fn add_inside(&mut self, node: &'a Call) -> Result<bool> {
        const INLINED: [&str; 2] = ["wrap_with_set_grad_enabled", "wrap_with_autocast"];
        let name = operator(&node.target);
        if !INLINED.iter().any(|inlined| name.ends_with(inlined)) {
            return Ok(false);
        }
        let mut arguments = node.arguments.iter();
        let inner = arguments.find_map(|argument| match &argument.value {
            Argument::Graph(graph) => Some(graph),
            _ => None,
        });
        let Some(inner) = inner else { return Ok(false) };
        let mut given = Vec::new();
        for argument in arguments {
            for name in tensor_names(&argument.value) {
                given.push(Binding::Tensor(self.tensor(name)?));
            }
            let numbers = self.named_numbers(&argument.value)?;
            given.extend(numbers.into_iter().map(Binding::Number));
        }
        let taken: Vec<&'a str> = inner.inputs.iter().flat_map(names).collect();
        ops::agree("operands and inputs of the graph inside", given.len(), taken.len())?;
        self.scopes.push(Scope::new(self.program, inner, self.code));
        let bound = taken.into_iter().zip(given).try_for_each(|(name, it)| self.define(name, it));
        let made = bound.and_then(|()| self.add_nodes()).and_then(|()| {
            let returned = inner.outputs.iter().flat_map(names);
            returned.map(|name| self.binding(name)).collect::<Result<Vec<Binding>>>()
        });
        self.pop_scope();
        let results: Vec<&'a str> = node.outputs.iter().flat_map(names).collect();
        for (name, binding) in results.into_iter().zip(made?) {
            self.define(name, binding)?;
        }
        Ok(true)
    }

    fn binding(&mut self, name: &str) -> Result<Binding> {
        match self.scope().names.get(name) {
            Some(Binding::Number(expr)) => Ok(Binding::Number(*expr)),
            _ => self.tensor(name).map(Binding::Tensor),
        }
    }
}

/// The tensors and computed numbers that an argument names.
fn names(argument: &Argument) -> Vec<&str> {
    match argument {
        Argument::Int(Int::Name(name)) => vec![name],
        argument => tensor_names(argument),
    }
}

/// `aten.conv2d` of `torch.ops.aten.conv2d.default`, `_operator.mul` of itself.
pub(super) fn operator(target: &str) -> &str {
    let name = short(target);
    match name.match_indices('.').nth(1) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

/// `default` of `torch.ops.aten.conv2d.default`.
pub(super) fn overload(target: &str) -> &str {
    let name = short(target);
    name.match_indices('.').nth(1).map_or("", |(end, _)| &name[end + 1..])
}
