//! What pruning did: sizes before and after, and what became of every group.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use secateur::cost::{Cost, Footprint};
use secateur::group::{Group, GroupId, Keeps};
use secateur::select::Entry;
use secateur::{Model, Saved};
use serde::Serialize;
use serde_json::Value;

use crate::number;
use crate::source;
use crate::table::{self, Align};
#[cfg(feature = "train")]
use crate::verify::Verified;

/// Why a group that was free to be cut loses nothing.
const SPARED: &str = "the ratio removes none of its indices";

/// The same for all groups; a warning has the reasons.
const STUCK: &str = "no group can be cut";

/// What pruning did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The model as it was.
    pub before: Size,
    /// The model as it is written, or would be.
    pub after: Size,
    /// What was asked for; `null` where a plan decides.
    pub asked: Value,
    /// What became of every group.
    pub groups: Vec<Fate>,
    /// The fraction of the parameters that some group governs.
    pub coverage: f64,
    /// From the start to the end.
    pub milliseconds: f64,
    /// What the user should know besides.
    pub warnings: Vec<String>,
    /// The file that was written.
    pub output: Option<String>,
    /// Its data file.
    pub data: Option<String>,
    /// The plan that was written.
    pub plan: Option<String>,
    /// What running the model and the mask has told.
    #[cfg(feature = "train")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// What was asked for and reached, for people.
    #[serde(skip)]
    pub summary: Option<String>,
    /// How many of the warnings are about operators.
    #[serde(skip)]
    opaque: usize,
    /// Why no group can be cut.
    #[serde(skip)]
    pub stuck: Option<String>,
    #[serde(skip)]
    input: String,
    #[serde(skip)]
    assumed: String,
    #[serde(skip)]
    layers: Vec<Layer>,
}

/// How large a model is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Elements of its weights.
    pub parameters: u64,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// The file and its data files.
    pub bytes: u64,
}

/// What became of a group.
#[derive(Debug, Serialize)]
pub struct Fate {
    name: String,
    kind: &'static str,
    size: usize,
    kept: usize,
    exact: bool,
    asked: Option<f64>,
    reached: f64,
    why: Option<String>,
    parameters: u64,
    macs: u64,
}

/// What became of a node that multiplies.
#[derive(Debug)]
struct Layer {
    name: String,
    operator: String,
    before: (u64, u64),
    after: (u64, u64),
}

/// How much a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Totals, and reasons in sum.
    Short,
    /// Every group and every layer.
    Full,
}

impl Report {
    /// Reports on cuts. `entries` says what a selection asked for.
    pub fn new(model: &Model, cost: &Cost, keeps: &Keeps, entries: Option<&[Entry]>) -> Self {
        let sizes = |id: GroupId| keeps.get(&id).map(Vec::len);
        let file = model.byte_size();
        let (now, then) = (cost.now(), cost.with(&sizes));
        let asked: BTreeMap<GroupId, &Entry> =
            entries.unwrap_or_default().iter().map(|entry| (entry.group, entry)).collect();
        let stuck = entries.is_some_and(<[Entry]>::is_empty);
        let governed = cost.governed();
        let fate = |(id, group): (GroupId, &Group)| {
            let kept = sizes(id).unwrap_or(group.size);
            let entry = entries.map(|_| asked.get(&id).copied());
            let mut fate =
                Fate::new(group, kept, governed.get(&id).copied().unwrap_or_default(), entry);
            if stuck {
                fate.why = Some(STUCK.to_string());
            }
            fate
        };
        Report {
            before: Size::new(now, file),
            after: Size::new(then, (file + then.bytes).saturating_sub(now.bytes)),
            asked: Value::Null,
            groups: model.groups().iter().map(fate).collect(),
            coverage: cost.coverage(model.groups().iter().map(|(id, _)| id)),
            milliseconds: 0.0,
            warnings: model.graph().warnings.clone(),
            output: None,
            data: None,
            plan: None,
            opaque: model.graph().warnings.len(),
            summary: None,
            #[cfg(feature = "train")]
            verified: None,
            stuck: None,
            input: model.path().display().to_string(),
            assumed: source::assumed(model),
            layers: layers(model, cost, &sizes),
        }
    }

    /// Notes the file that was written.
    pub fn written(&mut self, path: &Path, saved: &Saved) {
        self.output = Some(path.display().to_string());
        self.data = saved.data.as_ref().map(|data| data.display().to_string());
        self.after.bytes = saved.bytes;
    }

    /// Notes the end, and warns where nothing came of it.
    pub fn finish(&mut self, start: Instant) {
        self.milliseconds = (start.elapsed().as_secs_f64() * 1e5).round() / 100.0;
        if self.groups.is_empty() {
            self.warnings.push("nothing was pruned: the model has no group".to_string());
        } else if self.cut().count() == 0 {
            let why = self.stuck.as_deref().unwrap_or("every group is left alone");
            self.warnings.push(format!("nothing was pruned: {why}"));
        }
    }

    fn cut(&self) -> impl Iterator<Item = &Fate> {
        self.groups.iter().filter(|fate| fate.kept < fate.size)
    }

    /// The warnings for people: what the reader could not follow is one.
    pub fn remarks(&self) -> Vec<String> {
        let (opaque, others) = self.warnings.split_at(self.opaque);
        [opaque_remarks(opaque), others.to_vec()].concat()
    }

    /// The fraction of the indices that went, of the groups that a ratio was asked of.
    pub fn removed(&self) -> f64 {
        let asked =
            || self.groups.iter().filter(|fate| fate.asked.is_some_and(|asked| asked > 0.0));
        let total: usize = asked().map(|fate| fate.size).sum();
        let kept: usize = asked().map(|fate| fate.kept).sum();
        if total == 0 { 0.0 } else { 1.0 - kept as f64 / total as f64 }
    }

    /// The report for people.
    pub fn text(&self, detail: Detail) -> String {
        let mut text = match &self.output {
            Some(output) => format!("{} -> {output}\n\n", self.input),
            None => format!("{}\n\n", self.input),
        };
        if detail == Detail::Full {
            self.push_groups(&mut text);
            self.push_layers(&mut text);
        }
        self.push_sizes(&mut text);
        text.push('\n');
        if let Some(summary) = &self.summary {
            let _ = writeln!(text, "{summary}");
        }
        self.push_counts(&mut text);
        let time = number::duration(self.milliseconds);
        let _ = match (&self.output, &self.data) {
            (Some(output), Some(data)) => {
                writeln!(text, "Wrote `{output}` and `{data}` in {time}.")
            }
            (Some(output), None) => writeln!(text, "Wrote `{output}` in {time}."),
            (None, _) => writeln!(text, "No model was written."),
        };
        if let Some(plan) = &self.plan {
            let _ = writeln!(text, "Wrote the plan `{plan}`.");
        }
        #[cfg(feature = "train")]
        if let Some(verified) = &self.verified {
            let _ = writeln!(text, "{verified}");
        }
        text
    }

    fn push_sizes(&self, text: &mut String) {
        let (before, after) = (&self.before, &self.after);
        let mut rows = table::headed(&[
            ("", Align::Left),
            ("before", Align::Right),
            ("after", Align::Right),
            ("change", Align::Right),
        ]);
        let mut add = |name: &str, show: fn(u64) -> String, before: u64, after: u64| {
            let change = number::change(before, after);
            rows.add_row([name.to_string(), show(before), show(after), change]);
        };
        add("parameters", number::count, before.parameters, after.parameters);
        add("MACs", number::count, before.macs, after.macs);
        add("size", number::bytes, before.bytes, after.bytes);
        table::align(&mut rows, RIGHT.into_iter());
        table::push(text, &mut rows, 0);
        if !self.assumed.is_empty() {
            let _ = writeln!(text, "\nMACs are for {}.", self.assumed);
        }
    }

    fn push_counts(&self, text: &mut String) {
        let cut = self.cut().count();
        let exact = self.cut().filter(|fate| fate.exact).count();
        let exactness = match cut - exact {
            _ if cut == 0 => String::new(),
            0 => ", all exact".to_string(),
            approximate => format!(", {exact} exact and {approximate} approximate"),
        };
        let _ = writeln!(text, "Cut {cut} of {} groups{exactness}.", self.groups.len());
        if self.stuck.is_some() {
            return;
        }
        let left = |fate: &&Fate| fate.kept == fate.size;
        push_reasons(text, "Left alone:", self.groups.iter().filter(left));
        let short = |fate: &&Fate| fate.kept < fate.size && fate.why.is_some();
        push_reasons(text, "Cut less than asked:", self.groups.iter().filter(short));
    }

    fn push_groups(&self, text: &mut String) {
        let mut rows = table::headed(&[
            ("group", Align::Left),
            ("kind", Align::Left),
            ("size", Align::Right),
            ("kept", Align::Right),
            ("asked", Align::Right),
            ("reached", Align::Right),
            ("exactness", Align::Left),
            ("why", Align::Left),
        ]);
        for fate in &self.groups {
            rows.add_row([
                fate.name.clone(),
                fate.kind.to_string(),
                fate.size.to_string(),
                fate.kept.to_string(),
                fate.asked.filter(|&asked| asked > 0.0).map(number::percent).unwrap_or_default(),
                number::percent(fate.reached),
                if fate.exact { "exact" } else { "approximate" }.to_string(),
                fate.why.clone().unwrap_or_default(),
            ]);
        }
        if !self.groups.is_empty() {
            table::push(text, &mut rows, 0);
            text.push('\n');
        }
    }

    fn push_layers(&self, text: &mut String) {
        let mut rows = table::headed(&[
            ("layer", Align::Left),
            ("operator", Align::Left),
            ("parameters", Align::Right),
            ("after", Align::Right),
            ("MACs", Align::Right),
            ("after", Align::Right),
            ("change", Align::Right),
        ]);
        for layer in &self.layers {
            rows.add_row([
                layer.name.clone(),
                layer.operator.clone(),
                number::count(layer.before.0),
                number::count(layer.after.0),
                number::count(layer.before.1),
                number::count(layer.after.1),
                number::change(layer.before.1, layer.after.1),
            ]);
        }
        if !self.layers.is_empty() {
            table::push(text, &mut rows, 0);
            text.push('\n');
        }
    }
}

const RIGHT: [Align; 4] = [Align::Left, Align::Right, Align::Right, Align::Right];

impl Size {
    fn new(footprint: Footprint, bytes: u64) -> Self {
        Size { parameters: footprint.parameters, macs: footprint.macs, bytes }
    }
}

impl Fate {
    /// `entry` is `None` where a plan decides.
    fn new(group: &Group, kept: usize, governed: Footprint, entry: Option<Option<&Entry>>) -> Self {
        let whole = kept == group.size;
        let why = match entry {
            None => whole.then(|| "not in the plan".to_string()),
            Some(entry) => entry
                .and_then(|entry| entry.why.clone())
                .or_else(|| whole.then(|| SPARED.to_string())),
        };
        Fate {
            name: group.name.clone(),
            kind: group.kind.name(),
            size: group.size,
            kept,
            exact: group.is_exact(),
            asked: entry.flatten().map(|entry| rounded(entry.asked)),
            reached: rounded(1.0 - kept as f64 / group.size.max(1) as f64),
            why,
            parameters: governed.parameters,
            macs: governed.macs,
        }
    }
}

/// A fraction without the noise of a search.
fn rounded(fraction: f64) -> f64 {
    (fraction * 1e6).round() / 1e6
}

/// Reasons, the most frequent first.
fn push_reasons<'a>(text: &mut String, title: &str, fates: impl Iterator<Item = &'a Fate>) {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for fate in fates {
        *reasons.entry(fate.why.as_deref().unwrap_or_default()).or_default() += 1;
    }
    if reasons.is_empty() {
        return;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|&(reason, count)| (std::cmp::Reverse(count), reason));
    let _ = writeln!(text, "{title}");
    let mut rows = table::plain();
    rows.add_rows(reasons.iter().map(|(why, count)| [count.to_string(), why.to_string()]));
    table::align(&mut rows, [Align::Right, Align::Left].into_iter());
    table::push(text, &mut rows, 2);
}

/// At most two lines on what the reader could not follow: `inspect` has the details.
pub fn opaque_remarks(warnings: &[String]) -> Vec<String> {
    match warnings {
        [_, _, _, ..] => vec![format!(
            "{} and {} more remarks on operators: `secateur inspect` lists them",
            warnings[0],
            warnings.len() - 1
        )],
        few => few.to_vec(),
    }
}

fn layers(model: &Model, cost: &Cost, sizes: &impl Fn(GroupId) -> Option<usize>) -> Vec<Layer> {
    let before = cost.layers(&|_| None);
    let after = cost.layers(sizes);
    let layer = |(before, after): (&secateur::cost::LayerCost, &secateur::cost::LayerCost)| {
        let node = model.graph().node(before.node);
        Layer {
            name: node.name.clone(),
            operator: node.kind.clone(),
            before: (before.parameters, before.macs),
            after: (after.parameters, after.macs),
        }
    };
    before.iter().zip(&after).map(layer).collect()
}
