//! Interpolation, as one matrix per axis.

pub(crate) mod aten;

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
    /// Within the part that an operand gives.
    Crop,
}

/// How sizes that are given follow the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every axis has the size that is given.
    Stretch,
    /// All axes have one scale, so that none is larger.
    NotLarger,
    /// All axes have one scale, so that none is smaller.
    NotSmaller,
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
    /// How sizes follow the old ones.
    pub policy: Policy,
    /// Whether as many elements count as come together in one.
    pub antialias: bool,
    /// Whether elements beyond the ends do not count, and not as the outermost ones.
    pub exclude: bool,
    /// What stands beyond the ends of a part.
    pub beyond: f64,
}

/// One axis, and what becomes of it.
struct Target {
    axis: usize,
    old: usize,
    size: usize,
    scale: f64,
    /// The part that is taken, in shares of the axis.
    part: (f64, f64),
}

impl Operator for Resize {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let mut x = inputs.take(0)?;
        let shape = x.shape();
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|&a| axis(a, shape.len())).collect::<Result<Vec<_>>>()?,
            None => (0..shape.len()).collect(),
        };
        let crops = self.coordinates == Coordinates::Crop;
        let parts = if crops { inputs.optional(1) } else { None };
        let parts = parts.map(Value::to_floats).transpose()?;
        let parts = parts.unwrap_or_default();
        let part = |index: usize| {
            let end = parts.get(axes.len() + index).copied().unwrap_or(1.0);
            (f64::from(parts.get(index).copied().unwrap_or(0.0)), f64::from(end))
        };
        let scales = inputs.optional(self.slots.0).map(Value::to_floats).transpose()?;
        let scales = scales.filter(|scales| !scales.is_empty());
        let new = inputs.optional(self.slots.1).map(Value::to_ints).transpose()?;
        let targets: Vec<(usize, f64)> = match (scales, new.filter(|new| !new.is_empty())) {
            (_, Some(new)) => {
                let new = sizes(&new)?;
                let scale = |(&axis, &size): (&usize, &usize)| size as f64 / shape[axis] as f64;
                let own: Vec<f64> = axes.iter().zip(&new).map(scale).collect();
                let common = match self.policy {
                    Policy::Stretch => None,
                    Policy::NotLarger => own.iter().copied().reduce(f64::min),
                    Policy::NotSmaller => own.iter().copied().reduce(f64::max),
                };
                let size = |(index, &axis): (usize, &usize)| match common {
                    None => (new[index], own[index]),
                    Some(scale) => ((scale * shape[axis] as f64 + 0.5).floor() as usize, scale),
                };
                axes.iter().enumerate().take(new.len()).map(size).collect()
            }
            (Some(scales), None) => {
                let size = |(index, (&axis, &scale)): (usize, (&usize, &f32))| {
                    let ((start, end), scale) = (part(index), f64::from(scale));
                    ((shape[axis] as f64 * (end - start) * scale).floor() as usize, scale)
                };
                axes.iter().zip(&scales).enumerate().map(size).collect()
            }
            (None, None) => return Err(Error::malformed("neither scales nor sizes")),
        };
        if targets.len() != axes.len() {
            return Err(Error::malformed("scales or sizes do not fit the axes"));
        }
        for (index, (&axis, (size, scale))) in axes.iter().zip(targets).enumerate() {
            if size == shape[axis] && scale == 1.0 && part(index) == (0.0, 1.0) {
                continue;
            }
            if size == 0 || shape[axis] == 0 {
                return Err(Error::malformed(format!("{} resized to {size}", shape[axis])));
            }
            let target = Target { axis, old: shape[axis], size, scale, part: part(index) };
            x = self.resize(x, &target, cx)?;
            x = self.extrapolated(x, &target, cx)?;
        }
        Ok(vec![x])
    }
}

impl Resize {
    fn resize<B: Engine>(&self, x: Value<B>, target: &Target, cx: &Context<B>) -> Result<Value<B>> {
        let shape = x.shape();
        let &Target { axis, old, size, .. } = target;
        if let Method::Nearest(rounding) = self.method {
            let pick = |at: usize| {
                let place = self.place(at, target);
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
            for (from, weight) in self.taps(at, target) {
                matrix[at * old + from] += weight as f32;
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

    /// The number that stands beyond the ends of the axis, where a part reaches there.
    fn extrapolated<B: Engine>(
        &self,
        x: Value<B>,
        target: &Target,
        cx: &Context<B>,
    ) -> Result<Value<B>> {
        let is_out = |at: usize| {
            let place = self.place(at, target);
            place < 0.0 || place > (target.old - 1) as f64
        };
        let out: Vec<bool> = (0..target.size).map(is_out).collect();
        if self.coordinates != Coordinates::Crop || !out.contains(&true) {
            return Ok(x);
        }
        let shape = x.shape();
        let mut along = vec![1; shape.len()];
        along[target.axis] = target.size;
        let mask = Value::<B>::of_bools(out, along, &cx.device);
        let mask = super::shape::expand(mask, shape).bool()?;
        Ok(Value::Float(B::float_mask_fill(x.float()?, mask, self.beyond.into())))
    }

    /// The old positions that a new one is made of, and how much of each.
    fn taps(&self, at: usize, target: &Target) -> Vec<(usize, f64)> {
        let place = self.place(at, target);
        let last = target.old as i64 - 1;
        let (first, weights) = match self.antialias && target.scale < 1.0 {
            true => self.spread(place, target.scale),
            false => self.weights(place.floor() as i64, place - place.floor()),
        };
        let places = (first..).zip(weights);
        let inside = |place: i64| !self.exclude || (0..=last).contains(&place);
        let taps: Vec<(usize, f64)> = places
            .filter(|&(place, _)| inside(place))
            .map(|(place, weight)| (place.clamp(0, last) as usize, weight))
            .collect();
        let total: f64 = taps.iter().map(|tap| tap.1).sum();
        taps.into_iter().map(|(place, weight)| (place, weight / total)).collect()
    }

    /// The same as [`Resize::weights`] for curves that are as much wider as the scale is smaller.
    fn spread(&self, place: f64, scale: f64) -> (i64, Vec<f64>) {
        let reach = if matches!(self.method, Method::Cubic(_)) { 2.0 } else { 1.0 } / scale;
        let (first, last) = ((place - reach).floor() as i64 + 1, (place + reach).ceil() as i64);
        let weight = |at: i64| {
            let distance = ((at as f64 - place) * scale).abs();
            match self.method {
                Method::Cubic(a) => match distance {
                    _ if distance < 1.0 => near(a, distance),
                    _ if distance < 2.0 => far(a, distance),
                    _ => 0.0,
                },
                _ => (1.0 - distance).max(0.0),
            }
        };
        (first, (first..last).map(weight).collect())
    }

    /// The old position of a new one, in the precision that other runtimes round in.
    fn place(&self, at: usize, target: &Target) -> f64 {
        let (at, new, old, scale) = (at as f32, target.size, target.old, target.scale as f32);
        f64::from(self.found(at, new, old, scale, target.part))
    }

    fn found(&self, at: f32, new: usize, old: usize, scale: f32, part: (f64, f64)) -> f32 {
        match self.coordinates {
            Coordinates::HalfPixel => (at + 0.5) / scale - 0.5,
            Coordinates::PytorchHalfPixel if new == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (at + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = new as f32 / (scale * old as f32);
                let center = old as f32 / 2.0;
                center * (1.0 - adjustment) + (at + 0.5) / scale - 0.5
            }
            Coordinates::AlignCorners if new == 1 => 0.0,
            Coordinates::AlignCorners => at * (old - 1) as f32 / (new - 1) as f32,
            Coordinates::Asymmetric => at / scale,
            Coordinates::Crop => {
                let (start, end, last) = (part.0 as f32, part.1 as f32, (old - 1) as f32);
                match new {
                    1 => 0.5 * (start + end) * last,
                    _ => start * last + at * (end - start) * last / (new - 1) as f32,
                }
            }
        }
    }

    /// The first position that counts, and how much it and those after it do.
    fn weights(&self, floor: i64, part: f64) -> (i64, Vec<f64>) {
        match self.method {
            Method::Cubic(a) => {
                let inner = [near(a, part), near(a, 1.0 - part)];
                let weights = vec![far(a, part + 1.0), inner[0], inner[1], far(a, 2.0 - part)];
                (floor - 1, weights)
            }
            _ => (floor, vec![1.0 - part, part]),
        }
    }
}

/// A cubic curve up to a distance of 1: Keys, 1981.
fn near(a: f64, x: f64) -> f64 {
    ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
}

/// The same from there to 2.
fn far(a: f64, x: f64) -> f64 {
    ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
}

/// How ONNX spells interpolation.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("Resize", |node| resize(node, if node.opset < 11 { (1, 9) } else { (2, 3) })),
    ("Upsample", |node| resize(node, (1, 9))),
];

fn resize(node: &Node<'_>, slots: (usize, usize)) -> Result<super::Op> {
    let text = |name: &str, default: &str| node.string(name).unwrap_or_else(|| default.to_string());
    let policy = match text("keep_aspect_ratio_policy", "stretch").as_str() {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        other => return Err(Error::malformed(format!("`keep_aspect_ratio_policy` is `{other}`"))),
    };
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
        "tf_crop_and_resize" => Coordinates::Crop,
        other => return Err(Error::unsupported(format!("coordinates of the mode `{other}`"))),
    };
    Ok(Resize {
        method,
        coordinates,
        axes: node.ints("axes"),
        slots,
        policy,
        antialias: node.int("antialias", 0) != 0,
        exclude: node.int("exclude_outside", 0) != 0,
        beyond: node.float("extrapolation_value", 0.0),
    }
    .into())
}
