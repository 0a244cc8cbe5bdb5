//! Secateur makes trained neural networks smaller and proves that what is left is right.

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
pub mod refit;
mod role;
pub mod rule;
pub mod select;
pub mod size;
pub mod tensor;
#[cfg(test)]
mod testing;
pub mod why;

pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
pub use model::{Changes, Model};
