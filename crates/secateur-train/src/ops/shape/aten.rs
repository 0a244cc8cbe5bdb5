//! How PyTorch spells the same elements in other places.

use secateur::torch::Int;

use super::{Blocks, Border, Concat, Pad, Reshape, Split, Tile, Transpose};
use crate::ops::axis;
use crate::ops::part::{Part, Put, Repeat, Windows};
use crate::ops::view::View;
use crate::torch::{Back, Call, Decode, Sort};
use crate::{Error, Result, Slot};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.view", |call| match call.has("size") {
        true => spelled(call, "size", Back::Reshape),
        false if call.meta("self")?.dtype() == call.result_dtype(0) => call.same("self"),
        false => Err(Error::unsupported("the same bytes as another type")),
    }),
    ("aten._unsafe_view", |call| spelled(call, "size", Back::Reshape)),
    ("aten.view_copy", |call| {
        let (x, sizes) = (call.tensor("self")?, call.vector("size")?);
        call.make(Reshape::Given(true), &[x, sizes])
    }),
    ("aten.reshape", |call| {
        let back = perhaps(call)?;
        spelled(call, "shape", back)
    }),
    ("aten.as_strided", strided),
    ("aten.view_as", |call| like(call, Back::Reshape)),
    ("aten.reshape_as", |call| {
        let back = perhaps(call)?;
        like(call, back)
    }),
    ("aten.unflatten", |call| {
        let (axis, sizes) = (call.int("dim", 0)?, call.vector("sizes")?);
        call.view(0, "self", View::Unflatten(axis), vec![sizes], Back::Reshape)
    }),
    ("aten.flatten", |call| {
        let (first, last) = (call.int("start_dim", 0)?, call.int("end_dim", -1)?);
        let back = perhaps(call)?;
        call.view(0, "self", View::Flatten(first, last), vec![], back)
    }),
    ("aten.ravel", |call| {
        let back = perhaps(call)?;
        call.view(0, "self", View::Flatten(0, -1), vec![], back)
    }),
    ("aten.squeeze", |call| {
        let axes = call.has("dim").then(|| call.ints("dim")).transpose()?;
        call.view(0, "self", View::Squeeze(axes), vec![], Back::Reshape)
    }),
    ("aten.unsqueeze", |call| {
        let axes = Some(call.ints("dim")?);
        call.view(0, "self", Reshape::Unsqueeze(axes), vec![], Back::Reshape)
    }),
    ("aten.atleast_1d", |call| match call.rank("self")? {
        0 => call.view(0, "self", Reshape::Unsqueeze(Some(vec![0])), vec![], Back::Reshape),
        _ => call.same("self"),
    }),
    ("aten.transpose", |call| {
        let pair = [call.int("dim0", 0)?, call.int("dim1", 1)?];
        swapped(call, pair)
    }),
    ("aten.swapaxes", |call| {
        let pair = [call.int("axis0", 0)?, call.int("axis1", 1)?];
        swapped(call, pair)
    }),
    ("aten.mT", |call| swapped(call, [-2, -1])),
    ("aten.t", reversed),
    ("aten.numpy_T", reversed),
    ("aten.permute", |call| {
        let order = call.ints("dims")?;
        permuted(call, order)
    }),
    ("aten.movedim", moved),
    ("aten.expand", |call| {
        let sizes = call.vector("size")?;
        call.view(0, "self", View::Expand, vec![sizes], Back::Repeated)
    }),
    ("aten.broadcast_to", |call| {
        let sizes = call.vector("size")?;
        call.view(0, "self", View::Expand, vec![sizes], Back::Repeated)
    }),
    ("aten.expand_as", |call| {
        let other = call.tensor("other")?;
        call.view(0, "self", View::ExpandLike, vec![other], Back::Repeated)
    }),
    ("aten.repeat", |call| tiled(call, "repeats")),
    ("aten.tile", |call| tiled(call, "dims")),
    ("aten.repeat_interleave", repeated),
    ("aten.cat", joined),
    ("aten.concat", joined),
    ("aten.stack", stacked),
    ("aten.split", |call| match call.overload() {
        "sizes" => split_by(call, "split_size"),
        _ => split(call),
    }),
    ("aten.unsafe_split", split),
    ("aten.split_with_sizes", |call| split_by(call, "split_sizes")),
    ("aten.unsafe_split_with_sizes", |call| split_by(call, "split_sizes")),
    ("aten.chunk", chunk),
    ("aten.unsafe_chunk", chunk),
    ("aten.tensor_split", tensor_split),
    ("aten.unbind", |call| {
        let axis = call.int("dim", 0)?;
        for index in 0..call.outputs() {
            let at = call.integer(index as i64);
            select(call, index, axis, at)?;
        }
        Ok(())
    }),
    ("aten.select", |call| {
        let (axis, at) = (call.int("dim", 0)?, call.scalar("index", 0)?);
        select(call, 0, axis, at)
    }),
    ("aten.slice", |call| {
        let (axis, step) = (call.int("dim", 0)?, call.int("step", 1)?);
        let bounds = [call.scalar("start", 0)?, call.scalar("end", i64::MAX)?];
        part(call, 0, Part::Slice(axis, step), bounds)
    }),
    ("aten.narrow", |call| {
        let axis = call.int("dim", 0)?;
        let (start, length) = (call.scalar("start", 0)?, call.scalar("length", 0)?);
        let end = call.emit(crate::ops::elementwise::Binary::Add, &[start, length]);
        part(call, 0, Part::Slice(axis, 1), [start, end])
    }),
    ("aten.slice_scatter", |call| {
        let (axis, step) = (call.int("dim", 0)?, call.int("step", 1)?);
        let bounds = [call.scalar("start", 0)?, call.scalar("end", i64::MAX)?];
        let operands = [call.tensor("self")?, call.tensor("src")?, bounds[0], bounds[1]];
        call.make(Put(Part::Slice(axis, step)), &operands)
    }),
    ("aten.select_scatter", |call| {
        let (axis, at) = (call.int("dim", 0)?, call.scalar("index", 0)?);
        let operands = [call.tensor("self")?, call.tensor("src")?, at];
        call.make(Put(Part::Select(axis)), &operands)
    }),
    ("aten.diff", difference),
    ("aten.meshgrid", meshgrid),
    ("aten.unfold", |call| {
        let number = |value: i64| usize::try_from(value).unwrap_or(0).max(1);
        let (axis, size, step) =
            (call.int("dimension", 0)?, call.int("size", 1)?, call.int("step", 1)?);
        let windows = Windows { axis, size: number(size), step: number(step), dilation: 1 };
        call.view(0, "self", windows, Vec::new(), Back::Repeated)
    }),
    ("aten.im2col", columns),
    ("aten.constant_pad_nd", |call| {
        let number = call.number_or("value", 0.0)?;
        padded(call, "pad", Border::Constant, number)
    }),
    ("aten.pad", |call| {
        let number = call.number_or("value", 0.0)?;
        let border = match call.text("mode") {
            None | Some("constant") => Border::Constant,
            Some("reflect") => Border::Reflect,
            Some("replicate") => Border::Edge,
            Some("circular") => Border::Wrap,
            Some(other) => return Err(Error::unsupported(format!("`mode` is `{other}`"))),
        };
        padded(call, "pad", border, number)
    }),
    ("aten.reflection_pad1d", |call| padded(call, "padding", Border::Reflect, 0.0)),
    ("aten.reflection_pad2d", |call| padded(call, "padding", Border::Reflect, 0.0)),
    ("aten.reflection_pad3d", |call| padded(call, "padding", Border::Reflect, 0.0)),
    ("aten.replication_pad1d", |call| padded(call, "padding", Border::Edge, 0.0)),
    ("aten.replication_pad2d", |call| padded(call, "padding", Border::Edge, 0.0)),
    ("aten.replication_pad3d", |call| padded(call, "padding", Border::Edge, 0.0)),
    ("aten.pixel_shuffle", |call| {
        let size = usize::try_from(call.int("upscale_factor", 1)?).unwrap_or(0).max(1);
        let x = call.tensor("self")?;
        call.make(Blocks { size, to_space: true, channels_first: true }, &[x])
    }),
    ("aten.pixel_unshuffle", unshuffled),
    ("aten.channel_shuffle", shuffled),
    ("aten.native_channel_shuffle", shuffled),
];

/// What may be a copy is one that nothing can tell where memory is row-major.
fn perhaps(call: &Call<'_, '_>) -> Result<Back> {
    Ok(if call.meta("self")?.is_row_major() { Back::Reshape } else { Back::Perhaps })
}

fn spelled(call: &mut Call<'_, '_>, name: &str, back: Back) -> Result<()> {
    let sizes = call.vector(name)?;
    call.view(0, "self", Reshape::Given(true), vec![sizes], back)
}

/// Another shape in row-major order; other views are not followed.
fn strided(call: &mut Call<'_, '_>) -> Result<()> {
    let (sizes, strides) = (call.ints("size")?, call.ints("stride")?);
    let mut step = 1;
    let in_order = sizes.iter().zip(&strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == step;
        step *= size;
        fits
    });
    let own: Option<Vec<usize>> = call.meta("self")?.sizes().into_iter().collect();
    let count = own.map(|sizes| sizes.iter().product::<usize>() as i64);
    let whole = call.meta("self")?.is_row_major() && count == Some(step);
    if !in_order || !whole || call.int("storage_offset", 0)? != 0 {
        return Err(Error::unsupported("a view of other elements"));
    }
    spelled(call, "size", Back::Reshape)
}

fn like(call: &mut Call<'_, '_>, back: Back) -> Result<()> {
    let other = call.tensor("other")?;
    call.view(0, "self", View::Like, vec![other], back)
}

fn permuted(call: &mut Call<'_, '_>, order: Vec<i64>) -> Result<()> {
    let rank = call.rank("self")?;
    let order = order.into_iter().map(|a| axis(a, rank).map(|axis| axis as i64));
    let order = order.collect::<Result<Vec<i64>>>()?;
    if order.is_empty() {
        return call.same("self");
    }
    let back = Back::Permute(order.clone());
    call.view(0, "self", Transpose { order }, vec![], back)
}

fn swapped(call: &mut Call<'_, '_>, pair: [i64; 2]) -> Result<()> {
    let rank = call.rank("self")?;
    let mut order: Vec<i64> = (0..rank as i64).collect();
    if rank > 0 {
        order.swap(axis(pair[0], rank)?, axis(pair[1], rank)?);
    }
    permuted(call, order)
}

fn reversed(call: &mut Call<'_, '_>) -> Result<()> {
    let order = (0..call.rank("self")? as i64).rev().collect();
    permuted(call, order)
}

fn moved(call: &mut Call<'_, '_>) -> Result<()> {
    let rank = call.rank("self")?;
    let axes = |name: &str| -> Result<Vec<usize>> {
        call.ints(name)?.into_iter().map(|a| axis(a, rank)).collect()
    };
    let (from, to) = (axes("source")?, axes("destination")?);
    let mut left = (0..rank).filter(|axis| !from.contains(axis));
    let mut order = Vec::with_capacity(rank);
    for place in 0..rank {
        let given = to.iter().position(|&to| to == place).and_then(|index| from.get(index));
        let axis = given.copied().or_else(|| left.next());
        order.push(axis.ok_or_else(|| Error::malformed("no order of axes"))? as i64);
    }
    permuted(call, order)
}

fn tiled(call: &mut Call<'_, '_>, name: &str) -> Result<()> {
    let (rank, given) = (call.rank("self")?, call.list(name)?);
    let lead = rank.saturating_sub(given.len());
    let times = [vec![Int::Number(1); lead], given.to_vec()].concat();
    let times = call.vector_of(&times)?;
    let mut x = call.tensor("self")?;
    if given.len() > rank {
        let axes = (0..(given.len() - rank) as i64).collect();
        x = call.emit(Reshape::Unsqueeze(Some(axes)), &[x]);
    }
    call.make(Tile, &[x, times])
}

/// Without an axis, of all elements.
fn repeated(call: &mut Call<'_, '_>) -> Result<()> {
    if !call.has("self") {
        return Err(Error::unsupported("positions alone"));
    }
    let mut x = call.tensor("self")?;
    let axis = match call.has("dim") {
        true => call.int("dim", 0)?,
        false => {
            x = call.emit(View::Flatten(0, -1), &[x]);
            0
        }
    };
    let times = call.operand("repeats", Sort::Int)?;
    call.make(Repeat { axis }, &[x, times])
}

/// A list of tensors, all of the widest sort.
fn level(call: &mut Call<'_, '_>) -> Result<Vec<Slot>> {
    let (slots, sorts) = (call.tensors("tensors")?, call.sorts("tensors")?);
    let to = sorts.iter().flatten().max().copied();
    let mut parts = Vec::new();
    for (slot, sort) in slots.into_iter().zip(sorts) {
        let (Some(slot), Some(sort), Some(to)) = (slot, sort, to) else {
            return Err(Error::unsupported("a part that is no tensor of numbers"));
        };
        parts.push(call.cast(slot, sort, to));
    }
    Ok(parts)
}

fn joined(call: &mut Call<'_, '_>) -> Result<()> {
    let (parts, axis) = (level(call)?, call.int("dim", 0)?);
    call.make(Concat { axis }, &parts)
}

fn stacked(call: &mut Call<'_, '_>) -> Result<()> {
    let axis = call.int("dim", 0)?;
    let parts = level(call)?.into_iter();
    let unsqueeze = Reshape::Unsqueeze(Some(vec![axis]));
    let parts: Vec<Slot> = parts.map(|part| call.emit(unsqueeze.clone(), &[part])).collect();
    call.make(Concat { axis }, &parts)
}

fn part(call: &mut Call<'_, '_>, index: usize, part: Part, bounds: [Slot; 2]) -> Result<()> {
    call.view(index, "self", part, bounds.to_vec(), Back::Put(part))
}

fn select(call: &mut Call<'_, '_>, index: usize, axis: i64, at: Slot) -> Result<()> {
    let part = Part::Select(axis);
    call.view(index, "self", part, vec![at], Back::Put(part))
}

/// Parts between given positions.
fn cut(call: &mut Call<'_, '_>, axis: i64, bounds: impl Iterator<Item = (i64, i64)>) -> Result<()> {
    for (index, (start, end)) in bounds.enumerate().take(call.outputs()) {
        let bounds = [call.integer(start), call.integer(end)];
        part(call, index, Part::Slice(axis, 1), bounds)?;
    }
    Ok(())
}

/// Parts of one size, but for the last, which may be smaller.
fn split(call: &mut Call<'_, '_>) -> Result<()> {
    let (axis, size) = (call.int("dim", 0)?, call.int("split_size", 1)?);
    cut(call, axis, (0..).map(|at| (at * size, (at + 1) * size)))
}

fn split_by(call: &mut Call<'_, '_>, name: &str) -> Result<()> {
    let axis = call.int("dim", 0)?;
    let computed = call.list(name)?.iter().any(|int| matches!(int, Int::Name(_)));
    if computed {
        let (x, sizes) = (call.tensor("self")?, call.vector(name)?);
        return apart(call, Split { axis, parts: None, count: 0 }, &[x, sizes]);
    }
    let mut at = 0;
    let sizes = call.ints(name)?.into_iter();
    cut(
        call,
        axis,
        sizes.map(|size| {
            (at, {
                at += size;
                at
            })
        }),
    )
}

/// Parts whose sizes are computed: writes to them are not followed.
fn apart(call: &mut Call<'_, '_>, split: Split, operands: &[Slot]) -> Result<()> {
    let operands = operands.iter().copied().map(Some).collect();
    let made = call.emit_all(split, operands);
    made.into_iter().enumerate().try_for_each(|(index, slot)| call.shares(index, slot, "self"))
}

fn chunk(call: &mut Call<'_, '_>) -> Result<()> {
    let (axis, count) = (call.int("dim", 0)?, call.int("chunks", 1)?.max(1));
    match call.size("self", axis)? {
        Some(size) => {
            let each = (size as i64 + count - 1) / count;
            cut(call, axis, (0..).map(|at| (at * each, (at + 1) * each)))
        }
        None => {
            let x = call.tensor("self")?;
            let count = usize::try_from(count).unwrap_or(1);
            apart(call, Split { axis, parts: None, count }, &[x])
        }
    }
}

/// The first parts get one more where they cannot be equal; or parts at given positions.
fn tensor_split(call: &mut Call<'_, '_>) -> Result<()> {
    let axis = call.int("dim", 0)?;
    let size = call.size("self", axis)?;
    let size = size.ok_or_else(|| Error::unsupported("parts of an open axis"))? as i64;
    let bounds: Vec<i64> = match call.has("sections") {
        true => {
            let count = call.int("sections", 1)?.max(1);
            (0..=count).map(|at| at * (size / count) + at.min(size % count)).collect()
        }
        false => [vec![0], call.ints("indices")?, vec![size]].concat(),
    };
    cut(call, axis, bounds.windows(2).map(|pair| (pair[0], pair[1])))
}

/// Every element less the one before it.
fn difference(call: &mut Call<'_, '_>) -> Result<()> {
    let (axis, sort) = (call.int("dim", -1)?, call.sort("self")?);
    if call.int("n", 1)? != 1 || sort == Sort::Bool {
        return Err(Error::unsupported("other differences than those of neighbors"));
    }
    let mut parts = Vec::new();
    for name in ["prepend", "self", "append"] {
        if call.has(name) {
            parts.push(call.operand(name, sort)?);
        }
    }
    let x = call.emit(Concat { axis }, &parts);
    let bounds = [0, 1, -1, i64::MAX].map(|bound| call.integer(bound));
    let before = call.emit(Part::Slice(axis, 1), &[x, bounds[0], bounds[2]]);
    let after = call.emit(Part::Slice(axis, 1), &[x, bounds[1], bounds[3]]);
    call.make(crate::ops::elementwise::Binary::Sub, &[after, before])
}

/// Every vector along an axis of its own; the first two are swapped for `xy`.
fn meshgrid(call: &mut Call<'_, '_>) -> Result<()> {
    let vectors: Vec<Slot> = call.tensors("tensors")?.into_iter().flatten().collect();
    let (count, swapped) = (vectors.len(), call.text("indexing") == Some("xy"));
    let place = |index: usize| match index {
        0 | 1 if swapped && count > 1 => 1 - index,
        index => index,
    };
    let mut sizes = vec![None; count];
    for (index, &vector) in vectors.iter().enumerate() {
        let flat = call.emit(View::Flatten(0, -1), &[vector]);
        sizes[place(index)] = Some(call.emit(super::Shape::Sizes(0, 1), &[flat]));
    }
    let sizes = sizes.into_iter().flatten().collect::<Vec<_>>();
    let sizes = call.emit(Concat { axis: 0 }, &sizes);
    for (index, vector) in vectors.into_iter().enumerate() {
        let mut shape = vec![1; count];
        shape[place(index)] = -1;
        let shape = call.integers(&shape);
        let lifted = call.emit(Reshape::Given(true), &[vector, shape]);
        let grid = call.emit(View::Expand, &[lifted, sizes]);
        call.bind(index, grid);
    }
    Ok(())
}

/// Windows of an image `[n, c, h, w]` as columns `[n, c·k, l]`.
fn columns(call: &mut Call<'_, '_>) -> Result<()> {
    let [kernel, dilation, padding, stride] =
        ["kernel_size", "dilation", "padding", "stride"].map(|name| call.ints(name));
    let (kernel, dilation, padding, stride) = (kernel?, dilation?, padding?, stride?);
    let at = |list: &[i64], axis: usize, default: i64| {
        list.get(axis).or(list.first()).copied().unwrap_or(default)
    };
    if call.rank("self")? != 4 {
        return Err(Error::unsupported("data without a batch axis"));
    }
    let borders: Vec<i64> = [0, 0, at(&padding, 0, 0), at(&padding, 1, 0)].repeat(2);
    let mut x = call.tensor("self")?;
    x = call.emit(Pad { border: Border::Constant, fixed: Some((borders, 0.0)) }, &[x]);
    let number = |value: i64| usize::try_from(value).unwrap_or(0).max(1);
    for axis in 0..2 {
        let windows = Windows {
            axis: axis as i64 + 2,
            size: number(at(&kernel, axis, 1)),
            step: number(at(&stride, axis, 1)),
            dilation: number(at(&dilation, axis, 1)),
        };
        x = call.emit(windows, &[x]);
    }
    x = call.emit(Transpose { order: vec![0, 1, 4, 5, 2, 3] }, &[x]);
    x = call.emit(View::Flatten(4, 5), &[x]);
    call.make(View::Flatten(1, 3), &[x])
}

/// Borders in pairs, from the last axis on.
fn padded(call: &mut Call<'_, '_>, name: &str, border: Border, number: f64) -> Result<()> {
    let (rank, pads) = (call.rank("self")?, call.list(name)?);
    let axes = pads.len() / 2;
    if axes > rank {
        return Err(Error::malformed("more borders than axes"));
    }
    let side = |far: usize| {
        let given = (0..axes).rev().map(move |axis| pads[2 * axis + far].clone());
        std::iter::repeat_n(Int::Number(0), rank - axes).chain(given)
    };
    let pads: Vec<Int> = side(0).chain(side(1)).collect();
    let (x, pads) = (call.tensor("self")?, call.vector_of(&pads)?);
    let sort = call.sort("self")?;
    let number = call.real(number);
    let number = call.cast(number, Sort::Float, sort);
    call.make(Pad { border, fixed: None }, &[x, pads, number])
}

fn unshuffled(call: &mut Call<'_, '_>) -> Result<()> {
    let size = call.int("downscale_factor", 1)?;
    if call.rank("self")? != 4 {
        return Err(Error::unsupported("data without a batch axis"));
    }
    let mut x = call.tensor("self")?;
    let parts = call.integers(&[-1, size]);
    x = call.emit(View::Unflatten(3), &[x, parts]);
    x = call.emit(View::Unflatten(2), &[x, parts]);
    x = call.emit(Transpose { order: vec![0, 1, 3, 5, 2, 4] }, &[x]);
    call.make(View::Flatten(1, 3), &[x])
}

fn shuffled(call: &mut Call<'_, '_>) -> Result<()> {
    let groups = call.int("groups", 1)?;
    let rank = call.rank("self")? as i64;
    let mut x = call.tensor("self")?;
    let parts = call.integers(&[groups, -1]);
    x = call.emit(View::Unflatten(1), &[x, parts]);
    let order = [0, 2, 1].into_iter().chain(3..rank + 1).collect();
    x = call.emit(Transpose { order }, &[x]);
    call.make(View::Flatten(1, 2), &[x])
}
