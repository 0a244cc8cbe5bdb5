//! How PyTorch spells normalizations.

use super::Norm;
use crate::graph::ValueId;
use crate::ops::elementwise::{Elementwise, Zeros};
use crate::ops::reduce::{Reduce, ReduceKind};
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.batch_norm", |cx| {
        let training = cx.flag("training", false) || !cx.has("running_mean");
        batch(cx, training, 1)
    }),
    ("aten.native_batch_norm", |cx| {
        let training = cx.flag("training", false);
        batch(cx, training, 3)
    }),
    ("aten._native_batch_norm_legit", |cx| {
        let training = cx.flag("training", false) || cx.overload() == "no_stats";
        batch(cx, training, 3)
    }),
    ("aten._native_batch_norm_legit_no_training", |cx| batch(cx, false, 3)),
    ("aten.cudnn_batch_norm", |cx| {
        let training = cx.flag("training", false);
        batch(cx, training, 4)
    }),
    ("aten.instance_norm", |cx| {
        let operands =
            vec![Some(cx.tensor("input")?), cx.optional("weight")?, cx.optional("bias")?];
        match cx.flag("use_input_stats", true) {
            true => cx.node_over(Norm::Instance, operands),
            false => batch(cx, false, 1),
        }
    }),
    ("aten.layer_norm", |cx| layer(cx, true, &["weight", "bias"])),
    ("aten.native_layer_norm", |cx| layer(cx, true, &["weight", "bias"])),
    ("aten.rms_norm", |cx| layer(cx, false, &["weight"])),
    ("aten._fused_rms_norm", |cx| layer(cx, false, &["weight"])),
    ("aten.group_norm", |cx| {
        let literal = ("num_groups", cx.expr("num_groups", 1)?);
        group(cx, literal, None)
    }),
    ("aten.native_group_norm", |cx| {
        let literal = ("group", cx.expr("group", 1)?);
        let channels = ("C", cx.expr("C", 0)?);
        group(cx, literal, Some(channels))
    }),
    ("aten._weight_norm", weight),
    ("aten._weight_norm_interface", weight),
];

fn affine(cx: &mut Decoder<'_, '_>, names: &[&str]) -> Result<Vec<Option<ValueId>>> {
    let data = Some(cx.tensor("input")?);
    let rest = names.iter().map(|name| cx.optional(name)).collect::<Result<Vec<_>>>()?;
    Ok([vec![data], rest].concat())
}

/// Statistics that are returned next to the data, and what else is, must not be read.
fn batch(cx: &mut Decoder<'_, '_>, training: bool, results: usize) -> Result<()> {
    let operands = affine(cx, &["weight", "bias", "running_mean", "running_var"])?;
    let op = if training { Norm::BatchTraining } else { Norm::Batch };
    let outputs = cx.emit_all(op, operands)?;
    cx.bind(0, outputs[0]);
    cx.drop_results(1..results);
    Ok(())
}

fn layer(cx: &mut Decoder<'_, '_>, centered: bool, names: &[&str]) -> Result<()> {
    let operands = affine(cx, names)?;
    let literals = cx.exprs("normalized_shape")?;
    let axis = -(literals.len() as i64);
    let literals = Some(("normalized_shape", literals));
    let outputs = cx.emit_all(Norm::Layer { axis, centered, results: 1, literals }, operands)?;
    cx.bind(0, outputs[0]);
    cx.drop_results(1..3);
    Ok(())
}

type Spelled = (&'static str, crate::size::ExprId);

fn group(cx: &mut Decoder<'_, '_>, literal: Spelled, channels: Option<Spelled>) -> Result<()> {
    let groups = usize::try_from(cx.eval(literal.1)?.0);
    let groups = groups.map_err(|_| Error::malformed("a negative number of groups"))?;
    let operands = affine(cx, &["weight", "bias"])?;
    let outputs = cx.emit_all(Norm::Group { groups, literal, channels }, operands)?;
    cx.bind(0, outputs[0]);
    cx.drop_results(1..3);
    Ok(())
}

/// A weight times `g / ‖v‖`, with a norm per index of one axis, or one for all where it is -1.
fn weight(cx: &mut Decoder<'_, '_>) -> Result<()> {
    let (direction, length) = (cx.tensor("v")?, cx.tensor("g")?);
    let along = cx.int("dim", 0)?;
    let axes = (0..cx.shape(direction)?.len() as i64).filter(|&axis| axis != along).collect();
    let reduce = Reduce { kind: ReduceKind::L2, axes: Some(axes), keep: true };
    let norm = cx.emit(reduce, &[direction])?;
    let quotient = Elementwise { zeros: Zeros::Quotient, results: 1 };
    let unit = cx.emit(quotient, &[direction, norm])?;
    let made = cx.emit(Elementwise { zeros: Zeros::AnyKept, results: 1 }, &[unit, length])?;
    cx.bind(0, made);
    cx.bind(1, norm);
    Ok(())
}
