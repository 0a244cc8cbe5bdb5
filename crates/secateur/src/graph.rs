//! The graph that every stage works on: values, nodes and parameters, with concrete shapes.
//!
//! A graph is a reading of a source file, never a replacement for it: nodes remember the source
//! node that they came from, and literals that depend on sizes remember where they stand.

use std::collections::{BTreeMap, BTreeSet};

use crate::ops::Op;
use crate::rule::Rule;
use crate::size::{Expr, ExprId, Patches, Scalar, Sizes};
use crate::zero::Zeros;
use crate::{DType, Error, Result};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// The position in the graph's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }

            pub(crate) fn new(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }
        }
    )*};
}

ids! {
    /// A value of a [`Graph`].
    ValueId,
    /// A node of a [`Graph`].
    NodeId,
    /// A parameter of a [`Graph`].
    ParamId,
}

/// What may become of a size when the model runs. The later of two is that of what both make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Open {
    /// The source states it.
    Stated,
    /// The source leaves it open (a batch, a sequence): it is what the inputs have.
    Symbolic,
    /// It is counted from data: any size at all, and another one for every input.
    Counted,
}

/// The size of one dimension, and whether it may be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The size that analysis works with: declared, given, guessed or made up.
    pub size: usize,
    /// Whether it may be another one.
    pub open: Open,
}

impl Extent {
    /// A size that the source states.
    pub fn fixed(size: usize) -> Self {
        Self { size, open: Open::Stated }
    }

    /// Whether the source does not state the size.
    pub fn is_open(self) -> bool {
        self.open != Open::Stated
    }

    /// Whether the size is counted from data.
    pub fn is_counted(self) -> bool {
        self.open == Open::Counted
    }
}

/// Whether a shape is one that the rules can count with: of few axes, and of fewer elements than an
/// `i64` counts, empty axes taken as 1. All shapes in a graph are.
pub(crate) fn is_countable(shape: &[Extent]) -> bool {
    const MAX_AXES: usize = 64;
    let count = |n: i64, extent: &Extent| n.checked_mul(i64::try_from(extent.size.max(1)).ok()?);
    shape.len() <= MAX_AXES && shape.iter().try_fold(1, count).is_some()
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user of the model gives it.
    Input,
    /// The file stores it.
    Param(ParamId),
    /// A shape subgraph computes it; one expression per element, row-major.
    Sizes(Vec<ExprId>),
    /// A node computes it.
    Node(NodeId),
}

/// A tensor that flows through the graph.
#[derive(Clone, Debug)]
pub struct Value {
    /// The source's name; empty for a value inside a compound operator.
    pub name: String,
    /// Element type, where it is known.
    pub dtype: Option<DType>,
    /// Sizes; `None` behind operators that Secateur cannot follow.
    pub shape: Option<Vec<Extent>>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A stored tensor, or one use of it where uses may differ after pruning.
#[derive(Clone, Debug)]
pub struct Param {
    /// The source's name, unique among stored tensors.
    pub name: String,
    /// What users know it by: its name, or, where that was made up by an exporter, the name in
    /// the framework that the model was made with. Unique. Its axes are those of [`Param::shape`]:
    /// an exporter may have stored the framework's tensor transposed.
    pub label: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<usize>,
    /// The stored tensor: a number that the format layer gives.
    pub tensor: u32,
    /// Whether it is trained, as far as the source says: a buffer is not.
    pub trained: bool,
    /// The source node and input that read it, where this is one of several separate uses.
    pub only_use: Option<(u32, u32)>,
    /// The value that carries it.
    pub value: ValueId,
}

impl Param {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().fold(1, |n, &size| n.saturating_mul(size))
    }

    /// Whether no file holds numbers for it, whatever its sizes say.
    pub(crate) fn has_no_numbers(&self) -> bool {
        self.is_empty() || self.dtype == DType::String
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One application of an operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// The source node's name (or its first output's, where it has none).
    pub name: String,
    /// The source's operator name.
    pub kind: String,
    /// The source node's number.
    pub source: u32,
    /// Whether the source node stands in a function, for all of its calls: then only literals in it
    /// can change.
    pub in_function: bool,
    /// What it computes.
    pub op: Op,
    /// How its dimensions relate; `None` for an opaque node.
    pub rule: Option<Rule>,
    /// Operands; `None` for an omitted optional one.
    pub inputs: Vec<Option<ValueId>>,
    /// Results.
    pub outputs: Vec<ValueId>,
}

/// A model, as far as its dimensions are concerned.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All values.
    pub values: Vec<Value>,
    /// All nodes, each after those that it depends on.
    pub nodes: Vec<Node>,
    /// All stored tensors that are read as data.
    pub params: Vec<Param>,
    /// What the user gives.
    pub inputs: Vec<ValueId>,
    /// What the model returns.
    pub outputs: Vec<ValueId>,
    /// Expressions of the shape subgraphs.
    pub sizes: Sizes,
    /// Expressions whose literals must keep their value: read for something other than a size.
    pub frozen: BTreeSet<ExprId>,
    /// The sizes that were made up for what is counted from data, and how many there can be: 1
    /// where that is not known.
    pub counts: BTreeMap<usize, usize>,
    /// What stands for zero in quantized tensors.
    pub zeros: Zeros,
    /// Parameters that no operator reads.
    pub unread: Vec<String>,
    /// What the reader could not follow: one line per kind of operator.
    pub warnings: Vec<String>,
}

impl Graph {
    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A parameter.
    pub fn param(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// The sizes of a value; empty where they are unknown.
    pub fn shape(&self, id: ValueId) -> &[Extent] {
        self.value(id).shape.as_deref().unwrap_or_default()
    }

    /// Whether expressions depend on a size that the source does not state.
    pub fn is_open(&self, exprs: impl IntoIterator<Item = ExprId>) -> bool {
        self.open(exprs) != Open::Stated
    }

    /// What may become of the values of expressions.
    pub fn open(&self, exprs: impl IntoIterator<Item = ExprId>) -> Open {
        let mut open = Open::Stated;
        for expr in exprs {
            self.sizes.leaves(expr, &mut |leaf| {
                let Expr::Dim(value, axis) = leaf else { return };
                let extent = self.shape(value).get(axis as usize);
                open = extent.map_or(open, |extent| extent.open.max(open));
            });
        }
        open
    }

    /// How many there can be along an axis.
    pub fn most(&self, extent: Extent) -> usize {
        let most = self.counts.get(&extent.size).filter(|_| extent.is_counted());
        most.copied().unwrap_or(extent.size)
    }

    /// The present value of an expression.
    pub(crate) fn scalar(&self, expr: ExprId) -> Option<Scalar> {
        let dim =
            |value: ValueId, axis: u32| Some(self.shape(value).get(axis as usize)?.size as i64);
        self.sizes.eval(expr, &dim, &Patches::new())
    }

    /// Adds a value; a shape that the rules cannot count with is as good as none.
    pub(crate) fn add_value(&mut self, mut value: Value) -> ValueId {
        value.shape = value.shape.filter(|shape| is_countable(shape));
        let id = ValueId::new(self.values.len());
        self.values.push(value);
        id
    }

    /// The rule of an operator over operands of known shapes; `None` for an opaque one.
    ///
    /// # Errors
    /// When the operands' shapes do not fit the operator.
    pub(crate) fn rule(&self, op: &Op, inputs: &[Option<ValueId>]) -> Result<Option<Rule>> {
        let shapes: Vec<Option<&[Extent]>> =
            inputs.iter().map(|input| input.map(|value| self.shape(value))).collect();
        let rule = op.operator().map(|operator| operator.rule(&shapes)).transpose()?;
        if let Some(rule) = &rule {
            rule.check(&shapes).map_err(Error::malformed)?;
        }
        Ok(rule)
    }

    /// Adds a node and the values that its rule makes, which have these names or none.
    ///
    /// # Errors
    /// When a result is too large.
    pub(crate) fn add_node(&mut self, node: Node, names: &[&str]) -> Result<Vec<ValueId>> {
        let results = node.rule.as_ref().map(Rule::result_shapes).unwrap_or_default();
        if !results.iter().all(|shape| is_countable(shape)) {
            return Err(Error::unsupported("a result that is too large"));
        }
        let origin = Origin::Node(NodeId::new(self.nodes.len()));
        let mut outputs = Vec::new();
        for (slot, shape) in results.into_iter().enumerate() {
            let name = names.get(slot).copied().unwrap_or_default().to_string();
            let origin = origin.clone();
            outputs.push(self.add_value(Value { name, dtype: None, shape: Some(shape), origin }));
        }
        self.nodes.push(Node { outputs: outputs.clone(), ..node });
        Ok(outputs)
    }

    /// All node ids, in order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId::new)
    }

    /// All parameter ids, in order.
    pub fn param_ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.params.len()).map(ParamId::new)
    }

    /// The parameter of this name or label.
    pub fn find_param(&self, name: &str) -> Option<ParamId> {
        let by_name = self.params.iter().position(|param| param.name == name);
        let found = by_name.or_else(|| self.params.iter().position(|param| param.label == name));
        found.map(ParamId::new)
    }

    /// The parameter that a value is, if it is one.
    pub fn as_param(&self, id: ValueId) -> Option<ParamId> {
        match self.value(id).origin {
            Origin::Param(param) => Some(param),
            _ => None,
        }
    }
}
