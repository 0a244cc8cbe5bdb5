//! How PyTorch spells operators of which no number follows a size.

use super::{MADE, POSITIONS, Written, extent, fixed, joined};
use crate::graph::{Extent, ValueId};
use crate::ops::contract::Contract;
use crate::ops::{agree, changed, letter, letters, ranked};
use crate::rule::{Dim, Flow, Rule, Use};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.grid_sampler", decode_grid_sample),
    ("aten.grid_sampler_2d", decode_grid_sample),
    ("aten.grid_sampler_3d", decode_grid_sample),
    ("torchvision.roi_align", |cx| {
        let size = [cx.int("pooled_height", 1)?, cx.int("pooled_width", 1)?];
        let (data, regions) = (cx.tensor("input")?, cx.tensor("rois")?);
        let (from, boxes) = (cx.shape(data)?, cx.shape(regions)?);
        let (from, boxes) = (ranked(&[Some(&from)], 0, 4)?, ranked(&[Some(&boxes)], 0, 2)?);
        let mut r = Rule::new("roi_align");
        let c = r.free("c", from[1]);
        let n = r.fixed("n", from[0], "rows are picked by index");
        let s = fixed(&mut r, "s", &from[2..], POSITIONS);
        let count = r.free("r", boxes[0]);
        let corners = r.fixed("k", boxes[1], "it is a position");
        let size = size.iter().map(|&size| extent(size)).collect::<Result<Vec<_>>>()?;
        let to = fixed(&mut r, "t", &size, MADE);
        r.operand(Use::Data, joined(&[n, c], &s));
        r.operand(Use::Data, vec![count.into(), corners.into()]);
        r.result(joined(&[count, c], &to));
        r.flow = Flow::product([0], []);
        cx.node(Written(r), &[data, regions])
    }),
    ("aten._grouped_mm", decode_grouped_product),
    ("aten.histc", |cx| {
        let data = cx.tensor("self")?;
        let (from, bins) = (cx.shape(data)?, cx.result_shape(0)?);
        let mut r = Rule::new("histogram");
        let dims = fixed(&mut r, "s", &from, "its values are counted");
        r.operand(Use::Data, dims);
        let bins = fixed(&mut r, "b", &bins, MADE);
        r.result(bins);
        r.flow = Flow::Break;
        cx.node(Written(r), &[data])
    }),
    ("aten.bucketize", |cx| {
        let (data, bounds) = (cx.tensor("self")?, cx.tensor("boundaries")?);
        let mut r = Rule::new("bucketize");
        let dims = letters(&mut r, &cx.shape(data)?);
        r.operand(Use::Data, dims.clone());
        let bounds_dims = fixed(&mut r, "b", &cx.shape(bounds)?, "numbers are looked up in it");
        r.operand(Use::Data, bounds_dims);
        r.result(dims);
        r.flow = Flow::Break;
        cx.node(Written(r), &[data, bounds])
    }),
    ("aten.segment_reduce", |cx| {
        let data = cx.tensor("data")?;
        let (from, to) = (cx.shape(data)?, cx.result_shape(0)?);
        let along = crate::ops::axis(cx.int("axis", 0)?, from.len())?;
        agree("axes before and after", from.len(), to.len())?;
        let mut r = Rule::new("segment_reduce");
        let after = |index| (index == along).then(|| to[index]);
        let [dims, result] = changed(&mut r, &from, after, "segments of it are reduced");
        r.operand(Use::Data, dims);
        let mut operands = vec![data];
        operands.extend(kept(cx, &mut r, &["lengths", "indices", "offsets"], MADE)?);
        r.result(result);
        r.flow = Flow::Break;
        cx.node(Written(r), &operands)
    }),
    ("aten._ctc_loss", |cx| whole(cx, &["log_probs", "targets"], CLASSES)),
    ("aten.ctc_loss", |cx| whole(cx, &["log_probs", "targets"], CLASSES)),
    ("aten.cross_entropy_loss", |cx| whole(cx, &["self", "target", "weight"], CLASSES)),
    ("aten.nll_loss_forward", |cx| whole(cx, &["self", "target", "weight"], CLASSES)),
    ("aten.nll_loss2d_forward", |cx| whole(cx, &["self", "target", "weight"], CLASSES)),
    ("aten._linalg_svd", |cx| whole(cx, &["A"], MATRIX)),
    ("aten._linalg_slogdet", |cx| whole(cx, &["A"], MATRIX)),
    ("aten._linalg_det", |cx| whole(cx, &["A"], MATRIX)),
    ("aten.affine_grid_generator", |cx| {
        cx.ints("size")?;
        whole(cx, &["theta"], POSITIONS)
    }),
    ("aten.diagonal", decode_diagonal),
    ("aten.diag_embed", decode_diagonal),
    ("aten.fake_quantize_per_tensor_affine", fake_quantize),
    ("aten.fake_quantize_per_tensor_affine_cachemask", fake_quantize),
    ("aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams", fake_quantize),
    ("aten.fake_quantize_per_channel_affine", fake_quantize),
    ("aten.fake_quantize_per_channel_affine_cachemask", fake_quantize),
    ("aten._fused_moving_avg_obs_fq_helper", fake_quantize),
    ("aten.linalg_inv", |cx| whole(cx, &["A"], MATRIX)),
    ("aten.linalg_inv_ex", |cx| whole(cx, &["A"], MATRIX)),
    ("aten._pack_padded_sequence", |cx| {
        repacked(cx, ["input", "lengths"], [2, 1], Flow::product([0], []))
    }),
    ("aten._pad_packed_sequence", |cx| {
        let zero = cx.number("padding_value").unwrap_or(0.0) == 0.0;
        let flow = if zero { Flow::product([0], []) } else { Flow::Break };
        repacked(cx, ["data", "batch_sizes"], [1, 2], flow)
    }),
    ("aten.im2col", decode_im2col),
    ("aten.col2im", decode_col2im),
    ("aten._fft_c2c", |cx| fourier(cx, &[])),
    ("aten._fft_c2r", |cx| fourier(cx, &[])),
    ("aten._fft_r2c", |cx| fourier(cx, &[])),
    ("aten.fft_fft", |cx| fourier(cx, &[-1])),
    ("aten.fft_fft2", |cx| fourier(cx, &[-2, -1])),
    ("aten.fft_fftn", |cx| fourier(cx, &[])),
    ("aten.fft_fftshift", |cx| fourier(cx, &[])),
    ("aten.fft_hfft", |cx| fourier(cx, &[-1])),
    ("aten.fft_ifft", |cx| fourier(cx, &[-1])),
    ("aten.fft_ifft2", |cx| fourier(cx, &[-2, -1])),
    ("aten.fft_ifftn", |cx| fourier(cx, &[])),
    ("aten.fft_ifftshift", |cx| fourier(cx, &[])),
    ("aten.fft_ihfft", |cx| fourier(cx, &[-1])),
    ("aten.fft_irfft", |cx| fourier(cx, &[-1])),
    ("aten.fft_irfft2", |cx| fourier(cx, &[-2, -1])),
    ("aten.fft_irfftn", |cx| fourier(cx, &[])),
    ("aten.fft_rfft", |cx| fourier(cx, &[-1])),
    ("aten.fft_rfft2", |cx| fourier(cx, &[-2, -1])),
    ("aten.fft_rfftn", |cx| fourier(cx, &[])),
    ("aten.view_as_complex", |cx| parts(cx, false)),
    ("aten.view_as_real", |cx| parts(cx, true)),
    ("aten.linalg_solve_triangular", decode_solve),
    ("aten.blackman_window", pattern),
    ("aten.eye", pattern),
    ("aten.hamming_window", pattern),
    ("aten.hann_window", pattern),
    ("aten.kaiser_window", pattern),
    ("aten.tril_indices", pattern),
    ("aten.triu_indices", pattern),
    ("aten.unfold", decode_unfold),
    ("aten._assert_async", |_| Ok(())),
    ("aten._assert_scalar", |_| Ok(())),
    ("aten._assert_tensor_metadata", |cx| match cx.has("size") || cx.has("stride") {
        true => Err(Error::unsupported("a check of sizes")),
        false => Ok(()),
    }),
];

const CLASSES: &str = "labels are of its classes";
const MATRIX: &str = "it is an axis of a matrix";

/// Operands that stay whole, of these names, as far as they are given.
pub(crate) fn kept(
    cx: &mut Decoder<'_, '_>,
    r: &mut Rule,
    names: &[&str],
    reason: &'static str,
) -> Result<Vec<ValueId>> {
    let mut operands = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let Some(operand) = cx.optional(name)? else { continue };
        let dims = fixed(r, &format!("o{place}_"), &cx.shape(operand)?, reason);
        r.operand(Use::Data, dims);
        operands.push(operand);
    }
    Ok(operands)
}

/// Operands and results that stay as they are.
fn whole(cx: &mut Decoder<'_, '_>, names: &[&str], reason: &'static str) -> Result<()> {
    let mut r = Rule::new("whole");
    let operands = kept(cx, &mut r, names, reason)?;
    for slot in 0..cx.output_count() {
        let made = fixed(&mut r, &format!("r{slot}_"), &cx.result_shape(slot)?, reason);
        r.result(made);
    }
    r.flow = Flow::Break;
    cx.node(Written(r), &operands)
}

/// Numbers rounded to those of a quantized type: one scale for all, or one for each index of an axis.
fn fake_quantize(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const SIDES: [&str; 7] = [
        "scale",
        "zero_point",
        "running_min",
        "running_max",
        "observer_on",
        "fake_quant_on",
        "fake_quant_enabled",
    ];
    let data = cx.tensor("self")?;
    let shape = cx.shape(data)?;
    let axis = if cx.has("ch_axis") { cx.int("ch_axis", 0)? } else { cx.int("axis", 0)? };
    let mut r = Rule::new("fake_quantize");
    let dims = letters(&mut r, &shape);
    r.operand(Use::Data, dims.clone());
    let mut operands = vec![data];
    for (place, name) in SIDES.into_iter().enumerate() {
        let Some(side) = cx.optional(name)? else { continue };
        let of_side = match cx.shape(side)?[..] {
            [one] if one.size > 1 => {
                let along = crate::ops::axis(axis, shape.len())?;
                agree("scales and channels", one.size, shape[along].size)?;
                vec![dims[along].clone()]
            }
            ref sizes => fixed(&mut r, &format!("s{place}_"), sizes, MADE),
        };
        r.operand(Use::Data, of_side);
        operands.push(side);
    }
    r.result(dims);
    r.flow = Flow::product([0], []);
    let made = cx.emit(Written(r), &operands)?;
    cx.bind(0, made);
    cx.drop_results(1..2);
    Ok(())
}

/// A diagonal as a last axis, or the reverse.
fn decode_diagonal(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let (from, to) = (cx.shape(data)?, cx.result_shape(0)?);
    cx.int("offset", 0)?;
    let takes = from.len() > to.len();
    let (square, line) = if takes { (&from, &to) } else { (&to, &from) };
    let [first, second] = if takes { [0, 1] } else { [-2, -1] };
    let first = crate::ops::axis(cx.int("dim1", first)?, square.len())?;
    let second = crate::ops::axis(cx.int("dim2", second)?, square.len())?;
    let mut r = Rule::new("diagonal");
    let (mut wide, mut narrow): (Vec<Dim>, Vec<Dim>) = (Vec::new(), Vec::new());
    for (axis, &extent) in square.iter().enumerate() {
        if axis == first || axis == second {
            wide.push(r.fixed(letter(axis), extent, MATRIX).into());
            continue;
        }
        wide.push(r.free(letter(axis), extent).into());
        narrow.push(wide[axis].clone());
    }
    let last = line.last().copied().ok_or_else(|| Error::malformed("no diagonal"))?;
    narrow.push(r.fixed("d", last, MATRIX).into());
    let (before, after) = if takes { (wide, narrow) } else { (narrow, wide) };
    r.operand(Use::Data, before);
    r.result(after);
    r.flow = Flow::product([0], []);
    cx.node(Written(r), &[data])
}

const STEPS: &str = "steps of sequences lie along it";

/// Sequences of different lengths as rows that follow each other, or the reverse: `before` and
/// `after` axes at the front tell steps and sequences. `counts` says how many there are of either.
fn repacked(
    cx: &mut Decoder<'_, '_>,
    [data, counts]: [&str; 2],
    [before, after]: [usize; 2],
    flow: Flow,
) -> Result<()> {
    let operands = [cx.tensor(data)?, cx.tensor(counts)?];
    let (data, counts) = (cx.shape(operands[0])?, cx.shape(operands[1])?);
    let (made, counted) = (cx.result_shape(0)?, cx.result_shape(1)?);
    let data = ranked(&[Some(&data)], 0, before)?;
    let made = ranked(&[Some(&made)], 0, after)?;
    let mut r = Rule::new("repack");
    let rest = letters(&mut r, &data[before..]);
    let lead = fixed(&mut r, "t", &data[..before], STEPS);
    r.operand(Use::Data, [lead, rest.clone()].concat());
    let counts = fixed(&mut r, "k", &counts, STEPS);
    r.operand(Use::Data, counts);
    let lead = fixed(&mut r, "u", &made[..after], STEPS);
    r.result([lead, rest].concat());
    let counted = fixed(&mut r, "l", &counted, STEPS);
    r.result(counted);
    r.flow = flow;
    cx.node(Written(r), &operands)
}

fn decode_grid_sample(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (data, grid) = (cx.tensor("input")?, cx.tensor("grid")?);
    let (from, places) = (cx.shape(data)?, cx.shape(grid)?);
    let rule = super::grid_sample(&from, &places)?;
    cx.node(Written(rule), &[data, grid])
}

/// Rows `[m, k]` times the matrix of their expert in `[e, k, n]`; offsets `[e]` tell whose rows end
/// where. Without offsets, a batch of products.
fn decode_grouped_product(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const REASON: &str = "offsets tell which rows meet which matrix";
    let (rows, weight) = (cx.tensor("self")?, cx.tensor("mat2")?);
    let Some(offsets) = cx.optional("offs")? else {
        return cx.node(Contract::MatMul, &[rows, weight]);
    };
    let (a, b, ends) = (cx.shape(rows)?, cx.shape(weight)?, cx.shape(offsets)?);
    let (&[m, inner], &[e, depth, n], &[count], false) =
        (&a[..], &b[..], &ends[..], cx.has("bias"))
    else {
        return Err(Error::unsupported("groups of something else than rows, or a bias"));
    };
    agree("inner sizes of the product", inner.size, depth.size)?;
    agree("matrices and offsets", e.size, count.size)?;
    let mut r = Rule::new("grouped_product");
    let (m, e) = (r.fixed("m", m, REASON), r.fixed("e", e, REASON));
    let (k, n) = (r.summed("k", inner), r.free("n", n));
    r.operand(Use::Weight, vec![m.into(), k.into()]);
    r.operand(Use::Weight, vec![e.into(), k.into(), n.into()]);
    r.operand(Use::Data, vec![e.into()]);
    r.macs.push(vec![m, k, n]);
    r.result(vec![m.into(), n.into()]);
    r.flow = Flow::product([0, 1], []);
    cx.node(Written(r), &[rows, weight, offsets])
}

/// Windows of an image `[n, c, h, w]` as columns `[n, c·k, l]`.
fn decode_im2col(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let data = cx.tensor("self")?;
    let (image, columns) = (cx.shape(data)?, cx.result_shape(0)?);
    let mut r = Rule::new("im2col");
    let [image, columns] = windows(&mut r, &image, &columns, "a window slides over it")?;
    r.operand(Use::Data, image);
    r.result(columns);
    r.flow = Flow::product([0], []);
    cx.node(Written(r), &[data])
}

/// Windows that are added up to an image.
fn decode_col2im(cx: &mut Decoder<'_, '_>) -> Result<()> {
    cx.ints("output_size")?;
    let data = cx.tensor("self")?;
    let (columns, image) = (cx.shape(data)?, cx.result_shape(0)?);
    let mut r = Rule::new("col2im");
    let [image, columns] = windows(&mut r, &image, &columns, "windows are added up along it")?;
    r.operand(Use::Data, columns);
    r.result(image);
    r.flow = Flow::product([0], []);
    cx.node(Written(r), &[data])
}

/// The axes of an image and of its windows as columns.
fn windows(
    r: &mut Rule,
    image: &[Extent],
    columns: &[Extent],
    reason: &'static str,
) -> Result<[Vec<Dim>; 2]> {
    let ([n, c, ..], &[_, rows, l]) = (ranked(&[Some(image)], 0, 4)?, columns) else {
        return Err(Error::unsupported("data without a batch axis"));
    };
    if c.size == 0 || rows.size % c.size != 0 {
        return Err(Error::malformed("columns that are no whole windows"));
    }
    let window = Extent::fixed(rows.size / c.size);
    let (n, c) = (r.free("n", *n), r.free("c", *c));
    let s = fixed(r, "s", &image[2..], reason);
    let (k, l) = (r.fixed("k", window, reason), r.fixed("l", l, reason));
    Ok([joined(&[n, c], &s), vec![n.into(), Dim::product([c, k]), l.into()]])
}

/// A transform along `dim`; where that is omitted, along `axes`, or along all where there are none.
fn fourier(cx: &mut Decoder<'_, '_>, axes: &[i64]) -> Result<()> {
    let data = cx.tensor("self")?;
    let (from, to) = (cx.shape(data)?, cx.result_shape(0)?);
    agree("axes before and after", from.len(), to.len())?;
    for length in ["n", "s"] {
        cx.ints(length)?;
    }
    let spelled = cx.ints("dim")?.unwrap_or_else(|| match axes {
        [] => (0..from.len() as i64).collect(),
        _ => axes.to_vec(),
    });
    let along = spelled.iter().map(|&axis| crate::ops::axis(axis, from.len()));
    let along = along.collect::<Result<Vec<usize>>>()?;
    let mut r = Rule::new("fourier");
    let after = |index| along.contains(&index).then(|| to[index]);
    let [dims, made] = changed(&mut r, &from, after, "a Fourier transform runs along it");
    r.operand(Use::Data, dims);
    r.result(made);
    r.flow = Flow::product([0], []);
    cx.node(Written(r), &[data])
}

/// The columns of `B` in terms of a triangular matrix, `[b.., n, n], [b.., n, k] -> [b.., n, k]`.
fn decode_solve(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const REASON: &str = "a system of equations is solved along it";
    let (matrix, columns) = (cx.tensor("self")?, cx.tensor("B")?);
    let (a, b) = (cx.shape(matrix)?, cx.shape(columns)?);
    let lead = b.len().saturating_sub(2);
    if !cx.flag("left", true) || a.len() != b.len() || a[..lead] != b[..lead] || b.len() < 2 {
        return Err(Error::unsupported("other than columns of as many matrices"));
    }
    let mut r = Rule::new("solve");
    let batch = letters(&mut r, &b[..lead]);
    let n = fixed(&mut r, "n", &[a[lead], a[lead + 1]], REASON);
    let (m, k) = (r.fixed("m", b[lead], REASON), r.free("k", b[lead + 1]));
    r.operand(Use::Data, [batch.clone(), n].concat());
    let dims = [batch, vec![m.into(), k.into()]].concat();
    r.operand(Use::Data, dims.clone());
    r.result(dims);
    r.flow = Flow::product([1], []);
    cx.node(Written(r), &[matrix, columns])
}

/// Complex numbers as pairs of real ones on a last axis, or the reverse.
fn parts(cx: &mut Decoder<'_, '_>, split: bool) -> Result<()> {
    let data = cx.tensor("self")?;
    let from = cx.shape(data)?;
    let numbers = if split { &from[..] } else { &from[..from.len().saturating_sub(1)] };
    let mut r = Rule::new("complex");
    let whole = letters(&mut r, numbers);
    let part = r.fixed("part", Extent::fixed(2), "real and imaginary parts lie along it");
    let pairs = [whole.clone(), vec![part.into()]].concat();
    let (before, after) = if split { (whole, pairs) } else { (pairs, whole) };
    r.operand(Use::Data, before);
    r.result(after);
    r.flow = Flow::product([0], []);
    cx.node(Written(r), &[data])
}

/// Numbers that are the same in every run, of a shape that is spelled.
fn pattern(cx: &mut Decoder<'_, '_>) -> Result<()> {
    for size in ["n", "m", "row", "col", "window_length"] {
        cx.ints(size)?;
    }
    let shape = cx.result_shape(0)?;
    let mut r = Rule::new("pattern");
    let made = fixed(&mut r, "s", &shape, MADE);
    r.result(made);
    r.flow = Flow::Break;
    cx.node(Written(r), &[])
}

/// Windows of one axis, as a new last axis.
fn decode_unfold(cx: &mut Decoder<'_, '_>) -> Result<()> {
    const REASON: &str = "a window slides over it";
    let data = cx.tensor("self")?;
    let (from, result) = (cx.shape(data)?, cx.result_shape(0)?);
    let along = crate::ops::axis(cx.int("dimension", 0)?, from.len())?;
    cx.int("size", 1)?;
    cx.int("step", 1)?;
    let mut r = Rule::new("unfold");
    let windows = result.get(along).copied().ok_or_else(|| Error::malformed("too few axes"))?;
    let after = |index| (index == along).then_some(windows);
    let [dims, mut made] = changed(&mut r, &from, after, REASON);
    let window = result.last().copied().unwrap_or(Extent::fixed(1));
    made.push(r.fixed("k", window, REASON).into());
    r.operand(Use::Data, dims);
    r.result(made);
    cx.node(Written(r), &[data])
}
