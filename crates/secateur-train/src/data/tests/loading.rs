use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// Sample `i` is the number `i`, and with augmentation the seed beside it.
struct Counting {
    len: usize,
    read: AtomicUsize,
}

impl Dataset for Counting {
    fn len(&self) -> usize {
        self.len
    }

    fn batch(&self, indices: &[usize], augment: Option<u64>) -> Result<Batch> {
        check_indices(indices, self.len)?;
        self.read.fetch_add(1, Ordering::SeqCst);
        let samples = indices.iter().flat_map(|&index| {
            [index as i64, augment.map_or(-1, |seed| random::derive(seed, index as u64) as i64)]
        });
        let inputs = vec![Array::Int(samples.collect(), vec![indices.len(), 2])];
        Ok(Batch { inputs, target: None })
    }

    fn classes(&self) -> Option<usize> {
        None
    }
}

fn counting(len: usize) -> Arc<Counting> {
    Arc::new(Counting { len, read: AtomicUsize::new(0) })
}

fn loader(len: usize, options: LoaderOptions) -> Loader {
    Loader::new(counting(len), options).unwrap()
}

fn batches(loader: &Loader, epoch: usize) -> Vec<Batch> {
    loader.epoch(epoch).map(Result::unwrap).collect()
}

fn order(batches: &[Batch]) -> Vec<usize> {
    let samples = batches.iter().flat_map(|batch| ints(&batch.inputs[0]).as_chunks::<2>().0);
    samples.map(|[index, _]| *index as usize).collect()
}

fn options() -> impl Strategy<Value = (usize, LoaderOptions)> {
    let seeds = (any::<Option<u64>>(), any::<Option<u64>>());
    (1..60_usize, 1..20_usize, seeds).prop_map(|(len, batch_size, (shuffle, augment))| {
        (len, LoaderOptions { batch_size, shuffle, augment, prefetch: 0, ..Default::default() })
    })
}

proptest! {
    #[test]
    fn each_sample_comes_once_per_epoch((len, options) in options(), epoch in 0..5_usize) {
        let loader = loader(len, options.clone());
        let batches = batches(&loader, epoch);
        prop_assert_eq!(batches.len(), loader.batches());
        let mut order = order(&batches);
        if options.shuffle.is_none() {
            prop_assert!(order.is_sorted());
        }
        order.sort_unstable();
        prop_assert_eq!(order, (0..len).collect::<Vec<_>>());
        let sizes: Vec<_> = batches.iter().map(|batch| batch.inputs[0].samples()).collect();
        let (last, full) = sizes.split_last().unwrap();
        prop_assert!(full.iter().all(|&size| size == options.batch_size));
        prop_assert!((1..=options.batch_size).contains(last));
    }

    #[test]
    fn reading_ahead_and_resuming_change_nothing((len, options) in options(), start in 0..70_usize) {
        let expected = batches(&loader(len, options.clone()), 3);
        for prefetch in [1, 4, usize::MAX] {
            let ahead = loader(len, LoaderOptions { prefetch, ..options.clone() });
            prop_assert_eq!(&batches(&ahead, 3), &expected);
        }
        let tail = expected.get(start..).unwrap_or_default();
        for prefetch in [0, 4] {
            let resumed = loader(len, LoaderOptions { prefetch, start, ..options.clone() });
            prop_assert_eq!(&batches(&resumed, 3), tail);
        }
    }

    #[test]
    fn a_dropped_last_batch_leaves_full_ones((len, options) in options()) {
        let dropping = LoaderOptions { drop_last: LastBatch::Drop, ..options.clone() };
        let full = len / options.batch_size;
        match Loader::new(counting(len), dropping) {
            Ok(loader) => {
                let kept = batches(&loader, 0);
                prop_assert_eq!(kept.len(), full);
                let all = batches(&self::loader(len, options), 0);
                prop_assert_eq!(kept.as_slice(), all.get(..full).unwrap());
            }
            Err(_) => prop_assert_eq!(full, 0),
        }
    }

    #[test]
    fn parts_are_disjoint_and_complete(len in 1..100_usize, fraction in 0.0..=1.0, seed: u64) {
        let parts = split(counting(len), fraction, seed);
        let again = split(counting(len), fraction, seed);
        let samples = |part: &Arc<dyn Dataset>| order(&[whole(part)]);
        let (first, second) = (samples(&parts.0), samples(&parts.1));
        prop_assert_eq!(first.len(), (len as f64 * fraction).round() as usize);
        prop_assert_eq!(&first, &samples(&again.0));
        prop_assert!(first.is_sorted() && second.is_sorted());
        let mut all = [first, second].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
    }
}

#[test]
fn epochs_and_seeds_differ() {
    let options = |seed| LoaderOptions {
        shuffle: Some(seed),
        augment: Some(seed),
        ..LoaderOptions::default()
    };
    let (one, other) = (loader(100, options(1)), loader(100, options(2)));
    let orders = [order(&batches(&one, 0)), order(&batches(&one, 1)), order(&batches(&other, 0))];
    assert!(orders[0] != orders[1] && orders[0] != orders[2]);
    assert_eq!(order(&batches(&one, 0)), orders[0]);
    let changes = |batches: Vec<Batch>| {
        let samples = batches.iter().flat_map(|batch| ints(&batch.inputs[0]).as_chunks::<2>().0);
        samples.copied().collect::<std::collections::BTreeSet<_>>()
    };
    assert!(changes(batches(&one, 0)).is_disjoint(&changes(batches(&one, 1))));
}

#[test]
fn fractions_outside_count_as_the_nearer_end() {
    for (fraction, expected) in [(-1.0, 0), (7.0, 10), (f64::NAN, 0)] {
        assert_eq!(split(counting(10), fraction, 0).0.len(), expected);
    }
}

#[test]
fn a_subset_renames_samples() {
    let subset = Subset::new(counting(10), vec![7, 3, 7]).unwrap();
    assert_eq!(subset.indices(), [7, 3, 7]);
    let subset: Arc<dyn Dataset> = Arc::new(subset);
    assert_eq!(order(&[whole(&subset)]), [7, 3, 7]);
    assert!(subset.batch(&[3], None).is_err());
    assert!(Subset::new(counting(10), vec![10]).is_err());
}

#[test]
fn a_dropped_epoch_stops_its_thread() {
    let dataset = counting(1000);
    let options = LoaderOptions { batch_size: 1, prefetch: 3, ..LoaderOptions::default() };
    let shared: Arc<dyn Dataset> = Arc::clone(&dataset) as Arc<dyn Dataset>;
    let loader = Loader::new(shared, options).unwrap();
    let mut epoch = loader.epoch(0);
    assert!(epoch.next().unwrap().is_ok());
    drop(epoch);
    drop(loader);
    // One taken, three waiting, one that could not be sent.
    assert!(dataset.read.load(Ordering::SeqCst) <= 5);
    assert_eq!(Arc::strong_count(&dataset), 1);
}

/// Fails, one way or the other, at sample 3.
struct Failing {
    panics: Option<&'static str>,
}

impl Dataset for Failing {
    fn len(&self) -> usize {
        6
    }

    fn batch(&self, indices: &[usize], _augment: Option<u64>) -> Result<Batch> {
        match self.panics {
            _ if !indices.contains(&3) => Ok(Batch { inputs: vec![], target: None }),
            Some(text) => panic!("{text}"),
            None => Err(Error::malformed("sample 3")),
        }
    }

    fn classes(&self) -> Option<usize> {
        None
    }
}

#[test]
fn an_error_is_the_last_batch() {
    for prefetch in [0, 4] {
        let options = LoaderOptions { batch_size: 1, prefetch, ..LoaderOptions::default() };
        let loader = Loader::new(Arc::new(Failing { panics: None }), options).unwrap();
        let batches: Vec<_> = loader.epoch(0).collect();
        assert_eq!(batches.len(), 4);
        assert_eq!(batches[3].as_ref().unwrap_err().to_string(), "sample 3");
    }
}

#[test]
fn a_thread_that_dies_is_an_error() {
    let options = LoaderOptions { batch_size: 1, prefetch: 1, ..LoaderOptions::default() };
    let panics = Some("on purpose");
    let loader = Loader::new(Arc::new(Failing { panics }), options).unwrap();
    let batches: Vec<_> = loader.epoch(0).collect();
    assert_eq!(batches.len(), 4);
    check(
        &Files::new().text(batches[3].as_ref().unwrap_err()),
        "Unsupported: reading data failed within a library\nset `prefetch` to 0 to see where",
    );
}

#[test]
fn loaders_without_batches_are_errors() {
    let error =
        |len, options| Files::new().text(&Loader::new(counting(len), options).err().unwrap());
    check(
        &error(5, LoaderOptions { batch_size: 0, ..LoaderOptions::default() }),
        "Argument: a batch of 0 samples\nset `batch_size` to 1 or more",
    );
    check(
        &error(5, LoaderOptions { drop_last: LastBatch::Drop, ..LoaderOptions::default() }),
        "Argument: 5 samples make no batch of 64\ngive more samples, or a smaller `batch_size`",
    );
}
