//! What a verb has to say, and where it goes: the answer to stdout, remarks to stderr.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use clap::builder::styling::{AnsiColor, Style};
use secateur::{Error, Result};
use serde::Serialize;

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// What a verb has to say.
#[derive(Debug, Default)]
pub struct Output {
    /// The answer.
    pub text: String,
    /// What the user should know besides.
    pub warnings: Vec<String>,
}

impl Output {
    /// An answer for people.
    pub fn text(text: impl Into<String>) -> Self {
        Output { text: text.into(), warnings: Vec::new() }
    }

    /// An answer for programs: one document.
    pub fn json(document: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Error::io(Path::new("-"), error.into()))?;
        Ok(Output::text(text))
    }

    /// Adds remarks.
    pub fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// Prints it. A reader that has gone away, such as `head`, is no error.
    pub fn print(&self) -> Result<()> {
        let mut text = self.text.trim_end().to_owned();
        if !text.is_empty() {
            text.push('\n');
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(Error::io(Path::new("stdout"), error));
            }
            _ => {}
        }
        for warning in &self.warnings {
            remark("warning", YELLOW, warning);
        }
        Ok(())
    }
}

/// Prints an error and its remedy.
pub fn print_error(error: &Error) {
    remark("error", RED, &error.to_string());
    if let Some(hint) = error.remedy() {
        remark("hint", CYAN, hint);
    }
}

fn remark(label: &str, style: Style, text: &str) {
    // There is nowhere to tell that stderr is closed.
    let _ = writeln!(anstream::stderr(), "{style}{label}:{style:#} {text}");
}
