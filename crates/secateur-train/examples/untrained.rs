//! Makes an untrained network better by removing units: Ancona, Öztireli and Gross, "Shapley Value
//! as Principled Metric for Structured Network Pruning", 2020, section 4.4.
//!
//! ```text
//! cargo run --release -p secateur-train --example untrained -- mlp.onnx TRAIN-DATA TEST-DATA
//! ```
//!
//! Layer by layer, the outermost first, it scores all units by their Shapley values on a thousand
//! samples, and cuts those that raise the loss.

use std::path::Path;
use std::sync::Arc;

use secateur::group::{GroupId, Keeps};
use secateur::{Error, Model, Result};
use secateur_train::Cpu;
use secateur_train::attribution::{Attribution, AttributionOptions, attribute};
use secateur_train::data::{
    DataOptions, Dataset, ImageOptions, Loader, LoaderOptions, Part, open, split,
};
use secateur_train::fit::{evaluate, on_device};
use secateur_train::point::On;
use secateur_train::trainer::{TrainOptions, Trainer};

const SAMPLES: usize = 1000;

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, train, test] = &arguments[..] else {
        return Err(Error::argument("three paths are needed: MODEL TRAIN-DATA TEST-DATA"));
    };
    let model = Model::open(Path::new(model), &Default::default())?;
    let mut trainer: Trainer<Cpu> =
        Trainer::new(model, TrainOptions::default(), &Default::default())?;
    let train = open(Path::new(train), &options(Part::Train))?;
    let fraction = SAMPLES as f64 / train.len() as f64;
    let (scored, _) = split(train, fraction, 0);
    let test = open(Path::new(test), &options(Part::Test))?;
    report("untrained", &trainer, &test)?;
    for number in (0..trainer.model().groups().len()).rev() {
        let group = trainer.model().groups().iter().map(|(id, _)| id).nth(number);
        let Some(group) = group else { continue };
        let keep = worth_keeping(&trainer, group, &scored)?;
        let name = trainer.model().groups().get(group).name.clone();
        let all = trainer.model().groups().get(group).size;
        println!("{name}: {} of {all} units stay", keep.len());
        trainer.cut(&Keeps::from([(group, keep)]))?;
        report(&name, &trainer, &test)?;
    }
    Ok(())
}

/// Pixels by the usual mean and standard deviation of MNIST.
fn options(part: Part) -> DataOptions {
    let images = ImageOptions { mean: vec![0.1307], std: vec![0.3081], ..ImageOptions::default() };
    DataOptions { part, images, ..DataOptions::default() }
}

/// The units whose removal would raise the loss.
fn worth_keeping(
    trainer: &Trainer<Cpu>,
    group: GroupId,
    data: &Arc<dyn Dataset>,
) -> Result<Vec<u32>> {
    let options = LoaderOptions { batch_size: SAMPLES, ..LoaderOptions::default() };
    let batches = Loader::new(Arc::clone(data), options)?.epoch(0);
    let mut batches = batches.map(|batch| on_device(batch?, trainer.device()));
    let options = AttributionOptions {
        method: Attribution::Shapley(5),
        on: On::Best,
        ..AttributionOptions::default()
    };
    let scores = attribute(trainer, &mut batches, Some(&[group]), &options)?;
    let scores = scores.get(group).unwrap_or_default();
    let useful = (0..).zip(scores).filter(|&(_, &score)| score >= 0.0).map(|(unit, _)| unit);
    Ok(useful.collect())
}

fn report(what: &str, trainer: &Trainer<Cpu>, test: &Arc<dyn Dataset>) -> Result<()> {
    let found = evaluate(trainer, test, SAMPLES)?;
    let accuracy = found.accuracy.unwrap_or_default() * 100.0;
    let parameters = trainer.model().cost().now().parameters;
    println!(
        "after {what}: accuracy {accuracy:.2} %, loss {:.4}, {parameters} parameters",
        found.loss
    );
    Ok(())
}
