//! Training over epochs: learning rates, evaluation, cutting meanwhile, checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use burn_backend::tensor::Device;
use secateur::cost::Footprint;
use secateur::criterion::ScoreOptions;
use secateur::select::{self, Amount, Schedule as Growth, SelectOptions, Selection, Stage, Target};
use secateur::{ErrorKind, Model};
use serde::{Deserialize, Serialize};

use crate::attribution::{AttributionOptions, Batch, attribute};
use crate::checkpoint;
use crate::data::{self, Array, Dataset, LastBatch, Loader, LoaderOptions};
use crate::mix::Mixing;
use crate::room;
use crate::schedule::{Decay, Schedule};
use crate::scoring::{Snapshot, needs_data, scores};
use crate::trainer::{Outcome, Trainer};
use crate::{Engine, Error, Result, Value};

/// How a model is trained over epochs.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// How often all samples are seen. Default: 1.
    pub epochs: usize,
    /// Samples per step. Default: 64.
    pub batch_size: usize,
    /// The highest learning rate. Default: 0.01.
    pub rate: f64,
    /// How it falls. Default: along a cosine.
    pub decay: Decay,
    /// Steps in which it rises first. Default: 0.
    pub warmup: u64,
    /// For the order of samples and random changes of them. Default: 0.
    pub seed: u64,
    /// Epochs without a better loss in the evaluation after which training stops. Default: never.
    pub patience: Option<usize>,
    /// How the samples of a batch are mixed in pairs. Default: not at all.
    pub mixing: Option<Mixing>,
    /// What is cut meanwhile.
    pub cut: Option<CutOptions>,
    /// A folder for checkpoints, and the steps between them; none are written without it.
    pub checkpoint: Option<(PathBuf, u64)>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 64,
            rate: 0.01,
            decay: Decay::Cosine,
            warmup: 0,
            seed: 0,
            patience: None,
            mixing: None,
            cut: None,
            checkpoint: None,
        }
    }
}

/// What is cut during training.
#[derive(Clone, Debug)]
pub struct CutOptions {
    /// What shall be left at the end, and of what.
    pub select: SelectOptions,
    /// What matters.
    pub ranking: Ranking,
    /// Steps between two cuts.
    pub every: u64,
    /// The number of cuts.
    pub times: usize,
    /// How what is removed grows over them.
    pub growth: Growth,
    /// Batches that data-driven scores and new running statistics are taken from.
    pub batches: usize,
}

/// What tells kept and removed indices apart.
#[derive(Clone, Debug)]
pub enum Ranking {
    /// Weights, and for some criteria their gradients.
    Criterion(ScoreOptions),
    /// What units do on data.
    Attribution(AttributionOptions),
}

/// What happens in training.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A step was made.
    Step(StepRecord),
    /// An epoch has ended.
    Epoch(&'a EpochRecord),
    /// The model was cut.
    Cut(&'a CutRecord),
    /// A checkpoint was written.
    Saved(u64),
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// The number of steps with this one.
    pub step: u64,
    /// All steps that there will be.
    pub steps: u64,
    /// The epoch, from 0.
    pub epoch: usize,
    /// The learning rate.
    pub rate: f64,
    /// The loss of the batch.
    pub loss: f64,
    /// The share of its samples with the right class on top, where there are classes.
    pub accuracy: Option<f64>,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The number of epochs with this one.
    pub epoch: usize,
    /// The steps so far.
    pub step: u64,
    /// The mean loss over the steps of this epoch that this run has made.
    pub loss: f64,
    /// The mean accuracy over them.
    pub accuracy: Option<f64>,
    /// Loss and accuracy on the samples for evaluation.
    pub evaluation: Option<Evaluation>,
}

/// Loss and accuracy on samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The mean loss.
    pub loss: f64,
    /// The share of samples with the right class on top, where there are classes.
    pub accuracy: Option<f64>,
}

/// One cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CutRecord {
    /// The step after which it was made.
    pub step: u64,
    /// Parameters before and after.
    pub parameters: (u64, u64),
    /// Multiply-accumulates before and after.
    pub macs: (u64, u64),
}

/// Where a training run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What the model cost before the first cut: parameters, bytes, MACs.
    pub original: Option<[u64; 3]>,
    /// Steps per epoch.
    #[serde(default)]
    pub batches: Option<u64>,
    /// The sizes of groups before the first cut, by name.
    #[serde(default)]
    pub sizes: BTreeMap<String, usize>,
    /// The cuts so far.
    pub cuts: Vec<CutRecord>,
    /// The epochs so far.
    pub epochs: Vec<EpochRecord>,
    /// The least loss in the evaluation.
    pub best: Option<f64>,
    /// Epochs since then.
    pub since: usize,
}

/// Trains a model. `state` is where an interrupted run stood.
///
/// # Errors
/// When data does not fit the model, the loss is no number any more, a target cannot be reached (said
/// before the first step), or a checkpoint cannot be written.
pub fn fit<B: Engine>(
    trainer: &mut Trainer<B>,
    data: &Arc<dyn Dataset>,
    evaluation: Option<&Arc<dyn Dataset>>,
    options: &FitOptions,
    state: State,
    watch: &mut dyn FnMut(&Event<'_>),
) -> Result<State> {
    let run = Run::new(trainer, data, options)?;
    run.fit(trainer, evaluation, state, watch)
}

struct Run<'a> {
    data: &'a Arc<dyn Dataset>,
    options: &'a FitOptions,
    batches: u64,
    schedule: Schedule,
}

impl<'a> Run<'a> {
    fn new<B: Engine>(
        trainer: &mut Trainer<B>,
        data: &'a Arc<dyn Dataset>,
        options: &'a FitOptions,
    ) -> Result<Self> {
        let batches = loader(data, options, 0)?.batches() as u64;
        let steps = batches * options.epochs as u64;
        let schedule =
            Schedule { rate: options.rate, decay: options.decay, warmup: options.warmup, steps };
        let run = Run { data, options, batches, schedule };
        room::check(trainer, options.batch_size.min(data.len()))?;
        if let Some(cut) = &options.cut {
            run.check(trainer, cut)?;
        }
        Ok(run)
    }

    /// Says before the first step that a target cannot be reached, or not in time.
    fn check<B: Engine>(&self, trainer: &mut Trainer<B>, cut: &CutOptions) -> Result<()> {
        let (last, steps) = (cut.every.saturating_mul(cut.times as u64), self.schedule.steps);
        if cut.every == 0 || cut.times == 0 || last > steps {
            let text = format!("{} cuts every {} steps in {steps} steps", cut.times, cut.every);
            return Err(Error::argument(text).hint("cut less often, or train longer"));
        }
        let model = trainer.model();
        let plain = SelectOptions { steps: 1, ..cut.select.clone() };
        model.select(&plain, &ScoreOptions::default()).map(drop)
    }

    fn fit<B: Engine>(
        &self,
        trainer: &mut Trainer<B>,
        evaluation: Option<&Arc<dyn Dataset>>,
        mut state: State,
        watch: &mut dyn FnMut(&Event<'_>),
    ) -> Result<State> {
        if state.original.is_none() {
            let now = trainer.model().cost().now();
            state.original = Some([now.parameters, now.bytes, now.macs]);
            let groups = trainer.model().groups().iter();
            state.sizes = groups.map(|(_, group)| (group.name.clone(), group.size)).collect();
        }
        let batches = *state.batches.get_or_insert(self.batches);
        if batches != self.batches {
            let text = format!("an epoch had {batches} steps, and has {} now", self.batches);
            return Err(Error::argument(text).hint(
                "go on with the same data and `--batch-size`, or start anew, without `--resume`",
            ));
        }
        while trainer.steps() < self.schedule.steps && !self.is_over(&state) {
            let epoch = trainer.steps() / self.batches;
            let skip = trainer.steps() % self.batches;
            let mut mean = Mean::default();
            for batch in loader(self.data, self.options, skip as usize)?.epoch(epoch as usize) {
                let batch = on_device(batch?, trainer.device())?;
                let rate = self.schedule.at(trainer.steps());
                let outcome = match self.options.mixing {
                    None => trainer.step(batch, rate)?,
                    Some(mixing) => trainer.step_mixed(batch, mixing, rate)?,
                };
                mean.add(outcome);
                let record = self.record(trainer.steps(), epoch as usize, rate, outcome);
                watch(&Event::Step(record));
                self.after_step(trainer, &mut state, watch)?;
            }
            let found = evaluation.map(|data| evaluate(trainer, data, self.options.batch_size));
            self.end_epoch(trainer, &mut state, mean, found.transpose()?, watch);
        }
        Ok(state)
    }

    fn record(&self, step: u64, epoch: usize, rate: f64, outcome: Outcome) -> StepRecord {
        let accuracy = share(outcome.hits);
        StepRecord { step, steps: self.schedule.steps, epoch, rate, loss: outcome.loss, accuracy }
    }

    /// Cuts and checkpoints, where it is time.
    fn after_step<B: Engine>(
        &self,
        trainer: &mut Trainer<B>,
        state: &mut State,
        watch: &mut dyn FnMut(&Event<'_>),
    ) -> Result<()> {
        let step = trainer.steps();
        if let Some(cut) = &self.options.cut
            && step.is_multiple_of(cut.every)
            && step / cut.every <= cut.times as u64
            && let Some(record) = self.cut(trainer, cut, state)?
        {
            state.cuts.push(record);
            watch(&Event::Cut(&record));
        }
        let ends = step.is_multiple_of(self.batches);
        if let Some((folder, every)) = &self.options.checkpoint
            && step.is_multiple_of(*every)
            && !ends
        {
            checkpoint::write(folder, trainer, state)?;
            watch(&Event::Saved(step));
        }
        Ok(())
    }

    fn end_epoch<B: Engine>(
        &self,
        trainer: &Trainer<B>,
        state: &mut State,
        mean: Mean,
        evaluation: Option<Evaluation>,
        watch: &mut dyn FnMut(&Event<'_>),
    ) {
        let step = trainer.steps();
        let epoch = (step / self.batches) as usize;
        let Evaluation { loss, accuracy } = mean.get();
        let record = EpochRecord { epoch, step, loss, accuracy, evaluation };
        watch(&Event::Epoch(&record));
        state.epochs.push(record);
        if let Some(found) = evaluation {
            let better = state.best.is_none_or(|best| found.loss < best);
            state.since = if better { 0 } else { state.since + 1 };
            state.best = if better { Some(found.loss) } else { state.best };
        }
    }

    fn is_over(&self, state: &State) -> bool {
        self.options.patience.is_some_and(|patience| state.since >= patience.max(1))
    }

    /// One cut, to what shall be left after it; `None` where so little is left already.
    fn cut<B: Engine>(
        &self,
        trainer: &mut Trainer<B>,
        cut: &CutOptions,
        state: &State,
    ) -> Result<Option<CutRecord>> {
        let number = (trainer.steps() / cut.every) as usize;
        let part = cut.growth.progress(number, cut.times);
        let target = partial(cut.select.target, state.original.unwrap_or_default(), part);
        let stage = Some(Stage { part, sizes: state.sizes.clone() });
        let options = SelectOptions { target, steps: 1, stage, ..cut.select.clone() };
        let samples = self.samples(trainer.device(), cut.batches, trainer.steps())?;
        let selection = match rank(trainer, &cut.ranking, samples, &options) {
            Err(error) if error.kind() == ErrorKind::Unreachable => return Ok(None),
            selection => selection?,
        };
        trainer.cut(&selection.keeps)?;
        let batches = self.samples(trainer.device(), cut.batches, trainer.steps())?;
        trainer.recalibrate(&mut batches.map(|batch| Ok(batch?.0)))?;
        let pair = |of: fn(&Footprint) -> u64| (of(&selection.before), of(&selection.after));
        let (parameters, macs) = (pair(|cost| cost.parameters), pair(|cost| cost.macs));
        Ok(Some(CutRecord { step: trainer.steps(), parameters, macs }))
    }

    /// Some batches of the data, other ones for every step.
    fn samples<B: Engine>(
        &self,
        device: &Device<B>,
        count: usize,
        step: u64,
    ) -> Result<impl Iterator<Item = Result<Batch<B>>> + use<B>> {
        let options = LoaderOptions {
            batch_size: self.options.batch_size,
            shuffle: Some(self.options.seed ^ step.wrapping_mul(0x9E37_79B9)),
            drop_last: LastBatch::Drop,
            prefetch: 0,
            ..LoaderOptions::default()
        };
        let device = device.clone();
        let batches = Loader::new(Arc::clone(self.data), options)?.epoch(0).take(count);
        Ok(batches.map(move |batch| on_device(batch?, &device)))
    }
}

/// Scores the present model, and decides what stays of it.
///
/// # Errors
/// As [`select::select`], and when a batch does not fit the model.
pub fn rank<B: Engine>(
    trainer: &mut Trainer<B>,
    ranking: &Ranking,
    mut batches: impl Iterator<Item = Result<Batch<B>>>,
    options: &SelectOptions,
) -> Result<Selection> {
    let found = match ranking {
        Ranking::Criterion(score) => {
            let snapshot = match needs_data(score) {
                true => Snapshot::new(trainer, &mut batches)?,
                false => Snapshot::new(trainer, &mut std::iter::empty())?,
            };
            let model = trainer.model();
            let mut scorer =
                |kept: Option<&secateur::group::Keeps>| scores(trainer, &snapshot, score, kept);
            return choose(model, &mut scorer, options);
        }
        Ranking::Attribution(options) => attribute(trainer, &mut batches, None, options)?,
    };
    choose(trainer.model(), &mut |_| Ok(found.clone()), options)
}

type Scorer<'a> =
    dyn FnMut(Option<&secateur::group::Keeps>) -> Result<secateur::criterion::Scores> + 'a;

fn choose(model: &Model, scorer: &mut Scorer<'_>, options: &SelectOptions) -> Result<Selection> {
    select::select(model.graph(), model.groups(), &model.cost(), scorer, options)
}

/// The target of one cut, which goes a part of the way.
fn partial(target: Target, original: [u64; 3], part: f64) -> Target {
    let left = |amount: Amount, all: u64| {
        let end = match amount {
            Amount::Fraction(fraction) => all as f64 * fraction,
            Amount::Absolute(number) => number as f64,
        };
        Amount::Absolute((all as f64 - (all as f64 - end) * part) as u64)
    };
    match target {
        Target::Ratio(ratio) => Target::Ratio(ratio),
        Target::Parameters(amount) => Target::Parameters(left(amount, original[0])),
        Target::Size(amount) => Target::Size(left(amount, original[1])),
        Target::Macs(amount) => Target::Macs(left(amount, original[2])),
    }
}

fn loader(data: &Arc<dyn Dataset>, options: &FitOptions, start: usize) -> Result<Loader> {
    let options = LoaderOptions {
        batch_size: options.batch_size,
        shuffle: Some(options.seed),
        drop_last: if data.len() >= options.batch_size { LastBatch::Drop } else { LastBatch::Keep },
        augment: Some(options.seed),
        start,
        ..LoaderOptions::default()
    };
    Loader::new(Arc::clone(data), options)
}

/// Mean loss and accuracy over all samples.
///
/// # Errors
/// When data does not fit the model.
pub fn evaluate<B: Engine>(
    trainer: &Trainer<B>,
    data: &Arc<dyn Dataset>,
    batch_size: usize,
) -> Result<Evaluation> {
    let options = LoaderOptions { batch_size, ..LoaderOptions::default() };
    let mut mean = Mean::default();
    for batch in Loader::new(Arc::clone(data), options)?.epoch(0) {
        let batch = batch?;
        let samples = batch.inputs.first().map_or(1, Array::samples);
        let outcome = trainer.evaluate(on_device(batch, trainer.device())?)?;
        mean.add_weighted(outcome, samples as f64);
    }
    Ok(mean.get())
}

#[derive(Default)]
struct Mean {
    loss: f64,
    weight: f64,
    hits: (usize, usize),
}

impl Mean {
    fn add(&mut self, outcome: Outcome) {
        self.add_weighted(outcome, 1.0);
    }

    fn add_weighted(&mut self, outcome: Outcome, weight: f64) {
        self.loss += outcome.loss * weight;
        self.weight += weight;
        self.hits.0 += outcome.hits.0;
        self.hits.1 += outcome.hits.1;
    }

    fn get(&self) -> Evaluation {
        let loss = if self.weight > 0.0 { self.loss / self.weight } else { f64::NAN };
        Evaluation { loss, accuracy: share(self.hits) }
    }
}

fn share((hits, all): (usize, usize)) -> Option<f64> {
    (all > 0).then(|| hits as f64 / all as f64)
}

/// A batch on a device. Without targets, samples are their own: an autoencoder's.
///
/// # Errors
/// When the batch has no input.
pub fn on_device<B: Engine>(batch: data::Batch, device: &Device<B>) -> Result<Batch<B>> {
    let inputs: Vec<Value<B>> =
        batch.inputs.into_iter().map(|array| to_value(array, device)).collect();
    let target = match batch.target {
        Some(target) => to_value(target, device),
        None => inputs.first().cloned().ok_or_else(|| Error::argument("a batch without inputs"))?,
    };
    Ok((inputs, target))
}

/// An array on a device.
pub fn to_value<B: Engine>(array: Array, device: &Device<B>) -> Value<B> {
    match array {
        Array::Float(values, shape) => Value::of_floats(values, shape, device),
        Array::Int(values, shape) => Value::of_ints(values, shape, device),
        Array::Bool(values, shape) => Value::of_bools(values, shape, device),
    }
}
