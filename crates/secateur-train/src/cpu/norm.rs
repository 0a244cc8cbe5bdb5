//! Normalization by statistics of the batch, or of every row.

use std::mem::MaybeUninit;

use burn_backend::TensorMetadata;
use burn_flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::{BLOCK, floats, made, tensor};

/// Sums are taken in so many lanes, and in so long blocks before they are added in 64 bits.
const LANES: usize = 16;
const PART: usize = 4096;

/// The sums of functions of pairs of elements.
pub(super) fn sums<const K: usize>(
    a: &[f32],
    b: &[f32],
    f: impl Fn(f32, f32) -> [f32; K] + Copy,
) -> [f64; K] {
    let mut all = [0.0; K];
    for (a, b) in a.chunks(PART).zip(b.chunks(PART)) {
        let mut lanes = [[0.0_f32; LANES]; K];
        Arch::new().dispatch(
            #[inline(always)]
            || {
                let (heads, tails) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
                let rest = heads.remainder().iter().zip(tails.remainder());
                for (a, b) in heads.zip(tails) {
                    for lane in 0..LANES {
                        let found = f(a[lane], b[lane]);
                        (0..K).for_each(|k| lanes[k][lane] += found[k]);
                    }
                }
                for (&a, &b) in rest {
                    let found = f(a, b);
                    (0..K).for_each(|k| lanes[k][0] += found[k]);
                }
            },
        );
        for (all, lanes) in all.iter_mut().zip(lanes) {
            *all += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        }
    }
    all
}

/// The planes of a channel of `[n, c, i]`.
fn planes(
    x: &[f32],
    [_, channels, inner]: [usize; 3],
    channel: usize,
) -> impl Iterator<Item = &[f32]> {
    x.chunks(inner.max(1)).skip(channel).step_by(channels)
}

/// Every channel of `[n, c, i]` normalized by its mean and variance, scaled and moved; also these.
pub(crate) fn batch(
    x: &FlexTensor,
    scale: &FlexTensor,
    offset: &FlexTensor,
    (sizes, epsilon): ([usize; 3], f64),
) -> [FlexTensor; 3] {
    let (x, scale, offset) = (x.to_contiguous(), scale.to_contiguous(), offset.to_contiguous());
    let [_, channels, inner] = sizes;
    let values = floats(&x);
    let count = (values.len() / channels.max(1)) as f64;
    let found: Vec<[f32; 2]> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let planes = || planes(values, sizes, channel);
            let mean = planes().map(|p| sums(p, p, |x, _| [x])[0]).sum::<f64>() / count;
            let middle = mean as f32;
            let square = |x: f32, _| [(x - middle) * (x - middle)];
            let variance = planes().map(|p| sums(p, p, square)[0]).sum::<f64>() / count;
            [middle, variance as f32]
        })
        .collect();
    let factor = found.iter().zip(floats(&scale)).map(|([_, variance], scale)| {
        (f64::from(*scale) / (f64::from(*variance) + epsilon).sqrt()) as f32
    });
    let factor: Vec<f32> = factor.collect();
    let offset = floats(&offset);
    let set = |to: &mut [MaybeUninit<f32>]| {
        let pairs = to.par_chunks_mut(inner.max(1)).zip(values.par_chunks(inner.max(1)));
        let pairs = pairs.with_min_len((BLOCK / inner.max(1)).max(1)).enumerate();
        pairs.for_each(|(plane, (to, from))| {
            let channel = plane % channels;
            let ([mean, _], factor, offset) = (found[channel], factor[channel], offset[channel]);
            let moved = |from: &f32| MaybeUninit::new((from - mean) * factor + offset);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = moved(from));
        });
    };
    // SAFETY: the planes have all elements.
    let result = unsafe { made(values.len(), set) };
    let [mean, variance] = [0, 1].map(|k| tensor(found.iter().map(|f| f[k]).collect(), [channels]));
    [tensor(result, x.shape().to_vec()), mean, variance]
}

/// The gradients of data, scale and offset of [`batch`].
pub(crate) fn batch_backward(
    x: &FlexTensor,
    scale: &FlexTensor,
    grad: &FlexTensor,
    [mean, variance]: [&FlexTensor; 2],
    (sizes, epsilon): ([usize; 3], f64),
) -> [FlexTensor; 3] {
    let (x, grad, scale) = (x.to_contiguous(), grad.to_contiguous(), scale.to_contiguous());
    let [_, channels, inner] = sizes;
    let (values, grads, scale) = (floats(&x), floats(&grad), floats(&scale));
    let (mean, variance) = (floats(mean), floats(variance));
    let count = (values.len() / channels.max(1)) as f64;
    // Of every channel: the mean gradient, how gradients follow the data, what both are multiplied
    // with, and the gradients of scale and offset.
    let found: Vec<[f32; 5]> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let middle = mean[channel];
            let pairs = planes(values, sizes, channel).zip(planes(grads, sizes, channel));
            let [plain, spread] = pairs.fold([0.0, 0.0], |all: [f64; 2], (x, g)| {
                let more = sums(x, g, |x, g| [g, g * (x - middle)]);
                [all[0] + more[0], all[1] + more[1]]
            });
            let factor = 1.0 / (f64::from(variance[channel]) + epsilon).sqrt();
            let own = spread * factor;
            let tilt = own * factor / count;
            [plain / count, tilt, factor * f64::from(scale[channel]), own, plain].map(|x| x as f32)
        })
        .collect();
    let set = |to: &mut [MaybeUninit<f32>]| {
        let pairs = values.par_chunks(inner.max(1)).zip(grads.par_chunks(inner.max(1)));
        let all = to.par_chunks_mut(inner.max(1)).zip(pairs);
        let all = all.with_min_len((BLOCK / inner.max(1)).max(1)).enumerate();
        all.for_each(|(plane, (to, (x, g)))| {
            let channel = plane % channels;
            let (middle, [plain, tilt, factor, ..]) = (mean[channel], found[channel]);
            for (to, (x, g)) in to.iter_mut().zip(x.iter().zip(g)) {
                *to = MaybeUninit::new(factor * (g - plain - (x - middle) * tilt));
            }
        });
    };
    // SAFETY: the planes have all elements.
    let dx = unsafe { made(values.len(), set) };
    let [own, plain] = [3, 4].map(|k| tensor(found.iter().map(|f| f[k]).collect(), [channels]));
    [tensor(dx, x.shape().to_vec()), own, plain]
}

/// The rows of a matrix normalized; also their means, and what they are multiplied by.
pub(crate) fn rows(x: &FlexTensor, epsilon: f64, centered: bool) -> [FlexTensor; 3] {
    let x = x.to_contiguous();
    let [count, size] = x.shape().dims();
    let values = floats(&x);
    let mut found = vec![[0.0; 2]; count];
    let set = |to: &mut [MaybeUninit<f32>]| {
        let pairs = to.par_chunks_mut(size.max(1)).zip(values.par_chunks(size.max(1)));
        let all = pairs.zip(&mut found).with_min_len((BLOCK / size.max(1)).max(1));
        all.for_each(|((to, from), found)| {
            let mean = sums(from, from, |x, _| [x])[0] / size as f64;
            let middle = if centered { mean as f32 } else { 0.0 };
            let square = sums(from, from, |x, _| [(x - middle) * (x - middle)])[0] / size as f64;
            let factor = (1.0 / (square + epsilon).sqrt()) as f32;
            let scaled = |from: &f32| MaybeUninit::new((from - middle) * factor);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = scaled(from));
            *found = [mean as f32, factor];
        });
    };
    // SAFETY: the rows have all elements.
    let result = unsafe { made(values.len(), set) };
    let [mean, factor] = [0, 1].map(|k| tensor(found.iter().map(|f| f[k]).collect(), [count, 1]));
    [tensor(result, [count, size]), mean, factor]
}

/// The gradient of the data of [`rows`], from what that returned.
pub(crate) fn rows_backward(
    normed: &FlexTensor,
    factor: &FlexTensor,
    grad: &FlexTensor,
    centered: bool,
) -> FlexTensor {
    let grad = grad.to_contiguous();
    let [count, size] = normed.shape().dims();
    let (normed, factor, grads) = (floats(normed), floats(factor), floats(&grad));
    let set = |to: &mut [MaybeUninit<f32>]| {
        let pairs = normed.par_chunks(size.max(1)).zip(grads.par_chunks(size.max(1)));
        let all = to.par_chunks_mut(size.max(1)).zip(pairs).zip(factor);
        all.with_min_len((BLOCK / size.max(1)).max(1)).for_each(|((to, (normed, g)), factor)| {
            let sums = sums(normed, g, |x, g| [g, g * x]);
            let [plain, tilt] = sums.map(|sum| (sum / size as f64) as f32);
            let plain = if centered { plain } else { 0.0 };
            for (to, (x, g)) in to.iter_mut().zip(normed.iter().zip(g)) {
                *to = MaybeUninit::new(factor * (g - plain - x * tilt));
            }
        });
    };
    // SAFETY: the rows have all elements.
    let dx = unsafe { made(grads.len(), set) };
    tensor(dx, [count, size])
}
