//! Distances between the members of one axis, each a vector of the elements that it holds.
//!
//! Takes a 32-bit copy of the tensor, and time in the square of the number of members.

use rayon::prelude::*;

use super::read::Reader;
use crate::Result;
use crate::tensor::{Keep, TensorView};

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
        let reader = Reader::new(view)?;
        let stride: usize = view.dims[axis + 1..].iter().product();
        let runs = runs(&view.dims, axis, kept);
        let width =
            members.first().map_or(0, Vec::len) * runs.iter().map(|run| run.1).sum::<usize>();
        let mut rows = vec![0.0; members.len() * width];
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
