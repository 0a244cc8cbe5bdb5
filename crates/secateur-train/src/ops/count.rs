//! Operators whose results are as long as the data decides.

pub(crate) mod aten;

use super::index::select;
use super::{Decode, Inputs, Operator, axis};
use crate::{Context, Engine, Error, Result, Value};

/// The positions of an axis (or of all elements) where operand 1 holds.
#[derive(Clone, Copy, Debug)]
pub struct Compress {
    /// The axis.
    pub axis: Option<i64>,
}

impl Operator for Compress {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, holds) = (inputs.take(0)?, inputs.ints(1)?);
        let shape = x.shape();
        let (x, along) = match self.axis {
            Some(given) => (x, axis(given, shape.len())?),
            None => (x.reshape(vec![shape.iter().product()]), 0),
        };
        let size = x.shape()[along];
        let held = holds.iter().take(size).enumerate().filter(|(_, holds)| **holds != 0);
        let picks: Vec<i64> = held.map(|(at, _)| at as i64).collect();
        let count = picks.len();
        let picks = Value::<B>::of_ints(picks, vec![count], &cx.device).int()?;
        Ok(vec![select(x, along, picks)])
    }
}

/// How many elements are in each of some bins of one width; the last one has its end. What is outside
/// counts nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    /// Their number.
    pub bins: usize,
    /// Where the first begins and the last ends; where that is one place, the least and the largest
    /// element.
    pub range: (f64, f64),
}

impl Operator for Histogram {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let values = numbers(&x)?;
        let (mut low, mut high) = self.range;
        if low == high && !values.is_empty() {
            low = values.iter().copied().fold(f64::INFINITY, f64::min);
            high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        }
        if low == high {
            (low, high) = (low - 1.0, high + 1.0);
        }
        let mut counts = vec![0_i64; self.bins];
        for value in values.into_iter().filter(|value| (low..=high).contains(value)) {
            let bin = ((value - low) / (high - low) * self.bins as f64) as usize;
            counts[bin.min(self.bins - 1)] += 1;
        }
        let counts = Value::<B>::of_ints(counts, vec![self.bins], &cx.device);
        Ok(vec![match x {
            Value::Float(_) => Value::Float(counts.to_float()),
            _ => counts,
        }])
    }
}

/// The slices along an axis (or the elements) without repetition; where each stands first, which one
/// every slice is, and how often each stands there.
#[derive(Clone, Copy, Debug)]
pub struct Unique {
    /// The axis.
    pub axis: Option<i64>,
    /// Whether they are sorted; else they stand as they come.
    pub sorted: bool,
}

impl Operator for Unique {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let (x, along) = match self.axis {
            Some(given) => (x, axis(given, shape.len())?),
            None => (x.reshape(vec![shape.iter().product()]), 0),
        };
        let shape = x.shape();
        let inner: usize = shape[along + 1..].iter().product();
        let size = shape[along];
        let mut slices: Vec<Vec<f64>> = vec![Vec::new(); size];
        for (at, number) in numbers(&x)?.into_iter().enumerate() {
            slices[at / inner % size].push(number);
        }
        let mut order: Vec<usize> = (0..size).collect();
        let compare = |a: &Vec<f64>, b: &Vec<f64>| {
            let pairs = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
            pairs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
        };
        order.sort_by(|&a, &b| compare(&slices[a], &slices[b]));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for at in order {
            match groups.last_mut() {
                Some(group) if slices[group[0]] == slices[at] => group.push(at),
                _ => groups.push(vec![at]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|group| group[0]);
        }
        let mut which = vec![0; size];
        for (index, group) in groups.iter().enumerate() {
            group.iter().for_each(|&at| which[at] = index as i64);
        }
        let firsts: Vec<i64> = groups.iter().map(|group| group[0] as i64).collect();
        let counts = groups.iter().map(|group| group.len() as i64).collect();
        let list = |values: Vec<i64>| {
            let count = values.len();
            Value::<B>::of_ints(values, vec![count], &cx.device)
        };
        let unique = select(x, along, list(firsts.clone()).int()?);
        Ok(vec![unique, list(firsts), list(which), list(counts)])
    }
}

fn numbers<B: Engine>(x: &Value<B>) -> Result<Vec<f64>> {
    Ok(match x {
        Value::Float(_) => x.clone().to_floats()?.into_iter().map(f64::from).collect(),
        _ => x.clone().to_ints()?.into_iter().map(|number| number as f64).collect(),
    })
}

/// Boxes `[n, boxes, 4]` of the highest scores `[n, classes, boxes]` that do not overlap; operands 2
/// to 4 give the most per class, the overlap that is allowed, and the least score.
#[derive(Clone, Copy, Debug)]
pub struct NonMaxSuppression {
    /// Whether boxes are given by their center and size.
    pub centered: bool,
}

impl Operator for NonMaxSuppression {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (boxes, scores) = (inputs.take(0)?, inputs.take(1)?);
        let shape = scores.shape();
        let [n, classes, count] = shape[..] else {
            return Err(Error::malformed(format!("scores {shape:?}")));
        };
        if boxes.shape() != [n, count, 4] {
            return Err(Error::malformed(format!("boxes {:?} for {shape:?}", boxes.shape())));
        }
        let most = inputs.optional(2).map(Value::to_ints).transpose()?;
        let most = most.and_then(|most| most.first().copied()).unwrap_or(0).max(0) as usize;
        let mut number = |index: usize| -> Result<Option<f32>> {
            let given = inputs.optional(index).map(Value::to_floats).transpose()?;
            Ok(given.and_then(|given| given.first().copied()))
        };
        let (overlap, least) = (number(3)?.unwrap_or(0.0), number(4)?);
        let (boxes, scores) = (boxes.to_floats()?, scores.to_floats()?);
        let corners: Vec<[f32; 4]> = boxes.chunks_exact(4).map(|b| self.corners(b)).collect();
        let mut found = Vec::new();
        for row in 0..n * classes {
            let scores = &scores[row * count..][..count];
            let corners = &corners[row / classes * count..][..count];
            let mut order: Vec<usize> = (0..count).collect();
            order.retain(|&at| least.is_none_or(|least| scores[at] > least));
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let mut kept: Vec<usize> = Vec::new();
            for at in order {
                let is_far = |&other: &usize| shared(&corners[at], &corners[other]) <= overlap;
                if kept.len() < most && kept.iter().all(is_far) {
                    kept.push(at);
                }
            }
            let place = |at: usize| [row / classes, row % classes, at].map(|place| place as i64);
            found.extend(kept.into_iter().flat_map(place));
        }
        let count = found.len() / 3;
        Ok(vec![Value::of_ints(found, vec![count, 3], &cx.device)])
    }
}

impl NonMaxSuppression {
    /// The least and the largest corner.
    fn corners(&self, numbers: &[f32]) -> [f32; 4] {
        let [a, b, c, d] = [numbers[0], numbers[1], numbers[2], numbers[3]];
        match self.centered {
            true => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
            false => [a.min(c), b.min(d), a.max(c), b.max(d)],
        }
    }
}

/// The area of what is common to two boxes, by the area of both together.
fn shared(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |axis: usize| (a[axis + 2].min(b[axis + 2]) - a[axis].max(b[axis])).max(0.0);
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let common = side(0) * side(1);
    let all = area(a) + area(b) - common;
    if area(a) <= 0.0 || area(b) <= 0.0 || all <= 0.0 { 0.0 } else { common / all }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    (
        "Compress",
        |node| Ok(Compress { axis: node.has("axis").then(|| node.int("axis", 0)) }.into()),
    ),
    ("Unique", |node| {
        let axis = node.has("axis").then(|| node.int("axis", 0));
        Ok(Unique { axis, sorted: node.int("sorted", 1) != 0 }.into())
    }),
    ("NonMaxSuppression", |node| {
        Ok(NonMaxSuppression { centered: node.int("center_point_box", 0) != 0 }.into())
    }),
];
