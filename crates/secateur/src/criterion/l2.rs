//! Euclidean norm of the weights.

use super::{Criterion, Measure, NO_SLICES, Normalization, Statistic, matrices};

/// `‖w‖₂` of what an index holds. Han et al., "Learning both Weights and Connections for Efficient
/// Neural Networks", 2015, for single weights; Fang et al., "DepGraph: Towards Any Structural
/// Pruning", 2023, for groups.
pub const CRITERION: Criterion = Criterion {
    name: "l2",
    about: "Euclidean norm of the weights",
    statistic: Statistic::Sum(Measure::Square),
    slices: matrices,
    missing: NO_SLICES,
    index: f64::sqrt,
    group: |_| {},
    normalization: Normalization::Mean,
};
