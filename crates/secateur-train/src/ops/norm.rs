//! Normalization.

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use super::elementwise::level;
use super::shape::pad_constant;
use super::{Decode, Inputs, Operator, axis};
use crate::{Context, Engine, Error, Result, Value};

/// Per channel of `[n, c, s…]`, with scale, offset, mean and variance as operands 1 to 4. In training
/// it takes the batch's statistics, and moves the stored ones towards them (Ioffe & Szegedy, 2015).
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// What is added to variances.
    pub epsilon: f64,
    /// What stays of the running statistics in one step.
    pub momentum: f64,
}

impl Operator for BatchNorm {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        if shape.len() < 2 {
            return Err(Error::malformed(format!("batch normalization of {shape:?}")));
        }
        let scale = inputs.take(1)?.float()?;
        let offset = inputs.take(2)?.float()?;
        let (mean, variance) = (inputs.take(3)?.float()?, inputs.take(4)?.float()?);
        if !cx.training {
            let per_channel = [vec![1, shape[1]], vec![1; shape.len() - 2]].concat();
            let spread = B::float_sqrt(B::float_add_scalar(variance, self.epsilon.into()));
            let factor = B::float_div(scale, spread);
            let shift = B::float_sub(offset, B::float_mul(mean, factor.clone()));
            let lift = |t: FloatTensor<B>| B::float_reshape(t, per_channel.clone().into());
            let scaled = B::float_mul(x.float()?, lift(factor));
            return Ok(vec![Value::Float(B::float_add(scaled, lift(shift)))]);
        }
        let count = shape.iter().product::<usize>() / shape[1].max(1);
        if count < 2 {
            return Err(Error::argument("batch statistics of one element per channel")
                .hint("give larger batches"));
        }
        let flat = match shape.len() {
            2 => x.reshape(vec![shape[0], shape[1], 1]),
            _ => x,
        };
        let normed = B::batch_norm_train(flat.float()?, scale, offset, self.epsilon);
        let unbiased = count as f64 / (count - 1) as f64;
        let momentum = cx.momentum.unwrap_or(self.momentum);
        let moved = |old: FloatTensor<B>, new: FloatTensor<B>, factor: f64| {
            let old = B::float_mul_scalar(B::float_detach(old), momentum.into());
            let new = B::float_mul_scalar(new, ((1.0 - momentum) * factor).into());
            Value::Float(B::float_add(old, new))
        };
        let mean = moved(mean, normed.mean, 1.0);
        let variance = moved(variance, normed.variance, unbiased);
        cx.update(3, mean);
        cx.update(4, variance);
        Ok(vec![Value::<B>::Float(normed.output).reshape(shape)])
    }
}

/// Over which part of a sample statistics are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// All axes from this one on; scale and offset have their shape.
    From(i64),
    /// The space of every channel; scale and offset are one number per channel.
    Space,
    /// The channels and space of every group of channels; scale and offset as before.
    Groups(usize),
}

/// Normalization by each sample's own statistics, with scale and offset as operands 1 and 2.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// What is taken together.
    pub over: Over,
    /// What is added to variances.
    pub epsilon: f64,
    /// Whether the mean is subtracted; else only the root mean square counts.
    pub centered: bool,
}

impl Operator for Norm {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        let (outer, affine) = match self.over {
            Over::From(first) => {
                let first = axis(first, shape.len())?;
                (shape[..first].iter().product(), shape[first..].to_vec())
            }
            Over::Space | Over::Groups(_) if shape.len() < 2 => {
                return Err(Error::malformed(format!("normalization of {shape:?}")));
            }
            Over::Space => (shape[0] * shape[1], per_channel(&shape)),
            Over::Groups(groups) => {
                if groups == 0 || shape[1] % groups != 0 {
                    let text = format!("{} channels in {groups} groups", shape[1]);
                    return Err(Error::malformed(text));
                }
                (shape[0] * groups, per_channel(&shape))
            }
        };
        let inner = shape.iter().product::<usize>() / usize::max(outer, 1);
        let scale = inputs.optional(1).map(Value::float).transpose()?;
        let offset = inputs.optional(2).map(Value::float).transpose()?;
        let flat = x.reshape(vec![outer, inner]).float()?;
        let normed = Value::<B>::Float(self.normalize::<B>(flat)).reshape(shape);
        let mut result = normed;
        if let Some(scale) = scale {
            let (a, b) = level(result, fit::<B>(scale, &affine));
            result = Value::Float(B::float_mul(a.float()?, b.float()?));
        }
        if let Some(offset) = offset {
            let (a, b) = level(result, fit::<B>(offset, &affine));
            result = Value::Float(B::float_add(a.float()?, b.float()?));
        }
        Ok(vec![result])
    }
}

/// The shape of one number per channel.
fn per_channel(shape: &[usize]) -> Vec<usize> {
    [vec![shape[1]], vec![1; shape.len() - 2]].concat()
}

/// A scale or offset in the shape that it has to broadcast in.
fn fit<B: Engine>(affine: FloatTensor<B>, shape: &[usize]) -> Value<B> {
    let same = affine.shape().num_elements() == shape.iter().product::<usize>();
    let affine = Value::<B>::Float(affine);
    if same { affine.reshape(shape.to_vec()) } else { affine }
}

impl Norm {
    /// Normalizes the rows of a matrix.
    fn normalize<B: Engine>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let x = match self.centered {
            true => B::float_sub(x.clone(), B::float_mean_dim(x, 1)),
            false => x,
        };
        let variance = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 1);
        let spread = B::float_sqrt(B::float_add_scalar(variance, self.epsilon.into()));
        B::float_div(x, spread)
    }
}

/// Local response normalization: Krizhevsky et al., 2012, section 3.3.
#[derive(Clone, Copy, Debug)]
pub struct Lrn {
    /// Channels that are taken together.
    pub size: usize,
    /// α
    pub alpha: f64,
    /// β
    pub beta: f64,
    /// k
    pub bias: f64,
}

impl Operator for Lrn {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?.float()?;
        let shape = x.shape().to_vec();
        let space: usize = shape[2..].iter().product();
        let flat = Value::<B>::Float(B::float_mul(x.clone(), x.clone()));
        let flat = flat.reshape(vec![shape[0], 1, shape[1], space]);
        let (near, far) = ((self.size - 1) / 2, self.size / 2);
        let borders = [(0, 0), (0, 0), (near as i64, far as i64), (0, 0)];
        let padded = pad_constant(flat, &borders, 0.0)?.float()?;
        let mean = B::avg_pool2d(padded, [self.size, 1], [1, 1], [0, 0], true, false);
        let base =
            B::float_add_scalar(B::float_mul_scalar(mean, self.alpha.into()), self.bias.into());
        let below = B::float_powf_scalar(base, self.beta.into());
        let below = B::float_reshape(below, shape.into());
        Ok(vec![Value::Float(B::float_div(x, below))])
    }
}

/// How ONNX spells normalization.
pub(crate) const ONNX: &[(&str, Decode)] = &[
    ("BatchNormalization", |node| {
        if node.int("training_mode", 0) != 0 && node.outputs() > 1 {
            return Err(Error::unsupported("running statistics as results")
                .hint("export the model in evaluation mode"));
        }
        let (epsilon, momentum) = (node.float("epsilon", 1e-5), node.float("momentum", 0.9));
        Ok(BatchNorm { epsilon, momentum }.into())
    }),
    ("LayerNormalization", |node| {
        if node.outputs() > 1 {
            return Err(Error::unsupported("its statistics as results"));
        }
        let over = Over::From(node.int("axis", -1));
        Ok(Norm { over, epsilon: node.float("epsilon", 1e-5), centered: true }.into())
    }),
    ("RMSNormalization", |node| {
        let over = Over::From(node.int("axis", -1));
        Ok(Norm { over, epsilon: node.float("epsilon", 1e-5), centered: false }.into())
    }),
    ("SimplifiedLayerNormalization", |node| {
        let over = Over::From(node.int("axis", -1));
        Ok(Norm { over, epsilon: node.float("epsilon", 1e-5), centered: false }.into())
    }),
    ("InstanceNormalization", |node| {
        let epsilon = node.float("epsilon", 1e-5);
        Ok(Norm { over: Over::Space, epsilon, centered: true }.into())
    }),
    ("GroupNormalization", |node| {
        if node.opset < 21 {
            return Err(Error::unsupported("one scale per group, as before opset 21"));
        }
        let groups = usize::try_from(node.int("num_groups", 1)).unwrap_or(0);
        let epsilon = node.float("epsilon", 1e-5);
        Ok(Norm { over: Over::Groups(groups), epsilon, centered: true }.into())
    }),
    ("LRN", |node| {
        let size = usize::try_from(node.int("size", 1)).ok().filter(|&size| size > 0);
        let size = size.ok_or_else(|| Error::malformed("`size` is not positive"))?;
        Ok(Lrn {
            size,
            alpha: node.float("alpha", 1e-4),
            beta: node.float("beta", 0.75),
            bias: node.float("bias", 1.0),
        }
        .into())
    }),
];
