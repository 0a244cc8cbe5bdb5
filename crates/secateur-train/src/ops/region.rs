//! Regions of images, brought to one size.

pub(crate) mod aten;

use super::sample::rows_of_space;
use super::{Decode, Inputs, Operator, sizes};
use crate::real::Real;
use crate::{Context, Engine, Error, Result, Value};

/// Places that one element of the result reads, with weights.
type Reads = Vec<(usize, f32)>;

/// What is made of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The mean.
    Mean,
    /// The largest.
    Largest,
}

/// Regions `[r, 4]` of images `[n, c, h, w]`, each of the image that operand 2 gives, read between
/// elements: He et al., "Mask R-CNN", 2017.
#[derive(Clone, Copy, Debug)]
pub struct RoiAlign {
    /// What is made of what is read.
    pub taken: Taken,
    /// Rows and columns of the result.
    pub size: [usize; 2],
    /// How many places are read per row and column; 0 for as many as there are elements.
    pub samples: usize,
    /// What regions are multiplied by.
    pub scale: f32,
    /// Whether the middle of the first element stands at a half.
    pub half: bool,
}

impl Operator for RoiAlign {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, regions) = (inputs.real(0)?, inputs.real(1)?.to_vec()?);
        let images = inputs.ints(2)?;
        let shape = x.shape();
        let [n, c, h, w] = shape[..] else {
            return Err(Error::malformed(format!("regions of {shape:?}")));
        };
        let mut reads = Vec::new();
        for (region, &image) in regions.chunks_exact(4).zip(&images) {
            let image = usize::try_from(image).ok().filter(|&image| image < n);
            let image = image.ok_or_else(|| Error::argument("a region of no image"))?;
            reads.extend(self.reads([region[0], region[1], region[2], region[3]], image, [h, w]));
        }
        let result = read(&rows_of_space(x), &reads, self.taken)?;
        let [rows, columns] = self.size;
        let count = images.len();
        if reads.is_empty() {
            return Ok(vec![Real::<B>::zeros(vec![0, c, rows, columns], &cx.device).into()]);
        }
        Ok(vec![result.reshape([count, rows, columns, c]).permute(&[0, 3, 1, 2]).into()])
    }
}

impl RoiAlign {
    fn reads(&self, region: [f32; 4], image: usize, [h, w]: [usize; 2]) -> Vec<Reads> {
        let offset = if self.half { 0.5 } else { 0.0 };
        let [left, top, right, bottom] = region.map(|place| place * self.scale - offset);
        let least = |size: f32| if self.half { size } else { size.max(1.0) };
        let extents = [least(bottom - top), least(right - left)];
        let steps = [0, 1].map(|axis| extents[axis] / self.size[axis] as f32);
        let counts = steps.map(|step| match self.samples {
            0 => (step.ceil() as usize).max(usize::from(!self.half)),
            samples => samples,
        });
        let total = (counts[0] * counts[1]).max(1) as f32;
        let mut all = Vec::new();
        for cell in 0..self.size[0] * self.size[1] {
            let cell = [cell / self.size[1], cell % self.size[1]];
            let mut reads = Vec::new();
            for sample in 0..counts[0] * counts[1] {
                let sample = [sample / counts[1], sample % counts[1]];
                let [y, x] = [0, 1].map(|axis| {
                    let part = (sample[axis] as f32 + 0.5) / counts[axis] as f32;
                    [top, left][axis] + (cell[axis] as f32 + part) * steps[axis]
                });
                let [Some(ys), Some(xs)] = [between(y, h), between(x, w)] else { continue };
                for (row, near) in ys {
                    for (column, part) in xs {
                        reads.push(((image * h + row) * w + column, near * part));
                    }
                }
            }
            if self.taken == Taken::Mean {
                reads.iter_mut().for_each(|read| read.1 /= total);
            }
            all.push(reads);
        }
        all
    }
}

/// The two elements around a place, with their weights.
fn between(at: f32, size: usize) -> Option<[(usize, f32); 2]> {
    if at < -1.0 || at > size as f32 {
        return None;
    }
    let at = at.max(0.0);
    let low = (at as usize).min(size - 1);
    let high = (low + 1).min(size - 1);
    let part = if low == size - 1 { 0.0 } else { at - low as f32 };
    Some([(low, 1.0 - part), (high, part)])
}

/// What is read of rows, as `[reads, c]`; nothing read is zero.
fn read<B: Engine>(rows: &Real<B>, reads: &[Reads], taken: Taken) -> Result<Real<B>> {
    let most = reads.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let (mut picks, mut weights) = (Vec::new(), Vec::new());
    for list in reads {
        // What is missing is read again where the largest counts, and has no weight else.
        let filler = match (taken, list.first()) {
            (Taken::Largest, Some(&first)) => first,
            _ => (0, 0.0),
        };
        for index in 0..most {
            let (place, weight) = list.get(index).copied().unwrap_or(filler);
            picks.push(place as i64);
            weights.push(weight);
        }
    }
    let (count, c) = (reads.len(), rows.size(1));
    let weights = Real::of(weights, vec![count * most, 1], &rows.device());
    let all = (rows.clone().rows(0, picks)? * weights).reshape([count, most, c]);
    let result = match taken {
        Taken::Mean => all.sum(1),
        Taken::Largest => Real(B::float_max_dim(all.0, 1)),
    };
    Ok(result.reshape([count, c]))
}

/// The largest elements of the cells of regions `[r, 5]`, whose first number is the image: Girshick,
/// "Fast R-CNN", 2015.
#[derive(Clone, Copy, Debug)]
pub struct MaxRoiPool {
    /// Rows and columns of the result.
    pub size: [usize; 2],
    /// What regions are multiplied by.
    pub scale: f32,
}

impl Operator for MaxRoiPool {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let (x, regions) = (inputs.real(0)?, inputs.real(1)?.to_vec()?);
        let shape = x.shape();
        let [n, c, h, w] = shape[..] else {
            return Err(Error::malformed(format!("regions of {shape:?}")));
        };
        let mut reads = Vec::new();
        for region in regions.chunks_exact(5) {
            let image = region[0] as usize;
            if image >= n {
                return Err(Error::argument("a region of no image"));
            }
            let place = |index: usize| (region[index] * self.scale).round() as i64;
            let [left, top, right, bottom] = [1, 2, 3, 4].map(place);
            let rows = cells(top, bottom, self.size[0], h);
            let columns = cells(left, right, self.size[1], w);
            for rows in &rows {
                for columns in &columns {
                    let row = |row: usize| {
                        let place = move |column| ((image * h + row) * w + column, 1.0);
                        columns.clone().map(place)
                    };
                    reads.push(rows.clone().flat_map(row).collect());
                }
            }
        }
        let [rows, columns] = self.size;
        let result = read(&rows_of_space(x), &reads, Taken::Largest)?;
        let count = regions.len() / 5;
        Ok(vec![result.reshape([count, rows, columns, c]).permute(&[0, 3, 1, 2]).into()])
    }
}

/// The elements of each of `count` cells between two of `size`.
fn cells(first: i64, last: i64, count: usize, size: usize) -> Vec<std::ops::Range<usize>> {
    let step = (last - first + 1).max(1) as f32 / count as f32;
    let bound = |at: f32| (at as i64 + first).clamp(0, size as i64) as usize;
    let cell = |index| {
        let from = bound((index as f32 * step).floor());
        from..bound(((index + 1) as f32 * step).ceil()).max(from)
    };
    (0..count).map(cell).collect()
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("RoiAlign", |node| {
        let size = sizes(&[node.int("output_height", 1), node.int("output_width", 1)])?;
        let largest = node.string("mode").as_deref() == Some("max");
        let mode = node.string("coordinate_transformation_mode");
        Ok(RoiAlign {
            taken: if largest { Taken::Largest } else { Taken::Mean },
            size: [size[0], size[1]],
            samples: sizes(&[node.int("sampling_ratio", 0)])?[0],
            scale: node.float("spatial_scale", 1.0) as f32,
            half: match mode.as_deref() {
                Some(mode) => mode == "half_pixel",
                None => node.opset >= 16,
            },
        }
        .into())
    }),
    ("MaxRoiPool", |node| {
        let size = sizes(&node.ints("pooled_shape").unwrap_or_default())?;
        let [rows, columns] = size[..] else { return Err(Error::malformed("`pooled_shape`")) };
        let scale = node.float("spatial_scale", 1.0) as f32;
        Ok(MaxRoiPool { size: [rows, columns], scale }.into())
    }),
];
