//! ONNX files: read without loss, and written as edits of their source.
//!
//! [`OnnxFile`] maps a model and gives its [`proto`] messages and tensors; [`import()`] reads its
//! graph. [`save`] writes it with [`Edits`]: messages that no edit touches are copied from the
//! source byte by byte, unknown fields included, and weights are streamed.

mod apply;
mod bodies;
mod changes;
mod codes;
mod data_file;
mod decode;
mod edits;
mod encode;
mod eval;
mod external;
mod file;
mod hints;
mod import;
mod labels;
mod names;
mod order;
pub mod proto;
mod rewrite;
mod rope;
mod save;
mod shapes;
#[cfg(test)]
mod tests;
mod weights;
mod wire;

pub(crate) use apply::{
    Analyzed, filling_edits, literal_edits, masking_edits, pruning_edits, tensor_name,
};
pub use decode::{Decode, Decoder};
pub use edits::{AttributeEdit, Edits, Encoded, TensorEdit, TensorRef};
pub use file::OnnxFile;
pub use hints::{Hints, guess_remedy};
pub use import::{Imported, import, known_operators};
pub use names::Names;
pub use order::order;
pub use save::save;
pub use weights::StoredWeights;
