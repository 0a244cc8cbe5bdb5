//! Rewrites tensors: new shapes and elements, a new name, a new place.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use super::Rewriter;
use crate::onnx::TensorEdit;
use crate::onnx::changes::Change;
use crate::onnx::encode::{encode_dims, encode_numbers, encode_string};
use crate::onnx::file::{Numeric, numeric_kind};
use crate::onnx::proto::{self, AttributeProto, TensorProto};
use crate::onnx::rope::{Elements, Payload, Rope, without};
use crate::onnx::wire;
use crate::{DType, Error, Result};

impl Rewriter<'_> {
    /// A tensor that is not in the source.
    pub(super) fn new_tensor(
        &mut self,
        name: &str,
        data_type: i32,
        dims: &[usize],
        payload: Payload,
    ) -> Rope {
        let mut head = encode_dims(dims);
        wire::put_int(&mut head, 2, data_type.into());
        wire::put_bytes(&mut head, 8, name.as_bytes());
        let mut rope = Rope::new(head);
        self.push_elements(&mut rope, payload, false);
        rope
    }

    /// The number or numbers of a `Constant`, edited as if they were a tensor.
    pub(super) fn numbers(
        &self,
        range: Range<usize>,
        attribute: &AttributeProto,
        edit: &TensorEdit,
    ) -> Result<Rope> {
        let place = |error: Error| error.at(format!("attribute `{}`", attribute.name));
        let (Some(view), Some(kind)) = (self.file.constant(attribute)?, numeric_kind(attribute))
        else {
            return Err(place(Error::argument("it holds no numbers")));
        };
        let view =
            Change::new(&view, edit).and_then(|change| change.apply(&view)).map_err(place)?;
        if view.dims.len() != usize::from(matches!(kind, Numeric::Floats | Numeric::Ints)) {
            return Err(place(Error::argument(format!("it cannot take shape {:?}", view.dims))));
        }
        let number = match kind {
            Numeric::Float => 2,
            Numeric::Int => 3,
            Numeric::Floats => 7,
            Numeric::Ints => 8,
        };
        let mut rope = without(self.bytes(), range, &[number])?;
        rope.push_new(encode_numbers(number, &view));
        Ok(rope)
    }

    pub(super) fn tensor(
        &mut self,
        range: Range<usize>,
        edit: Option<&TensorEdit>,
        rename: Option<&str>,
    ) -> Result<Rope> {
        const DIMS: u32 = 1;
        const NAME: u32 = 8;
        const ELEMENTS: [u32; 9] = [4, 5, 6, 7, 9, 10, 11, 13, 14];
        let is_external = wire::last_varint(self.bytes(), range.clone(), 14)? == Some(1);
        let may_move = is_external || self.inline_limit.is_some_and(|max| range.len() as u64 > max);
        if edit.is_none() && rename.is_none() && !may_move {
            return Ok(Rope::source(range));
        }
        let tensor = decode::<TensorProto>(self.bytes(), &range)?;
        let Some((dims, payload)) = self.content(&tensor, &range, edit)? else {
            return Ok(Rope::source(range));
        };
        let mut dropped = ELEMENTS.to_vec();
        dropped.extend(dims.as_ref().map(|_| DIMS));
        dropped.extend(rename.map(|_| NAME));
        let mut rope = Rope::new(encode_dims(&dims.unwrap_or_default()));
        let rest = without(self.bytes(), range, &dropped)?;
        rope.append(rest);
        rope.push_new(rename.map_or_else(Vec::new, |name| encode_string(NAME, name)));
        self.push_elements(&mut rope, payload, is_external);
        Ok(rope)
    }

    /// The elements of a tensor after an edit, and its shape where that is new; `None` for elements
    /// that can only stay as they are.
    fn content(
        &self,
        tensor: &TensorProto,
        range: &Range<usize>,
        edit: Option<&TensorEdit>,
    ) -> Result<Option<(Option<Vec<usize>>, Payload)>> {
        let place = |error: Error| error.at(format!("tensor `{}`", tensor.name));
        if edit.is_none() && (tensor.is_external() || has_raw(tensor)) {
            let raw = tensor.raw_data.clone().filter(|_| !tensor.is_external());
            let data = raw.map_or_else(|| self.file.external_bytes(tensor), Ok)?;
            let len = data.len() as u64;
            return Ok(Some((None, Payload { elements: Elements::Dense(data), cut: None, len })));
        }
        let known = proto::dtype(tensor.data_type).filter(|&dtype| dtype != DType::String);
        if edit.is_none() && known.is_none() {
            return Ok(None);
        }
        let view = self.file.tensor(tensor)?;
        let elements = if tensor.is_external() || has_raw(tensor) {
            Elements::Dense(view.data.clone())
        } else {
            Elements::Typed(range.clone())
        };
        let Some(edit) = edit else {
            let len = view.data.len() as u64;
            return Ok(Some((None, Payload { elements, cut: None, len })));
        };
        let change = Change::new(&view, edit).map_err(place)?;
        Ok(Some((Some(change.dims.clone()), change.payload(elements))))
    }

    fn push_elements(&mut self, rope: &mut Rope, payload: Payload, was_external: bool) {
        let large = self.inline_limit.is_some_and(|max| payload.len > max);
        if payload.len == 0 || !(was_external || large) {
            rope.push_data(9, payload);
            return;
        }
        let len = payload.len;
        let offset = self.data.place(payload);
        let mut fields = Vec::new();
        let (offset, len) = (offset.to_string(), len.to_string());
        for (key, value) in [("location", &self.data.name), ("offset", &offset), ("length", &len)] {
            let entry = [encode_string(1, key), encode_string(2, value)].concat();
            wire::put_bytes(&mut fields, 13, &entry);
        }
        wire::put_int(&mut fields, 14, 1);
        rope.push_new(fields);
    }
}

pub(super) fn decode<M: Message + Default>(bytes: &Bytes, range: &Range<usize>) -> Result<M> {
    M::decode(bytes.slice(range.clone())).map_err(Error::malformed)
}

fn has_raw(tensor: &TensorProto) -> bool {
    tensor.raw_data.as_ref().is_some_and(|raw| !raw.is_empty())
}
