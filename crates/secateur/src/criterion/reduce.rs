//! Sums over the elements of one tensor, per position of its axes.
//!
//! A tensor is read as a matrix: the innermost axes are its columns, the others its rows. Every
//! element is measured once, and added to the sum of its row and to that of its column; in the end
//! the sums of the columns are folded from the innermost axis outward. Tasks of a fixed number of
//! rows run in parallel and are added in order, so the result does not depend on the number of
//! threads.

use std::ops::Range;

use rayon::prelude::*;

use super::Measure;
use super::read::unreadable;
use crate::prefetch::prefetch;
use crate::tensor::{Keep, TensorView};
use crate::{DType, Error, Result};

/// Columns, at least, where the tensor has as many elements.
const NARROW: usize = 32;
/// Columns, at most, where axes have to be joined for that.
const WIDE: usize = 1 << 16;
/// Elements per batch of rows, about: what is read before it is released.
const BATCH: usize = 1 << 20;
/// Rows per task, at least: they share the sums of the columns.
const ROWS: usize = 256;
/// Bytes from what is read to what is asked for meanwhile, at least.
const AHEAD: usize = 4096;
/// Tasks per tensor, at most: each holds sums of its own.
const TASKS: usize = 128;

/// Per axis of `axes` and position, the sum of `measure` over what is kept. `read` is given every
/// part of the elements that has been read.
pub(super) fn sums(
    view: &TensorView,
    measure: Measure,
    axes: &[usize],
    kept: &Keep,
    read: impl Fn(&[u8]) + Sync,
) -> Result<Vec<Vec<f64>>> {
    let plan = Plan::new(&view.dims, axes, kept);
    let sums = match measure {
        Measure::Magnitude => plan.measure(view, f64::abs, read),
        Measure::Square => plan.measure(view, |number| number * number, read),
        Measure::Taylor | Measure::Fisher => {
            let text = format!("`{}` needs gradients, which a file has none of", measure.name());
            return Err(
                Error::argument(text).hint("prune the live module from Python: `secateur.Pruner`")
            );
        }
    };
    Ok(plan.by_axis(sums.ok_or_else(|| unreadable(view.dtype))?, axes))
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

/// How a shape is read as a matrix.
struct Plan {
    /// Outermost first: those of the rows, then those of the columns, at least one.
    levels: Vec<Level>,
    /// How many levels the rows have.
    split: usize,
    /// Elements of a row.
    width: usize,
    /// Which columns are kept.
    mask: Option<Vec<bool>>,
}

impl Plan {
    fn new(dims: &[usize], axes: &[usize], kept: &Keep) -> Self {
        let levels = levels(dims, axes, kept);
        let (mut split, mut width) = (levels.len(), 1);
        while split > 0 && (split == levels.len() || width < NARROW) {
            let joined = width * levels[split - 1].len;
            if split < levels.len() && joined > WIDE {
                break;
            }
            (split, width) = (split - 1, joined);
        }
        let mask = mask(&levels[split..]);
        Plan { levels, split, width, mask }
    }

    /// The sums of what is measured of every element; `None` for elements that are not numbers.
    fn measure(
        &self,
        view: &TensorView,
        of: impl Fn(f64) -> f64 + Copy + Sync,
        read: impl Fn(&[u8]) + Sync,
    ) -> Option<Sums> {
        let data = &view.data;
        Some(match view.dtype {
            DType::F64 => self.sums(data, |word| of(f64::from_le_bytes(word)), read),
            DType::F32 => self.sums(data, |word| of(f32::from_le_bytes(word).into()), read),
            DType::F16 => self.sums(data, |word| of(half::f16::from_le_bytes(word).into()), read),
            DType::BF16 => self.sums(data, |word| of(half::bf16::from_le_bytes(word).into()), read),
            DType::I8 => self.sums(data, |word| of(i8::from_le_bytes(word).into()), read),
            DType::U8 => self.sums(data, |word| of(u8::from_le_bytes(word).into()), read),
            _ => return None,
        })
    }

    fn sums<const N: usize>(
        &self,
        data: &[u8],
        of: impl Fn([u8; N]) -> f64 + Copy + Sync,
        read: impl Fn(&[u8]) + Sync,
    ) -> Sums {
        let elements = data.as_chunks().0;
        let rows = self.rows();
        let len = self.batch().max(ROWS).max(rows.div_ceil(TASKS));
        let task = |at: usize| {
            let rows = at * len..rows.min((at + 1) * len);
            self.task(elements, of, rows, &read)
        };
        let parts: Vec<Sums> = (0..rows.div_ceil(len)).into_par_iter().map(task).collect();
        let mut totals = self.zeros();
        for part in &parts {
            for (total, part) in totals.iter_mut().flatten().zip(part.iter().flatten()) {
                *total += part;
            }
        }
        totals
    }

    /// Rows of a batch.
    fn batch(&self) -> usize {
        BATCH.div_ceil(self.width.max(1))
    }

    fn rows(&self) -> usize {
        let rows = self.levels[..self.split].iter().map(|level| level.len).product();
        if self.width == 0 { 0 } else { rows }
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

    /// The sums over some rows.
    fn task<const N: usize>(
        &self,
        elements: &[[u8; N]],
        of: impl Fn([u8; N]) -> f64 + Copy,
        rows: Range<usize>,
        read: impl Fn(&[u8]),
    ) -> Sums {
        let mut sums = self.zeros();
        let mut columns = self.columns();
        for start in rows.clone().step_by(self.batch()) {
            let rows = start..rows.end.min(start + self.batch());
            let kept: Vec<usize> = rows.clone().filter(|&row| self.keeps(row)).collect();
            let (eights, rest) = kept.as_chunks::<8>();
            eights.iter().for_each(|&rows| self.add(elements, of, rows, &mut columns, &mut sums));
            rest.iter().for_each(|&row| self.add(elements, of, [row], &mut columns, &mut sums));
            read(elements[rows.start * self.width..rows.end * self.width].as_flattened());
        }
        if !self.is_plain() {
            for (level, sums) in self.levels.iter().zip(&mut sums).skip(self.split).rev() {
                level.fold(&mut columns, sums);
            }
        }
        sums
    }

    /// Whether the columns are all treated alike.
    fn is_plain(&self) -> bool {
        self.levels[self.split..].iter().all(Level::is_plain)
    }

    /// One sum per column, or a few to share where no one asks for them.
    fn columns(&self) -> Vec<f64> {
        const SHARED: usize = 1024;
        vec![0.0; if self.is_plain() { self.width.min(SHARED) } else { self.width }]
    }

    fn keeps(&self, mut row: usize) -> bool {
        self.levels[..self.split].iter().rev().all(|level| {
            let position = row % level.len;
            row /= level.len;
            level.keeps(position)
        })
    }

    /// Adds rows to the sums of the columns and to those of their own positions.
    fn add<const N: usize, const R: usize>(
        &self,
        elements: &[[u8; N]],
        of: impl Fn([u8; N]) -> f64,
        rows: [usize; R],
        columns: &mut [f64],
        sums: &mut Sums,
    ) {
        let mut totals = [0.0; R];
        for start in (0..self.width).step_by(columns.len()) {
            let len = columns.len().min(self.width - start);
            let words = rows.map(|row| &elements[row * self.width + start..][..len]);
            let after = rows.last().map_or(0, |last| (last + 1) * self.width);
            let next = elements.get(after + start * R + AHEAD / N..).unwrap_or_default();
            let found = match &self.mask {
                None => add_rows(words, next, &mut columns[..len], &of, |_| true),
                Some(mask) => add_rows(words, next, &mut columns[..len], &of, |at| mask[at]),
            };
            totals.iter_mut().zip(found).for_each(|(total, found)| *total += found);
        }
        for (mut row, total) in rows.into_iter().zip(totals) {
            for (level, sums) in self.levels.iter().zip(&mut *sums).take(self.split).rev() {
                if let Some(sum) = sums.get_mut(row % level.len) {
                    *sum += total;
                }
                row /= level.len;
            }
        }
    }
}

/// Adds what is measured of the kept elements of some rows to the sums of their columns; returns
/// the sum of every row. All are of one length. What comes `next` is asked for meanwhile: few
/// processors see several streams coming.
fn add_rows<const N: usize, const R: usize>(
    rows: [&[[u8; N]]; R],
    next: &[[u8; N]],
    columns: &mut [f64],
    of: impl Fn([u8; N]) -> f64,
    keeps: impl Fn(usize) -> bool,
) -> [f64; R] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { add_rows_with_avx2(rows, next, columns, of, keeps) };
    }
    add_rows_in_lanes(rows, next, columns, of, keeps)
}

/// Compiled apart, so that nothing around it changes how it is vectorized.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline(never)]
fn add_rows_with_avx2<const N: usize, const R: usize>(
    rows: [&[[u8; N]]; R],
    next: &[[u8; N]],
    columns: &mut [f64],
    of: impl Fn([u8; N]) -> f64,
    keeps: impl Fn(usize) -> bool,
) -> [f64; R] {
    add_rows_in_lanes(rows, next, columns, of, keeps)
}

#[inline(always)]
fn add_rows_in_lanes<const N: usize, const R: usize>(
    rows: [&[[u8; N]]; R],
    next: &[[u8; N]],
    columns: &mut [f64],
    of: impl Fn([u8; N]) -> f64,
    keeps: impl Fn(usize) -> bool,
) -> [f64; R] {
    /// Independent sums, which the compiler can vectorize; as many as rows, so that it does.
    const LANES: usize = 8;
    let measure = |at: usize, word: [u8; N]| if keeps(at) { of(word) } else { 0.0 };
    let mut lanes = [[0.0; LANES]; R];
    let (chunks, rest) = columns.as_chunks_mut::<LANES>();
    let words = rows.map(|row| row.as_chunks::<LANES>().0);
    let words = words.map(|row| &row[..chunks.len()]);
    let mut next = next.as_flattened().chunks(N * R * LANES);
    for (index, columns) in chunks.iter_mut().enumerate() {
        prefetch(next.next().unwrap_or_default());
        let mut sums = *columns;
        for (row, lanes) in words.iter().zip(&mut lanes) {
            let words = row[index];
            for lane in 0..LANES {
                let number = measure(index * LANES + lane, words[lane]);
                lanes[lane] += number;
                sums[lane] += number;
            }
        }
        *columns = sums;
    }
    let mut totals = lanes.map(|lanes| lanes.iter().sum());
    for (at, column) in (chunks.len() * LANES..).zip(rest) {
        for (row, total) in rows.iter().zip(&mut totals) {
            let number = measure(at, row[at]);
            *total += number;
            *column += number;
        }
    }
    totals
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

/// Which positions of all of these levels are kept; `None` for all.
fn mask(levels: &[Level]) -> Option<Vec<bool>> {
    levels.iter().any(|level| level.mask.is_some()).then(|| {
        levels.iter().fold(vec![true], |outer, level| {
            let inner = || (0..level.len).map(|position| level.keeps(position));
            outer.iter().flat_map(|&outer| inner().map(move |inner| outer && inner)).collect()
        })
    })
}

impl Level {
    fn is_plain(&self) -> bool {
        self.axis.is_none() && self.mask.is_none()
    }

    fn keeps(&self, position: usize) -> bool {
        self.mask.as_ref().is_none_or(|mask| mask[position])
    }

    /// Adds every run of this level's positions to its sums, and leaves one total per run.
    fn fold(&self, columns: &mut Vec<f64>, sums: &mut [f64]) {
        let runs = columns.len() / self.len;
        for at in 0..runs {
            let run = &columns[at * self.len..][..self.len];
            sums.iter_mut().zip(run).for_each(|(sum, number)| *sum += number);
            columns[at] = run.iter().sum();
        }
        columns.truncate(runs);
    }
}
