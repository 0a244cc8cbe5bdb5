//! Kinds of dropout that treat elements alike.

use burn_backend::TensorMetadata;
use burn_std::Distribution;

use super::{Inputs, Operator};
use crate::value::{FLOAT, bool_dtype};
use crate::{Context, Engine, Result, Value};

/// Units that are dropped in training.
#[derive(Clone, Copy, Debug)]
pub enum Drop {
    /// Whole channels of `[n, c, …]`, by this rate: Tompson et al., 2015, section 3.2.
    Channels(f64),
    /// Elements, by this rate, so that mean and variance stay: Klambauer et al., "Self-normalizing
    /// neural networks", 2017.
    Alpha(f64),
}

/// What a dropped unit becomes under [`Drop::Alpha`]: `-λ·α` of the activation SELU.
const DROPPED: f64 = -1.758_099_340_847_376_6;

impl Operator for Drop {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.float()?;
        let (Drop::Channels(rate) | Drop::Alpha(rate)) = *self;
        if !cx.training || rate <= 0.0 {
            return Ok(vec![Value::Float(x)]);
        }
        let mut shape = x.shape().to_vec();
        if matches!(self, Drop::Channels(_)) {
            shape.iter_mut().skip(2).for_each(|size| *size = 1);
        }
        let uniform = Distribution::Uniform(0.0, 1.0);
        let noise = B::float_random(shape.into(), uniform, &cx.device, FLOAT);
        let dtype = bool_dtype::<B>(&cx.device);
        let kept = B::float_greater_equal_elem(noise, rate.into(), dtype);
        let kept = B::bool_into_float(kept, FLOAT);
        Ok(vec![Value::Float(match self {
            Drop::Channels(_) => {
                B::float_mul(x, B::float_mul_scalar(kept, (1.0 / (1.0 - rate)).into()))
            }
            Drop::Alpha(_) => {
                let factor = ((DROPPED * DROPPED * rate + 1.0) * (1.0 - rate)).sqrt().recip();
                let lost = B::float_mul_scalar(
                    B::float_sub_scalar(kept.clone(), 1.0.into()),
                    (-DROPPED * factor).into(),
                );
                let lost = B::float_add_scalar(lost, (-DROPPED * factor * rate).into());
                B::float_add(B::float_mul_scalar(B::float_mul(x, kept), factor.into()), lost)
            }
        })])
    }
}
