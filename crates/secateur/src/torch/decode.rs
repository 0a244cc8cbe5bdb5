//! What an operator family sees of the ATen call that it decodes.

use std::ops::Range;

use super::import::{Code, Importer, operator, overload};
use super::schema::{Argument, Int, Node as Call};
use crate::graph::{Extent, Node, Open, ValueId};
use crate::ops::Op;
use crate::size::{ExprId, Literal, Scalar};
use crate::{DType, Error, Result};

/// Decodes one call: reads its arguments, and adds nodes to the graph.
pub type Decode = for<'d, 'a> fn(&mut Decoder<'d, 'a>) -> Result<()>;

/// One ATen call and the graph that it is decoded into.
///
/// Arguments have the names of the operator's schema (`native_functions.yaml`). Tensors come from
/// [`Decoder::tensor`]; numbers that follow sizes from [`Decoder::expr`] and [`Decoder::exprs`];
/// numbers that must keep their value from [`Decoder::int`] and [`Decoder::ints`].
pub struct Decoder<'d, 'a> {
    importer: &'d mut Importer<'a>,
    index: u32,
    call: &'a Call,
    /// The results: their names, where they have one, and values.
    results: Vec<(Option<&'a str>, Option<ValueId>)>,
}

/// The results of a call, in order; an omitted one has no name.
fn results(call: &Call) -> Vec<Option<&str>> {
    let mut names = Vec::new();
    for output in &call.outputs {
        match output {
            Argument::Tensor(name) => names.push(Some(name.as_str())),
            Argument::Tensors(listed) => {
                names.extend(listed.iter().map(|name| name.as_deref()));
            }
            _ => names.push(None),
        }
    }
    names
}

impl<'d, 'a> Decoder<'d, 'a> {
    pub(super) fn new(importer: &'d mut Importer<'a>, index: u32, call: &'a Call) -> Self {
        let results = results(call).into_iter().map(|name| (name, None)).collect();
        Decoder { importer, index, call, results }
    }

    /// The operator's name: `aten.conv2d`.
    pub fn kind(&self) -> &'a str {
        operator(&self.call.target)
    }

    /// The overload's name: `default`, `Tensor`, `dim`, …
    pub fn overload(&self) -> &'a str {
        overload(&self.call.target)
    }

    /// Whether parts that one call makes of one size have to stay of one size.
    pub fn keeps_parts_equal(&self) -> bool {
        self.importer.code == Code::Live
    }

    /// Number of results.
    pub fn output_count(&self) -> usize {
        self.results.len()
    }

    /// An argument that is given, and not `None`.
    fn argument(&self, name: &str) -> Option<&'a Argument> {
        let found = self.call.argument(name).map(|argument| &argument.value);
        found.filter(|value| !matches!(value, Argument::None))
    }

    /// Whether an argument is given, and not `None`.
    pub fn has(&self, name: &str) -> bool {
        self.argument(name).is_some()
    }

    fn mistyped(&self, name: &str) -> Error {
        Error::unsupported(format!("its argument `{name}` is missing or of another type"))
    }

    /// A tensor argument.
    ///
    /// # Errors
    /// When it is no tensor.
    pub fn tensor(&mut self, name: &str) -> Result<ValueId> {
        self.optional(name)?.ok_or_else(|| self.mistyped(name))
    }

    /// A tensor argument; `None` where it is omitted, or is a number.
    ///
    /// # Errors
    /// When nothing makes it.
    pub fn optional(&mut self, name: &str) -> Result<Option<ValueId>> {
        match self.argument(name) {
            Some(Argument::Tensor(tensor)) => self.importer.tensor(tensor).map(Some),
            _ => Ok(None),
        }
    }

    /// A list of tensors, of which some may be omitted.
    ///
    /// # Errors
    /// When it is none.
    pub fn tensors(&mut self, name: &str) -> Result<Vec<Option<ValueId>>> {
        let Some(Argument::Tensors(names)) = self.argument(name) else {
            return Err(self.mistyped(name));
        };
        let one = |name: &Option<String>| {
            name.as_deref().map(|name| self.importer.tensor(name)).transpose()
        };
        names.iter().map(one).collect()
    }

    /// The shape of a value.
    ///
    /// # Errors
    /// When it is not known.
    pub fn shape(&self, value: ValueId) -> Result<Vec<Extent>> {
        let value = self.importer.graph.value(value);
        let unknown = || Error::unsupported(format!("the shape of `{}` is not known", value.name));
        value.shape.clone().ok_or_else(unknown)
    }

    /// The element type of a value.
    pub fn dtype(&self, value: ValueId) -> Option<DType> {
        self.importer.graph.value(value).dtype
    }

    /// The shape that the program declares for result `slot`.
    ///
    /// # Errors
    /// When it declares none.
    pub fn result_shape(&self, slot: usize) -> Result<Vec<Extent>> {
        let name = self.results.get(slot).and_then(|result| result.0);
        let shape = name.and_then(|name| self.importer.declared_shape(name));
        shape.ok_or_else(|| Error::unsupported("the shape of its result is not known"))
    }

    /// The expression of an integer argument; `default` where it is omitted.
    ///
    /// # Errors
    /// When it is no integer.
    pub fn expr(&mut self, name: &'static str, default: i64) -> Result<ExprId> {
        let literal = Literal::Attribute { node: self.index, name, index: 0 };
        match self.argument(name) {
            None => self.importer.expr(&Int::Number(default), literal),
            Some(Argument::Int(int)) => self.importer.expr(int, literal),
            Some(_) => Err(self.mistyped(name)),
        }
    }

    /// The expressions of a list of integers; a number alone is a list of one.
    ///
    /// # Errors
    /// When it is none.
    pub fn exprs(&mut self, name: &'static str) -> Result<Vec<ExprId>> {
        let ints = match self.argument(name) {
            Some(Argument::Ints(ints)) => ints.as_slice(),
            Some(Argument::Int(int)) => std::slice::from_ref(int),
            _ => return Err(self.mistyped(name)),
        };
        let node = self.index;
        let one = |(index, int): (usize, &Int)| {
            self.importer.expr(int, Literal::Attribute { node, name, index: index as u32 })
        };
        ints.iter().enumerate().map(one).collect()
    }

    /// The value of an integer expression, and what may become of it.
    ///
    /// # Errors
    /// When it is not defined.
    pub fn eval(&self, expr: ExprId) -> Result<(i64, Open)> {
        let undefined = || Error::unsupported("a size is not defined");
        let value = self.importer.graph.scalar(expr).and_then(Scalar::int).ok_or_else(undefined)?;
        Ok((value, self.importer.graph.open([expr])))
    }

    /// An integer that keeps its value; `default` where it is omitted.
    ///
    /// # Errors
    /// When it is no integer.
    pub fn int(&mut self, name: &'static str, default: i64) -> Result<i64> {
        let expr = self.expr(name, default)?;
        self.importer.freeze(&[expr]);
        self.eval(expr).map(|(value, _)| value)
    }

    /// A list of integers that keep their value; `None` where it is omitted. A number alone is a
    /// list of one.
    ///
    /// # Errors
    /// When it is no list of integers.
    pub fn ints(&mut self, name: &'static str) -> Result<Option<Vec<i64>>> {
        if !self.has(name) {
            return Ok(None);
        }
        let exprs = self.exprs(name)?;
        self.importer.freeze(&exprs);
        let values = exprs.into_iter().map(|expr| self.eval(expr).map(|(value, _)| value));
        values.collect::<Result<_>>().map(Some)
    }

    /// A flag; `default` where it is omitted.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        match self.argument(name) {
            Some(Argument::Bool(value)) => *value,
            _ => default,
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.argument(name)? {
            Argument::Float(value) => Some(*value),
            Argument::Int(Int::Number(value)) => Some(*value as f64),
            Argument::Bool(value) => Some(f64::from(u8::from(*value))),
            _ => None,
        }
    }

    /// A text.
    pub fn string(&self, name: &str) -> Option<&'a str> {
        match self.argument(name)? {
            Argument::String(text) => Some(text),
            _ => None,
        }
    }

    /// A list of numbers; empty where it is omitted.
    pub fn floats(&self, name: &str) -> Vec<f64> {
        match self.argument(name) {
            Some(Argument::Floats(floats)) => floats.clone(),
            _ => Vec::new(),
        }
    }

    /// Whether an argument is a text.
    pub fn is_string(&self, name: &str) -> bool {
        matches!(self.argument(name), Some(Argument::String(_)))
    }

    /// Marks expressions as read for something that must keep its value.
    pub fn freeze(&mut self, exprs: &[ExprId]) {
        self.importer.freeze(exprs);
    }

    /// An integer that the program does not spell.
    pub fn constant(&mut self, value: i64) -> ExprId {
        self.importer.graph.sizes.int(value)
    }

    /// Adds a node over given values; returns its first result.
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
        let op = op.into();
        for value in inputs.iter().flatten() {
            self.shape(*value)?;
        }
        let rule = self.importer.graph.rule(&op, &inputs)?;
        let node = Node {
            name: self.call.name.to_string(),
            kind: super::import::short(&self.call.target).to_string(),
            source: self.index,
            in_function: false,
            op,
            rule,
            inputs,
            outputs: Vec::new(),
        };
        self.importer.graph.add_node(node, &[])
    }

    /// Adds a node that makes all results of the call.
    ///
    /// # Errors
    /// When the operands' shapes do not fit the operator.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<()> {
        self.node_over(op, inputs.iter().copied().map(Some).collect())
    }

    /// As [`Decoder::node`], with operands that may be omitted.
    ///
    /// # Errors
    /// When the operands' shapes do not fit the operator.
    pub fn node_over(&mut self, op: impl Into<Op>, inputs: Vec<Option<ValueId>>) -> Result<()> {
        let outputs = self.emit_all(op, inputs)?;
        for (slot, value) in outputs.into_iter().enumerate() {
            self.bind(slot, value);
        }
        Ok(())
    }

    /// Whether a later call, or the caller of the graph, reads result `slot`.
    pub fn is_read(&self, slot: usize) -> bool {
        let name = self.results.get(slot).and_then(|result| result.0);
        name.is_some_and(|name| self.importer.is_read(name))
    }

    /// Leaves out results that stand for nothing: what reads one of them is an error.
    pub fn drop_results(&mut self, slots: Range<usize>) {
        for slot in slots {
            if let Some(result) = self.results.get_mut(slot)
                && !result.0.is_some_and(|name| self.importer.is_read(name))
            {
                result.0 = None;
            }
        }
    }

    /// Makes result `slot` stand for a value.
    pub fn bind(&mut self, slot: usize, value: ValueId) {
        if let Some(result) = self.results.get_mut(slot) {
            result.1 = Some(value);
        }
    }

    /// The names of the results and what they stand for, once the call is `decoded`: what the
    /// program declares of them must agree.
    pub(super) fn finish(self, decoded: Result<()>) -> Result<Vec<(&'a str, ValueId)>> {
        decoded?;
        let mut names = Vec::new();
        for (name, value) in self.results {
            let Some(name) = name else { continue };
            let Some(value) = value else {
                return Err(Error::unsupported(format!("the result `{name}`")));
            };
            let declared = self.importer.declared_shape(name);
            let dtype = self.importer.declared(name).and_then(|meta| meta.dtype);
            let made = &mut self.importer.graph.values[value.index()];
            if let (Some(declared), Some(shape)) = (declared, &mut made.shape) {
                let size = |extent: &Extent| extent.size;
                if !declared.iter().map(size).eq(shape.iter().map(size)) {
                    let list = |shape: &[Extent]| shape.iter().map(size).collect::<Vec<_>>();
                    return Err(Error::unsupported(format!(
                        "`{name}` is declared as {:?}, and made as {:?}",
                        list(&declared),
                        list(shape)
                    )));
                }
                for (extent, declared) in shape.iter_mut().zip(declared) {
                    extent.open = extent.open.max(declared.open);
                }
            }
            if made.name.is_empty() {
                made.name = name.to_string();
            }
            made.dtype = made.dtype.or(dtype);
            names.push((name, value));
        }
        Ok(names)
    }
}
