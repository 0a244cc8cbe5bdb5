//! Class indices: how many classes there are, and whether all labels are in range.

use secateur::{Error, Result};

/// A label from here on is taken for a mistake where the number of classes is not known.
const MOST_CLASSES: usize = 1 << 24;

/// The number of classes of labels that belong to so many samples, in their order.
pub(crate) fn count_classes(
    labels: &[i64],
    samples: usize,
    declared: Option<usize>,
) -> Result<usize> {
    let limit = declared.unwrap_or(MOST_CLASSES);
    let valid = |label: i64| usize::try_from(label).is_ok_and(|label| label < limit);
    if let Some(at) = labels.iter().position(|&label| !valid(label)) {
        let sample = at / labels.len().checked_div(samples).unwrap_or(1).max(1);
        return Err(out_of_range(labels.get(at).copied().unwrap_or(-1), sample, limit));
    }
    let highest = labels.iter().max().map_or(0, |&label| label as usize + 1);
    Ok(declared.unwrap_or(highest))
}

fn out_of_range(label: i64, sample: usize, limit: usize) -> Error {
    let error = Error::argument(format!(
        "sample {sample} has the label {label}, which is not in 0..{limit}"
    ));
    match limit {
        MOST_CLASSES => error.hint("number the classes from 0, or set `targets` to numbers"),
        _ => error.hint("correct the label, or set `classes` to the number of classes"),
    }
}

/// Fails unless each image has a label.
pub(crate) fn check_counts(images: usize, labels: usize) -> Result<()> {
    if images == labels {
        return Ok(());
    }
    Err(Error::argument(format!("{images} samples, but {labels} targets"))
        .hint("give samples and targets of the same data set and part"))
}
