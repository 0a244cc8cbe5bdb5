//! What tells kept and removed indices apart: a criterion of weights, or what units do on data.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use secateur::criterion::{CRITERIA, Criterion};
#[cfg(feature = "train")]
use secateur_train::attribution::Attribution;

/// A way to score, by its name.
#[derive(Clone, Copy, Debug)]
pub enum Judge {
    /// Of weights.
    Criterion(&'static Criterion),
    /// Of what units do.
    #[cfg(feature = "train")]
    Attribution(Attribution),
}

impl Judge {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Judge::Criterion(criterion) => criterion.name,
            #[cfg(feature = "train")]
            Judge::Attribution(method) => method.name(),
        }
    }

    fn named(name: &str) -> Option<Self> {
        #[cfg(feature = "train")]
        if let Some(method) = Attribution::ALL.into_iter().find(|method| method.name() == name) {
            return Some(Judge::Attribution(method));
        }
        Criterion::named(name).map(Judge::Criterion)
    }

    fn all() -> Vec<(&'static str, &'static str)> {
        let criteria = CRITERIA.iter().map(|criterion| (criterion.name, criterion.about));
        #[cfg(feature = "train")]
        let criteria =
            criteria.chain(Attribution::ALL.map(|method| (method.name(), method.about())));
        criteria.collect()
    }
}

/// Reads the name of a judge.
pub fn judges() -> impl TypedValueParser<Value = Judge> {
    let value = |(name, about)| PossibleValue::new(name).help(about);
    PossibleValuesParser::new(Judge::all().into_iter().map(value)).try_map(|name| {
        Judge::named(&name).ok_or_else(|| format!("there is no criterion `{name}`"))
    })
}
