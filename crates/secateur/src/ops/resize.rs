//! Interpolation to another size.

mod aten;

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, axis, changed, operand};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Flow, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// Data interpolated to a shape.
#[derive(Clone, Debug)]
pub struct Resize {
    /// The new shape.
    pub shape: Vec<Extent>,
    /// Which axes are interpolated although their size stays.
    pub moved: Vec<usize>,
    /// Where zeros go.
    pub flow: Flow,
    /// The axes whose sizes the source spells, where, and how; nothing where it spells scales.
    pub target: Option<(Place, Vec<usize>, Vec<ExprId>)>,
}

impl Operator for Resize {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        agree("ranks", data.len(), self.shape.len())?;
        let mut r = Rule::new("resize");
        let after = |index: usize| {
            let stays = data[index].size == self.shape[index].size && !self.moved.contains(&index);
            (!stays).then_some(self.shape[index])
        };
        let [dims, result] = changed(&mut r, data, after, "it is interpolated");
        r.operand(Use::Data, dims);
        r.result(result);
        r.flow = self.flow.clone();
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let Some((place, axes, exprs)) = &self.target else { return Vec::new() };
        let shape = sizes.result(0);
        let want: Vec<i64> = axes.iter().map(|&axis| shape[axis]).collect();
        let whole = axes.iter().all(|&axis| !self.shape[axis].is_open()).then(|| want.clone());
        let exprs = exprs.iter().copied().map(Some).collect();
        vec![Fit { place: *place, exprs, want, whole, shape: None }]
    }
}

/// How ONNX spells it.
pub(crate) const ONNX: &[(&str, Decode)] =
    &[("Resize", decode), ("Upsample", decode), ("CenterCropPad", decode_center)];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let axes = named_axes(cx, data.len())?;
    let by_size = cx.opset() >= 11 && cx.has(3);
    let policy = cx.string("keep_aspect_ratio_policy").filter(|policy| policy != "stretch");
    let mut moved = cropped(cx, &axes)?;
    if let Some(policy) = policy.filter(|_| by_size) {
        let shape = keep_ratio(&data, &axes, &cx.known(3)?, policy == "not_larger")?;
        moved.extend(axes);
        return cx.node_over(1, Resize { shape, moved, flow: Flow::Carry, target: None });
    }
    if by_size {
        return by_sizes(cx, 3, axes, moved, Flow::Carry);
    }
    let scales = match cx.floats("scales") {
        Some(scales) => scales.into_iter().map(f64::from).collect(),
        None => cx.numbers(if cx.opset() >= 11 { 2 } else { 1 })?,
    };
    agree("scales and axes", scales.len(), axes.len())?;
    let mut shape = data.clone();
    for (&along, &scale) in axes.iter().zip(&scales) {
        let size = (data[along].size as f64 * scale).floor();
        if !(1.0..1e9).contains(&size) {
            return Err(Error::malformed(format!("a size of {size}")));
        }
        shape[along].size = size as usize;
        moved.extend((scale != 1.0).then_some(along));
    }
    cx.node_over(1, Resize { shape, moved, flow: Flow::Carry, target: None })
}

fn named_axes(cx: &Decoder<'_, '_>, rank: usize) -> Result<Vec<usize>> {
    match cx.ints("axes") {
        None => Ok((0..rank).collect()),
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect(),
    }
}

/// The axes of which a region of interest is cut out.
fn cropped(cx: &mut Decoder<'_, '_>, axes: &[usize]) -> Result<Vec<usize>> {
    let mode = cx.string("coordinate_transformation_mode");
    if mode.as_deref() != Some("tf_crop_and_resize") {
        return Ok(Vec::new());
    }
    let region = cx.numbers(1)?;
    agree("ends of the region and axes", region.len(), 2 * axes.len())?;
    let whole = |i: usize| region[i] == 0.0 && region[axes.len() + i] == 1.0;
    Ok(axes.iter().enumerate().filter(|&(i, _)| !whole(i)).map(|(_, &axis)| axis).collect())
}

/// The sizes that keep the ratio of the axes: one scale for all, the least or the largest.
fn keep_ratio(data: &[Extent], axes: &[usize], sizes: &[i64], least: bool) -> Result<Vec<Extent>> {
    agree("sizes and axes", sizes.len(), axes.len())?;
    let scales = axes.iter().zip(sizes).map(|(&a, &size)| size as f64 / data[a].size as f64);
    let scale = match least {
        true => scales.fold(f64::INFINITY, f64::min),
        false => scales.fold(0.0, f64::max),
    };
    let mut shape = data.to_vec();
    for &axis in axes {
        let size = (data[axis].size as f64 * scale).round();
        if !(1.0..1e9).contains(&size) {
            return Err(Error::malformed(format!("a size of {size}")));
        }
        shape[axis].size = size as usize;
    }
    Ok(shape)
}

/// The sizes of `axes` stand in input `slot`.
fn by_sizes(
    cx: &mut Decoder<'_, '_>,
    slot: u32,
    axes: Vec<usize>,
    moved: Vec<usize>,
    flow: Flow,
) -> Result<()> {
    let mut shape = cx.input_shape(0)?;
    let exprs = cx.exprs(slot as usize)?;
    agree("sizes and axes", exprs.len(), axes.len())?;
    for (&along, &expr) in axes.iter().zip(&exprs) {
        let (size, open) = cx.eval(expr)?;
        let size = usize::try_from(size).map_err(|_| Error::malformed("a negative size"))?;
        shape[along] = Extent { size, open };
    }
    let target = Some((Place::Input(slot), axes, exprs));
    cx.node_over(1, Resize { shape, moved, flow, target })
}

/// Axes cut or padded at both ends: nothing moves where the size stays.
fn decode_center(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let rank = cx.input_shape(0)?.len();
    let axes = named_axes(cx, rank)?;
    by_sizes(cx, 1, axes, Vec::new(), Flow::product([0], []))
}
