//! What a group's indices are, told from the operators that they pass through.

use std::collections::BTreeSet;
use std::fmt;

use crate::analysis::Analysis;
use crate::axis::AxisId;
use crate::graph::Graph;
use crate::ops::Op;
use crate::ops::conv::Deform;
use crate::rule::{Dim, Rule};

/// What a group's indices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Channels of convolutions.
    Channels,
    /// Features of linear layers.
    Features,
    /// The dimension that skip connections add along.
    Residual,
    /// Attention heads; with grouped-query attention, key/value heads with their queries.
    Heads,
    /// Query heads per key/value head.
    QueriesPerHead,
    /// Width of an attention head.
    HeadWidth,
    /// Groups of grouped convolutions.
    ConvGroups,
    /// Channels inside each group of a grouped convolution or normalization.
    GroupChannels,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 8] = [
        Kind::Channels,
        Kind::Features,
        Kind::Residual,
        Kind::Heads,
        Kind::QueriesPerHead,
        Kind::HeadWidth,
        Kind::ConvGroups,
        Kind::GroupChannels,
    ];

    /// The name in reports and flags.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Channels => "channels",
            Kind::Features => "features",
            Kind::Residual => "residual",
            Kind::Heads => "heads",
            Kind::QueriesPerHead => "queries-per-head",
            Kind::HeadWidth => "head-width",
            Kind::ConvGroups => "conv-groups",
            Kind::GroupChannels => "group-channels",
        }
    }

    /// Whether this kind is pruned unless others are asked for. Of the factors of one product only
    /// the outermost is, so that a ratio of one half leaves half of the indices.
    pub fn is_default(self) -> bool {
        !matches!(self, Kind::QueriesPerHead | Kind::HeadWidth | Kind::GroupChannels)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What nodes tell of the atoms that they touch.
#[derive(Default)]
pub(crate) struct Evidence {
    /// Runs in parallel through a product of activations.
    batch: BTreeSet<AxisId>,
    /// Activations are added along it.
    pub(crate) added: BTreeSet<AxisId>,
    /// Groups of grouped convolutions.
    grouped: BTreeSet<AxisId>,
    /// Channels of convolutions.
    convolved: BTreeSet<AxisId>,
}

impl Evidence {
    /// The kind of an atom: `above` are the atoms of groups that stand before it in products,
    /// `added` says whether several layers write into it.
    pub(crate) fn kind(&self, atom: AxisId, above: &[AxisId], added: bool) -> Kind {
        let in_heads = above.iter().any(|one| self.batch.contains(one));
        match () {
            () if self.batch.contains(&atom) && in_heads => Kind::QueriesPerHead,
            () if self.batch.contains(&atom) => Kind::Heads,
            () if in_heads => Kind::HeadWidth,
            // After a channel shuffle they are the inner factor, and still the coarse one.
            () if self.grouped.contains(&atom) => Kind::ConvGroups,
            () if !above.is_empty() => Kind::GroupChannels,
            () if added => Kind::Residual,
            () if self.convolved.contains(&atom) => Kind::Channels,
            () => Kind::Features,
        }
    }

    pub(crate) fn new(graph: &Graph, analysis: &Analysis) -> Self {
        let mut evidence = Evidence::default();
        let active = activations(graph);
        for id in graph.node_ids() {
            let node = graph.node(id);
            let Some(rule) = &node.rule else { continue };
            let operands = node.inputs.iter().flatten();
            let live = operands.filter(|value| active[value.index()]).count();
            let named = |names: &'static [&str]| {
                let factors = rule.factors.iter().zip(analysis.factors(id));
                let chosen = factors.filter(|(factor, _)| names.contains(&&*factor.name));
                chosen.flat_map(|(_, &axis)| analysis.axes.atoms(axis))
            };
            match &node.op {
                Op::Conv(conv) | Op::Deform(Deform { conv, .. }) => {
                    if conv.groups > 1
                        && rule.factors[2].extent.size.max(rule.factors[3].extent.size) > 1
                    {
                        evidence.grouped.extend(named(&["g"]));
                    }
                    evidence.convolved.extend(named(&["g", "o", "i"]));
                }
                Op::Attention(_) => {
                    evidence.batch.extend(named(&["b", "kv", "rep"]));
                }
                Op::Contract(_) if live == 2 => {
                    evidence.add_product(rule, analysis.factors(id), analysis)
                }
                Op::Elementwise(_) if live == 2 && is_sum(&node.kind) => {
                    let all = analysis.factors(id).iter();
                    evidence.added.extend(all.flat_map(|&axis| analysis.axes.atoms(axis)));
                }
                _ => {}
            }
        }
        evidence
    }

    /// Factors that both operands and the result of a product of activations have: heads.
    fn add_product(&mut self, rule: &Rule, factors: &[AxisId], analysis: &Analysis) {
        for (index, &axis) in factors.iter().enumerate() {
            let has =
                |dims: &[Dim]| dims.iter().any(|dim| dim.factors().any(|f| f.index() == index));
            let parallel = rule.operands.iter().all(|operand| has(&operand.dims))
                && rule.results.iter().all(|dims| has(dims));
            if parallel {
                self.batch.extend(analysis.axes.atoms(axis));
            }
        }
    }
}

/// Whether an elementwise operator adds activations.
fn is_sum(kind: &str) -> bool {
    matches!(kind, "Add" | "Sum" | "QLinearAdd") || kind.starts_with("Skip")
}

/// Which values depend on the model's inputs.
fn activations(graph: &Graph) -> Vec<bool> {
    let mut active = vec![false; graph.values.len()];
    for &input in &graph.inputs {
        active[input.index()] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().flatten().any(|value| active[value.index()]) {
            for output in &node.outputs {
                active[output.index()] = true;
            }
        }
    }
    active
}
