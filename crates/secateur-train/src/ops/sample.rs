//! Images read at computed places.

pub(crate) mod aten;

use super::{Decode, Inputs, Operator, sizes};
use crate::onnx::Node;
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// How elements around a place are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighing {
    /// The nearest one.
    Nearest,
    /// The two on either side of every axis, by straight lines.
    Linear,
    /// Four of every axis, by cubic curves (Keys, 1981, with a = -0.75).
    Cubic,
}

/// What stands outside of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// The outermost elements.
    Border,
    /// The image mirrored.
    Reflection,
}

/// Elements of data `[n, c, s…]` at the places of a grid `[n, t…, k]`, which counts from -1 to 1 and
/// from the last axis to the first.
#[derive(Clone, Copy, Debug)]
pub struct GridSample {
    /// How elements are weighed.
    pub weighing: Weighing,
    /// What stands outside.
    pub outside: Outside,
    /// Whether -1 and 1 are the middles of the outermost elements, and not their far ends.
    pub corners: bool,
}

/// What the place on one axis reads: positions, as far as there are any, and their weights.
type Tap<B> = (Vec<Option<usize>>, Real<B>);

impl Operator for GridSample {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, grid) = (inputs.real(0)?, inputs.real(1)?);
        let (shape, target) = (x.shape(), grid.shape());
        let axes = shape.len().saturating_sub(2);
        if axes == 0 || target.len() != shape.len() || target[axes + 1] != axes {
            return Err(Error::malformed(format!("a grid {target:?} over {shape:?}")));
        }
        let places: usize = target[1..=axes].iter().product();
        let grid = grid.reshape([shape[0] * places, axes]);
        let mut taps: Vec<Tap<B>> = vec![(
            (0..shape[0] * places).map(|at| Some(at / places.max(1))).collect(),
            Real::of(vec![1.0], vec![1, 1], &cx.device),
        )];
        for axis in 0..axes {
            let size = shape[axis + 2];
            let place = grid.clone().part(1, axes - 1 - axis, axes - axis);
            let own = self.taps(place, size)?;
            let cross = |(places, weight): &Tap<B>| -> Vec<Tap<B>> {
                let with = |(more, factor): &Tap<B>| {
                    let flat = places.iter().zip(more).map(|(a, b)| Some((*a)? * size + (*b)?));
                    (flat.collect(), weight.clone() * factor.clone())
                };
                own.iter().map(with).collect()
            };
            taps = taps.iter().flat_map(cross).collect();
        }
        let rows = rows_of_space(x);
        let mut result: Option<Real<B>> = None;
        for tap in taps {
            let part = weighed(&rows, tap)?;
            result = Some(match result {
                Some(sum) => sum + part,
                None => part,
            });
        }
        let result = result.ok_or_else(|| Error::malformed("nothing to read"))?;
        let result = result.reshape([shape[0], places, shape[1]]).permute(&[0, 2, 1]);
        Ok(vec![result.reshape([&shape[..2], &target[1..=axes]].concat()).into()])
    }
}

/// Data `[n, c, s…]` as rows of channels `[n·s, c]`.
pub(crate) fn rows_of_space<B: Engine>(x: Real<B>) -> Real<B> {
    let shape = x.shape();
    let space: usize = shape[2..].iter().product();
    let flat = x.reshape([shape[0], shape[1], space]).permute(&[0, 2, 1]);
    flat.reshape([shape[0] * space, shape[1]])
}

/// Rows at places, times weights; nothing where there is no place.
fn weighed<B: Engine>(rows: &Real<B>, (places, weight): Tap<B>) -> Result<Real<B>> {
    let device = rows.device();
    let seen = places.iter().map(|place| f32::from(u8::from(place.is_some()))).collect();
    let seen = Real::of(seen, vec![places.len(), 1], &device);
    let picks = places.iter().map(|place| place.unwrap_or(0) as i64).collect();
    Ok(rows.clone().rows(0, picks)? * (weight * seen))
}

impl GridSample {
    /// What places on an axis of `size` read.
    fn taps<B: Engine>(&self, place: Real<B>, size: usize) -> Result<Vec<Tap<B>>> {
        let last = size as f64 - 1.0;
        let place = match self.corners {
            true => (place + 1.0) * (last / 2.0),
            false => ((place + 1.0) * size as f64 - 1.0) * 0.5,
        };
        let found = place.to_vec()?;
        if self.weighing == Weighing::Nearest {
            let at = |&place: &f32| self.inside(f64::from(place.round_ties_even()), size);
            let one = Real::of(vec![1.0], vec![1, 1], &place.device());
            return Ok(vec![(found.iter().map(at).collect(), one)]);
        }
        let (place, found) = match self.weighing {
            Weighing::Linear => self.moved(place, found, size),
            _ => (place, found),
        };
        let floors: Vec<f32> = found.iter().map(|place| place.floor()).collect();
        let floor = Real::of(floors.clone(), place.shape(), &place.device());
        let part = place - floor;
        let (first, weights) = self.weights(part);
        let tap = |(index, weight)| {
            let offset = first + index as f64;
            let at = |&floor: &f32| self.inside(f64::from(floor) + offset, size);
            (floors.iter().map(at).collect(), weight)
        };
        Ok(weights.into_iter().enumerate().map(tap).collect())
    }

    /// Places outside moved in, where something stands there.
    fn moved<B: Engine>(
        &self,
        place: Real<B>,
        found: Vec<f32>,
        size: usize,
    ) -> (Real<B>, Vec<f32>) {
        if self.outside == Outside::Zeros {
            return (place, found);
        }
        let (mut slopes, mut offsets) = (Vec::new(), Vec::new());
        for &at in &found {
            let new = self.mapped(f64::from(at), size) as f32;
            let ends = [0.0, (size - 1) as f32];
            let slope = match new {
                _ if new == at => 1.0,
                _ if self.outside == Outside::Border || ends.contains(&new) => 0.0,
                _ => self.slope(f64::from(at), size),
            };
            slopes.push(slope);
            offsets.push(new - slope * at);
        }
        let new = found.iter().zip(&slopes).zip(&offsets);
        let new = new.map(|((at, slope), offset)| at * slope + offset).collect();
        let (shape, device) = (place.shape(), place.device());
        let slopes = Real::of(slopes, shape.clone(), &device);
        (place * slopes + Real::of(offsets, shape, &device), new)
    }

    /// The ends that mirrors stand at.
    fn mirrors(&self, size: usize) -> (f64, f64) {
        let last = size as f64 - 1.0;
        if self.corners { (0.0, last) } else { (-0.5, last + 0.5) }
    }

    /// Whether a mirrored place runs along or against.
    fn slope(&self, at: f64, size: usize) -> f32 {
        let (low, high) = self.mirrors(size);
        let turns = ((at - low) / (high - low).max(1e-9)).floor();
        if turns.rem_euclid(2.0) == 0.0 { 1.0 } else { -1.0 }
    }

    /// A place moved into the image, as far as anything stands outside.
    fn mapped(&self, at: f64, size: usize) -> f64 {
        let last = size as f64 - 1.0;
        match self.outside {
            Outside::Zeros => at,
            Outside::Border => at.clamp(0.0, last),
            Outside::Reflection => {
                let (low, high) = self.mirrors(size);
                let range = high - low;
                if range <= 0.0 {
                    return 0.0;
                }
                let way = (at - low).rem_euclid(2.0 * range);
                (low + if way > range { 2.0 * range - way } else { way }).clamp(0.0, last)
            }
        }
    }

    /// The element at a whole place, if there is one.
    fn inside(&self, at: f64, size: usize) -> Option<usize> {
        let at = self.mapped(at, size).round();
        (at >= 0.0 && at < size as f64).then_some(at as usize)
    }

    /// The first element that counts, from the one before the place, and how much it and those after
    /// it do.
    fn weights<B: Engine>(&self, part: Real<B>) -> (f64, Vec<Real<B>>) {
        let rest = -part.clone() + 1.0;
        if self.weighing == Weighing::Linear {
            return (0.0, vec![rest, part]);
        }
        let a = -0.75;
        let near = |x: Real<B>| {
            let square = x.clone().square();
            (x * (a + 2.0) - (a + 3.0)) * square + 1.0
        };
        let far = |x: Real<B>| ((x.clone() * a - 5.0 * a) * x.clone() + 8.0 * a) * x - 4.0 * a;
        let outer = [part.clone() + 1.0, rest.clone() + 1.0].map(far);
        let inner = [part, rest].map(near);
        let ([first, last], [second, third]) = (outer, inner);
        (-1.0, vec![first, second, third, last])
    }
}

/// The grid that maps an image through matrices `[n, k, k + 1]`; operand 1 gives its shape.
#[derive(Clone, Copy, Debug)]
pub struct AffineGrid {
    /// Whether -1 and 1 are the middles of the outermost elements.
    pub corners: bool,
}

impl Operator for AffineGrid {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (maps, target) = (inputs.real(0)?, sizes(&inputs.ints(1)?)?);
        let (shape, space) = (maps.shape(), target.get(2..).unwrap_or_default());
        let axes = space.len();
        if shape.len() != 3 || shape[1..] != [axes, axes + 1] || shape[0] != target[0] {
            return Err(Error::malformed(format!("maps {shape:?} for {target:?}")));
        }
        let count: usize = space.iter().product();
        let mut points = Vec::with_capacity(count * (axes + 1));
        for at in 0..count {
            let mut rest = at;
            for &size in space.iter().rev() {
                let (place, size) = ((rest % size) as f32, size as f32);
                rest /= size as usize;
                points.push(match self.corners {
                    true if size == 1.0 => 0.0,
                    true => 2.0 * place / (size - 1.0) - 1.0,
                    false => (2.0 * place + 1.0) / size - 1.0,
                });
            }
            points.push(1.0);
        }
        let points = Real::of(points, vec![1, count, axes + 1], &cx.device);
        let grid = points.matmul(maps.transpose())?;
        Ok(vec![grid.reshape([&[shape[0]], space, &[axes]].concat()).into()])
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("GridSample", |node| grid_sample(node).map(Into::into)),
    ("AffineGrid", |node| Ok(AffineGrid { corners: node.int("align_corners", 0) != 0 }.into())),
];

fn grid_sample(node: &Node<'_>) -> Result<GridSample> {
    let weighing = match node.string("mode").as_deref() {
        None | Some("linear" | "bilinear") => Weighing::Linear,
        Some("cubic" | "bicubic") => Weighing::Cubic,
        Some("nearest") => Weighing::Nearest,
        Some(other) => return Err(Error::malformed(format!("`mode` is `{other}`"))),
    };
    let outside = match node.string("padding_mode").as_deref() {
        None | Some("zeros") => Outside::Zeros,
        Some("border") => Outside::Border,
        Some("reflection") => Outside::Reflection,
        Some(other) => return Err(Error::malformed(format!("`padding_mode` is `{other}`"))),
    };
    Ok(GridSample { weighing, outside, corners: node.int("align_corners", 0) != 0 })
}
