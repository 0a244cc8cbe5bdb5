//! The choices of `prune`: what to reach, what may go, and what matters.

use std::collections::BTreeSet;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use secateur::cost::Cost;
use secateur::criterion::{Aggregation, CRITERIA, Normalization, ScoreOptions};
use secateur::group::{Kind, Role};
use secateur::select::{Amount, Schedule, Scope, SelectOptions, Target};
use secateur::{Error, Model, Result};

use crate::judge::{Judge, judges};
use crate::number;
use crate::report::Size;

/// What to reach.
#[derive(Args, Debug)]
#[group(multiple = false)]
#[command(next_help_heading = "Target (exactly one)")]
pub struct Goal {
    /// Remove this fraction of the indices of groups, such as 0.5.
    #[arg(long, value_name = "RATIO", allow_negative_numbers = true, value_parser = ratio)]
    pub ratio: Option<f64>,
    /// Leave this many MACs, such as 50% or 2G.
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true, value_parser = amount)]
    pub macs: Option<Amount>,
    /// Leave this many parameters, such as 50% or 3M.
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true, value_parser = amount)]
    pub params: Option<Amount>,
    /// Leave a file of this size, such as 50% or 10MB.
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true, value_parser = amount)]
    pub size: Option<Amount>,
}

/// What may go.
#[derive(Args, Debug)]
#[command(next_help_heading = "Selection")]
pub struct Choice {
    /// What is ranked together: every group by itself, all groups, or groups of one structure.
    #[arg(long, value_name = "SCOPE", default_value = "uniform", value_parser = scopes())]
    pub scope: Scope,
    /// Ratio for groups with a name, parameter or node like this. Repeatable; the last match wins.
    #[arg(long, value_name = "PATTERN=RATIO", value_parser = ratio_for)]
    ratio_for: Vec<(String, f64)>,
    /// Never cut groups with a name, parameter or node like this. Repeatable.
    #[arg(long, value_name = "PATTERN")]
    keep: Vec<String>,
    /// Kinds of groups to cut, such as `channels,heads`; `+KIND` and `-KIND` change the default.
    #[arg(
        long, value_name = "KINDS", value_delimiter = ',', allow_hyphen_values = true,
        value_parser = kind_change, long_help = kinds_help()
    )]
    kinds: Vec<KindChange>,
    /// Cut exact groups only: pruning then equals setting what is removed to zero.
    #[arg(long)]
    exact_only: bool,
    /// Keep a multiple of this many indices of every group, such as 8.
    #[arg(long, value_name = "N", default_value_t = 1)]
    multiple_of: usize,
    /// Remove at most this fraction of any group.
    #[arg(
        long, value_name = "RATIO", default_value_t = 1.0, allow_negative_numbers = true,
        value_parser = ratio
    )]
    max_ratio: f64,
    /// Remove in this many steps, and score again before each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub steps: usize,
    /// How the ratio grows over the steps.
    #[arg(long, value_name = "SCHEDULE", default_value = "linear", value_parser = schedules())]
    pub schedule: Schedule,
}

/// What matters.
#[derive(Args, Debug)]
#[command(next_help_heading = "Scores")]
pub struct Scoring {
    /// How the importance of an index is measured.
    #[arg(long, value_name = "NAME", default_value = CRITERIA[0].name, value_parser = judges())]
    pub criterion: Judge,
    /// Roles of the slices that count, such as `producer,consumer`. Default: the criterion's choice.
    #[arg(long, value_name = "ROLES", value_delimiter = ',', value_parser = roles())]
    roles: Vec<Role>,
    /// How the scores of one index in several slices become one.
    #[arg(long, value_name = "HOW", default_value = "mean", value_parser = aggregations())]
    aggregate: Aggregation,
    /// How scores of groups are made comparable. Default: the criterion's choice.
    #[arg(long, value_name = "HOW", value_parser = normalizations())]
    normalize: Option<Normalization>,
    /// Seed of criteria that draw random numbers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// One word of `--kinds`.
#[derive(Clone, Debug)]
pub enum KindChange {
    Only(Vec<Kind>),
    Add(Kind),
    Drop(Kind),
}

/// A target in numbers.
pub struct Wanted {
    /// Its name in JSON.
    pub name: &'static str,
    /// What is counted, for people.
    pub label: &'static str,
    /// What shall remain.
    pub amount: Amount,
    /// The number in question.
    pub of: fn(&Size) -> u64,
    /// The number for people.
    pub show: fn(u64) -> String,
}

impl Goal {
    /// The target, unless it is a ratio.
    pub fn wanted(&self) -> Option<Wanted> {
        type Of = fn(&Size) -> u64;
        type Show = fn(u64) -> String;
        let wanted = |amount: Option<Amount>, name, label, of: Of, show: Show| {
            amount.map(|amount| Wanted { name, label, amount, of, show })
        };
        wanted(self.macs, "macs", "MACs", |size| size.macs, number::count)
            .or(wanted(self.params, "parameters", "parameters", |s| s.parameters, number::count))
            .or(wanted(self.size, "bytes", "on disk", |size| size.bytes, number::bytes))
    }

    /// The target, a size as that of the weights alone.
    #[cfg(feature = "train")]
    pub fn plain(&self) -> Target {
        match *self {
            Goal { macs: Some(amount), .. } => Target::Macs(amount),
            Goal { params: Some(amount), .. } => Target::Parameters(amount),
            Goal { size: Some(amount), .. } => Target::Size(amount),
            Goal { ratio, .. } => Target::Ratio(ratio.unwrap_or_default()),
        }
    }

    /// The target of a selection.
    ///
    /// # Errors
    /// When what is not weights takes more than the asked size.
    pub fn target(&self, model: &Model, cost: &Cost) -> Result<Target> {
        Ok(match *self {
            Goal { macs: Some(amount), .. } => Target::Macs(amount),
            Goal { params: Some(amount), .. } => Target::Parameters(amount),
            Goal { size: Some(amount), .. } => Target::Size(weights_of(amount, model, cost)?),
            Goal { ratio, .. } => Target::Ratio(ratio.unwrap_or_default()),
        })
    }
}

/// The bytes of weights in a file of the asked size: all else stays as it is.
fn weights_of(amount: Amount, model: &Model, cost: &Cost) -> Result<Amount> {
    let (file, weights) = (model.byte_size(), cost.now().bytes);
    let rest = file.saturating_sub(weights);
    let asked = match amount {
        Amount::Fraction(fraction) if !(fraction > 0.0 && fraction < 1.0) => return Ok(amount),
        Amount::Fraction(fraction) => (file as f64 * fraction) as u64,
        Amount::Absolute(bytes) => bytes,
    };
    match asked.checked_sub(rest) {
        Some(weights) if weights > 0 => Ok(Amount::Absolute(weights)),
        _ => Err(Error::unreachable(format!(
            "a file of {} cannot be reached: {} of the model are not weights",
            number::bytes(asked),
            number::bytes(rest),
        ))
        .hint(format!("give --size more than {}", number::bytes(rest)))),
    }
}

impl Choice {
    /// The options of a selection.
    pub fn options(&self, target: Target) -> SelectOptions {
        SelectOptions {
            target,
            scope: self.scope,
            ratio_for: self.ratio_for.clone(),
            keep: self.keep.clone(),
            kinds: kinds(&self.kinds),
            exact_only: self.exact_only,
            multiple_of: self.multiple_of,
            max_ratio: self.max_ratio,
            steps: self.steps,
            schedule: self.schedule,
            stage: None,
        }
    }
}

impl Scoring {
    /// The seed.
    #[cfg(feature = "train")]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The options of scores.
    pub fn options(&self) -> ScoreOptions {
        let roles: BTreeSet<Role> = self.roles.iter().copied().collect();
        ScoreOptions {
            criterion: match self.criterion {
                Judge::Criterion(criterion) => criterion,
                #[cfg(feature = "train")]
                Judge::Attribution(_) => CRITERIA[0],
            },
            seed: self.seed,
            roles: (!roles.is_empty()).then_some(roles),
            aggregation: self.aggregate,
            normalization: self.normalize,
        }
    }
}

/// Names without a sign are all that is cut; without any of these, signs change the default.
fn kinds(changes: &[KindChange]) -> BTreeSet<Kind> {
    let only = |change: &KindChange| match change {
        KindChange::Only(kinds) => kinds.clone(),
        _ => Vec::new(),
    };
    let mut kinds: BTreeSet<Kind> = changes.iter().flat_map(only).collect();
    if kinds.is_empty() {
        kinds = SelectOptions::default().kinds;
    }
    for change in changes {
        match change {
            KindChange::Only(_) => {}
            KindChange::Add(kind) => drop(kinds.insert(*kind)),
            KindChange::Drop(kind) => drop(kinds.remove(kind)),
        }
    }
    kinds
}

fn kind_change(text: &str) -> std::result::Result<KindChange, String> {
    let named = |name: &str| {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let names = Kind::ALL.map(Kind::name).join(", ");
        found.ok_or_else(|| format!("there is no kind `{name}`; kinds are {names}"))
    };
    match (text, text.strip_prefix('+'), text.strip_prefix('-')) {
        ("all", ..) => Ok(KindChange::Only(Kind::ALL.to_vec())),
        (_, Some(name), _) => named(name).map(KindChange::Add),
        (_, _, Some(name)) => named(name).map(KindChange::Drop),
        _ => named(text).map(|kind| KindChange::Only(vec![kind])),
    }
}

fn kinds_help() -> String {
    let named = |default: bool| {
        let kinds = Kind::ALL.into_iter().filter(move |kind| kind.is_default() == default);
        kinds.map(Kind::name).collect::<Vec<_>>().join(", ")
    };
    format!(
        "Kinds of groups to cut, such as `channels,heads`; `+KIND` and `-KIND` change the default, \
         `all` is every kind.\n\nDefault: {}\nOthers:  {}",
        named(true),
        named(false),
    )
}

fn amount(text: &str) -> std::result::Result<Amount, String> {
    text.parse().map_err(|error: Error| match error.remedy() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    })
}

/// A fraction, also as a percentage.
fn ratio(text: &str) -> std::result::Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let number: f64 =
        number.trim().parse().map_err(|_| "expected a fraction, such as 0.5 or 50%")?;
    Ok(number / scale)
}

fn ratio_for(text: &str) -> std::result::Result<(String, f64), String> {
    let (pattern, number) =
        text.rsplit_once('=').ok_or("expected PATTERN=RATIO, such as 'layer4.*=0.3'")?;
    Ok((pattern.to_string(), ratio(number)?))
}

fn scopes() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::NAMES).try_map(|name| name.parse())
}

fn schedules() -> impl TypedValueParser<Value = Schedule> {
    PossibleValuesParser::new(Schedule::NAMES).try_map(|name| name.parse())
}

fn aggregations() -> impl TypedValueParser<Value = Aggregation> {
    PossibleValuesParser::new(Aggregation::NAMES).try_map(|name| name.parse())
}

fn normalizations() -> impl TypedValueParser<Value = Normalization> {
    PossibleValuesParser::new(Normalization::NAMES).try_map(|name| name.parse())
}

fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::name)).try_map(|name| {
        let found = Role::ALL.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| Error::argument(format!("there is no role `{name}`")))
    })
}
