//! Encodes the few messages that an edit adds.

use std::collections::BTreeMap;

use super::AttributeEdit;
use super::proto::attribute_type;
use super::wire;
use crate::tensor::{TensorView, byte_len, element_count};
use crate::{DType, Error, Result};

pub(super) fn encode_ints(dtype: DType, dims: &[usize], values: &[i64]) -> Result<Vec<u8>> {
    let count = element_count(dims)?;
    if count != values.len() {
        let found = values.len();
        return Err(Error::argument(format!("shape {dims:?} takes {count} values, found {found}")));
    }
    let mut out = Vec::with_capacity(byte_len(dtype, dims)?);
    for &value in values {
        let fits = match dtype {
            DType::I64 => put(&mut out, Some(value.to_le_bytes())),
            DType::I32 => put(&mut out, i32::try_from(value).ok().map(i32::to_le_bytes)),
            DType::I16 => put(&mut out, i16::try_from(value).ok().map(i16::to_le_bytes)),
            DType::I8 => put(&mut out, i8::try_from(value).ok().map(i8::to_le_bytes)),
            DType::U64 => put(&mut out, u64::try_from(value).ok().map(u64::to_le_bytes)),
            DType::U32 => put(&mut out, u32::try_from(value).ok().map(u32::to_le_bytes)),
            DType::U16 => put(&mut out, u16::try_from(value).ok().map(u16::to_le_bytes)),
            DType::U8 => put(&mut out, u8::try_from(value).ok().map(u8::to_le_bytes)),
            _ => return Err(Error::argument(format!("a {dtype} tensor takes no integers"))),
        };
        fits.ok_or_else(|| Error::argument(format!("{value} does not fit into {dtype}")))?;
    }
    Ok(out)
}

fn put<const N: usize>(out: &mut Vec<u8>, word: Option<[u8; N]>) -> Option<()> {
    out.extend(word?);
    Some(())
}

pub(super) fn encode_string(number: u32, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes(&mut out, number, value.as_bytes());
    out
}

pub(super) fn encode_dims(dims: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    dims.iter().for_each(|&dim| wire::put_int(&mut out, 1, dim as i64));
    out
}

pub(super) fn encode_value_info(name: &str, data_type: i32, dims: &[usize]) -> Vec<u8> {
    let mut shape = Vec::new();
    for &dim in dims {
        wire::put_bytes(&mut shape, 1, &encode_dims(&[dim]));
    }
    let mut tensor = Vec::new();
    wire::put_int(&mut tensor, 1, data_type.into());
    wire::put_bytes(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    wire::put_bytes(&mut kind, 1, &tensor);
    let mut out = encode_string(1, name);
    wire::put_bytes(&mut out, 2, &kind);
    out
}

/// The inputs of a node from `present` on; names that are not set are empty.
pub(super) fn encode_more_inputs(present: u32, names: &BTreeMap<u32, &str>) -> Vec<u8> {
    let end = names.last_key_value().map_or(present, |(last, _)| last + 1);
    let name = |index| names.get(&index).copied().unwrap_or_default();
    (present..end).flat_map(|index| encode_string(1, name(index))).collect()
}

pub(super) fn encode_attribute(name: &str, value: &AttributeEdit) -> Vec<u8> {
    let Some(encoded) = encode_value(value) else { return Vec::new() };
    let mut out = Vec::new();
    wire::put_bytes(&mut out, 5, &[encode_string(1, name), encoded].concat());
    out
}

/// The value and type fields of an attribute; `None` for a removal.
pub(super) fn encode_value(value: &AttributeEdit) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match value {
        AttributeEdit::Int(value) => {
            wire::put_int(&mut out, 3, *value);
            wire::put_int(&mut out, 20, attribute_type::INT.into());
        }
        AttributeEdit::Float(value) => {
            wire::put_float(&mut out, 2, *value);
            wire::put_int(&mut out, 20, attribute_type::FLOAT.into());
        }
        AttributeEdit::Ints(values) => {
            values.iter().for_each(|&value| wire::put_int(&mut out, 8, value));
            wire::put_int(&mut out, 20, attribute_type::INTS.into());
        }
        AttributeEdit::Remove => return None,
    }
    Some(out)
}

pub(super) fn encode_numbers(number: u32, view: &TensorView) -> Vec<u8> {
    let mut out = Vec::new();
    match view.to_i64s() {
        Some(values) => values.iter().for_each(|&value| wire::put_int(&mut out, number, value)),
        None => view
            .data
            .as_chunks()
            .0
            .iter()
            .for_each(|&word| wire::put_float(&mut out, number, f32::from_le_bytes(word))),
    }
    out
}
