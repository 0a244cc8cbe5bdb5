//! `mask`: a model with what a plan removes set to zero.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use secateur::Result;
use secateur::plan::Plan;
use serde_json::json;

use crate::apply::open;
use crate::number;
use crate::output::Output;
use crate::place;
use crate::progress::writing;
use crate::source::Source;

const EXAMPLES: &str = "\
Examples:
  secateur prune model.onnx -o small.onnx --ratio 0.5 --exact-only --plan plan.json
  secateur mask model.onnx -o masked.onnx --plan plan.json

small.onnx then computes what masked.onnx does: that is what exact means. Run both in another
program to see for yourself.";

/// Set what a plan removes to zero, without removing it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Mask {
    #[command(flatten)]
    source: Source,
    /// Where to write the masked model; may be the model itself.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The plan, written by `prune --plan`.
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// Print errors only.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

/// Masks.
pub fn run(args: &Mask) -> Result<Output> {
    let start = Instant::now();
    let plan = Plan::read(&args.plan)?;
    let model = open(&args.source, &plan)?;
    place::check_output(&model, &args.output)?;
    place::check_not_plan(&args.output, &args.plan)?;
    let keeps = model.replay(&plan)?;
    let saved = model.write_masked(&keeps, &args.output, &mut writing())?;
    let output = args.output.display();
    if args.source.json {
        return Output::json(&json!({
            "output": output.to_string(),
            "bytes": saved.bytes,
            "groups": keeps.len(),
            "slices": plan.slices.len(),
            "milliseconds": (start.elapsed().as_secs_f64() * 1e5).round() / 100.0,
        }));
    }
    if args.quiet {
        return Ok(Output::default());
    }
    Ok(Output::text(format!(
        "{} -> {output}\n\nSet {} slices of {} groups to zero.\nWrote `{output}` ({}) in {}.",
        args.source.path.display(),
        plan.slices.len(),
        keeps.len(),
        number::bytes(saved.bytes),
        number::duration(start.elapsed().as_secs_f64() * 1e3),
    )))
}
