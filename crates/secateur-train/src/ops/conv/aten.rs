//! How PyTorch spells convolutions.

use super::{Conv, DeformConv, Window};
use crate::ops::shape::Reshape;
use crate::ops::sizes;
use crate::ops::view::View;
use crate::torch::{Call, Decode};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.conv1d", straight),
    ("aten.conv2d", straight),
    ("aten.conv3d", straight),
    ("aten.conv_transpose1d", transposed),
    ("aten.conv_transpose2d", transposed),
    ("aten.conv_transpose3d", transposed),
    ("aten.convolution", |call| match call.flag("transposed", false) {
        true => transposed(call),
        false => straight(call),
    }),
    ("torchvision.deform_conv2d", deformed),
    ("aten._convolution", |call| match call.flag("transposed", false) {
        true => transposed(call),
        false => straight(call),
    }),
];

/// One number per spatial axis, of which one may stand for all.
pub(crate) fn spread(call: &Call<'_, '_>, name: &str, axes: usize) -> Result<Vec<usize>> {
    let list = sizes(&call.ints(name)?)?;
    match list[..] {
        [one] => Ok(vec![one; axes]),
        _ if list.is_empty() || list.len() == axes => Ok(list),
        _ => Err(Error::malformed(format!("`{name}` is {list:?} for {axes} axes"))),
    }
}

/// Positive numbers, likewise.
pub(crate) fn positive(call: &Call<'_, '_>, name: &str, axes: usize) -> Result<Vec<usize>> {
    let list = spread(call, name, axes)?;
    match list.contains(&0) {
        true => Err(Error::malformed(format!("`{name}` holds a zero"))),
        false => Ok(list),
    }
}

fn window(call: &Call<'_, '_>, axes: usize) -> Result<Window> {
    let mut window = Window {
        strides: positive(call, "stride", axes)?,
        dilations: positive(call, "dilation", axes)?,
        ..Window::default()
    };
    match call.text("padding") {
        None => window.pads = borders(call, axes)?,
        Some("valid") => {}
        Some("same") => window.same = Some(false),
        Some(other) => return Err(Error::unsupported(format!("`padding` is `{other}`"))),
    }
    Ok(window)
}

/// The same borders at both ends.
pub(crate) fn borders(call: &Call<'_, '_>, axes: usize) -> Result<Vec<i64>> {
    let pads = spread(call, "padding", axes)?;
    let pads: Vec<i64> = pads.into_iter().map(|pad| pad as i64).collect();
    Ok(pads.repeat(2))
}

fn straight(call: &mut Call<'_, '_>) -> Result<()> {
    convolve(call, None)
}

fn transposed(call: &mut Call<'_, '_>) -> Result<()> {
    let axes = call.rank("weight")?.saturating_sub(2);
    let extra = spread(call, "output_padding", axes)?;
    convolve(call, Some(extra))
}

fn convolve(call: &mut Call<'_, '_>, transposed: Option<Vec<usize>>) -> Result<()> {
    let rank = call.rank("weight")?;
    let groups = usize::try_from(call.int("groups", 1)?).ok().filter(|&groups| groups > 0);
    let groups = groups.ok_or_else(|| Error::malformed("no group"))?;
    let window = window(call, rank.saturating_sub(2))?;
    let conv = Conv { groups, window, transposed, wanted: Vec::new() };
    let single = call.rank("input")? + 1 == rank;
    let mut x = call.float("input")?;
    if single {
        x = call.emit(Reshape::Unsqueeze(Some(vec![0])), &[x]);
    }
    let operands = vec![Some(x), Some(call.float("weight")?), call.optional_float("bias")?];
    let made = call.emit_over(conv, operands);
    let made = match single {
        true => call.emit(View::Squeeze(Some(vec![0])), &[made]),
        false => made,
    };
    call.bind(0, made);
    Ok(())
}

fn deformed(call: &mut Call<'_, '_>) -> Result<()> {
    let pair = |call: &Call<'_, '_>, name: &str, default: i64| -> Result<Vec<usize>> {
        sizes(&[call.int(&format!("{name}_h"), default)?, call.int(&format!("{name}_w"), default)?])
    };
    let pads: Vec<i64> = pair(call, "pad", 0)?.into_iter().map(|pad| pad as i64).collect();
    let window = Window {
        strides: pair(call, "stride", 1)?,
        dilations: pair(call, "dilation", 1)?,
        pads: pads.repeat(2),
        ..Window::default()
    };
    let [groups, places] = ["groups", "offset_groups"].map(|name| call.int(name, 1));
    let counts = sizes(&[groups?, places?])?;
    let op = DeformConv { groups: counts[0], places: counts[1], window };
    let mask = match call.flag("use_mask", true) {
        true => call.optional_float("mask")?,
        false => None,
    };
    let operands = vec![
        Some(call.float("input")?),
        Some(call.float("weight")?),
        Some(call.float("offset")?),
        call.optional_float("bias")?,
        mask,
    ];
    call.make_over(op, operands)
}
