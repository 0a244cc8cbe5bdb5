//! How PyTorch spells normalization.

use super::{BatchNorm, Norm, Over};
use crate::ops::elementwise::Binary;
use crate::ops::reduce::{Reduce, Reduction};
use crate::torch::{Call, Decode};
use crate::{Error, Result, Slot};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.batch_norm", |call| {
        let batch = call.flag("training", false);
        per_channel(call, batch)
    }),
    ("aten.native_batch_norm", |call| {
        let batch = call.flag("training", false);
        per_channel(call, batch)
    }),
    ("aten.cudnn_batch_norm", |call| {
        let batch = call.flag("training", false);
        per_channel(call, batch)
    }),
    ("aten._native_batch_norm_legit", |call| {
        let batch = call.flag("training", false);
        per_channel(call, batch)
    }),
    ("aten._native_batch_norm_legit_no_training", |call| per_channel(call, false)),
    ("aten.instance_norm", |call| match call.flag("use_input_stats", true) {
        true => per_sample(call, Over::Space),
        false => per_channel(call, false),
    }),
    ("aten.layer_norm", layer),
    ("aten.native_layer_norm", layer),
    ("aten.rms_norm", root_mean_square),
    ("aten._fused_rms_norm", root_mean_square),
    ("aten.group_norm", |call| {
        let groups = groups(call, "num_groups")?;
        per_sample(call, groups)
    }),
    ("aten.native_group_norm", |call| {
        let groups = groups(call, "group")?;
        per_sample(call, groups)
    }),
    ("aten._weight_norm", weight),
    ("aten._weight_norm_interface", weight),
];

/// Where there are no running statistics, the batch's are taken always.
fn per_channel(call: &mut Call<'_, '_>, batch: bool) -> Result<()> {
    let epsilon = call.number_or("eps", 1e-5)?;
    let momentum = 1.0 - call.number_or("momentum", 0.1)?;
    let always = batch || !call.is_tensor("running_mean");
    let mut operands = vec![Some(call.float("input")?)];
    for name in ["weight", "bias", "running_mean", "running_var"] {
        operands.push(call.optional_float(name)?);
    }
    call.make_over(BatchNorm { epsilon, momentum, batch: always }, operands)
}

fn affine(call: &mut Call<'_, '_>) -> Result<Vec<Option<Slot>>> {
    Ok(vec![
        Some(call.float("input")?),
        call.optional_float("weight")?,
        call.optional_float("bias")?,
    ])
}

fn per_sample(call: &mut Call<'_, '_>, over: Over) -> Result<()> {
    let operands = affine(call)?;
    let epsilon = call.number_or("eps", 1e-5)?;
    call.make_over(Norm { over, epsilon, centered: true, told: false }, operands)
}

fn layer(call: &mut Call<'_, '_>) -> Result<()> {
    let axes = call.list("normalized_shape")?.len() as i64;
    per_sample(call, Over::From(-axes))
}

fn root_mean_square(call: &mut Call<'_, '_>) -> Result<()> {
    let over = Over::From(-(call.list("normalized_shape")?.len() as i64));
    let operands = affine(call)?;
    let epsilon = call.number_or("eps", f64::from(f32::EPSILON))?;
    call.make_over(Norm { over, epsilon, centered: false, told: false }, operands)
}

fn groups(call: &Call<'_, '_>, name: &str) -> Result<Over> {
    let groups = usize::try_from(call.int(name, 1)?);
    groups.map(Over::Groups).map_err(|_| Error::malformed("a negative number of groups"))
}

/// A weight times `g / ‖v‖`, with a norm per index of one axis, or one for all where it is -1.
fn weight(call: &mut Call<'_, '_>) -> Result<()> {
    let (direction, length) = (call.float("v")?, call.float("g")?);
    let along = call.int("dim", 0)?;
    let rank = call.rank("v")? as i64;
    let axes = (0..rank).filter(|&axis| axis != along).collect();
    let reduce = Reduce { kind: Reduction::L2, axes: Some(axes), keep: true, none: false };
    let norm = call.emit(reduce, &[direction]);
    let factor = call.emit(Binary::Div, &[length, norm]);
    let made = call.emit(Binary::Mul, &[direction, factor]);
    call.bind(0, made);
    call.bind(1, norm);
    Ok(())
}
