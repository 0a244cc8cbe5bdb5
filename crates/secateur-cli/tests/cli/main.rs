//! The command as its users see it: text, JSON, errors and files.

#![allow(clippy::unwrap_used)]

mod errors;
mod files;
mod help;
mod support;
mod text;
