//! Runs and trains the models that Secateur reads.
//!
//! A [`Program`] is a model's file as a list of steps on tensors. It runs on any backend of the
//! [burn](https://burn.dev) framework: [`Cpu`] is the one that is built in, and
//! [`Autodiff<Cpu>`](burn_autodiff::Autodiff) computes gradients on it. A [`Trainer`](trainer::Trainer) makes
//! its steps, and cuts it between them; [`fit`](fit::fit) trains over epochs.
//!
//! ```
//! use secateur::{Model, criterion::ScoreOptions, select::{SelectOptions, Target}};
//! use secateur_train::data::{DataOptions, Loader, LoaderOptions, open};
//! use secateur_train::fit::{Ranking, on_device, rank};
//! use secateur_train::{Cpu, trainer::{TrainOptions, Trainer}};
//!
//! # fn main() -> secateur::Result<()> {
//! let device = Default::default();
//! let model = Model::open("../../models/fashion-cnn.onnx".as_ref(), &Default::default())?;
//! let mut trainer = Trainer::<Cpu>::new(model, TrainOptions::default(), &device)?;
//! let images = open("../../models/fashion-test.npz".as_ref(), &DataOptions::default())?;
//! let batches = Loader::new(images, LoaderOptions { batch_size: 20, ..Default::default() })?;
//! for (step, batch) in batches.epoch(0).take(4).enumerate() {
//!     trainer.step(on_device(batch?, &device)?, 1e-3)?;
//!     if step == 1 {
//!         let half = SelectOptions { target: Target::Ratio(0.5), ..Default::default() };
//!         let ranking = Ranking::Criterion(ScoreOptions::default());
//!         let chosen = rank(&mut trainer, &ranking, std::iter::empty(), &half)?;
//!         trainer.cut(&chosen.keeps)?; // weights, running statistics, the optimizer's state
//!     }
//! }
//! # let folder = tempfile::tempdir().map_err(secateur::Error::argument)?;
//! # let small = folder.path().join("small.onnx");
//! trainer.save(&small)?;
//! # assert!(trainer.model().cost().now().parameters < 70_000);
//! # Ok(())
//! # }
//! ```

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
