//! Real numbers in the notation of arithmetic, for operators that are made of others.

use std::ops::{Add, Div, Mul, Neg, Sub};

use burn_backend::TensorMetadata;
use burn_backend::tensor::{BoolTensor, Device, FloatTensor};
use secateur::Result;

use crate::ops::elementwise::Unary;
use crate::ops::matmul::product;
use crate::ops::shape::{concat, expand, permute, segment};
use crate::{Engine, Value};

/// A tensor of real numbers. Operands of arithmetic broadcast as in numpy.
#[derive(Debug)]
pub(crate) struct Real<B: Engine>(pub(crate) FloatTensor<B>);

impl<B: Engine> Clone for Real<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Engine> From<Real<B>> for Value<B> {
    fn from(real: Real<B>) -> Self {
        Value::Float(real.0)
    }
}

macro_rules! arithmetic {
    ($(($trait:ident, $method:ident, $tensors:ident, $scalar:ident)),*) => {
        $(
            impl<B: Engine> $trait for Real<B> {
                type Output = Self;
                fn $method(self, other: Self) -> Self {
                    let rank = self.rank().max(other.rank());
                    Real(B::$tensors(self.lift(rank).0, other.lift(rank).0))
                }
            }

            impl<B: Engine> $trait<f64> for Real<B> {
                type Output = Self;
                fn $method(self, other: f64) -> Self {
                    Real(B::$scalar(self.0, other.into()))
                }
            }
        )*
    };
}

arithmetic!(
    (Add, add, float_add, float_add_scalar),
    (Sub, sub, float_sub, float_sub_scalar),
    (Mul, mul, float_mul, float_mul_scalar),
    (Div, div, float_div, float_div_scalar)
);

impl<B: Engine> Neg for Real<B> {
    type Output = Self;
    fn neg(self) -> Self {
        Real(B::float_neg(self.0))
    }
}

impl<B: Engine> Real<B> {
    /// A tensor of these numbers.
    pub(crate) fn of(values: Vec<f32>, shape: Vec<usize>, device: &Device<B>) -> Self {
        match Value::<B>::of_floats(values, shape, device) {
            Value::Float(t) => Real(t),
            other => Real(other.to_float()),
        }
    }

    pub(crate) fn zeros(shape: Vec<usize>, device: &Device<B>) -> Self {
        Real(B::float_zeros(shape.into(), device, crate::value::FLOAT))
    }

    pub(crate) fn shape(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    pub(crate) fn size(&self, axis: usize) -> usize {
        self.shape().get(axis).copied().unwrap_or(1)
    }

    pub(crate) fn rank(&self) -> usize {
        self.0.shape().num_dims()
    }

    pub(crate) fn device(&self) -> Device<B> {
        self.0.device()
    }

    /// With axes of size 1 in front.
    fn lift(self, rank: usize) -> Self {
        let shape = self.shape();
        match shape.len() == rank {
            true => self,
            false => self.reshape([vec![1; rank - shape.len()], shape].concat()),
        }
    }

    fn of_value(value: Value<B>) -> Self {
        Real(value.to_float())
    }

    pub(crate) fn reshape(self, shape: impl Into<Vec<usize>>) -> Self {
        Real(B::float_reshape(self.0, shape.into().into()))
    }

    pub(crate) fn permute(self, order: &[usize]) -> Self {
        Self::of_value(permute(self.into(), order))
    }

    /// With the last two axes swapped.
    pub(crate) fn transpose(self) -> Self {
        Real(B::float_transpose(self.0))
    }

    pub(crate) fn expand(self, shape: Vec<usize>) -> Self {
        let rank = shape.len();
        Self::of_value(expand(self.lift(rank).into(), shape))
    }

    /// The part of an axis between two positions.
    pub(crate) fn part(self, axis: usize, from: usize, to: usize) -> Self {
        Self::of_value(segment(self.into(), axis, from, to))
    }

    /// An axis taken apart into so many equal parts.
    pub(crate) fn parts<const N: usize>(&self, axis: usize) -> [Self; N] {
        let size = self.size(axis) / N;
        std::array::from_fn(|index| self.clone().part(axis, index * size, (index + 1) * size))
    }

    /// One position of an axis, which goes.
    pub(crate) fn at(self, axis: usize, index: usize) -> Self {
        let mut shape = self.shape();
        shape.remove(axis);
        self.part(axis, index, index + 1).reshape(shape)
    }

    /// Tensors one after the other along an axis.
    pub(crate) fn join(parts: Vec<Self>, axis: usize) -> Result<Self> {
        let values = parts.into_iter().map(Value::from).collect();
        concat(values, axis as i64).map(Self::of_value)
    }

    /// Tensors one after the other along a new axis.
    pub(crate) fn stack(parts: Vec<Self>, axis: usize) -> Result<Self> {
        let lift = |part: Self| {
            let mut shape = part.shape();
            shape.insert(axis, 1);
            part.reshape(shape)
        };
        Self::join(parts.into_iter().map(lift).collect(), axis)
    }

    /// Rows at these positions of an axis.
    pub(crate) fn rows(self, axis: usize, picks: Vec<i64>) -> Result<Self> {
        let (count, device) = (picks.len(), self.device());
        let picks = Value::<B>::of_ints(picks, vec![count], &device).int()?;
        Ok(Real(B::float_select(self.0, axis, picks)))
    }

    /// The product of matrices, as in numpy.
    pub(crate) fn matmul(self, other: Self) -> Result<Self> {
        product(self.into(), other.into()).map(Self::of_value)
    }

    /// Sums along an axis, which stays with size 1.
    pub(crate) fn sum(self, axis: usize) -> Self {
        Real(B::float_sum_dim(self.0, axis))
    }

    /// Means along an axis, which stays with size 1.
    pub(crate) fn mean(self, axis: usize) -> Self {
        Real(B::float_mean_dim(self.0, axis))
    }

    /// The rows of a matrix normalized, about their mean or about zero; also their means, and what they
    /// are multiplied by.
    pub(crate) fn normalize(self, epsilon: f64, centered: bool) -> [Self; 3] {
        let mean = self.clone().mean(1);
        let x = if centered { self - mean.clone() } else { self };
        let spread = (x.clone().square().mean(1) + epsilon).sqrt();
        [x / spread.clone(), mean, spread.apply(Unary::Reciprocal)]
    }

    pub(crate) fn square(self) -> Self {
        self.clone() * self
    }

    pub(crate) fn softmax(self, axis: usize) -> Self {
        Real(B::softmax(self.0, axis))
    }

    pub(crate) fn sqrt(self) -> Self {
        Real(B::float_sqrt(self.0))
    }

    pub(crate) fn round(self) -> Self {
        Real(B::float_round(self.0))
    }

    pub(crate) fn clamp(self, low: f64, high: f64) -> Self {
        Real(B::float_clamp(self.0, low.into(), high.into()))
    }

    pub(crate) fn apply(self, function: Unary) -> Self {
        Real(function.apply::<B>(self.0))
    }

    /// With one number where a mask holds; the mask has the same shape.
    pub(crate) fn fill(self, mask: BoolTensor<B>, number: f64) -> Self {
        Real(B::float_mask_fill(self.0, mask, number.into()))
    }

    /// Without the path that gradients take.
    pub(crate) fn detach(self) -> Self {
        Real(B::float_detach(self.0))
    }

    /// All elements, row-major.
    pub(crate) fn to_vec(&self) -> Result<Vec<f32>> {
        Value::<B>::Float(B::float_detach(self.0.clone())).to_floats()
    }
}
