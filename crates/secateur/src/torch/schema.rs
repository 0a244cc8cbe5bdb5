//! The program of a `.pt2` file: calls of ATen operators on named tensors, as `torch.export` writes
//! them (`torch/_export/serde/schema.py`, major version 8), and where in its text stands what
//! pruning may change. Knows nothing of archives and operators.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::{Error as _, IgnoredAny, MapAccess};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::stream::{List, Union, Variant, each, each_field, parse};
use crate::graph::Open;
use crate::{DType, Error, Result};

/// The major version of the schema that is read.
const MAJOR: i64 = 8;
/// Graphs inside graphs.
const MAX_DEPTH: usize = 16;
/// The axes of a tensor, as in PyTorch.
const MAX_RANK: usize = 64;
/// The parts of a list in a call, and the arguments of one.
const MAX_LIST: usize = 1 << 16;

/// A program and its text.
#[derive(Clone, Debug)]
pub struct Program {
    /// The text, as it was read.
    pub(super) text: String,
    /// The calls of all graphs.
    pub(super) nodes: Vec<Node>,
    /// The main graph.
    pub(super) graph: Graph,
    /// What the main graph takes.
    pub(super) inputs: Vec<Input>,
    /// What it returns.
    pub(super) outputs: Vec<Output>,
    /// The version of PyTorch that wrote it.
    pub(super) torch_version: String,
}

/// A list of calls.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(super) inputs: Vec<Argument>,
    pub(super) outputs: Vec<Argument>,
    /// Indices of [`Program::nodes`].
    pub(super) nodes: Vec<u32>,
    pub(super) tensors: BTreeMap<String, Meta>,
    pub(super) numbers: BTreeMap<String, Number>,
}

/// A call of an operator.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) name: Box<str>,
    /// `torch.ops.aten.conv2d.default`, `_operator.mul`, …
    pub(super) target: Box<str>,
    pub(super) target_span: Range<usize>,
    pub(super) arguments: Box<[NamedArgument]>,
    pub(super) outputs: Box<[Argument]>,
    /// The line of the model's code that makes the call.
    pub(super) line: Option<Box<str>>,
    /// Where one more argument would be written.
    pub(super) end: usize,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub(super) struct NamedArgument {
    pub(super) name: String,
    pub(super) name_span: Range<usize>,
    pub(super) value: Argument,
    pub(super) span: Range<usize>,
}

/// What is given to or made by a call.
#[derive(Clone, Debug)]
pub enum Argument {
    /// Nothing.
    None,
    /// The name of a tensor.
    Tensor(String),
    /// Tensors, of which some are omitted.
    Tensors(Vec<Option<String>>),
    /// An integer.
    Int(Int),
    /// Integers.
    Ints(Vec<Int>),
    /// A number.
    Float(f64),
    /// Numbers.
    Floats(Vec<f64>),
    /// A flag.
    Bool(bool),
    /// A text.
    String(String),
    /// A graph.
    Graph(Box<Graph>),
    /// An element type, a device, a memory format, a class of the model's own, …
    Other,
}

/// An integer, or the name of one that is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Int {
    /// An integer.
    Number(i64),
    /// The name of a computed one.
    Name(String),
}

/// A size: a number, or an expression of symbols and what it is for the inputs that the program
/// was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) value: Option<i64>,
    pub(super) expression: Option<String>,
}

/// What is known of a tensor.
#[derive(Clone, Debug)]
pub struct Meta {
    pub(super) dtype: Option<DType>,
    pub(super) sizes: Vec<Size>,
    pub(super) strides: Vec<Size>,
    pub(super) offset: i64,
    pub(super) strided: bool,
    /// Where sizes, strides and offset stand.
    pub(super) spans: [Range<usize>; 3],
}

/// A computed integer.
#[derive(Clone, Debug)]
pub(super) struct Number {
    pub(super) size: Size,
    pub(super) span: Range<usize>,
}

/// An input of the main graph.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) from: Source,
    is_parameter: bool,
}

impl Input {
    /// The name of the parameter that it is.
    pub(super) fn parameter(&self) -> Option<&str> {
        match &self.from {
            Source::Stored(name) if self.is_parameter => Some(name),
            _ => None,
        }
    }
}

/// Who gives an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The user.
    User,
    /// A stored parameter, buffer or constant of this name.
    Stored(String),
    /// Something that is no tensor.
    Other,
}

/// An output of the main graph.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) name: String,
    /// The buffer or parameter that it is written into; else the user gets it.
    pub(super) into: Option<String>,
}

/// The descriptions of stored tensors.
#[derive(Clone, Debug, Default)]
pub(super) struct Payloads {
    pub(super) text: String,
    pub(super) entries: BTreeMap<String, Payload>,
}

/// The description of a stored tensor.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) path: String,
    /// `None` where it is no plain tensor of fixed sizes.
    pub(super) meta: Option<Meta>,
}

/// The element type of a number in the schema's `ScalarType`.
pub(super) fn dtype(number: i64) -> Option<DType> {
    Some(match number {
        1 => DType::U8,
        2 => DType::I8,
        3 => DType::I16,
        4 => DType::I32,
        5 => DType::I64,
        6 => DType::F16,
        7 => DType::F32,
        8 => DType::F64,
        10 => DType::Complex64,
        11 => DType::Complex128,
        12 => DType::Bool,
        13 => DType::BF16,
        28 => DType::U16,
        29..=33 => DType::F8,
        34 => DType::U32,
        35 => DType::U64,
        _ => return None,
    })
}

impl Size {
    /// What may become of it.
    pub(super) fn open(&self) -> Open {
        if self.is_open() { Open::Symbolic } else { Open::Stated }
    }

    /// Whether it depends on the inputs' sizes, or on data.
    pub(super) fn is_open(&self) -> bool {
        self.expression.as_ref().is_some_and(|text| text.contains("Symbol("))
    }
}

impl Program {
    /// Reads a program.
    ///
    /// # Errors
    /// When the text is not one, or of a version that is not read.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let raw: RawProgram<'_> = parse(&text)?;
        let version = raw.schema_version.major;
        if version != MAJOR {
            return Err(Error::unsupported(format!(
                "the program is of schema version {version}, not {MAJOR}"
            ))
            .hint("save it again with a current PyTorch: `torch.export.save`"));
        }
        let torch_version = raw.torch_version;
        let mut reader = Reader { text: &text, nodes: Vec::new() };
        let graph = reader.graph(raw.graph_module.graph, 0)?;
        let nodes = reader.nodes;
        let signature = raw.graph_module.signature;
        let inputs = signature.input_specs.0.into_iter().map(input).collect::<Result<_>>()?;
        let outputs = signature.output_specs.0.into_iter().map(output).collect::<Result<_>>()?;
        Ok(Program { nodes, graph, inputs, outputs, torch_version, text })
    }

    pub(super) fn node(&self, index: u32) -> Result<&Node> {
        let node = self.nodes.get(index as usize);
        node.ok_or_else(|| Error::malformed(format!("there is no node {index}")))
    }
}

impl Node {
    pub(super) fn argument(&self, name: &str) -> Option<&NamedArgument> {
        self.arguments.iter().find(|argument| argument.name == name)
    }
}

impl Payloads {
    pub(super) fn parse(text: String) -> Result<Self> {
        let raw: RawPayloads<'_> = parse(&text)?;
        let reader = Reader { text: &text, nodes: Vec::new() };
        let mut entries = BTreeMap::new();
        each_field(raw.config, |name, payload: RawPayload<'_>| {
            let meta = payload.tensor_meta.filter(|_| !payload.use_pickle);
            let meta = meta.map(|meta| reader.meta(meta)).transpose()?;
            let meta = meta.filter(|meta| {
                meta.sizes.iter().chain(&meta.strides).all(|size| size.expression.is_none())
            });
            entries.insert(name.into_owned(), Payload { path: payload.path_name, meta });
            Ok(())
        })?;
        Ok(Payloads { text, entries })
    }
}

struct Reader<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

impl<'a> Reader<'a> {
    /// Where a part of the text stands.
    fn span(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        start..start.wrapping_add(part.len())
    }

    fn graph(&mut self, raw: RawGraph<'a>, depth: usize) -> Result<Graph> {
        if depth > MAX_DEPTH {
            return Err(Error::unsupported("graphs are nested too deeply"));
        }
        let mut graph = Graph::default();
        each(raw.nodes, "call", |node| {
            let node = self.node(node, depth)?;
            graph.nodes.push(u32::try_from(self.nodes.len()).map_err(Error::malformed)?);
            self.nodes.push(node);
            Ok(())
        })?;
        graph.inputs = self.arguments(raw.inputs.0, depth)?;
        graph.outputs = self.arguments(raw.outputs.0, depth)?;
        each_field(raw.tensor_values, |name, meta| {
            let meta = self.meta(meta).map_err(|error| error.at(format!("the tensor `{name}`")))?;
            graph.tensors.insert(name.into_owned(), meta);
            Ok(())
        })?;
        if let Some(numbers) = raw.sym_int_values {
            each_field(numbers, |name, raw: &RawValue| {
                let number = Number { size: parse(raw.get())?, span: self.span(raw.get()) };
                graph.numbers.insert(name.into_owned(), number);
                Ok(())
            })?;
        }
        Ok(graph)
    }

    fn node(&mut self, raw: RawNode<'a>, depth: usize) -> Result<Node> {
        let target: Box<str> = parse(raw.target.get())?;
        let at = format!("`{}`, a call of `{target}`", raw.name.as_deref().unwrap_or_default());
        self.call(raw, target, depth).map_err(|error| error.at(at))
    }

    fn call(&mut self, raw: RawNode<'a>, target: Box<str>, depth: usize) -> Result<Node> {
        let mut arguments = Vec::new();
        each(raw.inputs, "argument", |one: RawNamed<'a>| {
            if arguments.len() == MAX_LIST {
                return Err(Error::unsupported(format!("a list of more than {MAX_LIST} parts")));
            }
            arguments.push(NamedArgument {
                name: parse(one.name.get())?,
                name_span: self.span(one.name.get()),
                value: self.argument(parse(one.arg.get())?, depth)?,
                span: self.span(one.arg.get()),
            });
            Ok(())
        })?;
        let outputs = self.arguments(raw.outputs.0, depth)?;
        let first = outputs.iter().find_map(|output| match output {
            Argument::Tensor(name) | Argument::Int(Int::Name(name)) => Some(name.clone()),
            Argument::Tensors(names) => names.iter().flatten().next().cloned(),
            _ => None,
        });
        let trace = raw.metadata.and_then(|metadata| metadata.stack_trace);
        Ok(Node {
            name: raw.name.or(first).unwrap_or_default().into(),
            target,
            target_span: self.span(raw.target.get()),
            arguments: arguments.into(),
            outputs: outputs.into(),
            line: trace.as_deref().and_then(last_line).map(Into::into),
            end: self.span(raw.inputs.get()).end.saturating_sub(1),
        })
    }

    fn arguments(&mut self, raw: Vec<RawUnion<'a>>, depth: usize) -> Result<Vec<Argument>> {
        raw.into_iter().map(|one| self.argument(one, depth)).collect()
    }

    fn argument(&mut self, Union(given): RawUnion<'a>, depth: usize) -> Result<Argument> {
        Ok(match given {
            None => Argument::None,
            Some(Given::Whole(argument)) => argument,
            Some(Given::Graph(raw)) => Argument::Graph(Box::new(self.graph(*raw, depth + 1)?)),
        })
    }

    fn meta(&self, raw: RawMeta<'a>) -> Result<Meta> {
        const STRIDED: i64 = 7;
        let strided = raw.layout == STRIDED;
        let [sizes, strides]: [List<Size, MAX_RANK>; 2] =
            [parse(raw.sizes.get())?, parse(raw.strides.get())?];
        let [sizes, strides] = [sizes.0, strides.0];
        if strided && sizes.len() != strides.len() {
            let text = format!("a tensor of {} sizes and {} strides", sizes.len(), strides.len());
            return Err(Error::malformed(text));
        }
        Ok(Meta {
            dtype: dtype(raw.dtype),
            sizes,
            strides,
            offset: parse::<Size>(raw.storage_offset.get())?.value.unwrap_or(-1),
            strided,
            spans: [raw.sizes, raw.strides, raw.storage_offset].map(|part| self.span(part.get())),
        })
    }
}

/// What an argument is, before the graphs in it are read.
enum Given<'a> {
    Whole(Argument),
    Graph(Box<RawGraph<'a>>),
}

type Listed<T> = List<T, MAX_LIST>;
type Unlimited<T> = List<T, { usize::MAX }>;

impl<'de: 'a, 'a> Variant<'de> for Given<'a> {
    fn read<A: MapAccess<'de>>(
        kind: &str,
        fields: &mut A,
    ) -> std::result::Result<Option<Self>, A::Error> {
        let whole = match kind {
            "as_tensor" => {
                fields.next_value::<Option<RawName>>()?.map(|n| Argument::Tensor(n.name))
            }
            "as_tensors" => fields.next_value::<Option<Listed<RawName>>>()?.map(|names| {
                Argument::Tensors(names.0.into_iter().map(|named| Some(named.name)).collect())
            }),
            "as_optional_tensors" => {
                let list = fields.next_value::<Option<Listed<Union<Omissible>>>>()?;
                list.map(|list| {
                    let names = list.0.into_iter().map(|name| name.0.and_then(|name| name.0));
                    Argument::Tensors(names.collect())
                })
            }
            "as_optional_tensor" => fields.next_value::<Option<Union<Omissible>>>()?.map(|name| {
                name.0.and_then(|name| name.0).map_or(Argument::None, Argument::Tensor)
            }),
            "as_int" => fields.next_value::<Option<i64>>()?.map(|n| Argument::Int(Int::Number(n))),
            "as_ints" => fields
                .next_value::<Option<Listed<i64>>>()?
                .map(|list| Argument::Ints(list.0.into_iter().map(Int::Number).collect())),
            "as_sym_int" => fields.next_value::<Option<Int>>()?.map(Argument::Int),
            "as_sym_ints" => {
                fields.next_value::<Option<Listed<Int>>>()?.map(|list| Argument::Ints(list.0))
            }
            "as_float" => fields.next_value::<Option<Float>>()?.map(|n| Argument::Float(n.0)),
            "as_floats" => fields
                .next_value::<Option<Listed<Float>>>()?
                .map(|list| Argument::Floats(list.0.into_iter().map(|number| number.0).collect())),
            "as_bool" => fields.next_value::<Option<bool>>()?.map(Argument::Bool),
            "as_string" => fields.next_value::<Option<String>>()?.map(Argument::String),
            "as_none" => fields.next_value::<Option<IgnoredAny>>()?.map(|_| Argument::None),
            "as_graph" => {
                let graph = fields.next_value::<Option<RawGraphArgument<'a>>>()?;
                return Ok(graph.map(|raw| Given::Graph(Box::new(raw.graph))));
            }
            _ => fields.next_value::<Option<IgnoredAny>>()?.map(|_| Argument::Other),
        };
        Ok(whole.map(Given::Whole))
    }
}

/// A tensor that may be omitted.
struct Omissible(Option<String>);

impl<'a> Variant<'a> for Omissible {
    fn read<A: MapAccess<'a>>(
        kind: &str,
        fields: &mut A,
    ) -> std::result::Result<Option<Self>, A::Error> {
        Ok(match kind {
            "as_tensor" => {
                fields.next_value::<Option<RawName>>()?.map(|named| Omissible(Some(named.name)))
            }
            _ => fields.next_value::<Option<IgnoredAny>>()?.map(|_| Omissible(None)),
        })
    }
}

impl<'a> Variant<'a> for Int {
    fn read<A: MapAccess<'a>>(
        kind: &str,
        fields: &mut A,
    ) -> std::result::Result<Option<Self>, A::Error> {
        Ok(match kind {
            "as_name" => fields.next_value::<Option<String>>()?.map(Int::Name),
            _ => fields.next_value::<Option<i64>>()?.map(Int::Number),
        })
    }
}

impl<'a> Deserialize<'a> for Int {
    fn deserialize<D: Deserializer<'a>>(from: D) -> std::result::Result<Self, D::Error> {
        let found = Union::deserialize(from)?;
        found.0.ok_or_else(|| D::Error::custom("an integer without a value"))
    }
}

impl<'a> Variant<'a> for Size {
    fn read<A: MapAccess<'a>>(
        kind: &str,
        fields: &mut A,
    ) -> std::result::Result<Option<Self>, A::Error> {
        if kind != "as_expr" {
            let number = fields.next_value::<Option<i64>>()?;
            return Ok(number.map(|value| Size { value: Some(value), expression: None }));
        }
        let symbolic = fields.next_value::<Option<RawExpression>>()?;
        Ok(symbolic.map(|raw| {
            let value = raw.hint.and_then(|hint| hint.0).and_then(|hint| hint.0);
            Size { value, expression: Some(raw.expr_str) }
        }))
    }
}

impl<'a> Deserialize<'a> for Size {
    fn deserialize<D: Deserializer<'a>>(from: D) -> std::result::Result<Self, D::Error> {
        let found = Union::deserialize(from)?;
        found.0.ok_or_else(|| D::Error::custom("a size without a value"))
    }
}

/// What an expression is for the inputs that the program was made with, if that is an integer.
struct Hint(Option<i64>);

impl<'a> Variant<'a> for Hint {
    fn read<A: MapAccess<'a>>(
        kind: &str,
        fields: &mut A,
    ) -> std::result::Result<Option<Self>, A::Error> {
        Ok(match kind {
            "as_int" => fields.next_value::<Option<i64>>()?.map(|value| Hint(Some(value))),
            _ => fields.next_value::<Option<IgnoredAny>>()?.map(|_| Hint(None)),
        })
    }
}

/// An input or output, and its kind.
struct Spec(String, RawInput);

impl<'a> Variant<'a> for Spec {
    fn read<A: MapAccess<'a>>(
        kind: &str,
        fields: &mut A,
    ) -> std::result::Result<Option<Self>, A::Error> {
        Ok(fields.next_value::<Option<RawInput>>()?.map(|spec| Spec(kind.to_string(), spec)))
    }
}

fn input(Union(spec): Union<Spec>) -> Result<Input> {
    let Some(Spec(kind, spec)) = spec else {
        return Err(Error::malformed("an input without a kind"));
    };
    let name = spec.arg.and_then(RawArgument::name).unwrap_or_default();
    let stored = spec.parameter_name.or(spec.buffer_name).or(spec.tensor_constant_name);
    let from = match (&*kind, stored) {
        ("user_input", _) => Source::User,
        (_, Some(stored)) => Source::Stored(stored),
        _ => Source::Other,
    };
    Ok(Input { name, from, is_parameter: kind == "parameter" })
}

fn output(Union(spec): Union<Spec>) -> Result<Output> {
    let Some(Spec(kind, spec)) = spec else {
        return Err(Error::malformed("an output without a kind"));
    };
    let name = spec.arg.and_then(RawArgument::name).unwrap_or_default();
    let into = spec.buffer_name.or(spec.parameter_name);
    Ok(Output { name, into: into.filter(|_| kind.ends_with("_mutation")) })
}

/// The last line of a stack trace that names a file, and the code under it.
fn last_line(trace: &str) -> Option<String> {
    let lines: Vec<&str> = trace.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let at = lines.iter().rposition(|line| line.starts_with("File "))?;
    let code = lines.get(at + 1).map(|code| format!(": `{code}`")).unwrap_or_default();
    Some(format!("{}{code}", lines[at]))
}

/// A number, or one of the words that JSON has no numbers for.
struct Float(f64);

impl<'a> Deserialize<'a> for Float {
    fn deserialize<D: Deserializer<'a>>(from: D) -> std::result::Result<Self, D::Error> {
        match RawFloat::deserialize(from)? {
            RawFloat::Number(value) => Ok(Float(value)),
            RawFloat::Word(word) => word.parse().map(Float).map_err(D::Error::custom),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawFloat {
    Number(f64),
    Word(String),
}

#[derive(Deserialize)]
#[serde(expecting = "a program")]
struct RawProgram<'a> {
    #[serde(borrow)]
    graph_module: RawModule<'a>,
    schema_version: RawVersion,
    #[serde(default)]
    torch_version: String,
}

#[derive(Deserialize)]
struct RawVersion {
    major: i64,
}

#[derive(Deserialize)]
struct RawModule<'a> {
    #[serde(borrow)]
    graph: RawGraph<'a>,
    signature: RawSignature,
}

#[derive(Deserialize)]
struct RawSignature {
    input_specs: Unlimited<Union<Spec>>,
    output_specs: Unlimited<Union<Spec>>,
}

#[derive(Deserialize)]
#[serde(expecting = "a graph")]
struct RawGraph<'a> {
    #[serde(borrow)]
    inputs: Unlimited<RawUnion<'a>>,
    #[serde(borrow)]
    outputs: Unlimited<RawUnion<'a>>,
    #[serde(borrow)]
    nodes: &'a RawValue,
    #[serde(borrow)]
    tensor_values: &'a RawValue,
    #[serde(borrow, default)]
    sym_int_values: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "a call")]
struct RawNode<'a> {
    #[serde(borrow)]
    target: &'a RawValue,
    #[serde(borrow)]
    inputs: &'a RawValue,
    #[serde(borrow)]
    outputs: Listed<RawUnion<'a>>,
    #[serde(default)]
    metadata: Option<RawMetadata>,
    #[serde(default)]
    name: Option<String>,
}

type RawUnion<'a> = Union<Given<'a>>;

#[derive(Deserialize)]
struct RawMetadata {
    stack_trace: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an argument")]
struct RawNamed<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    arg: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(expecting = "a name")]
struct RawName {
    name: String,
}

#[derive(Deserialize)]
#[serde(expecting = "a graph of a name")]
struct RawGraphArgument<'a> {
    #[serde(borrow)]
    graph: RawGraph<'a>,
}

#[derive(Deserialize)]
#[serde(expecting = "an expression")]
struct RawExpression {
    expr_str: String,
    #[serde(default)]
    hint: Option<Union<Hint>>,
}

#[derive(Deserialize)]
#[serde(expecting = "the description of a tensor")]
struct RawMeta<'a> {
    dtype: i64,
    #[serde(borrow)]
    sizes: &'a RawValue,
    #[serde(borrow)]
    strides: &'a RawValue,
    #[serde(borrow)]
    storage_offset: &'a RawValue,
    layout: i64,
}

#[derive(Deserialize)]
#[serde(expecting = "an input or output")]
struct RawInput {
    #[serde(default)]
    arg: Option<RawArgument>,
    #[serde(default)]
    parameter_name: Option<String>,
    #[serde(default)]
    buffer_name: Option<String>,
    #[serde(default)]
    tensor_constant_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an argument")]
struct RawArgument {
    name: Option<String>,
    as_tensor: Option<RawName>,
    as_sym_int: Option<RawInt>,
}

impl RawArgument {
    /// The name, which may be spelled as a union or alone.
    fn name(self) -> Option<String> {
        let tensor = self.as_tensor.map(|named| named.name);
        self.name.or(tensor).or(self.as_sym_int.and_then(|named| named.as_name))
    }
}

#[derive(Deserialize)]
#[serde(expecting = "the name of an integer")]
struct RawInt {
    as_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "descriptions of stored tensors")]
struct RawPayloads<'a> {
    #[serde(borrow)]
    config: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(expecting = "the description of a stored tensor")]
struct RawPayload<'a> {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    #[serde(borrow, default)]
    tensor_meta: Option<RawMeta<'a>>,
}
