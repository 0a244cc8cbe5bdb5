//! Turns a model and its edits into a [`Rope`]: what to copy, what to replace, what to stream.
//!
//! Works on the wire format: a message without an edit inside is copied as it stands.

mod places;
mod tensor;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use super::bodies::{self, BodyId};
use super::changes::{Change, Changes};
use super::data_file::DataFile;
use super::encode::{
    encode_attribute, encode_more_inputs, encode_string, encode_value, encode_value_info,
};
use super::file::OnnxFile;
use super::proto::{self, AttributeProto, TensorProto};
use super::rope::{Elements, Payload, Rope, without};
use super::shapes::reshape;
use super::wire::{self, Wire};
use super::{AttributeEdit, Edits, TensorEdit, TensorRef};
use crate::{Error, Result};
use places::Places;
use tensor::decode;

/// A model ready to be written.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) model: Rope,
    /// The content of the data file, if there is one.
    pub(super) data: DataFile,
}

/// Applies `edits`. Tensors that were external go to the data file `data_name`; so do tensors of
/// more than `inline_limit` bytes, if there is one.
pub(super) fn rewrite(
    file: &OnnxFile,
    edits: &Edits,
    data_name: &str,
    inline_limit: Option<u64>,
) -> Result<Rewritten> {
    let changes = Changes::new(file, edits)?;
    let data = DataFile::new(data_name);
    let moves_data = inline_limit.is_some() || !file.data_files().is_empty();
    let mut rewriter = Rewriter {
        file,
        edits,
        changes,
        inline_limit,
        moves_data,
        data,
        initializers: BTreeMap::new(),
        nodes: BTreeMap::new(),
    };
    let model = rewriter.model()?;
    Ok(Rewritten { model, data: rewriter.data })
}

/// The messages that can hold a tensor.
#[derive(Clone, Copy)]
enum Kind {
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Function,
    Training,
}

impl Kind {
    fn child(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) | (Kind::SparseTensor, 1 | 2) => {
                Kind::Tensor
            }
            (Kind::Graph, 15) | (Kind::Attribute, 22 | 23) => Kind::SparseTensor,
            (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
            (Kind::Attribute, 6 | 11) | (Kind::Training, 1 | 2) => Kind::Graph,
            _ => return None,
        })
    }
}

struct Rewriter<'a> {
    file: &'a OnnxFile,
    edits: &'a Edits,
    changes: Changes<'a>,
    inline_limit: Option<u64>,
    /// Whether tensors without an edit may change their place.
    moves_data: bool,
    data: DataFile,
    /// How many of each the bodies have given so far.
    initializers: BTreeMap<BodyId, u32>,
    nodes: BTreeMap<BodyId, u32>,
}

impl<'a> Rewriter<'a> {
    fn bytes(&self) -> &'a Bytes {
        self.file.bytes()
    }

    fn model(&mut self) -> Result<Rope> {
        let range = 0..self.bytes().len();
        let last_graph = wire::last(self.bytes(), range.clone(), 7)?;
        let mut rope = Rope::default();
        let mut functions = 0;
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            let payload = field.payload.clone();
            let message = match (field.number, field.wire) {
                (7, Wire::Length) => {
                    let mut graph = self.graph(BodyId::MAIN, payload.clone())?;
                    if Some(payload) == last_graph {
                        self.add_initializers(&mut graph)?;
                    }
                    graph
                }
                (20, Wire::Length) => self.plain(Kind::Training, payload)?,
                (25, Wire::Length) => {
                    functions += 1;
                    self.function(bodies::Place::Function(functions - 1), payload)?
                }
                _ => {
                    rope.push_source(field.span);
                    continue;
                }
            };
            rope.push_changed(field, message);
        }
        Ok(rope)
    }

    /// A message without edits, in which only the place of tensors may change.
    fn plain(&mut self, kind: Kind, range: Range<usize>) -> Result<Rope> {
        if !self.moves_data {
            return Ok(Rope::source(range));
        }
        if matches!(kind, Kind::Tensor) {
            return self.tensor(range, None, None);
        }
        // Runtimes do not look for the parts of a sparse tensor in data files.
        let limit = self.inline_limit;
        if matches!(kind, Kind::SparseTensor) {
            self.inline_limit = None;
        }
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            self.plain_field(kind, field?, &mut rope)?;
        }
        self.inline_limit = limit;
        Ok(rope)
    }

    fn plain_field(&mut self, parent: Kind, field: wire::Field, rope: &mut Rope) -> Result<()> {
        match parent.child(field.number).filter(|_| field.wire == Wire::Length) {
            Some(kind) => {
                let message = self.plain(kind, field.payload.clone())?;
                rope.push_changed(field, message);
            }
            None => rope.push_source(field.span),
        }
        Ok(())
    }

    fn graph(&mut self, body: BodyId, range: Range<usize>) -> Result<Rope> {
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            let payload = field.payload.clone();
            match (field.number, field.wire) {
                (1, Wire::Length) => {
                    let node = self.node(body, payload)?;
                    rope.push_changed(field, node);
                }
                (5, Wire::Length) => {
                    let edit = self.next_initializer(body);
                    let tensor = self.tensor(payload.clone(), edit, None)?;
                    rope.push_changed(field, tensor);
                    self.file.release(&self.bytes()[payload]);
                }
                (11..=13, Wire::Length) => self.value_info(body, field, &mut rope)?,
                _ => self.plain_field(Kind::Graph, field, &mut rope)?,
            }
        }
        Ok(rope)
    }

    /// The edit of the next initializer of a graph.
    fn next_initializer(&mut self, body: BodyId) -> Option<&'a TensorEdit> {
        let first = self.file.bodies().first_initializer(body);
        let next = self.initializers.entry(body).or_insert(first);
        *next += 1;
        self.changes.initializers.get(&(*next - 1)).copied()
    }

    fn function(&mut self, place: bodies::Place, range: Range<usize>) -> Result<Rope> {
        let Some(body) = self.file.bodies().at(place) else {
            return self.plain(Kind::Function, range);
        };
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            match (field.number, field.wire) {
                (7, Wire::Length) => {
                    let node = self.node(body, field.payload.clone())?;
                    rope.push_changed(field, node);
                }
                (12, Wire::Length) => {
                    if self.inner_shape(body, &field)?.is_none() {
                        rope.push_source(field.span);
                    }
                }
                _ => self.plain_field(Kind::Function, field, &mut rope)?,
            }
        }
        Ok(rope)
    }

    fn add_initializers(&mut self, graph: &mut Rope) -> Result<()> {
        let declare = self.file.proto().ir_version.is_some_and(|version| version < 4);
        let places = Places::new(self.file, &self.edits.copies)?;
        for (name, source, edit) in &self.edits.copies {
            let range = places.tensor(self.bytes(), *source)?;
            let (tensor, data_type, dims) = self.copy(name, *source, range, edit)?;
            graph.push_message(5, tensor);
            if declare {
                graph.push_message(11, Rope::new(encode_value_info(name, data_type, &dims)));
            }
        }
        for (name, view) in &self.edits.literals {
            let data_type = proto::data_type(view.dtype).ok_or_else(|| {
                Error::argument(format!("`{name}` cannot be made: its type is {}", view.dtype))
            })?;
            let (elements, len) = (Elements::Dense(view.data.clone()), view.data.len() as u64);
            let payload = Payload { elements, cut: None, len };
            let tensor = self.new_tensor(name, data_type, &view.dims, payload);
            graph.push_message(5, tensor);
            if declare {
                graph.push_message(11, Rope::new(encode_value_info(name, data_type, &view.dims)));
            }
        }
        Ok(())
    }

    /// A new tensor from one of the source, with its element type and shape.
    fn copy(
        &mut self,
        name: &str,
        source: TensorRef,
        range: Option<Range<usize>>,
        edit: &TensorEdit,
    ) -> Result<(Rope, i32, Vec<usize>)> {
        let view = self.file.resolve(source)?;
        let dims = Change::new(&view, edit).map_err(|error| error.at(name))?.dims;
        if let Some(range) = range {
            let data_type = decode::<TensorProto>(self.bytes(), &range)?.data_type;
            return Ok((self.tensor(range, Some(edit), Some(name))?, data_type, dims));
        }
        let data_type = proto::data_type(view.dtype).unwrap_or(proto::INT64);
        let payload = Change::new(&view, edit)?.payload(Elements::Dense(view.data.clone()));
        Ok((self.new_tensor(name, data_type, &dims, payload), data_type, dims))
    }

    fn node(&mut self, body: BodyId, range: Range<usize>) -> Result<Rope> {
        let first = self.file.bodies().first_node(body);
        let next = self.nodes.entry(body).or_insert(first);
        let index = *next;
        *next += 1;
        let changes = self.changes.nodes.remove(&index);
        if changes.is_none() && !self.file.bodies().has_inside(index) {
            return self.plain(Kind::Node, range);
        }
        let mut changes = changes.unwrap_or_default();
        let mut rope = Rope::default();
        let (mut inputs, mut attributes) = (0, 0);
        let mut set = BTreeSet::new();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            match (field.number, field.wire) {
                (1, Wire::Length) => {
                    match changes.inputs.remove(&inputs) {
                        Some(name) => rope.push_new(encode_string(1, name)),
                        None => rope.push_source(field.span),
                    }
                    inputs += 1;
                }
                (5, Wire::Length) => {
                    let attribute = self.file.attribute(index, attributes)?;
                    let edit = changes.tensors.get(&attributes).copied();
                    let place = (index, attributes);
                    attributes += 1;
                    match changes.attributes.get(attribute.name.as_str()) {
                        Some(value) => {
                            set.insert(attribute.name.as_str());
                            self.set_attribute(field, value, &mut rope)?;
                        }
                        None => {
                            let range = field.payload.clone();
                            let message = match edit {
                                Some(edit) => self.attribute(range, attribute, edit)?,
                                None => self.graphs(place, range)?,
                            };
                            rope.push_changed(field, message);
                        }
                    }
                }
                _ => rope.push_source(field.span),
            }
        }
        rope.push_new(encode_more_inputs(inputs, &changes.inputs));
        for (name, value) in changes.attributes {
            if !set.contains(name) {
                rope.push_new(encode_attribute(name, value));
            }
        }
        Ok(rope)
    }

    fn set_attribute(
        &self,
        field: wire::Field,
        value: &AttributeEdit,
        rope: &mut Rope,
    ) -> Result<()> {
        const VALUES: [u32; 15] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 20, 22, 23];
        let Some(encoded) = encode_value(value) else { return Ok(()) };
        let mut message = without(self.bytes(), field.payload.clone(), &VALUES)?;
        message.push_new(encoded);
        rope.push_message(field.number, message);
        Ok(())
    }

    fn attribute(
        &mut self,
        range: Range<usize>,
        attribute: &AttributeProto,
        edit: &TensorEdit,
    ) -> Result<Rope> {
        if attribute.t.is_none() {
            return self.numbers(range, attribute, edit);
        }
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            if field.number == 5 && field.wire == Wire::Length {
                let tensor = self.tensor(field.payload.clone(), Some(edit), None)?;
                rope.push_changed(field, tensor);
            } else {
                rope.push_source(field.span);
            }
        }
        Ok(rope)
    }

    /// An attribute, with the edits of the graphs in it.
    fn graphs(&mut self, (node, attribute): (u32, u32), range: Range<usize>) -> Result<Rope> {
        let mut rope = Rope::default();
        let mut listed = 0;
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            let graph = match (field.number, field.wire) {
                (6, Wire::Length) => 0,
                (11, Wire::Length) => {
                    listed += 1;
                    listed
                }
                _ => {
                    self.plain_field(Kind::Attribute, field, &mut rope)?;
                    continue;
                }
            };
            let place = bodies::Place::Inside { node, attribute, graph };
            let message = match self.file.bodies().at(place) {
                Some(body) => self.graph(body, field.payload.clone())?,
                None => self.plain(Kind::Graph, field.payload.clone())?,
            };
            rope.push_changed(field, message);
        }
        Ok(rope)
    }

    fn value_info(&mut self, body: BodyId, field: wire::Field, rope: &mut Rope) -> Result<()> {
        const TYPE_TENSOR_SHAPE: [u32; 3] = [2, 1, 2];
        let name = self.name(&field)?;
        let is_main = body == BodyId::MAIN;
        if is_main && field.number == 13 && self.edits.drop_value_info.contains(name) {
            return Ok(());
        }
        let dims = match is_main {
            true => self.changes.shapes.get(name),
            false => self.inner_shape(body, &field)?,
        };
        let Some(dims) = dims else {
            rope.push_source(field.span);
            return Ok(());
        };
        let message = reshape(self.bytes(), field.payload.clone(), &TYPE_TENSOR_SHAPE, dims);
        rope.push_changed(field, message.map_err(|error| error.at(format!("value `{name}`")))?);
        Ok(())
    }

    /// The name in a `ValueInfoProto`.
    fn name(&self, field: &wire::Field) -> Result<&'a str> {
        let name = wire::last(self.bytes(), field.payload.clone(), 1)?;
        let name = name.and_then(|range| std::str::from_utf8(&self.bytes()[range]).ok());
        Ok(name.unwrap_or_default())
    }

    fn inner_shape(
        &self,
        body: BodyId,
        field: &wire::Field,
    ) -> Result<Option<&'a Vec<Option<i64>>>> {
        if self.edits.inner_shapes.is_empty() {
            return Ok(None);
        }
        let name = self.name(field)?.to_string();
        Ok(self.edits.inner_shapes.get(&(body, name)))
    }
}
