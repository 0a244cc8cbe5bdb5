//! Parameters, bytes and multiply-accumulates of a model, before and after cuts.
//!
//! Everything is flattened once into *terms*: a coefficient times the sizes of axes that some group
//! can change. An evaluation computes the size of each distinct axis and sums the terms, so a
//! search over ratios costs microseconds per step. Knows nothing of scores and selection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Add, AddAssign};
use std::rc::Rc;

use serde::Serialize;

use crate::DType;
use crate::analysis::Analysis;
use crate::axis::{AxisId, Tree};
use crate::graph::{Graph, NodeId, Param, ParamId, ValueId};
use crate::group::{GroupId, Groups};
use crate::rule::FactorId;

/// How large a model is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Elements of stored weights: floating-point tensors, and 8-bit and 4-bit integer ones, each
    /// stored tensor once.
    pub parameters: u64,
    /// Multiply-accumulates of one run at the input shapes of the analysis; of what is counted from
    /// data, as many as there can be, or one where that is not known.
    pub macs: u64,
    /// Bytes of these weights, two 4-bit elements to the byte.
    pub bytes: u64,
}

impl Add for Footprint {
    type Output = Footprint;

    fn add(self, other: Footprint) -> Footprint {
        Footprint {
            parameters: self.parameters.saturating_add(other.parameters),
            macs: self.macs.saturating_add(other.macs),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl AddAssign for Footprint {
    fn add_assign(&mut self, other: Footprint) {
        *self = *self + other;
    }
}

/// The cost of one node that multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LayerCost {
    /// The node.
    #[serde(serialize_with = "node_index")]
    pub node: NodeId,
    /// Elements of the weights that it reads, directly or through nodes that compute with weights
    /// only. A weight that several nodes read is counted for each.
    pub parameters: u64,
    /// Its multiply-accumulates.
    pub macs: u64,
}

fn node_index<S: serde::Serializer>(node: &NodeId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(node.index() as u64)
}

/// The cost of a model as a function of the sizes of its groups.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The sizes of the axes that groups can change.
    axes: Vec<Size>,
    /// Per stored tensor, its separate uses.
    tensors: Vec<Vec<Stored>>,
    /// Per node with multiply-accumulates.
    nodes: Vec<Layer>,
}

/// A size as an expression over the sizes of groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Size {
    Fixed(u64),
    Group { group: GroupId, size: usize },
    Sum(Vec<Size>),
    Product(Vec<Size>),
}

/// A coefficient times the sizes of axes, as positions in [`Cost::axes`], sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Term {
    coefficient: u64,
    axes: Vec<u32>,
}

/// One use of a stored tensor: how many elements it keeps.
#[derive(Clone, Debug)]
struct Stored {
    elements: Term,
    whole: u64,
    dtype: DType,
    /// How many parameters an element is: none that of a buffer.
    counts: u64,
}

#[derive(Clone, Debug)]
struct Layer {
    node: NodeId,
    terms: Vec<Term>,
    /// Positions in [`Cost::tensors`] and there.
    weights: Vec<(usize, usize)>,
}

impl Cost {
    /// Flattens the costs of a model.
    pub fn new(graph: &Graph, analysis: &Analysis, groups: &Groups) -> Self {
        let known = vec![None; analysis.axes.len()];
        let mut builder = Builder { analysis, groups, axes: Vec::new(), known };
        let (tensors, places) = builder.tensors(graph);
        let weights = weights_of_values(graph);
        let mut nodes = Vec::new();
        for node in graph.node_ids() {
            let terms = builder.macs(graph, node);
            if terms.is_empty() {
                continue;
            }
            let inputs = graph.node(node).inputs.iter().flatten();
            let read: BTreeSet<ParamId> =
                inputs.flat_map(|value| weights[value.index()].iter().copied()).collect();
            let weights = read.iter().filter_map(|param| places.get(param).copied()).collect();
            nodes.push(Layer { node, terms, weights });
        }
        Cost { axes: builder.axes, tensors, nodes }
    }

    /// The cost of the model as it is.
    pub fn now(&self) -> Footprint {
        self.with(&|_| None)
    }

    /// The cost once groups have new sizes; `None` leaves one unchanged.
    ///
    /// Separate uses of one stored tensor count once while they are cut alike, and as copies where
    /// different groups cut them.
    pub fn with(&self, sizes: &impl Fn(GroupId) -> Option<usize>) -> Footprint {
        let axes = self.sizes(sizes);
        let stored = self.tensors.iter().map(|uses| footprint_of_uses(uses, &axes));
        let macs = self.nodes.iter().map(|layer| layer.macs(&axes));
        let macs = macs.fold(0, u64::saturating_add);
        stored.fold(Footprint { macs, ..Footprint::default() }, Add::add)
    }

    /// What scales with each group: the weights that carry it and the products that run over it.
    /// Groups that govern nothing are absent.
    pub fn governed(&self) -> BTreeMap<GroupId, Footprint> {
        let axes = self.sizes(&|_| None);
        let mut members = vec![BTreeSet::new(); self.axes.len()];
        self.axes.iter().zip(&mut members).for_each(|(size, groups)| size.collect(groups));
        let groups = |term: &Term| -> BTreeSet<GroupId> {
            term.axes.iter().flat_map(|&axis| &members[axis as usize]).copied().collect()
        };
        let mut governed: BTreeMap<GroupId, Footprint> = BTreeMap::new();
        for uses in &self.tensors {
            let mut counted = BTreeSet::new();
            for using in uses {
                let new = groups(&using.elements).into_iter().filter(|&g| counted.insert(g));
                let footprint = using.footprint(&axes);
                new.for_each(|group| *governed.entry(group).or_default() += footprint);
            }
        }
        for term in self.nodes.iter().flat_map(|layer| &layer.terms) {
            let macs = Footprint { macs: term.value(&axes), ..Footprint::default() };
            groups(term).into_iter().for_each(|group| *governed.entry(group).or_default() += macs);
        }
        governed
    }

    /// The fraction of all parameters that some of these groups govern.
    pub fn coverage(&self, groups: impl Iterator<Item = GroupId>) -> f64 {
        let groups: BTreeSet<GroupId> = groups.collect();
        let touched: Vec<bool> =
            self.axes.iter().map(|size| size.mentions(&|g| groups.contains(&g))).collect();
        let (mut covered, mut all) = (0u64, 0u64);
        for uses in &self.tensors {
            let whole = uses.first().map_or(0, |using| using.whole * using.counts);
            all += whole;
            if uses.iter().any(|using| using.elements.touches(&touched)) {
                covered += whole;
            }
        }
        covered as f64 / all.max(1) as f64
    }

    /// The cost of every node that multiplies, in order.
    pub fn layers(&self, sizes: &impl Fn(GroupId) -> Option<usize>) -> Vec<LayerCost> {
        let axes = self.sizes(sizes);
        let layer = |layer: &Layer| LayerCost {
            node: layer.node,
            parameters: layer
                .weights
                .iter()
                .map(|&(tensor, using)| self.tensors[tensor][using].footprint(&axes).parameters)
                .fold(0, u64::saturating_add),
            macs: layer.macs(&axes),
        };
        self.nodes.iter().map(layer).collect()
    }

    fn sizes(&self, sizes: &impl Fn(GroupId) -> Option<usize>) -> Vec<u64> {
        self.axes.iter().map(|size| size.value(sizes)).collect()
    }
}

impl Size {
    fn new(tree: &Tree, groups: &Groups) -> Size {
        match tree {
            &Tree::Atom { atom, size } => match groups.of_atom(atom) {
                Some(group) if size > 1 => Size::Group { group, size },
                _ => Size::Fixed(size as u64),
            },
            Tree::Sum(parts) => {
                Size::Sum(parts.iter().map(|part| Size::new(part, groups)).collect())
            }
            Tree::Product(factors) => {
                Size::Product(factors.iter().map(|factor| Size::new(factor, groups)).collect())
            }
        }
    }

    fn value(&self, sizes: &impl Fn(GroupId) -> Option<usize>) -> u64 {
        match self {
            &Size::Fixed(size) => size,
            &Size::Group { group, size } => sizes(group).unwrap_or(size) as u64,
            Size::Sum(parts) => {
                parts.iter().map(|part| part.value(sizes)).fold(0, u64::saturating_add)
            }
            Size::Product(factors) => {
                factors.iter().map(|factor| factor.value(sizes)).fold(1, u64::saturating_mul)
            }
        }
    }

    /// Adds the groups that it depends on.
    fn collect(&self, groups: &mut BTreeSet<GroupId>) {
        match self {
            Size::Fixed(_) => {}
            &Size::Group { group, .. } => drop(groups.insert(group)),
            Size::Sum(children) | Size::Product(children) => {
                children.iter().for_each(|child| child.collect(groups));
            }
        }
    }

    fn mentions(&self, is: &impl Fn(GroupId) -> bool) -> bool {
        match self {
            Size::Fixed(_) => false,
            &Size::Group { group, .. } => is(group),
            Size::Sum(children) | Size::Product(children) => {
                children.iter().any(|child| child.mentions(is))
            }
        }
    }
}

impl Term {
    fn value(&self, axes: &[u64]) -> u64 {
        self.axes
            .iter()
            .fold(self.coefficient, |product, &axis| product.saturating_mul(axes[axis as usize]))
    }

    fn touches(&self, touched: &[bool]) -> bool {
        self.axes.iter().any(|&axis| touched[axis as usize])
    }
}

impl Stored {
    fn footprint(&self, axes: &[u64]) -> Footprint {
        let elements = self.elements.value(axes);
        let bytes = match self.dtype.size() {
            Some(size) => elements.saturating_mul(size as u64),
            None => elements.div_ceil(2),
        };
        Footprint { parameters: elements * self.counts, macs: 0, bytes }
    }
}

impl Layer {
    fn macs(&self, axes: &[u64]) -> u64 {
        self.terms.iter().map(|term| term.value(axes)).fold(0, u64::saturating_add)
    }
}

/// One copy for all uses that are whole, and one for each other that is cut in its own way.
fn footprint_of_uses(uses: &[Stored], axes: &[u64]) -> Footprint {
    let whole = |using: &&Stored| using.elements.value(axes) == using.whole;
    let first_whole = uses.iter().find(whole).into_iter();
    let cut = uses.iter().filter(|using| !whole(using));
    first_whole.chain(cut).map(|using| using.footprint(axes)).fold(Footprint::default(), Add::add)
}

/// Whether a parameter counts as a weight: not shapes, indices and masks.
pub(crate) fn is_weight(param: &Param) -> bool {
    let quantized = matches!(param.dtype, DType::I8 | DType::U8 | DType::Packed4);
    param.dtype.is_float() || quantized
}

/// The most parameters that a computed weight may be made of: lists of them grow with every node.
const MAX_WEIGHTS: usize = 256;

/// Per value, the parameters that alone determine it; none where they are more than a few hundred.
pub(crate) fn weights_of_values(graph: &Graph) -> Vec<Rc<[ParamId]>> {
    let mut weights: Vec<Rc<[ParamId]>> = graph
        .values
        .iter()
        .map(|value| match value.origin {
            crate::graph::Origin::Param(param) => Rc::from([param]),
            _ => Rc::default(),
        })
        .collect();
    for node in &graph.nodes {
        if node.inputs.iter().flatten().any(|value| weights[value.index()].is_empty()) {
            continue;
        }
        let inputs: BTreeSet<ValueId> = node.inputs.iter().flatten().copied().collect();
        let mut read = inputs.iter().map(|value| &weights[value.index()]);
        let read = match (read.next(), read.next()) {
            (Some(only), None) => only.clone(),
            _ => {
                let all = inputs.iter().flat_map(|value| weights[value.index()].iter().copied());
                let all: BTreeSet<ParamId> = all.collect();
                if all.len() > MAX_WEIGHTS { Rc::default() } else { all.into_iter().collect() }
            }
        };
        for output in &node.outputs {
            weights[output.index()] = read.clone();
        }
    }
    weights
}

/// Per parameter, the position of its tensor in [`Cost::tensors`] and of its use there.
type Places = BTreeMap<ParamId, (usize, usize)>;

struct Builder<'a> {
    analysis: &'a Analysis,
    groups: &'a Groups,
    axes: Vec<Size>,
    /// By representative: the size of a fixed axis, or the position of one that can change.
    known: Vec<Option<Result<u64, u32>>>,
}

impl Builder<'_> {
    fn term(&mut self, axes: impl Iterator<Item = AxisId>) -> Term {
        let mut term = Term { coefficient: 1, axes: Vec::new() };
        for axis in axes {
            match self.size(axis) {
                Ok(size) => term.coefficient = term.coefficient.saturating_mul(size),
                Err(position) => term.axes.push(position),
            }
        }
        term.axes.sort_unstable();
        term
    }

    fn size(&mut self, axis: AxisId) -> Result<u64, u32> {
        let axis = self.analysis.axes.find(axis);
        if let Some(known) = self.known[axis.index()] {
            return known;
        }
        let size = Size::new(&self.analysis.axes.tree(axis), self.groups);
        let result = if size.mentions(&|_| true) {
            self.axes.push(size);
            Err(self.axes.len() as u32 - 1)
        } else {
            Ok(size.value(&|_| None))
        };
        self.known[axis.index()] = Some(result);
        result
    }

    fn macs(&mut self, graph: &Graph, node: NodeId) -> Vec<Term> {
        let Some(rule) = &graph.node(node).rule else { return Vec::new() };
        let factors = self.analysis.factors(node);
        let made_up = |factor: FactorId| {
            let extent = rule.factors[factor.index()].extent;
            (graph.most(extent) != extent.size).then(|| graph.most(extent) as u64)
        };
        let term = |product: &Vec<FactorId>| {
            let stated = product.iter().filter(|&&factor| made_up(factor).is_none());
            let mut term = self.term(stated.map(|factor| factors[factor.index()]));
            let counted = product.iter().filter_map(|&factor| made_up(factor));
            term.coefficient = counted.fold(term.coefficient, u64::saturating_mul);
            term
        };
        rule.macs.iter().map(term).collect()
    }

    /// Per stored tensor the uses that are cut differently, and where each parameter went.
    fn tensors(&mut self, graph: &Graph) -> (Vec<Vec<Stored>>, Places) {
        let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
        let mut tensors: Vec<Vec<Stored>> = Vec::new();
        let mut counts: HashMap<u32, usize> = HashMap::new();
        graph.params.iter().for_each(|param| *counts.entry(param.tensor).or_default() += 1);
        // The uses of a tensor that are cut alike.
        let mut alike: HashMap<(usize, &[Tree]), usize> = HashMap::new();
        let mut places = BTreeMap::new();
        for id in graph.param_ids() {
            let param = graph.param(id);
            if !is_weight(param) {
                continue;
            }
            let tensor = *numbers.entry(param.tensor).or_insert(tensors.len());
            if tensor == tensors.len() {
                tensors.push(Vec::new());
            }
            let uses = &mut tensors[tensor];
            let key = (tensor, self.groups.trees(id));
            let position = match counts.get(&param.tensor) {
                Some(2..) => *alike.entry(key).or_insert(uses.len()),
                _ => uses.len(),
            };
            if position == uses.len() {
                let elements = self.term(self.analysis.value(param.value).iter().copied());
                let whole = param.len() as u64;
                let counts = u64::from(param.trained);
                uses.push(Stored { elements, whole, dtype: param.dtype, counts });
            }
            places.insert(id, (tensor, position));
        }
        (tensors, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto;
    use crate::testing::{Builder, Opened};

    /// `x → a (4 channels) → b (6 channels, 2 groups) → linear`, on 5 × 5 pixels.
    fn model() -> Opened {
        Builder::default()
            .input("x", &[1, 3, 5, 5])
            .weight("a", &[4, 3, 3, 3])
            .weight("a_bias", &[4])
            .weight("b", &[6, 4, 1, 1])
            .weight("fc", &[10, 150])
            .node("Conv", &["x", "a", "a_bias"], "ya", &[("pads", &[1, 1, 1, 1])])
            .node("Relu", &["ya"], "r", &[])
            .node("Conv", &["r", "b"], "yb", &[])
            .node("Flatten", &["yb"], "flat", &[])
            .node("Gemm", &["flat", "fc"], "y", &[("#transB", &[1])])
            .output("y", &[1, 10])
            .open()
    }

    #[test]
    fn cost_counts_parameters_bytes_and_macs() {
        let parameters = 4 * 27 + 4 + 24 + 1500;
        let macs = 25 * 4 * 27 + 25 * 24 + 1500;
        let expected = Footprint { parameters, macs, bytes: 4 * parameters };
        assert_eq!(model().cost.now(), expected);
    }

    #[test]
    fn cost_follows_the_sizes_of_groups() {
        let model = model();
        let (a, b) = (model.group("a:0").0, model.group("b:0").0);
        let sizes = |group| (group == a).then_some(3).or((group == b).then_some(2));
        let parameters = 3 * 27 + 3 + 6 + 500;
        let macs = 25 * 3 * 27 + 25 * 6 + 500;
        let expected = Footprint { parameters, macs, bytes: 4 * parameters };
        assert_eq!(model.cost.with(&sizes), expected);
        let layers: Vec<_> =
            model.cost.layers(&sizes).iter().map(|layer| (layer.parameters, layer.macs)).collect();
        assert_eq!(layers, [(84, 25 * 81), (6, 150), (500, 500)]);
    }

    #[test]
    fn cost_tells_what_a_group_governs() {
        let model = model();
        let (a, b) = (model.group("a:0").0, model.group("b:0").0);
        let parameters = 4 * 27 + 4 + 24;
        let macs = 25 * 4 * 27 + 25 * 24;
        let expected = Footprint { parameters, macs, bytes: 4 * parameters };
        assert_eq!(model.cost.governed()[&a], expected);
        let fc = Footprint { parameters: 24 + 1500, macs: 25 * 24 + 1500, bytes: 4 * 1524 };
        assert_eq!(model.cost.governed()[&b], fc);
        assert_eq!(model.cost.coverage([a, b].into_iter()), 1.0);
        assert_eq!(model.cost.coverage([a].into_iter()), 136.0 / 1636.0);
        assert_eq!(model.cost.coverage([].into_iter()), 0.0);
    }

    #[test]
    fn cost_packs_four_bit_weights_and_skips_indices() {
        const INT4: i32 = 22;
        let model = Builder::default()
            .input("x", &[1, 3])
            .raw("q", &[3, 5], INT4, vec![0; 8])
            .floats("scale", &[], &[0.5])
            .ints("shape", &[5, 1])
            .node("DequantizeLinear", &["q", "scale"], "w", &[])
            .node("MatMul", &["x", "w"], "h", &[])
            .node("Reshape", &["h", "shape"], "y", &[])
            .output("y", &[5, 1])
            .open();
        let now = model.cost.now();
        assert_eq!((now.parameters, now.bytes), (16, 8 + 4));
    }

    #[test]
    fn cost_counts_a_shared_weight_once() {
        let model = Builder::default()
            .input("x", &[1, 4])
            .raw("w", &[4, 4], proto::FLOAT, vec![0; 64])
            .node("MatMul", &["x", "w"], "h", &[])
            .node("MatMul", &["h", "w"], "y", &[])
            .output("y", &[1, 4])
            .open();
        assert_eq!(model.cost.now(), Footprint { parameters: 16, macs: 32, bytes: 64 });
    }

    #[test]
    fn cost_counts_uses_that_are_cut_apart_as_copies() {
        let using = |term, whole| Stored { elements: term, whole, dtype: DType::F16, counts: 1 };
        let term = |axis| Term { coefficient: 2, axes: vec![axis] };
        let uses = [using(term(0), 8), using(term(1), 8)];
        let parameters = |axes: &[u64]| footprint_of_uses(&uses, axes).parameters;
        assert_eq!(parameters(&[4, 4]), 8);
        assert_eq!(parameters(&[3, 4]), 14);
        assert_eq!(parameters(&[3, 2]), 10);
    }
}
