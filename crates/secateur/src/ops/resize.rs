//! Interpolation to another size.

use super::{Fit, NewSizes, Operator, Place, Shapes, agree, axis, letter, operand};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};

/// Data interpolated to a shape.
#[derive(Clone, Debug)]
pub struct Resize {
    /// The new shape.
    pub shape: Vec<Extent>,
    /// The axes whose sizes the source spells, where, and how; nothing where it spells scales.
    pub target: Option<(Place, Vec<usize>, Vec<ExprId>)>,
}

impl Operator for Resize {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        let data = operand(shapes, 0)?;
        agree("ranks", data.len(), self.shape.len())?;
        let mut r = Rule::new("resize");
        let (mut dims, mut result): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
        for (index, (&from, &to)) in data.iter().zip(&self.shape).enumerate() {
            if from.size == to.size {
                let factor = r.free(letter(index), from);
                dims.push(factor.into());
                result.push(factor.into());
            } else {
                let reason = "it is interpolated";
                dims.push(r.fixed(letter(index), from, reason).into());
                result.push(r.fixed(letter(index) + "'", to, reason).into());
            }
        }
        r.operand(Use::Data, dims);
        r.result(result);
        r.flow = Flow::Carry;
        Ok(r)
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        let Some((place, axes, exprs)) = &self.target else { return Vec::new() };
        let shape = sizes.result(0);
        let want: Vec<i64> = axes.iter().map(|&axis| shape[axis]).collect();
        let whole = axes.iter().all(|&axis| !self.shape[axis].dynamic).then(|| want.clone());
        let exprs = exprs.iter().copied().map(Some).collect();
        vec![Fit { place: *place, exprs, want, whole, shape: None }]
    }
}

/// How ONNX spells it.
pub(crate) const ONNX: &[(&str, Decode)] = &[("Resize", decode), ("Upsample", decode)];

fn decode(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let policy = cx.string("keep_aspect_ratio_policy");
    if policy.is_some_and(|policy| policy != "stretch") {
        return Err(Error::unsupported("`keep_aspect_ratio_policy`"));
    }
    let axes = match cx.ints("axes") {
        None => (0..data.len()).collect(),
        Some(axes) => axes.iter().map(|&a| axis(a, data.len())).collect::<Result<Vec<_>>>()?,
    };
    let mode = cx.string("coordinate_transformation_mode");
    if mode.as_deref() == Some("tf_crop_and_resize") {
        return Err(Error::unsupported("`tf_crop_and_resize`"));
    }
    let mut shape = data.clone();
    let by_size = cx.opset() >= 11 && cx.has(3);
    if by_size {
        let exprs = cx.exprs(3)?;
        agree("sizes and axes", exprs.len(), axes.len())?;
        for (&along, &expr) in axes.iter().zip(&exprs) {
            let (size, dynamic) = cx.eval(expr)?;
            let size = usize::try_from(size).map_err(|_| Error::malformed("a negative size"))?;
            shape[along] = Extent { size, dynamic };
        }
        return cx.node_over(1, Resize { shape, target: Some((Place::Input(3), axes, exprs)) });
    }
    let scales = match cx.floats("scales") {
        Some(scales) => scales.into_iter().map(f64::from).collect(),
        None => cx.numbers(if cx.opset() >= 11 { 2 } else { 1 })?,
    };
    agree("scales and axes", scales.len(), axes.len())?;
    for (&along, &scale) in axes.iter().zip(&scales) {
        let size = (data[along].size as f64 * scale).floor();
        if !(1.0..1e9).contains(&size) {
            return Err(Error::malformed(format!("a size of {size}")));
        }
        shape[along].size = size as usize;
    }
    cx.node_over(1, Resize { shape, target: None })
}
