//! Second-order change of the loss.

use super::{Criterion, Measure, NO_SLICES, Normalization, Statistic, matrices};

/// `½ Σ w² · E[(∂L/∂w)²]` over what an index holds, without the constant: LeCun et al., "Optimal
/// Brain Damage", 1989, with the empirical Fisher information for the Hessian's diagonal.
pub const CRITERION: Criterion = Criterion {
    name: "fisher",
    about: "second-order change of the loss; needs data (LeCun et al. 1989)",
    statistic: Statistic::Sum(Measure::Fisher),
    slices: matrices,
    missing: NO_SLICES,
    index: |sum| sum,
    group: |_| {},
    normalization: Normalization::Mean,
};
