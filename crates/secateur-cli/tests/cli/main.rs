//! The command as its users see it: text, JSON, errors and files.

mod errors;
mod files;
mod help;
mod support;
mod text;
