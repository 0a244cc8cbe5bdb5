//! How PyTorch spells operators of which no number follows a size.

use super::{MADE, POSITIONS, Written, extent, fixed, joined};
use crate::graph::Extent;
use crate::ops::ranked;
use crate::rule::{Dim, Flow, Rule, Use};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.grid_sampler", decode_grid_sample),
    ("aten.grid_sampler_2d", decode_grid_sample),
    ("aten.grid_sampler_3d", decode_grid_sample),
    ("torchvision.roi_align", |cx| {
        let size = [cx.int("pooled_height", 1)?, cx.int("pooled_width", 1)?];
        let (data, regions) = (cx.tensor("input")?, cx.tensor("rois")?);
        let (from, boxes) = (cx.shape(data)?, cx.shape(regions)?);
        let (from, boxes) = (ranked(&[Some(&from)], 0, 4)?, ranked(&[Some(&boxes)], 0, 2)?);
        let mut r = Rule::new("roi_align");
        let c = r.free("c", from[1]);
        let n = r.fixed("n", from[0], "rows are picked by index");
        let s = fixed(&mut r, "s", &from[2..], POSITIONS);
        let count = r.free("r", boxes[0]);
        let corners = r.fixed("k", boxes[1], "it is a position");
        let size = size.iter().map(|&size| extent(size)).collect::<Result<Vec<_>>>()?;
        let to = fixed(&mut r, "t", &size, MADE);
        r.operand(Use::Data, joined(&[n, c], &s));
        r.operand(Use::Data, vec![count.into(), corners.into()]);
        r.result(joined(&[count, c], &to));
        r.flow = Flow::product([0], []);
        cx.node(Written(r), &[data, regions])
    }),
    ("aten.im2col", decode_im2col),
    ("aten.unfold", decode_unfold),
    ("aten._assert_async", |_| Ok(())),
    ("aten._assert_scalar", |_| Ok(())),
    ("aten._assert_tensor_metadata", |cx| match cx.has("size") || cx.has("stride") {
        true => Err(Error::unsupported("a check of sizes")),
        false => Ok(()),
    }),
];

fn decode_grid_sample(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, grid) = (cx.tensor("input")?, cx.tensor("grid")?);
    let (from, places) = (cx.shape(data)?, cx.shape(grid)?);
    let rule = super::grid_sample(&from, &places)?;
    cx.node(Written(rule), &[data, grid])
}

/// Windows of an image `[n, c, h, w]` as columns `[n, c·k, l]`.
fn decode_im2col(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const REASON: &str = "a window slides over it";
    let data = cx.tensor("self")?;
    let (from, result) = (cx.shape(data)?, cx.result_shape(0)?);
    let ([n, c, ..], &[_, columns, l]) = (ranked(&[Some(&from)], 0, 4)?, &result[..]) else {
        return Err(Error::unsupported("data without a batch axis"));
    };
    if c.size == 0 || columns.size % c.size != 0 {
        return Err(Error::malformed("columns that are no whole windows"));
    }
    let mut r = Rule::new("im2col");
    let window = Extent::fixed(columns.size / c.size);
    let (n, c) = (r.free("n", *n), r.free("c", *c));
    let s = fixed(&mut r, "s", &from[2..], REASON);
    let k = r.fixed("k", window, REASON);
    let l = r.fixed("l", l, REASON);
    r.operand(Use::Data, joined(&[n, c], &s));
    r.result(vec![n.into(), Dim::product([c, k]), l.into()]);
    r.flow = Flow::product([0], []);
    cx.node(Written(r), &[data])
}

/// Windows of one axis, as a new last axis.
fn decode_unfold(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const REASON: &str = "a window slides over it";
    let data = cx.tensor("self")?;
    let (from, result) = (cx.shape(data)?, cx.result_shape(0)?);
    let along = crate::ops::axis(cx.int("dimension", 0)?, from.len())?;
    cx.int("size", 1)?;
    cx.int("step", 1)?;
    let mut r = Rule::new("unfold");
    let (mut dims, mut made): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
    for (index, &extent) in from.iter().enumerate() {
        let name = crate::ops::letter(index);
        if index == along {
            dims.push(r.fixed(name.clone(), extent, REASON).into());
            made.push(r.fixed(name + "'", result[index], REASON).into());
            continue;
        }
        let factor = r.free(name, extent);
        dims.push(factor.into());
        made.push(factor.into());
    }
    let window = result.last().copied().unwrap_or(Extent::fixed(1));
    made.push(r.fixed("k", window, REASON).into());
    r.operand(Use::Data, dims);
    r.result(made);
    cx.node(Written(r), &[data])
}
