//! Convolution on the CPU, and its backward pass: columns and products of matrices, as in cuDNN's
//! explicit GEMM (Chetlur et al., 2014), a tile of places at a time, so that its columns stay in the
//! cache.

use std::borrow::Cow;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use burn_backend::TensorMetadata;
use burn_backend::ops::ConvOptions;
use burn_flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::matmul::{Matrix, gemm};
use super::{floats, made, open, tensor, thin, zeroed};
use crate::backend::Windows;

/// Elements of the columns of a tile, about, and the least and the most places that it has.
const TILE: (usize, usize, usize) = (1 << 18, 256, 2048);
/// Elements of columns that are few enough for one tile.
const FEW: usize = 1 << 21;
/// How many times the kernel they are at most, where threads share the work on one tile: with more,
/// every thread has tiles of its own, and a gradient of the kernel to add to.
const SHARED: usize = 4;

/// Places of a sample so few that they are listed one by one.
const LISTED: usize = 32;

thread_local! {
    /// Columns of the last convolution of a thread: memory that was there before is fast.
    static COLUMNS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The sizes of one convolution over two axes.
pub(super) struct Sizes {
    pub(super) samples: usize,
    pub(super) groups: usize,
    /// Channels of the data, and of the result, in one group.
    pub(super) inner: usize,
    pub(super) outer: usize,
    pub(super) data: [usize; 2],
    pub(super) windows: Windows,
    /// Places of the kernel.
    pub(super) taps: usize,
    /// Those that read any data, in order, with what they read: others stay in the borders.
    reaches: Vec<(usize, Reach)>,
}

impl Windows {
    /// Along an axis, the results `from..to` that tap `tap` reads inside of the data for, and where
    /// the first of them reads.
    fn reach(&self, axis: usize, data: usize, tap: usize) -> (usize, usize, usize) {
        let offset = (tap * self.dilation[axis]) as isize - self.near[axis] as isize;
        let stride = self.stride[axis] as isize;
        let from = if offset < 0 { (-offset + stride - 1) / stride } else { 0 };
        let room = data as isize - 1 - offset;
        let to = if room < 0 { 0 } else { room / stride + 1 }.min(self.result[axis] as isize);
        let to = to.max(from);
        (from as usize, to as usize, (from * stride + offset).max(0) as usize)
    }
}

impl Sizes {
    fn new(x: &[usize], weight: &[usize], options: &ConvOptions<2>) -> Self {
        let groups = options.groups;
        let (near, far) = (options.padding_begin(), options.padding_end());
        let result = std::array::from_fn(|axis| {
            let spread = options.dilation[axis] * (weight[axis + 2] - 1) + 1;
            let room = (x[axis + 2] + near[axis] + far[axis]).saturating_sub(spread);
            room / options.stride[axis] + 1
        });
        let kernel = [weight[2], weight[3]];
        let &ConvOptions { stride, dilation, .. } = options;
        let windows = Windows { kernel, stride, dilation, near, far, result };
        let outer = weight[0] / groups;
        Sizes {
            samples: x[0],
            groups,
            inner: weight[1],
            outer,
            ..Sizes::plane([x[2], x[3]], &windows)
        }
    }

    /// One plane that windows slide over.
    pub(super) fn plane(data: [usize; 2], windows: &Windows) -> Self {
        let taps = windows.kernel[0] * windows.kernel[1];
        let reach = |tap: usize| {
            let (y, x) = (tap / windows.kernel[1], tap % windows.kernel[1]);
            let (rows, columns) = (windows.reach(0, data[0], y), windows.reach(1, data[1], x));
            (tap, Reach { rows, columns, stride: windows.stride[0] })
        };
        let reads = |(_, reach): &(usize, Reach)| {
            reach.rows.0 < reach.rows.1 && reach.columns.0 < reach.columns.1
        };
        Sizes {
            samples: 1,
            groups: 1,
            inner: 1,
            outer: 1,
            data,
            windows: *windows,
            taps,
            reaches: (0..taps).map(reach).filter(reads).collect(),
        }
    }

    /// What the places of the kernel read.
    pub(super) fn reaches(&self) -> impl Iterator<Item = &Reach> {
        self.reaches.iter().map(|(_, reach)| reach)
    }

    pub(super) fn space(&self) -> usize {
        self.data[0] * self.data[1]
    }

    pub(super) fn places(&self) -> usize {
        self.windows.result[0] * self.windows.result[1]
    }

    /// Whether every place of the result reads one place of the data, the same one.
    fn is_pointwise(&self) -> bool {
        let [(_, reach)] = &self.reaches[..] else { return false };
        let [height, width] = self.data;
        self.windows.stride == [1, 1]
            && self.data == self.windows.result
            && reach.rows == (0, height, 0)
            && reach.columns == (0, width, 0)
    }

    /// Rows of the columns of one group.
    fn rows(&self) -> usize {
        self.inner * self.reaches.len()
    }

    /// Whether groups have so few channels that products of matrices are not worth it.
    fn is_thin(&self) -> bool {
        self.inner * self.outer <= 4 && self.groups > 1
    }

    /// Elements of all columns of one group.
    fn columns(&self) -> usize {
        self.samples * self.places() * self.rows()
    }

    /// Whether threads share the work on one tile.
    fn is_shared(&self) -> bool {
        let threads = rayon::current_num_threads();
        let few = FEW.min(SHARED * self.outer * self.rows());
        threads > 1 && (self.samples < threads || self.groups == 1 && self.columns() <= few)
    }

    /// The tiles of some samples, in order. None is a part of two samples.
    fn tiles(&self, samples: Range<usize>) -> Vec<Tile> {
        let (elements, least, most) = TILE;
        let wanted = match self.is_shared() && self.columns() <= FEW {
            true => (self.samples * self.places()).max(1),
            false => (elements / self.rows().max(1)).clamp(least, most),
        };
        let [lines, width] = self.windows.result;
        if self.places() > wanted {
            let parts = (self.places().div_ceil(wanted)).min(lines);
            let line = move |part: usize| part * lines / parts;
            let of = move |sample| {
                (0..parts).map(move |part| Tile {
                    samples: sample..sample + 1,
                    lines: line(part)..line(part + 1),
                    width,
                })
            };
            return samples.flat_map(of).collect();
        }
        let (many, end) = ((wanted / self.places().max(1)).max(1), samples.end);
        let tile = |from| Tile { samples: from..(from + many).min(end), lines: 0..lines, width };
        samples.step_by(many).map(tile).collect()
    }

    /// What the places of the kernel read for the lines of a tile.
    fn reaches_of(&self, tile: &Tile) -> Vec<Reach> {
        self.reaches().map(|reach| reach.within(&tile.lines)).collect()
    }

    /// The same place by place, where a sample has so few that this is faster.
    fn pairs(&self, tile: &Tile, reaches: &[Reach]) -> Option<Vec<Vec<(usize, usize)>>> {
        let pairs = || reaches.iter().map(|reach| reach.pairs(self)).collect();
        (tile.each() <= LISTED).then(pairs)
    }

    /// The kernel without the places that read nothing.
    fn compact<'a>(&self, w: &'a [f32]) -> Cow<'a, [f32]> {
        if self.reaches.len() == self.taps {
            return Cow::Borrowed(w);
        }
        let live = |kernel: &'a [f32]| self.reaches.iter().map(|&(tap, _)| kernel[tap]);
        Cow::Owned(w.chunks(self.taps).flat_map(live).collect())
    }

    /// The gradient of the whole kernel from that of the compact one.
    fn expand(&self, dw: Vec<f32>, count: usize) -> Vec<f32> {
        if self.reaches.len() == self.taps {
            return dw;
        }
        let mut all = vec![0.0; count];
        if !self.reaches.is_empty() {
            for (all, dw) in all.chunks_mut(self.taps).zip(dw.chunks(self.reaches.len())) {
                self.reaches.iter().zip(dw).for_each(|(&(tap, _), &dw)| all[tap] = dw);
            }
        }
        all
    }
}

/// Places that are computed at once: some lines of a sample, or all of several.
struct Tile {
    samples: Range<usize>,
    lines: Range<usize>,
    width: usize,
}

impl Tile {
    /// Places of each sample.
    fn each(&self) -> usize {
        self.lines.len() * self.width
    }

    /// All places.
    fn places(&self) -> usize {
        self.samples.len() * self.each()
    }
}

/// A convolution without bias.
pub(crate) fn forward(x: &FlexTensor, weight: &FlexTensor, options: &ConvOptions<2>) -> FlexTensor {
    let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
    let sizes = Sizes::new(x.shape().as_slice(), weight.shape().as_slice(), options);
    let (x, w) = (floats(&x), floats(&weight));
    let shape =
        [vec![sizes.samples, sizes.groups * sizes.outer], sizes.windows.result.to_vec()].concat();
    let slab = sizes.groups * sizes.outer * sizes.places();
    if sizes.is_thin() || sizes.rows() == 0 {
        return tensor(thin::forward(&sizes, x, w), shape);
    }
    let w = &sizes.compact(w)[..];
    let threads = rayon::current_num_threads().max(1);
    let set = |result: &mut [MaybeUninit<f32>]| {
        if sizes.is_shared() {
            return forward_part(&sizes, x, w, 0..sizes.samples, result);
        }
        // Small parts, so that no thread waits for long, of whole tiles.
        let tile = sizes.tiles(0..sizes.samples).first().map_or(1, |tile| tile.samples.len());
        let part = sizes.samples.div_ceil(4 * threads).next_multiple_of(tile);
        let part = part.min(sizes.samples.div_ceil(threads)).max(1);
        result.par_chunks_mut((part * slab).max(1)).enumerate().for_each(|(at, result)| {
            let samples = at * part..((at + 1) * part).min(sizes.samples);
            forward_part(&sizes, x, w, samples, result);
        });
    };
    // SAFETY: tiles have all places of all samples, and every channel of a tile is set.
    tensor(unsafe { made(sizes.samples * slab, set) }, shape)
}

/// The results of some samples.
fn forward_part(
    sizes: &Sizes,
    x: &[f32],
    w: &[f32],
    samples: Range<usize>,
    result: &mut [MaybeUninit<f32>],
) {
    let (rows, places, outer) = (sizes.rows(), sizes.places(), sizes.outer);
    let first = samples.start;
    let (mut buffer, mut block) = (COLUMNS.take(), Vec::new());
    for tile in sizes.tiles(samples) {
        for group in 0..sizes.groups {
            let w = (&w[group * outer * rows..(group + 1) * outer * rows], [rows, 1]);
            let (columns, step) = gather(sizes, x, &tile, group, &mut buffer);
            let (n, columns) = (tile.places(), (columns, [step, 1]));
            let start = |sample: usize| {
                ((sample - first) * sizes.groups + group) * outer * places
                    + tile.lines.start * tile.width
            };
            let shape = [outer, n, rows];
            if tile.samples.len() == 1 {
                let result = &mut result[start(tile.samples.start)..];
                multiply(sizes, shape, (result, places), w, columns, 0.0);
                continue;
            }
            block.resize(outer * n, 0.0);
            multiply(sizes, shape, (open(&mut block), n), w, columns, 0.0);
            for (at, sample) in tile.samples.clone().enumerate() {
                let result = &mut result[start(sample)..start(sample) + outer * places];
                for (channel, result) in result.chunks_mut(places).enumerate() {
                    let from = channel * n + at * places;
                    let pairs = result.iter_mut().zip(&block[from..from + places]);
                    pairs.for_each(|(to, from)| *to = MaybeUninit::new(*from));
                }
            }
        }
    }
    COLUMNS.set(buffer);
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
    let sizes = Sizes::new(&data, &kernel, options);
    let (x, w, g) = (floats(&x), floats(&weight), floats(&grad));
    let [dx, dw] = match sizes.is_thin() || sizes.rows() == 0 {
        true => thin::backward(&sizes, x, w, g, wanted),
        false => {
            let [dx, dw] = by_columns(&sizes, x, &sizes.compact(w), g, wanted);
            [dx, dw.map(|dw| sizes.expand(dw, w.len()))]
        }
    };
    [dx.map(|dx| tensor(dx, data)), dw.map(|dw| tensor(dw, kernel))]
}

pub(super) type Gradients = [Option<Vec<f32>>; 2];

/// The gradient of the data, which `run` adds to, and the sum of what it returns: that of the kernel. It is
/// given some samples at a time: the first, and where the gradients of their data are.
pub(super) fn by_samples(
    sizes: &Sizes,
    (x, w): (&[f32], &[f32]),
    wanted: [bool; 2],
    run: impl Fn(usize, &mut [&mut [f32]]) -> Vec<f32> + Sync,
) -> Gradients {
    let slab = (sizes.groups * sizes.inner * sizes.space()).max(1);
    let mut sums: Vec<Vec<f32>> = Vec::new();
    let set = |dx: &mut [MaybeUninit<f32>]| {
        let mut slabs: Vec<&mut [MaybeUninit<f32>]> = match wanted[0] {
            true => dx.chunks_mut(slab).collect(),
            false => (0..sizes.samples).map(|_| &mut [][..]).collect(),
        };
        let threads = if sizes.is_shared() { 1 } else { rayon::current_num_threads().max(1) };
        let per_part = slabs.len().div_ceil(threads).max(1);
        let part = |(part, slabs): (usize, &mut [&mut [MaybeUninit<f32>]])| {
            let mut slabs: Vec<_> = slabs.iter_mut().map(|slab| zeroed(slab)).collect();
            run(part * per_part, &mut slabs)
        };
        sums = slabs.par_chunks_mut(per_part).enumerate().map(part).collect();
    };
    // SAFETY: the slabs, of which every part sets its own to zeros, are all of it.
    let dx = unsafe { made(if wanted[0] { x.len() } else { 0 }, set) };
    let sum = |mut all: Vec<f32>, one: Vec<f32>| {
        all.iter_mut().zip(one).for_each(|(all, one)| *all += one);
        all
    };
    // Without samples, nothing moves the kernel.
    let dw = wanted[1].then(|| sums.into_iter().reduce(sum).unwrap_or_else(|| vec![0.0; w.len()]));
    [wanted[0].then_some(dx), dw]
}

/// Products of matrices for the columns of every tile and group.
fn by_columns(sizes: &Sizes, x: &[f32], w: &[f32], g: &[f32], wanted: [bool; 2]) -> Gradients {
    by_samples(sizes, (x, w), wanted, |first, slabs| {
        let mut part = Part { sizes, first, slabs, columns: COLUMNS.take() };
        let dw = part.run(x, w, g, wanted);
        COLUMNS.set(part.columns);
        dw
    })
}

/// Some samples of a backward pass.
struct Part<'a, 'b> {
    sizes: &'a Sizes,
    first: usize,
    /// The gradients of their data.
    slabs: &'a mut [&'b mut [f32]],
    columns: Vec<f32>,
}

impl Part<'_, '_> {
    /// Adds the gradients of the data, and returns the kernel's.
    fn run(&mut self, x: &[f32], w: &[f32], g: &[f32], wanted: [bool; 2]) -> Vec<f32> {
        let sizes = self.sizes;
        let (rows, outer) = (sizes.rows(), sizes.outer);
        let mut dw = if wanted[1] { vec![0.0; w.len()] } else { Vec::new() };
        let mut block = Vec::new();
        for (number, tile) in
            sizes.tiles(self.first..self.first + self.slabs.len()).iter().enumerate()
        {
            let n = tile.places();
            for group in 0..sizes.groups {
                let (g, g_step) = gradient(sizes, g, tile, group, &mut block);
                let g = (g, [g_step, 1]);
                let kernel = group * outer * rows..(group + 1) * outer * rows;
                if wanted[1] {
                    let dw = (open(&mut dw[kernel.clone()]), rows);
                    let (columns, step) = gather(sizes, x, tile, group, &mut self.columns);
                    let keep = if number == 0 { 0.0 } else { 1.0 };
                    multiply(sizes, [outer, rows, n], dw, g, (columns, [1, step]), keep);
                }
                if wanted[0] {
                    self.columns.resize(rows * n, 0.0);
                    let columns = (open(&mut self.columns), n);
                    multiply(sizes, [rows, n, outer], columns, (&w[kernel], [1, rows]), g, 0.0);
                    self.scatter(tile, group);
                }
            }
        }
        dw
    }

    /// Adds the rows of columns to where they were read.
    fn scatter(&mut self, tile: &Tile, group: usize) {
        let (sizes, n, columns) = (self.sizes, tile.places(), &self.columns);
        let skip = tile.lines.start * tile.width;
        let reaches = sizes.reaches_of(tile);
        let pairs = sizes.pairs(tile, &reaches);
        let add = |(at, dx): (usize, &mut &mut [f32])| {
            let dx = dx[group * sizes.inner * sizes.space()..].chunks_mut(sizes.space());
            for (channel, dx) in dx.take(sizes.inner).enumerate() {
                for (row, reach) in reaches.iter().enumerate() {
                    let from = (channel * reaches.len() + row) * n + at * tile.each();
                    let columns = &columns[from..from + tile.each()];
                    if let Some(pairs) = &pairs {
                        pairs[row].iter().for_each(|&(from, to)| dx[to] += columns[from - skip]);
                        continue;
                    }
                    reach.each(sizes, |from, to, count, stride| {
                        add_spread(&mut dx[to..], &columns[from - skip..][..count], stride);
                    });
                }
            }
        };
        let from = tile.samples.start - self.first;
        let slabs = &mut self.slabs[from..from + tile.samples.len()];
        match sizes.is_shared() {
            true => slabs.par_iter_mut().enumerate().for_each(add),
            false => slabs.iter_mut().enumerate().for_each(add),
        }
    }
}

/// The gradients of a tile's results, one row per channel, and the step between rows.
fn gradient<'a>(
    sizes: &Sizes,
    g: &'a [f32],
    tile: &Tile,
    group: usize,
    block: &'a mut Vec<f32>,
) -> (&'a [f32], usize) {
    let (places, outer) = (sizes.places(), sizes.outer);
    let slab = |sample: usize| (sample * sizes.groups + group) * outer * places;
    if tile.samples.len() == 1 {
        return (&g[slab(tile.samples.start) + tile.lines.start * tile.width..], places);
    }
    let n = tile.places();
    block.resize(outer * n, 0.0);
    for (at, sample) in tile.samples.clone().enumerate() {
        let g = &g[slab(sample)..slab(sample) + outer * places];
        for (channel, g) in g.chunks(places).enumerate() {
            let to = channel * n + at * places;
            block[to..to + places].copy_from_slice(g);
        }
    }
    (block, n)
}

/// What every tap reads for every place of a tile: one row per channel and tap. Also the step between
/// rows.
fn gather<'a>(
    sizes: &Sizes,
    x: &'a [f32],
    tile: &Tile,
    group: usize,
    columns: &'a mut Vec<f32>,
) -> (&'a [f32], usize) {
    let (space, n, taps) = (sizes.space(), tile.places(), sizes.reaches.len());
    let slab = |sample: usize| (sample * sizes.groups + group) * sizes.inner * space;
    if sizes.is_pointwise() && tile.samples.len() == 1 {
        return (&x[slab(tile.samples.start) + tile.lines.start * tile.width..], space);
    }
    let skip = tile.lines.start * tile.width;
    let reaches = sizes.reaches_of(tile);
    let pairs = sizes.pairs(tile, &reaches);
    let fill = |(channel, columns): (usize, &mut [f32])| {
        for ((number, reach), row) in reaches.iter().enumerate().zip(columns.chunks_mut(n)) {
            for (sample, columns) in tile.samples.clone().zip(row.chunks_mut(tile.each())) {
                let x = &x[slab(sample) + channel * space..][..space];
                if let Some(pairs) = &pairs {
                    columns.fill(0.0);
                    pairs[number].iter().for_each(|&(to, from)| columns[to - skip] = x[from]);
                    continue;
                }
                reach.each(sizes, |to, from, count, stride| {
                    let to = &mut columns[to - skip..][..count];
                    match stride {
                        1 => to.copy_from_slice(&x[from..from + count]),
                        _ => {
                            let from = x[from..].iter().step_by(stride);
                            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                        }
                    }
                });
                reach.borders(&tile.lines, tile.width, |from, to| {
                    columns[from - skip..to - skip].fill(0.0);
                });
            }
        }
    };
    columns.resize(sizes.rows() * n, 0.0);
    match sizes.is_shared() {
        true => columns.par_chunks_mut(taps * n).enumerate().for_each(fill),
        false => columns.chunks_mut(taps * n).enumerate().for_each(fill),
    }
    (columns, n)
}

/// The places that one tap has data for.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    rows: (usize, usize, usize),
    columns: (usize, usize, usize),
    /// Between the data of two rows.
    stride: usize,
}

impl Reach {
    /// The part that some lines have.
    fn within(&self, lines: &Range<usize>) -> Self {
        let (top, bottom, first) = self.rows;
        let from = top.clamp(lines.start, lines.end);
        let to = bottom.clamp(from, lines.end);
        let first = first + from.saturating_sub(top) * self.stride;
        Reach { rows: (from, to, first), ..*self }
    }

    /// Tells of every row of places: where it starts in the result and in the data, how many there
    /// are, and how far apart they are read.
    pub(super) fn each(&self, sizes: &Sizes, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (top, bottom, first) = self.rows;
        let (left, right, start) = self.columns;
        if right == left || top == bottom {
            return;
        }
        let (width, across) = (sizes.windows.result[1], sizes.windows.stride[1]);
        if across == 1 && self.stride == 1 && right - left == width && width == sizes.data[1] {
            visit(top * width, first * width + start, (bottom - top) * width, 1);
            return;
        }
        for row in top..bottom {
            let from = (first + (row - top) * self.stride) * sizes.data[1] + start;
            visit(row * width + left, from, right - left, across);
        }
    }

    /// Every place, and what is read for it.
    fn pairs(&self, sizes: &Sizes) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        self.each(sizes, |place, read, count, stride| {
            pairs.extend((0..count).map(|at| (place + at, read + at * stride)));
        });
        pairs
    }

    /// Tells of every range of places in some lines that reads beside the data.
    fn borders(&self, lines: &Range<usize>, width: usize, mut visit: impl FnMut(usize, usize)) {
        let ((top, bottom, _), (left, right, _)) = (self.rows, self.columns);
        visit(lines.start * width, top * width);
        if left > 0 || right < width {
            for row in top..bottom {
                visit(row * width, row * width + left);
                visit(row * width + right, (row + 1) * width);
            }
        }
        visit(bottom * width, lines.end * width);
    }
}

/// Adds elements to those that are `stride` apart.
fn add_spread(to: &mut [f32], from: &[f32], stride: usize) {
    match stride {
        1 => to[..from.len()].iter_mut().zip(from).for_each(|(to, from)| *to += from),
        _ => to.iter_mut().step_by(stride).zip(from).for_each(|(to, from)| *to += from),
    }
}

/// `dst = keep·dst + lhs·rhs`, of sizes `m×n`, `m×k` and `k×n`: the first with the step of its rows,
/// the others with those of their rows and columns.
fn multiply(
    sizes: &Sizes,
    shape: [usize; 3],
    dst: (&mut [MaybeUninit<f32>], usize),
    (lhs, lhs_steps): (&[f32], [usize; 2]),
    (rhs, rhs_steps): (&[f32], [usize; 2]),
    keep: f32,
) {
    let matrix = |values, steps: [usize; 2]| Matrix {
        values,
        start: 0,
        steps: steps.map(|step| step as isize),
    };
    let parallel = if sizes.is_shared() { Parallelism::Rayon(0) } else { Parallelism::None };
    gemm(shape, dst, matrix(lhs, lhs_steps), matrix(rhs, rhs_steps), keep, parallel);
}
