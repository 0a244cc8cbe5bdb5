//! How PyTorch spells images that are read at the places of a grid.

use super::{GridSample, Outside, Weighing};
use crate::torch::{Call, Decode};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.grid_sampler", decode),
    ("aten.grid_sampler_2d", decode),
    ("aten.grid_sampler_3d", decode),
];

fn decode(call: &mut Call<'_, '_>) -> Result<()> {
    let weighing = match call.int("interpolation_mode", 0)? {
        0 => Weighing::Linear,
        1 => Weighing::Nearest,
        2 => Weighing::Cubic,
        other => return Err(Error::malformed(format!("`interpolation_mode` is {other}"))),
    };
    let outside = match call.int("padding_mode", 0)? {
        0 => Outside::Zeros,
        1 => Outside::Border,
        2 => Outside::Reflection,
        other => return Err(Error::malformed(format!("`padding_mode` is {other}"))),
    };
    let corners = call.flag("align_corners", false);
    let operands = [call.float("input")?, call.float("grid")?];
    call.make(GridSample { weighing, outside, corners }, &operands)
}
