//! How PyTorch spells the same elements in another shape or order.

use super::{Expand, Reshape, Target, Tile, Transpose, extent, shuffled};
use crate::graph::{Extent, Open, ValueId};
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::ops::{Place, agree, axis};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.view", |cx| match cx.has("size") {
        true => spelled(cx, "size", 0),
        false => implied(cx),
    }),
    ("aten._unsafe_view", |cx| spelled(cx, "size", 0)),
    ("aten.view_copy", |cx| spelled(cx, "size", 0)),
    ("aten.reshape", |cx| spelled(cx, "shape", 0)),
    ("aten.as_strided", decode_as_strided),
    ("aten.unflatten", |cx| {
        let data = cx.tensor("self")?;
        let rank = cx.shape(data)?.len();
        let first = axis(cx.int("dim", 0)?, rank)?;
        spelled(cx, "sizes", first)
    }),
    ("aten.view_as", |cx| like(cx)),
    ("aten.reshape_as", |cx| like(cx)),
    ("aten.flatten", |cx| {
        cx.ints("start_dim")?;
        cx.ints("end_dim")?;
        implied(cx)
    }),
    ("aten.squeeze", decode_squeeze),
    ("aten.unsqueeze", |cx| {
        cx.ints("dim")?;
        implied(cx)
    }),
    ("aten.atleast_1d", implied),
    ("aten.ravel", implied),
    ("aten.transpose", |cx| {
        let pair = [cx.int("dim0", 0)?, cx.int("dim1", 1)?];
        swap(cx, pair)
    }),
    ("aten.swapaxes", |cx| {
        let pair = [cx.int("axis0", 0)?, cx.int("axis1", 1)?];
        swap(cx, pair)
    }),
    ("aten.t", reversed),
    ("aten.numpy_T", reversed),
    ("aten.mT", |cx| swap(cx, [-2, -1])),
    ("aten.permute", |cx| {
        let order = cx.ints("dims")?.unwrap_or_default();
        transpose(cx, &order)
    }),
    ("aten.movedim", decode_movedim),
    ("aten.expand", |cx| decode_expand(cx, "size")),
    ("aten.broadcast_to", |cx| decode_expand(cx, "size")),
    ("aten.expand_as", |cx| {
        let (data, other) = (cx.tensor("self")?, cx.tensor("other")?);
        // What is read of the other is its shape.
        cx.node(Elementwise { zeros: Zeros::SomeKept(0b01), results: 1 }, &[data, other])
    }),
    ("aten.repeat", |cx| decode_tile(cx, "repeats")),
    ("aten.tile", |cx| decode_tile(cx, "dims")),
    ("aten.repeat_interleave", decode_repeat_interleave),
    ("aten.pixel_shuffle", |cx| {
        let data = cx.tensor("self")?;
        let (size, [n, c, h, w]) = block(cx, "upscale_factor", data)?;
        let depth = extent(c.size / (size * size), c.open);
        agree("channels and blocks", depth.size * size * size, c.size)?;
        let r = extent(size, Open::Stated);
        let times = |e: Extent| extent(e.size.saturating_mul(size), e.open);
        let split = vec![n, depth, r, r, h, w];
        let shape = vec![n, depth, times(h), times(w)];
        shuffle(cx, data, (split, [2, 3]), &[0, 1, 4, 2, 5, 3], shape)
    }),
    ("aten.pixel_unshuffle", |cx| {
        let data = cx.tensor("self")?;
        let (size, [n, c, h, w]) = block(cx, "downscale_factor", data)?;
        let part = |e: Extent| extent(e.size / size, e.open);
        let r = extent(size, Open::Stated);
        let depth = extent(c.size.saturating_mul(size * size), c.open);
        let split = vec![n, c, part(h), r, part(w), r];
        let shape = vec![n, depth, part(h), part(w)];
        shuffle(cx, data, (split, [3, 5]), &[0, 1, 3, 5, 2, 4], shape)
    }),
    ("aten.channel_shuffle", |cx| channel_shuffle(cx)),
    ("aten.native_channel_shuffle", |cx| channel_shuffle(cx)),
];

fn implied(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, shape) = (cx.tensor("self")?, cx.result_shape(0)?);
    cx.node(Reshape::implied(shape), &[data])
}

/// A shape of which an argument spells the axes from `first` on.
fn spelled(cx: &mut Decoder<'_, '_>, name: &'static str, first: usize) -> Result<()> {
    let (data, shape) = (cx.tensor("self")?, cx.result_shape(0)?);
    let mut exprs = Vec::new();
    for expr in cx.exprs(name)? {
        let inferred = cx.eval(expr)?.0 == -1;
        exprs.push((!inferred).then_some(expr));
    }
    if first + exprs.len() > shape.len() {
        return Err(Error::malformed("a target of more axes than the result has"));
    }
    let target = Target { place: Place::Attribute(name), exprs, open: Vec::new(), first };
    cx.node(Reshape { shape, target: Some(target), dropped: None }, &[data])
}

/// Another order in memory is the same tensor; other views are not followed.
fn decode_as_strided(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let (shape, strides) = (cx.shape(data)?, cx.exprs("stride")?);
    let same = shape == cx.result_shape(0)? && !cx.has("storage_offset");
    let mut step = 1;
    for (extent, &stride) in shape.iter().zip(&strides).rev() {
        if !same || (extent.size > 1 && cx.eval(stride)?.0 != step) {
            return Err(Error::unsupported("a view of other elements"));
        }
        step = step.saturating_mul(extent.size as i64);
    }
    spelled(cx, "size", 0)
}

/// The shape of another tensor, whose axes are then the same.
fn like(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, other) = (cx.tensor("self")?, cx.tensor("other")?);
    let shape = cx.result_shape(0)?;
    let made = cx.emit(Reshape::implied(shape), &[data])?;
    cx.node(Elementwise { zeros: Zeros::SomeKept(0b01), results: 1 }, &[made, other])
}

/// Without named axes, all of size 1 are dropped: what may become 1 must be named then.
fn decode_squeeze(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let shape = cx.shape(data)?;
    let named = cx.ints("dim")?.is_some();
    let dropped: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis].size == 1).collect();
    if !named && dropped.iter().any(|&axis| shape[axis].is_open()) {
        return Err(Error::unsupported("an open axis that is dropped where its size is 1"));
    }
    let result = cx.result_shape(0)?;
    let dropped = (!named).then_some((Place::Attribute("dim"), dropped));
    cx.node(Reshape { dropped, ..Reshape::implied(result) }, &[data])
}

fn transpose(cx: &mut Decoder<'_, '_>, order: &[i64]) -> Result<()> {
    let data = cx.tensor("self")?;
    let rank = cx.shape(data)?.len();
    let order = order.iter().map(|&a| axis(a, rank)).collect::<Result<_>>()?;
    cx.node(Transpose { order }, &[data])
}

fn swap(cx: &mut Decoder<'_, '_>, pair: [i64; 2]) -> Result<()> {
    let data = cx.tensor("self")?;
    let rank = cx.shape(data)?.len();
    if rank == 0 {
        return implied(cx);
    }
    let (a, b) = (axis(pair[0], rank)?, axis(pair[1], rank)?);
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(a, b);
    cx.node(Transpose { order }, &[data])
}

fn reversed(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let order = (0..cx.shape(data)?.len()).rev().collect();
    cx.node(Transpose { order }, &[data])
}

fn decode_movedim(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let rank = cx.shape(data)?.len();
    let mut named = |name| -> Result<Vec<usize>> {
        let axes = cx.ints(name)?.unwrap_or_default();
        axes.into_iter().map(|a| axis(a, rank)).collect()
    };
    let (from, to) = (named("source")?, named("destination")?);
    agree("sources and destinations", from.len(), to.len())?;
    let mut rest = (0..rank).filter(|axis| !from.contains(axis));
    let place = |at: usize| match to.iter().position(|&to| to == at) {
        Some(index) => Some(from[index]),
        None => rest.next(),
    };
    let order: Option<Vec<usize>> = (0..rank).map(place).collect();
    let order = order.ok_or_else(|| Error::malformed("an axis that is moved twice"))?;
    cx.node(Transpose { order }, &[data])
}

/// Entries of -1 follow the data.
fn decode_expand(cx: &mut Decoder<'_, '_>, name: &'static str) -> Result<()> {
    let (data, shape) = (cx.tensor("self")?, cx.result_shape(0)?);
    let exprs = cx.exprs(name)?;
    agree("entries and axes", exprs.len(), shape.len())?;
    let mut target = Vec::new();
    for expr in exprs {
        let follows = cx.eval(expr)?.0 == -1;
        target.push((!follows).then_some(expr));
    }
    let ones = vec![false; shape.len()];
    let open = ones.clone();
    let place = Place::Attribute(name);
    cx.node(Expand { shape, place, target, ones, open, zero: false }, &[data])
}

/// Axes that the data lacks are put before the others.
fn decode_tile(cx: &mut Decoder<'_, '_>, name: &'static str) -> Result<()> {
    let mut data = cx.tensor("self")?;
    let target = cx.exprs(name)?;
    let shape = cx.shape(data)?;
    if let Some(missing @ 1..) = target.len().checked_sub(shape.len()) {
        let ones = std::iter::repeat_n(extent(1, Open::Stated), missing);
        data = cx.emit(Reshape::implied(ones.chain(shape).collect()), &[data])?;
    } else if target.len() < shape.len() {
        return Err(Error::unsupported("repeats of fewer axes than the data has"));
    }
    let mut repeats = Vec::new();
    for &expr in &target {
        let (times, open) = cx.eval(expr)?;
        let times = usize::try_from(times).map_err(|_| Error::malformed("a negative repeat"))?;
        repeats.push(extent(times, open));
    }
    cx.node(Tile { repeats, target: (Place::Attribute(name), target) }, &[data])
}

/// Every index of an axis, several times in a row.
fn decode_repeat_interleave(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    if cx.overload() != "self_int" || !cx.has("dim") {
        return Err(Error::unsupported("repeats that differ, or of all elements"));
    }
    let shape = cx.shape(data)?;
    let along = axis(cx.int("dim", 0)?, shape.len())?;
    let times = usize::try_from(cx.int("repeats", 1)?);
    let times = times.map_err(|_| Error::malformed("a negative repeat"))?;
    let mut split = shape.clone();
    split.insert(along + 1, extent(1, Open::Stated));
    let mut wide = split.clone();
    wide[along + 1] = extent(times, Open::Stated);
    let split = cx.emit(Reshape::implied(split), &[data])?;
    let open = vec![false; wide.len()];
    let expand = Expand {
        target: vec![None; wide.len()],
        shape: wide,
        place: Place::Attribute("repeats"),
        ones: open.clone(),
        open,
        zero: false,
    };
    let wide = cx.emit(expand, &[split])?;
    let result = cx.result_shape(0)?;
    cx.node(Reshape::implied(result), &[wide])
}

fn block(
    cx: &mut Decoder<'_, '_>,
    name: &'static str,
    data: ValueId,
) -> Result<(usize, [Extent; 4])> {
    let size = usize::try_from(cx.int(name, 1)?).ok().filter(|size| (1..1 << 16).contains(size));
    let size = size.ok_or_else(|| Error::malformed(format!("no usable `{name}`")))?;
    let shape = cx.shape(data)?.try_into().map_err(|_| Error::unsupported("not four axes"))?;
    Ok((size, shape))
}

/// Two axes between, of the split shape, are blocks.
fn shuffle(
    cx: &mut Decoder<'_, '_>,
    data: ValueId,
    (split, blocks): (Vec<Extent>, [i64; 2]),
    order: &[usize],
    shape: Vec<Extent>,
) -> Result<()> {
    let [split, along, moved, merged] = shuffled(split, blocks, order, shape);
    let mut value = data;
    for op in [split, along, moved] {
        value = cx.emit(op, &[value])?;
    }
    cx.node(merged, &[value])
}

/// `g × c` becomes `c × g`.
fn channel_shuffle(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let shape = cx.shape(data)?;
    let groups = usize::try_from(cx.int("groups", 1)?).unwrap_or(0);
    let (Some(&n), Some(&c)) = (shape.first(), shape.get(1)) else {
        return Err(Error::malformed("data without channels"));
    };
    if groups == 0 || c.size % groups != 0 {
        return Err(Error::malformed(format!("{} channels in {groups} groups", c.size)));
    }
    let pair = [extent(groups, Open::Stated), extent(c.size / groups, c.open)];
    let split = [&[n], &pair[..], &shape[2..]].concat();
    let split = cx.emit(Reshape::implied(split), &[data])?;
    let order = [0, 2, 1].into_iter().chain(3..shape.len() + 1).collect();
    let moved = cx.emit(Transpose { order }, &[split])?;
    cx.node(Reshape::implied(shape), &[moved])
}
