//! The part of the ONNX protobuf schema that Secateur reads.
//!
//! Fields that are not here (doc strings, metadata, training, …) are skipped when decoding. Nothing
//! is lost by that: a file is written as an edit of its bytes, never by encoding these types.
//!
//! Field numbers: <https://github.com/onnx/onnx/blob/main/onnx/onnx.in.proto>.

#![allow(missing_docs)]

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::message::merge_repeated;
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use super::names::Names;
use crate::DType;

#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfoProto>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct TrainingInfoProto {
    #[prost(message, optional, tag = "1")]
    pub initialization: Option<GraphProto>,
    #[prost(message, optional, tag = "2")]
    pub algorithm: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(string, tag = "10")]
    pub domain: String,
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
    #[prost(string, tag = "13")]
    pub overload: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensorProto>,
}

/// A node. Decoded by hand for its [`Names`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeProto {
    pub input: Names,
    pub output: Names,
    pub name: String,
    pub op_type: String,
    pub attribute: Vec<AttributeProto>,
    pub domain: String,
    pub overload: String,
    pub metadata_props: Vec<MetadataProto>,
}

impl NodeProto {
    fn strings(&self) -> [(u32, &String); 4] {
        [(3, &self.name), (4, &self.op_type), (7, &self.domain), (8, &self.overload)]
    }
}

impl Message for NodeProto {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.input.encode(1, buf);
        self.output.encode(2, buf);
        for (tag, text) in self.strings().into_iter().filter(|(_, text)| !text.is_empty()) {
            encoding::string::encode(tag, text, buf);
        }
        encoding::message::encode_repeated(5, &self.attribute, buf);
        encoding::message::encode_repeated(9, &self.metadata_props, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        buf: &mut impl Buf,
        cx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let (field, merged) = match tag {
            1 => ("input", self.input.merge(wire, buf, cx)),
            2 => ("output", self.output.merge(wire, buf, cx)),
            3 => ("name", encoding::string::merge(wire, &mut self.name, buf, cx)),
            4 => ("op_type", encoding::string::merge(wire, &mut self.op_type, buf, cx)),
            5 => ("attribute", merge_repeated(wire, &mut self.attribute, buf, cx)),
            7 => ("domain", encoding::string::merge(wire, &mut self.domain, buf, cx)),
            8 => ("overload", encoding::string::merge(wire, &mut self.overload, buf, cx)),
            9 => ("metadata_props", merge_repeated(wire, &mut self.metadata_props, buf, cx)),
            _ => return encoding::skip_field(wire, tag, buf, cx),
        };
        merged.map_err(|mut error| {
            error.push("NodeProto", field);
            error
        })
    }

    fn encoded_len(&self) -> usize {
        let strings = self.strings().into_iter().filter(|(_, text)| !text.is_empty());
        self.input.encoded_len(1)
            + self.output.encoded_len(2)
            + strings.map(|(tag, text)| encoding::string::encoded_len(tag, text)).sum::<usize>()
            + encoding::message::encoded_len_repeated(5, &self.attribute)
            + encoding::message::encoded_len_repeated(9, &self.metadata_props)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A key and a text; the same message as [`StringStringEntryProto`], with the text left in place.
#[derive(Clone, PartialEq, Message)]
pub struct MetadataProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A named value of a node. Which field holds it follows from `type`, 0 in very old models.
#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    #[prost(message, optional, boxed, tag = "5")]
    pub t: Option<Box<TensorProto>>,
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<GraphProto>>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<GraphProto>,
    #[prost(int32, tag = "20")]
    pub r#type: i32,
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
    #[prost(message, optional, boxed, tag = "22")]
    pub sparse_tensor: Option<Box<SparseTensorProto>>,
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensorProto>,
}

/// Values of `AttributeProto.type`.
pub mod attribute_type {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const TENSOR: i32 = 4;
    pub const GRAPH: i32 = 5;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
    pub const STRINGS: i32 = 8;
    pub const TENSORS: i32 = 9;
    pub const GRAPHS: i32 = 10;
    pub const SPARSE_TENSOR: i32 = 11;
    pub const SPARSE_TENSORS: i32 = 12;
}

/// A dense tensor. Its elements are in `raw_data`, in an external file, or in one typed field;
/// [`super::OnnxFile::tensor`] reads all three.
#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub segment: Option<Bytes>,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

impl TensorProto {
    /// Whether the elements are in another file.
    pub fn is_external(&self) -> bool {
        self.data_location == 1
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A type; `tensor_type` is `None` for sequences, maps, optionals and sparse tensors.
#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// `None` when the rank is unknown.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(oneof = "Extent", tags = "1, 2")]
    pub extent: Option<Extent>,
}

/// What is known of a dimension.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Extent {
    #[prost(int64, tag = "1")]
    Value(i64),
    #[prost(string, tag = "2")]
    Param(String),
}

/// Every `TensorProto.DataType`, its name and what it is here; `None` for types with no equal.
const DATA_TYPES: &[(i32, &str, Option<DType>)] = &[
    (1, "FLOAT", Some(DType::F32)),
    (2, "UINT8", Some(DType::U8)),
    (3, "INT8", Some(DType::I8)),
    (4, "UINT16", Some(DType::U16)),
    (5, "INT16", Some(DType::I16)),
    (6, "INT32", Some(DType::I32)),
    (7, "INT64", Some(DType::I64)),
    (8, "STRING", Some(DType::String)),
    (9, "BOOL", Some(DType::Bool)),
    (10, "FLOAT16", Some(DType::F16)),
    (11, "DOUBLE", Some(DType::F64)),
    (12, "UINT32", Some(DType::U32)),
    (13, "UINT64", Some(DType::U64)),
    (14, "COMPLEX64", Some(DType::Complex64)),
    (15, "COMPLEX128", Some(DType::Complex128)),
    (16, "BFLOAT16", Some(DType::BF16)),
    (17, "FLOAT8E4M3FN", Some(DType::F8)),
    (18, "FLOAT8E4M3FNUZ", Some(DType::F8)),
    (19, "FLOAT8E5M2", Some(DType::F8)),
    (20, "FLOAT8E5M2FNUZ", Some(DType::F8)),
    (21, "UINT4", Some(DType::Packed4)),
    (22, "INT4", Some(DType::Packed4)),
    (23, "FLOAT4E2M1", Some(DType::Packed4)),
    (24, "FLOAT8E8M0", Some(DType::F8)),
    (25, "UINT2", None),
    (26, "INT2", None),
    (27, "FLOAT6E2M3", None),
    (28, "FLOAT6E3M2", None),
];

/// The element type of a `data_type` or `elem_type`; `None` for one that Secateur cannot read.
pub fn dtype(data_type: i32) -> Option<DType> {
    DATA_TYPES.iter().find(|entry| entry.0 == data_type)?.2
}

/// The `data_type` of an element type; `None` where there are several.
pub fn data_type(dtype: DType) -> Option<i32> {
    let mut entries = DATA_TYPES.iter().filter(|entry| entry.2 == Some(dtype));
    let only = entries.next()?;
    entries.next().is_none().then_some(only.0)
}

/// The name of a `data_type` in the ONNX standard, or its number.
pub fn data_type_name(data_type: i32) -> String {
    let entry = DATA_TYPES.iter().find(|entry| entry.0 == data_type);
    entry.map_or_else(|| data_type.to_string(), |entry| entry.1.to_owned())
}

/// The `elem_type` of 64-bit integers.
pub const INT64: i32 = 7;
/// The `elem_type` of 32-bit floats.
pub const FLOAT: i32 = 1;

/// The node's name, or its first output's.
pub(super) fn node_name(node: &NodeProto) -> String {
    match node.name.is_empty() {
        false => node.name.clone(),
        true => node.output.first().unwrap_or_default().to_string(),
    }
}
