//! Whether a pruned model computes what the original does with the removed slices zero.

use std::collections::BTreeMap;
use std::path::Path;

use burn_backend::tensor::Device;
use secateur::graph::{Graph, Node, Origin, ValueId};
use secateur::group::Keeps;
use secateur::onnx::{Hints, guess_remedy};
use secateur::tensor::{Keep, TensorView};
use secateur::{DType, Model};

use crate::data::Array;
use crate::fit::to_value;
use crate::program::Memory;
use crate::trainer::cut;
use crate::{Context, Engine, Error, Program, Result, Slot, Stored, Value};

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The largest difference of any output, by the largest number in it (but at least a hundredth
    /// of the original's, where masks leave next to nothing).
    pub error: f64,
    /// How far the masked outputs are from the original ones, in the same unit: what the error has
    /// to be seen against.
    pub effect: f64,
    /// The first node whose result differs by more than the tolerance, and by how much.
    pub parted: Option<(String, f64)>,
    /// The number of outputs.
    pub outputs: usize,
}

impl Verdict {
    /// Whether the models are equal.
    pub fn is_equal(&self, tolerance: f64) -> bool {
        self.error <= tolerance
    }
}

/// The most numbers that all nodes may make, for all of them to be compared: half a gigabyte.
const MOST_RESULTS: usize = 1 << 27;

/// How many numbers all nodes make.
fn results(model: &Model) -> usize {
    let values = model.graph().values.iter().filter_map(|value| value.shape.as_ref());
    let sizes =
        values.map(|shape| shape.iter().map(|extent| extent.size).fold(1, usize::saturating_mul));
    sizes.fold(0, usize::saturating_add)
}

/// What chance decides on differs in every run.
fn refuse_chance(model: &Model) -> Result<()> {
    let graph = model.graph();
    let drawn = |node: &&Node| DRAWING.iter().any(|drawing| node.kind.contains(drawing));
    match graph.node_ids().map(|id| graph.node(id)).find(drawn) {
        None => Ok(()),
        Some(node) => {
            let (name, kind) = (&node.name, &node.kind);
            Err(Error::unsupported(format!("node `{name}` ({kind}) draws random numbers")))
        }
    }
}

/// What the names of operators that draw random numbers have.
const DRAWING: [&str; 8] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomUniform",
    "aten.bernoulli",
    "aten.multinomial",
    "aten.normal",
    "aten.rand",
];

/// Runs the masked original and the pruned model on the same inputs. Inputs that are not given are
/// drawn at random.
///
/// # Errors
/// When a model cannot be run, or given inputs do not fit.
pub fn verify<B: Engine>(
    original: &Model,
    pruned: &Path,
    keeps: &Keeps,
    given: &[(String, Array)],
    (seed, tolerance): (u64, f64),
    device: &Device<B>,
) -> Result<Verdict> {
    refuse_chance(original)?;
    let folder = tempfile::tempdir().map_err(|error| Error::io(&std::env::temp_dir(), error))?;
    let masked = folder.path().join("masked");
    original.write_masked(keeps, &masked, &mut |_| ())?;
    let shapes = shapes(original);
    let open = |path: &Path| -> Result<Program> {
        let hints = if is_onnx(original) { shapes.clone() } else { Hints::new() };
        Program::new(&Model::open(path, &hints)?)
    };
    let (masked, pruned, whole) = (open(&masked)?, open(pruned)?, Program::new(original)?);
    let inputs = inputs::<B>(original, given, seed, device)?;
    let outputs = |program: &Program| run(program, inputs.clone(), &[], device).map(|(o, _)| o);
    let guessed = |error: Error| match guess_remedy(original.guessed()) {
        Some(remedy) if error.remedy().is_none() => error.hint(remedy),
        _ => error,
    };
    let unmasked = outputs(&whole).map_err(guessed)?;
    let (expected, found) = (outputs(&masked)?, outputs(&pruned)?);
    let mut verdict =
        Verdict { error: 0.0, effect: 0.0, parted: None, outputs: masked.body.outputs.len() };
    let triples = expected.iter().zip(&found).zip(&unmasked);
    for ((expected, found), unmasked) in triples {
        let floor = largest(unmasked)? * 0.01;
        let scale = largest(expected)?.max(floor).max(f64::MIN_POSITIVE);
        verdict.error = verdict.error.max(distance(expected, found)? / scale);
        verdict.effect = verdict.effect.max(distance(expected, unmasked)? / scale);
    }
    if !verdict.is_equal(tolerance) && results(original) <= MOST_RESULTS {
        let reference = all(&masked, inputs.clone(), device)?;
        let other = all(&pruned, inputs, device)?;
        let pair = ((&masked, &reference), (&pruned, &other));
        verdict.parted = parted(original, keeps, pair, tolerance)?;
    }
    Ok(verdict)
}

/// The first stored tensor of a model that another one has under the same name, and otherwise.
///
/// # Errors
/// When a model cannot be read.
pub fn differing(wanted: &Model, found: &Model) -> Result<Option<String>> {
    let (wanted, found) = (Program::new(wanted)?, Program::new(found)?);
    let found: BTreeMap<&str, &TensorView> =
        found.stored.iter().map(|stored| (&*stored.name, &stored.view)).collect();
    let differs =
        |stored: &&Stored| found.get(&*stored.name).is_some_and(|&view| *view != stored.view);
    Ok(wanted.stored.iter().find(differs).map(|stored| stored.name.clone()))
}

fn is_onnx(model: &Model) -> bool {
    model.source().format() == "onnx"
}

/// The shapes that open inputs are run at.
fn shapes(model: &Model) -> Hints {
    let graph = model.graph();
    let shape = |&input: &ValueId| {
        let value = graph.value(input);
        let extents = value.shape.as_ref()?;
        let open = extents.iter().any(|extent| extent.is_open());
        let sizes = extents.iter().map(|extent| extent.size).collect();
        open.then(|| (value.name.clone(), sizes))
    };
    graph.inputs.iter().filter_map(shape).collect()
}

/// What a program makes of inputs: its outputs, and in memory what `wanted` asks for besides.
fn run<B: Engine>(
    program: &Program,
    inputs: Vec<Value<B>>,
    wanted: &[Slot],
    device: &Device<B>,
) -> Result<(Vec<Value<B>>, Memory<B>)> {
    let mut memory = program.memory(&program.load(device)?, inputs)?;
    let outputs = &program.body.outputs;
    let schedule = program.schedule(&memory.known(), &[outputs, wanted].concat());
    let mut values = program.run(&schedule, &mut memory, &mut Context::new(device.clone()))?;
    values.truncate(outputs.len());
    Ok((values, memory))
}

/// All that a program has names for.
fn all<B: Engine>(
    program: &Program,
    inputs: Vec<Value<B>>,
    device: &Device<B>,
) -> Result<Memory<B>> {
    let steps = program.body.steps.iter();
    let wanted: Vec<Slot> = steps.flat_map(|step| step.outputs.iter().flatten().copied()).collect();
    run(program, inputs, &wanted, device).map(|(_, memory)| memory)
}

/// Given and random inputs, in order.
///
/// # Errors
/// When a shape is unknown, or does not fit.
pub fn inputs<B: Engine>(
    model: &Model,
    given: &[(String, Array)],
    seed: u64,
    device: &Device<B>,
) -> Result<Vec<Value<B>>> {
    let graph = model.graph();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut given: BTreeMap<&str, &Array> =
        given.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let mut one = |&input: &ValueId| -> Result<Value<B>> {
        let value = graph.value(input);
        if let Some(array) = given.remove(value.name.as_str()) {
            return Ok(to_value(array.clone(), device));
        }
        let unknown =
            || Error::argument(format!("the shape of input `{}` is not known", value.name));
        let extents = value.shape.as_ref().ok_or_else(unknown)?;
        let shape: Vec<usize> = extents.iter().map(|extent| extent.size).collect();
        let count = shape.iter().product();
        Ok(match value.dtype {
            Some(DType::Bool) => Value::of_bools(vec![true; count], shape, device),
            Some(dtype) if dtype.is_int() => {
                let most = rows(graph, input).unwrap_or(2).max(1) as i64;
                let numbers = (0..count).map(|_| random.i64(0..most)).collect();
                Value::of_ints(numbers, shape, device)
            }
            _ => {
                let numbers = (0..count).map(|_| random.f32() * 4.0 - 2.0).collect();
                Value::of_floats(numbers, shape, device)
            }
        })
    };
    let values = graph.inputs.iter().map(&mut one).collect::<Result<_>>()?;
    match given.first_key_value() {
        None => Ok(values),
        Some((name, _)) => {
            let names = graph.inputs.iter().map(|&input| format!("`{}`", graph.value(input).name));
            let names = names.collect::<Vec<_>>().join(", ");
            Err(Error::argument(format!("the model has no input `{name}`"))
                .hint(format!("name the arrays as its inputs: {names}")))
        }
    }
}

/// The size of the table that an input picks rows of, if it does.
fn rows(graph: &Graph, input: ValueId) -> Option<usize> {
    const HANDING_ON: [&str; 5] = ["Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"];
    let mut ids = input;
    for node in graph.node_ids().map(|id| graph.node(id)) {
        let (first, second) = (node.inputs.first().copied().flatten(), node.inputs.get(1));
        if HANDING_ON.contains(&&*node.kind) && first == Some(ids) {
            ids = *node.outputs.first()?;
        }
        let picks = node.kind == "Gather" || node.kind.starts_with("aten.embedding.");
        if picks && second == Some(&Some(ids)) {
            return graph.shape(first?).first().map(|extent| extent.size);
        }
    }
    None
}

fn largest<B: Engine>(value: &Value<B>) -> Result<f64> {
    let numbers = value.clone().to_floats()?;
    Ok(numbers.iter().fold(0.0, |most: f64, &x| most.max(f64::from(x).abs())))
}

/// The largest difference; infinite between different shapes, and where only one is a number.
fn distance<B: Engine>(a: &Value<B>, b: &Value<B>) -> Result<f64> {
    if a.shape() != b.shape() {
        return Ok(f64::INFINITY);
    }
    let (a, b) = (a.clone().to_floats()?, b.clone().to_floats()?);
    let one = |(&a, &b): (&f32, &f32)| match a == b || a.is_nan() && b.is_nan() {
        true => 0.0,
        false if (a - b).is_nan() => f64::INFINITY,
        false => f64::from(a - b).abs(),
    };
    Ok(a.iter().zip(&b).map(one).fold(0.0, f64::max))
}

/// A program, and what it made.
type Ran<'a, B> = (&'a Program, &'a Memory<B>);

/// The first node whose results differ.
fn parted<B: Engine>(
    original: &Model,
    keeps: &Keeps,
    ((masked, reference), (pruned, other)): (Ran<'_, B>, Ran<'_, B>),
    tolerance: f64,
) -> Result<Option<(String, f64)>> {
    let graph = original.graph();
    for node in graph.node_ids().map(|id| graph.node(id)) {
        for &output in &node.outputs {
            let name = &graph.value(output).name;
            let (Some(a), Some(b)) = (masked.find(name), pruned.find(name)) else { continue };
            let (Some(expected), Some(found)) = (reference.get(a), other.get(b)) else {
                continue;
            };
            if name.is_empty() || matches!(graph.value(output).origin, Origin::Sizes(_)) {
                continue;
            }
            let device = expected.device();
            let Some(keep) = kept(original, keeps, output, expected.rank()) else { continue };
            let expected = cut(expected, &keep, &device)?;
            let scale = largest(&expected)?.max(f64::MIN_POSITIVE);
            let error = distance(&expected, &found)? / scale;
            if error > tolerance {
                return Ok(Some((node.name.clone(), error)));
            }
        }
    }
    Ok(None)
}

/// What is kept of the axes of a value.
fn kept(model: &Model, keeps: &Keeps, value: ValueId, rank: usize) -> Option<Keep> {
    let (analysis, groups) = (model.analysis(), model.groups());
    let axes = analysis.value(value);
    let indices = |atom| keeps.get(&groups.of_atom(atom)?).map(Vec::as_slice);
    let keep = axes.iter().map(|&axis| analysis.axes.tree(axis).kept(&indices)).collect();
    (axes.len() == rank).then_some(keep)
}
