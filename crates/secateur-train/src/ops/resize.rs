//! Interpolation, as one matrix per axis.

use super::{Decode, Inputs, Operator, axis, sizes};
use crate::onnx::Node;
use crate::{Context, Engine, Error, Result, Value};

/// How numbers between positions are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The nearest position; how halves are rounded.
    Nearest(Rounding),
    /// Straight lines.
    Linear,
    /// Cubic curves with this coefficient.
    Cubic(f64),
}

/// How a position between two is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// Where a new position stands among the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// Interpolation to the scales or sizes that operands give.
#[derive(Clone, Debug)]
pub struct Resize {
    /// How numbers are made.
    pub method: Method,
    /// Where they stand.
    pub coordinates: Coordinates,
    /// The axes that are given; all where there are none.
    pub axes: Option<Vec<i64>>,
    /// The operands that hold scales and sizes.
    pub slots: (usize, usize),
}

impl Operator for Resize {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.take(0)?;
        let shape = x.shape();
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|&a| axis(a, shape.len())).collect::<Result<Vec<_>>>()?,
            None => (0..shape.len()).collect(),
        };
        let scales = inputs.optional(self.slots.0).map(Value::to_floats).transpose()?;
        let scales = scales.filter(|scales| !scales.is_empty());
        let new = inputs.optional(self.slots.1).map(Value::to_ints).transpose()?;
        let targets: Vec<(usize, f64)> = match (scales, new.filter(|new| !new.is_empty())) {
            (_, Some(new)) => {
                let new = sizes(&new)?;
                let scale =
                    |(&axis, &size): (&usize, &usize)| (size, size as f64 / shape[axis] as f64);
                axes.iter().zip(&new).map(scale).collect()
            }
            (Some(scales), None) => {
                let size = |(&axis, &scale): (&usize, &f32)| {
                    let scale = f64::from(scale);
                    ((shape[axis] as f64 * scale).floor() as usize, scale)
                };
                axes.iter().zip(&scales).map(size).collect()
            }
            (None, None) => return Err(Error::malformed("neither scales nor sizes")),
        };
        if targets.len() != axes.len() {
            return Err(Error::malformed("scales or sizes do not fit the axes"));
        }
        for (&axis, (size, scale)) in axes.iter().zip(targets) {
            if size == shape[axis] && scale == 1.0 {
                continue;
            }
            if size == 0 || shape[axis] == 0 {
                return Err(Error::malformed(format!("{} resized to {size}", shape[axis])));
            }
            x = self.resize(x, axis, size, scale, cx)?;
        }
        Ok(vec![x])
    }
}

impl Resize {
    fn resize<B: Engine>(
        &self,
        x: Value<B>,
        axis: usize,
        size: usize,
        scale: f64,
        cx: &Context<B>,
    ) -> Result<Value<B>> {
        let shape = x.shape();
        let old = shape[axis];
        if let Method::Nearest(rounding) = self.method {
            let pick = |at: usize| {
                let place = self.place(at, size, old, scale);
                let place = match rounding {
                    Rounding::PreferFloor => (place - 0.5).ceil(),
                    Rounding::PreferCeil => (place + 0.5).floor(),
                    Rounding::Floor => place.floor(),
                    Rounding::Ceil => place.ceil(),
                };
                place.clamp(0.0, (old - 1) as f64) as i64
            };
            let picks = (0..size).map(pick).collect();
            let picks = Value::<B>::of_ints(picks, vec![size], &cx.device).int()?;
            return Ok(super::index::select(x, axis, picks));
        }
        let mut matrix = vec![0.0_f32; size * old];
        for at in 0..size {
            let place = self.place(at, size, old, scale);
            let floor = place.floor();
            let part = place - floor;
            let (first, weights) = self.weights(floor as i64, part);
            for (offset, weight) in weights.iter().enumerate() {
                let from = (first + offset as i64).clamp(0, old as i64 - 1) as usize;
                matrix[at * old + from] += *weight as f32;
            }
        }
        let matrix = Value::<B>::of_floats(matrix, vec![size, old], &cx.device).float()?;
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        let result = match inner {
            1 => {
                let rows = x.reshape(vec![outer, old]).float()?;
                B::float_matmul(rows, B::float_transpose(matrix))
            }
            _ => {
                let matrix = B::float_reshape(matrix, vec![1, size, old].into());
                B::float_matmul(matrix, x.reshape(vec![outer, old, inner]).float()?)
            }
        };
        let shape = [&shape[..axis], &[size], &shape[axis + 1..]].concat();
        Ok(Value::<B>::Float(result).reshape(shape))
    }

    /// The old position of a new one.
    fn place(&self, at: usize, new: usize, old: usize, scale: f64) -> f64 {
        let at = at as f64;
        match self.coordinates {
            Coordinates::HalfPixel => (at + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel if new == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (at + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = new as f64 / (scale * old as f64);
                let center = old as f64 / 2.0;
                center * (1.0 - adjustment) + (at + 0.5) / scale - 0.5
            }
            Coordinates::AlignCorners if new == 1 => 0.0,
            Coordinates::AlignCorners => at * (old - 1) as f64 / (new - 1) as f64,
            Coordinates::Asymmetric => at / scale,
        }
    }

    /// The first position that counts, and how much it and those after it do.
    fn weights(&self, floor: i64, part: f64) -> (i64, Vec<f64>) {
        match self.method {
            Method::Cubic(a) => {
                let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
                let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
                let weights = vec![far(part + 1.0), near(part), near(1.0 - part), far(2.0 - part)];
                (floor - 1, weights)
            }
            _ => (floor, vec![1.0 - part, part]),
        }
    }
}

/// How ONNX spells interpolation.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Resize", |node| resize(node, if node.opset < 11 { (1, 9) } else { (2, 3) })),
    ("Upsample", |node| resize(node, (1, 9))),
];

fn resize(node: &Node<'_>, slots: (usize, usize)) -> Result<super::Op> {
    let text = |name: &str, default: &str| node.string(name).unwrap_or_else(|| default.to_string());
    if node.int("antialias", 0) != 0 || node.int("exclude_outside", 0) != 0 {
        return Err(Error::unsupported("`antialias` and `exclude_outside`"));
    }
    if text("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return Err(Error::unsupported("`keep_aspect_ratio_policy`"));
    }
    let old = node.opset < 11;
    let rounding =
        match text("nearest_mode", if old { "floor" } else { "round_prefer_floor" }).as_str() {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return Err(Error::malformed(format!("`nearest_mode` is `{other}`"))),
        };
    let method = match text("mode", "nearest").as_str() {
        "nearest" => Method::Nearest(rounding),
        "linear" | "bilinear" => Method::Linear,
        "cubic" => Method::Cubic(node.float("cubic_coeff_a", -0.75)),
        other => return Err(Error::malformed(format!("`mode` is `{other}`"))),
    };
    let coordinates =
        text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" });
    let coordinates = match coordinates.as_str() {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        other => return Err(Error::unsupported(format!("coordinates of the mode `{other}`"))),
    };
    Ok(Resize { method, coordinates, axes: node.ints("axes"), slots }.into())
}
