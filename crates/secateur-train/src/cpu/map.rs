//! Functions of single elements, and steps of optimizers.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};
use std::mem::MaybeUninit;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::{BLOCK, floats, made, own, tensor};
use crate::backend::{Curve, GELU_CUBE, GELU_SCALE};
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

/// A function of every element, with the error function within 5e-7.
pub(crate) fn curve(kind: Curve, x: &FlexTensor) -> FlexTensor {
    match kind {
        Curve::Erf => map(x, erf),
        Curve::Sigmoid => map(x, sigmoid),
        Curve::Swish(alpha) => {
            let alpha = alpha as f32;
            map(x, move |x| x * sigmoid(alpha * x))
        }
        Curve::Gelu => map(x, |x| x * share(x)),
        Curve::GeluTanh => map(x, |x| x * sigmoid(bent(x))),
    }
}

/// Its gradient.
pub(crate) fn curve_backward(kind: Curve, x: &FlexTensor, grad: FlexTensor) -> FlexTensor {
    let gate_slope = |gate: f32| gate * (1.0 - gate);
    match kind {
        Curve::Erf => scale(x, grad, |x| FRAC_2_SQRT_PI * exp(-x * x)),
        Curve::Sigmoid => scale(x, grad, move |x| gate_slope(sigmoid(x))),
        Curve::Swish(alpha) => {
            let alpha = alpha as f32;
            scale(x, grad, move |x| {
                let gate = sigmoid(alpha * x);
                gate + alpha * x * gate_slope(gate)
            })
        }
        Curve::Gelu => scale(x, grad, |x| {
            share(x) + x * exp(-0.5 * x * x) * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0)
        }),
        Curve::GeluTanh => scale(x, grad, move |x| {
            let (gate, slope) = (sigmoid(bent(x)), SCALE + 3.0 * SCALE * CUBE * x * x);
            gate + x * slope * gate_slope(gate)
        }),
    }
}

/// Every gradient times a function of its element.
fn scale(x: &FlexTensor, grad: FlexTensor, f: impl Fn(f32) -> f32 + Sync + Copy) -> FlexTensor {
    pass(x, grad, move |x, grad| grad * f(x))
}

/// What becomes of every gradient at its element.
fn pass(x: &FlexTensor, grad: FlexTensor, f: impl Fn(f32, f32) -> f32 + Sync + Copy) -> FlexTensor {
    let (x, mut grad) = (x.to_contiguous(), grad.to_contiguous());
    own(&mut grad).par_chunks_mut(BLOCK).zip(floats(&x).par_chunks(BLOCK)).for_each(|(grad, x)| {
        Arch::new().dispatch(
            #[inline(always)]
            || grad.iter_mut().zip(x).for_each(|(grad, &x)| *grad = f(x, *grad)),
        );
    });
    grad
}

/// The positive part of every element; what is no number stays none.
pub(crate) fn rectify(mut x: FlexTensor) -> FlexTensor {
    // Assigned, so that no second tensor shares the elements, which would be copied then.
    x = x.to_contiguous();
    let rectified = |x: f32| if x <= 0.0 { 0.0 } else { x };
    own(&mut x)
        .par_chunks_mut(BLOCK)
        .for_each(|values| values.iter_mut().for_each(|x| *x = rectified(*x)));
    x
}

/// Its gradient, from the result.
pub(crate) fn rectify_backward(output: &FlexTensor, grad: FlexTensor) -> FlexTensor {
    pass(output, grad, |output, grad| if output <= 0.0 { 0.0 } else { grad })
}

const SCALE: f32 = GELU_SCALE as f32;
const CUBE: f32 = GELU_CUBE as f32;

/// Twice what the hyperbolic tangent in GELU is taken of.
#[inline(always)]
fn bent(x: f32) -> f32 {
    SCALE * (x + CUBE * x * x * x)
}

/// The standard normal distribution's share below `x`.
#[inline(always)]
fn share(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * FRAC_1_SQRT_2)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The exponential function, within 2e-7 of its value, and of the nearest normal number where it has none.
/// With `x = n·ln 2 + r`, it is `2ⁿ` times the Taylor series of `r`, where `|r| < 0.35`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // ln 2 as a sum, so that products of the first with small integers have no rounding.
    const LN2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    const TERMS: [f32; 8] =
        [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // Added, it leaves no place for fractions, and an integer in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2.0 - n * LN2.1;
    let series = TERMS.iter().skip(1).fold(TERMS[0], |sum, term| sum * r + term);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    series * power
}

/// The best rational function of `x²` times `x` for the relative error on `|x| < 3.92`, where the
/// function reaches 1; found by weighted least squares.
#[inline(always)]
fn erf(x: f32) -> f32 {
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
    use burn_backend::ops::ActivationOps;

    use super::*;
    use crate::Cpu;

    #[test]
    fn the_error_function_is_near() {
        let near = |x: f32| (f64::from(erf(x)) - libm(x)).abs() < 5e-7;
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
        assert_eq!(erf(f32::INFINITY), 1.0);
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn the_exponential_function_is_near() {
        for at in -8700..=8800 {
            let x = at as f32 / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "exp({x}) = {found}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn rectified_elements_and_gradients_are_those_of_the_backend() {
        let x = [-2.0, -0.0, 0.0, 0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let x = tensor(x.to_vec(), vec![7]);
        let grad = tensor(vec![1.0, 2.0, 3.0, f32::INFINITY, 5.0, f32::NAN, f32::NAN], vec![7]);
        let (found, expected) = (rectify(x.clone()), Cpu::relu(x));
        let bits = |x: &FlexTensor| floats(x).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected));
        let expected = Cpu::relu_backward(expected, grad.clone());
        assert_eq!(bits(&rectify_backward(&found, grad)), bits(&expected));
    }

    #[test]
    fn curves_and_their_slopes_are_those_of_primitives() {
        let x: Vec<f32> = (-80..=80).map(|at| at as f32 / 10.0).collect();
        let x = tensor(x, vec![161]);
        let ones = tensor(vec![1.0; 161], vec![161]);
        let kinds = [Curve::Erf, Curve::Sigmoid, Curve::Swish(1.702), Curve::Gelu, Curve::GeluTanh];
        for kind in kinds {
            let pairs = [
                (curve(kind, &x), kind.plain::<Cpu>(x.clone())),
                (curve_backward(kind, &x, ones.clone()), kind.slope::<Cpu>(x.clone())),
            ];
            for (found, expected) in pairs {
                let apart =
                    floats(&found).iter().zip(floats(&expected)).map(|(a, b)| (a - b).abs());
                assert!(apart.fold(0.0, f32::max) < 2e-6, "{kind:?}");
            }
        }
    }
}
