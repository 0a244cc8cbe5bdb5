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
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::analysis::Analysis;
use crate::axis::{AxisId, Tree};
use crate::cost::Cost;
use crate::criterion::{self, ScoreOptions};
use crate::graph::{Graph, ParamId};
use crate::group::{Groups, Keeps};
use crate::onnx::{self, Hints, Imported, OnnxFile, Saved, StoredWeights};
use crate::plan::{GroupPlan, ModelId, NodePlan, Plan, SlicePlan, VERSION};
use crate::refit::{self, Refit, refit};
use crate::select::{self, SelectOptions, Selection};
use crate::tensor::Keep;
use crate::{Error, Result};

/// A model file that was read and analyzed.
#[derive(Debug)]
pub struct Model {
    file: OnnxFile,
    imported: Imported,
    analysis: Analysis,
    groups: Groups,
    hints: Hints,
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
}

impl Model {
    /// Opens a model. `hints` gives shapes of inputs whose sizes are symbolic.
    ///
    /// # Errors
    /// When the file cannot be read or is not well-formed.
    pub fn open(path: &Path, hints: &Hints) -> Result<Self> {
        let file = OnnxFile::open(path)?;
        let mut imported = onnx::import(&file, hints)?;
        let mut analysis = Analysis::new(&imported.graph);
        refit::pin_unfollowable(&mut imported.graph, &mut analysis);
        let groups = Groups::new(&imported.graph, &analysis);
        Ok(Model { file, imported, analysis, groups, hints: hints.clone() })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.imported.graph
    }

    /// What every dimension is made of.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The file that the model was read from.
    pub fn file(&self) -> &OnnxFile {
        &self.file
    }

    /// The graph with the numbers of its stored tensors.
    pub fn imported(&self) -> &Imported {
        &self.imported
    }

    /// What the model costs, for any choice of group sizes.
    pub fn cost(&self) -> Cost {
        Cost::new(self.graph(), &self.analysis, &self.groups)
    }

    /// The weights, as they are stored.
    pub fn weights(&self) -> StoredWeights<'_> {
        let Imported { graph, tensors, .. } = &self.imported;
        StoredWeights { file: &self.file, tensors, graph }
    }

    /// Decides which indices stay, by scores from the weights.
    ///
    /// # Errors
    /// As [`select::select`] and [`criterion::score`].
    pub fn select(&self, select: &SelectOptions, scores: &ScoreOptions) -> Result<Selection> {
        let (graph, groups, weights) = (self.graph(), &self.groups, self.weights());
        let mut scorer =
            |kept: Option<&Keeps>| criterion::score(graph, groups, &weights, scores, kept);
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
        let mut known: HashMap<AxisId, Option<Vec<u32>>> = HashMap::new();
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
        let graph = self.graph();
        let edits = onnx::literal_edits(&self.file, &self.imported, refit);
        let mut plans: Vec<NodePlan> = edits
            .into_iter()
            .map(|(node, change, values)| {
                let values = values.into_iter().map(|value| value as f64).collect();
                NodePlan { node, change, values }
            })
            .collect();
        plans.extend(refit.replacements.iter().map(|replacement| NodePlan {
            node: graph.node(replacement.node).name.clone(),
            change: match replacement.place {
                crate::ops::Place::Attribute(name) => format!("attribute {name}"),
                crate::ops::Place::Input(slot) | crate::ops::Place::InputFor(slot, _) => {
                    format!("input {slot}")
                }
            },
            values: replacement.values.iter().map(|value| value.float()).collect(),
        }));
        plans
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
        ModelId { format: "onnx".to_string(), structure, shapes: self.hints.clone() }
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
                self.file.path().display()
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
        let edits = onnx::pruning_edits(self, &changes)?;
        onnx::save(&self.file, &edits, out, progress)
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
        let edits = onnx::masking_edits(self, &changes)?;
        onnx::save(&self.file, &edits, out, progress)
    }
}
