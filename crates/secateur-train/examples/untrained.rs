//! Makes an untrained network better by removing units: Ancona, Öztireli and Gross, "Shapley Value
//! as Principled Metric for Structured Network Pruning", 2020, section 4.4.
//!
//! ```text
//! cargo run --release -p secateur-train --example untrained -- mlp.onnx TRAIN-DATA TEST-DATA [ORDERS [SEED]]
//! ```
//!
//! Layer by layer, the outermost first, it scores all units by their Shapley values on a thousand
//! samples, and cuts those that raise the loss. The last line is JSON, for `bench/untrained.py`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use secateur::group::{GroupId, Keeps};
use secateur::{Error, Model, Result};
use secateur_train::Cpu;
use secateur_train::attribution::{Attribution, AttributionOptions, attribute};
use secateur_train::data::{DataOptions, Dataset, Loader, LoaderOptions, Part, open, split};
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
    let [_, model, train, test, numbers @ ..] = &arguments[..] else {
        return Err(Error::argument("needed: MODEL TRAIN-DATA TEST-DATA [ORDERS [SEED]]"));
    };
    let number = |at: usize, default| match numbers.get(at) {
        Some(text) => text.parse::<u64>().map_err(Error::argument),
        None => Ok(default),
    };
    let (orders, seed) = (number(0, 5)? as usize, number(1, 0)?);
    let model = Model::open(Path::new(model), &Default::default())?;
    let mut trainer: Trainer<Cpu> =
        Trainer::new(model, TrainOptions::default(), &Default::default())?;
    let train = open(Path::new(train), &DataOptions::default())?;
    let fraction = SAMPLES as f64 / train.len() as f64;
    let (scored, _) = split(train, fraction, seed);
    let test = open(Path::new(test), &DataOptions { part: Part::Test, ..DataOptions::default() })?;
    let before = accuracy(&trainer, &test)?;
    let mut seconds = 0.0;
    for number in (0..trainer.model().groups().len()).rev() {
        let group = trainer.model().groups().iter().map(|(id, _)| id).nth(number);
        let Some(group) = group else { continue };
        let start = Instant::now();
        let keep = worth_keeping(&trainer, group, &scored, (orders, seed))?;
        seconds += start.elapsed().as_secs_f64();
        let name = trainer.model().groups().get(group).name.clone();
        let all = trainer.model().groups().get(group).size;
        println!("{name}: {} of {all} units stay", keep.len());
        trainer.cut(&Keeps::from([(group, keep)]))?;
        println!("accuracy {:.2} %", accuracy(&trainer, &test)? * 100.0);
    }
    let after = accuracy(&trainer, &test)?;
    let parameters = trainer.model().cost().now().parameters;
    println!(
        "{{\"before\": {before}, \"after\": {after}, \"parameters\": {parameters}, \"seconds\": {seconds:.3}}}"
    );
    Ok(())
}

/// The units whose removal would raise the loss.
fn worth_keeping(
    trainer: &Trainer<Cpu>,
    group: GroupId,
    data: &Arc<dyn Dataset>,
    (orders, seed): (usize, u64),
) -> Result<Vec<u32>> {
    let options = LoaderOptions { batch_size: SAMPLES, ..LoaderOptions::default() };
    let batches = Loader::new(Arc::clone(data), options)?.epoch(0);
    let mut batches = batches.map(|batch| on_device(batch?, trainer.device()));
    let options = AttributionOptions {
        method: Attribution::Shapley(orders),
        on: On::Best,
        seed,
        ..AttributionOptions::default()
    };
    let scores = attribute(trainer, &mut batches, Some(&[group]), &options)?;
    let scores = scores.get(group).unwrap_or_default();
    let useful = (0..).zip(scores).filter(|&(_, &score)| score >= 0.0).map(|(unit, _)| unit);
    Ok(useful.collect())
}

fn accuracy(trainer: &Trainer<Cpu>, test: &Arc<dyn Dataset>) -> Result<f64> {
    let accuracy = evaluate(trainer, test, SAMPLES)?.accuracy;
    accuracy.ok_or_else(|| Error::argument("the test data have no classes"))
}
