//! Arithmetic of two tensors, one of which may be repeated along axes of the other.

use std::mem::MaybeUninit;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::norm::sums;
use super::{BLOCK, floats, made, own, tensor};
use crate::backend::Arithmetic;

/// How a tensor is repeated to the shape of another with as many axes: before its axes, so many
/// elements of its own, and behind them. `None` where it is repeated in between.
pub(crate) fn repeats(small: &[usize], large: &[usize]) -> Option<[usize; 3]> {
    let own = |axis: &usize| small[*axis] != 1;
    let product = |sizes: &[usize]| sizes.iter().product::<usize>();
    let Some(first) = (0..small.len()).find(own) else { return Some([1, 1, product(large)]) };
    let end = (0..small.len()).rfind(own).map_or(first, |last| last + 1);
    (small[first..end] == large[first..end])
        .then(|| [product(&large[..first]), product(&small[first..end]), product(&large[end..])])
}

/// The result; what `plain` makes of both where neither has its shape.
pub(crate) fn arithmetic(
    kind: Arithmetic,
    a: FlexTensor,
    b: FlexTensor,
    plain: impl FnOnce(FlexTensor, FlexTensor) -> FlexTensor,
) -> FlexTensor {
    let (left, right) = (a.shape().to_vec(), b.shape().to_vec());
    let reaches = |small: &[usize], large: &[usize]| {
        small.iter().zip(large).all(|(&small, &large)| small == large || small == 1)
    };
    if reaches(&right, &left)
        && let Some(sizes) = repeats(&right, &left)
    {
        let b = b.to_contiguous();
        return match kind {
            Arithmetic::Add => apply(a, floats(&b), sizes, |a, b| a + b),
            Arithmetic::Sub => apply(a, floats(&b), sizes, |a, b| a - b),
            Arithmetic::Mul => apply(a, floats(&b), sizes, |a, b| a * b),
            Arithmetic::Div => apply(a, floats(&b), sizes, |a, b| a / b),
        };
    }
    if reaches(&left, &right)
        && let Some(sizes) = repeats(&left, &right)
    {
        let a = a.to_contiguous();
        return match kind {
            Arithmetic::Add => apply(b, floats(&a), sizes, |b, a| a + b),
            Arithmetic::Sub => apply(b, floats(&a), sizes, |b, a| a - b),
            Arithmetic::Mul => apply(b, floats(&a), sizes, |b, a| a * b),
            Arithmetic::Div => apply(b, floats(&a), sizes, |b, a| a / b),
        };
    }
    plain(a, b)
}

/// A function of all elements and those that are repeated; in place where nothing shares them.
fn apply(
    mut large: FlexTensor,
    small: &[f32],
    sizes: [usize; 3],
    f: impl Fn(f32, f32) -> f32 + Sync + Copy,
) -> FlexTensor {
    // Assigned, so that no second tensor shares the elements.
    large = large.to_contiguous();
    let (length, many) = pieces(sizes);
    if large.is_unique() {
        let parts = own(&mut large).par_chunks_mut(length).with_min_len(many).enumerate();
        parts.for_each(|(at, to)| match piece(small, sizes, at) {
            Piece::Rows(row) => to.chunks_mut(row.len()).for_each(|to| {
                to.iter_mut().zip(row).for_each(|(to, small)| *to = f(*to, *small));
            }),
            Piece::One(small) => to.iter_mut().for_each(|to| *to = f(*to, small)),
        });
        return large;
    }
    let set = |to: &mut [MaybeUninit<f32>]| {
        let parts = to.par_chunks_mut(length).zip(floats(&large).par_chunks(length));
        parts.with_min_len(many).enumerate().for_each(|(at, (to, from))| {
            match piece(small, sizes, at) {
                Piece::Rows(row) => {
                    for (to, from) in to.chunks_mut(row.len()).zip(from.chunks(row.len())) {
                        let pairs = from.iter().zip(row);
                        to.iter_mut().zip(pairs).for_each(|(to, (from, small))| {
                            to.write(f(*from, *small));
                        });
                    }
                }
                Piece::One(small) => to.iter_mut().zip(from).for_each(|(to, from)| {
                    to.write(f(*from, small));
                }),
            }
        });
    };
    // SAFETY: parts have all elements, as do their rows.
    let result = unsafe { made(large.shape().num_elements(), set) };
    tensor(result, large.shape().to_vec())
}

/// What is repeated along one part of the larger tensor.
enum Piece<'a> {
    Rows(&'a [f32]),
    One(f32),
}

/// The elements of a part, and how many parts are one task at least.
fn pieces([outer, block, inner]: [usize; 3]) -> (usize, usize) {
    match inner {
        _ if block == 1 => (BLOCK, 1),
        1 if outer == 1 => (BLOCK, 1),
        1 => ((BLOCK / block.max(1)).max(1) * block.max(1), 1),
        _ => (inner.max(1), (BLOCK / inner.max(1)).max(1)),
    }
}

fn piece(small: &[f32], [outer, block, inner]: [usize; 3], at: usize) -> Piece<'_> {
    match inner {
        _ if block == 1 => Piece::One(small[0]),
        1 if outer == 1 => Piece::Rows(&small[at * BLOCK..((at + 1) * BLOCK).min(block)]),
        1 => Piece::Rows(small),
        _ => Piece::One(small[at % block]),
    }
}

/// The sums over what a tensor would be repeated along, `[outer, block, inner]`, for its block.
pub(crate) fn total(x: &FlexTensor, [outer, block, inner]: [usize; 3]) -> Vec<f32> {
    let x = x.to_contiguous();
    let values = floats(&x);
    if block == 1 {
        let parts = values.par_chunks(BLOCK).map(|part| sums(part, part, |x, _| [x])[0]);
        return vec![parts.sum::<f64>() as f32];
    }
    if inner > 1 {
        let sum = |at: usize| {
            let planes = values.chunks(inner).skip(at).step_by(block);
            planes.map(|plane| sums(plane, plane, |x, _| [x])[0]).sum::<f64>() as f32
        };
        return (0..block).into_par_iter().map(sum).collect();
    }
    let rows = (BLOCK / block.max(1)).clamp(1, 256).min(outer.max(1));
    let parts: Vec<Vec<f32>> = values
        .par_chunks((rows * block).max(1))
        .map(|part| {
            let mut all = vec![0.0; block];
            for row in part.chunks(block) {
                all.iter_mut().zip(row).for_each(|(all, x)| *all += x);
            }
            all
        })
        .collect();
    let mut all = vec![0.0; block];
    for part in parts {
        all.iter_mut().zip(part).for_each(|(all, x): (&mut f64, f32)| *all += f64::from(x));
    }
    all.into_iter().map(|x| x as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_in_one_piece_is_found() {
        assert_eq!(repeats(&[1, 3, 1, 1], &[2, 3, 4, 5]), Some([2, 3, 20]));
        assert_eq!(repeats(&[1, 1, 4, 5], &[2, 3, 4, 5]), Some([6, 20, 1]));
        assert_eq!(repeats(&[1, 1], &[2, 3]), Some([1, 1, 6]));
        assert_eq!(repeats(&[2, 1, 4], &[2, 3, 4]), None);
        assert_eq!(repeats(&[2, 1, 4], &[2, 1, 4]), Some([1, 8, 1]));
    }

    #[test]
    fn every_way_to_repeat_is_computed() {
        let numbers = |shape: &[usize], from: f32| {
            let count = shape.iter().product::<usize>();
            tensor((0..count).map(|at| from + at as f32).collect(), shape)
        };
        let large = [2, 3, 4];
        for small in [[2, 3, 4], [1, 3, 1], [1, 1, 4], [2, 1, 1], [1, 1, 1], [1, 3, 4], [2, 3, 1]] {
            for swapped in [false, true] {
                let (a, b) = (numbers(&large, 1.0), numbers(&small, 5.0));
                let (x, y) = (floats(&a).to_vec(), floats(&b).to_vec());
                let shared = a.clone();
                let pair = if swapped { (b, a) } else { (a, b) };
                let result = arithmetic(Arithmetic::Sub, pair.0, pair.1, |a, _| a);
                for (at, found) in floats(&result).iter().enumerate() {
                    let index = [at / 12, at / 4 % 3, at % 4];
                    let place = (0..3).fold(0, |place, axis| {
                        place * small[axis] + if small[axis] == 1 { 0 } else { index[axis] }
                    });
                    let expected = if swapped { y[place] - x[at] } else { x[at] - y[place] };
                    assert_eq!(*found, expected, "{small:?} {swapped} {index:?}");
                }
                assert_eq!(floats(&shared), x);
                let sizes = repeats(&small, &large).unwrap();
                let sum: f32 = total(&shared, sizes).iter().sum();
                assert_eq!(sum, x.iter().sum::<f32>());
            }
        }
        let (a, b) = (numbers(&[2, 3, 1], 0.0), numbers(&[1, 3, 4], 0.0));
        let found = arithmetic(Arithmetic::Add, a, b, |_, _| tensor(vec![7.0], [1]));
        assert_eq!(floats(&found), [7.0]);
    }
}
