//! Reads an ONNX file as a [`Program`].

use std::collections::{BTreeMap, HashMap};

use secateur::onnx::OnnxFile;
use secateur::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use secateur::tensor::TensorView;

use crate::ops::control::If;
use crate::ops::{self, Decode, Op};
use crate::program::at;
use crate::{Block, Error, Program, Result, Slot, Step, Stored};

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
    table: HashMap<&'static str, Decode>,
    functions: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    program: Program,
    steps: usize,
    /// What cannot be run: per operator, why, and the first node.
    refused: BTreeMap<String, String>,
}

/// The program of a file.
///
/// # Errors
/// When it has operators that cannot be run; all of them are named.
pub(crate) fn compile(file: &OnnxFile) -> Result<Program> {
    let proto = file.proto();
    let standard = |domain: &str| matches!(domain, "" | "ai.onnx");
    let opset =
        proto.opset_import.iter().find(|set| standard(&set.domain)).map_or(1, |s| s.version);
    let functions = proto.functions.iter();
    let mut compiler = Compiler {
        file,
        table: ops::ONNX.iter().copied().flatten().copied().collect(),
        functions: functions.map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect(),
        program: Program::default(),
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
        }
    }
    let steps = compiler.body(&graph.node, &mut scope)?;
    if let Some((operator, why)) = compiler.refused.first_key_value() {
        let all: Vec<String> = compiler
            .refused
            .iter()
            .map(|(operator, why)| format!("`{operator}` ({why})"))
            .collect();
        let text = match all.len() {
            1 => format!("the operator `{operator}` cannot be run: {why}"),
            _ => format!("operators that cannot be run: {}", all.join(", ")),
        };
        return Err(Error::unsupported(text));
    }
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

    fn store(&mut self, name: &'a str, view: TensorView, scope: &mut Scope<'a>) {
        let slot = self.define(name, scope);
        let name = self.program.names[slot.index()].clone();
        self.program.stored.push(Stored { name, slot, view });
    }

    fn add_initializers(&mut self, graph: &'a GraphProto, scope: &mut Scope<'a>) -> Result<()> {
        for tensor in &graph.initializer {
            self.store(&tensor.name, self.file.tensor(tensor)?, scope);
        }
        match graph.sparse_initializer.first() {
            None => Ok(()),
            Some(_) => Err(Error::unsupported("running a model with sparse weights")),
        }
    }

    fn body(&mut self, nodes: &'a [NodeProto], scope: &mut Scope<'a>) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for node in nodes {
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
        let mut inputs = inputs.map_err(|error| at(&format!("node `{name}`"), error))?;
        let op = match proto.op_type.as_str() {
            "If" => self.branches(proto, scope, &mut inputs).map(Op::from),
            kind => match self.table.get(kind) {
                None => Err(Error::unsupported("it is not known")),
                Some(decode) => {
                    let node =
                        Node { file: self.file, proto, call: &scope.call, opset: scope.opset };
                    decode(&node)
                }
            },
        };
        let outputs = proto.output.iter();
        let mut outputs: Vec<(&str, Option<Slot>)> = outputs.map(|name| (name, None)).collect();
        for (name, slot) in &mut outputs {
            if !name.is_empty() {
                *slot = Some(self.define_output(proto, name, scope));
            }
        }
        match op {
            Ok(op) => steps.push(Step {
                name,
                kind: proto.op_type.clone(),
                op,
                inputs,
                outputs: outputs.into_iter().map(|(_, slot)| slot).collect(),
            }),
            Err(error) => {
                let operator = match proto.domain.as_str() {
                    "" | "ai.onnx" => proto.op_type.clone(),
                    domain => format!("{domain}.{}", proto.op_type),
                };
                self.refused.entry(operator).or_insert_with(|| format!("{error}, at `{name}`"));
            }
        }
        Ok(())
    }

    fn define_output(&mut self, proto: &'a NodeProto, name: &str, scope: &mut Scope<'a>) -> Slot {
        // The name lives as long as the node.
        let known = proto.output.iter().find(|other| *other == name).unwrap_or_default();
        self.define(known, scope)
    }

    fn constant(&mut self, proto: &'a NodeProto, name: &str, scope: &mut Scope<'a>) -> Result<()> {
        let node = Node { file: self.file, proto, call: &scope.call, opset: scope.opset };
        let mut view = None;
        for attribute in &proto.attribute {
            view = view.or(node.tensor(&attribute.name)?);
        }
        let missing = || Error::unsupported("a constant that is no tensor of numbers");
        let view =
            view.ok_or_else(missing).map_err(|error| at(&format!("node `{name}`"), error))?;
        if let Some(output) = proto.output.first() {
            self.store(output, view, scope);
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
        let standard =
            function.opset_import.iter().find(|set| matches!(&*set.domain, "" | "ai.onnx"));
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
        let outer = self.program.names.len();
        let mut branch = |name: &str| -> Result<Block> {
            let found = proto.attribute.iter().find(|attribute| attribute.name == name);
            let graph = found.and_then(|attribute| attribute.g.as_deref());
            let graph = graph.ok_or_else(|| Error::malformed(format!("it has no `{name}`")))?;
            let mut inner = Scope {
                names: scope.names.clone(),
                call: scope.call.clone(),
                opset: scope.opset,
                path: format!("{}{name}/", scope.path),
                depth: scope.depth + 1,
            };
            self.add_initializers(graph, &mut inner)?;
            let steps = self.body(&graph.node, &mut inner)?;
            let outputs = graph.output.iter().map(|output| inner.slot(&output.name));
            Ok(Block { steps, outputs: outputs.collect::<Result<_>>()? })
        };
        let branches = [branch("then_branch")?, branch("else_branch")?];
        // Stored tensors of the branches are known from the start, like the values around them.
        let stored: Vec<Slot> = self.program.stored.iter().map(|stored| stored.slot).collect();
        let read = |block: &Block| {
            let inputs = block.steps.iter().flat_map(|step| step.inputs.iter().flatten().copied());
            inputs.chain(block.outputs.iter().copied()).collect::<Vec<_>>()
        };
        let mut captures: Vec<Slot> = branches.iter().flat_map(read).collect();
        captures.retain(|slot| slot.index() < outer || stored.contains(slot));
        captures.sort_unstable();
        captures.dedup();
        inputs.extend(captures.iter().map(|&slot| Some(slot)));
        Ok(If { branches, captures, slots: self.program.names.len() })
    }
}
