//! PyTorch programs from text, one line per name, for tests.
//!
//! ```text
//! x: n2x3x8x8                      an input; `n2` is the symbol `n`, which is 2 in the example
//! ids: i64 2x6                     an input of another element type; `scalar` has no axes
//! k: sym n2                        an integer input
//! w = 8x3x3x3                      a stored tensor with generated values
//! h = f16 8x3                      one of another element type
//! t = 8x3 order 1 0                its axes in memory, from the outermost
//! u = w                            another name of the same tensor
//! p = 2x3 in w at 6                a view of another tensor's memory
//! y: 2x8x6x6 = aten.conv2d.default(input=x, weight=w, stride=[1,1])
//! a: 2x4, b: 2x4 = aten.unbind.int(self=y, dim=0)
//! [a: 2x4, b: 2x4] = aten.chunk.default(self=y, chunks=2, dim=1)
//! m: sym 4*n2 = _operator.mul(a=k, b=4)
//! z: 2x4 = wrap_with_set_grad_enabled(true, $inner, y)
//! -> z                             the outputs; `z > w` is written into a stored tensor
//!
//! graph inner(v: 2x4)              up to its outputs, a graph for an argument
//! ```
//!
//! Arguments are integers, floats, flags, `'texts'`, `None`, names, and lists of these.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use serde_json::{Map, Value as Json, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The name of an archive's entry, and what it holds.
pub type Entry = (String, Vec<u8>);

/// The archive as a file's bytes.
pub fn encode(text: &str) -> Vec<u8> {
    pack(&entries(text))
}

/// The entries of the archive: the program, and what it stores.
pub fn entries(text: &str) -> Vec<Entry> {
    let program = Program::read(text);
    let mut entries: Vec<Entry> = Vec::new();
    let mut add = |name: &str, content: Vec<u8>| entries.push((format!("m/{name}"), content));
    for (path, content) in &program.contents {
        add(&format!("data/weights/{path}"), content.clone());
    }
    let config = json!({ "config": program.config });
    add("data/weights/model_weights_config.json", config.to_string().into());
    add("data/constants/model_constants_config.json", br#"{"config": {}}"#.to_vec());
    add("models/model.json", program.json().to_string().into());
    add("byteorder", b"little".to_vec());
    entries
}

/// The text of the program alone.
pub fn json(text: &str) -> String {
    Program::read(text).json().to_string()
}

/// An archive as PyTorch writes it.
pub fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let options = stored.with_alignment(64);
    for (name, content) in entries {
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[derive(Default)]
struct Program {
    config: Map<String, Json>,
    contents: BTreeMap<String, Vec<u8>>,
    inputs: Vec<Json>,
    outputs: Vec<Json>,
    graph: Graph,
}

#[derive(Default)]
struct Graph {
    inputs: Vec<Json>,
    outputs: Vec<Json>,
    nodes: Vec<Json>,
    tensors: Map<String, Json>,
    numbers: Map<String, Json>,
}

impl Program {
    fn read(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<&str> = lines.collect();
        let is_graph = |line: &&&str| line.starts_with("graph ");
        let main = lines.iter().take_while(|line| !is_graph(line)).count();
        let inner: Vec<(String, Json)> = lines[main..]
            .chunk_by(|_, line| !line.starts_with("graph "))
            .map(inner_graph)
            .collect();
        let mut program = Program::default();
        for line in &lines[..main] {
            program.add(line, &inner);
        }
        program
    }

    fn add(&mut self, line: &str, inner: &[(String, Json)]) {
        if let Some(outputs) = line.strip_prefix("-> ") {
            outputs.split(", ").for_each(|output| self.add_output(output));
        } else if let Some((made, call)) =
            line.split_once(" = ").filter(|made| made.1.contains('('))
        {
            self.graph.add_node(made, call, inner);
        } else if let Some((name, stored)) = line.split_once(" = ") {
            self.add_stored(name, stored);
        } else {
            let argument = self.graph.declare(line);
            self.graph.inputs.push(argument.clone());
            self.inputs.push(json!({ "user_input": { "arg": argument } }));
        }
    }

    fn add_output(&mut self, output: &str) {
        let (name, into) = output.split_once(" > ").unwrap_or((output, ""));
        let argument = self.graph.name(name);
        self.graph.outputs.push(argument.clone());
        self.outputs.push(match into {
            "" => json!({ "user_output": { "arg": argument } }),
            _ => json!({ "buffer_mutation": { "arg": { "name": name }, "buffer_name": into } }),
        });
    }

    fn add_stored(&mut self, name: &str, stored: &str) {
        let payload = match self.config.get(stored) {
            Some(same) => same.clone(),
            None => self.payload(name, stored),
        };
        let meta = payload["tensor_meta"].clone();
        self.config.insert(name.to_string(), payload);
        self.graph.tensors.insert(name.to_string(), meta);
        let argument = json!({ "as_tensor": { "name": name } });
        self.graph.inputs.push(argument.clone());
        let spec = json!({ "arg": { "name": name }, "parameter_name": name });
        self.inputs.push(json!({ "parameter": spec }));
    }

    fn payload(&mut self, name: &str, stored: &str) -> Json {
        let (stored, view) = stored.split_once(" in ").unwrap_or((stored, ""));
        let (shape, order) = stored.split_once(" order ").unwrap_or((stored, ""));
        let mut meta = meta(shape);
        let sizes: Vec<i64> = values(&meta["sizes"]);
        let order: Vec<usize> = match order {
            "" => (0..sizes.len()).collect(),
            order => order.split(' ').map(|axis| axis.parse().unwrap()).collect(),
        };
        let mut step = 1;
        for &axis in order.iter().rev() {
            meta["strides"][axis] = json!({ "as_int": step });
            step *= sizes[axis];
        }
        let path = match view.split_once(" at ") {
            Some((other, offset)) => {
                meta["storage_offset"] = json!({ "as_int": offset.parse::<i64>().unwrap() });
                self.config[other]["path_name"].as_str().unwrap().to_string()
            }
            None => {
                let path = format!("weight_{}", self.contents.len());
                let content = content(meta["dtype"].as_i64().unwrap(), step, name);
                self.contents.insert(path.clone(), content);
                path
            }
        };
        json!({ "path_name": path, "is_param": true, "use_pickle": false, "tensor_meta": meta })
    }

    fn json(&self) -> Json {
        let signature = json!({ "input_specs": self.inputs, "output_specs": self.outputs });
        json!({
            "graph_module": { "graph": self.graph.json(), "signature": signature },
            "opset_version": { "aten": 10 },
            "range_constraints": {},
            "schema_version": { "major": 8, "minor": 1 },
            "torch_version": "2.15.0",
        })
    }
}

fn inner_graph(lines: &[&str]) -> (String, Json) {
    let (name, inputs) = lines[0]["graph ".len()..].split_once('(').unwrap();
    let mut graph = Graph::default();
    for input in inputs.trim_end_matches(')').split(", ") {
        let argument = graph.declare(input);
        graph.inputs.push(argument);
    }
    for line in &lines[1..] {
        if let Some(outputs) = line.strip_prefix("-> ") {
            graph.outputs = outputs.split(", ").map(|name| graph.name(name)).collect();
        } else {
            let (made, call) = line.split_once(" = ").unwrap();
            graph.add_node(made, call, &[]);
        }
    }
    (name.to_string(), json!({ "as_graph": { "name": name, "graph": graph.json() } }))
}

impl Graph {
    fn json(&self) -> Json {
        json!({
            "inputs": self.inputs, "outputs": self.outputs, "nodes": self.nodes,
            "tensor_values": self.tensors, "sym_int_values": self.numbers,
            "sym_bool_values": {}, "is_single_tensor_return": false,
        })
    }

    /// Declares `name: shape`, or only names something.
    fn declare(&mut self, text: &str) -> Json {
        let Some((name, shape)) = text.split_once(": ") else { return self.name(text) };
        match shape.strip_prefix("sym ") {
            Some(number) => drop(self.numbers.insert(name.into(), size(&parse_size(number)))),
            None => drop(self.tensors.insert(name.into(), meta(shape))),
        }
        self.name(name)
    }

    fn name(&self, name: &str) -> Json {
        match self.numbers.contains_key(name) {
            true => json!({ "as_sym_int": { "as_name": name } }),
            false => json!({ "as_tensor": { "name": name } }),
        }
    }

    fn add_node(&mut self, made: &str, call: &str, inner: &[(String, Json)]) {
        let (target, arguments) = call.split_once('(').unwrap();
        let arguments = arguments.strip_suffix(')').unwrap();
        let inputs: Vec<Json> = split(arguments)
            .into_iter()
            .map(|argument| {
                let (name, value) = argument.split_once('=').unwrap_or(("", argument));
                json!({ "name": name, "arg": self.argument(value, inner), "kind": 1 })
            })
            .collect();
        let listed = made.strip_prefix('[').and_then(|made| made.strip_suffix(']'));
        let results: Vec<Json> =
            split(listed.unwrap_or(made)).into_iter().map(|made| self.declare(made)).collect();
        let outputs = match listed {
            Some(_) => {
                let names: Vec<&Json> = results.iter().map(|made| &made["as_tensor"]).collect();
                vec![json!({ "as_tensors": names })]
            }
            None => results,
        };
        let name = made.trim_start_matches('[').split([':', ',', ']']).next();
        let prefix = match target.split_once('.') {
            Some(("_operator" | "torch", _)) => "",
            Some(_) => "torch.ops.",
            None => "torch.ops.higher_order.",
        };
        let code = format!("File \"model.py\", line 7, in forward\n    {call}");
        self.nodes.push(json!({
            "target": format!("{prefix}{target}"), "inputs": inputs, "outputs": outputs,
            "metadata": { "stack_trace": code }, "name": name,
        }));
    }

    fn argument(&self, text: &str, inner: &[(String, Json)]) -> Json {
        if let Some(listed) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return self.list(&split(listed));
        }
        if let Some(text) = text.strip_prefix('\'') {
            return json!({ "as_string": text.trim_end_matches('\'') });
        }
        if let Some(name) = text.strip_prefix('$') {
            return inner.iter().find(|graph| graph.0 == name).unwrap().1.clone();
        }
        match text {
            "None" => json!({ "as_none": true }),
            "true" | "false" => json!({ "as_bool": text == "true" }),
            _ => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(int), _) => json!({ "as_int": int }),
                (_, Ok(float)) => json!({ "as_float": float }),
                _ => self.name(text),
            },
        }
    }

    fn list(&self, parts: &[&str]) -> Json {
        let ints: Result<Vec<i64>, _> = parts.iter().map(|part| part.parse::<i64>()).collect();
        if let Ok(ints) = ints {
            return json!({ "as_ints": ints });
        }
        if parts.iter().any(|part| self.numbers.contains_key(*part)) {
            let int = |part: &&str| match part.parse::<i64>() {
                Ok(int) => json!({ "as_int": int }),
                Err(_) => json!({ "as_name": part }),
            };
            return json!({ "as_sym_ints": parts.iter().map(int).collect::<Vec<Json>>() });
        }
        if parts.contains(&"None") {
            let one = |part: &&str| self.argument(part, &[]);
            return json!({ "as_optional_tensors": parts.iter().map(one).collect::<Vec<Json>>() });
        }
        let named = |part: &&str| json!({ "name": part });
        json!({ "as_tensors": parts.iter().map(named).collect::<Vec<Json>>() })
    }
}

/// The parts between commas outside of brackets and quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut quoted) = (0, false);
    let outside = |c: char| {
        quoted ^= c == '\'';
        depth += i32::from(c == '[' || c == '(') - i32::from(c == ']' || c == ')');
        c == ',' && depth == 0 && !quoted
    };
    text.split(outside).map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// A product of a number and symbols, of which each has a value.
#[derive(Clone)]
struct Size {
    number: i64,
    symbols: Vec<(char, i64)>,
}

impl Size {
    fn times(&self, other: &Size) -> Size {
        let symbols = [&self.symbols[..], &other.symbols].concat();
        Size { number: self.number.saturating_mul(other.number), symbols }
    }
}

fn parse_size(text: &str) -> Size {
    let mut size = Size { number: 1, symbols: Vec::new() };
    for part in text.split('*') {
        match part.strip_prefix(|c: char| c.is_ascii_lowercase()) {
            Some(hint) => {
                let symbol = part.chars().next().unwrap();
                size.symbols.push((symbol, hint.parse().unwrap()));
            }
            None => size.number *= part.parse::<i64>().unwrap(),
        }
    }
    size
}

fn size(size: &Size) -> Json {
    let value = size.symbols.iter().fold(size.number, |all, &(_, hint)| all.saturating_mul(hint));
    if size.symbols.is_empty() {
        return json!({ "as_int": value });
    }
    let spelled =
        |&(name, _): &(char, i64)| format!("Symbol('{name}', positive=True, integer=True)");
    let mut parts: Vec<String> = size.symbols.iter().map(spelled).collect();
    if size.number != 1 {
        parts.insert(0, format!("Integer({})", size.number));
    }
    let spelled = match &parts[..] {
        [one] => one.clone(),
        parts => format!("Mul({})", parts.join(", ")),
    };
    json!({ "as_expr": { "expr_str": spelled, "hint": { "as_int": value } } })
}

fn values(sizes: &Json) -> Vec<i64> {
    sizes.as_array().unwrap().iter().map(|size| size["as_int"].as_i64().unwrap()).collect()
}

/// What is known of a tensor: `i64 2x6`, row-major.
fn meta(text: &str) -> Json {
    let (kind, shape) = text.split_once(' ').unwrap_or(("f32", text));
    let dtype = match kind {
        "u8" => 1,
        "i64" => 5,
        "f16" => 6,
        "f32" => 7,
        "f64" => 8,
        "bool" => 12,
        "bf16" => 13,
        kind => panic!("`{kind}` is no element type"),
    };
    let axes = if shape == "scalar" { Vec::new() } else { shape.split('x').collect() };
    let axes: Vec<Size> = axes.into_iter().map(parse_size).collect();
    let mut step = Size { number: 1, symbols: Vec::new() };
    let mut strides = Vec::new();
    for axis in axes.iter().rev() {
        strides.insert(0, size(&step));
        step = step.times(axis);
    }
    json!({
        "dtype": dtype, "sizes": axes.iter().map(size).collect::<Vec<Json>>(),
        "requires_grad": false, "device": { "type": "cpu", "index": null }, "strides": strides,
        "storage_offset": { "as_int": 0 }, "layout": 7,
    })
}

/// Small numbers that differ, and differ between names.
fn content(dtype: i64, count: i64, name: &str) -> Vec<u8> {
    let salt: i64 = name.bytes().map(i64::from).sum();
    let number = |index: i64| ((index * 37 + salt) % 101 - 50) as f32 / 64.0;
    let bytes = |index: i64| match dtype {
        5 => index.to_le_bytes().to_vec(),
        6 => half::f16::from_f32(number(index)).to_le_bytes().to_vec(),
        8 => f64::from(number(index)).to_le_bytes().to_vec(),
        13 => half::bf16::from_f32(number(index)).to_le_bytes().to_vec(),
        1 | 12 => vec![(index % 2) as u8],
        _ => number(index).to_le_bytes().to_vec(),
    };
    (0..count).flat_map(bytes).collect()
}
