//! What a caller may choose about scores.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::{CRITERIA, Criterion};
use crate::group::Role;
use crate::{Error, Result};

/// How indices are scored.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreOptions {
    /// The criterion. Default: `l2`.
    pub criterion: &'static Criterion,
    /// For criteria that draw random numbers. Default: 0.
    pub seed: u64,
    /// Only slices with these roles count. Default (`None`): the criterion's own choice, for most
    /// producers and consumers, or all slices where a group has neither.
    pub roles: Option<BTreeSet<Role>>,
    /// Across the slices of a group. Default: mean.
    pub aggregation: Aggregation,
    /// Across the indices of a group. Default (`None`): the criterion's own choice, for most the
    /// mean.
    pub normalization: Option<Normalization>,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            criterion: CRITERIA[0],
            seed: 0,
            roles: None,
            aggregation: Aggregation::default(),
            normalization: None,
        }
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident, $what:literal, $($(#[$about:meta])* $variant:ident = $name:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $type {
            $($(#[$about])* $variant,)*
        }

        impl $type {
            /// All names, in order; the default is marked in the type.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The name in flags and plans.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(text: &str) -> $crate::Result<Self> {
                match text {
                    $($name => Ok($type::$variant),)*
                    _ => Err($crate::criterion::unknown($what, text, Self::NAMES)),
                }
            }
        }
    };
}
pub(crate) use names;

/// The error for a name that is in no list.
pub(crate) fn unknown(what: &str, text: &str, names: &[&str]) -> Error {
    Error::argument(format!("unknown {what} `{text}`"))
        .hint(format!("use one of: {}", names.join(", ")))
}

names! {
    /// How the scores of one index in several slices become one.
    Aggregation, "aggregation",
    /// Their mean.
    #[default]
    Mean = "mean",
    /// Their sum.
    Sum = "sum",
    /// The largest.
    Max = "max",
    /// Their product.
    Product = "product",
    /// That of the first slice.
    First = "first",
}

names! {
    /// How the scores of a group are made comparable to those of others.
    Normalization, "normalization",
    /// Divided by their mean.
    #[default]
    Mean = "mean",
    /// Divided by the largest.
    Max = "max",
    /// Divided by their sum.
    Sum = "sum",
    /// Minus their mean, divided by their standard deviation.
    Standardize = "standardize",
    /// As they are.
    Identity = "none",
}

impl Aggregation {
    pub(super) fn apply(self, slices: &[Vec<f64>], index: usize) -> f64 {
        let scores = slices.iter().map(|scores| scores[index]);
        match self {
            Aggregation::Mean => scores.sum::<f64>() / slices.len() as f64,
            Aggregation::Sum => scores.sum(),
            Aggregation::Max => scores.fold(f64::NEG_INFINITY, f64::max),
            Aggregation::Product => scores.product(),
            Aggregation::First => scores.take(1).sum(),
        }
    }
}

impl Normalization {
    /// Groups of which all scores are zero (or, standardized, equal) keep the scale they have.
    pub(super) fn apply(self, scores: &mut [f64]) {
        let count = scores.len() as f64;
        let sum: f64 = scores.iter().sum();
        let (offset, scale) = match self {
            Normalization::Identity => return,
            Normalization::Mean => (0.0, sum / count),
            Normalization::Sum => (0.0, sum),
            Normalization::Max => (0.0, scores.iter().copied().fold(0.0, f64::max)),
            Normalization::Standardize => {
                let mean = sum / count;
                let variance = scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f64>() / count;
                (mean, variance.sqrt())
            }
        };
        let scale = if scale > 0.0 { scale } else { 1.0 };
        scores.iter_mut().for_each(|score| *score = (*score - offset) / scale);
    }
}

impl FromStr for &'static Criterion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names: Vec<_> = CRITERIA.iter().map(|criterion| criterion.name).collect();
        Criterion::named(text).ok_or_else(|| unknown("criterion", text, &names))
    }
}
