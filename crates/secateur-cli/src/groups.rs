//! `groups`: what can be cut, and everything that goes with it.

use std::fmt::Write;

use clap::Args;
use secateur::axis::Tree;
use secateur::cost::Footprint;
use secateur::group::{Group, GroupId};
use secateur::select::{Matcher, Pattern};
use secateur::{Error, Model, Result, why};
use serde::Serialize;
use serde_json::json;

use crate::number;
use crate::output::Output;
use crate::report::opaque_remarks;
use crate::source::Source;
use crate::table::{self, Align};

const EXAMPLES: &str = "\
Examples:
  secateur groups model.onnx
  secateur groups model.onnx --verbose 'layer1.*'    every slice of some groups
  secateur groups model.onnx --pinned                what cannot be cut, and why
  secateur groups model.onnx --json | jq '.groups[] | select(.exact | not) | .name'

A group is a dimension of the model that can be cut; its slices are the parameter axes that are cut
with it. Pruning an exact group equals setting its removed slices to zero; an approximate group
changes more than that (the statistics of a normalization, for example).

Axes count from 0 and are those of the tensor in the file: a weight that the exporter stored
transposed has its axes swapped.";

/// List the groups of a model: the dimensions that can be cut.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Groups {
    #[command(flatten)]
    source: Source,
    /// Only groups with a name, parameter or node like this, such as `layer1.*`.
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    /// List the slices of every group, and the nodes that make it approximate.
    #[arg(long, short)]
    verbose: bool,
    /// List the weights that no group governs instead, and why.
    #[arg(long, conflicts_with_all = ["verbose", "pattern"])]
    pinned: bool,
}

#[derive(Serialize)]
struct Listing {
    groups: Vec<Entry>,
    /// Of all groups, whatever the pattern.
    count: usize,
    exact: usize,
    coverage: f64,
    parameters: u64,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    kind: &'static str,
    size: usize,
    exact: bool,
    default: bool,
    parameters: u64,
    macs: u64,
    slices: Vec<Slice>,
    couplings: Vec<Coupling>,
}

#[derive(Serialize)]
struct Slice {
    parameter: String,
    /// The parameter's name in the framework that the model was made with.
    label: String,
    /// Of the stored tensor.
    axis: usize,
    role: &'static str,
    shape: Vec<usize>,
    tree: String,
}

#[derive(Serialize)]
struct Coupling {
    node: String,
    operator: String,
    reason: &'static str,
}

/// Lists groups.
pub fn run(args: &Groups) -> Result<Output> {
    let model = args.source.open()?;
    if args.pinned {
        return pinned(args, &model);
    }
    let listing = list(&model, args.pattern.as_deref())?;
    if args.source.json {
        return Output::json(&listing);
    }
    let text = if args.verbose { details(&listing) } else { overview(&listing) };
    let remarks = opaque_remarks(&listing.warnings);
    Ok(Output::text(text + &totals(&listing)).warn(remarks))
}

/// What no group governs.
fn pinned(args: &Groups, model: &Model) -> Result<Output> {
    let weights = why::pinned_weights(model);
    if args.source.json {
        return Output::json(&json!({ "pinned": weights }));
    }
    let mut text = String::new();
    for weight in &weights {
        let shape: Vec<_> = weight.shape.iter().map(usize::to_string).collect();
        let _ = writeln!(text, "{}  [{}]", weight.parameter, shape.join(", "));
        for (axis, reasons) in weight.reasons.iter().enumerate() {
            for reason in reasons {
                let _ = writeln!(text, "  axis {axis}: {reason}");
            }
        }
    }
    if weights.is_empty() {
        text.push_str("Every weight is in a group.\n");
    }
    Ok(Output::text(text).warn(opaque_remarks(&model.graph().warnings)))
}

fn list(model: &Model, pattern: Option<&str>) -> Result<Listing> {
    let cost = model.cost();
    let all = || model.groups().iter();
    let governed = cost.governed();
    let entry = |(id, group)| entry(model, governed.get(&id).copied().unwrap_or_default(), group);
    Ok(Listing {
        groups: chosen(model, pattern)?.into_iter().map(entry).collect(),
        count: model.groups().len(),
        exact: all().filter(|(_, group)| group.is_exact()).count(),
        coverage: cost.coverage(all().map(|(id, _)| id)),
        parameters: cost.now().parameters,
        warnings: model.graph().warnings.clone(),
    })
}

/// The groups that a pattern means; all without one.
fn chosen<'m>(model: &'m Model, pattern: Option<&str>) -> Result<Vec<(GroupId, &'m Group)>> {
    let Some(text) = pattern else { return Ok(model.groups().iter().collect()) };
    let pattern = Pattern::new(text)?;
    let matcher = Matcher::new(model.graph());
    matcher.check(&pattern, model.groups())?;
    let groups = model.groups().iter();
    let chosen: Vec<_> = groups.filter(|(_, group)| matcher.touches(&pattern, group)).collect();
    if chosen.is_empty() {
        let text = format!("what `{text}` matches carries no group: none of it can be cut");
        return Err(Error::argument(text).hint("`secateur why MODEL PARAM:AXIS` says why"));
    }
    Ok(chosen)
}

fn entry(model: &Model, governed: Footprint, group: &Group) -> Entry {
    let slices = group.slices.iter().map(|slice| {
        let param = model.graph().param(slice.param);
        Slice {
            parameter: param.name.clone(),
            label: param.label.clone(),
            axis: slice.axis,
            role: slice.role.name(),
            shape: param.shape.clone(),
            tree: describe(&model.groups().trees(slice.param)[slice.axis], group),
        }
    });
    let couplings = group.couplings.iter().map(|coupling| {
        let node = model.graph().node(coupling.node);
        Coupling { node: node.name.clone(), operator: node.kind.clone(), reason: coupling.reason }
    });
    Entry {
        name: group.name.clone(),
        kind: group.kind.name(),
        size: group.size,
        exact: group.is_exact(),
        default: group.kind.is_default(),
        parameters: governed.parameters,
        macs: governed.macs,
        slices: slices.collect(),
        couplings: couplings.collect(),
    }
}

/// An axis with the group's place in it, such as `3 × heads(12) × 64`: all else is only its size.
fn describe(tree: &Tree, group: &Group) -> String {
    if !tree.contains(group.atom) {
        return tree.size().to_string();
    }
    match tree {
        Tree::Atom { .. } => format!("{}({})", group.kind, group.size),
        Tree::Sum(parts) => joined(parts, group, " ++ ", |sizes| sizes.iter().sum()),
        Tree::Product(factors) => joined(factors, group, " × ", |sizes| sizes.iter().product()),
    }
}

/// The children, those without the group taken together.
fn joined(trees: &[Tree], group: &Group, sign: &str, total: fn(&[usize]) -> usize) -> String {
    let mut texts = Vec::new();
    for run in trees.chunk_by(|a, b| !a.contains(group.atom) && !b.contains(group.atom)) {
        texts.push(match run {
            [Tree::Sum(_)] if run[0].contains(group.atom) => {
                format!("({})", describe(&run[0], group))
            }
            [only] => describe(only, group),
            _ => total(&run.iter().map(Tree::size).collect::<Vec<_>>()).to_string(),
        });
    }
    texts.join(sign)
}

fn overview(listing: &Listing) -> String {
    let mut rows = table::headed(&[
        ("group", Align::Left),
        ("kind", Align::Left),
        ("size", Align::Right),
        ("slices", Align::Right),
        ("parameters", Align::Right),
        ("MACs", Align::Right),
        ("exactness", Align::Left),
    ]);
    for entry in &listing.groups {
        rows.add_row([
            entry.name.clone(),
            entry.kind.to_string(),
            entry.size.to_string(),
            entry.slices.len().to_string(),
            number::count(entry.parameters),
            number::count(entry.macs),
            exactness(entry).to_string(),
        ]);
    }
    let mut text = String::new();
    if !listing.groups.is_empty() {
        table::push(&mut text, &mut rows, 0);
        text.push('\n');
    }
    text
}

fn exactness(entry: &Entry) -> &'static str {
    if entry.exact { "exact" } else { "approximate" }
}

fn details(listing: &Listing) -> String {
    let mut text = String::new();
    for entry in &listing.groups {
        let _ = writeln!(
            text,
            "{}  {}({}), {}, {} parameters, {} MACs",
            entry.name,
            entry.kind,
            entry.size,
            exactness(entry),
            number::count(entry.parameters),
            number::count(entry.macs),
        );
        let mut rows = table::plain();
        for slice in &entry.slices {
            let shape: Vec<_> = slice.shape.iter().map(usize::to_string).collect();
            rows.add_row([
                slice.role.to_string(),
                slice.name(),
                format!("[{}]", shape.join(", ")),
                slice.tree.clone(),
            ]);
        }
        table::push(&mut text, &mut rows, 2);
        for coupling in &entry.couplings {
            let Coupling { node, operator, reason } = coupling;
            let _ = writeln!(text, "  approximate at {operator} `{node}`: {reason}");
        }
        text.push('\n');
    }
    text
}

impl Slice {
    fn name(&self) -> String {
        let Slice { parameter, label, axis, .. } = self;
        match label == parameter {
            true => format!("{parameter}:{axis}"),
            false => format!("{label}:{axis} ({parameter})"),
        }
    }
}

fn totals(listing: &Listing) -> String {
    if listing.count == 0 {
        return "No group: nothing in this model can be cut.\n".to_string();
    }
    let mut text = String::new();
    let shown = match listing.groups.len() {
        shown if shown == listing.count => String::new(),
        shown => format!("{shown} of "),
    };
    let _ = writeln!(
        text,
        "{shown}{} groups ({} exact, {} approximate) govern {} of {} parameters.",
        listing.count,
        listing.exact,
        listing.count - listing.exact,
        number::percent(listing.coverage),
        number::count(listing.parameters),
    );
    let mut optional: Vec<_> =
        listing.groups.iter().filter(|entry| !entry.default).map(|entry| entry.kind).collect();
    optional.sort_unstable();
    optional.dedup();
    if !optional.is_empty() {
        let kinds: Vec<_> = optional.iter().map(|kind| format!("+{kind}")).collect();
        let _ = writeln!(text, "Cut only when asked for: `--kinds {}`.", kinds.join(","));
    }
    text
}
