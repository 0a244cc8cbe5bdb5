//! Random numbers, the baseline of every comparison.

use super::{Criterion, NO_SLICES, Normalization, Statistic, matrices};

/// Uniform in `0..1`, from the seed and the group's position. Mittal et al., "Studying the Plasticity
/// in Deep Convolutional Neural Networks using Random Pruning", 2019.
pub const CRITERION: Criterion = Criterion {
    name: "random",
    about: "random numbers from --seed, as a baseline",
    statistic: Statistic::Noise,
    slices: matrices,
    missing: NO_SLICES,
    index: |number| number,
    group: |_| {},
    normalization: Normalization::Identity,
};
