//! A traced module: its groups, what is selected of them, and what that means for its tensors.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use secateur::criterion::{self, Measure, Scores, Statistic, Statistics, Weights};
use secateur::graph::{Graph, ParamId};
use secateur::group::{GroupId, Keeps, Kind};
use secateur::plan::Plan;
use secateur::tensor::{Keep, TensorView};
use secateur::{Error, Result, select};

use crate::options::Options;
use crate::{raise, text};

/// Kept indices by group name.
type NamedKeeps = BTreeMap<String, Vec<u32>>;

/// A parameter, an axis, and an index or none for each position.
type Place = (String, usize, Vec<Option<u32>>);

/// A traced module, analyzed.
#[pyclass(frozen, module = "secateur._secateur")]
pub struct Model(secateur::Model);

/// One parameter axis that carries a group.
#[pyclass(frozen, get_all, module = "secateur._secateur")]
#[derive(Clone)]
pub struct Slice {
    /// The parameter.
    parameter: String,
    /// The axis.
    axis: usize,
    /// What the parameter does with it.
    role: String,
    /// What the axis is made of.
    tree: String,
}

/// A dimension that can be cut.
#[pyclass(frozen, get_all, module = "secateur._secateur")]
#[derive(Clone)]
pub struct Group {
    /// Unique in the model.
    name: String,
    /// What its indices are.
    kind: String,
    /// Number of indices.
    size: usize,
    /// Why pruning changes more than the removed slices do; empty for an exact group.
    couplings: Vec<String>,
    /// Every parameter axis that carries it.
    slices: Vec<Slice>,
}

/// What a model costs.
#[pyclass(frozen, get_all, module = "secateur._secateur")]
#[derive(Clone, Copy)]
pub struct Footprint {
    /// Stored numbers that are read as weights.
    parameters: u64,
    /// Multiply-accumulates of one forward pass.
    macs: u64,
    /// Bytes of weights.
    bytes: u64,
}

/// What was asked of a group, and what becomes of it.
#[pyclass(frozen, get_all, module = "secateur._secateur")]
#[derive(Clone)]
pub struct Entry {
    /// The group.
    group: String,
    /// The fraction to remove.
    asked: f64,
    /// The fraction that is removed.
    reached: f64,
    /// Why it is left alone, or loses fewer indices than asked.
    why: Option<String>,
}

/// What was selected.
#[pyclass(frozen, get_all, module = "secateur._secateur")]
#[derive(Clone)]
pub struct Selection {
    /// Kept indices of every group that is cut.
    keeps: NamedKeeps,
    /// One entry per group, in order.
    entries: Vec<Entry>,
    /// The model as it is.
    before: Footprint,
    /// The model once it is cut.
    after: Footprint,
}

impl From<secateur::cost::Footprint> for Footprint {
    fn from(cost: secateur::cost::Footprint) -> Self {
        Footprint { parameters: cost.parameters, macs: cost.macs, bytes: cost.bytes }
    }
}

/// Prunes a model file: what `secateur prune` does.
#[pyfunction]
pub fn prune_file(
    py: Python<'_>,
    source: PathBuf,
    output: PathBuf,
    options: Options,
) -> PyResult<Selection> {
    let pruned = py.detach(|| -> Result<Selection> {
        let model = secateur::Model::open(&source, &Default::default())?;
        let selection = model.select(&options.select()?, &options.score()?)?;
        model.write_pruned(&selection.keeps, &output, &mut |_| ())?;
        Ok(Selection::new(&model, &selection))
    });
    pruned.map_err(raise)
}

impl Selection {
    fn new(model: &secateur::Model, selection: &select::Selection) -> Self {
        let name = |id: GroupId| model.groups().get(id).name.clone();
        let entry = |entry: &select::Entry| Entry {
            group: name(entry.group),
            asked: entry.asked,
            reached: entry.reached,
            why: entry.why.clone(),
        };
        Selection {
            keeps: selection.keeps.iter().map(|(&id, keep)| (name(id), keep.clone())).collect(),
            entries: selection.entries.iter().map(entry).collect(),
            before: selection.before.into(),
            after: selection.after.into(),
        }
    }
}

/// What keeping indices of groups means for tensors and for the module's code.
#[pyclass(frozen, module = "secateur._secateur")]
pub struct Changes {
    model: Py<Model>,
    changes: secateur::Changes,
    /// Whether all groups that are cut are exact.
    exact: bool,
    heads: Vec<Heads>,
}

/// A parameter with heads along an axis, how many there were, and how many there will be.
type Heads = (String, usize, usize);

#[pymethods]
impl Changes {
    /// What is kept of every parameter that is cut: name, and per axis the positions or `None`.
    fn slices(&self) -> Vec<(String, Keep)> {
        let graph = self.model.get().0.graph();
        let params = self.changes.params.iter();
        params.map(|(&id, keep)| (graph.param(id).name.clone(), keep.clone())).collect()
    }

    /// The integers that calls are given and that follow: the index of the call, the argument, what
    /// it is and what it becomes.
    fn numbers(&self) -> Vec<(usize, String, i64, i64)> {
        let numbers = self.model.get().0.renumbered(&self.changes);
        numbers.into_iter().map(|n| (n.call, n.argument, n.was, n.becomes)).collect()
    }

    /// The heads that change: a parameter that makes or reads them, how many they are and become.
    /// Of grouped queries, those that share keys, the queries of each, and all queries.
    fn heads(&self) -> Vec<Heads> {
        self.heads.clone()
    }

    /// How far `program`, which may have failed later on, is the trace of the same code once its
    /// tensors are cut: how many of the first calls are right, what is wrong, and which numbers do
    /// not follow that need not. Those that are no integers have to where all groups that are cut
    /// are exact, unless `loose`.
    fn compare(
        &self,
        py: Python<'_>,
        program: &str,
        loose: bool,
    ) -> PyResult<(usize, Option<String>, Vec<String>)> {
        let (model, exact) = (&self.model.get().0, self.exact && !loose);
        let found = py.detach(|| model.compare(&self.changes, program, exact)).map_err(raise)?;
        Ok((found.right, found.wrong.as_ref().map(text), found.loose))
    }
}

#[pymethods]
impl Group {
    /// Whether the pruned model computes what the original does with the removed slices zero.
    #[getter]
    fn exact(&self) -> bool {
        self.couplings.is_empty()
    }
}

#[pymethods]
impl Model {
    /// Analyzes a program, in the JSON of a `.pt2` file.
    #[new]
    fn new(py: Python<'_>, program: &str) -> PyResult<Self> {
        py.detach(|| secateur::Model::from_program(program)).map(Model).map_err(raise)
    }

    /// The dimensions that can be cut.
    fn groups(&self) -> Vec<Group> {
        self.0.groups().iter().map(|(_, group)| self.group(group)).collect()
    }

    /// What could not be followed.
    fn warnings(&self) -> Vec<String> {
        self.0.graph().warnings.clone()
    }

    /// The parameters that no call reads, sorted.
    fn unread(&self) -> Vec<String> {
        self.0.graph().unread.clone()
    }

    /// Why an axis of a parameter can or cannot be cut.
    fn why(&self, parameter: &str, axis: usize) -> PyResult<Vec<String>> {
        let id = self.find(parameter).map_err(raise)?;
        let tree = self.0.groups().trees(id).get(axis);
        let tree = tree
            .ok_or_else(|| raise(Error::argument(format!("`{parameter}` has no axis {axis}"))))?;
        let axes = &self.0.analysis().axes;
        let reasons = tree.atoms().into_iter().map(|atom| match self.0.groups().of_atom(atom) {
            Some(group) => format!("it carries the group `{}`", self.0.groups().get(group).name),
            None => match axes.pinned(atom) {
                Some(pin) => format!("a part of {} stays whole: {}", axes.size(atom), pin.reason),
                None => "nothing governs it".to_string(),
            },
        });
        Ok(reasons.collect())
    }

    /// What the model costs once it keeps these indices.
    #[pyo3(signature = (keeps = NamedKeeps::new()))]
    fn cost(&self, keeps: NamedKeeps) -> PyResult<Footprint> {
        let keeps = self.keeps(&keeps).map_err(raise)?;
        let size = |group: GroupId| keeps.get(&group).map(Vec::len);
        Ok(self.0.cost().with(&size).into())
    }

    /// The share of the parameters that some group governs.
    fn coverage(&self) -> f64 {
        self.0.cost().coverage(self.0.groups().iter().map(|(id, _)| id))
    }

    /// The scores of all groups, by name.
    fn scores(
        &self,
        py: Python<'_>,
        options: Options,
        statistics: Py<PyAny>,
    ) -> PyResult<BTreeMap<String, Vec<f64>>> {
        let provider = Provider::new(py, statistics, self.0.graph(), &options)?;
        let scores = py.detach(|| {
            let options = options.score()?;
            criterion::score(self.0.graph(), self.0.groups(), &provider, &options, None)
        });
        let scores = scores.map_err(raise)?;
        let named = self
            .0
            .groups()
            .iter()
            .filter_map(|(id, group)| Some((group.name.clone(), scores.get(id)?.to_vec())));
        Ok(named.collect())
    }

    /// Decides which indices stay. `statistics(measure, parameter, axes, kept)` gives sums, per
    /// axis, as lists of numbers; `scores`, by group, takes their place.
    #[pyo3(signature = (options, statistics, scores = None))]
    fn select(
        &self,
        py: Python<'_>,
        options: Options,
        statistics: Py<PyAny>,
        scores: Option<BTreeMap<String, Vec<f64>>>,
    ) -> PyResult<Selection> {
        let provider = Provider::new(py, statistics, self.0.graph(), &options)?;
        let selection = py.detach(|| self.selected(&options, &provider, scores.as_ref()));
        selection.map(|selection| Selection::new(&self.0, &selection)).map_err(raise)
    }

    /// Every parameter axis that carries a group, and the group's index at each of its positions.
    fn places(&self, group: &str) -> PyResult<Vec<Place>> {
        let by_name = self.by_name();
        let id = *by_name.get(group).ok_or_else(|| raise(no_group(group)))?;
        let group = self.0.groups().get(id);
        let place = |slice: &secateur::group::Slice| {
            let tree = &self.0.groups().trees(slice.param)[slice.axis];
            let mut indices = vec![None; tree.size()];
            tree.visit_positions(group.atom, 0, &mut |at, index| indices[at] = Some(index));
            (self.0.graph().param(slice.param).name.clone(), slice.axis, indices)
        };
        Ok(group.slices.iter().map(place).collect())
    }

    /// What keeping these indices of groups means for tensors and for the module's code.
    fn changes(slf: Py<Self>, py: Python<'_>, keeps: NamedKeeps) -> PyResult<Changes> {
        let model = &slf.get().0;
        let changed = py.detach(|| {
            let keeps = slf.get().keeps(&keeps)?;
            let exact = keeps.keys().all(|&id| model.groups().get(id).is_exact());
            Ok((model.changes(&keeps)?, exact, heads(model, &keeps)))
        });
        let (changes, exact, heads) = changed.map_err(raise)?;
        Ok(Changes { model: slf, changes, exact, heads })
    }

    /// The plan that keeps these indices, as JSON.
    fn plan(&self, keeps: NamedKeeps) -> PyResult<String> {
        let plan = self.keeps(&keeps).and_then(|keeps| self.0.plan(&keeps)).map_err(raise)?;
        serde_json::to_string_pretty(&plan).map_err(|error| raise(Error::malformed(error)))
    }

    /// The kept indices of a plan that was made for this model.
    fn replay(&self, plan: &str) -> PyResult<NamedKeeps> {
        let plan: Plan = serde_json::from_str(plan).map_err(|error| {
            raise(Error::malformed(format!("the plan cannot be read: {error}")))
        })?;
        let keeps = self.0.replay(&plan).map_err(raise)?;
        let name = |id: GroupId| self.0.groups().get(id).name.clone();
        Ok(keeps.into_iter().map(|(id, keep)| (name(id), keep)).collect())
    }
}

impl Model {
    fn group(&self, group: &secateur::group::Group) -> Group {
        let graph = self.0.graph();
        let slice = |slice: &secateur::group::Slice| Slice {
            parameter: graph.param(slice.param).name.clone(),
            axis: slice.axis,
            role: slice.role.name().to_string(),
            tree: self.0.groups().trees(slice.param)[slice.axis].to_string(),
        };
        let coupling = |coupling: &secateur::exact::Coupling| {
            format!("{} at `{}`", coupling.reason, graph.node(coupling.node).name)
        };
        Group {
            name: group.name.clone(),
            kind: group.kind.name().to_string(),
            size: group.size,
            couplings: group.couplings.iter().map(coupling).collect(),
            slices: group.slices.iter().map(slice).collect(),
        }
    }

    fn find(&self, parameter: &str) -> Result<ParamId> {
        self.0.graph().find_param(parameter).ok_or_else(|| {
            Error::argument(format!("no parameter `{parameter}` is read by the model"))
        })
    }

    fn by_name(&self) -> BTreeMap<&str, GroupId> {
        self.0.groups().iter().map(|(id, group)| (group.name.as_str(), id)).collect()
    }

    fn keeps(&self, named: &NamedKeeps) -> Result<Keeps> {
        let groups = self.0.groups();
        let by_name = self.by_name();
        let mut keeps = Keeps::new();
        for (name, keep) in named {
            let id = by_name.get(name.as_str());
            let id = *id.ok_or_else(|| no_group(name))?;
            let size = groups.get(id).size;
            let mut keep = keep.clone();
            keep.sort_unstable();
            keep.dedup();
            if keep.is_empty() || keep.last().is_some_and(|&last| last as usize >= size) {
                let text = format!("group `{name}` has indices 0 to {}", size - 1);
                return Err(Error::argument(text).hint("keep at least one index of every group"));
            }
            if keep.len() < size {
                keeps.insert(id, keep);
            }
        }
        Ok(keeps)
    }

    fn selected(
        &self,
        options: &Options,
        provider: &Provider<'_>,
        scores: Option<&BTreeMap<String, Vec<f64>>>,
    ) -> Result<select::Selection> {
        let (graph, groups) = (self.0.graph(), self.0.groups());
        let score = options.score()?;
        let mut scorer = |kept: Option<&Keeps>| match scores {
            Some(named) => given(groups, named),
            None => criterion::score(graph, groups, provider, &score, kept),
        };
        select::select(graph, groups, &self.0.cost(), &mut scorer, &options.select()?)
    }
}

fn no_group(name: &str) -> Error {
    Error::argument(format!("there is no group `{name}`"))
}

/// Scores that the caller computed.
fn given(groups: &secateur::group::Groups, named: &BTreeMap<String, Vec<f64>>) -> Result<Scores> {
    let scores = groups.iter().map(|(_, group)| match named.get(&group.name) {
        None => Ok(None),
        Some(scores) if scores.len() == group.size => Ok(Some(scores.clone())),
        Some(scores) => Err(Error::argument(format!(
            "group `{}` has {} indices, and {} scores",
            group.name,
            group.size,
            scores.len()
        ))),
    });
    Ok(Scores::new(scores.collect::<Result<_>>()?, "no score is given for it"))
}

/// Statistics of weights that lie in memory, and else what Python computes.
struct Provider<'a> {
    callback: Py<PyAny>,
    graph: &'a Graph,
    memory: Memory,
}

/// Weights in the memory of this process, where nothing else is asked for.
struct Memory(HashMap<ParamId, TensorView>);

impl Weights for Memory {
    fn view(&self, param: ParamId) -> Result<TensorView> {
        let view = self.0.get(&param).cloned();
        view.ok_or_else(|| Error::argument("the weights are not in memory"))
    }
}

/// The bytes of a buffer, which is not written while they are read.
struct Bytes(PyUntypedBuffer);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        let (start, len) = (self.0.buf_ptr().cast::<u8>(), self.0.len_bytes());
        if len == 0 {
            return &[];
        }
        // SAFETY: the buffer is contiguous, of `len` bytes, and held by `self`; whoever prunes a
        // module does not train it at the same time.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

impl<'a> Provider<'a> {
    fn new(
        py: Python<'_>,
        callback: Py<PyAny>,
        graph: &'a Graph,
        options: &Options,
    ) -> PyResult<Self> {
        let mut memory = HashMap::new();
        let statistic = options.score().map_err(raise)?.criterion.statistic;
        let of_weights = !matches!(statistic, Statistic::Sum(Measure::Taylor | Measure::Fisher));
        for id in graph.param_ids().filter(|_| of_weights) {
            let param = graph.param(id);
            let found = callback.call_method1(py, "memory", (&param.name,))?;
            if found.is_none(py) {
                continue;
            }
            let buffer = PyUntypedBuffer::get(found.bind(py))?;
            if !buffer.is_c_contiguous() {
                continue;
            }
            let data = bytes::Bytes::from_owner(Bytes(buffer));
            let dims = param.shape.clone();
            let view = TensorView::new(param.dtype, dims, data).map_err(raise)?;
            memory.insert(id, view);
        }
        Ok(Self { callback, graph, memory: Memory(memory) })
    }
}

impl Statistics for Provider<'_> {
    /// Python runs one thread at a time.
    fn is_serial(&self) -> bool {
        self.graph.param_ids().any(|id| !self.memory.0.contains_key(&id))
    }

    fn sums(
        &self,
        measure: Measure,
        param: ParamId,
        axes: &[usize],
        kept: &Keep,
    ) -> Result<Vec<Vec<f64>>> {
        if self.memory.0.contains_key(&param) {
            return self.memory.sums(measure, param, axes, kept);
        }
        let name = self.graph.param(param).name.as_str();
        let called = Python::attach(|py| -> PyResult<Vec<Vec<f64>>> {
            let arguments = (measure.name(), name, axes.to_vec(), kept.clone());
            self.callback.call1(py, arguments)?.extract(py)
        });
        called.map_err(|error| python_error(name, &error))
    }

    fn distances(
        &self,
        param: ParamId,
        axis: usize,
        members: &[Vec<u32>],
        kept: &Keep,
    ) -> Result<Vec<f64>> {
        if self.memory.0.contains_key(&param) {
            return self.memory.distances(param, axis, members, kept);
        }
        let name = self.graph.param(param).name.as_str();
        let called = Python::attach(|py| -> PyResult<Vec<f64>> {
            let options = PyDict::new(py);
            options.set_item("members", members.to_vec())?;
            let arguments = ("distances", name, vec![axis], kept.clone());
            self.callback.call(py, arguments, Some(&options))?.extract(py)
        });
        called.map_err(|error| python_error(name, &error))
    }
}

fn python_error(parameter: &str, error: &PyErr) -> Error {
    Error::argument(format!("`{parameter}` cannot be measured: {error}"))
}

fn heads(model: &secateur::Model, keeps: &Keeps) -> Vec<Heads> {
    let mut along: BTreeMap<(ParamId, usize), Vec<(usize, usize)>> = BTreeMap::new();
    let kinds = [Kind::Heads, Kind::QueriesPerHead];
    for (id, group) in model.groups().iter().filter(|(_, group)| kinds.contains(&group.kind)) {
        let kept = keeps.get(&id).map_or(group.size, Vec::len);
        for slice in &group.slices {
            along.entry((slice.param, slice.axis)).or_default().push((group.size, kept));
        }
    }
    let mut found = Vec::new();
    for ((param, _), mut counts) in along {
        if counts.len() > 1 {
            let product = |(a, b): (usize, usize), &(c, d): &(usize, usize)| (a * c, b * d);
            counts.push(counts.iter().fold((1, 1), product));
        }
        let name = &model.graph().param(param).name;
        let changed = counts.into_iter().filter(|(was, now)| was != now);
        found.extend(changed.map(|(was, now)| (name.clone(), was, now)));
    }
    found
}
