//! Gathers what a cut keeps: straight into memory that holds all of it, or through a buffer.

use std::io::{self, Write};

use super::cut::{Level, Picks, Run};
use super::words::{self, WORD};
use crate::prefetch::prefetch;

/// What elements are read from, in bytes, or, where they are packed, in elements of 4 bits.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    data: &'a [u8],
    packed: bool,
}

/// Where what is gathered goes once a buffer is full.
pub(super) struct Stream<'a> {
    pub(super) sink: &'a mut dyn Write,
    /// Told how much of the source has been read.
    pub(super) passed: &'a mut dyn FnMut(usize),
}

/// Copies runs one after the other into a buffer: one for all of them, or, with a stream, one that
/// collects short runs and that long ones pass by.
pub(super) struct Gather<'a, 's> {
    source: Source<'a>,
    buffer: &'a mut [u8],
    /// How much of the buffer is used.
    filled: usize,
    /// How much of the source has been read.
    read: usize,
    stream: Option<Stream<'s>>,
}

impl<'a, 's> Gather<'a, 's> {
    pub(super) const CAPACITY: usize = 1 << 16;

    pub(super) fn new(
        source: Source<'a>,
        buffer: &'a mut [u8],
        stream: Option<Stream<'s>>,
    ) -> Self {
        Gather { source, buffer, filled: 0, read: 0, stream }
    }

    /// Copies what levels pick of the first `len` bytes or elements of the source.
    pub(super) fn run(mut self, levels: &[Level], len: usize) -> io::Result<()> {
        self.walk(levels, 0, len)?;
        self.flush()
    }

    /// Copies what levels pick of the source between `at` and `at + len`.
    fn walk(&mut self, levels: &[Level], at: usize, len: usize) -> io::Result<()> {
        let Some((level, inner)) = levels.split_first() else {
            return self.copy(at, len);
        };
        let stride = level.stride;
        match &level.picks {
            Picks::Each(positions) if inner.is_empty() => self.pick(at, len, stride, positions),
            Picks::Words(marks, positions) => self.pick_words(at, len, marks, positions),
            Picks::Each(positions) => {
                let ahead = AHEAD.div_ceil(stride.max(1));
                for (index, &position) in positions.iter().enumerate() {
                    if let Some(&next) = positions.get(index + ahead) {
                        self.source.prefetch(at + next as usize * stride, stride);
                    }
                    self.walk(inner, at + position as usize * stride, stride)?;
                }
                Ok(())
            }
            Picks::Runs(runs) => runs.iter().try_for_each(|&run| self.take(inner, at, stride, run)),
        }
    }

    fn take(&mut self, inner: &[Level], at: usize, stride: usize, run: Run) -> io::Result<()> {
        match run {
            Run::Zero { len } => self.zeros(len * stride),
            Run::Copy { start, len } if inner.is_empty() => {
                self.copy(at + start * stride, len * stride)
            }
            Run::Copy { start, len } => {
                (start..start + len).try_for_each(|row| self.walk(inner, at + row * stride, stride))
            }
        }
    }

    fn copy(&mut self, at: usize, len: usize) -> io::Result<()> {
        for start in (at..at + len).step_by(Self::CAPACITY) {
            let len = Self::CAPACITY.min(at + len - start);
            let source = self.source;
            let passes = len > Self::CAPACITY / 2 && !source.packed;
            if passes {
                self.flush()?;
            }
            match &mut self.stream {
                Some(stream) if passes => {
                    stream.sink.write_all(&source.data[start..start + len])?;
                }
                _ => source.copy(start, self.room(len)?),
            }
            self.read = start + len;
        }
        Ok(())
    }

    /// Copies single words.
    fn pick_words(
        &mut self,
        at: usize,
        len: usize,
        marks: &[u8],
        picked: &[u32],
    ) -> io::Result<()> {
        let kept = picked.len() * WORD;
        if self.source.packed || kept > Self::CAPACITY {
            return self.pick(at, len, WORD, picked);
        }
        let row = &self.source.data[at..at + len];
        self.room(kept)?;
        let room = &mut self.buffer[self.filled - kept..];
        let done = words::compact(row, marks, room);
        pick_units(WORD, row, &picked[done..], &mut room[done * WORD..kept]);
        self.read = at + len;
        Ok(())
    }

    /// Copies single positions of `stride` each.
    fn pick(&mut self, at: usize, len: usize, stride: usize, picked: &[u32]) -> io::Result<()> {
        let source = self.source;
        let mut unpacked = Vec::new();
        let row = if source.packed {
            unpacked.resize(len, 0);
            source.copy(at, &mut unpacked);
            &unpacked
        } else {
            &source.data[at..at + len]
        };
        for picked in picked.chunks(Self::CAPACITY / stride) {
            pick_units(stride, row, picked, self.room(picked.len() * stride)?);
            self.read = at + len;
        }
        Ok(())
    }

    fn zeros(&mut self, mut len: usize) -> io::Result<()> {
        while len > 0 {
            let step = len.min(self.buffer.len());
            self.room(step)?.fill(0);
            len -= step;
        }
        Ok(())
    }

    /// The next `len` places of the buffer.
    #[inline]
    fn room(&mut self, len: usize) -> io::Result<&mut [u8]> {
        if self.filled + len > self.buffer.len() {
            self.flush()?;
        }
        let start = self.filled;
        self.filled += len;
        Ok(&mut self.buffer[start..start + len])
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.sink.write_all(&self.buffer[..self.filled])?;
        self.filled = 0;
        (stream.passed)(self.read);
        Ok(())
    }
}

impl<'a> Source<'a> {
    pub(super) fn bytes(data: &'a [u8]) -> Self {
        Source { data, packed: false }
    }

    /// Two elements to the byte.
    pub(super) fn packed(data: &'a [u8]) -> Self {
        Source { data, packed: true }
    }

    /// Copies elements, packed ones to one byte each.
    #[inline]
    fn copy(self, at: usize, to: &mut [u8]) {
        if !self.packed {
            return to.copy_from_slice(&self.data[at..at + to.len()]);
        }
        for (at, to) in (at..).zip(to) {
            *to = self.data[at / 2] >> (4 * (at % 2)) & 15;
        }
    }

    /// Asks for a row that will be read soon, behind some that are skipped: as much of it as the
    /// hardware does not see coming by then.
    #[inline]
    fn prefetch(self, at: usize, len: usize) {
        const PAGE: usize = 4096;
        if !self.packed {
            prefetch(&self.data[at..at + len.min(PAGE)]);
        }
    }
}

/// How far ahead rows are asked for: more bytes than memory gives while it is waited for.
const AHEAD: usize = 8192;

/// Defines [`pick_units`] and [`is_unit`] for sizes that are common: numbers, and square kernels of
/// them. Each is copied by moves of a fixed size.
macro_rules! units {
    ($($size:literal)*) => {
        pub(super) fn is_unit(size: usize) -> bool {
            [$($size),*].contains(&size)
        }

        /// Copies the picked units of `size` bytes.
        fn pick_units(size: usize, from: &[u8], picked: &[u32], to: &mut [u8]) {
            match size {
                $($size => {
                    let (from, to) = (from.as_chunks::<$size>().0, to.as_chunks_mut::<$size>().0);
                    to.iter_mut().zip(picked).for_each(|(to, &at)| *to = from[at as usize]);
                })*
                _ => debug_assert!(false, "no unit of {size} bytes"),
            }
        }
    };
}

units!(1 2 4 8 9 16 18 32 36 50 64 98 100 128 196);

/// Takes one element per byte and passes on two per byte.
pub(super) struct Packer<'a> {
    low: Option<u8>,
    sink: &'a mut dyn Write,
}

impl<'a> Packer<'a> {
    pub(super) fn new(sink: &'a mut dyn Write) -> Self {
        Packer { low: None, sink }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.low.map_or(Ok(()), |low| self.sink.write_all(&[low]))
    }
}

impl Write for Packer<'_> {
    fn write(&mut self, nibbles: &[u8]) -> io::Result<usize> {
        let mut packed = Vec::with_capacity(nibbles.len() / 2 + 1);
        for &nibble in nibbles {
            match self.low.take() {
                None => self.low = Some(nibble),
                Some(low) => packed.push(low | nibble << 4),
            }
        }
        self.sink.write_all(&packed)?;
        Ok(nibbles.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
