//! Runs models on arrays: `run MODEL INPUTS OUTPUTS`, as often as there are such triples. `INPUTS` and
//! `OUTPUTS` are folders of numpy's files `0.npy`, `1.npy`, … in the order of the model's inputs and
//! outputs, of 32-bit floats, 64-bit integers or truth values. It prints one line per model: `ok`, or
//! why not.

mod common;

use std::fs;
use std::path::Path;

use common::{Backend, Outcome, arrays, bytes, program};
use secateur_train::Context;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for case in arguments.chunks_exact(3) {
        match run(&case[0], Path::new(&case[1]), Path::new(&case[2])) {
            Ok(()) => println!("ok"),
            Err(error) => println!("{}", error.to_string().replace('\n', " ")),
        }
    }
}

fn run(model: &str, inputs: &Path, outputs: &Path) -> Outcome<()> {
    let program = program(model)?;
    let mut cx = Context::<Backend>::new(Default::default());
    let stored = program.load(&cx.device)?;
    let results = program.forward(&stored, arrays(inputs)?, &mut cx)?;
    for (index, value) in results.into_iter().enumerate() {
        fs::write(outputs.join(format!("{index}.npy")), bytes(value)?)?;
    }
    Ok(())
}
