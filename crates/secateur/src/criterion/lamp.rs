//! Layer-adaptive magnitudes.

use super::{Criterion, Measure, NO_SLICES, Normalization, Statistic, matrices};

/// The squared norm of an index over the sum of those of the group that are not smaller:
/// `s(u) = w_u² / Σ_{v: w_v² ≥ w_u²} w_v²`. Lee et al., "Layer-adaptive Sparsity for the
/// Magnitude-based Pruning", 2021, equation 4, with slices in place of single weights. Scores
/// compare between groups as they are.
pub const CRITERION: Criterion = Criterion {
    name: "lamp",
    about: "squared norm relative to what is not smaller in the group (Lee et al. 2021)",
    statistic: Statistic::Sum(Measure::Square),
    slices: matrices,
    missing: NO_SLICES,
    index: |square| square,
    group: relative,
    normalization: Normalization::Identity,
};

fn relative(scores: &mut [f64]) {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    let sums: Vec<f64> = sorted
        .iter()
        .map(|score| {
            sum += score;
            sum
        })
        .collect();
    for score in scores {
        let not_smaller = sorted.partition_point(|other| other >= score);
        if let Some(&sum) = sums[..not_smaller].last().filter(|&&sum| sum > 0.0) {
            *score /= sum;
        }
    }
}
