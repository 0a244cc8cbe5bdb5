//! `apply`: cuts a model by a plan.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use secateur::plan::Plan;
use secateur::{Error, ErrorKind, Model, Result};

use crate::output::Output;
use crate::place;
use crate::progress::writing;
use crate::report::{Detail, Report};
use crate::source::Source;

const EXAMPLES: &str = "\
Examples:
  secateur apply plan.json model.onnx -o small.onnx
  secateur apply plan.json finetuned.onnx -o small.onnx    another checkpoint of the same model";

/// Cut a model by a plan that `prune --plan` wrote.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Apply {
    /// The plan.
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Where to write the smaller model; may be the model itself.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Tell of every group and every layer.
    #[arg(long, short)]
    verbose: bool,
    /// Print warnings and errors only.
    #[arg(long, short, conflicts_with_all = ["verbose", "json"])]
    quiet: bool,
}

/// Applies a plan.
pub fn run(args: &Apply) -> Result<Output> {
    let start = Instant::now();
    let plan = Plan::read(&args.plan)?;
    let model = open(&args.source, &plan)?;
    place::check_output(&model, &args.output)?;
    place::check_not_plan(&args.output, &args.plan)?;
    let keeps = model.replay(&plan)?;
    let cost = model.cost();
    let mut report = Report::new(&model, &cost, &keeps, None);
    let saved = model.write_pruned(&keeps, &args.output, &mut writing())?;
    report.written(&args.output, &saved);
    report.finish(start);
    if args.source.json {
        return Output::json(&report);
    }
    let detail = if args.verbose { Detail::Full } else { Detail::Short };
    let text = if args.quiet { String::new() } else { report.text(detail) };
    Ok(Output::text(text).warn(report.remarks()))
}

/// Opens a model as it was when the plan was made; shapes that are given come first.
pub fn open(source: &Source, plan: &Plan) -> Result<Model> {
    let mut hints = plan.model.shapes.clone();
    hints.extend(source.hints()?);
    Model::open(&source.path, &hints).map_err(|error| {
        let from_plan = source.shapes.is_empty() && !hints.is_empty();
        if from_plan && error.kind() == ErrorKind::Argument {
            return Error::plan_mismatch(format!("the plan was made for another model: {error}"));
        }
        error
    })
}
