//! What is written can be read again and is what was planned, for every fixture: unedited, pruned
//! and masked files, and plans.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use secateur::axis::AxisId;
use secateur::graph::{Graph, Node, ParamId, ValueId};
use secateur::group::Keeps;
use secateur::plan::Plan;
use secateur::tensor::{Cut, Keep, TensorView};
use secateur::{ErrorKind, Model};
use tempfile::TempDir;

const SEEDS: [u64; 3] = [1, 2, 3];

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    found.sort();
    assert!(found.len() > 100);
    found
}

fn name(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.onnx"))
}

fn open(path: &Path) -> Model {
    Model::open(path, &Default::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A stream of numbers: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ mixed >> 27) % bound as u64) as usize
    }
}

/// Between one and all indices of every group, of kinds that are off by default too.
fn random_keeps(model: &Model, seed: u64) -> Keeps {
    let mut random = Random(seed);
    let mut keeps = Keeps::new();
    for (id, group) in model.groups().iter() {
        let mut indices: Vec<u32> = (0..group.size as u32).collect();
        for _ in 0..random.below(group.size) {
            indices.remove(random.below(indices.len()));
        }
        keeps.insert(id, indices);
    }
    keeps
}

fn written(write: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.onnx");
    write(&path);
    (dir, path)
}

/// What every node reads and makes, as sizes; `size` gives the sizes of one value.
fn node_shapes(
    graph: &Graph,
    size: impl Fn(ValueId) -> Vec<usize>,
) -> Vec<(String, Vec<Vec<usize>>)> {
    let one = |node: &Node| {
        let values = node.inputs.iter().flatten().chain(&node.outputs);
        (node.name.clone(), values.map(|&value| size(value)).collect())
    };
    graph.nodes.iter().map(one).collect()
}

fn shapes(model: &Model) -> Vec<(String, Vec<Vec<usize>>)> {
    let sizes = |value| model.graph().shape(value).iter().map(|extent| extent.size).collect();
    node_shapes(model.graph(), sizes)
}

/// The sizes that there must be once groups keep these indices.
fn planned_shapes(model: &Model, keeps: &Keeps) -> Vec<(String, Vec<Vec<usize>>)> {
    let changes = model.changes(keeps).unwrap();
    let axes = &model.analysis().axes;
    let size = |&axis: &AxisId| axes.tree(axis).sized(&|atom| changes.size(atom));
    node_shapes(model.graph(), |value| model.analysis().value(value).iter().map(size).collect())
}

/// The numbers that the stored tensors that nodes read stand for, in order, and what each must have
/// become. Scales and zero points are no numbers of their own: they may be cut, and stay otherwise.
fn check_weights(before: &Model, after: &Model, keeps: &Keeps, cut: Cutter) {
    let changes = before.changes(keeps).unwrap();
    for (old, new) in before.graph().nodes.iter().zip(&after.graph().nodes) {
        for (old_value, new_value) in old.inputs.iter().zip(&new.inputs) {
            let (Some(old_value), Some(new_value)) = (old_value, new_value) else { continue };
            let Some(old_param) = before.graph().as_param(*old_value) else { continue };
            let new_param = after.graph().as_param(*new_value).unwrap();
            let (source, result) = (data(before, old_param), data(after, new_param));
            let none = vec![None; source.dims.len()];
            let keep = changes.params.get(&old_param).unwrap_or(&none);
            let expected = cut(before, old_param, &source, keep);
            assert_eq!(result.data, expected.to_vec(&source.data).unwrap(), "{}", old.name);
        }
    }
}

type Cutter = fn(&Model, ParamId, &TensorView, &Keep) -> Cut;

fn kept(_: &Model, _: ParamId, view: &TensorView, keep: &Keep) -> Cut {
    Cut::keep(view.dtype, &view.dims, keep).unwrap()
}

fn zeroed(model: &Model, param: ParamId, view: &TensorView, keep: &Keep) -> Cut {
    let graph = model.graph();
    let held = graph.zeros.is_held(graph.param(param).value);
    let none = vec![None; view.dims.len()];
    Cut::zero(view.dtype, &view.dims, if held { &none } else { keep }).unwrap()
}

fn data(model: &Model, param: ParamId) -> TensorView {
    model.weights().view(param).unwrap()
}

#[test]
fn unedited_models_are_written_byte_by_byte() {
    for path in fixtures() {
        let model = open(&path);
        let (_dir, out) = written(|out| {
            model.write_pruned(&Keeps::new(), out, &mut |_| ()).unwrap();
        });
        if model.data_files().is_empty() {
            assert!(fs::read(&path).unwrap() == fs::read(&out).unwrap(), "{}", name(&path));
        } else {
            check_weights(&model, &open(&out), &Keeps::new(), kept);
        }
    }
}

#[test]
fn pruned_models_have_the_planned_shapes_and_weights() {
    for path in fixtures() {
        let model = open(&path);
        for seed in SEEDS {
            let keeps = random_keeps(&model, seed);
            let (_dir, out) = written(|out| {
                model.write_pruned(&keeps, out, &mut |_| ()).unwrap();
            });
            let after = open(&out);
            assert_eq!(shapes(&after), planned_shapes(&model, &keeps), "{} {seed}", name(&path));
            assert_eq!(after.graph().warnings, model.graph().warnings, "{}", name(&path));
            check_weights(&model, &after, &keeps, kept);
        }
    }
}

#[test]
fn masked_models_keep_their_shapes() {
    for path in fixtures() {
        let model = open(&path);
        let keeps = random_keeps(&model, SEEDS[0]);
        let (_dir, out) = written(|out| {
            model.write_masked(&keeps, out, &mut |_| ()).unwrap();
        });
        let after = open(&out);
        assert_eq!(shapes(&after), shapes(&model), "{}", name(&path));
        check_weights(&model, &after, &keeps, zeroed);
    }
}

#[test]
fn pruning_in_two_steps_is_pruning_once() {
    for path in fixtures() {
        let model = open(&path);
        let first = random_keeps(&model, SEEDS[0]);
        let (_dir, out) = written(|out| {
            model.write_pruned(&first, out, &mut |_| ()).unwrap();
        });
        let middle = open(&out);
        let second = random_keeps(&middle, SEEDS[1]);
        let (_dir, out) = written(|out| {
            middle.write_pruned(&second, out, &mut |_| ()).unwrap();
        });
        assert_eq!(shapes(&open(&out)), planned_shapes(&middle, &second), "{}", name(&path));
    }
}

#[test]
fn plans_are_read_as_they_were_written() {
    for path in fixtures() {
        let model = open(&path);
        let keeps = random_keeps(&model, SEEDS[0]);
        let plan = model.plan(&keeps).unwrap();
        let (_dir, file) = written(|file| plan.write(file).unwrap());
        let read = Plan::read(&file).unwrap();
        assert_eq!(read, plan, "{}", name(&path));
        assert_eq!(model.replay(&read).unwrap(), keeps, "{}", name(&path));
    }
}

/// A plan of `c2f`, after an edit.
fn replayed(fixture_name: &str, edit: impl FnOnce(&mut Plan)) -> secateur::Error {
    let model = open(&fixture("c2f"));
    let mut plan = model.plan(&random_keeps(&model, SEEDS[0])).unwrap();
    edit(&mut plan);
    open(&fixture(fixture_name)).replay(&plan).unwrap_err()
}

#[test]
fn plans_of_other_models_are_refused() {
    let error = replayed("residual_add", |_| ());
    assert_eq!(error.kind(), ErrorKind::PlanMismatch);
}

#[test]
fn plans_that_contradict_themselves_are_refused() {
    use ErrorKind::{Malformed, PlanMismatch};
    type Tamper = fn(&mut Plan);
    let edits: [(&str, ErrorKind, Tamper); 9] = [
        ("a slice less", PlanMismatch, |plan| drop(plan.slices.pop())),
        ("another slice", PlanMismatch, |plan| plan.slices[0].keep.truncate(1)),
        ("another axis", PlanMismatch, |plan| plan.slices[0].axis += 1),
        ("another node change", PlanMismatch, |plan| plan.nodes[0].values[0] += 1.0),
        ("an unknown group", PlanMismatch, |plan| plan.groups[0].name += "?"),
        ("another size", PlanMismatch, |plan| plan.groups[0].size += 1),
        ("an index too large", Malformed, |plan| plan.groups[0].keep.push(1000)),
        ("nothing kept", Malformed, |plan| plan.groups[0].keep.clear()),
        ("not sorted", Malformed, |plan| plan.groups[0].keep.extend([1, 0])),
    ];
    for (edit, kind, apply) in edits {
        assert_eq!(replayed("c2f", apply).kind(), kind, "{edit}");
    }
}

#[test]
fn plans_of_another_version_are_refused() {
    let model = open(&fixture("c2f"));
    let mut plan = model.plan(&Keeps::new()).unwrap();
    plan.version += 1;
    let (_dir, file) = written(|file| plan.write(file).unwrap());
    assert_eq!(Plan::read(&file).unwrap_err().kind(), ErrorKind::Unsupported);
}
