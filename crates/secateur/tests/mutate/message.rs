//! Changes of messages: they mostly break what a graph means.

use bytes::Bytes;
use secateur::onnx::known_operators;
use secateur::onnx::proto::{
    AttributeProto, Dimension, Extent, FunctionProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    ValueInfoProto, attribute_type,
};

use super::bases::Bases;
use super::random::Random;

pub type Change = fn(&mut ModelProto, &Bases, &mut Random);

/// All changes.
pub const KINDS: &[(&str, Change)] = &[
    ("size of an input", |model, _, random| {
        change_shape(random.pick_mut(&mut graph(model).input), random);
    }),
    ("size of a value", |model, _, random| {
        change_shape(random.pick_mut(&mut graph(model).value_info), random);
    }),
    ("size of an output", |model, _, random| {
        change_shape(random.pick_mut(&mut graph(model).output), random);
    }),
    ("type of a value", change_type),
    ("contradicting value", add_contradiction),
    ("size of a tensor", |model, _, random| {
        let dim = |tensor: &mut TensorProto, random: &mut Random| {
            let number = random.number();
            set(random.pick_mut(&mut tensor.dims), number);
        };
        on_tensor(model, random, dim);
    }),
    ("axes of a tensor", |model, _, random| on_tensor(model, random, change_axes)),
    ("tensor of no elements", |model, _, random| on_tensor(model, random, empty)),
    ("length of a tensor", |model, _, random| on_tensor(model, random, change_length)),
    ("resized tensor", |model, _, random| on_tensor(model, random, resize)),
    ("element type of a tensor", |model, _, random| {
        on_tensor(model, random, |tensor, random| tensor.data_type = random.below(30) as i32);
    }),
    ("numbers of a tensor", |model, _, random| on_tensor(model, random, change_numbers)),
    ("field of a tensor", |model, _, random| on_tensor(model, random, change_field)),
    ("external tensor", |model, _, random| on_tensor(model, random, make_external)),
    ("string tensor", |model, _, random| {
        on_tensor(model, random, |tensor, _| {
            (tensor.data_type, tensor.raw_data) = (8, None);
            tensor.string_data = vec![Bytes::from_static(b"text"); 3];
        });
    }),
    ("sparse tensor", add_sparse),
    ("operator", |model, _, random| {
        let known = known_operators();
        let Some(&kind) = random.pick(&known) else { return };
        on_node(model, random, |node, _| node.op_type = kind.to_string());
    }),
    ("operator of another node", |model, _, random| {
        let kinds: Vec<String> = graph(model).node.iter().map(|n| n.op_type.clone()).collect();
        let Some(kind) = random.pick(&kinds).cloned() else { return };
        on_node(model, random, |node, _| node.op_type = kind);
    }),
    ("domain", |model, _, random| {
        on_node(model, random, |node, random| {
            const DOMAINS: [&str; 4] = ["", "ai.onnx", "com.microsoft", "my.domain"];
            node.domain = DOMAINS[random.below(DOMAINS.len())].to_string();
        });
    }),
    ("missing input", |model, _, random| {
        on_node(model, random, |node, _| drop(node.input.edit(Vec::pop)))
    }),
    ("omitted input", |model, _, random| {
        on_node(model, random, |node, random| {
            node.input.edit(|names| random.pick_mut(names).into_iter().for_each(String::clear));
        });
    }),
    ("other input", |model, _, random| {
        let name = any_name(model, random);
        on_node(model, random, |node, random| {
            node.input.edit(|names| set(random.pick_mut(names), name));
        });
    }),
    ("further input", |model, _, random| {
        let name = any_name(model, random);
        on_node(model, random, |node, _| node.input.push(&name));
    }),
    ("dangling input", |model, _, random| {
        on_node(model, random, |node, random| {
            node.input
                .edit(|names| random.pick_mut(names).into_iter().for_each(|name| name.push('?')));
        });
    }),
    ("node that reads itself", |model, _, random| {
        on_node(model, random, |node, _| {
            node.output.first().into_iter().for_each(|name| node.input.push(name));
        });
    }),
    ("missing result", |model, _, random| {
        on_node(model, random, |node, _| drop(node.output.edit(Vec::pop)));
    }),
    ("further result", |model, _, random| {
        on_node(model, random, |node, random| node.output.push(&format!("new{}", random.next())));
    }),
    ("result of that name", |model, _, random| {
        let name = any_name(model, random);
        on_node(model, random, |node, _| node.output.push(&name));
    }),
    ("missing node", |model, _, random| {
        let nodes = &mut graph(model).node;
        let at = random.below(nodes.len());
        drop((at < nodes.len()).then(|| nodes.remove(at)));
    }),
    ("nodes in another order", |model, _, random| {
        let nodes = &mut graph(model).node;
        let (a, b) = (random.below(nodes.len()), random.below(nodes.len()));
        if a < nodes.len() {
            nodes.swap(a, b);
        }
    }),
    ("new node", add_node),
    ("chain of copies", add_chain),
    ("axis that doubles", add_doubling),
    ("many operands", |model, _, random| {
        let name = any_name(model, random);
        let count = 1 + random.below(3000);
        on_node(model, random, |node, _| {
            (node.op_type, node.input) =
                ("Concat".to_string(), vec![name; count].into_iter().collect());
        });
    }),
    ("number of an attribute", |model, _, random| on_attribute(model, random, change_attribute)),
    ("list of an attribute", |model, _, random| on_attribute(model, random, change_list)),
    ("kind of an attribute", |model, _, random| on_attribute(model, random, change_kind)),
    ("missing attribute", |model, _, random| {
        on_node(model, random, |node, _| drop(node.attribute.pop()));
    }),
    ("new attribute", |model, _, random| {
        let attribute = new_attribute(random);
        on_node(model, random, |node, _| node.attribute.push(attribute));
    }),
    ("subgraph", |model, _, random| {
        let name = any_name(model, random);
        let inner = nested(&name, random.below(150));
        on_node(model, random, |node, _| node.attribute.push(inner));
    }),
    ("function", add_function),
    ("opset", |model, _, random| {
        let version = [1, 6, 7, 9, 11, 13, 17, 23, 99][random.below(9)];
        if let Some(opset) = random.pick_mut(&mut model.opset_import) {
            opset.version = version;
        }
    }),
    ("missing opset", |model, _, _| model.opset_import.clear()),
    ("foreign opset", |model, _, random| {
        let domain = "my.domain".to_string();
        model.opset_import.push(OperatorSetIdProto { domain, version: random.number() });
    }),
    ("missing graph", |model, _, random| {
        if random.one_in(8) {
            model.graph = None;
        }
    }),
    ("missing output", |model, _, _| drop(graph(model).output.pop())),
    ("further output", |model, _, random| {
        let name = any_name(model, random);
        graph(model).output.push(ValueInfoProto { name, r#type: None });
    }),
    ("missing input of the model", |model, _, _| drop(graph(model).input.pop())),
    ("name", rename),
    ("part of another model", splice),
];

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.get_or_insert_default()
}

fn set<T>(slot: Option<&mut T>, value: T) {
    if let Some(slot) = slot {
        *slot = value;
    }
}

fn on_node(
    model: &mut ModelProto,
    random: &mut Random,
    change: impl FnOnce(&mut NodeProto, &mut Random),
) {
    if let Some(node) = random.pick_mut(&mut graph(model).node) {
        change(node, random);
    }
}

fn on_attribute(
    model: &mut ModelProto,
    random: &mut Random,
    change: fn(&mut AttributeProto, &mut Random),
) {
    let nodes = graph(model).node.iter_mut();
    let mut attributes: Vec<_> = nodes.flat_map(|node| &mut node.attribute).collect();
    if let Some(attribute) = random.pick_mut(&mut attributes) {
        change(attribute, random);
    }
}

/// A stored tensor, or the one of a constant.
fn on_tensor(
    model: &mut ModelProto,
    random: &mut Random,
    change: fn(&mut TensorProto, &mut Random),
) {
    let graph = graph(model);
    let attributes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    let constants = attributes.filter_map(|attribute| attribute.t.as_deref_mut());
    let mut tensors: Vec<_> = graph.initializer.iter_mut().chain(constants).collect();
    if let Some(tensor) = random.pick_mut(&mut tensors) {
        change(tensor, random);
    }
}

/// A name of a value: of a result, an input or a stored tensor.
fn any_name(model: &mut ModelProto, random: &mut Random) -> String {
    let graph = graph(model);
    let results = graph.node.iter().flat_map(|node| node.output.iter());
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let tensors = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let names: Vec<&str> = results.chain(inputs).chain(tensors).collect();
    random.pick(&names).map(ToString::to_string).unwrap_or_default()
}

fn shape_of(info: Option<&mut ValueInfoProto>) -> Option<&mut TensorShapeProto> {
    info?.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut()
}

fn change_shape(info: Option<&mut ValueInfoProto>, random: &mut Random) {
    let Some(shape) = shape_of(info) else { return };
    let extent = match random.below(8) {
        0 => None,
        1 => Some(Extent::Param("n".to_string())),
        2 => return drop(shape.dim.pop()),
        3 => {
            let extent = Some(Extent::Value(random.number()));
            return shape.dim.insert(0, Dimension { extent });
        }
        _ => Some(Extent::Value(random.number())),
    };
    if let Some(dim) = random.pick_mut(&mut shape.dim) {
        dim.extent = extent;
    }
}

fn change_type(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let graph = graph(model);
    let mut infos: Vec<_> =
        graph.input.iter_mut().chain(&mut graph.value_info).chain(&mut graph.output).collect();
    let Some(info) = random.pick_mut(&mut infos) else { return };
    match (random.below(4), &mut info.r#type) {
        (0, kind) => *kind = None,
        (1, Some(kind)) => kind.tensor_type = None,
        (2, Some(kind)) => {
            kind.tensor_type.iter_mut().for_each(|tensor| tensor.shape = None);
        }
        (_, Some(kind)) => {
            let new = random.below(30) as i32;
            kind.tensor_type.iter_mut().for_each(|tensor| tensor.elem_type = new);
        }
        (_, None) => {}
    }
}

/// Declares a second time what is declared, another way.
fn add_contradiction(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let graph = graph(model);
    let declared: Vec<_> = graph.input.iter().chain(&graph.value_info).cloned().collect();
    let Some(mut info) = random.pick(&declared).cloned() else { return };
    change_shape(Some(&mut info), random);
    graph.value_info.push(info);
}

fn change_axes(tensor: &mut TensorProto, random: &mut Random) {
    match random.below(4) {
        0 => drop(tensor.dims.pop()),
        1 => tensor.dims.reverse(),
        2 => tensor.dims.extend([1; 70]),
        _ => tensor.dims.insert(random.below(tensor.dims.len()), 1),
    }
}

fn empty(tensor: &mut TensorProto, random: &mut Random) {
    (tensor.raw_data, tensor.float_data) = (None, Vec::new());
    tensor.dims = vec![0, random.number()];
}

fn change_length(tensor: &mut TensorProto, random: &mut Random) {
    let mut raw = tensor.raw_data.clone().unwrap_or_default().to_vec();
    match random.below(3) {
        0 => raw.clear(),
        1 => drop(raw.pop()),
        _ => raw.extend([0; 9]),
    }
    tensor.raw_data = Some(raw.into());
}

/// Changes one size, and the number of elements with it.
fn resize(tensor: &mut TensorProto, random: &mut Random) {
    let mut elements = 1;
    for dim in &tensor.dims {
        elements *= usize::try_from(*dim).unwrap_or(0).min(1 << 20);
    }
    let Some(raw) = tensor.raw_data.as_mut().filter(|raw| !raw.is_empty()) else { return };
    let width = raw.len() / elements.max(1);
    let new = [1, 2, 3, 4, 6, 16, 48, 256][random.below(8)];
    let Some(dim) = random.pick_mut(&mut tensor.dims).filter(|dim| **dim > 0) else { return };
    let len = elements / *dim as usize * new * width;
    *dim = new as i64;
    *raw = raw.iter().copied().cycle().take(len.min(1 << 22)).collect();
}

fn change_numbers(tensor: &mut TensorProto, random: &mut Random) {
    let word: [u8; 8] = match random.below(4) {
        0 => random.next().to_le_bytes(),
        1 => f64::NAN.to_le_bytes(),
        2 => [f32::INFINITY.to_le_bytes(), f32::NAN.to_le_bytes()].concat().try_into().unwrap(),
        _ => random.number().to_le_bytes(),
    };
    let mut raw = tensor.raw_data.clone().unwrap_or_default().to_vec();
    set(random.pick_mut(raw.as_chunks_mut::<8>().0), word);
    tensor.raw_data = Some(raw.into());
}

/// Moves the elements of a tensor to a typed field, or to two fields at once.
fn change_field(tensor: &mut TensorProto, random: &mut Random) {
    let raw = tensor.raw_data.clone().unwrap_or_default();
    let words = raw.as_chunks::<4>().0.iter();
    match random.below(6) {
        0 => tensor.float_data = words.map(|word| f32::from_le_bytes(*word)).collect(),
        1 => tensor.int32_data = words.map(|word| i32::from_le_bytes(*word)).collect(),
        2 => {
            let words = raw.as_chunks::<8>().0.iter();
            tensor.int64_data = words.map(|word| i64::from_le_bytes(*word)).collect();
        }
        3 => tensor.double_data = words.map(|word| f32::from_le_bytes(*word).into()).collect(),
        4 => tensor.uint64_data = words.map(|word| u32::from_le_bytes(*word).into()).collect(),
        _ => tensor.segment = Some(raw.clone()),
    }
    if !random.one_in(4) {
        tensor.raw_data = None;
    }
}

fn make_external(tensor: &mut TensorProto, random: &mut Random) {
    const PLACES: [&str; 7] =
        ["in.onnx", "data.bin", "missing.bin", "../data.bin", "/etc/passwd", "", "."];
    const NUMBERS: [&str; 7] = ["0", "8", "-1", "9223372036854775807", "1e3", "", "4096"];
    tensor.data_location = 1;
    let mut entry = |key: &str, values: &[&str]| StringStringEntryProto {
        key: key.to_string(),
        value: values[random.below(values.len())].to_string(),
    };
    tensor.external_data = vec![entry("location", &PLACES), entry("offset", &NUMBERS)];
    if random.one_in(2) {
        let value = NUMBERS[random.below(NUMBERS.len())].to_string();
        tensor.external_data.push(StringStringEntryProto { key: "length".to_string(), value });
    }
}

/// Makes a stored tensor sparse.
fn add_sparse(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let graph = graph(model);
    let at = random.below(graph.initializer.len());
    if at >= graph.initializer.len() {
        return;
    }
    let values = graph.initializer.swap_remove(at);
    let mut dims = values.dims.clone();
    if random.one_in(3) {
        dims.push(random.number());
    }
    let indices = Some(TensorProto { data_type: 7, dims: vec![0], ..Default::default() });
    graph.sparse_initializer.push(SparseTensorProto { values: Some(values), indices, dims });
}

fn node(kind: &str, inputs: Vec<String>, output: String) -> NodeProto {
    let op_type = kind.to_string();
    let (input, output) = (inputs.into_iter().collect(), std::iter::once(output).collect());
    NodeProto { op_type, input, output, ..NodeProto::default() }
}

/// Adds a node over names that are there, which others may come to read.
fn add_node(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let known = known_operators();
    let Some(&kind) = random.pick(&known) else { return };
    let inputs = (0..1 + random.below(4)).map(|_| any_name(model, random)).collect();
    let name = format!("made{}", random.next());
    let mut made = node(kind, inputs, name.clone());
    made.attribute = (0..random.below(3)).map(|_| new_attribute(random)).collect();
    graph(model).node.push(made);
    on_node(model, random, |node, random| {
        node.input.edit(|names| set(random.pick_mut(names), name));
    });
}

/// Puts many copies of a node of one operand behind each other.
fn add_chain(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let (nodes, count) = (&mut graph(model).node, 1 + random.below(400));
    let at = random.below(nodes.len());
    let Some(first) = nodes.get(at).filter(|node| node.output.len() == 1).cloned() else { return };
    let name = |index: usize| match index {
        0 => first.output[0].to_string(),
        index => format!("{}~{index}", &first.output[0]),
    };
    for index in 1..=count {
        let mut copy = first.clone();
        copy.output = std::iter::once(name(index)).collect();
        copy.input.edit(|names| set(names.first_mut(), name(index - 1)));
        nodes.push(copy);
    }
    on_node(model, random, |node, _| {
        node.input.edit(|names| set(names.first_mut(), name(count)));
    });
}

/// Lays a value end to end with itself, again and again, or takes it apart and adds the halves.
fn add_doubling(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let (start, count) = (any_name(model, random), 1 + random.below(40));
    let splits = random.one_in(2);
    let axis = AttributeProto {
        name: "axis".to_string(),
        r#type: attribute_type::INT,
        i: Some(random.below(3) as i64),
        ..AttributeProto::default()
    };
    let mut last = start;
    for index in 0..count {
        let next = format!("double{index}");
        let mut made = if splits {
            let mut split = node("Split", vec![last], format!("{next}a"));
            split.output.push(&format!("{next}b"));
            graph(model).node.push(NodeProto { attribute: vec![axis.clone()], ..split });
            node("Add", vec![format!("{next}a"), format!("{next}b")], next.clone())
        } else {
            node("Concat", vec![last.clone(), last], next.clone())
        };
        if !splits {
            made.attribute = vec![axis.clone()];
        }
        graph(model).node.push(made);
        last = next;
    }
    on_node(model, random, |node, random| {
        node.input.edit(|names| set(random.pick_mut(names), last));
    });
}

fn change_attribute(attribute: &mut AttributeProto, random: &mut Random) {
    let number = random.number();
    if let Some(slot) = random.pick_mut(&mut attribute.ints) {
        *slot = number;
    } else if attribute.i.is_some() {
        attribute.i = Some(number);
    } else if attribute.f.is_some() {
        attribute.f = Some(number as f32);
    } else if attribute.s.is_some() {
        const WORDS: [&str; 8] =
            ["", "SAME_UPPER", "VALID", "CRD", "ij,jk->ik", "a->aaaa", "reflect", "\u{fffd}..."];
        attribute.s = Some(WORDS[random.below(WORDS.len())].into());
    }
}

fn change_list(attribute: &mut AttributeProto, random: &mut Random) {
    let number = random.number();
    match random.below(4) {
        0 => attribute.ints.clear(),
        1 => drop(attribute.ints.pop()),
        2 => attribute.ints.push(number),
        _ => attribute.ints = vec![number; random.below(5000)],
    }
    attribute.r#type = attribute_type::INTS;
}

fn change_kind(attribute: &mut AttributeProto, random: &mut Random) {
    attribute.r#type = random.below(14) as i32;
    match random.below(8) {
        0 => attribute.i = Some(random.number()),
        1 => attribute.f = Some(f32::NAN),
        2 => attribute.s = Some(Bytes::from_static(b"\xff\xfe")),
        3 => attribute.floats = vec![random.number() as f32; random.below(9)],
        4 => attribute.t = Some(Box::default()),
        5 => attribute.strings = vec![Bytes::new(); 3],
        6 => attribute.g = Some(Box::default()),
        _ => (attribute.i, attribute.f, attribute.s) = (None, None, None),
    }
}

fn new_attribute(random: &mut Random) -> AttributeProto {
    const NAMES: [&str; 26] = [
        "axis",
        "axes",
        "perm",
        "group",
        "kernel_shape",
        "strides",
        "dilations",
        "pads",
        "auto_pad",
        "keepdims",
        "to",
        "value",
        "blocksize",
        "mode",
        "equation",
        "split",
        "num_outputs",
        "num_groups",
        "starts",
        "ends",
        "transB",
        "allowzero",
        "hidden_size",
        "direction",
        "q_num_heads",
        "block_size",
    ];
    let name = NAMES[random.below(NAMES.len())].to_string();
    let mut made = AttributeProto { name, ..AttributeProto::default() };
    if random.one_in(2) {
        (made.r#type, made.i) = (attribute_type::INT, Some(random.number()));
    } else {
        made.r#type = attribute_type::INTS;
        made.ints = (0..random.below(6)).map(|_| random.number()).collect();
    }
    made
}

/// Subgraphs in subgraphs, of which the innermost reads a name from outside.
fn nested(name: &str, depth: usize) -> AttributeProto {
    let mut inner = node("Identity", vec![name.to_string()], "inner".to_string());
    for _ in 0..depth {
        let mut outer = node("If", vec![name.to_string()], "outer".to_string());
        outer.attribute = vec![subgraph(inner)];
        inner = outer;
    }
    subgraph(inner)
}

fn subgraph(node: NodeProto) -> AttributeProto {
    let output = vec![ValueInfoProto { name: node.output[0].to_string(), r#type: None }];
    AttributeProto {
        name: "then_branch".to_string(),
        r#type: attribute_type::GRAPH,
        g: Some(Box::new(GraphProto { node: vec![node], output, ..GraphProto::default() })),
        ..AttributeProto::default()
    }
}

/// Moves a node into a function; sometimes one that calls itself.
fn add_function(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let at = random.below(graph(model).node.len());
    let Some(called) = graph(model).node.get_mut(at) else { return };
    let (name, domain) = ("Called".to_string(), "my.domain".to_string());
    let call = NodeProto {
        op_type: name.clone(),
        domain: domain.clone(),
        input: called.input.clone(),
        output: called.output.clone(),
        ..NodeProto::default()
    };
    let body = std::mem::replace(called, call.clone());
    let function = FunctionProto {
        name,
        domain,
        input: body.input.iter().map(str::to_string).collect(),
        output: body.output.iter().map(str::to_string).collect(),
        node: vec![if random.one_in(4) { call } else { body }],
        opset_import: model.opset_import.clone(),
        ..FunctionProto::default()
    };
    model.functions.extend(vec![function; 1 + random.below(2)]);
}

/// Gives something the name of something else, or none.
fn rename(model: &mut ModelProto, _: &Bases, random: &mut Random) {
    let name = if random.one_in(4) { String::new() } else { any_name(model, random) };
    let graph = graph(model);
    let slot: Option<&mut String> = match random.below(5) {
        0 => random.pick_mut(&mut graph.initializer).map(|tensor| &mut tensor.name),
        1 => random.pick_mut(&mut graph.input).map(|input| &mut input.name),
        2 => random.pick_mut(&mut graph.output).map(|output| &mut output.name),
        3 => random.pick_mut(&mut graph.value_info).map(|info| &mut info.name),
        _ => random.pick_mut(&mut graph.node).map(|node| &mut node.name),
    };
    set(slot, name);
}

/// Adds the nodes and tensors of another model, or some of them.
fn splice(model: &mut ModelProto, bases: &Bases, random: &mut Random) {
    let other = bases.pick_model(random).graph.unwrap_or_default();
    let graph = graph(model);
    match random.below(3) {
        0 => {
            graph.node.extend(other.node);
            graph.initializer.extend(other.initializer);
        }
        1 => graph.initializer = other.initializer,
        _ => graph.node.extend(random.pick(&other.node).cloned()),
    }
}
