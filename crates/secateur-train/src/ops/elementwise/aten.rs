//! How PyTorch spells functions of elements.

use super::{Binary, Cast, Clip, Dropout, Unary, Where};
use crate::ops::Op;
use crate::ops::dropout::Drop;
use crate::ops::part::Part;
use crate::ops::shape::Reshape;
use crate::ops::view::View;
use crate::torch::{Back, Call, Decode, Sort};
use crate::{Error, Result, Slot};
use secateur::DType;

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.abs", |call| signed(call, Unary::Abs)),
    ("aten.neg", |call| signed(call, Unary::Neg)),
    ("aten.sign", |call| signed(call, Unary::Sign)),
    ("aten.sgn", |call| signed(call, Unary::Sign)),
    ("aten.relu", |call| signed(call, Unary::Relu)),
    ("aten.acos", |call| real(call, Unary::Acos)),
    ("aten.acosh", |call| real(call, Unary::Acosh)),
    ("aten.asin", |call| real(call, Unary::Asin)),
    ("aten.asinh", |call| real(call, Unary::Asinh)),
    ("aten.atan", |call| real(call, Unary::Atan)),
    ("aten.atanh", |call| real(call, Unary::Atanh)),
    ("aten.cos", |call| real(call, Unary::Cos)),
    ("aten.cosh", |call| real(call, Unary::Cosh)),
    ("aten.erf", |call| real(call, Unary::Erf)),
    ("aten.exp", |call| real(call, Unary::Exp)),
    ("aten.log", |call| real(call, Unary::Log)),
    ("aten.reciprocal", |call| real(call, Unary::Reciprocal)),
    ("aten.sin", |call| real(call, Unary::Sin)),
    ("aten.sinh", |call| real(call, Unary::Sinh)),
    ("aten.sqrt", |call| real(call, Unary::Sqrt)),
    ("aten.tan", |call| real(call, Unary::Tan)),
    ("aten.tanh", |call| real(call, Unary::Tanh)),
    ("aten.sigmoid", |call| real(call, Unary::Sigmoid)),
    ("aten.special_expit", |call| real(call, Unary::Sigmoid)),
    ("aten.softsign", |call| real(call, Unary::Softsign)),
    ("aten.mish", |call| real(call, Unary::Mish)),
    ("aten.hardswish", |call| real(call, Unary::HardSwish)),
    ("aten.silu", |call| real(call, Unary::Swish(1.0))),
    ("aten.hardsigmoid", |call| real(call, Unary::HardSigmoid(1.0 / 6.0, 0.5))),
    ("aten.celu", |call| {
        let alpha = call.number_or("alpha", 1.0)?;
        real(call, Unary::Celu(alpha))
    }),
    ("aten.selu", |call| real(call, Unary::Selu(1.673_263_192_176_818_8, 1.050_701_022_148_132_3))),
    ("aten.leaky_relu", |call| {
        let slope = call.number_or("negative_slope", 0.01)?;
        real(call, Unary::LeakyRelu(slope))
    }),
    ("aten.hardshrink", |call| {
        let lambda = call.number_or("lambd", 0.5)?;
        real(call, Unary::Shrink(0.0, lambda))
    }),
    ("aten.softshrink", |call| {
        let lambda = call.number_or("lambd", 0.5)?;
        real(call, Unary::Shrink(lambda, lambda))
    }),
    ("aten.gelu", |call| match call.text("approximate") {
        Some("tanh") => real(call, Unary::GeluTanh),
        _ => real(call, Unary::Gelu),
    }),
    ("aten.elu", elu),
    ("aten.softplus", softplus),
    ("aten.log_sigmoid", log_sigmoid),
    ("aten.log_sigmoid_forward", log_sigmoid),
    ("aten.tanhshrink", |call| {
        let x = call.float("self")?;
        let squashed = call.emit(Unary::Tanh, &[x]);
        call.make(Binary::Sub, &[x, squashed])
    }),
    ("aten.threshold", |call| {
        let (x, at) = (call.float("self")?, call.float("threshold")?);
        let above = call.emit(Binary::Greater, &[x, at]);
        let other = call.float("value")?;
        call.make(Where, &[above, x, other])
    }),
    ("aten.rsqrt", |call| {
        let root = unary(call, Unary::Sqrt)?;
        call.make(Unary::Reciprocal, &[root])
    }),
    ("aten.square", |call| {
        let x = call.tensor("self")?;
        call.make(Binary::Mul, &[x, x])
    }),
    ("aten.exp2", |call| scaled_in(call, std::f64::consts::LN_2, Unary::Exp)),
    ("aten.deg2rad", |call| scaled_in(call, std::f64::consts::PI / 180.0, Unary::Identity)),
    ("aten.log2", |call| scaled_out(call, Unary::Log, std::f64::consts::LOG2_E)),
    ("aten.log10", |call| scaled_out(call, Unary::Log, std::f64::consts::LOG10_E)),
    ("aten.log1p", |call| real(call, Unary::Log1p)),
    ("aten.expm1", |call| real(call, Unary::Expm1)),
    ("aten.erfc", |call| {
        let x = unary(call, Unary::Erf)?;
        let one = call.real(1.0);
        call.make(Binary::Sub, &[one, x])
    }),
    ("aten.floor", |call| rounded(call, Unary::Floor)),
    ("aten.ceil", |call| rounded(call, Unary::Ceil)),
    ("aten.round", |call| match call.int("decimals", 0)? {
        0 => rounded(call, Unary::Round),
        _ => Err(Error::unsupported("rounding to decimals")),
    }),
    ("aten.trunc", |call| rounded(call, Unary::Trunc)),
    ("aten.fix", |call| rounded(call, Unary::Trunc)),
    ("aten.frac", |call| {
        let x = call.float("self")?;
        let whole = call.emit(Unary::Trunc, &[x]);
        call.make(Binary::Sub, &[x, whole])
    }),
    ("aten.isnan", |call| real(call, Unary::IsNan)),
    ("aten.isinf", |call| real(call, Unary::IsInf)),
    ("aten.isfinite", |call| {
        let x = call.float("self")?;
        let zero = call.real(0.0);
        let product = call.emit(Binary::Mul, &[x, zero]);
        call.make(Binary::Equal, &[product, zero])
    }),
    ("aten.nan_to_num", nan_to_num),
    ("aten.logical_not", |call| {
        let x = call.operand("self", Sort::Bool)?;
        call.make(Unary::Not, &[x])
    }),
    ("aten.bitwise_not", |call| {
        let x = call.tensor("self")?;
        if call.sort("self")? == Sort::Bool {
            return call.make(Unary::Not, &[x]);
        }
        let flipped = call.emit(Unary::Neg, &[x]);
        let one = call.integer(1);
        call.make(Binary::Sub, &[flipped, one])
    }),
    ("aten.relu6", |call| bounded(call, Some(0.0), Some(6.0))),
    ("aten.hardtanh", |call| {
        let (low, high) = (call.number_or("min_val", -1.0)?, call.number_or("max_val", 1.0)?);
        bounded(call, Some(low), Some(high))
    }),
    ("aten.clamp", |call| clamp(call, Some("min"), Some("max"))),
    ("aten.clip", |call| clamp(call, Some("min"), Some("max"))),
    ("aten.clamp_min", |call| clamp(call, Some("min"), None)),
    ("aten.clamp_max", |call| clamp(call, None, Some("max"))),
    ("aten.add", |call| terms(call, Binary::Add, ["self", "other"])),
    ("aten.sub", |call| terms(call, Binary::Sub, ["self", "other"])),
    ("aten.subtract", |call| terms(call, Binary::Sub, ["self", "other"])),
    ("aten.rsub", |call| terms(call, Binary::Sub, ["other", "self"])),
    ("aten.mul", |call| arithmetic(call, Binary::Mul)),
    ("aten.multiply", |call| arithmetic(call, Binary::Mul)),
    ("aten.div", quotient),
    ("aten.divide", quotient),
    ("aten.true_divide", quotient),
    ("aten.floor_divide", |call| floored(call)),
    ("aten.remainder", |call| arithmetic(call, Binary::Mod)),
    ("aten.fmod", |call| arithmetic(call, Binary::Fmod)),
    ("aten.hypot", |call| {
        let [a, b] = promoted(call, Sort::Float)?;
        let squares = [a, b].map(|x| call.emit(Binary::Mul, &[x, x]));
        let sum = call.emit(Binary::Add, &squares);
        call.make(Unary::Sqrt, &[sum])
    }),
    ("aten.logaddexp", |call| {
        // The larger one, and what the other adds to it.
        let [a, b] = promoted(call, Sort::Float)?;
        let larger = call.emit(Binary::Max, &[a, b]);
        let distance = call.emit(Binary::Sub, &[a, b]);
        let distance = call.emit(Unary::Abs, &[distance]);
        let below = call.emit(Unary::Neg, &[distance]);
        let more = call.emit(Unary::Softplus, &[below]);
        call.make(Binary::Add, &[larger, more])
    }),
    ("aten.fmax", |call| arithmetic(call, Binary::Max)),
    ("aten.fmin", |call| arithmetic(call, Binary::Min)),
    ("aten.maximum", |call| arithmetic(call, Binary::Max)),
    ("aten.minimum", |call| arithmetic(call, Binary::Min)),
    ("aten.pow", power),
    ("aten.eq", |call| compare(call, Binary::Equal)),
    ("aten.ne", |call| {
        let [a, b] = promoted(call, Sort::Bool)?;
        let equal = call.emit(Binary::Equal, &[a, b]);
        call.make(Unary::Not, &[equal])
    }),
    ("aten.gt", |call| compare(call, Binary::Greater)),
    ("aten.ge", |call| compare(call, Binary::GreaterOrEqual)),
    ("aten.lt", |call| compare(call, Binary::Less)),
    ("aten.le", |call| compare(call, Binary::LessOrEqual)),
    ("aten.__and__", |call| bits(call, Binary::And)),
    ("aten.__or__", |call| bits(call, Binary::Or)),
    ("aten.__xor__", |call| bits(call, Binary::Xor)),
    ("aten.bitwise_and", |call| bits(call, Binary::And)),
    ("aten.bitwise_or", |call| bits(call, Binary::Or)),
    ("aten.bitwise_xor", |call| bits(call, Binary::Xor)),
    ("aten.logical_and", |call| truth(call, Binary::And)),
    ("aten.logical_or", |call| truth(call, Binary::Or)),
    ("aten.logical_xor", |call| truth(call, Binary::Xor)),
    ("aten.where", |call| {
        if !call.has("self") {
            return crate::ops::count::aten::positions(call, "condition");
        }
        let sort = call.sort("self")?.max(call.sort("other")?);
        let mask = call.operand("condition", Sort::Bool)?;
        let (yes, no) = (call.operand("self", sort)?, call.operand("other", sort)?);
        call.make(Where, &[mask, yes, no])
    }),
    ("aten.masked_fill", |call| {
        let sort = call.sort("self")?;
        let (x, mask) = (call.tensor("self")?, call.operand("mask", Sort::Bool)?);
        let value = call.operand("value", sort)?;
        call.make(Where, &[mask, value, x])
    }),
    ("aten.copy", |call| {
        let sort = call.sort("self")?;
        let (like, x) = (call.tensor("self")?, call.operand("src", sort)?);
        call.make(View::ExpandLike, &[x, like])
    }),
    ("aten.fill", |call| {
        let sort = call.sort("self")?;
        let (like, x) = (call.tensor("self")?, call.operand("value", sort)?);
        call.make(View::ExpandLike, &[x, like])
    }),
    ("aten.zero", |call| {
        let sort = call.sort("self")?;
        let (like, zero) = (call.tensor("self")?, call.integer(0));
        let zero = call.cast(zero, Sort::Int, sort);
        call.make(View::ExpandLike, &[zero, like])
    }),
    ("aten.prelu", prelu),
    ("aten._prelu_kernel", |call| {
        let (x, slope) = (call.float("self")?, call.float("weight")?);
        call.make(Binary::PRelu, &[x, slope])
    }),
    ("aten.glu", glu),
    ("aten.addcmul", |call| fused(call, Binary::Mul)),
    ("aten.addcdiv", |call| fused(call, Binary::Div)),
    ("aten.lerp", |call| {
        let (start, end, weight) = (call.float("self")?, call.float("end")?, call.float("weight")?);
        let way = call.emit(Binary::Sub, &[end, start]);
        let part = call.emit(Binary::Mul, &[way, weight]);
        call.make(Binary::Add, &[start, part])
    }),
    ("aten.clone", copied),
    ("aten.detach_copy", copied),
    ("aten.lift_fresh_copy", copied),
    ("aten.alias", |call| call.same("self")),
    ("aten.detach", |call| call.same("self")),
    ("aten.lift_fresh", |call| call.same("self")),
    ("aten.contiguous", |call| match call.meta("self")?.is_row_major() {
        true => call.same("self"),
        false => copied(call),
    }),
    ("aten.to", cast),
    ("aten.type_as", cast),
    ("aten._to_copy", |call| {
        let x = call.tensor("self")?;
        let x = typed(call, x)?;
        call.bind(0, x);
        Ok(())
    }),
    ("aten._autocast_to_reduced_precision", copied),
    ("aten._autocast_to_full_precision", copied),
    ("aten.dropout", |call| {
        let rate = call.number_or("p", 0.5)?;
        dropout(call, Dropout { rate, scale: 1.0 })
    }),
    ("aten.native_dropout", |call| {
        let (x, rate) = (call.float("input")?, call.number_or("p", 0.5)?);
        let [x, kept] = call.emit_two(Dropout { rate, scale: 1.0 }, &[x]);
        call.bind(0, x);
        call.bind(1, kept);
        Ok(())
    }),
    ("aten.feature_dropout", |call| {
        let rate = call.number_or("p", 0.5)?;
        dropout(call, Drop::Channels(rate))
    }),
    ("aten.alpha_dropout", |call| {
        let rate = call.number_or("p", 0.5)?;
        dropout(call, Drop::Alpha(rate))
    }),
];

fn log_sigmoid(call: &mut Call<'_, '_>) -> Result<()> {
    let x = call.float("self")?;
    let flipped = call.emit(Unary::Neg, &[x]);
    let soft = call.emit(Unary::Softplus, &[flipped]);
    call.make(Unary::Neg, &[soft])
}

fn unary(call: &mut Call<'_, '_>, op: Unary) -> Result<Slot> {
    let x = call.float("self")?;
    Ok(call.emit(op, &[x]))
}

fn real(call: &mut Call<'_, '_>, op: Unary) -> Result<()> {
    let slot = unary(call, op)?;
    call.bind(0, slot);
    Ok(())
}

/// A function that integers have too.
fn signed(call: &mut Call<'_, '_>, op: Unary) -> Result<()> {
    let sort = call.sort("self")?.max(Sort::Int);
    let x = call.operand("self", sort)?;
    call.make(op, &[x])
}

/// A function that leaves integers as they are.
fn rounded(call: &mut Call<'_, '_>, op: Unary) -> Result<()> {
    match call.sort("self")? {
        Sort::Float => real(call, op),
        _ => copied(call),
    }
}

fn copied(call: &mut Call<'_, '_>) -> Result<()> {
    let x = call.tensor("self")?;
    call.bind(0, x);
    Ok(())
}

fn scaled_in(call: &mut Call<'_, '_>, factor: f64, op: Unary) -> Result<()> {
    let x = call.float("self")?;
    let x = call.scaled(x, factor);
    call.make(op, &[x])
}

fn scaled_out(call: &mut Call<'_, '_>, op: Unary, factor: f64) -> Result<()> {
    let x = unary(call, op)?;
    let x = call.scaled(x, factor);
    call.bind(0, x);
    Ok(())
}

/// `scale·x` above zero and `scale·α·(exp(rate·x) − 1)` below.
fn elu(call: &mut Call<'_, '_>) -> Result<()> {
    let (alpha, scale) = (call.number_or("alpha", 1.0)?, call.number_or("scale", 1.0)?);
    if call.number_or("input_scale", 1.0)? != 1.0 {
        return Err(Error::unsupported("an input scale"));
    }
    real(call, if scale == 1.0 { Unary::Elu(alpha) } else { Unary::Selu(alpha, scale) })
}

/// `log(1 + exp(β·x)) / β`; what PyTorch leaves out above a threshold is less than a rounding.
fn softplus(call: &mut Call<'_, '_>) -> Result<()> {
    let (beta, threshold) = (call.number_or("beta", 1.0)?, call.number_or("threshold", 20.0)?);
    if threshold < 17.0 {
        return Err(Error::unsupported("a threshold that shows"));
    }
    let x = call.float("self")?;
    let x = call.scaled(x, beta);
    let x = call.emit(Unary::Softplus, &[x]);
    let x = call.scaled(x, 1.0 / beta);
    call.bind(0, x);
    Ok(())
}

fn nan_to_num(call: &mut Call<'_, '_>) -> Result<()> {
    let x = call.float("self")?;
    let nan = call.emit(Unary::IsNan, &[x]);
    let low = call.number_or("neginf", f64::from(f32::MIN))?;
    let high = call.number_or("posinf", f64::from(f32::MAX))?;
    let value = call.number_or("nan", 0.0)?;
    let value = call.real(value);
    let infinite = call.emit(Unary::IsInf, &[x]);
    let (zero, low, high) = (call.real(0.0), call.real(low), call.real(high));
    let above = call.emit(Binary::Greater, &[x, zero]);
    let bound = call.emit(Where, &[above, high, low]);
    let x = call.emit(Where, &[infinite, bound, x]);
    call.make(Where, &[nan, value, x])
}

fn bounded(call: &mut Call<'_, '_>, min: Option<f64>, max: Option<f64>) -> Result<()> {
    let x = call.tensor("self")?;
    call.make(Clip { min, max }, &[x])
}

/// Bounds that are numbers, or tensors.
fn clamp(call: &mut Call<'_, '_>, min: Option<&str>, max: Option<&str>) -> Result<()> {
    let names = [min, max].map(|name| name.filter(|name| call.has(name)));
    let mut sort = call.sort("self")?;
    for name in names.iter().flatten() {
        sort = sort.max(call.sort(name)?);
    }
    let mut x = call.operand("self", sort)?;
    let numbers = names.map(|name| name.and_then(|name| call.number(name)));
    if numbers.iter().any(Option::is_some) {
        x = call.emit(Clip { min: numbers[0], max: numbers[1] }, &[x]);
    }
    for (name, op) in names.into_iter().zip([Binary::Max, Binary::Min]) {
        if let Some(name) = name.filter(|name| call.number(name).is_none()) {
            let bound = call.operand(name, sort)?;
            x = call.emit(op, &[x, bound]);
        }
    }
    call.bind(0, x);
    Ok(())
}

/// Both operands as the wider sort of the two, or as a wider one.
fn promoted(call: &mut Call<'_, '_>, least: Sort) -> Result<[Slot; 2]> {
    let sort = call.sort("self")?.max(call.sort("other")?).max(least);
    Ok([call.operand("self", sort)?, call.operand("other", sort)?])
}

fn compare(call: &mut Call<'_, '_>, op: Binary) -> Result<()> {
    let least = if op == Binary::Equal { Sort::Bool } else { Sort::Int };
    let [a, b] = promoted(call, least)?;
    call.make(op, &[a, b])
}

fn bits(call: &mut Call<'_, '_>, op: Binary) -> Result<()> {
    let [a, b] = promoted(call, Sort::Bool)?;
    call.make(op, &[a, b])
}

fn truth(call: &mut Call<'_, '_>, op: Binary) -> Result<()> {
    let operands = [call.operand("self", Sort::Bool)?, call.operand("other", Sort::Bool)?];
    call.make(op, &operands)
}

/// A result in the type that the program declares for it.
fn typed(call: &mut Call<'_, '_>, slot: Slot) -> Result<Slot> {
    let cast = match call.result_dtype(0) {
        Some(DType::I8) => Cast::Narrow(8, true),
        Some(DType::U8) => Cast::Narrow(8, false),
        Some(DType::I16) => Cast::Narrow(16, true),
        Some(DType::U16) => Cast::Narrow(16, false),
        _ => call.result_sort(0)?.cast(),
    };
    Ok(call.emit(cast, &[slot]))
}

fn arithmetic(call: &mut Call<'_, '_>, op: Binary) -> Result<()> {
    let [a, b] = promoted(call, Sort::Int)?;
    let made = call.emit(op, &[a, b]);
    let made = typed(call, made)?;
    call.bind(0, made);
    Ok(())
}

/// A sum or difference, with a factor before the second term.
fn terms(call: &mut Call<'_, '_>, op: Binary, names: [&str; 2]) -> Result<()> {
    let sort = call.sort("self")?.max(call.sort("other")?).max(Sort::Int);
    let [a, mut b] = [call.operand(names[0], sort)?, call.operand(names[1], sort)?];
    if call.has("alpha") && call.number("alpha") != Some(1.0) {
        let factor = call.operand("alpha", sort)?;
        b = call.emit(Binary::Mul, &[b, factor]);
    }
    let made = call.emit(op, &[a, b]);
    let made = typed(call, made)?;
    call.bind(0, made);
    Ok(())
}

fn quotient(call: &mut Call<'_, '_>) -> Result<()> {
    match call.text("rounding_mode") {
        None => {
            let [a, b] = promoted(call, Sort::Float)?;
            call.make(Binary::Div, &[a, b])
        }
        Some("floor") => floored(call),
        Some("trunc") => {
            let [a, b] = promoted(call, Sort::Int)?;
            let made = call.emit(Binary::Div, &[a, b]);
            match call.result_sort(0)? {
                Sort::Float => call.make(Unary::Trunc, &[made]),
                _ => {
                    call.bind(0, made);
                    Ok(())
                }
            }
        }
        Some(other) => Err(Error::unsupported(format!("`rounding_mode` is `{other}`"))),
    }
}

fn floored(call: &mut Call<'_, '_>) -> Result<()> {
    let [a, b] = promoted(call, Sort::Int)?;
    if call.result_sort(0)? == Sort::Float {
        let made = call.emit(Binary::Div, &[a, b]);
        return call.make(Unary::Floor, &[made]);
    }
    let rest = call.emit(Binary::Mod, &[a, b]);
    let whole = call.emit(Binary::Sub, &[a, rest]);
    call.make(Binary::Div, &[whole, b])
}

fn power(call: &mut Call<'_, '_>) -> Result<()> {
    let sort = call.result_sort(0)?;
    let operands = [call.operand("self", sort)?, call.operand("exponent", sort)?];
    call.make(Binary::Pow, &operands)
}

/// One slope per channel, which is the second axis, or one for all.
fn prelu(call: &mut Call<'_, '_>) -> Result<()> {
    let (x, mut slope) = (call.float("self")?, call.float("weight")?);
    let rank = call.rank("self")?;
    if rank > 2 && call.rank("weight")? == 1 {
        let axes = (1..rank as i64 - 1).collect();
        slope = call.emit(Reshape::Unsqueeze(Some(axes)), &[slope]);
    }
    call.make(Binary::PRelu, &[x, slope])
}

/// One half of an axis is gated by the other.
fn glu(call: &mut Call<'_, '_>) -> Result<()> {
    let axis = call.int("dim", -1)?;
    let size = call.size("self", axis)?;
    let half = size.ok_or_else(|| Error::unsupported("half of an open axis"))? as i64 / 2;
    let x = call.float("self")?;
    let mut part = |start: i64, end: i64| {
        let bounds = [call.integer(start), call.integer(end)];
        call.emit(Part::Slice(axis, 1), &[x, bounds[0], bounds[1]])
    };
    let (data, gate) = (part(0, half), part(half, 2 * half));
    let gate = call.emit(Unary::Sigmoid, &[gate]);
    call.make(Binary::Mul, &[data, gate])
}

/// A product or quotient that is added.
fn fused(call: &mut Call<'_, '_>, op: Binary) -> Result<()> {
    let operands = [call.float("tensor1")?, call.float("tensor2")?];
    let factor = call.number_or("value", 1.0)?;
    let made = call.emit(op, &operands);
    let made = call.scaled(made, factor);
    let term = call.float("self")?;
    call.make(Binary::Add, &[term, made])
}

/// Another element type, or the same tensor.
fn cast(call: &mut Call<'_, '_>) -> Result<()> {
    if call.meta("self")?.dtype() == call.result_dtype(0) && !call.flag("copy", false) {
        return call.same("self");
    }
    let x = call.tensor("self")?;
    let x = typed(call, x)?;
    call.bind(0, x);
    Ok(())
}

/// What is exported in evaluation mode returns its operand.
fn dropout(call: &mut Call<'_, '_>, op: impl Into<Op>) -> Result<()> {
    let name = if call.has("input") { "input" } else { "self" };
    if !call.flag("train", false) {
        return call.view(0, name, op, Vec::new(), Back::Reshape);
    }
    let x = call.float(name)?;
    call.make(op, &[x])
}
