//! Which format a path has: by what a file starts with, then by its name.

use std::path::Path;

use secateur::Result;

use super::file::{failed, start, unsupported};
use super::{folder, idx};

/// A format of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Idx,
    Images,
    Npz,
    Npy,
    Safetensors,
    Table,
    Text,
}

impl Format {
    /// The format of what is at a path.
    pub(crate) fn detect(path: &Path) -> Result<Self> {
        let metadata = path.metadata().map_err(|source| failed(path, source))?;
        if metadata.is_dir() {
            return Self::of_folder(path);
        }
        let mark = start(path)?;
        Self::of_mark(&mark).or_else(|| Self::of_name(path)).ok_or_else(|| {
            unsupported(path, "a file of no known format of data").hint(
                "give a folder of images, an IDX, `.npz`, `.npy`, `.safetensors`, `.csv`, `.tsv` or \
                 `.txt` file",
            )
        })
    }

    fn of_folder(path: &Path) -> Result<Self> {
        if idx::is_in(path)? {
            return Ok(Format::Idx);
        }
        if folder::has_images(path)? {
            return Ok(Format::Images);
        }
        Err(unsupported(path, "neither images nor IDX files in this folder")
            .hint("put the PNG or JPEG files of each class into a folder of its own"))
    }

    fn of_mark(mark: &[u8]) -> Option<Self> {
        match mark {
            b"PK\x03\x04" | b"PK\x05\x06" => Some(Format::Npz),
            b"\x93NUM" => Some(Format::Npy),
            _ if idx::is_idx(mark) => Some(Format::Idx),
            _ => None,
        }
    }

    fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "npz" => Format::Npz,
            "npy" => Format::Npy,
            "safetensors" => Format::Safetensors,
            "csv" | "tsv" => Format::Table,
            "txt" => Format::Text,
            _ => return None,
        })
    }
}
