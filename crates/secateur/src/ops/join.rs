//! Segments laid end to end, taken apart, or picked.

mod aten;

use std::cmp::Ordering;

use super::count::{self, COUNTED};
use super::{Fit, NewSizes, Operator, Place, Shapes, agree, axis, letter, operand, ranked};
use crate::graph::{Extent, Open};
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Kind, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// Why a fixed axis that is taken apart at an open size stays whole: elsewhere more of it is read.
const OPEN: &str = "it is taken apart at a size that is open";

/// Tensors laid end to end along one axis.
#[derive(Clone, Debug)]
pub struct Concat {
    /// The axis.
    pub axis: i64,
}

impl Operator for Concat {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let first = ranked(shapes, 0, 1)?;
        let along = axis(self.axis, first.len())?;
        let mut r = Rule::new("concat");
        let mut dims: Vec<Dim> = Vec::new();
        for (index, &extent) in first.iter().enumerate() {
            let other = r.free(letter(index), extent);
            dims.push(other.into());
        }
        let mut segments: Vec<FactorId> = dims[along].factors().collect();
        r.operand(Use::Data, dims.clone());
        for (index, shape) in shapes.iter().enumerate().skip(1) {
            let shape = shape.ok_or_else(|| Error::malformed("a missing operand"))?;
            agree("ranks to concatenate", shape.len(), first.len())?;
            for (i, (a, b)) in first.iter().zip(shape).enumerate().filter(|(i, _)| *i != along) {
                if a.size != b.size {
                    agree(&format!("sizes of axis {i}"), a.size, b.size)?;
                }
            }
            let segment = r.free(format!("{}{index}", letter(along)), shape[along]);
            segments.push(segment);
            dims[along] = segment.into();
            r.operand(Use::Data, dims.clone());
        }
        dims[along] = Dim::sum(segments);
        r.result(dims);
        Ok(r)
    }
}

/// A tensor taken apart along one axis.
#[derive(Clone, Debug)]
pub struct Split {
    /// The axis.
    pub axis: i64,
    /// Segment sizes.
    pub sizes: Vec<Extent>,
    /// Where the source spells them, and how, with no expressions for equal parts; `None` where
    /// they follow from other sizes.
    pub target: Option<(Place, Vec<ExprId>)>,
    /// Whether all segments are of one size, and stay so: the same indices of each are kept.
    pub tied: bool,
}

impl Operator for Split {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = ranked(shapes, 0, 1)?;
        let along = axis(self.axis, data.len())?;
        if data[along].is_counted() {
            return Err(Error::unsupported("segments of stated sizes"));
        }
        let sizes = self.sizes.iter().map(|extent| extent.size);
        let total = sizes.fold(0, |total: usize, size| total.saturating_add(size));
        agree("segments and size", total, data[along].size)?;
        let mut r = Rule::new("split");
        let mut segments = Vec::new();
        let mut dims: Vec<Dim> = Vec::new();
        for (index, &extent) in data.iter().enumerate() {
            if index == along {
                if self.tied {
                    let reason = "parts of one size are taken of it";
                    let parts = Extent::fixed(self.sizes.len());
                    let parts = r.fixed(format!("{}%", letter(along)), parts, reason);
                    let part = r.free(letter(along), self.sizes[0]);
                    segments = vec![part; self.sizes.len()];
                    dims.push(Dim::product([parts, part]));
                    continue;
                }
                for (part, &size) in self.sizes.iter().enumerate() {
                    let name = format!("{}{part}", letter(along));
                    let open = self.is_open() && !data[along].is_open();
                    let kind = if open { Kind::Fixed(OPEN) } else { Kind::Free };
                    segments.push(r.factor(name, size, kind));
                }
                dims.push(Dim::sum(segments.clone()));
            } else {
                dims.push(r.free(letter(index), extent).into());
            }
        }
        r.operand(Use::Data, dims.clone());
        for segment in segments {
            dims[along] = segment.into();
            r.result(dims.clone());
        }
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let dims = &sizes.rule.operands[0].dims;
        let Ok(along) = axis(self.axis, dims.len()) else { return Vec::new() };
        let want = match self.tied {
            true => vec![sizes.dim(&sizes.rule.results[0][along]); self.sizes.len()],
            false => sizes.segments(&dims[along]),
        };
        let Some((place, exprs)) = &self.target else { return Vec::new() };
        if exprs.is_empty() && want.iter().all(|&size| size == want[0]) {
            return Vec::new();
        }
        let mut fit = Fit::new(*place, exprs.iter().copied(), want);
        fit.whole = fit.whole.filter(|_| !self.is_open() && !self.tied);
        vec![fit]
    }
}

impl Split {
    /// Segments whose sizes the source spells nowhere.
    pub(super) fn implied(axis: i64, sizes: impl IntoIterator<Item = usize>) -> Self {
        let sizes = sizes.into_iter().map(Extent::fixed).collect();
        Split { axis, sizes, target: None, tied: false }
    }

    fn is_open(&self) -> bool {
        self.sizes.iter().any(|size| size.is_open())
    }
}

/// One segment per named axis.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The cuts, in the source's order.
    pub cuts: Vec<Cut>,
    /// Where the source spells starts and ends.
    pub places: [Place; 2],
}

/// A range of one axis.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The axis.
    pub axis: usize,
    /// First index, as spelled and as it is.
    pub start: (i64, usize),
    /// Index past the last, as spelled and as it is.
    pub end: (i64, usize),
    /// Step.
    pub step: i64,
    /// The source's expressions of start and end.
    pub exprs: [ExprId; 2],
    /// What may become of them.
    pub open: Open,
}

impl Cut {
    fn len(&self, size: usize) -> usize {
        match self.step {
            1 => self.end.1.saturating_sub(self.start.1),
            step if step > 0 => self.end.1.saturating_sub(self.start.1).div_ceil(step as usize),
            step => {
                let start =
                    if self.start.0 < 0 { self.start.0 + size as i64 } else { self.start.0 };
                let start = start.clamp(-1, size as i64 - 1);
                let end = if self.end.0 < 0 {
                    self.end.0.saturating_add(size as i64)
                } else {
                    self.end.0
                };
                let end = end.clamp(-1, size as i64 - 1);
                usize::try_from((start - end).max(0))
                    .unwrap_or(0)
                    .div_ceil(step.unsigned_abs() as usize)
            }
        }
    }

    /// Whether the slice is empty at any smaller size too.
    fn stays_empty(&self) -> bool {
        self.step == 1 && self.open == Open::Stated && (self.start.0 >= 0 || self.end.0 < 0)
    }

    /// The axis in factors, before and after.
    fn spell(&self, r: &mut Rule, extent: Extent) -> Result<(Dim, Dim)> {
        let name = letter(self.axis);
        let (size, length) = (extent.size, self.len(extent.size));
        if self.open.max(extent.open) == Open::Counted {
            return self.spell_counted(r, extent);
        }
        if length == 0 {
            let nothing = r.free(name.clone() + "'", Extent::fixed(0));
            let all = match self.stays_empty() {
                true => r.free(name, extent),
                false => r.fixed(name, extent, "an empty slice is taken of it"),
            };
            return Ok((all.into(), nothing.into()));
        }
        let whole = if length == size { extent.open } else { Open::Stated };
        let kept = Extent { size: length, open: self.open.max(whole) };
        if self.open != Open::Stated && !extent.is_open() {
            let from = r.fixed(name.clone(), extent, OPEN);
            return Ok((from.into(), r.fixed(name + "'", kept, OPEN).into()));
        }
        if self.step == 1 && length == size {
            let all = r.free(name, extent);
            return Ok((all.into(), all.into()));
        }
        if self.step == 1 {
            let before = Extent::fixed(self.start.1);
            let after = Extent::fixed(size - self.end.1);
            let kept = r.free(name.clone(), kept);
            let mut parts = Vec::new();
            if before.size > 0 {
                parts.push(r.free(format!("{name}<"), before));
            }
            parts.push(kept);
            if after.size > 0 {
                parts.push(r.free(format!("{name}>"), after));
            }
            return Ok((Dim::sum(parts), kept.into()));
        }
        let step = usize::try_from(self.step).unwrap_or(0);
        if step > 1 && size % step == 0 && length == size / step && self.start.1 < step {
            let kept = r.free(name.clone(), kept);
            let phase = Extent::fixed(step);
            let phase = r.fixed(format!("{name}%"), phase, "a strided slice picks one of it");
            return Ok((Dim::product([kept, phase]), kept.into()));
        }
        let reason = "a strided slice runs over it";
        let from = r.fixed(name.clone(), extent, reason);
        Ok((from.into(), r.fixed(name + "'", kept, reason).into()))
    }

    /// The same where the axis or a bound is counted: how much is kept is too.
    fn spell_counted(&self, r: &mut Rule, extent: Extent) -> Result<(Dim, Dim)> {
        let name = letter(self.axis);
        if self.takes_all() {
            let all = r.free(name, extent);
            return Ok((all.into(), all.into()));
        }
        let size = self.len(extent.size);
        if size == 0 {
            return Err(Error::unsupported("a slice that may be empty"));
        }
        let from = r.fixed(name.clone(), extent, COUNTED);
        let kept = Extent { size, open: Open::Counted };
        Ok((from.into(), r.fixed(name + "'", kept, COUNTED).into()))
    }

    /// Whether the slice is all of an axis of any size.
    fn takes_all(&self) -> bool {
        let bounds = self.start.0 == 0 && self.end.0 >= i64::from(i32::MAX);
        self.step == 1 && self.open == Open::Stated && bounds
    }

    /// What start and end have to be, spelled as they are now: from the end where negative.
    fn bounds(&self, sizes: &NewSizes<'_>, dim: &Dim, old: usize) -> [Option<i64>; 2] {
        if self.len(old) == 0 {
            return [None, None];
        }
        let fixed = |f: FactorId| matches!(sizes.rule.factors[f.index()].kind, Kind::Fixed(_));
        if dim.as_factor().is_some_and(fixed) {
            return [Some(self.start.0), Some(self.end.0)];
        }
        let segments = sizes.segments(dim);
        let total: i64 = segments.iter().sum();
        let first = if self.start.1 > 0 && segments.len() > 1 { segments[0] } else { 0 };
        let kept = segments.get(usize::from(self.start.1 > 0)).copied().unwrap_or(total);
        let (start, end) = match self.step {
            1 => (first, first + kept),
            _ => (self.start.1 as i64, total - (old as i64 - self.end.1 as i64)),
        };
        let spell = |spelled: i64, new: i64| if spelled < 0 { new - total } else { new };
        let new_end = match self.end.0.cmp(&(old as i64)) {
            Ordering::Less => spell(self.end.0, end),
            Ordering::Equal => total,
            Ordering::Greater => self.end.0,
        };
        let before = self.start.0 < -(old as i64);
        let new_start = if before { self.start.0 } else { spell(self.start.0, start) };
        // The largest numbers mean "to the end" whatever they are computed from.
        let open = self.end.0 >= i64::from(i32::MAX);
        [Some(new_start), (!open).then_some(new_end)]
    }
}

impl Operator for Slice {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let mut r = Rule::new("slice");
        let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
        for (index, &extent) in data.iter().enumerate() {
            let (before, after) = match self.cuts.iter().find(|cut| cut.axis == index) {
                Some(cut) => cut.spell(&mut r, extent)?,
                None => {
                    let all: Dim = r.free(letter(index), extent).into();
                    (all.clone(), all)
                }
            };
            dims.push(before);
            result.push(after);
        }
        r.operand(Use::Data, dims);
        r.result(result);
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let dims = &sizes.rule.operands[0].dims;
        let bounds: Vec<[Option<i64>; 2]> = self
            .cuts
            .iter()
            .map(|cut| cut.bounds(sizes, &dims[cut.axis], sizes.rule.extent(&dims[cut.axis]).size))
            .collect();
        let fit = |side: usize| {
            let spelled = |cut: &Cut| if side == 0 { cut.start.0 } else { cut.end.0 };
            let entries = self.cuts.iter().zip(&bounds);
            let want: Vec<i64> =
                entries.clone().map(|(cut, b)| b[side].unwrap_or(spelled(cut))).collect();
            let exprs = entries.map(|(cut, b)| b[side].map(|_| cut.exprs[side])).collect();
            let open = self.cuts.iter().any(|cut| cut.open != Open::Stated);
            let whole = (!open).then(|| want.clone());
            Fit { place: self.places[side], exprs, whole, want, shape: None }
        };
        vec![fit(0), fit(1)]
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Concat", |cx| {
        let axis = cx.int("axis").unwrap_or(1);
        cx.node(Concat { axis })
    }),
    ("Split", decode_split),
    ("Slice", decode_slice),
];

fn decode_split(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let along = cx.int("axis").unwrap_or(0);
    let data = cx.input_shape(0)?;
    let size = data[axis(along, data.len())?].size;
    let target = match cx.ints("split") {
        Some(sizes) => {
            let entries = sizes.iter().enumerate();
            let exprs = entries.map(|(i, &size)| cx.literal("split", i as u32, size)).collect();
            (Place::Attribute("split"), exprs)
        }
        None if cx.has(1) => (Place::Input(1), cx.exprs(1)?),
        None if cx.opset() < 13 => (Place::Attribute("split"), Vec::new()),
        None => (Place::InputFor(1, "num_outputs"), Vec::new()),
    };
    let count = cx.output_count();
    let sizes = if target.1.is_empty() {
        let part = size.div_ceil(count.max(1));
        (0..count).map(|i| Extent::fixed(part.min(size.saturating_sub(i * part)))).collect()
    } else {
        let one = |&expr: &ExprId| {
            let (size, open) = cx.eval(expr)?;
            let size = usize::try_from(size).map_err(|_| Error::malformed("a negative segment"))?;
            Ok(Extent { size, open })
        };
        target.1.iter().map(one).collect::<Result<Vec<Extent>>>()?
    };
    if sizes.iter().any(|extent| extent.size == 0) {
        return Err(Error::unsupported("an empty segment"));
    }
    agree("segments and results", sizes.len(), count)?;
    cx.node_over(1, Split { axis: along, sizes, target: Some(target), tied: false })
}

fn decode_slice(cx: &mut Decoder<'_, '_>) -> Result<()> {
    if cx.is_computed(1) || cx.is_computed(2) {
        return count::decode_slice(cx);
    }
    let data = cx.input_shape(0)?;
    let old = cx.opset() < 10;
    let (starts, ends) = if old {
        let literals = |cx: &mut Decoder<'_, '_>, name| {
            let values = cx.ints(name).unwrap_or_default();
            let each = values.iter().enumerate();
            each.map(|(i, &value)| cx.literal(name, i as u32, value)).collect()
        };
        let starts: Vec<ExprId> = literals(cx, "starts");
        (starts, literals(cx, "ends"))
    } else {
        (cx.exprs(1)?, cx.exprs(2)?)
    };
    let axes = match (old, cx.has(3)) {
        (true, _) => cx.ints("axes"),
        (false, true) => Some(cx.known(3)?),
        (false, false) => None,
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = if !old && cx.has(4) { cx.known(4)? } else { vec![1; starts.len()] };
    agree("starts and ends", starts.len(), ends.len())?;
    agree("starts and axes", starts.len(), axes.len())?;
    agree("starts and steps", starts.len(), steps.len())?;
    let mut cuts: Vec<Cut> = Vec::new();
    for (i, &along) in axes.iter().enumerate() {
        let along = axis(along, data.len())?;
        if cuts.iter().any(|cut| cut.axis == along) || steps[i] == 0 {
            return Err(Error::malformed(format!("axis {along} is sliced twice or by step 0")));
        }
        let size = data[along].size;
        let bound = |expr: ExprId| -> Result<((i64, usize), Open)> {
            let (spelled, open) = cx.eval(expr)?;
            let from_end = if spelled < 0 { spelled.saturating_add(size as i64) } else { spelled };
            Ok(((spelled, from_end.clamp(0, size as i64) as usize), open))
        };
        let ((start, early), (end, late)) = (bound(starts[i])?, bound(ends[i])?);
        let open = early.max(late);
        cuts.push(Cut {
            axis: along,
            start,
            end,
            step: steps[i],
            exprs: [starts[i], ends[i]],
            open,
        });
    }
    if !old && cuts.iter().any(|cut| cut.len(data[cut.axis].size) == 0) {
        // What is empty stays so only while its bounds keep their values.
        for slot in [1, 2] {
            cx.known(slot)?;
        }
    }
    let places = match old {
        true => [Place::Attribute("starts"), Place::Attribute("ends")],
        false => [Place::Input(1), Place::Input(2)],
    };
    cx.node_over(1, Slice { cuts, places })
}
