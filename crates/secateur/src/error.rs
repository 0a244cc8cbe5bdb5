//! The one public error of this crate: what failed, and the remedy.

use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as a caller would branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading or writing a file failed.
    Io,
    /// A file does not follow its format: truncated, contradictory, dangling.
    Malformed,
    /// A file is valid and asks for something Secateur does not do.
    Unsupported,
    /// A flag, pattern, shape or index that the caller gave is wrong.
    Argument,
    /// The asked-for size cannot be reached.
    Unreachable,
    /// A plan was made for another model.
    PlanMismatch,
}

/// An error with a kind, a message that names the place, and often a hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<std::io::Error>,
}

impl Error {
    fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), hint: None, source: None }
    }

    /// A failed read or write of `path`.
    pub fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        let message = format!("`{}`: {source}", path.display());
        Self { source: Some(source), ..Self::new(ErrorKind::Io, message) }
    }

    /// A file that breaks its format.
    pub fn malformed(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// A valid file that asks for something Secateur does not do.
    pub fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A wrong flag, pattern, shape or index.
    pub fn argument(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Argument, message)
    }

    /// A target that cannot be reached.
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unreachable, message)
    }

    /// A plan that was made for another model.
    pub fn plan_mismatch(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::PlanMismatch, message)
    }

    /// Adds the remedy: imperative, one line.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Puts the place, such as a tensor's name, before the message.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What went wrong, as a caller would branch on it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
