//! Reads an ONNX file as a [`Program`].

use std::collections::{BTreeMap, HashMap, HashSet};

use secateur::DType;
use secateur::onnx::proto::{self, AttributeProto, FunctionProto, GraphProto, NodeProto};
use secateur::onnx::{OnnxFile, order};
use secateur::tensor::TensorView;

use crate::ops::control::{Graph, If, Loop, Scan};
use crate::ops::{self, Decode, Op};
use crate::program::refusal;
use crate::{Block, Error, Program, Result, Slot, Step, Stored};

/// ONNX's number of an element type.
pub(crate) const UINT8: i32 = 2;
pub(crate) const INT8: i32 = 3;
pub(crate) const UINT16: i32 = 4;
pub(crate) const INT16: i32 = 5;
pub(crate) const INT32: i32 = 6;
pub(crate) const UINT4: i32 = 21;
pub(crate) const INT4: i32 = 22;

/// Functions inside functions, and graphs inside graphs.
const MAX_DEPTH: usize = 32;
/// The most steps of a program, calls of functions spelled out.
const MAX_STEPS: usize = 1 << 20;

/// A node, with the attributes of the function call that it stands in.
pub struct Node<'a> {
    file: &'a OnnxFile,
    proto: &'a NodeProto,
    call: &'a HashMap<&'a str, &'a AttributeProto>,
    /// The version of the standard operator set.
    pub opset: i64,
    /// ONNX's number of every operand's element type, where it is known.
    types: Vec<Option<i32>>,
}

impl<'a> Node<'a> {
    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        let found = self.proto.attribute.iter().find(|attribute| attribute.name == name)?;
        match found.ref_attr_name.is_empty() {
            true => Some(found),
            false => self.call.get(found.ref_attr_name.as_str()).copied(),
        }
    }

    /// Whether an attribute is given.
    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// An integer.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    /// A real number.
    pub fn float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).and_then(|attribute| attribute.f).map_or(default, f64::from)
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|attribute| attribute.ints.clone())
    }

    /// A text.
    pub fn string(&self, name: &str) -> Option<String> {
        let bytes = self.attribute(name)?.s.as_ref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A list of real numbers.
    pub fn floats(&self, name: &str) -> Option<Vec<f64>> {
        let floats = &self.attribute(name)?.floats;
        Some(floats.iter().map(|&value| f64::from(value)).collect())
    }

    /// A list of texts.
    pub fn strings(&self, name: &str) -> Option<Vec<String>> {
        let strings = &self.attribute(name)?.strings;
        Some(strings.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect())
    }

    /// Number of operands, omitted ones counted.
    pub fn inputs(&self) -> usize {
        self.proto.input.len()
    }

    /// Whether operand `index` is given.
    pub fn reads(&self, index: usize) -> bool {
        self.proto.input.get(index).is_some_and(|name| !name.is_empty())
    }

    /// ONNX's number of an operand's element type, where it is known.
    pub fn data_type(&self, index: usize) -> Option<i32> {
        self.types.get(index).copied().flatten()
    }

    /// A tensor, a number or a list of numbers.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Option<TensorView>> {
        Ok(self.attribute(name).map(|found| self.file.constant(found)).transpose()?.flatten())
    }

    /// Number of results, up to the last that has a name.
    pub fn outputs(&self) -> usize {
        self.proto.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
    }
}

/// What names stand for, and what nodes are read with, in one body.
struct Scope<'a> {
    names: HashMap<&'a str, Slot>,
    call: HashMap<&'a str, &'a AttributeProto>,
    opset: i64,
    path: String,
    depth: usize,
}

struct Compiler<'a> {
    file: &'a OnnxFile,
    /// By whether ONNX Runtime adds them, and by name.
    table: HashMap<(bool, &'static str), Decode>,
    functions: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    program: Program,
    /// ONNX's number of every slot's element type, where it is known.
    types: HashMap<Slot, i32>,
    steps: usize,
    /// What cannot be run: per operator, why, and the first node.
    refused: BTreeMap<String, String>,
}

fn table() -> HashMap<(bool, &'static str), Decode> {
    let standard = ops::ONNX.iter().copied().flatten().map(|&(name, decode)| (false, name, decode));
    let added = ops::CONTRIB.iter().copied().flatten().map(|&(name, decode)| (true, name, decode));
    standard.chain(added).map(|(added, name, decode)| ((added, name), decode)).collect()
}

fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// The program of a file.
///
/// # Errors
/// When it has operators that cannot be run; all of them are named.
pub(crate) fn compile(file: &OnnxFile) -> Result<Program> {
    let proto = file.proto();
    let opset =
        proto.opset_import.iter().find(|set| is_standard(&set.domain)).map_or(1, |s| s.version);
    let functions = proto.functions.iter();
    let mut compiler = Compiler {
        file,
        table: table(),
        functions: functions.map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect(),
        program: Program::default(),
        types: HashMap::new(),
        steps: 0,
        refused: BTreeMap::new(),
    };
    let mut scope =
        Scope { names: HashMap::new(), call: HashMap::new(), opset, path: String::new(), depth: 0 };
    let graph = file.graph();
    compiler.add_initializers(graph, &mut scope)?;
    for input in &graph.input {
        if !scope.names.contains_key(input.name.as_str()) {
            let slot = compiler.define(&input.name, &mut scope);
            compiler.program.inputs.push(slot);
            let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
            compiler.types.extend(tensor.map(|tensor| (slot, tensor.elem_type)));
        }
    }
    let steps = compiler.body(&graph.node, &mut scope)?;
    refusal(&compiler.refused)?;
    let outputs =
        graph.output.iter().map(|output| scope.slot(&output.name)).collect::<Result<_>>()?;
    compiler.program.body = Block { steps, outputs };
    Ok(compiler.program)
}

impl Scope<'_> {
    fn slot(&self, name: &str) -> Result<Slot> {
        let unmade = || Error::malformed(format!("`{name}` is read before anything makes it"));
        self.names.get(name).copied().ok_or_else(unmade)
    }
}

impl<'a> Compiler<'a> {
    fn define(&mut self, name: &'a str, scope: &mut Scope<'a>) -> Slot {
        let slot = Slot::new(self.program.names.len());
        self.program.names.push(format!("{}{name}", scope.path));
        scope.names.insert(name, slot);
        slot
    }

    fn store(&mut self, name: &'a str, view: TensorView, kind: i32, scope: &mut Scope<'a>) {
        let slot = self.define(name, scope);
        let name = self.program.names[slot.index()].clone();
        self.types.insert(slot, kind);
        self.program.stored.push(Stored { name, slot, view: readable(view, kind) });
    }

    fn add_initializers(&mut self, graph: &'a GraphProto, scope: &mut Scope<'a>) -> Result<()> {
        for tensor in &graph.initializer {
            self.store(&tensor.name, self.file.tensor(tensor)?, tensor.data_type, scope);
        }
        match graph.sparse_initializer.first() {
            None => Ok(()),
            Some(_) => Err(Error::unsupported("running a model with sparse weights")),
        }
    }

    fn body(&mut self, nodes: &'a [NodeProto], scope: &mut Scope<'a>) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let around: HashSet<&str> = scope.names.keys().copied().collect();
        for index in order(nodes, |_| false, |name| around.contains(name))? {
            let node = &nodes[index as usize];
            self.steps += 1;
            if self.steps > MAX_STEPS || scope.depth > MAX_DEPTH {
                return Err(Error::unsupported("functions that call each other too often"));
            }
            self.node(node, scope, &mut steps)?;
        }
        Ok(steps)
    }

    fn node(
        &mut self,
        proto: &'a NodeProto,
        scope: &mut Scope<'a>,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let name = match proto.name.as_str() {
            "" => proto.output.first().unwrap_or_default(),
            name => name,
        };
        let name = format!("{}{name}", scope.path);
        if let Some(function) = self.functions.get(&(&*proto.domain, &*proto.op_type)) {
            return self.call(proto, function, &name, scope, steps);
        }
        if proto.op_type == "Constant" {
            return self.constant(proto, &name, scope);
        }
        let input = |input: &str| match input {
            "" => Ok(None),
            input => scope.slot(input).map(Some),
        };
        let inputs = proto.input.iter().map(input).collect::<Result<Vec<_>>>();
        let mut inputs = inputs.map_err(|error| error.at(format!("node `{name}`")))?;
        let op = match proto.op_type.as_str() {
            "If" => self.branches(proto, scope, &mut inputs).map(Op::from),
            "Loop" => self.repeat(proto, scope, &mut inputs).map(Op::from),
            "Scan" => self.scan(proto, scope, &mut inputs).map(Op::from),
            _ => self.decode(&self.view(proto, scope, &inputs)),
        };
        let kind = result_type(&self.view(proto, scope, &inputs));
        let outputs = proto.output.iter();
        let mut outputs: Vec<(&str, Option<Slot>)> = outputs.map(|name| (name, None)).collect();
        for (name, slot) in &mut outputs {
            if !name.is_empty() {
                *slot = Some(self.define_output(proto, name, scope));
            }
        }
        let first = outputs.first().and_then(|(_, slot)| *slot);
        self.types.extend(first.zip(kind));
        match op {
            Ok(op) => steps.push(Step {
                name,
                kind: proto.op_type.clone(),
                op,
                inputs,
                outputs: outputs.into_iter().map(|(_, slot)| slot).collect(),
            }),
            Err(error) => {
                let operator = match is_standard(&proto.domain) {
                    true => proto.op_type.clone(),
                    false => format!("{}.{}", proto.domain, proto.op_type),
                };
                self.refused.entry(operator).or_insert_with(|| format!("{error}, at `{name}`"));
            }
        }
        Ok(())
    }

    /// What decoding sees of a node.
    fn view<'b>(
        &self,
        proto: &'b NodeProto,
        scope: &'b Scope<'a>,
        inputs: &[Option<Slot>],
    ) -> Node<'b>
    where
        'a: 'b,
    {
        let types = inputs.iter().map(|slot| self.types.get(&(*slot)?).copied()).collect();
        Node { file: self.file, proto, call: &scope.call, opset: scope.opset, types }
    }

    fn decode(&self, node: &Node<'_>) -> Result<Op> {
        let find = |added| self.table.get(&(added, node.proto.op_type.as_str()));
        let decode = match &*node.proto.domain {
            "com.microsoft" => find(true).or_else(|| find(false)),
            domain if is_standard(domain) => find(false),
            _ => None,
        };
        decode.ok_or_else(|| Error::unsupported("it is not known"))?(node)
    }

    fn define_output(&mut self, proto: &'a NodeProto, name: &str, scope: &mut Scope<'a>) -> Slot {
        // The name lives as long as the node.
        let known = proto.output.iter().find(|other| *other == name).unwrap_or_default();
        self.define(known, scope)
    }

    fn constant(&mut self, proto: &'a NodeProto, name: &str, scope: &mut Scope<'a>) -> Result<()> {
        let node = self.view(proto, scope, &[]);
        let (mut view, mut kind) = (None, None);
        for attribute in &proto.attribute {
            view = view.or(node.tensor(&attribute.name)?);
            let tensor = node.attribute(&attribute.name).and_then(|found| found.t.as_deref());
            kind = kind.or(tensor.map(|tensor| tensor.data_type));
        }
        let missing = || Error::unsupported("a constant that is no tensor of numbers");
        let view = view.ok_or_else(missing).map_err(|error| error.at(format!("node `{name}`")))?;
        if let Some(output) = proto.output.first() {
            let kind = kind.or_else(|| proto::data_type(view.dtype)).unwrap_or(0);
            self.store(output, view, kind, scope);
        }
        Ok(())
    }

    /// The nodes of a function in place of its call.
    fn call(
        &mut self,
        proto: &'a NodeProto,
        function: &'a FunctionProto,
        name: &str,
        scope: &mut Scope<'a>,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let defaults = function.attribute_proto.iter();
        let mut call: HashMap<&str, &AttributeProto> =
            defaults.map(|attribute| (attribute.name.as_str(), attribute)).collect();
        for attribute in &proto.attribute {
            let given = match attribute.ref_attr_name.as_str() {
                "" => Some(attribute),
                outer => scope.call.get(outer).copied(),
            };
            call.extend(given.map(|given| (attribute.name.as_str(), given)));
        }
        let standard = function.opset_import.iter().find(|set| is_standard(&set.domain));
        let mut inner = Scope {
            names: HashMap::new(),
            call,
            opset: standard.map_or(scope.opset, |set| set.version),
            path: format!("{name}/"),
            depth: scope.depth + 1,
        };
        for (formal, actual) in function.input.iter().zip(proto.input.iter()) {
            if !actual.is_empty() {
                inner.names.insert(formal, scope.slot(actual)?);
            }
        }
        steps.extend(self.body(&function.node, &mut inner)?);
        for (formal, actual) in function.output.iter().zip(proto.output.iter()) {
            if !actual.is_empty() {
                scope.names.insert(actual, inner.slot(formal)?);
            }
        }
        Ok(())
    }

    fn branches(
        &mut self,
        proto: &'a NodeProto,
        scope: &mut Scope<'a>,
        inputs: &mut Vec<Option<Slot>>,
    ) -> Result<If> {
        let branches =
            [self.graph(proto, "then_branch", scope)?, self.graph(proto, "else_branch", scope)?];
        branches.iter().for_each(|graph| inputs.extend(graph.captures.iter().copied().map(Some)));
        Ok(If { branches })
    }

    fn repeat(
        &mut self,
        proto: &'a NodeProto,
        scope: &mut Scope<'a>,
        inputs: &mut Vec<Option<Slot>>,
    ) -> Result<Loop> {
        let (body, carried) = (self.graph(proto, "body", scope)?, inputs.len().saturating_sub(2));
        if body.formals.len() != carried + 2 || body.block.outputs.len() <= carried {
            return Err(Error::malformed("its graph does not fit its operands"));
        }
        inputs.resize(carried + 2, None);
        inputs.extend(body.captures.iter().copied().map(Some));
        Ok(Loop { body, carried })
    }

    fn scan(
        &mut self,
        proto: &'a NodeProto,
        scope: &mut Scope<'a>,
        inputs: &mut Vec<Option<Slot>>,
    ) -> Result<Scan> {
        if scope.opset < 9 {
            return Err(Error::unsupported("scans before opset 9"));
        }
        let body = self.graph(proto, "body", scope)?;
        let node = self.view(proto, scope, inputs);
        let scanned = usize::try_from(node.int("num_scan_inputs", 0)).unwrap_or(usize::MAX);
        let carried = inputs.len().checked_sub(scanned);
        let fits = |&n: &usize| {
            body.formals.len() == inputs.len() && body.block.outputs.len() >= n && scanned > 0
        };
        let carried = carried.filter(fits);
        let carried = carried.ok_or_else(|| Error::malformed("its graph does not fit"))?;
        let list = |name: &str| node.ints(name).unwrap_or_default();
        let lists = ["axes", "directions"]
            .map(|end| ["input", "output"].map(|side| list(&format!("scan_{side}_{end}"))));
        let [axes, directions] = lists;
        inputs.extend(body.captures.iter().copied().map(Some));
        Ok(Scan { body, carried, axes, directions })
    }

    /// A graph inside a node, and what it reads of the graph around it.
    fn graph(&mut self, proto: &'a NodeProto, name: &str, scope: &Scope<'a>) -> Result<Graph> {
        let found = proto.attribute.iter().find(|attribute| attribute.name == name);
        let graph = found.and_then(|attribute| attribute.g.as_deref());
        let graph = graph.ok_or_else(|| Error::malformed(format!("it has no `{name}`")))?;
        let outer = self.program.names.len();
        let mut inner = Scope {
            names: scope.names.clone(),
            call: scope.call.clone(),
            opset: scope.opset,
            path: format!("{}{name}/", scope.path),
            depth: scope.depth + 1,
        };
        self.add_initializers(graph, &mut inner)?;
        let formals = graph.input.iter().map(|input| self.define(&input.name, &mut inner));
        let formals = formals.collect();
        let steps = self.body(&graph.node, &mut inner)?;
        let outputs = graph.output.iter().map(|output| inner.slot(&output.name));
        let block = Block { steps, outputs: outputs.collect::<Result<_>>()? };
        let captures = self.captures(&block, outer);
        Ok(Graph { block, formals, captures, slots: self.program.names.len() })
    }

    /// What a block reads that stands around it. Stored tensors of the block itself are known from
    /// the start, like the values around it.
    fn captures(&self, block: &Block, outer: usize) -> Vec<Slot> {
        let stored: HashSet<Slot> = self.program.stored.iter().map(|stored| stored.slot).collect();
        let inputs = block.steps.iter().flat_map(|step| step.inputs.iter().flatten().copied());
        let mut captures: Vec<Slot> = inputs.chain(block.outputs.iter().copied()).collect();
        captures.retain(|slot| slot.index() < outer || stored.contains(slot));
        captures.sort_unstable();
        captures.dedup();
        captures
    }
}

/// ONNX's number of the first result's element type, where that is easily told.
fn result_type(node: &Node<'_>) -> Option<i32> {
    match node.proto.op_type.as_str() {
        "Cast" => i32::try_from(node.int("to", 0)).ok(),
        "DynamicQuantizeLinear" => Some(UINT8),
        "QuantizeLinear" => node.data_type(2).or(Some(UINT8)),
        "CastLike" => node.data_type(1),
        "Where" => node.data_type(1),
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(proto::INT64),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "IsNaN" | "IsInf" => None,
        _ => node.data_type(0),
    }
}

/// A stored tensor in a type whose numbers can be read: those of 4 bits in bytes, floats of 8 bits
/// in 32.
fn readable(view: TensorView, kind: i32) -> TensorView {
    let number: fn(i64) -> f32 = match kind {
        17 => |code| float8(code, 4, 7, NegativeZero::Zero),
        18 => |code| float8(code, 4, 8, NegativeZero::NoNumber),
        19 => |code| float8(code, 5, 15, NegativeZero::Zero),
        20 => |code| float8(code, 5, 16, NegativeZero::NoNumber),
        UINT4 | INT4 => return unpacked(view, kind),
        _ => return view,
    };
    let Some(codes) = view.to_codes() else { return view };
    let bytes: Vec<u8> = codes.into_iter().flat_map(|code| number(code).to_le_bytes()).collect();
    let floats = TensorView::new(DType::F32, view.dims.clone(), bytes.into());
    floats.unwrap_or(view)
}

fn unpacked(view: TensorView, kind: i32) -> TensorView {
    let signed = kind == INT4;
    let Some(codes) = view.to_codes() else { return view };
    let wide = |code: i64| if signed && code > 7 { code - 16 } else { code } as i8 as u8;
    let bytes: Vec<u8> = codes.into_iter().map(wide).collect();
    let dtype = if signed { DType::I8 } else { DType::U8 };
    TensorView::new(dtype, view.dims.clone(), bytes.into()).unwrap_or(view)
}

/// What the code of the negative zero stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NegativeZero {
    /// Zero; other codes stand for what is no number.
    Zero,
    /// What is no number, and nothing else does.
    NoNumber,
}

/// A float of 8 bits with so many bits of exponent.
fn float8(code: i64, exponent_bits: u32, bias: i32, zero: NegativeZero) -> f32 {
    let signed_zero = zero == NegativeZero::Zero;
    let fraction_bits = 7 - exponent_bits;
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let (fraction, top) = (code & ((1 << fraction_bits) - 1), (1 << exponent_bits) - 1);
    let exponent = (code >> fraction_bits) & top;
    let last = exponent == top && signed_zero;
    if !signed_zero && code == 0x80 || last && exponent_bits == 4 && fraction == 7 {
        return f32::NAN;
    }
    if last && exponent_bits == 5 {
        return if fraction == 0 { sign * f32::INFINITY } else { f32::NAN };
    }
    let share = fraction as f32 / (1_i64 << fraction_bits) as f32;
    match exponent {
        0 => sign * share * 2.0_f32.powi(1 - bias),
        _ => sign * (1.0 + share) * 2.0_f32.powi(exponent as i32 - bias),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_of_the_core_is_known() {
        let table = table();
        let known = secateur::onnx::known_operators().into_iter();
        let missing: Vec<&str> = known.filter(|name| !table.contains_key(&(false, name))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn floats_of_8_bits_are_read() {
        use NegativeZero::{NoNumber, Zero};
        let numbers =
            |bits, bias, zeros| [0x38, 0x01, 0x7e, 0xc0].map(|c| float8(c, bits, bias, zeros));
        assert_eq!(numbers(4, 7, Zero), [1.0, 0.001953125, 448.0, -2.0]);
        assert_eq!(numbers(4, 8, NoNumber), [0.5, 0.0009765625, 224.0, -1.0]);
        assert_eq!(numbers(5, 15, Zero)[..2], [0.5, 1.0 / 65536.0]);
        assert!(float8(0x7f, 4, 7, Zero).is_nan() && float8(0x80, 5, 16, NoNumber).is_nan());
        assert_eq!(float8(0x7c, 5, 15, Zero), f32::INFINITY);
    }
}
