//! Criteria: how much each index of a group matters. Higher scores are kept longer.
//!
//! A criterion is data: the statistic that it wants of every slice of a group, and how numbers
//! become scores. It knows nothing of files and engines; what is measured, and where, is behind
//! [`Statistics`]. To add one, write its file and its line in [`CRITERIA`].

mod bn_scale;
mod fpgm;
mod l1;
mod l2;
mod lamp;
mod options;
mod random;
mod reduce;
mod score;
mod statistics;
#[cfg(test)]
mod tests;

use crate::graph::Graph;
use crate::group::{Group, Role, Slice};

pub use options::{Aggregation, Normalization, ScoreOptions};
pub(crate) use options::{names, unknown};
pub use score::{Scores, score};
pub use statistics::{Measure, Statistics, Weights};

/// All criteria. The first is the default.
pub const CRITERIA: &[&Criterion] = &[
    &l2::CRITERION,
    &l1::CRITERION,
    &lamp::CRITERION,
    &fpgm::CRITERION,
    &bn_scale::CRITERION,
    &random::CRITERION,
];

/// What a criterion wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Nothing: a random number per index.
    Noise,
    /// Per index of each slice, a sum over its elements.
    Sum(Measure),
    /// Per index of each slice, the sum of the distances to the slice's other indices.
    Distances,
}

/// A rule that scores the indices of groups.
pub struct Criterion {
    /// The name in flags and plans.
    pub name: &'static str,
    /// One line for `--help`, with the source.
    pub about: &'static str,
    /// What it wants to know of every slice.
    pub statistic: Statistic,
    /// The slices of a group that count when no roles are asked for.
    pub slices: fn(&Graph, &Group) -> Vec<Slice>,
    /// Why a group without such slices has no scores.
    pub missing: &'static str,
    /// From the statistic of one index in one slice to a score.
    pub index: fn(f64) -> f64,
    /// From the scores of a group's indices, aggregated over slices, to the final ones.
    pub group: fn(&mut [f64]),
    /// What makes groups comparable when nothing else is asked for.
    pub normalization: Normalization,
}

impl Criterion {
    /// The criterion of this name.
    pub fn named(name: &str) -> Option<&'static Criterion> {
        CRITERIA.iter().copied().find(|criterion| criterion.name == name)
    }
}

/// Criteria are the same when they have one name.
impl PartialEq for Criterion {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Criterion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The slices of a group with one of these roles.
fn with_roles(group: &Group, roles: &[Role]) -> Vec<Slice> {
    group.slices.iter().filter(|slice| roles.contains(&slice.role)).copied().collect()
}

/// Producers and consumers; all slices of a group that has neither.
fn matrices(_: &Graph, group: &Group) -> Vec<Slice> {
    let found = with_roles(group, &[Role::Producer, Role::Consumer]);
    if found.is_empty() { group.slices.clone() } else { found }
}

const NO_SLICES: &str = "no parameter of it counts for this criterion";
