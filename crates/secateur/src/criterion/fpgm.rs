//! Distance to the geometric median.

use super::{Criterion, NO_SLICES, Normalization, Roles, Statistic, weights};
use crate::graph::Graph;
use crate::group::{Groups, Role, Slice};

/// `Σ_j ‖w_i − w_j‖₂` over the other filters: the closer to their geometric median, the better the
/// others can stand in. He et al., "Filter Pruning via Geometric Median for Deep Convolutional
/// Neural Networks Acceleration", 2019, equation 4. Takes time in the square of the group's size.
pub const CRITERION: Criterion = Criterion {
    name: "fpgm",
    about: "sum of the distances to the other filters (He et al. 2019)",
    statistic: Statistic::Distances,
    slices: producers,
    missing: NO_SLICES,
    index: |sum| sum,
    group: |_| {},
    normalization: Normalization::Mean,
};

fn producers(graph: &Graph, groups: &Groups, roles: Roles<'_>) -> Vec<Vec<Slice>> {
    weights(graph, groups, roles, &[Role::Producer])
}
