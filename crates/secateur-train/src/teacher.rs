//! Distillation: what a model learns from another one.

use burn_autodiff::Autodiff;
use burn_backend::TensorMetadata;
use burn_backend::ops::{ActivationOps, FloatTensorOps};
use burn_backend::tensor::{Device, FloatTensor};
use secateur::Model;

use crate::loss::{divergence, rows};
use crate::program::Schedule;
use crate::trainer::{lift, whole};
use crate::{Context, Engine, Error, Program, Result, Value};

/// A model that another one learns from: Hinton, Vinyals and Dean, "Distilling the Knowledge in a
/// Neural Network", 2015; features after Romero et al., "FitNets", 2015.
#[derive(Debug)]
pub struct Teacher<B: Engine> {
    program: Program,
    schedule: Schedule,
    values: Vec<Value<B>>,
    options: TeacherOptions,
}

/// How much is learned from a teacher, and of what.
#[derive(Clone, Debug)]
pub struct TeacherOptions {
    /// What both models' logits are divided by. Default: 4.
    pub temperature: f64,
    /// The part of the loss that soft targets have; labels have the rest. Default: 0.9.
    pub weight: f64,
    /// Values that have to be alike, in the student and in the teacher.
    pub features: Vec<(String, String)>,
    /// What the mean squared difference of features is multiplied with. Default: 1.
    pub feature_weight: f64,
}

impl Default for TeacherOptions {
    fn default() -> Self {
        Self { temperature: 4.0, weight: 0.9, features: Vec::new(), feature_weight: 1.0 }
    }
}

impl<B: Engine> Teacher<B> {
    /// A teacher on a device.
    ///
    /// # Errors
    /// When it cannot be run, or has no value of a name that is asked for.
    pub fn new(model: &Model, options: TeacherOptions, device: &Device<B>) -> Result<Self> {
        let program = Program::new(model)?;
        let values = program.load(device)?;
        let names = options.features.iter().map(|(_, name)| name.as_str());
        let schedule = whole(&program, names)?;
        Ok(Teacher { program, schedule, values, options })
    }

    /// The values of the student that are compared with features.
    pub(crate) fn features(&self) -> impl Iterator<Item = &str> {
        self.options.features.iter().map(|(name, _)| name.as_str())
    }

    /// Its logits, and its features.
    pub(crate) fn run(&self, inputs: Vec<Value<B>>, device: &Device<B>) -> Result<Vec<Value<B>>> {
        let mut memory = self.program.memory(&self.values, inputs)?;
        self.program.run(&self.schedule, &mut memory, &mut Context::new(device.clone()))
    }

    /// The loss with what is learned from the teacher.
    pub(crate) fn loss(
        &self,
        own: FloatTensor<Autodiff<B>>,
        student: &[Value<Autodiff<B>>],
        teacher: Vec<Value<B>>,
    ) -> Result<FloatTensor<Autodiff<B>>> {
        type A<B> = Autodiff<B>;
        let TeacherOptions { temperature, weight, feature_weight, .. } = self.options;
        let mut pairs = student.iter().cloned().zip(teacher.into_iter().map(lift));
        let (output, soft) = pairs.next().ok_or_else(|| Error::unsupported("no output"))?;
        let cool = |value| -> Result<FloatTensor<A<B>>> {
            Ok(A::<B>::float_div_scalar(rows(value)?, temperature.into()))
        };
        let (output, soft) = (cool(output)?, A::<B>::softmax(cool(soft)?, 1));
        if output.shape() != soft.shape() {
            let text = format!("logits {:?} of a teacher for {:?}", soft.shape(), output.shape());
            return Err(Error::argument(text));
        }
        let soft = A::<B>::float_mean(divergence::<A<B>>(output, soft));
        let soft = A::<B>::float_mul_scalar(soft, (weight * temperature * temperature).into());
        let mut loss =
            A::<B>::float_add(A::<B>::float_mul_scalar(own, (1.0 - weight).into()), soft);
        for ((mine, theirs), (name, _)) in pairs.zip(&self.options.features) {
            if mine.shape() != theirs.shape() {
                let (found, expected) = (mine.shape(), theirs.shape());
                let text = format!("`{name}` has shape {found:?}, the teacher's {expected:?}");
                return Err(Error::argument(text)
                    .hint("match values that pruning leaves whole, or keep their groups"));
            }
            let error = A::<B>::float_sub(mine.float()?, theirs.float()?);
            let error = A::<B>::float_mean(A::<B>::float_mul(error.clone(), error));
            let error = A::<B>::float_mul_scalar(error, feature_weight.into());
            loss = A::<B>::float_add(loss, error);
        }
        Ok(loss)
    }
}
