//! The `secateur` command: structured pruning of model files.
//!
//! Every verb is a function from its arguments to an `Output`; only this file prints.

mod apply;
mod args;
mod completions;
mod groups;
mod inspect;
mod mask;
mod number;
mod options;
mod output;
mod parameter;
mod place;
mod progress;
mod prune;
mod report;
mod source;
mod table;
mod why;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Verb};

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Inspect(args) => inspect::run(&args),
        Verb::Groups(args) => groups::run(&args),
        Verb::Why(args) => why::run(&args),
        Verb::Prune(args) => prune::run(&args),
        Verb::Apply(args) => apply::run(&args),
        Verb::Mask(args) => mask::run(&args),
        Verb::Completions(args) => Ok(completions::run(&args)),
    };
    match outcome.and_then(|output| output.print()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
