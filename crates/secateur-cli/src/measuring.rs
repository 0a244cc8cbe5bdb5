//! How scores are measured on data.

use clap::Args;
use secateur::criterion::ScoreOptions;
use secateur_train::attribution::{AttributionOptions, Reduction};
use secateur_train::fit::Ranking;
use secateur_train::point::On;
use secateur_train::scoring::needs_data;

use crate::judge::Judge;

/// How units are measured on data.
#[derive(Args, Debug)]
#[command(next_help_heading = "Scores from data")]
pub struct Measuring {
    /// Samples that scores are measured on, at most.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub score_samples: usize,
    /// Samples that run at once.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub score_batch: usize,
    /// Orders in which `shapley` removes units.
    #[arg(long, value_name = "N", default_value_t = 5)]
    samples: usize,
    /// Where units are seen: what their layer returns, or the norm and activation behind it.
    #[arg(long, value_name = "WHERE", default_value = "best", value_parser = on)]
    on: On,
    /// How scores of samples become one: `mean`, `sum`, or `mean+K` standard deviations.
    #[arg(long, value_name = "HOW", default_value = "mean", value_parser = reduction)]
    reduce: Reduction,
}

impl Measuring {
    /// The ranking of a judge.
    pub fn ranking(&self, judge: Judge, scores: &ScoreOptions) -> Ranking {
        match judge {
            Judge::Criterion(_) => Ranking::Criterion(scores.clone()),
            Judge::Attribution(method) => Ranking::Attribution(AttributionOptions {
                method: method.with_samples(self.samples),
                on: self.on,
                reduction: self.reduce,
                seed: scores.seed,
            }),
        }
    }
}

/// Whether a ranking is measured on data.
pub fn is_measured(ranking: &Ranking) -> bool {
    match ranking {
        Ranking::Criterion(options) => needs_data(options),
        Ranking::Attribution(options) => options.method.needs_data(),
    }
}

fn on(text: &str) -> Result<On, String> {
    match text {
        "output" => Ok(On::Output),
        "best" => Ok(On::Best),
        _ => Err("expected `output` or `best`".to_string()),
    }
}

fn reduction(text: &str) -> Result<Reduction, String> {
    match (text, text.strip_prefix("mean+")) {
        ("mean", _) => Ok(Reduction::Mean),
        ("sum", _) => Ok(Reduction::Sum),
        (_, Some(times)) => {
            let times = times.parse().map_err(|_| "expected a number after `mean+`")?;
            Ok(Reduction::MeanPlus(times))
        }
        _ => Err("expected `mean`, `sum` or `mean+K`".to_string()),
    }
}
