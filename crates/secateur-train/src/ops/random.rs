//! Random numbers.

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use burn_std::{Distribution, Shape};
use secateur::onnx::proto;

use super::elementwise::cast;
use super::{Decode, Inputs, Op, Operator, sizes};
use crate::onnx::Node;
use crate::value::{FLOAT, bool_dtype};
use crate::{Context, Engine, Error, Result, Value};

/// How numbers are spread.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// Evenly between two.
    Uniform(f64, f64),
    /// By a mean and a deviation.
    Normal(f64, f64),
}

impl Spread {
    fn draw<B: Engine>(self, shape: Shape, cx: &Context<B>) -> FloatTensor<B> {
        let distribution = match self {
            Spread::Uniform(low, high) => Distribution::Uniform(low, high),
            Spread::Normal(mean, deviation) => Distribution::Normal(mean, deviation),
        };
        B::float_random(shape, distribution, &cx.device, FLOAT)
    }
}

/// Random numbers in this shape, or in that of operand 0.
#[derive(Clone, Debug)]
pub struct Random {
    /// How they are spread.
    pub spread: Spread,
    /// The shape.
    pub shape: Option<Vec<usize>>,
}

impl Operator for Random {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let shape = match &self.shape {
            Some(shape) => shape.clone(),
            None => inputs.take(0)?.shape(),
        };
        Ok(vec![Value::Float(self.spread.draw(shape.into(), cx))])
    }
}

/// One with the probability that operand 0 gives, else zero.
#[derive(Clone, Debug)]
pub struct Bernoulli {
    /// What the result is cast to.
    pub cast: Box<Op>,
}

impl Operator for Bernoulli {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.float()?;
        let noise = Spread::Uniform(0.0, 1.0).draw(x.shape(), cx);
        let hit = Value::Bool(B::float_lower(noise, x, bool_dtype::<B>(&cx.device)));
        self.cast.run(cx, Inputs::new(vec![Some(hit)]))
    }
}

/// Classes drawn by unnormalized logarithms `[n, classes]`: by the largest of these with Gumbel's
/// noise.
#[derive(Clone, Copy, Debug)]
pub struct Multinomial {
    /// How many are drawn.
    pub count: usize,
}

impl Operator for Multinomial {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.float()?;
        let shape = x.shape().to_vec();
        let [n, classes] = shape[..] else {
            return Err(Error::malformed(format!("classes drawn from {shape:?}")));
        };
        let x = B::float_reshape(x, vec![n, 1, classes].into());
        let noise = Spread::Uniform(1e-20, 1.0).draw(vec![n, self.count, classes].into(), cx);
        let noise = B::float_neg(B::float_log(B::float_neg(B::float_log(noise))));
        let best = B::float_argmax(B::float_add(x, noise), 2, crate::value::INT);
        Ok(vec![Value::<B>::Int(best).reshape(vec![n, self.count])])
    }
}

/// How ONNX spells them.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("RandomUniform", |node| Ok(random(uniform(node), shape(node)?))),
    ("RandomNormal", |node| Ok(random(normal(node), shape(node)?))),
    ("RandomUniformLike", |node| Ok(random(uniform(node), None))),
    ("RandomNormalLike", |node| Ok(random(normal(node), None))),
    ("Bernoulli", |node| {
        let own = node.data_type(0).map_or(proto::FLOAT, |own| own);
        let cast = Box::new(cast(node.int("dtype", own.into()))?);
        Ok(Bernoulli { cast }.into())
    }),
    ("Multinomial", |node| {
        Ok(Multinomial { count: sizes(&[node.int("sample_size", 1)])?[0] }.into())
    }),
];

fn random(spread: Spread, shape: Option<Vec<usize>>) -> Op {
    Random { spread, shape }.into()
}

fn uniform(node: &Node<'_>) -> Spread {
    Spread::Uniform(node.float("low", 0.0), node.float("high", 1.0))
}

fn normal(node: &Node<'_>) -> Spread {
    Spread::Normal(node.float("mean", 0.0), node.float("scale", 1.0))
}

fn shape(node: &Node<'_>) -> Result<Option<Vec<usize>>> {
    sizes(&node.ints("shape").unwrap_or_default()).map(Some)
}
