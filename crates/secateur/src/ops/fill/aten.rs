//! How PyTorch spells tensors made from nothing but a shape.

use super::{Fill, Range};
use crate::graph::Extent;
use crate::ops::Place;
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.zeros", |cx| decode(cx, true)),
    ("aten.new_zeros", |cx| decode(cx, true)),
    ("aten.ones", |cx| decode(cx, false)),
    ("aten.new_ones", |cx| decode(cx, false)),
    ("aten.empty", |cx| decode(cx, false)),
    ("aten.new_empty", |cx| decode(cx, false)),
    ("aten.rand", |cx| decode(cx, false)),
    ("aten.randn", |cx| decode(cx, false)),
    ("aten.full", decode_full),
    ("aten.new_full", decode_full),
    ("aten.scalar_tensor", decode_scalar),
    ("aten.arange", decode_range),
    ("aten.linspace", decode_range),
    ("aten.randperm", decode_range),
];

fn decode(cx: &mut Decoder<'_, '_>, zero: bool) -> Result<()> {
    let (target, shape) = (cx.exprs("size")?, cx.result_shape(0)?);
    cx.node(Fill { shape, target: (Place::Attribute("size"), target), zero }, &[])
}

fn decode_full(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let zero = cx.number("fill_value") == Some(0.0);
    decode(cx, zero)
}

fn decode_scalar(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let zero = cx.number("s") == Some(0.0);
    let target = (Place::Attribute("s"), Vec::new());
    cx.node(Fill { shape: Vec::new(), target, zero }, &[])
}

/// Bounds are frozen: positions are counted.
fn decode_range(cx: &mut Decoder<'_, '_>) -> Result<()> {
    for name in ["start", "end", "step", "steps", "n"] {
        if cx.number(name).is_none() && cx.has(name) {
            cx.int(name, 0)?;
        }
    }
    let shape: Vec<Extent> = cx.result_shape(0)?;
    match shape[..] {
        [length] if length.size > 0 => cx.node(Range { length }, &[]),
        _ => Err(Error::unsupported("a range of no numbers")),
    }
}
