//! Normalization: by stored statistics (batch) or by those of the data (layer, RMS, instance,
//! group).

mod aten;

use super::{Fit, NewSizes, Operator, Place, Shapes, letter, letters, ranked};
use crate::graph::Extent;
use crate::onnx::{Decode, Decoder};
use crate::rule::{Dim, Flow, Kind, Rule, Use};
use crate::size::ExprId;
use crate::{Error, Result};
pub(crate) use aten::ATEN;

/// Why values change when a normalized axis is cut.
const STATISTICS: &str = "its statistics are taken over it";

/// A normalization; the affine operands follow the data.
#[derive(Clone, Debug)]
pub enum Norm {
    /// Data `[n, c, …]`, scale, bias, mean and variance `[c]`.
    Batch,
    /// As [`Norm::Batch`], with statistics of the data over all axes but `c`.
    BatchTraining,
    /// Statistics over the axes from `axis` on; scale and bias of their shape.
    Layer {
        /// First normalized axis.
        axis: i64,
        /// Whether the mean is subtracted (layer) or not (RMS).
        centered: bool,
        /// Number of results: statistics stand after the data.
        results: usize,
        /// The normalized sizes, where the source spells them.
        literals: Option<(&'static str, Vec<ExprId>)>,
    },
    /// Data `[n, c, …]`, statistics over the axes after `c`; scale and bias `[c]`.
    Instance,
    /// Data `[n, g·i, …]`, statistics over `i` and the axes after it; scale and bias `[g·i]`.
    Group {
        /// Number of groups.
        groups: usize,
        /// The attribute that says so, and its literal.
        literal: (&'static str, ExprId),
        /// The number of channels, where the source spells it.
        channels: Option<(&'static str, ExprId)>,
    },
    /// Division by the p-norm along one axis.
    Lp {
        /// The axis.
        axis: i64,
    },
    /// Mean and variance over some axes, no affine operands.
    MeanVariance {
        /// The axes.
        axes: Vec<i64>,
    },
}

impl Operator for Norm {
    fn rule(&self, shapes: &Shapes<'_>) -> Result<Rule> {
        match self {
            Norm::Batch => batch(shapes),
            Norm::BatchTraining => batch_training(shapes),
            Norm::Layer { axis, centered, results, .. } => {
                let mut r = layer(shapes, *axis, *centered)?;
                add_statistics(&mut r, *results);
                Ok(r)
            }
            Norm::Instance => instance(shapes),
            Norm::Group { groups, .. } => group(shapes, *groups),
            Norm::Lp { axis } => lp(shapes, *axis),
            Norm::MeanVariance { axes } => mean_variance(shapes, axes),
        }
    }

    fn fits(&self, sizes: &NewSizes<'_>) -> Vec<Fit> {
        match self {
            Norm::Group { literal, channels, .. } => {
                let dim = &sizes.rule.results[0][1];
                let groups = dim.factors().next().map(|groups| sizes.factor(groups));
                let mut fits: Vec<Fit> =
                    groups.map(|groups| fit(*literal, groups)).into_iter().collect();
                fits.extend(channels.map(|channels| fit(channels, sizes.dim(dim))));
                fits
            }
            Norm::Layer { literals: Some((name, exprs)), .. } => {
                let shape = sizes.result(0);
                let want = shape[shape.len().saturating_sub(exprs.len())..].to_vec();
                vec![Fit::new(Place::Attribute(name), exprs.iter().copied(), want)]
            }
            _ => Vec::new(),
        }
    }
}

fn fit((name, expr): (&'static str, ExprId), want: i64) -> Fit {
    Fit::new(Place::Attribute(name), [expr], vec![want])
}

/// Adds an affine operand for every operand after the data.
fn affine(r: &mut Rule, shapes: &Shapes<'_>, dims: &[Dim]) -> Result<()> {
    for shape in &shapes[1..] {
        let given: Vec<Dim> = match shape {
            None => Vec::new(),
            Some(shape) => {
                let skip = dims.len().checked_sub(shape.len());
                let skip =
                    skip.ok_or_else(|| Error::malformed("an affine operand of this rank"))?;
                let spell = |(dim, extent): (&Dim, &Extent)| {
                    if extent.size == 1 && r.extent(dim).size != 1 {
                        Dim::one()
                    } else {
                        dim.clone()
                    }
                };
                dims[skip..].iter().zip(*shape).map(spell).collect()
            }
        };
        r.operand(Use::Affine, given);
    }
    Ok(())
}

/// Scale (operand 1) multiplies, bias (operand 2) is added; with no scale the data itself counts
/// where `keeps_zero`.
fn flow(shapes: &Shapes<'_>, keeps_zero: bool) -> Flow {
    let has = |index: usize| shapes.get(index).copied().flatten().is_some();
    let scale = has(1).then_some(1).into_iter();
    let factors: Vec<usize> = keeps_zero.then_some(0).into_iter().chain(scale).collect();
    if factors.is_empty() {
        return Flow::Break;
    }
    Flow::product(factors, has(2).then_some(2).into_iter().collect::<Vec<_>>())
}

fn batch(shapes: &Shapes<'_>) -> Result<Rule> {
    let data = ranked(shapes, 0, 2)?;
    let mut r = Rule::new("batch_norm");
    let dims = letters(&mut r, data);
    r.operand(Use::Data, dims.clone());
    affine(&mut r, shapes, &dims[1..2])?;
    r.result(dims);
    r.flow = flow(shapes, false);
    Ok(r)
}

fn batch_training(shapes: &Shapes<'_>) -> Result<Rule> {
    let data = ranked(shapes, 0, 2)?;
    let mut r = Rule::new("batch_norm_training");
    let kind = |axis| if axis == 1 { Kind::Free } else { Kind::Coupled(STATISTICS) };
    let dims: Vec<Dim> =
        (0..data.len()).map(|i| r.factor(letter(i), data[i], kind(i)).into()).collect();
    r.operand(Use::Data, dims.clone());
    affine(&mut r, shapes, &dims[1..2])?;
    r.result(dims);
    r.flow = flow(shapes, true);
    Ok(r)
}

fn layer(shapes: &Shapes<'_>, axis: i64, centered: bool) -> Result<Rule> {
    let data = ranked(shapes, 0, 1)?;
    let axis = super::axis(axis, data.len())?;
    let mut r = Rule::new(if centered { "layer_norm" } else { "rms_norm" });
    let dims: Vec<Dim> = (0..data.len())
        .map(|i| {
            let kind = if i < axis { Kind::Free } else { Kind::Coupled(STATISTICS) };
            r.factor(letter(i), data[i], kind).into()
        })
        .collect();
    r.operand(Use::Data, dims.clone());
    affine(&mut r, shapes, &dims)?;
    r.result(dims);
    r.flow = flow(shapes, !centered);
    Ok(r)
}

/// Mean and deviation have one element where the data has an axis that is coupled.
fn add_statistics(r: &mut Rule, results: usize) {
    let one =
        |dim: &Dim| dim.factors().any(|f| matches!(r.factors[f.index()].kind, Kind::Coupled(_)));
    let spell = |dim: &Dim| if one(dim) { Dim::one() } else { dim.clone() };
    let dims: Vec<Dim> = r.operands[0].dims.iter().map(spell).collect();
    (1..results).for_each(|_| r.result(dims.clone()));
}

fn instance(shapes: &Shapes<'_>) -> Result<Rule> {
    let data = ranked(shapes, 0, 3)?;
    let mut r = Rule::new("instance_norm");
    let dims: Vec<Dim> = (0..data.len())
        .map(|i| {
            let kind = if i < 2 { Kind::Free } else { Kind::Coupled(STATISTICS) };
            r.factor(letter(i), data[i], kind).into()
        })
        .collect();
    r.operand(Use::Data, dims.clone());
    affine(&mut r, shapes, &dims[1..2])?;
    r.result(dims);
    r.flow = flow(shapes, true);
    Ok(r)
}

fn group(shapes: &Shapes<'_>, groups: usize) -> Result<Rule> {
    let data = ranked(shapes, 0, 2)?;
    if groups == 0 || data[1].size % groups != 0 {
        return Err(Error::malformed(format!("{} channels in {groups} groups", data[1].size)));
    }
    let mut r = Rule::new("group_norm");
    let n = r.free("n", data[0]);
    let g = r.free("g", Extent::fixed(groups));
    let inner = Extent { size: data[1].size / groups, ..data[1] };
    let i = r.factor("i", inner, Kind::Coupled(STATISTICS));
    let mut dims = vec![n.into(), Dim::product([g, i])];
    for (axis, &extent) in data.iter().enumerate().skip(2) {
        dims.push(r.factor(letter(axis), extent, Kind::Coupled(STATISTICS)).into());
    }
    r.operand(Use::Data, dims.clone());
    // Until opset 21, there is one scale per group.
    let scaled = matches!(shapes.get(1), Some(Some(_)));
    let per_group = scaled && ranked(shapes, 1, 1)?[0].size == groups;
    affine(&mut r, shapes, &[if per_group { g.into() } else { dims[1].clone() }])?;
    r.result(dims);
    r.flow = flow(shapes, false);
    Ok(r)
}

/// `x / ‖x‖` along an axis.
fn lp(shapes: &Shapes<'_>, axis: i64) -> Result<Rule> {
    let axis = super::axis(axis, ranked(shapes, 0, 1)?.len())?;
    plain("lp_norm", shapes, |i| if i == axis { Kind::Inner(&[0]) } else { Kind::Free })
}

fn mean_variance(shapes: &Shapes<'_>, axes: &[i64]) -> Result<Rule> {
    let rank = ranked(shapes, 0, 1)?.len();
    let axes = axes.iter().map(|&axis| super::axis(axis, rank)).collect::<Result<Vec<_>>>()?;
    let kind = |i| if axes.contains(&i) { Kind::Coupled(STATISTICS) } else { Kind::Free };
    // There is no epsilon: what does not vary is divided by zero.
    Ok(Rule { flow: Flow::Pole, ..plain("mean_variance_norm", shapes, kind)? })
}

/// A normalization without affine operands, which keeps zeros.
fn plain(name: &'static str, shapes: &Shapes<'_>, kind: impl Fn(usize) -> Kind) -> Result<Rule> {
    let mut r = Rule::new(name);
    let data = ranked(shapes, 0, 1)?.iter().enumerate();
    let dims: Vec<Dim> =
        data.map(|(i, &extent)| r.factor(letter(i), extent, kind(i)).into()).collect();
    r.operand(Use::Data, dims.clone());
    r.result(dims);
    r.flow = Flow::product([0], []);
    Ok(r)
}

/// How ONNX spells normalizations.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("BatchNormalization", decode_batch),
    ("LayerNormalization", |cx| decode_layer(cx, true)),
    ("SimplifiedLayerNormalization", |cx| decode_layer(cx, false)),
    ("RMSNormalization", |cx| decode_layer(cx, false)),
    ("InstanceNormalization", |cx| cx.node(Norm::Instance)),
    ("GroupNormalization", decode_group),
    ("LpNormalization", |cx| {
        let axis = cx.int("axis").unwrap_or(-1);
        cx.node(Norm::Lp { axis })
    }),
    ("MeanVarianceNormalization", |cx| {
        let axes = cx.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
        cx.node(Norm::MeanVariance { axes })
    }),
];

/// Before opset 14, more results than one say that the statistics are those of the data.
fn decode_batch(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let more = cx.output_count() > 1;
    let training = if cx.opset() < 14 { more } else { cx.int("training_mode").unwrap_or(0) != 0 };
    if !training {
        return cx.node(Norm::Batch);
    }
    if (1..5).any(|slot| cx.is_read(slot)) {
        return Err(Error::unsupported("running statistics that are read"));
    }
    let data = (0..5).map(|slot| cx.input(slot)).collect::<Result<Vec<_>>>()?;
    let result = cx.emit(Norm::BatchTraining, &data)?;
    cx.bind(0, result);
    Ok(())
}

fn decode_layer(cx: &mut Decoder<'_, '_>, centered: bool) -> Result<()> {
    let axis = cx.int("axis").unwrap_or(-1);
    let results = cx.result_slots();
    cx.node(Norm::Layer { axis, centered, results, literals: None })
}

fn decode_group(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let literal = ("num_groups", cx.literal("num_groups", 0, 1));
    let groups = usize::try_from(cx.int("num_groups").unwrap_or(1)).unwrap_or(0);
    cx.node(Norm::Group { groups, literal, channels: None })
}
