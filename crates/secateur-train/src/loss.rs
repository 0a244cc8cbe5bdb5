//! Losses and metrics of a model's first output.

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use crate::value::INT;
use crate::{Engine, Error, Result, Value};

/// What training makes small; always a mean over all that is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Cross-entropy of logits `[n, classes]` (or `[n, tokens, classes]`) against class indices
    /// `[n]` (or `[n, tokens]`); a negative index counts for nothing. This part of the weight goes to
    /// all classes alike (label smoothing, Szegedy et al. 2016).
    CrossEntropy {
        /// From 0 to below 1.
        smoothing: f64,
    },
    /// Mean squared error.
    Mse,
    /// Cross-entropy of logits against numbers from 0 to 1, element by element.
    Bce,
    /// Kullback-Leibler divergence of logits from probabilities, both `[n, classes]`.
    Kl,
}

impl Loss {
    /// The names in flags.
    pub const NAMES: [&'static str; 4] = ["cross-entropy", "mse", "bce", "kl"];

    /// The loss of this name, without smoothing.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "cross-entropy" => Loss::CrossEntropy { smoothing: 0.0 },
            "mse" => Loss::Mse,
            "bce" => Loss::Bce,
            "kl" => Loss::Kl,
            _ => return None,
        })
    }

    /// The loss, one number.
    ///
    /// # Errors
    /// When output and target do not fit.
    pub fn apply<B: Engine>(self, output: Value<B>, target: Value<B>) -> Result<FloatTensor<B>> {
        let (losses, count) = self.each(output, target)?;
        Ok(B::float_div_scalar(B::float_sum(losses), (count as f64).into()))
    }

    /// The loss of every row (a sample, or a token), zero where it does not count, and how many do.
    ///
    /// # Errors
    /// When output and target do not fit.
    pub fn each<B: Engine>(
        self,
        output: Value<B>,
        target: Value<B>,
    ) -> Result<(FloatTensor<B>, usize)> {
        if let Loss::CrossEntropy { smoothing } = self {
            return cross_entropy(rows(output)?, target, smoothing);
        }
        let (found, expected) = (target.shape(), output.shape());
        let count = expected.first().copied().unwrap_or(1);
        let all = expected.iter().product::<usize>();
        if found.iter().product::<usize>() != all || all == 0 {
            let text = format!("a target of shape {found:?} for an output of shape {expected:?}");
            return Err(Error::argument(text));
        }
        let (output, rows) = match self {
            Loss::Kl => (rows(output)?, all / expected[expected.len() - 1]),
            _ => (output.reshape(vec![count, all / count]).float()?, count),
        };
        let target = B::float_reshape(target.to_float(), output.shape());
        let losses = match self {
            Loss::Mse => {
                let error = B::float_sub(output, target);
                B::float_mean_dim(B::float_mul(error.clone(), error), 1)
            }
            Loss::Bce => {
                // log(1 + exp(x)) − x·t
                let free = B::float_neg(B::log_sigmoid(B::float_neg(output.clone())));
                B::float_mean_dim(B::float_sub(free, B::float_mul(output, target)), 1)
            }
            Loss::Kl | Loss::CrossEntropy { .. } => divergence::<B>(output, target),
        };
        Ok((B::float_reshape(losses, vec![rows].into()), rows))
    }
}

/// `Σ p·(log p − log softmax(x))` of every row.
pub(crate) fn divergence<B: Engine>(
    logits: FloatTensor<B>,
    probabilities: FloatTensor<B>,
) -> FloatTensor<B> {
    let log = B::log_softmax(logits, 1);
    let own = B::float_log(B::float_clamp_min(probabilities.clone(), 1e-30.into()));
    B::float_sum_dim(B::float_mul(probabilities, B::float_sub(own, log)), 1)
}

/// An output as rows of logits.
pub(crate) fn rows<B: Engine>(output: Value<B>) -> Result<FloatTensor<B>> {
    let shape = output.shape();
    let Some((&classes, lead)) = shape.split_last().filter(|(_, lead)| !lead.is_empty()) else {
        let text = format!("class scores are expected in an output, its shape is {shape:?}");
        return Err(Error::argument(text));
    };
    let count = lead.iter().product();
    output.reshape(vec![count, classes]).float()
}

fn cross_entropy<B: Engine>(
    logits: FloatTensor<B>,
    target: Value<B>,
    smoothing: f64,
) -> Result<(FloatTensor<B>, usize)> {
    let (count, classes) = (logits.shape()[0], logits.shape()[1]);
    let device = logits.device();
    let labels = labels(target, count, classes)?;
    let log = B::log_softmax(logits, 1);
    let places = labels.iter().map(|&label| label.max(0)).collect();
    let places = Value::<B>::of_ints(places, vec![count, 1], &device).int()?;
    let mut gain = B::float_gather(1, log.clone(), places);
    if smoothing > 0.0 {
        let all = B::float_mul_scalar(B::float_mean_dim(log, 1), smoothing.into());
        gain = B::float_add(B::float_mul_scalar(gain, (1.0 - smoothing).into()), all);
    }
    let mask = labels.iter().map(|&label| if label >= 0 { -1.0 } else { 0.0 }).collect();
    let mask = Value::<B>::of_floats(mask, vec![count, 1], &device).float()?;
    let losses = B::float_reshape(B::float_mul(gain, mask), vec![count].into());
    let counted = labels.iter().filter(|&&label| label >= 0).count();
    Ok((losses, counted.max(1)))
}

/// The class of every row.
fn labels<B: Engine>(target: Value<B>, count: usize, classes: usize) -> Result<Vec<i64>> {
    let shape = target.shape();
    let labels = target.to_ints()?;
    if labels.len() != count {
        let text = format!("{} class indices of shape {shape:?} for {count} rows", labels.len());
        return Err(Error::argument(text));
    }
    match labels.iter().find(|&&label| label >= classes as i64) {
        None => Ok(labels),
        Some(wrong) => Err(Error::argument(format!("class {wrong} of {classes}"))
            .hint("classes are counted from 0; the model may have too few outputs for this data")),
    }
}

/// How many rows have their class on top, and how many there are; a negative index counts for
/// nothing.
///
/// # Errors
/// When output and target do not fit.
pub fn hits<B: Engine>(output: Value<B>, target: Value<B>) -> Result<(usize, usize)> {
    let logits = rows(output)?;
    let (count, classes) = (logits.shape()[0], logits.shape()[1]);
    let labels = labels(target, count, classes)?;
    let top = Value::<B>::Int(B::float_argmax(logits, 1, INT)).to_ints()?;
    let counted = labels.iter().filter(|&&label| label >= 0).count();
    let right = labels.iter().zip(&top).filter(|(label, top)| label == top).count();
    Ok((right, counted))
}
