//! What names stand for: in the main graph, in a function that is called, in a graph inside a node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{is_shape, is_standard};
use crate::graph::ValueId;
use crate::onnx::OnnxFile;
use crate::onnx::bodies::BodyId;
use crate::onnx::eval::Known;
use crate::onnx::order::captured;
use crate::onnx::proto::{AttributeProto, NodeProto, ValueInfoProto};

/// The node and input that read something, where the source can name something else there.
pub(in crate::onnx) type User = (u32, u32);

/// What a name stands for, as far as it has been asked; an omitted input of a function for nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::onnx) struct Binding {
    pub(super) value: Option<ValueId>,
    pub(super) known: Option<Arc<Known>>,
    pub(super) tensor: Option<u32>,
    /// Whether several nodes read the stored tensor, and few enough to be told apart.
    pub(super) shared: bool,
    pub(super) reader: Reader,
}

impl Binding {
    pub(super) fn is_omitted(&self) -> bool {
        self.value.is_none() && self.known.is_none() && self.tensor.is_none()
    }
}

/// Who reads what a name stands for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Reader {
    /// The node that names it.
    #[default]
    Node,
    /// The call that gives it to a function.
    Call(Option<User>),
}

/// An attribute of a call that the function's nodes refer to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::onnx) struct Formal<'a> {
    /// The call's attribute, or the function's default.
    pub(in crate::onnx) attribute: Option<&'a AttributeProto>,
    /// The node and attribute that spell it, where one node only refers to it.
    pub(in crate::onnx) at: Option<(u32, u32)>,
}

/// What kind of body a scope is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Main,
    /// Sees no names but its own.
    Function,
    /// A branch that may run: it sees the names around it.
    Branch,
    /// A branch that never runs.
    DeadBranch,
}

impl Kind {
    pub(super) fn is_branch(self) -> bool {
        matches!(self, Kind::Branch | Kind::DeadBranch)
    }
}

/// How nodes read a name.
#[derive(Clone, Copy, Default)]
pub(super) struct Uses {
    /// How many inputs do.
    pub(super) count: u32,
    /// Whether a node reads more than the shape.
    pub(super) as_data: bool,
}

/// The names of one body.
pub(super) struct Scope<'a> {
    pub(super) kind: Kind,
    pub(super) body: BodyId,
    pub(super) names: HashMap<&'a str, Binding>,
    pub(super) uses: HashMap<&'a str, Uses>,
    pub(super) returned: HashSet<&'a str>,
    pub(super) declared: HashMap<&'a str, &'a ValueInfoProto>,
    pub(super) opset: i64,
    pub(super) formals: Arc<HashMap<&'a str, Formal<'a>>>,
    /// What stands before the names of nodes.
    pub(super) path: String,
    /// What stands before the names of stored tensors.
    pub(super) folder: String,
    /// Whether its nodes stand in a function, for all of its calls.
    pub(super) in_function: bool,
}

impl<'a> Scope<'a> {
    /// The scope of a graph.
    pub(super) fn new(file: &'a OnnxFile, kind: Kind, body: BodyId, opset: i64) -> Self {
        let graph = file.body_graph(body);
        let declared =
            graph.into_iter().flat_map(|graph| graph.value_info.iter().chain(&graph.output));
        let returned = graph.into_iter().flat_map(|graph| &graph.output);
        Scope {
            kind,
            body,
            names: HashMap::new(),
            uses: uses(file.nodes(body)),
            returned: returned.map(|info| info.name.as_str()).collect(),
            declared: declared.map(|info| (info.name.as_str(), info)).collect(),
            opset,
            formals: Arc::default(),
            path: String::new(),
            folder: String::new(),
            in_function: false,
        }
    }

    pub(super) fn sees_outside(&self) -> bool {
        self.kind.is_branch()
    }
}

fn uses(nodes: &[NodeProto]) -> HashMap<&str, Uses> {
    let mut uses: HashMap<&str, Uses> = HashMap::new();
    for node in nodes {
        let only_shape = is_standard(&node.domain) && is_shape(&node.op_type);
        let mut inside = Vec::new();
        captured(node, &mut inside);
        for name in node.input.iter().chain(inside) {
            let uses = uses.entry(name).or_default();
            uses.count = uses.count.saturating_add(1);
            uses.as_data |= !only_shape;
        }
    }
    uses
}
