//! Selection: which indices stay, for a ratio or a target size.
//!
//! Groups are put into classes that are ranked together (one per group, one for all, or one per
//! structure). The lowest scores of a class are removed until its ratio is met; a target in
//! parameters, MACs or bytes is a search for the ratio, after which single groups keep one index more
//! as long as the target allows. Knows nothing of files and of how scores come about.

mod matching;
mod options;
mod rank;
mod search;
#[cfg(test)]
mod tests;

use crate::Result;
use crate::cost::{Cost, Footprint};
use crate::criterion::Scores;
use crate::graph::Graph;
use crate::group::{GroupId, Groups, Keeps};

pub use matching::{Matcher, Pattern};
pub use options::{Amount, Schedule, Scope, SelectOptions, Stage, Target};

use rank::Ranking;
use search::Found;

/// What was selected.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Kept indices of every group that is cut.
    pub keeps: Keeps,
    /// One entry per group, in order.
    pub entries: Vec<Entry>,
    /// The model as it is.
    pub before: Footprint,
    /// The model once it is cut.
    pub after: Footprint,
}

/// What happens to one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The group.
    pub group: GroupId,
    /// The fraction of its indices that the options ask to remove; with a scope wider than one
    /// group, the fraction of the class that it is ranked in.
    pub asked: f64,
    /// The fraction that is removed.
    pub reached: f64,
    /// Why it is left alone, or loses fewer indices than asked.
    pub why: Option<String>,
}

/// Decides which indices stay. `scorer` scores all groups as if everything outside of the given
/// indices were removed; it is called once per step.
///
/// # Errors
/// When an option is out of range or a pattern matches nothing, when no group can be cut, when a
/// target cannot be reached or is reached already, and what `scorer` gives.
pub fn select(
    graph: &Graph,
    groups: &Groups,
    cost: &Cost,
    scorer: &mut dyn FnMut(Option<&Keeps>) -> Result<Scores>,
    options: &SelectOptions,
) -> Result<Selection> {
    options.check()?;
    let verdicts = matching::verdicts(graph, groups, options)?;
    let mut keeps = Keeps::new();
    let mut outcome = None;
    for step in 1..=options.steps {
        let scores = scorer((step > 1).then_some(&keeps))?;
        let ranking = Ranking::new(graph, groups, &scores, &verdicts, &keeps, options);
        ranking.check()?;
        let progress = options.schedule.progress(step, options.steps);
        let Found { ratio, counts } = search::search(&ranking, cost, options, progress)?;
        keeps = ranking.keeps(&counts);
        outcome = Some(ranking.entries(&counts, ratio, progress));
    }
    let size = |group: GroupId| keeps.get(&group).map(Vec::len);
    let after = cost.with(&size);
    let entries = outcome.unwrap_or_default();
    Ok(Selection { keeps, entries, before: cost.now(), after })
}
