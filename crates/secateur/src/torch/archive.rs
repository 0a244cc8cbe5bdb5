//! The ZIP archive of a `.pt2` file: stored entries that are read in place, and written at
//! addresses that PyTorch can map.

use std::collections::HashMap;
use std::io::{self, Cursor, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::disk::{Mapped, Replacement};
use crate::{Error, Result};

/// PyTorch maps tensors at multiples of this.
const ALIGNMENT: u16 = 64;
/// Entries from this size on have 64-bit sizes.
const LARGE: u64 = u32::MAX as u64;
/// Bytes that are read before their pages are released.
const CHUNK: usize = 1 << 22;

/// An archive of which every entry is stored as it is.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: Mapped,
    /// What stands before the name of every entry: the folder that all are in.
    root: String,
    entries: Vec<Entry>,
    /// The entries by their name.
    names: HashMap<String, usize>,
}

/// A file in an archive.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name, with the archive's folder.
    name: String,
    range: Range<usize>,
    checksum: u32,
}

/// What an entry holds when the archive is written again.
pub(super) enum Content<'a> {
    /// What it held.
    Same,
    /// Something else, of this length.
    New(u64, &'a dyn Fn(&mut dyn Write) -> io::Result<()>),
}

impl Archive {
    /// Whether a file starts like an archive.
    pub(super) fn is_one(start: &[u8]) -> bool {
        start.starts_with(b"PK\x03\x04")
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::read(Mapped::open(path)?, path)
    }

    pub(super) fn read(file: Mapped, path: &Path) -> Result<Self> {
        let bytes = file.bytes().clone();
        let mut zip = ZipArchive::new(Cursor::new(&bytes[..])).map_err(|error| {
            let text = format!("`{}` is an archive that cannot be read: {error}", path.display());
            Error::malformed(text).hint("save the model again with `torch.export.save`")
        })?;
        let (mut entries, mut names) = (Vec::new(), HashMap::new());
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(broken)?;
            let name = entry.name().map_err(broken)?.into_owned();
            if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                if name.contains("/code/") {
                    let text = format!("`{}` is TorchScript", path.display());
                    return Err(Error::unsupported(text).hint(
                        "write the module that it was made of with \
                         `torch.export.save(torch.export.export(module, inputs), FILE)`",
                    ));
                }
                return Err(Error::unsupported(format!("`{name}` is compressed or encrypted"))
                    .hint("save the model again with `torch.export.save`"));
            }
            let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
            let size = usize::try_from(entry.size()).ok();
            let range = start.zip(size).and_then(|(start, size)| {
                Some(start..start.checked_add(size)?).filter(|range| range.end <= bytes.len())
            });
            let range = range.ok_or_else(|| Error::malformed(format!("`{name}` is cut off")))?;
            names.insert(name.clone(), index);
            entries.push(Entry { name, range, checksum: entry.crc32() });
        }
        let folder = entries.first().and_then(|entry| entry.name.split_once('/'));
        let root = folder.map_or(String::new(), |(folder, _)| format!("{folder}/"));
        Ok(Archive { path: path.to_owned(), file, root, entries, names })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn byte_size(&self) -> u64 {
        self.file.bytes().len() as u64
    }

    /// The entry of this name in the archive's folder.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(&format!("{}{name}", self.root)).copied()
    }

    /// The entries below a folder of the archive's, by the rest of their name.
    pub(super) fn below(&self, folder: &str) -> impl Iterator<Item = (usize, &str)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(move |(index, entry)| {
            Some((index, entry.name.strip_prefix(&self.root)?.strip_prefix(folder)?))
        })
    }

    pub(super) fn bytes(&self, entry: usize) -> Bytes {
        self.file.bytes().slice(self.entries[entry].range.clone())
    }

    pub(super) fn release(&self, part: &[u8]) {
        self.file.release(part);
    }

    /// Writes the archive with new contents, in the same order; `progress` is told the number of
    /// bytes written so far. Returns how many there are.
    pub(super) fn save<'c>(
        &self,
        out: &Path,
        content: &dyn Fn(usize) -> Content<'c>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64> {
        let mut replacement = Replacement::create(out)?;
        let mut written = 0;
        replacement.write(|sink| {
            let counter = Counter { sink, written: &mut written, progress };
            let mut zip = ZipWriter::new_stream(counter);
            for index in 0..self.entries.len() {
                self.write_entry(&mut zip, index, content(index))?;
            }
            zip.finish()?;
            Ok(())
        })?;
        replacement.commit()?;
        Ok(written)
    }

    fn write_entry<W: Write>(
        &self,
        zip: &mut ZipWriter<zip::write::StreamWriter<W>>,
        index: usize,
        content: Content<'_>,
    ) -> io::Result<()> {
        let entry = &self.entries[index];
        let len = match &content {
            Content::Same => entry.range.len() as u64,
            Content::New(len, _) => *len,
        };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT)
            .large_file(len >= LARGE);
        self.check(index)?;
        zip.start_file(entry.name.as_str(), options)?;
        match content {
            Content::New(_, write) => write(zip),
            Content::Same => self.bytes(index).chunks(CHUNK).try_for_each(|chunk| {
                zip.write_all(chunk)?;
                self.release(chunk);
                Ok(())
            }),
        }
    }

    /// What is damaged must not get a checksum of its own.
    fn check(&self, index: usize) -> io::Result<()> {
        let entry = &self.entries[index];
        let mut hasher = crc32fast::Hasher::new();
        for chunk in self.bytes(index).chunks(CHUNK) {
            hasher.update(chunk);
            self.release(chunk);
        }
        if hasher.finalize() == entry.checksum {
            return Ok(());
        }
        let path = self.path.display();
        let text = format!("`{}` in `{path}` is damaged: its checksum differs", entry.name);
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// Copies the file as it is.
    pub(super) fn copy(&self, out: &Path, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        let mut replacement = Replacement::create(out)?;
        let mut written = 0;
        replacement.write(|sink| {
            let mut counter = Counter { sink, written: &mut written, progress };
            self.file.bytes().chunks(CHUNK).try_for_each(|chunk| {
                counter.write_all(chunk)?;
                self.release(chunk);
                Ok(())
            })
        })?;
        replacement.commit()?;
        Ok(written)
    }
}

fn broken(error: zip::result::ZipError) -> Error {
    Error::malformed(format!("the archive cannot be read: {error}"))
}

/// Counts what passes.
struct Counter<'a> {
    sink: &'a mut dyn Write,
    written: &'a mut u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Write for Counter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.sink.write(bytes)?;
        *self.written += len as u64;
        (self.progress)(*self.written);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
