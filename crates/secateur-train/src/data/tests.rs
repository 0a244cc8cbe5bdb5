//! What the formats have in common, by small files that the tests write.

mod arrays;
mod damage;
mod folders;
mod idx;
mod loading;
mod tables;
mod texts;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;

/// A folder that the tests write into.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What is wrong, without the folder's name, and the remedy.
    fn text(&self, error: &Error) -> String {
        let folder = format!("{}/", self.0.path().display());
        let text = format!("{:?}: {error}\n{}", error.kind(), error.remedy().unwrap_or("-"));
        text.replace(&folder, "").replace(self.0.path().to_str().unwrap(), ".")
    }

    fn open_error(&self, path: &Path, options: &DataOptions) -> String {
        self.text(&open(path, options).err().unwrap())
    }

    fn batch_error(&self, path: &Path, options: &DataOptions) -> String {
        let dataset = open(path, options).unwrap();
        let indices: Vec<usize> = (0..dataset.len()).collect();
        self.text(&dataset.batch(&indices, None).unwrap_err())
    }
}

fn whole(dataset: &Arc<dyn Dataset>) -> Batch {
    dataset.batch(&(0..dataset.len()).collect::<Vec<_>>(), None).unwrap()
}

fn floats(array: &Array) -> &[f32] {
    match array {
        Array::Float(values, _) => values,
        other => panic!("{} in place of real numbers", other.sort()),
    }
}

fn ints(array: &Array) -> &[i64] {
    match array {
        Array::Int(values, _) => values,
        other => panic!("{} in place of integers", other.sort()),
    }
}

/// The expected text, without the indentation that `rustfmt` gives it.
#[track_caller]
fn check(found: &str, expected: &str) {
    assert_eq!(found.trim(), expected.trim());
}

#[test]
fn unknown_files_are_errors() {
    let files = Files::new();
    let options = DataOptions::default();
    let unknown = files.write("data.bin", "hello");
    let formats = "give a folder of images, an IDX, `.npz`, `.npy`, `.safetensors`, `.csv`, `.tsv` or `.txt` file";
    check(
        &files.open_error(&unknown, &options),
        &format!("Unsupported: `data.bin`: a file of no known format of data\n{formats}"),
    );
    check(
        &files.open_error(&files.path("none"), &options),
        "Io: `none`: No such file or directory (os error 2)\ncheck the path",
    );
    check(
        &files.open_error(files.0.path(), &options),
        "Unsupported: `.`: neither images nor IDX files in this folder\n\
         put the PNG or JPEG files of each class into a folder of its own",
    );
}
