//! Attention of PyTorch: `softmax(q·kᵀ·scale + mask)·v`.

pub(crate) mod aten;

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use burn_std::Distribution;

use super::elementwise::level;
use super::matmul::product;
use super::part::Repeat;
use super::{Inputs, Operator};
use crate::value::{FLOAT, bool_dtype};
use crate::{Context, Engine, Error, Result, Value};

/// Attention of queries `[…, t, d]` to keys `[…, s, d]` with values `[…, s, e]`; operand 3 is a mask of
/// what is seen, or is added to the scores.
#[derive(Clone, Copy, Debug)]
pub struct ScaledAttention {
    /// The factor of the scores; one over the root of the width unless it is given.
    pub scale: Option<f64>,
    /// Whether a query sees no key that stands later.
    pub causal: bool,
    /// Whether several query heads share one head of keys and values.
    pub grouped: bool,
    /// The share of attention that is dropped in training.
    pub dropout: f64,
}

impl Operator for ScaledAttention {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let query = inputs.take(0)?;
        let (mut key, mut value) = (inputs.take(1)?, inputs.take(2)?);
        let shape = query.shape();
        let ([.., tokens, width], true) = (&shape[..], key.rank() >= 2) else {
            return Err(Error::malformed(format!("attention of {shape:?}")));
        };
        if self.grouped && shape.len() >= 3 {
            key = self.repeat(key, &shape, cx)?;
            value = self.repeat(value, &shape, cx)?;
        }
        let places = key.shape()[key.rank() - 2];
        let scale = self.scale.unwrap_or(1.0 / (*width as f64).sqrt());
        let query = Value::<B>::Float(B::float_mul_scalar(query.float()?, scale.into()));
        let key = Value::<B>::Float(B::float_transpose(key.float()?));
        let mut scores = product(query, key)?;
        if let Some(mask) = inputs.optional(3) {
            scores = masked(scores, mask)?;
        }
        if self.causal {
            let seen = |at: usize| at % places <= at / places;
            let seen = (0..tokens * places).map(seen).collect();
            let seen = Value::<B>::of_bools(seen, vec![*tokens, places], &cx.device);
            scores = masked(scores, seen)?;
        }
        let axis = scores.rank() - 1;
        let shares = self.dropped::<B>(shares::<B>(scores.float()?, axis), cx);
        Ok(vec![product(Value::Float(shares), value)?])
    }
}

/// Scores where nothing is seen are the least there is; others get what is added.
fn masked<B: Engine>(scores: Value<B>, mask: Value<B>) -> Result<Value<B>> {
    let (scores, mask) = level(scores, mask);
    match mask {
        Value::Bool(seen) => {
            let scores = scores.float()?;
            let hidden = B::bool_expand(B::bool_not(seen), scores.shape());
            let least = f64::from(f32::NEG_INFINITY);
            Ok(Value::Float(B::float_mask_fill(scores, hidden, least.into())))
        }
        mask => Ok(Value::Float(B::float_add(scores.float()?, mask.to_float()))),
    }
}

/// A softmax that is zero where nothing is seen.
fn shares<B: Engine>(scores: FloatTensor<B>, axis: usize) -> FloatTensor<B> {
    let top = B::float_max_dim(B::float_detach(scores.clone()), axis);
    let dtype = bool_dtype::<B>(&top.device());
    let nothing = B::float_equal_elem(top, f64::from(f32::NEG_INFINITY).into(), dtype);
    let nothing = B::bool_expand(nothing, scores.shape());
    let scores = B::float_mask_fill(scores, nothing.clone(), 0.0.into());
    B::float_mask_fill(B::softmax(scores, axis), nothing, 0.0.into())
}

impl ScaledAttention {
    /// Every head of keys or values for all query heads that share it.
    fn repeat<B: Engine>(
        &self,
        x: Value<B>,
        query: &[usize],
        cx: &mut Context<B>,
    ) -> Result<Value<B>> {
        let (heads, own) = (query[query.len() - 3], x.shape()[x.rank().saturating_sub(3)]);
        if own == 0 || heads % own != 0 {
            return Err(Error::malformed(format!("{heads} query heads share {own} heads")));
        }
        let times = Value::of_ints(vec![(heads / own) as i64], vec![1], &cx.device);
        let results = Repeat { axis: -3 }.run(cx, Inputs::new(vec![Some(x), Some(times)]))?;
        results.into_iter().next().ok_or_else(|| Error::malformed("no heads"))
    }

    fn dropped<B: Engine>(&self, x: FloatTensor<B>, cx: &Context<B>) -> FloatTensor<B> {
        if !cx.training || self.dropout <= 0.0 {
            return x;
        }
        let uniform = Distribution::Uniform(0.0, 1.0);
        let noise = B::float_random(x.shape(), uniform, &cx.device, FLOAT);
        let dtype = bool_dtype::<B>(&cx.device);
        let kept = B::float_greater_equal_elem(noise, self.dropout.into(), dtype);
        let factor = B::bool_into_float(kept, FLOAT);
        let factor = B::float_mul_scalar(factor, (1.0 / (1.0 - self.dropout)).into());
        B::float_mul(x, factor)
    }
}

/// A softmax that is zero where all scores are negative infinity.
#[derive(Clone, Copy, Debug)]
pub struct SafeSoftmax {
    /// The axis.
    pub axis: i64,
}

impl Operator for SafeSoftmax {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.float()?;
        let axis = super::axis(self.axis, x.shape().num_dims())?;
        Ok(vec![Value::Float(shares::<B>(x, axis))])
    }
}
