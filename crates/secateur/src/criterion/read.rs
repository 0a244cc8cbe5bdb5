//! Elements of a tensor as numbers, read from its bytes and never copied whole.

use crate::tensor::TensorView;
use crate::{DType, Error, Result};

/// Decodes elements, as many as there are places for, and measures each.
type Read = fn(&[u8], &mut [f64]);

/// Reads ranges of elements.
pub(super) struct Reader<'a> {
    data: &'a [u8],
    width: usize,
    read: Read,
}

impl<'a> Reader<'a> {
    /// A reader that applies `F` to every element.
    pub(super) fn new<F: Function>(view: &'a TensorView) -> Result<Self> {
        let dtype = view.dtype;
        let unreadable =
            || Error::unsupported(format!("elements of type {dtype} cannot be scored"));
        let read = decoder::<F>(dtype).ok_or_else(unreadable)?;
        Ok(Self { data: &view.data, width: dtype.size().unwrap_or(1), read })
    }

    /// Reads as many elements as `out` has places for, from element `start` on.
    pub(super) fn read(&self, start: usize, out: &mut [f64]) {
        let end = (start + out.len()) * self.width;
        (self.read)(&self.data[start * self.width..end], out);
    }
}

/// What is measured of an element.
pub(super) trait Function {
    fn apply(number: f64) -> f64;
}

pub(super) struct Magnitude;
pub(super) struct Square;
pub(super) struct Identity;

impl Function for Magnitude {
    fn apply(number: f64) -> f64 {
        number.abs()
    }
}

impl Function for Square {
    fn apply(number: f64) -> f64 {
        number * number
    }
}

impl Function for Identity {
    fn apply(number: f64) -> f64 {
        number
    }
}

/// The loop for a type; `None` for those that are not numbers.
fn decoder<F: Function>(dtype: DType) -> Option<Read> {
    macro_rules! read {
        ($width:literal, $from:expr) => {
            |data: &[u8], out: &mut [f64]| {
                for (word, out) in data.as_chunks::<$width>().0.iter().zip(out) {
                    let from: fn([u8; $width]) -> f64 = $from;
                    *out = F::apply(from(*word));
                }
            }
        };
    }
    Some(match dtype {
        DType::F64 => read!(8, f64::from_le_bytes),
        DType::F32 => read!(4, |word| f64::from(f32::from_le_bytes(word))),
        DType::F16 => read!(2, |word| f64::from(half::f16::from_le_bytes(word))),
        DType::BF16 => read!(2, |word| f64::from(half::bf16::from_le_bytes(word))),
        DType::I8 => read!(1, |word| f64::from(i8::from_le_bytes(word))),
        DType::U8 => read!(1, |word| f64::from(u8::from_le_bytes(word))),
        _ => return None,
    })
}
