//! Gradients of models, and differences in their place: `gradients MODEL INPUTS OUTPUTS`, as often as
//! there are such triples, with folders as of the example `run`. What is differentiated is the sum of
//! all elements of real outputs, element `i` of output `k` times `cos(0.7·i + 1.3·k)`. The gradients of
//! real inputs go to `OUTPUTS`. It prints one line per model: per real operand its name, the derivative in the
//! direction `sin(1.1·i + 0.3·k + 0.5)`, the difference quotient that is nearest to it, and how large
//! its terms are; or why not.

mod common;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn_autodiff::Autodiff;
use burn_backend::AutodiffBackend;
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use common::{Backend, Outcome, arrays, bytes, program};
use secateur_train::{Context, Engine, Program, Value};

type Tape = Autodiff<Backend>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    for case in arguments.chunks_exact(3) {
        let run = || check(&case[0], Path::new(&case[1]), Path::new(&case[2]));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(line)) => println!("{line}"),
            Ok(Err(error)) => println!("error: {}", error.to_string().replace('\n', " ")),
            Err(_) => println!("error: a panic"),
        }
    }
}

fn check(model: &str, inputs: &Path, outputs: &Path) -> Outcome<String> {
    let program = program(model)?;
    let mut operands: Vec<Value<Backend>> = program.load(&Default::default())?;
    let stored = operands.len();
    operands.extend(arrays(inputs)?);
    let gradients = gradients(&program, operands.clone(), stored)?;
    let mut line = String::new();
    for (index, gradient) in gradients.into_iter().enumerate() {
        let Some(gradient) = gradient else { continue };
        let (shape, gradient) = (operands[index].shape(), gradient.to_floats()?);
        let terms: Vec<f64> =
            gradient.iter().enumerate().map(|(i, g)| along(i, index) * f64::from(*g)).collect();
        let derivative: f64 = terms.iter().sum();
        let size = terms.iter().map(|term| term * term).sum::<f64>().sqrt();
        let mut nearest = f64::INFINITY;
        for step in [1e-2, 3e-3, 1e-3] {
            let quotient = quotient(&program, &operands, stored, index, step)?;
            if (quotient - derivative).abs() < (nearest - derivative).abs() {
                nearest = quotient;
            }
        }
        let slots = program.stored.iter().map(|stored| stored.slot).chain(program.inputs.clone());
        let name = slots.map(|slot| &program.names[slot.index()]).nth(index).ok_or("no name")?;
        line += &format!("{name} {derivative} {nearest} {size} ");
        if let Some(input) = index.checked_sub(stored) {
            let gradient = Value::<Backend>::of_floats(gradient, shape, &Default::default());
            fs::write(outputs.join(format!("{input}.npy")), bytes(gradient)?)?;
        }
    }
    Ok(line)
}

fn along(element: usize, operand: usize) -> f64 {
    (1.1 * element as f64 + 0.3 * operand as f64 + 0.5).sin()
}

fn weight(element: usize, output: usize) -> f64 {
    (0.7 * element as f64 + 1.3 * output as f64).cos()
}

fn forward<B: Engine>(
    program: &Program,
    operands: Vec<Value<B>>,
    stored: usize,
) -> Outcome<Vec<Value<B>>> {
    let mut cx = Context::<B>::new(Default::default());
    let mut operands = operands;
    let inputs = operands.split_off(stored);
    Ok(program.forward(&operands, inputs, &mut cx)?)
}

/// The gradient of every real operand.
fn gradients(
    program: &Program,
    operands: Vec<Value<Backend>>,
    stored: usize,
) -> Outcome<Vec<Option<Value<Backend>>>> {
    let lift = |value: Value<Backend>| match value {
        Value::Float(t) => {
            Value::<Tape>::Float(Tape::float_set_require_grad(Tape::from_inner(t), true))
        }
        Value::Int(t) => Value::Int(t),
        Value::Bool(t) => Value::Bool(t),
    };
    let operands: Vec<Value<Tape>> = operands.into_iter().map(lift).collect();
    let results = forward(program, operands.clone(), stored)?;
    let mut total: Option<FloatTensor<Tape>> = None;
    for (output, value) in results.into_iter().enumerate() {
        let Value::Float(tensor) = value else { continue };
        let shape = Value::<Tape>::Float(tensor.clone()).shape();
        let weights = (0..shape.iter().product()).map(|i| weight(i, output) as f32).collect();
        let weights =
            Value::<Tape>::of_floats(weights, shape.clone(), &Default::default()).float()?;
        let flat = |t, shape: &[usize]| {
            Tape::float_reshape(t, vec![shape.iter().product::<usize>()].into())
        };
        let (tensor, weights) = (flat(tensor, &shape), flat(weights, &shape));
        let sum = Tape::float_sum(Tape::float_mul(tensor, weights));
        total = Some(match total {
            Some(total) => Tape::float_add(total, sum),
            None => sum,
        });
    }
    let Some(total) = total else { return Ok(Vec::new()) };
    let found = Tape::backward(total);
    let gradient = |value: &Value<Tape>| match value {
        Value::Float(tensor) => match Tape::grad(tensor, &found) {
            Some(gradient) => Some(Value::Float(gradient)),
            None => {
                let zeros = vec![0.0; value.shape().iter().product()];
                Some(Value::of_floats(zeros, value.shape(), &Default::default()))
            }
        },
        _ => None,
    };
    Ok(operands.iter().map(gradient).collect())
}

/// The central difference in the direction of one operand.
fn quotient(
    program: &Program,
    operands: &[Value<Backend>],
    stored: usize,
    index: usize,
    step: f64,
) -> Outcome<f64> {
    let side = |step: f64| -> Outcome<Vec<Value<Backend>>> {
        let mut operands = operands.to_vec();
        let shape = operands[index].shape();
        let moved = operands[index].clone().to_floats()?.into_iter().enumerate();
        let moved = moved.map(|(i, x)| (f64::from(x) + step * along(i, index)) as f32).collect();
        operands[index] = Value::of_floats(moved, shape, &Default::default());
        forward(program, operands, stored)
    };
    let (above, below) = (side(step)?, side(-step)?);
    let mut total = 0.0;
    for (output, (above, below)) in above.into_iter().zip(below).enumerate() {
        if !matches!(above, Value::Float(_)) {
            continue;
        }
        let pairs = above.to_floats()?.into_iter().zip(below.to_floats()?).enumerate();
        total +=
            pairs.map(|(i, (a, b))| weight(i, output) * (f64::from(a) - f64::from(b))).sum::<f64>();
    }
    Ok(total / (2.0 * step))
}
