//! Borders.

mod aten;

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, axis, letter, operand};
use crate::graph::{Extent, Open};
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// Borders around the data.
#[derive(Clone, Debug)]
pub struct Pad {
    /// One entry per padded axis: the axis, near and far border.
    pub borders: Vec<(usize, [i64; 2])>,
    /// Which of the source's numbers they are.
    pub slots: Vec<[usize; 2]>,
    /// Where the source spells the borders, and how.
    pub target: (Place, Vec<ExprId>),
    /// The axes whose borders depend on sizes that the source does not state.
    pub open: Vec<(usize, Open)>,
    /// What stands in the borders.
    pub border: Border,
}

/// What stands in the borders of a [`Pad`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// Zeros: segments of their own.
    Zero,
    /// Copies of the data: its edge, mirrored or wrapped.
    Copied,
    /// Another number, or one that is not known.
    Other,
}

impl Operator for Pad {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        let mut r = Rule::new("pad");
        let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
        for (index, &extent) in data.iter().enumerate() {
            let name = letter(index);
            let border = self.borders.iter().find(|(axis, _)| *axis == index);
            let [near, far] = border.map_or([0, 0], |(_, border)| *border);
            let opened = self.open.iter().find(|(axis, _)| *axis == index);
            let open = opened.is_some();
            if near == 0 && far == 0 && !open {
                let factor = r.free(name, extent);
                dims.push(factor.into());
                result.push(factor.into());
                continue;
            }
            let total = (extent.size as i64).saturating_add(near).saturating_add(far);
            let size = usize::try_from(total).map_err(|_| Error::malformed("a negative size"))?;
            if near < 0 || far < 0 || self.border != Border::Zero || open {
                let reason = if open { "its border is open" } else { "its border is not zero" };
                dims.push(r.fixed(name.clone(), extent, reason).into());
                let to = Extent {
                    size,
                    open: opened.map_or(extent.open, |&(_, border)| extent.open.max(border)),
                };
                result.push(r.fixed(name + "'", to, reason).into());
                continue;
            }
            let mut parts = Vec::new();
            if near > 0 {
                parts.push(r.free(format!("{name}<"), Extent::fixed(near as usize)));
            }
            let inner = r.free(name.clone(), extent);
            parts.push(inner);
            if far > 0 {
                parts.push(r.free(format!("{name}>"), Extent::fixed(far as usize)));
            }
            dims.push(inner.into());
            result.push(Dim::sum(parts));
        }
        r.operand(Use::Data, dims);
        r.result(result);
        let padded = self.borders.iter().any(|(_, border)| *border != [0, 0]);
        r.flow = match self.border {
            Border::Copied => Flow::Carry,
            _ if !padded => Flow::Carry,
            // Integers of another zero point have no zero there.
            Border::Zero => Flow::product([0], []),
            Border::Other => Flow::Break,
        };
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let (place, exprs) = &self.target;
        let mut want = vec![0; 2 * self.borders.len()];
        for ((axis, border), slots) in self.borders.iter().zip(&self.slots) {
            let segments = sizes.segments(&sizes.rule.results[0][*axis]);
            let whole = segments.len() == 1;
            let near = if border[0] > 0 && !whole { segments[0] } else { border[0] };
            let last = segments.last().copied().unwrap_or(0);
            let far = if border[1] > 0 && !whole { last } else { border[1] };
            (want[slots[0]], want[slots[1]]) = (near, far);
        }
        let mut fit = Fit::new(*place, exprs.iter().copied(), want);
        fit.whole = fit.whole.filter(|_| self.open.is_empty());
        vec![fit]
    }
}

/// How ONNX spells it.
pub(crate) const ONNX: &[(&str, Decode)] = &[("Pad", decode)];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let rank = cx.input_shape(0)?.len();
    let target = match cx.ints("pads") {
        Some(pads) => {
            let each = pads.iter().enumerate();
            let exprs = each.map(|(i, &pad)| cx.literal("pads", i as u32, pad)).collect();
            (Place::Attribute("pads"), exprs)
        }
        None => (Place::Input(1), cx.exprs(1)?),
    };
    let axes = match cx.has(3) {
        true => cx.known(3)?,
        false => (0..rank as i64).collect(),
    };
    agree("borders and axes", target.1.len(), 2 * axes.len())?;
    let constant = matches!(cx.string("mode").as_deref(), None | Some("constant"));
    let value =
        if cx.has(2) { cx.number(2) } else { Some(f64::from(cx.float("value").unwrap_or(0.0))) };
    let border = match value {
        _ if !constant => Border::Copied,
        Some(0.0) => Border::Zero,
        _ => Border::Other,
    };
    let (mut borders, mut open) = (Vec::new(), Vec::new());
    for (index, &along) in axes.iter().enumerate() {
        let (near, early) = cx.eval(target.1[index])?;
        let (far, late) = cx.eval(target.1[axes.len() + index])?;
        let along = axis(along, rank)?;
        borders.push((along, [near, far]));
        let border = early.max(late);
        open.extend((border != Open::Stated).then_some((along, border)));
    }
    let slots = (0..axes.len()).map(|index| [index, axes.len() + index]).collect();
    cx.node_over(1, Pad { borders, slots, target, open, border })
}
