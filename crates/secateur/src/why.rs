//! Explains the analysis: what ties two parameter axes together, and what pins one.
//!
//! The answer is a shortest chain of nodes through which a dimension passes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::Serialize;

use crate::Model;
use crate::analysis::MODEL;
use crate::axis::{AxisId, Pin, Tree};
use crate::cost;
use crate::graph::{NodeId, ParamId, ValueId};

#[cfg(test)]
mod tests;

/// One axis of one value.
type Slot = (ValueId, usize);

/// What an axis is made of, and why each part can or cannot be cut.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The axis, as `LABEL:AXIS`.
    pub axis: String,
    /// What it is made of, such as `3 × heads(12) × head-width(64)`.
    pub tree: String,
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

/// One independent dimension in an axis.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Number of indices.
    pub size: usize,
    /// The group that it is, if it can be cut.
    pub group: Option<String>,
    /// Why it cannot be cut.
    pub pinned: Option<String>,
    /// From the parameter to the node that pins it, or that makes its group approximate.
    pub chain: Vec<Step>,
}

/// A node through which a dimension passes.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Its dimension rule.
    pub rule: String,
    /// Where the dimension goes on, as `VALUE:AXIS` or `LABEL:AXIS`.
    pub to: String,
}

/// What ties two axes.
#[derive(Clone, Debug, Serialize)]
pub struct Tie {
    /// The one axis, as `LABEL:AXIS`.
    pub from: String,
    /// The other.
    pub to: String,
    /// The dimension that both carry.
    pub shared: String,
    /// From the one to the other.
    pub chain: Vec<Step>,
}

/// A weight that no group governs.
#[derive(Clone, Debug, Serialize)]
pub struct PinnedWeight {
    /// The weight's label.
    pub parameter: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Per axis, why it cannot be cut; empty for an axis of one index.
    pub reasons: Vec<Vec<String>>,
}

/// The weights that no group governs, the largest first.
pub fn pinned_weights(model: &Model) -> Vec<PinnedWeight> {
    let (graph, groups) = (model.graph(), model.groups());
    let governed = |id: ParamId| {
        let trees = groups.trees(id).iter();
        trees.flat_map(|tree| tree.atoms()).any(|atom| groups.of_atom(atom).is_some())
    };
    let mut ids: Vec<ParamId> = graph
        .param_ids()
        .filter(|&id| {
            cost::is_weight(graph.param(id)) && graph.param(id).len() > 1 && !governed(id)
        })
        .collect();
    ids.sort_by_key(|&id| (Reverse(graph.param(id).len()), id));
    let map = Slots::new(model);
    let weight = |id: ParamId| PinnedWeight {
        parameter: graph.param(id).label.clone(),
        shape: graph.param(id).shape.clone(),
        reasons: groups.trees(id).iter().map(|tree| map.reasons(tree)).collect(),
    };
    ids.into_iter().map(weight).collect()
}

/// Explains one axis of a parameter.
pub fn explain(model: &Model, (param, axis): (ParamId, usize)) -> Explanation {
    let tree = &model.groups().trees(param)[axis];
    let slot = (model.graph().param(param).value, axis);
    let map = Slots::new(model);
    let parts = tree.atoms().into_iter().map(|atom| map.part(slot, atom)).collect();
    Explanation { axis: map.name(slot), tree: tree.describe(&|atom| describe(model, atom)), parts }
}

/// Finds what ties two parameter axes; `None` where they are independent.
pub fn tie(model: &Model, a: (ParamId, usize), b: (ParamId, usize)) -> Option<Tie> {
    let slot = |(param, axis): (ParamId, usize)| (model.graph().param(param).value, axis);
    let others = model.groups().trees(b.0)[b.1].atoms();
    let mut shared = model.groups().trees(a.0)[a.1].atoms();
    shared.retain(|atom| others.contains(atom));
    // A dimension that can be cut says more than a pinned one.
    shared.sort_by_key(|&atom| model.groups().of_atom(atom).is_none());
    let map = Slots::new(model);
    let (from, to) = (slot(a), slot(b));
    shared.into_iter().find_map(|atom| {
        let chain = map.chain(from, atom, &|_, reached| reached == to)?;
        Some(Tie { from: map.name(from), to: map.name(to), shared: describe(model, atom), chain })
    })
}

/// A group as `kind(size)`, any other dimension as its size.
pub fn describe(model: &Model, atom: AxisId) -> String {
    let size = model.analysis().axes.size(atom);
    match model.groups().of_atom(atom) {
        Some(group) => format!("{}({size})", model.groups().get(group).kind),
        None => size.to_string(),
    }
}

/// Which nodes read or make each value.
struct Slots<'a> {
    model: &'a Model,
    nodes: Vec<Vec<NodeId>>,
}

impl<'a> Slots<'a> {
    fn new(model: &'a Model) -> Self {
        let graph = model.graph();
        let mut nodes = vec![Vec::new(); graph.values.len()];
        for id in graph.node_ids() {
            let node = graph.node(id);
            for value in node.inputs.iter().flatten().chain(&node.outputs) {
                let known: &mut Vec<NodeId> = &mut nodes[value.index()];
                if known.last() != Some(&id) {
                    known.push(id);
                }
            }
        }
        Slots { model, nodes }
    }

    fn name(&self, (value, axis): Slot) -> String {
        let graph = self.model.graph();
        let name = match graph.as_param(value) {
            Some(param) => &graph.param(param).label,
            None => &graph.value(value).name,
        };
        format!("{name}:{axis}")
    }

    fn part(&self, from: Slot, atom: AxisId) -> Part {
        let groups = self.model.groups();
        let group = groups.of_atom(atom).map(|id| groups.get(id));
        let pin = self.model.analysis().axes.pinned(atom);
        let coupling = group.and_then(|group| group.couplings.first());
        let chain = match (pin, coupling) {
            (Some(pin), _) => self.chain_to_pin(from, atom, pin),
            (None, Some(coupling)) => self.chain(from, atom, &|node, _| node == coupling.node),
            (None, None) => None,
        };
        Part {
            size: self.model.analysis().axes.size(atom),
            group: group.map(|group| group.name.clone()),
            pinned: pin.map(|pin| self.pin_text(pin)),
            chain: chain.unwrap_or_default(),
        }
    }

    /// The distinct reasons why the parts of an axis cannot be cut.
    fn reasons(&self, tree: &Tree) -> Vec<String> {
        let pins = tree.atoms().into_iter().filter_map(|a| self.model.analysis().axes.pinned(a));
        let mut reasons: Vec<String> = pins.map(|pin| self.pin_text(pin)).collect();
        let mut seen = BTreeSet::new();
        reasons.retain(|reason| seen.insert(reason.clone()));
        reasons
    }

    fn pin_text(&self, pin: Pin) -> String {
        if pin.cause == MODEL {
            return pin.reason.to_string();
        }
        let node = self.model.graph().nodes.get(pin.cause.0 as usize);
        let name = node.map_or("", |node| node.name.as_str());
        format!("{} (node `{name}`)", pin.reason)
    }

    fn chain_to_pin(&self, from: Slot, atom: AxisId, pin: Pin) -> Option<Vec<Step>> {
        let graph = self.model.graph();
        let ends: BTreeSet<ValueId> = if pin.cause == MODEL {
            graph.outputs.iter().chain(&graph.inputs).copied().collect()
        } else {
            BTreeSet::new()
        };
        self.chain(from, atom, &|node, (value, _)| node.0 == pin.cause.0 || ends.contains(&value))
    }

    /// A shortest chain of nodes along which an atom passes, until `done` holds for a node and an
    /// axis that it touches.
    fn chain(
        &self,
        from: Slot,
        atom: AxisId,
        done: &dyn Fn(NodeId, Slot) -> bool,
    ) -> Option<Vec<Step>> {
        let mut came: BTreeMap<Slot, Option<(NodeId, Slot)>> = BTreeMap::from([(from, None)]);
        let mut queue = VecDeque::from([from]);
        while let Some(slot) = queue.pop_front() {
            for &node in &self.nodes[slot.0.index()] {
                for next in self.linked(node, slot, atom) {
                    if came.contains_key(&next) {
                        continue;
                    }
                    came.insert(next, Some((node, slot)));
                    if done(node, next) {
                        return Some(self.walk_back(&came, next));
                    }
                    queue.push_back(next);
                }
                if done(node, slot) {
                    let mut steps = self.walk_back(&came, slot);
                    steps.push(self.step(node, slot));
                    return Some(steps);
                }
            }
        }
        None
    }

    fn walk_back(&self, came: &BTreeMap<Slot, Option<(NodeId, Slot)>>, end: Slot) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = end;
        while let Some(Some((node, before))) = came.get(&at) {
            steps.push(self.step(*node, at));
            at = *before;
        }
        steps.reverse();
        steps
    }

    fn step(&self, node: NodeId, to: Slot) -> Step {
        let node = self.model.graph().node(node);
        Step {
            node: node.name.clone(),
            operator: node.kind.clone(),
            rule: node.rule.as_ref().map(ToString::to_string).unwrap_or_default(),
            to: self.name(to),
        }
    }

    /// The axes of a node's values that share a factor with `slot` in which the atom is.
    fn linked(&self, id: NodeId, slot: Slot, atom: AxisId) -> Vec<Slot> {
        let node = self.model.graph().node(id);
        let Some(rule) = &node.rule else { return Vec::new() };
        let analysis = self.model.analysis();
        let factors = analysis.factors(id);
        let dims = || {
            let inputs = rule.operands.iter().map(|o| &o.dims).zip(&node.inputs);
            let inputs = inputs.filter_map(|(dims, value)| value.map(|value| (dims, value)));
            let outputs = rule.results.iter().zip(node.outputs.iter().copied());
            inputs.chain(outputs)
        };
        let mut shared = BTreeSet::new();
        for (dims, _) in dims().filter(|(_, value)| *value == slot.0) {
            let here = dims.get(slot.1).into_iter().flat_map(|dim| dim.factors());
            shared.extend(here.filter(|f| analysis.axes.contains(factors[f.index()], atom)));
        }
        let mut slots = Vec::new();
        for (dims, value) in dims() {
            let with = dims.iter().enumerate();
            let with = with.filter(|(_, dim)| dim.factors().any(|f| shared.contains(&f)));
            slots.extend(with.map(|(axis, _)| (value, axis)));
        }
        slots
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` -> {}", self.operator, self.node, self.to)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} = {}", self.axis, self.tree)?;
        if self.parts.is_empty() {
            writeln!(f, "  a single index, which always stays")?;
        }
        for part in &self.parts {
            match (&part.group, &part.pinned) {
                (Some(group), _) => write!(f, "  {}: group `{group}`", part.size)?,
                (None, Some(reason)) => write!(f, "  {}: pinned: {reason}", part.size)?,
                (None, None) => write!(f, "  {}: free", part.size)?,
            }
            writeln!(f)?;
            for step in &part.chain {
                writeln!(f, "    {step}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} and {} share {}", self.from, self.to, self.shared)?;
        for step in &self.chain {
            writeln!(f, "    {step}")?;
        }
        Ok(())
    }
}
