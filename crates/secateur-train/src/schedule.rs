//! Learning rates over time.

use std::f64::consts::PI;

/// How the learning rate goes from its value to what it ends at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decay {
    /// It stays.
    #[default]
    Constant,
    /// In a straight line to zero.
    Linear,
    /// Along half a cosine to zero (Loshchilov & Hutter, 2017, without restarts).
    Cosine,
    /// To a tenth after a half, and to a hundredth after three quarters.
    Step,
}

impl Decay {
    /// The names in flags.
    pub const NAMES: [&'static str; 4] = ["constant", "linear", "cosine", "step"];

    /// The decay of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "constant" => Decay::Constant,
            "linear" => Decay::Linear,
            "cosine" => Decay::Cosine,
            "step" => Decay::Step,
            _ => return None,
        })
    }
}

/// A learning rate over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub rate: f64,
    /// How it falls.
    pub decay: Decay,
    /// Steps in which it rises from zero first.
    pub warmup: u64,
    /// All steps.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.rate * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let rest = self.steps.saturating_sub(self.warmup).max(1);
        let part = ((step - self.warmup) as f64 / rest as f64).min(1.0);
        self.rate
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => 1.0 - part,
                Decay::Cosine => (1.0 + (PI * part).cos()) / 2.0,
                Decay::Step if part < 0.5 => 1.0,
                Decay::Step if part < 0.75 => 0.1,
                Decay::Step => 0.01,
            }
    }
}
