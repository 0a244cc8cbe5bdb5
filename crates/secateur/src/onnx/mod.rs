//! ONNX files: read without loss, and written as edits of their source.
//!
//! [`OnnxFile`] maps a model and gives its [`proto`] messages and tensors. [`save`] writes it with
//! [`Edits`]: messages that no edit touches are copied from the source byte by byte, unknown fields
//! included, and weights are streamed.
//!
//! ```
//! # use std::path::Path;
//! use secateur::onnx::{Edits, OnnxFile, TensorEdit, TensorRef, save};
//!
//! let file = OnnxFile::open(Path::new("tests/fixtures/container/mlp.onnx"))?;
//! let bias = TensorRef::Initializer(1);
//! assert_eq!(file.resolve(bias)?.dims, [6]);
//!
//! let mut edits = Edits::default();
//! edits.tensors.insert(bias, TensorEdit::Zero(vec![Some(vec![0, 1, 2])]));
//! # let folder = tempfile::tempdir().map_err(secateur::Error::malformed)?;
//! # let out = folder.path().join("out.onnx");
//! let saved = save(&file, &edits, &out, &mut |_bytes| ())?;
//! assert_eq!(saved.bytes, file.byte_size());
//! # Ok::<(), secateur::Error>(())
//! ```

mod changes;
mod data_file;
mod edits;
mod encode;
mod external;
mod file;
pub mod proto;
mod rewrite;
mod rope;
mod save;
mod shapes;
#[cfg(test)]
mod tests;
mod wire;

pub use edits::{AttributeEdit, Edits, TensorEdit, TensorRef};
pub use file::OnnxFile;
pub use save::{Saved, save};
