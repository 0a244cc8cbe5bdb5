//! What an operator family sees of the ONNX node that it decodes.

use std::cell::Cell;

use super::hints::guess_remedy;
use super::import::{Formal, Importer};
use super::proto::{AttributeProto, NodeProto, attribute_type};
use crate::graph::{Extent, Node, Open, Origin, ValueId};
use crate::ops::Op;
use crate::size::{Expr, ExprId, Literal, Scalar};
use crate::tensor::TensorView;
use crate::zero::Zero;
use crate::{Error, Result};

/// Decodes one node: reads its attributes and inputs, and adds nodes to the graph.
pub type Decode = for<'d, 'a> fn(&mut Decoder<'d, 'a>) -> Result<()>;

/// One ONNX node and the graph that it is decoded into.
///
/// What a node reads as data comes from [`Decoder::input`]; numbers that follow sizes from
/// [`Decoder::exprs`] and [`Decoder::literal`]; numbers that must keep their value from
/// [`Decoder::known`] and [`Decoder::number`].
pub struct Decoder<'d, 'a> {
    importer: &'d mut Importer<'a>,
    index: u32,
    node: &'a NodeProto,
    bound: Vec<Option<ValueId>>,
    /// An attribute that was asked for and is of another type.
    mistyped: Cell<Option<&'a str>>,
}

impl<'d, 'a> Decoder<'d, 'a> {
    pub(super) fn new(importer: &'d mut Importer<'a>, index: u32, node: &'a NodeProto) -> Self {
        let bound = vec![None; node.output.len()];
        Decoder { importer, index, node, bound, mistyped: Cell::new(None) }
    }

    /// The operator's name.
    pub fn kind(&self) -> &str {
        &self.node.op_type
    }

    /// The version of the standard operator set.
    pub fn opset(&self) -> i64 {
        self.importer.opset()
    }

    /// Number of inputs, omitted ones counted.
    pub fn input_count(&self) -> usize {
        self.node.input.len()
    }

    /// Number of results that have a name.
    pub fn output_count(&self) -> usize {
        self.node.output.iter().filter(|name| !name.is_empty()).count()
    }

    /// Number of results up to the last that has a name.
    pub fn result_slots(&self) -> usize {
        self.node.output.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
    }

    /// Whether something reads result `slot`.
    pub fn is_read(&self, slot: usize) -> bool {
        self.node.output.get(slot).is_some_and(|name| self.importer.is_read(name))
    }

    /// Whether something reads more of result `slot` than its shape.
    pub fn is_read_as_data(&self, slot: usize) -> bool {
        self.node.output.get(slot).is_some_and(|name| self.importer.is_read_as_data(name))
    }

    /// Whether input `slot` is given.
    pub fn has(&self, slot: usize) -> bool {
        self.node.input.get(slot).is_some_and(|name| self.importer.is_given(name))
    }

    /// Input `slot` as data.
    ///
    /// # Errors
    /// When it is omitted.
    pub fn input(&mut self, slot: usize) -> Result<ValueId> {
        let missing = || Error::malformed(format!("input {slot} is missing"));
        self.optional(slot)?.ok_or_else(missing)
    }

    /// Input `slot` as data; `None` where it is omitted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn optional(&mut self, slot: usize) -> Result<Option<ValueId>> {
        match self.node.input.get(slot) {
            None => Ok(None),
            Some(name) => self.importer.data(name, Some((self.index, slot as u32))),
        }
    }

    /// The shape of a value.
    ///
    /// # Errors
    /// When it is not known.
    pub fn shape(&self, value: ValueId) -> Result<&[Extent]> {
        let value = self.importer.graph.value(value);
        let unknown = || Error::unsupported(format!("the shape of `{}` is not known", value.name));
        value.shape.as_deref().ok_or_else(unknown)
    }

    /// The shape of input `slot`.
    ///
    /// # Errors
    /// When it is omitted, or its shape is not known.
    pub fn input_shape(&mut self, slot: usize) -> Result<Vec<Extent>> {
        let value = self.input(slot)?;
        self.shape(value).map(<[Extent]>::to_vec)
    }

    /// An attribute, and where it is spelled.
    fn spelled(&self, name: &str) -> Option<Formal<'a>> {
        let (position, attribute) =
            (0..).zip(&self.node.attribute).find(|(_, attribute)| attribute.name == name)?;
        Some(self.importer.spelled(self.index, position, attribute))
    }

    /// An attribute of a type; old models do not say the type.
    fn attribute(&self, name: &str, kind: i32) -> Option<&'a AttributeProto> {
        let found = self.spelled(name)?.attribute?;
        if found.r#type != kind && found.r#type != 0 {
            self.mistyped.set(Some(&found.name));
            return None;
        }
        Some(found)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name, attribute_type::INT)?.i
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name, attribute_type::FLOAT)?.f
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name, attribute_type::INTS).map(|attribute| attribute.ints.clone())
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.attribute(name, attribute_type::FLOATS).map(|attribute| attribute.floats.clone())
    }

    /// A text attribute.
    pub fn string(&self, name: &str) -> Option<String> {
        let bytes = self.attribute(name, attribute_type::STRING)?.s.as_ref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// A list of texts; empty where it is absent.
    pub fn strings(&self, name: &str) -> Vec<String> {
        let texts = self
            .attribute(name, attribute_type::STRINGS)
            .map(|attribute| attribute.strings.as_slice());
        let texts = texts.unwrap_or_default().iter();
        texts.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// A tensor attribute.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Option<TensorView>> {
        let attribute = self.attribute(name, attribute_type::TENSOR);
        Ok(attribute.map(|attribute| self.importer.file.constant(attribute)).transpose()?.flatten())
    }

    /// An integer attribute, or an element of a list, that follows a size. `value` is what it is,
    /// or its default where it is absent.
    pub fn literal(&mut self, name: &'static str, index: u32, value: i64) -> ExprId {
        let found = self.spelled(name).and_then(|spelled| spelled.attribute);
        let number = found.filter(|attribute| attribute.r#type != attribute_type::INTS);
        let value = match index {
            0 => number.and_then(|attribute| attribute.i).unwrap_or(value),
            _ => value,
        };
        let literal = match self.spelled(name) {
            Some(Formal { at, .. }) if self.refers(name) => {
                at.map(|(node, attribute)| Literal::CallAttribute { node, attribute, index })
            }
            _ => Some(Literal::Attribute { node: self.index, name, index }),
        };
        self.importer.graph.sizes.add(Expr::Number(Scalar::Int(value), literal))
    }

    /// Whether an attribute refers to one of a call.
    fn refers(&self, name: &str) -> bool {
        let found = self.node.attribute.iter().find(|attribute| attribute.name == name);
        found.is_some_and(|attribute| !attribute.ref_attr_name.is_empty())
    }

    /// The size of one axis of input `slot`.
    ///
    /// # Errors
    /// When the input is omitted.
    pub fn size_of(&mut self, slot: usize, axis: usize) -> Result<ExprId> {
        let value = self.input(slot)?;
        Ok(self.importer.graph.sizes.add(Expr::Dim(value, axis as u32)))
    }

    /// The expressions of an input of integers, which may follow sizes.
    ///
    /// # Errors
    /// When the input is computed from data.
    pub fn exprs(&mut self, slot: usize) -> Result<Vec<ExprId>> {
        let name = self.node.input.get(slot).unwrap_or_default();
        let known = self.importer.known(name).map(|known| known.exprs.clone());
        self.importer.keep_whole(name);
        known.ok_or_else(|| Error::unsupported(format!("input {slot} is computed from data")))
    }

    /// Whether input `slot` is given and computed from data.
    pub fn is_computed(&self, slot: usize) -> bool {
        let name = self.node.input.get(slot).unwrap_or_default();
        self.has(slot) && self.importer.known(name).is_none()
    }

    /// A size that is counted from data, among the elements of axes, if those are known; another
    /// one at every call.
    pub fn count(&mut self, among: &[Extent]) -> Extent {
        self.importer.count(among)
    }

    /// Lets the numbers of an input be what they are, as far as they are known.
    ///
    /// # Errors
    /// When it is a stored tensor that cannot be read.
    pub fn keep(&mut self, slot: usize) -> Result<()> {
        if self.has(slot) && !self.is_computed(slot) {
            let exprs = self.exprs(slot)?;
            self.importer.freeze(&exprs);
        }
        Ok(())
    }

    /// Marks expressions as read for something that must keep its value.
    pub fn freeze(&mut self, exprs: &[ExprId]) {
        self.importer.freeze(exprs);
    }

    /// The expressions of an input whose present values decide on something.
    fn decided(&mut self, slot: usize) -> Result<Vec<ExprId>> {
        let exprs = self.exprs(slot)?;
        if self.open(&exprs) == Open::Counted {
            return Err(Error::unsupported(format!("input {slot} is computed from counts")));
        }
        self.importer.freeze(&exprs);
        Ok(exprs)
    }

    /// The values of an input of integers that do not follow sizes.
    ///
    /// # Errors
    /// When the input is computed from data.
    pub fn known(&mut self, slot: usize) -> Result<Vec<i64>> {
        let exprs = self.decided(slot)?;
        exprs.into_iter().map(|expr| self.eval(expr).map(|(value, _)| value)).collect()
    }

    /// The values of an input of numbers that do not follow sizes.
    ///
    /// # Errors
    /// When the input is computed from data.
    pub fn numbers(&mut self, slot: usize) -> Result<Vec<f64>> {
        let exprs = self.decided(slot)?;
        let value = |&expr: &ExprId| self.scalar(expr).map(Scalar::float);
        let values: Option<Vec<f64>> = exprs.iter().map(value).collect();
        values.ok_or_else(|| Error::unsupported(format!("input {slot} is not defined")))
    }

    /// The stored tensor behind input `slot`, if it is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stored(&self, slot: usize) -> Result<Option<TensorView>> {
        let name = self.node.input.get(slot).unwrap_or_default();
        self.importer.stored(name)
    }

    /// The one number in input `slot`, if it is known; it does not follow sizes.
    pub fn number(&mut self, slot: usize) -> Option<f64> {
        let name = self.node.input.get(slot)?;
        if self.importer.known(name)?.exprs.len() != 1 {
            return None;
        }
        let exprs = self.decided(slot).ok()?;
        self.value(&exprs)
    }

    /// The present value of a lone expression, which then does not follow sizes.
    pub fn value(&mut self, exprs: &[ExprId]) -> Option<f64> {
        let [expr] = exprs else { return None };
        self.importer.freeze(exprs);
        self.scalar(*expr).map(Scalar::float)
    }

    /// Whether input `slot` is known to be all zeros, whatever the sizes.
    pub fn is_zero(&mut self, slot: usize) -> bool {
        let name = self.node.input.get(slot).unwrap_or_default();
        let Some(known) = self.importer.known(name).cloned() else { return false };
        let sizes = &self.importer.graph.sizes;
        let is_zero = |&expr: &ExprId| match sizes.get(expr) {
            Expr::Number(number, _) => number.float() == 0.0,
            _ => false,
        };
        let zero = known.exprs.iter().all(is_zero);
        if zero {
            self.importer.freeze(&known.exprs);
        }
        zero
    }

    /// What stands for zero where input `slot` is the zero point, spread along an axis in blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn zero(&mut self, slot: usize, axis: usize, block: usize) -> Result<Zero> {
        if !self.has(slot) {
            return Ok(Zero::PLAIN);
        }
        let value = self.input(slot)?;
        self.importer.zero(value, axis, block)
    }

    fn scalar(&self, expr: ExprId) -> Option<Scalar> {
        self.importer.graph.scalar(expr)
    }

    /// What may become of the values of expressions.
    pub fn open(&self, exprs: &[ExprId]) -> Open {
        self.importer.graph.open(exprs.iter().copied())
    }

    /// The value of an integer expression, and what may become of it.
    ///
    /// # Errors
    /// When it is not defined.
    pub fn eval(&self, expr: ExprId) -> Result<(i64, Open)> {
        let undefined = || Error::unsupported("a size is not defined");
        let value = self.scalar(expr).and_then(Scalar::int).ok_or_else(undefined)?;
        Ok((value, self.open(&[expr])))
    }

    /// An error about sizes that do not fit, which names guessed input sizes as the likely cause.
    pub fn mismatch(&self, text: String) -> Error {
        if self.node.input.iter().any(|name| self.importer.is_counted(name)) {
            return Error::unsupported(format!("with sizes that are counted from data, {text}"));
        }
        let Some(remedy) = guess_remedy(&self.importer.guessed) else {
            return Error::malformed(text);
        };
        let node = self.importer.node_name(self.node);
        Error::argument(format!("node `{node}`: {text}")).hint(remedy)
    }

    /// Adds a node over given values; returns its first result, which has no name in the source.
    ///
    /// # Errors
    /// When the operands' shapes do not fit the operator.
    pub fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        let inputs = inputs.iter().copied().map(Some).collect();
        let outputs = self.emit_all(op, inputs)?;
        outputs.first().copied().ok_or_else(|| Error::malformed("an operator without results"))
    }

    /// Adds a node over given values, of which some are omitted; returns all of its results.
    ///
    /// # Errors
    /// When the operands' shapes do not fit the operator.
    pub fn emit_all(
        &mut self,
        op: impl Into<Op>,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Vec<ValueId>> {
        for value in inputs.iter().flatten() {
            // Where it stands among the inputs of the source node is not known later.
            if let Origin::Sizes(exprs) = &self.importer.graph.value(*value).origin {
                let exprs = exprs.clone();
                self.importer.freeze(&exprs);
            }
        }
        self.push(op.into(), inputs, &[])
    }

    /// Makes result `slot` of the source node stand for a value.
    pub fn bind(&mut self, slot: usize, value: ValueId) {
        if let Some(bound) = self.bound.get_mut(slot) {
            *bound = Some(value);
        }
        if let Some(name) = self.node.output.get(slot) {
            name.clone_into(&mut self.importer.graph.values[value.index()].name);
        }
    }

    /// Adds the node itself, with all its inputs as data.
    ///
    /// # Errors
    /// When the operands' shapes do not fit the operator.
    pub fn node(&mut self, op: impl Into<Op>) -> Result<()> {
        self.node_over(self.node.input.len(), op)
    }

    /// Adds the node itself, with its first `count` inputs as data; the others were read as numbers.
    ///
    /// # Errors
    /// When the operands' shapes do not fit the operator.
    pub fn node_over(&mut self, count: usize, op: impl Into<Op>) -> Result<()> {
        let count = count.min(self.node.input.len());
        let inputs = (0..count).map(|slot| self.optional(slot)).collect::<Result<Vec<_>>>()?;
        let names: Vec<&str> = self.node.output.iter().collect();
        let outputs = self.push(op.into(), inputs, &names)?;
        for (slot, value) in outputs.into_iter().enumerate() {
            self.bind(slot, value);
        }
        Ok(())
    }

    fn push(
        &mut self,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        names: &[&str],
    ) -> Result<Vec<ValueId>> {
        const MAX_OPERANDS: usize = 4096;
        let operands = inputs.len().max(self.node.output.len());
        if operands > MAX_OPERANDS {
            return Err(Error::unsupported(format!("{operands} operands")));
        }
        for value in inputs.iter().flatten() {
            self.shape(*value)?;
        }
        let rule = self.importer.graph.rule(&op, &inputs);
        let rule = rule.map_err(|error| self.mismatch(error.to_string()))?;
        let node = Node {
            name: self.importer.node_name(self.node),
            kind: self.node.op_type.clone(),
            source: self.index,
            in_function: self.importer.in_function(),
            op,
            rule,
            inputs,
            outputs: Vec::new(),
        };
        self.importer.graph.add_node(node, names)
    }

    /// The source's names for the values that were bound, once the node is `decoded`.
    pub(super) fn finish(self, decoded: Result<()>) -> Result<Vec<(&'a str, ValueId)>> {
        if let Some(name) = self.mistyped.get() {
            return Err(Error::malformed(format!("its attribute `{name}` is of another type")));
        }
        decoded?;
        let mut names = Vec::new();
        for (name, bound) in self.node.output.iter().zip(self.bound) {
            match bound {
                Some(value) if !name.is_empty() => names.push((name, value)),
                None if !name.is_empty() && self.importer.is_read(name) => {
                    return Err(Error::unsupported(format!("the result `{name}`")));
                }
                _ => {}
            }
        }
        Ok(names)
    }
}
