//! Functions of single elements, and steps of optimizers.

use std::f32::consts::FRAC_2_SQRT_PI;
use std::mem::MaybeUninit;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::{BLOCK, floats, made, own, tensor};
use crate::optimizer::{AdamStep, SgdStep};

/// A function of every element.
fn map(x: &FlexTensor, f: impl Fn(f32) -> f32 + Sync + Copy) -> FlexTensor {
    let x = x.to_contiguous();
    let set = |to: &mut [MaybeUninit<f32>]| {
        to.par_chunks_mut(BLOCK).zip(floats(&x).par_chunks(BLOCK)).for_each(|(to, from)| {
            Arch::new().dispatch(
                #[inline(always)]
                || to.iter_mut().zip(from).for_each(|(to, &from)| *to = MaybeUninit::new(f(from))),
            );
        });
    };
    // SAFETY: the parts have all elements.
    let result = unsafe { made(x.shape().num_elements(), set) };
    tensor(result, x.shape().to_vec())
}

/// The error function, within 5e-7.
pub(crate) fn erf(x: &FlexTensor) -> FlexTensor {
    map(x, erf_of)
}

/// The best rational function of `x²` times `x` for the relative error on `|x| < 3.92`, where the
/// function reaches 1; found by weighted least squares.
#[inline(always)]
fn erf_of(x: f32) -> f32 {
    const END: f32 = 3.92;
    const ABOVE: [f32; 6] = [
        2.050_108_6e-6,
        2.848_797_6e-4,
        3.765_491_3e-3,
        5.274_833_7e-2,
        0.190_403_57,
        FRAC_2_SQRT_PI,
    ];
    const BELOW: [f32; 6] =
        [3.809_177_7e-5, 1.162_504_7e-3, 1.496_896_6e-2, 0.114_107_914, 0.502_073_5, 1.0];
    let square = x * x;
    let at = |terms: [f32; 6]| terms.iter().skip(1).fold(terms[0], |sum, term| sum * square + term);
    let found = (x * at(ABOVE) / at(BELOW)).clamp(-1.0, 1.0);
    if x.abs() > END { 1.0_f32.copysign(x) } else { found }
}

/// `x[o, c, i]·scale[c] + shift[c]`, of these sizes.
pub(crate) fn affine(
    mut x: FlexTensor,
    scale: &FlexTensor,
    shift: &FlexTensor,
    [_, channels, inner]: [usize; 3],
) -> FlexTensor {
    let (scale, shift) = (scale.to_contiguous(), shift.to_contiguous());
    let (scale, shift) = (floats(&scale), floats(&shift));
    // Assigned, so that no second tensor shares the elements, which would be copied then.
    x = x.to_contiguous();
    let values = own(&mut x);
    if inner == 1 {
        let rows = (BLOCK / channels.max(1)).max(1) * channels;
        values.par_chunks_mut(rows.max(1)).for_each(|rows| {
            for row in rows.chunks_mut(channels) {
                let affine = scale.iter().zip(shift);
                row.iter_mut().zip(affine).for_each(|(x, (scale, shift))| *x = *x * scale + shift);
            }
        });
    } else {
        let planes =
            values.par_chunks_mut(inner.max(1)).with_min_len((BLOCK / inner.max(1)).max(1));
        planes.enumerate().for_each(|(plane, values)| {
            let (scale, shift) = (scale[plane % channels], shift[plane % channels]);
            values.iter_mut().for_each(|x| *x = *x * scale + shift);
        });
    }
    x
}

/// One step of gradient descent: the parameter and its velocity.
pub(crate) fn sgd(
    mut param: FlexTensor,
    grad: &FlexTensor,
    velocity: FlexTensor,
    step: SgdStep,
) -> (FlexTensor, FlexTensor) {
    let (grad, mut velocity) = (grad.to_contiguous(), velocity.to_contiguous());
    param = param.to_contiguous();
    let [rate, decay, momentum] = [step.rate, step.decay, step.momentum].map(|x| x as f32);
    let triples =
        own(&mut param).par_chunks_mut(BLOCK).zip(own(&mut velocity).par_chunks_mut(BLOCK));
    triples.zip(floats(&grad).par_chunks(BLOCK)).for_each(|((param, velocity), grad)| {
        for ((param, velocity), grad) in param.iter_mut().zip(velocity).zip(grad) {
            let grad = grad + decay * *param;
            *velocity = momentum * *velocity + grad;
            let way = if step.nesterov { grad + momentum * *velocity } else { *velocity };
            *param -= rate * way;
        }
    });
    (param, velocity)
}

/// One step of Adam: the parameter, and the means of gradients and their squares.
pub(crate) fn adam(
    mut param: FlexTensor,
    grad: &FlexTensor,
    [mean, square]: [FlexTensor; 2],
    step: AdamStep,
) -> (FlexTensor, [FlexTensor; 2]) {
    let (grad, mut mean, mut square) =
        (grad.to_contiguous(), mean.to_contiguous(), square.to_contiguous());
    param = param.to_contiguous();
    let AdamStep { rate, shrink, decay, betas, root, epsilon } = step;
    let [rate, shrink, decay, root, epsilon] =
        [rate, shrink, decay, root, epsilon].map(|x| x as f32);
    let (first, second) = (betas.0 as f32, betas.1 as f32);
    let (new_first, new_second) = ((1.0 - betas.0) as f32, (1.0 - betas.1) as f32);
    let states = own(&mut mean).par_chunks_mut(BLOCK).zip(own(&mut square).par_chunks_mut(BLOCK));
    let all =
        own(&mut param).par_chunks_mut(BLOCK).zip(floats(&grad).par_chunks(BLOCK)).zip(states);
    all.for_each(|((param, grad), (mean, square))| {
        for ((param, grad), (mean, square)) in
            param.iter_mut().zip(grad).zip(mean.iter_mut().zip(square))
        {
            let grad = grad + decay * *param;
            *mean = first * *mean + new_first * grad;
            *square = second * *square + new_second * grad * grad;
            *param = shrink * *param - rate * *mean / (square.sqrt() * root + epsilon);
        }
    });
    (param, [mean, square])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_near() {
        let near = |x: f32| (f64::from(erf_of(x)) - libm(x)).abs() < 5e-7;
        // The series of Abramowitz and Stegun, 7.1.6.
        fn libm(x: f32) -> f64 {
            let x = f64::from(x);
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= 2.0 * x * x / f64::from(2 * n + 1);
                sum += term;
            }
            sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
        }
        assert!((-600..=600).all(|at| near(at as f32 / 100.0)));
        assert_eq!(erf_of(f32::INFINITY), 1.0);
        assert!(erf_of(f32::NAN).is_nan());
    }
}
