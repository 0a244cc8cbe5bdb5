//! Compound operators of ONNX Runtime, spelled with those of other families.

use super::contract::Contract;
use super::conv;
use super::elementwise::{Elementwise, Zeros};
use super::gather::Gather;
use super::join::Split;
use super::norm::Norm;
use super::reduce::{Along, Reduce, ReduceKind};
use super::reshape::Transpose;
use super::{Op, agree, axis, ranked};
use crate::graph::Extent;
use crate::graph::ValueId;
use crate::onnx::{Decode, Decoder};
use crate::{Error, Result};

/// How ONNX Runtime spells them.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[
    ("BiasAdd", |cx| decode_sum(cx, None)),
    ("BiasDropout", |cx| decode_sum(cx, None)),
    ("BiasGelu", |cx| decode_sum(cx, Some(Zeros::FirstKept))),
    ("FastGelu", |cx| decode_sum(cx, Some(Zeros::FirstKept))),
    ("BiasSoftmax", decode_bias_softmax),
    ("BiasSplitGelu", decode_bias_split_gelu),
    ("SkipLayerNormalization", |cx| decode_skip(cx, true, [2, 3, 4])),
    ("SkipSimplifiedLayerNormalization", |cx| decode_skip(cx, false, [2, 5, 3])),
    ("EmbedLayerNormalization", decode_embed),
    ("GroupNorm", |cx| decode_group_norm(cx, false)),
    ("SkipGroupNorm", |cx| decode_group_norm(cx, true)),
    ("FusedMatMul", decode_fused_matmul),
    ("TransposeMatMul", decode_fused_matmul),
    ("FusedGemm", decode_fused_gemm),
    ("GemmFastGelu", decode_gemm_gelu),
    ("FusedConv", decode_fused_conv),
];

fn flag(cx: &Decoder<'_, '_>, name: &str) -> bool {
    cx.int(name).unwrap_or(0) != 0
}

fn given(cx: &mut Decoder<'_, '_>, slots: &[usize]) -> Result<Vec<ValueId>> {
    let mut values = Vec::new();
    for &slot in slots {
        values.extend(cx.optional(slot)?);
    }
    Ok(values)
}

fn elementwise(cx: &mut Decoder<'_, '_>, zeros: Zeros, inputs: &[ValueId]) -> Result<ValueId> {
    match inputs {
        [only] if zeros == Zeros::AllKept => Ok(*only),
        _ => cx.emit(Elementwise { zeros, results: 1 }, inputs),
    }
}

/// The sum of the first three inputs, as far as they are given, and an activation of it.
fn decode_sum(cx: &mut Decoder<'_, '_>, activation: Option<Zeros>) -> Result<()> {
    let parts = given(cx, &[0, 1, 2])?;
    let mut sum = elementwise(cx, Zeros::AllKept, &parts)?;
    if let Some(zeros) = activation {
        sum = elementwise(cx, zeros, &[sum])?;
    }
    cx.bind(0, sum);
    Ok(())
}

fn decode_bias_softmax(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let parts = given(cx, &[0, 1])?;
    let sum = elementwise(cx, Zeros::AllKept, &parts)?;
    let rank = cx.shape(sum)?.len();
    let first = axis(cx.int("axis").unwrap_or(1), rank)?;
    let axes = (first..rank).map(|axis| axis as i64).collect();
    let along = Along { axes, ..Along::new("softmax", "softmax runs along it", 0) };
    let result = cx.emit(along, &[sum])?;
    cx.bind(0, result);
    Ok(())
}

/// The first half of a sum, gated by the second.
fn decode_bias_split_gelu(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let parts = given(cx, &[0, 1])?;
    let sum = elementwise(cx, Zeros::AllKept, &parts)?;
    let shape = cx.shape(sum)?;
    let half = shape.last().map_or(0, |extent| extent.size) / 2;
    let halves = Split::implied(-1, [half, half]);
    let [left, right] = two(cx.emit_all(halves, vec![Some(sum)])?)?;
    let gate = elementwise(cx, Zeros::FirstKept, &[right])?;
    let gated = elementwise(cx, Zeros::AnyKept, &[left, gate])?;
    cx.bind(0, gated);
    Ok(())
}

fn two(parts: Vec<ValueId>) -> Result<[ValueId; 2]> {
    parts.try_into().map_err(|_| Error::malformed("not two parts"))
}

/// A norm of a sum that is also a result. `slots`: scale, offset of the norm, one more summand.
fn decode_skip(cx: &mut Decoder<'_, '_>, centered: bool, slots: [usize; 3]) -> Result<()> {
    let [scale, offset, bias] = slots;
    let parts = given(cx, &[0, 1, bias])?;
    let sum = elementwise(cx, Zeros::AllKept, &parts)?;
    let inputs = [vec![sum], given(cx, &[scale, offset])?].concat();
    let normed =
        cx.emit(Norm::Layer { axis: -1, centered, results: 1, literals: None }, &inputs)?;
    cx.bind(0, normed);
    cx.bind(3, sum);
    Ok(())
}

/// The sum of a word's, a position's and a segment's row, and a norm of it.
fn decode_embed(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const ROWS: Gather = Gather { axis: 0, matters: true };
    let [ids, words, positions] = [cx.input(0)?, cx.input(2)?, cx.input(3)?];
    let word = cx.emit(ROWS, &[words, ids])?;
    let position = match cx.optional(8)? {
        Some(places) => cx.emit(ROWS, &[positions, places])?,
        None => {
            let length = cx.shape(ids)?.last().copied().unwrap_or(Extent::fixed(0));
            let first = Along::new("rows", "rows are picked by position", 0);
            let first = Along { size: Some(length), keeps_zero: true, ..first };
            cx.emit(first, &[positions])?
        }
    };
    let mut parts = vec![word, position];
    if let (Some(segments), Some(table)) = (cx.optional(1)?, cx.optional(4)?) {
        parts.push(cx.emit(ROWS, &[table, segments])?);
    }
    let sum = elementwise(cx, Zeros::AllKept, &parts)?;
    let inputs = [vec![sum], given(cx, &[5, 6])?].concat();
    let normed =
        cx.emit(Norm::Layer { axis: -1, centered: true, results: 1, literals: None }, &inputs)?;
    cx.bind(0, normed);
    cx.bind(2, sum);
    if cx.result_slots() > 1 {
        let counted = cx.optional(7)?.unwrap_or(ids);
        let count = Reduce { kind: ReduceKind::ArgMax, axes: Some(vec![1]), keep: false };
        let count = cx.emit(count, &[counted])?;
        cx.bind(1, count);
    }
    Ok(())
}

/// A group norm over images whose channels come last, unless an attribute says otherwise.
fn decode_group_norm(cx: &mut Decoder<'_, '_>, skip: bool) -> Result<()> {
    let mut sum = cx.input(0)?;
    if skip {
        let parts = [vec![sum], given(cx, &[3, 4])?].concat();
        sum = elementwise(cx, Zeros::AllKept, &parts)?;
        cx.bind(1, sum);
    }
    let last = cx.int("channels_last").unwrap_or(1) != 0;
    let rank = ranked(&[Some(cx.shape(sum)?)], 0, 3)?.len();
    let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let inverse: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    if last {
        sum = cx.emit(Transpose { order }, &[sum])?;
    }
    let groups = usize::try_from(cx.int("groups").unwrap_or(0)).unwrap_or(0);
    let literal = ("groups", cx.literal("groups", 0, 0));
    let inputs = [vec![sum], given(cx, &[1, 2])?].concat();
    let mut result = cx.emit(Norm::Group { groups, literal, channels: None }, &inputs)?;
    if last {
        result = cx.emit(Transpose { order: inverse }, &[result])?;
    }
    if flag(cx, "activation") {
        result = elementwise(cx, Zeros::FirstKept, &[result])?;
    }
    cx.bind(0, result);
    Ok(())
}

/// A product of matrices that are transposed first.
fn decode_fused_matmul(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if flag(cx, "transBatchA") || flag(cx, "transBatchB") {
        return Err(Error::unsupported("transposed batches"));
    }
    let mut sides = [cx.input(0)?, cx.input(1)?];
    for (side, name) in sides.iter_mut().zip(["transA", "transB"]) {
        let rank = cx.shape(*side)?.len();
        if flag(cx, name) && rank > 1 {
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(rank - 2, rank - 1);
            *side = cx.emit(Transpose { order }, &[*side])?;
        }
    }
    let product = cx.emit(Contract::MatMul, &sides)?;
    cx.bind(0, product);
    Ok(())
}

fn decode_fused_gemm(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (transpose_a, transpose_b) = (flag(cx, "transA"), flag(cx, "transB"));
    activated(cx, Contract::Gemm { transpose_a, transpose_b }, &[0, 1, 2], &[])
}

fn decode_gemm_gelu(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let [data, weight] = [cx.input(0)?, cx.input(1)?];
    let product = cx.emit(Contract::MatMul, &[data, weight])?;
    let parts = [vec![product], given(cx, &[2])?].concat();
    let sum = elementwise(cx, Zeros::AllKept, &parts)?;
    let result = elementwise(cx, Zeros::FirstKept, &[sum])?;
    cx.bind(0, result);
    Ok(())
}

fn decode_fused_conv(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let conv = conv::payload(cx, 1)?;
    activated(cx, conv, &[0, 1, 2], &[3])
}

/// An operator over some inputs, plus others, through an activation.
fn activated(
    cx: &mut Decoder<'_, '_>,
    op: impl Into<Op>,
    inputs: &[usize],
    summands: &[usize],
) -> Result<()> {
    let operands = given(cx, inputs)?;
    agree("operands", operands.len().clamp(2, 3), operands.len())?;
    let result = cx.emit(op, &operands)?;
    let parts = [vec![result], given(cx, summands)?].concat();
    let mut result = elementwise(cx, Zeros::AllKept, &parts)?;
    if let Some(name) = cx.string("activation").filter(|name| !name.is_empty()) {
        result = elementwise(cx, activation(cx, &name), &[result])?;
    }
    cx.bind(0, result);
    Ok(())
}

/// What an activation that is fused into another operator makes of zeros.
fn activation(cx: &Decoder<'_, '_>, name: &str) -> Zeros {
    let bounds = cx.floats("activation_params").unwrap_or_default();
    let keeps = match name {
        "Relu" | "LeakyRelu" | "Tanh" | "Elu" | "Selu" | "Celu" | "Softsign" | "HardSwish"
        | "Gelu" | "ThresholdedRelu" | "ScaledTanh" => true,
        "Clip" => matches!(bounds[..], [low, high] if low <= 0.0 && high >= 0.0),
        _ => false,
    };
    if keeps { Zeros::FirstKept } else { Zeros::Lost }
}
