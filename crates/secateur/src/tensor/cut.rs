//! Cuts: which parts of a shape stay, as nested levels of runs and positions.

use std::io::{self, Write};

use super::gather::{Gather, Packer, Source, Stream, is_unit};
use super::words::WORD;
use super::{byte_len, element_count};
use crate::{DType, Error, Result};

/// A validated traversal of one shape that drops or zeroes what is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    unit: Unit,
    source_len: usize,
    dims: Vec<usize>,
    byte_len: usize,
    /// Outermost first; strides are in bytes, or in elements for [`Unit::Nibble`].
    levels: Vec<Level>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte,
    /// Packed elements whose runs do not all start and end on whole bytes.
    Nibble {
        count: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) stride: usize,
    pub(super) picks: Picks,
}

impl Level {
    const EMPTY: Self = Self { stride: 0, picks: Picks::Runs(Vec::new()) };

    fn whole(stride: usize, len: usize) -> Self {
        Self { stride, picks: Picks::Runs(vec![Run::Copy { start: 0, len }]) }
    }

    /// Joins positions into runs, but where these are so short that each costs more than its bytes.
    fn join(&mut self, is_last: bool) {
        const SHORT: usize = 256;
        let Picks::Each(positions) = &mut self.picks else { return };
        let runs =
            1 + positions.windows(2).filter(|pair| pair[0].wrapping_add(1) != pair[1]).count();
        let is_short = positions.len() * self.stride < runs * SHORT;
        let stays = if is_last { is_unit(self.stride) && is_short } else { runs > 1 };
        if !stays {
            self.picks = Picks::Runs(copy_runs(positions));
        } else if is_last && self.stride == WORD && positions.is_sorted_by(|a, b| a < b) {
            self.picks = Picks::Words(marks(positions), std::mem::take(positions));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Picks {
    Runs(Vec<Run>),
    /// One by one, where runs are short.
    Each(Vec<u32>),
    /// Sorted positions of words, and a bit for each that is picked.
    Words(Vec<u8>, Vec<u32>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    Copy { start: usize, len: usize },
    Zero { len: usize },
}

impl Cut {
    /// Keeps the given indices of each axis, in the given order.
    ///
    /// # Errors
    /// When `keep` does not have one entry per axis, an index is out of range, or for strings.
    pub fn keep(dtype: DType, dims: &[usize], keep: &[Option<Vec<u32>>]) -> Result<Self> {
        check(dims, keep)?;
        let kept = |(&dim, keep): (&usize, &Option<Vec<u32>>)| keep.as_ref().map_or(dim, Vec::len);
        let kept_dims = dims.iter().zip(keep).map(kept).collect();
        Self::build(dtype, dims, kept_dims, keep, |_, keep| Picks::Each(keep.to_vec()))
    }

    /// Keeps the shape, and zeroes all that [`Cut::keep`] would drop.
    ///
    /// # Errors
    /// As [`Cut::keep`].
    pub fn zero(dtype: DType, dims: &[usize], keep: &[Option<Vec<u32>>]) -> Result<Self> {
        check(dims, keep)?;
        Self::build(dtype, dims, dims.to_vec(), keep, |dim, keep| Picks::Runs(mask_runs(dim, keep)))
    }

    fn build(
        dtype: DType,
        dims: &[usize],
        kept_dims: Vec<usize>,
        keep: &[Option<Vec<u32>>],
        picks: fn(usize, &[u32]) -> Picks,
    ) -> Result<Self> {
        let source_len = byte_len(dtype, dims)?;
        let byte_len = byte_len(dtype, &kept_dims)?;
        let empty = dims.contains(&0) || kept_dims.contains(&0);
        let mut levels = if empty { vec![Level::EMPTY] } else { levels(dims, keep, picks) };
        let unit = scale_strides(dtype, element_count(dims)?, &mut levels);
        let last = levels.len().saturating_sub(1);
        levels.iter_mut().enumerate().for_each(|(at, level)| level.join(at == last));
        Ok(Self { unit, source_len, dims: kept_dims, byte_len, levels })
    }

    /// The shape of the result.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The size of the result in bytes.
    pub fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// Streams the result for `data` into `sink`, run by run.
    ///
    /// # Errors
    /// What `sink` gives; `InvalidInput` when `data` is not of the shape's size.
    pub fn write(&self, data: &[u8], sink: &mut dyn Write) -> io::Result<()> {
        self.write_passing(data, sink, &mut |_| ())
    }

    /// As [`Cut::write`]; `passed` is told now and then how many bytes of `data` have been read.
    /// Where kept indices are sorted, those are not read again.
    ///
    /// # Errors
    /// As [`Cut::write`].
    pub fn write_passing(
        &self,
        data: &[u8],
        sink: &mut dyn Write,
        passed: &mut dyn FnMut(usize),
    ) -> io::Result<()> {
        if data.len() != self.source_len {
            let (expected, found) = (self.source_len, data.len());
            let message = format!("tensor data takes {expected} bytes, found {found}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match self.unit {
            Unit::Byte => self.stream(Source::bytes(data), data.len(), Stream { sink, passed }),
            Unit::Nibble { count } => {
                let mut packer = Packer::new(sink);
                let passed = &mut |nibbles| passed(nibbles / 2);
                self.stream(Source::packed(data), count, Stream { sink: &mut packer, passed })?;
                packer.finish()
            }
        }
    }

    /// Puts the result for `data` into `out`, which is as long as that.
    ///
    /// # Errors
    /// When `data` is not of the shape's size, or `out` not of the result's.
    pub fn fill(&self, data: &[u8], mut out: &mut [u8]) -> Result<()> {
        if out.len() != self.byte_len {
            let (expected, found) = (self.byte_len, out.len());
            return Err(Error::argument(format!("a cut of {expected} bytes into {found}")));
        }
        match self.unit {
            Unit::Byte if data.len() == self.source_len => {
                Gather::new(Source::bytes(data), out, None).run(&self.levels, data.len())
            }
            _ => self.write(data, &mut out),
        }
        .map_err(Error::malformed)
    }

    /// The result for `data` in memory.
    ///
    /// # Errors
    /// When `data` is not of the shape's size.
    pub fn to_vec(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut out = vec![0; self.byte_len];
        self.fill(data, &mut out)?;
        Ok(out)
    }

    fn stream(&self, source: Source<'_>, len: usize, stream: Stream<'_>) -> io::Result<()> {
        let elements = self.dims.iter().fold(1, |n: usize, &dim| n.saturating_mul(dim));
        let mut buffer = vec![0; Gather::CAPACITY.min(self.byte_len.max(elements))];
        Gather::new(source, &mut buffer, Some(stream)).run(&self.levels, len)
    }
}

fn check(dims: &[usize], keep: &[Option<Vec<u32>>]) -> Result<()> {
    if keep.len() != dims.len() {
        let (expected, found) = (dims.len(), keep.len());
        return Err(Error::argument(format!(
            "a cut of shape {dims:?} needs {expected} axes, found {found}"
        )));
    }
    for (axis, (&dim, keep)) in dims.iter().zip(keep).enumerate() {
        if let Some(index) = keep.iter().flatten().find(|&&index| index as usize >= dim) {
            return Err(Error::argument(format!(
                "index {index} is out of range on axis {axis} of shape {dims:?}"
            )));
        }
    }
    Ok(())
}

/// One level per cut axis, and one per block of whole axes outside of a cut one.
fn levels(
    dims: &[usize],
    keep: &[Option<Vec<u32>>],
    picks: fn(usize, &[u32]) -> Picks,
) -> Vec<Level> {
    let mut levels = Vec::new();
    let (mut stride, mut whole) = (1, 1);
    for (&dim, keep) in dims.iter().zip(keep).rev() {
        let Some(keep) = keep.as_ref().filter(|keep| !is_whole(dim, keep)) else {
            whole *= dim;
            continue;
        };
        if whole > 1 && !levels.is_empty() {
            levels.push(Level::whole(stride, whole));
        }
        stride *= whole;
        levels.push(Level { stride, picks: picks(dim, keep) });
        (stride, whole) = (stride * dim, 1);
    }
    if !levels.is_empty() && whole > 1 {
        levels.push(Level::whole(stride, whole));
    }
    levels.reverse();
    levels
}

fn is_whole(dim: usize, keep: &[u32]) -> bool {
    keep.len() == dim && keep.iter().enumerate().all(|(at, &index)| at == index as usize)
}

/// A bit for each position, from the lowest of the first byte on.
fn marks(positions: &[u32]) -> Vec<u8> {
    let mut marks = vec![0; positions.last().map_or(0, |&last| last as usize / 8 + 1)];
    positions.iter().for_each(|&at| marks[at as usize / 8] |= 1 << (at % 8));
    marks
}

fn copy_runs(keep: &[u32]) -> Vec<Run> {
    let mut runs = Vec::new();
    for &index in keep {
        let index = index as usize;
        match runs.last_mut() {
            Some(Run::Copy { start, len }) if *start + *len == index => *len += 1,
            _ => runs.push(Run::Copy { start: index, len: 1 }),
        }
    }
    runs
}

fn mask_runs(dim: usize, keep: &[u32]) -> Vec<Run> {
    let mut mask = vec![false; dim];
    for &index in keep {
        if let Some(kept) = mask.get_mut(index as usize) {
            *kept = true;
        }
    }
    let mut start = 0;
    let mut runs = Vec::new();
    for block in mask.chunk_by(|a, b| a == b) {
        let len = block.len();
        runs.push(if block[0] { Run::Copy { start, len } } else { Run::Zero { len } });
        start += len;
    }
    runs
}

/// Turns strides in elements into strides in bytes where every run covers whole bytes.
fn scale_strides(dtype: DType, count: usize, levels: &mut [Level]) -> Unit {
    let Some(size) = dtype.size() else {
        if levels.iter().any(|level| level.stride % 2 == 1) {
            return Unit::Nibble { count };
        }
        levels.iter_mut().for_each(|level| level.stride /= 2);
        return Unit::Byte;
    };
    levels.iter_mut().for_each(|level| level.stride *= size);
    Unit::Byte
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{Keep, TensorView};
    use super::*;

    fn shape_and_keep() -> impl Strategy<Value = (Vec<usize>, Keep)> {
        proptest::collection::vec(0_usize..6, 0..5).prop_flat_map(|dims| {
            let keeps: Vec<_> = dims.iter().map(|&dim| axis_keep(dim)).collect();
            (Just(dims), keeps)
        })
    }

    fn axis_keep(dim: usize) -> BoxedStrategy<Option<Vec<u32>>> {
        if dim == 0 {
            return prop_oneof![Just(None), Just(Some(vec![]))].boxed();
        }
        let indices = proptest::collection::vec(0..dim as u32, 0..=dim + 1);
        prop_oneof![Just(None), indices.prop_map(Some)].boxed()
    }

    fn positions(dims: &[usize]) -> Vec<Vec<usize>> {
        dims.iter().fold(vec![vec![]], |prefixes, &dim| {
            let extend = |prefix: &Vec<usize>| {
                (0..dim).map(|at| [prefix.as_slice(), &[at]].concat()).collect::<Vec<_>>()
            };
            prefixes.iter().flat_map(extend).collect()
        })
    }

    fn offset(dims: &[usize], position: &[usize]) -> usize {
        dims.iter().zip(position).fold(0, |offset, (dim, at)| offset * dim + at)
    }

    fn naive_take(dims: &[usize], keep: &Keep, data: &[u16]) -> Vec<u16> {
        let kept: Vec<usize> =
            dims.iter().zip(keep).map(|(&d, k)| k.as_ref().map_or(d, Vec::len)).collect();
        let source = |position: Vec<usize>| {
            let at = |(at, keep): (&usize, &Option<Vec<u32>>)| {
                keep.as_ref().map_or(*at, |keep| keep[*at] as usize)
            };
            let position: Vec<usize> = position.iter().zip(keep).map(at).collect();
            data[offset(dims, &position)]
        };
        positions(&kept).into_iter().map(source).collect()
    }

    fn naive_zero(dims: &[usize], keep: &Keep, data: &[u16]) -> Vec<u16> {
        let kept = |position: &[usize]| {
            position
                .iter()
                .zip(keep)
                .all(|(at, keep)| keep.as_ref().is_none_or(|keep| keep.contains(&(*at as u32))))
        };
        positions(dims)
            .iter()
            .zip(data)
            .map(|(position, &value)| if kept(position) { value } else { 0 })
            .collect()
    }

    fn encode(dtype: DType, values: &[u16]) -> Vec<u8> {
        if dtype == DType::Packed4 {
            let low = |pair: &[u16]| (pair[0] % 15 + 1) as u8;
            let high = |pair: &[u16]| pair.get(1).map_or(0, |value| (value % 15 + 1) as u8);
            return values.chunks(2).map(|pair| low(pair) | high(pair) << 4).collect();
        }
        let size = dtype.size().unwrap();
        values.iter().flat_map(|v| v.to_le_bytes().into_iter().cycle().take(size)).collect()
    }

    fn encode_zeroed(dtype: DType, values: &[u16]) -> Vec<u8> {
        if dtype != DType::Packed4 {
            return encode(dtype, values);
        }
        let nibble = |value: Option<&u16>| match value {
            None | Some(0) => 0,
            Some(value) => (value % 15 + 1) as u8,
        };
        values.chunks(2).map(|p| nibble(p.first()) | nibble(p.get(1)) << 4).collect()
    }

    proptest! {
        #[test]
        fn cut_agrees_with_a_naive_reference(
            (dims, keep) in shape_and_keep(),
            dtype in prop::sample::select(vec![
                DType::U8, DType::F16, DType::F32, DType::I64, DType::Complex128, DType::Packed4,
            ]),
        ) {
            let count = element_count(&dims).unwrap();
            let values: Vec<u16> = (0..count).map(|at| at as u16 + 1).collect();
            let data = encode(dtype, &values);

            let kept = Cut::keep(dtype, &dims, &keep).unwrap();
            let expected = encode(dtype, &naive_take(&dims, &keep, &values));
            prop_assert_eq!(kept.byte_len(), expected.len());
            prop_assert_eq!(kept.to_vec(&data).unwrap(), expected);

            let zeroed = Cut::zero(dtype, &dims, &keep).unwrap();
            let expected = encode_zeroed(dtype, &naive_zero(&dims, &keep, &values));
            prop_assert_eq!(zeroed.dims(), &dims);
            prop_assert_eq!(zeroed.to_vec(&data).unwrap(), expected);
        }
    }

    #[test]
    fn long_runs_and_many_short_ones_cross_the_buffer() {
        let dims = [3, 50_000, 3];
        let data: Vec<u8> = (0..450_000_u32).map(|at| (at % 251) as u8 + 1).collect();
        let last = Cut::keep(DType::U8, &dims, &[None, None, Some(vec![0, 2])]).unwrap();
        let expected: Vec<u8> = data.chunks(3).flat_map(|row| [row[0], row[2]]).collect();
        assert_eq!(last.to_vec(&data).unwrap(), expected);
        let first = Cut::keep(DType::U8, &dims, &[Some(vec![2]), None, None]).unwrap();
        assert_eq!(first.to_vec(&data).unwrap(), data[300_000..]);
        let zero = Cut::zero(DType::U8, &dims, &[Some(vec![2]), None, None]).unwrap();
        let zeroed = zero.to_vec(&data).unwrap();
        assert!(zeroed[..300_000].iter().all(|&byte| byte == 0));
        assert_eq!(zeroed[300_000..], data[300_000..]);
    }

    #[test]
    fn words_are_gathered_from_one_row_and_from_many() {
        let data: Vec<u8> = (0..300 * 1003_u32).flat_map(u32::to_le_bytes).collect();
        let picked: Vec<u32> = (0..1003).filter(|at| at % 7 != 3 && at % 2 == 0).collect();
        for rows in [1, 300] {
            let data = &data[..rows * 1003 * 4];
            let cut = Cut::keep(DType::F32, &[rows, 1003], &[None, Some(picked.clone())]).unwrap();
            let row = |row: u32| picked.iter().map(move |at| row * 1003 + at);
            let expected: Vec<u32> = (0..rows as u32).flat_map(row).collect();
            let found = cut.to_vec(data).unwrap();
            let found: Vec<u32> =
                found.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn overflowing_shapes_are_refused() {
        assert!(byte_len(DType::F32, &[1 << 40, 1 << 40]).is_err());
        assert!(byte_len(DType::Complex128, &[1 << 60]).is_err());
        assert!(Cut::keep(DType::F32, &[usize::MAX, 2], &[None, None]).is_err());
        assert!(Cut::keep(DType::F32, &[0, usize::MAX, 3], &[None, None, Some(vec![1])]).is_ok());
        assert_eq!(byte_len(DType::F32, &[usize::MAX, usize::MAX, 0]).unwrap(), 0);
    }

    #[test]
    fn wrong_cuts_name_axis_and_index() {
        let error = Cut::keep(DType::F32, &[2, 3], &[None, Some(vec![3])]).unwrap_err();
        assert_eq!(error.to_string(), "index 3 is out of range on axis 1 of shape [2, 3]");
        let error = Cut::keep(DType::F32, &[2, 3], &[None]).unwrap_err();
        assert_eq!(error.to_string(), "a cut of shape [2, 3] needs 2 axes, found 1");
        let error = Cut::keep(DType::String, &[2], &[None]).unwrap_err();
        assert_eq!(error.to_string(), "a string tensor cannot be cut");
    }

    #[test]
    fn integers_are_read_in_their_own_width() {
        let view = |dtype, data: &[u8]| {
            let dims = vec![data.len() / dtype_size(dtype)];
            TensorView::new(dtype, dims, Bytes::copy_from_slice(data)).unwrap().to_i64s()
        };
        fn dtype_size(dtype: DType) -> usize {
            dtype.size().unwrap()
        }
        assert_eq!(view(DType::I8, &[255]), Some(vec![-1]));
        assert_eq!(view(DType::U16, &[255, 255]), Some(vec![65535]));
        assert_eq!(view(DType::U64, &[255; 8]), None);
        assert_eq!(view(DType::F32, &[0; 4]), None);
    }
}
