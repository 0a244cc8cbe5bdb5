//! Going over a data set in batches, read ahead by another thread.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use secateur::{Error, Result};

use super::random::{Random, derive};
use super::{Batch, Dataset};

/// How a [`Loader`] goes over a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// The samples of one batch.
    pub batch_size: usize,
    /// The seed of the order, another one in each epoch. None: the order of the data set.
    pub shuffle: Option<u64>,
    /// What happens to a last batch of fewer samples.
    pub drop_last: LastBatch,
    /// The seed of random changes, others in each epoch. None: samples as in evaluation.
    pub augment: Option<u64>,
    /// How many batches are read ahead by another thread. 0: none, and no thread.
    pub prefetch: usize,
    /// How many batches of an epoch are skipped, to resume in the midst of it.
    pub start: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 64,
            shuffle: None,
            drop_last: LastBatch::Keep,
            augment: None,
            prefetch: 2,
            start: 0,
        }
    }
}

/// What happens to a last batch of fewer samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastBatch {
    /// It is kept.
    #[default]
    Keep,
    /// It is left out.
    Drop,
}

/// Goes over a data set in batches. The same seeds and epoch give the same batches.
#[derive(Clone)]
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    options: LoaderOptions,
}

impl Loader {
    /// A loader of a data set.
    ///
    /// # Errors
    /// When the batch size is 0, or so small a data set gives no batch.
    pub fn new(dataset: Arc<dyn Dataset>, options: LoaderOptions) -> Result<Self> {
        if options.batch_size == 0 {
            return Err(
                Error::argument("a batch of 0 samples").hint("set `batch_size` to 1 or more")
            );
        }
        let loader = Self { dataset, options };
        if loader.batches() == 0 {
            let (len, size) = (loader.dataset.len(), loader.options.batch_size);
            return Err(Error::argument(format!("{len} samples make no batch of {size}"))
                .hint("give more samples, or a smaller `batch_size`"));
        }
        Ok(loader)
    }

    /// The number of batches of a whole epoch.
    pub fn batches(&self) -> usize {
        let (len, size) = (self.dataset.len(), self.options.batch_size);
        match self.options.drop_last {
            LastBatch::Keep => len.div_ceil(size),
            LastBatch::Drop => len / size,
        }
    }

    /// The batches of an epoch, from `start` on. An error is the last item.
    pub fn epoch(&self, epoch: usize) -> Epoch {
        let plan = self.plan(epoch);
        if self.options.prefetch == 0 {
            return Epoch(Reading::Here(plan));
        }
        let (sender, receiver) = sync_channel(self.options.prefetch.min(self.batches()));
        let ahead = plan.clone();
        let thread = std::thread::Builder::new().name("data".into());
        match thread.spawn(move || read_ahead(ahead, &sender)) {
            Ok(thread) => Epoch(Reading::Ahead(receiver, thread)),
            // A system that gives no thread is slower, not wrong.
            Err(_) => Epoch(Reading::Here(plan)),
        }
    }

    fn plan(&self, epoch: usize) -> Plan {
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if let Some(seed) = self.options.shuffle {
            Random::new(derive(seed, epoch as u64)).shuffle(&mut order);
        }
        Plan {
            dataset: Arc::clone(&self.dataset),
            order: order.into(),
            batch_size: self.options.batch_size,
            augment: self.options.augment.map(|seed| derive(seed, epoch as u64)),
            left: self.options.start..self.batches(),
        }
    }
}

/// The batches of an epoch. Dropping it stops the thread that reads ahead.
pub struct Epoch(Reading);

enum Reading {
    Here(Plan),
    Ahead(Receiver<Result<Batch>>, JoinHandle<()>),
    Done,
}

/// Which samples are read, in batches.
#[derive(Clone)]
struct Plan {
    dataset: Arc<dyn Dataset>,
    order: Arc<[usize]>,
    batch_size: usize,
    augment: Option<u64>,
    left: Range<usize>,
}

impl Iterator for Plan {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let start = self.left.next()? * self.batch_size;
        let end = start.saturating_add(self.batch_size).min(self.order.len());
        let batch = self.dataset.batch(self.order.get(start..end)?, self.augment);
        if batch.is_err() {
            self.left = 0..0;
        }
        Some(batch)
    }
}

fn read_ahead(plan: Plan, sender: &SyncSender<Result<Batch>>) {
    for batch in plan {
        // Nobody waits for more.
        if sender.send(batch).is_err() {
            return;
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        match &mut self.0 {
            Reading::Here(plan) => plan.next(),
            Reading::Ahead(receiver, _) => match receiver.recv() {
                Ok(batch) => Some(batch),
                Err(_) => self.finish(),
            },
            Reading::Done => None,
        }
    }
}

impl Epoch {
    /// Waits for the thread; an error if it did not come to its end.
    fn finish(&mut self) -> Option<Result<Batch>> {
        let Reading::Ahead(receiver, thread) = std::mem::replace(&mut self.0, Reading::Done) else {
            return None;
        };
        // A thread that waits to send goes on, and ends.
        drop(receiver);
        match thread.join() {
            Ok(()) => None,
            Err(_) => Some(Err(Error::unsupported("reading data failed within a library")
                .hint("set `prefetch` to 0 to see where"))),
        }
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        drop(self.finish());
    }
}
