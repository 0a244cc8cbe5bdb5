//! Which groups may be cut, and by which ratio of their own: kinds, exactness and name patterns.
//!
//! A pattern is a glob (`*`, `?`, `[a-z]`, `{a,b}`) over whole names; `*` matches dots and slashes
//! too. What it is matched with says [`Matcher`].

use globset::{GlobBuilder, GlobMatcher};

use super::SelectOptions;
use crate::cost::weights_of_values;
use crate::graph::{Graph, NodeId};
use crate::group::{Group, Groups, Role};
use crate::{Error, Result};

/// What the options say of a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It may be cut, by a ratio of its own if there is one.
    Cut(Option<f64>),
    /// It is left alone; why.
    Leave(String),
}

/// The verdict on every group, in order.
pub(super) fn verdicts(
    graph: &Graph,
    groups: &Groups,
    options: &SelectOptions,
) -> Result<Vec<Verdict>> {
    let keep: Vec<_> = options.keep.iter().map(|text| Pattern::new(text)).collect::<Result<_>>()?;
    let ratios: Vec<_> =
        options.ratio_for.iter().map(|(text, _)| Pattern::new(text)).collect::<Result<_>>()?;
    let matcher = if keep.is_empty() && ratios.is_empty() {
        Matcher { graph, readers: Vec::new() }
    } else {
        Matcher::new(graph)
    };
    for pattern in keep.iter().chain(&ratios) {
        matcher.check(pattern, groups)?;
    }
    let verdict = |group: &Group| {
        if let Some(pattern) = keep.iter().find(|pattern| matcher.touches(pattern, group)) {
            return Verdict::Leave(format!("kept by --keep `{}`", pattern.text));
        }
        if !options.kinds.contains(&group.kind) {
            return Verdict::Leave(format!("kind `{}` is not selected", group.kind));
        }
        if options.exact_only && !group.is_exact() {
            return Verdict::Leave("approximate, and only exact groups were asked for".into());
        }
        let mut own = ratios.iter().zip(&options.ratio_for).rev();
        let found = own.find(|(pattern, _)| matcher.matches(pattern, group, makes));
        Verdict::Cut(found.map(|(_, (_, ratio))| *ratio))
    };
    Ok(groups.iter().map(|(_, group)| verdict(group)).collect())
}

/// A ratio is for the layers that make a dimension, not for those that only read it.
fn makes(role: Role) -> bool {
    role != Role::Consumer
}

/// A pattern of names.
#[derive(Clone, Debug)]
pub struct Pattern<'a> {
    text: &'a str,
    glob: GlobMatcher,
}

impl<'a> Pattern<'a> {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When brackets or braces in it are not closed.
    pub fn new(text: &'a str) -> Result<Self> {
        let glob = GlobBuilder::new(text).literal_separator(false).build();
        let glob = glob.map_err(|error| {
            let why = error.kind().to_string().replace('\'', "`");
            Error::argument(format!("`{text}` is not a pattern: {why}"))
                .hint("escape `[`, `{`, `*` and `?` with `\\` where they stand for themselves")
        })?;
        Ok(Self { text, glob: glob.compile_matcher() })
    }

    /// A name that is spelled out matches too, so that brackets in it need no escape.
    pub fn matches(&self, name: &str) -> bool {
        !name.is_empty() && (name == self.text || self.glob.is_match(name))
    }

    /// A pattern that matches none of the names that there are is a mistake.
    ///
    /// # Errors
    /// When it matches none; the most similar names.
    pub fn check(&self, names: Vec<&str>) -> Result<()> {
        if names.iter().any(|name| self.matches(name)) {
            return Ok(());
        }
        let error = Error::argument(format!("the pattern `{}` matches nothing", self.text));
        Err(match nearest(self.text, names).as_slice() {
            [] => error,
            near => error.hint(format!("names like it: {}", near.join(", "))),
        })
    }
}

/// Finds the groups that a pattern means, by the names of groups, of the parameters that carry
/// them (and their labels), and of the nodes that read these.
#[derive(Clone, Debug)]
pub struct Matcher<'a> {
    graph: &'a Graph,
    readers: Vec<Vec<NodeId>>,
}

impl<'a> Matcher<'a> {
    /// A matcher for the groups of a graph.
    pub fn new(graph: &'a Graph) -> Self {
        Matcher { graph, readers: readers(graph) }
    }

    /// Whether the pattern means the group: whatever its parameters do with it.
    pub fn touches(&self, pattern: &Pattern<'_>, group: &Group) -> bool {
        self.matches(pattern, group, |_| true)
    }

    fn matches(&self, pattern: &Pattern<'_>, group: &Group, counts: fn(Role) -> bool) -> bool {
        pattern.matches(&group.name)
            || group.slices.iter().filter(|slice| counts(slice.role)).any(|slice| {
                let param = self.graph.param(slice.param);
                let mut readers = self.readers[slice.param.index()].iter();
                pattern.matches(&param.name)
                    || pattern.matches(&param.label)
                    || readers.any(|&node| pattern.matches(&self.graph.node(node).name))
            })
    }

    /// A pattern that matches nothing in the model is a mistake.
    ///
    /// # Errors
    /// When no group, parameter or node has such a name; the most similar names.
    pub fn check(&self, pattern: &Pattern<'_>, groups: &Groups) -> Result<()> {
        let params = self.graph.params.iter();
        let params = params.flat_map(|param| [param.name.as_str(), param.label.as_str()]);
        let nodes = self.graph.nodes.iter().map(|node| node.name.as_str());
        let groups = groups.iter().map(|(_, group)| group.name.as_str());
        pattern.check(groups.chain(params).chain(nodes).collect())
    }
}

/// The names that look most like the pattern.
fn nearest(pattern: &str, names: Vec<&str>) -> Vec<String> {
    let bare = pattern.replace('*', "");
    let likeness = |name: &str| (strsim::jaro_winkler(&bare, name) * 1e6) as u64;
    let mut ranked: Vec<(u64, &str)> = names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(|name| (u64::MAX - likeness(name), name))
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().take(3).map(|(_, name)| format!("`{name}`")).collect()
}

/// Per parameter the nodes that read it, directly or through nodes that compute with parameters only.
pub(super) fn readers(graph: &Graph) -> Vec<Vec<NodeId>> {
    let weights = weights_of_values(graph);
    let mut readers = vec![Vec::new(); graph.params.len()];
    for id in graph.node_ids() {
        let inputs = graph.node(id).inputs.iter().flatten();
        for param in inputs.flat_map(|value| weights[value.index()].iter()) {
            if readers[param.index()].last() != Some(&id) {
                readers[param.index()].push(id);
            }
        }
    }
    readers
}
