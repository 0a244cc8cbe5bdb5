//! Where the time of a model goes: `profile MODEL SHAPE`, with a shape such as `8x3x224x224`. Prints the
//! milliseconds of the slowest steps and of every kind of operator in a run without gradients.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use secateur::{Error, Model, Result};
use secateur_train::{Context, Cpu, Program, Value};

/// Runs; the least time of each counts.
const RUNS: usize = 5;
/// Steps that are listed one by one.
const SLOWEST: usize = 12;

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, shape] = &arguments[..] else {
        return Err(Error::argument("two arguments are needed: MODEL SHAPE"));
    };
    let number = |text: &str| text.parse::<usize>().map_err(Error::argument);
    let shape = shape.split('x').map(number).collect::<Result<Vec<_>>>()?;
    let program = Program::new(&Model::open(Path::new(model), &Default::default())?)?;
    let device = Default::default();
    let values = program.load::<Cpu>(&device)?;
    let mut kinds: BTreeMap<usize, &str> = BTreeMap::new();
    for step in &program.body.steps {
        let outputs = step.outputs.iter().flatten();
        kinds.extend(outputs.map(|slot| (slot.index(), step.kind.as_str())));
    }
    let mut least: BTreeMap<usize, Duration> = BTreeMap::new();
    for _ in 0..RUNS {
        let count = shape.iter().product::<usize>();
        let pixels = (0..count).map(|at| (at * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
        let inputs = vec![Value::of_floats(pixels, shape.clone(), &device)];
        let mut memory = program.memory(&values, inputs)?;
        let schedule = program.schedule(&memory.known(), &program.body.outputs);
        let mut last = Instant::now();
        let mut cx = Context::new(device);
        program.run_watched(&schedule, &mut memory, &mut cx, &mut |slot, value| {
            let took = last.elapsed();
            let held = least.entry(slot.index()).or_insert(took);
            *held = took.min(*held);
            last = Instant::now();
            value
        })?;
    }
    let mut steps: Vec<_> = least.iter().collect();
    steps.sort_by_key(|&(_, took)| std::cmp::Reverse(took));
    for (&slot, took) in steps.into_iter().take(SLOWEST) {
        let name = &program.names[slot];
        println!("{:8.2} ms  {} `{name}`", took.as_secs_f64() * 1e3, kinds[&slot]);
    }
    println!();
    let mut sums: BTreeMap<&str, (Duration, usize)> = BTreeMap::new();
    for (slot, took) in least {
        let sum = sums.entry(kinds[&slot]).or_default();
        *sum = (sum.0 + took, sum.1 + 1);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|&(_, (took, _))| std::cmp::Reverse(took));
    for (kind, (took, count)) in sums {
        println!("{:8.2} ms  {kind} ({count})", took.as_secs_f64() * 1e3);
    }
    Ok(())
}
