//! An ONNX file in memory: messages, and tensors as dense data.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use prost::Message;

use super::bodies::{Bodies, BodyId};
use super::external::{self, ExternalFiles};
use super::proto::{self, AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use super::proto::{SparseTensorProto, attribute_type};
use super::{TensorRef, wire};
use crate::disk::Mapped;
use crate::tensor::{TensorView, byte_len};
use crate::{DType, Error, Result};

/// A mapped and parsed ONNX model. Weights stay on disk until they are read.
///
/// The file must not be changed in place while it is open; replacing it by another is safe.
#[derive(Debug)]
pub struct OnnxFile {
    path: PathBuf,
    source: Mapped,
    proto: ModelProto,
    bodies: Bodies,
    external: ExternalFiles,
}

impl OnnxFile {
    /// Maps and parses the model at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, is not ONNX, or is truncated.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_mapped(Mapped::open(path)?, path)
    }

    /// Parses a model in memory. Messages call it `path`; external data is looked up next to that.
    ///
    /// # Errors
    /// When the bytes are not ONNX, or are truncated.
    pub fn parse(bytes: Bytes, path: &Path) -> Result<Self> {
        Self::from_mapped(Mapped::from_bytes(bytes), path)
    }

    fn from_mapped(source: Mapped, path: &Path) -> Result<Self> {
        let proto = parse_model(&source).map_err(|error| {
            let place = format!("`{}`", path.display());
            match other_format(source.bytes()) {
                Some((name, hint)) => {
                    Error::malformed(format!("{place} is {name}, not an ONNX model")).hint(hint)
                }
                None => error.at(place),
            }
        })?;
        let (bodies, external) = (Bodies::new(&proto), ExternalFiles::new(path));
        Ok(Self { path: path.to_owned(), source, proto, bodies, external })
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The parsed model.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The main graph.
    pub fn graph(&self) -> &GraphProto {
        static EMPTY: std::sync::LazyLock<GraphProto> = std::sync::LazyLock::new(Default::default);
        self.proto.graph.as_ref().unwrap_or(&EMPTY)
    }

    /// The size on disk in bytes: the file and the data files it names, as far as they are there.
    pub fn byte_size(&self) -> u64 {
        let size = |name: &str| Some(fs::metadata(self.external.resolve(name).ok()?).ok()?.len());
        let data: u64 = self.data_files().into_iter().filter_map(size).sum();
        self.source.bytes().len() as u64 + data
    }

    /// The names of the external data files that the model's tensors are in.
    pub fn data_files(&self) -> BTreeSet<&str> {
        let mut files = BTreeSet::new();
        visit_model(&self.proto, &mut |tensor| {
            files.extend(external::file_name(tensor).filter(|_| tensor.is_external()));
        });
        files
    }

    /// The elements of a tensor of this model: borrowed from the file when they are raw or
    /// external, converted when they are in a typed field. A string tensor comes without elements.
    ///
    /// # Errors
    /// When shape and data disagree, the element type is unknown, or external data cannot be read.
    pub fn tensor(&self, tensor: &TensorProto) -> Result<TensorView> {
        self.view(tensor).map_err(|error| error.at(format!("tensor `{}`", tensor.name)))
    }

    fn view(&self, tensor: &TensorProto) -> Result<TensorView> {
        let dims = dims(tensor)?;
        let dtype = dtype(tensor)?;
        if tensor.segment.is_some() {
            return Err(Error::unsupported("its data is in segments"));
        }
        if dtype == DType::String {
            return TensorView::new(dtype, dims, Bytes::new());
        }
        let len = byte_len(dtype, &dims)?;
        let data = if tensor.is_external() {
            self.external.bytes(tensor, Some(len))?
        } else {
            match &tensor.raw_data {
                Some(raw) if !raw.is_empty() => raw.clone(),
                _ => typed_bytes(dtype, tensor).into(),
            }
        };
        TensorView::new(dtype, dims, data)
    }

    /// The value of an attribute as a tensor: a tensor, number or list of numbers; `None` for other
    /// kinds.
    ///
    /// # Errors
    /// As [`OnnxFile::tensor`].
    pub fn constant(&self, attribute: &AttributeProto) -> Result<Option<TensorView>> {
        if let Some(tensor) = &attribute.t {
            return self.tensor(tensor).map(Some);
        }
        let (dtype, dims, data) = match numeric_kind(attribute) {
            Some(Numeric::Float) => (DType::F32, vec![], float_bytes(attribute.f.as_slice())),
            Some(Numeric::Int) => (DType::I64, vec![], int_bytes(attribute.i.as_slice())),
            Some(Numeric::Floats) => {
                (DType::F32, vec![attribute.floats.len()], float_bytes(&attribute.floats))
            }
            Some(Numeric::Ints) => {
                (DType::I64, vec![attribute.ints.len()], int_bytes(&attribute.ints))
            }
            None => return Ok(None),
        };
        TensorView::new(dtype, dims, data.into()).map(Some)
    }

    /// The tensor that `at` names.
    ///
    /// # Errors
    /// When there is none, or as [`OnnxFile::tensor`].
    pub fn resolve(&self, at: TensorRef) -> Result<TensorView> {
        match at {
            TensorRef::Initializer(index) => self.tensor(self.initializer(index)?),
            TensorRef::Attribute { node, attribute } => {
                let value = self.constant(self.attribute(node, attribute)?)?;
                value.ok_or_else(|| Error::argument(format!("{at:?} holds no numbers")))
            }
        }
    }

    /// How ONNX names the element type of the tensor that `at` names.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn data_type(&self, at: TensorRef) -> Result<i32> {
        Ok(match at {
            TensorRef::Initializer(index) => self.initializer(index)?.data_type,
            TensorRef::Attribute { node, attribute } => {
                let tensor = self.attribute(node, attribute)?.t.as_deref();
                tensor.map_or(proto::INT64, |tensor| tensor.data_type)
            }
        })
    }

    /// Lets the system drop the pages that hold this part of a view, which keeps memory low while
    /// a large model is read piece by piece. The view stays valid.
    pub fn release(&self, part: &[u8]) {
        self.source.release(part);
        self.external.release(part);
    }

    pub(super) fn bytes(&self) -> &Bytes {
        self.source.bytes()
    }

    /// The external elements of a tensor of any type, even one that cannot be read.
    pub(super) fn external_bytes(&self, tensor: &TensorProto) -> Result<Bytes> {
        let len = proto::dtype(tensor.data_type)
            .filter(|&dtype| dtype != DType::String)
            .map(|dtype| byte_len(dtype, &dims(tensor)?))
            .transpose()?;
        let bytes = self.external.bytes(tensor, len);
        bytes.map_err(|error| error.at(format!("tensor `{}`", tensor.name)))
    }

    pub(super) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// The nodes of a body.
    pub(super) fn nodes(&self, body: BodyId) -> &[NodeProto] {
        self.bodies.nodes(&self.proto, body)
    }

    /// The graph of a body; `None` for a function.
    pub(super) fn body_graph(&self, body: BodyId) -> Option<&GraphProto> {
        self.bodies.graph(&self.proto, body)
    }

    /// All nodes, in the order of their numbers.
    pub(super) fn all_nodes(&self) -> impl Iterator<Item = &NodeProto> {
        self.bodies.ids().flat_map(|body| self.nodes(body))
    }

    pub(super) fn initializer(&self, index: u32) -> Result<&TensorProto> {
        let found = self.bodies.initializer(&self.proto, index);
        found.ok_or_else(|| Error::argument(format!("there is no initializer {index}")))
    }

    pub(super) fn node(&self, index: u32) -> Result<&NodeProto> {
        let found = self.bodies.node(&self.proto, index);
        found.ok_or_else(|| Error::argument(format!("there is no node {index}")))
    }

    pub(super) fn attribute(&self, node: u32, index: u32) -> Result<&AttributeProto> {
        let found = self.node(node)?.attribute.get(index as usize);
        found.ok_or_else(|| Error::argument(format!("node {node} has no attribute {index}")))
    }
}

/// The rest of a file that is being parsed. Of tensors that it passes only the heads are read, but
/// the system brings what lies around them, too.
struct Passing<'a> {
    rest: Bytes,
    source: &'a Mapped,
}

impl Buf for Passing<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.rest
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
    }

    /// Shares the bytes.
    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        let bytes = self.rest.copy_to_bytes(count);
        self.source.release(&bytes);
        bytes
    }
}

fn parse_model(source: &Mapped) -> Result<ModelProto> {
    const TRUNCATED: &str = "the file may be truncated: compare its size, or fetch it again";
    let bytes = source.bytes();
    let all = Passing { rest: bytes.clone(), source };
    let model = ModelProto::decode(all).map_err(|error| {
        let text = error.to_string();
        if text.ends_with("recursion limit reached") {
            return Error::unsupported("its subgraphs are nested too deeply");
        }
        Error::malformed(format!("not a valid ONNX model: {text}")).hint(TRUNCATED)
    })?;
    // What the decoder skips must be sound too, since it is copied.
    wire::fields(bytes, 0..bytes.len()).try_for_each(|field| field.map(drop))?;
    let version = model.ir_version.ok_or_else(|| missing("ir_version").hint(TRUNCATED))?;
    if model.graph.is_none() {
        return Err(missing("graph").hint(TRUNCATED));
    }
    if version >= 3 && model.opset_import.is_empty() {
        return Err(missing("opset_import").hint(TRUNCATED));
    }
    Ok(model)
}

fn missing(field: &str) -> Error {
    Error::malformed(format!("not a valid ONNX model: it has no `{field}`"))
}

/// What a file that is not ONNX looks like, and what to do.
fn other_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const EXPORT: &str = "export the model to ONNX first";
    const DOWNLOAD: &str = "download the file itself, not the page that shows it";
    const STARTS: &[(usize, &[u8], &str, &str)] = &[
        (0, b"PK\x03\x04", "a zip archive", EXPORT),
        (0, b"version https://git-lfs", "a git-lfs pointer", "run `git lfs pull`"),
        (0, b"<!DOCTYPE", "a web page", DOWNLOAD),
        (0, b"<!doctype", "a web page", DOWNLOAD),
        (0, b"<html", "a web page", DOWNLOAD),
        (0, b"<?xml", "an XML file", EXPORT),
        (0, b"\x1f\x8b", "gzip-compressed", "unpack it with `gunzip`"),
        (0, b"\x89HDF", "an HDF5 file", EXPORT),
        (0, b"\x80\x02", "a pickle", EXPORT),
        (0, b"GGUF", "a GGUF file", EXPORT),
        (4, b"TFL3", "a TFLite model", EXPORT),
        (4, b"ORTM", "a model in ORT format", "name the `.onnx` file it was made from"),
        (8, b"{\"", "a safetensors file", EXPORT),
    ];
    if bytes.is_empty() {
        return Some(("empty", "fetch or export it again"));
    }
    let starts = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|b| b.starts_with(magic));
    let found = STARTS.iter().find(|(at, magic, ..)| starts(*at, magic));
    let is_text = || bytes.iter().take(64).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let text = || is_text().then_some(("a text file", "name the `.onnx` file"));
    found.map(|found| (found.2, found.3)).or_else(text)
}

fn dtype(tensor: &TensorProto) -> Result<DType> {
    proto::dtype(tensor.data_type).ok_or_else(|| {
        let name = proto::data_type_name(tensor.data_type);
        Error::unsupported(format!("the element type {name} is not supported"))
    })
}

fn dims(tensor: &TensorProto) -> Result<Vec<usize>> {
    let dims: Option<_> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    dims.ok_or_else(|| Error::malformed(format!("its shape is {:?}", tensor.dims)))
}

fn typed_bytes(dtype: DType, tensor: &TensorProto) -> Vec<u8> {
    let ints = &tensor.int32_data;
    match dtype {
        DType::F32 | DType::Complex64 => float_bytes(&tensor.float_data),
        DType::F64 | DType::Complex128 => {
            tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::I64 => int_bytes(&tensor.int64_data),
        DType::U64 => tensor.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U32 => tensor.uint64_data.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
        DType::I32 => ints.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F16 | DType::BF16 | DType::I16 | DType::U16 => {
            ints.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect()
        }
        DType::F8 | DType::I8 | DType::U8 | DType::Bool | DType::Packed4 => {
            ints.iter().map(|&v| v as u8).collect()
        }
        DType::String => Vec::new(),
    }
}

fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn int_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The field of an attribute that holds numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numeric {
    Float,
    Int,
    Floats,
    Ints,
}

pub(super) fn numeric_kind(attribute: &AttributeProto) -> Option<Numeric> {
    match attribute.r#type {
        attribute_type::FLOAT => Some(Numeric::Float),
        attribute_type::INT => Some(Numeric::Int),
        attribute_type::FLOATS => Some(Numeric::Floats),
        attribute_type::INTS => Some(Numeric::Ints),
        0 if attribute.f.is_some() => Some(Numeric::Float),
        0 if attribute.i.is_some() => Some(Numeric::Int),
        0 if !attribute.floats.is_empty() => Some(Numeric::Floats),
        0 if !attribute.ints.is_empty() => Some(Numeric::Ints),
        _ => None,
    }
}

type Visit<'a, 'v> = &'v mut dyn FnMut(&'a TensorProto);

/// Calls `visit` with every tensor of a model.
pub(super) fn visit_model<'a>(model: &'a ModelProto, visit: Visit<'a, '_>) {
    let training = model.training_info.iter().flat_map(|t| [&t.initialization, &t.algorithm]);
    for graph in model.graph.iter().chain(training.flatten()) {
        visit_graph(graph, visit);
    }
    for function in &model.functions {
        function.attribute_proto.iter().for_each(|attribute| visit_attribute(attribute, visit));
        visit_nodes(&function.node, visit);
    }
}

fn visit_graph<'a>(graph: &'a GraphProto, visit: Visit<'a, '_>) {
    graph.initializer.iter().for_each(&mut *visit);
    graph.sparse_initializer.iter().for_each(|sparse| visit_sparse(sparse, visit));
    visit_nodes(&graph.node, visit);
}

fn visit_nodes<'a>(nodes: &'a [NodeProto], visit: Visit<'a, '_>) {
    let attributes = nodes.iter().flat_map(|node| &node.attribute);
    attributes.for_each(|attribute| visit_attribute(attribute, visit));
}

fn visit_attribute<'a>(attribute: &'a AttributeProto, visit: Visit<'a, '_>) {
    attribute.t.as_deref().into_iter().chain(&attribute.tensors).for_each(&mut *visit);
    for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
        visit_graph(graph, visit);
    }
    for sparse in attribute.sparse_tensor.as_deref().into_iter().chain(&attribute.sparse_tensors) {
        visit_sparse(sparse, visit);
    }
}

fn visit_sparse<'a>(sparse: &'a SparseTensorProto, visit: Visit<'a, '_>) {
    sparse.values.iter().chain(&sparse.indices).for_each(visit);
}
