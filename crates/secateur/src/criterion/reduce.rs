//! Reductions over the elements of one tensor, read from its bytes.
//!
//! A tensor is cut into blocks of contiguous elements that fit the cache. Each block is decoded and
//! measured once, and folded from its innermost axis outward; tasks of a fixed number of blocks run
//! in parallel and are added in order, so the result does not depend on the number of threads.

use rayon::prelude::*;

use super::Measure;
use crate::tensor::{Keep, TensorView};
use crate::{DType, Error, Result};

/// Elements per block: what is decoded at a time.
const BLOCK: usize = 2048;
/// Blocks per task.
const TASK: usize = 512;

/// Per axis of `axes` and position, the sum of `measure` over what is kept.
pub(super) fn sums(
    view: &TensorView,
    measure: Measure,
    axes: &[usize],
    kept: &Keep,
) -> Result<Vec<Vec<f64>>> {
    let reader = Reader::new(view, measure)?;
    let plan = Plan::new(&view.dims, axes, kept);
    let blocks: Vec<usize> = (0..plan.blocks()).collect();
    let parts: Vec<Sums> = blocks.par_chunks(TASK).map(|task| plan.task(&reader, task)).collect();
    let mut totals = plan.zeros();
    for part in &parts {
        for (total, part) in totals.iter_mut().flatten().zip(part.iter().flatten()) {
            *total += part;
        }
    }
    Ok(plan.by_axis(totals, axes))
}

/// Per level, per position, a sum; empty for levels whose positions are not asked for.
type Sums = Vec<Vec<f64>>;

/// Decodes a range of elements and measures each.
struct Reader<'a> {
    data: &'a [u8],
    width: usize,
    read: fn(&[u8], &mut [f64]),
}

impl<'a> Reader<'a> {
    fn new(view: &'a TensorView, measure: Measure) -> Result<Self> {
        let read = match measure {
            Measure::Magnitude => decoder::<Magnitude>(view.dtype),
            Measure::Square => decoder::<Square>(view.dtype),
        };
        let read = read.ok_or_else(|| unreadable(view.dtype))?;
        Ok(Self { data: &view.data, width: view.dtype.size().unwrap_or(1), read })
    }

    fn read(&self, start: usize, out: &mut [f64]) {
        let end = (start + out.len()) * self.width;
        (self.read)(&self.data[start * self.width..end], out);
    }
}

fn unreadable(dtype: DType) -> Error {
    Error::unsupported(format!("elements of type {dtype} cannot be scored"))
}

trait Function {
    fn apply(number: f64) -> f64;
}

struct Magnitude;
struct Square;
struct Identity;

impl Function for Magnitude {
    fn apply(number: f64) -> f64 {
        number.abs()
    }
}

impl Function for Square {
    fn apply(number: f64) -> f64 {
        number * number
    }
}

impl Function for Identity {
    fn apply(number: f64) -> f64 {
        number
    }
}

/// The loop for a type; `None` for those that are not numbers.
fn decoder<F: Function>(dtype: DType) -> Option<fn(&[u8], &mut [f64])> {
    macro_rules! read {
        ($width:literal, $from:expr) => {
            |data: &[u8], out: &mut [f64]| {
                for (word, out) in data.as_chunks::<$width>().0.iter().zip(out) {
                    let from: fn([u8; $width]) -> f64 = $from;
                    *out = F::apply(from(*word));
                }
            }
        };
    }
    Some(match dtype {
        DType::F64 => read!(8, f64::from_le_bytes),
        DType::F32 => read!(4, |word| f64::from(f32::from_le_bytes(word))),
        DType::F16 => read!(2, |word| f64::from(half::f16::from_le_bytes(word))),
        DType::BF16 => read!(2, |word| f64::from(half::bf16::from_le_bytes(word))),
        DType::I8 => read!(1, |word| f64::from(i8::from_le_bytes(word))),
        DType::U8 => read!(1, |word| f64::from(u8::from_le_bytes(word))),
        _ => return None,
    })
}

/// A run of neighboring axes that are treated alike.
struct Level {
    len: usize,
    /// The axis whose positions are summed apart.
    axis: Option<usize>,
    /// Which positions are kept.
    mask: Option<Vec<bool>>,
}

/// How a shape is traversed: block by block. A block is whole in the inner levels, and covers a
/// piece of the one outside of them, `split`; the levels before that have one position each.
struct Plan {
    /// At least one.
    levels: Vec<Level>,
    split: usize,
    /// Positions of the split level in a block.
    piece: usize,
    /// Elements under one position of the split level.
    under: usize,
}

impl Plan {
    fn new(dims: &[usize], axes: &[usize], kept: &Keep) -> Self {
        let levels = levels(dims, axes, kept);
        let (mut split, mut under) = (levels.len() - 1, 1);
        while split > 0 && under * levels[split].len <= BLOCK {
            under *= levels[split].len;
            split -= 1;
        }
        Plan { levels, split, piece: (BLOCK / under.max(1)).max(1), under }
    }

    fn pieces(&self) -> usize {
        self.levels[self.split].len.div_ceil(self.piece)
    }

    fn blocks(&self) -> usize {
        let outer: usize = self.levels[..self.split].iter().map(|level| level.len).product();
        if self.under == 0 { 0 } else { outer * self.pieces() }
    }

    fn zeros(&self) -> Sums {
        let len = |level: &Level| level.axis.map_or(0, |_| level.len);
        self.levels.iter().map(|level| vec![0.0; len(level)]).collect()
    }

    fn by_axis(&self, totals: Sums, axes: &[usize]) -> Vec<Vec<f64>> {
        let mut by_axis = vec![Vec::new(); axes.len()];
        for (level, total) in self.levels.iter().zip(totals) {
            if let Some(place) = axes.iter().position(|&axis| level.axis == Some(axis)) {
                by_axis[place] = total;
            }
        }
        by_axis
    }

    /// The sums over some blocks.
    fn task(&self, reader: &Reader<'_>, blocks: &[usize]) -> Sums {
        let mut sums = self.zeros();
        let mut buffer = Vec::new();
        let mut place = vec![0; self.split];
        for &block in blocks {
            let (row, piece) = (block / self.pieces(), block % self.pieces());
            if !self.locate(row, &mut place) {
                continue;
            }
            let total = self.block(reader, row, piece * self.piece, &mut buffer, &mut sums);
            for (sums, &position) in sums.iter_mut().zip(&place) {
                if let Some(sum) = sums.get_mut(position) {
                    *sum += total;
                }
            }
        }
        sums
    }

    /// Where a row stands in the outer levels; whether it is kept.
    fn locate(&self, mut row: usize, place: &mut [usize]) -> bool {
        let mut kept = true;
        for (level, position) in self.levels.iter().zip(place).rev() {
            *position = row % level.len;
            row /= level.len;
            kept &= level.keeps(*position);
        }
        kept
    }

    /// Adds one block to the sums of the split and the inner levels; returns its total.
    fn block(
        &self,
        reader: &Reader<'_>,
        row: usize,
        start: usize,
        buffer: &mut Vec<f64>,
        sums: &mut Sums,
    ) -> f64 {
        let split = &self.levels[self.split];
        let count = self.piece.min(split.len - start);
        buffer.resize(count * self.under, 0.0);
        reader.read((row * split.len + start) * self.under, buffer);
        let mut under = 1;
        for level in self.levels[self.split + 1..].iter().rev() {
            level.clear(buffer, 0, under);
            under *= level.len;
        }
        split.clear(buffer, start, under);
        for (level, sums) in self.levels.iter().zip(&mut *sums).skip(self.split + 1).rev() {
            level.fold(buffer, 0, level.len, sums);
        }
        split.fold(buffer, start, count, &mut sums[self.split]);
        buffer.iter().sum()
    }
}

/// Joins neighboring axes that are treated alike.
fn levels(dims: &[usize], axes: &[usize], kept: &Keep) -> Vec<Level> {
    let mut levels = vec![Level { len: 1, axis: None, mask: None }];
    for (axis, &len) in dims.iter().enumerate() {
        let mask = kept.get(axis).and_then(Option::as_deref).map(|kept| {
            let mut mask = vec![false; len];
            kept.iter().for_each(|&position| mask[position as usize] = true);
            mask
        });
        let level = Level { len, axis: axes.contains(&axis).then_some(axis), mask };
        match levels.last_mut() {
            Some(last) if level.is_plain() && (last.is_plain() || len == 1) => last.len *= len,
            _ => levels.push(level),
        }
    }
    levels
}

impl Level {
    fn is_plain(&self) -> bool {
        self.axis.is_none() && self.mask.is_none()
    }

    fn keeps(&self, position: usize) -> bool {
        self.mask.as_ref().is_none_or(|mask| mask[position])
    }

    /// Zeroes what is removed; positions count from `start`, each with `under` elements.
    fn clear(&self, buffer: &mut [f64], start: usize, under: usize) {
        let Some(mask) = &self.mask else { return };
        let kept = mask[start..].iter().chain(mask.iter().cycle());
        for (elements, kept) in buffer.chunks_mut(under).zip(kept) {
            if !kept {
                elements.fill(0.0);
            }
        }
    }

    /// Adds every run of `len` positions from `start` on to the sums of this level, and leaves one
    /// total per run in the buffer.
    fn fold(&self, buffer: &mut Vec<f64>, start: usize, len: usize, sums: &mut [f64]) {
        let runs = buffer.len() / len;
        for at in 0..runs {
            let run = &buffer[at * len..][..len];
            if self.axis.is_some() {
                sums[start..].iter_mut().zip(run).for_each(|(sum, number)| *sum += number);
            }
            buffer[at] = lanes_sum(run);
        }
        buffer.truncate(runs);
    }
}

/// A sum in eight independent lanes, which the compiler can vectorize.
fn lanes_sum(numbers: &[f64]) -> f64 {
    let (chunks, rest) = numbers.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, number)| *lane += number);
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

/// The members of an axis as rows of one matrix.
pub(super) struct Distances {
    rows: Vec<f32>,
    count: usize,
    width: usize,
}

impl Distances {
    /// Rows that are compared at a time, and elements of them.
    const ROWS: usize = 32;
    const COLUMNS: usize = 1024;

    /// Gathers the kept elements at the positions of each member.
    pub(super) fn new(
        view: &TensorView,
        axis: usize,
        members: &[Vec<u32>],
        kept: &Keep,
    ) -> Result<Self> {
        let read = decoder::<Identity>(view.dtype).ok_or_else(|| unreadable(view.dtype))?;
        let reader = Reader { data: &view.data, width: view.dtype.size().unwrap_or(1), read };
        let inner: usize = view.dims[axis + 1..].iter().product();
        let runs = runs(&view.dims, axis, kept);
        let width =
            members.first().map_or(0, Vec::len) * runs.iter().map(|run| run.1).sum::<usize>();
        let mut rows = vec![0.0; members.len() * width];
        let stride = inner;
        let fill = |(row, positions): (&mut [f32], &Vec<u32>)| {
            let mut buffer = Vec::new();
            let mut row = row.iter_mut();
            for &position in positions {
                for &(start, len) in &runs {
                    buffer.resize(len, 0.0);
                    reader.read(start + position as usize * stride, &mut buffer);
                    row.by_ref().zip(&buffer).for_each(|(to, from)| *to = *from as f32);
                }
            }
        };
        if width > 0 {
            rows.par_chunks_mut(width).zip(members).for_each(fill);
        }
        Ok(Self { rows, count: members.len(), width })
    }

    /// Per row the sum of the distances to all rows.
    pub(super) fn sums(&self) -> Vec<f64> {
        if self.width == 0 {
            return vec![0.0; self.count];
        }
        let blocks = self.rows.par_chunks(Self::ROWS * self.width);
        blocks.flat_map_iter(|block| self.sums_of(block)).collect()
    }

    fn sums_of(&self, block: &[f32]) -> Vec<f64> {
        let mut squares = vec![0.0; block.len() / self.width * self.count];
        for start in (0..self.width).step_by(Self::COLUMNS) {
            let end = (start + Self::COLUMNS).min(self.width);
            for (j, other) in self.rows.chunks_exact(self.width).enumerate() {
                for (i, row) in block.chunks_exact(self.width).enumerate() {
                    squares[i * self.count + j] +=
                        square_distance(&row[start..end], &other[start..end]);
                }
            }
        }
        let distances = squares.chunks_exact(self.count);
        distances.map(|row| row.iter().map(|square: &f64| square.sqrt()).sum()).collect()
    }
}

fn square_distance(a: &[f32], b: &[f32]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            let difference = a[lane] - b[lane];
            lanes[lane] += difference * difference;
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(a - b) * f64::from(a - b));
    lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + rest.sum::<f64>()
}

/// The kept elements under position 0 of an axis, as contiguous runs of start and length.
fn runs(dims: &[usize], axis: usize, kept: &Keep) -> Vec<(usize, usize)> {
    let mut runs = vec![(0, 1)];
    let mut stride: usize = 1;
    for at in (0..dims.len()).rev() {
        if at != axis {
            runs = widen(&runs, dims[at], stride, kept.get(at).and_then(Option::as_deref));
        }
        stride *= dims[at];
    }
    runs
}

/// Repeats runs at the kept positions of an axis; joins those that touch.
fn widen(
    inner: &[(usize, usize)],
    len: usize,
    stride: usize,
    kept: Option<&[u32]>,
) -> Vec<(usize, usize)> {
    let all: Vec<u32> = (0..len as u32).collect();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &position in kept.unwrap_or(&all) {
        for &(start, len) in inner {
            let start = start + position as usize * stride;
            match runs.last_mut() {
                Some((last, length)) if *last + *length == start => *length += len,
                _ => runs.push((start, len)),
            }
        }
    }
    runs
}
