//! How PyTorch spells elementwise operators.

use super::{Elementwise, Zeros};
use crate::graph::{Extent, ValueId};
use crate::ops::join::Split;
use crate::ops::reduce::{self, ReduceKind};
use crate::ops::reshape::Reshape;
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

macro_rules! table {
    ($($zeros:ident $decode:ident: $($name:literal)*;)*) => {
        &[$($((concat!("aten.", $name), |cx| $decode(cx, Zeros::$zeros)),)*)*
            ("aten.rsqrt", |cx| unary(cx, Zeros::Pole)),
            ("aten.add", terms),
            ("aten.sub", terms),
            ("aten.rsub", terms),
            ("aten.subtract", terms),
            ("aten.max", |cx| extremum(cx, ReduceKind::Max)),
            ("aten.min", |cx| extremum(cx, ReduceKind::Min)),
            ("aten.pow", power),
            ("aten.clamp", |cx| clamp(cx, ["min", "max"])),
            ("aten.clip", |cx| clamp(cx, ["min", "max"])),
            ("aten.clamp_min", |cx| clamp(cx, ["min", "none"])),
            ("aten.clamp_max", |cx| clamp(cx, ["none", "max"])),
            ("aten.hardtanh", |cx| {
                let low = cx.number("min_val").unwrap_or(-1.0);
                let high = cx.number("max_val").unwrap_or(1.0);
                let keeps = low <= 0.0 && high >= 0.0;
                unary(cx, if keeps { Zeros::FirstKept } else { Zeros::Lost })
            }),
            ("aten.broadcast_tensors", |cx| {
                let tensors: Vec<ValueId> = cx.tensors("tensors")?.into_iter().flatten().collect();
                for (slot, &tensor) in tensors.iter().enumerate() {
                    let others = tensors.iter().copied().filter(|&other| other != tensor);
                    let operands: Vec<ValueId> = std::iter::once(tensor).chain(others).collect();
                    let zeros = Zeros::SomeKept(0b1);
                    let made = cx.emit(Elementwise { zeros, results: 1 }, &operands)?;
                    cx.bind(slot, made);
                }
                Ok(())
            }),
            ("aten.where", |cx| {
                let operands = [cx.tensor("condition")?, cx.tensor("self")?, cx.tensor("other")?];
                make(cx, Zeros::BranchesKept, &operands)
            }),
            ("aten.masked_fill", |cx| {
                let operands = [cx.tensor("self")?, cx.tensor("mask")?];
                let zero = cx.number("value") == Some(0.0);
                make(cx, if zero { Zeros::FirstKept } else { Zeros::Lost }, &operands)
            }),
            ("aten.copy", |cx| {
                let operands = [cx.tensor("self")?, cx.tensor("src")?];
                make(cx, Zeros::SomeKept(0b10), &operands)
            }),
            ("aten.complex", |cx| {
                let operands = [cx.tensor("real")?, cx.tensor("imag")?];
                make(cx, Zeros::AllKept, &operands)
            }),
            ("aten.polar", |cx| {
                let operands = [cx.tensor("abs")?, cx.tensor("angle")?];
                make(cx, Zeros::SomeKept(0b1), &operands)
            }),
            ("aten.log_sigmoid_forward", |cx| unary(cx, Zeros::Lost)),
            ("aten.xlogy", |cx| match (cx.optional("self")?, cx.optional("other")?) {
                (Some(x), Some(y)) => make(cx, Zeros::SomeKept(0b1), &[x, y]),
                (Some(x), None) => make(cx, Zeros::FirstKept, &[x]),
                (None, Some(y)) => make(cx, Zeros::Lost, &[y]),
                (None, None) => Err(Error::unsupported("an operator of numbers only")),
            }),
            ("aten.fill", |cx| unary(cx, Zeros::Lost)),
            ("aten.zero", |cx| unary(cx, Zeros::SomeKept(0))),
            ("aten.zeros_like", |cx| unary(cx, Zeros::SomeKept(0))),
            ("aten.prelu", decode_prelu),
            ("aten._prelu_kernel", |cx| {
                let operands = [cx.tensor("self")?, cx.tensor("weight")?];
                make(cx, Zeros::FirstKept, &operands)
            }),
            ("aten.glu", decode_glu),
            ("aten.addcmul", |cx| fused(cx, Zeros::AnyKept)),
            ("aten.addcdiv", |cx| fused(cx, Zeros::Quotient)),
            ("aten.lerp", |cx| {
                let operands = [cx.tensor("self")?, cx.tensor("end")?];
                let weight = cx.optional("weight")?;
                let operands = operands.into_iter().chain(weight).collect::<Vec<_>>();
                make(cx, Zeros::SomeKept(0b11), &operands)
            }),
        ]
    };
}

pub(crate) const ATEN: &[(&str, Decode)] = table! {
    Moved unary: "alias" "clone" "contiguous" "detach" "detach_copy" "lift_fresh_copy" "lift_fresh";
    FirstKept unary: "_conj" "_to_copy" "abs" "angle" "asin" "asinh" "atan" "atanh" "ceil" "celu"
        "conj_physical" "deg2rad" "dropout" "elu" "erf" "erfinv" "expm1" "feature_dropout" "floor"
        "frac" "gelu" "hardshrink" "hardswish" "imag" "isinf" "isnan" "leaky_relu" "log1p" "mish"
        "nan_to_num" "native_dropout" "neg" "real" "relu" "relu6" "rrelu" "rrelu_with_noise" "resolve_conj" "resolve_neg"
        "round" "selu" "sgn" "sign" "silu" "sin" "sinh" "softshrink" "special_entr" "sqrt" "square" "tan" "tanh"
        "tanhshrink" "to" "trunc" "type_as" "_autocast_to_reduced_precision"
        "_autocast_to_full_precision";
    Lost unary: "acos" "alpha_dropout" "bernoulli" "bitwise_not" "cos" "cosh" "empty_like" "erfc"
        "exp" "exp2" "exponential" "full_like" "hardsigmoid" "isfinite" "log_sigmoid" "logical_not"
        "logit" "normal" "ones_like" "rand_like" "randn_like" "random" "sigmoid" "sinc" "softplus"
        "special_expit" "threshold" "uniform";
    Pole unary: "acosh" "digamma" "lgamma" "log" "log10" "log2" "reciprocal";
    AnyKept binary: "__and__" "bitwise_and" "logical_and" "mul" "multiply";
    Quotient binary: "div" "divide" "floor_divide" "fmod" "remainder" "true_divide";
    AllKept binary: "__or__" "__xor__" "atan2" "bitwise_or" "bitwise_xor" "fmax" "fmin" "hypot"
        "logical_or" "logical_xor" "maximum" "minimum";
    Lost binary: "copysign" "eq" "float_power" "ge" "gt" "heaviside" "le" "logaddexp" "logaddexp2" "lt"
        "ne" "nextafter";
};

fn make(cx: &mut Decoder<'_, '_>, zeros: Zeros, operands: &[ValueId]) -> Result<()> {
    let result = cx.emit(Elementwise { zeros, results: 1 }, operands)?;
    cx.bind(0, result);
    cx.drop_results(1..2);
    Ok(())
}

fn unary(cx: &mut Decoder<'_, '_>, zeros: Zeros) -> Result<()> {
    let data = match cx.optional("self")? {
        Some(data) => data,
        None => cx.tensor("input")?,
    };
    make(cx, zeros, &[data])
}

/// Two tensors, or a tensor and a number: a product with that keeps zeros, and so does a quotient.
fn binary(cx: &mut Decoder<'_, '_>, zeros: Zeros) -> Result<()> {
    let (left, right) = (cx.optional("self")?, cx.optional("other")?);
    match (left, right) {
        (Some(left), Some(right)) => make(cx, zeros, &[left, right]),
        (Some(data), None) => {
            let kept = matches!(zeros, Zeros::AnyKept | Zeros::Quotient);
            make(cx, if kept { Zeros::FirstKept } else { Zeros::Lost }, &[data])
        }
        (None, Some(data)) => {
            let zeros = match zeros {
                Zeros::AnyKept => Zeros::FirstKept,
                Zeros::Quotient => Zeros::Pole,
                _ => Zeros::Lost,
            };
            make(cx, zeros, &[data])
        }
        (None, None) => Err(Error::unsupported("an operator of numbers only")),
    }
}

/// A sum or difference of two tensors, or of a tensor and a number.
fn terms(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let tensors: Vec<ValueId> =
        [cx.optional("self")?, cx.optional("other")?].into_iter().flatten().collect();
    let number = cx.number("self").or(cx.number("other"));
    let zeros = match (tensors.len(), number) {
        (2, _) => Zeros::AllKept,
        (_, Some(0.0)) => Zeros::FirstKept,
        _ => Zeros::Lost,
    };
    match tensors.is_empty() {
        true => Err(Error::unsupported("an operator of numbers only")),
        false => make(cx, zeros, &tensors),
    }
}

/// Of two tensors elementwise, or of axes.
fn extremum(cx: &mut Decoder<'_, '_>, kind: ReduceKind) -> Result<()> {
    if cx.has("other") {
        return binary(cx, Zeros::AllKept);
    }
    reduce::aten::decode(cx, kind)
}

fn power(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let tensors: Vec<ValueId> =
        [cx.optional("self")?, cx.optional("exponent")?].into_iter().flatten().collect();
    let zeros = match (cx.number("self"), cx.number("exponent")) {
        (None, Some(power)) if power > 0.0 => Zeros::FirstKept,
        (None, Some(power)) if power < 0.0 => Zeros::Pole,
        _ => Zeros::Lost,
    };
    make(cx, zeros, &tensors)
}

/// A bound that is a tensor, or that says nothing of zero, loses it.
fn clamp(cx: &mut Decoder<'_, '_>, [low, high]: [&str; 2]) -> Result<()> {
    let mut operands = vec![cx.tensor("self")?];
    for bound in [low, high] {
        operands.extend(cx.optional(bound)?);
    }
    let keeps = operands.len() == 1
        && cx.number(low).is_none_or(|low| low <= 0.0)
        && cx.number(high).is_none_or(|high| high >= 0.0);
    make(cx, if keeps { Zeros::FirstKept } else { Zeros::Lost }, &operands)
}

/// One slope per channel, which is the second axis, or one for all.
fn decode_prelu(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, mut slope) = (cx.tensor("self")?, cx.tensor("weight")?);
    let (rank, slopes) = (cx.shape(data)?.len(), cx.shape(slope)?);
    if let ([channels], 3..) = (&slopes[..], rank) {
        let ones = std::iter::repeat_n(Extent::fixed(1), rank - 2);
        let shape = [*channels].into_iter().chain(ones).collect();
        slope = cx.emit(Reshape::implied(shape), &[slope])?;
    }
    make(cx, Zeros::FirstKept, &[data, slope])
}

/// One half of an axis is gated by the other.
fn decode_glu(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, axis) = (cx.tensor("self")?, cx.int("dim", -1)?);
    let shape = cx.shape(data)?;
    let half = shape[crate::ops::axis(axis, shape.len())?].size / 2;
    let halves = cx.emit_all(Split::implied(axis, [half, half]), vec![Some(data)])?;
    let gate = cx.emit(Elementwise { zeros: Zeros::Lost, results: 1 }, &[halves[1]])?;
    make(cx, Zeros::AnyKept, &[halves[0], gate])
}

/// A product or quotient that is added.
fn fused(cx: &mut Decoder<'_, '_>, zeros: Zeros) -> Result<()> {
    let operands = [cx.tensor("tensor1")?, cx.tensor("tensor2")?];
    let made = cx.emit(Elementwise { zeros, results: 1 }, &operands)?;
    let term = cx.tensor("self")?;
    make(cx, Zeros::AllKept, &[term, made])
}
