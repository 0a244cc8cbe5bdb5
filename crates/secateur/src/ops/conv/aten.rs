//! How PyTorch spells convolutions.

use super::{Conv, Deform, Window};
use crate::graph::ValueId;
use crate::ops::{agree, ranked};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.conv1d", decode),
    ("aten.conv2d", decode),
    ("aten.conv3d", decode),
    ("aten.conv_transpose1d", decode_transposed),
    ("aten.conv_transpose2d", decode_transposed),
    ("aten.conv_transpose3d", decode_transposed),
    ("aten.convolution", |cx| {
        if cx.flag("transposed", false) { decode_transposed(cx) } else { decode(cx) }
    }),
    ("torchvision.deform_conv2d", decode_deform),
];

/// Data, kernel and bias, and the number of spatial axes.
fn operands(cx: &mut Decoder<'_, '_>) -> Result<(Vec<Option<ValueId>>, usize)> {
    let (data, kernel, bias) = (cx.tensor("input")?, cx.tensor("weight")?, cx.optional("bias")?);
    let shape = cx.shape(kernel)?;
    let spatial = ranked(&[Some(&shape)], 0, 3)?.len() - 2;
    let mut operands = vec![Some(data), Some(kernel)];
    operands.extend(bias.map(Some));
    Ok((operands, spatial))
}

/// One number per spatial axis, of which one stands for all.
pub(crate) fn per_axis(
    cx: &mut Decoder<'_, '_>,
    name: &'static str,
    spatial: usize,
    default: i64,
) -> Result<Vec<i64>> {
    let given = cx.ints(name)?.filter(|given| !given.is_empty());
    match given.as_deref() {
        None => Ok(vec![default; spatial]),
        Some([all]) => Ok(vec![*all; spatial]),
        Some(each) => {
            agree(&format!("`{name}` and spatial axes"), each.len(), spatial)?;
            Ok(each.to_vec())
        }
    }
}

/// The same padding at both ends of every spatial axis.
pub(crate) fn both_ends(padding: &[i64]) -> Vec<i64> {
    [padding, padding].concat()
}

fn window(cx: &mut Decoder<'_, '_>, spatial: usize) -> Result<Window> {
    let pads = match cx.string("padding") {
        Some("same") => None,
        Some(_) => Some(vec![0; 2 * spatial]),
        None => Some(both_ends(&per_axis(cx, "padding", spatial, 0)?)),
    };
    let strides = per_axis(cx, "stride", spatial, 1)?;
    let dilations = per_axis(cx, "dilation", spatial, 1)?;
    if strides.iter().any(|&stride| stride < 1) {
        return Err(Error::malformed("a stride is not positive"));
    }
    Ok(Window { strides, dilations, pads, ceil: false })
}

fn payload(cx: &mut Decoder<'_, '_>, spatial: usize) -> Result<Conv> {
    let literal = ("groups", cx.expr("groups", 1)?);
    let groups = usize::try_from(cx.eval(literal.1)?.0).unwrap_or(0);
    Ok(Conv { groups, literal, window: window(cx, spatial)?, output_padding: None })
}

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (operands, spatial) = operands(cx)?;
    let conv = payload(cx, spatial)?;
    cx.node_over(conv, operands)
}

fn decode_transposed(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (operands, spatial) = operands(cx)?;
    let output_padding = Some(per_axis(cx, "output_padding", spatial, 0)?);
    let conv = payload(cx, spatial)?;
    cx.node_over(Conv { output_padding, ..conv }, operands)
}

/// The mask is given always, and read where `use_mask` says so.
fn decode_deform(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let [data, kernel, offset] = ["input", "weight", "offset"].map(|name| cx.tensor(name));
    let mut operands = vec![Some(data?), Some(kernel?), Some(offset?), cx.optional("bias")?];
    if cx.flag("use_mask", true) {
        operands.push(cx.optional("mask")?);
    }
    let pair = |cx: &mut Decoder<'_, '_>, names: [&'static str; 2], default: i64| {
        let values = [cx.int(names[0], default)?, cx.int(names[1], default)?];
        Ok::<Vec<i64>, Error>(values.to_vec())
    };
    let window = Window {
        strides: pair(cx, ["stride_h", "stride_w"], 1)?,
        pads: Some(both_ends(&pair(cx, ["pad_h", "pad_w"], 0)?)),
        dilations: pair(cx, ["dilation_h", "dilation_w"], 1)?,
        ceil: false,
    };
    if window.strides.iter().any(|&stride| stride < 1) {
        return Err(Error::malformed("a stride is not positive"));
    }
    let literal = ("groups", cx.expr("groups", 1)?);
    let groups = usize::try_from(cx.eval(literal.1)?.0).unwrap_or(0);
    let conv = Conv { groups, literal, window, output_padding: None };
    let offset_groups = cx.int("offset_groups", 1)?;
    cx.node_over(Deform { conv, offset_groups }, operands)
}
