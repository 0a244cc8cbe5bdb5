//! The largest element of windows over two axes.

use std::mem::MaybeUninit;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::convolve::Sizes;
use super::{floats, made, tensor, zeroed};
use crate::backend::Windows;

/// How windows slide over one plane of `[n, c, h, w]`.
fn sizes(shape: &[usize], windows: &Windows) -> Sizes {
    Sizes::plane([shape[2], shape[3]], windows)
}

/// The largest elements; borders do not count.
pub(crate) fn largest(x: &FlexTensor, windows: &Windows) -> FlexTensor {
    let x = x.to_contiguous();
    let shape = x.shape().to_vec();
    let sizes = sizes(&shape, windows);
    let [height, width] = windows.result;
    let mut result = vec![f32::NEG_INFINITY; shape[0] * shape[1] * height * width];
    let planes = result.par_chunks_mut((height * width).max(1));
    planes.zip(floats(&x).par_chunks(sizes.space().max(1))).for_each(|(to, from)| {
        sizes.reaches().for_each(|reach| {
            reach.each(&sizes, |place, read, count, stride| {
                let to = &mut to[place..place + count];
                for (to, &from) in to.iter_mut().zip(from[read..].iter().step_by(stride)) {
                    // What is no number stays none.
                    *to = if from > *to || from.is_nan() { from } else { *to };
                }
            });
        });
    });
    tensor(result, [shape[0], shape[1], height, width])
}

/// The gradient of the data: the first of the largest elements of a window gets its gradient.
pub(crate) fn largest_backward(x: &FlexTensor, grad: &FlexTensor, windows: &Windows) -> FlexTensor {
    let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
    let shape = x.shape().to_vec();
    let sizes = sizes(&shape, windows);
    let (space, places) = (sizes.space(), sizes.places());
    let (x, grad) = (floats(&x), floats(&grad));
    let fill = |(plane, dx): (usize, &mut [MaybeUninit<f32>])| {
        let dx = zeroed(dx);
        let (x, grad) = (&x[plane * space..][..space], &grad[plane * places..][..places]);
        let (mut best, mut held) = (vec![f32::NEG_INFINITY; places], vec![usize::MAX; places]);
        sizes.reaches().for_each(|reach| {
            reach.each(&sizes, |place, read, count, stride| {
                for at in 0..count {
                    let (place, read) = (place + at, read + at * stride);
                    if x[read] > best[place] || held[place] == usize::MAX || x[read].is_nan() {
                        (best[place], held[place]) = (x[read], read);
                    }
                }
            });
        });
        for (&read, &grad) in held.iter().zip(grad) {
            if let Some(dx) = dx.get_mut(read) {
                *dx += grad;
            }
        }
    };
    let set = |dx: &mut [MaybeUninit<f32>]| {
        dx.par_chunks_mut(space.max(1)).enumerate().for_each(fill);
    };
    // SAFETY: every plane is set, to zeros first.
    tensor(unsafe { made(shape.iter().product(), set) }, shape)
}
