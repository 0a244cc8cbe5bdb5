//! Scales of normalizations.

use std::collections::BTreeSet;

use super::{Criterion, Measure, Normalization, Roles, Statistic, weights};
use crate::graph::{Graph, ValueId};
use crate::group::{Groups, Role, Slice};
use crate::ops::Op;

/// `|γ|` of the normalizations that follow the group. Liu et al., "Learning Efficient Convolutional
/// Networks through Network Slimming", 2017. Groups without one have no scores: a guess from other
/// weights would not compare.
pub const CRITERION: Criterion = Criterion {
    name: "bn-scale",
    about: "magnitude of the normalization scales; groups without one are left alone (Liu et al. 2017)",
    statistic: Statistic::Sum(Measure::Magnitude),
    slices: scales,
    missing: "no normalization scale follows it",
    index: |sum| sum,
    group: |_| {},
    normalization: Normalization::Mean,
};

/// The operand that is the scale, after the data.
const SCALE: usize = 1;

fn scales(graph: &Graph, groups: &Groups, roles: Roles<'_>) -> Vec<Vec<Slice>> {
    let norms = graph.nodes.iter().filter(|node| matches!(node.op, Op::Norm(_)));
    let scales: BTreeSet<ValueId> =
        norms.filter_map(|node| node.inputs.get(SCALE).copied().flatten()).collect();
    let mut slices = weights(graph, groups, roles, &[Role::Affine]);
    for slices in &mut slices {
        slices.retain(|slice| scales.contains(&graph.param(slice.param).value));
    }
    slices
}
