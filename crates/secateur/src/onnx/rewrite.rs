//! Turns a model and its edits into a [`Rope`]: what to copy, what to replace, what to stream.
//!
//! Works on the wire format: a message without an edit inside is copied as it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use super::file::{Numeric, OnnxFile, numeric_kind};
use super::proto::{self, AttributeProto, GraphProto, TensorProto, attribute_type};
use super::rope::{Elements, Payload, Rope};
use super::wire::{self, Wire};
use super::{AttributeEdit, Edits, TensorEdit, TensorRef};
use crate::tensor::{Cut, TensorView, byte_len, element_count};
use crate::{DType, Error, Result};

/// A model ready to be written.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) model: Rope,
    /// The content of the data file, if there is one.
    pub(super) data: DataFile,
}

/// The data file in the making.
#[derive(Debug)]
pub(super) struct DataFile {
    /// Its name, as the model refers to it.
    pub(super) name: String,
    /// What stands at which offset; ascending, not overlapping.
    pub(super) payloads: Vec<(u64, Payload)>,
    end: u64,
}

impl DataFile {
    fn place(&mut self, payload: Payload) -> u64 {
        const PAGE: u64 = 4096;
        const CACHE_LINE: u64 = 64;
        let alignment = if payload.len >= 1 << 16 { PAGE } else { CACHE_LINE };
        let offset = self.end.next_multiple_of(alignment);
        self.end = offset + payload.len;
        self.payloads.push((offset, payload));
        offset
    }
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
    let data = DataFile { name: data_name.to_owned(), payloads: Vec::new(), end: 0 };
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

/// Edits by the place they apply to, checked against the model.
struct Changes<'a> {
    initializers: BTreeMap<u32, &'a TensorEdit>,
    nodes: BTreeMap<u32, NodeChanges<'a>>,
    shapes: BTreeMap<&'a str, Vec<Option<i64>>>,
}

#[derive(Default)]
struct NodeChanges<'a> {
    tensors: BTreeMap<u32, &'a TensorEdit>,
    inputs: BTreeMap<u32, &'a str>,
    attributes: BTreeMap<&'a str, &'a AttributeEdit>,
}

impl<'a> Changes<'a> {
    fn new(file: &'a OnnxFile, edits: &'a Edits) -> Result<Self> {
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
        Ok(changes)
    }

    fn add_tensor(
        &mut self,
        file: &'a OnnxFile,
        at: TensorRef,
        edit: &'a TensorEdit,
    ) -> Result<()> {
        match at {
            TensorRef::Initializer(index) => {
                let tensor = file.initializer(index)?;
                if let Some(dims) = edited_dims(tensor, edit)? {
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

/// The declared shape after an edit; `None` when the edit keeps it.
fn edited_dims(tensor: &TensorProto, edit: &TensorEdit) -> Result<Option<Vec<Option<i64>>>> {
    let declared = |dims: &[usize]| dims.iter().map(|&dim| i64::try_from(dim).ok()).collect();
    match edit {
        TensorEdit::Zero(_) => Ok(None),
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

fn collect_names<'a>(graph: &'a GraphProto, names: &mut BTreeSet<&'a str>) {
    names.extend(graph.input.iter().map(|value| value.name.as_str()));
    names.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    names.extend(sparse.map(|tensor| tensor.name.as_str()));
    for node in &graph.node {
        names.extend(node.output.iter().map(String::as_str));
        for attribute in &node.attribute {
            let graphs = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
            graphs.for_each(|graph| collect_names(graph, names));
        }
    }
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
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            self.plain_field(kind, field?, &mut rope)?;
        }
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
        for (name, source, edit) in &self.edits.copies {
            let (tensor, data_type, dims) = self.copy(name, *source, edit)?;
            graph.push_message(5, tensor);
            if declare {
                graph.push_message(11, Rope::new(encode_value_info(name, data_type, &dims)));
            }
        }
        for (name, dims, values) in &self.edits.literals {
            let tensor = self.literal(name, dims, values)?;
            graph.push_message(5, tensor);
            if declare {
                graph.push_message(11, Rope::new(encode_value_info(name, proto::INT64, dims)));
            }
        }
        Ok(())
    }

    /// A new tensor from one of the source, with its element type and shape.
    fn copy(
        &mut self,
        name: &str,
        source: TensorRef,
        edit: &TensorEdit,
    ) -> Result<(Rope, i32, Vec<usize>)> {
        let view = self.file.resolve(source)?;
        let dims = Change::new(&view, edit).map_err(|error| error.at(name))?.dims;
        if let Some(range) = self.locate(source)? {
            let data_type = decode::<TensorProto>(self.bytes(), &range)?.data_type;
            return Ok((self.tensor(range, Some(edit), Some(name))?, data_type, dims));
        }
        let data_type = if view.dtype == DType::F32 { proto::FLOAT } else { proto::INT64 };
        let payload = Change::new(&view, edit)?.payload(Elements::Dense(view.data.clone()));
        Ok((self.new_tensor(name, data_type, &dims, payload), data_type, dims))
    }

    /// Where the `TensorProto` of a reference is; `None` for the numbers of a `Constant`.
    fn locate(&self, source: TensorRef) -> Result<Option<Range<usize>>> {
        let bytes = self.bytes();
        let nth = |ranges: Vec<Range<usize>>, index: u32| ranges.into_iter().nth(index as usize);
        let mut parts = (Vec::new(), Vec::new());
        for graph in wire::all(bytes, 0..bytes.len(), 7)? {
            parts.0.extend(wire::all(bytes, graph.clone(), 1)?);
            parts.1.extend(wire::all(bytes, graph, 5)?);
        }
        match source {
            TensorRef::Initializer(index) => Ok(nth(parts.1, index)),
            TensorRef::Attribute { node, attribute } => {
                let Some(node) = nth(parts.0, node) else { return Ok(None) };
                let Some(attribute) = nth(wire::all(bytes, node, 5)?, attribute) else {
                    return Ok(None);
                };
                wire::last(bytes, attribute, 5)
            }
        }
    }

    fn literal(&mut self, name: &str, dims: &[usize], values: &[i64]) -> Result<Rope> {
        let data = encode_ints(DType::I64, dims, values).map_err(|error| error.at(name))?;
        let len = data.len() as u64;
        let payload = Payload { elements: Elements::Dense(data.into()), cut: None, len };
        Ok(self.new_tensor(name, proto::INT64, dims, payload))
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
        let mut message = self.without(field.payload.clone(), &VALUES)?;
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
        let mut rope = self.without(range, &[number])?;
        rope.push_new(encode_numbers(number, &view));
        Ok(rope)
    }

    /// A message without the fields `numbers`.
    fn without(&self, range: Range<usize>, numbers: &[u32]) -> Result<Rope> {
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            if !numbers.contains(&field.number) {
                rope.push_source(field.span);
            }
        }
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
        let rest = self.without(range, &dropped)?;
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
        let message = self.reshape(field.payload.clone(), &TYPE_TENSOR_SHAPE, dims);
        rope.push_changed(field, message.map_err(|error| error.at(format!("value `{name}`")))?);
        Ok(())
    }

    /// Sets the sizes of the shape that is found along `path`.
    fn reshape(&self, range: Range<usize>, path: &[u32], dims: &[Option<i64>]) -> Result<Rope> {
        let Some((&number, path)) = path.split_first() else { return self.shape(range, dims) };
        let mut rope = Rope::default();
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            if field.number == number && field.wire == Wire::Length {
                let message = self.reshape(field.payload.clone(), path, dims)?;
                rope.push_changed(field, message);
            } else {
                rope.push_source(field.span);
            }
        }
        Ok(rope)
    }

    fn shape(&self, range: Range<usize>, dims: &[Option<i64>]) -> Result<Rope> {
        let mut rope = Rope::default();
        let mut axis = 0;
        for field in wire::fields(self.bytes(), range) {
            let field = field?;
            if field.number != 1 || field.wire != Wire::Length {
                rope.push_source(field.span);
                continue;
            }
            let size = dims.get(axis).copied().flatten();
            axis += 1;
            let message = self.dimension(field.payload.clone(), size)?;
            rope.push_changed(field, message);
        }
        if axis != dims.len() {
            let expected = dims.len();
            return Err(Error::argument(format!("it has {axis} axes, its new shape {expected}")));
        }
        Ok(rope)
    }

    fn dimension(&self, range: Range<usize>, size: Option<i64>) -> Result<Rope> {
        const VALUE: u32 = 1;
        let found = wire::last_varint(self.bytes(), range.clone(), VALUE)?;
        let symbolic = wire::last(self.bytes(), range.clone(), 2)?.is_some();
        let (Some(size), Some(found), false) = (size, found, symbolic) else {
            return Ok(Rope::source(range));
        };
        if found.cast_signed() == size {
            return Ok(Rope::source(range));
        }
        let mut value = Vec::new();
        wire::put_int(&mut value, VALUE, size);
        let mut rope = Rope::new(value);
        let rest = self.without(range, &[VALUE])?;
        rope.append(rest);
        Ok(rope)
    }
}

/// A tensor edit, checked against the tensor.
struct Change {
    dims: Vec<usize>,
    kind: ChangeKind,
}

enum ChangeKind {
    Cut(Cut),
    Values(Bytes),
}

impl Change {
    fn new(view: &TensorView, edit: &TensorEdit) -> Result<Self> {
        match edit {
            TensorEdit::Keep(keep) => Cut::keep(view.dtype, &view.dims, keep).map(Self::cut),
            TensorEdit::Zero(keep) => Cut::zero(view.dtype, &view.dims, keep).map(Self::cut),
            TensorEdit::Ints(dims, values) => {
                let data = encode_ints(view.dtype, dims, values)?.into();
                Ok(Self { dims: dims.clone(), kind: ChangeKind::Values(data) })
            }
        }
    }

    fn cut(cut: Cut) -> Self {
        Self { dims: cut.dims().to_vec(), kind: ChangeKind::Cut(cut) }
    }

    fn payload(self, elements: Elements) -> Payload {
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

    fn apply(self, view: &TensorView) -> Result<TensorView> {
        let data = match self.kind {
            ChangeKind::Cut(cut) => cut.to_vec(&view.data)?.into(),
            ChangeKind::Values(data) => data,
        };
        TensorView::new(view.dtype, self.dims, data)
    }
}

fn decode<M: Message + Default>(bytes: &Bytes, range: &Range<usize>) -> Result<M> {
    M::decode(bytes.slice(range.clone())).map_err(Error::malformed)
}

fn has_raw(tensor: &TensorProto) -> bool {
    tensor.raw_data.as_ref().is_some_and(|raw| !raw.is_empty())
}

fn encode_ints(dtype: DType, dims: &[usize], values: &[i64]) -> Result<Vec<u8>> {
    let count = element_count(dims)?;
    if count != values.len() {
        let found = values.len();
        return Err(Error::argument(format!("shape {dims:?} takes {count} values, found {found}")));
    }
    let mut out = Vec::with_capacity(byte_len(dtype, dims)?);
    for &value in values {
        let fits = match dtype {
            DType::I64 => put(&mut out, Some(value.to_le_bytes())),
            DType::I32 => put(&mut out, i32::try_from(value).ok().map(i32::to_le_bytes)),
            DType::I16 => put(&mut out, i16::try_from(value).ok().map(i16::to_le_bytes)),
            DType::I8 => put(&mut out, i8::try_from(value).ok().map(i8::to_le_bytes)),
            DType::U64 => put(&mut out, u64::try_from(value).ok().map(u64::to_le_bytes)),
            DType::U32 => put(&mut out, u32::try_from(value).ok().map(u32::to_le_bytes)),
            DType::U16 => put(&mut out, u16::try_from(value).ok().map(u16::to_le_bytes)),
            DType::U8 => put(&mut out, u8::try_from(value).ok().map(u8::to_le_bytes)),
            _ => return Err(Error::argument(format!("a {dtype} tensor takes no integers"))),
        };
        fits.ok_or_else(|| Error::argument(format!("{value} does not fit into {dtype}")))?;
    }
    Ok(out)
}

fn put<const N: usize>(out: &mut Vec<u8>, word: Option<[u8; N]>) -> Option<()> {
    out.extend(word?);
    Some(())
}

fn encode_string(number: u32, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes(&mut out, number, value.as_bytes());
    out
}

fn encode_dims(dims: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    dims.iter().for_each(|&dim| wire::put_int(&mut out, 1, dim as i64));
    out
}

fn encode_value_info(name: &str, data_type: i32, dims: &[usize]) -> Vec<u8> {
    let mut shape = Vec::new();
    for &dim in dims {
        wire::put_bytes(&mut shape, 1, &encode_dims(&[dim]));
    }
    let mut tensor = Vec::new();
    wire::put_int(&mut tensor, 1, data_type.into());
    wire::put_bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    wire::put_bytes(&mut kind, 1, &tensor);
    let mut out = encode_string(1, name);
    wire::put_bytes(&mut out, 2, &kind);
    out
}

/// The inputs of a node from `present` on; names that are not set are empty.
fn encode_more_inputs(present: u32, names: &BTreeMap<u32, &str>) -> Vec<u8> {
    let end = names.last_key_value().map_or(present, |(last, _)| last + 1);
    let name = |index| names.get(&index).copied().unwrap_or_default();
    (present..end).flat_map(|index| encode_string(1, name(index))).collect()
}

fn encode_attribute(name: &str, value: &AttributeEdit) -> Vec<u8> {
    let Some(encoded) = encode_value(value) else { return Vec::new() };
    let mut out = Vec::new();
    wire::put_bytes(&mut out, 5, &[encode_string(1, name), encoded].concat());
    out
}

/// The value and type fields of an attribute; `None` for a removal.
fn encode_value(value: &AttributeEdit) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match value {
        AttributeEdit::Int(value) => {
            wire::put_int(&mut out, 3, *value);
            wire::put_int(&mut out, 20, attribute_type::INT.into());
        }
        AttributeEdit::Ints(values) => {
            values.iter().for_each(|&value| wire::put_int(&mut out, 8, value));
            wire::put_int(&mut out, 20, attribute_type::INTS.into());
        }
        AttributeEdit::Remove => return None,
    }
    Some(out)
}

fn encode_numbers(number: u32, view: &TensorView) -> Vec<u8> {
    let mut out = Vec::new();
    match view.to_i64s() {
        Some(values) => values.iter().for_each(|&value| wire::put_int(&mut out, number, value)),
        None => view
            .data
            .as_chunks()
            .0
            .iter()
            .for_each(|&word| wire::put_float(&mut out, number, f32::from_le_bytes(word))),
    }
    out
}
