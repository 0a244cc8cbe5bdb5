//! Element types of tensors.

use std::fmt;

/// The element type of a tensor. Packed types (4-bit) are whole only in pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    /// An 8-bit float of any flavor: copied and cut, never read as a number.
    F8,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    Complex64,
    Complex128,
    /// Two 4-bit elements per byte (signed, unsigned or float).
    Packed4,
    /// Variable length; never cut.
    String,
}

impl DType {
    /// Bytes per element; `None` for packed and variable-length types.
    pub fn size(self) -> Option<usize> {
        Some(match self {
            DType::Complex128 => 16,
            DType::F64 | DType::I64 | DType::U64 | DType::Complex64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::F8 | DType::I8 | DType::U8 | DType::Bool => 1,
            DType::Packed4 | DType::String => return None,
        })
    }

    /// Whether elements are real floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16 | DType::F8)
    }

    /// Whether sizes and positions come in this type.
    pub(crate) fn holds_sizes(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::Bool)
    }

    /// Whether elements are integers.
    pub fn is_int(self) -> bool {
        use DType::{I8, I16, I32, I64, U8, U16, U32, U64};
        matches!(self, I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}
