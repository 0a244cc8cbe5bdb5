//! The backward pass of convolution on the CPU: columns and products of matrices, as in cuDNN's
//! explicit GEMM (Chetlur et al., 2014); channels that are convolved alone are summed row by row.

use burn_backend::TensorMetadata;
use burn_backend::ops::ConvOptions;
use burn_flex::FlexTensor;
use burn_std::TensorData;
use gemm::Parallelism;
use rayon::prelude::*;

/// The sizes of one convolution over two axes.
struct Sizes {
    samples: usize,
    groups: usize,
    /// Channels of the data, and of the result, in one group.
    inner: usize,
    outer: usize,
    data: [usize; 2],
    kernel: [usize; 2],
    result: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    near: [usize; 2],
}

impl Sizes {
    fn new(x: &[usize], weight: &[usize], grad: &[usize], options: &ConvOptions<2>) -> Self {
        let groups = options.groups;
        Sizes {
            samples: x[0],
            groups,
            inner: weight[1],
            outer: weight[0] / groups,
            data: [x[2], x[3]],
            kernel: [weight[2], weight[3]],
            result: [grad[2], grad[3]],
            stride: options.stride,
            dilation: options.dilation,
            near: options.padding_begin(),
        }
    }

    fn space(&self) -> usize {
        self.data[0] * self.data[1]
    }

    fn places(&self) -> usize {
        self.result[0] * self.result[1]
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Whether every place of the result reads one place of the data, the same one.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1, 1] && self.near == [0, 0] && self.data == self.result
    }

    /// Along an axis, the results `from..to` that tap `tap` reads inside of the data for, and where
    /// the first of them reads.
    fn reach(&self, axis: usize, tap: usize) -> (usize, usize, usize) {
        let offset = (tap * self.dilation[axis]) as isize - self.near[axis] as isize;
        let stride = self.stride[axis] as isize;
        let from = if offset < 0 { (-offset + stride - 1) / stride } else { 0 };
        let room = self.data[axis] as isize - 1 - offset;
        let to = if room < 0 { 0 } else { room / stride + 1 }.min(self.result[axis] as isize);
        let to = to.max(from);
        (from as usize, to as usize, (from * stride + offset).max(0) as usize)
    }
}

/// The gradients of data and kernel, as far as they are wanted.
pub(crate) fn backward(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
    options: &ConvOptions<2>,
    wanted: [bool; 2],
) -> [Option<FlexTensor>; 2] {
    let (x, weight, grad) = (x.to_contiguous(), weight.to_contiguous(), grad.to_contiguous());
    let (data, kernel) = (x.shape().to_vec(), weight.shape().to_vec());
    let sizes = Sizes::new(&data, &kernel, grad.shape().as_slice(), options);
    let (x, w, g) = (floats(&x), floats(&weight), floats(&grad));
    let [dx, dw] = match sizes.inner * sizes.outer <= 4 && sizes.groups > 1 {
        true => by_rows(&sizes, x, w, g, wanted),
        false => by_columns(&sizes, x, w, g, wanted),
    };
    let tensor = |values: Option<Vec<f32>>, shape: Vec<usize>| {
        values.map(|values| FlexTensor::from_data(TensorData::new(values, shape)))
    };
    [tensor(dx, data), tensor(dw, kernel)]
}

/// The elements of a tensor that is dense and row-major.
fn floats(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<f32>()[start..start + tensor.shape().num_elements()]
}

type Gradients = [Option<Vec<f32>>; 2];

/// One product of matrices for the columns that each sample and group make.
fn by_columns(sizes: &Sizes, x: &[f32], w: &[f32], g: &[f32], wanted: [bool; 2]) -> Gradients {
    let rows = sizes.inner * sizes.taps();
    let (space, places) = (sizes.space(), sizes.places());
    let (slab, weights) = (sizes.groups * sizes.inner * space, sizes.outer * rows);
    let mut dx = if wanted[0] { vec![0.0; x.len()] } else { Vec::new() };
    let mut slabs: Vec<&mut [f32]> = match wanted[0] {
        true => dx.chunks_mut(slab.max(1)).collect(),
        false => (0..sizes.samples).map(|_| &mut [][..]).collect(),
    };
    let parts = rayon::current_num_threads().max(1);
    let per_part = slabs.len().div_ceil(parts).max(1);
    let sums: Vec<Vec<f32>> = slabs
        .par_chunks_mut(per_part)
        .enumerate()
        .map(|(part, slabs)| {
            let mut dw = if wanted[1] { vec![0.0; w.len()] } else { Vec::new() };
            let mut columns = vec![0.0; if sizes.is_pointwise() { 0 } else { rows * places }];
            for (at, dx) in slabs.iter_mut().enumerate() {
                let sample = part * per_part + at;
                for group in 0..sizes.groups {
                    let from = (sample * sizes.groups + group) * sizes.inner * space;
                    let x = &x[from..from + sizes.inner * space];
                    let from = (sample * sizes.groups + group) * sizes.outer * places;
                    let g = &g[from..from + sizes.outer * places];
                    if wanted[1] {
                        let dw = &mut dw[group * weights..(group + 1) * weights];
                        let columns = gather(sizes, x, &mut columns);
                        let (m, n, k) = (sizes.outer, rows, places);
                        multiply([m, n, k], dw, (g, [k, 1]), (columns, [1, k]), 1.0);
                    }
                    if wanted[0] {
                        let w = &w[group * weights..(group + 1) * weights];
                        let from = group * sizes.inner * space;
                        let dx = &mut dx[from..from + sizes.inner * space];
                        let (m, n, k) = (rows, places, sizes.outer);
                        match sizes.is_pointwise() {
                            true => multiply([m, n, k], dx, (w, [1, m]), (g, [n, 1]), 0.0),
                            false => {
                                multiply([m, n, k], &mut columns, (w, [1, m]), (g, [n, 1]), 0.0);
                                scatter(sizes, &columns, dx);
                            }
                        }
                    }
                }
            }
            dw
        })
        .collect();
    let dw = wanted[1].then(|| {
        let mut sums = sums.into_iter();
        let mut all = sums.next().unwrap_or_else(|| vec![0.0; w.len()]);
        sums.for_each(|sum| all.iter_mut().zip(sum).for_each(|(all, one)| *all += one));
        all
    });
    [wanted[0].then_some(dx), dw]
}

/// What every tap reads for every place: one row per channel and tap.
fn gather<'a>(sizes: &Sizes, x: &'a [f32], columns: &'a mut [f32]) -> &'a [f32] {
    if sizes.is_pointwise() {
        return x;
    }
    visit(sizes, |channel, tap, row| {
        let at = (channel * sizes.taps() + tap) * sizes.places();
        let columns = &mut columns[at..at + sizes.places()];
        let x = &x[channel * sizes.space()..(channel + 1) * sizes.space()];
        row.each(sizes, |to, from, count, stride| {
            let to = &mut columns[to..to + count];
            match stride {
                1 => to.copy_from_slice(&x[from..from + count]),
                _ => to.iter_mut().zip(x[from..].iter().step_by(stride)).for_each(|(t, f)| *t = *f),
            }
        });
        row.borders(sizes, |from, to| columns[from..to].fill(0.0));
    });
    columns
}

/// Adds the rows of columns to where they were read.
fn scatter(sizes: &Sizes, columns: &[f32], dx: &mut [f32]) {
    visit(sizes, |channel, tap, row| {
        let at = (channel * sizes.taps() + tap) * sizes.places();
        let columns = &columns[at..at + sizes.places()];
        let dx = &mut dx[channel * sizes.space()..(channel + 1) * sizes.space()];
        row.each(sizes, |from, to, count, stride| {
            let from = &columns[from..from + count];
            match stride {
                1 => dx[to..to + count].iter_mut().zip(from).for_each(|(t, f)| *t += f),
                _ => dx[to..].iter_mut().step_by(stride).zip(from).for_each(|(t, f)| *t += f),
            }
        });
    });
}

/// The places that one tap has data for.
struct Reach {
    rows: (usize, usize, usize),
    columns: (usize, usize, usize),
}

impl Reach {
    /// Tells of every row of places: where it starts in the result and in the data, how many there
    /// are, and how far apart they are read.
    fn each(&self, sizes: &Sizes, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (top, bottom, first) = self.rows;
        let (left, right, start) = self.columns;
        if right == left {
            return;
        }
        for row in top..bottom {
            let from = (first + (row - top) * sizes.stride[0]) * sizes.data[1] + start;
            visit(row * sizes.result[1] + left, from, right - left, sizes.stride[1]);
        }
    }

    /// Tells of every range of places that reads beside the data.
    fn borders(&self, sizes: &Sizes, mut visit: impl FnMut(usize, usize)) {
        let ((top, bottom, _), (left, right, _)) = (self.rows, self.columns);
        let width = sizes.result[1];
        visit(0, top * width);
        for row in top..bottom {
            visit(row * width, row * width + left);
            visit(row * width + right, (row + 1) * width);
        }
        visit(bottom * width, sizes.places());
    }
}

fn visit(sizes: &Sizes, mut visit: impl FnMut(usize, usize, &Reach)) {
    for tap in 0..sizes.taps() {
        let (y, x) = (tap / sizes.kernel[1], tap % sizes.kernel[1]);
        let reach = Reach { rows: sizes.reach(0, y), columns: sizes.reach(1, x) };
        (0..sizes.inner).for_each(|channel| visit(channel, tap, &reach));
    }
}

/// Row by row, for groups of few channels: one task per group.
fn by_rows(sizes: &Sizes, x: &[f32], w: &[f32], g: &[f32], wanted: [bool; 2]) -> Gradients {
    let (space, places, taps) = (sizes.space(), sizes.places(), sizes.taps());
    let weights = sizes.outer * sizes.inner * taps;
    let done: Vec<(Vec<f32>, Vec<f32>)> = (0..sizes.groups)
        .into_par_iter()
        .map(|group| {
            let mut dx = vec![0.0; if wanted[0] { sizes.samples * sizes.inner * space } else { 0 }];
            let mut dw = vec![0.0; weights];
            for sample in 0..sizes.samples {
                let slab = sample * sizes.groups + group;
                let x = &x[slab * sizes.inner * space..(slab + 1) * sizes.inner * space];
                let g = &g[slab * sizes.outer * places..(slab + 1) * sizes.outer * places];
                let w = &w[group * weights..(group + 1) * weights];
                let from = sample * sizes.inner * space;
                visit(sizes, |inner, tap, reach| {
                    let x = &x[inner * space..(inner + 1) * space];
                    for outer in 0..sizes.outer {
                        let g = &g[outer * places..(outer + 1) * places];
                        let at = (outer * sizes.inner + inner) * taps + tap;
                        let mut sum = 0.0;
                        reach.each(sizes, |place, read, count, stride| {
                            let g = &g[place..place + count];
                            if wanted[1] {
                                sum += dot(g, &x[read..], stride);
                            }
                            if wanted[0] {
                                let read = from + inner * space + read;
                                add_scaled(&mut dx[read..], g, w[at], stride);
                            }
                        });
                        dw[at] += sum;
                    }
                });
            }
            (dx, dw)
        })
        .collect();
    let mut dx = vec![0.0; if wanted[0] { x.len() } else { 0 }];
    for (group, (part, _)) in done.iter().enumerate().filter(|_| wanted[0]) {
        for (sample, part) in part.chunks(sizes.inner * space).enumerate() {
            let at = (sample * sizes.groups + group) * sizes.inner * space;
            dx[at..at + part.len()].copy_from_slice(part);
        }
    }
    let dw = wanted[1].then(|| done.into_iter().flat_map(|(_, dw)| dw).collect());
    [wanted[0].then_some(dx), dw]
}

fn dot(a: &[f32], b: &[f32], stride: usize) -> f32 {
    const LANES: usize = 8;
    if stride != 1 {
        return a.iter().zip(b.iter().step_by(stride)).map(|(a, b)| a * b).sum();
    }
    let b = &b[..a.len()];
    let mut sums = [0.0_f32; LANES];
    let (heads, tails) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = heads.remainder().iter().zip(tails.remainder()).map(|(a, b)| a * b).sum::<f32>();
    for (a, b) in heads.zip(tails) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    rest + sums.iter().sum::<f32>()
}

fn add_scaled(to: &mut [f32], from: &[f32], factor: f32, stride: usize) {
    match stride {
        1 => to[..from.len()].iter_mut().zip(from).for_each(|(to, from)| *to += factor * from),
        _ => to.iter_mut().step_by(stride).zip(from).for_each(|(to, from)| *to += factor * from),
    }
}

/// `dst = keep·dst + lhs·rhs`, of sizes `m×n` (row-major), `m×k` and `k×n`, the last two with the
/// steps of their rows and columns.
fn multiply(
    [m, n, k]: [usize; 3],
    dst: &mut [f32],
    (lhs, lhs_steps): (&[f32], [usize; 2]),
    (rhs, rhs_steps): (&[f32], [usize; 2]),
    keep: f32,
) {
    let last = |rows: usize, columns: usize, steps: [usize; 2]| {
        (rows - 1) * steps[0] + (columns - 1) * steps[1]
    };
    assert!(m > 0 && n > 0 && k > 0 && dst.len() >= m * n);
    assert!(last(m, k, lhs_steps) < lhs.len() && last(k, n, rhs_steps) < rhs.len());
    let [lhs_row, lhs_column] = lhs_steps.map(|step| step as isize);
    let [rhs_row, rhs_column] = rhs_steps.map(|step| step as isize);
    // SAFETY: all elements that the sizes and steps reach are inside of the slices, as checked
    // above, and `dst` is not shared.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
            keep != 0.0,
            lhs.as_ptr(),
            lhs_column,
            lhs_row,
            rhs.as_ptr(),
            rhs_column,
            rhs_row,
            keep,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
