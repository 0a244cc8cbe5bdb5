//! How PyTorch spells attention.

use super::ScaledAttention;
use crate::torch::{Call, Decode};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.scaled_dot_product_attention", |call| attention(call, "attn_mask")),
    ("aten._scaled_dot_product_flash_attention_for_cpu", |call| attention(call, "attn_mask")),
    ("aten._scaled_dot_product_efficient_attention", |call| attention(call, "attn_bias")),
    ("aten._scaled_dot_product_flash_attention", |call| attention(call, "none")),
    ("aten._scaled_dot_product_attention_math", |call| attention(call, "attn_mask")),
];

fn attention(call: &mut Call<'_, '_>, mask: &str) -> Result<()> {
    if call.has("scale") && call.number("scale").is_none() {
        return Err(Error::unsupported("a computed scale"));
    }
    let op = ScaledAttention {
        scale: call.number("scale"),
        causal: call.flag("is_causal", false),
        grouped: call.flag("enable_gqa", false),
        dropout: call.number_or("dropout_p", 0.0)?,
    };
    let mut operands = Vec::new();
    for name in ["query", "key", "value"] {
        operands.push(Some(call.float(name)?));
    }
    operands.push(call.optional(mask)?);
    call.make_over(op, operands)
}
