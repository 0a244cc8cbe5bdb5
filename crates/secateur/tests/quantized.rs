//! Criteria read the numbers that integers stand for: those of the model before it was quantized,
//! up to the step of the integers.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use secateur::Model;
use secateur::tensor::TensorView;

fn open(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Model::open(&folder.join(format!("{name}.onnx")), &Default::default()).unwrap()
}

fn numbers(model: &Model, name: &str) -> TensorView {
    let param = model.graph().find_param(name).unwrap_or_else(|| panic!("no `{name}`"));
    model.weights().view(param).unwrap()
}

/// Compares `before`, a weight of `source`, with `after`, one of `name`; 8 bits are 255 steps.
fn check(source: &str, before: &str, name: &str, after: &str, steps: f64) {
    let (before, after) = (numbers(&open(source), before), numbers(&open(name), after));
    assert_eq!(before.dims, after.dims, "{name}");
    let (before, after) = (before.to_f64s().unwrap(), after.to_f64s().unwrap());
    let range = |at: fn(f64, f64) -> f64| before.iter().copied().fold(0.0, at);
    let step = (range(f64::max) - range(f64::min)) / steps;
    let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < step, "{name}: {worst} is more than a step of {step}");
}

const CNN: &str = "small_cnn_opset13";
const KERNEL: &str = "onnx::Conv_45";
const CODES: &str = "onnx::Conv_45_quantized";

#[test]
fn one_zero_point_and_scale_for_all() {
    check(CNN, KERNEL, "quantized_cnn_qdq", CODES, 255.0);
}

#[test]
fn a_scale_per_channel() {
    check(CNN, KERNEL, "quantized_cnn_qdq_per_channel", CODES, 254.0);
}

#[test]
fn operators_on_integers() {
    let name = |model: &Model| {
        let kernels = model.graph().params.iter().filter(|param| param.shape.len() == 4);
        kernels.map(|param| param.name.clone()).nth(1).unwrap()
    };
    let model = "quantized_cnn_qoperator_per_channel";
    check(CNN, KERNEL, model, &name(&open(model)), 254.0);
}

#[test]
fn four_bits_in_blocks() {
    let source = "fused_qkv_attention_opset23";
    let model = open("weights_in_blocks");
    let codes = model.graph().params.iter().filter(|param| param.name.ends_with("_codes"));
    let names: Vec<&str> = codes.map(|param| param.name.as_str()).collect();
    assert!(!names.is_empty());
    for name in names {
        check(source, name.strip_suffix("_codes").unwrap(), "weights_in_blocks", name, 15.0);
    }
}
