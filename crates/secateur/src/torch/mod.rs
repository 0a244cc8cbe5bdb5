//! PyTorch programs: read without Python, and written as edits of their source.
//!
//! [`TorchFile`] maps a `.pt2` archive, as `torch.export.save` writes it, and reads its program:
//! calls of ATen operators. [`save`](TorchFile) copies what no edit touches as it is, byte by byte.

mod access;
mod apply;
mod archive;
mod decode;
mod file;
mod import;
mod live;
mod numbers;
mod schema;
mod stream;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use apply::{
    ArgumentEdit, argument_edits, edit_names, write_filled, write_masked, write_pruned,
};
pub use decode::{Decode, Decoder};
pub use file::TorchFile;
pub use import::{Imported, known_operators};
pub use live::{Followed, Renumbered};
pub use schema::{Argument, Graph, Int, Meta, Node, Program, Source};
pub(crate) use weights::TorchWeights;
