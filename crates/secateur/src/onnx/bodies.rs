//! The bodies of a model: the main graph, the bodies of functions, and the graphs inside nodes.
//!
//! Nodes and initializers are numbered through all of them, the main graph's first, so that one
//! number names a node of the file wherever it stands.

use std::collections::BTreeMap;

use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// A list of nodes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BodyId(u32);

impl BodyId {
    /// The main graph.
    pub(crate) const MAIN: Self = Self(0);
}

/// Where a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Main,
    /// The body of a function, by its index.
    Function(u32),
    /// In attribute `attribute` of node `node`: its graph (0), or one of its graphs (from 1 on).
    Inside {
        node: u32,
        attribute: u32,
        graph: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Body {
    place: Place,
    first_node: u32,
    first_initializer: u32,
}

/// All bodies of a model.
#[derive(Debug)]
pub(super) struct Bodies {
    list: Vec<Body>,
    by_place: BTreeMap<Place, BodyId>,
}

/// The nodes of a body, and its graph where it is no function's.
#[derive(Clone, Copy)]
struct Content<'a> {
    nodes: &'a [NodeProto],
    graph: Option<&'a GraphProto>,
}

impl Bodies {
    pub(super) fn new(model: &ModelProto) -> Self {
        let mut bodies = Bodies { list: Vec::new(), by_place: BTreeMap::new() };
        let mut contents: Vec<Content<'_>> = Vec::new();
        let (mut nodes, mut initializers) = (0, 0);
        let mut add = |bodies: &mut Bodies, place, content: Content<'_>| {
            let id = BodyId(bodies.list.len() as u32);
            let body = Body { place, first_node: nodes, first_initializer: initializers };
            bodies.list.push(body);
            bodies.by_place.insert(place, id);
            nodes += content.nodes.len() as u32;
            initializers += content.graph.map_or(0, |graph| graph.initializer.len() as u32);
        };
        let empty = Content { nodes: &[], graph: None };
        contents.push(model.graph.as_ref().map_or(empty, content));
        add(&mut bodies, Place::Main, contents[0]);
        for (index, function) in (0..).zip(&model.functions) {
            contents.push(Content { nodes: &function.node, graph: None });
            add(
                &mut bodies,
                Place::Function(index),
                Content { nodes: &function.node, graph: None },
            );
        }
        let mut next = 0;
        while next < contents.len() {
            let first = bodies.list[next].first_node;
            for (node, proto) in (first..).zip(contents[next].nodes) {
                for (attribute, proto) in (0..).zip(&proto.attribute) {
                    for (graph, proto) in graphs(proto) {
                        contents.push(content(proto));
                        add(&mut bodies, Place::Inside { node, attribute, graph }, content(proto));
                    }
                }
            }
            next += 1;
        }
        bodies
    }

    /// All bodies, each after the one that it stands in.
    pub(super) fn ids(&self) -> impl Iterator<Item = BodyId> + use<> {
        (0..self.list.len() as u32).map(BodyId)
    }

    pub(super) fn at(&self, place: Place) -> Option<BodyId> {
        self.by_place.get(&place).copied()
    }

    pub(super) fn place(&self, body: BodyId) -> Place {
        self.list[body.0 as usize].place
    }

    pub(super) fn first_node(&self, body: BodyId) -> u32 {
        self.list[body.0 as usize].first_node
    }

    pub(super) fn first_initializer(&self, body: BodyId) -> u32 {
        self.list[body.0 as usize].first_initializer
    }

    /// The body that a node stands in.
    pub(super) fn of_node(&self, node: u32) -> BodyId {
        last(self.list.partition_point(|body| body.first_node <= node))
    }

    /// The body that an initializer stands in.
    pub(super) fn of_initializer(&self, initializer: u32) -> BodyId {
        last(self.list.partition_point(|body| body.first_initializer <= initializer))
    }

    /// The graphs inside a node, and those inside them.
    pub(super) fn inside(&self, node: u32) -> Vec<BodyId> {
        let first = Place::Inside { node, attribute: 0, graph: 0 };
        let after = Place::Inside { node: node + 1, attribute: 0, graph: 0 };
        let mut found: Vec<BodyId> =
            self.by_place.range(first..after).map(|(_, &body)| body).collect();
        let mut next = 0;
        while let Some(&body) = found.get(next) {
            let end = self.list.get(body.0 as usize + 1).map_or(u32::MAX, |next| next.first_node);
            let first = Place::Inside { node: self.first_node(body), attribute: 0, graph: 0 };
            let after = Place::Inside { node: end, attribute: 0, graph: 0 };
            found.extend(self.by_place.range(first..after).map(|(_, &body)| body));
            next += 1;
        }
        found
    }

    /// Whether graphs stand inside a node.
    pub(super) fn has_inside(&self, node: u32) -> bool {
        let first = Place::Inside { node, attribute: 0, graph: 0 };
        let after = Place::Inside { node: node + 1, attribute: 0, graph: 0 };
        self.by_place.range(first..after).next().is_some()
    }

    pub(super) fn nodes<'m>(&self, model: &'m ModelProto, body: BodyId) -> &'m [NodeProto] {
        match self.place(body) {
            Place::Function(index) => {
                model.functions.get(index as usize).map_or(&[], |function| &function.node)
            }
            Place::Main | Place::Inside { .. } => {
                self.graph(model, body).map_or(&[], |graph| &graph.node)
            }
        }
    }

    /// The graph of a body; `None` for a function.
    pub(super) fn graph<'m>(&self, model: &'m ModelProto, body: BodyId) -> Option<&'m GraphProto> {
        match self.place(body) {
            Place::Main => model.graph.as_ref(),
            Place::Function(_) => None,
            Place::Inside { node, attribute, graph } => {
                let attribute = self.node(model, node)?.attribute.get(attribute as usize)?;
                match graph.checked_sub(1) {
                    None => attribute.g.as_deref(),
                    Some(index) => attribute.graphs.get(index as usize),
                }
            }
        }
    }

    pub(super) fn node<'m>(&self, model: &'m ModelProto, node: u32) -> Option<&'m NodeProto> {
        let body = self.of_node(node);
        self.nodes(model, body).get((node - self.first_node(body)) as usize)
    }

    pub(super) fn initializer<'m>(
        &self,
        model: &'m ModelProto,
        index: u32,
    ) -> Option<&'m TensorProto> {
        let body = self.of_initializer(index);
        let index = index - self.first_initializer(body);
        self.graph(model, body)?.initializer.get(index as usize)
    }
}

fn content(graph: &GraphProto) -> Content<'_> {
    Content { nodes: &graph.node, graph: Some(graph) }
}

fn last(count: usize) -> BodyId {
    BodyId(count.saturating_sub(1) as u32)
}

/// The graphs of an attribute: its one graph is number 0, those of a list count from 1.
fn graphs(attribute: &AttributeProto) -> impl Iterator<Item = (u32, &GraphProto)> {
    let one = attribute.g.as_deref().into_iter().map(|graph| (0, graph));
    one.chain((1..).zip(&attribute.graphs))
}
