//! Secateur makes trained neural networks smaller and proves that what is left is right.
//!
//! A [`Model`] is a file that was read and analyzed. Its [`group::Groups`] are the dimensions that
//! can be cut; [`Model::select`] decides which indices stay; [`Model::write_pruned`] writes the
//! smaller model, and [`Model::write_masked`] the other side of the exactness check.
//!
//! ```
//! use std::path::Path;
//!
//! use secateur::Model;
//! use secateur::criterion::ScoreOptions;
//! use secateur::select::{SelectOptions, Target};
//!
//! # fn main() -> secateur::Result<()> {
//! # let input = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/fashion-cnn.onnx");
//! # let folder = tempfile::tempdir().map_err(|e| secateur::Error::io(Path::new("."), e))?;
//! # let output = folder.path().join("small.onnx");
//! let model = Model::open(Path::new(input), &Default::default())?;
//! let options = SelectOptions { target: Target::Ratio(0.25), ..SelectOptions::default() };
//! let selection = model.select(&options, &ScoreOptions::default())?;
//! assert!(selection.after.parameters < selection.before.parameters);
//! model.write_pruned(&selection.keeps, &output, &mut |_| ())?;
//! # Ok(())
//! # }
//! ```

pub mod analysis;
pub mod axis;
pub mod cost;
pub mod criterion;
mod disk;
mod dtype;
mod error;
pub mod exact;
pub mod graph;
pub mod group;
mod kind;
mod model;
pub mod onnx;
pub mod ops;
pub mod plan;
mod prefetch;
mod recover;
pub mod refit;
mod role;
pub mod rule;
pub mod select;
pub mod size;
pub mod tensor;
#[cfg(test)]
mod testing;
pub mod torch;
pub mod why;
pub mod zero;

#[cfg(test)]
extern crate self as secateur;
#[cfg(test)]
#[path = "../tests/program/mod.rs"]
#[allow(clippy::unwrap_used)]
mod program;
#[cfg(test)]
#[path = "../tests/text/mod.rs"]
mod text;

pub use disk::replace_file;
pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
pub use model::{Changes, Model, Saved, Source};
