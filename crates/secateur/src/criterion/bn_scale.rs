//! Scales of normalizations.

use super::{Criterion, Measure, Normalization, Statistic};
use crate::graph::Graph;
use crate::group::{Group, Role, Slice};
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

fn scales(graph: &Graph, group: &Group) -> Vec<Slice> {
    let is_scale = |slice: &&Slice| {
        let value = graph.param(slice.param).value;
        graph.nodes.iter().any(|node| {
            matches!(node.op, Op::Norm(_)) && node.inputs.get(SCALE) == Some(&Some(value))
        })
    };
    let affine = group.slices.iter().filter(|slice| slice.role == Role::Affine);
    affine.filter(is_scale).copied().collect()
}
