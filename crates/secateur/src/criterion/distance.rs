//! Distances between the members of one axis, each a vector of the elements that it holds.
//!
//! By `‖x − y‖² = ‖x‖² + ‖y‖² − 2 x·y`, in 64 bits: what cancels is far below the last bit of
//! 32-bit elements. Inner products are taken between blocks of members, piece by piece, so memory
//! does not grow with the tensor; time grows with the square of the number of members.

use std::ops::Range;

use rayon::prelude::*;

use super::read::Reader;
use crate::Result;
use crate::tensor::{Keep, TensorView};

/// Members that are compared at a time, and elements of them.
const ROWS: usize = 128;
const COLUMNS: usize = 512;

/// The members of an axis as rows of one matrix.
pub(super) struct Distances<'a> {
    reader: Reader<'a>,
    /// The positions of each member, and the elements from one position to the next.
    members: &'a [Vec<u32>],
    stride: usize,
    /// The elements under position 0, as contiguous parts of start and length.
    runs: Vec<(usize, usize)>,
}

/// The sums of the distances between two blocks, by member of either.
struct Block {
    pair: (usize, usize),
    sums: [Vec<f64>; 2],
}

impl<'a> Distances<'a> {
    /// Finds the kept elements at the positions of each member.
    pub(super) fn new(
        view: &'a TensorView,
        axis: usize,
        members: &'a [Vec<u32>],
        kept: &Keep,
    ) -> Result<Self> {
        let stride = view.dims[axis + 1..].iter().product();
        let runs = pieces(runs(&view.dims, axis, kept));
        Ok(Self { reader: Reader::new(view)?, members, stride, runs })
    }

    /// Per member the sum of the distances to all members. `read` is called after every two blocks.
    pub(super) fn sums(&self, read: impl Fn() + Sync) -> Vec<f64> {
        let count = self.members.len().div_ceil(ROWS);
        let products = |a: usize, b: usize| {
            let products = self.products(a, b);
            read();
            products
        };
        let own: Vec<Vec<f64>> = (0..count).into_par_iter().map(|at| products(at, at)).collect();
        let norms: Vec<Vec<f64>> = own.iter().map(|products| diagonal(products)).collect();
        let pairs: Vec<_> = (0..count).flat_map(|a| (a..count).map(move |b| (a, b))).collect();
        let block = |&(a, b): &(usize, usize)| {
            let products = if a == b { own[a].clone() } else { products(a, b) };
            Block { pair: (a, b), sums: distances(&products, &norms[a], &norms[b]) }
        };
        let blocks: Vec<Block> = pairs.par_iter().map(block).collect();
        let mut sums = vec![0.0; self.members.len()];
        for Block { pair: (a, b), sums: [of_a, of_b] } in blocks {
            add(&mut sums[a * ROWS..], &of_a);
            if a != b {
                add(&mut sums[b * ROWS..], &of_b);
            }
        }
        sums
    }

    fn block(&self, block: usize) -> &[Vec<u32>] {
        &self.members[block * ROWS..self.members.len().min((block + 1) * ROWS)]
    }

    /// The inner products of the members of one block with those of another, row by row.
    fn products(&self, a: usize, b: usize) -> Vec<f64> {
        let (a, b) = (self.block(a), self.block(b));
        let mut products = vec![0.0; a.len() * b.len()];
        let positions = a.first().map_or(0, Vec::len);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for place in 0..positions {
            for range in parts(&self.runs) {
                self.read(a, place, &self.runs[range.clone()], &mut left);
                self.read(b, place, &self.runs[range], &mut right);
                multiply(&left, &right, a.len(), b.len(), &mut products);
            }
        }
        products
    }

    /// The elements of some runs at one of the positions of each member, member by member.
    fn read(&self, members: &[Vec<u32>], place: usize, runs: &[(usize, usize)], to: &mut Vec<f64>) {
        let width: usize = runs.iter().map(|run| run.1).sum();
        to.resize(members.len() * width, 0.0);
        for (member, mut row) in members.iter().zip(to.chunks_exact_mut(width)) {
            let start = member[place] as usize * self.stride;
            for &(at, len) in runs {
                let (now, rest) = row.split_at_mut(len);
                self.reader.read(start + at, now);
                row = rest;
            }
        }
    }
}

/// Adds the inner products of rows to `products`.
fn multiply(left: &[f64], right: &[f64], rows: usize, columns: usize, products: &mut [f64]) {
    let width = left.len() / rows;
    assert!(left.len() == rows * width && right.len() == columns * width);
    assert!(products.len() == rows * columns);
    let (along, across) = (width as isize, columns as isize);
    // SAFETY: the lengths are those of `rows × width`, `width × columns` and `rows × columns`
    // matrices with these strides, and `products` is borrowed alone.
    unsafe {
        matrixmultiply::dgemm(
            rows,
            width,
            columns,
            1.0,
            left.as_ptr(),
            along,
            1,
            right.as_ptr(),
            1,
            along,
            1.0,
            products.as_mut_ptr(),
            across,
            1,
        );
    }
}

fn diagonal(products: &[f64]) -> Vec<f64> {
    let size = products.len().isqrt();
    products.iter().step_by(size + 1).copied().collect()
}

/// From inner products and squared norms to distances, summed by row and by column.
fn distances(products: &[f64], rows: &[f64], columns: &[f64]) -> [Vec<f64>; 2] {
    let mut sums = [vec![0.0; rows.len()], vec![0.0; columns.len()]];
    for (i, (row, a)) in products.chunks_exact(columns.len()).zip(rows).enumerate() {
        for (j, (product, b)) in row.iter().zip(columns).enumerate() {
            let square = a + b - 2.0 * product;
            // Rounding may leave less than nothing; what is not a number stays so.
            let distance = if square < 0.0 { 0.0 } else { square.sqrt() };
            sums[0][i] += distance;
            sums[1][j] += distance;
        }
    }
    sums
}

fn add(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Groups of neighboring runs of about [`COLUMNS`] elements.
fn parts(runs: &[(usize, usize)]) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut width) = (Vec::new(), 0, 0);
    for (index, run) in runs.iter().enumerate() {
        width += run.1;
        if width >= COLUMNS || index + 1 == runs.len() {
            parts.push(start..index + 1);
            (start, width) = (index + 1, 0);
        }
    }
    parts
}

/// Cuts runs into pieces of at most [`COLUMNS`] elements.
fn pieces(runs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let cut = |(start, len): (usize, usize)| {
        (0..len).step_by(COLUMNS).map(move |at| (start + at, COLUMNS.min(len - at)))
    };
    runs.into_iter().flat_map(cut).collect()
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
