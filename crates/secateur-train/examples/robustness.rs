//! How well attributions tell which units matter: units of one layer are removed one after another in
//! the order of their scores, without fine-tuning, and the area under the curve of the loss is the
//! measure (Ancona, Öztireli and Gross, 2020, section 4.1). Lower is better.
//!
//! ```text
//! cargo run --release -p secateur-train --example robustness -- net.onnx TRAIN-DATA TEST-DATA
//! ```

use std::path::Path;
use std::sync::Arc;

use secateur::group::{GroupId, Keeps};
use secateur::{Error, Model, Result};
use secateur_train::Cpu;
use secateur_train::attribution::{Attribution, AttributionOptions, attribute};
use secateur_train::data::{DataOptions, Dataset, Loader, LoaderOptions, Part, open, split};
use secateur_train::fit::on_device;
use secateur_train::point::On;
use secateur_train::sensitivity::loss_without;
use secateur_train::trainer::{TrainOptions, Trainer};

const SAMPLES: usize = 1000;
const SEEDS: u64 = 3;
/// Points of a curve.
const POINTS: usize = 32;

const METHODS: [Attribution; 7] = [
    Attribution::Random,
    Attribution::WeightNorm,
    Attribution::Apoz,
    Attribution::Sensitivity,
    Attribution::Taylor,
    Attribution::SignedTaylor,
    Attribution::Shapley(5),
];

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
    let train = open(Path::new(train), &DataOptions::default())?;
    let test = open(Path::new(test), &DataOptions { part: Part::Test, ..DataOptions::default() })?;
    let fraction = SAMPLES as f64 / test.len() as f64;
    let (test, _) = split(test, fraction, 0);
    let groups: Vec<(GroupId, String)> =
        trainer.model().groups().iter().map(|(id, group)| (id, group.name.clone())).collect();
    println!("area under the loss, the mean of three seeds (lower is better)");
    for (group, name) in groups {
        for method in METHODS {
            let mut areas = Vec::new();
            for seed in 0..SEEDS {
                let (scored, _) =
                    split(Arc::clone(&train), SAMPLES as f64 / train.len() as f64, seed);
                let order = order(&trainer, group, &scored, (method, seed))?;
                areas.push(area(&mut trainer, group, &order, &test)?);
            }
            let mean = areas.iter().sum::<f64>() / areas.len() as f64;
            println!("{name:32} {:18} {mean:.4} {areas:.4?}", method.name());
        }
    }
    Ok(())
}

/// The units, the least important first.
fn order(
    trainer: &Trainer<Cpu>,
    group: GroupId,
    data: &Arc<dyn Dataset>,
    (method, seed): (Attribution, u64),
) -> Result<Vec<u32>> {
    let options = LoaderOptions { batch_size: 250, ..LoaderOptions::default() };
    let batches = Loader::new(Arc::clone(data), options)?.epoch(0);
    let mut batches = batches.map(|batch| on_device(batch?, trainer.device()));
    let options =
        AttributionOptions { method, on: On::Best, seed, ..AttributionOptions::default() };
    let scores = attribute(trainer, &mut batches, Some(&[group]), &options)?;
    let scores = scores.get(group).unwrap_or_default();
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]));
    Ok(order)
}

/// The mean loss over all numbers of removed units, by the trapezoidal rule.
fn area(
    trainer: &mut Trainer<Cpu>,
    group: GroupId,
    order: &[u32],
    test: &Arc<dyn Dataset>,
) -> Result<f64> {
    let mut losses = Vec::new();
    for point in 0..=POINTS {
        let gone = (order.len() - 1) * point / POINTS;
        let mut kept = order[gone..].to_vec();
        kept.sort_unstable();
        losses.push(loss_without(trainer, test, &Keeps::from([(group, kept)]), 500)?.loss);
    }
    let inner: f64 = losses.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum();
    Ok(inner / POINTS as f64)
}
