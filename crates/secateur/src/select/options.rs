//! What a caller may choose about selection.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::criterion::names;
use crate::group::Kind;
use crate::{Error, Result};

/// How much is removed, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectOptions {
    /// What to reach. Default: half of the indices removed.
    pub target: Target,
    /// What is ranked together. Default: every group by itself.
    pub scope: Scope,
    /// Patterns with a ratio of their own; the last that matches a group wins. They are matched as
    /// those of `keep` are, but not with parameters that only read what the group makes. With a
    /// target in parameters, MACs or bytes these ratios are fixed and the other groups do the rest.
    pub ratio_for: Vec<(String, f64)>,
    /// Patterns of what is never cut: neither what a matching layer makes nor what it reads.
    ///
    /// Globs (`*`, `?`, `[a-z]`, `{a,b}`) over whole names, in which `*` matches dots and slashes
    /// too; what they are matched with says [`Matcher`](super::Matcher).
    pub keep: Vec<String>,
    /// Kinds of groups that are cut. Default: those with [`Kind::is_default`].
    pub kinds: BTreeSet<Kind>,
    /// Leaves approximate groups alone. Default: false.
    pub exact_only: bool,
    /// What is kept of a group that is cut is a multiple of this. Default: 1.
    pub multiple_of: usize,
    /// The largest fraction that any group may lose. Default: 1, which still keeps one index.
    pub max_ratio: f64,
    /// Steps of removing and scoring again. Default: 1.
    pub steps: usize,
    /// How the ratio grows over the steps. Default: linear.
    pub schedule: Schedule,
    /// Where the model was cut before, on the way to the same ratios. Default: it was not.
    pub stage: Option<Stage>,
}

/// How far ratios are reached by this selection, and what they are ratios of: of a model that is cut
/// several times, and trained in between.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The part of all ratios, in 0..=1.
    pub part: f64,
    /// The sizes of groups before the first cut, by name; others are as they are now.
    pub sizes: BTreeMap<String, usize>,
}

impl Default for SelectOptions {
    fn default() -> Self {
        Self {
            target: Target::Ratio(0.5),
            scope: Scope::default(),
            ratio_for: Vec::new(),
            keep: Vec::new(),
            kinds: Kind::ALL.into_iter().filter(|kind| kind.is_default()).collect(),
            exact_only: false,
            multiple_of: 1,
            max_ratio: 1.0,
            steps: 1,
            schedule: Schedule::default(),
            stage: None,
        }
    }
}

impl SelectOptions {
    /// The part of all ratios that is reached.
    pub(super) fn part(&self) -> f64 {
        self.stage.as_ref().map_or(1.0, |stage| stage.part)
    }

    /// Whether every number is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<()> {
        let targets = match self.target {
            Target::Ratio(ratio) => Some(ratio),
            _ => None,
        };
        let ratios = targets.into_iter().chain(self.ratio_for.iter().map(|entry| entry.1));
        for ratio in ratios {
            if !(0.0..1.0).contains(&ratio) {
                return Err(Error::argument(format!("a ratio of {ratio} is not in 0..1"))
                    .hint("give the fraction to remove, such as 0.5 or 50%"));
            }
        }
        if !(self.max_ratio > 0.0 && self.max_ratio <= 1.0) {
            let found = self.max_ratio;
            return Err(Error::argument(format!("a largest ratio of {found} is not in 0..=1"))
                .hint("give --max-ratio the largest fraction that a group may lose, such as 0.9"));
        }
        if self.multiple_of == 0 {
            return Err(Error::argument("multiples of 0 keep nothing")
                .hint("give --multiple-of 1 or more, such as 8"));
        }
        if let Some(Stage { part, .. }) = self.stage
            && !(0.0..=1.0).contains(&part)
        {
            return Err(Error::argument(format!("a part of {part} is not in 0..=1")));
        }
        if self.steps == 0 {
            return Err(Error::argument("0 steps remove nothing").hint("give --steps 1 or more"));
        }
        self.target.check()
    }
}

/// What to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The fraction of indices that is removed.
    Ratio(f64),
    /// Multiply-accumulates that remain.
    Macs(Amount),
    /// Parameters that remain.
    Parameters(Amount),
    /// Bytes of weights that remain.
    Size(Amount),
}

impl Target {
    fn check(&self) -> Result<()> {
        let (Target::Macs(amount) | Target::Parameters(amount) | Target::Size(amount)) = *self
        else {
            return Ok(());
        };
        match amount {
            Amount::Fraction(fraction) if !(fraction > 0.0 && fraction < 1.0) => {
                Err(Error::argument(format!("a target of {amount} is not between 0 % and 100 %"))
                    .hint("give what remains, such as 50%"))
            }
            Amount::Absolute(0) => Err(Error::argument("a target of 0 would leave nothing")
                .hint("give what remains, such as 50%")),
            _ => Ok(()),
        }
    }
}

/// A part of the model as it is, or a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// The fraction that remains.
    Fraction(f64),
    /// What remains, in units of the target.
    Absolute(u64),
}

/// Suffixes and what they multiply by; longest first.
const UNITS: &[(&str, f64)] = &[
    ("kib", 1024.0),
    ("mib", 1048576.0),
    ("gib", 1073741824.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("k", 1e3),
    ("m", 1e6),
    ("g", 1e9),
    ("t", 1e12),
    ("b", 1.0),
    ("", 1.0),
];

impl FromStr for Amount {
    type Err = Error;

    /// `50%` is a fraction, as is a number below 1 without a unit; `2G`, `3.5M`, `10MB`, `512KiB` and
    /// `1.5e9` are numbers. Units ignore case; `k`, `M`, `G`, `T` are powers of 1000.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::argument(format!("`{text}` is not an amount"))
                .hint("give a percentage such as 50%, or a number such as 1.5e9, 2G or 10MB")
        };
        let number = |text: &str| -> Option<f64> {
            text.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
        };
        let lower = text.trim().to_ascii_lowercase();
        if let Some(percent) = lower.strip_suffix('%') {
            return number(percent).map(|n| Amount::Fraction(n / 100.0)).ok_or_else(wrong);
        }
        let parse = |&(unit, factor): &(&str, f64)| {
            let value = number(lower.strip_suffix(unit)?)?;
            Some(match unit.is_empty() && value > 0.0 && value < 1.0 {
                true => Amount::Fraction(value),
                false => Amount::Absolute((value * factor).round() as u64),
            })
        };
        UNITS.iter().find_map(parse).ok_or_else(wrong)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Fraction(fraction) => write!(f, "{} %", (fraction * 1e4).round() / 1e2),
            Amount::Absolute(number) => number.fmt(f),
        }
    }
}

names! {
    /// What is ranked together.
    Scope, "scope",
    /// Every group by itself: each loses the same fraction.
    #[default]
    Uniform = "uniform",
    /// All groups: the lowest scores of the model go first.
    Global = "global",
    /// Groups of one structure: the same kind, and the same operators on the same axes. Fang et al.,
    /// "Isomorphic Pruning for Vision Models", 2024.
    Isomorphic = "isomorphic",
}

names! {
    /// How the ratio grows over `N` steps.
    Schedule, "schedule",
    /// By the same amount in each: `k / N` of it after step `k`.
    #[default]
    Linear = "linear",
    /// Fast first: `1 − (1 − k/N)³` of it after step `k`. Zhu and Gupta, "To Prune, or Not to Prune",
    /// 2017.
    Cubic = "cubic",
}

impl Schedule {
    /// The part of the ratio that is reached after `step` of `steps`.
    pub fn progress(self, step: usize, steps: usize) -> f64 {
        let part = step as f64 / steps.max(1) as f64;
        match self {
            Schedule::Linear => part,
            Schedule::Cubic => 1.0 - (1.0 - part).powi(3),
        }
    }
}
