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
        let zeros = || B::float_zeros(grad.shape(), &grad.device(), FLOAT);
        match *self {
            Optimizer::Sgd { momentum, nesterov } => {
                let velocity = state.pop().unwrap_or_else(zeros);
                let step = SgdStep { rate: rate.rate, decay: rate.decay, momentum, nesterov };
                let (param, velocity) = B::sgd(param, grad, velocity, step);
                if momentum != 0.0 {
                    state.push(velocity);
                }
                param
            }
            Optimizer::Adam { betas, epsilon, decoupled } => {
                let square = state.pop().unwrap_or_else(zeros);
                let mean = state.pop().unwrap_or_else(zeros);
                let power = |beta: f64| 1.0 - beta.powf(steps as f64);
                let step = AdamStep {
                    rate: rate.rate / power(betas.0),
                    shrink: if decoupled { 1.0 - rate.rate * rate.decay } else { 1.0 },
                    decay: if decoupled { 0.0 } else { rate.decay },
                    betas,
                    root: 1.0 / power(betas.1).sqrt(),
                    epsilon,
                };
                let (param, new) = B::adam(param, grad, [mean, square], step);
                state.extend(new);
                param
            }
        }
    }
}

/// One step of gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The learning rate.
    pub rate: f64,
    /// The part of the parameter that is added to the gradient.
    pub decay: f64,
    /// What stays of the velocity.
    pub momentum: f64,
    /// Whether to look ahead.
    pub nesterov: bool,
}

/// One step of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The learning rate, by what the mean of gradients lacks.
    pub rate: f64,
    /// What the parameter is multiplied with.
    pub shrink: f64,
    /// The part of the parameter that is added to the gradient.
    pub decay: f64,
    /// What stays of the running means of gradients and of their squares.
    pub betas: (f64, f64),
    /// What the root of the second is multiplied with.
    pub root: f64,
    /// What is added to that.
    pub epsilon: f64,
}

/// How far a step goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The learning rate.
    pub rate: f64,
    /// The weight decay.
    pub decay: f64,
}
