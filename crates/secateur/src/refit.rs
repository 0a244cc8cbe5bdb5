//! Which literals of the source change when sizes do: reshape targets, split sizes, group counts.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::Analysis;
use crate::axis::{AxisId, Cause, Pin};
use crate::cost::weights_of_values;
use crate::graph::{Graph, NodeId, Origin, ValueId};
use crate::ops::{Fit, NewSizes, Place};
use crate::size::{Expr, ExprId, Literal, Patches, Scalar};

#[cfg(test)]
mod tests;

/// Numbers that a source node gets in place of those that it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement {
    /// The node.
    pub node: NodeId,
    /// Where they stand.
    pub place: Place,
    /// The numbers.
    pub values: Vec<Scalar>,
    /// The computed value that they stand for and have the shape and type of; else they are a
    /// vector of integers.
    pub held: Option<ValueId>,
    /// Their shape, where they are neither held nor a vector.
    pub shape: Option<Vec<usize>>,
}

impl Replacement {
    /// The numbers as integers.
    pub fn ints(&self) -> Vec<i64> {
        self.values.iter().filter_map(|value| value.int()).collect()
    }
}

/// The changes of literals that new sizes ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refit {
    /// Numbers to change where they stand.
    pub patches: Patches,
    /// Vectors to replace.
    pub replacements: Vec<Replacement>,
}

/// A node whose numbers cannot follow, and the axes of its first result (or all its factors).
#[derive(Clone, Debug)]
pub struct Misfit {
    /// The node.
    pub node: NodeId,
    axes: Vec<AxisId>,
    exprs: Vec<ExprId>,
}

/// Finds the literals to change; `size_of` gives the atoms' new sizes.
///
/// # Errors
/// The nodes that compute a size in a way that no literal can correct.
pub fn refit(
    graph: &Graph,
    analysis: &Analysis,
    size_of: &impl Fn(AxisId) -> Option<usize>,
) -> Result<Refit, Vec<Misfit>> {
    let sized = vec![None; analysis.axes.len()];
    Solver { graph, analysis, size_of, frozen: frozen(graph), sized }.run()
}

/// Pins what could not be followed, by trying sizes: so that every later choice can be.
pub fn pin_unfollowable(graph: &mut Graph, analysis: &mut Analysis) {
    // Sizes one less, then sizes that differ from each other: a literal that two nodes share must
    // not have to be two numbers at once.
    let shrink = |round: usize, atom: AxisId, size: usize| match round {
        0 => size - 1,
        _ => 1 + ((atom.index() * [0, 7919, 104_729][round]) >> 3) % (size - 1),
    };
    let mut round = 0;
    while round < 3 {
        let axes = &analysis.axes;
        let trial = refit(graph, analysis, &|atom| {
            let size = axes.size(atom);
            (size > 1 && axes.pinned(atom).is_none()).then(|| shrink(round, atom, size))
        });
        let misfits = trial.err().unwrap_or_default();
        let mut progress = false;
        for misfit in misfits {
            progress |= leave_alone(graph, analysis, misfit);
        }
        if !progress {
            round += 1;
        }
    }
}

/// Pins parts of single parameters of which nothing is made, such as the rest of a table of positions:
/// where code may read others, as of inputs of other sizes.
pub fn pin_unread(graph: &Graph, analysis: &mut Analysis) {
    const REASON: &str = "nothing reads this part of it here, and other inputs may";
    let axes = &analysis.axes;
    let mut carriers: BTreeMap<AxisId, (usize, ValueId)> = BTreeMap::new();
    let mut parts = BTreeSet::new();
    for param in &graph.params {
        for &axis in analysis.value(param.value) {
            let atoms = axes.atoms(axis);
            if atoms.len() > 1 {
                parts.extend(atoms.iter().filter(|&&atom| axes.pinned(atom).is_none()));
            }
            for atom in atoms {
                carriers.entry(atom).or_insert((0, param.value)).0 += 1;
            }
        }
    }
    parts.retain(|atom| carriers[atom].0 == 1);
    if parts.is_empty() {
        return;
    }
    let weights = weights_of_values(graph);
    for (index, weights) in weights.iter().enumerate() {
        if weights.is_empty() {
            for &axis in analysis.value(ValueId::new(index)) {
                for atom in axes.atoms(axis) {
                    parts.remove(&atom);
                }
            }
        }
    }
    for atom in parts {
        let stored = carriers[&atom].1;
        let reads = |id: &NodeId| graph.node(*id).inputs.contains(&Some(stored));
        if let Some(node) = graph.node_ids().find(reads) {
            analysis.axes.pin(atom, Pin { reason: REASON, cause: Cause(node.0) });
        }
    }
}

/// Pins the axes of a misfit; where they are pinned, what its numbers are computed from changes:
/// a literal that another node reads too, or a dimension. Those are then frozen. Returns whether
/// anything was left to pin or freeze.
fn leave_alone(graph: &mut Graph, analysis: &mut Analysis, misfit: Misfit) -> bool {
    const REASON: &str = "its size is computed in a way that cannot follow";
    let axes = &mut analysis.axes;
    let atoms: Vec<AxisId> = misfit.axes.iter().flat_map(|&axis| axes.atoms(axis)).collect();
    if atoms.iter().all(|&atom| axes.pinned(atom).is_some()) {
        let new: Vec<ExprId> =
            misfit.exprs.into_iter().filter(|expr| !graph.frozen.contains(expr)).collect();
        analysis.pin_sizes(graph, new.iter().copied());
        graph.frozen.extend(&new);
        return !new.is_empty();
    }
    for axis in misfit.axes {
        axes.pin(axis, Pin { reason: REASON, cause: Cause(misfit.node.0) });
    }
    true
}

/// The literals that must keep their value.
fn frozen(graph: &Graph) -> BTreeSet<Literal> {
    let mut literals = BTreeSet::new();
    for &expr in &graph.frozen {
        graph.sizes.leaves(expr, &mut |leaf| {
            if let Expr::Number(_, Some(literal)) = leaf {
                literals.insert(literal);
            }
        });
    }
    literals
}

struct Solver<'a, F> {
    graph: &'a Graph,
    analysis: &'a Analysis,
    size_of: &'a F,
    frozen: BTreeSet<Literal>,
    /// By representative, the sizes that were asked for.
    sized: Vec<Option<usize>>,
}

impl<F: Fn(AxisId) -> Option<usize>> Solver<'_, F> {
    fn run(mut self) -> Result<Refit, Vec<Misfit>> {
        let mut fits: Vec<(NodeId, Fit)> = Vec::new();
        let mut held: Vec<Replacement> = Vec::new();
        let mut factors = Vec::new();
        for id in self.graph.node_ids() {
            factors.clear();
            factors.extend(self.analysis.factors(id).iter().map(|&axis| self.size(axis)));
            self.ask(id, &factors, &mut fits, &mut held);
        }
        let mut patches = Patches::new();
        for (_, fit) in &fits {
            self.patch(fit, &mut patches);
        }
        let mut refit = Refit::default();
        let mut misfits = Vec::new();
        for (node, fit) in fits {
            if !fit.exprs.is_empty() && self.holds(&fit, &patches) {
                continue;
            }
            match fit.whole.as_ref().filter(|_| !self.graph.node(node).in_function) {
                Some(values) => {
                    let values = values.iter().copied().map(Scalar::Int).collect();
                    let place = fit.place;
                    refit.replacements.push(Replacement {
                        node,
                        place,
                        values,
                        held: None,
                        shape: fit.shape,
                    });
                }
                None => misfits.push(self.misfit(node, &fit, &patches)),
            }
        }
        self.hold(&patches, &mut refit.replacements, &mut misfits);
        let (shared, own) =
            held.into_iter().partition::<Vec<_>, _>(|held| self.graph.node(held.node).in_function);
        refit.replacements.extend(own);
        misfits.extend(shared.into_iter().map(|held| {
            let axes = self.analysis.factors(held.node).to_vec();
            Misfit { node: held.node, axes, exprs: Vec::new() }
        }));
        refit.patches = patches;
        if misfits.is_empty() { Ok(refit) } else { Err(misfits) }
    }

    /// A number that is computed from sizes and read as data keeps the value that it had: the
    /// scale of attention stays that of the original's head width.
    fn hold(
        &self,
        patches: &Patches,
        replacements: &mut Vec<Replacement>,
        misfits: &mut Vec<Misfit>,
    ) {
        let before = |value: ValueId, axis: u32| {
            let extent = self.graph.shape(value).get(axis as usize)?;
            Some(extent.size as i64)
        };
        let after = |value: ValueId, axis: u32| self.dim(value, axis);
        for node in self.graph.node_ids() {
            let inputs = self.graph.node(node).inputs.iter().enumerate();
            for (slot, value) in inputs.filter_map(|(slot, value)| Some((slot, (*value)?))) {
                let Origin::Sizes(exprs) = &self.graph.value(value).origin else { continue };
                let sizes = &self.graph.sizes;
                let old: Option<Vec<Scalar>> =
                    exprs.iter().map(|&e| sizes.eval(e, &before, &Patches::new())).collect();
                let new: Option<Vec<Scalar>> =
                    exprs.iter().map(|&e| sizes.eval(e, &after, patches)).collect();
                let differs = |old: &Vec<Scalar>| {
                    new.as_ref().is_none_or(|new| old.iter().zip(new).any(|(a, b)| !a.is(*b)))
                };
                if let Some(values) = old.filter(differs) {
                    if self.graph.node(node).in_function {
                        misfits.push(Misfit { node, axes: Vec::new(), exprs: exprs.clone() });
                        continue;
                    }
                    let place = Place::Input(slot as u32);
                    replacements.push(Replacement {
                        node,
                        place,
                        values,
                        held: Some(value),
                        shape: None,
                    });
                }
            }
        }
    }

    /// What an operator wants of its literals, and the default that it has to hold.
    fn ask(
        &self,
        id: NodeId,
        factors: &[usize],
        fits: &mut Vec<(NodeId, Fit)>,
        held: &mut Vec<Replacement>,
    ) {
        let node = self.graph.node(id);
        let (Some(rule), Some(operator)) = (&node.rule, node.op.operator()) else { return };
        let sizes = NewSizes { rule, factors };
        let now = rule.factors.iter().map(|factor| factor.extent.size);
        let same = now.eq(factors.iter().copied());
        // Where nothing changed, a literal shared with another node may have.
        let asked = operator.fits(&sizes).into_iter().filter(|fit| !same || !fit.exprs.is_empty());
        fits.extend(asked.map(|fit| (id, fit)));
        held.extend(operator.held(&sizes).map(|(name, value)| Replacement {
            node: id,
            place: Place::Attribute(name),
            values: vec![Scalar::Float(value)],
            held: None,
            shape: None,
        }));
    }

    fn size(&mut self, axis: AxisId) -> usize {
        let axis = self.analysis.axes.find(axis);
        let (analysis, size_of) = (self.analysis, self.size_of);
        *self.sized[axis.index()].get_or_insert_with(|| analysis.axes.sized(axis, size_of))
    }

    fn dim(&self, value: ValueId, axis: u32) -> Option<i64> {
        let axis = self.analysis.value(value).get(axis as usize)?;
        Some(self.analysis.axes.sized(*axis, self.size_of) as i64)
    }

    /// Patches the literals behind a vector, as far as they may change.
    fn patch(&self, fit: &Fit, patches: &mut Patches) {
        let dim = |value: ValueId, axis: u32| self.dim(value, axis);
        for (expr, &want) in fit.exprs.iter().zip(&fit.want) {
            let Some(expr) = *expr else { continue };
            let sizes = &self.graph.sizes;
            let value = sizes.eval(expr, &dim, patches).and_then(|value| value.int());
            if value == Some(want) {
                continue;
            }
            let Some((literal, new)) = sizes.solve(expr, want, &dim, patches) else { continue };
            if !self.frozen.contains(&literal) {
                patches.entry(literal).or_insert(new);
            }
        }
    }

    fn holds(&self, fit: &Fit, patches: &Patches) -> bool {
        (0..fit.exprs.len()).all(|index| self.entry_holds(fit, index, patches))
    }

    fn entry_holds(&self, fit: &Fit, index: usize, patches: &Patches) -> bool {
        let dim = |value: ValueId, axis: u32| self.dim(value, axis);
        let Some(expr) = fit.exprs[index] else { return true };
        let value = self.graph.sizes.eval(expr, &dim, patches).and_then(|value| value.int());
        value == fit.want.get(index).copied()
    }

    fn misfit(&self, node: NodeId, fit: &Fit, patches: &Patches) -> Misfit {
        let result = self.graph.node(node).outputs.first();
        let result = result.map(|&value| self.analysis.value(value)).unwrap_or_default();
        let axes = if result.len() == fit.want.len() && fit.exprs.len() == fit.want.len() {
            let wrong = (0..result.len()).filter(|&i| !self.entry_holds(fit, i, patches));
            wrong.map(|index| result[index]).collect()
        } else {
            self.analysis.factors(node).to_vec()
        };
        Misfit { node, axes, exprs: fit.exprs.iter().flatten().copied().collect() }
    }
}
