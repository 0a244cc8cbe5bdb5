//! Where the units of a group can be seen: the values that their producers make.

use secateur::Model;
use secateur::graph::{Graph, NodeId, Origin, ValueId};
use secateur::group::{Group, Role};
use secateur::ops::Op;
use secateur::rule::Kind;

use crate::{Program, Slot};

/// Which value of a producer counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    /// What the layer itself returns.
    #[default]
    Output,
    /// What the norm and the activation behind it return.
    Best,
}

/// A value that holds the units of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The value.
    pub slot: Slot,
    /// The axis that the units stand on.
    pub axis: usize,
    /// The positions of every unit there.
    pub members: Vec<Vec<u32>>,
}

/// Finds points: the graph is read once for all groups.
pub(crate) struct Finder<'a> {
    model: &'a Model,
    program: &'a Program,
    on: On,
    readers: Vec<Vec<NodeId>>,
    /// Whether a value depends on what the user gives.
    data: Vec<bool>,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(model: &'a Model, program: &'a Program, on: On) -> Self {
        let graph = model.graph();
        let mut readers = vec![Vec::new(); graph.values.len()];
        let mut data: Vec<bool> =
            graph.values.iter().map(|value| value.origin == Origin::Input).collect();
        for id in graph.node_ids() {
            let node = graph.node(id);
            for input in node.inputs.iter().flatten() {
                readers[input.index()].push(id);
            }
            let depends = node.inputs.iter().flatten().any(|input| data[input.index()]);
            node.outputs.iter().for_each(|output| data[output.index()] |= depends);
        }
        Finder { model, program, on, readers, data }
    }

    /// The points of a group, one per producer; none where a function hides them.
    pub(crate) fn points(&self, group: &Group) -> Vec<Point> {
        let mut values: Vec<ValueId> = Vec::new();
        for slice in group.slices.iter().filter(|slice| slice.role == Role::Producer) {
            let value = self.graph().param(slice.param).value;
            self.readers(value).iter().for_each(|&node| values.extend(self.made(group, node)));
        }
        values.sort_unstable();
        values.dedup();
        let found = values.into_iter().map(|value| self.point(group, value));
        found.collect::<Option<Vec<Point>>>().unwrap_or_default()
    }

    fn graph(&self) -> &'a Graph {
        self.model.graph()
    }

    fn readers(&self, value: ValueId) -> &[NodeId] {
        &self.readers[value.index()]
    }

    /// The value that a reader of a weight makes of the units.
    fn made(&self, group: &Group, node: NodeId) -> Vec<ValueId> {
        let Some(&first) = self.graph().node(node).outputs.first() else { return Vec::new() };
        if !self.data[first.index()] {
            return self.readers(first).iter().flat_map(|&next| self.made(group, next)).collect();
        }
        let mut value = first;
        while let Some(next) = self.next(group, value) {
            value = next;
        }
        vec![value]
    }

    /// The value behind the norm, activation or bias that alone reads this one.
    fn next(&self, group: &Group, value: ValueId) -> Option<ValueId> {
        let graph = self.graph();
        let [reader] = self.readers(value) else { return None };
        if graph.outputs.contains(&value) {
            return None;
        }
        let node = graph.node(*reader);
        let inputs = node.inputs.iter().flatten();
        let mut others = inputs.filter(|&&input| input != value);
        if others.any(|input| self.data[input.index()]) {
            return None;
        }
        let hidden = graph.value(value).name.is_empty();
        let bias = node.kind == "Add" && node.inputs.len() == 2;
        let follows = matches!(node.op, Op::Elementwise(_) | Op::Norm(_));
        if !(hidden || bias || follows && self.on == On::Best) || !self.is_free(group, *reader) {
            return None;
        }
        node.outputs.first().copied()
    }

    /// Whether a node leaves units apart.
    fn is_free(&self, group: &Group, node: NodeId) -> bool {
        let analysis = self.model.analysis();
        let Some(rule) = &self.graph().node(node).rule else { return false };
        let factors = rule.factors.iter().zip(analysis.factors(node));
        let mut holding = factors.filter(|(_, axis)| analysis.axes.contains(**axis, group.atom));
        holding.all(|(factor, _)| factor.kind == Kind::Free)
    }

    fn point(&self, group: &Group, value: ValueId) -> Option<Point> {
        let slot = self.program.find(&self.graph().value(value).name)?;
        let (axis, members) = held(self.model, group, value)?;
        Some(Point { slot, axis, members })
    }
}

/// The axis of a value that holds all units of a group, and where on it.
fn held(model: &Model, group: &Group, value: ValueId) -> Option<(usize, Vec<Vec<u32>>)> {
    let analysis = model.analysis();
    let mut axes = analysis.value(value).iter().enumerate();
    let (axis, &id) = axes.find(|(_, axis)| analysis.axes.contains(**axis, group.atom))?;
    let mut members = vec![Vec::new(); group.size];
    let tree = analysis.axes.tree(id);
    tree.visit_positions(group.atom, 0, &mut |at, index| {
        members[index as usize].push(at as u32);
    });
    members.iter().all(|held| !held.is_empty()).then_some((axis, members))
}

/// Where the units of a group stand in a value of a program, and its number of axes.
pub(crate) fn point_at(
    model: &Model,
    program: &Program,
    group: &Group,
    slot: Slot,
) -> Option<(Point, usize)> {
    let (graph, name) = (model.graph(), &program.names[slot.index()]);
    let value = graph.values.iter().position(|value| value.name == *name)?;
    let value = graph.nodes.iter().flat_map(|node| &node.outputs).find(|v| v.index() == value)?;
    let (axis, members) = held(model, group, *value)?;
    Some((Point { slot, axis, members }, graph.shape(*value).len()))
}
