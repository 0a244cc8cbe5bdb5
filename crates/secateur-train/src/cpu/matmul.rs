//! Products of matrices.

use std::mem::MaybeUninit;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::{made, tensor};

/// Multiplications of one task, at least.
const TASK: usize = 1 << 20;

/// The products of matrices `[…, m, k]` and `[…, k, n]`, with as many axes; sizes of 1 in front are
/// repeated.
pub(crate) fn product(a: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let (left, right) = (Matrices::new(a), Matrices::new(b));
    let lead = left.lead.iter().zip(&right.lead).map(|(&a, &b)| if a == 1 { b } else { a });
    let lead: Vec<usize> = lead.collect();
    let ([m, k], n) = (left.sizes, right.sizes[1]);
    let (count, shape) = (lead.iter().product::<usize>(), [&lead[..], &[m, n]].concat());
    if count * m * n == 0 || k == 0 {
        return tensor(vec![0.0; count * m * n], shape);
    }
    let set = |to: &mut [MaybeUninit<f32>]| {
        if count == 1 {
            // In strips of rows, one for each thread.
            let strips = (m * n * k / TASK).clamp(1, rayon::current_num_threads().max(1));
            let rows = m.div_ceil(strips).max(1);
            to.par_chunks_mut(rows * n).enumerate().for_each(|(strip, to)| {
                let from = left.start(&[], 0) + (strip * rows) as isize * left.steps[0];
                let sizes = [to.len() / n, n, k];
                let right = right.at(right.start(&[], 0));
                gemm(sizes, (to, n), left.at(from), right, 0.0, Parallelism::None);
            });
        } else {
            let few = (TASK / (m * n * k)).max(1);
            to.par_chunks_mut(m * n).with_min_len(few).enumerate().for_each(|(at, to)| {
                let (left, right) =
                    (left.at(left.start(&lead, at)), right.at(right.start(&lead, at)));
                gemm([m, n, k], (to, n), left, right, 0.0, Parallelism::None);
            });
        }
    };
    // SAFETY: every strip of every product is set.
    tensor(unsafe { made(count * m * n, set) }, shape)
}

/// Matrices in a tensor, with the steps between their rows and columns.
struct Matrices<'a> {
    values: &'a [f32],
    first: isize,
    lead: Vec<usize>,
    strides: Vec<isize>,
    sizes: [usize; 2],
    steps: [isize; 2],
}

impl<'a> Matrices<'a> {
    fn new(tensor: &'a FlexTensor) -> Self {
        let (shape, layout) = (tensor.shape().to_vec(), tensor.layout());
        let (lead, last) = shape.split_at(shape.len() - 2);
        let (strides, steps) = layout.strides().split_at(lead.len());
        Matrices {
            values: tensor.storage::<f32>(),
            first: layout.start_offset() as isize,
            lead: lead.to_vec(),
            strides: strides.to_vec(),
            sizes: [last[0], last[1]],
            steps: [steps[0], steps[1]],
        }
    }

    /// Where matrix `at` of those of these sizes starts.
    fn start(&self, lead: &[usize], mut at: usize) -> isize {
        let mut start = self.first;
        for axis in (0..lead.len()).rev() {
            let index = at % lead[axis];
            at /= lead[axis];
            start += if self.lead[axis] == 1 { 0 } else { index as isize * self.strides[axis] };
        }
        start
    }

    /// One matrix, from a position on.
    fn at(&self, start: isize) -> Matrix<'a> {
        Matrix { values: self.values, start, steps: self.steps }
    }
}

/// A matrix: where it starts in its elements, and the steps between its rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) start: isize,
    pub(super) steps: [isize; 2],
}

impl Matrix<'_> {
    /// Whether all elements of a matrix of these sizes are there.
    fn holds(&self, sizes: [usize; 2]) -> bool {
        let spans = sizes.into_iter().zip(self.steps);
        let spans = spans.map(|(size, step)| (size as isize - 1) * step);
        let (low, high) = spans.fold((self.start, self.start), |(low, high), span| {
            (low + span.min(0), high + span.max(0))
        });
        low >= 0 && high < self.values.len() as isize
    }
}

/// `to = keep·to + left·right`, of sizes `m×n`, `m×k` and `k×n`, the first with the step of its rows.
/// `to` is not read where nothing of it is kept.
pub(super) fn gemm(
    [m, n, k]: [usize; 3],
    (to, step): (&mut [MaybeUninit<f32>], usize),
    left: Matrix<'_>,
    right: Matrix<'_>,
    keep: f32,
    parallel: Parallelism,
) {
    assert!(m > 0 && n > 0 && k > 0 && n <= step && (m - 1) * step + n <= to.len());
    assert!(left.holds([m, k]) && right.holds([k, n]));
    // SAFETY: all elements that the sizes and steps reach are inside of the slices, as checked above,
    // and `to` is not shared.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.as_mut_ptr().cast::<f32>(),
            1,
            step as isize,
            keep != 0.0,
            left.values.as_ptr().offset(left.start),
            left.steps[1],
            left.steps[0],
            right.values.as_ptr().offset(right.start),
            right.steps[1],
            right.steps[0],
            keep,
            1.0,
            false,
            false,
            false,
            parallel,
        );
    }
}

#[cfg(test)]
mod tests {
    use burn_backend::ops::FloatTensorOps;

    use super::*;
    use crate::Cpu;
    use crate::cpu::floats;

    #[test]
    fn products_are_those_of_the_backend() {
        let numbers = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            tensor((0..count).map(|at| (at * 7 % 13) as f32 - 6.0).collect(), shape)
        };
        for (a, b) in [
            (vec![3, 4], vec![4, 5]),
            (vec![300, 70], vec![70, 110]),
            (vec![2, 1, 3, 4], vec![1, 5, 4, 2]),
            (vec![4, 64, 32], vec![4, 32, 64]),
        ] {
            let (a, b) = (numbers(&a), numbers(&b));
            let turned = |t: &FlexTensor| {
                let rank = t.shape().num_dims();
                t.transpose(rank - 2, rank - 1).to_contiguous().transpose(rank - 2, rank - 1)
            };
            let expected = Cpu::float_matmul(a.clone(), b.clone()).to_contiguous();
            for (a, b) in [(a.clone(), b.clone()), (turned(&a), b.clone()), (a.clone(), turned(&b))]
            {
                let found = product(&a, &b);
                assert_eq!(found.shape(), expected.shape());
                assert_eq!(floats(&found), floats(&expected));
            }
        }
    }
}
