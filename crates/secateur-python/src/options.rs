//! Options as Python gives them: names and numbers.

use std::collections::{BTreeMap, BTreeSet};

use pyo3::FromPyObject;
use secateur::criterion::{Aggregation, Normalization, ScoreOptions};
use secateur::group::{Kind, Role};
use secateur::select::{Amount, Schedule, Scope, SelectOptions, Stage, Target};
use secateur::{Error, Result};

/// A target: a number that remains, or a fraction of what is there.
#[derive(FromPyObject)]
pub enum Number {
    Count(u64),
    Fraction(f64),
}

impl Number {
    fn amount(&self) -> Amount {
        match *self {
            Number::Count(count) => Amount::Absolute(count),
            Number::Fraction(fraction) => Amount::Fraction(fraction),
        }
    }
}

/// All options of a selection, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    ratio: Option<f64>,
    macs: Option<Number>,
    params: Option<Number>,
    size: Option<Number>,
    scope: String,
    keep: Vec<String>,
    ratio_for: BTreeMap<String, f64>,
    kinds: Option<Vec<String>>,
    exact_only: bool,
    multiple_of: usize,
    max_ratio: f64,
    steps: usize,
    schedule: String,
    criterion: String,
    roles: Option<Vec<String>>,
    aggregation: String,
    normalization: Option<String>,
    seed: u64,
    stage: Option<(f64, BTreeMap<String, usize>)>,
}

impl Options {
    /// What is selected.
    pub fn select(&self) -> Result<SelectOptions> {
        let amounts = [&self.macs, &self.params, &self.size];
        let given = amounts.iter().filter(|amount| amount.is_some()).count();
        if given + usize::from(self.ratio.is_some()) != 1 {
            let text = "give exactly one of `ratio`, `macs`, `params` and `size`";
            return Err(Error::argument(text));
        }
        let target = match (self.ratio, &self.macs, &self.params, &self.size) {
            (_, Some(amount), ..) => Target::Macs(amount.amount()),
            (_, _, Some(amount), _) => Target::Parameters(amount.amount()),
            (.., Some(amount)) => Target::Size(amount.amount()),
            (ratio, ..) => Target::Ratio(ratio.unwrap_or_default()),
        };
        Ok(SelectOptions {
            target,
            scope: self.scope.parse::<Scope>()?,
            ratio_for: self.ratio_for.iter().map(|(name, ratio)| (name.clone(), *ratio)).collect(),
            keep: self.keep.clone(),
            kinds: match &self.kinds {
                Some(names) => names.iter().map(|name| kind(name)).collect::<Result<_>>()?,
                None => SelectOptions::default().kinds,
            },
            exact_only: self.exact_only,
            multiple_of: self.multiple_of,
            max_ratio: self.max_ratio,
            steps: self.steps,
            schedule: self.schedule.parse::<Schedule>()?,
            stage: self.stage.clone().map(|(part, sizes)| Stage { part, sizes }),
        })
    }

    /// How it is scored.
    pub fn score(&self) -> Result<ScoreOptions> {
        let roles = self
            .roles
            .as_ref()
            .map(|names| names.iter().map(|name| role(name)).collect::<Result<BTreeSet<Role>>>());
        let normalization = self.normalization.as_deref().map(str::parse::<Normalization>);
        Ok(ScoreOptions {
            criterion: self.criterion.parse()?,
            seed: self.seed,
            roles: roles.transpose()?,
            aggregation: self.aggregation.parse::<Aggregation>()?,
            normalization: normalization.transpose()?,
        })
    }
}

fn kind(name: &str) -> Result<Kind> {
    let names = Kind::ALL.map(Kind::name).join(", ");
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let unknown = || Error::argument(format!("there is no kind `{name}`"));
    found.ok_or_else(|| unknown().hint(format!("kinds are {names}")))
}

fn role(name: &str) -> Result<Role> {
    let names = Role::ALL.map(Role::name).join(", ");
    let found = Role::ALL.into_iter().find(|role| role.name() == name);
    let unknown = || Error::argument(format!("there is no role `{name}`"));
    found.ok_or_else(|| unknown().hint(format!("roles are {names}")))
}
