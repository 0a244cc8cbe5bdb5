//! Writes an edited model: streamed, atomic, with its data file if it needs one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::TensorProto;
use super::rewrite::{Rewritten, rewrite};
use super::rope::{Elements, Payload, Piece, write_zeros};
use super::{Edits, OnnxFile};
use crate::disk::{Replacement, folder};
use crate::model::Saved;
use crate::{Error, Result};

/// Sizes that decide what is inline.
pub(super) struct Limits {
    /// The largest message.
    pub(super) message: u64,
    /// The largest tensor that stays inline when the message would be larger than that.
    pub(super) inline: u64,
}

/// Bytes that are read before their pages are released.
const CHUNK: usize = 1 << 22;

/// Protobuf messages have less than 2 GiB.
const LIMITS: Limits = Limits { message: i32::MAX as u64, inline: 1024 };

/// Writes `file` with `edits` to `out`, which may be the file itself.
///
/// Tensors that were in data files go to one new data file next to `out`, under a name that is
/// free (`<out>.data`, else `<out>.1.data`, …); the data file of a model that `out` replaces is
/// removed at the end if it had such a name. Inline tensors stay inline, unless the model would
/// pass the 2 GiB limit of protobuf: then all but the small ones go to the data file.
/// A symbolic link at `out` is replaced, not followed.
///
/// `progress` is told the number of bytes written so far.
///
/// # Errors
/// When edits do not fit the model, or writing fails; then nothing has changed on disk.
pub fn save(
    file: &OnnxFile,
    edits: &Edits,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Saved> {
    save_within(file, edits, out, progress, &LIMITS)
}

pub(super) fn save_within(
    file: &OnnxFile,
    edits: &Edits,
    out: &Path,
    progress: &mut dyn FnMut(u64),
    limits: &Limits,
) -> Result<Saved> {
    let data_path = free_data_path(out)?;
    let content = fit(file, edits, &data_path, limits)?;
    let stale = stale_data(file, out);
    let saved = write(file, &content, out, data_path, progress)?;
    remove(&stale);
    Ok(saved)
}

pub(super) fn write(
    file: &OnnxFile,
    content: &Rewritten,
    out: &Path,
    data_path: PathBuf,
    progress: &mut dyn FnMut(u64),
) -> Result<Saved> {
    let mut model_file = Replacement::create(out)?;
    let mut done = 0;
    let data_file = write_data(file, content, &data_path, &mut done, progress)?;
    model_file.write(|sink| {
        let mut sink = Counter { sink, done: &mut done, progress };
        content.model.pieces().iter().try_for_each(|piece| write_piece(file, piece, &mut sink))
    })?;
    let data = data_file.map(|data_file| data_file.commit_new().map(|()| data_path)).transpose()?;
    if let Err(error) = model_file.commit() {
        remove(data.as_slice());
        return Err(error);
    }
    Ok(Saved { bytes: done, data })
}

/// The content, with tensors moved to the data file where the message would be too large.
fn fit(file: &OnnxFile, edits: &Edits, data_path: &Path, limits: &Limits) -> Result<Rewritten> {
    let name = data_path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let content = rewrite(file, edits, name, None)?;
    if content.model.len() <= limits.message {
        return Ok(content);
    }
    let content = rewrite(file, edits, name, Some(limits.inline))?;
    if content.model.len() <= limits.message {
        return Ok(content);
    }
    let (size, max) = (content.model.len(), limits.message);
    Err(Error::unsupported(format!(
        "the model takes {size} bytes without its weights, a protobuf file at most {max}"
    )))
}

fn write_data(
    file: &OnnxFile,
    content: &Rewritten,
    path: &Path,
    done: &mut u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Replacement>> {
    if content.data.payloads.is_empty() {
        return Ok(None);
    }
    let mut replacement = Replacement::create(path)?;
    replacement.write(|sink| {
        let mut sink = Counter { sink, done, progress };
        let mut end = 0;
        for (offset, payload) in &content.data.payloads {
            write_zeros(&mut sink, offset - end)?;
            write_payload(file, payload, &mut sink)?;
            end = offset + payload.len;
        }
        Ok(())
    })?;
    Ok(Some(replacement))
}

pub(super) fn write_piece(file: &OnnxFile, piece: &Piece, sink: &mut dyn Write) -> io::Result<()> {
    match piece {
        Piece::New(bytes) => sink.write_all(bytes),
        Piece::Source(range) => write_chunks(file, &file.bytes()[range.clone()], sink),
        Piece::Data(payload) => write_payload(file, payload, sink),
    }
}

fn write_payload(file: &OnnxFile, payload: &Payload, sink: &mut dyn Write) -> io::Result<()> {
    let data = match &payload.elements {
        Elements::Dense(data) => data.clone(),
        Elements::Typed(range) => typed(file, range).map_err(io::Error::other)?,
    };
    match &payload.cut {
        None => write_chunks(file, &data, sink),
        Some(cut) => {
            let mut released = 0;
            cut.write_passing(&data, sink, &mut |read| {
                file.release(&data[released..read]);
                released = read;
            })
        }
    }
}

fn typed(file: &OnnxFile, range: &Range<usize>) -> Result<bytes::Bytes> {
    let tensor = TensorProto::decode(file.bytes().slice(range.clone()));
    Ok(file.tensor(&tensor.map_err(Error::malformed)?)?.data)
}

fn write_chunks(file: &OnnxFile, data: &[u8], sink: &mut dyn Write) -> io::Result<()> {
    for chunk in data.chunks(CHUNK) {
        sink.write_all(chunk)?;
        file.release(chunk);
    }
    Ok(())
}

/// Counts what passes.
struct Counter<'a> {
    sink: &'a mut dyn Write,
    done: &'a mut u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Write for Counter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.sink.write(bytes)?;
        *self.done += len as u64;
        (self.progress)(*self.done);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// A path for the data file of `out` at which nothing stands.
fn free_data_path(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::argument(format!("`{}` is not a valid file name", out.display()))
            .hint("name the file in UTF-8")
    })?;
    let names = std::iter::once(format!("{name}.data"))
        .chain((1_u32..).map(|number| format!("{name}.{number}.data")));
    let mut paths = names.map(|name| out.with_file_name(name));
    let free = paths.find(|path| fs::symlink_metadata(path).is_err());
    free.ok_or_else(|| Error::argument(format!("no free data file name for `{name}`")))
}

/// The data files that no model needs when `out` is replaced: those that Secateur wrote for the
/// model at `out`, except what `file` reads, unless that is the model at `out`.
fn stale_data(file: &OnnxFile, out: &Path) -> Vec<PathBuf> {
    let Ok(old) = OnnxFile::open(out) else { return Vec::new() };
    let in_place = same_file(file.path(), out);
    let read: BTreeSet<PathBuf> = file
        .data_files()
        .into_iter()
        .filter_map(|name| folder(file.path()).join(name).canonicalize().ok())
        .collect();
    let unread = |path: &PathBuf| path.canonicalize().is_ok_and(|path| !read.contains(&path));
    old.data_files()
        .into_iter()
        .filter(|name| is_data_name(out, name))
        .map(|name| out.with_file_name(name))
        .filter(|path| in_place || unread(path))
        .collect()
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Whether `name` is one that [`free_data_path`] gives.
fn is_data_name(out: &Path, name: &str) -> bool {
    let stem = out.file_name().and_then(|stem| stem.to_str());
    let middle = stem.and_then(|stem| name.strip_prefix(stem)?.strip_suffix(".data"));
    middle.is_some_and(|middle| {
        let number = middle.strip_prefix('.').unwrap_or("");
        middle.is_empty() || !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Removes files that nothing refers to; one that stays is only in the way.
fn remove(paths: &[PathBuf]) {
    paths.iter().for_each(|path| drop(fs::remove_file(path)));
}
