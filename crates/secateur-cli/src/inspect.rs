//! `inspect`: what is in a model.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use secateur::graph::{Extent, Value, ValueId};
use secateur::onnx::OnnxFile;
use secateur::onnx::proto::{Extent as Declared, ValueInfoProto};
use secateur::torch::TorchFile;
use secateur::{Model, Result, Source};
use serde::Serialize;

use crate::number;
use crate::output::Output;
use crate::source;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  secateur inspect model.onnx
  secateur inspect model.onnx --shape input=8x3x640x640    MACs of a batch of 8 larger images
  secateur inspect model.onnx --json | jq .macs";

/// Show inputs, outputs, size, MACs and operators of a model.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    #[command(flatten)]
    source: source::Source,
}

/// What is in a model.
#[derive(Serialize)]
struct Inspection {
    format: &'static str,
    producer: String,
    ir_version: Option<i64>,
    opset: BTreeMap<String, i64>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    parameters: u64,
    macs: u64,
    bytes: u64,
    data_files: Vec<String>,
    operators: BTreeMap<String, usize>,
    opaque: Vec<String>,
}

/// An input or output.
#[derive(Serialize)]
struct Tensor {
    name: String,
    dtype: Option<String>,
    shape: Option<Vec<Size>>,
    /// The sizes that analysis works with.
    analyzed: Option<Vec<usize>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Size {
    Fixed(u64),
    Symbol(String),
    Open,
}

/// Inspects a model.
pub fn run(args: &Inspect) -> Result<Output> {
    let model = args.source.open()?;
    let inspection = inspect(&model);
    if args.source.json {
        return Output::json(&inspection);
    }
    Ok(Output::text(text(&model, &inspection)))
}

fn inspect(model: &Model) -> Inspection {
    let footprint = model.cost().now();
    let origin = match model.source() {
        Source::Onnx(file, _) => onnx_origin(file),
        Source::Torch(file, _) => torch_origin(file),
        Source::Program(..) => Origin::default(),
    };
    Inspection {
        format: model.source().format(),
        producer: origin.producer,
        ir_version: origin.ir_version,
        opset: origin.opset,
        inputs: tensors(model, &model.graph().inputs, origin.inputs),
        outputs: tensors(model, &model.graph().outputs, origin.outputs),
        parameters: footprint.parameters,
        macs: footprint.macs,
        bytes: model.byte_size(),
        data_files: model.data_files().into_iter().map(str::to_string).collect(),
        operators: origin.operators,
        opaque: model.graph().warnings.clone(),
    }
}

/// What a file says of itself.
#[derive(Default)]
struct Origin<'a> {
    producer: String,
    ir_version: Option<i64>,
    opset: BTreeMap<String, i64>,
    operators: BTreeMap<String, usize>,
    inputs: &'a [ValueInfoProto],
    outputs: &'a [ValueInfoProto],
}

fn onnx_origin(file: &OnnxFile) -> Origin<'_> {
    let (proto, graph) = (file.proto(), file.graph());
    let mut operators = BTreeMap::new();
    for node in &graph.node {
        *operators.entry(full_name(&node.domain, &node.op_type)).or_default() += 1;
    }
    let producer = format!("{} {}", proto.producer_name, proto.producer_version);
    let opset = proto.opset_import.iter().map(|opset| {
        let domain = if opset.domain.is_empty() { "ai.onnx" } else { &opset.domain };
        (domain.to_string(), opset.version)
    });
    Origin {
        producer: producer.trim().to_string(),
        ir_version: proto.ir_version,
        opset: opset.collect(),
        operators,
        inputs: &graph.input,
        outputs: &graph.output,
    }
}

fn torch_origin(file: &TorchFile) -> Origin<'_> {
    let mut operators = BTreeMap::new();
    for operator in file.operators() {
        *operators.entry(operator.to_string()).or_default() += 1;
    }
    let producer = format!("PyTorch {}", file.torch_version());
    Origin { producer, operators, ..Origin::default() }
}

fn full_name(domain: &str, operator: &str) -> String {
    match domain {
        "" | "ai.onnx" => operator.to_string(),
        _ => format!("{domain}::{operator}"),
    }
}

fn tensors(model: &Model, values: &[ValueId], declared: &[ValueInfoProto]) -> Vec<Tensor> {
    let tensor = |&id: &ValueId| {
        let value = model.graph().value(id);
        tensor(value, declared.iter().find(|info| info.name == value.name))
    };
    values.iter().map(tensor).collect()
}

fn tensor(value: &Value, declared: Option<&ValueInfoProto>) -> Tensor {
    let extents = value.shape.as_deref();
    let info = declared.and_then(|info| info.r#type.as_ref()?.tensor_type.as_ref());
    let dims = info.and_then(|info| Some(&info.shape.as_ref()?.dim));
    let shape =
        dims.map(|dims| dims.iter().map(|dim| Size::declared(dim.extent.as_ref())).collect());
    let dtype = info.and_then(|info| secateur::onnx::proto::dtype(info.elem_type)).or(value.dtype);
    Tensor {
        name: value.name.clone(),
        dtype: dtype.map(|dtype| dtype.to_string()),
        shape: shape.or_else(|| Some(extents?.iter().map(Size::inferred).collect())),
        analyzed: extents.map(|extents| extents.iter().map(|extent| extent.size).collect()),
    }
}

impl Size {
    fn declared(extent: Option<&Declared>) -> Size {
        match extent {
            Some(&Declared::Value(size)) => Size::Fixed(size.max(0) as u64),
            Some(Declared::Param(name)) if !name.is_empty() => Size::Symbol(name.clone()),
            _ => Size::Open,
        }
    }

    fn inferred(extent: &Extent) -> Size {
        if extent.is_open() { Size::Open } else { Size::Fixed(extent.size as u64) }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Size::Fixed(size) => write!(f, "{size}"),
            Size::Symbol(name) => f.write_str(name),
            Size::Open => f.write_str("?"),
        }
    }
}

impl Tensor {
    fn shape(&self) -> String {
        match &self.shape {
            None => "unknown".to_string(),
            Some(sizes) => {
                let sizes: Vec<_> = sizes.iter().map(Size::to_string).collect();
                format!("[{}]", sizes.join(", "))
            }
        }
    }
}

fn text(model: &Model, inspection: &Inspection) -> String {
    let mut text = facts(model, inspection);
    push_tensors(&mut text, "Inputs", &inspection.inputs);
    push_tensors(&mut text, "Outputs", &inspection.outputs);
    let _ = writeln!(text, "\nOperators");
    let mut operators: Vec<_> = inspection.operators.iter().collect();
    operators.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let mut rows = table::plain();
    rows.add_rows(operators.into_iter().map(|(name, count)| [count.to_string(), name.clone()]));
    table::align(&mut rows, [Align::Right, Align::Left].into_iter());
    table::push(&mut text, &mut rows, 2);
    if !inspection.opaque.is_empty() {
        let _ = writeln!(text, "\nNot understood");
        for warning in &inspection.opaque {
            let _ = writeln!(text, "  {warning}");
        }
    }
    text
}

fn facts(model: &Model, inspection: &Inspection) -> String {
    let assumed = source::assumed(model);
    let macs = match assumed.is_empty() {
        true => number::count(inspection.macs),
        false if model.guessed().is_empty() => {
            format!("{} at {assumed}", number::count(inspection.macs))
        }
        false => {
            format!("{} at {assumed} (--shape gives other sizes)", number::count(inspection.macs))
        }
    };
    let bytes = match inspection.data_files.as_slice() {
        [] => number::bytes(inspection.bytes),
        files => format!("{} with `{}`", number::bytes(inspection.bytes), files.join("`, `")),
    };
    let mut rows = table::plain();
    rows.add_row(["format", &format_line(inspection)]);
    if !inspection.producer.is_empty() {
        rows.add_row(["producer", &inspection.producer]);
    }
    rows.add_row(["parameters", &number::count(inspection.parameters)]);
    rows.add_row(["MACs", &macs]);
    rows.add_row(["size", &bytes]);
    let mut text = String::new();
    table::push(&mut text, &mut rows, 0);
    text
}

fn format_line(inspection: &Inspection) -> String {
    if inspection.opset.is_empty() {
        return "PyTorch program".to_string();
    }
    let opset = |(domain, version): (&String, &i64)| match domain.as_str() {
        "ai.onnx" => version.to_string(),
        _ => format!("{domain} {version}"),
    };
    let opsets: Vec<String> = inspection.opset.iter().map(opset).collect();
    let ir = inspection.ir_version.map(|version| format!(", IR version {version}"));
    format!("ONNX, opset {}{}", opsets.join(", "), ir.unwrap_or_default())
}

fn push_tensors(text: &mut String, title: &str, tensors: &[Tensor]) {
    let _ = writeln!(text, "\n{title}");
    if tensors.is_empty() {
        let _ = writeln!(text, "  none");
        return;
    }
    let mut rows = table::plain();
    for tensor in tensors {
        let dtype = tensor.dtype.clone().unwrap_or_default();
        rows.add_row([tensor.name.clone(), dtype, tensor.shape()]);
    }
    table::push(text, &mut rows, 2);
}
