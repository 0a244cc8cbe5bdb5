//! Attention as ONNX Runtime spells it: projected inside, over many heads, over grouped heads.

use super::{Attention, Heads, Width};
use crate::graph::{Extent, ValueId};
use crate::onnx::{Decode, Decoder};
use crate::ops::contract::Contract;
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::ops::join::{Concat, Split};
use crate::ops::reshape::Reshape;
use crate::ops::{Place, agree, ranked};
use crate::{Error, Result};

/// How ONNX Runtime spells attention.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[
    ("Attention", decode_fused),
    ("MultiHeadAttention", decode_multi_head),
    ("GroupQueryAttention", decode_group_query),
];

fn flag(cx: &Decoder<'_, '_>, name: &str) -> bool {
    cx.int(name).unwrap_or(0) != 0
}

/// Zero stands for the default.
fn is_scaled(cx: &Decoder<'_, '_>) -> bool {
    cx.float("scale").is_some_and(|scale| scale != 0.0)
}

fn add(cx: &mut Decoder<'_, '_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    cx.emit(Elementwise { zeros: Zeros::AllKept, results: 1 }, &[a, b])
}

/// Takes a value apart along an axis.
fn split(cx: &mut Decoder<'_, '_>, split: Split, data: ValueId) -> Result<[ValueId; 3]> {
    let parts = cx.emit_all(split, vec![Some(data)])?;
    parts.try_into().map_err(|_| Error::malformed("not three parts"))
}

/// The size of an axis of a value.
fn size(cx: &Decoder<'_, '_>, value: ValueId, axis: usize) -> Result<usize> {
    Ok(ranked(&[Some(cx.shape(value)?)], 0, axis + 1)?[axis].size)
}

/// Inputs that only guide attention.
fn guides(cx: &mut Decoder<'_, '_>, slots: &[usize]) -> Result<Vec<Option<ValueId>>> {
    let given: Vec<usize> = slots.iter().copied().filter(|&slot| cx.has(slot)).collect();
    given.into_iter().map(|slot| cx.optional(slot)).collect()
}

fn bind(cx: &mut Decoder<'_, '_>, results: &[ValueId]) {
    results.iter().enumerate().for_each(|(slot, &value)| cx.bind(slot, value));
}

/// Queries, keys and values come from one product with data.
fn decode_fused(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if flag(cx, "do_rotary") {
        return Err(Error::unsupported("`do_rotary`"));
    }
    let [data, weight] = [cx.input(0)?, cx.input(1)?];
    let mut all = cx.emit(Contract::MatMul, &[data, weight])?;
    if let Some(bias) = cx.optional(2)? {
        all = add(cx, all, bias)?;
    }
    let width = size(cx, all, 2)?;
    let sizes = match cx.ints("qkv_hidden_sizes") {
        Some(sizes) => sizes,
        None => vec![width as i64 / 3; 3],
    };
    let given = cx.ints("qkv_hidden_sizes").is_some();
    let literals = sizes.iter().enumerate().filter(|_| given);
    let name = "qkv_hidden_sizes";
    let exprs = literals.map(|(i, &size)| cx.literal(name, i as u32, size)).collect();
    let sizes = sizes.iter().map(|&size| Extent::fixed(usize::try_from(size).unwrap_or(0)));
    let parts = Split {
        axis: 2,
        sizes: sizes.collect(),
        target: Some((Place::Attribute(name), exprs)),
        tied: false,
    };
    let [query, key, value] = split(cx, parts, all)?;
    let past = cx.optional(4)?.map(|past| unstack(cx, past)).transpose()?;
    let [keys, values] = past.map_or([None; 2], |past| past.map(Some));
    let mut operands = vec![Some(query), Some(key), Some(value), cx.optional(5)?, keys, values];
    operands.extend(guides(cx, &[3, 6])?);
    let op = Attention {
        heads: Some([Heads::decode(cx, "num_heads"); 2]),
        scaled: is_scaled(cx),
        causal: flag(cx, "unidirectional"),
        width: Width::Separate,
        results: if cx.result_slots() > 1 { 3 } else { 1 },
    };
    let results = cx.emit_all(op, operands)?;
    bind(cx, results.get(..1).unwrap_or_default());
    if let [_, keys, values] = results[..] {
        let present = stack(cx, [keys, values])?;
        cx.bind(1, present);
    }
    Ok(())
}

/// Earlier keys and values in one tensor, one after the other.
fn unstack(cx: &mut Decoder<'_, '_>, past: ValueId) -> Result<[ValueId; 2]> {
    let shape = cx.shape(past)?.to_vec();
    agree("keys and values", size(cx, past, 0)?, 2)?;
    let parts = cx.emit_all(Split::implied(0, [1, 1]), vec![Some(past)])?;
    let [keys, values] = parts.try_into().map_err(|_| Error::malformed("not two parts"))?;
    let rest = Reshape::implied(shape[1..].to_vec());
    Ok([cx.emit(rest.clone(), &[keys])?, cx.emit(rest, &[values])?])
}

fn stack(cx: &mut Decoder<'_, '_>, parts: [ValueId; 2]) -> Result<ValueId> {
    let mut stacked = Vec::new();
    for part in parts {
        let shape = [&[Extent::fixed(1)], cx.shape(part)?].concat();
        stacked.push(cx.emit(Reshape::implied(shape), &[part])?);
    }
    cx.emit(Concat { axis: 0 }, &stacked)
}

fn decode_multi_head(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if !(cx.has(1) && cx.has(2)) || cx.input_shape(1)?.len() > 4 {
        return Err(Error::unsupported("packed queries, keys and values"));
    }
    let mut sides = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    if let Some(bias) = cx.optional(3)? {
        let width = |side: &ValueId| match cx.shape(*side)?.len() {
            3 => size(cx, *side, 2),
            _ => Err(Error::unsupported("a bias of keys that are divided into heads")),
        };
        let widths = sides.iter().map(width).collect::<Result<Vec<_>>>()?;
        let parts = split(cx, Split::implied(0, widths), bias)?;
        for (side, bias) in sides.iter_mut().zip(parts) {
            *side = add(cx, *side, bias)?;
        }
    }
    let mut operands = sides.map(Some).to_vec();
    operands.extend([cx.optional(5)?, cx.optional(6)?, cx.optional(7)?]);
    operands.extend(guides(cx, &[4, 8, 9])?);
    let op = Attention {
        heads: Some([Heads::decode(cx, "num_heads"); 2]),
        scaled: is_scaled(cx),
        causal: flag(cx, "unidirectional"),
        width: Width::Separate,
        results: cx.result_slots(),
    };
    let results = cx.emit_all(op, operands)?;
    bind(cx, &results);
    Ok(())
}

fn decode_group_query(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if (11..cx.input_count()).any(|slot| cx.has(slot)) {
        return Err(Error::unsupported("sinks, or a quantized cache"));
    }
    let heads = ["num_heads", "kv_num_heads"].map(|name| Heads::decode(cx, name));
    let sides = match (cx.optional(1)?, cx.optional(2)?) {
        (Some(key), Some(value)) => [cx.input(0)?, key, value],
        _ => unpack(cx, heads.map(|heads| heads.count))?,
    };
    let mut operands = sides.map(Some).to_vec();
    operands.extend([cx.optional(10)?, cx.optional(3)?, cx.optional(4)?]);
    operands.extend(guides(cx, &[5, 6, 7, 8, 9])?);
    let op = Attention {
        heads: Some(heads),
        scaled: is_scaled(cx),
        causal: true,
        width: if flag(cx, "do_rotary") { Width::Turned } else { Width::Shared },
        results: cx.result_slots(),
    };
    let results = cx.emit_all(op, operands)?;
    bind(cx, &results);
    Ok(())
}

/// Queries, keys and values that stand in one axis.
fn unpack(cx: &mut Decoder<'_, '_>, [heads, kv]: [usize; 2]) -> Result<[ValueId; 3]> {
    let all = cx.input(0)?;
    let (width, parts) = (size(cx, all, 2)?, kv.saturating_mul(2).saturating_add(heads));
    if parts == 0 || width % parts != 0 {
        return Err(Error::malformed(format!("{width} features in {parts} heads")));
    }
    let sizes = [heads, kv, kv].map(|count| count * (width / parts));
    split(cx, Split::implied(2, sizes), all)
}
