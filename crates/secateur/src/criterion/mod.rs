//! Criteria: how much each index of a group matters. Higher scores are kept longer.
//!
//! A criterion is data: the statistic that it wants of every slice of a group, and how numbers
//! become scores. It knows nothing of files and engines; what is measured, and where, is behind
//! [`Statistics`]. To add one, write its file and its line in [`CRITERIA`].

mod bn_scale;
mod distance;
mod fisher;
mod fpgm;
mod l1;
mod l2;
mod lamp;
mod options;
mod random;
mod read;
mod reduce;
mod score;
mod statistics;
mod taylor;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use crate::cost::is_weight;
use crate::graph::Graph;
use crate::group::{Group, GroupId, Groups, Role, Slice};

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
    &taylor::CRITERION,
    &fisher::CRITERION,
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
    /// The slices that count, per group: those with the roles that are asked for, or its own choice.
    pub slices: fn(&Graph, &Groups, Roles<'_>) -> Vec<Vec<Slice>>,
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

impl fmt::Debug for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The roles that were asked for, if any.
pub type Roles<'a> = Option<&'a BTreeSet<Role>>;

/// Per group its weights with the roles that are asked for; without such, those with the `usual`
/// ones, and where a group has none of them all of its weights.
fn weights(graph: &Graph, groups: &Groups, roles: Roles<'_>, usual: &[Role]) -> Vec<Vec<Slice>> {
    let of_group = |(_, group): (GroupId, &Group)| {
        let all = group.slices.iter().filter(|slice| is_weight(graph.param(slice.param)));
        let with = |has: &dyn Fn(Role) -> bool| -> Vec<Slice> {
            all.clone().filter(|slice| has(slice.role)).copied().collect()
        };
        match (roles, with(&|role| usual.contains(&role))) {
            (Some(roles), _) => with(&|role| roles.contains(&role)),
            (None, found) if found.is_empty() => with(&|_| true),
            (None, found) => found,
        }
    };
    groups.iter().map(of_group).collect()
}

/// Producers and consumers, unless roles are asked for.
fn matrices(graph: &Graph, groups: &Groups, roles: Roles<'_>) -> Vec<Vec<Slice>> {
    weights(graph, groups, roles, &[Role::Producer, Role::Consumer])
}

const NO_SLICES: &str = "no weight of it counts";
