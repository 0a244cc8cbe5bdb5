//! Functions of elements, with numpy's broadcasting.

pub(crate) mod aten;

use burn_backend::TensorMetadata;
use burn_backend::tensor::{FloatTensor, IntTensor};
use burn_std::Distribution;
use secateur::onnx::proto;

use super::{Decode, Inputs, Op, Operator};
use crate::backend::{Arithmetic, Curve};
use crate::fuse::QUICK_GELU;
use crate::onnx::Node;
use crate::real::Real;
use crate::value::{FLOAT, bool_dtype};
use crate::{Context, Engine, Error, Result, Value};

/// A function of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Unary {
    Identity,
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Cos,
    Cosh,
    Erf,
    Exp,
    Expm1,
    Floor,
    IsInf,
    IsNan,
    Log,
    Log1p,
    Neg,
    Not,
    Reciprocal,
    Round,
    Sign,
    Sin,
    Sinh,
    Sqrt,
    Tan,
    Tanh,
    Trunc,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Mish,
    HardSwish,
    /// With the error function.
    Gelu,
    /// With the hyperbolic tangent.
    GeluTanh,
    /// `x · sigmoid(α·x)`
    Swish(f64),
    LeakyRelu(f64),
    Elu(f64),
    Celu(f64),
    Selu(f64, f64),
    /// `max(0, min(1, α·x + β))`
    HardSigmoid(f64, f64),
    ThresholdedRelu(f64),
    /// Bias and λ.
    Shrink(f64, f64),
}

impl Operator for Unary {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let value = inputs.take(0)?;
        let result = match (self, value) {
            (Unary::Identity, value) => value,
            (Unary::Not, value) => Value::Bool(B::bool_not(value.bool()?)),
            (Unary::IsNan, Value::Float(x)) => {
                let dtype = bool_dtype::<B>(&x.device());
                Value::Bool(B::float_is_nan(x, dtype))
            }
            (Unary::IsInf, Value::Float(x)) => {
                let dtype = bool_dtype::<B>(&x.device());
                Value::Bool(B::float_is_inf(x, dtype))
            }
            (Unary::Abs, Value::Int(x)) => Value::Int(B::int_abs(x)),
            (Unary::Neg, Value::Int(x)) => Value::Int(B::int_neg(x)),
            (Unary::Sign, Value::Int(x)) => Value::Int(B::int_sign(x)),
            (Unary::Relu, Value::Int(x)) => Value::Int(B::int_clamp_min(x, 0.into())),
            (_, value) => Value::Float(self.apply::<B>(value.float()?)),
        };
        Ok(vec![result])
    }
}

impl Unary {
    /// The function, of real numbers.
    pub fn apply<B: Engine>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Unary::Identity | Unary::Not | Unary::IsInf | Unary::IsNan => x,
            Unary::Abs => B::float_abs(x),
            Unary::Acos => B::float_acos(x),
            Unary::Acosh => B::float_acosh(x),
            Unary::Asin => B::float_asin(x),
            Unary::Asinh => B::float_asinh(x),
            Unary::Atan => B::float_atan(x),
            Unary::Atanh => B::float_atanh(x),
            Unary::Ceil => B::float_ceil(x),
            Unary::Cos => B::float_cos(x),
            Unary::Cosh => B::float_cosh(x),
            Unary::Erf => B::curve(Curve::Erf, x),
            Unary::Exp => B::float_exp(x),
            Unary::Floor => B::float_floor(x),
            Unary::Expm1 => {
                let half = B::float_mul_scalar(x.clone(), 0.5.into());
                let factor = B::float_mul_scalar(B::float_exp(half.clone()), 2.0.into());
                B::float_mul(factor, B::float_sinh(half))
            }
            Unary::Log => B::float_log(x),
            Unary::Log1p => B::float_log1p(x),
            Unary::Neg => B::float_neg(x),
            Unary::Reciprocal => B::float_recip(x),
            Unary::Round => B::float_round(x),
            Unary::Sign => B::float_sign(x),
            Unary::Sin => B::float_sin(x),
            Unary::Sinh => B::float_sinh(x),
            Unary::Sqrt => B::float_sqrt(x),
            Unary::Tan => B::float_tan(x),
            Unary::Tanh => B::float_tanh(x),
            Unary::Trunc => B::float_trunc(x),
            Unary::Relu => B::rectify(x),
            Unary::Sigmoid => B::curve(Curve::Sigmoid, x),
            Unary::Softplus => B::float_neg(B::log_sigmoid(B::float_neg(x))),
            Unary::Softsign => {
                let below = B::float_add_scalar(B::float_abs(x.clone()), 1.0.into());
                B::float_div(x, below)
            }
            Unary::Mish => {
                let gate = B::float_tanh(Unary::Softplus.apply::<B>(x.clone()));
                B::float_mul(x, gate)
            }
            Unary::HardSwish => {
                let gate = B::hard_sigmoid(x.clone(), (1.0 / 6.0).into(), 0.5.into());
                B::float_mul(x, gate)
            }
            Unary::Gelu => B::curve(Curve::Gelu, x),
            Unary::GeluTanh => B::curve(Curve::GeluTanh, x),
            Unary::Swish(alpha) => B::curve(Curve::Swish(alpha), x),
            Unary::LeakyRelu(slope) => B::leaky_relu(x, slope.into()),
            Unary::Elu(alpha) => exponential::<B>(x, 1.0, alpha, 1.0),
            Unary::Celu(alpha) => exponential::<B>(x, 1.0, alpha, 1.0 / alpha),
            Unary::Selu(alpha, gamma) => exponential::<B>(x, gamma, alpha * gamma, 1.0),
            Unary::HardSigmoid(alpha, beta) => B::hard_sigmoid(x, alpha.into(), beta.into()),
            Unary::ThresholdedRelu(alpha) => {
                let dtype = bool_dtype::<B>(&x.device());
                let below = B::float_lower_equal_elem(x.clone(), alpha.into(), dtype);
                B::float_mask_fill(x, below, 0.0.into())
            }
            Unary::Shrink(bias, lambda) => {
                let dtype = bool_dtype::<B>(&x.device());
                let moved = B::float_sub(
                    x.clone(),
                    B::float_mul_scalar(B::float_sign(x.clone()), bias.into()),
                );
                let small = B::float_lower_equal_elem(B::float_abs(x), lambda.into(), dtype);
                B::float_mask_fill(moved, small, 0.0.into())
            }
        }
    }
}

/// `upper·max(x, 0) + lower·(exp(rate·min(x, 0)) − 1)`
fn exponential<B: Engine>(x: FloatTensor<B>, upper: f64, lower: f64, rate: f64) -> FloatTensor<B> {
    let positive = B::float_mul_scalar(B::rectify(x.clone()), upper.into());
    let negative = B::float_neg(B::rectify(B::float_neg(x)));
    let curve = B::float_exp(B::float_mul_scalar(negative, rate.into()));
    let curve = B::float_mul_scalar(B::float_sub_scalar(curve, 1.0.into()), lower.into());
    B::float_add(positive, curve)
}

/// A function of two tensors, or of more by applying it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    Mean,
    /// The remainder with the divisor's sign.
    Mod,
    /// The remainder with the dividend's sign.
    Fmod,
    And,
    Or,
    Xor,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    PRelu,
}

impl Operator for Binary {
    fn run<B: Engine>(&self, _: &mut Context<B>, inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let values = inputs.rest();
        let count = values.len();
        let mut values = values.into_iter();
        let first = values.next().ok_or_else(|| Error::malformed("no operand"))?;
        let operator = if *self == Binary::Mean { Binary::Add } else { *self };
        let mut result = first;
        for value in values {
            if let (Binary::Pow, Value::Float(exponent)) = (self, &value)
                && B::float_is_require_grad(exponent)
                && exponent.shape().num_elements() == 1
            {
                let (a, b) = level(result, value);
                return Ok(vec![Value::Float(learned_power::<B>(a.float()?, b.float()?)?)]);
            }
            result = operator.apply(result, value)?;
        }
        if *self == Binary::Mean {
            result = Value::Float(B::float_div_scalar(result.float()?, (count as f64).into()));
        }
        Ok(vec![result])
    }
}

impl Binary {
    pub(crate) fn apply<B: Engine>(self, a: Value<B>, b: Value<B>) -> Result<Value<B>> {
        if a.rank() == 0 && b.rank() == 0 {
            // Burn differentiates no products of tensors without axes.
            let result = self.apply(a.reshape(vec![1]), b.reshape(vec![1]))?;
            return Ok(result.reshape(Vec::new()));
        }
        let (a, b) = level(a, b);
        match (a, b) {
            (a @ Value::Float(_), b @ Value::Int(_)) if self == Binary::Pow => {
                self.floats::<B>(a.float()?, b.to_float())
            }
            (a @ Value::Int(_), b @ Value::Float(_)) if self == Binary::Pow => {
                Ok(Value::Int(self.floats::<B>(a.to_float(), b.float()?)?.to_int()))
            }
            (Value::Float(a), Value::Float(b)) => self.floats::<B>(a, b),
            (Value::Int(a), Value::Int(b)) => self.ints::<B>(a, b),
            (Value::Bool(a), Value::Bool(b)) => {
                let (a, b) = same_bools::<B>(a, b);
                Ok(Value::Bool(match self {
                    Binary::And => B::bool_and(a, b),
                    Binary::Or => B::bool_or(a, b),
                    Binary::Xor => B::bool_xor(a, b),
                    Binary::Equal => B::bool_equal(a, b),
                    _ => return Err(self.refuses("truth values")),
                }))
            }
            (a, b) => Err(Error::malformed(format!("{} with {}", a.sort(), b.sort()))),
        }
    }

    fn refuses(self, sort: &str) -> Error {
        Error::unsupported(format!("`{self:?}` of {sort}"))
    }

    fn floats<B: Engine>(self, a: FloatTensor<B>, b: FloatTensor<B>) -> Result<Value<B>> {
        let dtype = bool_dtype::<B>(&a.device());
        Ok(Value::Float(match self {
            Binary::Add => B::arithmetic(Arithmetic::Add, a, b),
            Binary::Sub => B::arithmetic(Arithmetic::Sub, a, b),
            Binary::Mul => B::arithmetic(Arithmetic::Mul, a, b),
            Binary::Div => B::arithmetic(Arithmetic::Div, a, b),
            Binary::Pow => power::<B>(a, b)?,
            Binary::Min => {
                let (a, b) = same_floats::<B>(a, b);
                let less = B::float_lower(b.clone(), a.clone(), dtype);
                B::float_mask_where(a, less, b)
            }
            Binary::Max => {
                let (a, b) = same_floats::<B>(a, b);
                let more = B::float_greater(b.clone(), a.clone(), dtype);
                B::float_mask_where(a, more, b)
            }
            Binary::Mod => B::float_remainder(a, b),
            Binary::Fmod => {
                let times = B::float_trunc(B::float_div(a.clone(), b.clone()));
                B::float_sub(a, B::float_mul(times, b))
            }
            Binary::PRelu => {
                let negative = B::float_neg(B::rectify(B::float_neg(a.clone())));
                B::float_add(B::rectify(a), B::float_mul(negative, b))
            }
            Binary::Equal => return Ok(Value::Bool(B::float_equal(a, b, dtype))),
            Binary::Greater => return Ok(Value::Bool(B::float_greater(a, b, dtype))),
            Binary::GreaterOrEqual => return Ok(Value::Bool(B::float_greater_equal(a, b, dtype))),
            Binary::Less => return Ok(Value::Bool(B::float_lower(a, b, dtype))),
            Binary::LessOrEqual => return Ok(Value::Bool(B::float_lower_equal(a, b, dtype))),
            Binary::Mean | Binary::And | Binary::Or | Binary::Xor => {
                return Err(self.refuses("real numbers"));
            }
        }))
    }

    fn ints<B: Engine>(self, a: IntTensor<B>, b: IntTensor<B>) -> Result<Value<B>> {
        let dtype = bool_dtype::<B>(&a.device());
        Ok(Value::Int(match self {
            Binary::Add => B::int_add(a, b),
            Binary::Sub => B::int_sub(a, b),
            Binary::Mul => B::int_mul(a, b),
            Binary::Div => {
                let (a, b) = same_ints::<B>(a, b);
                if Value::<B>::Int(b.clone()).to_ints()?.contains(&0) {
                    return Err(Error::malformed("an integer is divided by zero"));
                }
                B::int_div(a, b)
            }
            Binary::Pow => B::int_powi(a, b),
            Binary::Min => {
                let (a, b) = same_ints::<B>(a, b);
                let less = B::int_lower(b.clone(), a.clone(), dtype);
                B::int_mask_where(a, less, b)
            }
            Binary::Max => {
                let (a, b) = same_ints::<B>(a, b);
                let more = B::int_greater(b.clone(), a.clone(), dtype);
                B::int_mask_where(a, more, b)
            }
            Binary::Mod => B::int_remainder(a, b),
            Binary::Fmod => {
                let times = B::int_div(a.clone(), b.clone());
                B::int_sub(a, B::int_mul(times, b))
            }
            Binary::And => B::bitwise_and(a, b),
            Binary::Or => B::bitwise_or(a, b),
            Binary::Xor => B::bitwise_xor(a, b),
            Binary::Equal => return Ok(Value::Bool(B::int_equal(a, b, dtype))),
            Binary::Greater => return Ok(Value::Bool(B::int_greater(a, b, dtype))),
            Binary::GreaterOrEqual => return Ok(Value::Bool(B::int_greater_equal(a, b, dtype))),
            Binary::Less => return Ok(Value::Bool(B::int_lower(a, b, dtype))),
            Binary::LessOrEqual => return Ok(Value::Bool(B::int_lower_equal(a, b, dtype))),
            Binary::Mean | Binary::PRelu => return Err(self.refuses("integers")),
        }))
    }
}

/// A power: of a constant exponent, which also has a gradient where the base is negative, or of any.
fn power<B: Engine>(a: FloatTensor<B>, b: FloatTensor<B>) -> Result<FloatTensor<B>> {
    if b.shape().num_elements() != 1 {
        return Ok(B::float_powf(a, b));
    }
    let rank = a.shape().num_dims().max(b.shape().num_dims());
    let exponent = Value::<B>::Float(B::float_detach(b)).to_floats()?[0];
    let a = Value::<B>::Float(a);
    let padded = [vec![1; rank - a.rank()], a.shape()].concat();
    let a = a.reshape(padded).float()?;
    Ok(match exponent {
        2.0 => B::float_mul(a.clone(), a),
        0.5 => B::float_sqrt(a),
        -0.5 => B::float_recip(B::float_sqrt(a)),
        _ => B::float_powf_scalar(a, f64::from(exponent).into()),
    })
}

/// A power of one exponent that is learned: its gradient counts where the base is positive.
fn learned_power<B: Engine>(a: FloatTensor<B>, b: FloatTensor<B>) -> Result<FloatTensor<B>> {
    let constant = B::float_detach(b.clone());
    let result = Real::<B>(power::<B>(a.clone(), constant.clone())?);
    let logarithm =
        Real::<B>(B::float_clamp_min(B::float_detach(a), f64::from(f32::MIN_POSITIVE).into()));
    let slope = result.clone().detach() * logarithm.apply(Unary::Log);
    Ok((result + (Real(b) - Real(constant)) * slope).0)
}

/// Two tensors with as many axes: those with fewer get axes of size 1 in front.
pub(crate) fn level<B: Engine>(a: Value<B>, b: Value<B>) -> (Value<B>, Value<B>) {
    let rank = a.rank().max(b.rank());
    let lift = |value: Value<B>| match value.rank() == rank {
        true => value,
        false => {
            let shape = value.shape();
            value.reshape([vec![1; rank - shape.len()], shape].concat())
        }
    };
    (lift(a), lift(b))
}

/// The shape that tensors of as many axes broadcast to.
pub(crate) fn common(a: &[usize], b: &[usize]) -> Vec<usize> {
    a.iter().zip(b).map(|(&a, &b)| if a == 1 { b } else { a }).collect()
}

fn same_floats<B: Engine>(
    a: FloatTensor<B>,
    b: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = common(a.shape().as_slice(), b.shape().as_slice());
    (B::float_expand(a, shape.clone().into()), B::float_expand(b, shape.into()))
}

fn same_ints<B: Engine>(a: IntTensor<B>, b: IntTensor<B>) -> (IntTensor<B>, IntTensor<B>) {
    let shape = common(a.shape().as_slice(), b.shape().as_slice());
    (B::int_expand(a, shape.clone().into()), B::int_expand(b, shape.into()))
}

fn same_bools<B: Engine>(
    a: B::BoolTensorPrimitive,
    b: B::BoolTensorPrimitive,
) -> (B::BoolTensorPrimitive, B::BoolTensorPrimitive) {
    let shape = common(a.shape().as_slice(), b.shape().as_slice());
    (B::bool_expand(a, shape.clone().into()), B::bool_expand(b, shape.into()))
}

/// The second operand where the first holds, else the third.
#[derive(Clone, Copy, Debug)]
pub struct Where;

impl Operator for Where {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (mask, yes, no) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let (mask, yes) = level(mask, yes);
        let (mask, no) = level(mask, no);
        let (mask, yes) = level(mask, yes);
        let shape = common(&common(&mask.shape(), &yes.shape()), &no.shape());
        let expand = |value: Value<B>| super::shape::expand(value, shape.clone());
        let mask = expand(mask).bool()?;
        Ok(vec![match (expand(yes), expand(no)) {
            (Value::Float(yes), Value::Float(no)) => {
                Value::Float(B::float_mask_where(no, mask, yes))
            }
            (Value::Int(yes), Value::Int(no)) => Value::Int(B::int_mask_where(no, mask, yes)),
            (Value::Bool(yes), Value::Bool(no)) => Value::Bool(B::bool_mask_where(no, mask, yes)),
            (a, b) => return Err(Error::malformed(format!("{} or {}", a.sort(), b.sort()))),
        }])
    }
}

/// Bounds: fixed ones, or the operands 1 and 2.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// The least.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
}

impl Operator for Clip {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let value = inputs.take(0)?;
        if self.is_learned(&inputs) {
            let mut result = value;
            for (index, bound) in [(1, Binary::Max), (2, Binary::Min)] {
                if let Some(number) = inputs.optional(index) {
                    result = bound.apply(result, number)?;
                }
            }
            return Ok(vec![result]);
        }
        let mut bound = |index: usize, fixed: Option<f64>| -> Result<Option<f64>> {
            let Some(given) = inputs.optional(index) else { return Ok(fixed) };
            Ok(given.to_floats()?.first().map(|&bound| f64::from(bound)))
        };
        let (min, max) = (bound(1, self.min)?, bound(2, self.max)?);
        Ok(vec![match value {
            Value::Float(x) => Value::Float(match (min, max) {
                (Some(min), Some(max)) => B::float_clamp(x, min.into(), max.into()),
                (Some(min), None) => B::float_clamp_min(x, min.into()),
                (None, Some(max)) => B::float_clamp_max(x, max.into()),
                (None, None) => x,
            }),
            Value::Int(mut x) => {
                if let Some(min) = min {
                    x = B::int_clamp_min(x, (min as i64).into());
                }
                if let Some(max) = max {
                    x = B::int_clamp_max(x, (max as i64).into());
                }
                Value::Int(x)
            }
            Value::Bool(_) => return Err(Error::unsupported("bounds of truth values")),
        }])
    }
}

impl Clip {
    /// Whether a gradient is asked for of a bound.
    fn is_learned<B: Engine>(&self, inputs: &Inputs<B>) -> bool {
        [1, 2].into_iter().any(|index| match inputs.get(index) {
            Some(Value::Float(bound)) => B::float_is_require_grad(bound),
            _ => false,
        })
    }
}

/// Another element type. Widths are not kept: real numbers are computed in 32 bits, integers in 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// To real numbers.
    Float,
    /// To integers.
    Int,
    /// To integers of so many bits, wrapped around; signed ones where the second holds.
    Narrow(u32, bool),
    /// To truth values.
    Bool,
    /// To the type of operand 1.
    Like,
}

impl Operator for Cast {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let value = inputs.take(0)?;
        let to = match (self, inputs.optional(1)) {
            (Cast::Like, Some(Value::Float(_))) => Cast::Float,
            (Cast::Like, Some(Value::Int(_))) => Cast::Int,
            (Cast::Like, Some(Value::Bool(_))) => Cast::Bool,
            (to, _) => *to,
        };
        Ok(vec![match to {
            Cast::Float | Cast::Like => Value::Float(value.to_float()),
            Cast::Int => Value::Int(value.to_int()),
            Cast::Bool => Value::Bool(value.to_bool()),
            Cast::Narrow(bits, signed) => {
                let mask = (1_i64 << bits) - 1;
                let x = B::bitwise_and_scalar(value.to_int(), mask.into());
                Value::Int(match signed {
                    false => x,
                    true => {
                        let half = 1_i64 << (bits - 1);
                        let flipped = B::bitwise_xor_scalar(x, half.into());
                        B::int_sub_scalar(flipped, half.into())
                    }
                })
            }
        }])
    }
}

/// Units that are dropped in training, and the rest scaled up: Srivastava et al., "Dropout", 2014.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The share that is dropped, unless operand 1 gives it.
    pub rate: f64,
    /// What either is multiplied with.
    pub scale: f64,
}

impl Operator for Dropout {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.float()?;
        let given = inputs.optional(1).map(Value::to_floats).transpose()?;
        let rate =
            given.and_then(|rate| rate.first().copied()).map_or(self.rate, f64::from) * self.scale;
        let dtype = bool_dtype::<B>(&cx.device);
        if !(cx.training && cx.drops) || rate <= 0.0 {
            let all = B::bool_ones(x.shape(), &cx.device, dtype);
            return Ok(vec![Value::Float(x), Value::Bool(all)]);
        }
        let noise = B::float_random(x.shape(), Distribution::Uniform(0.0, 1.0), &cx.device, FLOAT);
        let kept = B::float_greater_equal_elem(noise, rate.into(), dtype);
        let factor = B::bool_into_float(kept.clone(), FLOAT);
        let factor = B::float_mul_scalar(factor, (1.0 / (1.0 - rate)).into());
        Ok(vec![Value::Float(B::float_mul(x, factor)), Value::Bool(kept)])
    }
}

/// What is done with bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitsKind {
    /// All are turned over.
    Not,
    /// They are moved up, as far as operand 1 says.
    Left,
    /// They are moved down.
    Right,
}

/// A function of the bits of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The function.
    pub kind: BitsKind,
    /// The width of unsigned integers.
    pub width: Option<u32>,
}

impl Operator for Bits {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let mut shifted = |f: fn(IntTensor<B>, IntTensor<B>) -> IntTensor<B>, x: Value<B>| {
            let (x, by) = level(x, inputs.take(1)?);
            let (x, by) = same_ints::<B>(x.int()?, by.int()?);
            Ok::<_, Error>(f(x, by))
        };
        let result = match self.kind {
            BitsKind::Not => B::bitwise_not(x.int()?),
            BitsKind::Left => shifted(B::bitwise_left_shift, x)?,
            BitsKind::Right => shifted(B::bitwise_right_shift, x)?,
        };
        Ok(vec![Value::Int(match self.width {
            Some(width) => B::bitwise_and_scalar(result, ((1_i64 << width) - 1).into()),
            None => result,
        })])
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Identity", |_| Ok(Unary::Identity.into())),
    ("Abs", |_| Ok(Unary::Abs.into())),
    ("Acos", |_| Ok(Unary::Acos.into())),
    ("Acosh", |_| Ok(Unary::Acosh.into())),
    ("Asin", |_| Ok(Unary::Asin.into())),
    ("Asinh", |_| Ok(Unary::Asinh.into())),
    ("Atan", |_| Ok(Unary::Atan.into())),
    ("Atanh", |_| Ok(Unary::Atanh.into())),
    ("Ceil", |_| Ok(Unary::Ceil.into())),
    ("Cos", |_| Ok(Unary::Cos.into())),
    ("Cosh", |_| Ok(Unary::Cosh.into())),
    ("Erf", |_| Ok(Unary::Erf.into())),
    ("Exp", |_| Ok(Unary::Exp.into())),
    ("Floor", |_| Ok(Unary::Floor.into())),
    ("IsInf", |_| Ok(Unary::IsInf.into())),
    ("IsNaN", |_| Ok(Unary::IsNan.into())),
    ("Log", |_| Ok(Unary::Log.into())),
    ("Neg", |_| Ok(Unary::Neg.into())),
    ("Not", |_| Ok(Unary::Not.into())),
    ("Reciprocal", |_| Ok(Unary::Reciprocal.into())),
    ("Round", |_| Ok(Unary::Round.into())),
    ("Sign", |_| Ok(Unary::Sign.into())),
    ("Sin", |_| Ok(Unary::Sin.into())),
    ("Sinh", |_| Ok(Unary::Sinh.into())),
    ("Sqrt", |_| Ok(Unary::Sqrt.into())),
    ("Tan", |_| Ok(Unary::Tan.into())),
    ("Tanh", |_| Ok(Unary::Tanh.into())),
    ("Relu", |_| Ok(Unary::Relu.into())),
    ("Sigmoid", |_| Ok(Unary::Sigmoid.into())),
    ("Softplus", |_| Ok(Unary::Softplus.into())),
    ("Softsign", |_| Ok(Unary::Softsign.into())),
    ("Mish", |_| Ok(Unary::Mish.into())),
    ("HardSwish", |_| Ok(Unary::HardSwish.into())),
    ("Gelu", |node| {
        let tanh = node.string("approximate").as_deref() == Some("tanh");
        Ok(if tanh { Unary::GeluTanh } else { Unary::Gelu }.into())
    }),
    ("Swish", |node| Ok(Unary::Swish(node.float("alpha", 1.0)).into())),
    ("LeakyRelu", |node| Ok(Unary::LeakyRelu(node.float("alpha", 0.01)).into())),
    ("Elu", |node| Ok(Unary::Elu(node.float("alpha", 1.0)).into())),
    ("Celu", |node| Ok(Unary::Celu(node.float("alpha", 1.0)).into())),
    ("Selu", |node| {
        let alpha = node.float("alpha", 1.673_263_192_176_818_8);
        Ok(Unary::Selu(alpha, node.float("gamma", 1.050_701_022_148_132_3)).into())
    }),
    ("HardSigmoid", |node| {
        Ok(Unary::HardSigmoid(node.float("alpha", 0.2), node.float("beta", 0.5)).into())
    }),
    ("ThresholdedRelu", |node| Ok(Unary::ThresholdedRelu(node.float("alpha", 1.0)).into())),
    ("Shrink", |node| Ok(Unary::Shrink(node.float("bias", 0.0), node.float("lambd", 0.5)).into())),
    ("Add", |_| Ok(Binary::Add.into())),
    ("Sum", |_| Ok(Binary::Add.into())),
    ("Sub", |_| Ok(Binary::Sub.into())),
    ("Mul", |_| Ok(Binary::Mul.into())),
    ("Div", |_| Ok(Binary::Div.into())),
    ("Pow", |_| Ok(Binary::Pow.into())),
    ("Min", |_| Ok(Binary::Min.into())),
    ("Max", |_| Ok(Binary::Max.into())),
    ("Mean", |_| Ok(Binary::Mean.into())),
    ("Mod", |node| Ok(if node.int("fmod", 0) != 0 { Binary::Fmod } else { Binary::Mod }.into())),
    ("And", |_| Ok(Binary::And.into())),
    ("Or", |_| Ok(Binary::Or.into())),
    ("Xor", |_| Ok(Binary::Xor.into())),
    ("BitwiseAnd", |_| Ok(Binary::And.into())),
    ("BitwiseOr", |_| Ok(Binary::Or.into())),
    ("BitwiseXor", |_| Ok(Binary::Xor.into())),
    ("BitwiseNot", |node| Ok(Bits { kind: BitsKind::Not, width: width(node) }.into())),
    ("BitShift", |node| {
        let left = node.string("direction").as_deref() == Some("LEFT");
        let kind = if left { BitsKind::Left } else { BitsKind::Right };
        Ok(Bits { kind, width: width(node) }.into())
    }),
    ("Equal", |_| Ok(Binary::Equal.into())),
    ("Greater", |_| Ok(Binary::Greater.into())),
    ("GreaterOrEqual", |_| Ok(Binary::GreaterOrEqual.into())),
    ("Less", |_| Ok(Binary::Less.into())),
    ("LessOrEqual", |_| Ok(Binary::LessOrEqual.into())),
    ("PRelu", |_| Ok(Binary::PRelu.into())),
    ("Where", |_| Ok(Where.into())),
    ("Clip", |node| {
        let bound = |name| node.has(name).then(|| node.float(name, 0.0));
        Ok(Clip { min: bound("min"), max: bound("max") }.into())
    }),
    ("Cast", |node| cast(node.int("to", 1))),
    ("CastLike", |_| Ok(Cast::Like.into())),
    ("Dropout", |node| Ok(Dropout { rate: node.float("ratio", 0.5), scale: 1.0 }.into())),
];

/// The width of unsigned integers.
fn width(node: &Node<'_>) -> Option<u32> {
    let dtype = node.data_type(0).and_then(proto::dtype);
    match dtype {
        Some(secateur::DType::U8) => Some(8),
        Some(secateur::DType::U16) => Some(16),
        Some(secateur::DType::U32) => Some(32),
        _ => None,
    }
}

/// How ONNX Runtime spells others.
pub(crate) const CONTRIB: &[(&str, Decode)] =
    &[("QuickGelu", |node| Ok(Unary::Swish(node.float("alpha", QUICK_GELU)).into()))];

/// The cast to an element type of ONNX.
pub(crate) fn cast(to: i64) -> Result<Op> {
    let dtype = i32::try_from(to).ok().and_then(proto::dtype);
    use secateur::DType::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    Ok(match dtype {
        Some(F16 | BF16 | F32 | F64) => Cast::Float,
        Some(I32 | I64 | U64) => Cast::Int,
        Some(U32) => Cast::Narrow(32, false),
        Some(I16) => Cast::Narrow(16, true),
        Some(U16) => Cast::Narrow(16, false),
        Some(I8) => Cast::Narrow(8, true),
        Some(U8) => Cast::Narrow(8, false),
        Some(Bool) => Cast::Bool,
        _ => return Err(Error::unsupported(format!("a cast to type {to}"))),
    }
    .into())
}
