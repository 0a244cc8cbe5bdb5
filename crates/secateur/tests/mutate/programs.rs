//! Sound programs, and changes of their archives and of the JSON in them.

use secateur::torch::known_operators;
use serde_json::{Value as Json, json};

use super::bases::Bases;
use super::program::{Entry, entries, pack};
use super::random::Random;

/// Programs that mutants are made of.
pub const TEXTS: &[(&str, &str)] = &[
    (
        "convolutions",
        "x: n2x3x8x8\nw = 8x3x3x3\nb = 8\nm = 8\ns = 8\nd = 8x1x3x3\ng = 12x4x1x1\nu = 5x48\n\
        a: n2x8x8x8 = aten.conv2d.default(input=x, weight=w, bias=b, stride=[1,1], padding=[1,1])\n\
        n: n2x8x8x8 = aten.batch_norm.default(input=a, weight=b, bias=b, running_mean=m, running_var=s, training=false)\n\
        r: n2x8x8x8 = aten.relu_.default(self=n)\n\
        c: n2x8x8x8 = aten.conv2d.default(input=r, weight=d, bias=None, stride=[1,1], padding='same', dilation=[1,1], groups=8)\n\
        t: n2x8x8x8 = aten.add.Tensor(self=c, other=a)\n\
        e: n2x12x8x8 = aten.conv2d.default(input=t, weight=g, bias=None, stride=[1,1], padding=[0,0], dilation=[1,1], groups=2)\n\
        p: n2x12x2x2 = aten.max_pool2d.default(self=e, kernel_size=[4,4])\n\
        f: n2x48 = aten.flatten.using_ints(self=p, start_dim=1)\n\
        z: n2x5 = aten.linear.default(input=f, weight=u)\n-> z",
    ),
    (
        "attention",
        "x: n2x5x8\nl = 8\nw = 36x8\nv = 8x12\nq1 = 16x8 order 1 0\nq2 = 8x16\n\
        h: n2x5x8 = aten.layer_norm.default(input=x, normalized_shape=[8], weight=l, bias=l)\n\
        y: n2x5x36 = aten.linear.default(input=h, weight=w)\n\
        i: sym n2 = aten.sym_size.int(self=x, dim=0)\n\
        u: n2x5x3x3x4 = aten.view.default(self=y, size=[i, 5, 3, 3, 4])\n\
        p: 3xn2x3x5x4 = aten.permute.default(self=u, dims=[2, 0, 3, 1, 4])\n\
        [q: n2x3x5x4, k: n2x3x5x4, n: n2x3x5x4] = aten.unbind.int(self=p)\n\
        a: n2x3x5x4 = aten.scaled_dot_product_attention.default(query=q, key=k, value=n)\n\
        t: n2x5x3x4 = aten.transpose.int(self=a, dim0=1, dim1=2)\n\
        r: n2x5x12 = aten.reshape.default(self=t, shape=[i, 5, -1])\n\
        s: n2x5x8 = aten.linear.default(input=r, weight=v)\n\
        o: n2x5x8 = aten.add_.Tensor(self=s, other=x)\n\
        g: n2x5x16 = aten.linear.default(input=o, weight=q1)\n\
        j: n2x5x16 = aten.gelu.default(self=g, approximate='tanh')\n\
        z: n2x5x8 = aten.linear.default(input=j, weight=q2)\n-> z",
    ),
    (
        "parts",
        "x: 2x8\nw = 12x8\nv = f16 3x6\ns = 6\nbig = 80\nin = 3x6 in big at 2\n\
        y: 2x12 = aten.linear.default(input=x, weight=w)\n\
        [a: 2x6, b: 2x6] = aten.chunk.default(self=y, chunks=2, dim=1)\n\
        [c: 2x2, d: 2x2, e: 2x2] = aten.split.Tensor(self=a, split_size=2, dim=1)\n\
        f: 2x6 = aten.cat.default(tensors=[e, d, c], dim=1)\n\
        g: 2x6 = aten.mul.Tensor(self=f, other=b)\n\
        h: 2x6 = aten.prelu.default(self=g, weight=s)\n\
        i: 2x3 = aten.slice.Tensor(self=h, dim=1, start=0, end=3)\n\
        j: 2x3 = aten.slice.Tensor(self=h, dim=1, start=3, end=9223372036854775807)\n\
        k: 2x6 = aten.pad.default(self=i, pad=[1, 2], mode='constant', value=0.0)\n\
        z: 2x3 = aten.linear.default(input=k, weight=v)\n\
        t: 2x3 = aten.linear.default(input=h, weight=in)\n-> z, j, t",
    ),
    (
        "recurrent",
        "x: 2x5x3\nw = 8x3\nr = 8x2\nb = 8\nv = 4x2\n\
        h: 1x2x2 = aten.zeros.default(size=[1, 2, 2])\n\
        y: 2x5x2, hn: 1x2x2, cn: 1x2x2 = aten.lstm.input(input=x, hx=[h, h], params=[w, r, b, b], has_biases=true, num_layers=1, dropout=0.0, train=false, bidirectional=false, batch_first=true)\n\
        z: 2x5x4 = aten.linear.default(input=y, weight=v)\n-> z",
    ),
    (
        "inside",
        "x: n2x8\nid: i64 n2\nt = 9x6\nw = 6x8\nu = w\nv = 3x6\nc = 6\n\
        y: n2x6 = aten.linear.default(input=x, weight=w)\n\
        e: n2x6 = aten.embedding.default(weight=t, indices=id)\n\
        a: n2x6 = wrap_with_set_grad_enabled(false, $inner, y, e)\n\
        k: sym n2 = aten.sym_size.int(self=x, dim=0)\n\
        m: sym 6*n2 = _operator.mul(a=k, b=6)\n\
        f: 6*n2 = aten.view.default(self=a, size=[m])\n\
        b: n2x6 = aten.view.default(self=f, size=[k, -1])\n\
        o: n2x6 = aten.linear.default(input=x, weight=u)\n\
        s: n2x6 = aten.maximum.default(self=o, other=b)\n\
        p: 6 = aten.mean.dim(self=s, dim=[0])\n\
        z: n2x3 = aten.linear.default(input=s, weight=v)\n-> z, p > c\n\
        graph inner(i: n2x6, j: n2x6)\n\
        o: n2x6 = aten.mul.Tensor(self=i, other=j)\n\
        q: n2x6 = aten.relu_.default(self=o)\n-> q",
    ),
    (
        "einsum",
        "x: 2x6x4x4\nw = 6x6x1x1\nv = 3x4x6\n\
        a: 2x6x4x4 = aten.conv2d.default(input=x, weight=w)\n\
        g: 2x6x4x4 = aten.group_norm.default(input=a, num_groups=3)\n\
        p: 2x6x1x1 = aten.adaptive_avg_pool2d.default(self=g, output_size=[1, 1])\n\
        s: 2x6x1x1 = aten.sigmoid.default(self=p)\n\
        m: 2x6x4x4 = aten.mul.Tensor(self=g, other=s)\n\
        q: 2x6x4 = aten.mean.dim(self=m, dim=[-1])\n\
        e: 2x3 = aten.einsum.default(equation='bct,htc->bh', tensors=[q, v])\n\
        f: 2x3 = aten.softmax.int(self=e, dim=-1)\n-> f",
    ),
];

pub type Change = fn(&mut Vec<Entry>, &Bases, &mut Random);

/// All changes.
pub const KINDS: &[(&str, Change)] = &[
    ("number", |entries, _, random| {
        let number = random.number();
        on_value(entries, random, Json::is_number, |value, _| *value = json!(number));
    }),
    ("size", |entries, _, random| {
        on_value(entries, random, is_size, |value, random| {
            *value = json!({ "as_int": random.number() });
        });
    }),
    ("small size", |entries, _, random| {
        on_value(entries, random, is_size, |value, random| {
            *value = json!({ "as_int": random.below(10) });
        });
    }),
    ("open size", |entries, _, random| {
        on_value(entries, random, is_size, |value, random| *value = open_size(random));
    }),
    ("text", |entries, _, random| {
        let text = any_text(entries, random);
        on_value(entries, random, Json::is_string, |value, _| *value = text);
    }),
    ("name", |entries, _, random| {
        let named = |value: &Json| value.as_object().is_some_and(|o| o.contains_key("name"));
        let other = any_value(entries, random, named)["name"].clone();
        on_value(entries, random, named, |value, _| value["name"] = other);
    }),
    ("operator", |entries, _, random| {
        let known = known_operators();
        let Some(&kind) = random.pick(&known) else { return };
        on_value(entries, random, is_call, |call, _| {
            call["target"] = json!(format!("torch.ops.{kind}.default"));
        });
    }),
    ("operator of another call", |entries, _, random| {
        let target = any_value(entries, random, is_call)["target"].clone();
        on_value(entries, random, is_call, |call, _| call["target"] = target);
    }),
    ("missing argument", |entries, _, random| {
        on_value(entries, random, is_call, |call, random| remove(&mut call["inputs"], random));
    }),
    ("argument of another call", |entries, bases, random| {
        let other = entries_of(bases, random);
        let named = |value: &Json| value.get("kind").is_some() && value.get("arg").is_some();
        let argument = any_value(&other, random, named);
        on_value(entries, random, named, |value, _| *value = argument);
    }),
    ("missing part", |entries, _, random| on_value(entries, random, is_list, remove)),
    ("repeated part", |entries, _, random| {
        on_value(entries, random, is_list, |list, random| {
            let Some(list) = list.as_array_mut() else { return };
            let Some(part) = random.pick(list).cloned() else { return };
            let times = if random.one_in(20) { random.below(5000) } else { 1 };
            list.extend(std::iter::repeat_n(part, times));
        });
    }),
    ("parts in another order", |entries, _, random| {
        on_value(entries, random, is_list, |list, random| {
            let Some(list) = list.as_array_mut() else { return };
            let (a, b) = (random.below(list.len()), random.below(list.len()));
            if a < list.len() {
                list.swap(a, b);
            }
        });
    }),
    ("missing field", |entries, _, random| {
        on_value(entries, random, Json::is_object, |value, random| {
            let Some(fields) = value.as_object_mut() else { return };
            let keys: Vec<String> = fields.keys().cloned().collect();
            if let Some(key) = random.pick(&keys) {
                fields.remove(key);
            }
        });
    }),
    ("renamed field", |entries, _, random| {
        let key = KEYS[random.below(KEYS.len())];
        on_value(entries, random, Json::is_object, |value, random| {
            let Some(fields) = value.as_object_mut() else { return };
            let keys: Vec<String> = fields.keys().cloned().collect();
            let Some(old) = random.pick(&keys) else { return };
            if let Some(value) = fields.remove(old) {
                fields.insert(key.to_string(), value);
            }
        });
    }),
    ("another type", |entries, _, random| {
        on_value(
            entries,
            random,
            |_| true,
            |value, random| {
                let others = [
                    json!(null),
                    json!(true),
                    json!(1.5),
                    json!(-1),
                    json!(""),
                    json!([]),
                    json!({}),
                ];
                *value = others[random.below(others.len())].clone();
            },
        );
    }),
    ("value of another place", |entries, bases, random| {
        let other = entries_of(bases, random);
        let value = any_value(&other, random, |_| true);
        if value.to_string().len() < 4000 {
            on_value(entries, random, |_| true, |old, _| *old = value);
        }
    }),
    ("call of another program", |entries, bases, random| {
        let other = entries_of(bases, random);
        let call = any_value(&other, random, is_call);
        on_value(
            entries,
            random,
            |value| value.get("nodes").is_some(),
            |graph, random| {
                if let Some(nodes) = graph["nodes"].as_array_mut() {
                    nodes.insert(random.below(nodes.len() + 1), call);
                }
            },
        );
    }),
    ("chain of copies", |entries, _, random| {
        let length = random.below(400);
        on_value(
            entries,
            random,
            |value| value.get("nodes").is_some(),
            |graph, random| {
                add_chain(graph, length, random);
            },
        );
    }),
    ("deep value", |entries, _, random| {
        let depth = random.below(400);
        on_value(
            entries,
            random,
            |_| true,
            |value, _| {
                for _ in 0..depth {
                    *value = json!([value.take()]);
                }
            },
        );
    }),
    ("deep expression", |entries, _, random| {
        let depth = random.below(3000);
        on_value(
            entries,
            random,
            |value| value.get("expr_str").is_some(),
            |value, _| {
                let inner = value["expr_str"].as_str().unwrap_or_default().to_string();
                let text = format!("{}{inner}{}", "Max(".repeat(depth), ")".repeat(depth));
                value["expr_str"] = json!(text);
            },
        );
    }),
    ("token", |entries, _, random| change_token(entries, random)),
    ("missing entry", |entries, _, random| {
        let at = random.below(entries.len());
        entries.remove(at);
    }),
    ("entry of another name", |entries, _, random| {
        let name = entries[random.below(entries.len())].0.clone();
        let at = random.below(entries.len());
        entries[at].0 = if random.one_in(2) { name + "2" } else { "other/place".to_string() };
    }),
    ("contents in another order", |entries, _, random| {
        let (a, b) = (random.below(entries.len()), random.below(entries.len()));
        let content = entries[a].1.clone();
        entries[b].1 = content;
    }),
    ("length of a content", |entries, _, random| {
        let length = random.below(300);
        let at = random.below(entries.len());
        entries[at].1.resize(length, 0);
    }),
];

const KEYS: [&str; 18] = [
    "as_int",
    "as_ints",
    "as_sym_int",
    "as_sym_ints",
    "as_tensor",
    "as_tensors",
    "as_none",
    "as_optional_tensors",
    "as_optional_tensor",
    "as_name",
    "as_expr",
    "as_float",
    "as_string",
    "as_graph",
    "as_bool",
    "user_input",
    "buffer",
    "name",
];

/// Changes of the fields of an archive.
pub fn change_fields(bytes: &mut [u8], random: &mut Random) {
    let heads: Vec<usize> =
        (0..bytes.len().saturating_sub(46)).filter(|&at| bytes[at..].starts_with(b"PK")).collect();
    let Some(&head) = random.pick(&heads) else { return };
    let at = head + 4 + random.below(42);
    let number = (random.number() as u32).to_le_bytes();
    let width = [1, 2, 4][random.below(3)];
    let end = (at + width).min(bytes.len());
    bytes[at..end].copy_from_slice(&number[..end - at]);
}

/// The archive of a program.
pub fn archive(text: &str) -> (Vec<Entry>, Vec<u8>) {
    let entries = entries(text);
    let bytes = pack(&entries);
    (entries, bytes)
}

fn entries_of(bases: &Bases, random: &mut Random) -> Vec<Entry> {
    bases.pick_program(random).to_vec()
}

fn is_size(value: &Json) -> bool {
    value.as_object().is_some_and(|fields| {
        fields.len() == 1 && (fields.contains_key("as_int") || fields.contains_key("as_expr"))
    })
}

fn is_call(value: &Json) -> bool {
    value.get("target").is_some()
}

fn is_list(value: &Json) -> bool {
    value.is_array()
}

fn open_size(random: &mut Random) -> Json {
    const TEXTS: [&str; 9] = [
        "Symbol('s0')",
        "Integer(4)",
        "Mul(Integer(4), Symbol('s0'))",
        "Max(Integer(1), Symbol('s0'))",
        "Add(Integer(-1), Symbol('s0'))",
        "Mul()",
        "Max(,)",
        "))((",
        "",
    ];
    let text = TEXTS[random.below(TEXTS.len())];
    json!({ "as_expr": { "expr_str": text, "hint": { "as_int": random.number() } } })
}

fn remove(list: &mut Json, random: &mut Random) {
    let Some(list) = list.as_array_mut() else { return };
    let at = random.below(list.len());
    if at < list.len() {
        list.remove(at);
    }
}

/// The entries that are JSON, and what they hold.
fn documents(entries: &[Entry]) -> Vec<(usize, Json)> {
    let document = |(index, (name, content)): (usize, &Entry)| {
        let json = name.ends_with(".json").then(|| serde_json::from_slice(content).ok());
        Some((index, json??))
    };
    entries.iter().enumerate().filter_map(document).collect()
}

fn on_value(
    entries: &mut [Entry],
    random: &mut Random,
    is: impl Fn(&Json) -> bool,
    change: impl FnOnce(&mut Json, &mut Random),
) {
    let mut documents = documents(entries);
    let Some((index, document)) = random.pick_mut(&mut documents) else { return };
    let mut count = 0;
    visit(document, &mut |value| count += usize::from(is(value)));
    let mut left = random.below(count) as i64;
    let mut change = Some(change);
    visit(document, &mut |value| {
        if !is(value) {
            return;
        }
        if left == 0
            && let Some(change) = change.take()
        {
            change(value, random);
        }
        left -= 1;
    });
    entries[*index].1 = document.to_string().into();
}

/// A value of the kind; null where there is none.
fn any_value(entries: &[Entry], random: &mut Random, is: impl Fn(&Json) -> bool) -> Json {
    let mut found = Vec::new();
    for (_, mut document) in documents(entries) {
        visit(&mut document, &mut |value| {
            if is(value) {
                found.push(value.clone());
            }
        });
    }
    random.pick(&found).cloned().unwrap_or_default()
}

fn any_text(entries: &[Entry], random: &mut Random) -> Json {
    any_value(entries, random, Json::is_string)
}

/// The parts first.
fn visit(value: &mut Json, take: &mut impl FnMut(&mut Json)) {
    match value {
        Json::Array(parts) => parts.iter_mut().for_each(|part| visit(part, take)),
        Json::Object(fields) => fields.values_mut().for_each(|part| visit(part, take)),
        _ => {}
    }
    take(value);
}

fn add_chain(graph: &mut Json, length: usize, random: &mut Random) {
    const KINDS: [&str; 6] = ["relu_", "relu", "view_as", "add_", "detach", "t"];
    let kind = KINDS[random.below(KINDS.len())];
    let names: Vec<String> =
        graph["tensor_values"].as_object().into_iter().flat_map(|o| o.keys().cloned()).collect();
    let Some(first) = random.pick(&names).cloned() else { return };
    let (meta, mut last) = (graph["tensor_values"][&first].clone(), first.clone());
    for index in 0..length {
        let name = format!("{first}_{index}");
        let argument = |name: &str, of: &str| json!({ "name": name, "arg": { "as_tensor": { "name": of } }, "kind": 1 });
        let call = json!({
            "target": format!("torch.ops.aten.{kind}.default"),
            "inputs": [argument("self", &last), argument("other", &first)],
            "outputs": [{ "as_tensor": { "name": name } }],
            "name": name,
        });
        if let Some(nodes) = graph["nodes"].as_array_mut() {
            nodes.push(call);
        }
        graph["tensor_values"][&name] = meta.clone();
        last = name;
    }
    if let Some(outputs) = graph["outputs"].as_array_mut() {
        outputs.push(json!({ "as_tensor": { "name": last } }));
    }
}

/// Changes the text of a document, which may be JSON no longer.
fn change_token(entries: &mut [Entry], random: &mut Random) {
    let documents = documents(entries);
    let Some((index, _)) = random.pick(&documents) else { return };
    let content = &mut entries[*index].1;
    let is_token = |byte: &u8| !byte.is_ascii_alphabetic();
    let tokens: Vec<usize> = (0..content.len()).filter(|&at| is_token(&content[at])).collect();
    let Some(&at) = random.pick(&tokens) else { return };
    let new: &[u8] = match random.below(8) {
        0 => b"",
        1 => b"1e999",
        2 => b"-",
        3 => b"{\"as_int\":",
        4 => b"\xff\xfe",
        5 => b"99999999999999999999",
        6 => b"\"\\u0000\"",
        _ => b"[[[[",
    };
    let times = if random.one_in(10) { 1 + random.below(2000) } else { 1 };
    content.splice(at..=at, new.repeat(times));
}
