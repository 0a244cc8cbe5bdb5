//! Convolution of few channels in each of many groups, depthwise ones above all: with its borders, a plane
//! is a row of numbers in which the places of the kernel are steps in memory, so that all windows are
//! summed at once. Strides leave out some of the sums.

use pulp::Arch;
use rayon::prelude::*;

use super::BLOCK;
use super::convolve::{Gradients, Sizes, by_samples};

/// Sums that are held in registers.
const LANES: usize = 32;

/// How a plane lies in memory with its borders.
struct Plane<'a> {
    sizes: &'a Sizes,
    /// From one line to the next.
    pitch: usize,
    /// All elements.
    count: usize,
    /// From a window's first element to what each place of the kernel reads.
    steps: Vec<usize>,
    /// From the first window to behind the last one, those that a stride leaves out counted.
    windows: usize,
}

impl<'a> Plane<'a> {
    fn new(sizes: &'a Sizes) -> Self {
        let windows = &sizes.windows;
        let [height, width] =
            [0, 1].map(|axis| sizes.data[axis] + windows.near[axis] + windows.far[axis]);
        let step = |tap: usize| {
            let (y, x) = (tap / windows.kernel[1], tap % windows.kernel[1]);
            y * windows.dilation[0] * width + x * windows.dilation[1]
        };
        let last = |axis: usize| (windows.result[axis] - 1) * windows.stride[axis];
        Plane {
            sizes,
            pitch: width,
            count: height * width,
            steps: (0..sizes.taps).map(step).collect(),
            windows: last(0) * width + last(1) + 1,
        }
    }

    /// The furthest step.
    fn reach(&self) -> usize {
        self.steps.last().copied().unwrap_or(0)
    }

    /// Where data lie.
    fn lines(&self) -> impl Iterator<Item = usize> {
        let [top, left] = self.sizes.windows.near;
        (0..self.sizes.data[0]).map(move |line| (top + line) * self.pitch + left)
    }

    /// Puts data in the middle of zeros.
    fn surround(&self, x: &[f32], to: &mut Vec<f32>) {
        to.clear();
        to.resize(self.count + LANES, 0.0);
        let width = self.sizes.data[1].max(1);
        for (line, x) in self.lines().zip(x.chunks(width)) {
            to[line..line + x.len()].copy_from_slice(x);
        }
    }

    /// Puts what belongs to windows where these start, with zeros between and before them, so that
    /// every place reads backwards.
    fn spread(&self, g: &[f32], to: &mut Vec<f32>) {
        to.clear();
        to.resize(self.reach() + self.count + LANES, 0.0);
        let [down, across] = self.sizes.windows.stride;
        let lines = g.chunks(self.sizes.windows.result[1].max(1)).enumerate();
        for (line, g) in lines {
            let to = &mut to[self.reach() + line * down * self.pitch..];
            to.iter_mut().step_by(across).zip(g).for_each(|(to, g)| *to = *g);
        }
    }

    /// Takes the sums of windows.
    fn pick(&self, sums: &[f32], to: &mut [f32]) {
        let [down, across] = self.sizes.windows.stride;
        let lines = to.chunks_mut(self.sizes.windows.result[1].max(1)).enumerate();
        for (line, to) in lines {
            let sums = sums[line * down * self.pitch..].iter().step_by(across);
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to = *sum);
        }
    }
}

/// Vectors that threads use again.
#[derive(Default)]
struct Room {
    data: Vec<f32>,
    grads: Vec<f32>,
    sums: Vec<f32>,
}

fn cleared(sums: &mut Vec<f32>, count: usize) {
    sums.clear();
    sums.resize(count.next_multiple_of(LANES), 0.0);
}

/// Adds to every sum what steps lead to, times weights. Behind the data for the last sum lie `LANES` more
/// numbers.
fn add(
    sums: &mut [f32],
    data: &[f32],
    steps: impl Iterator<Item = usize> + Clone,
    weights: &[f32],
) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (number, sums) in sums.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let mut held = *sums;
                for (step, weight) in steps.clone().zip(weights) {
                    let data = &data[number * LANES + step..][..LANES];
                    for lane in 0..LANES {
                        held[lane] += weight * data[lane];
                    }
                }
                *sums = held;
            }
        },
    );
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut sums = [0.0_f32; LANES];
            let ((heads, rest), (tails, end)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in heads.iter().zip(tails) {
                for lane in 0..LANES {
                    sums[lane] += a[lane] * b[lane];
                }
            }
            let rest = rest.iter().zip(end).map(|(a, b)| a * b).sum::<f32>();
            rest + sums.iter().sum::<f32>()
        },
    )
}

/// The result.
pub(super) fn forward(sizes: &Sizes, x: &[f32], w: &[f32]) -> Vec<f32> {
    let (plane, places) = (&Plane::new(sizes), sizes.places());
    let (space, kernels) = (sizes.inner * sizes.space(), sizes.outer * sizes.inner * sizes.taps);
    let mut result = vec![0.0; sizes.samples * sizes.groups * sizes.outer * places];
    let groups = result.par_chunks_mut((sizes.outer * places).max(1)).enumerate();
    let groups = groups.with_min_len((BLOCK / (sizes.outer * places).max(1)).max(1));
    groups.for_each_init(Room::default, |room, (at, result)| {
        let (x, group) = (&x[at * space..(at + 1) * space], at % sizes.groups);
        let w = &w[group * kernels..(group + 1) * kernels];
        for (result, w) in
            result.chunks_mut(places.max(1)).zip(w.chunks((sizes.inner * sizes.taps).max(1)))
        {
            cleared(&mut room.sums, plane.windows);
            for (x, w) in x.chunks(sizes.space().max(1)).zip(w.chunks(sizes.taps.max(1))) {
                plane.surround(x, &mut room.data);
                add(&mut room.sums, &room.data, plane.steps.iter().copied(), w);
            }
            plane.pick(&room.sums, result);
        }
    });
    result
}

/// The gradients of data and kernel, as far as they are wanted.
pub(super) fn backward(
    sizes: &Sizes,
    x: &[f32],
    w: &[f32],
    g: &[f32],
    wanted: [bool; 2],
) -> Gradients {
    let (plane, space, places) = (&Plane::new(sizes), sizes.space(), sizes.places());
    by_samples(sizes, (x, w), wanted, |first, slabs| {
        let (mut dw, mut room) = (vec![0.0; if wanted[1] { w.len() } else { 0 }], Room::default());
        for (sample, slab) in (first..).zip(slabs) {
            for group in 0..sizes.groups {
                let at = sample * sizes.groups + group;
                let g = &g[at * sizes.outer * places..(at + 1) * sizes.outer * places];
                for inner in 0..sizes.inner {
                    let x = &x[(at * sizes.inner + inner) * space..][..space];
                    if wanted[1] {
                        plane.surround(x, &mut room.data);
                    }
                    cleared(&mut room.sums, plane.count);
                    for (outer, g) in g.chunks(places.max(1)).enumerate() {
                        plane.spread(g, &mut room.grads);
                        let kernel = (group * sizes.outer + outer) * sizes.inner + inner;
                        let kernel = kernel * sizes.taps..(kernel + 1) * sizes.taps;
                        if wanted[1] {
                            let g = &room.grads[plane.reach()..][..plane.windows];
                            for (dw, &step) in dw[kernel.clone()].iter_mut().zip(&plane.steps) {
                                *dw += dot(g, &room.data[step..step + plane.windows]);
                            }
                        }
                        if wanted[0] {
                            let back = plane.steps.iter().map(|step| plane.reach() - step);
                            add(&mut room.sums, &room.grads, back, &w[kernel]);
                        }
                    }
                    if wanted[0] {
                        let dx = &mut slab[(group * sizes.inner + inner) * space..][..space];
                        let lines = plane.lines().zip(dx.chunks_mut(sizes.data[1].max(1)));
                        lines.for_each(|(line, dx)| {
                            dx.copy_from_slice(&room.sums[line..line + dx.len()])
                        });
                    }
                }
            }
        }
        dw
    })
}
