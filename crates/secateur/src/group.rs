//! Groups: the independent dimensions that can be cut, with every parameter that carries them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::analysis::Analysis;
use crate::axis::{AxisId, Tree};
use crate::exact::{self, Coupling};
use crate::graph::{Graph, ParamId};
use crate::kind::Evidence;
pub use crate::kind::Kind;
pub use crate::role::Role;
use crate::role::Roles;

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
    /// By [`AxisId::index`].
    by_atom: Vec<Option<GroupId>>,
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
        let mut slices: Vec<Vec<Slice>> = vec![Vec::new(); axes.len()];
        let roles = Roles::new(graph, analysis);
        for id in graph.param_ids() {
            for (axis, tree) in trees[id.index()].iter().enumerate() {
                let mut known = None;
                for atom in tree.atoms() {
                    if axes.pinned(atom).is_some() {
                        continue;
                    }
                    let role = known.unwrap_or_else(|| {
                        let (role, is_for_all) = roles.of(id, axis, atom);
                        known = is_for_all.then_some(role);
                        role
                    });
                    slices[atom.index()].push(Slice { param: id, axis, role });
                }
            }
        }
        let by_atom = vec![None; axes.len()];
        let mut groups = Groups { groups: Vec::new(), by_atom, trees };
        let found = slices.into_iter().enumerate().filter(|(_, slices)| !slices.is_empty());
        let mut found: Vec<_> = found.map(|(atom, slices)| (AxisId::new(atom), slices)).collect();
        found.sort_by_cached_key(|(atom, slices)| {
            let Slice { param, axis, .. } = primary(slices);
            let atoms = groups.trees[param.index()][axis].atoms();
            (param, axis, atoms.iter().position(|other| other == atom))
        });
        let evidence = Evidence::new(graph, analysis);
        for (atom, slices) in found {
            let id = GroupId(groups.groups.len() as u32);
            groups.by_atom[atom.index()] = Some(id);
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
        self.by_atom.get(atom.index()).copied().flatten()
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
            let above = outer.get(&atom).into_iter().flatten().copied();
            let above: Vec<AxisId> = above.filter(|&one| self.of_atom(one).is_some()).collect();
            let added = self.producers(index) > 1 && evidence.added.contains(&atom);
            self.groups[index].kind = evidence.kind(atom, &above, added);
        }
    }

    fn producers(&self, group: usize) -> usize {
        let slices = self.groups[group].slices.iter();
        slices.filter(|slice| matches!(slice.role, Role::Producer | Role::Table)).count()
    }

    /// For every atom that stands inside a product: the atoms that stand before it there.
    fn outer_atoms(&self) -> HashMap<AxisId, BTreeSet<AxisId>> {
        let mut outer = HashMap::new();
        let mut work: Vec<&Tree> = self.trees.iter().flatten().collect();
        while let Some(tree) = work.pop() {
            match tree {
                Tree::Atom { .. } => {}
                Tree::Sum(parts) => work.extend(parts),
                Tree::Product(factors) => {
                    let mut before: BTreeSet<AxisId> = BTreeSet::new();
                    for factor in factors {
                        let atoms = factor.atoms();
                        for &atom in &atoms {
                            let others = before.iter().filter(|&&other| other != atom);
                            outer.entry(atom).or_insert_with(BTreeSet::new).extend(others);
                        }
                        before.extend(atoms);
                    }
                    work.extend(factors);
                }
            }
        }
        outer
    }
}

/// The slice that names a group: the first producer, else the first of the least other role.
fn primary(slices: &[Slice]) -> Slice {
    let best = slices.iter().min_by_key(|slice| (slice.role, slice.param, slice.axis));
    best.copied().unwrap_or(Slice { param: ParamId(0), axis: 0, role: Role::Affine })
}
