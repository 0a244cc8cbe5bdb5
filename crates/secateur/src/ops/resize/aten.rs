//! How PyTorch spells interpolation: of all axes after the channels.

use super::Resize;
use crate::graph::ValueId;
use crate::rule::Flow;
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.upsample_nearest1d", decode),
    ("aten.upsample_nearest2d", decode),
    ("aten.upsample_nearest3d", decode),
    ("aten._upsample_nearest_exact1d", decode),
    ("aten._upsample_nearest_exact2d", decode),
    ("aten._upsample_nearest_exact3d", decode),
    ("aten.upsample_linear1d", decode),
    ("aten.upsample_bilinear2d", decode),
    ("aten.upsample_bicubic2d", decode),
    ("aten.upsample_trilinear3d", decode),
    ("aten._upsample_bilinear2d_aa", decode),
    ("aten._upsample_bicubic2d_aa", decode),
];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data: ValueId = match cx.optional("input")? {
        Some(data) => data,
        None => cx.tensor("self")?,
    };
    let (from, shape) = (cx.shape(data)?, cx.result_shape(0)?);
    if from.len() < 3 {
        return Err(Error::malformed("data without spatial axes"));
    }
    cx.ints("output_size")?;
    let moved = (2..shape.len()).collect();
    cx.node(Resize { shape, moved, flow: Flow::Carry, target: None }, &[data])
}
