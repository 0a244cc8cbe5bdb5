//! The Rust half of the Python package: everything that decides. What knows PyTorch is Python.

mod model;
mod options;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    _secateur,
    SecateurError,
    PyException,
    "What went wrong, and the remedy, if one is known."
);

/// The exception for an error of the core: its message, and its hint on a line of its own.
fn raise(error: secateur::Error) -> PyErr {
    SecateurError::new_err(text(&error))
}

fn text(error: &secateur::Error) -> String {
    match error.remedy() {
        Some(hint) => named(&format!("{error}\nhint: {hint}")),
        None => named(&error.to_string()),
    }
}

/// A text that names the options of the command as Python does: `max_ratio`, not `--max-ratio`.
fn named(text: &str) -> String {
    let mut parts = text.split("--");
    let mut named = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let length = part.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'-');
        let (option, rest) = part.split_at(length.count());
        if option.is_empty() || named.ends_with(|last: char| !last.is_whitespace() && last != '`') {
            named += "--";
        }
        named += &option.replace('-', "_");
        named += rest;
    }
    named
}

/// The names of the criteria, with a line about each.
#[pyfunction]
fn criteria() -> Vec<(&'static str, &'static str)> {
    secateur::criterion::CRITERIA
        .iter()
        .map(|criterion| (criterion.name, criterion.about))
        .collect()
}

/// The ATen operators that are followed.
#[pyfunction]
fn known_operators() -> Vec<&'static str> {
    secateur::torch::known_operators()
}

/// Runs the `secateur` command; the first argument is its own name. Returns the exit status.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> u8 {
    py.detach(|| secateur_cli::run(arguments))
}

/// The Rust half of the package.
#[pymodule]
mod _secateur {
    #[pymodule_export]
    use super::SecateurError;
    #[pymodule_export]
    use super::model::{Changes, Entry, Footprint, Group, Model, Selection, Slice, prune_file};
    #[pymodule_export]
    use super::{criteria, known_operators, main};
}
