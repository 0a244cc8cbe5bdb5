//! Scores of weights that are in training: as they are now, and with the gradients of a loss.

use std::collections::BTreeMap;

use burn_backend::tensor::FloatTensor;
use secateur::criterion::{Measure, ScoreOptions, Scores, Statistic, Statistics, Weights, score};
use secateur::graph::ParamId;
use secateur::group::Keeps;
use secateur::tensor::{Keep, TensorView};

use crate::attribution::Batch;
use crate::trainer::{Mode, Trainer};
use crate::{Engine, Error, Result, Value};

/// Statistics of parameters: their present elements, and their products with gradients.
#[derive(Debug, Default)]
pub struct Snapshot {
    elements: BTreeMap<ParamId, TensorView>,
    /// `|w · ∂L/∂w|`, the mean gradient over batches.
    taylor: BTreeMap<ParamId, TensorView>,
    /// `w² · E[(∂L/∂w)²]`, the mean over batches.
    fisher: BTreeMap<ParamId, TensorView>,
}

impl Snapshot {
    /// The present weights, and what the gradients on batches tell of them.
    ///
    /// # Errors
    /// When a batch does not fit the model.
    pub fn new<B: Engine>(
        trainer: &mut Trainer<B>,
        batches: &mut dyn Iterator<Item = Result<Batch<B>>>,
    ) -> Result<Self> {
        let mut snapshot = Snapshot::default();
        let (parameters, ids) = (trainer.parameters().to_vec(), trainer.ids());
        for (tensor, value) in trainer.program().stored.iter().zip(trainer.values()) {
            let (Some(ids), Value::Float(_)) = (ids.get(&tensor.name), value) else { continue };
            let numbers = value.clone().to_floats()?;
            for &id in ids {
                snapshot.elements.insert(id, floats(trainer, id, &numbers)?);
            }
        }
        let mut sums: Vec<Option<[FloatTensor<B>; 2]>> = vec![None; parameters.len()];
        let mut count = 0;
        for batch in batches {
            let (grads, _) = trainer.gradients(batch?, Mode::Evaluate)?;
            count += 1;
            for (sum, grad) in sums.iter_mut().zip(grads) {
                let Some(grad) = grad else { continue };
                let square = B::float_mul(grad.clone(), grad.clone());
                *sum = Some(match sum.take() {
                    None => [grad, square],
                    Some([a, b]) => [B::float_add(a, grad), B::float_add(b, square)],
                });
            }
        }
        for (parameter, sum) in parameters.iter().zip(sums) {
            let Some([grad, square]) = sum else { continue };
            let weight = trainer.values()[parameter.stored].clone().float()?;
            let mean = |x| B::float_div_scalar(x, f64::from(count).into());
            let taylor = B::float_mul(weight.clone(), mean(grad));
            let fisher = B::float_mul(B::float_mul(weight.clone(), weight), mean(square));
            let taylor = Value::<B>::Float(B::float_abs(taylor)).to_floats()?;
            let fisher = Value::<B>::Float(fisher).to_floats()?;
            for &id in &parameter.ids {
                snapshot.taylor.insert(id, floats(trainer, id, &taylor)?);
                snapshot.fisher.insert(id, floats(trainer, id, &fisher)?);
            }
        }
        Ok(snapshot)
    }
}

fn floats<B: Engine>(trainer: &Trainer<B>, id: ParamId, numbers: &[f32]) -> Result<TensorView> {
    let shape = trainer.model().graph().param(id).shape.clone();
    let view = TensorView::from_f32s(secateur::DType::F32, shape, numbers);
    view.ok_or_else(|| Error::unsupported("weights that are no real numbers"))?
}

/// Elements by parameter, for sums of their magnitudes.
struct Elements<'a>(&'a BTreeMap<ParamId, TensorView>, &'static str);

impl Weights for Elements<'_> {
    fn view(&self, param: ParamId) -> Result<TensorView> {
        self.0.get(&param).cloned().ok_or_else(|| Error::unsupported(self.1))
    }
}

impl Statistics for Snapshot {
    fn sums(
        &self,
        measure: Measure,
        param: ParamId,
        axes: &[usize],
        kept: &Keep,
    ) -> Result<Vec<Vec<f64>>> {
        const UNREACHED: &str = "the loss does not depend on it";
        let (elements, measure) = match measure {
            Measure::Taylor => (Elements(&self.taylor, UNREACHED), Measure::Magnitude),
            Measure::Fisher => (Elements(&self.fisher, UNREACHED), Measure::Magnitude),
            measure => (Elements(&self.elements, "it is not trained"), measure),
        };
        if !elements.0.contains_key(&param) {
            let empty = |&axis: &usize| {
                vec![0.0; self.elements.get(&param).map_or(0, |view| view.dims[axis])]
            };
            return Ok(axes.iter().map(empty).collect());
        }
        elements.sums(measure, param, axes, kept)
    }

    fn distances(
        &self,
        param: ParamId,
        axis: usize,
        members: &[Vec<u32>],
        kept: &Keep,
    ) -> Result<Vec<f64>> {
        Elements(&self.elements, "it is not trained").distances(param, axis, members, kept)
    }
}

/// Whether a criterion asks for gradients.
pub fn needs_data(options: &ScoreOptions) -> bool {
    matches!(options.criterion.statistic, Statistic::Sum(Measure::Taylor | Measure::Fisher))
}

/// Scores all groups of a model in training.
///
/// # Errors
/// As [`score`].
pub fn scores<B: Engine>(
    trainer: &Trainer<B>,
    snapshot: &Snapshot,
    options: &ScoreOptions,
    kept: Option<&Keeps>,
) -> Result<Scores> {
    score(trainer.model().graph(), trainer.model().groups(), snapshot, options, kept)
}
