//! Training, and cutting a model in the middle of it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use secateur::group::{GroupId, Keeps};
use secateur::{Error, Model, Result};
use secateur_train::data::{Batch, Dataset};
use secateur_train::fit::{FitOptions, fit};
use secateur_train::loss::Loss;
use secateur_train::trainer::{TrainOptions, Trainer};
use secateur_train::{Cpu, Value};

#[path = "../../secateur/tests/text/mod.rs"]
mod text;

/// Two layers that share their bias, which their groups do not tie; units of one are dropped.
const SHARED: &str = "x: 6x4
    w = 8x4
    u = 8x4
    b = 8
    v = 2x8
    t = 2x8
    h = Gemm(x, w, b) transB=1
    d = Dropout(h)
    g = Gemm(x, u, b) transB=1
    y = Gemm(d, v) transB=1
    z = Gemm(g, t) transB=1
    o = Add(y, z)
    -> o";

fn trainer(source: &str, options: TrainOptions) -> Trainer<Cpu> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, text::encode(source)).unwrap();
    let model = Model::open(&path, &Default::default()).unwrap();
    Trainer::new(model, options, &Default::default()).unwrap()
}

fn step(trainer: &mut Trainer<Cpu>) {
    let numbers = (0..24).map(|x| (x * 7 % 11) as f32 / 11.0).collect();
    let x = Value::of_floats(numbers, vec![6, 4], &Default::default());
    let y = Value::of_floats(vec![0.5; 12], vec![6, 2], &Default::default());
    trainer.step((vec![x], y), 0.1).unwrap();
}

fn momentum(trainer: &Trainer<Cpu>) -> BTreeMap<String, Vec<f32>> {
    let state = trainer.state().map(|(name, state)| {
        let numbers = Value::<Cpu>::Float(state[0].clone()).to_floats().unwrap();
        (name.to_string(), numbers)
    });
    state.collect()
}

fn group(trainer: &Trainer<Cpu>, name: &str) -> GroupId {
    let mut groups = trainer.model().groups().iter();
    groups.find(|(_, group)| group.name.starts_with(name)).unwrap().0
}

#[test]
fn the_optimizer_goes_on_where_uses_of_one_tensor_are_cut_apart() {
    let options = TrainOptions { loss: Loss::Mse, ..TrainOptions::default() };
    let mut trainer = trainer(SHARED, options);
    step(&mut trainer);
    let before = momentum(&trainer);
    let keeps = Keeps::from([
        (group(&trainer, "w"), vec![0, 1, 5]),
        (group(&trainer, "u"), vec![2, 3, 4, 7]),
    ]);
    trainer.cut(&keeps).unwrap();
    let after = momentum(&trainer);
    assert_eq!(after.len(), before.len() + 1, "{:?}", after.keys());
    let picked = |kept: &[usize]| kept.iter().map(|&at| before["b"][at]).collect::<Vec<_>>();
    let biases: Vec<&Vec<f32>> =
        after.iter().filter(|(name, _)| name.starts_with('b')).map(|(_, state)| state).collect();
    assert!(biases.contains(&&picked(&[0, 1, 5])), "{biases:?}");
    assert!(biases.contains(&&picked(&[2, 3, 4, 7])), "{biases:?}");
    step(&mut trainer);
}

#[test]
fn rates_of_dropouts_follow_what_is_left_of_their_units() {
    let options = TrainOptions { loss: Loss::Mse, scale_dropout: true, ..TrainOptions::default() };
    let mut trainer = trainer(SHARED, options);
    assert_eq!(trainer.dropouts(), [1.0]);
    for (kept, expected) in [(vec![0, 1, 2, 3, 4, 5], 0.75), (vec![1, 2, 4], 0.375)] {
        let keeps = Keeps::from([(group(&trainer, "w"), kept)]);
        trainer.cut(&keeps).unwrap();
        assert_eq!(trainer.dropouts(), [expected]);
    }
}

/// So many samples, none of which is read.
struct Many(usize);

impl Dataset for Many {
    fn len(&self) -> usize {
        self.0
    }

    fn batch(&self, _: &[usize], _: Option<u64>) -> Result<Batch> {
        Err(Error::argument("a batch was read"))
    }

    fn classes(&self) -> Option<usize> {
        None
    }
}

#[test]
fn batches_without_room_are_refused_before_the_first_step() {
    let mut trainer = trainer(SHARED, TrainOptions { loss: Loss::Mse, ..TrainOptions::default() });
    let mut run = |batch_size| {
        let data: Arc<dyn Dataset> = Arc::new(Many(batch_size));
        let options = FitOptions { batch_size, ..FitOptions::default() };
        fit(&mut trainer, &data, None, &options, Default::default(), &mut |_| ()).unwrap_err()
    };
    let error = run(1 << 40).to_string();
    // The layers read x, the dropout's result and g, of 4, 8 and 8 elements.
    assert!(error.contains("needs 87960.9 GB of memory at least"), "{error}");
    assert!(run(1 << 10).to_string().contains("a batch was read"));
}
