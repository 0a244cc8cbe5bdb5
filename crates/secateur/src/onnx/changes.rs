//! Edits, checked against the model and sorted by the place they apply to.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::bodies::BodyId;
use super::codes::blank;
use super::encode::encode_ints;
use super::proto::{GraphProto, TensorProto};
use super::rope::{Elements, Payload};
use super::{AttributeEdit, Edits, OnnxFile, TensorEdit, TensorRef};
use crate::tensor::{Cut, TensorView};
use crate::{Error, Result};

/// Edits by the place they apply to, checked against the model.
pub(super) struct Changes<'a> {
    pub(super) initializers: BTreeMap<u32, &'a TensorEdit>,
    pub(super) nodes: BTreeMap<u32, NodeChanges<'a>>,
    pub(super) shapes: BTreeMap<&'a str, Vec<Option<i64>>>,
}

#[derive(Default)]
pub(super) struct NodeChanges<'a> {
    pub(super) tensors: BTreeMap<u32, &'a TensorEdit>,
    pub(super) inputs: BTreeMap<u32, &'a str>,
    pub(super) attributes: BTreeMap<&'a str, &'a AttributeEdit>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(file: &'a OnnxFile, edits: &'a Edits) -> Result<Self> {
        check_names(file, edits)?;
        let shapes = edits.value_shapes.iter().map(|(name, dims)| (name.as_str(), dims.clone()));
        let mut changes = Self {
            initializers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            shapes: shapes.collect(),
        };
        for (&at, edit) in &edits.tensors {
            changes.add_tensor(file, at, edit)?;
        }
        for (node, input, name) in &edits.inputs {
            changes.node(file, *node)?.inputs.insert(*input, name);
        }
        for (node, name, edit) in &edits.attributes {
            changes.node(file, *node)?.attributes.insert(name, edit);
        }
        changes.check_attributes(file)?;
        Ok(changes)
    }

    /// An attribute takes one edit: as a tensor, or as an attribute.
    fn check_attributes(&self, file: &OnnxFile) -> Result<()> {
        for (&node, changes) in &self.nodes {
            for &index in changes.tensors.keys() {
                let name = file.attribute(node, index)?.name.as_str();
                if changes.attributes.contains_key(name) {
                    let message = format!("attribute `{name}` of node {node} is edited twice");
                    return Err(Error::argument(message));
                }
            }
        }
        Ok(())
    }

    fn add_tensor(
        &mut self,
        file: &'a OnnxFile,
        at: TensorRef,
        edit: &'a TensorEdit,
    ) -> Result<()> {
        if keeps_all(edit, file.resolve(at)?.dims.len()) {
            return Ok(());
        }
        match at {
            TensorRef::Initializer(index) => {
                let tensor = file.initializer(index)?;
                let dims = edited_dims(tensor, edit)?;
                let is_main = file.bodies().of_initializer(index) == BodyId::MAIN;
                if let Some(dims) = dims.filter(|_| is_main) {
                    self.shapes.insert(&tensor.name, dims);
                }
                self.initializers.insert(index, edit);
            }
            TensorRef::Attribute { node, attribute } => {
                file.attribute(node, attribute)?;
                self.node(file, node)?.tensors.insert(attribute, edit);
            }
        }
        Ok(())
    }

    fn node(&mut self, file: &OnnxFile, index: u32) -> Result<&mut NodeChanges<'a>> {
        file.node(index)?;
        Ok(self.nodes.entry(index).or_default())
    }
}

fn keeps_all(edit: &TensorEdit, rank: usize) -> bool {
    match edit {
        TensorEdit::Keep(keep) | TensorEdit::Zero(keep) | TensorEdit::Blank(keep, _) => {
            keep.len() == rank && keep.iter().all(Option::is_none)
        }
        TensorEdit::Ints(..) | TensorEdit::Elements(_) => false,
    }
}

/// The declared shape after an edit; `None` when the edit keeps it.
fn edited_dims(tensor: &TensorProto, edit: &TensorEdit) -> Result<Option<Vec<Option<i64>>>> {
    let declared = |dims: &[usize]| dims.iter().map(|&dim| i64::try_from(dim).ok()).collect();
    match edit {
        TensorEdit::Zero(_) | TensorEdit::Blank(..) | TensorEdit::Elements(_) => Ok(None),
        TensorEdit::Ints(dims, _) => Ok(Some(declared(dims))),
        TensorEdit::Keep(keep) if keep.len() == tensor.dims.len() => {
            let dim = |(&dim, keep): (&i64, &Option<Vec<u32>>)| {
                keep.as_ref().map_or(Some(dim), |keep| i64::try_from(keep.len()).ok())
            };
            Ok(Some(tensor.dims.iter().zip(keep).map(dim).collect()))
        }
        TensorEdit::Keep(keep) => Err(Error::argument(format!(
            "tensor `{}` has {} axes, its cut has {}",
            tensor.name,
            tensor.dims.len(),
            keep.len()
        ))),
    }
}

fn check_names(file: &OnnxFile, edits: &Edits) -> Result<()> {
    let copies = edits.copies.iter().map(|copy| copy.0.as_str());
    let mut new = copies.chain(edits.literals.iter().map(|literal| literal.0.as_str())).peekable();
    if new.peek().is_none() {
        return Ok(());
    }
    let mut names = BTreeSet::new();
    collect_names(file.graph(), &mut names);
    match new.find(|name| name.is_empty() || !names.insert(name)) {
        Some(name) => Err(Error::argument(format!("the name `{name}` is taken in this model"))),
        None => Ok(()),
    }
}

/// All names of values in a graph and its subgraphs.
pub(super) fn collect_names<'a>(graph: &'a GraphProto, names: &mut BTreeSet<&'a str>) {
    names.extend(graph.input.iter().map(|value| value.name.as_str()));
    names.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    names.extend(sparse.map(|tensor| tensor.name.as_str()));
    for node in &graph.node {
        names.extend(node.output.iter());
        for attribute in &node.attribute {
            let graphs = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
            graphs.for_each(|graph| collect_names(graph, names));
        }
    }
}

/// A tensor edit, checked against the tensor.
pub(super) struct Change {
    pub(super) dims: Vec<usize>,
    kind: ChangeKind,
}

enum ChangeKind {
    Cut(Cut),
    Values(Bytes),
}

impl Change {
    pub(super) fn new(view: &TensorView, edit: &TensorEdit) -> Result<Self> {
        match edit {
            TensorEdit::Keep(keep) => Cut::keep(view.dtype, &view.dims, keep).map(Self::cut),
            TensorEdit::Zero(keep) => Cut::zero(view.dtype, &view.dims, keep).map(Self::cut),
            TensorEdit::Blank(keep, zero) => {
                let data = blank(view, keep, zero)?;
                Ok(Self { dims: view.dims.clone(), kind: ChangeKind::Values(data) })
            }
            TensorEdit::Ints(dims, values) => {
                let data = encode_ints(view.dtype, dims, values)?.into();
                Ok(Self { dims: dims.clone(), kind: ChangeKind::Values(data) })
            }
            TensorEdit::Elements(data) => {
                let new = TensorView::new(view.dtype, view.dims.clone(), data.clone())?;
                Ok(Self { dims: new.dims, kind: ChangeKind::Values(new.data) })
            }
        }
    }

    fn cut(cut: Cut) -> Self {
        Self { dims: cut.dims().to_vec(), kind: ChangeKind::Cut(cut) }
    }

    pub(super) fn payload(self, elements: Elements) -> Payload {
        match self.kind {
            ChangeKind::Cut(cut) => {
                let len = cut.byte_len() as u64;
                Payload { elements, cut: Some(cut), len }
            }
            ChangeKind::Values(data) => {
                let len = data.len() as u64;
                Payload { elements: Elements::Dense(data), cut: None, len }
            }
        }
    }

    pub(super) fn apply(self, view: &TensorView) -> Result<TensorView> {
        let data = match self.kind {
            ChangeKind::Cut(cut) => cut.to_vec(&view.data)?.into(),
            ChangeKind::Values(data) => data,
        };
        TensorView::new(view.dtype, self.dims, data)
    }
}
