//! Results of which a size is counted from data: places where something is not zero, what is kept
//! of many, what differs. Their size is made up, and nothing is cut along it.

use super::written::{Written, fixed};
use super::{agree, axis, letter, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::{Error, Result};

/// Why an axis of a counted size stays whole.
pub(super) const COUNTED: &str = "its size is counted from data";
/// Why a vector stays whole of which the numbers are sizes.
const SIZES: &str = "its numbers are read as sizes";
/// Why the axes stay whole that are searched.
const SEARCHED: &str = "it is searched for what is counted";

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("NonZero", decode_non_zero),
    ("NonMaxSuppression", decode_suppression),
    ("Compress", decode_compress),
    ("Unique", decode_unique),
];

fn searched(r: &mut Rule, prefix: &str, shape: &[Extent]) -> Vec<Dim> {
    fixed(r, prefix, shape, SEARCHED)
}

fn counted(cx: &mut Decoder<'_, '_>, r: &mut Rule, among: &[Extent]) -> Dim {
    r.fixed(format!("count{}", r.factors.len()), cx.count(among), COUNTED).into()
}

/// One column per place: its index along every axis.
fn decode_non_zero(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let mut r = Rule::new("non_zero");
    let dims = searched(&mut r, "s", ranked(&[Some(&data)], 0, 1)?);
    let count = counted(cx, &mut r, &data);
    let place = r.fixed("k", Extent::fixed(data.len()), "it is a position");
    r.operand(Use::Data, dims);
    r.result(vec![place.into(), count]);
    r.flow = Flow::Break;
    cx.node(Written(r))
}

/// One row per box that is kept: its image, its class and its index. Boxes `[b, n, 4]`, scores
/// `[b, c, n]`.
fn decode_suppression(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let mut r = Rule::new("non_max_suppression");
    let (boxes, scores) = (cx.input_shape(0)?, cx.input_shape(1)?);
    for (name, shape) in [("b", &boxes), ("s", &scores)] {
        let dims = searched(&mut r, name, ranked(&[Some(shape)], 0, 3)?);
        r.operand(Use::Data, dims);
    }
    for slot in 2..cx.input_count() {
        cx.keep(slot)?;
    }
    let count = counted(cx, &mut r, &scores);
    let place = r.fixed("k", Extent::fixed(3), "it is a position");
    r.result(vec![count, place.into()]);
    r.flow = Flow::Break;
    cx.node_over(2, Written(r))
}

/// The slices of an axis, or the elements of all the data, for which a condition (operand 1) holds.
fn decode_compress(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, condition) = (cx.input_shape(0)?, cx.input_shape(1)?);
    agree("axes of the condition and 1", condition.len(), 1)?;
    let along = cx.int("axis").map(|along| axis(along, data.len())).transpose()?;
    let mut r = Rule::new("compress");
    let mut dims = Vec::new();
    for (i, &extent) in data.iter().enumerate() {
        dims.push(match along {
            Some(along) if along != i => Dim::from(r.free(letter(i), extent)),
            _ => r.fixed(letter(i), extent, SEARCHED).into(),
        });
    }
    let condition = searched(&mut r, "s", &condition);
    let among = along.map_or(&data[..], |along| &data[along..=along]);
    let count = counted(cx, &mut r, among);
    let mut result = vec![count.clone()];
    if let Some(along) = along {
        result = dims.clone();
        result[along] = count;
    }
    r.operand(Use::Data, dims);
    r.operand(Use::Data, condition);
    r.result(result);
    r.flow = Flow::First;
    cx.node(Written(r))
}

/// The slices of an axis, or the elements of all the data, without repetitions; where each was
/// first, which each of the data is, and how often it was.
fn decode_unique(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let along = cx.int("axis").map(|along| axis(along, data.len())).transpose()?;
    let mut r = Rule::new("unique");
    let dims = searched(&mut r, "s", &data);
    let among = along.map_or(&data[..], |along| &data[along..=along]);
    let count = counted(cx, &mut r, among);
    let (mut result, all) = (dims.clone(), elements(&data)?);
    let mut inverse = count.clone();
    match along {
        Some(along) => inverse = std::mem::replace(&mut result[along], count.clone()),
        None => result = vec![count.clone()],
    }
    if along.is_none() && cx.result_slots() > 2 {
        inverse = r.fixed("all", all, SEARCHED).into();
    }
    r.operand(Use::Data, dims);
    let results = [result, vec![count.clone()], vec![inverse], vec![count]];
    results.into_iter().take(cx.result_slots()).for_each(|result| r.result(result));
    r.flow = Flow::Break;
    cx.node(Written(r))
}

/// All elements of the data, laid out on one axis.
fn elements(data: &[Extent]) -> Result<Extent> {
    let one = Some(Extent::fixed(1));
    let times = |a: Option<Extent>, b: &Extent| {
        let a = a?;
        Some(Extent { size: a.size.checked_mul(b.size)?, open: a.open.max(b.open) })
    };
    data.iter().fold(one, times).ok_or_else(|| Error::unsupported("too many elements"))
}

/// The length of a vector of sizes in input `slot`.
fn length(cx: &mut Decoder<'_, '_>, slot: usize) -> Result<Extent> {
    match cx.input_shape(slot)?[..] {
        [length] if !length.is_counted() => Ok(length),
        _ => Err(Error::unsupported("a number of axes that is not known")),
    }
}

/// A constant of a shape (input 0) that is computed from data.
pub(super) fn decode_fill(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let rank = length(cx, 0)?;
    let mut r = Rule::new("fill");
    let sizes = r.fixed("k", rank, SIZES);
    r.operand(Use::Data, vec![sizes.into()]);
    let shape = counts(cx, rank.size)?;
    let dims = fixed(&mut r, "n", &shape, COUNTED);
    r.result(dims);
    r.flow = Flow::Break;
    cx.node(Written(r))
}

fn counts(cx: &mut Decoder<'_, '_>, count: usize) -> Result<Vec<Extent>> {
    const MAX_AXES: usize = 64;
    if count > MAX_AXES {
        return Err(Error::unsupported(format!("{count} axes")));
    }
    Ok((0..count).map(|_| cx.count(&[])).collect())
}

/// Data broadcast to a shape (input 1) that is computed from data: an axis of a stated size stays,
/// unless that is 1.
pub(super) fn decode_expand(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, target) = (cx.input_shape(0)?, length(cx, 1)?);
    let rank = data.len().max(target.size);
    let mut shape = counts(cx, rank)?;
    let skip = rank - data.len();
    let mut r = Rule::new("expand");
    let (mut dims, mut result) = (Vec::new(), fixed(&mut r, "n", &shape[..skip], COUNTED));
    for (i, (&from, to)) in data.iter().zip(&mut shape[skip..]).enumerate() {
        let stays = from.size > 1 && !from.is_counted();
        let dim = match stays {
            true => Dim::from(r.free(letter(i), from)),
            false => r.fixed(letter(i), from, COUNTED).into(),
        };
        dims.push(dim.clone());
        result.push(match stays {
            true => dim,
            false => r.fixed(letter(i) + "'", *to, COUNTED).into(),
        });
    }
    r.operand(Use::Data, dims);
    let sizes = r.fixed("k", target, SIZES);
    r.operand(Use::Data, vec![sizes.into()]);
    r.result(result);
    r.flow = Flow::First;
    cx.node(Written(r))
}

/// Data of which a range is taken whose ends (inputs 1 and 2) are computed from data.
pub(super) fn decode_slice(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let axes = match cx.has(3) {
        true => cx.known(3)?,
        false => (0..length(cx, 1)?.size as i64).collect(),
    };
    let axes = axes.iter().map(|&a| axis(a, data.len())).collect::<Result<Vec<_>>>()?;
    let mut r = Rule::new("slice");
    let (mut dims, mut result) = (Vec::new(), Vec::new());
    for (i, &extent) in data.iter().enumerate() {
        let taken = axes.contains(&i);
        let dim = match taken {
            true => Dim::from(r.fixed(letter(i), extent, COUNTED)),
            false => r.free(letter(i), extent).into(),
        };
        dims.push(dim.clone());
        result.push(if taken { counted(cx, &mut r, &[extent]) } else { dim });
    }
    r.operand(Use::Data, dims);
    for slot in 1..3 {
        let shape = cx.input_shape(slot)?;
        let dims = fixed(&mut r, ["s", "e"][slot - 1], &shape, SIZES);
        r.operand(Use::Data, dims);
    }
    r.result(result);
    r.flow = Flow::First;
    cx.keep(4)?;
    cx.node_over(3, Written(r))
}
