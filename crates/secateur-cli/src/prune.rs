//! `prune`: decides what goes, and writes the model without it.

use std::path::PathBuf;
use std::time::Instant;

use clap::{ArgGroup, Args};
use secateur::cost::Cost;
use secateur::group::Keeps;
use secateur::select::{Amount, SelectOptions, Selection};
use secateur::{ErrorKind, Model, Result};
#[cfg(feature = "train")]
use secateur_train::fit::{Ranking, rank};
#[cfg(feature = "train")]
use secateur_train::trainer::TrainOptions;
use serde_json::json;

#[cfg(feature = "train")]
use crate::data::Data;
#[cfg(feature = "train")]
use crate::engine::{self, Judging};
#[cfg(feature = "train")]
use crate::measuring::{Measuring, is_measured};
use crate::number;
use crate::options::{Choice, Goal, Scoring};
use crate::output::Output;
use crate::place::{self, Plans};
use crate::progress::{Spinner, writing};
use crate::report::{Detail, Report};
use crate::source::Source;
#[cfg(feature = "train")]
use crate::verify;

const USAGE: &str = "\
secateur prune <MODEL> --output <FILE> <TARGET> [OPTIONS]
       secateur prune <MODEL> --dry-run <TARGET> [OPTIONS]

TARGET is one of --ratio, --macs, --params and --size.";

const EXAMPLES: &str = "\
Examples:
  secateur prune model.onnx -o small.onnx --ratio 0.5
          half of the channels, features and heads of every group
  secateur prune model.onnx -o small.onnx --macs 50% --scope global --multiple-of 8
          half of the MACs; what matters least in the whole model goes first
  secateur prune model.onnx --params 3M --keep 'head.*' --dry-run
          whether and how 3 million parameters can be reached
  secateur prune model.onnx -o small.onnx --size 10MB --plan plan.json
          write down what was removed too, for `apply` and `mask`
  secateur prune model.onnx -o small.onnx --ratio 0.3 --criterion taylor --data images/ --verify
          score on data, and prove that the result computes what it should";

/// Remove the least important parts of a model.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = USAGE)]
#[command(group = ArgGroup::new("goal").required(true).args(["ratio", "macs", "params", "size"]))]
pub struct Prune {
    #[command(flatten)]
    source: Source,
    /// Where to write the smaller model; may be the model itself.
    #[arg(long, short, value_name = "FILE", required_unless_present_any = ["dry_run", "plan"])]
    output: Option<PathBuf>,
    /// Also write the plan: what is kept of every group. Without --output, only the plan.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Report only: write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Tell of every group and every layer.
    #[arg(long, short)]
    verbose: bool,
    /// Print warnings and errors only.
    #[arg(long, short, conflicts_with_all = ["verbose", "json"])]
    quiet: bool,
    #[command(flatten)]
    target: Goal,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    scoring: Scoring,
    #[cfg(feature = "train")]
    #[command(flatten)]
    running: Running,
}

/// What needs the model to run.
#[cfg(feature = "train")]
#[derive(Args, Debug)]
struct Running {
    #[command(flatten)]
    measuring: Measuring,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    data: Data,
    /// Run the written model and the mask, and fail where they differ.
    #[arg(long, conflicts_with = "dry_run", requires = "output")]
    verify: bool,
}

/// Prunes.
pub fn run(args: &Prune) -> Result<Output> {
    let start = Instant::now();
    let model = args.source.open()?;
    let places = args.places(&model)?;
    let cost = model.cost();
    let (selection, stuck) = args.select(&model, &cost)?;
    let mut report = Report::new(&model, &cost, &selection.keeps, Some(&selection.entries));
    report.stuck = stuck;
    let plan = places.map(|plans| plans.prepare(&model.plan(&selection.keeps)?)).transpose()?;
    if let (Some(output), false) = (&args.output, args.dry_run) {
        let saved = model.write_pruned(&selection.keeps, output, &mut writing())?;
        report.written(output, &saved);
        #[cfg(feature = "train")]
        if args.running.verify {
            let seed = args.scoring.seed();
            let verified = verify::check(&model, &selection.keeps, output, seed)?;
            report.warnings.extend(verified.warning());
            report.verified = Some(verified);
        }
    }
    if let Some(plan) = plan {
        plan.commit()?;
        report.plan = args.plan.as_ref().map(|plan| plan.display().to_string());
    }
    args.summarize(&mut report);
    report.finish(start);
    args.show(&report)
}

impl Prune {
    /// Where to write, once it is known that nothing else is written over.
    fn places(&self, model: &Model) -> Result<Option<Plans>> {
        if self.dry_run {
            return Ok(None);
        }
        if let Some(output) = &self.output {
            place::check_output(model, output)?;
        }
        let plan = self.plan.as_deref();
        plan.map(|plan| Plans::new(model, plan, self.output.as_deref())).transpose()
    }

    /// What is kept; with a ratio, which removes nothing where no group can be cut, why so.
    fn select(&self, model: &Model, cost: &Cost) -> Result<(Selection, Option<String>)> {
        let _spinner = Spinner::new("scoring");
        let target = self.target.target(model, cost)?;
        let options = self.choice.options(target);
        match self.choose(model, &options) {
            Err(error) if error.kind() == ErrorKind::Unreachable && self.target.ratio.is_some() => {
                let (before, after) = (cost.now(), cost.now());
                let nothing = Selection { keeps: Keeps::new(), entries: Vec::new(), before, after };
                Ok((nothing, Some(error.to_string())))
            }
            selected => selected.map(|selection| (selection, None)),
        }
    }

    /// By weights.
    #[cfg(not(feature = "train"))]
    fn choose(&self, model: &Model, options: &SelectOptions) -> Result<Selection> {
        model.select(options, &self.scoring.options())
    }

    /// By weights, or on data.
    #[cfg(feature = "train")]
    fn choose(&self, model: &Model, options: &SelectOptions) -> Result<Selection> {
        let Running { measuring, judging, data, .. } = &self.running;
        let scores = self.scoring.options();
        let ranking = measuring.ranking(self.scoring.criterion, &scores);
        if matches!(ranking, Ranking::Criterion(_)) && !is_measured(&ranking) {
            if data.data.is_some() {
                let name = self.scoring.criterion.name();
                let text = format!("`--criterion {name}` reads weights, no data");
                let error = secateur::Error::argument(text);
                return Err(error.hint("leave --data out, or choose a criterion that runs on data"));
            }
            return model.select(options, &scores);
        }
        let train = TrainOptions { loss: judging.loss, ..TrainOptions::default() };
        let mut trainer = engine::trainer(self.source.open()?, train)?;
        let samples = (measuring.score_samples, measuring.score_batch, scores.seed);
        match is_measured(&ranking) {
            true => {
                let batches = engine::batches(&data.open(scores.seed)?, samples)?;
                rank(&mut trainer, &ranking, batches, options)
            }
            false => rank(&mut trainer, &ranking, std::iter::empty(), options),
        }
    }

    /// Says what was asked for and what came of it.
    fn summarize(&self, report: &mut Report) {
        let Some(wanted) = self.target.wanted() else {
            let ratio = self.target.ratio.unwrap_or_default();
            report.asked = self.asked("ratio", json!({ "ratio": ratio }));
            let (asked, removed) = (number::percent(ratio), number::percent(report.removed()));
            report.summary =
                Some(format!("Asked to remove {asked} of the indices: {removed} are removed."));
            return;
        };
        let (before, after) = ((wanted.of)(&report.before), (wanted.of)(&report.after));
        let (fraction, amount) = match wanted.amount {
            Amount::Fraction(fraction) => (Some(fraction), (before as f64 * fraction) as u64),
            Amount::Absolute(number) => (None, number),
        };
        let (name, show) = (wanted.name, wanted.show);
        let asked = fraction.map(|fraction| format!("{} of ", number::percent(fraction)));
        let part = number::percent(after as f64 / before.max(1) as f64);
        let asked = asked.unwrap_or_default();
        report.asked = self.asked(name, json!({ "fraction": fraction, "amount": amount }));
        report.summary = Some(format!(
            "Asked for {asked}{} {}: {} ({part}) remain.",
            show(if fraction.is_some() { before } else { amount }),
            wanted.label,
            show(after),
        ));
        if after > amount {
            let (after, amount) = (show(after), show(amount));
            report.warnings.push(format!("the target is missed: {after} remain, not {amount}"));
        }
    }

    /// What decides the result, in JSON.
    fn asked(&self, target: &str, mut asked: serde_json::Value) -> serde_json::Value {
        asked["target"] = json!(target);
        asked["scope"] = json!(self.choice.scope.name());
        asked["criterion"] = json!(self.scoring.criterion.name());
        asked["steps"] = json!(self.choice.steps);
        asked
    }

    fn show(&self, report: &Report) -> Result<Output> {
        if self.source.json {
            return Output::json(report);
        }
        let detail = if self.verbose { Detail::Full } else { Detail::Short };
        let text = if self.quiet { String::new() } else { report.text(detail) };
        Ok(Output::text(text).warn(report.remarks()))
    }
}
