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

mod cut;
mod gather;
mod words;

use bytes::Bytes;

use crate::size::Scalar;
use crate::{DType, Error, Result};

pub use cut::Cut;

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

    /// A tensor of these real numbers; `None` where the type holds none.
    ///
    /// # Errors
    /// As [`TensorView::new`].
    pub fn from_f32s(dtype: DType, dims: Vec<usize>, values: &[f32]) -> Option<Result<Self>> {
        let data: Vec<u8> = match dtype {
            DType::F64 => values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect(),
            DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F16 => {
                values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()
            }
            DType::BF16 => {
                values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect()
            }
            _ => return None,
        };
        Some(TensorView::new(dtype, dims, data.into()))
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

    /// The code of every element, as of [`TensorView::to_codes`], where it is one.
    pub fn same_code(&self) -> Option<i64> {
        let width = self.dtype.size().unwrap_or(1);
        let first = self.data.get(..width)?;
        if self.dtype != DType::Packed4 && self.data.chunks(width).any(|other| other != first) {
            return None;
        }
        let codes = match self.dtype {
            DType::Packed4 => self.to_codes()?,
            dtype => {
                TensorView::new(dtype, Vec::new(), self.data.slice(..width)).ok()?.to_codes()?
            }
        };
        let same = codes.windows(2).all(|pair| pair[0] == pair[1]);
        codes.first().copied().filter(|_| same)
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
