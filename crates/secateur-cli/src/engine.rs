//! A model that runs, for verbs that need data.

use std::sync::Arc;

use secateur::{Model, Result};
use secateur_train::Cpu;
use secateur_train::attribution::Batch;
use secateur_train::data::{Dataset, Loader, LoaderOptions};
use secateur_train::fit::on_device;
use secateur_train::loss::Loss;
use secateur_train::trainer::{TrainOptions, Trainer};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// What is compared with targets.
#[derive(Args, Debug)]
pub struct Judging {
    /// The loss of the first output against the targets.
    #[arg(long, value_name = "NAME", default_value = "cross-entropy", value_parser = losses())]
    pub loss: Loss,
}

fn losses() -> impl TypedValueParser<Value = Loss> {
    PossibleValuesParser::new(Loss::NAMES).try_map(|name| Loss::named(&name).ok_or("no such loss"))
}

/// A model on the CPU.
///
/// # Errors
/// When it has operators that cannot be run.
pub fn trainer(model: Model, options: TrainOptions) -> Result<Trainer<Cpu>> {
    Trainer::new(model, options, &Default::default())
}

/// Batches of a data set, in an order drawn with a seed, up to a number of samples.
///
/// # Errors
/// When there is no whole batch.
pub fn batches(
    data: &Arc<dyn Dataset>,
    (samples, batch_size, seed): (usize, usize, u64),
) -> Result<impl Iterator<Item = Result<Batch<Cpu>>> + use<>> {
    let size = batch_size.clamp(1, samples.max(1));
    let options =
        LoaderOptions { batch_size: size, shuffle: Some(seed), ..LoaderOptions::default() };
    let epoch = Loader::new(Arc::clone(data), options)?.epoch(0);
    Ok(epoch.take(samples.div_ceil(size)).map(|batch| on_device(batch?, &Default::default())))
}
