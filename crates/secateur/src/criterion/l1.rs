//! Sum of the magnitudes of the weights.

use super::{Criterion, Measure, NO_SLICES, Normalization, Statistic, matrices};

/// `‖w‖₁` of what an index holds. Li et al., "Pruning Filters for Efficient ConvNets", 2017.
pub const CRITERION: Criterion = Criterion {
    name: "l1",
    about: "sum of the magnitudes of the weights (Li et al. 2017)",
    statistic: Statistic::Sum(Measure::Magnitude),
    slices: matrices,
    missing: NO_SLICES,
    index: |sum| sum,
    group: |_| {},
    normalization: Normalization::Mean,
};
