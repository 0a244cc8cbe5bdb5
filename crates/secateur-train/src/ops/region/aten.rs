//! How torchvision spells regions of images.

use super::{RoiAlign, Taken};
use crate::Error;
use crate::ops::elementwise::Cast;
use crate::ops::part::Part;
use crate::torch::Decode;

pub(crate) const ATEN: &[(&str, Decode)] = &[("torchvision.roi_align", |call| {
    let size = ["pooled_height", "pooled_width"].map(|name| call.int(name, 1));
    let [height, width] = size;
    let wrong = |_| Error::malformed("a negative size");
    let size = [height?, width?].map(|size| usize::try_from(size).map_err(wrong));
    let [height, width] = size;
    let align = RoiAlign {
        taken: Taken::Mean,
        size: [height?, width?],
        samples: usize::try_from(call.int("sampling_ratio", -1)?).unwrap_or(0),
        scale: call.number_or("spatial_scale", 1.0)? as f32,
        half: call.flag("aligned", false),
    };
    let (x, regions) = (call.float("input")?, call.float("rois")?);
    let (one, five) = (call.integer(1), call.integer(5));
    let corners = call.emit(Part::Slice(1, 1), &[regions, one, five]);
    let zero = call.integer(0);
    let images = call.emit(Part::Select(1), &[regions, zero]);
    let images = call.emit(Cast::Int, &[images]);
    call.make(align, &[x, corners, images])
})];
