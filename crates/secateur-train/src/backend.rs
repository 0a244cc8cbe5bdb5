//! The backends that programs run on.

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_backend::Backend;

/// The backend that is built in: plain Rust on the CPU.
pub type Cpu = burn_flex::Flex;

/// What a program runs on.
pub trait Engine: Backend {}

impl Engine for Cpu {}

impl<B: Engine, C: CheckpointStrategy> Engine for Autodiff<B, C> {}
