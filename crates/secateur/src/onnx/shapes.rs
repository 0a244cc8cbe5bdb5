//! New sizes in declared shapes.

use std::ops::Range;

use super::rope::{Rope, without};
use super::wire::{self, Wire};
use crate::{Error, Result};

/// Sets the sizes of the shape that is found along `path`.
pub(super) fn reshape(
    bytes: &[u8],
    range: Range<usize>,
    path: &[u32],
    dims: &[Option<i64>],
) -> Result<Rope> {
    let Some((&number, path)) = path.split_first() else { return shape(bytes, range, dims) };
    let mut rope = Rope::default();
    for field in wire::fields(bytes, range) {
        let field = field?;
        if field.number == number && field.wire == Wire::Length {
            let message = reshape(bytes, field.payload.clone(), path, dims)?;
            rope.push_changed(field, message);
        } else {
            rope.push_source(field.span);
        }
    }
    Ok(rope)
}

fn shape(bytes: &[u8], range: Range<usize>, dims: &[Option<i64>]) -> Result<Rope> {
    let mut rope = Rope::default();
    let mut axis = 0;
    for field in wire::fields(bytes, range) {
        let field = field?;
        if field.number != 1 || field.wire != Wire::Length {
            rope.push_source(field.span);
            continue;
        }
        let size = dims.get(axis).copied().flatten();
        axis += 1;
        let message = dimension(bytes, field.payload.clone(), size)?;
        rope.push_changed(field, message);
    }
    if axis != dims.len() {
        let expected = dims.len();
        return Err(Error::argument(format!("it has {axis} axes, its new shape {expected}")));
    }
    Ok(rope)
}

fn dimension(bytes: &[u8], range: Range<usize>, size: Option<i64>) -> Result<Rope> {
    const VALUE: u32 = 1;
    let found = wire::last_varint(bytes, range.clone(), VALUE)?;
    let symbolic = wire::last(bytes, range.clone(), 2)?.is_some();
    let (Some(size), Some(found), false) = (size, found, symbolic) else {
        return Ok(Rope::source(range));
    };
    if found.cast_signed() == size {
        return Ok(Rope::source(range));
    }
    let mut value = Vec::new();
    wire::put_int(&mut value, VALUE, size);
    let mut rope = Rope::new(value);
    let rest = without(bytes, range, &[VALUE])?;
    rope.append(rest);
    Ok(rope)
}
