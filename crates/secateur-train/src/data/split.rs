//! Parts of data sets.

use std::sync::Arc;

use secateur::Result;

use super::random::Random;
use super::{Batch, Dataset, check_indices};

/// Some samples of a data set, under new indices.
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    /// Below the length of the data set.
    indices: Vec<usize>,
}

impl Subset {
    /// The samples with these indices, in this order.
    ///
    /// # Errors
    /// When an index is too large.
    pub fn new(dataset: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        check_indices(&indices, dataset.len())?;
        Ok(Self { dataset, indices })
    }

    /// The indices in the data set that this is a part of.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn batch(&self, indices: &[usize], augment: Option<u64>) -> Result<Batch> {
        check_indices(indices, self.len())?;
        let inner = indices.iter().filter_map(|&index| self.indices.get(index).copied());
        self.dataset.batch(&inner.collect::<Vec<_>>(), augment)
    }

    fn classes(&self) -> Option<usize> {
        self.dataset.classes()
    }

    fn class_names(&self) -> Option<&[String]> {
        self.dataset.class_names()
    }
}

/// Splits a data set at random: the first part has `fraction` of the samples, rounded, the second the
/// rest, each in the order of the data set. A fraction outside 0..=1 counts as the nearer end.
///
/// The same seed gives the same parts.
pub fn split(
    dataset: Arc<dyn Dataset>,
    fraction: f64,
    seed: u64,
) -> (Arc<dyn Dataset>, Arc<dyn Dataset>) {
    let mut order: Vec<usize> = (0..dataset.len()).collect();
    Random::new(seed).shuffle(&mut order);
    let first = (dataset.len() as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
    let rest = order.split_off(first.min(order.len()));
    let part = |mut indices: Vec<usize>| -> Arc<dyn Dataset> {
        indices.sort_unstable();
        Arc::new(Subset { dataset: Arc::clone(&dataset), indices })
    };
    (part(order), part(rest))
}
