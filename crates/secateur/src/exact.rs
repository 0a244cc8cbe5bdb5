//! Which groups are exact: pruning equals setting the removed slices to zero.
//!
//! Zero slices are followed from the parameters through the graph. A contraction over a group is
//! exact where one of its operands is zero there; a statistic over it never is.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::analysis::Analysis;
use crate::axis::AxisId;
use crate::graph::{Graph, NodeId, Origin, ValueId};
use crate::group::{GroupId, Groups};
use crate::rule::{Kind, Rule};

/// A node that makes a group approximate, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coupling {
    /// The node.
    pub node: NodeId,
    /// What it does with the dimension.
    pub reason: &'static str,
}

const NOT_ZERO: &str = "it is summed over, and what is removed does not vanish there";
const UNDEFINED: &str = "it is not defined where what is removed is zero";

/// The couplings of every approximate group, in the order of the nodes.
pub fn couplings(
    graph: &Graph,
    analysis: &Analysis,
    groups: &Groups,
) -> Vec<(GroupId, Vec<Coupling>)> {
    let mut flow = Vanishing::new(graph, analysis, groups);
    for id in graph.node_ids() {
        if let Some(rule) = &graph.node(id).rule {
            flow.visit(id, rule);
        }
    }
    let mut found: Vec<_> = flow.couplings.into_iter().collect();
    found.sort_unstable_by_key(|(group, _)| *group);
    found
}

struct Vanishing<'a> {
    graph: &'a Graph,
    analysis: &'a Analysis,
    groups: &'a Groups,
    /// The groups in an axis, by representative.
    members: Vec<Option<Rc<[GroupId]>>>,
    /// Per value and axis: the groups whose removed slices are not zero there.
    alive: Vec<Vec<BTreeSet<GroupId>>>,
    couplings: HashMap<GroupId, Vec<Coupling>>,
    /// Of the node at hand, whether each operand is zero; kept for its memory.
    zeros: Vec<Option<bool>>,
    /// Of the node at hand, where factors stand; kept for its memory.
    places: Vec<Place>,
}

impl<'a> Vanishing<'a> {
    fn new(graph: &'a Graph, analysis: &'a Analysis, groups: &'a Groups) -> Self {
        Vanishing {
            graph,
            analysis,
            groups,
            members: vec![None; analysis.axes.len()],
            alive: vec![Vec::new(); graph.values.len()],
            couplings: HashMap::new(),
            zeros: Vec::new(),
            places: Vec::new(),
        }
    }

    fn members(&mut self, axis: AxisId) -> Rc<[GroupId]> {
        let axis = self.analysis.axes.find(axis);
        let (analysis, groups) = (self.analysis, self.groups);
        let find = || {
            let atoms = analysis.axes.atoms(axis).into_iter();
            atoms.filter_map(|atom| groups.of_atom(atom)).collect()
        };
        self.members[axis.index()].get_or_insert_with(find).clone()
    }

    fn is_zero(&self, value: ValueId, axis: usize, group: GroupId) -> bool {
        match self.graph.value(value).origin {
            Origin::Param(_) => !self.graph.zeros.is_held(value),
            Origin::Node(_) => {
                self.alive[value.index()].get(axis).is_some_and(|alive| !alive.contains(&group))
            }
            Origin::Input | Origin::Sizes(_) => false,
        }
    }

    fn visit(&mut self, id: NodeId, rule: &Rule) {
        let graph = self.graph;
        for (dims, output) in rule.results.iter().zip(&graph.node(id).outputs) {
            self.alive[output.index()] = vec![BTreeSet::new(); dims.len()];
        }
        let mut places = std::mem::take(&mut self.places);
        find_places(rule, &mut places);
        for places in places.chunk_by(|a, b| a.0 == b.0) {
            let factor = places[0].0;
            let members = self.members(self.analysis.factors(id)[factor]);
            if self.is_same_for_all(id, places) {
                self.visit_groups(id, rule, factor, places, &members);
            } else {
                for group in members.iter() {
                    self.visit_groups(id, rule, factor, places, std::slice::from_ref(group));
                }
            }
        }
        self.places = places;
    }

    /// Whether no operand is zero for some groups at these places and not for others.
    fn is_same_for_all(&self, id: NodeId, places: &[Place]) -> bool {
        let inputs = &self.graph.node(id).inputs;
        places.iter().take_while(|place| !place.1).all(|&(_, _, operand, axis)| {
            let Some(&Some(value)) = inputs.get(operand) else { return true };
            self.alive[value.index()].get(axis).is_none_or(BTreeSet::is_empty)
        })
    }

    /// Follows groups that are zero in the same operands.
    fn visit_groups(
        &mut self,
        id: NodeId,
        rule: &Rule,
        factor: usize,
        places: &[Place],
        members: &[GroupId],
    ) {
        let Some(&first) = members.first() else { return };
        let node = self.graph.node(id);
        self.zeros.clear();
        self.zeros.resize(rule.operands.len().min(node.inputs.len()), None);
        let mut zeros = std::mem::take(&mut self.zeros);
        for &(_, is_result, operand, axis) in places {
            if is_result {
                break;
            }
            let Some(&Some(value)) = node.inputs.get(operand) else { continue };
            let stands = operand < rule.flow.moved()
                || self.graph.zeros.of(value) == rule.operands[operand].zero;
            let is_zero =
                stands && zeros[operand] != Some(false) && self.is_zero(value, axis, first);
            zeros[operand] = Some(is_zero);
        }
        match rule.factors[factor].kind {
            Kind::Summed if !zeros.contains(&Some(true)) => self.couple(id, members, NOT_ZERO),
            Kind::Inner(operands) if !operands.iter().any(|&i| zeros[i] == Some(true)) => {
                self.couple(id, members, NOT_ZERO);
            }
            Kind::Coupled(reason) => self.couple(id, members, reason),
            _ => {}
        }
        if rule.flow.is_undefined(&zeros) {
            self.couple(id, members, UNDEFINED);
        }
        let vanishes = rule.flow.vanishes(&zeros);
        self.zeros = zeros;
        if vanishes {
            return;
        }
        for &(_, is_result, result, axis) in places.iter().rev() {
            if !is_result {
                break;
            }
            if let Some(output) = node.outputs.get(result) {
                self.alive[output.index()][axis].extend(members);
            }
        }
    }

    fn couple(&mut self, node: NodeId, members: &[GroupId], reason: &'static str) {
        for &group in members {
            self.couplings.entry(group).or_default().push(Coupling { node, reason });
        }
    }
}

/// A factor, and where it stands: in an operand or, where that is `true`, a result; which one; on
/// which axis.
type Place = (usize, bool, usize, usize);

/// The places of all factors, by factor.
fn find_places(rule: &Rule, places: &mut Vec<Place>) {
    places.clear();
    let operands = rule.operands.iter().map(|operand| (false, &operand.dims));
    let operands = operands.enumerate();
    let results = rule.results.iter().map(|dims| (true, dims)).enumerate();
    for (index, (is_result, dims)) in operands.chain(results) {
        for (axis, dim) in dims.iter().enumerate() {
            places.extend(dim.factors().map(|factor| (factor.index(), is_result, index, axis)));
        }
    }
    places.sort_unstable();
}

#[cfg(test)]
mod tests {
    use crate::analysis::Analysis;
    use crate::group::Groups;
    use crate::onnx::{Hints, OnnxFile, import};
    use crate::text;

    /// The operators that make a group between two layers approximate.
    fn couplings(between: &str) -> Vec<String> {
        let source = format!(
            "x: 2x4
            w = 4x6
            v = 6x3
            s = 6
            y = MatMul(x, w)
            {between}
            r = MatMul(z, v)
            -> r"
        );
        let file = OnnxFile::parse(text::encode(&source).into(), "text".as_ref()).unwrap();
        let graph = import(&file, &Hints::new()).unwrap().graph;
        let groups = Groups::new(&graph, &Analysis::new(&graph));
        assert!(!groups.is_empty(), "{source}");
        let couplings = groups.iter().flat_map(|(_, group)| &group.couplings);
        couplings.map(|coupling| graph.node(coupling.node).kind.clone()).collect()
    }

    #[test]
    fn what_is_not_defined_at_zero_is_a_coupling() {
        assert_eq!(couplings("z = Div(y, s)"), ["Div"]);
        assert_eq!(couplings("z = Log(y)"), ["Log"]);
        assert_eq!(couplings("z = Reciprocal(y)"), ["Reciprocal"]);
        assert_eq!(couplings("z = Mod(s, y)"), ["Mod"]);
    }

    #[test]
    fn a_recurrent_weight_must_vanish() {
        let layer = |weight: &str| {
            format!(
                "a = 1x6x6
                b = 1x6x6
                u = Unsqueeze(y, i)
                i = i64[0]
                c = {weight}
                h = RNN(u, a, c)
                k = i64[1]
                z = Squeeze(h, k)"
            )
        };
        assert_eq!(couplings(&layer("Tanh(b)")), [""; 0]);
        assert_eq!(couplings(&layer("Exp(b)")), ["RNN"]);
    }

    #[test]
    fn integers_vanish_where_they_are_their_zero_point() {
        let through = |zero: &str, after: &str| {
            couplings(&format!(
                "u = f32(0.5)
                three = u8(3)
                q = QuantizeLinear(y, u, three)
                m = {after}
                t = u8({zero})
                z = DequantizeLinear(m, u, t)
                sum = ReduceSum(z)"
            ))
        };
        assert_eq!(through("3", "Identity(q)"), [""; 0]);
        assert_eq!(through("4", "Identity(q)"), ["ReduceSum"]);
        assert_eq!(through("3", "Relu(q)"), ["ReduceSum"]);
    }

    #[test]
    fn a_range_includes_zero_and_no_other_number() {
        let through = |before: &str| {
            couplings(&format!(
                "b = {before}
                q, u, t = DynamicQuantizeLinear(b)
                z = DequantizeLinear(q, u, t)"
            ))
        };
        assert_eq!(through("Relu(y)"), [""; 0]);
        let twice = ["DynamicQuantizeLinear", "DynamicQuantizeLinear"];
        assert_eq!(through("Sigmoid(y)"), twice);
    }

    #[test]
    fn a_constant_zero_keeps_sums_and_selections_zero() {
        let constants = "zero = f32(0.0)\nhalf = f32(0.5)\naxis = i64[1]";
        let summed =
            |step: &str| couplings(&format!("{constants}\n{step}\nt = ReduceSum(z, axis)"));
        for (step, kinds) in [
            ("z = Max(y, zero)", [""; 0].as_slice()),
            ("z = Sub(zero, y)", &[]),
            ("c = Greater(y, zero)\nz = Where(c, y, zero)", &[]),
            ("c = Greater(y, zero)\nz = Where(c, zero, y)", &[]),
            ("z = Max(y, half)", &["ReduceSum"]),
            ("c = Greater(y, zero)\nz = Where(c, y, half)", &["ReduceSum"]),
            ("g = Exp(y)\nc = Greater(y, zero)\nz = Where(c, zero, g)", &["ReduceSum"]),
        ] {
            assert_eq!(summed(step), kinds, "{step}");
        }
    }

    #[test]
    fn what_is_not_zero_can_be_divided_by() {
        assert_eq!(couplings("e = Exp(y)\nz = Div(y, e)"), [""; 0]);
        assert_eq!(couplings("e = Sigmoid(y)\nz = Log(e)"), [""; 0]);
    }
}
