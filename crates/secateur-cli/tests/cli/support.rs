//! Runs the command in a folder of its own, so that its messages hold no foreign paths.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A folder to run in.
pub struct Folder(TempDir);

/// What a run printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// An empty folder.
pub fn folder() -> Folder {
    Folder(TempDir::new().unwrap())
}

/// A folder with fixtures, each under the name after the colon: `c2f:model.onnx`.
pub fn folder_with(fixtures: &[&str]) -> Folder {
    let folder = folder();
    for fixture in fixtures {
        let (from, to) = fixture.split_once(':').unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../secateur/tests/fixtures");
        fs::copy(source.join(from), folder.path(to)).unwrap();
    }
    folder
}

impl Folder {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// The names of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs the command; arguments are divided at blanks.
    pub fn run(&self, line: &str) -> Ran {
        let mut command = Command::cargo_bin("secateur").unwrap();
        let command = command.current_dir(self.0.path()).env("COLUMNS", "100");
        let Output { status, stdout, stderr } =
            command.args(line.split_whitespace()).output().unwrap();
        Ran {
            code: status.code().unwrap(),
            stdout: without_times(&String::from_utf8(stdout).unwrap()),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Runs a script of the shell, in which `$SECATEUR` is the command.
    pub fn script(&self, shell: &[&str], script: &str) -> Ran {
        let (program, args) = shell.split_first().unwrap();
        let mut command = Command::new(program);
        let command = command.current_dir(self.0.path()).env("COLUMNS", "100");
        let command = command.env("SECATEUR", assert_cmd::cargo::cargo_bin!("secateur"));
        let Output { status, stdout, stderr } =
            command.args(args).args(["-c", script]).output().unwrap();
        Ran {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// The text of a run that must succeed.
    pub fn text(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line}");
        ran.stdout
    }

    /// The document of a run that must succeed.
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(line)).unwrap()
    }

    /// The message of a run that must fail and print nothing else.
    pub fn error(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{line}: {}", ran.stderr);
        ran.stderr
    }
}

/// Times differ from run to run.
fn without_times(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once(" in ") {
        Some((before, after)) if after.ends_with(" ms.") || after.ends_with(" s.") => {
            format!("{before} in N ms.")
        }
        _ => line.to_string(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
