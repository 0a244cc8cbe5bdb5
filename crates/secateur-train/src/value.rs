//! Tensors of three sorts: real numbers (computed in 32 bits), integers (in 64) and truth values.

use burn_backend::tensor::{BoolTensor, Device, FloatTensor, IntTensor};
use burn_backend::{DType as BurnDType, Shape, TensorData, TensorMetadata};
use burn_std::reader::try_read_sync;
use burn_std::{BoolDType, BoolStore, FloatDType, IntDType};
use secateur::tensor::TensorView;
use secateur::{DType, Error, Result};

use crate::Engine;

/// The type that real numbers are computed in.
pub(crate) const FLOAT: FloatDType = FloatDType::F32;
/// The type that integers are computed in.
pub(crate) const INT: IntDType = IntDType::I64;

/// A tensor.
#[derive(Clone, Debug)]
pub enum Value<B: Engine> {
    /// Real numbers.
    Float(FloatTensor<B>),
    /// Integers.
    Int(IntTensor<B>),
    /// Truth values.
    Bool(BoolTensor<B>),
}

/// The same call for all three sorts: `each!(value, float_reshape, int_reshape, bool_reshape, |t| (t, shape))`.
macro_rules! each {
    ($value:expr, $float:ident, $int:ident, $bool:ident, |$t:ident| ($($arg:expr),*)) => {
        match $value {
            $crate::Value::Float($t) => $crate::Value::Float(B::$float($($arg),*)),
            $crate::Value::Int($t) => $crate::Value::Int(B::$int($($arg),*)),
            $crate::Value::Bool($t) => $crate::Value::Bool(B::$bool($($arg),*)),
        }
    };
}
pub(crate) use each;

/// The type that truth values have on a device.
pub(crate) fn bool_dtype<B: Engine>(device: &Device<B>) -> BoolDType {
    burn_backend::get_device_settings::<B>(device).bool_dtype
}

impl<B: Engine> Value<B> {
    /// The sizes; none for a scalar.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Value::Float(t) => t.shape().to_vec(),
            Value::Int(t) => t.shape().to_vec(),
            Value::Bool(t) => t.shape().to_vec(),
        }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// Where it is.
    pub fn device(&self) -> Device<B> {
        match self {
            Value::Float(t) => t.device(),
            Value::Int(t) => t.device(),
            Value::Bool(t) => t.device(),
        }
    }

    /// What it holds, for messages.
    pub fn sort(&self) -> &'static str {
        match self {
            Value::Float(_) => "real numbers",
            Value::Int(_) => "integers",
            Value::Bool(_) => "truth values",
        }
    }

    /// The real numbers that it holds.
    ///
    /// # Errors
    /// When it holds something else.
    pub fn float(self) -> Result<FloatTensor<B>> {
        match self {
            Value::Float(t) => Ok(t),
            other => Err(Error::unsupported(format!("{} in place of real numbers", other.sort()))),
        }
    }

    /// The integers that it holds.
    ///
    /// # Errors
    /// When it holds something else.
    pub fn int(self) -> Result<IntTensor<B>> {
        match self {
            Value::Int(t) => Ok(t),
            other => Err(Error::unsupported(format!("{} in place of integers", other.sort()))),
        }
    }

    /// The truth values that it holds.
    ///
    /// # Errors
    /// When it holds something else.
    pub fn bool(self) -> Result<BoolTensor<B>> {
        match self {
            Value::Bool(t) => Ok(t),
            other => Err(Error::unsupported(format!("{} in place of truth values", other.sort()))),
        }
    }

    /// The same numbers as real ones.
    pub fn to_float(self) -> FloatTensor<B> {
        match self {
            Value::Float(t) => t,
            Value::Int(t) => B::int_into_float(t, FLOAT),
            Value::Bool(t) => B::bool_into_float(t, FLOAT),
        }
    }

    /// The same numbers as integers, cut towards zero.
    pub fn to_int(self) -> IntTensor<B> {
        match self {
            Value::Float(t) => B::float_into_int(t, INT),
            Value::Int(t) => t,
            Value::Bool(t) => B::bool_into_int(t, INT),
        }
    }

    /// Whether the numbers differ from zero.
    pub fn to_bool(self) -> BoolTensor<B> {
        let dtype = bool_dtype::<B>(&self.device());
        match self {
            Value::Float(t) => B::float_not_equal_elem(t, 0.0.into(), dtype),
            Value::Int(t) => B::int_not_equal_elem(t, 0.into(), dtype),
            Value::Bool(t) => t,
        }
    }

    /// The same elements in another shape.
    pub fn reshape(self, shape: Vec<usize>) -> Self {
        let shape = Shape::from(shape);
        each!(self, float_reshape, int_reshape, bool_reshape, |t| (t, shape))
    }

    /// All elements as `f32`, row-major.
    ///
    /// # Errors
    /// When the device does not give them.
    pub fn to_floats(self) -> Result<Vec<f32>> {
        let data = read(try_read_sync(B::float_into_data(self.to_float())))?;
        data.try_to_vec_as::<f32>().map_err(Error::unsupported)
    }

    /// All elements as `i64`, row-major.
    ///
    /// # Errors
    /// When the device does not give them.
    pub fn to_ints(self) -> Result<Vec<i64>> {
        let data = read(try_read_sync(B::int_into_data(self.to_int())))?;
        data.try_to_vec_as::<i64>().map_err(Error::unsupported)
    }

    /// A tensor of these real numbers.
    pub fn of_floats(values: Vec<f32>, shape: Vec<usize>, device: &Device<B>) -> Self {
        Value::Float(B::float_from_data(TensorData::new(values, shape), device))
    }

    /// A tensor of these integers.
    pub fn of_ints(values: Vec<i64>, shape: Vec<usize>, device: &Device<B>) -> Self {
        Value::Int(B::int_from_data(TensorData::new(values, shape), device))
    }

    /// A tensor of these truth values.
    pub fn of_bools(values: Vec<bool>, shape: Vec<usize>, device: &Device<B>) -> Self {
        let data = TensorData::new(values, shape);
        let data = match bool_dtype::<B>(device) {
            BoolDType::Native => data,
            BoolDType::U8 => data.convert_dtype(BurnDType::Bool(BoolStore::U8)),
            BoolDType::U32 => data.convert_dtype(BurnDType::Bool(BoolStore::U32)),
        };
        Value::Bool(B::bool_from_data(data, device))
    }

    /// A stored tensor.
    ///
    /// # Errors
    /// When its elements are no numbers.
    pub fn of_view(view: &TensorView, device: &Device<B>) -> Result<Self> {
        let shape = view.dims.clone();
        if view.dtype == DType::F32 {
            let words = view.data.as_chunks::<4>().0.iter();
            let values = words.map(|word| f32::from_le_bytes(*word)).collect();
            return Ok(Self::of_floats(values, shape, device));
        }
        if let Some(values) = view.to_f64s() {
            let values = values.into_iter().map(|value| value as f32).collect();
            return Ok(Self::of_floats(values, shape, device));
        }
        let ints = view.to_i64s().ok_or_else(|| {
            Error::unsupported(format!("a tensor of type {} cannot be computed with", view.dtype))
        })?;
        Ok(match view.dtype {
            DType::Bool => {
                Self::of_bools(ints.into_iter().map(|value| value != 0).collect(), shape, device)
            }
            _ => Self::of_ints(ints, shape, device),
        })
    }
}

/// What a device gave, or why it did not.
fn read<E: std::fmt::Display>(
    data: Option<std::result::Result<TensorData, E>>,
) -> Result<TensorData> {
    match data {
        Some(data) => data.map_err(|error| Error::unsupported(format!("the device: {error}"))),
        None => Err(Error::unsupported("the device gives no results at once")),
    }
}
