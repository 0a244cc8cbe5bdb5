//! The `secateur` command: structured pruning of model files.
//!
//! Every verb is a function from its arguments to an `Output`; only this file prints. It is a library
//! so that the Python package can install the command, too.

mod apply;
mod args;
mod completions;
#[cfg(feature = "train")]
mod data;
#[cfg(feature = "train")]
mod engine;
#[cfg(feature = "train")]
mod evaluate;
mod groups;
mod inspect;
mod judge;
mod mask;
#[cfg(feature = "train")]
mod measuring;
mod number;
mod options;
mod output;
mod parameter;
mod place;
mod progress;
mod prune;
mod report;
#[cfg(feature = "train")]
mod score;
#[cfg(feature = "train")]
mod sensitivity;
mod source;
mod table;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "train")]
mod verify;
mod why;

use std::ffi::OsString;

use clap::Parser;

use args::{Cli, Verb};

/// Runs the command with these arguments, the first of which is its own name, and prints what
/// comes of it. Returns the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let verb = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.verb,
        Err(error) => {
            // Where nothing can be printed, the status is all there is.
            drop(error.print());
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let outcome = match verb {
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Groups(args) => groups::run(&args),
        Verb::Why(args) => why::run(&args),
        Verb::Prune(args) => prune::run(&args),
        Verb::Apply(args) => apply::run(&args),
        Verb::Mask(args) => mask::run(&args),
        #[cfg(feature = "train")]
        Verb::Verify(args) => verify::run(&args),
        #[cfg(feature = "train")]
        Verb::Evaluate(args) => evaluate::run(&args),
        #[cfg(feature = "train")]
        Verb::Score(args) => score::run(&args),
        #[cfg(feature = "train")]
        Verb::Sensitivity(args) => sensitivity::run(&args),
        #[cfg(feature = "train")]
        Verb::Train(args) => train::run(&args),
        Verb::Completions(args) => Ok(completions::run(&args)),
    };
    match outcome.and_then(|output| output.print()) {
        Ok(()) => 0,
        Err(error) => {
            output::print_error(&error);
            1
        }
    }
}
