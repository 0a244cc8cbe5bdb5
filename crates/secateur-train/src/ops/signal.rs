//! Fourier transforms, as products with matrices, and what goes with them.

use std::f64::consts::PI;

use super::{Decode, Inputs, Operator, axis};
use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// Which half of a transform is returned, and which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All frequencies.
    Forward,
    /// Those that a real signal does not repeat.
    OneSided,
    /// Back from frequencies.
    Inverse,
}

/// A signal `[.., n]` in real and imaginary parts (the second may be missing), transformed.
fn transform<B: Engine>(real: Real<B>, imaginary: Option<Real<B>>, way: Way) -> Result<Real<B>> {
    let n = real.size(real.rank() - 1);
    let count = if way == Way::OneSided { n / 2 + 1 } else { n };
    let (sign, factor) = if way == Way::Inverse { (-1.0, 1.0 / n as f64) } else { (1.0, 1.0) };
    let table = |f: fn(f64) -> f64| {
        let number = |at: usize| {
            let turn = (at / count) * (at % count) % n.max(1);
            (f(sign * 2.0 * PI * turn as f64 / n as f64) * factor) as f32
        };
        Real::of((0..n * count).map(number).collect(), vec![n, count], &real.device())
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let (mut left, mut right) =
        (real.clone().matmul(cos.clone())?, -real.clone().matmul(sin.clone())?);
    if let Some(imaginary) = imaginary {
        left = left + imaginary.clone().matmul(sin)?;
        right = right + imaginary.matmul(cos)?;
    }
    let last = left.rank();
    Real::stack(vec![left, right], last)
}

/// The last axis taken apart into real and imaginary parts.
fn components<B: Engine>(x: Real<B>) -> Result<(Real<B>, Option<Real<B>>)> {
    let last = x.rank() - 1;
    match x.size(last) {
        1 => Ok((x.at(last, 0), None)),
        2 => Ok((x.clone().at(last, 0), Some(x.at(last, 1)))),
        other => Err(Error::malformed(format!("numbers of {other} parts"))),
    }
}

/// The discrete Fourier transform along an axis; operand 1 gives its length, operand 2 the axis.
#[derive(Clone, Copy, Debug)]
pub struct Dft {
    /// The axis, unless operand 2 gives it.
    pub axis: i64,
    /// Which way it goes.
    pub way: Way,
}

impl Operator for Dft {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.real(0)?;
        let given = inputs.optional(2).map(Value::to_ints).transpose()?;
        let given = given.and_then(|axis| axis.first().copied()).unwrap_or(self.axis);
        let (rank, along) = (x.rank(), axis(given, x.rank())?);
        if along + 1 >= rank {
            return Err(Error::malformed("a transform along the parts of numbers"));
        }
        let length = inputs.optional(1).map(Value::to_ints).transpose()?;
        if let Some(&length) = length.as_ref().and_then(|length| length.first()) {
            let length = usize::try_from(length).map_err(|_| Error::malformed("its length"))?;
            let mut rest = x.shape();
            rest[along] = length.saturating_sub(x.size(along));
            x = x.clone().part(along, 0, length.min(x.size(along)));
            if rest[along] > 0 {
                x = Real::join(vec![x, Real::zeros(rest, &cx.device)], along)?;
            }
        }
        let mut order: Vec<usize> = (0..rank - 1).collect();
        order.swap(along, rank - 2);
        let (real, imaginary) = components(x)?;
        let turned = |part: Real<B>| part.permute(&order);
        let result = transform(turned(real), imaginary.map(turned), self.way)?;
        order.push(rank - 1);
        Ok(vec![result.permute(&order).into()])
    }
}

/// Transforms of frames of a signal `[n, t, 1]`: operand 1 says how far apart they are, operand 2 what
/// they are multiplied by, operand 3 how long they are.
#[derive(Clone, Copy, Debug)]
pub struct Stft {
    /// Which half is returned.
    pub way: Way,
}

impl Operator for Stft {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, step) = (inputs.real(0)?, inputs.ints(1)?);
        let x = if x.rank() == 2 { Real::stack(vec![x], 2)? } else { x };
        let window = inputs.optional_real(2)?;
        let length = inputs.optional(3).map(Value::to_ints).transpose()?;
        let length = length.and_then(|length| length.first().copied());
        let length = length.or_else(|| window.as_ref().map(|window| window.size(0) as i64));
        let number = |number: Option<i64>| number.and_then(|n| usize::try_from(n).ok());
        let (step, length) = (number(step.first().copied()), number(length));
        let (Some(step @ 1..), Some(length @ 1..)) = (step, length) else {
            return Err(Error::malformed("frames of no length, or no step between them"));
        };
        let (n, t) = (x.size(0), x.size(1));
        let frames = (t.checked_sub(length)).map_or(0, |room| room / step + 1);
        let picks: Vec<i64> =
            (0..frames * length).map(|at| (at / length * step + at % length) as i64).collect();
        let (real, imaginary) = components(x)?;
        let framed = |part: Real<B>| -> Result<Real<B>> {
            let part = part.rows(1, picks.clone())?.reshape([n, frames, length]);
            Ok(match &window {
                Some(window) => part * window.clone(),
                None => part,
            })
        };
        let imaginary = imaginary.map(framed).transpose()?;
        Ok(vec![transform(framed(real)?, imaginary, self.way)?.into()])
    }
}

/// A window of as many numbers as operand 0 says: a sum of cosines with these factors.
#[derive(Clone, Copy, Debug)]
pub struct Cosines {
    /// The factors.
    pub factors: [f64; 3],
    /// Whether it goes on where it ends.
    pub periodic: bool,
}

impl Operator for Cosines {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let size = inputs.ints(0)?.first().copied().unwrap_or(0).clamp(0, 1 << 31);
        let period = if self.periodic { size } else { size - 1 } as f64;
        let [a, b, c] = self.factors;
        let number = |at: i64| {
            let turn = 2.0 * PI * at as f64 / period;
            (a - b * turn.cos() + c * (2.0 * turn).cos()) as f32
        };
        let numbers: Vec<f32> = (0..size).map(number).collect();
        let count = numbers.len();
        Ok(vec![Real::<B>::of(numbers, vec![count], &cx.device).into()])
    }
}

/// The matrix from frequencies of a transform to the mel scale: operands are the number of bands, the
/// length of the transform, the sample rate, and the least and largest frequency.
#[derive(Clone, Copy, Debug)]
pub struct MelWeights;

impl Operator for MelWeights {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut number = |index: usize| -> Result<f64> {
            let numbers = inputs.take(index)?.to_floats()?;
            numbers.first().map(|&n| n.into()).ok_or_else(|| Error::malformed("no number"))
        };
        let (bands, length, rate) = (number(0)? as usize, number(1)? as usize, number(2)?);
        let (low, high) = (number(3)?, number(4)?);
        let rows = length / 2 + 1;
        if bands.saturating_mul(rows) > 1 << 28 {
            return Err(Error::malformed(format!("{bands} bands of {rows} frequencies")));
        }
        let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
        let step = (mel(high) - mel(low)) / (bands + 2) as f64;
        let place = |band: usize| {
            let hertz = 700.0 * (10f64.powf((mel(low) + step * band as f64) / 2595.0) - 1.0);
            ((length + 1) as f64 * hertz / rate).floor() as i64
        };
        let mut weights = vec![0.0_f32; rows * bands];
        for band in 0..bands {
            let [lower, center, upper] = [band, band + 1, band + 2].map(place);
            for row in lower.max(0)..=upper.min(rows as i64 - 1) {
                let weight = match row {
                    _ if row == center => 1.0,
                    _ if row < center => (row - lower) as f64 / (center - lower) as f64,
                    _ => (upper - row) as f64 / (upper - center) as f64,
                };
                weights[row as usize * bands + band] = weight as f32;
            }
        }
        Ok(vec![Real::<B>::of(weights, vec![rows, bands], &cx.device).into()])
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("DFT", |node| {
        let default = if node.opset < 20 { 1 } else { -2 };
        Ok(Dft { axis: node.int("axis", default), way: way(node, 0)? }.into())
    }),
    ("STFT", |node| Ok(Stft { way: way(node, 1)? }.into())),
    ("HannWindow", |node| Ok(cosines(node, [0.5, 0.5, 0.0]))),
    ("HammingWindow", |node| Ok(cosines(node, [25.0 / 46.0, 1.0 - 25.0 / 46.0, 0.0]))),
    ("BlackmanWindow", |node| Ok(cosines(node, [0.42, 0.5, 0.08]))),
    ("MelWeightMatrix", |_| Ok(MelWeights.into())),
];

fn cosines(node: &Node<'_>, factors: [f64; 3]) -> super::Op {
    Cosines { factors, periodic: node.int("periodic", 1) != 0 }.into()
}

fn way(node: &Node<'_>, one_sided: i64) -> Result<Way> {
    match (node.int("inverse", 0) != 0, node.int("onesided", one_sided) != 0) {
        (true, true) => Err(Error::unsupported("half of the frequencies transformed back")),
        (true, false) => Ok(Way::Inverse),
        (false, true) => Ok(Way::OneSided),
        (false, false) => Ok(Way::Forward),
    }
}
