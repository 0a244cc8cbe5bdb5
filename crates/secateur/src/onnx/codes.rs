//! The integers of quantized tensors: what stands for zero, and what numbers they stand for.

use bytes::Bytes;

use super::edits::Encoded;
use super::{OnnxFile, TensorRef};
use crate::tensor::{Cut, Keep, TensorView, element_count, pack, unpack};
use crate::zero::{Spread, Zero};
use crate::{DType, Error, Result};

/// What stands for zero, as a tensor; `None` where it is not stored.
pub(super) fn encoded_zero(
    file: &OnnxFile,
    tensors: &[TensorRef],
    zero: Zero,
) -> Result<Option<Encoded>> {
    match zero {
        Zero::Number(code) => {
            let data = code.to_le_bytes().to_vec().into();
            let small = TensorView::new(DType::I64, Vec::new(), data)?;
            Ok(Some(Encoded { small, axis: 0, block: 1 }))
        }
        Zero::Stored(spread) => encoded(file, tensors, spread).map(Some),
        Zero::Computed(_) | Zero::Unclear => Ok(None),
    }
}

/// A stored scale or zero point.
pub(super) fn encoded(file: &OnnxFile, tensors: &[TensorRef], spread: Spread) -> Result<Encoded> {
    let at = tensors.get(spread.tensor as usize);
    let at = at.ok_or_else(|| Error::argument("a scale or zero point that is not stored"))?;
    let small = file.resolve(*at)?;
    Ok(Encoded { small, axis: spread.axis, block: spread.block })
}

/// The elements of a tensor, with what stands for zero where a keep drops them.
pub(super) fn blank(view: &TensorView, keep: &Keep, zero: &Encoded) -> Result<Bytes> {
    let count = element_count(&view.dims)?;
    let kept = Cut::zero(DType::U8, &view.dims, keep)?.to_vec(&vec![1; count])?;
    let codes = zero.small.to_codes();
    let codes = codes.ok_or_else(|| Error::unsupported("a zero point that is no integer"))?;
    let places = Places::new(&view.dims, zero)?;
    let packed = view.dtype == DType::Packed4;
    let mut data = if packed { unpack(&view.data, count) } else { view.data.to_vec() };
    let width = view.dtype.size().unwrap_or(1).min(size_of::<i64>());
    for (element, kept) in kept.into_iter().enumerate() {
        if kept == 0 {
            let code = codes.get(places.of(element)).copied().unwrap_or(0).to_le_bytes();
            data[element * width..][..width].copy_from_slice(&code[..width]);
        }
    }
    Ok(if packed { pack(&data) } else { data }.into())
}

/// The numbers that the elements of a tensor stand for; `data_type` is how ONNX names their type.
pub(super) fn numbers(
    view: &TensorView,
    data_type: i32,
    zero: Option<&Encoded>,
    scale: Option<&Encoded>,
) -> Result<TensorView> {
    let count = element_count(&view.dims)?;
    let unreadable =
        || Error::unsupported(format!("elements of type {} cannot be scored", view.dtype));
    let spread = |encoded: Option<&Encoded>, read: &dyn Fn(&TensorView) -> Option<Vec<f64>>| {
        let placed = |encoded: &Encoded| {
            let numbers = read(&encoded.small).ok_or_else(unreadable)?;
            Ok::<_, Error>((numbers, Places::new(&view.dims, encoded)?))
        };
        encoded.map(placed).transpose()
    };
    let zeros = spread(zero, &|small| elements(small, data_type))?;
    let scales = spread(scale, &TensorView::to_f64s)?;
    let number = element(data_type, view.dtype).ok_or_else(unreadable)?;
    let code = reader(view).ok_or_else(unreadable)?;
    let mut data = Vec::with_capacity(count.saturating_mul(4));
    for element in 0..count {
        let code = number(code(element));
        let at = |(numbers, places): &(Vec<f64>, Places)| numbers.get(places.of(element)).copied();
        let zero = zeros.as_ref().and_then(at).unwrap_or(0.0);
        let scale = scales.as_ref().and_then(at).unwrap_or(1.0);
        data.extend((((code - zero) * scale) as f32).to_le_bytes());
    }
    TensorView::new(DType::F32, view.dims.clone(), data.into())
}

/// Per byte of packed integers, the norm of the numbers that they stand for. `view` has rows and
/// blocks; scales and zero points have an element per block, packed alike where they are bytes.
pub(super) fn norms(
    view: &TensorView,
    bits: usize,
    scales: &TensorView,
    zeros: Option<TensorView>,
) -> Result<TensorView> {
    let misfit = || Error::malformed("packed integers without a scale per block");
    let &[rows, blocks, bytes] = view.dims.as_slice() else { return Err(misfit()) };
    let scales = scales.to_f64s().filter(|scales| scales.len() == rows * blocks);
    let scales = scales.ok_or_else(misfit)?;
    let middle = f64::from(1 << (bits - 1));
    let zeros = match zeros {
        None => vec![middle; rows * blocks],
        Some(zeros) => unpacked_zeros(&zeros, bits, rows, blocks).ok_or_else(misfit)?,
    };
    let mut data = Vec::with_capacity(view.data.len().saturating_mul(4));
    for (at, &byte) in view.data.iter().enumerate() {
        let block = at / bytes.max(1);
        let square = |number: f64| (number - zeros[block]) * (number - zeros[block]);
        let sum: f64 = integers(byte, bits).map(square).sum();
        data.extend(((sum.sqrt() * scales[block]) as f32).to_le_bytes());
    }
    TensorView::new(DType::F32, view.dims.clone(), data.into())
}

/// Zero points as numbers, from bytes that hold several of one row, or one each.
fn unpacked_zeros(view: &TensorView, bits: usize, rows: usize, blocks: usize) -> Option<Vec<f64>> {
    if view.dtype.is_float() {
        return view.to_f64s().filter(|zeros| zeros.len() == rows * blocks);
    }
    let columns = (blocks * bits).div_ceil(8);
    if view.dtype != DType::U8 || view.data.len() != rows * columns {
        return None;
    }
    let row = |row: &[u8]| -> Vec<f64> {
        row.iter().flat_map(|&byte| integers(byte, bits)).take(blocks).collect()
    };
    Some(view.data.chunks(columns.max(1)).flat_map(row).collect())
}

/// The integers in a byte, from the lowest bits on.
fn integers(byte: u8, bits: usize) -> impl Iterator<Item = f64> {
    let mask = ((1_u16 << bits) - 1) as u8;
    (0..8 / bits).map(move |at| f64::from(byte >> (at * bits) & mask))
}

/// The code of one element after the other, without a copy where elements are small.
fn reader(view: &TensorView) -> Option<Box<dyn Fn(usize) -> i64 + '_>> {
    let data = view.data.as_ref();
    let byte = |at: usize| data.get(at).copied().unwrap_or(0);
    Some(match view.dtype {
        DType::U8 | DType::F8 => Box::new(move |at| byte(at).into()),
        DType::I8 => Box::new(move |at| byte(at).cast_signed().into()),
        DType::Packed4 => Box::new(move |at| (byte(at / 2) >> (at % 2 * 4) & 15).into()),
        _ => {
            let codes = view.to_codes()?;
            Box::new(move |at| codes.get(at).copied().unwrap_or(0))
        }
    })
}

/// The elements as numbers.
fn elements(view: &TensorView, data_type: i32) -> Option<Vec<f64>> {
    let number = element(data_type, view.dtype)?;
    Some(view.to_codes()?.into_iter().map(number).collect())
}

/// What an element stands for before scale and zero point, of 4-bit and 8-bit types as ONNX names
/// them.
fn element(data_type: i32, dtype: DType) -> Option<fn(i64) -> f64> {
    const INT4: i32 = 22;
    const FLOAT4: i32 = 23;
    Some(match data_type {
        INT4 => |code| (if code > 7 { code - 16 } else { code }) as f64,
        FLOAT4 => |code| small_float(code, 1, 1, 3),
        17 => |code| small_float(code, 3, 7, 7),
        18 => |code| small_float(code, 3, 8, 7),
        19 => |code| small_float(code, 2, 15, 7),
        20 => |code| small_float(code, 2, 16, 7),
        _ if dtype == DType::F8 => return None,
        _ => |code| code as f64,
    })
}

/// A float of few bits: the sign at bit `sign`, then an exponent, then `mantissa` bits.
fn small_float(code: i64, mantissa: u32, bias: i32, sign: u32) -> f64 {
    let fraction = (code & ((1 << mantissa) - 1)) as f64 / f64::from(1 << mantissa);
    let exponent = ((code & ((1 << sign) - 1)) >> mantissa) as i32;
    let magnitude = match exponent {
        0 => fraction * f64::from(1 - bias).exp2(),
        _ => (1.0 + fraction) * f64::from(exponent - bias).exp2(),
    };
    if code >> sign & 1 == 1 { -magnitude } else { magnitude }
}

/// Which element of a small tensor each element of a large one takes.
struct Places {
    /// Per axis of the large tensor, the last one first.
    axes: Vec<Place>,
}

struct Place {
    /// Number of indices.
    size: usize,
    /// Indices that share an element.
    block: usize,
    /// Elements of the small tensor from one block to the next; 0 where all share.
    step: usize,
}

impl Places {
    /// A small tensor of one axis stands on the axis of the encoding, others on all axes.
    fn new(large: &[usize], encoded: &Encoded) -> Result<Self> {
        let small = encoded.small.dims.as_slice();
        let misfit = || Error::malformed(format!("a scale of shape {small:?} for {large:?}"));
        let sizes: Vec<usize> = match small {
            _ if element_count(small)? == 1 => vec![1; large.len()],
            &[size] if large.len() != 1 => {
                (0..large.len()).map(|axis| if axis == encoded.axis { size } else { 1 }).collect()
            }
            _ => small.to_vec(),
        };
        if sizes.len() != large.len() || element_count(&sizes)? != element_count(small)? {
            return Err(misfit());
        }
        let (mut axes, mut step) = (Vec::new(), 1);
        for (axis, (&size, &blocks)) in large.iter().zip(&sizes).enumerate().rev() {
            let block = if axis == encoded.axis { encoded.block.max(1) } else { 1 };
            let spread = blocks != 1;
            if spread && size.div_ceil(block) != blocks {
                return Err(misfit());
            }
            axes.push(Place { size: size.max(1), block, step: if spread { step } else { 0 } });
            step *= blocks;
        }
        Ok(Places { axes })
    }

    fn of(&self, element: usize) -> usize {
        let (mut rest, mut place) = (element, 0);
        for axis in &self.axes {
            place += rest % axis.size / axis.block * axis.step;
            rest /= axis.size;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(dtype: DType, dims: &[usize], data: &[u8]) -> TensorView {
        TensorView::new(dtype, dims.to_vec(), Bytes::copy_from_slice(data)).unwrap()
    }

    fn floats(dims: &[usize], values: &[f32]) -> TensorView {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes(DType::F32, dims, &data)
    }

    const FIRST_COLUMN: [Option<Vec<u32>>; 2] = [None, Some(Vec::new())];

    #[test]
    fn what_is_dropped_is_its_zero_point() {
        let view = bytes(DType::U8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let along = |axis, dims: &[usize], zeros: &[u8]| {
            let zero = Encoded { small: bytes(DType::U8, dims, zeros), axis, block: 1 };
            blank(&view, &vec![None, Some(vec![1])], &zero).unwrap().to_vec()
        };
        assert_eq!(along(0, &[], &[9]), [9, 2, 9, 9, 5, 9]);
        assert_eq!(along(0, &[2], &[7, 8]), [7, 2, 7, 8, 5, 8]);
        assert_eq!(along(1, &[3], &[7, 8, 9]), [7, 2, 9, 7, 5, 9]);
        assert_eq!(along(1, &[1, 3], &[7, 8, 9]), [7, 2, 9, 7, 5, 9]);
        assert_eq!(along(1, &[2, 1], &[7, 8]), [7, 2, 7, 8, 5, 8]);
    }

    #[test]
    fn packed_integers_take_zero_points_of_blocks() {
        let view = bytes(DType::Packed4, &[4, 1], &[0x21, 0x43]);
        let small = bytes(DType::Packed4, &[2, 1], &[0xba]);
        let zero = Encoded { small, axis: 0, block: 2 };
        let data = blank(&view, &FIRST_COLUMN.to_vec(), &zero).unwrap();
        assert_eq!(data.to_vec(), [0xaa, 0xbb]);
    }

    #[test]
    fn a_zero_point_of_another_shape_is_refused() {
        let view = bytes(DType::U8, &[2, 3], &[0; 6]);
        let zero = Encoded { small: bytes(DType::U8, &[4], &[0; 4]), axis: 0, block: 1 };
        let error = blank(&view, &FIRST_COLUMN.to_vec(), &zero).unwrap_err();
        assert_eq!(error.to_string(), "a scale of shape [4] for [2, 3]");
    }

    #[test]
    fn integers_become_the_numbers_that_they_stand_for() {
        let view = bytes(DType::I8, &[2, 2], &[255, 2, 3, 4]);
        let zero = Encoded { small: bytes(DType::I8, &[2], &[1, 2]), axis: 0, block: 1 };
        let scale = Encoded { small: floats(&[2], &[1.0, 0.5]), axis: 1, block: 1 };
        let found = numbers(&view, 3, Some(&zero), Some(&scale)).unwrap();
        assert_eq!(found, floats(&[2, 2], &[-2.0, 0.5, 1.0, 1.0]));
    }

    #[test]
    fn a_byte_of_packed_integers_counts_with_its_norm() {
        let view = bytes(DType::U8, &[1, 2, 2], &[0x8b, 0xc8, 0x12, 0x22]);
        let scales = floats(&[2], &[1.0, 0.5]);
        let centered = norms(&view, 4, &scales, None).unwrap();
        assert_eq!(centered.to_f64s().unwrap()[..2], [3.0, 4.0]);
        let zeros = bytes(DType::U8, &[1], &[0x28]);
        let shifted = norms(&view, 4, &scales, Some(zeros)).unwrap();
        assert_eq!(shifted.to_f64s().unwrap(), [3.0, 4.0, 0.5, 0.0]);
    }

    #[test]
    fn small_types_are_read_as_onnx_names_them() {
        let read = |dtype, data_type: i32, data: &[u8], count: usize| {
            elements(&bytes(dtype, &[count], data), data_type).unwrap()
        };
        assert_eq!(read(DType::Packed4, 21, &[0x8f], 2), [15.0, 8.0]);
        assert_eq!(read(DType::Packed4, 22, &[0x8f], 2), [-1.0, -8.0]);
        assert_eq!(read(DType::Packed4, 23, &[0x71, 0xf2], 4), [0.5, 6.0, 1.0, -6.0]);
        assert_eq!(read(DType::F8, 17, &[0x38, 0xb8, 0x01], 3), [1.0, -1.0, 0.001953125]);
        assert_eq!(read(DType::F8, 19, &[0x3c, 0x40], 2), [1.0, 2.0]);
    }
}
