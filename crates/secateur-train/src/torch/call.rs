//! What an operator family sees of the ATen call that it decodes.

use secateur::DType;
use secateur::torch::{Argument, Int, Meta, Node};

use super::Compiler;
use super::memory::{Back, TensorId, View};
use crate::ops::elementwise::{Binary, Cast, Unary};
use crate::ops::shape::Concat;
use crate::ops::{self, Op};
use crate::{Error, Result, Slot};

/// Decodes one call: reads its arguments, and adds steps to the program.
pub(crate) type Decode = for<'c, 'a> fn(&mut Call<'c, 'a>) -> Result<()>;

/// What sort of numbers a tensor holds, the narrower before the wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Bool,
    Int,
    Float,
}

impl Sort {
    fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::Bool => Sort::Bool,
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Sort::Float,
            DType::I8 | DType::U8 | DType::I16 | DType::U16 => Sort::Int,
            DType::I32 | DType::U32 | DType::I64 | DType::U64 => Sort::Int,
            _ => return None,
        })
    }

    pub(crate) fn cast(self) -> Cast {
        match self {
            Sort::Bool => Cast::Bool,
            Sort::Int => Cast::Int,
            Sort::Float => Cast::Float,
        }
    }
}

/// What a result is.
#[derive(Clone, Debug)]
pub(crate) enum Made {
    /// A tensor with memory of its own.
    New(Slot),
    /// A tensor that there was before.
    Same(TensorId),
    /// What shows another.
    View(Slot, Box<View>),
}

/// One ATen call and the program that it is decoded into.
///
/// Arguments have the names of the operator's schema (`native_functions.yaml`).
pub(crate) struct Call<'c, 'a> {
    pub(super) compiler: &'c mut Compiler<'a>,
    pub(super) node: &'a Node,
    pub(super) results: Vec<Option<Made>>,
}

impl<'a> Call<'_, 'a> {
    /// The operator's name: `aten.conv2d`.
    pub(crate) fn operator(&self) -> &'a str {
        self.node.operator()
    }

    /// The overload's name: `default`, `Tensor`, …
    pub(crate) fn overload(&self) -> &'a str {
        self.node.overload()
    }

    /// Number of results.
    pub(crate) fn outputs(&self) -> usize {
        self.results.len()
    }

    /// Whether something reads result `index`.
    pub(crate) fn is_read(&self, index: usize) -> bool {
        let names = super::results(self.node);
        names.get(index).is_some_and(|name| self.compiler.reads.contains(name))
    }

    fn mistyped(&self, name: &str) -> Error {
        Error::unsupported(format!("its argument `{name}` is missing or of another type"))
    }

    /// Whether an argument is given, and not `None`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.node.given(name).is_some()
    }

    /// Whether an argument is a tensor.
    pub(crate) fn is_tensor(&self, name: &str) -> bool {
        matches!(self.node.given(name), Some(Argument::Tensor(_)))
    }

    /// The tensor that an argument names.
    pub(crate) fn id(&mut self, name: &str) -> Result<TensorId> {
        match self.node.given(name) {
            Some(Argument::Tensor(tensor)) => self.compiler.tensor(tensor),
            _ => Err(self.mistyped(name)),
        }
    }

    /// A tensor argument.
    pub(crate) fn tensor(&mut self, name: &str) -> Result<Slot> {
        let id = self.id(name)?;
        self.compiler.memory.read(id, &mut self.compiler.builder)
    }

    /// A tensor argument; `None` where it is omitted, or is a number.
    pub(crate) fn optional(&mut self, name: &str) -> Result<Option<Slot>> {
        self.is_tensor(name).then(|| self.tensor(name)).transpose()
    }

    /// A list of tensors, of which some may be omitted.
    pub(crate) fn tensors(&mut self, name: &str) -> Result<Vec<Option<Slot>>> {
        let Some(Argument::Tensors(names)) = self.node.given(name) else {
            return Err(self.mistyped(name));
        };
        let mut slots = Vec::new();
        for name in names {
            slots.push(match name {
                None => None,
                Some(name) => {
                    let id = self.compiler.tensor(name)?;
                    Some(self.compiler.memory.read(id, &mut self.compiler.builder)?)
                }
            });
        }
        Ok(slots)
    }

    /// The sorts of a list of tensors.
    pub(crate) fn sorts(&self, name: &str) -> Result<Vec<Option<Sort>>> {
        let Some(Argument::Tensors(names)) = self.node.given(name) else {
            return Err(self.mistyped(name));
        };
        let sort = |name: &Option<String>| self.sort_of(name.as_deref()?);
        Ok(names.iter().map(sort).collect())
    }

    fn sort_of(&self, tensor: &str) -> Option<Sort> {
        Sort::of(self.compiler.meta(tensor)?.dtype()?)
    }

    /// What the program says of a tensor argument.
    pub(crate) fn meta(&self, name: &str) -> Result<&'a Meta> {
        let found = match self.node.given(name) {
            Some(Argument::Tensor(tensor)) => self.compiler.meta(tensor),
            _ => None,
        };
        found.ok_or_else(|| self.mistyped(name))
    }

    /// The number of axes of a tensor argument.
    pub(crate) fn rank(&self, name: &str) -> Result<usize> {
        Ok(self.meta(name)?.sizes().len())
    }

    /// The size of an axis of a tensor argument, where it depends on nothing.
    pub(crate) fn size(&self, name: &str, axis: i64) -> Result<Option<usize>> {
        let sizes = self.meta(name)?.sizes();
        Ok(sizes[ops::axis(axis, sizes.len())?])
    }

    /// The sort of a tensor or number.
    pub(crate) fn sort(&self, name: &str) -> Result<Sort> {
        let sort = match self.node.given(name) {
            Some(Argument::Tensor(tensor)) => self.sort_of(tensor),
            Some(Argument::Float(_)) => Some(Sort::Float),
            Some(Argument::Int(_)) => Some(Sort::Int),
            Some(Argument::Bool(_)) => Some(Sort::Bool),
            _ => return Err(self.mistyped(name)),
        };
        sort.ok_or_else(|| Error::unsupported("numbers of a type that cannot be computed with"))
    }

    /// The element type that the program declares of result `index`.
    pub(crate) fn result_dtype(&self, index: usize) -> Option<DType> {
        let names = super::results(self.node);
        self.compiler.meta(names.get(index)?)?.dtype()
    }

    /// The sort that the program declares of result `index`.
    pub(crate) fn result_sort(&self, index: usize) -> Result<Sort> {
        let sort = self.result_dtype(index).and_then(Sort::of);
        sort.ok_or_else(|| Error::unsupported("a result of a type that cannot be computed with"))
    }

    /// The sizes of result `index`; `None` for one that depends on the inputs.
    pub(crate) fn result_sizes(&self, index: usize) -> Result<Vec<Option<usize>>> {
        let names = super::results(self.node);
        let meta = names.get(index).and_then(|name| self.compiler.meta(name));
        let unknown = || Error::unsupported("the shape of its result is not known");
        Ok(meta.ok_or_else(unknown)?.sizes())
    }

    /// A tensor or number as one of this sort.
    pub(crate) fn operand(&mut self, name: &str, sort: Sort) -> Result<Slot> {
        let slot = match self.node.given(name) {
            Some(Argument::Tensor(_)) => self.tensor(name)?,
            Some(&Argument::Float(value)) => self.real(value),
            Some(&Argument::Bool(value)) => self.integer(i64::from(value)),
            Some(&Argument::Int(Int::Number(value))) if sort == Sort::Float => {
                return Ok(self.real(value as f64));
            }
            Some(Argument::Int(int)) => self.compiler.int(int)?,
            _ => return Err(self.mistyped(name)),
        };
        let found = match self.sort(name)? {
            Sort::Bool if !self.is_tensor(name) => Sort::Int,
            found => found,
        };
        Ok(self.cast(slot, found, sort))
    }

    /// A tensor of real numbers.
    pub(crate) fn float(&mut self, name: &str) -> Result<Slot> {
        self.operand(name, Sort::Float)
    }

    /// A tensor of real numbers; `None` where it is omitted.
    pub(crate) fn optional_float(&mut self, name: &str) -> Result<Option<Slot>> {
        self.is_tensor(name).then(|| self.float(name)).transpose()
    }

    /// The same numbers as another sort.
    pub(crate) fn cast(&mut self, slot: Slot, from: Sort, to: Sort) -> Slot {
        match from == to {
            true => slot,
            false => self.emit(to.cast(), &[slot]),
        }
    }

    /// An integer that is no computed one; `default` where it is omitted.
    pub(crate) fn int(&self, name: &str, default: i64) -> Result<i64> {
        match self.node.given(name) {
            None => Ok(default),
            Some(Argument::Int(Int::Number(value))) => Ok(*value),
            Some(Argument::Int(Int::Name(_))) => {
                Err(Error::unsupported(format!("its argument `{name}` is computed")))
            }
            Some(_) => Err(self.mistyped(name)),
        }
    }

    /// The list of integers that an argument holds; a number alone is a list of one.
    pub(crate) fn list(&self, name: &str) -> Result<&'a [Int]> {
        match self.node.given(name) {
            None => Ok(&[]),
            Some(Argument::Ints(ints)) => Ok(ints),
            Some(Argument::Int(int)) => Ok(std::slice::from_ref(int)),
            // An empty list has no type.
            Some(Argument::Tensors(none)) if none.is_empty() => Ok(&[]),
            Some(Argument::Floats(none)) if none.is_empty() => Ok(&[]),
            Some(_) => Err(self.mistyped(name)),
        }
    }

    /// Integers that are no computed ones; none where they are omitted.
    pub(crate) fn ints(&self, name: &str) -> Result<Vec<i64>> {
        let one = |int: &Int| match int {
            Int::Number(value) => Ok(*value),
            Int::Name(_) => Err(Error::unsupported(format!("its argument `{name}` is computed"))),
        };
        self.list(name)?.iter().map(one).collect()
    }

    /// An integer as a tensor; `default` where it is omitted.
    pub(crate) fn scalar(&mut self, name: &str, default: i64) -> Result<Slot> {
        match self.node.given(name) {
            None => Ok(self.integer(default)),
            Some(Argument::Int(int)) => self.compiler.int(int),
            Some(_) => Err(self.mistyped(name)),
        }
    }

    /// A list of integers as a tensor.
    pub(crate) fn vector(&mut self, name: &str) -> Result<Slot> {
        let list = self.list(name)?;
        self.vector_of(list)
    }

    /// Integers as a tensor.
    pub(crate) fn vector_of(&mut self, list: &[Int]) -> Result<Slot> {
        let number = |int: &Int| match int {
            Int::Number(value) => Some(*value),
            Int::Name(_) => None,
        };
        if let Some(numbers) = list.iter().map(number).collect::<Option<Vec<i64>>>() {
            return Ok(self.compiler.builder.vector(&numbers));
        }
        let mut parts = Vec::new();
        for int in list {
            let slot = self.compiler.int(int)?;
            let unsqueeze = ops::shape::Reshape::Unsqueeze(Some(vec![0]));
            parts.push(self.emit(unsqueeze, &[slot]));
        }
        Ok(self.emit(Concat { axis: 0 }, &parts))
    }

    /// A flag.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        match self.node.given(name) {
            Some(Argument::Bool(value)) => *value,
            _ => default,
        }
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        match self.node.given(name)? {
            Argument::Float(value) => Some(*value),
            Argument::Int(Int::Number(value)) => Some(*value as f64),
            Argument::Bool(value) => Some(f64::from(u8::from(*value))),
            _ => None,
        }
    }

    /// A number that is no computed one; `default` where it is omitted.
    pub(crate) fn number_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.has(name) {
            false => Ok(default),
            true => self.number(name).ok_or_else(|| self.mistyped(name)),
        }
    }

    /// A list of numbers; empty where it is omitted.
    pub(crate) fn numbers(&self, name: &str) -> Vec<f64> {
        match self.node.given(name) {
            Some(Argument::Floats(floats)) => floats.clone(),
            _ => Vec::new(),
        }
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        match self.node.given(name)? {
            Argument::String(text) => Some(text),
            _ => None,
        }
    }

    /// A real number as a tensor.
    pub(crate) fn real(&mut self, value: f64) -> Slot {
        self.compiler.builder.real(value)
    }

    /// An integer as a tensor.
    pub(crate) fn integer(&mut self, value: i64) -> Slot {
        self.compiler.builder.integer(value)
    }

    /// Integers as a tensor.
    pub(crate) fn integers(&mut self, values: &[i64]) -> Slot {
        self.compiler.builder.vector(values)
    }

    /// The result of one more step.
    pub(crate) fn emit(&mut self, op: impl Into<Op>, inputs: &[Slot]) -> Slot {
        self.emit_over(op, inputs.iter().copied().map(Some).collect())
    }

    /// The result of one more step, of which operands may be omitted.
    pub(crate) fn emit_over(&mut self, op: impl Into<Op>, inputs: Vec<Option<Slot>>) -> Slot {
        self.compiler.builder.emit(op, inputs)
    }

    /// Two results of one more step.
    pub(crate) fn emit_two(&mut self, op: impl Into<Op>, inputs: &[Slot]) -> [Slot; 2] {
        self.compiler.builder.emit_two(op, inputs.iter().copied().map(Some).collect())
    }

    /// As many results of one more step as the call has.
    pub(crate) fn emit_all(&mut self, op: impl Into<Op>, inputs: Vec<Option<Slot>>) -> Vec<Slot> {
        self.emit_several(self.results.len(), op, inputs)
    }

    /// Several results of one more step.
    pub(crate) fn emit_several(
        &mut self,
        count: usize,
        op: impl Into<Op>,
        inputs: Vec<Option<Slot>>,
    ) -> Vec<Slot> {
        let builder = &mut self.compiler.builder;
        let slots: Vec<Slot> = (0..count).map(|_| builder.slot("")).collect();
        let outputs = slots.iter().copied().map(Some).collect();
        builder.step(op.into(), inputs, outputs);
        slots
    }

    /// A product with a number, unless that is one.
    pub(crate) fn scaled(&mut self, slot: Slot, factor: f64) -> Slot {
        match factor == 1.0 {
            true => slot,
            false => {
                let factor = self.real(factor);
                self.emit(Binary::Mul, &[slot, factor])
            }
        }
    }

    /// Makes result 0 that of one more step.
    pub(crate) fn make(&mut self, op: impl Into<Op>, inputs: &[Slot]) -> Result<()> {
        let slot = self.emit(op, inputs);
        self.bind(0, slot);
        Ok(())
    }

    /// As [`Call::make`], of which operands may be omitted.
    pub(crate) fn make_over(&mut self, op: impl Into<Op>, inputs: Vec<Option<Slot>>) -> Result<()> {
        let slot = self.emit_over(op, inputs);
        self.bind(0, slot);
        Ok(())
    }

    /// Makes result `index` a tensor with memory of its own.
    pub(crate) fn bind(&mut self, index: usize, slot: Slot) {
        self.set(index, Made::New(slot));
    }

    /// Makes result 0 the tensor that an argument names.
    pub(crate) fn same(&mut self, name: &str) -> Result<()> {
        let id = self.id(name)?;
        self.set(0, Made::Same(id));
        Ok(())
    }

    /// Makes result `index` a tensor that shows the one that an argument names.
    pub(crate) fn view(
        &mut self,
        index: usize,
        name: &str,
        op: impl Into<Op>,
        rest: Vec<Slot>,
        back: Back,
    ) -> Result<()> {
        let (op, of) = (op.into(), self.id(name)?);
        let whole = self.tensor(name)?;
        let rest: Vec<Option<Slot>> = rest.into_iter().map(Some).collect();
        let slot = self.emit_over(op.clone(), [vec![Some(whole)], rest.clone()].concat());
        self.set(index, Made::View(slot, Box::new(View { of, op, rest, back })));
        Ok(())
    }

    /// Makes result `index` a tensor that shows one that an argument names in a way that is not
    /// followed: to write one of the two and read the other is refused.
    pub(crate) fn shares(&mut self, index: usize, slot: Slot, name: &str) -> Result<()> {
        let (of, op) = (self.id(name)?, Unary::Identity.into());
        let view = View { of, op, rest: Vec::new(), back: Back::Perhaps };
        self.set(index, Made::View(slot, Box::new(view)));
        Ok(())
    }

    fn set(&mut self, index: usize, made: Made) {
        if let Some(result) = self.results.get_mut(index) {
            *result = Some(made);
        }
    }
}
