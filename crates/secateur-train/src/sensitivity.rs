//! How loss and accuracy fall with what is removed of every group alone (Li et al., "Pruning Filters
//! for Efficient ConvNets", 2017, section 3.2).

use std::sync::Arc;

use secateur::criterion::Scores;
use secateur::group::{GroupId, Keeps};
use serde::Serialize;

use crate::data::Dataset;
use crate::fit::{Evaluation, evaluate};
use crate::trainer::{Trainer, masked};
use crate::{Engine, Result};

/// What becomes of the model where one group is cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The group.
    pub group: String,
    /// What its indices are.
    pub kind: &'static str,
    /// The number of indices.
    pub size: usize,
    /// Whether setting slices to zero is what cutting them does.
    pub exact: bool,
    /// Per ratio, what is left.
    pub points: Vec<Point>,
}

/// One ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The part of the indices that is removed.
    pub ratio: f64,
    /// Loss and accuracy then.
    pub evaluation: Evaluation,
}

/// Loss and accuracy with everything that is not kept set to zero.
///
/// # Errors
/// When data does not fit the model.
pub fn loss_without<B: Engine>(
    trainer: &mut Trainer<B>,
    data: &Arc<dyn Dataset>,
    keeps: &Keeps,
    batch_size: usize,
) -> Result<Evaluation> {
    let values = masked(trainer, keeps)?;
    let whole = trainer.replace_values(values);
    let evaluation = evaluate(trainer, data, batch_size);
    trainer.replace_values(whole);
    evaluation
}

/// Measures every group that has scores: slices of what scores least are set to zero, and the model
/// runs. `watch` is told how many of how many runs are done.
///
/// # Errors
/// When data does not fit the model.
pub fn sensitivity<B: Engine>(
    trainer: &mut Trainer<B>,
    data: &Arc<dyn Dataset>,
    scores: &Scores,
    (ratios, batch_size): (&[f64], usize),
    watch: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Curve>> {
    let groups = trainer.model().groups();
    let wanted: Vec<GroupId> =
        groups.iter().map(|(id, _)| id).filter(|&id| scores.get(id).is_some()).collect();
    let (mut curves, runs) = (Vec::new(), wanted.len() * ratios.len());
    for &id in &wanted {
        let found = scores.get(id).unwrap_or_default();
        let mut order: Vec<u32> = (0..found.len() as u32).collect();
        order.sort_by(|&a, &b| found[a as usize].total_cmp(&found[b as usize]));
        let mut points = Vec::with_capacity(ratios.len());
        for &ratio in ratios {
            let gone = ((order.len() as f64 * ratio) as usize).min(order.len() - 1);
            let mut kept = order[gone..].to_vec();
            kept.sort_unstable();
            let keeps = Keeps::from([(id, kept)]);
            let evaluation = loss_without(trainer, data, &keeps, batch_size)?;
            points.push(Point { ratio, evaluation });
            watch(curves.len() * ratios.len() + points.len(), runs);
        }
        let group = trainer.model().groups().get(id);
        curves.push(Curve {
            group: group.name.clone(),
            kind: group.kind.name(),
            size: group.size,
            exact: group.is_exact(),
            points,
        });
    }
    Ok(curves)
}
