//! How PyTorch spells borders: pairs from the last axis on.

use super::{Border, Pad};
use crate::graph::Open;
use crate::ops::{Place, agree};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.pad", |cx| {
        let constant = matches!(cx.string("mode"), None | Some("constant"));
        let zero = cx.number("value").unwrap_or(0.0) == 0.0;
        let border = match (constant, zero) {
            (false, _) => Border::Copied,
            (true, true) => Border::Zero,
            (true, false) => Border::Other,
        };
        decode(cx, "pad", border)
    }),
    ("aten.constant_pad_nd", |cx| {
        let zero = cx.number("value").unwrap_or(0.0) == 0.0;
        decode(cx, "pad", if zero { Border::Zero } else { Border::Other })
    }),
    ("aten.reflection_pad1d", |cx| decode(cx, "padding", Border::Copied)),
    ("aten.reflection_pad2d", |cx| decode(cx, "padding", Border::Copied)),
    ("aten.reflection_pad3d", |cx| decode(cx, "padding", Border::Copied)),
    ("aten.replication_pad1d", |cx| decode(cx, "padding", Border::Copied)),
    ("aten.replication_pad2d", |cx| decode(cx, "padding", Border::Copied)),
    ("aten.replication_pad3d", |cx| decode(cx, "padding", Border::Copied)),
];

fn decode(cx: &mut Decoder<'_, '_>, name: &'static str, border: Border) -> Result<()> {
    let data = cx.tensor("self")?;
    let rank = cx.shape(data)?.len();
    let exprs = cx.exprs(name)?;
    let axes = exprs.len() / 2;
    agree("borders and ends", 2 * axes, exprs.len())?;
    let first = rank.checked_sub(axes).ok_or_else(|| Error::malformed("too many borders"))?;
    let (mut borders, mut slots, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for axis in first..rank {
        let slot = 2 * (rank - 1 - axis);
        let ((near, early), (far, late)) = (cx.eval(exprs[slot])?, cx.eval(exprs[slot + 1])?);
        borders.push((axis, [near, far]));
        slots.push([slot, slot + 1]);
        let late = early.max(late);
        open.extend((late != Open::Stated).then_some((axis, late)));
    }
    let target = (Place::Attribute(name), exprs);
    cx.node(Pad { borders, slots, target, open, border }, &[data])
}
