use expect_test::{Expect, expect};

use super::*;
use crate::onnx::proto::MetadataProto;

fn node(name: &str, metadata: &[(&str, &str)]) -> NodeProto {
    let entry = |(key, value): &(&str, &str)| MetadataProto {
        key: format!("pkg.torch.onnx.{key}"),
        value: value.to_string().into(),
    };
    let metadata_props = metadata.iter().map(entry).collect();
    NodeProto { name: name.to_string(), metadata_props, ..Default::default() }
}

#[allow(clippy::needless_pass_by_value)]
fn check(label: Option<String>, expected: Expect) {
    expected.assert_eq(&label.unwrap_or_else(|| "none".to_string()));
}

#[test]
fn node_names_of_the_older_exporter_are_paths_of_modules() {
    for (name, expected) in [
        ("/fc1/MatMul", expect!["fc1.weight"]),
        ("/encoder/layer.0/query/MatMul", expect!["encoder.layer.0.query.weight"]),
        ("/encoder/layers/mlp/mlp.0/MatMul", expect!["encoder.layers.mlp.0.weight"]),
        ("/MatMul", expect!["none"]),
        ("MatMul_12", expect!["none"]),
    ] {
        check(from_name(&node(name, &[])), expected);
    }
}

#[test]
fn metadata_of_the_newer_exporter_names_modules_and_parameters() {
    let scopes = ("name_scopes", "['', 'encoder', 'encoder.fc', 'linear']");
    let call = |args: &str| {
        format!("%linear : call_function[target=linear](args = ({args}), kwargs = {{}})")
    };
    for (call, expected) in [
        (call("%x, %p_encoder_fc_weight, %p_encoder_fc_bias"), expect!["encoder.fc.weight"]),
        (call("%x, %p_encoder_fc_in_proj_weight"), expect!["encoder.fc.in_proj_weight"]),
        (call("%x"), expect!["encoder.fc.weight"]),
    ] {
        check(from_metadata(&node("n", &[scopes, ("fx_node", &call)])), expected);
    }
    check(from_metadata(&node("n", &[("name_scopes", "['', 'linear']")])), expect!["none"]);
    check(from_metadata(&node("n", &[("name_scopes", "")])), expect!["none"]);
    check(from_metadata(&node("n", &[])), expect!["none"]);
}

#[test]
fn only_names_that_an_exporter_made_up_are_replaced() {
    let made_up = ["val_12", "onnx::MatMul_565", "/fc/Constant", "_val_3", "42"];
    let given = ["fc.weight", "val_", "val_x", "value_1", "conv1", ""];
    assert_eq!(made_up.map(is_made_up), [true; 5]);
    assert_eq!(given.map(is_made_up), [false; 6]);
}
