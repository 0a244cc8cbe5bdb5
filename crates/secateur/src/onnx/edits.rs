//! What to change in an ONNX file.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::bodies::BodyId;
use crate::tensor::{Keep, TensorView};

/// A tensor of a model. Initializers and nodes are numbered through the main graph, the bodies of
/// functions, and the graphs inside nodes, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum TensorRef {
    /// An entry of a graph's `initializer`.
    Initializer(u32),
    /// An attribute of a node: a tensor, or the number or numbers of a `Constant`.
    Attribute {
        /// The node's number.
        node: u32,
        /// The index in the node's `attribute`.
        attribute: u32,
    },
}

/// What happens to a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorEdit {
    /// Keeps these indices per axis, in this order.
    Keep(Keep),
    /// Keeps the shape, and zeroes all that the same `Keep` would drop.
    Zero(Keep),
    /// Keeps the shape, and writes what stands for zero over all that the same `Keep` would drop.
    Blank(Keep, Encoded),
    /// Takes this shape and these values, in the tensor's own integer type.
    Ints(Vec<usize>, Vec<i64>),
    /// Keeps shape and type, and takes these elements.
    Elements(Bytes),
}

/// What numbers stand for zero in a tensor, or what its numbers stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// One number, one per index of an axis, or one per block of indices.
    pub small: TensorView,
    /// The axis.
    pub axis: usize,
    /// Indices of the axis that share a number.
    pub block: usize,
}

/// A new value of a node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeEdit {
    /// One integer.
    Int(i64),
    /// One float.
    Float(f32),
    /// A list of integers.
    Ints(Vec<i64>),
    /// No attribute; nothing happens when there is none.
    Remove,
}

/// All changes to a model. Indices are those of the model as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Changes of tensors in place. Names stay; the declared type of an initializer follows.
    pub tensors: BTreeMap<TensorRef, TensorEdit>,
    /// New initializers made from a tensor: name, source as it was read, change.
    pub copies: Vec<(String, TensorRef, TensorEdit)>,
    /// New initializers: name, tensor (of a type that ONNX has one of: no 8- or 4-bit floats).
    pub literals: Vec<(String, TensorView)>,
    /// New input names: node, input, name. A short input list is extended with `""`.
    pub inputs: Vec<(u32, u32, String)>,
    /// Attributes to set or add: node, attribute name, value.
    pub attributes: Vec<(u32, String, AttributeEdit)>,
    /// New sizes of shapes that the main graph declares (inputs, outputs and `value_info`), `None` where unknown.
    /// Symbolic and undeclared sizes stay as they are.
    pub value_shapes: BTreeMap<String, Vec<Option<i64>>>,
    /// The same inside nodes. What a function declares of these names is left out.
    pub(crate) inner_shapes: BTreeMap<(BodyId, String), Vec<Option<i64>>>,
    /// Entries of `value_info` to leave out.
    pub drop_value_info: BTreeSet<String>,
}
