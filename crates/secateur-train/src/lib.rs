//! Runs and trains the models that Secateur reads.
//!
//! A [`Program`] is a model's file as a list of steps on tensors. It runs on any backend of the
//! [burn](https://burn.dev) framework: [`Cpu`] is the one that is built in, and
//! [`Autodiff<Cpu>`](burn_autodiff::Autodiff) computes gradients on it.

pub mod attribution;
mod backend;
pub mod checkpoint;
mod cpu;
pub mod data;
pub mod fit;
mod fuse;
pub mod loss;
pub mod mix;
mod onnx;
pub mod ops;
pub mod optimizer;
pub mod point;
mod program;
mod real;
mod room;
pub mod schedule;
pub mod scoring;
pub mod sensitivity;
mod shapley;
pub mod teacher;
mod torch;
pub mod trainer;
mod value;
pub mod verify;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub use backend::Gpu;
pub use backend::{Cpu, Engine};
pub use program::{Block, Context, Program, Slot, Step, Stored, silence_refusals};
pub use secateur::{Error, ErrorKind, Result};
pub use value::Value;
