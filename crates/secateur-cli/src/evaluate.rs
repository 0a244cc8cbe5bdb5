//! `evaluate`: loss and accuracy of a model on data.

use clap::Args;
use secateur::Result;
use secateur_train::fit::evaluate;
use secateur_train::trainer::TrainOptions;

use crate::data::Data;
use crate::engine::{self, Judging};
use crate::number;
use crate::output::Output;
use crate::progress::Spinner;
use crate::source::Source;

const EXAMPLES: &str = "\
Examples:
  secateur evaluate model.onnx --data fashion/ --part test
  secateur evaluate model.onnx --data test.npz --json";

/// Run a model on data: loss and accuracy.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Evaluate {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    judging: Judging,
    /// Samples that run at once.
    #[arg(long, value_name = "N", default_value_t = 100)]
    batch_size: usize,
    /// Seed of what `--limit` draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Evaluates.
pub fn run(args: &Evaluate) -> Result<Output> {
    let model = args.source.open()?;
    let data = args.data.open(args.seed)?;
    let _spinner = Spinner::new("running");
    let options = TrainOptions { loss: args.judging.loss, ..TrainOptions::default() };
    let found = evaluate(&engine::trainer(model, options)?, &data, args.batch_size)?;
    if args.source.json {
        return Output::json(&found);
    }
    let accuracy = found.accuracy.map(|share| format!(", accuracy {}", number::percent(share)));
    let (samples, accuracy) = (data.len(), accuracy.unwrap_or_default());
    Ok(Output::text(format!("{samples} samples: loss {:.4}{accuracy}", found.loss)))
}
