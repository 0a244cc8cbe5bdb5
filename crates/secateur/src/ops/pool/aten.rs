//! How PyTorch spells pools.

use super::{Indices, Pool, PoolKind};
use crate::graph::Extent;
use crate::ops::conv::Window;
use crate::ops::conv::aten::{both_ends, per_axis};
use crate::ops::ranked;
use crate::ops::reduce::{Reduce, ReduceKind};
use crate::ops::resize::Resize;
use crate::rule::Flow;
use crate::torch::{Decode, Decoder};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.max_pool1d", |cx| decode(cx, PoolKind::Max)),
    ("aten.max_pool2d", |cx| decode(cx, PoolKind::Max)),
    ("aten.max_pool3d", |cx| decode(cx, PoolKind::Max)),
    ("aten.max_pool1d_with_indices", |cx| decode(cx, PoolKind::Max)),
    ("aten.max_pool2d_with_indices", |cx| decode(cx, PoolKind::Max)),
    ("aten.max_pool3d_with_indices", |cx| decode(cx, PoolKind::Max)),
    ("aten.avg_pool1d", |cx| decode(cx, PoolKind::Mean)),
    ("aten.avg_pool2d", |cx| decode(cx, PoolKind::Mean)),
    ("aten.avg_pool3d", |cx| decode(cx, PoolKind::Mean)),
    ("aten.adaptive_avg_pool1d", |cx| adaptive(cx, ReduceKind::Mean)),
    ("aten.adaptive_avg_pool2d", |cx| adaptive(cx, ReduceKind::Mean)),
    ("aten.adaptive_avg_pool3d", |cx| adaptive(cx, ReduceKind::Mean)),
    ("aten._adaptive_avg_pool2d", |cx| adaptive(cx, ReduceKind::Mean)),
    ("aten._adaptive_avg_pool3d", |cx| adaptive(cx, ReduceKind::Mean)),
    ("aten.adaptive_max_pool1d", |cx| adaptive(cx, ReduceKind::Max)),
    ("aten.adaptive_max_pool2d", |cx| adaptive(cx, ReduceKind::Max)),
    ("aten.adaptive_max_pool3d", |cx| adaptive(cx, ReduceKind::Max)),
];

/// Data without a batch axis has one axis less.
fn spatial(shape: &[Extent], kind: &str) -> Result<usize> {
    let spatial = kind.bytes().find(u8::is_ascii_digit).map(|digit| usize::from(digit - b'0'));
    let spatial = spatial.ok_or_else(|| Error::malformed("a pool of no rank"))?;
    if shape.len() != spatial + 2 {
        return Err(Error::unsupported("data without a batch axis"));
    }
    Ok(spatial)
}

fn decode(cx: &mut Decoder<'_, '_>, kind: PoolKind) -> Result<()> {
    let data = cx.tensor("self")?;
    let spatial = spatial(&cx.shape(data)?, cx.kind())?;
    let kernel = per_axis(cx, "kernel_size", spatial, 1)?;
    let mut strides = per_axis(cx, "stride", spatial, 0)?;
    if strides.iter().all(|&stride| stride == 0) {
        strides.clone_from(&kernel);
    }
    if strides.iter().any(|&stride| stride < 1) {
        return Err(Error::malformed("a stride is not positive"));
    }
    let window = Window {
        strides,
        dilations: per_axis(cx, "dilation", spatial, 1)?,
        pads: Some(both_ends(&per_axis(cx, "padding", spatial, 0)?)),
        ceil: cx.flag("ceil_mode", false),
    };
    let size = |&size: &i64| usize::try_from(size).ok().filter(|&size| size > 0);
    let kernel: Option<Vec<usize>> = kernel.iter().map(size).collect();
    let kernel = kernel.ok_or_else(|| Error::malformed("a kernel size is not positive"))?;
    let indices = if cx.is_read(1) { Indices::Read } else { Indices::None };
    cx.drop_results(1..2);
    cx.node(Pool { kind, kernel, window, indices }, &[data])
}

/// A pool to one position is a reduction; to another size, it is an interpolation.
fn adaptive(cx: &mut Decoder<'_, '_>, kind: ReduceKind) -> Result<()> {
    let data = cx.tensor("self")?;
    let shape = cx.shape(data)?;
    let spatial = spatial(&shape, cx.kind())?;
    let result = cx.result_shape(0)?;
    let result = ranked(&[Some(&result)], 0, spatial + 2)?;
    let axes = 2..spatial + 2;
    let pooled = if result[2..].iter().all(|extent| extent.size == 1 && !extent.is_open()) {
        let axes = Some(axes.map(|axis| axis as i64).collect());
        cx.emit(Reduce { kind, axes, keep: true }, &[data])?
    } else {
        let moved = axes.filter(|&axis| result[axis].is_open() || shape[axis] != result[axis]);
        let resize = Resize {
            shape: result.to_vec(),
            moved: moved.collect(),
            flow: Flow::product([0], []),
            target: None,
        };
        cx.emit(resize, &[data])?
    };
    cx.bind(0, pooled);
    cx.drop_results(1..2);
    Ok(())
}
