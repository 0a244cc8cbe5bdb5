//! Data to train and test models on: files in, batches of host arrays out.
//!
//! [`open`] reads a data set of any format that is known; [`split`] parts it; a [`Loader`] goes over
//! it in batches, in an order and with changes that depend on the seed and the epoch only. Knows no
//! model and no tensor framework.
//!
//! ```
//! use std::sync::Arc;
//!
//! use secateur_train::data::{Array, DataOptions, Loader, LoaderOptions, open, write_npz};
//!
//! # fn main() -> secateur_train::Result<()> {
//! # let folder = tempfile::tempdir().map_err(|e| secateur_train::Error::io("".as_ref(), e))?;
//! # let path = folder.path().join("points.npz");
//! let x = Array::Float(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], vec![3, 2]);
//! let y = Array::Int(vec![0, 1, 1], vec![3]);
//! write_npz(&path, &[("x".into(), x), ("y".into(), y)])?;
//!
//! let dataset = open(&path, &DataOptions::default())?;
//! assert_eq!((dataset.len(), dataset.classes()), (3, Some(2)));
//! let options = LoaderOptions { batch_size: 2, shuffle: Some(7), ..LoaderOptions::default() };
//! let loader = Loader::new(Arc::clone(&dataset), options)?;
//! for batch in loader.epoch(0) {
//!     assert_eq!(batch?.inputs[0].shape()[1..], [2]);
//! }
//! # Ok(())
//! # }
//! ```

mod array;
mod arrays;
mod file;
mod folder;
mod format;
mod idx;
mod labels;
mod loader;
mod named;
mod npy;
mod options;
mod pixels;
pub(crate) mod random;
mod raw;
mod split;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;
use std::sync::Arc;

use secateur::{Error, Result};

pub use array::Array;
use format::Format;
pub use loader::{Epoch, LastBatch, Loader, LoaderOptions};
pub use named::read_arrays;
pub use npy::write_npz;
pub use options::{Channels, DataOptions, Flip, Header, ImageOptions, Part, Targets, TextOptions};
pub use split::{Subset, split};

/// Samples for one step. The first axis of each array is that of the samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// What the model reads, in the order of its inputs.
    pub inputs: Vec<Array>,
    /// What it should say; none for samples without labels.
    pub target: Option<Array>,
}

/// Samples by their index.
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples with these indices, in this order. With `augment`, a seed, they are changed at
    /// random as the options of the data set say, each by the seed and its index; without, they are
    /// as in evaluation.
    ///
    /// # Errors
    /// When an index is too large, or a sample cannot be read or has numbers that are not finite.
    fn batch(&self, indices: &[usize], augment: Option<u64>) -> Result<Batch>;

    /// The number of classes, where targets are class indices.
    fn classes(&self) -> Option<usize>;

    /// The names of the classes in the order of their indices, where the data names them.
    fn class_names(&self) -> Option<&[String]> {
        None
    }
}

/// Opens a data set; its files tell the format:
///
/// | what | format | a sample |
/// |:--|:--|:--|
/// | folder with `train-images-idx3-ubyte` and the like, or one such file | IDX, plain or gzip | `[1, height, width]` |
/// | folder with a folder of PNG or JPEG files for each class | images | `[channels, height, width]` |
/// | `.npz`, `.npy`, `.safetensors` | named arrays | a row of each |
/// | `.csv`, `.tsv` | table | `[columns]` |
/// | `.txt` | text, cut by a tokenizer | `[length]` tokens |
///
/// A folder of images may hold them in folders `train` and `test` (or `val`).
///
/// # Errors
/// When nothing of a known format is there, or it is damaged or contradicts itself.
pub fn open(path: &Path, options: &DataOptions) -> Result<Arc<dyn Dataset>> {
    Ok(match Format::detect(path)? {
        Format::Idx => Arc::new(idx::open(path, options)?),
        Format::Images => Arc::new(folder::open(path, options)?),
        Format::Npz | Format::Npy | Format::Safetensors => Arc::new(arrays::open(path, options)?),
        Format::Table => Arc::new(table::open(path, options)?),
        Format::Text => Arc::new(text::open(path, options)?),
    })
}

/// Fails unless there is a sample for each index.
fn check_indices(indices: &[usize], len: usize) -> Result<()> {
    match indices.iter().find(|&&index| index >= len) {
        Some(index) => Err(Error::argument(format!("no sample {index}: there are {len}"))
            .hint("give indices below the number of samples")),
        None => Ok(()),
    }
}
