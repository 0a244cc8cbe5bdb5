//! A message in the making: pieces of the source, new bytes, and tensor data yet to be streamed.

use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;

use super::wire;
use crate::Result;
use crate::tensor::Cut;

/// Part of the output.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// A range of the source file.
    Source(Range<usize>),
    New(Vec<u8>),
    Data(Payload),
}

/// The elements of one tensor.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) elements: Elements,
    /// What happens to them on the way; `None` copies.
    pub(super) cut: Option<Cut>,
    /// The size after the cut, in bytes.
    pub(super) len: u64,
}

/// Where elements come from.
#[derive(Clone, Debug)]
pub(super) enum Elements {
    Dense(Bytes),
    /// The typed field of the `TensorProto` at a range of the source file.
    Typed(Range<usize>),
}

/// A message, or part of one, with a known length.
#[derive(Clone, Debug, Default)]
pub(super) struct Rope {
    pieces: Vec<Piece>,
    len: u64,
}

impl Rope {
    /// An unchanged part of the source.
    pub(super) fn source(range: Range<usize>) -> Self {
        let mut rope = Self::default();
        rope.push_source(range);
        rope
    }

    /// New bytes.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let mut rope = Self::default();
        rope.push_new(bytes);
        rope
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Whether this is exactly that part of the source.
    pub(super) fn is_source(&self, range: &Range<usize>) -> bool {
        match self.pieces.as_slice() {
            [] => range.is_empty(),
            [Piece::Source(only)] => only == range,
            _ => false,
        }
    }

    pub(super) fn push_source(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.len += range.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::Source(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Source(range)),
        }
    }

    pub(super) fn push_new(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::New(last)) => last.extend(bytes),
            _ => self.pieces.push(Piece::New(bytes)),
        }
    }

    /// Adds a bytes field with the elements of a tensor.
    pub(super) fn push_data(&mut self, number: u32, payload: Payload) {
        let mut header = Vec::new();
        wire::put_header(&mut header, number, payload.len);
        self.push_new(header);
        self.len += payload.len;
        self.pieces.push(Piece::Data(payload));
    }

    /// Adds a message field.
    pub(super) fn push_message(&mut self, number: u32, message: Rope) {
        let mut header = Vec::new();
        wire::put_header(&mut header, number, message.len);
        self.push_new(header);
        self.append(message);
    }

    /// Adds the content of another rope.
    pub(super) fn append(&mut self, other: Rope) {
        other.pieces.into_iter().for_each(|piece| self.push(piece));
    }

    /// Adds the message field that replaces `field`, or `field` itself where nothing changed.
    pub(super) fn push_changed(&mut self, field: wire::Field, message: Rope) {
        if message.is_source(&field.payload) {
            self.push_source(field.span);
        } else {
            self.push_message(field.number, message);
        }
    }

    fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Source(range) => self.push_source(range),
            Piece::New(bytes) => self.push_new(bytes),
            Piece::Data(payload) => {
                self.len += payload.len;
                self.pieces.push(Piece::Data(payload));
            }
        }
    }
}

/// A message without the fields `numbers`.
pub(super) fn without(bytes: &[u8], range: Range<usize>, numbers: &[u32]) -> Result<Rope> {
    let mut rope = Rope::default();
    for field in wire::fields(bytes, range) {
        let field = field?;
        if !numbers.contains(&field.number) {
            rope.push_source(field.span);
        }
    }
    Ok(rope)
}

/// Writes zeros up to a position, for aligned data.
pub(super) fn write_zeros(sink: &mut dyn Write, mut len: u64) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while len > 0 {
        let step = len.min(ZEROS.len() as u64);
        sink.write_all(&ZEROS[..step as usize])?;
        len -= step;
    }
    Ok(())
}
