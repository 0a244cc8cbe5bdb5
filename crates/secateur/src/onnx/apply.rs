//! Turns format-free changes into edits of an ONNX file.

use std::collections::{BTreeMap, BTreeSet};

use super::bodies::BodyId;
use super::changes::collect_names;
use super::codes::encoded_zero;
use super::proto::{AttributeProto, attribute_type};
use super::{AttributeEdit, Edits, Imported, OnnxFile, TensorEdit, TensorRef};
use crate::analysis::Analysis;
use crate::graph::{Graph, Origin, Param, ParamId, Value};
use crate::model::Changes;
use crate::ops::Place;
use crate::refit::{Refit, Replacement};
use crate::size::{Literal, Scalar};
use crate::tensor::{Keep, TensorView};
use crate::zero::Zero;
use crate::{DType, Error, Result};

/// A file and what was read of it.
#[derive(Clone, Copy)]
pub(crate) struct Analyzed<'a> {
    pub(crate) file: &'a OnnxFile,
    pub(crate) imported: &'a Imported,
    pub(crate) analysis: &'a Analysis,
}

impl<'a> Analyzed<'a> {
    fn graph(self) -> &'a Graph {
        &self.imported.graph
    }
}

/// The edits that cut parameters, and let literals and declared shapes follow.
pub(crate) fn pruning_edits(model: Analyzed<'_>, changes: &Changes) -> Result<Edits> {
    let mut edits = parameter_edits(model, changes, &|_, keep| Ok(Some(TensorEdit::Keep(keep))))?;
    let (file, imported) = (model.file, model.imported);
    for (tensor, values) in patched_constants(file, imported, &changes.refit) {
        let at = imported.tensors[tensor as usize];
        edits.tensors.insert(at, TensorEdit::Ints(file.resolve(at)?.dims, values));
    }
    for ((node, name), values) in patched_attributes(file, &changes.refit) {
        let edit = attribute_edit(file, node, &name, values);
        edits.attributes.push((node, name, edit));
    }
    let mut names = Names::new(file);
    for replacement in &changes.refit.replacements {
        let node = model.graph().node(replacement.node).source;
        match replacement.place {
            Place::Attribute(name) => {
                let edit = match replacement.values[..] {
                    [Scalar::Float(value)] => AttributeEdit::Float(value as f32),
                    _ => attribute_edit(file, node, name, replacement.ints()),
                };
                edits.attributes.push((node, name.to_string(), edit));
            }
            Place::Input(slot) | Place::InputFor(slot, _) => {
                let base = &model.graph().node(replacement.node).name;
                let name = names.fresh(&format!("{base}_sizes"));
                edits.literals.push((name.clone(), literal(model, replacement)?));
                edits.inputs.push((node, slot, name));
            }
        }
        if let Place::InputFor(_, attribute) = replacement.place {
            edits.attributes.push((node, attribute.to_string(), AttributeEdit::Remove));
        }
    }
    add_new_shapes(model, changes, &mut edits);
    Ok(edits)
}

/// The tensor that a replacement stands for.
fn literal(model: Analyzed<'_>, replacement: &Replacement) -> Result<TensorView> {
    let (dtype, dims) = match replacement.held {
        None => {
            let vector = || vec![replacement.values.len()];
            (DType::I64, replacement.shape.clone().unwrap_or_else(vector))
        }
        Some(value) => {
            let dims = model.graph().shape(value).iter().map(|extent| extent.size).collect();
            (model.graph().value(value).dtype.unwrap_or(DType::I64), dims)
        }
    };
    TensorView::from_scalars(dtype, dims, &replacement.values).ok_or_else(|| {
        let node = &model.graph().node(replacement.node).name;
        Error::unsupported(format!("node `{node}`: a constant of type {dtype}"))
    })
}

/// The edits that zero what pruning would remove. In a quantized tensor its zero point is zero;
/// scales and zero points stay.
pub(crate) fn masking_edits(model: Analyzed<'_>, changes: &Changes) -> Result<Edits> {
    let zeros = &model.graph().zeros;
    let edit = |param: &Param, keep: Keep| {
        Ok(match zeros.of(param.value) {
            _ if zeros.is_held(param.value) => None,
            Zero::Number(0) => Some(TensorEdit::Zero(keep)),
            zero => {
                let encoded = encoded_zero(model.file, &model.imported.tensors, zero)?;
                Some(match encoded {
                    Some(encoded) => TensorEdit::Blank(keep, encoded),
                    None => TensorEdit::Zero(keep),
                })
            }
        })
    };
    parameter_edits(model, changes, &edit)
}

/// The edits that put other elements in stored tensors of the main graph.
pub(crate) fn filling_edits(
    file: &OnnxFile,
    imported: &Imported,
    elements: &BTreeMap<u32, TensorView>,
) -> Result<Edits> {
    let mut edits = Edits::default();
    for (&tensor, view) in elements {
        let at = imported.tensors.get(tensor as usize).copied();
        let at = at.ok_or_else(|| Error::argument("a tensor that is not stored"))?;
        let old = file.resolve(at)?;
        if (old.dtype, &old.dims) != (view.dtype, &view.dims) {
            let (found, dims) = (view.dtype, &view.dims);
            let text = format!("{found} {dims:?} in place of {} {:?}", old.dtype, old.dims);
            return Err(Error::argument(text));
        }
        edits.tensors.insert(at, TensorEdit::Elements(view.data.clone()));
    }
    Ok(edits)
}

/// What a stored tensor is called in the file.
pub(crate) fn tensor_name(file: &OnnxFile, imported: &Imported, tensor: u32) -> Option<String> {
    match *imported.tensors.get(tensor as usize)? {
        TensorRef::Initializer(index) => Some(file.initializer(index).ok()?.name.clone()),
        TensorRef::Attribute { node, .. } => {
            file.node(node).ok()?.output.first().map(str::to_string)
        }
    }
}

/// What the literals that change are now, by the name of their constant or node: name, change,
/// values.
pub(crate) fn literal_edits(
    file: &OnnxFile,
    imported: &Imported,
    refit: &Refit,
) -> Vec<(String, String, Vec<i64>)> {
    let constants = patched_constants(file, imported, refit).into_iter().map(|(tensor, values)| {
        let name = tensor_name(file, imported, tensor);
        (name.unwrap_or_default(), "value".to_string(), values)
    });
    let attributes = patched_attributes(file, refit).into_iter().map(|((node, name), values)| {
        let node = file.node(node).map(super::proto::node_name).unwrap_or_default();
        (node, format!("attribute {name}"), values)
    });
    constants.chain(attributes).collect()
}

/// Cuts or masks parameters. Uses of one stored tensor that differ get a copy each; one that is
/// read for something else too stays.
fn parameter_edits(
    model: Analyzed<'_>,
    changes: &Changes,
    edit: &dyn Fn(&Param, Keep) -> Result<Option<TensorEdit>>,
) -> Result<Edits> {
    let graph = model.graph();
    let mut by_tensor: BTreeMap<u32, Vec<ParamId>> = BTreeMap::new();
    for id in graph.param_ids() {
        by_tensor.entry(graph.param(id).tensor).or_default().push(id);
    }
    let readers = readers(model.file);
    let mut edits = Edits::default();
    let mut names = Names::new(model.file);
    for (tensor, mut uses) in by_tensor {
        let at = model.imported.tensors[tensor as usize];
        uses.sort_by_key(|&id| (graph.param(id).only_use.is_some(), id));
        let mut variants: Vec<(Option<TensorEdit>, Vec<&Param>)> = Vec::new();
        let first = graph.param(uses[0]);
        let source = graph.value(first.value).name.as_str();
        if first.only_use.is_some() && readers.get(source).is_some_and(|&n| n > uses.len()) {
            variants.push((None, vec![first]));
        }
        for id in uses {
            let param = graph.param(id);
            let keep = changes.params.get(&id).cloned();
            let keep = keep.filter(|keep| keep.iter().any(Option::is_some));
            let change = keep.map(|keep| edit(param, keep)).transpose()?.flatten();
            match variants.iter_mut().find(|(other, _)| *other == change) {
                Some((_, params)) => params.push(param),
                None => variants.push((change, vec![param])),
            }
        }
        for (index, (change, params)) in variants.into_iter().enumerate() {
            if index == 0 {
                edits.tensors.extend(change.map(|change| (at, change)));
                continue;
            }
            let whole = || TensorEdit::Keep(vec![None; params[0].shape.len()]);
            let name = names.fresh(&params[0].name);
            for (node, slot) in params.iter().filter_map(|param| param.only_use) {
                edits.inputs.push((node, slot, name.clone()));
            }
            edits.copies.push((name, at, change.unwrap_or_else(whole)));
        }
    }
    Ok(edits)
}

/// How many inputs of nodes read each name.
fn readers(file: &OnnxFile) -> BTreeMap<&str, usize> {
    let mut readers = BTreeMap::new();
    for name in file.all_nodes().flat_map(|node| node.input.iter()) {
        *readers.entry(name).or_default() += 1;
    }
    readers
}

fn patched_constants(
    file: &OnnxFile,
    imported: &Imported,
    refit: &Refit,
) -> BTreeMap<u32, Vec<i64>> {
    let mut constants: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for (literal, &value) in &refit.patches {
        let Literal::Constant { tensor, index } = *literal else { continue };
        let values = constants.entry(tensor).or_insert_with(|| {
            let view = file.resolve(imported.tensors[tensor as usize]).ok();
            view.and_then(|view| view.to_i64s()).unwrap_or_default()
        });
        if let Some(slot) = values.get_mut(index as usize) {
            *slot = value;
        }
    }
    constants
}

fn patched_attributes(file: &OnnxFile, refit: &Refit) -> BTreeMap<(u32, String), Vec<i64>> {
    let mut attributes: BTreeMap<(u32, String), Vec<i64>> = BTreeMap::new();
    for (literal, &value) in &refit.patches {
        let (node, name, index) = match *literal {
            Literal::Constant { .. } => continue,
            Literal::Attribute { node, name, index } => (node, name.to_string(), index as usize),
            Literal::CallAttribute { node, attribute, index } => {
                let name = file.attribute(node, attribute).map(|attribute| attribute.name.clone());
                (node, name.unwrap_or_default(), index as usize)
            }
        };
        let found = attribute(file, node, &name);
        let values = attributes.entry((node, name)).or_insert_with(|| {
            found
                .map(|a| a.i.into_iter().chain(a.ints.iter().copied()).collect())
                .unwrap_or_default()
        });
        values.resize(values.len().max(index + 1), value);
        values[index] = value;
    }
    attributes
}

fn attribute<'f>(file: &'f OnnxFile, node: u32, name: &str) -> Option<&'f AttributeProto> {
    let attributes = &file.node(node).ok()?.attribute;
    attributes.iter().find(|attribute| attribute.name == name)
}

/// A number stays one; what is absent or a list is a list.
fn attribute_edit(file: &OnnxFile, node: u32, name: &str, values: Vec<i64>) -> AttributeEdit {
    let found = attribute(file, node, name);
    let number = found.is_some_and(|attribute| attribute.r#type != attribute_type::INTS);
    match values[..] {
        [value] if number => AttributeEdit::Int(value),
        _ => AttributeEdit::Ints(values),
    }
}

/// The new sizes of every named value that changes.
fn add_new_shapes(model: Analyzed<'_>, changes: &Changes, edits: &mut Edits) {
    let (graph, analysis) = (model.graph(), model.analysis);
    for &(body, ref name, id) in &model.imported.names {
        let (axes, value) = (analysis.value(id), graph.value(id));
        let old = value.shape.as_deref().unwrap_or_default();
        if name.is_empty() || axes.len() != old.len() || is_copy(model, value, edits) {
            continue;
        }
        let new: Vec<i64> = axes
            .iter()
            .map(|&axis| analysis.axes.sized(axis, &|atom| changes.size(atom)) as i64)
            .collect();
        if new.iter().zip(old).all(|(&new, old)| new == old.size as i64) {
            continue;
        }
        let new = new.into_iter().map(Some).collect();
        match body {
            BodyId::MAIN => edits.value_shapes.insert(name.clone(), new),
            _ => edits.inner_shapes.insert((body, name.clone()), new),
        };
    }
}

/// Whether a value is one of several uses of a stored tensor that is not cut in place as it is.
fn is_copy(model: Analyzed<'_>, value: &Value, edits: &Edits) -> bool {
    let Origin::Param(param) = value.origin else { return false };
    let param = model.graph().param(param);
    let names = |edit: &(u32, u32, String)| Some((edit.0, edit.1)) == param.only_use;
    let in_place = model.imported.tensors.get(param.tensor as usize);
    let cut = in_place.is_some_and(|at| edits.tensors.contains_key(at));
    !cut || edits.inputs.iter().any(names)
}

/// Names that are not taken yet.
struct Names {
    taken: BTreeSet<String>,
    /// The number that was given out last, by base.
    last: BTreeMap<String, usize>,
}

impl Names {
    fn new(file: &OnnxFile) -> Self {
        let mut names = BTreeSet::new();
        collect_names(file.graph(), &mut names);
        let taken = names.into_iter().map(str::to_owned).collect();
        Names { taken, last: BTreeMap::new() }
    }

    fn fresh(&mut self, base: &str) -> String {
        let last = self.last.entry(base.to_string()).or_insert(0);
        loop {
            *last += 1;
            let name = match *last {
                1 => base.to_string(),
                number => format!("{base}_{number}"),
            };
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}
