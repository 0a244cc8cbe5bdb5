use std::path::Path;

use expect_test::{Expect, expect};

use super::*;
use crate::text;

fn fixture(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Model::open(&folder.join(format!("{name}.onnx")), &Default::default()).unwrap()
}

fn model(graph: &str) -> Model {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    std::fs::write(&path, text::encode(graph)).unwrap();
    Model::open(&path, &Default::default()).unwrap()
}

fn slot(model: &Model, at: &str) -> (ParamId, usize) {
    let (name, axis) = at.rsplit_once(':').unwrap();
    (model.graph().find_param(name).unwrap(), axis.parse().unwrap())
}

#[allow(clippy::needless_pass_by_value)]
fn check(model: &Model, at: &str, explanation: Expect) {
    explanation.assert_eq(&explain(model, slot(model, at)).to_string());
}

#[allow(clippy::needless_pass_by_value)]
fn check_tie(model: &Model, a: &str, b: &str, expected: Expect) {
    let found = tie(model, slot(model, a), slot(model, b));
    expected.assert_eq(&found.map_or("independent".to_string(), |tie| tie.to_string()));
}

#[test]
fn a_residual_add_ties_what_it_adds() {
    let model = fixture("residual_add");
    check_tie(
        &model,
        "stem.0.weight:0",
        "block2.1.weight:0",
        expect![[r#"
        stem.0.weight:0 and block2.1.weight:0 share residual(12)
            Conv `node_Conv_53` -> getitem:1
            Relu `node_relu` -> relu:1
            Add `node_add` -> add:1
            Relu `node_relu_2` -> relu_2:1
            Add `node_add_1` -> conv2d_4:1
            Conv `node_conv2d_4` -> block2.1.weight:0
    "#]],
    );
    check_tie(
        &model,
        "block1.0.0.weight:0",
        "block1.1.weight:1",
        expect![[r#"
        block1.0.0.weight:0 and block1.1.weight:1 share channels(8)
            Conv `node_Conv_55` -> getitem_3:1
            Relu `node_relu_1` -> relu_1:1
            Conv `node_conv2d_2` -> block1.1.weight:1
    "#]],
    );
    check_tie(&model, "stem.0.weight:0", "block1.0.0.weight:0", expect![["independent"]]);
}

#[test]
fn a_pin_is_explained_by_the_way_to_it() {
    let model = fixture("residual_add");
    check(
        &model,
        "head.2.weight:0",
        expect![[r#"
        head.2.weight:0 = 5
          5: pinned: it is an output of the model
            Gemm `node_linear` -> linear:1
    "#]],
    );
    check(
        &model,
        "stem.0.weight:1",
        expect![[r#"
        stem.0.weight:1 = 3
          3: pinned: it is an input of the model
            Conv `node_Conv_53` -> input:1
    "#]],
    );
    check(
        &model,
        "stem.0.weight:2",
        expect![[r#"
        stem.0.weight:2 = 3
          3: pinned: a window slides over it (node `node_Conv_53`)
            Conv `node_Conv_53` -> stem.0.weight:2
    "#]],
    );
}

#[test]
fn an_axis_of_several_parts_explains_each() {
    let attention = fixture("fused_qkv_attention");
    check(
        &attention,
        "qkv.weight:1",
        expect![[r#"
        qkv.weight:1 = (1 ++ 1 ++ 1) × heads(4) × head-width(4)
          4: group `qkv.weight:1#0`
          4: group `qkv.weight:1#1`
    "#]],
    );
    check(
        &fixture("flatten_conv_linear"),
        "2.weight:1",
        expect![[r#"
        2.weight:1 = channels(8) × 7 × 7
          8: group `0.0.weight:0`
          7: pinned: a window slides over it (node `node_Conv_22`)
            Gemm `node_linear` -> view:1
            Reshape `node_view` -> relu:2
            Relu `node_relu` -> getitem:2
            Conv `node_Conv_22` -> getitem:2
          7: pinned: a window slides over it (node `node_Conv_22`)
            Gemm `node_linear` -> view:1
            Reshape `node_view` -> relu:3
            Relu `node_relu` -> getitem:3
            Conv `node_Conv_22` -> getitem:3
    "#]],
    );
}

#[test]
fn an_approximate_group_is_explained_by_the_way_to_its_statistics() {
    check(
        &fixture("layer_norm_residual"),
        "embed.weight:1",
        expect![[r#"
        embed.weight:1 = residual(20)
          20: group `embed.weight:1`
            MatMul `node_MatMul_1` -> val_1:2
            Add `node_linear` -> linear:2
            LayerNormalization `node_layer_norm` -> norm.weight:0
    "#]],
    );
}

#[test]
fn an_opaque_operator_is_named() {
    let graph = "x: 2x8\nw = 8x6\na = MatMul(x, w)\nb = Relu(a)\nc = Frobnicate(b)\n-> c";
    check(
        &model(graph),
        "w:1",
        expect![[r#"
        w:1 = 6
          6: pinned: an opaque operator reads or makes it (node `c`)
            MatMul `a` -> a:1
            Relu `b` -> b:1
            Frobnicate `c` -> b:1
    "#]],
    );
}

#[test]
fn weights_that_no_group_governs_are_listed_with_their_reasons() {
    let model = model(
        "x: 2x6
        w = 6x4
        table = 9x5
        i: i64 2
        y = MatMul(x, w)
        z = Softmax(y) axis=-1
        e = Gather(table, i)
        u = Cumulate(e)
        -> z u",
    );
    let found: Vec<String> = pinned_weights(&model)
        .iter()
        .map(|weight| format!("{} {:?} {:?}", weight.parameter, weight.shape, weight.reasons))
        .collect();
    expect![[r#"
        table [9, 5] [["rows are picked by index (node `e`)"], ["an opaque operator reads or makes it (node `u`)"]]
        w [6, 4] [["it is an input of the model"], ["softmax runs along it (node `z`)"]]"#]]
    .assert_eq(&found.join("\n"));
}
