//! How PyTorch spells interpolation: of all axes after the channels.

use super::{Coordinates, Method, Policy, Resize, Rounding};
use crate::ops::make::Constant;
use crate::torch::{Call, Decode};
use crate::{Error, Result};

const NEAREST: (Method, Coordinates) = (Method::Nearest(Rounding::Floor), Coordinates::Asymmetric);
const EXACT: (Method, Coordinates) =
    (Method::Nearest(Rounding::PreferCeil), Coordinates::HalfPixel);

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.upsample_nearest1d", |call| resize(call, NEAREST)),
    ("aten.upsample_nearest2d", |call| resize(call, NEAREST)),
    ("aten.upsample_nearest3d", |call| resize(call, NEAREST)),
    ("aten._upsample_nearest_exact1d", |call| resize(call, EXACT)),
    ("aten._upsample_nearest_exact2d", |call| resize(call, EXACT)),
    ("aten._upsample_nearest_exact3d", |call| resize(call, EXACT)),
    ("aten.upsample_linear1d", |call| curve(call, Method::Linear)),
    ("aten.upsample_bilinear2d", |call| curve(call, Method::Linear)),
    ("aten.upsample_trilinear3d", |call| curve(call, Method::Linear)),
    ("aten.upsample_bicubic2d", |call| curve(call, Method::Cubic(-0.75))),
    ("aten._upsample_bilinear2d_aa", |call| curve(call, Method::Linear)),
    ("aten._upsample_bicubic2d_aa", |call| curve(call, Method::Cubic(-0.5))),
];

fn curve(call: &mut Call<'_, '_>, method: Method) -> Result<()> {
    let aligned = call.flag("align_corners", false);
    let coordinates = if aligned { Coordinates::AlignCorners } else { Coordinates::HalfPixel };
    resize(call, (method, coordinates))
}

/// Factors that are given count, not those that follow from sizes.
fn factors(call: &Call<'_, '_>) -> Vec<f32> {
    let listed = call.numbers("scale_factors");
    let named = ["scales_d", "scales_h", "scales_w", "scales"];
    let named = named.iter().filter_map(|name| call.number(name)).collect();
    let factors: Vec<f64> = if listed.is_empty() { named } else { listed };
    factors.into_iter().map(|factor| factor as f32).collect()
}

fn resize(call: &mut Call<'_, '_>, (method, coordinates): (Method, Coordinates)) -> Result<()> {
    let name = if call.has("input") { "input" } else { "self" };
    let axes = call.rank(name)?.saturating_sub(2);
    let x = call.float(name)?;
    let (factors, sized) = (factors(call), !call.list("output_size")?.is_empty());
    let operands = if factors.len() == axes {
        vec![Some(x), None, Some(call.emit(Constant::Floats(factors, vec![axes]), &[]))]
    } else if sized {
        vec![Some(x), None, None, Some(call.vector("output_size")?)]
    } else {
        return Err(Error::malformed("neither factors nor sizes"));
    };
    let axes = Some((2..2 + axes as i64).collect());
    let antialias = call.operator().ends_with("_aa");
    let resize = Resize {
        method,
        coordinates,
        axes,
        slots: (2, 3),
        policy: Policy::Stretch,
        antialias,
        exclude: antialias,
        beyond: 0.0,
    };
    call.make_over(resize, operands)
}
