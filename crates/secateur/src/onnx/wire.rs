//! The protobuf wire format: walks the fields of a message in place, and encodes single fields.
//!
//! Knows no schema. Positions are offsets in the whole file, so a field can be copied from there.
//! Specification: <https://protobuf.dev/programming-guides/encoding/>.

use std::ops::Range;

use crate::{Error, Result};

/// How a field is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Length,
    Group,
    Fixed32,
}

/// One field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) wire: Wire,
    /// The field with its tag.
    pub(super) span: Range<usize>,
    /// The field without its tag and length.
    pub(super) payload: Range<usize>,
}

/// The fields of the message at `range`, in file order; ends after an error.
pub(super) fn fields(bytes: &[u8], range: Range<usize>) -> Fields<'_> {
    Fields { bytes: bytes.get(..range.end).unwrap_or(bytes), at: range.start }
}

/// See [`fields`].
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Fields<'_> {
    type Item = Result<Field>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = read_field(self.bytes, self.at);
        self.at = field.as_ref().map_or(self.bytes.len(), |field| field.span.end);
        Some(field)
    }
}

/// The payload of the last length-delimited field `number`.
pub(super) fn last(bytes: &[u8], range: Range<usize>, number: u32) -> Result<Option<Range<usize>>> {
    let mut found = None;
    for field in fields(bytes, range) {
        let field = field?;
        if field.number == number && field.wire == Wire::Length {
            found = Some(field.payload);
        }
    }
    Ok(found)
}

/// The payloads of the length-delimited fields `number`, in order.
pub(super) fn all(bytes: &[u8], range: Range<usize>, number: u32) -> Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    for field in fields(bytes, range) {
        let field = field?;
        if field.number == number && field.wire == Wire::Length {
            found.push(field.payload);
        }
    }
    Ok(found)
}

/// The last value of the varint field `number`.
pub(super) fn last_varint(bytes: &[u8], range: Range<usize>, number: u32) -> Result<Option<u64>> {
    let mut found = None;
    for field in fields(bytes, range) {
        let field = field?;
        if field.number == number && field.wire == Wire::Varint {
            found = Some(read_varint(bytes, field.payload.start)?.0);
        }
    }
    Ok(found)
}

fn read_field(bytes: &[u8], start: usize) -> Result<Field> {
    const MAX_GROUP_DEPTH: u32 = 100;
    read_nested(bytes, start, MAX_GROUP_DEPTH)
}

fn read_nested(bytes: &[u8], start: usize, depth: u32) -> Result<Field> {
    let (tag, at) = read_varint(bytes, start)?;
    let number = u32::try_from(tag >> 3).map_err(|_| malformed(start))?;
    let (wire, payload, end) = match tag & 7 {
        0 => {
            let (_, end) = read_varint(bytes, at)?;
            (Wire::Varint, at..end, end)
        }
        1 => (Wire::Fixed64, at..at + 8, at + 8),
        2 => {
            let (len, at) = read_varint(bytes, at)?;
            let len = usize::try_from(len).map_err(|_| malformed(start))?;
            let end = at.checked_add(len).ok_or_else(|| malformed(start))?;
            (Wire::Length, at..end, end)
        }
        3 => {
            let (close, end) = read_group(bytes, at, number, depth)?;
            (Wire::Group, at..close, end)
        }
        5 => (Wire::Fixed32, at..at + 4, at + 4),
        _ => return Err(malformed(start)),
    };
    if number == 0 || end > bytes.len() {
        return Err(malformed(start));
    }
    Ok(Field { number, wire, span: start..end, payload })
}

/// Where the end tag of group `number` starts and ends.
fn read_group(bytes: &[u8], start: usize, number: u32, depth: u32) -> Result<(usize, usize)> {
    let depth = depth.checked_sub(1).ok_or_else(|| malformed(start))?;
    let mut at = start;
    loop {
        let (tag, end) = read_varint(bytes, at)?;
        if tag == u64::from(number) << 3 | 4 {
            return Ok((at, end));
        }
        at = read_nested(bytes, at, depth)?.span.end;
    }
}

/// The value at `start`, and where it ends.
fn read_varint(bytes: &[u8], start: usize) -> Result<(u64, usize)> {
    let mut value = 0_u64;
    let encoded = bytes.get(start..).unwrap_or_default();
    for (at, &byte) in encoded.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok((value, start + at + 1));
        }
    }
    Err(malformed(start))
}

fn malformed(at: usize) -> Error {
    Error::malformed(format!("invalid protobuf field at byte {at}"))
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends an integer field; negative numbers take ten bytes, as `int32` and `int64` do.
pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value.cast_unsigned());
}

/// Appends a `float` field.
pub(super) fn put_float(out: &mut Vec<u8>, number: u32, value: f32) {
    put_varint(out, u64::from(number) << 3 | 5);
    out.extend(value.to_le_bytes());
}

/// Appends a string, bytes or message field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_header(out, number, value.len() as u64);
    out.extend(value);
}

/// Appends the tag and length of a string, bytes or message field.
pub(super) fn put_header(out: &mut Vec<u8>, number: u32, len: u64) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, len);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<Field>> {
        fields(bytes, 0..bytes.len()).collect()
    }

    #[test]
    fn wire_walks_every_kind_of_field() {
        let mut bytes = Vec::new();
        put_int(&mut bytes, 1, -1);
        put_bytes(&mut bytes, 2, b"abc");
        put_float(&mut bytes, 3, 0.5);
        bytes.extend([4 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([5 << 3 | 3, 1 << 3, 7, 5 << 3 | 4]);
        let found = walk(&bytes).unwrap();
        let kinds: Vec<_> = found.iter().map(|f| (f.number, f.wire, f.payload.len())).collect();
        assert_eq!(
            kinds,
            [
                (1, Wire::Varint, 10),
                (2, Wire::Length, 3),
                (3, Wire::Fixed32, 4),
                (4, Wire::Fixed64, 8),
                (5, Wire::Group, 2),
            ]
        );
        assert_eq!(found.last().unwrap().span.end, bytes.len());
        assert_eq!(last_varint(&bytes, 0..bytes.len(), 1).unwrap(), Some(u64::MAX));
    }

    #[test]
    fn wire_refuses_broken_fields() {
        let deep_groups = vec![1 << 3 | 3; 100_000];
        let huge_length = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let cases: [&[u8]; 7] =
            [&[0x0a, 5, 0], &[0x09, 0], &[0x0d, 0], &[0x80], &[0x0c], &deep_groups, &huge_length];
        for bytes in cases {
            assert!(walk(bytes).is_err(), "{:?}", &bytes[..bytes.len().min(12)]);
        }
    }
}
