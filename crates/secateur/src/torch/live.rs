//! A program without a file: the trace of a live module, which has its weights. Its calls are not
//! edited: the code that makes them follows, and is checked.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::apply::{ArgumentEdit, argument_edits, target_of};
use super::import::{Code, Imported, Parameter, Stored, import, needed, operator, tensor_names};
use super::schema::{Argument, Int, Node, Program, Source};
use crate::analysis::Analysis;
use crate::model::Changes;
use crate::{Error, Result};

/// Arguments that follow whatever the code does, or change nothing that is checked here.
const FREE: &[&str] = &["stride", "storage_offset", "train", "dropout_p"];
/// Operators with a factor that is no size, even where it is an integer.
const SCALING: &[&str] = &["aten.div", "aten.mul"];
/// Ends of slices from here on mean "to the end".
const ENDLESS: i64 = 1 << 31;

/// An integer that a call is given, and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renumbered {
    /// The index of the call in the main graph.
    pub call: usize,
    /// The name of the argument.
    pub argument: String,
    /// What it is.
    pub was: i64,
    /// What it becomes.
    pub becomes: i64,
}

/// How far the code of a cut module makes the program that it should.
#[derive(Debug)]
pub struct Followed {
    /// How many of the first calls are right.
    pub right: usize,
    /// What is wrong, if anything is; it names the line of code.
    pub wrong: Option<Error>,
    /// Numbers that are no sizes and need not follow, and do not.
    pub loose: Vec<String>,
}

impl Program {
    /// Reads the main graph; what it takes that the user does not give are the parameters.
    pub(crate) fn import(&self) -> Result<Imported> {
        let (mut parameters, mut names) = (Vec::new(), HashMap::new());
        for input in &self.inputs {
            let Source::Stored(name) = &input.from else { continue };
            let Some(meta) = self.graph.tensors.get(&input.name) else { continue };
            let Some(dtype) = meta.dtype else { continue };
            let size = |size: &super::schema::Size| usize::try_from(size.value?).ok();
            let dims: Option<Vec<usize>> = meta.sizes.iter().map(size).collect();
            let dims = dims.ok_or_else(|| Error::malformed(format!("the sizes of `{name}`")))?;
            let index = u32::try_from(parameters.len()).map_err(Error::malformed)?;
            if names.insert(name.clone(), index).is_some() {
                return Err(Error::malformed(format!("the name `{name}` is defined twice")));
            }
            parameters.push(Parameter { name: name.clone(), dtype, dims, shared: false });
        }
        import(self, Stored { parameters: &parameters, names: &names }, Code::Live)
    }

    /// The integers of calls that follow `changes`.
    pub(crate) fn renumbered(&self, imported: &Imported, changes: &Changes) -> Vec<Renumbered> {
        let calls: HashMap<u32, usize> = self.graph.nodes.iter().copied().zip(0..).collect();
        let mut found = Vec::new();
        for edit in argument_edits(&imported.graph, &changes.refit) {
            let node = self.nodes.get(edit.node as usize);
            let argument = node.and_then(|node| node.argument(edit.name));
            let (Some(argument), Some(&call)) = (argument, calls.get(&edit.node)) else { continue };
            let (was, becomes) = (ints(&argument.value), ints(&edit.argument(&argument.value)));
            let pairs = was.iter().zip(&becomes).filter(|(was, becomes)| was != becomes);
            found.extend(pairs.filter_map(|(was, becomes)| {
                let argument = edit.name.to_string();
                Some(Renumbered { call, argument, was: (*was)?, becomes: (*becomes)? })
            }));
        }
        found
    }

    /// How far `made` is this program with the sizes and numbers that `changes` make of it. Numbers
    /// that are no sizes have to follow where `exact`.
    pub(crate) fn compare(
        &self,
        imported: &Imported,
        analysis: &Analysis,
        changes: &Changes,
        made: &Program,
        exact: bool,
    ) -> Followed {
        let edits = argument_edits(&imported.graph, &changes.refit);
        let mut by_node: BTreeMap<usize, Vec<ArgumentEdit>> = BTreeMap::new();
        for edit in edits {
            by_node.entry(edit.node as usize).or_default().push(edit);
        }
        let needed = needed(made, &made.graph);
        let nodes = made.nodes.iter().zip(&needed).filter(|(_, needed)| **needed);
        let arguments = nodes.flat_map(|(node, _)| &node.arguments);
        let read = arguments.map(|argument| &argument.value).chain(&made.graph.outputs);
        let read: HashSet<&str> = read.flat_map(tensor_names).collect();
        let mut loose = Vec::new();
        let mut pairs = self.nodes.iter().zip(&made.nodes).enumerate();
        let first = pairs.find_map(|(index, (node, got))| {
            let edits = by_node.get(&index).map(Vec::as_slice).unwrap_or_default();
            let result = targets(node, got, edits)
                .and_then(|()| self.sizes(imported, analysis, changes, (made, node, got), &read))
                .and_then(|()| match needed.get(index) {
                    Some(false) => Ok(Vec::new()),
                    _ => numbers(node, got, edits),
                });
            match result {
                Ok(numbers) if exact => numbers.into_iter().next().map(|text| (index, text)),
                Ok(numbers) => {
                    loose.extend(numbers.into_iter().map(|text| at(text, Some(node))));
                    None
                }
                Err(text) => Some((index, text)),
            }
        });
        let right = first.as_ref().map_or(made.nodes.len(), |&(index, _)| index);
        let wrong = match first {
            _ if made.nodes.len() != self.nodes.len() => Some(self.other_calls(made)),
            first => first.map(|(index, text)| differs(text, self.nodes.get(index))),
        };
        Followed { right, wrong, loose }
    }

    /// That a program has more calls or fewer.
    fn other_calls(&self, made: &Program) -> Error {
        let first = |(a, b): (&Node, &Node)| a.target != b.target;
        let at = self.nodes.iter().zip(&made.nodes).position(first);
        let node = self.nodes.get(at.unwrap_or(made.nodes.len())).or(self.nodes.last());
        differs("the module makes other calls than before".to_string(), node)
    }

    /// Compares the sizes of what a call makes, as far as it is read.
    fn sizes(
        &self,
        imported: &Imported,
        analysis: &Analysis,
        changes: &Changes,
        (made, node, got): (&Program, &Node, &Node),
        read: &HashSet<&str>,
    ) -> std::result::Result<(), String> {
        let outputs = node.outputs.iter().flat_map(tensor_names);
        let outputs = outputs.zip(got.outputs.iter().flat_map(tensor_names));
        for (before, after) in outputs.filter(|(_, name)| read.contains(name)) {
            let metas = (self.graph.tensors.get(before), made.graph.tensors.get(after));
            let (Some(before), Some(after)) = metas else { continue };
            let list = |meta: &super::schema::Meta| -> Vec<i64> {
                meta.sizes.iter().map(|size| size.value.unwrap_or(-1)).collect()
            };
            let value = imported.tensors.get(&before.spans[0].start);
            let axes = value.map(|&value| analysis.value(value));
            let wanted = match axes.filter(|axes| axes.len() == before.sizes.len()) {
                Some(axes) => changes.sizes(analysis, axes),
                None => list(before),
            };
            let sizes = list(after);
            if sizes != wanted {
                let target = &got.target;
                return Err(format!("`{target}` makes sizes {sizes:?}, and {wanted:?} are needed"));
            }
        }
        Ok(())
    }
}

fn targets(node: &Node, got: &Node, edits: &[ArgumentEdit]) -> std::result::Result<(), String> {
    let wanted = edits.iter().find_map(|edit| target_of(node, edit));
    let wanted = wanted.unwrap_or(&node.target);
    // A reshape may have to copy.
    let plain = |target: &str| target.replace(".view_copy.", ".view.");
    if *wanted == *got.target || plain(wanted) == plain(&got.target) {
        return Ok(());
    }
    Err(format!("`{wanted}` became `{}`", got.target))
}

/// Compares the numbers that a call is given; returns those that are no sizes and do not follow.
fn numbers(
    node: &Node,
    got: &Node,
    edits: &[ArgumentEdit],
) -> std::result::Result<Vec<String>, String> {
    let follows =
        |name: &str| format!("the argument `{name}` of `{}` does not follow", node.target);
    let mut loose = Vec::new();
    for edit in edits {
        let given = got.argument(edit.name).map(|argument| &argument.value);
        if matches!(given, None | Some(Argument::None)) {
            match edit.argument(&Argument::None) {
                Argument::Float(_) => loose.push(follows(edit.name)),
                _ => return Err(follows(edit.name)),
            }
        }
    }
    for argument in &got.arguments {
        let name = argument.name.as_str();
        let Some(before) = node.argument(name).filter(|_| !FREE.contains(&name)) else { continue };
        let edit = edits.iter().find(|edit| edit.name == name);
        let wanted = edit.map(|edit| edit.argument(&before.value));
        let scales = name == "other" && SCALING.contains(&operator(&got.target));
        let same = match (&argument.value, wanted.as_ref().unwrap_or(&before.value)) {
            (Argument::Int(Int::Number(end)), _) if name == "end" && *end >= ENDLESS => true,
            (Argument::Ints(_), wanted) if name == "size" => {
                alike(&ints(&argument.value), &ints(wanted))
            }
            (got @ (Argument::Int(_) | Argument::Ints(_)), wanted) => {
                let same = ints(got) == ints(wanted);
                if !same && scales {
                    loose.push(follows(name));
                }
                same || scales
            }
            (Argument::Float(got), Argument::Float(wanted)) => {
                if got != wanted {
                    loose.push(follows(name));
                }
                true
            }
            _ => true,
        };
        if !same {
            return Err(follows(name));
        }
    }
    Ok(loose)
}

/// Whether sizes are the same, where -1 leaves one to be inferred: what comes of it is compared.
fn alike(sizes: &[Option<i64>], wanted: &[Option<i64>]) -> bool {
    let fits = |(size, wanted): (&Option<i64>, &Option<i64>)| {
        size == wanted || *size == Some(-1) || *wanted == Some(-1)
    };
    sizes.len() == wanted.len() && sizes.iter().zip(wanted).all(fits)
}

/// The integers of an argument.
fn ints(argument: &Argument) -> Vec<Option<i64>> {
    let number = |int: &Int| match int {
        Int::Number(number) => Some(*number),
        Int::Name(_) => None,
    };
    match argument {
        Argument::Int(int) => vec![number(int)],
        Argument::Ints(ints) => ints.iter().map(number).collect(),
        _ => Vec::new(),
    }
}

/// A text about the line of code that makes a call.
fn at(text: String, node: Option<&Node>) -> String {
    let line = node.and_then(|node| node.line.as_deref()).unwrap_or_default();
    let line = line.strip_prefix("File ").unwrap_or(line);
    format!("{line}: {text}")
}

fn differs(text: String, node: Option<&Node>) -> Error {
    Error::unsupported(at(text, node)).hint(
        "keep the groups around it (`keep=[...]`), or prune the exported program: \
         `secateur.prune_exported(...)`",
    )
}
