//! The program of a `.pt2` file: calls of ATen operators on named tensors, as `torch.export` writes
//! them (`torch/_export/serde/schema.py`, major version 8), and where in its text stands what
//! pruning may change. Knows nothing of archives and operators.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::graph::Open;
use crate::{DType, Error, Result};

/// The major version of the schema that is read.
const MAJOR: i64 = 8;
/// Graphs inside graphs.
const MAX_DEPTH: usize = 16;

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
pub(super) struct Graph {
    pub(super) inputs: Vec<Argument>,
    pub(super) outputs: Vec<Argument>,
    /// Indices of [`Program::nodes`].
    pub(super) nodes: Vec<u32>,
    pub(super) tensors: BTreeMap<String, Meta>,
    pub(super) numbers: BTreeMap<String, Number>,
}

/// A call of an operator.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// `torch.ops.aten.conv2d.default`, `_operator.mul`, …
    pub(super) target: String,
    pub(super) target_span: Range<usize>,
    pub(super) arguments: Vec<NamedArgument>,
    pub(super) outputs: Vec<Argument>,
    /// The line of the model's code that makes the call.
    pub(super) line: Option<String>,
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
pub(super) enum Argument {
    None,
    Tensor(String),
    /// Tensors, of which some are omitted.
    Tensors(Vec<Option<String>>),
    Int(Int),
    Ints(Vec<Int>),
    Float(f64),
    Floats(Vec<f64>),
    Bool(bool),
    String(String),
    Graph(Box<Graph>),
    /// An element type, a device, a memory format, a class of the model's own, …
    Other,
}

/// An integer, or the name of one that is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Int {
    Number(i64),
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
pub(super) struct Meta {
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
}

/// Who gives an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
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
    /// `None` where it is no plain tensor.
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
    pub fn parse(text: &str) -> Result<Self> {
        let raw: RawProgram<'_> = parse(text)?;
        let version = raw.schema_version.major;
        if version != MAJOR {
            return Err(Error::unsupported(format!(
                "the program is of schema version {version}, not {MAJOR}"
            ))
            .hint("save it again with a current PyTorch: `torch.export.save`"));
        }
        let mut reader = Reader { text, nodes: Vec::new() };
        let graph = reader.graph(raw.graph_module.graph, 0)?;
        let signature = raw.graph_module.signature;
        let inputs = signature.input_specs.into_iter().map(input).collect::<Result<_>>()?;
        let outputs = signature.output_specs.into_iter().map(output).collect::<Result<_>>()?;
        Ok(Program {
            text: text.to_string(),
            nodes: reader.nodes,
            graph,
            inputs,
            outputs,
            torch_version: raw.torch_version,
        })
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
    pub(super) fn parse(text: &str) -> Result<Self> {
        let raw: RawPayloads<'_> = parse(text)?;
        let reader = Reader { text, nodes: Vec::new() };
        let mut entries = BTreeMap::new();
        for (name, payload) in raw.config {
            let meta = payload.tensor_meta.filter(|_| !payload.use_pickle);
            let meta = meta.map(|meta| reader.meta(meta)).transpose()?;
            entries.insert(name, Payload { path: payload.path_name, meta });
        }
        Ok(Payloads { text: text.to_string(), entries })
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(Error::malformed)
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
        for node in raw.nodes {
            let node = self.node(node, depth)?;
            graph.nodes.push(u32::try_from(self.nodes.len()).map_err(Error::malformed)?);
            self.nodes.push(node);
        }
        graph.inputs = self.arguments(&raw.inputs, depth)?;
        graph.outputs = self.arguments(&raw.outputs, depth)?;
        for (name, meta) in raw.tensor_values {
            graph.tensors.insert(name, self.meta(meta)?);
        }
        for (name, raw) in raw.sym_int_values {
            let number = Number { size: size(raw)?, span: self.span(raw.get()) };
            graph.numbers.insert(name, number);
        }
        Ok(graph)
    }

    fn node(&mut self, raw: RawNode<'a>, depth: usize) -> Result<Node> {
        let listed: Vec<RawNamed<'a>> = parse(raw.inputs.get())?;
        let mut arguments = Vec::new();
        for one in listed {
            let value = self.argument(one.arg, depth)?;
            arguments.push(NamedArgument {
                name: parse(one.name.get())?,
                name_span: self.span(one.name.get()),
                value,
                span: self.span(one.arg.get()),
            });
        }
        let outputs = self.arguments(&raw.outputs, depth)?;
        let first = outputs.iter().find_map(|output| match output {
            Argument::Tensor(name) | Argument::Int(Int::Name(name)) => Some(name.clone()),
            Argument::Tensors(names) => names.iter().flatten().next().cloned(),
            _ => None,
        });
        let trace = raw.metadata.and_then(|metadata| metadata.stack_trace);
        Ok(Node {
            name: raw.name.or(first).unwrap_or_default(),
            target: parse(raw.target.get())?,
            target_span: self.span(raw.target.get()),
            arguments,
            outputs,
            line: trace.as_deref().and_then(last_line),
            end: self.span(raw.inputs.get()).end.saturating_sub(1),
        })
    }

    fn arguments(&mut self, raw: &[&'a RawValue], depth: usize) -> Result<Vec<Argument>> {
        raw.iter().map(|raw| self.argument(raw, depth)).collect()
    }

    fn argument(&mut self, raw: &'a RawValue, depth: usize) -> Result<Argument> {
        let Some((kind, value)) = variant(raw)? else { return Ok(Argument::None) };
        let text = value.get();
        let name = |named: RawName| named.name;
        Ok(match kind.as_str() {
            "as_none" => Argument::None,
            "as_tensor" => Argument::Tensor(name(parse(text)?)),
            "as_tensors" => {
                let names: Vec<RawName> = parse(text)?;
                Argument::Tensors(names.into_iter().map(|named| Some(named.name)).collect())
            }
            "as_optional_tensors" => {
                let listed: Vec<&RawValue> = parse(text)?;
                let names = listed.into_iter().map(|raw| self.optional_tensor(raw));
                Argument::Tensors(names.collect::<Result<_>>()?)
            }
            "as_optional_tensor" => match self.optional_tensor(value)? {
                Some(name) => Argument::Tensor(name),
                None => Argument::None,
            },
            "as_int" => Argument::Int(Int::Number(parse(text)?)),
            "as_ints" => {
                let numbers: Vec<i64> = parse(text)?;
                Argument::Ints(numbers.into_iter().map(Int::Number).collect())
            }
            "as_sym_int" => Argument::Int(int(value)?),
            "as_sym_ints" => {
                let listed: Vec<&RawValue> = parse(text)?;
                Argument::Ints(listed.into_iter().map(int).collect::<Result<_>>()?)
            }
            "as_float" => Argument::Float(float(parse(text)?)?),
            "as_floats" => {
                let floats: Vec<RawFloat> = parse(text)?;
                Argument::Floats(floats.into_iter().map(float).collect::<Result<_>>()?)
            }
            "as_bool" => Argument::Bool(parse(text)?),
            "as_string" => Argument::String(parse(text)?),
            "as_graph" => {
                let raw: RawGraphArgument<'a> = parse(text)?;
                Argument::Graph(Box::new(self.graph(raw.graph, depth + 1)?))
            }
            _ => Argument::Other,
        })
    }

    fn optional_tensor(&self, raw: &RawValue) -> Result<Option<String>> {
        let Some((kind, value)) = variant(raw)? else { return Ok(None) };
        match kind.as_str() {
            "as_tensor" => parse::<RawName>(value.get()).map(|named| Some(named.name)),
            _ => Ok(None),
        }
    }

    fn meta(&self, raw: RawMeta<'a>) -> Result<Meta> {
        const STRIDED: i64 = 7;
        Ok(Meta {
            dtype: dtype(raw.dtype),
            sizes: sizes(raw.sizes)?,
            strides: sizes(raw.strides)?,
            offset: size(raw.storage_offset)?.value.unwrap_or(-1),
            strided: raw.layout == STRIDED,
            spans: [raw.sizes, raw.strides, raw.storage_offset].map(|part| self.span(part.get())),
        })
    }
}

/// The one field of a union; `None` where all are null.
fn variant(raw: &RawValue) -> Result<Option<(String, &RawValue)>> {
    let fields: BTreeMap<String, &RawValue> = parse(raw.get())?;
    Ok(fields.into_iter().find(|(_, value)| value.get() != "null"))
}

fn int(raw: &RawValue) -> Result<Int> {
    match variant(raw)? {
        Some((kind, value)) if kind == "as_name" => parse(value.get()).map(Int::Name),
        Some((_, value)) => parse(value.get()).map(Int::Number),
        None => Err(Error::malformed("an integer without a value")),
    }
}

fn size(raw: &RawValue) -> Result<Size> {
    match variant(raw)? {
        Some((kind, value)) if kind == "as_expr" => {
            let expression: RawExpression<'_> = parse(value.get())?;
            let hint = expression.hint.map(variant).transpose()?.flatten();
            let value = hint.filter(|(kind, _)| kind == "as_int");
            let value = value.map(|(_, value)| parse(value.get())).transpose()?;
            Ok(Size { value, expression: Some(expression.expr_str) })
        }
        Some((_, value)) => Ok(Size { value: Some(parse(value.get())?), expression: None }),
        None => Err(Error::malformed("a size without a value")),
    }
}

fn sizes(raw: &RawValue) -> Result<Vec<Size>> {
    let listed: Vec<&RawValue> = parse(raw.get())?;
    listed.into_iter().map(size).collect()
}

fn input(raw: &RawValue) -> Result<Input> {
    let Some((kind, value)) = variant(raw)? else {
        return Err(Error::malformed("an input without a kind"));
    };
    let spec: RawInput<'_> = parse(value.get())?;
    let name = spec.arg.map(argument_name).transpose()?.flatten();
    let stored = spec.parameter_name.or(spec.buffer_name).or(spec.tensor_constant_name);
    let from = match (kind.as_str(), stored) {
        ("user_input", _) => Source::User,
        (_, Some(stored)) => Source::Stored(stored),
        _ => Source::Other,
    };
    Ok(Input { name: name.unwrap_or_default(), from })
}

fn output(raw: &RawValue) -> Result<Output> {
    let Some((kind, value)) = variant(raw)? else {
        return Err(Error::malformed("an output without a kind"));
    };
    let spec: RawInput<'_> = parse(value.get())?;
    let name = spec.arg.map(argument_name).transpose()?.flatten().unwrap_or_default();
    let into = spec.buffer_name.or(spec.parameter_name);
    Ok(Output { name, into: into.filter(|_| kind.ends_with("_mutation")) })
}

/// The name in an argument, which may be spelled as a union or as a name alone.
fn argument_name(raw: &RawValue) -> Result<Option<String>> {
    let fields: BTreeMap<String, &RawValue> = parse(raw.get())?;
    if let Some(name) = fields.get("name") {
        return parse(name.get()).map(Some);
    }
    let named = |key: &str, field: &str| {
        let inner: BTreeMap<String, &RawValue> =
            fields.get(key).map(|raw| parse(raw.get())).transpose()?.unwrap_or_default();
        inner.get(field).map(|name| parse::<String>(name.get())).transpose()
    };
    Ok(named("as_tensor", "name")?.or(named("as_sym_int", "as_name")?))
}

/// The last line of a stack trace that names a file, and the code under it.
fn last_line(trace: &str) -> Option<String> {
    let lines: Vec<&str> = trace.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let at = lines.iter().rposition(|line| line.starts_with("File "))?;
    let code = lines.get(at + 1).map(|code| format!(": `{code}`")).unwrap_or_default();
    Some(format!("{}{code}", lines[at]))
}

/// A number, or one of the words that JSON has no numbers for.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawFloat {
    Number(f64),
    Word(String),
}

fn float(raw: RawFloat) -> Result<f64> {
    match raw {
        RawFloat::Number(value) => Ok(value),
        RawFloat::Word(word) => word.parse().map_err(Error::malformed),
    }
}

#[derive(Deserialize)]
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
    #[serde(borrow)]
    signature: RawSignature<'a>,
}

#[derive(Deserialize)]
struct RawSignature<'a> {
    #[serde(borrow)]
    input_specs: Vec<&'a RawValue>,
    #[serde(borrow)]
    output_specs: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawGraph<'a> {
    #[serde(borrow)]
    inputs: Vec<&'a RawValue>,
    #[serde(borrow)]
    outputs: Vec<&'a RawValue>,
    #[serde(borrow)]
    nodes: Vec<RawNode<'a>>,
    #[serde(borrow)]
    tensor_values: BTreeMap<String, RawMeta<'a>>,
    #[serde(borrow, default)]
    sym_int_values: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct RawNode<'a> {
    #[serde(borrow)]
    target: &'a RawValue,
    #[serde(borrow)]
    inputs: &'a RawValue,
    #[serde(borrow)]
    outputs: Vec<&'a RawValue>,
    #[serde(default)]
    metadata: Option<RawMetadata>,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct RawMetadata {
    stack_trace: Option<String>,
}

#[derive(Deserialize)]
struct RawNamed<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow)]
    arg: &'a RawValue,
}

#[derive(Deserialize)]
struct RawName {
    name: String,
}

#[derive(Deserialize)]
struct RawGraphArgument<'a> {
    #[serde(borrow)]
    graph: RawGraph<'a>,
}

#[derive(Deserialize)]
struct RawExpression<'a> {
    expr_str: String,
    #[serde(borrow, default)]
    hint: Option<&'a RawValue>,
}

#[derive(Deserialize)]
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
struct RawInput<'a> {
    #[serde(borrow, default)]
    arg: Option<&'a RawValue>,
    #[serde(default)]
    parameter_name: Option<String>,
    #[serde(default)]
    buffer_name: Option<String>,
    #[serde(default)]
    tensor_constant_name: Option<String>,
}

#[derive(Deserialize)]
struct RawPayloads<'a> {
    #[serde(borrow)]
    config: BTreeMap<String, RawPayload<'a>>,
}

#[derive(Deserialize)]
struct RawPayload<'a> {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    #[serde(borrow, default)]
    tensor_meta: Option<RawMeta<'a>>,
}
