//! Groups: the independent dimensions that can be cut, with every parameter that carries them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::analysis::Analysis;
use crate::axis::{AxisId, Tree};
use crate::exact::{self, Coupling};
use crate::graph::{Graph, NodeId, ParamId, ValueId};
use crate::ops::Op;
use crate::rule::{Kind as FactorKind, Use};

/// A group of a [`Groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub(crate) u32);

impl GroupId {
    /// The position in the list.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Kept indices by group, sorted; a group that is absent keeps all of its indices.
pub type Keeps = BTreeMap<GroupId, Vec<u32>>;

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

/// One parameter axis that carries a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    /// The parameter.
    pub param: ParamId,
    /// The axis.
    pub axis: usize,
    /// What the parameter does with it.
    pub role: Role,
}

/// A dimension that can be cut.
#[derive(Clone, Debug)]
pub struct Group {
    /// Unique in the model: the parameter axis that makes the dimension, as `LABEL:AXIS`, with
    /// `#K` where the axis is made of several.
    pub name: String,
    /// The atom.
    pub atom: AxisId,
    /// Number of indices.
    pub size: usize,
    /// What the indices are.
    pub kind: Kind,
    /// Every parameter axis that carries the atom, by parameter.
    pub slices: Vec<Slice>,
    /// Why pruning changes more than the removed slices do; empty for an exact group.
    pub couplings: Vec<Coupling>,
}

impl Group {
    /// Whether the pruned model computes what the original does with the removed slices zero.
    pub fn is_exact(&self) -> bool {
        self.couplings.is_empty()
    }
}

/// All groups of a model.
#[derive(Clone, Debug)]
pub struct Groups {
    groups: Vec<Group>,
    by_atom: HashMap<AxisId, GroupId>,
    /// Per parameter, what each axis is made of.
    trees: Vec<Vec<Tree>>,
}

impl Groups {
    /// Finds the groups of an analyzed graph.
    pub fn new(graph: &Graph, analysis: &Analysis) -> Self {
        let axes = &analysis.axes;
        let trees: Vec<Vec<Tree>> = graph
            .params
            .iter()
            .map(|param| analysis.value(param.value).iter().map(|&axis| axes.tree(axis)).collect())
            .collect();
        let mut slices: BTreeMap<AxisId, Vec<Slice>> = BTreeMap::new();
        let roles = Roles::new(graph, analysis);
        for id in graph.param_ids() {
            for (axis, tree) in trees[id.index()].iter().enumerate() {
                for atom in tree.atoms() {
                    if axes.pinned(atom).is_none() {
                        let role = roles.of(id, axis, atom);
                        slices.entry(atom).or_default().push(Slice { param: id, axis, role });
                    }
                }
            }
        }
        let mut groups = Groups { groups: Vec::new(), by_atom: HashMap::new(), trees };
        let mut found: Vec<_> = slices.into_iter().collect();
        found.sort_by_key(|(atom, slices)| {
            let first = primary(slices);
            (first.param, first.axis, *atom)
        });
        let evidence = Evidence::new(graph, analysis);
        for (atom, slices) in found {
            let id = GroupId(groups.groups.len() as u32);
            groups.by_atom.insert(atom, id);
            let size = axes.size(atom);
            let name = groups.name(graph, analysis, atom, &slices);
            let kind = Kind::Features;
            groups.groups.push(Group { name, atom, size, kind, slices, couplings: Vec::new() });
        }
        groups.set_kinds(&evidence);
        for (group, couplings) in exact::couplings(graph, analysis, &groups) {
            groups.groups[group.index()].couplings = couplings;
        }
        groups
    }

    /// The groups, in order.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().enumerate().map(|(index, group)| (GroupId(index as u32), group))
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether nothing can be cut.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// A group.
    pub fn get(&self, id: GroupId) -> &Group {
        &self.groups[id.index()]
    }

    /// The group of an atom.
    pub fn of_atom(&self, atom: AxisId) -> Option<GroupId> {
        self.by_atom.get(&atom).copied()
    }

    /// What the axes of a parameter are made of.
    pub fn trees(&self, param: ParamId) -> &[Tree] {
        &self.trees[param.index()]
    }

    fn name(&self, graph: &Graph, analysis: &Analysis, atom: AxisId, slices: &[Slice]) -> String {
        let Slice { param, axis, .. } = primary(slices);
        let base = format!("{}:{axis}", graph.param(param).label);
        let atoms = self.trees[param.index()][axis].atoms();
        let free: Vec<_> =
            atoms.into_iter().filter(|&atom| analysis.axes.pinned(atom).is_none()).collect();
        match free.iter().position(|&other| other == atom) {
            Some(place) if free.len() > 1 => format!("{base}#{place}"),
            _ => base,
        }
    }

    fn set_kinds(&mut self, evidence: &Evidence) {
        let outer = self.outer_atoms();
        for index in 0..self.groups.len() {
            let atom = self.groups[index].atom;
            let above = outer.get(&atom);
            let has = |set: &BTreeSet<AxisId>| set.contains(&atom);
            let under = |set: &BTreeSet<AxisId>| above.is_some_and(|a| !a.is_disjoint(set));
            let kind = if has(&evidence.batch) {
                if under(&evidence.batch) { Kind::QueriesPerHead } else { Kind::Heads }
            } else if under(&evidence.batch) || has(&evidence.width) {
                Kind::HeadWidth
            } else if above.is_some() {
                Kind::GroupChannels
            } else if has(&evidence.added) && self.producers(index) > 1 {
                Kind::Residual
            } else if has(&evidence.grouped) {
                Kind::ConvGroups
            } else if has(&evidence.convolved) {
                Kind::Channels
            } else {
                Kind::Features
            };
            self.groups[index].kind = kind;
        }
    }

    fn producers(&self, group: usize) -> usize {
        let slices = self.groups[group].slices.iter();
        slices.filter(|slice| slice.role == Role::Producer).count()
    }

    /// For every group that stands inside a product: the groups that stand before it there.
    fn outer_atoms(&self) -> HashMap<AxisId, BTreeSet<AxisId>> {
        let mut outer = HashMap::new();
        for tree in self.trees.iter().flatten() {
            self.collect_outer(tree, &mut outer);
        }
        outer
    }

    fn collect_outer(&self, tree: &Tree, outer: &mut HashMap<AxisId, BTreeSet<AxisId>>) {
        match tree {
            Tree::Atom { .. } => {}
            Tree::Sum(parts) => parts.iter().for_each(|part| self.collect_outer(part, outer)),
            Tree::Product(factors) => {
                let mut before: BTreeSet<AxisId> = BTreeSet::new();
                for factor in factors {
                    let atoms: Vec<AxisId> = factor.atoms();
                    let free = atoms.into_iter().filter(|atom| self.by_atom.contains_key(atom));
                    let free: Vec<AxisId> = free.collect();
                    if !before.is_empty() {
                        for &atom in &free {
                            let others = before.iter().filter(|&&other| other != atom);
                            outer.entry(atom).or_default().extend(others);
                        }
                    }
                    before.extend(free);
                    self.collect_outer(factor, outer);
                }
            }
        }
    }
}

/// The slice that names a group: the first producer, else the first of the least other role.
fn primary(slices: &[Slice]) -> Slice {
    let best = slices.iter().min_by_key(|slice| (slice.role, slice.param, slice.axis));
    best.copied().unwrap_or(Slice { param: ParamId(0), axis: 0, role: Role::Affine })
}

/// Finds what parameters do with their dimensions, through nodes that only move elements.
struct Roles<'a> {
    graph: &'a Graph,
    analysis: &'a Analysis,
    readers: Vec<Vec<(NodeId, usize)>>,
}

impl<'a> Roles<'a> {
    fn new(graph: &'a Graph, analysis: &'a Analysis) -> Self {
        let mut readers = vec![Vec::new(); graph.values.len()];
        for id in graph.node_ids() {
            for (operand, value) in graph.node(id).inputs.iter().enumerate() {
                if let Some(value) = value {
                    readers[value.index()].push((id, operand));
                }
            }
        }
        Roles { graph, analysis, readers }
    }

    fn of(&self, param: ParamId, axis: usize, atom: AxisId) -> Role {
        let mut work = vec![(self.graph.param(param).value, axis)];
        let mut seen = BTreeSet::new();
        while let Some((value, axis)) = work.pop() {
            if !seen.insert((value, axis)) || seen.len() > 64 {
                continue;
            }
            for &(node, operand) in self.readers[value.index()].iter().rev() {
                if let Some(role) = self.at(node, operand, axis, atom, &mut work) {
                    return role;
                }
            }
        }
        Role::Affine
    }

    /// The role at one node, or the values to look at further on.
    fn at(
        &self,
        id: NodeId,
        operand: usize,
        axis: usize,
        atom: AxisId,
        work: &mut Vec<(ValueId, usize)>,
    ) -> Option<Role> {
        let node = self.graph.node(id);
        let rule = node.rule.as_ref()?;
        let axes = self.analysis.factors(id);
        let carries = |factor: usize| {
            let tree = &self.analysis.axes;
            tree.atoms(axes[factor]).contains(&atom)
        };
        let factor = rule.operands[operand].dims[axis].factors().find(|f| carries(f.index()))?;
        match (rule.operands[operand].role, rule.factors[factor.index()].kind) {
            (Use::Weight, FactorKind::Summed) => Some(Role::Consumer),
            (Use::Weight, _) => Some(Role::Producer),
            (Use::Affine, _) => Some(Role::Affine),
            (Use::Table, _) => Some(Role::Table),
            (Use::Data, _) => {
                let has = |dim: &crate::rule::Dim| dim.factors().any(|f| f == factor);
                for (result, dims) in rule.results.iter().enumerate() {
                    let position = dims.iter().position(has);
                    work.extend(position.map(|position| (node.outputs[result], position)));
                }
                None
            }
        }
    }
}

/// What nodes tell of the atoms that they touch.
#[derive(Default)]
struct Evidence {
    /// Runs in parallel through a product of activations.
    batch: BTreeSet<AxisId>,
    /// Summed over, or left, in a product of activations.
    width: BTreeSet<AxisId>,
    /// Activations are added along it.
    added: BTreeSet<AxisId>,
    /// Groups of grouped convolutions.
    grouped: BTreeSet<AxisId>,
    /// Channels of convolutions.
    convolved: BTreeSet<AxisId>,
}

impl Evidence {
    fn new(graph: &Graph, analysis: &Analysis) -> Self {
        let mut evidence = Evidence::default();
        let active = activations(graph);
        for id in graph.node_ids() {
            let node = graph.node(id);
            let Some(rule) = &node.rule else { continue };
            let operands = node.inputs.iter().flatten();
            let live = operands.filter(|value| active[value.index()]).count();
            let named = |names: &[&str]| -> BTreeSet<AxisId> {
                let factors = rule.factors.iter().zip(analysis.factors(id));
                let chosen = factors.filter(|(factor, _)| names.contains(&factor.name.as_str()));
                chosen.flat_map(|(_, &axis)| analysis.axes.atoms(axis)).collect()
            };
            match &node.op {
                Op::Conv(conv) => {
                    if conv.groups > 1
                        && rule.factors[2].extent.size.max(rule.factors[3].extent.size) > 1
                    {
                        evidence.grouped.extend(named(&["g"]));
                    }
                    evidence.convolved.extend(named(&["g", "o", "i"]));
                }
                Op::Attention(_) => {
                    evidence.batch.extend(named(&["kv", "rep"]));
                    evidence.width.extend(named(&["d", "e"]));
                }
                Op::Contract(_) if live == 2 => {
                    evidence.add_product(rule, analysis.factors(id), analysis)
                }
                Op::Elementwise(_) if live == 2 && node.kind == "Add" => {
                    let all = analysis.factors(id).iter();
                    evidence.added.extend(all.flat_map(|&axis| analysis.axes.atoms(axis)));
                }
                _ => {}
            }
        }
        let (batch, width) = (&evidence.batch, &mut evidence.width);
        width.retain(|atom| !batch.contains(atom));
        evidence
    }

    /// Factors of a product of two activations: in all three is a batch (heads), else a width.
    fn add_product(&mut self, rule: &crate::rule::Rule, factors: &[AxisId], analysis: &Analysis) {
        for (index, &axis) in factors.iter().enumerate() {
            let has = |dims: &[crate::rule::Dim]| {
                dims.iter().any(|dim| dim.factors().any(|f| f.index() == index))
            };
            let parallel = rule.operands.iter().all(|operand| has(&operand.dims))
                && rule.results.iter().all(|dims| has(dims));
            let set = if parallel { &mut self.batch } else { &mut self.width };
            set.extend(analysis.axes.atoms(axis));
        }
    }
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
