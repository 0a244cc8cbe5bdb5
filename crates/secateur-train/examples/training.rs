//! Prunes a model in a training loop of one's own, as `secateur train --prune-every` does in its: weights,
//! running statistics and the optimizer's state are cut in memory, and training goes on.
//!
//! ```text
//! cargo run --release -p secateur-train --example training -- \
//!     models/fashion-cnn.onnx models/fashion-test.npz small.onnx
//! ```

use std::path::Path;
use std::sync::Arc;

use secateur::criterion::{Criterion, ScoreOptions};
use secateur::select::{SelectOptions, Target};
use secateur::{Error, Model, Result};
use secateur_train::Cpu;
use secateur_train::data::{DataOptions, Loader, LoaderOptions, open, split};
use secateur_train::fit::{Ranking, evaluate, on_device, rank};
use secateur_train::trainer::{TrainOptions, Trainer};

const EPOCHS: usize = 4;
const BATCH: usize = 64;
const RATE: f64 = 1e-3;

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, data, out] = &arguments[..] else {
        return Err(Error::argument("three paths are needed: MODEL DATA OUT"));
    };
    // Load.
    let model = Model::open(Path::new(model), &Default::default())?;
    for (_, group) in model.groups().iter() {
        println!("{:32} {:4} {}", group.name, group.size, group.kind);
    }
    let (held, seen) = split(open(Path::new(data), &DataOptions::default())?, 0.2, 0);
    let device = Default::default();
    let mut trainer = Trainer::<Cpu>::new(model, TrainOptions::default(), &device)?;

    for epoch in 0..EPOCHS {
        let options = LoaderOptions { batch_size: BATCH, shuffle: Some(0), ..Default::default() };
        let loader = Loader::new(Arc::clone(&seen), options)?;
        // Score, select and cut: a tenth of every group, by what its weights mean to the loss.
        if epoch > 0 {
            let criterion = Criterion::named("taylor").unwrap_or(ScoreOptions::default().criterion);
            let taylor = ScoreOptions { criterion, ..Default::default() };
            let select = SelectOptions { target: Target::Ratio(0.1), ..Default::default() };
            let batches = loader.epoch(epoch).take(4).map(|batch| on_device(batch?, &device));
            let chosen = rank(&mut trainer, &Ranking::Criterion(taylor), batches, &select)?;
            trainer.cut(&chosen.keeps)?;
            println!("cut: {} -> {} parameters", chosen.before.parameters, chosen.after.parameters);
        }
        // Train.
        for batch in loader.epoch(epoch) {
            trainer.step(on_device(batch?, &device)?, RATE)?;
        }
        let found = evaluate(&trainer, &held, BATCH)?;
        let accuracy = found.accuracy.unwrap_or_default() * 100.0;
        println!("epoch {}: loss {:.3}, accuracy {accuracy:.1} %", epoch + 1, found.loss);
    }
    // Save.
    let saved = trainer.save(Path::new(out))?;
    println!("saved {} bytes", saved.bytes);
    Ok(())
}
