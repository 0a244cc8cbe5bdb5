//! The `secateur` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(secateur_cli::run(std::env::args_os()))
}
