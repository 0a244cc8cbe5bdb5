//! The command line: its verbs, and how values are read.

use clap::{Parser, Subcommand};

use crate::apply::Apply;
use crate::completions::Completions;
#[cfg(feature = "train")]
use crate::evaluate::Evaluate;
use crate::groups::Groups;
use crate::inspect::Inspect;
use crate::mask::Mask;
use crate::prune::Prune;
#[cfg(feature = "train")]
use crate::score::Score;
#[cfg(feature = "train")]
use crate::sensitivity::Sensitivity;
#[cfg(feature = "train")]
use crate::train::Train;
#[cfg(feature = "train")]
use crate::verify::Verify;
use crate::why::Why;

const EXAMPLES: &str = "\
Examples:
  secateur inspect model.onnx                       what is in a model
  secateur groups model.onnx                        what can be cut
  secateur prune model.onnx -o small.onnx --macs 50%
  secateur finetune small.onnx -o tuned.onnx --data images/
  secateur why model.onnx conv1.weight:0            why an axis can or cannot be cut

`secateur VERB --help` has more for each verb.";

/// Structured pruning of trained neural networks, on model files.
///
/// Secateur finds which dimensions of a model can be cut together, removes the least important
/// parts of them, and writes a smaller model of the same format.
#[derive(Parser, Debug)]
#[command(name = "secateur", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    Inspect(Inspect),
    Groups(Groups),
    Why(Why),
    Prune(Box<Prune>),
    Apply(Apply),
    Mask(Mask),
    #[cfg(feature = "train")]
    Verify(Verify),
    #[cfg(feature = "train")]
    Evaluate(Evaluate),
    #[cfg(feature = "train")]
    Score(Box<Score>),
    #[cfg(feature = "train")]
    Sensitivity(Box<Sensitivity>),
    #[cfg(feature = "train")]
    #[command(visible_alias = "finetune")]
    Train(Box<Train>),
    Completions(Completions),
}
