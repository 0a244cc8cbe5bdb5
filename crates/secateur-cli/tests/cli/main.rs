//! The command as its users see it: text, JSON, errors and files.

#![allow(clippy::unwrap_used)]

mod errors;
#[cfg(target_os = "linux")]
mod failures;
mod files;
mod help;
mod support;
mod text;
mod training;
