//! Attributions against the values that TorchPruner publishes for its model of a maximum.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use secateur::Model;
use secateur::group::GroupId;
use secateur_train::attribution::{Attribution, AttributionOptions, attribute};
use secateur_train::loss::Loss;
use secateur_train::point::On;
use secateur_train::trainer::{TrainOptions, Trainer};
use secateur_train::{Cpu, Value};

#[path = "../../secateur/tests/text/mod.rs"]
mod text;

/// `max(x, y)` as `½·relu(y − x) + ½·relu(x − y) + ½·relu(x + y)` with the units A, B and C, and a
/// copy D of C that counts `last`; `first` scales A.
fn trainer(first: f32, last: f32) -> Trainer<Cpu> {
    let bytes = text::encode(
        "x: nx2
         w = 4x2
         v = 1x4
         h = Gemm(x, w) transB=1
         r = Relu(h)
         y = Gemm(r, v) transB=1
         -> y",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("max.onnx");
    std::fs::write(&path, bytes).unwrap();
    let model = Model::open(&path, &Default::default()).unwrap();
    let options = TrainOptions { loss: Loss::Mse, ..TrainOptions::default() };
    let mut trainer = Trainer::new(model, options, &Default::default()).unwrap();
    let device = Default::default();
    let w = vec![-first, first, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0];
    let v = vec![0.5 / first, 0.5, 0.5, last];
    let values = BTreeMap::from([
        ("w".to_string(), Value::of_floats(w, vec![4, 2], &device)),
        ("v".to_string(), Value::of_floats(v, vec![1, 4], &device)),
    ]);
    trainer.set_values(values).unwrap();
    trainer
}

fn scores(trainer: &Trainer<Cpu>, method: Attribution, on: On) -> Vec<f64> {
    let device = Default::default();
    let inputs = vec![0.0, 1.0, 1.0, 0.0, 1.0, 2.0, 2.0, 1.0];
    let x = Value::of_floats(inputs, vec![4, 2], &device);
    let y = Value::of_floats(vec![1.0, 1.0, 2.0, 2.0], vec![4, 1], &device);
    let options = AttributionOptions { method, on, ..AttributionOptions::default() };
    let mut batches = std::iter::once(Ok((vec![x], y)));
    let found = attribute(trainer, &mut batches, None, &options).unwrap();
    let groups: Vec<GroupId> = trainer.model().groups().iter().map(|(id, _)| id).collect();
    assert_eq!(groups.len(), 1);
    found.get(groups[0]).unwrap().to_vec()
}

#[track_caller]
fn check(found: &[f64], expected: [f64; 4], tolerance: f64) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
    assert!(near && found.len() == 4, "{found:?} is not {expected:?}");
}

#[test]
fn published_values_of_torchpruner() {
    let perfect = trainer(0.5, 0.0);
    check(&scores(&perfect, Attribution::WeightNorm, On::Output), [1.0, 2.0, 2.0, 2.0], 1e-6);
    check(&scores(&perfect, Attribution::Apoz, On::Output), [0.5, 0.5, 1.0, 1.0], 1e-6);
    check(&scores(&perfect, Attribution::Sensitivity, On::Output), [0.0; 4], 1e-6);
    check(&scores(&perfect, Attribution::Taylor, On::Output), [0.0; 4], 1e-6);
    let shapley = scores(&perfect, Attribution::Shapley(1000), On::Output);
    check(&shapley, [0.37, 0.37, 1.7, 0.0], 0.15);
    let worse = trainer(0.5, -0.1);
    check(&scores(&worse, Attribution::Sensitivity, On::Output), [0.2, 0.1, 0.2, 0.04], 1e-6);
    check(&scores(&worse, Attribution::Taylor, On::Output), [0.1, 0.1, 0.5, 0.1], 1e-6);
    check(&scores(&worse, Attribution::SignedTaylor, On::Output), [0.1, 0.1, 0.5, -0.1], 1e-6);
}

#[test]
fn gradients_behind_the_activation_are_not_gated() {
    let worse = trainer(0.5, -0.1);
    check(&scores(&worse, Attribution::Sensitivity, On::Best), [0.4, 0.2, 0.2, 0.04], 1e-6);
}

#[test]
fn shapley_values_sum_to_what_all_units_are_worth() {
    let worse = trainer(0.5, -0.1);
    // Without any unit the output is 0, and with all of them it is off by a tenth of C.
    let nothing = [1.0, 1.0, 4.0, 4.0].iter().sum::<f64>() / 4.0;
    let all = [0.01, 0.01, 0.09, 0.09].iter().sum::<f64>() / 4.0;
    for on in [On::Output, On::Best] {
        let sum: f64 = scores(&worse, Attribution::Shapley(3), on).iter().sum();
        assert!((sum - (nothing - all)).abs() < 1e-5, "{sum}");
    }
}
