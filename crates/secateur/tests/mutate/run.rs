//! What is done with a mutant: all that the command does with a model.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use secateur::criterion::{CRITERIA, ScoreOptions};
use secateur::graph::Graph;
use secateur::group::{Keeps, Kind};
use secateur::onnx::Hints;
use secateur::plan::Plan;
use secateur::select::{Amount, Scope, SelectOptions, Target};
use secateur::{Model, why};
use tempfile::TempDir;

use super::random::Random;

/// How far a mutant came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is not read.
    Refused,
    /// It is read and analyzed.
    Read,
    /// What is to be cut was decided.
    Planned,
    /// The smaller model was written, and read again.
    Written,
}

impl Stage {
    pub const ALL: [Stage; 4] = [Stage::Refused, Stage::Read, Stage::Planned, Stage::Written];
}

/// A folder to work in.
pub struct Folder {
    dir: TempDir,
    input: PathBuf,
    output: PathBuf,
}

impl Folder {
    /// In memory where the system has a place for that: writing waits for the disk.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.unwrap();
        let (input, output) = (dir.path().join("in.onnx"), dir.path().join("out.onnx"));
        fs::write(dir.path().join("data.bin"), [0; 4096]).unwrap();
        Self { dir, input, output }
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Reads, analyzes, explains, plans and writes; the panic's message where there is one.
    pub fn run(&self, bytes: &[u8], random: &mut Random) -> Result<Stage, String> {
        fs::write(&self.input, bytes).unwrap();
        let end = catch_unwind(AssertUnwindSafe(|| self.pass(random)));
        end.map_err(|payload| {
            let text = payload.downcast_ref::<String>().cloned();
            text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_default()
        })
    }

    fn pass(&self, random: &mut Random) -> Stage {
        let Ok(model) = Model::open(&self.input, &Hints::new()) else {
            return self.pass_with_hints(random);
        };
        self.work(&model, random)
    }

    /// A model that needs the shapes of its inputs gets them.
    fn pass_with_hints(&self, random: &mut Random) -> Stage {
        if !random.one_in(4) {
            return Stage::Refused;
        }
        let sizes = (0..1 + random.below(4)).map(|_| random.number().unsigned_abs() as usize);
        let hints = Hints::from([("x".to_string(), sizes.collect())]);
        match Model::open(&self.input, &hints) {
            Err(_) => Stage::Refused,
            Ok(model) => self.work(&model, random),
        }
    }

    fn work(&self, model: &Model, random: &mut Random) -> Stage {
        look(model, random);
        let Some(keeps) = choose(model, random) else { return Stage::Read };
        let Ok(plan) = model.plan(&keeps) else { return Stage::Read };
        self.check_plan(model, &plan, &keeps);
        if random.one_in(4) {
            drop(model.write_masked(&keeps, &self.output, &mut |_| ()));
        }
        if model.write_pruned(&keeps, &self.output, &mut |_| ()).is_err() {
            return Stage::Planned;
        }
        // Shapes of inputs that were given are not in the file.
        if model.id().shapes.is_empty() {
            let again = Model::open(&self.output, &Hints::new());
            assert!(again.is_ok(), "what was written is refused: {}", again.unwrap_err());
        }
        Stage::Written
    }

    fn check_plan(&self, model: &Model, plan: &Plan, keeps: &Keeps) {
        let path = self.path("plan.json");
        plan.write(&path).unwrap();
        let replayed = model.replay(&Plan::read(&path).unwrap());
        assert_eq!(replayed.as_ref().ok(), Some(keeps), "a plan that does not replay");
    }
}

/// Asks for all that a report shows.
fn look(model: &Model, random: &mut Random) {
    let cost = model.cost();
    cost.now();
    cost.layers(&|_| None);
    cost.coverage(model.groups().iter().map(|(id, _)| id));
    cost.governed();
    for node in &model.graph().nodes {
        drop(node.rule.as_ref().map(ToString::to_string));
    }
    let axes = axes(model.graph());
    if let (Some(&from), Some(&to)) = (random.pick(&axes), random.pick(&axes)) {
        why::explain(model, from);
        why::tie(model, from, to);
    }
}

fn axes(graph: &Graph) -> Vec<(secateur::graph::ParamId, usize)> {
    let axes = |id| (0..graph.param(id).shape.len()).map(move |axis| (id, axis));
    graph.param_ids().flat_map(axes).collect()
}

/// What stays: by scores, or the end of every group.
fn choose(model: &Model, random: &mut Random) -> Option<Keeps> {
    if random.one_in(3) {
        let mut tail = |size: usize| (random.below(size) as u32..size as u32).collect();
        return Some(model.groups().iter().map(|(id, group)| (id, tail(group.size))).collect());
    }
    let target = match random.below(4) {
        0 => Target::Macs(Amount::Fraction(0.5)),
        1 => Target::Parameters(Amount::Fraction(0.3)),
        _ => Target::Ratio(0.1 + random.below(9) as f64 / 10.0),
    };
    let options = SelectOptions {
        target,
        scope: [Scope::Uniform, Scope::Global, Scope::Isomorphic][random.below(3)],
        kinds: Kind::ALL.into_iter().collect(),
        steps: 1 + random.below(2),
        ..SelectOptions::default()
    };
    let criterion = CRITERIA[random.below(CRITERIA.len())];
    let scores = ScoreOptions { criterion, ..ScoreOptions::default() };
    Some(model.select(&options, &scores).ok()?.keeps)
}

/// Writes a model without most of its weights.
pub fn cut_down(path: &Path, out: &Path) {
    let model = Model::open(path, &Hints::new()).unwrap();
    let options = SelectOptions { target: Target::Ratio(0.9), ..SelectOptions::default() };
    let selection = model.select(&options, &ScoreOptions::default()).unwrap();
    model.write_pruned(&selection.keeps, out, &mut |_| ()).unwrap();
}
