//! Reading files without trust in the sizes that they declare, and replacing them atomically.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use secateur::{Error, Result};

/// What is wrong with a file.
pub(crate) fn malformed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::malformed(format!("`{}`: {what}", path.display()))
}

/// What a file asks for that is not done.
pub(crate) fn unsupported(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::unsupported(format!("`{}`: {what}", path.display()))
}

/// What is wrong with what was asked of a file.
pub(crate) fn argument(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::argument(format!("`{}`: {what}", path.display()))
}

/// A failed access.
pub(crate) fn failed(path: &Path, source: io::Error) -> Error {
    let kind = source.kind();
    let error = Error::io(path, source);
    match kind {
        io::ErrorKind::NotFound => error.hint("check the path"),
        io::ErrorKind::PermissionDenied => error.hint("check the permissions"),
        _ => error,
    }
}

/// A whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| failed(path, source))
}

/// A whole file of text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        malformed(path, format!("byte {offset} is not part of UTF-8 text"))
            .hint("save the file as UTF-8")
    })
}

/// The first bytes of a file: up to 4.
pub(crate) fn start(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| failed(path, source))?;
    up_to(file, 4).map_err(|source| failed(path, source))
}

/// At most `limit` bytes. Memory grows with what is there, not with the limit.
pub(crate) fn up_to(source: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a file in its place when it is complete, and in that of a file that stood there.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    write_and_rename(path, folder, fill).map_err(|source| {
        let missing = source.kind() == io::ErrorKind::NotFound;
        let error = Error::io(path, source);
        if missing { error.hint("create the folder first") } else { error }
    })
}

fn write_and_rename(
    path: &Path,
    folder: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".secateur-").suffix(".tmp");
    // Its error would name a file that nobody knows.
    fs::metadata(folder)?;
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut draft = builder.tempfile_in(folder)?;
    fill(draft.as_file_mut())?;
    draft.flush()?;
    draft.as_file().sync_all()?;
    draft.persist(path).map(drop).map_err(|error| error.error)
}
