//! The `secateur` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "train")]
    secateur_train::silence_refusals();
    ExitCode::from(secateur_cli::run(std::env::args_os()))
}
