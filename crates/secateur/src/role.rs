//! What a parameter does with a dimension, found at the node that consumes it.

use crate::analysis::Analysis;
use crate::axis::AxisId;
use crate::graph::{Graph, Node, NodeId, Origin, ParamId, Value, ValueId};
use crate::rule::{Dim, FactorId, Kind as FactorKind, Use};

/// What a parameter does with a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The output side of a contraction: a filter, a row of a linear layer.
    Producer,
    /// The input side of a contraction.
    Consumer,
    /// A bias, a scale, a statistic.
    Affine,
    /// A column of a lookup table.
    Table,
}

impl Role {
    /// All roles, in the order of their names in reports.
    pub const ALL: [Role; 4] = [Role::Producer, Role::Consumer, Role::Affine, Role::Table];

    /// The name in reports and flags.
    pub fn name(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Consumer => "consumer",
            Role::Affine => "affine",
            Role::Table => "table",
        }
    }
}

/// Finds what parameters do with their dimensions, through nodes that only move elements.
pub(crate) struct Roles<'a> {
    graph: &'a Graph,
    analysis: &'a Analysis,
    readers: Vec<Vec<(NodeId, usize)>>,
    /// Whether a value is made of parameters alone.
    is_weight: Vec<bool>,
}

impl<'a> Roles<'a> {
    pub(crate) fn new(graph: &'a Graph, analysis: &'a Analysis) -> Self {
        let mut readers = vec![Vec::new(); graph.values.len()];
        for id in graph.node_ids() {
            for (operand, value) in graph.node(id).inputs.iter().enumerate() {
                if let Some(value) = value {
                    readers[value.index()].push((id, operand));
                }
            }
        }
        let given = |value: &Value| matches!(value.origin, Origin::Param(_));
        let mut is_weight: Vec<bool> = graph.values.iter().map(given).collect();
        for node in &graph.nodes {
            let mut inputs = node.inputs.iter().flatten().peekable();
            if inputs.peek().is_some() && inputs.all(|value| is_weight[value.index()]) {
                node.outputs.iter().for_each(|value| is_weight[value.index()] = true);
            }
        }
        Roles { graph, analysis, readers, is_weight }
    }

    /// The role of an axis for one of its atoms, and whether it is that for all of them.
    pub(crate) fn of(&self, param: ParamId, axis: usize, atom: AxisId) -> (Role, bool) {
        const MAX_SEEN: usize = 64;
        let trained = self.graph.param(param).trained;
        let mut next = Some((self.graph.param(param).value, axis));
        let (mut work, mut seen) = (Vec::new(), Vec::new());
        let mut is_for_all = true;
        while let Some((value, axis)) = next.take().or_else(|| work.pop()) {
            if seen.contains(&(value, axis)) || seen.len() >= MAX_SEEN {
                continue;
            }
            for &(node, operand) in self.readers[value.index()].iter().rev() {
                is_for_all &= self.has_one_factor(node, operand, axis);
                if let Some(role) = self.at(node, operand, (axis, atom), trained, &mut work) {
                    return (role, is_for_all);
                }
            }
            seen.push((value, axis));
        }
        (Role::Affine, is_for_all)
    }

    fn has_one_factor(&self, id: NodeId, operand: usize, axis: usize) -> bool {
        let rule = self.graph.node(id).rule.as_ref();
        rule.is_none_or(|rule| rule.operands[operand].dims[axis].as_factor().is_some())
    }

    fn makes_weight(&self, node: &Node) -> bool {
        node.outputs.iter().any(|value| self.is_weight[value.index()])
    }

    /// The role at one node, or the values to look at further on.
    fn at(
        &self,
        id: NodeId,
        operand: usize,
        (axis, atom): (usize, AxisId),
        trained: bool,
        work: &mut Vec<(ValueId, usize)>,
    ) -> Option<Role> {
        let node = self.graph.node(id);
        let rule = node.rule.as_ref()?;
        let axes = self.analysis.factors(id);
        let carries = |factor: &FactorId| self.analysis.axes.contains(axes[factor.index()], atom);
        let dims = &rule.operands[operand].dims;
        let mut factors = dims[axis].factors().peekable();
        let first = factors.next()?;
        let is_it = factors.peek().is_none() || carries(&first);
        let factor = if is_it { first } else { factors.find(carries)? };
        let has = |dim: &Dim| dim.factors().any(|f| f == factor);
        match (rule.operands[operand].role, rule.factors[factor.index()].kind) {
            (Use::Weight, FactorKind::Summed) => Some(Role::Consumer),
            // Of the two axes that a recurrent weight has of it, the last one is the input side.
            (Use::Weight, FactorKind::Inner(_)) if dims[..axis].iter().any(has) => {
                Some(Role::Consumer)
            }
            (Use::Weight, _) => Some(Role::Producer),
            // Of what a weight is made of, what is trained is the weight: of a mask it is not.
            (Use::Affine | Use::Encoding, _) if !trained || !self.makes_weight(node) => {
                Some(Role::Affine)
            }
            (Use::Table, _) => Some(Role::Table),
            (Use::Data | Use::Affine | Use::Encoding, _) => {
                for (result, dims) in rule.results.iter().enumerate() {
                    let position = dims.iter().position(has);
                    work.extend(position.map(|position| (node.outputs[result], position)));
                }
                None
            }
        }
    }
}
