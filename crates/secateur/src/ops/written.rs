//! Operators of which no number follows a size: their rule is written where they are decoded.

mod aten;

use super::{Operator, Shapes, agree, axis, changed, letter, letters, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, FactorId, Flow, Rule, Use};
use crate::{Error, Result};
pub(crate) use aten::{ATEN, kept};

/// A rule for operands of the shapes that the node has.
#[derive(Clone, Debug)]
pub struct Written(pub Rule);

impl Operator for Written {
    fn rule(&self, _shapes: &Shapes<'_>) -> Result<Rule> {
        Ok(self.0.clone())
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("GridSample", decode_grid_sample),
    ("AffineGrid", decode_affine_grid),
    ("RoiAlign", |cx| {
        let size = ["output_height", "output_width"].map(|name| cx.int(name).unwrap_or(1));
        decode_regions(cx, "roi_align", &size)
    }),
    ("MaxRoiPool", |cx| {
        let size = cx.ints("pooled_shape").unwrap_or_default();
        decode_regions(cx, "max_roi_pool", &size)
    }),
    ("MaxUnpool", decode_max_unpool),
    ("Col2Im", decode_col2im),
    ("ReverseSequence", decode_reverse_sequence),
    ("TensorScatter", decode_tensor_scatter),
    ("Det", decode_det),
    ("DFT", decode_dft),
    ("STFT", decode_stft),
    ("MelWeightMatrix", |cx| {
        let (mels, length) = (one(cx, 0)?, one(cx, 1)?);
        made(cx, &[length / 2 + 1, mels])
    }),
    ("HannWindow", decode_window),
    ("HammingWindow", decode_window),
    ("BlackmanWindow", decode_window),
    ("RandomNormal", decode_random),
    ("RandomUniform", decode_random),
    ("EyeLike", decode_eye_like),
];

/// How ONNX Runtime spells one of them.
pub(crate) const CONTRIB: &[(&str, Decode)] = &[("GridSample", decode_grid_sample)];

const POSITIONS: &str = "it is read at computed positions";
const MADE: &str = "its size is spelled";

/// Fixed axes named `prefix0`, `prefix1`, …
pub(super) fn fixed(
    r: &mut Rule,
    prefix: &str,
    shape: &[Extent],
    reason: &'static str,
) -> Vec<Dim> {
    let axes = shape.iter().enumerate();
    axes.map(|(i, &extent)| r.fixed(format!("{prefix}{i}"), extent, reason).into()).collect()
}

fn joined(lead: &[FactorId], rest: &[Dim]) -> Vec<Dim> {
    lead.iter().map(|&factor| factor.into()).chain(rest.iter().cloned()).collect()
}

fn extent(size: i64) -> Result<Extent> {
    let size = usize::try_from(size).ok().filter(|size| (1..1 << 31).contains(size));
    size.map(Extent::fixed).ok_or_else(|| Error::malformed("no usable size"))
}

/// The one number in an input.
fn one(cx: &mut Decoder<'_, '_>, slot: usize) -> Result<i64> {
    cx.known(slot)?.first().copied().ok_or_else(|| Error::malformed("no number"))
}

/// A tensor made of numbers only.
fn made(cx: &mut Decoder<'_, '_>, sizes: &[i64]) -> Result<()> {
    let mut r = Rule::new("made");
    let shape = sizes.iter().map(|&size| extent(size)).collect::<Result<Vec<_>>>()?;
    let dims = fixed(&mut r, "m", &shape, MADE);
    r.result(dims);
    r.flow = Flow::Break;
    cx.node_over(0, Written(r))
}

/// Data `[n, c, s…]`, read at the positions `[n, s'…, k]`.
fn decode_grid_sample(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let rule = grid_sample(&cx.input_shape(0)?, &cx.input_shape(1)?)?;
    cx.node(Written(rule))
}

fn grid_sample(data: &[Extent], grid: &[Extent]) -> Result<Rule> {
    let (data, grid) = (ranked(&[Some(data)], 0, 3)?, ranked(&[Some(grid)], 0, 3)?);
    let mut r = Rule::new("grid_sample");
    let (n, c) = (r.free("n", data[0]), r.free("c", data[1]));
    let from = fixed(&mut r, "s", &data[2..], POSITIONS);
    let to = fixed(&mut r, "t", &grid[1..grid.len() - 1], POSITIONS);
    let k = r.fixed("k", grid[grid.len() - 1], "it is a position");
    r.operand(Use::Data, joined(&[n, c], &from));
    r.operand(Use::Data, joined(&[n], &[to.clone(), vec![k.into()]].concat()));
    r.result(joined(&[n, c], &to));
    r.flow = Flow::product([0], []);
    Ok(r)
}

/// Positions from matrices `[n, k, k + 1]`. Of the size that is given, the channels do not matter.
fn decode_affine_grid(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (theta, sizes) = (cx.input_shape(0)?, cx.exprs(1)?);
    let [n, k, columns] = theta[..] else { return Err(Error::malformed("not three axes")) };
    let mut shape = Vec::new();
    for &expr in sizes.iter().skip(2) {
        let (size, open) = cx.eval(expr)?;
        shape.push(Extent { open, ..extent(size)? });
    }
    cx.freeze(sizes.get(2..).unwrap_or_default());
    let mut r = Rule::new("affine_grid");
    let lead = r.fixed("n", n, MADE);
    let matrix = fixed(&mut r, "k", &[k, columns], "it is a position");
    let to = fixed(&mut r, "t", &shape, MADE);
    let last = matrix[..1].to_vec();
    r.operand(Use::Data, joined(&[lead], &matrix));
    r.result(joined(&[lead], &[to, last].concat()));
    r.flow = Flow::Break;
    cx.node_over(1, Written(r))
}

/// Data `[n, c, h, w]`, of which regions (operand 1) are cut out and brought to one size.
fn decode_regions(cx: &mut Decoder<'_, '_>, name: &'static str, size: &[i64]) -> Result<()> {
    let (data, regions) = (cx.input_shape(0)?, cx.input_shape(1)?);
    let (data, regions) = (ranked(&[Some(&data)], 0, 4)?, ranked(&[Some(&regions)], 0, 2)?);
    agree("spatial axes", data.len() - 2, size.len())?;
    let mut r = Rule::new(name);
    let c = r.free("c", data[1]);
    let n = r.fixed("n", data[0], "rows are picked by index");
    let from = fixed(&mut r, "s", &data[2..], POSITIONS);
    let count = r.free("r", regions[0]);
    let corners = r.fixed("k", regions[1], "it is a position");
    let size = size.iter().map(|&size| extent(size)).collect::<Result<Vec<_>>>()?;
    let to = fixed(&mut r, "t", &size, MADE);
    r.operand(Use::Data, joined(&[n, c], &from));
    r.operand(Use::Data, vec![count.into(), corners.into()]);
    if cx.has(2) {
        r.operand(Use::Data, vec![count.into()]);
    }
    r.result(joined(&[count, c], &to));
    r.flow = Flow::product([0], []);
    cx.node(Written(r))
}

/// The inverse of a pool, from the positions of the maxima.
fn decode_max_unpool(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const COUNTED: &str = "positions are counted over it";
    let data = cx.input_shape(0)?;
    let data = ranked(&[Some(&data)], 0, 3)?;
    let spatial = data.len() - 2;
    let sizes = match cx.has(2) {
        true => cx.known(2)?.get(2..).unwrap_or_default().to_vec(),
        false => {
            let kernel = cx.ints("kernel_shape").unwrap_or_default();
            let strides = cx.ints("strides").unwrap_or_else(|| vec![1; spatial]);
            let pads = cx.ints("pads").unwrap_or_else(|| vec![0; 2 * spatial]);
            agree("strides and spatial axes", strides.len(), spatial)?;
            agree("kernel and spatial axes", kernel.len(), spatial)?;
            agree("pads and spatial ends", pads.len(), 2 * spatial)?;
            let size = |i: usize| {
                let steps = (data[2 + i].size as i64 - 1).saturating_mul(strides[i]);
                let cut = pads[i].saturating_add(pads[spatial + i]);
                steps.saturating_add(kernel[i]).saturating_sub(cut)
            };
            (0..spatial).map(size).collect()
        }
    };
    agree("sizes and spatial axes", sizes.len(), spatial)?;
    let shape = sizes.iter().map(|&size| extent(size)).collect::<Result<Vec<_>>>()?;
    let mut r = Rule::new("max_unpool");
    let from = fixed(&mut r, "d", data, COUNTED);
    let to = fixed(&mut r, "t", &shape, COUNTED);
    r.operand(Use::Data, from.clone());
    r.operand(Use::Data, from.clone());
    r.result([&from[..2], &to].concat());
    r.flow = Flow::Break;
    cx.node_over(2, Written(r))
}

/// Blocks of pixels `[n, c·k, l]` added up to an image.
fn decode_col2im(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let [n, c, l] = data[..] else { return Err(Error::malformed("not three axes")) };
    let (image, block) = (cx.known(1)?, cx.known(2)?);
    let size = block.iter().try_fold(1usize, |n, &b| n.checked_mul(usize::try_from(b).ok()?));
    let size = size.filter(|&size| size > 0 && c.size % size == 0);
    let size = size.ok_or_else(|| Error::malformed("channels that are no whole blocks"))?;
    let image = image.iter().map(|&size| extent(size)).collect::<Result<Vec<_>>>()?;
    let mut r = Rule::new("col2im");
    let (n, c) = (r.free("n", n), r.free("c", Extent::fixed(c.size / size)));
    let k = r.fixed("k", Extent::fixed(size), "it is a block of pixels");
    let l = r.fixed("l", l, "blocks are laid out along it");
    let to = fixed(&mut r, "t", &image, "blocks are laid out along it");
    r.operand(Use::Data, vec![n.into(), Dim::product([c, k]), l.into()]);
    r.result(joined(&[n, c], &to));
    r.flow = Flow::product([0], []);
    cx.node_over(1, Written(r))
}

/// A tensor turned around along one axis, as far as the lengths of another one say.
fn decode_reverse_sequence(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let time = axis(cx.int("time_axis").unwrap_or(0), data.len())?;
    let batch = axis(cx.int("batch_axis").unwrap_or(1), data.len())?;
    let mut r = Rule::new("reverse_sequence");
    let mut dims = Vec::new();
    for (i, &size) in data.iter().enumerate() {
        dims.push(match i == time {
            true => r.fixed(letter(i), size, "it is turned around").into(),
            false => Dim::from(r.free(letter(i), size)),
        });
    }
    r.operand(Use::Data, dims.clone());
    r.operand(Use::Data, vec![dims[batch].clone()]);
    r.result(dims);
    r.flow = Flow::First;
    cx.node(Written(r))
}

/// A cache (operand 0) with rows replaced (1) from given positions on (2).
fn decode_tensor_scatter(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (past, update) = (cx.input_shape(0)?, cx.input_shape(1)?);
    agree("ranks of cache and update", past.len(), update.len())?;
    let along = axis(cx.int("axis").unwrap_or(-2), past.len())?;
    let mut r = Rule::new("tensor_scatter");
    let after = |i| (i == along).then(|| update[i]);
    let [dims, rows] = changed(&mut r, &past, after, "rows are written by position");
    r.operand(Use::Data, dims.clone());
    r.operand(Use::Data, rows);
    if cx.has(2) {
        r.operand(Use::Data, dims[..1].to_vec());
    }
    r.result(dims);
    r.flow = Flow::product([], [0, 1]);
    cx.node(Written(r))
}

fn decode_det(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let (lead, matrix) = ranked(&[Some(&data)], 0, 2)?.split_at(data.len() - 2);
    let mut r = Rule::new("det");
    let lead = letters(&mut r, lead);
    let matrix = fixed(&mut r, "m", matrix, "it is an axis of a matrix");
    r.operand(Use::Data, [lead.clone(), matrix].concat());
    r.result(lead);
    r.flow = Flow::product([0], []);
    cx.node(Written(r))
}

/// A transform along one axis of complex or real numbers, which are the last axis.
fn decode_dft(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let rank = ranked(&[Some(&data)], 0, 2)?.len();
    let along = match cx.opset() < 20 {
        true => cx.int("axis").unwrap_or(1),
        false if cx.has(2) => one(cx, 2)?,
        false => -2,
    };
    let along = axis(along, rank)?;
    let length = if cx.has(1) { one(cx, 1)? } else { data[along].size as i64 };
    let flag = |name: &str| cx.int(name).unwrap_or(0) != 0;
    let half = flag("onesided") && !flag("inverse");
    let reason = "it is transformed along it";
    let mut r = Rule::new("dft");
    let (mut dims, mut result) = (Vec::new(), Vec::new());
    for (i, &size) in data.iter().enumerate() {
        let (from, to) = match i {
            _ if i == rank - 1 => {
                let parts = r.fixed("z", size, "it is a complex number");
                let real = flag("onesided") && flag("inverse");
                let made = Extent::fixed(if real { 1 } else { 2 });
                (parts, r.fixed("z'", made, "it is a complex number"))
            }
            _ if i == along => {
                let made = extent(if half { length / 2 + 1 } else { length })?;
                let made = Extent { open: size.open, ..made };
                (r.fixed(letter(i), size, reason), r.fixed(letter(i) + "'", made, reason))
            }
            _ => {
                let free = r.free(letter(i), size);
                (free, free)
            }
        };
        dims.push(from.into());
        result.push(to.into());
    }
    r.operand(Use::Data, dims);
    r.result(result);
    r.flow = Flow::product([0], []);
    cx.node_over(1, Written(r))
}

/// Signals `[b, length, parts]` in frames, transformed: `[b, frames, bins, 2]`.
fn decode_stft(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let data = ranked(&[Some(&data)], 0, 2)?;
    let step = one(cx, 1)?;
    let length = match (cx.has(3), cx.has(2)) {
        (true, _) => one(cx, 3)?,
        (false, true) => cx.input_shape(2)?.first().map_or(0, |extent| extent.size as i64),
        (false, false) => data[1].size as i64,
    };
    if step < 1 || length < 1 || length > data[1].size as i64 {
        return Err(Error::malformed("no usable frames"));
    }
    let frames = (data[1].size as i64 - length) / step + 1;
    let one_sided = cx.int("onesided").unwrap_or(1) != 0;
    let bins = if one_sided { length / 2 + 1 } else { length };
    let mut r = Rule::new("stft");
    let reason = "it is transformed along it";
    let b = r.free("b", data[0]);
    let from = fixed(&mut r, "s", &data[1..], reason);
    let frames = Extent { open: data[1].open, ..extent(frames)? };
    let to = fixed(&mut r, "t", &[frames, extent(bins)?, Extent::fixed(2)], reason);
    r.operand(Use::Data, joined(&[b], &from));
    r.result(joined(&[b], &to));
    r.flow = Flow::product([0], []);
    let signal = cx.input(0)?;
    let mut inputs = vec![signal];
    if let Some(window) = cx.optional(2)? {
        let shape = cx.shape(window)?.to_vec();
        let dims = fixed(&mut r, "w", &shape, reason);
        r.operand(Use::Data, dims);
        inputs.push(window);
    }
    let result = cx.emit(Written(r), &inputs)?;
    cx.bind(0, result);
    Ok(())
}

fn decode_window(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let size = one(cx, 0)?;
    made(cx, &[size])
}

fn decode_random(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let sizes = cx.ints("shape").ok_or_else(|| Error::malformed("no `shape`"))?;
    made(cx, &sizes)
}

fn decode_eye_like(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.input_shape(0)?;
    let mut r = Rule::new("eye_like");
    let dims = fixed(&mut r, "m", &data, "it is an axis of a matrix");
    r.operand(Use::Data, dims.clone());
    r.result(dims);
    r.flow = Flow::Break;
    cx.node(Written(r))
}
