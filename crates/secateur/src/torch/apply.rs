//! Turns format-free changes into edits of a program's text and of stored tensors.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::TorchFile;
use super::archive::Content;
use super::file::Stored;
use super::import::{Imported, short};
use super::schema::{Argument, Int, Meta, Node, Program, Size};
use crate::analysis::Analysis;
use crate::graph::Graph;
use crate::model::Changes;
use crate::ops::Place;
use crate::refit::Refit;
use crate::size::{Literal, Scalar};
use crate::tensor::{Cut, Keep, TensorView};
use crate::{Error, Result};

/// A call, its argument, and the operator and argument that take a list.
type Respelled = (&'static str, &'static str, &'static str, &'static str);

/// Calls that spell a list of numbers under another operator.
const LISTS: &[Respelled] = &[
    ("aten.split.Tensor", "split_size", "torch.ops.aten.split_with_sizes.default", "split_sizes"),
    ("aten.chunk.default", "chunks", "torch.ops.aten.split_with_sizes.default", "split_sizes"),
    (
        "aten.tensor_split.sections",
        "sections",
        "torch.ops.aten.split_with_sizes.default",
        "split_sizes",
    ),
    ("aten.squeeze.default", "dim", "torch.ops.aten.squeeze.dims", "dim"),
];

/// Numbers that an argument of a call gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ArgumentEdit {
    pub(crate) node: u32,
    pub(crate) name: &'static str,
    values: Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    /// Some elements change.
    Patched(Vec<(u32, i64)>),
    /// All of them.
    Ints(Vec<i64>),
    Float(f64),
}

impl ArgumentEdit {
    /// The numbers, as they are in a plan.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        match &self.values {
            Values::Patched(patches) => patches.iter().map(|&(_, value)| value as f64).collect(),
            Values::Ints(ints) => ints.iter().map(|&value| value as f64).collect(),
            Values::Float(value) => vec![*value],
        }
    }

    /// What an argument becomes.
    pub(super) fn argument(&self, old: &Argument) -> Argument {
        match (&self.values, old) {
            (Values::Float(value), _) => Argument::Float(*value),
            (Values::Ints(ints), Argument::Int(_)) if ints.len() == 1 => {
                Argument::Int(Int::Number(ints[0]))
            }
            (Values::Ints(ints), _) => {
                Argument::Ints(ints.iter().copied().map(Int::Number).collect())
            }
            (Values::Patched(patches), Argument::Ints(ints)) => {
                let mut ints = ints.clone();
                for &(index, value) in patches {
                    if let Some(int) = ints.get_mut(index as usize) {
                        *int = Int::Number(value);
                    }
                }
                Argument::Ints(ints)
            }
            (Values::Patched(patches), _) => {
                Argument::Int(Int::Number(patches.first().map_or(0, |&(_, value)| value)))
            }
        }
    }
}

/// The operator that takes what an argument becomes, where it is another one.
pub(super) fn target_of(node: &Node, edit: &ArgumentEdit) -> Option<&'static str> {
    respelled(node, edit).map(|&(_, _, target, _)| target)
}

fn respelled(node: &Node, edit: &ArgumentEdit) -> Option<&'static Respelled> {
    let old = node.argument(edit.name).map_or(&Argument::None, |argument| &argument.value);
    let list = matches!(edit.argument(old), Argument::Ints(_));
    let kind = short(&node.target).replace("aten.unsafe_", "aten.");
    LISTS.iter().find(|entry| list && entry.0 == kind && entry.1 == edit.name)
}

/// The arguments that follow new sizes, in the order of calls.
pub(crate) fn argument_edits(graph: &Graph, refit: &Refit) -> Vec<ArgumentEdit> {
    let mut patched: BTreeMap<(u32, &'static str), Vec<(u32, i64)>> = BTreeMap::new();
    for (literal, &value) in &refit.patches {
        if let Literal::Attribute { node, name, index } = *literal {
            patched.entry((node, name)).or_default().push((index, value));
        }
    }
    let mut edits: BTreeMap<(u32, &'static str), Values> =
        patched.into_iter().map(|(at, patches)| (at, Values::Patched(patches))).collect();
    for replacement in &refit.replacements {
        let Place::Attribute(name) = replacement.place else { continue };
        let values = match replacement.values[..] {
            [Scalar::Float(value)] => Values::Float(value),
            _ => Values::Ints(replacement.ints()),
        };
        edits.insert((graph.node(replacement.node).source, name), values);
    }
    let edits = edits.into_iter();
    edits.map(|((node, name), values)| ArgumentEdit { node, name, values }).collect()
}

/// Pieces of a text that are replaced.
#[derive(Debug, Default)]
struct TextEdits(Vec<(Range<usize>, String)>);

impl TextEdits {
    fn replace(&mut self, span: &Range<usize>, text: impl ToString) {
        self.0.push((span.clone(), text.to_string()));
    }

    fn apply(mut self, text: &str) -> Result<String> {
        self.0.sort_by_key(|(span, _)| (span.start, span.end));
        let mut result = String::with_capacity(text.len());
        let mut done = 0;
        for (span, new) in self.0 {
            let kept = text.get(done..span.start);
            result += kept.ok_or_else(|| Error::malformed("edits of a program overlap"))?;
            result += &new;
            done = span.end;
        }
        result += text.get(done..).unwrap_or_default();
        Ok(result)
    }
}

/// What happens to stored tensors.
enum Fate {
    Cut,
    Zeroed,
}

/// Writes a file without what `changes` leave out.
pub(crate) fn write_pruned(
    file: &TorchFile,
    imported: &Imported,
    analysis: &Analysis,
    changes: &Changes,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    if changes.params.is_empty() {
        return file.archive.copy(out, progress);
    }
    let program = edited(&file.program, imported, analysis, changes)?;
    write(file, imported, changes, (Fate::Cut, Some(program)), out, progress)
}

/// Writes a file with what `changes` leave out set to zero.
pub(crate) fn write_masked(
    file: &TorchFile,
    imported: &Imported,
    changes: &Changes,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    write(file, imported, changes, (Fate::Zeroed, None), out, progress)
}

/// Writes a file with other elements in stored tensors.
pub(crate) fn write_filled(
    file: &TorchFile,
    elements: &BTreeMap<u32, TensorView>,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let mut entries: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for (&index, view) in elements {
        let (entry, range, data) = file.filled(index, view)?;
        let bytes = entries.entry(entry).or_insert_with(|| file.archive.bytes(entry).to_vec());
        bytes[range].copy_from_slice(&data);
    }
    let fills: BTreeMap<usize, (u64, Box<Fill<'_>>)> = entries
        .iter()
        .map(|(&entry, bytes)| {
            let fill: Box<Fill<'_>> = Box::new(move |sink| sink.write_all(bytes));
            (entry, (bytes.len() as u64, fill))
        })
        .collect();
    let content = |entry: usize| match fills.get(&entry) {
        Some((len, fill)) => Content::New(*len, fill),
        None => Content::Same,
    };
    file.archive.save(out, &content, progress)
}

fn write(
    file: &TorchFile,
    imported: &Imported,
    changes: &Changes,
    (fate, program): (Fate, Option<String>),
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let mut tensors: BTreeMap<usize, (Cut, &Stored)> = BTreeMap::new();
    let mut texts: BTreeMap<usize, TextEdits> = BTreeMap::new();
    for (&id, keep) in &changes.params {
        let index = imported.graph.param(id).tensor as usize;
        let stored = file.stored.get(index);
        let stored = stored.ok_or_else(|| Error::malformed("a parameter that is not stored"))?;
        let ordered: Keep = stored.order.iter().map(|&axis| keep[axis].clone()).collect();
        let dims: Vec<usize> = stored.order.iter().map(|&axis| stored.dims[axis]).collect();
        let cut = match fate {
            Fate::Cut => Cut::keep(stored.dtype, &dims, &ordered)?,
            Fate::Zeroed => Cut::zero(stored.dtype, &dims, &ordered)?,
        };
        let mut sizes = vec![0; dims.len()];
        for (&axis, &size) in stored.order.iter().zip(cut.dims()) {
            sizes[axis] = size as i64;
        }
        for (list, name) in &stored.names {
            let meta = file.payloads.get(*list).and_then(|(_, list)| list.entries.get(name));
            let Some(meta) = meta.and_then(|payload| payload.meta.as_ref()) else { continue };
            let edits = texts.entry(*list).or_default();
            describe(edits, meta, &sizes);
            edits.replace(&meta.spans[2], json!({ "as_int": 0 }));
        }
        tensors.insert(stored.entry, (cut, stored));
    }
    let mut entries: BTreeMap<usize, String> = BTreeMap::new();
    for (list, edits) in texts {
        let (entry, payloads) = &file.payloads[list];
        entries.insert(*entry, edits.apply(&payloads.text)?);
    }
    entries.extend(program.map(|program| (file.program_entry, program)));
    let texts = entries.iter().map(|(&entry, text)| (entry, text_content(text)));
    let tensors = tensors.iter().map(|(&entry, (cut, at))| (entry, tensor_content(file, cut, at)));
    let contents: BTreeMap<usize, (u64, Box<Fill<'_>>)> = texts.chain(tensors).collect();
    let content = |entry: usize| match contents.get(&entry) {
        Some((len, fill)) => Content::New(*len, fill),
        None => Content::Same,
    };
    file.archive.save(out, &content, progress)
}

type Fill<'a> = dyn Fn(&mut dyn Write) -> io::Result<()> + 'a;

fn text_content(text: &str) -> (u64, Box<Fill<'_>>) {
    (text.len() as u64, Box::new(move |sink| sink.write_all(text.as_bytes())))
}

fn tensor_content<'a>(
    file: &'a TorchFile,
    cut: &'a Cut,
    stored: &'a Stored,
) -> (u64, Box<Fill<'a>>) {
    let fill = move |sink: &mut dyn Write| {
        let data = file.raw(stored);
        cut.write(&data, sink)?;
        file.archive.release(&data);
        Ok(())
    };
    (cut.byte_len() as u64, Box::new(fill))
}

/// The program's text with new sizes.
fn edited(
    program: &Program,
    imported: &Imported,
    analysis: &Analysis,
    changes: &Changes,
) -> Result<String> {
    let mut edits = TextEdits::default();
    for edit in argument_edits(&imported.graph, &changes.refit) {
        spell(&mut edits, program.node(edit.node)?, &edit);
    }
    let graphs = graphs(program);
    for meta in graphs.iter().flat_map(|graph| graph.tensors.values()) {
        let Some(&value) = imported.tensors.get(&meta.spans[0].start) else { continue };
        let axes = analysis.value(value);
        if axes.len() == meta.sizes.len() {
            describe(&mut edits, meta, &changes.sizes(analysis, axes));
        }
    }
    for number in graphs.iter().flat_map(|graph| graph.numbers.values()) {
        let Some(&expr) = imported.numbers.get(&number.span.start) else { continue };
        let dim = |value, axis: u32| {
            let axis = analysis.value(value).get(axis as usize)?;
            Some(analysis.axes.sized(*axis, &|atom| changes.size(atom)) as i64)
        };
        let new = imported.graph.sizes.eval(expr, &dim, &changes.refit.patches);
        let new = new.and_then(Scalar::int).filter(|&new| Some(new) != number.size.value);
        if let Some(new) = new {
            edits.replace(&number.span, scaled(&number.size, new));
        }
    }
    edits.apply(&program.text)
}

/// The main graph and those inside nodes.
fn graphs(program: &Program) -> Vec<&super::schema::Graph> {
    let arguments = program.nodes.iter().flat_map(|node| &node.arguments);
    let inner = arguments.filter_map(|argument| match &argument.value {
        Argument::Graph(graph) => Some(&**graph),
        _ => None,
    });
    std::iter::once(&program.graph).chain(inner).collect()
}

/// New sizes of a tensor, and the strides that follow from them.
fn describe(edits: &mut TextEdits, meta: &Meta, sizes: &[i64]) {
    let old: Vec<i64> = meta.sizes.iter().map(|size| size.value.unwrap_or(-1)).collect();
    if old == sizes || old.contains(&-1) || !meta.strided {
        return;
    }
    let list = |sizes: Vec<Json>| Json::Array(sizes).to_string();
    let spelled = meta.sizes.iter().zip(sizes).map(|(size, &new)| scaled(size, new)).collect();
    edits.replace(&meta.spans[0], list(spelled));
    let strides = meta.strides.iter().map(|stride| {
        let step = stride.value.unwrap_or(0);
        // What lies within one step of this axis shrinks with the axes of smaller steps.
        let within = meta.strides.iter().enumerate().filter(|(axis, inner)| {
            inner.value.is_some_and(|inner| inner > 0 && inner < step) && old[*axis] > 1
        });
        let ratio = within.fold((1_i128, 1_i128), |(up, down), (axis, _)| {
            (up * i128::from(sizes[axis]), down * i128::from(old[axis]))
        });
        let new = i128::from(step) * ratio.0 / ratio.1;
        scaled(stride, i64::try_from(new).unwrap_or(step))
    });
    edits.replace(&meta.spans[1], list(strides.collect()));
}

/// A size of another value. An expression is multiplied by what the value grew; one that cannot be
/// stays as it is.
fn scaled(size: &Size, new: i64) -> Json {
    let Some(expression) = &size.expression else { return json!({ "as_int": new }) };
    let old = size.value.unwrap_or(new);
    let (spelled, value) = match multiplied(expression, old, new) {
        Some(spelled) => (spelled, new),
        None => (expression.clone(), old),
    };
    json!({ "as_expr": { "expr_str": spelled, "hint": { "as_int": value } } })
}

/// `new / old` times an expression, as SymPy prints it (`srepr`).
pub(super) fn multiplied(expression: &str, old: i64, new: i64) -> Option<String> {
    const MAX_DEPTH: usize = 32;
    multiplied_within(expression, old, new, MAX_DEPTH)
}

fn multiplied_within(expression: &str, old: i64, new: i64, depth: usize) -> Option<String> {
    if depth == 0 {
        return None;
    }
    if old == new {
        return Some(expression.to_string());
    }
    let times = |factor: i64| {
        let product = factor.checked_mul(new)?;
        (product.checked_rem(old)? == 0).then(|| product / old)
    };
    let (head, inner) = expression.split_once('(')?;
    let inner = inner.strip_suffix(')')?;
    match head {
        "Integer" => times(inner.parse().ok()?).map(|factor| format!("Integer({factor})")),
        "Min" | "Max" | "Add" => {
            let part = |part| multiplied_within(part, old, new, depth - 1);
            let parts = arguments(inner).into_iter().map(part);
            Some(format!("{head}({})", parts.collect::<Option<Vec<_>>>()?.join(", ")))
        }
        "Mul" => {
            let parts = arguments(inner);
            let (factor, rest) = match integer(parts[0]) {
                Some(factor) => (factor, &parts[1..]),
                None => (1, &parts[..]),
            };
            Some(match (times(factor)?, rest) {
                (1, [rest]) => rest.to_string(),
                (factor, rest) => format!("Mul(Integer({factor}), {})", rest.join(", ")),
            })
        }
        _ => times(1).map(|factor| format!("Mul(Integer({factor}), {expression})")),
    }
}

fn integer(text: &str) -> Option<i64> {
    text.strip_prefix("Integer(")?.strip_suffix(')')?.parse().ok()
}

/// The parts of a list between commas that stand outside of brackets.
pub(super) fn arguments(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let outside = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(outside).map(str::trim).collect()
}

fn spell(edits: &mut TextEdits, node: &Node, edit: &ArgumentEdit) {
    let found = node.argument(edit.name);
    let value = match edit.argument(found.map_or(&Argument::None, |argument| &argument.value)) {
        Argument::Float(value) => json!({ "as_float": value }),
        Argument::Int(Int::Number(value)) => json!({ "as_int": value }),
        Argument::Ints(ints) => spell_ints(&ints),
        _ => return,
    };
    let mut name = edit.name;
    if let Some(&(_, _, target, new)) = respelled(node, edit) {
        name = new;
        edits.replace(&node.target_span, json!(target));
    }
    match found {
        Some(argument) => {
            if name != edit.name {
                edits.replace(&argument.name_span, json!(name));
            }
            edits.replace(&argument.span, value);
        }
        None => {
            const KEYWORD: i64 = 2;
            let comma = if node.arguments.is_empty() { "" } else { ", " };
            let argument = json!({ "name": name, "arg": value, "kind": KEYWORD });
            edits.replace(&(node.end..node.end), format!("{comma}{argument}"));
        }
    }
}

fn spell_ints(ints: &[Int]) -> Json {
    let numbers: Option<Vec<i64>> = ints
        .iter()
        .map(|int| match int {
            Int::Number(value) => Some(*value),
            Int::Name(_) => None,
        })
        .collect();
    if let Some(numbers) = numbers {
        return json!({ "as_ints": numbers });
    }
    let spelled = ints.iter().map(|int| match int {
        Int::Number(value) => json!({ "as_int": value }),
        Int::Name(name) => json!({ "as_name": name }),
    });
    json!({ "as_sym_ints": spelled.collect::<Vec<Json>>() })
}

/// What a plan says of an edit: the call's name, and the argument.
pub(crate) fn edit_names(file: &TorchFile, edit: &ArgumentEdit) -> (String, String) {
    let node = file.program.node(edit.node).map(|node| node.name.to_string()).unwrap_or_default();
    (node, format!("argument {}", edit.name))
}
