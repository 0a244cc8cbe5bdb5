//! Files: mapped to read, replaced atomically to write. Knows no format.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::Mmap;
use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file mapped into memory for reading.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    map: Option<Arc<Mmap>>,
    bytes: Bytes,
    /// What was released, and may still be in memory.
    unneeded: Arc<Mutex<Vec<Range<usize>>>>,
}

struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapped {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let metadata = file_metadata(path)?;
        if metadata.len() == 0 {
            return Ok(Self::from_bytes(Bytes::new()));
        }
        let file = File::open(path).map_err(|source| read_error(path, source))?;
        // SAFETY: the map is only read. Secateur never writes into an existing file (it replaces
        // files by renaming), so the map changes only if another program edits the file in place.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| read_error(path, source))?;
        let map = Arc::new(map);
        let bytes = Bytes::from_owner(Owner(Arc::clone(&map)));
        Ok(Self { map: Some(map), ..Self::from_bytes(bytes) })
    }

    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self { map: None, bytes, unneeded: Arc::default() }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Notes that `part` is not needed soon. The pages of such parts leave memory once they are
    /// many, and those around them, as the system brings up to a huge page for a byte.
    /// Does nothing when `part` is not of this file.
    pub(crate) fn release(&self, part: &[u8]) {
        const MANY: usize = 16 << 20;
        const HUGE: usize = 2 << 20;
        let Some(map) = &self.map else { return };
        let start = (part.as_ptr() as usize).wrapping_sub(map.as_ptr() as usize);
        let Some(end) = start.checked_add(part.len()).filter(|&end| end <= map.len()) else {
            return;
        };
        let (start, end) = (start / HUGE * HUGE, end.next_multiple_of(HUGE).min(map.len()));
        let mut unneeded = self.unneeded.lock().unwrap_or_else(PoisonError::into_inner);
        match unneeded.last_mut() {
            Some(last) if (last.start..=last.end).contains(&start) => last.end = last.end.max(end),
            _ => unneeded.push(start..end),
        }
        if unneeded.iter().map(Range::len).sum::<usize>() >= MANY {
            unneeded.drain(..).for_each(|part| advise_unneeded(map, part.start, part.len()));
        }
    }
}

#[cfg(unix)]
fn advise_unneeded(map: &Mmap, offset: usize, len: usize) {
    // SAFETY: the map is shared, backed by a file and never written: dropped pages are read again.
    let advised =
        unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len) };
    // Advice may be refused: then memory stays as it was.
    drop(advised);
}

#[cfg(not(unix))]
fn advise_unneeded(_map: &Mmap, _offset: usize, _len: usize) {}

/// The first bytes of a file.
pub(crate) fn start(path: &Path) -> Result<Vec<u8>> {
    const LENGTH: u64 = 8;
    file_metadata(path)?;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let read = file.take(LENGTH).read_to_end(&mut bytes);
    read.map_err(|source| read_error(path, source))?;
    Ok(bytes)
}

/// Reads a whole file, for those that are small.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    file_metadata(path)?;
    fs::read(path).map_err(|source| read_error(path, source))
}

fn file_metadata(path: &Path) -> Result<fs::Metadata> {
    let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
    if !metadata.is_file() {
        let path = path.display();
        return Err(Error::argument(format!("`{path}` is not a file")).hint("name a file"));
    }
    Ok(metadata)
}

fn read_error(path: &Path, source: io::Error) -> Error {
    let missing = source.kind() == io::ErrorKind::NotFound;
    let error = Error::io(path, source);
    if missing { error.hint("check the path") } else { error }
}

/// A file in the making: nothing stands at its path until [`Replacement::commit`].
#[derive(Debug)]
pub(crate) struct Replacement {
    target: PathBuf,
    draft: Draft,
}

impl Replacement {
    /// Starts a file in the folder of `target`.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        check_target(target)?;
        fs::metadata(folder(target)).map_err(|source| write_error(target, source))?;
        let draft = Draft::create(folder(target)).map_err(|source| write_error(target, source))?;
        Ok(Self { target: target.to_owned(), draft })
    }

    /// Writes the content down to the disk. Small pieces are buffered, large ones pass.
    pub(crate) fn write(
        &mut self,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        let mut writer = BufWriter::with_capacity(1 << 15, self.draft.file());
        fill(&mut writer)
            .and_then(|()| writer.flush())
            .and_then(|()| writer.get_ref().sync_all())
            .map_err(|source| write_error(&self.target, source))
    }

    /// Puts the file in its place, and in that of a file that stood there, keeping its permissions.
    pub(crate) fn commit(self) -> Result<()> {
        let Self { target, draft } = self;
        let put = || {
            if let Ok(old) = fs::metadata(&target) {
                draft.file().set_permissions(old.permissions())?;
            }
            draft.replace(&target)
        };
        put().map_err(|source| write_error(&target, source))?;
        sync_folder(&target);
        Ok(())
    }

    /// As [`Replacement::commit`], but an error when a file stands there.
    pub(crate) fn commit_new(self) -> Result<()> {
        let Self { target, draft } = self;
        draft.place(&target).map_err(|source| write_error(&target, source))?;
        sync_folder(&target);
        Ok(())
    }
}

/// Puts a file in its place when it is complete, and in that of a file that stood there.
///
/// # Errors
/// When it cannot be written; then what stood there is as it was.
pub fn replace_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let mut file = Replacement::create(path)?;
    file.write(fill)?;
    file.commit()
}

/// What stands at `target` is replaced, which only a file may be: not a folder, a device or a pipe.
fn check_target(target: &Path) -> Result<()> {
    let name = target.display();
    let what = match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => format!("`{name}` is a folder"),
        Ok(metadata) if !metadata.is_file() || is_stream(target) => {
            format!("`{name}` is not a file")
        }
        _ if target.file_name().is_none() => format!("`{name}` is a folder"),
        _ => return Ok(()),
    };
    Err(Error::argument(what).hint("name a file"))
}

/// Whether it is a link to what a process has open, as `/dev/stdout` is.
fn is_stream(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target.starts_with("/proc"))
}

/// A file that is not in its place yet.
#[derive(Debug)]
enum Draft {
    /// Without a name: the system removes it when the process ends, however it ends.
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// Removed when it is dropped.
    Named(NamedTempFile),
}

impl Draft {
    fn create(folder: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed::create(folder) {
            return Ok(Self::Unnamed(file));
        }
        let mut builder = names();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(folder).map(Self::Named)
    }

    fn file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Puts the file where another one may stand.
    fn replace(self, target: &Path) -> io::Result<()> {
        match self {
            // Only a file with a name can take the place of another one.
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => {
                let named = names().make_in(folder(target), |path| unnamed::link(&file, path))?;
                named.persist(target).map(drop).map_err(|error| error.error)
            }
            Self::Named(file) => file.persist(target).map(drop).map_err(|error| error.error),
        }
    }

    /// Puts the file where no other one stands.
    fn place(self, target: &Path) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => unnamed::link(&file, target),
            Self::Named(file) => {
                file.persist_noclobber(target).map(drop).map_err(|error| error.error)
            }
        }
    }
}

/// Names for files that are soon renamed.
fn names() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".secateur-").suffix(".tmp");
    builder
}

/// Files without a name, on file systems that have them.
#[cfg(target_os = "linux")]
mod unnamed {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

    /// A file in `folder`; `None` where it could not get a name later.
    pub(super) fn create(folder: &Path) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = File::from(open(folder, flags, Mode::from_raw_mode(0o666)).ok()?);
        handle(&file).exists().then_some(file)
    }

    /// Gives a file its name, which must be free.
    pub(super) fn link(file: &File, path: &Path) -> io::Result<()> {
        linkat(CWD, handle(file), CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    }

    fn handle(file: &File) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }
}

/// The folder that holds `path`.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename last through a power cut. Where folders cannot be synced, the rename is still
/// atomic, so a failure is not reported.
fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        drop(folder.sync_all());
    }
}

fn write_error(path: &Path, source: io::Error) -> Error {
    let kind = source.kind();
    let error = Error::io(path, source);
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            error.hint("create the folder first")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            error.hint("free some space, or write to another disk")
        }
        io::ErrorKind::FileTooLarge => {
            error.hint("write to another disk, or raise the limit that `ulimit -f` shows")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            error.hint("write to a folder that you may write to")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| name(entry).unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_abandoned_replacement_leaves_the_old_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut replacement = Replacement::create(&path).unwrap();
        let error = replacement
            .write(|sink| {
                sink.write_all(b"ne")?;
                Err(io::ErrorKind::StorageFull.into())
            })
            .unwrap_err();
        assert!(error.to_string().starts_with(&format!("`{}`: ", path.display())));
        assert_eq!(error.remedy(), Some("free some space, or write to another disk"));
        drop(replacement);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_a_normal_file_or_of_the_replaced_one() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let normal = dir.path().join("normal");
        fs::write(&normal, "").unwrap();
        let path = dir.path().join("a");
        Replacement::create(&path).unwrap().commit().unwrap();
        assert_eq!(mode(&path), mode(&normal));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        Replacement::create(&path).unwrap().commit().unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_a_file_is_replaced() {
        let error = |path: &str| Replacement::create(Path::new(path)).unwrap_err().to_string();
        assert_eq!(error("/dev/null"), "`/dev/null` is not a file");
        assert_eq!(error("/"), "`/` is a folder");
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("link"), File::open("/etc/passwd").unwrap());
        let open = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        std::os::unix::fs::symlink(open, &link).unwrap();
        assert!(error(link.to_str().unwrap()).ends_with("is not a file"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_draft_has_no_name_where_the_system_allows() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("a");
        let mut replacement = Replacement::create(&path).unwrap();
        replacement.write(|sink| sink.write_all(b"new")).unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
        replacement.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_draft_with_a_name_is_removed_or_put_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let draft = || Draft::Named(super::names().tempfile_in(dir.path()).unwrap());
        drop(draft());
        assert_eq!(names(dir.path()), [""; 0]);
        draft().place(&path).unwrap();
        assert!(draft().place(&path).is_err());
        draft().replace(&path).unwrap();
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_new_file_does_not_replace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "old").unwrap();
        assert!(Replacement::create(&path).unwrap().commit_new().is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn released_pages_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, vec![7; 100_000]).unwrap();
        let mapped = Mapped::open(&path).unwrap();
        mapped.release(&mapped.bytes()[5..90_000]);
        mapped.release(b"not of this file");
        assert!(mapped.bytes().iter().all(|&byte| byte == 7));
    }
}
