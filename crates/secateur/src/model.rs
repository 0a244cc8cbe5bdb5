//! An open model: its file, graph, analysis and groups, and what can be done with them.
//!
//! ```no_run
//! use std::path::Path;
//!
//! # fn main() -> secateur::Result<()> {
//! let model = secateur::Model::open(Path::new("model.onnx"), &Default::default())?;
//! for (_, group) in model.groups().iter() {
//!     println!("{} {} {}", group.name, group.size, group.kind);
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::analysis::Analysis;
use crate::axis::{AxisId, HashAxis, Tree};
use crate::cost::Cost;
use crate::criterion::{self, ScoreOptions, Weights};
use crate::disk;
use crate::graph::{Graph, ParamId};
use crate::group::{Groups, Keeps};
use crate::onnx::{self, Analyzed, Hints, Imported, OnnxFile, StoredWeights};
use crate::ops::Place;
use crate::plan::{GroupPlan, ModelId, NodePlan, Plan, SlicePlan, VERSION};
use crate::refit::{self, Refit, refit};
use crate::select::{self, SelectOptions, Selection};
use crate::tensor::{Keep, TensorView};
use crate::torch::{self, Followed, Program, Renumbered, TorchFile, TorchWeights};
use crate::{Error, Result};

/// A model file that was read and analyzed.
#[derive(Debug)]
pub struct Model {
    source: Source,
    analysis: Analysis,
    groups: Groups,
    hints: Hints,
}

/// The file behind a model, and what was read of it.
#[derive(Debug)]
pub enum Source {
    /// An ONNX model.
    Onnx(OnnxFile, Imported),
    /// A PyTorch program in a file.
    Torch(TorchFile, torch::Imported),
    /// A PyTorch program whose weights are elsewhere.
    Program(Program, torch::Imported),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The size of the model and its data file.
    pub bytes: u64,
    /// The data file, if there is one.
    pub data: Option<PathBuf>,
}

impl Source {
    /// Opens a file of either format.
    fn open(path: &Path, hints: &Hints) -> Result<Self> {
        if !TorchFile::is_one(&disk::start(path)?) {
            let file = OnnxFile::open(path)?;
            let imported = onnx::import(&file, hints)?;
            return Ok(Source::Onnx(file, imported));
        }
        let file = TorchFile::open(path)?;
        if let Some(name) = hints.keys().next() {
            return Err(Error::argument(format!("a shape is given for `{name}`"))
                .hint("a PyTorch program is analyzed at the sizes that it was exported with"));
        }
        let imported = file.import()?;
        Ok(Source::Torch(file, imported))
    }

    fn graph(&self) -> &Graph {
        match self {
            Source::Onnx(_, imported) => &imported.graph,
            Source::Torch(_, imported) | Source::Program(_, imported) => &imported.graph,
        }
    }

    fn graph_mut(&mut self) -> &mut Graph {
        match self {
            Source::Onnx(_, imported) => &mut imported.graph,
            Source::Torch(_, imported) | Source::Program(_, imported) => &mut imported.graph,
        }
    }

    /// The format's name.
    pub fn format(&self) -> &'static str {
        match self {
            Source::Onnx(..) => "onnx",
            Source::Torch(..) => "pt2",
            Source::Program(..) => "torch",
        }
    }
}

/// What a plan asks of a source, by parameter and literal.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Per parameter that is cut: the kept positions of every axis.
    pub params: BTreeMap<ParamId, Keep>,
    /// Literals that follow.
    pub refit: Refit,
    sizes: BTreeMap<AxisId, usize>,
}

impl Changes {
    /// The new size of an atom that is cut.
    pub fn size(&self, atom: AxisId) -> Option<usize> {
        self.sizes.get(&atom).copied()
    }

    /// The new sizes of axes.
    pub(crate) fn sizes(&self, analysis: &Analysis, axes: &[AxisId]) -> Vec<i64> {
        let size = |&axis| analysis.axes.sized(axis, &|atom| self.size(atom)) as i64;
        axes.iter().map(size).collect()
    }
}

impl Model {
    /// Opens a model. `hints` gives shapes of inputs whose sizes are symbolic.
    ///
    /// # Errors
    /// When the file cannot be read or is not well-formed.
    pub fn open(path: &Path, hints: &Hints) -> Result<Self> {
        Model::of(Source::open(path, hints)?, hints)
    }

    /// Analyzes a PyTorch program, in the JSON of a `.pt2` file, whose weights are elsewhere.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn from_program(text: &str) -> Result<Self> {
        let program = Program::parse(text)?;
        let imported = program.import()?;
        Model::of(Source::Program(program, imported), &Hints::new())
    }

    fn of(mut source: Source, hints: &Hints) -> Result<Self> {
        let mut analysis = Analysis::new(source.graph());
        if let Source::Program(..) = source {
            refit::pin_unread(source.graph(), &mut analysis);
        }
        refit::pin_unfollowable(source.graph_mut(), &mut analysis);
        let groups = Groups::new(source.graph(), &analysis);
        Ok(Model { source, analysis, groups, hints: hints.clone() })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        self.source.graph()
    }

    /// What every dimension is made of.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The file that the model was read from, by its format.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The path of that file.
    pub fn path(&self) -> &Path {
        match &self.source {
            Source::Onnx(file, _) => file.path(),
            Source::Torch(file, _) => file.path(),
            Source::Program(..) => Path::new("program"),
        }
    }

    /// The size of the model and its data files.
    pub fn byte_size(&self) -> u64 {
        match &self.source {
            Source::Onnx(file, _) => file.byte_size(),
            Source::Torch(file, _) => file.byte_size(),
            Source::Program(..) => self.cost().now().bytes,
        }
    }

    /// The files next to the model that hold its weights, by name.
    pub fn data_files(&self) -> Vec<&str> {
        match &self.source {
            Source::Onnx(file, _) => file.data_files().into_iter().collect(),
            Source::Torch(..) | Source::Program(..) => Vec::new(),
        }
    }

    /// Inputs whose symbolic sizes were guessed, as they were taken.
    pub fn guessed(&self) -> &Hints {
        static NONE: Hints = Hints::new();
        match &self.source {
            Source::Onnx(_, imported) => &imported.guessed,
            Source::Torch(..) | Source::Program(..) => &NONE,
        }
    }

    /// What the model costs, for any choice of group sizes.
    pub fn cost(&self) -> Cost {
        Cost::new(self.graph(), &self.analysis, &self.groups)
    }

    /// The weights, as they are stored.
    pub fn weights(&self) -> Box<dyn Weights + '_> {
        let graph = self.graph();
        match &self.source {
            Source::Onnx(file, imported) => {
                Box::new(StoredWeights { file, tensors: &imported.tensors, graph })
            }
            Source::Torch(file, _) => Box::new(TorchWeights { file, graph }),
            Source::Program(..) => Box::new(NoWeights),
        }
    }

    /// Decides which indices stay, by scores from the weights.
    ///
    /// # Errors
    /// As [`select::select`] and [`criterion::score`].
    pub fn select(&self, select: &SelectOptions, scores: &ScoreOptions) -> Result<Selection> {
        let (graph, groups, weights) = (self.graph(), &self.groups, self.weights());
        let mut scorer =
            |kept: Option<&Keeps>| criterion::score(graph, groups, &*weights, scores, kept);
        select::select(graph, groups, &self.cost(), &mut scorer, select)
    }

    /// The changes that kept indices ask for.
    ///
    /// # Errors
    /// When a node computes a size in a way that cannot follow.
    pub fn changes(&self, keeps: &Keeps) -> Result<Changes> {
        let kept = |atom: AxisId| {
            let group = self.groups.of_atom(atom)?;
            keeps.get(&group).map(Vec::as_slice)
        };
        let mut params = BTreeMap::new();
        // Axes that are the same are cut alike.
        let mut known: HashMap<AxisId, Option<Vec<u32>>, HashAxis> = HashMap::default();
        for id in self.graph().param_ids() {
            let axes = self.analysis.value(self.graph().param(id).value).iter();
            let keep = |(&axis, tree): (_, &Tree)| {
                let known = known.entry(self.analysis.axes.find(axis));
                known.or_insert_with(|| tree.kept(&kept)).clone()
            };
            let keep: Keep = axes.zip(self.groups.trees(id)).map(keep).collect();
            if keep.iter().any(Option::is_some) {
                params.insert(id, keep);
            }
        }
        let refit = refit(self.graph(), &self.analysis, &|atom| kept(atom).map(<[u32]>::len));
        let refit = refit.map_err(|misfits| {
            let names: Vec<&str> =
                misfits.iter().map(|misfit| self.graph().node(misfit.node).name.as_str()).collect();
            Error::unsupported(format!("sizes computed by `{}` cannot follow", names.join("`, `")))
                .hint("keep the groups around it: `--keep 'NAME*'`")
        })?;
        let sizes =
            keeps.iter().map(|(&id, keep)| (self.groups.get(id).atom, keep.len())).collect();
        Ok(Changes { params, refit, sizes })
    }

    /// The plan that keeps these indices.
    ///
    /// # Errors
    /// As [`Model::changes`].
    pub fn plan(&self, keeps: &Keeps) -> Result<Plan> {
        let changes = self.changes(keeps)?;
        let groups = keeps.iter().map(|(&id, keep)| {
            let group = self.groups.get(id);
            GroupPlan {
                name: group.name.clone(),
                kind: group.kind.name().to_string(),
                size: group.size,
                keep: keep.clone(),
                exact: group.is_exact(),
            }
        });
        let slices = changes.params.iter().flat_map(|(&id, keep)| {
            let parameter = &self.graph().param(id).name;
            let axes = keep.iter().enumerate();
            axes.filter_map(|(axis, keep)| {
                let keep = keep.clone()?;
                Some(SlicePlan { parameter: parameter.clone(), axis, keep })
            })
        });
        Ok(Plan {
            version: VERSION,
            model: self.id(),
            groups: groups.collect(),
            slices: slices.collect(),
            nodes: self.node_plans(&changes.refit),
        })
    }

    fn node_plans(&self, refit: &Refit) -> Vec<NodePlan> {
        match &self.source {
            Source::Onnx(file, imported) => onnx_node_plans(file, imported, refit),
            Source::Torch(file, imported) => {
                let edits = torch::argument_edits(&imported.graph, refit);
                let plan = |edit: &torch::ArgumentEdit| {
                    let (node, change) = torch::edit_names(file, edit);
                    NodePlan { node, change, values: edit.numbers() }
                };
                edits.iter().map(plan).collect()
            }
            // A trace is not edited: the code that makes it follows.
            Source::Program(..) => Vec::new(),
        }
    }

    /// What identifies the model up to the values of its weights.
    pub fn id(&self) -> ModelId {
        let mut hash = Sha256::new();
        let mut put = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        for node in &self.graph().nodes {
            put(&node.kind);
            put(&node.name);
            put(&format!("{:?}{:?}", node.inputs, node.outputs));
            put(&node.rule.as_ref().map(ToString::to_string).unwrap_or_default());
        }
        for param in &self.graph().params {
            put(&param.name);
            put(&format!("{}{:?}", param.dtype, param.shape));
        }
        let structure = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        ModelId { format: self.source.format().to_string(), structure, shapes: self.hints.clone() }
    }

    /// The kept indices of a plan made for this model or another checkpoint of it.
    ///
    /// # Errors
    /// When the plan was made for a different model.
    pub fn replay(&self, plan: &Plan) -> Result<Keeps> {
        let id = self.id();
        if id.structure != plan.model.structure {
            return Err(Error::plan_mismatch(format!(
                "the plan was made for a model of another structure than `{}`",
                self.path().display()
            ))
            .hint("a plan applies to checkpoints of the model it was made for, exported alike"));
        }
        let keeps = plan.keeps(&self.groups)?;
        let mine = self.plan(&keeps)?;
        if mine.slices != plan.slices || mine.nodes != plan.nodes {
            return Err(Error::plan_mismatch(
                "the slices or node changes in the plan do not follow from its groups",
            ));
        }
        Ok(keeps)
    }

    /// The integers that the calls of a traced program are given, and that follow `changes`.
    pub fn renumbered(&self, changes: &Changes) -> Vec<Renumbered> {
        match &self.source {
            Source::Program(program, imported) => program.renumbered(imported, changes),
            _ => Vec::new(),
        }
    }

    /// How far `program` is the trace of the same code once tensors are cut as `changes` say. It may
    /// have failed later on. Numbers that are no integers have to follow where `exact`.
    ///
    /// # Errors
    /// When it is no program, or this is no traced one.
    pub fn compare(&self, changes: &Changes, program: &str, exact: bool) -> Result<Followed> {
        let Source::Program(before, imported) = &self.source else {
            return Err(Error::argument("this is no traced program"));
        };
        let program = Program::parse(program)?;
        Ok(before.compare(imported, &self.analysis, changes, &program, exact))
    }

    /// What the stored tensor of a parameter is called in the file.
    pub fn tensor_name(&self, param: ParamId) -> Option<String> {
        let tensor = self.graph().param(param).tensor;
        match &self.source {
            Source::Onnx(file, imported) => onnx::tensor_name(file, imported, tensor),
            Source::Torch(file, _) => file.stored_name(tensor),
            Source::Program(..) => Some(self.graph().param(param).name.clone()),
        }
    }

    /// Writes the model with other elements in the stored tensors of these parameters, of the type
    /// and shape that they have.
    ///
    /// # Errors
    /// When type or shape differ, or the file cannot be written; then `out` is as it was.
    pub fn write_filled(
        &self,
        elements: &BTreeMap<ParamId, TensorView>,
        out: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Saved> {
        let tensor =
            |(&id, view): (&ParamId, &TensorView)| (self.graph().param(id).tensor, view.clone());
        let elements = elements.iter().map(tensor).collect();
        match &self.source {
            Source::Onnx(file, imported) => {
                onnx::save(file, &onnx::filling_edits(file, imported, &elements)?, out, progress)
            }
            Source::Torch(file, _) => {
                let bytes = torch::write_filled(file, &elements, out, progress)?;
                Ok(Saved { bytes, data: None })
            }
            Source::Program(..) => Err(no_weights()),
        }
    }

    /// Writes the model without what `keeps` leaves out.
    ///
    /// # Errors
    /// As [`Model::changes`], or when the file cannot be written; then `out` is as it was.
    pub fn write_pruned(
        &self,
        keeps: &Keeps,
        out: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Saved> {
        let changes = self.changes(keeps)?;
        let analysis = &self.analysis;
        match &self.source {
            Source::Onnx(file, imported) => {
                let edits = onnx::pruning_edits(Analyzed { file, imported, analysis }, &changes)?;
                onnx::save(file, &edits, out, progress)
            }
            Source::Torch(file, imported) => {
                let bytes = torch::write_pruned(file, imported, analysis, &changes, out, progress)?;
                Ok(Saved { bytes, data: None })
            }
            Source::Program(..) => Err(no_weights()),
        }
    }

    /// Writes the model with what `keeps` leaves out set to zero in every parameter.
    ///
    /// # Errors
    /// As [`Model::write_pruned`].
    pub fn write_masked(
        &self,
        keeps: &Keeps,
        out: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Saved> {
        let changes = self.changes(keeps)?;
        match &self.source {
            Source::Onnx(file, imported) => {
                let model = Analyzed { file, imported, analysis: &self.analysis };
                let edits = onnx::masking_edits(model, &changes)?;
                onnx::save(file, &edits, out, progress)
            }
            Source::Torch(file, imported) => {
                let bytes = torch::write_masked(file, imported, &changes, out, progress)?;
                Ok(Saved { bytes, data: None })
            }
            Source::Program(..) => Err(no_weights()),
        }
    }
}

/// The weights of a program that has none.
struct NoWeights;

impl Weights for NoWeights {
    fn view(&self, _param: ParamId) -> Result<TensorView> {
        Err(no_weights())
    }
}

fn no_weights() -> Error {
    Error::argument("the weights of this program are elsewhere")
}

fn onnx_node_plans(file: &OnnxFile, imported: &Imported, refit: &Refit) -> Vec<NodePlan> {
    let graph = &imported.graph;
    let edits = onnx::literal_edits(file, imported, refit).into_iter();
    let patched = edits.map(|(node, change, values)| {
        let values = values.into_iter().map(|value| value as f64).collect();
        NodePlan { node, change, values }
    });
    let replaced = refit.replacements.iter().map(|replacement| NodePlan {
        node: graph.node(replacement.node).name.clone(),
        change: match replacement.place {
            Place::Attribute(name) => format!("attribute {name}"),
            Place::Input(slot) | Place::InputFor(slot, _) => format!("input {slot}"),
        },
        values: replacement.values.iter().map(|value| value.float()).collect(),
    });
    patched.chain(replaced).collect()
}
