//! Optimizers, and what they remember of every parameter.

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;

use crate::Engine;
use crate::value::FLOAT;

/// How gradients move parameters. Defaults and formulas are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// What stays of the last direction.
        momentum: f64,
        /// Whether to look ahead (Sutskever et al., 2013).
        nesterov: bool,
    },
    /// Kingma & Ba, 2015.
    Adam {
        /// What stays of the running means of gradients and of their squares.
        betas: (f64, f64),
        /// What is added to the root of the second.
        epsilon: f64,
        /// Whether weight decay is taken from the weights instead of added to gradients
        /// (Loshchilov & Hutter, 2019).
        decoupled: bool,
    },
}

impl Optimizer {
    /// The names in flags.
    pub const NAMES: [&'static str; 3] = ["sgd", "adam", "adamw"];

    /// The optimizer of this name, with PyTorch's defaults but for a momentum of 0.9.
    pub fn named(name: &str) -> Option<Self> {
        let adam = |decoupled| Optimizer::Adam { betas: (0.9, 0.999), epsilon: 1e-8, decoupled };
        Some(match name {
            "sgd" => Optimizer::Sgd { momentum: 0.9, nesterov: false },
            "adam" => adam(false),
            "adamw" => adam(true),
            _ => return None,
        })
    }

    /// What its tensors of state are called.
    pub fn states(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            Optimizer::Sgd { .. } => &["momentum"],
            Optimizer::Adam { .. } => &["mean", "square"],
        }
    }

    /// Moves a parameter by its gradient. `steps` counts from 1.
    pub fn step<B: Engine>(
        &self,
        param: FloatTensor<B>,
        grad: FloatTensor<B>,
        state: &mut Vec<FloatTensor<B>>,
        rate: Rate,
        steps: u64,
    ) -> FloatTensor<B> {
        match *self {
            Optimizer::Sgd { momentum, nesterov } => {
                let grad = decayed::<B>(grad, &param, rate.decay);
                if momentum == 0.0 {
                    return B::float_sub(param, scaled::<B>(grad, rate.rate));
                }
                let velocity = match state.pop() {
                    Some(old) => B::float_add(scaled::<B>(old, momentum), grad.clone()),
                    None => grad.clone(),
                };
                state.push(velocity.clone());
                let way = match nesterov {
                    true => B::float_add(grad, scaled::<B>(velocity, momentum)),
                    false => velocity,
                };
                B::float_sub(param, scaled::<B>(way, rate.rate))
            }
            Optimizer::Adam { betas, epsilon, decoupled } => {
                let (param, grad) = match decoupled {
                    true => (scaled::<B>(param, 1.0 - rate.rate * rate.decay), grad),
                    false => {
                        let grad = decayed::<B>(grad, &param, rate.decay);
                        (param, grad)
                    }
                };
                if state.len() != 2 {
                    let zeros = || B::float_zeros(param.shape(), &param.device(), FLOAT);
                    *state = vec![zeros(), zeros()];
                }
                let square = state.pop().map(|old| {
                    let new = B::float_mul(grad.clone(), grad.clone());
                    B::float_add(scaled::<B>(old, betas.1), scaled::<B>(new, 1.0 - betas.1))
                });
                let mean = state.pop().map(|old| {
                    B::float_add(scaled::<B>(old, betas.0), scaled::<B>(grad, 1.0 - betas.0))
                });
                let (Some(mean), Some(square)) = (mean, square) else { return param };
                state.extend([mean.clone(), square.clone()]);
                let power = |beta: f64| 1.0 - beta.powf(steps as f64);
                let root = scaled::<B>(B::float_sqrt(square), 1.0 / power(betas.1).sqrt());
                let way = B::float_div(mean, B::float_add_scalar(root, epsilon.into()));
                B::float_sub(param, scaled::<B>(way, rate.rate / power(betas.0)))
            }
        }
    }
}

/// How far a step goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The learning rate.
    pub rate: f64,
    /// The weight decay.
    pub decay: f64,
}

fn scaled<B: Engine>(x: FloatTensor<B>, factor: f64) -> FloatTensor<B> {
    B::float_mul_scalar(x, factor.into())
}

fn decayed<B: Engine>(grad: FloatTensor<B>, param: &FloatTensor<B>, decay: f64) -> FloatTensor<B> {
    match decay == 0.0 {
        true => grad,
        false => B::float_add(grad, scaled::<B>(param.clone(), decay)),
    }
}
