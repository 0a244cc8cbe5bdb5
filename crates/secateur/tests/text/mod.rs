//! ONNX models from text, one line per name, for tests.
//!
//! ```text
//! opset 13                         default 18
//! x: nx3x8x8                       an input; letters are symbols, `?` is unknown
//! ids: i64 2x6                     an input of another element type; `scalar` has no axes
//! w = 8x3x3x3                      a stored tensor with generated values
//! s = i64[2, -1]                   a stored vector; `i64(3)` is a scalar
//! y = Conv(x, w) pads=[1,1,1,1]    a node; `_` omits an operand
//! a, b = my.domain::Op(y)          results, and a domain
//! z = If(c) then_branch={a b}      a subgraph that reads `a` and `b` and returns them
//! z = If(c) then_branch=$name      a subgraph that was given before, as `graph name`
//! y = my::Block(x, w) n=@m         attribute `n` is what a call of the function gives for `m`
//! -> y z                           the outputs
//!
//! graph name                       up to its outputs, a graph for an attribute
//! function my::Block(x, w) m n=2   up to its outputs, a function; `n` has a default
//! ```

use std::collections::BTreeMap;

use prost::Message;
use secateur::onnx::proto::{
    AttributeProto, Dimension, Extent, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute_type,
};

const F32: i32 = 1;
const U8: i32 = 2;
const I64: i32 = 7;
const BOOL: i32 = 9;

/// The model as a file's bytes.
pub fn encode(text: &str) -> Vec<u8> {
    model(text).encode_to_vec()
}

fn model(text: &str) -> ModelProto {
    let mut opset = 18;
    let mut graphs: Graphs = BTreeMap::new();
    let mut functions: Vec<FunctionProto> = Vec::new();
    let mut main = GraphProto::default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if let Some(version) = line.strip_prefix("opset ") {
            opset = version.parse().unwrap();
        } else if let Some(name) = line.strip_prefix("graph ") {
            let graph = section(&mut lines, &graphs);
            graphs.insert(name.to_string(), graph);
        } else if let Some(head) = line.strip_prefix("function ") {
            let body = section(&mut lines, &graphs);
            functions.push(function(head, body));
        } else {
            add(&mut main, line, &graphs);
        }
    }
    let import = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let mut opset_import = vec![import("", opset)];
    for function in &mut functions {
        function.opset_import = opset_import.clone();
        if !opset_import.iter().any(|import| import.domain == function.domain) {
            opset_import.push(import(&function.domain, 1));
        }
    }
    functions.iter_mut().for_each(|function| function.opset_import.clone_from(&opset_import));
    ModelProto {
        ir_version: Some(8),
        graph: Some(main),
        opset_import,
        functions,
        ..ModelProto::default()
    }
}

type Graphs = BTreeMap<String, GraphProto>;

/// Lines up to the outputs.
fn section<'t>(lines: &mut impl Iterator<Item = &'t str>, graphs: &Graphs) -> GraphProto {
    let mut graph = GraphProto::default();
    while graph.output.is_empty() {
        add(&mut graph, lines.next().unwrap(), graphs);
    }
    graph
}

fn add(graph: &mut GraphProto, line: &str, graphs: &Graphs) {
    if let Some(names) = line.strip_prefix("-> ") {
        graph.output.extend(names.split_whitespace().map(|name| info(name, F32, None)));
    } else if let Some((names, right)) = line.split_once(" = ") {
        if let Some(tensor) = tensor(names, right) {
            graph.initializer.push(tensor);
        } else {
            graph.node.push(node(names, right, graphs));
        }
    } else {
        let (name, kind) = line.split_once(": ").unwrap();
        let (dtype, dims) = kind.split_once(' ').unwrap_or(("f32", kind));
        graph.input.push(info(name, element(dtype), Some(dims)));
    }
}

/// A function; its stored tensors are `Constant` nodes.
fn function(head: &str, body: GraphProto) -> FunctionProto {
    let (name, rest) = head.split_once('(').unwrap();
    let (inputs, attributes) = rest.split_once(')').unwrap();
    let (domain, name) = name.rsplit_once("::").unwrap_or(("", name));
    let (given, defaults): (Vec<&str>, Vec<&str>) =
        attributes.split_whitespace().partition(|attribute| !attribute.contains('='));
    let default = |text: &&str| {
        let (name, value) = text.split_once('=').unwrap();
        attribute_from(name, value, &Graphs::new())
    };
    let strings = |names: Vec<&str>| names.into_iter().map(str::to_string).collect();
    let constants = body.initializer.into_iter().map(constant);
    FunctionProto {
        name: name.to_string(),
        domain: domain.to_string(),
        input: strings(list(inputs)),
        output: body.output.into_iter().map(|output| output.name).collect(),
        attribute: strings(given),
        attribute_proto: defaults.iter().map(default).collect(),
        node: constants.chain(body.node).collect(),
        ..FunctionProto::default()
    }
}

fn constant(tensor: TensorProto) -> NodeProto {
    let output = std::iter::once(&tensor.name).collect();
    let value = AttributeProto {
        name: "value".to_string(),
        r#type: attribute_type::TENSOR,
        t: Some(Box::new(tensor)),
        ..AttributeProto::default()
    };
    let op_type = "Constant".to_string();
    NodeProto { output, op_type, attribute: vec![value], ..NodeProto::default() }
}

fn element(dtype: &str) -> i32 {
    match dtype {
        "f32" => F32,
        "u8" => U8,
        "i64" => I64,
        "bool" => BOOL,
        other => panic!("element type {other}"),
    }
}

fn info(name: &str, elem_type: i32, dims: Option<&str>) -> ValueInfoProto {
    let dim = |text: &str| Dimension {
        extent: match text.parse() {
            Ok(size) => Some(Extent::Value(size)),
            Err(_) if text == "?" => None,
            Err(_) => Some(Extent::Param(text.to_string())),
        },
    };
    let axes = |dims: &str| match dims {
        "scalar" => Vec::new(),
        dims => dims.split('x').map(dim).collect(),
    };
    let shape = dims.map(|dims| TensorShapeProto { dim: axes(dims) });
    let tensor_type = Some(TensorTypeProto { elem_type, shape });
    ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type }) }
}

/// A stored tensor: `8x3`, `i64[1, 2]`, `f32(0.5)`, `bool(1)`, `u8[3]`.
fn tensor(name: &str, text: &str) -> Option<TensorProto> {
    let name = name.to_string();
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'x') {
        let dims: Vec<i64> = text.split('x').map(|d| d.parse().unwrap()).collect();
        let values = (0..dims.iter().product()).map(|i: i64| ((i * 37 % 23) - 11) as f32 / 8.0);
        let raw: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        let raw_data = Some(raw.into());
        return Some(TensorProto { name, dims, data_type: F32, raw_data, ..Default::default() });
    }
    let (dtype, rest) = text.split_at(text.find(['[', '('])?);
    if !matches!(dtype, "f32" | "i64" | "bool" | "u8") {
        return None;
    }
    let values: Vec<&str> = list(&rest[1..rest.len() - 1]);
    let dims = if rest.starts_with('[') { vec![values.len() as i64] } else { Vec::new() };
    let raw: Vec<u8> = match dtype {
        "f32" => values.iter().flat_map(|v| v.parse::<f32>().unwrap().to_le_bytes()).collect(),
        "i64" => values.iter().flat_map(|v| v.parse::<i64>().unwrap().to_le_bytes()).collect(),
        _ => values.iter().map(|v| v.parse::<u8>().unwrap()).collect(),
    };
    let (data_type, raw_data) = (element(dtype), Some(raw.into()));
    Some(TensorProto { name, dims, data_type, raw_data, ..Default::default() })
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn node(outputs: &str, text: &str, graphs: &Graphs) -> NodeProto {
    let (head, rest) = text.split_once('(').unwrap();
    let (inputs, attributes) = rest.split_once(')').unwrap();
    let (domain, op_type) = head.rsplit_once("::").unwrap_or(("", head));
    let input = list(inputs).into_iter().map(|name| if name == "_" { "" } else { name }).collect();
    let mut attribute = Vec::new();
    let mut rest = attributes.trim();
    while let Some((name, value)) = rest.split_once('=') {
        let end = match value.as_bytes()[0] {
            b'[' => value.find(']').unwrap() + 1,
            b'{' => value.find('}').unwrap() + 1,
            _ => value.find(' ').unwrap_or(value.len()),
        };
        attribute.push(attribute_from(name, &value[..end], graphs));
        rest = value[end..].trim();
    }
    NodeProto {
        input,
        output: list(outputs).into_iter().collect(),
        op_type: op_type.to_string(),
        domain: domain.to_string(),
        attribute,
        ..NodeProto::default()
    }
}

fn attribute_from(name: &str, value: &str, graphs: &Graphs) -> AttributeProto {
    let mut made = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
    let inner = value.get(1..value.len().max(2) - 1).unwrap_or_default();
    if let Some(name) = value.strip_prefix('@') {
        made.ref_attr_name = name.to_string();
        made.r#type = attribute_type::INT;
    } else if let Some(name) = value.strip_prefix('$') {
        made.g = Some(Box::new(graphs[name].clone()));
        made.r#type = attribute_type::GRAPH;
    } else if value.starts_with('[') {
        let parts = list(inner);
        if parts.iter().any(|part| part.contains('.')) {
            made.floats = parts.iter().map(|part| part.parse().unwrap()).collect();
            made.r#type = attribute_type::FLOATS;
        } else if parts.iter().any(|part| part.starts_with(char::is_alphabetic)) {
            made.strings = parts.iter().map(|part| part.to_string().into()).collect();
            made.r#type = attribute_type::STRINGS;
        } else {
            made.ints = parts.iter().map(|part| part.parse().unwrap()).collect();
            made.r#type = attribute_type::INTS;
        }
    } else if value.starts_with('{') {
        let names: Vec<&str> = inner.split_whitespace().collect();
        let copy = |n: &&str| node(&format!("inner_{n}"), &format!("Identity({n})"), graphs);
        made.g = Some(Box::new(GraphProto {
            node: names.iter().map(copy).collect(),
            output: names.iter().map(|n| info(&format!("inner_{n}"), F32, None)).collect(),
            ..GraphProto::default()
        }));
        made.r#type = attribute_type::GRAPH;
    } else if let Ok(value) = value.parse() {
        made.i = Some(value);
        made.r#type = attribute_type::INT;
    } else if let Ok(value) = value.parse() {
        made.f = Some(value);
        made.r#type = attribute_type::FLOAT;
    } else if let Some(stored) = tensor("", value) {
        made.t = Some(Box::new(stored));
        made.r#type = attribute_type::TENSOR;
    } else {
        made.s = Some(value.trim_matches('"').to_string().into());
        made.r#type = attribute_type::STRING;
    }
    made
}
