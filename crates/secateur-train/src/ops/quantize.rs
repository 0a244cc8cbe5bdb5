//! Numbers as integers of few bits, and products of such integers.

use super::conv::Conv;
use super::elementwise::Binary;
use super::matmul::product;
use super::{Decode, Inputs, Op, Operator, axis};
use crate::onnx::{INT4, INT8, INT16, INT32, Node, UINT4, UINT8, UINT16};
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// The least and the largest integer of a type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Range {
    /// The range of a type, by ONNX's number.
    ///
    /// # Errors
    /// When it is no integer that numbers are rounded to.
    pub(crate) fn of(data_type: i32) -> Result<Self> {
        let (low, high) = match data_type {
            UINT8 => (0.0, 255.0),
            INT8 => (-128.0, 127.0),
            UINT16 => (0.0, 65535.0),
            INT16 => (-32768.0, 32767.0),
            INT32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            UINT4 => (0.0, 15.0),
            INT4 => (-8.0, 7.0),
            other => return Err(Error::unsupported(format!("rounding to type {other}"))),
        };
        Ok(Self { low, high })
    }

    /// The range of an operand's type; of bytes where it is omitted.
    ///
    /// # Errors
    /// When the type is not known, or is none that numbers are rounded to.
    pub(crate) fn like(node: &Node<'_>, index: usize) -> Result<Self> {
        match node.data_type(index) {
            Some(data_type) => Self::of(data_type),
            None if node.reads(index) => {
                Err(Error::unsupported(format!("operand {index} of a type that is not known")))
            }
            None => Self::of(UINT8),
        }
    }

    /// The integers that stand for numbers.
    pub(crate) fn codes<B: Engine>(
        self,
        x: Real<B>,
        scale: Real<B>,
        zero: Option<Real<B>>,
    ) -> Value<B> {
        let rounded = (x / scale).round();
        let moved = match zero {
            Some(zero) => rounded + zero,
            None => rounded,
        };
        Value::Int(Value::from(moved.clamp(self.low, self.high)).to_int())
    }
}

/// The numbers that integers stand for.
pub(crate) fn numbers<B: Engine>(
    codes: Value<B>,
    scale: Real<B>,
    zero: Option<Real<B>>,
) -> Real<B> {
    let codes = Real(codes.to_float());
    match zero {
        Some(zero) => (codes - zero) * scale,
        None => codes * scale,
    }
}

/// How scales and zero points lie along data.
#[derive(Clone, Copy, Debug)]
pub struct Along {
    /// The axis that they run along, where there are several.
    pub axis: i64,
    /// How many positions share one, where they have as many axes as the data.
    pub block: usize,
}

impl Along {
    fn decode(node: &Node<'_>) -> Self {
        let block = usize::try_from(node.int("block_size", 0)).unwrap_or(0);
        Self { axis: node.int("axis", 1), block }
    }

    /// A scale or zero point in a shape that broadcasts to that of the data.
    fn spread<B: Engine>(self, part: Real<B>, shape: &[usize]) -> Result<Real<B>> {
        let given = part.shape();
        match given[..] {
            _ if given.iter().product::<usize>() == 1 => Ok(part.reshape(vec![1; shape.len()])),
            [count] => {
                let axis = axis(self.axis, shape.len())?;
                let mut wide = vec![1; shape.len()];
                wide[axis] = count;
                Ok(part.reshape(wide))
            }
            _ if self.block > 0 && given.len() == shape.len() => {
                let axis = axis(self.axis, shape.len())?;
                let blocks = given[axis] as i64;
                let block = |at: usize| ((at / self.block) as i64).min(blocks - 1);
                part.rows(axis, (0..shape[axis]).map(block).collect())
            }
            _ => Err(Error::malformed(format!("scales {given:?} of data {shape:?}"))),
        }
    }
}

/// Real numbers to integers: data, scale, zero point.
#[derive(Clone, Copy, Debug)]
pub struct Quantize {
    /// Which integers there are.
    pub range: Range,
    /// How scales lie.
    pub along: Along,
}

impl Operator for Quantize {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = Real(inputs.take(0)?.to_float());
        let (shape, scale) = (x.shape(), inputs.real(1)?);
        let zero = inputs.optional(2).map(|zero| Real(zero.to_float()));
        let zero = zero.map(|zero| self.along.spread(zero, &shape)).transpose()?;
        Ok(vec![self.range.codes(x, self.along.spread(scale, &shape)?, zero)])
    }
}

/// Integers to real numbers: data, scale, zero point.
#[derive(Clone, Copy, Debug)]
pub struct Dequantize {
    /// How scales lie.
    pub along: Along,
}

impl Operator for Dequantize {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, scale) = (inputs.take(0)?, inputs.real(1)?);
        let shape = x.shape();
        let zero = inputs.optional(2).map(|zero| Real(zero.to_float()));
        let zero = zero.map(|zero| self.along.spread(zero, &shape)).transpose()?;
        Ok(vec![numbers(x, self.along.spread(scale, &shape)?, zero).into()])
    }
}

/// Real numbers to bytes, with a scale and a zero point that fit them.
#[derive(Clone, Copy, Debug)]
pub struct DynamicQuantize;

impl Operator for DynamicQuantize {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.real(0)?;
        let (codes, scale, zero) = fitted(x)?;
        let zero = Value::of_ints(vec![zero as i64], Vec::new(), &cx.device);
        let scale = Real::of(vec![scale], Vec::new(), &cx.device);
        Ok(vec![codes, scale.into(), zero])
    }
}

const BYTES: Range = Range { low: 0.0, high: 255.0 };

/// Bytes for numbers, and their scale and zero point.
fn fitted<B: Engine>(x: Real<B>) -> Result<(Value<B>, f32, f32)> {
    let values = x.to_vec()?;
    let low = values.iter().copied().fold(0.0_f32, f32::min);
    let high = values.iter().copied().fold(0.0_f32, f32::max);
    let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
    let zero = (0.0 - low / scale).clamp(0.0, 255.0).round_ties_even();
    let device = x.device();
    let number = |value: f32| Real::of(vec![value], vec![1; x.rank()], &device);
    let (scales, zeros) = (number(scale), number(zero));
    Ok((BYTES.codes(x.clone(), scales, Some(zeros)), scale, zero))
}

/// Numbers as they come back from bytes that fit them.
pub(crate) fn rounded<B: Engine>(x: Real<B>) -> Result<Real<B>> {
    let (device, rank) = (x.device(), x.rank());
    let (codes, scale, zero) = fitted(x)?;
    let number = |value: f32| Real::of(vec![value], vec![1; rank], &device);
    Ok(numbers(codes, number(scale), Some(number(zero))))
}

/// Operands of one side of a product.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// The operand that holds the integers.
    pub codes: usize,
    /// The one that holds scales.
    pub scale: Option<usize>,
    /// The one that holds zero points.
    pub zero: Option<usize>,
}

/// How two sides are multiplied.
#[derive(Clone, Debug)]
pub enum Multiply {
    /// As matrices.
    Matrices,
    /// As matrices, with a factor, transposed where asked for.
    Gemm {
        /// Whether the left one is transposed.
        left: bool,
        /// Whether the right one is.
        right: bool,
        /// The factor.
        alpha: f64,
    },
    /// As a convolution.
    Conv(Conv),
}

/// What becomes of sums of products.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// They stay integers.
    Sums,
    /// The real numbers that they stand for, with operand `bias` added.
    Numbers,
    /// Integers again, of the scale and zero point of two operands.
    Codes([usize; 2], Range),
}

/// A product of integers.
#[derive(Clone, Debug)]
pub struct IntegerProduct {
    /// How.
    pub multiply: Multiply,
    /// The left side; without a scale in a product that has scales, real numbers that are rounded.
    pub left: Side,
    /// The right side.
    pub right: Side,
    /// A bias, of the sums where these are rounded.
    pub bias: Option<usize>,
    /// What comes out.
    pub outcome: Outcome,
}

impl Operator for IntegerProduct {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut left = inputs.take(self.left.codes)?;
        let right = inputs.take(self.right.codes)?;
        let mut scale = self.scale(&mut inputs, right.rank())?;
        let mut zero = self.left.zero.and_then(|zero| inputs.optional(zero));
        if let Value::Float(x) = left {
            let (codes, factor, middle) = fitted(Real(x))?;
            left = codes;
            zero = Some(Value::of_ints(vec![middle as i64], Vec::new(), &cx.device));
            scale = scale.map(|scale| scale * f64::from(factor));
        }
        let zeros = self.right.zero.and_then(|zero| inputs.optional(zero));
        let lie = self.right_lie(right.rank());
        let summed = lie.of_sums();
        let left = centered(left, zero, Lie::Rows)?;
        let transposed = matches!(self.multiply, Multiply::Gemm { right: true, .. });
        let right = centered(right, zeros, if transposed { Lie::Rows } else { lie })?;
        let mut sums = self.multiply.run(cx, left, right)?;
        let bias = self.bias.and_then(|bias| inputs.optional(bias));
        let scale = match (self.outcome, scale) {
            (Outcome::Sums, _) | (_, None) => return Ok(vec![sums]),
            (_, Some(scale)) => scale,
        };
        let (mut ints, mut reals) = (None, None);
        match bias {
            Some(Value::Float(bias)) => reals = Some(Real(bias)),
            other => ints = other,
        }
        if let Some(bias) = ints {
            sums = Binary::Add.apply(sums, lifted(bias, summed))?;
        }
        let sums = Real(sums.to_float());
        match self.outcome {
            Outcome::Codes([scales, zeros], range) if inputs.has(scales) => {
                let scale = scale / inputs.real(scales)?;
                let zero = inputs.optional(zeros).map(|zero| Real(zero.to_float()));
                let unit = Real::of(vec![1.0], Vec::new(), &cx.device);
                Ok(vec![range.codes(sums * scale, unit, zero)])
            }
            _ => {
                let numbers = sums * scale;
                Ok(vec![
                    match reals {
                        Some(bias) => numbers + bias,
                        None => numbers,
                    }
                    .into(),
                ])
            }
        }
    }
}

/// How a list of zero points or scales lies along what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// One per row of a matrix.
    Rows,
    /// One per column.
    Columns,
    /// One per channel, with so many axes after it.
    Channels(usize),
}

impl Lie {
    /// How a list of the right side lies along sums of products.
    fn of_sums(self) -> Self {
        match self {
            Lie::Channels(axes) => Lie::Channels(axes.saturating_sub(1)),
            lie => lie,
        }
    }
}

/// A list in the shape that it broadcasts in.
fn lifted<B: Engine>(part: Value<B>, lie: Lie) -> Value<B> {
    let shape = part.shape();
    match (lie, &shape[..]) {
        (Lie::Rows, &[count]) if count != 1 => part.reshape(vec![count, 1]),
        (Lie::Channels(axes), &[count]) => part.reshape([vec![count], vec![1; axes]].concat()),
        _ => part,
    }
}

/// Integers without their zero points.
fn centered<B: Engine>(codes: Value<B>, zero: Option<Value<B>>, lie: Lie) -> Result<Value<B>> {
    match zero {
        Some(zero) => Binary::Sub.apply(codes, lifted(zero, lie)),
        None => Ok(codes),
    }
}

impl IntegerProduct {
    /// How lists of the right side lie, which has `rank` axes.
    fn right_lie(&self, rank: usize) -> Lie {
        match &self.multiply {
            Multiply::Conv(_) => Lie::Channels(rank.saturating_sub(1)),
            _ => Lie::Columns,
        }
    }

    /// The product of all scales, where there are any.
    fn scale<B: Engine>(&self, inputs: &mut Inputs<B>, rank: usize) -> Result<Option<Real<B>>> {
        let mut factors = Vec::new();
        let lie = self.right_lie(rank).of_sums();
        for (side, lie) in [(self.left, Lie::Rows), (self.right, lie)] {
            let scale = side.scale.and_then(|scale| inputs.optional(scale));
            factors.extend(scale.map(|scale| lifted(scale, lie).float().map(Real)).transpose()?);
        }
        let scale = factors.into_iter().reduce(|a, b| a * b);
        Ok(match self.multiply {
            Multiply::Gemm { alpha, .. } if alpha != 1.0 => scale.map(|scale| scale * alpha),
            _ => scale,
        })
    }
}

impl Multiply {
    fn run<B: Engine>(&self, cx: &mut Context<B>, a: Value<B>, b: Value<B>) -> Result<Value<B>> {
        match self {
            Multiply::Matrices => product(a, b),
            Multiply::Gemm { left, right, .. } => {
                let turn = |x: Value<B>, turned: &bool| match turned {
                    true => B::int_transpose(x.to_int()),
                    false => x.to_int(),
                };
                product(Value::Int(turn(a, left)), Value::Int(turn(b, right)))
            }
            Multiply::Conv(conv) => exact(conv, cx, a, b),
        }
    }
}

/// A convolution of integers of 9 bits, whose sums are exact: the data is taken apart into digits, so
/// that sums of their products are integers that 32-bit floats hold.
fn exact<B: Engine>(
    conv: &Conv,
    cx: &mut Context<B>,
    data: Value<B>,
    kernel: Value<B>,
) -> Result<Value<B>> {
    let data = data.to_int();
    let high = B::bitwise_right_shift_scalar(data.clone(), 4.into());
    let low = B::bitwise_and_scalar(data, 15.into());
    let kernel: Value<B> = Value::Float(kernel.to_float());
    let mut convolve = |digits| {
        let operands = vec![
            Some(Value::Float(B::int_into_float(digits, crate::value::FLOAT))),
            Some(kernel.clone()),
        ];
        let results = conv.run(cx, Inputs::new(operands))?.into_iter().next();
        Ok::<_, Error>(results.ok_or_else(|| Error::malformed("no result"))?.to_int())
    };
    let high = B::int_mul_scalar(convolve(high)?, 16.into());
    Ok(Value::Int(B::int_add(high, convolve(low)?)))
}

fn side(codes: usize, scale: Option<usize>, zero: usize) -> Side {
    Side { codes, scale, zero: Some(zero) }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("QuantizeLinear", |node| {
        let given = i32::try_from(node.int("output_dtype", 0)).ok().filter(|&given| given != 0);
        let range = match given {
            Some(data_type) if !node.reads(2) => Range::of(data_type)?,
            _ => Range::like(node, 2)?,
        };
        Ok(Quantize { range, along: Along::decode(node) }.into())
    }),
    ("DequantizeLinear", |node| Ok(Dequantize { along: Along::decode(node) }.into())),
    ("DynamicQuantizeLinear", |_| Ok(DynamicQuantize.into())),
    ("MatMulInteger", |_| Ok(sums(Multiply::Matrices))),
    ("ConvInteger", |node| Ok(sums(Multiply::Conv(Conv::decode(node)?)))),
    ("QLinearMatMul", |node| codes(node, Multiply::Matrices)),
    ("QLinearConv", |node| codes(node, Multiply::Conv(Conv::decode(node)?))),
];

fn sums(multiply: Multiply) -> Op {
    let (left, right) = (side(0, None, 2), side(1, None, 3));
    IntegerProduct { multiply, left, right, bias: None, outcome: Outcome::Sums }.into()
}

fn codes(node: &Node<'_>, multiply: Multiply) -> Result<Op> {
    let outcome = Outcome::Codes([6, 7], Range::like(node, 7)?);
    let (left, right) = (side(0, Some(1), 2), side(3, Some(4), 5));
    Ok(IntegerProduct { multiply, left, right, bias: Some(8), outcome }.into())
}

/// How ONNX Runtime spells products.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[
    ("MatMulIntegerToFloat", |_| {
        let (left, right) = (side(0, Some(2), 4), side(1, Some(3), 5));
        let (multiply, outcome) = (Multiply::Matrices, Outcome::Numbers);
        Ok(IntegerProduct { multiply, left, right, bias: Some(6), outcome }.into())
    }),
    ("DynamicQuantizeMatMul", |_| {
        let left = Side { codes: 0, scale: None, zero: None };
        let (right, outcome) = (side(1, Some(2), 3), Outcome::Numbers);
        let multiply = Multiply::Matrices;
        Ok(IntegerProduct { multiply, left, right, bias: Some(4), outcome }.into())
    }),
    ("QGemm", |node| {
        let multiply = Multiply::Gemm {
            left: node.int("transA", 0) != 0,
            right: node.int("transB", 0) != 0,
            alpha: node.float("alpha", 1.0),
        };
        let outcome = Outcome::Codes([7, 8], Range::like(node, 8)?);
        let (left, right) = (side(0, Some(1), 2), side(3, Some(4), 5));
        Ok(IntegerProduct { multiply, left, right, bias: Some(6), outcome }.into())
    }),
];
