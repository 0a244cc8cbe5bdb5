//! Finds the ratio that meets a target.

use super::rank::Ranking;
use super::{Amount, SelectOptions, Target};
use crate::cost::{Cost, Footprint};
use crate::{Error, Result};

/// Halvings of the ratio: below one index of any model.
const HALVINGS: usize = 48;

/// The ratio that the target asks for once the schedule is done: the smallest whose footprint is not
/// above the target.
pub(super) fn ratio(ranking: &Ranking<'_>, cost: &Cost, options: &SelectOptions) -> Result<f64> {
    let goal = match options.target {
        Target::Ratio(ratio) => return Ok(ratio),
        Target::Macs(amount) => Goal::new(MACS, amount, cost),
        Target::Parameters(amount) => Goal::new(PARAMETERS, amount, cost),
        Target::Size(amount) => Goal::new(BYTES, amount, cost),
    }?;
    let footprint = |ratio: f64| {
        let sizes = ranking.sizes(ratio, 1.0);
        (goal.unit.of)(cost.with(&|group| sizes.get(&group).copied()))
    };
    let (mut low, mut high) = (0.0, 1.0);
    let least = footprint(high);
    if least > goal.target {
        return Err(goal.unreachable(least));
    }
    if footprint(low) <= goal.target {
        return Ok(low);
    }
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        match footprint(middle) <= goal.target {
            true => high = middle,
            false => low = middle,
        }
    }
    Ok(high)
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
