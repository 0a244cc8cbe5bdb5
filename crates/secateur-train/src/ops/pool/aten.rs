//! How PyTorch spells pools.

use super::{Pool, PoolKind};
use crate::ops::adaptive::AdaptivePool;
use crate::ops::conv::Window;
use crate::ops::conv::aten::{borders, positive};
use crate::ops::elementwise::Binary;
use crate::ops::reduce::{Reduce, Reduction};
use crate::ops::shape::{Reshape, Shape};
use crate::ops::view::View;
use crate::torch::{Call, Decode};
use crate::{Error, Result, Slot};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.max_pool1d", |call| largest(call, 1)),
    ("aten.max_pool2d", |call| largest(call, 2)),
    ("aten.max_pool3d", |call| largest(call, 3)),
    ("aten.max_pool1d_with_indices", |call| largest(call, 1)),
    ("aten.max_pool2d_with_indices", |call| largest(call, 2)),
    ("aten.max_pool3d_with_indices", |call| largest(call, 3)),
    ("aten.avg_pool1d", |call| mean(call, 1)),
    ("aten.avg_pool2d", |call| mean(call, 2)),
    ("aten.avg_pool3d", |call| mean(call, 3)),
    ("aten.adaptive_avg_pool1d", |call| adaptive(call, PoolKind::Mean(false))),
    ("aten.adaptive_avg_pool2d", |call| adaptive(call, PoolKind::Mean(false))),
    ("aten.adaptive_avg_pool3d", |call| adaptive(call, PoolKind::Mean(false))),
    ("aten._adaptive_avg_pool2d", |call| adaptive(call, PoolKind::Mean(false))),
    ("aten._adaptive_avg_pool3d", |call| adaptive(call, PoolKind::Mean(false))),
    ("aten.adaptive_max_pool1d", |call| adaptive(call, PoolKind::Max)),
    ("aten.adaptive_max_pool2d", |call| adaptive(call, PoolKind::Max)),
    ("aten.adaptive_max_pool3d", |call| adaptive(call, PoolKind::Max)),
];

fn window(call: &Call<'_, '_>, axes: usize, kernel: &[usize]) -> Result<Window> {
    let strides = positive(call, "stride", axes)?;
    Ok(Window {
        strides: if strides.is_empty() { kernel.to_vec() } else { strides },
        dilations: positive(call, "dilation", axes)?,
        pads: borders(call, axes)?,
        same: None,
        ceil: call.flag("ceil_mode", false),
    })
}

fn largest(call: &mut Call<'_, '_>, axes: usize) -> Result<()> {
    slide(call, axes, PoolKind::Max)
}

fn mean(call: &mut Call<'_, '_>, axes: usize) -> Result<()> {
    if call.has("divisor_override") {
        return Err(Error::unsupported("a divisor of its own"));
    }
    let counted = call.flag("count_include_pad", true);
    slide(call, axes, PoolKind::Mean(counted))
}

fn slide(call: &mut Call<'_, '_>, axes: usize, kind: PoolKind) -> Result<()> {
    let kernel = positive(call, "kernel_size", axes)?;
    let window = window(call, axes, &kernel)?;
    let single = call.rank("self")? == axes + 1;
    let mut x = call.float("self")?;
    if single {
        x = call.emit(Reshape::Unsqueeze(Some(vec![0])), &[x]);
    }
    let placed = call.outputs() > 1 && call.is_read(1);
    let pool = Pool { kind, kernel, window, placed, columns: false };
    let made = match placed {
        true => call.emit_two(pool, &[x]).to_vec(),
        false => vec![call.emit(pool, &[x])],
    };
    for (index, mut made) in made.into_iter().enumerate() {
        if index == 1 {
            made = in_channel(call, made, x);
        }
        let made = match single {
            true => call.emit(View::Squeeze(Some(vec![0])), &[made]),
            false => made,
        };
        call.bind(index, made);
    }
    Ok(())
}

/// Positions among all elements as those in their channel.
fn in_channel(call: &mut Call<'_, '_>, places: Slot, x: Slot) -> Slot {
    let sizes = call.emit(Shape::Sizes(2, i64::MAX), &[x]);
    let reduce = Reduce { kind: Reduction::Prod, axes: None, keep: false, none: false };
    let area = call.emit(reduce, &[sizes]);
    call.emit(Binary::Mod, &[places, area])
}

/// The exporter writes -1 for an axis that stays.
fn adaptive(call: &mut Call<'_, '_>, kind: PoolKind) -> Result<()> {
    let windows = call.ints("output_size")?;
    let windows = windows.into_iter().map(|size| usize::try_from(size).ok()).collect();
    let x = call.float("self")?;
    call.make(AdaptivePool { kind, windows }, &[x])
}
