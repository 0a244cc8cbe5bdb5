//! External data: the files next to a model that hold its weights.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::proto::TensorProto;
use crate::disk::{self, Mapped};
use crate::{Error, Result};

/// The data files of one model, each mapped when it is first read.
#[derive(Debug)]
pub(super) struct ExternalFiles {
    model: PathBuf,
    mapped: Mutex<BTreeMap<String, Mapped>>,
}

/// The `external_data` entries of a tensor.
struct Location<'a> {
    file: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl ExternalFiles {
    pub(super) fn new(model: &Path) -> Self {
        Self { model: model.to_owned(), mapped: Mutex::default() }
    }

    /// The elements of an external tensor; `expected` is their size, where it is known.
    pub(super) fn bytes(&self, tensor: &TensorProto, expected: Option<usize>) -> Result<Bytes> {
        let location = Location::of(tensor)?;
        let expected = expected.map(|len| len as u64);
        if let (Some(length), Some(expected)) = (location.length, expected)
            && length != expected
        {
            return Err(Error::malformed(format!(
                "its shape asks for {expected} bytes, its external data has {length}"
            )));
        }
        let file = self.open(location.file)?;
        let available = (file.len() as u64).saturating_sub(location.offset);
        let len = location.length.or(expected).unwrap_or(available);
        if location.offset > file.len() as u64 || len > available {
            let (name, size, offset) = (location.file, file.len(), location.offset);
            return Err(Error::malformed(format!(
                "its data is at {offset}, {len} bytes long, but `{name}` has {size} bytes"
            ))
            .hint("the data file may be truncated, or of another model: fetch it again"));
        }
        let start = location.offset as usize;
        Ok(file.slice(start..start + len as usize))
    }

    /// The path of a data file, which must lie in the folder of the model, or in the folder that
    /// the model is linked from.
    ///
    /// # Errors
    /// When the location leads elsewhere, or nothing is there.
    pub(super) fn resolve(&self, location: &str) -> Result<PathBuf> {
        let relative = Path::new(location);
        let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !relative.components().all(plain) {
            return Err(escapes(location));
        }
        let path = disk::folder(&self.model).join(relative);
        let real = path.canonicalize().map_err(|source| unreadable(&path, source))?;
        let model = self.model.canonicalize();
        let homes = [disk::folder(&self.model).canonicalize(), model.map(parent)];
        if !homes.iter().flatten().any(|home| real.starts_with(home)) {
            return Err(escapes(location));
        }
        Ok(path)
    }

    /// Lets the system drop the pages of `part`, if it is of one of the files.
    pub(super) fn release(&self, part: &[u8]) {
        self.lock().values().for_each(|file| file.release(part));
    }

    fn open(&self, location: &str) -> Result<Bytes> {
        if let Some(file) = self.lock().get(location) {
            return Ok(file.bytes().clone());
        }
        let file = Mapped::open(&self.resolve(location)?)?;
        let bytes = file.bytes().clone();
        self.lock().insert(location.to_owned(), file);
        Ok(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Mapped>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Location<'a> {
    fn of(tensor: &'a TensorProto) -> Result<Self> {
        let file = file_name(tensor)
            .ok_or_else(|| Error::malformed("its external data has no `location`"))?;
        let offset = number(tensor, "offset")?.unwrap_or(0);
        Ok(Self { file, offset, length: number(tensor, "length")? })
    }
}

/// The `location` of an external tensor.
pub(super) fn file_name(tensor: &TensorProto) -> Option<&str> {
    entry(tensor, "location")
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
}

fn number(tensor: &TensorProto, key: &str) -> Result<Option<u64>> {
    let Some(value) = entry(tensor, key) else { return Ok(None) };
    let parsed = value.parse();
    parsed.map(Some).map_err(|_| {
        Error::malformed(format!("the `{key}` of its external data is `{value}`, not a number"))
    })
}

fn parent(mut path: PathBuf) -> PathBuf {
    path.pop();
    path
}

fn escapes(location: &str) -> Error {
    Error::malformed(format!("its external data `{location}` is outside of the model's folder"))
        .hint("move the data file next to the model, and name it by a relative path")
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::io(path, source).hint("put the model's data files next to it")
}
