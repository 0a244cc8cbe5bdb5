//! Normalization.

pub(crate) mod aten;

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use super::elementwise::{Unary, level};
use super::shape::pad_constant;
use super::{Decode, Inputs, Operator, axis};
use crate::onnx::Node;
use crate::real::Real;
use crate::value::{FLOAT, bool_dtype};
use crate::{Context, Engine, Error, Result, Value};

/// Per channel of `[n, c, s…]`, with scale, offset, mean and variance as operands 1 to 4. In training
/// it takes the batch's statistics, and moves the stored ones towards them (Ioffe & Szegedy, 2015).
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// What is added to variances.
    pub epsilon: f64,
    /// What stays of the running statistics in one step.
    pub momentum: f64,
    /// Whether the batch's statistics are taken in any case, and new running ones are results.
    pub batch: bool,
}

impl Operator for BatchNorm {
    fn run<B: Engine>(&self, cx: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.take(0)?;
        let shape = x.shape();
        if shape.len() < 2 {
            return Err(Error::malformed(format!("batch normalization of {shape:?}")));
        }
        let channels = || B::float_ones(vec![shape[1]].into(), &cx.device, FLOAT);
        let scale = inputs.optional(1).map_or_else(|| Ok(channels()), Value::float)?;
        let offset = match inputs.optional(2) {
            Some(offset) => offset.float()?,
            None => B::float_sub_scalar(channels(), 1.0.into()),
        };
        if !cx.training && !self.batch {
            let (mean, variance) = (inputs.take(3)?.float()?, inputs.take(4)?.float()?);
            let spread = B::float_sqrt(B::float_add_scalar(variance, self.epsilon.into()));
            let factor = B::float_div(scale, spread);
            let shift = B::float_sub(offset, B::float_mul(mean, factor.clone()));
            return Ok(vec![Value::Float(B::affine(x.float()?, factor, shift, 1))]);
        }
        let count = shape.iter().product::<usize>() / shape[1].max(1);
        if count < 2 && !self.batch {
            return Err(Error::argument("batch statistics of one element per channel")
                .hint("give larger batches"));
        }
        let normed = B::batch_normalize(x.float()?, scale, offset, self.epsilon);
        // ONNX's running variance is that of the batch, PyTorch's that of what it was drawn from.
        let unbiased = if self.batch { 1.0 } else { count as f64 / (count - 1) as f64 };
        let momentum = cx.momentum.unwrap_or(self.momentum);
        let moved = |old: FloatTensor<B>, new: FloatTensor<B>, factor: f64| {
            let old = B::float_mul_scalar(B::float_detach(old), momentum.into());
            let new = B::float_mul_scalar(new, ((1.0 - momentum) * factor).into());
            Value::Float(B::float_add(old, new))
        };
        let mut results = vec![Value::<B>::Float(normed.output)];
        if let (Some(mean), Some(variance)) = (inputs.optional(3), inputs.optional(4)) {
            let mean = moved(mean.float()?, normed.mean, 1.0);
            let variance = moved(variance.float()?, normed.variance, unbiased);
            if cx.training {
                cx.update(3, mean.clone());
                cx.update(4, variance.clone());
            }
            results.extend([mean, variance]);
        }
        Ok(results)
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
    /// Whether statistics are results.
    pub told: bool,
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
        let [normed, mean, factor] = match self.told {
            // Gradients pass all three.
            true => Real(flat).normalize(self.epsilon, self.centered),
            false => B::normalize(flat, self.epsilon, self.centered).map(Real),
        };
        let result = Value::from(normed);
        let result = self.affine(result, [scale, offset], &affine, &shape)?;
        let Over::From(first) = self.over else { return Ok(vec![result]) };
        if !self.told {
            return Ok(vec![result]);
        }
        let first = axis(first, shape.len())?;
        let reduced = [shape[..first].to_vec(), vec![1; shape.len() - first]].concat();
        let [mean, factor] = [mean, factor].map(|part| part.reshape(reduced.clone()).into());
        Ok(if self.centered { vec![result, mean, factor] } else { vec![result, factor] })
    }
}

/// The shape of one number per channel.
fn per_channel(shape: &[usize]) -> Vec<usize> {
    [vec![shape[1]], vec![1; shape.len() - 2]].concat()
}

impl Norm {
    /// Scales and moves normalized rows, and gives them their shape.
    fn affine<B: Engine>(
        &self,
        rows: Value<B>,
        [scale, offset]: [Option<FloatTensor<B>>; 2],
        affine: &[usize],
        shape: &[usize],
    ) -> Result<Value<B>> {
        let count = affine.iter().product::<usize>();
        let fits = |t: &Option<FloatTensor<B>>| {
            t.as_ref().is_none_or(|t| t.shape().num_elements() == count)
        };
        if fits(&scale) && fits(&offset) && (scale.is_some() || offset.is_some()) {
            let device = rows.device();
            let ones = || B::float_ones(vec![count].into(), &device, FLOAT);
            let flat = |t: FloatTensor<B>| B::float_reshape(t, vec![count].into());
            let scale = scale.map_or_else(ones, flat);
            let offset =
                offset.map_or_else(|| B::float_zeros(vec![count].into(), &device, FLOAT), flat);
            let rows = match self.over {
                Over::From(_) => rows,
                Over::Space | Over::Groups(_) => rows.reshape(shape.to_vec()),
            };
            let result = Value::<B>::Float(B::affine(rows.float()?, scale, offset, 1));
            return Ok(result.reshape(shape.to_vec()));
        }
        let mut result = rows.reshape(shape.to_vec());
        if let Some(scale) = scale {
            let (a, b) = level(result, self.fit(scale, affine)?);
            result = Value::Float(B::float_mul(a.float()?, b.float()?));
        }
        if let Some(offset) = offset {
            let (a, b) = level(result, self.fit(offset, affine)?);
            result = Value::Float(B::float_add(a.float()?, b.float()?));
        }
        Ok(result)
    }

    /// A scale or offset in the shape that it has to broadcast in; one per group is repeated.
    fn fit<B: Engine>(&self, affine: FloatTensor<B>, shape: &[usize]) -> Result<Value<B>> {
        let (count, wanted) = (affine.shape().num_elements(), shape.iter().product::<usize>());
        let affine = Real::<B>(affine);
        match self.over {
            Over::Groups(groups) if count == groups && count != wanted => {
                let picks = (0..shape[0]).map(|channel| (channel * groups / shape[0]) as i64);
                Ok(affine.rows(0, picks.collect())?.reshape(shape).into())
            }
            _ if count == wanted => Ok(affine.reshape(shape).into()),
            _ => Ok(affine.into()),
        }
    }
}

/// Division by a statistic along axes.
#[derive(Clone, Debug, PartialEq)]
pub enum Along {
    /// By the sum of absolute values; zeros stay.
    One(i64),
    /// By the root of the sum of squares; zeros stay.
    Two(i64),
    /// By the deviation, after the mean is subtracted.
    Deviation(Vec<i64>),
}

impl Operator for Along {
    fn run<B: Engine>(&self, _: &mut Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>> {
        let x = inputs.real(0)?;
        let rank = x.rank();
        let size = match self {
            Along::One(along) => x.clone().apply(Unary::Abs).sum(axis(*along, rank)?),
            Along::Two(along) => {
                let squares = x.clone().square().sum(axis(*along, rank)?);
                let none = B::float_equal_elem(
                    squares.0.clone(),
                    0.0.into(),
                    bool_dtype::<B>(&squares.device()),
                );
                squares.fill(none, 1.0).sqrt()
            }
            Along::Deviation(axes) => {
                let axes = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
                let mean = |x: Real<B>| axes.iter().fold(x, |x, &axis| x.mean(axis));
                let centered = x.clone() - mean(x);
                let deviation = mean(centered.clone().square()).sqrt() + 1e-9;
                return Ok(vec![(centered / deviation).into()]);
            }
        };
        let none = B::float_equal_elem(size.0.clone(), 0.0.into(), bool_dtype::<B>(&size.device()));
        Ok(vec![(x / size.fill(none, 1.0)).into()])
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
        let batch = node.int("training_mode", 0) != 0;
        if !batch && node.outputs() > 1 {
            return Err(Error::unsupported("running statistics as results, as before opset 14")
                .hint("export the model in evaluation mode"));
        }
        let (epsilon, momentum) = (node.float("epsilon", 1e-5), node.float("momentum", 0.9));
        Ok(BatchNorm { epsilon, momentum, batch }.into())
    }),
    ("LayerNormalization", |node| Ok(layer(node, true).into())),
    ("RMSNormalization", |node| Ok(layer(node, false).into())),
    ("SimplifiedLayerNormalization", |node| Ok(layer(node, false).into())),
    ("InstanceNormalization", |node| {
        let epsilon = node.float("epsilon", 1e-5);
        Ok(Norm { over: Over::Space, epsilon, centered: true, told: false }.into())
    }),
    ("LpNormalization", |node| {
        let axis = node.int("axis", -1);
        Ok(if node.int("p", 2) == 1 { Along::One(axis) } else { Along::Two(axis) }.into())
    }),
    ("MeanVarianceNormalization", |node| {
        Ok(Along::Deviation(node.ints("axes").unwrap_or_else(|| vec![0, 2, 3])).into())
    }),
    ("GroupNormalization", |node| {
        let groups = usize::try_from(node.int("num_groups", 1)).unwrap_or(0);
        let epsilon = node.float("epsilon", 1e-5);
        Ok(Norm { over: Over::Groups(groups), epsilon, centered: true, told: false }.into())
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

fn layer(node: &Node<'_>, centered: bool) -> Norm {
    let (over, epsilon) = (Over::From(node.int("axis", -1)), node.float("epsilon", 1e-5));
    Norm { over, epsilon, centered, told: node.outputs() > 1 }
}
