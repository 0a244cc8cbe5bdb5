//! Sums over the elements of one tensor, per position of its axes.
//!
//! A tensor is cut into blocks of contiguous elements that fit the cache. Each block is decoded and
//! measured once, and folded from its innermost axis outward; tasks of a fixed number of blocks run
//! in parallel and are added in order, so the result does not depend on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::Measure;
use super::read::{Magnitude, Reader, Square};
use crate::Result;
use crate::tensor::{Keep, TensorView};

/// Elements per block: what is decoded at a time.
const BLOCK: usize = 2048;
/// Blocks per task, at least.
const TASK: usize = 512;
/// Tasks per tensor, at most: each holds sums of its own.
const TASKS: usize = 128;

/// Per axis of `axes` and position, the sum of `measure` over what is kept.
pub(super) fn sums(
    view: &TensorView,
    measure: Measure,
    axes: &[usize],
    kept: &Keep,
) -> Result<Vec<Vec<f64>>> {
    let reader = match measure {
        Measure::Magnitude => Reader::new::<Magnitude>(view),
        Measure::Square => Reader::new::<Square>(view),
    }?;
    let plan = Plan::new(&view.dims, axes, kept);
    let blocks = plan.blocks();
    let len = TASK.max(blocks.div_ceil(TASKS));
    let task = |at: usize| plan.task(&reader, at * len..blocks.min((at + 1) * len));
    let parts: Vec<Sums> = (0..blocks.div_ceil(len)).into_par_iter().map(task).collect();
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
    fn task(&self, reader: &Reader<'_>, blocks: Range<usize>) -> Sums {
        let mut sums = self.zeros();
        let mut buffer = Vec::new();
        let mut place = vec![0; self.split];
        for block in blocks {
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
