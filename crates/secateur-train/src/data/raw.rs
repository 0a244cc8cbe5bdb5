//! Arrays as files hold them: bytes of any element type, turned into numbers where they are needed.

use bytes::Bytes;
use half::{bf16, f16};
use secateur::tensor::element_count;
use secateur::{Error, Result};

use super::Array;

/// The type of stored elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Element {
    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Element::Bool | Element::U8 | Element::I8 => 1,
            Element::U16 | Element::I16 | Element::F16 | Element::Bf16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }

    /// Whether it holds real numbers.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Element::F16 | Element::Bf16 | Element::F32 | Element::F64)
    }
}

/// Which byte of an element comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

/// A row-major array of stored elements.
#[derive(Clone, Debug)]
pub(crate) struct RawArray {
    element: Element,
    order: ByteOrder,
    shape: Vec<usize>,
    /// As long as the shape and the element say: [`RawArray::new`] checks it.
    data: Bytes,
}

impl RawArray {
    /// An array of stored elements; an error when the data is not as long as the shape says.
    pub(crate) fn new(
        element: Element,
        order: ByteOrder,
        shape: Vec<usize>,
        data: Bytes,
    ) -> Result<Self> {
        let expected = byte_len(element, &shape)?;
        if data.len() as u64 == expected {
            return Ok(Self { element, order, shape, data });
        }
        let found = data.len();
        Err(Error::malformed(format!("{found} bytes of data, but {shape:?} needs {expected}"))
            .hint("the file is cut off or damaged: get it again"))
    }

    /// The type of the elements.
    pub(crate) fn element(&self) -> Element {
        self.element
    }

    /// The sizes.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The size of the first axis; 0 for a scalar.
    pub(crate) fn samples(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Whether elements are unsigned bytes.
    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self.element, Element::U8)
    }

    /// The bytes of all elements.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The bytes of one sample; an empty slice where there is none.
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        let row_len = self.data.len().checked_div(self.samples()).unwrap_or(0);
        let start = index.saturating_mul(row_len);
        self.data.get(start..start.saturating_add(row_len)).unwrap_or_default()
    }

    /// The numbers of all samples.
    pub(crate) fn all(&self) -> Result<Array> {
        self.decode(&[&self.data], self.shape.clone())
    }

    /// The numbers of some samples, which must exist.
    pub(crate) fn rows(&self, indices: &[usize]) -> Result<Array> {
        let rows: Vec<_> = indices.iter().map(|&index| self.row(index)).collect();
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = indices.len();
        }
        self.decode(&rows, shape)
    }

    fn decode(&self, rows: &[&[u8]], shape: Vec<usize>) -> Result<Array> {
        Ok(match self.element {
            Element::Bool => Array::Bool(self.words(rows, |[byte]| byte != 0), shape),
            element if element.is_float() => Array::Float(self.floats(rows), shape),
            _ => Array::Int(self.ints(rows)?, shape),
        })
    }

    fn floats(&self, rows: &[&[u8]]) -> Vec<f32> {
        match self.element {
            Element::F16 => self.words(rows, |word| f16::from_le_bytes(word).to_f32()),
            Element::Bf16 => self.words(rows, |word| bf16::from_le_bytes(word).to_f32()),
            Element::F64 => self.words(rows, |word| f64::from_le_bytes(word) as f32),
            _ => self.words(rows, f32::from_le_bytes),
        }
    }

    fn ints(&self, rows: &[&[u8]]) -> Result<Vec<i64>> {
        Ok(match self.element {
            Element::I8 => self.words(rows, |word| i8::from_le_bytes(word).into()),
            Element::U16 => self.words(rows, |word| u16::from_le_bytes(word).into()),
            Element::I16 => self.words(rows, |word| i16::from_le_bytes(word).into()),
            Element::U32 => self.words(rows, |word| u32::from_le_bytes(word).into()),
            Element::I32 => self.words(rows, |word| i32::from_le_bytes(word).into()),
            Element::I64 => self.words(rows, i64::from_le_bytes),
            Element::U64 => {
                let words = self.words(rows, u64::from_le_bytes);
                words.into_iter().map(signed).collect::<Result<_>>()?
            }
            _ => self.words(rows, |[byte]| byte.into()),
        })
    }

    fn words<const N: usize, T>(&self, rows: &[&[u8]], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        let words = rows.iter().flat_map(|row| row.as_chunks::<N>().0);
        match self.order {
            ByteOrder::Little => words.map(|word| read(*word)).collect(),
            ByteOrder::Big => words.map(|word| read(reversed(*word))).collect(),
        }
    }
}

/// The bytes that elements of a shape take.
pub(crate) fn byte_len(element: Element, shape: &[usize]) -> Result<u64> {
    let count = element_count(shape)? as u64;
    let bytes = count.checked_mul(element.size() as u64);
    bytes.ok_or_else(|| Error::malformed(format!("the shape {shape:?} is too large")))
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| {
        Error::unsupported(format!("the integer {value} does not fit in 64 bits with a sign"))
    })
}

fn reversed<const N: usize>(mut word: [u8; N]) -> [u8; N] {
    word.reverse();
    word
}
