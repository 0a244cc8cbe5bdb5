//! What the core's dimension rules promise, checked on numbers: for every node of every fixture, cutting
//! a factor of its rule is what the factor's kind says. Seeds are fixed; differences are shares of the
//! largest element, 1e-4 at most. Models in the folder `$SECATEUR_MODELS` are checked too: those of
//! `bench/operators.py --write FOLDER` have one node each.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use secateur::graph::{Graph, Node};
use secateur::onnx::Hints;
use secateur::rule::{Dim, FactorId, Kind, Rule};
use secateur::{DType, Model};
use secateur_train::ops::Inputs;
use secateur_train::{Context, Cpu, Program, Slot, Step, Value};

const TOLERANCE: f32 = 1e-4;

/// Operators with literals that follow sizes: where these do not, another result is no fault.
const LITERALS: &[&str] = &[
    "Attention",
    "CenterCropPad",
    "ConstantOfShape",
    "Expand",
    "GroupQueryAttention",
    "MultiHeadAttention",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Tile",
];

/// What becomes of an index that goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Cut,
    Zero,
}

/// What checks came to, over all nodes.
#[derive(Default)]
struct Tally {
    held: usize,
    refused: usize,
    broken: Vec<String>,
    /// How many results were compared, per operator.
    kinds: BTreeMap<String, usize>,
}

#[test]
fn rules_of_all_nodes_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../secateur/tests/fixtures");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    paths.sort();
    if let Ok(more) = std::env::var("SECATEUR_MODELS") {
        let entries = std::fs::read_dir(more).unwrap();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let mut tally = Tally::default();
    for path in &paths {
        check_model(path, &mut tally);
    }
    println!("{} held, {} refused: {:?}", tally.held, tally.refused, tally.kinds);
    assert!(tally.broken.is_empty(), "{}", tally.broken.join("\n"));
    assert!(tally.held > 1000, "{} factors were cut", tally.held);
}

fn check_model(path: &Path, tally: &mut Tally) {
    let Ok(model) = Model::open(path, &Hints::default()) else { return };
    let Ok(program) = Program::new(&model) else { return };
    let graph = model.graph();
    let mut cx = Context::<Cpu>::new(Default::default());
    let stored = program.load(&cx.device).unwrap();
    let mut memory = program.memory(&stored, inputs(graph, &program)).unwrap();
    let wanted: Vec<_> =
        program.body.steps.iter().flat_map(|s| s.outputs.iter().flatten()).copied().collect();
    let schedule = program.schedule(&memory.known(), &wanted);
    let Ok(results) = program.run(&schedule, &mut memory, &mut cx) else { return };
    let mut memory = program.memory(&stored, inputs(graph, &program)).unwrap();
    wanted.iter().zip(results).for_each(|(slot, value)| memory.set(*slot, value));
    let mut nodes: BTreeMap<u32, Vec<&Node>> = BTreeMap::new();
    for id in graph.node_ids() {
        nodes.entry(graph.node(id).source).or_default().push(graph.node(id));
    }
    for node in nodes.values().filter(|nodes| nodes.len() == 1).map(|nodes| nodes[0]) {
        let name = |id| graph.value(id).name.as_str();
        let find = |id| program.find(name(id)).filter(|_| !name(id).is_empty());
        let Some(first) = node.outputs.first().and_then(|&id| find(id)) else { continue };
        let Some(step) =
            program.body.steps.iter().find(|step| step.outputs.first() == Some(&Some(first)))
        else {
            continue;
        };
        let Some(rule) = &node.rule else { continue };
        let slots: Option<Vec<_>> = node.inputs.iter().flatten().map(|&id| find(id)).collect();
        if slots.is_none() {
            continue;
        }
        let slots: Vec<_> = node.inputs.iter().map(|id| id.and_then(find)).collect();
        let operands: Vec<_> = step.inputs.iter().map(|slot| memory.get((*slot)?)).collect();
        let mut free: Vec<bool> = vec![true; step.inputs.len()];
        let mut place = |slot: &Option<Slot>| {
            let mut found = step.inputs.iter().zip(&free);
            let found = found.position(|(other, &free)| free && slot.is_some() && other == slot)?;
            free[found] = false;
            Some(found)
        };
        let places: Vec<Option<usize>> = slots.iter().map(&mut place).collect();
        let place =
            format!("{} {} ({})", path.file_stem().unwrap().display(), node.name, node.kind);
        check_node(&place, rule, step, operands, &places, tally);
    }
}

/// Random inputs of the sizes that the core took.
fn inputs(graph: &Graph, program: &Program) -> Vec<Value<Cpu>> {
    let device = Default::default();
    let make = |slot: &Slot| {
        let name = &program.names[slot.index()];
        let value =
            graph.inputs.iter().map(|&id| graph.value(id)).find(|value| &value.name == name);
        let value = value.unwrap();
        let shape: Vec<usize> = value.shape.as_ref().unwrap().iter().map(|e| e.size).collect();
        let count = shape.iter().product();
        match value.dtype {
            Some(DType::Bool) => Value::of_bools(vec![true; count], shape, &device),
            Some(dtype) if !dtype.is_float() => {
                Value::of_ints((0..count as i64).map(|i| i % 2).collect(), shape, &device)
            }
            _ => Value::of_floats(
                (0..count).map(|i| noise(i + slot.index())).collect(),
                shape,
                &device,
            ),
        }
    };
    program.inputs.iter().map(make).collect()
}

fn noise(index: usize) -> f32 {
    ((index as f64 * 12.9898 + 78.233).sin() * 43758.5453).fract() as f32 * 2.0
}

fn check_node(
    place: &str,
    rule: &Rule,
    step: &Step,
    operands: Vec<Option<Value<Cpu>>>,
    places: &[Option<usize>],
    tally: &mut Tally,
) {
    let fits = |(operand, slot): (usize, &Option<usize>)| {
        let value = slot.and_then(|slot| operands[slot].as_ref());
        let spelled = rule.operands.get(operand);
        value
            .zip(spelled)
            .is_none_or(|(value, spelled)| has_sizes(rule, &spelled.dims, &value.shape()))
    };
    // Sizes that are counted from data are made up.
    if !places.iter().enumerate().all(fits) {
        return;
    }
    let Some(Ok(whole)) = run(step, operands.clone()) else { return };
    let again = run(step, operands.clone()).and_then(Result::ok).unwrap_or_default();
    // What is drawn by chance is another number every time.
    if whole.iter().zip(&again).any(|(a, b)| distance(a, b) != Some(0.0)) {
        return;
    }
    for (index, factor) in rule.factors.iter().enumerate() {
        let size = factor.extent.size;
        if matches!(factor.kind, Kind::Fixed(_)) || size < 2 {
            continue;
        }
        let gone = (index * 7 + place.len()) % size;
        let is_kept = |at: usize| at != gone;
        let cut = |value: &Value<Cpu>, dims: &[Dim], how: Change| {
            change(value, rule, dims, index, &is_kept, how)
        };
        let mut smaller = operands.clone();
        let mut zeroed = operands.clone();
        for (operand, &slot) in places.iter().enumerate() {
            let (Some(slot), Some(spelled)) = (slot, rule.operands.get(operand)) else { continue };
            let Some(value) = operands[slot].as_ref() else { continue };
            if spelled.dims.len() != value.rank() {
                continue;
            }
            smaller[slot] = Some(cut(value, &spelled.dims, Change::Cut));
            let is_zeroed = match factor.kind {
                Kind::Inner(of) => of.contains(&operand),
                _ => true,
            };
            if is_zeroed {
                zeroed[slot] = Some(cut(value, &spelled.dims, Change::Zero));
            }
        }
        let expected = match factor.kind {
            Kind::Summed | Kind::Inner(_) => match run(step, zeroed) {
                Some(Ok(results)) => results,
                _ => continue,
            },
            _ => whole.clone(),
        };
        let found = match run(step, smaller) {
            Some(Ok(found)) => found,
            // A literal of the node has to follow.
            _ => {
                tally.refused += 1;
                continue;
            }
        };
        for (result, dims) in rule.results.iter().enumerate() {
            let (Some(found), Some(expected)) = (found.get(result), expected.get(result)) else {
                continue;
            };
            if dims.len() != expected.rank() || !has_sizes(rule, dims, &expected.shape()) {
                continue;
            }
            let expected = cut(expected, dims, Change::Cut);
            let apart = distance(found, &expected);
            let is_free = !matches!(factor.kind, Kind::Coupled(_));
            *tally.kinds.entry(step.kind.clone()).or_default() += 1;
            match apart {
                Some(apart) if !is_free || apart <= TOLERANCE => tally.held += 1,
                _ if LITERALS.contains(&step.kind.as_str()) => tally.refused += 1,
                apart => tally.broken.push(format!(
                    "{place}: `{}` of {rule} is {:?}, result {result} is {apart:?} apart: {:?} for {:?}",
                    factor.name, factor.kind, found.shape(), expected.shape()
                )),
            }
        }
    }
}

fn has_sizes(rule: &Rule, dims: &[Dim], shape: &[usize]) -> bool {
    dims.len() != shape.len()
        || dims.iter().zip(shape).all(|(dim, &size)| rule.extent(dim).size == size)
}

fn run(
    step: &Step,
    operands: Vec<Option<Value<Cpu>>>,
) -> Option<secateur::Result<Vec<Value<Cpu>>>> {
    let mut cx = Context::<Cpu>::new(Default::default());
    catch_unwind(AssertUnwindSafe(|| step.op.run(&mut cx, Inputs::new(operands)))).ok()
}

/// A tensor without an index of a factor, or with zeros there.
fn change(
    value: &Value<Cpu>,
    rule: &Rule,
    dims: &[Dim],
    factor: usize,
    is_kept: &dyn Fn(usize) -> bool,
    how: Change,
) -> Value<Cpu> {
    let shape = value.shape();
    let kept: Vec<Vec<bool>> =
        dims.iter().map(|dim| positions(rule, dim, factor, is_kept)).collect();
    if kept.iter().zip(&shape).any(|(kept, &size)| kept.len() != size) {
        return value.clone();
    }
    let count: usize = shape.iter().product();
    let stays: Vec<bool> = (0..count)
        .map(|at| {
            let mut rest = at;
            (0..shape.len()).rev().all(|axis| {
                let here = kept[axis][rest % shape[axis]];
                rest /= shape[axis];
                here
            })
        })
        .collect();
    let new: Vec<usize> =
        kept.iter().map(|kept| kept.iter().filter(|kept| **kept).count()).collect();
    let shape = if how == Change::Zero { shape } else { new };
    let device = Default::default();
    match value {
        Value::Float(_) => Value::of_floats(
            thinned(value.clone().to_floats().unwrap(), &stays, how),
            shape,
            &device,
        ),
        Value::Int(_) => {
            Value::of_ints(thinned(value.clone().to_ints().unwrap(), &stays, how), shape, &device)
        }
        Value::Bool(_) => {
            let ints = thinned(value.clone().to_ints().unwrap(), &stays, how);
            Value::of_bools(ints.into_iter().map(|x| x != 0).collect(), shape, &device)
        }
    }
}

fn thinned<T: Default + Copy>(values: Vec<T>, stays: &[bool], how: Change) -> Vec<T> {
    let pairs = values.into_iter().zip(stays);
    match how {
        Change::Zero => {
            pairs.map(|(value, &stays)| if stays { value } else { T::default() }).collect()
        }
        Change::Cut => pairs.filter(|(_, stays)| **stays).map(|(value, _)| value).collect(),
    }
}

/// Which positions of an axis stay where one index of a factor goes.
fn positions(rule: &Rule, dim: &Dim, factor: usize, is_kept: &dyn Fn(usize) -> bool) -> Vec<bool> {
    let size = |id: &FactorId| rule.factors[id.index()].extent.size;
    let mut all = Vec::new();
    for segment in dim.segments() {
        let count: usize = segment.iter().map(size).product();
        for at in 0..count {
            let (mut rest, mut stays) = (at, true);
            for id in segment.iter().rev() {
                stays &= id.index() != factor || is_kept(rest % size(id));
                rest /= size(id);
            }
            all.push(stays);
        }
    }
    all
}

/// The largest difference as a share of the largest element; `None` where shapes or sorts differ.
fn distance(found: &Value<Cpu>, expected: &Value<Cpu>) -> Option<f32> {
    if found.shape() != expected.shape() || found.sort() != expected.sort() {
        return None;
    }
    let (found, expected) =
        (found.clone().to_floats().unwrap(), expected.clone().to_floats().unwrap());
    let largest =
        expected.iter().filter(|x| x.is_finite()).fold(1e-6_f32, |most, x| most.max(x.abs()));
    let apart = found.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits());
    Some(
        apart
            .map(|(a, b)| (a - b).abs())
            .map(|x| if x.is_nan() { f32::INFINITY } else { x })
            .fold(0.0, f32::max)
            / largest,
    )
}
