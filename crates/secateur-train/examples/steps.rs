//! Times training steps and inference on made-up data: `steps MODEL SHAPE CLASSES COUNT`, with a shape
//! such as `128x1x28x28`. Prints one line of JSON: the least time of a step and of a run without
//! gradients, in milliseconds, and the most memory that the process held meanwhile, less what it held
//! before, in MB (on Linux). `bench/trainspeed.py` sets it beside PyTorch.

use std::path::Path;
use std::time::Instant;

use secateur::{Error, Model, Result};
use secateur_train::trainer::{TrainOptions, Trainer};
use secateur_train::{Cpu, Value};

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, shape, classes, count] = &arguments[..] else {
        return Err(Error::argument("four arguments are needed: MODEL SHAPE CLASSES COUNT"));
    };
    let number = |text: &str| text.parse::<usize>().map_err(Error::argument);
    let shape = shape.split('x').map(number).collect::<Result<Vec<_>>>()?;
    let (classes, count) = (number(classes)?, number(count)?);
    let model = Model::open(Path::new(model), &Default::default())?;
    let mut trainer: Trainer<Cpu> =
        Trainer::new(model, TrainOptions::default(), &Default::default())?;
    let batch = || {
        let count = shape.iter().product::<usize>();
        let pixels = (0..count).map(|at| (at * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
        let labels = (0..shape[0]).map(|at| (at % classes) as i64).collect();
        let device = Default::default();
        let inputs = vec![Value::of_floats(pixels, shape.clone(), &device)];
        (inputs, Value::of_ints(labels, vec![shape[0]], &device))
    };
    let mut least = [f64::INFINITY; 2];
    // The peak starts anew where the system can do that.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = peak();
    for _ in 0..count {
        let train = batch();
        let start = Instant::now();
        trainer.step(train, 0.01)?;
        least[0] = least[0].min(start.elapsed().as_secs_f64());
        let run = batch();
        let start = Instant::now();
        trainer.evaluate(run)?;
        least[1] = least[1].min(start.elapsed().as_secs_f64());
    }
    let [step, forward] = least.map(|seconds| seconds * 1e3);
    let memory = peak() - before;
    println!("{{\"step\": {step:.3}, \"forward\": {forward:.3}, \"memory\": {memory:.3}}}");
    Ok(())
}

/// The most memory that this process held so far, in MB; zero where the system doesn't say.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() / 1e3
}
