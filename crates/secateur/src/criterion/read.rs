//! Elements of a tensor as numbers, read from its bytes and never copied whole.

use crate::tensor::TensorView;
use crate::{DType, Error, Result};

/// Decodes elements, as many as there are places for.
type Read = fn(&[u8], &mut [f64]);

/// Reads ranges of elements.
pub(super) struct Reader<'a> {
    data: &'a [u8],
    width: usize,
    read: Read,
}

impl<'a> Reader<'a> {
    pub(super) fn new(view: &'a TensorView) -> Result<Self> {
        let dtype = view.dtype;
        let read = decoder(dtype).ok_or_else(|| unreadable(dtype))?;
        Ok(Self { data: &view.data, width: dtype.size().unwrap_or(1), read })
    }

    /// Reads as many elements as `out` has places for, from element `start` on.
    pub(super) fn read(&self, start: usize, out: &mut [f64]) {
        let end = (start + out.len()) * self.width;
        (self.read)(&self.data[start * self.width..end], out);
    }
}

pub(super) fn unreadable(dtype: DType) -> Error {
    Error::unsupported(format!("elements of type {dtype} cannot be scored"))
}

/// The loop for a type; `None` for those that are not numbers.
fn decoder(dtype: DType) -> Option<Read> {
    fn decode<const N: usize>(data: &[u8], out: &mut [f64], number: impl Fn([u8; N]) -> f64) {
        data.as_chunks().0.iter().zip(out).for_each(|(word, out)| *out = number(*word));
    }
    Some(match dtype {
        DType::F64 => |data, out| decode(data, out, f64::from_le_bytes),
        DType::F32 => |data, out| decode(data, out, |word| f32::from_le_bytes(word).into()),
        DType::F16 => |data, out| decode(data, out, |word| half::f16::from_le_bytes(word).into()),
        DType::BF16 => |data, out| decode(data, out, |word| half::bf16::from_le_bytes(word).into()),
        DType::I8 => |data, out| decode(data, out, |word| i8::from_le_bytes(word).into()),
        DType::U8 => |data, out| decode(data, out, |word| u8::from_le_bytes(word).into()),
        _ => return None,
    })
}
