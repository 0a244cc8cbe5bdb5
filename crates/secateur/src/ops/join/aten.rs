//! How PyTorch spells segments laid end to end, taken apart, or picked.

use super::{Concat, Cut, Slice, Split};
use crate::graph::{Extent, ValueId};
use crate::ops::reshape::Reshape;
use crate::ops::written::Written;
use crate::ops::{Place, axis, changed};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::size::ExprId;
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.cat", decode_cat),
    ("aten.concat", decode_cat),
    ("aten.stack", decode_stack),
    ("aten.split", |cx| match cx.overload() {
        "sizes" => decode_split_sizes(cx, "split_size"),
        _ => decode_split(cx),
    }),
    ("aten.unsafe_split", decode_split),
    ("aten.split_with_sizes", |cx| decode_split_sizes(cx, "split_sizes")),
    ("aten.unsafe_split_with_sizes", |cx| decode_split_sizes(cx, "split_sizes")),
    ("aten.chunk", decode_chunk),
    ("aten.unsafe_chunk", decode_chunk),
    ("aten.tensor_split", |cx| {
        let parts = cx.int("sections", 0)?;
        equal_parts(cx, "sections", parts)
    }),
    ("aten.unbind", |cx| {
        let (data, along) = (cx.tensor("self")?, cx.int("dim", 0)?);
        for (slot, picked) in picked(cx, data, along)?.into_iter().enumerate() {
            cx.bind(slot, picked);
        }
        Ok(())
    }),
    ("aten.select", |cx| {
        cx.int("index", 0)?;
        let (data, along) = (cx.tensor("self")?, cx.int("dim", 0)?);
        let picked = pick(cx, data, along, 1)?;
        cx.bind(0, picked[0]);
        Ok(())
    }),
    ("aten.slice", decode_slice),
    ("aten.narrow", decode_narrow),
];

/// Empty vectors are left out, as PyTorch does.
fn decode_cat(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let mut parts = Vec::new();
    for part in cx.tensors("tensors")?.into_iter().flatten() {
        if !matches!(cx.shape(part)?[..], [Extent { size: 0, .. }]) {
            parts.push(part);
        }
    }
    let axis = cx.int("dim", 0)?;
    cx.node(Concat { axis }, &parts)
}

fn decode_stack(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let along = cx.int("dim", 0)?;
    let mut parts = Vec::new();
    for part in cx.tensors("tensors")?.into_iter().flatten() {
        let mut shape = cx.shape(part)?;
        let at = axis(along, shape.len() + 1)?;
        shape.insert(at, Extent::fixed(1));
        parts.push(cx.emit(Reshape::implied(shape), &[part])?);
    }
    cx.node(Concat { axis: along }, &parts)
}

/// The sizes of the results along an axis.
fn parts(cx: &Decoder<'_, '_>, along: usize) -> Result<Vec<Extent>> {
    let one = |slot| {
        let shape = cx.result_shape(slot)?;
        shape.get(along).copied().ok_or_else(|| Error::malformed("a part without the axis"))
    };
    (0..cx.output_count()).map(one).collect()
}

fn split(
    cx: &mut Decoder<'_, '_>,
    target: impl FnOnce(&mut Decoder<'_, '_>, &[Extent]) -> Result<(Place, Vec<ExprId>)>,
) -> Result<()> {
    let data = cx.tensor("self")?;
    let along = axis(cx.int("dim", 0)?, cx.shape(data)?.len())?;
    let sizes = parts(cx, along)?;
    if sizes.iter().any(|extent| extent.size == 0) {
        return Err(Error::unsupported("an empty segment"));
    }
    let target = target(cx, &sizes)?;
    let equal = sizes.iter().all(|part| part.size == sizes[0].size);
    let tied = cx.keeps_parts_equal() && equal && target.0 != Place::Attribute("split_sizes");
    cx.node(Split { axis: along as i64, sizes, target: Some(target), tied }, &[data])
}

/// Parts of one size, but for the last, which may be smaller. They are spelled one by one where
/// they become different.
fn decode_split(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let size = cx.expr("split_size", 1)?;
    split(cx, |_, sizes| {
        let equal = sizes.iter().all(|part| part.size == sizes[0].size);
        let exprs = if equal { vec![size; sizes.len()] } else { Vec::new() };
        Ok((Place::Attribute("split_size"), exprs))
    })
}

fn decode_split_sizes(cx: &mut Decoder<'_, '_>, name: &'static str) -> Result<()> {
    let exprs = cx.exprs(name)?;
    split(cx, |_, _| Ok((Place::Attribute(name), exprs)))
}

fn decode_chunk(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let parts = cx.int("chunks", 1)?;
    equal_parts(cx, "chunks", parts)
}

/// As many parts as are asked for, of one size where that is possible.
fn equal_parts(cx: &mut Decoder<'_, '_>, name: &'static str, count: i64) -> Result<()> {
    split(cx, |_, sizes| match sizes.len() as i64 == count {
        true => Ok((Place::Attribute(name), Vec::new())),
        false => Err(Error::unsupported("fewer parts than are asked for")),
    })
}

/// One tensor per index of an axis that stays whole.
fn picked(cx: &mut Decoder<'_, '_>, data: ValueId, along: i64) -> Result<Vec<ValueId>> {
    let count = cx.output_count();
    pick(cx, data, along, count)
}

fn pick(cx: &mut Decoder<'_, '_>, data: ValueId, along: i64, count: usize) -> Result<Vec<ValueId>> {
    let shape = cx.shape(data)?;
    let along = axis(along, shape.len())?;
    let mut r = Rule::new("select");
    let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
    for (index, &extent) in shape.iter().enumerate() {
        let name = crate::ops::letter(index);
        if index == along {
            dims.push(r.fixed(name, extent, "rows are picked by index").into());
            continue;
        }
        let factor = r.free(name, extent);
        dims.push(factor.into());
        result.push(factor.into());
    }
    r.operand(Use::Table, dims);
    for _ in 0..count {
        r.result(result.clone());
    }
    r.flow = Flow::First;
    cx.emit_all(Written(r), vec![Some(data)])
}

/// A bound, as it is spelled and as it is in an axis of `size`.
fn bound(spelled: i64, size: usize) -> (i64, usize) {
    let from_end = if spelled < 0 { spelled.saturating_add(size as i64) } else { spelled };
    (spelled, from_end.clamp(0, size as i64) as usize)
}

fn decode_slice(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let shape = cx.shape(data)?;
    let along = axis(cx.int("dim", 0)?, shape.len())?;
    let step = cx.int("step", 1)?;
    if step < 1 {
        return Err(Error::malformed(format!("a step of {step}")));
    }
    let exprs = [cx.expr("start", 0)?, cx.expr("end", i64::MAX)?];
    let size = shape[along].size;
    let ((start, late), (end, open)) = (cx.eval(exprs[0])?, cx.eval(exprs[1])?);
    let cut = Cut {
        axis: along,
        start: bound(start, size),
        end: bound(end, size),
        step,
        exprs,
        open: late.max(open),
    };
    let places = [Place::Attribute("start"), Place::Attribute("end")];
    cx.node(Slice { cuts: vec![cut], places }, &[data])
}

/// A start and a length. What starts at 0 and is cut has its length for its end.
fn decode_narrow(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let shape = cx.shape(data)?;
    let along = axis(cx.int("dim", 0)?, shape.len())?;
    let (start, length) = (cx.expr("start", 0)?, cx.expr("length", 0)?);
    let (first, open) = cx.eval(start)?;
    let (count, unknown) = cx.eval(length)?;
    let size = shape[along].size;
    let cut = Cut {
        axis: along,
        start: bound(first, size),
        end: bound(first.saturating_add(count), size),
        step: 1,
        exprs: [start, length],
        open: open.max(unknown),
    };
    if first == 0 {
        let places = [Place::Attribute("start"), Place::Attribute("length")];
        return cx.node(Slice { cuts: vec![cut], places }, &[data]);
    }
    cx.freeze(&[start, length]);
    let mut r = Rule::new("narrow");
    let kept = Extent { size: cut.end.1 - cut.start.1, open: cut.open };
    let after = |index| (index == along).then_some(kept);
    let [dims, result] = changed(&mut r, &shape, after, "a part of it is picked by index");
    r.operand(Use::Data, dims);
    r.result(result);
    cx.node(Written(r), &[data])
}
