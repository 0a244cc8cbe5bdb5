//! Applies every node's rule to the axes of its values. Written once, for all operators.
//!
//! ```text
//! Graph ──▶ Analysis: one axis per dimension of every value, one per factor of every rule
//! ```

use crate::axis::{Axes, AxisId, Cause, Pin, Unified};
use crate::graph::{Extent, Graph, NodeId, Origin, ValueId};
use crate::rule::{Dim, FactorId, Kind, Rule};
use crate::size::{Expr, ExprId};

/// The cause of pins that no node makes: the model's own inputs and outputs.
pub const MODEL: Cause = Cause(u32::MAX);

/// What every dimension of a graph is made of.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The algebra.
    pub axes: Axes,
    /// Per value, one axis per dimension.
    values: Vec<Span>,
    /// Per node, one axis per factor of its rule.
    factors: Vec<Span>,
    /// What spans are of.
    all: Vec<AxisId>,
}

/// A part of [`Analysis::all`]: one list for all takes less time to make than one for each.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

/// The axes that the factors of a rule were bound to so far.
type Bound = Vec<Option<AxisId>>;

impl Analysis {
    /// Analyzes a graph.
    pub fn new(graph: &Graph) -> Self {
        let mut analysis = Analysis {
            axes: Axes::new(),
            values: vec![Span::default(); graph.values.len()],
            factors: Vec::with_capacity(graph.nodes.len()),
            all: Vec::new(),
        };
        analysis.add_sources(graph);
        let mut bound = Bound::new();
        for id in graph.node_ids() {
            analysis.add_node(graph, id, &mut bound);
        }
        for &output in &graph.outputs {
            analysis
                .pin_value(output, Pin { reason: "it is an output of the model", cause: MODEL });
        }
        analysis.pin_sizes(graph, graph.frozen.iter().copied());
        analysis.axes.seal(Pin { reason: "it has too many parts", cause: MODEL });
        analysis
    }

    /// The axes of a value.
    pub fn value(&self, value: ValueId) -> &[AxisId] {
        self.span(self.values[value.index()])
    }

    /// The axes of the factors of a node's rule.
    pub fn factors(&self, node: NodeId) -> &[AxisId] {
        self.span(self.factors[node.index()])
    }

    fn span(&self, span: Span) -> &[AxisId] {
        &self.all[span.start..span.end]
    }

    /// All axes from one on.
    fn since(&self, start: usize) -> Span {
        Span { start, end: self.all.len() }
    }

    /// New axes for a shape.
    fn atoms(&mut self, shape: &[Extent]) -> Span {
        let start = self.all.len();
        self.all.extend(shape.iter().map(|extent| self.axes.atom(extent.size)));
        self.since(start)
    }

    /// Inputs, parameters and computed sizes have axes before any node runs.
    fn add_sources(&mut self, graph: &Graph) {
        for (index, value) in graph.values.iter().enumerate() {
            let pin = match &value.origin {
                Origin::Node(_) => continue,
                Origin::Param(id) if graph.param(*id).has_no_numbers() => {
                    Some("it is stored without numbers")
                }
                Origin::Param(_) => None,
                Origin::Input => Some("it is an input of the model"),
                Origin::Sizes(_) => Some("it is computed from sizes"),
            };
            let shape = value.shape.as_deref().unwrap_or_default();
            self.values[index] = self.atoms(shape);
            if let Some(reason) = pin {
                self.pin_value(ValueId::new(index), Pin { reason, cause: MODEL });
            }
        }
    }

    fn pin_value(&mut self, value: ValueId, pin: Pin) {
        let span = self.values[value.index()];
        for &axis in &self.all[span.start..span.end] {
            self.axes.pin(axis, pin);
        }
    }

    fn add_node(&mut self, graph: &Graph, id: NodeId, bound: &mut Bound) {
        let node = graph.node(id);
        match &node.rule {
            Some(rule) => self.apply(graph, id, rule, bound),
            None => self.add_opaque(graph, id),
        }
    }

    fn add_opaque(&mut self, graph: &Graph, id: NodeId) {
        let node = graph.node(id);
        let pin = Pin { reason: "an opaque operator reads or makes it", cause: Cause(id.0) };
        for &output in &node.outputs {
            self.values[output.index()] = self.atoms(graph.shape(output));
        }
        for &value in node.inputs.iter().flatten().chain(&node.outputs) {
            self.pin_value(value, pin);
        }
        self.factors.push(Span::default());
    }

    fn apply(&mut self, graph: &Graph, id: NodeId, rule: &Rule, bound: &mut Bound) {
        let node = graph.node(id);
        let cause = Cause(id.0);
        bound.clear();
        bound.resize(rule.factors.len(), None);
        for (operand, value) in rule.operands.iter().zip(&node.inputs) {
            let Some(value) = value else { continue };
            for (position, dim) in operand.dims.iter().enumerate() {
                let axis = self.value(*value)[position];
                self.meet(rule, bound, dim, axis, cause);
            }
        }
        for (dims, &value) in rule.results.iter().zip(&node.outputs) {
            let start = self.all.len();
            for dim in dims {
                let axis = self.build(rule, bound, dim);
                self.all.push(axis);
            }
            self.values[value.index()] = self.since(start);
        }
        let start = self.all.len();
        for (index, factor) in rule.factors.iter().enumerate() {
            let axis = self.bind(rule, bound, index);
            self.all.push(axis);
            if let Kind::Fixed(reason) = factor.kind {
                self.axes.pin(axis, Pin { reason, cause });
            }
        }
        self.factors.push(self.since(start));
        self.tie_target(graph, id);
    }

    /// Makes an operand's axis and its spelling in factors the same.
    fn meet(
        &mut self,
        rule: &Rule,
        bound: &mut [Option<AxisId>],
        dim: &Dim,
        axis: AxisId,
        cause: Cause,
    ) {
        match dim.as_factor() {
            Some(factor) if bound[factor.index()].is_none() => {
                bound[factor.index()] = Some(axis);
                return;
            }
            None if *dim == Dim::one() => return,
            _ => {}
        }
        let spelled = self.build(rule, bound, dim);
        let outcome = self.axes.unify(spelled, axis, cause);
        debug_assert!(outcome != Unified::SizesDiffer, "{rule}");
    }

    fn build(&mut self, rule: &Rule, bound: &mut [Option<AxisId>], dim: &Dim) -> AxisId {
        if let Some(factor) = dim.as_factor() {
            return self.bind(rule, bound, factor.index());
        }
        let mut segments = dim.segments();
        match (segments.next(), segments.next()) {
            (Some(only), None) => self.product(rule, bound, only),
            _ => {
                let segments = dim.segments().map(|product| self.product(rule, bound, product));
                let segments: Vec<AxisId> = segments.collect();
                self.axes.sum(&segments)
            }
        }
    }

    fn product(
        &mut self,
        rule: &Rule,
        bound: &mut [Option<AxisId>],
        product: &[FactorId],
    ) -> AxisId {
        match *product {
            [factor] => self.bind(rule, bound, factor.index()),
            [a, b] => {
                let factors = [a, b].map(|factor| self.bind(rule, bound, factor.index()));
                self.axes.product(&factors)
            }
            _ => {
                let factors = product.iter().map(|factor| self.bind(rule, bound, factor.index()));
                let factors: Vec<AxisId> = factors.collect();
                self.axes.product(&factors)
            }
        }
    }

    fn bind(&mut self, rule: &Rule, bound: &mut [Option<AxisId>], factor: usize) -> AxisId {
        *bound[factor].get_or_insert_with(|| self.axes.atom(rule.factors[factor].extent.size))
    }

    /// A result whose size is spelled by a dimension of another value follows that dimension.
    fn tie_target(&mut self, graph: &Graph, id: NodeId) {
        let node = graph.node(id);
        let target = node.op.operator().map(|operator| operator.target()).unwrap_or_default();
        for (position, expr) in target.into_iter().enumerate() {
            let Some(Expr::Dim(value, axis)) = expr.map(|expr| graph.sizes.get(expr)) else {
                continue;
            };
            let from = self.value(value).get(axis as usize).copied();
            let to = self.value(node.outputs[0]).get(position).copied();
            if let (Some(from), Some(to)) = (from, to) {
                self.axes.unify(from, to, Cause(id.0));
            }
        }
    }

    /// Pins the dimensions that expressions are made of: a size that is read for something other
    /// than a size must not change.
    pub(crate) fn pin_sizes(&mut self, graph: &Graph, exprs: impl IntoIterator<Item = ExprId>) {
        let pin = Pin { reason: "its size is read as data", cause: MODEL };
        for expr in exprs {
            let mut dims = Vec::new();
            graph.sizes.leaves(expr, &mut |leaf| {
                if let Expr::Dim(value, axis) = leaf {
                    dims.push((value, axis as usize));
                }
            });
            for (value, axis) in dims {
                if let Some(&axis) = self.value(value).get(axis) {
                    self.axes.pin(axis, pin);
                }
            }
        }
    }
}
