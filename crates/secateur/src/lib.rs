//! Secateur makes trained neural networks smaller and proves that what is left is right.

pub mod axis;
mod disk;
mod dtype;
mod error;
pub mod onnx;
pub mod tensor;

pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
