//! The value behind a name, made when something first reads it as data.

use std::sync::Arc;

use super::scope::{Binding, Reader, User};
use super::{Importer, unmade};
use crate::graph::{Extent, Origin, Param, ParamId, Value, ValueId, is_countable};
use crate::onnx::eval::Known;
use crate::ops;
use crate::size::{Expr, ExprId};
use crate::tensor::{TensorView, element_count};
use crate::zero::{self, Spread, Zero};
use crate::{DType, Error, Result};

impl<'a> Importer<'a> {
    /// What a name stands for here.
    pub(super) fn find(&self, name: &str) -> Option<&Binding> {
        self.scopes[self.scope_of(name)?].names.get(name)
    }

    fn find_mut(&mut self, name: &str) -> Option<&mut Binding> {
        let scope = self.scope_of(name)?;
        self.scopes[scope].names.get_mut(name)
    }

    /// The scope in which a name stands for something, or the outermost that is seen.
    fn scope_of(&self, name: &str) -> Option<usize> {
        let named = |index: &usize| self.scopes[*index].names.contains_key(name);
        let mut inwards = (0..self.scopes.len()).rev();
        inwards.find(|index| named(index) || !self.scopes[*index].sees_outside())
    }

    pub(super) fn define(&mut self, name: &'a str, binding: Binding) -> Result<()> {
        if self.scope_mut().names.insert(name, binding).is_some() {
            return Err(Error::malformed(format!("the name `{name}` is defined twice")));
        }
        Ok(())
    }

    /// Whether a name stands for something; not so for an input that a call of a function omits.
    pub(in crate::onnx) fn is_given(&self, name: &str) -> bool {
        !name.is_empty() && self.find(name).is_none_or(|binding| !binding.is_omitted())
    }

    /// The expressions behind a name, where it is small and computed from sizes and literals.
    pub(in crate::onnx) fn known(&self, name: &str) -> Option<&Arc<Known>> {
        self.find(name)?.known.as_ref()
    }

    /// Lets a value of which the numbers are read, and which may be a weight, stay whole.
    pub(in crate::onnx) fn keep_whole(&mut self, name: &str) {
        let binding = self.find(name).filter(|binding| binding.known.is_some());
        let Some(value) = binding.and_then(|binding| binding.value) else { return };
        for axis in 0..self.graph.shape(value).len() {
            let size = self.graph.sizes.add(Expr::Dim(value, axis as u32));
            self.graph.frozen.insert(size);
        }
    }

    /// Whether a node reads a name, or its body returns it.
    pub(in crate::onnx) fn is_read(&self, name: &str) -> bool {
        let scope = self.scope();
        scope.returned.contains(name) || scope.uses.contains_key(name)
    }

    /// Whether a node reads more of a name than its shape, or its body returns it.
    pub(in crate::onnx) fn is_read_as_data(&self, name: &str) -> bool {
        let scope = self.scope();
        scope.returned.contains(name) || scope.uses.get(name).is_some_and(|uses| uses.as_data)
    }

    /// The stored tensor behind a name.
    pub(in crate::onnx) fn stored(&self, name: &str) -> Result<Option<TensorView>> {
        let tensor = self.find(name).and_then(|binding| binding.tensor);
        tensor.map(|tensor| self.file.resolve(self.tensors[tensor as usize])).transpose()
    }

    /// What stands for zero where a value is the zero point.
    pub(in crate::onnx) fn zero(&self, value: ValueId, axis: usize, block: usize) -> Result<Zero> {
        let value = zero::unmoved(&self.graph, value);
        let Some(param) = self.graph.as_param(value) else { return Ok(Zero::Computed(value)) };
        let tensor = self.graph.param(param).tensor;
        let view = self.file.resolve(self.tensors[tensor as usize])?;
        Ok(match (view.dtype.is_float() && view.dtype != DType::F8, view.same_code()) {
            (true, _) => Zero::Unclear,
            (false, Some(code)) => Zero::Number(code),
            (false, None) => Zero::Stored(Spread { tensor, axis, block }),
        })
    }

    /// The value behind a name; `None` for an omitted input. `user` is the node and input that
    /// reads it: stored vectors, which exporters share between layers, get one parameter per use.
    pub(in crate::onnx) fn data(
        &mut self,
        name: &'a str,
        user: Option<User>,
    ) -> Result<Option<ValueId>> {
        if name.is_empty() {
            return Ok(None);
        }
        let binding = self.find(name).cloned().ok_or_else(|| unmade(name))?;
        let user = match binding.reader {
            Reader::Call(user) => user,
            Reader::Node => user.filter(|_| !self.scope().in_function),
        };
        if let Some(known) = &binding.known {
            // A computed number that a node reads as data can be held; a stored one is frozen.
            let held = binding.tensor.is_none()
                && user.is_some()
                && !self.graph.is_open(known.exprs.iter().copied());
            if !held {
                self.graph.frozen.extend(&known.exprs);
            }
        }
        let separate = user.and_then(|user| self.separate.get(&user).copied());
        let param = binding.tensor.and_then(|tensor| self.params.get(&tensor).copied());
        if let Some(value) = binding.value.or(param).or(separate) {
            return Ok(Some(value));
        }
        let value = match (binding.tensor, binding.known) {
            (Some(tensor), _) => {
                let (value, only_use) = self.add_param(tensor, user.filter(|_| binding.shared))?;
                if let Some(user) = only_use {
                    self.separate.insert(user, value);
                    let body = self.scope_of(name).map(|scope| self.scopes[scope].body);
                    self.names.extend(body.map(|body| (body, name.to_string(), value)));
                    return Ok(Some(value));
                }
                self.params.insert(tensor, value);
                value
            }
            (None, Some(known)) => self.graph.add_value(Value {
                name: name.to_string(),
                dtype: Some(known.dtype),
                shape: Some(
                    known.dims.iter().map(|&size| Extent { size, open: known.open }).collect(),
                ),
                origin: Origin::Sizes(known.exprs.clone()),
            }),
            (None, None) => return Ok(None),
        };
        if let Some(binding) = self.find_mut(name) {
            binding.value = Some(value);
        }
        Ok(Some(value))
    }

    /// Makes a parameter, and names the one use that it stands for, if it does not stand for all.
    fn add_param(&mut self, tensor: u32, user: Option<User>) -> Result<(ValueId, Option<User>)> {
        let view = self.file.resolve(self.tensors[tensor as usize])?;
        let count = element_count(&view.dims)?;
        let kind = user.map(|(node, _)| self.file.node(node)).transpose()?;
        let kind = kind.map_or("", |node| node.op_type.as_str());
        // Equal vectors are shared by chance, matrices because they are one weight.
        let vector = view.dims.iter().filter(|&&size| size > 1).count() <= 1;
        let apart = vector || ops::elementwise::is(kind) && kind != "Identity";
        let only_use =
            user.filter(|&(_, slot)| count > 1 && (apart || ops::recurrent::is_state(kind, slot)));
        let stored = &self.tensor_names[tensor as usize];
        let shape: Vec<Extent> = view.dims.iter().map(|&size| Extent::fixed(size)).collect();
        if !is_countable(&shape) {
            let name = stored.name.to_string();
            let value = Value { name, dtype: None, shape: None, origin: Origin::Input };
            return Ok((self.graph.add_value(value), None));
        }
        let copies = self.copies.entry(tensor).or_insert(0);
        *copies += 1;
        let mut name = match *copies {
            1 => format!("{}{}", stored.folder, stored.name),
            count => format!("{}{}@{count}", stored.folder, stored.name),
        };
        while !self.param_names.insert(name.clone()) {
            name.push('\'');
        }
        let param = ParamId::new(self.graph.params.len());
        let value = Value {
            name: stored.name.to_string(),
            dtype: Some(view.dtype),
            shape: Some(shape),
            origin: Origin::Param(param),
        };
        let value = self.graph.add_value(value);
        self.graph.params.push(Param {
            label: name.clone(),
            name,
            dtype: view.dtype,
            shape: view.dims,
            tensor,
            trained: true,
            only_use,
            value,
        });
        Ok((value, only_use))
    }

    /// Marks the literals behind expressions as read for something other than a size.
    pub(in crate::onnx) fn freeze(&mut self, exprs: &[ExprId]) {
        self.graph.frozen.extend(exprs);
    }
}
