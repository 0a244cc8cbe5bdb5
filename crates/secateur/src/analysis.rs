//! Applies every node's rule to the axes of its values. Written once, for all operators.
//!
//! ```text
//! Graph ──▶ Analysis: one axis per dimension of every value, one per factor of every rule
//! ```

use crate::axis::{Axes, AxisId, Cause, Pin, Unified};
use crate::graph::{Graph, NodeId, Origin, ValueId};
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
    values: Vec<Vec<AxisId>>,
    /// Per node, one axis per factor of its rule.
    factors: Vec<Vec<AxisId>>,
}

impl Analysis {
    /// Analyzes a graph.
    pub fn new(graph: &Graph) -> Self {
        let mut analysis = Analysis {
            axes: Axes::new(),
            values: vec![Vec::new(); graph.values.len()],
            factors: Vec::with_capacity(graph.nodes.len()),
        };
        analysis.add_sources(graph);
        for id in graph.node_ids() {
            analysis.add_node(graph, id);
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
        &self.values[value.index()]
    }

    /// The axes of the factors of a node's rule.
    pub fn factors(&self, node: NodeId) -> &[AxisId] {
        &self.factors[node.index()]
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
            self.values[index] = shape.iter().map(|extent| self.axes.atom(extent.size)).collect();
            if let Some(reason) = pin {
                self.pin_value(ValueId::new(index), Pin { reason, cause: MODEL });
            }
        }
    }

    fn pin_value(&mut self, value: ValueId, pin: Pin) {
        for axis in self.values[value.index()].clone() {
            self.axes.pin(axis, pin);
        }
    }

    fn add_node(&mut self, graph: &Graph, id: NodeId) {
        let node = graph.node(id);
        match &node.rule {
            Some(rule) => self.apply(graph, id, rule),
            None => self.add_opaque(graph, id),
        }
    }

    fn add_opaque(&mut self, graph: &Graph, id: NodeId) {
        let node = graph.node(id);
        let pin = Pin { reason: "an opaque operator reads or makes it", cause: Cause(id.0) };
        for &output in &node.outputs {
            let shape = graph.shape(output);
            self.values[output.index()] = shape.iter().map(|e| self.axes.atom(e.size)).collect();
        }
        for &value in node.inputs.iter().flatten().chain(&node.outputs) {
            self.pin_value(value, pin);
        }
        self.factors.push(Vec::new());
    }

    fn apply(&mut self, graph: &Graph, id: NodeId, rule: &Rule) {
        let node = graph.node(id);
        let cause = Cause(id.0);
        let mut bound: Vec<Option<AxisId>> = vec![None; rule.factors.len()];
        for (operand, value) in rule.operands.iter().zip(&node.inputs) {
            let Some(value) = value else { continue };
            for (position, dim) in operand.dims.iter().enumerate() {
                let axis = self.values[value.index()][position];
                self.meet(rule, &mut bound, dim, axis, cause);
            }
        }
        for (dims, &value) in rule.results.iter().zip(&node.outputs) {
            let axes = dims.iter().map(|dim| self.build(rule, &mut bound, dim)).collect();
            self.values[value.index()] = axes;
        }
        let factors: Vec<AxisId> =
            (0..bound.len()).map(|i| self.bind(rule, &mut bound, i)).collect();
        for (factor, &axis) in rule.factors.iter().zip(&factors) {
            if let Kind::Fixed(reason) = factor.kind {
                self.axes.pin(axis, Pin { reason, cause });
            }
        }
        self.factors.push(factors);
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
        let segment = |product: &[FactorId]| {
            let factors: Vec<AxisId> =
                product.iter().map(|f| self.bind(rule, bound, f.index())).collect();
            match factors[..] {
                [factor] => factor,
                _ => self.axes.product(&factors),
            }
        };
        let segments: Vec<AxisId> = dim.segments().map(segment).collect();
        match segments[..] {
            [segment] => segment,
            _ => self.axes.sum(&segments),
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
            let from = self.values[value.index()].get(axis as usize).copied();
            let to = self.values[node.outputs[0].index()].get(position).copied();
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
                if let Some(&axis) = self.values[value.index()].get(axis) {
                    self.axes.pin(axis, pin);
                }
            }
        }
    }
}
