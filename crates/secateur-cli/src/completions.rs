//! `completions`: tab completion for a shell.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  secateur completions bash > ~/.local/share/bash-completion/completions/secateur
  secateur completions zsh > ~/.zfunc/_secateur
  secateur completions fish > ~/.config/fish/completions/secateur.fish";

/// Print tab completion for a shell.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

/// The completion script.
pub fn run(args: &Completions) -> Output {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "secateur", &mut script);
    Output::text(String::from_utf8_lossy(&script))
}
