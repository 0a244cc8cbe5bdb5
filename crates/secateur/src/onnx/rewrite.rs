//! Turns a model and its edits into a [`Rope`]: what to copy, what to replace, what to stream.
//!
//! Works on the wire format: a message without an edit inside is copied as it stands.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use super::changes::{Change, Changes};
use super::data_file::DataFile;
use super::encode::{
    encode_attribute, encode_dims, encode_more_inputs, encode_numbers, encode_string, encode_value,
    encode_value_info,
};
use super::file::{Numeric, OnnxFile, numeric_kind};
use super::proto::{self, AttributeProto, TensorProto};
use super::rope::{Elements, Payload, Rope, without};
use super::shapes::reshape;
use super::wire::{self, Wire};
use super::{AttributeEdit, Edits, TensorEdit, TensorRef};
use crate::{DType, Error, Result};

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
        initializers: 0,
        nodes: 0,
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
    /// How many of each the main graph has given so far.
    initializers: u32,
    nodes: u32,
}

impl<'a> Rewriter<'a> {
    fn bytes(&self) -> &'a Bytes {
        self.file.bytes()
    }

    fn model(&mut self) -> Result<Rope> {
        let range = 0..self.bytes().len();
        let last_graph = wire::last(self.bytes(), range.clone(), 7)?;
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            let payload = field.payload.clone();
            let message = match (field.number, field.wire) {
                (7, Wire::Length) => {
                    let mut graph = self.main_graph(payload.clone())?;
                    if Some(payload) == last_graph {
                        self.add_initializers(&mut graph)?;
                    }
                    graph
                }
                (20, Wire::Length) => self.plain(Kind::Training, payload)?,
                (25, Wire::Length) => self.plain(Kind::Function, payload)?,
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

    fn main_graph(&mut self, range: Range<usize>) -> Result<Rope> {
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            let payload = field.payload.clone();
            match (field.number, field.wire) {
                (1, Wire::Length) => {
                    let node = self.node(payload)?;
                    rope.push_changed(field, node);
                }
                (5, Wire::Length) => {
                    let edit = self.changes.initializers.get(&self.initializers).copied();
                    self.initializers += 1;
                    let tensor = self.tensor(payload, edit, None)?;
                    rope.push_changed(field, tensor);
                }
                (11..=13, Wire::Length) => self.value_info(field, &mut rope)?,
                _ => self.plain_field(Kind::Graph, field, &mut rope)?,
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

    fn new_tensor(&mut self, name: &str, data_type: i32, dims: &[usize], payload: Payload) -> Rope {
        let mut head = encode_dims(dims);
        wire::put_int(&mut head, 2, data_type.into());
        wire::put_bytes(&mut head, 8, name.as_bytes());
        let mut rope = Rope::new(head);
        self.push_elements(&mut rope, payload, false);
        rope
    }

    fn node(&mut self, range: Range<usize>) -> Result<Rope> {
        let index = self.nodes;
        self.nodes += 1;
        let Some(mut changes) = self.changes.nodes.remove(&index) else {
            return self.plain(Kind::Node, range);
        };
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
                    attributes += 1;
                    match changes.attributes.get(attribute.name.as_str()) {
                        Some(value) => {
                            set.insert(attribute.name.as_str());
                            self.set_attribute(field, value, &mut rope)?;
                        }
                        None => {
                            let message = self.attribute(field.payload.clone(), attribute, edit)?;
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
        edit: Option<&TensorEdit>,
    ) -> Result<Rope> {
        let Some(edit) = edit else { return self.plain(Kind::Attribute, range) };
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

    /// The number or numbers of a `Constant`, edited as if they were a tensor.
    fn numbers(
        &self,
        range: Range<usize>,
        attribute: &AttributeProto,
        edit: &TensorEdit,
    ) -> Result<Rope> {
        let place = |error: Error| error.at(format!("attribute `{}`", attribute.name));
        let (Some(view), Some(kind)) = (self.file.constant(attribute)?, numeric_kind(attribute))
        else {
            return Err(place(Error::argument("it holds no numbers")));
        };
        let view =
            Change::new(&view, edit).and_then(|change| change.apply(&view)).map_err(place)?;
        if view.dims.len() != usize::from(matches!(kind, Numeric::Floats | Numeric::Ints)) {
            return Err(place(Error::argument(format!("it cannot take shape {:?}", view.dims))));
        }
        let number = match kind {
            Numeric::Float => 2,
            Numeric::Int => 3,
            Numeric::Floats => 7,
            Numeric::Ints => 8,
        };
        let mut rope = without(self.bytes(), range, &[number])?;
        rope.push_new(encode_numbers(number, &view));
        Ok(rope)
    }

    fn tensor(
        &mut self,
        range: Range<usize>,
        edit: Option<&TensorEdit>,
        rename: Option<&str>,
    ) -> Result<Rope> {
        const DIMS: u32 = 1;
        const NAME: u32 = 8;
        const ELEMENTS: [u32; 9] = [4, 5, 6, 7, 9, 10, 11, 13, 14];
        let is_external = wire::last_varint(self.bytes(), range.clone(), 14)? == Some(1);
        let may_move = is_external || self.inline_limit.is_some_and(|max| range.len() as u64 > max);
        if edit.is_none() && rename.is_none() && !may_move {
            return Ok(Rope::source(range));
        }
        let tensor = decode::<TensorProto>(self.bytes(), &range)?;
        let Some((dims, payload)) = self.content(&tensor, &range, edit)? else {
            return Ok(Rope::source(range));
        };
        let mut dropped = ELEMENTS.to_vec();
        dropped.extend(dims.as_ref().map(|_| DIMS));
        dropped.extend(rename.map(|_| NAME));
        let mut rope = Rope::new(encode_dims(&dims.unwrap_or_default()));
        let rest = without(self.bytes(), range, &dropped)?;
        rope.append(rest);
        rope.push_new(rename.map_or_else(Vec::new, |name| encode_string(NAME, name)));
        self.push_elements(&mut rope, payload, is_external);
        Ok(rope)
    }

    /// The elements of a tensor after an edit, and its shape where that is new; `None` for elements
    /// that can only stay as they are.
    fn content(
        &self,
        tensor: &TensorProto,
        range: &Range<usize>,
        edit: Option<&TensorEdit>,
    ) -> Result<Option<(Option<Vec<usize>>, Payload)>> {
        let place = |error: Error| error.at(format!("tensor `{}`", tensor.name));
        if edit.is_none() && (tensor.is_external() || has_raw(tensor)) {
            let raw = tensor.raw_data.clone().filter(|_| !tensor.is_external());
            let data = raw.map_or_else(|| self.file.external_bytes(tensor), Ok)?;
            let len = data.len() as u64;
            return Ok(Some((None, Payload { elements: Elements::Dense(data), cut: None, len })));
        }
        let known = proto::dtype(tensor.data_type).filter(|&dtype| dtype != DType::String);
        if edit.is_none() && known.is_none() {
            return Ok(None);
        }
        let view = self.file.tensor(tensor)?;
        let elements = if tensor.is_external() || has_raw(tensor) {
            Elements::Dense(view.data.clone())
        } else {
            Elements::Typed(range.clone())
        };
        let Some(edit) = edit else {
            let len = view.data.len() as u64;
            return Ok(Some((None, Payload { elements, cut: None, len })));
        };
        let change = Change::new(&view, edit).map_err(place)?;
        Ok(Some((Some(change.dims.clone()), change.payload(elements))))
    }

    fn push_elements(&mut self, rope: &mut Rope, payload: Payload, was_external: bool) {
        let large = self.inline_limit.is_some_and(|max| payload.len > max);
        if payload.len == 0 || !(was_external || large) {
            rope.push_data(9, payload);
            return;
        }
        let len = payload.len;
        let offset = self.data.place(payload);
        let mut fields = Vec::new();
        let (offset, len) = (offset.to_string(), len.to_string());
        for (key, value) in [("location", &self.data.name), ("offset", &offset), ("length", &len)] {
            let entry = [encode_string(1, key), encode_string(2, value)].concat();
            wire::put_bytes(&mut fields, 13, &entry);
        }
        wire::put_int(&mut fields, 14, 1);
        rope.push_new(fields);
    }

    fn value_info(&mut self, field: wire::Field, rope: &mut Rope) -> Result<()> {
        const TYPE_TENSOR_SHAPE: [u32; 3] = [2, 1, 2];
        let name = wire::last(self.bytes(), field.payload.clone(), 1)?;
        let name = name.and_then(|range| std::str::from_utf8(&self.bytes()[range]).ok());
        let name = name.unwrap_or_default();
        if field.number == 13 && self.edits.drop_value_info.contains(name) {
            return Ok(());
        }
        let Some(dims) = self.changes.shapes.get(name) else {
            rope.push_source(field.span);
            return Ok(());
        };
        let message = reshape(self.bytes(), field.payload.clone(), &TYPE_TENSOR_SHAPE, dims);
        rope.push_changed(field, message.map_err(|error| error.at(format!("value `{name}`")))?);
        Ok(())
    }
}

/// Where the messages of the main graph are.
#[derive(Default)]
struct Places {
    initializers: Vec<Range<usize>>,
    nodes: Vec<Range<usize>>,
}

impl Places {
    /// Looks only when there is something to find.
    fn new<T>(file: &OnnxFile, needed: &[T]) -> Result<Self> {
        let mut places = Self::default();
        if needed.is_empty() {
            return Ok(places);
        }
        let bytes = file.bytes();
        for graph in wire::all(bytes, 0..bytes.len(), 7)? {
            places.nodes.extend(wire::all(bytes, graph.clone(), 1)?);
            places.initializers.extend(wire::all(bytes, graph, 5)?);
        }
        Ok(places)
    }

    /// The `TensorProto` of a reference; `None` for the numbers of a `Constant`.
    fn tensor(&self, bytes: &[u8], at: TensorRef) -> Result<Option<Range<usize>>> {
        match at {
            TensorRef::Initializer(index) => Ok(self.initializers.get(index as usize).cloned()),
            TensorRef::Attribute { node, attribute } => {
                let Some(node) = self.nodes.get(node as usize) else { return Ok(None) };
                let attributes = wire::all(bytes, node.clone(), 5)?;
                let Some(range) = attributes.get(attribute as usize) else { return Ok(None) };
                wire::last(bytes, range.clone(), 5)
            }
        }
    }
}

fn decode<M: Message + Default>(bytes: &Bytes, range: &Range<usize>) -> Result<M> {
    M::decode(bytes.slice(range.clone())).map_err(Error::malformed)
}

fn has_raw(tensor: &TensorProto) -> bool {
    tensor.raw_data.as_ref().is_some_and(|raw| !raw.is_empty())
}
