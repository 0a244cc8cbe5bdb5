//! Runs and trains the models that Secateur reads.
//!
//! A [`Program`] is a model's file as a list of steps on tensors. It runs on any backend of the
//! [burn](https://burn.dev) framework: [`Cpu`] is the one that is built in, and
//! [`Autodiff<Cpu>`](burn_autodiff::Autodiff) computes gradients on it.

mod backend;
mod onnx;
pub mod ops;
mod program;
mod real;
mod torch;
mod value;

pub use backend::{Cpu, Engine};
pub use program::{Block, Context, Program, Slot, Step, Stored};
pub use secateur::{Error, ErrorKind, Result};
pub use value::Value;
