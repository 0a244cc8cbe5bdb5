//! What stands for zero in quantized tensors, and for what their numbers stand.
//!
//! A quantized tensor holds integers `q` that stand for `scale · (q − zero point)`: to set a slice
//! of it to zero is to write the zero point there. Scales and zero points are no numbers of their
//! own: they stay where the tensor is masked.
//!
//! Which zero point a stored tensor has is asked of the operators that read it, from the last to
//! the first, through those that only move elements. Knows nothing of groups and files.

use std::collections::BTreeMap;

use crate::graph::{Graph, Node, Origin, ParamId, ValueId};
use crate::ops::Op;
use crate::rule::{Rule, Use};

/// What stands for zero in a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// One number: 0 for a tensor that is not quantized.
    Number(i64),
    /// Numbers that differ along the tensor.
    Stored(Spread),
    /// A number that a node computes.
    Computed(ValueId),
    /// Not one thing: operators that read the tensor disagree.
    Unclear,
}

impl Zero {
    /// The zero of a tensor that is not quantized.
    pub const PLAIN: Zero = Zero::Number(0);

    fn and(self, other: Zero) -> Zero {
        if self == other { self } else { Zero::Unclear }
    }

    /// What it is behind an operator that moves elements; `aligned` says whether all stay in place.
    fn moved(self, aligned: bool) -> Zero {
        match self {
            Zero::Stored(_) if !aligned => Zero::Unclear,
            zero => zero,
        }
    }
}

/// How the numbers of a small stored tensor spread over a large one: one for all elements, one per
/// index of an axis, or one per block of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The stored tensor: a number that the format layer gives.
    pub tensor: u32,
    /// The axis of the large tensor.
    pub axis: usize,
    /// Indices of the axis that share a number.
    pub block: usize,
}

impl Spread {
    /// One tensor as large as the other.
    pub fn whole(tensor: u32) -> Self {
        Spread { tensor, axis: 0, block: 1 }
    }
}

/// What stands for zero in every value of a graph. Empty where nothing is quantized.
#[derive(Clone, Debug, Default)]
pub struct Zeros {
    values: Vec<Zero>,
    held: Vec<bool>,
    scales: BTreeMap<ParamId, Spread>,
    packed: BTreeMap<ParamId, Packed>,
}

/// How several integers stand in each byte of a parameter of rows and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Bits per integer.
    pub bits: usize,
    /// The stored tensor that holds a scale per block.
    pub scale: u32,
    /// The one that holds a zero point per block.
    pub zero: Option<u32>,
}

impl Zeros {
    /// Asks all operators.
    pub(crate) fn new(graph: &Graph) -> Self {
        let encodes = |node: &Node| matches!(node.op, Op::Code(_) | Op::PackedMatMul(_));
        if !graph.nodes.iter().any(encodes) {
            return Zeros::default();
        }
        let count = graph.values.len();
        let mut zeros = Zeros {
            values: vec![Zero::PLAIN; count],
            held: vec![false; count],
            scales: BTreeMap::new(),
            packed: BTreeMap::new(),
        };
        let mut asked = vec![None; count];
        for node in graph.nodes.iter().rev() {
            if let Some(rule) = &node.rule {
                zeros.ask(node, rule, &mut asked);
            }
        }
        for param in &graph.params {
            if let Some(zero @ (Zero::Number(_) | Zero::Stored(_))) = asked[param.value.index()] {
                zeros.values[param.value.index()] = zero;
            }
        }
        for node in &graph.nodes {
            if let Some(rule) = &node.rule {
                zeros.follow(node, rule);
            }
            zeros.add_scale(graph, node);
        }
        zeros
    }

    /// What stands for zero in a value.
    pub fn of(&self, value: ValueId) -> Zero {
        self.values.get(value.index()).copied().unwrap_or(Zero::PLAIN)
    }

    /// Whether a value says what others stand for, so that it stays where they are masked.
    pub fn is_held(&self, value: ValueId) -> bool {
        self.held.get(value.index()).copied().unwrap_or(false)
    }

    /// The scale of a quantized parameter, where it is stored.
    pub fn scale(&self, param: ParamId) -> Option<Spread> {
        self.scales.get(&param).copied()
    }

    /// How a parameter is packed, where it is.
    pub fn packed(&self, param: ParamId) -> Option<Packed> {
        self.packed.get(&param).copied()
    }

    /// Notes what a node takes for zero in what it reads.
    fn ask(&mut self, node: &Node, rule: &Rule, asked: &mut [Option<Zero>]) {
        let moved = rule.flow.moved();
        let results = || node.outputs.iter().map(|value| value.index());
        let wanted = results().filter_map(|index| asked[index]).reduce(Zero::and);
        let held = results().any(|index| self.held[index]);
        for (slot, (operand, value)) in rule.operands.iter().zip(&node.inputs).enumerate() {
            let Some(index) = value.map(ValueId::index) else { continue };
            let moves = slot < moved;
            self.held[index] |= operand.role == Use::Encoding || (moves && held);
            let zero = match moves {
                false => Some(operand.zero),
                true => wanted.map(|zero| zero.moved(rule.results.contains(&operand.dims))),
            };
            if let Some(zero) = zero {
                asked[index] = Some(asked[index].map_or(zero, |other| other.and(zero)));
            }
        }
    }

    /// Finds what stands for zero in what a node makes.
    fn follow(&mut self, node: &Node, rule: &Rule) {
        let moved = rule.operands.iter().zip(&node.inputs).take(rule.flow.moved());
        let moved: Vec<_> = moved.filter_map(|(o, value)| Some((&o.dims, (*value)?))).collect();
        for (dims, value) in rule.results.iter().zip(&node.outputs) {
            let operand = |&(from, value): &(_, ValueId)| self.of(value).moved(from == dims);
            let zero = moved.iter().map(operand).reduce(Zero::and);
            self.values[value.index()] = zero.unwrap_or(rule.zero);
        }
    }

    fn add_scale(&mut self, graph: &Graph, node: &Node) {
        let param = |slot: usize| {
            let value = node.inputs.get(slot).copied().flatten()?;
            graph.as_param(unmoved(graph, value))
        };
        let tensor = |slot: usize| param(slot).map(|id| graph.param(id).tensor);
        match &node.op {
            Op::Code(code) if code.scaled && !code.quantizes => {
                if let (Some(data), Some(scale)) = (param(0), tensor(1)) {
                    self.scales.insert(data, code.spread(scale));
                }
            }
            Op::PackedMatMul(packed) => {
                if let (Some(data), Some(scale)) = (param(1), tensor(2)) {
                    let packed = Packed { bits: packed.bits, scale, zero: tensor(3) };
                    self.packed.insert(data, packed);
                }
            }
            _ => {}
        }
    }
}

/// The value that a chain of identities ends in.
pub(crate) fn unmoved(graph: &Graph, mut value: ValueId) -> ValueId {
    while let Origin::Node(id) = graph.value(value).origin {
        let node = graph.node(id);
        match node.inputs[..] {
            [Some(input)] if node.kind == "Identity" => value = input,
            _ => break,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Hints, OnnxFile, import};
    use crate::text;

    /// What stands for zero in a parameter, and whether it stays where others are masked.
    fn zero(lines: &str, param: &str) -> (Zero, bool) {
        let source = format!(
            "x: 2x4
            scale = f32(0.5)
            three = u8(3)
            four = u8(4)
            table = u8[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]
            places = i64[1, 2, 3, 4]
            {lines}
            y = Mul(x, z)
            -> y"
        );
        let file = OnnxFile::parse(text::encode(&source).into(), "text".as_ref()).unwrap();
        let graph = import(&file, &Hints::new()).unwrap().graph;
        assert_eq!(graph.warnings, [""; 0], "{source}");
        let value = graph.param(graph.find_param(param).unwrap()).value;
        (graph.zeros.of(value), graph.zeros.is_held(value))
    }

    #[test]
    fn a_tensor_has_the_zero_point_of_what_reads_it() {
        let picked = "p = Gather(table, places)\nz = DequantizeLinear(p, scale, three)";
        assert_eq!(zero(picked, "table"), (Zero::Number(3), false));
        assert_eq!(zero(picked, "three"), (Zero::PLAIN, true));
        assert_eq!(zero(picked, "scale"), (Zero::PLAIN, true));
    }

    #[test]
    fn places_to_pick_from_have_no_zero_point() {
        let picked = "p = Gather(table, places)\nz = DequantizeLinear(p, scale, three)";
        assert_eq!(zero(picked, "places"), (Zero::PLAIN, false));
    }

    #[test]
    fn a_tensor_with_two_zero_points_has_none() {
        let twice = "p = Gather(table, places)
            a = DequantizeLinear(p, scale, three)
            b = DequantizeLinear(p, scale, four)
            z = Add(a, b)";
        assert_eq!(zero(twice, "table"), (Zero::PLAIN, false));
    }
}
