//! First-order change of the loss.

use super::{Criterion, Measure, NO_SLICES, Normalization, Statistic, matrices};

/// `Σ |w · ∂L/∂w|` over what an index holds. Molchanov et al., "Importance Estimation for Neural
/// Network Pruning", 2019, equation 8, element by element.
pub const CRITERION: Criterion = Criterion {
    name: "taylor",
    about: "first-order change of the loss; needs data (Molchanov et al. 2019)",
    statistic: Statistic::Sum(Measure::Taylor),
    slices: matrices,
    missing: NO_SLICES,
    index: |sum| sum,
    group: |_| {},
    normalization: Normalization::Mean,
};
