//! Dense tensor data: checked sizes, and cutting by streaming.
//!
//! Knows nothing of file formats. A [`Cut`] is built once from the shape and the indices that stay,
//! and then streams the data of any tensor of that shape without copying it whole.
//!
//! ```
//! use secateur::{DType, tensor::Cut};
//!
//! let cut = Cut::keep(DType::U8, &[2, 3], &[None, Some(vec![0, 2])])?;
//! assert_eq!(cut.dims(), [2, 2]);
//! assert_eq!(cut.to_vec(&[1, 2, 3, 4, 5, 6])?, [1, 3, 4, 6]);
//! # Ok::<(), secateur::Error>(())
//! ```

use std::io::{self, Write};

use bytes::Bytes;

use crate::size::Scalar;
use crate::{DType, Error, Result};

/// The indices that stay, per axis; `None` keeps the whole axis.
pub type Keep = Vec<Option<Vec<u32>>>;

/// A dense, row-major tensor: little-endian elements, 4-bit ones packed low nibble first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorView {
    /// The element type.
    pub dtype: DType,
    /// The shape; empty for a scalar.
    pub dims: Vec<usize>,
    /// The elements; empty for [`DType::String`], whose elements are not read.
    pub data: Bytes,
}

impl TensorView {
    /// Puts a shape on `data`.
    ///
    /// # Errors
    /// When the data is not as long as the shape asks, or the shape overflows.
    pub fn new(dtype: DType, dims: Vec<usize>, data: Bytes) -> Result<Self> {
        if dtype != DType::String {
            let expected = byte_len(dtype, &dims)?;
            if expected != data.len() {
                let found = data.len();
                return Err(Error::malformed(format!(
                    "a {dtype} tensor of shape {dims:?} takes {expected} bytes, found {found}"
                )));
            }
        }
        Ok(Self { dtype, dims, data })
    }

    /// The elements as `i64`; `None` unless they are integers or booleans that fit.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        let data = &self.data;
        Some(match self.dtype {
            DType::I64 => words(data, i64::from_le_bytes),
            DType::I32 => words(data, |b| i32::from_le_bytes(b).into()),
            DType::I16 => words(data, |b| i16::from_le_bytes(b).into()),
            DType::I8 => words(data, |b| i8::from_le_bytes(b).into()),
            DType::U32 => words(data, |b| u32::from_le_bytes(b).into()),
            DType::U16 => words(data, |b| u16::from_le_bytes(b).into()),
            DType::U8 | DType::Bool => words(data, |b| u8::from_le_bytes(b).into()),
            DType::U64 => {
                let wide = words(data, u64::from_le_bytes);
                wide.into_iter().map(|value| i64::try_from(value).ok()).collect::<Option<_>>()?
            }
            _ => return None,
        })
    }
}

impl TensorView {
    /// A tensor of these numbers; `None` where the type cannot hold them.
    pub fn from_scalars(dtype: DType, dims: Vec<usize>, values: &[Scalar]) -> Option<Self> {
        let bytes = |value: &Scalar| -> Option<Vec<u8>> {
            let float = value.float();
            Some(match dtype {
                DType::I64 => value.int()?.to_le_bytes().to_vec(),
                DType::I32 => i32::try_from(value.int()?).ok()?.to_le_bytes().to_vec(),
                DType::Bool => vec![u8::from(value.int()? != 0)],
                DType::F64 => float.to_le_bytes().to_vec(),
                DType::F32 => (float as f32).to_le_bytes().to_vec(),
                DType::F16 => half::f16::from_f64(float).to_le_bytes().to_vec(),
                DType::BF16 => half::bf16::from_f64(float).to_le_bytes().to_vec(),
                _ => return None,
            })
        };
        let data: Option<Vec<Vec<u8>>> = values.iter().map(bytes).collect();
        TensorView::new(dtype, dims, data?.concat().into()).ok()
    }

    /// The elements as the numbers that their bits stand for, 4-bit and 8-bit floats as unsigned
    /// integers; `None` for other types.
    pub fn to_codes(&self) -> Option<Vec<i64>> {
        match self.dtype {
            DType::Packed4 => {
                let count = element_count(&self.dims).ok()?;
                Some(unpack(&self.data, count).into_iter().map(i64::from).collect())
            }
            DType::F8 => Some(self.data.iter().map(|&byte| byte.into()).collect()),
            _ => self.to_i64s(),
        }
    }

    /// The elements as `f64`; `None` unless they are floats of 16 bits or more.
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        let data = &self.data;
        Some(match self.dtype {
            DType::F64 => words(data, f64::from_le_bytes),
            DType::F32 => words(data, |b| f32::from_le_bytes(b).into()),
            DType::F16 => words(data, |b| half::f16::from_le_bytes(b).into()),
            DType::BF16 => words(data, |b| half::bf16::from_le_bytes(b).into()),
            _ => return None,
        })
    }
}

fn words<const N: usize, T>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|word| read(*word)).collect()
}

/// The number of elements of a shape.
///
/// # Errors
/// When the product overflows.
pub fn element_count(dims: &[usize]) -> Result<usize> {
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
        .filter(|&count| isize::try_from(count).is_ok())
        .ok_or_else(|| Error::malformed(format!("the shape {dims:?} is too large")))
}

/// The bytes that a dense tensor takes.
///
/// # Errors
/// When the size overflows, or for [`DType::String`].
pub fn byte_len(dtype: DType, dims: &[usize]) -> Result<usize> {
    let count = element_count(dims)?;
    match (dtype, dtype.size()) {
        (DType::Packed4, _) => Ok(count.div_ceil(2)),
        (_, Some(size)) => count
            .checked_mul(size)
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or_else(|| Error::malformed(format!("the shape {dims:?} is too large"))),
        (_, None) => Err(no_string()),
    }
}

fn no_string() -> Error {
    Error::unsupported("a string tensor cannot be cut")
}

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
struct Level {
    stride: usize,
    runs: Vec<Run>,
}

impl Level {
    const EMPTY: Self = Self { stride: 0, runs: Vec::new() };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
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
        Self::build(dtype, dims, kept_dims, keep, copy_runs)
    }

    /// Keeps the shape, and zeroes all that [`Cut::keep`] would drop.
    ///
    /// # Errors
    /// As [`Cut::keep`].
    pub fn zero(dtype: DType, dims: &[usize], keep: &[Option<Vec<u32>>]) -> Result<Self> {
        check(dims, keep)?;
        Self::build(dtype, dims, dims.to_vec(), keep, mask_runs)
    }

    fn build(
        dtype: DType,
        dims: &[usize],
        kept_dims: Vec<usize>,
        keep: &[Option<Vec<u32>>],
        runs: fn(usize, &[u32]) -> Vec<Run>,
    ) -> Result<Self> {
        let source_len = byte_len(dtype, dims)?;
        let byte_len = byte_len(dtype, &kept_dims)?;
        let empty = dims.contains(&0) || kept_dims.contains(&0);
        let mut levels = if empty { vec![Level::EMPTY] } else { levels(dims, keep, runs) };
        let unit = scale_strides(dtype, element_count(dims)?, &mut levels);
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
        if data.len() != self.source_len {
            let (expected, found) = (self.source_len, data.len());
            let message = format!("tensor data takes {expected} bytes, found {found}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match self.unit {
            Unit::Byte => self.stream(data, sink),
            Unit::Nibble { count } => {
                let mut packer = Packer { low: None, sink };
                self.stream(&unpack(data, count), &mut packer)?;
                packer.finish()
            }
        }
    }

    /// The result for `data` in memory.
    ///
    /// # Errors
    /// When `data` is not of the shape's size.
    pub fn to_vec(&self, data: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.byte_len);
        self.write(data, &mut out).map_err(Error::malformed)?;
        Ok(out)
    }

    fn stream(&self, data: &[u8], sink: &mut dyn Write) -> io::Result<()> {
        let mut gather = Gather { buffer: Vec::with_capacity(Gather::CAPACITY), sink };
        walk(&self.levels, data, &mut gather)?;
        gather.flush()
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
    runs: fn(usize, &[u32]) -> Vec<Run>,
) -> Vec<Level> {
    let mut levels = Vec::new();
    let (mut stride, mut whole) = (1, 1);
    for (&dim, keep) in dims.iter().zip(keep).rev() {
        let Some(keep) = keep.as_ref().filter(|keep| !is_whole(dim, keep)) else {
            whole *= dim;
            continue;
        };
        if whole > 1 && !levels.is_empty() {
            levels.push(Level { stride, runs: vec![Run::Copy { start: 0, len: whole }] });
        }
        stride *= whole;
        levels.push(Level { stride, runs: runs(dim, keep) });
        (stride, whole) = (stride * dim, 1);
    }
    if !levels.is_empty() && whole > 1 {
        levels.push(Level { stride, runs: vec![Run::Copy { start: 0, len: whole }] });
    }
    levels.reverse();
    levels
}

fn is_whole(dim: usize, keep: &[u32]) -> bool {
    keep.len() == dim && keep.iter().enumerate().all(|(at, &index)| at == index as usize)
}

fn copy_runs(_dim: usize, keep: &[u32]) -> Vec<Run> {
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

fn walk(levels: &[Level], data: &[u8], gather: &mut Gather<'_>) -> io::Result<()> {
    let Some((level, inner)) = levels.split_first() else {
        return gather.copy(data);
    };
    let stride = level.stride;
    for &run in &level.runs {
        match run {
            Run::Zero { len } => gather.zeros(len * stride)?,
            Run::Copy { start, len } => {
                let block = &data[start * stride..(start + len) * stride];
                if inner.is_empty() {
                    gather.copy(block)?;
                } else {
                    block.chunks_exact(stride).try_for_each(|row| walk(inner, row, gather))?;
                }
            }
        }
    }
    Ok(())
}

/// Collects short runs, and lets long ones pass.
struct Gather<'a> {
    buffer: Vec<u8>,
    sink: &'a mut dyn Write,
}

impl Gather<'_> {
    const CAPACITY: usize = 1 << 16;

    #[inline]
    fn copy(&mut self, run: &[u8]) -> io::Result<()> {
        if self.buffer.len() + run.len() > Self::CAPACITY {
            return self.copy_long(run);
        }
        self.buffer.extend_from_slice(run);
        Ok(())
    }

    fn copy_long(&mut self, run: &[u8]) -> io::Result<()> {
        self.flush()?;
        if run.len() > Self::CAPACITY / 2 {
            return self.sink.write_all(run);
        }
        self.buffer.extend_from_slice(run);
        Ok(())
    }

    fn zeros(&mut self, mut len: usize) -> io::Result<()> {
        while len > 0 {
            if self.buffer.len() == Self::CAPACITY {
                self.flush()?;
            }
            let step = len.min(Self::CAPACITY - self.buffer.len());
            self.buffer.resize(self.buffer.len() + step, 0);
            len -= step;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

pub(crate) fn unpack(data: &[u8], count: usize) -> Vec<u8> {
    let mut nibbles: Vec<u8> = data.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect();
    nibbles.truncate(count);
    nibbles
}

/// Two 4-bit elements per byte from one.
pub(crate) fn pack(nibbles: &[u8]) -> Vec<u8> {
    let pair = |pair: &[u8]| pair[0] & 15 | pair.get(1).map_or(0, |high| high << 4);
    nibbles.chunks(2).map(pair).collect()
}

/// Takes one element per byte and passes on two per byte.
struct Packer<'a> {
    low: Option<u8>,
    sink: &'a mut dyn Write,
}

impl Packer<'_> {
    fn finish(self) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
