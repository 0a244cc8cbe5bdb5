//! Finds what meets a target.

use super::rank::Ranking;
use super::{Amount, SelectOptions, Target};
use crate::cost::{Cost, Footprint};
use crate::{Error, Result};

/// How near the ratio is found: below one index of any model.
const NEAR: f64 = 1.0 / (1_u64 << 48) as f64;

/// What a target asks for.
pub(super) struct Found {
    /// The ratio once the schedule is done, at which the footprint is not above the target.
    pub ratio: f64,
    /// How many indices every member keeps.
    pub counts: Vec<usize>,
}

/// The smallest ratio whose footprint is not above the target, and what is kept after this part of it;
/// once all of it is reached, with what single groups can keep beside.
pub(super) fn search(
    ranking: &Ranking<'_>,
    cost: &Cost,
    options: &SelectOptions,
    progress: f64,
) -> Result<Found> {
    let plain = |ratio| Found { ratio, counts: ranking.counts(ratio, progress) };
    let goal = match options.target {
        Target::Ratio(ratio) => return Ok(plain(ratio * options.part())),
        Target::Macs(amount) => Goal::new(MACS, amount, cost),
        Target::Parameters(amount) => Goal::new(PARAMETERS, amount, cost),
        Target::Size(amount) => Goal::new(BYTES, amount, cost),
    }?;
    let footprint = |counts: &[usize]| {
        let sizes = ranking.sizes(counts);
        (goal.unit.of)(cost.with(&|group| sizes.get(&group).copied()))
    };
    let (mut low, mut high) = (0.0, 1.0);
    let least = footprint(&ranking.counts(high, 1.0));
    if least > goal.target {
        return Err(goal.unreachable(least));
    }
    if footprint(&ranking.counts(low, 1.0)) <= goal.target {
        high = low;
    }
    while high - low > NEAR {
        let middle = (low + high) / 2.0;
        match footprint(&ranking.counts(middle, 1.0)) <= goal.target {
            true => high = middle,
            false => low = middle,
        }
    }
    if progress < 1.0 {
        return Ok(plain(high));
    }
    let mut counts = ranking.counts(high, 1.0);
    for (member, more) in ranking.more(&counts) {
        let count = std::mem::replace(&mut counts[member], more);
        if footprint(&counts) > goal.target {
            counts[member] = count;
        }
    }
    Ok(Found { ratio: high, counts })
}

/// One of the numbers of a footprint.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    of: fn(Footprint) -> u64,
}

const MACS: Unit = Unit { name: "MACs", of: |footprint| footprint.macs };
const PARAMETERS: Unit = Unit { name: "parameters", of: |footprint| footprint.parameters };
const BYTES: Unit = Unit { name: "bytes of weights", of: |footprint| footprint.bytes };

struct Goal {
    unit: Unit,
    now: u64,
    target: u64,
}

impl Goal {
    fn new(unit: Unit, amount: Amount, cost: &Cost) -> Result<Self> {
        let now = (unit.of)(cost.now());
        let target = match amount {
            Amount::Fraction(fraction) => (now as f64 * fraction) as u64,
            Amount::Absolute(number) => number,
        };
        if target >= now {
            let name = unit.name;
            return Err(Error::argument(format!(
                "the model has {now} {name}, which is not above the target of {target}"
            ))
            .hint("give a target below what the model has, or a ratio"));
        }
        Ok(Goal { unit, now, target })
    }

    fn unreachable(&self, least: u64) -> Error {
        let Goal { unit, now, target } = self;
        let name = unit.name;
        // Rounded up: asked for, it can be reached.
        let percent = (least as f64 / *now as f64 * 1e3).ceil() / 10.0;
        Error::unreachable(format!(
            "at least {least} of {now} {name} ({percent} %) remain, and the target is {target}"
        ))
        .hint("raise the target or --max-ratio, keep less with --keep, or allow more with --kinds")
    }
}
