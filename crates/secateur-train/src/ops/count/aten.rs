//! How PyTorch spells operators whose results data counts.

use super::{Histogram, NonMaxSuppression};
use crate::ops::index::NonZero;
use crate::ops::part::Part;
use crate::ops::shape::{Reshape, Transpose};
use crate::torch::{Call, Decode};
use crate::{Error, Result};

pub(crate) const ATEN: &[(&str, Decode)] = &[
    ("aten.nonzero", |call| {
        let x = call.tensor("self")?;
        let places = call.emit(NonZero, &[x]);
        call.make(Transpose { order: vec![1, 0] }, &[places])
    }),
    ("aten.histc", |call| {
        let bins = usize::try_from(call.int("bins", 100)?).ok().filter(|bins| *bins > 0);
        let bins = bins.ok_or_else(|| Error::malformed("a histogram without bins"))?;
        let range = (call.number_or("min", 0.0)?, call.number_or("max", 0.0)?);
        let x = call.tensor("self")?;
        call.make(Histogram { bins, range }, &[x])
    }),
    ("aten.nonzero_numpy", |call| positions(call, "self")),
    ("torchvision.nms", |call| {
        let (boxes, scores) = (call.float("dets")?, call.float("scores")?);
        let boxes = call.emit(Reshape::Unsqueeze(Some(vec![0])), &[boxes]);
        let scores = call.emit(Reshape::Unsqueeze(Some(vec![0, 1])), &[scores]);
        let overlap = call.number("iou_threshold");
        let overlap = overlap.ok_or_else(|| Error::unsupported("a threshold that is computed"))?;
        let (most, overlap) = (call.integer(i64::MAX), call.real(overlap));
        let kept = NonMaxSuppression { centered: false };
        let kept = call.emit(kept, &[boxes, scores, most, overlap]);
        let last = call.integer(2);
        call.make(Part::Select(1), &[kept, last])
    }),
];

/// The places that are not zero, one vector per axis.
pub(crate) fn positions(call: &mut Call<'_, '_>, name: &str) -> Result<()> {
    let x = call.tensor(name)?;
    let places = call.emit(NonZero, &[x]);
    for index in 0..call.outputs() {
        let at = call.integer(index as i64);
        let along = call.emit(Part::Select(0), &[places, at]);
        call.bind(index, along);
    }
    Ok(())
}
