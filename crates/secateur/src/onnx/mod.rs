//! ONNX files: read without loss, and written as edits of their source.
//!
//! [`OnnxFile`] maps a model and gives its [`proto`] messages and tensors. [`save`] writes it with
//! [`Edits`]: messages that no edit touches are copied from the source byte by byte, unknown fields
//! included, and weights are streamed.

mod edits;
mod external;
mod file;
pub mod proto;
mod rewrite;
mod rope;
mod save;
#[cfg(test)]
mod tests;
mod wire;

pub use edits::{AttributeEdit, Edits, TensorEdit, TensorRef};
pub use file::OnnxFile;
pub use save::{Saved, save};
