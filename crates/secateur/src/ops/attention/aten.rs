//! How PyTorch spells attention.

use super::{Attention, Width};
use crate::graph::{Extent, ValueId};
use crate::ops::reshape::Reshape;
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.scaled_dot_product_attention", |cx| decode(cx, "attn_mask")),
    ("aten._scaled_dot_product_flash_attention_for_cpu", |cx| decode(cx, "attn_mask")),
    ("aten._scaled_dot_product_efficient_attention", |cx| decode(cx, "attn_bias")),
    ("aten._scaled_dot_product_flash_attention", |cx| decode(cx, "none")),
    ("aten._scaled_dot_product_attention_math", |cx| decode(cx, "attn_mask")),
];

/// `[…, tokens, width]` as `[b, heads, tokens, width]`.
fn four_axes(cx: &mut Decoder<'_, '_>, value: ValueId) -> Result<ValueId> {
    let shape = cx.shape(value)?;
    let (lead, rest) = shape.split_at(shape.len().saturating_sub(2));
    let lead = match *lead {
        [_, _] => return Ok(value),
        [] => vec![Extent::fixed(1); 2],
        [heads] => vec![Extent::fixed(1), heads],
        [.., heads] => {
            let batch = lead[..lead.len() - 1].iter().fold(Extent::fixed(1), |all, one| Extent {
                size: all.size.saturating_mul(one.size),
                open: all.open.max(one.open),
            });
            vec![batch, heads]
        }
    };
    cx.emit(Reshape::implied([&lead, rest].concat()), &[value])
}

fn decode(cx: &mut Decoder<'_, '_>, mask: &str) -> Result<()> {
    let query = cx.tensor("query")?;
    let result = cx.result_shape(0)?;
    let flat = result.len() == 4;
    let mut operands = Vec::new();
    for name in ["query", "key", "value"] {
        let value = cx.tensor(name)?;
        operands.push(Some(four_axes(cx, value)?));
    }
    if let Some(mask) = cx.optional(mask)? {
        let shape = cx.shape(mask)?;
        if !flat && shape.len() > 2 {
            return Err(Error::unsupported("a mask of operands that have not four axes"));
        }
        operands.push(Some(mask));
    }
    let scaled = cx.has("scale");
    if scaled && cx.number("scale").is_none() {
        return Err(Error::unsupported("a computed scale"));
    }
    let causal = cx.flag("is_causal", false);
    let op = Attention { heads: None, scaled, causal, width: Width::Separate, results: 1 };
    let mixed = cx.emit_all(op, operands)?;
    let mixed = match flat && cx.shape(query)?.len() == 4 {
        true => mixed[0],
        false => cx.emit(Reshape::implied(result), &mixed[..1])?,
    };
    cx.bind(0, mixed);
    let rest = cx.output_count();
    cx.drop_results(1..rest);
    Ok(())
}
