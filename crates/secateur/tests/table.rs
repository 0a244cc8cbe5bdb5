//! The patterns of the design's table, each on a model that PyTorch exported: which groups come
//! out, and what the parameter axes that carry them are made of.
//!
//! A group is a line: letter, name, size, kind, and either `exact` or the nodes that make it
//! approximate, each with its reason. Its slices follow: parameter axis, role, tree. A tree names a
//! group by its letter, and a pinned dimension by its size.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::{Expect, expect};
use secateur::Model;
use secateur::group::{Group, GroupId};

fn open(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Model::open(&folder.join(format!("{name}.onnx")), &Default::default()).unwrap()
}

#[allow(clippy::needless_pass_by_value)]
fn check(fixture: &str, groups: Expect) {
    let model = open(fixture);
    assert_eq!(model.graph().warnings, [""; 0], "{fixture}");
    let all: String = model.groups().iter().map(|entry| show(&model, entry)).collect();
    groups.assert_eq(&all);
}

fn show(model: &Model, (id, group): (GroupId, &Group)) -> String {
    let (name, exactness) = (&group.name, exactness(model, group));
    let mut text = format!("{} = {name} {} {} {exactness}\n", letter(id), group.size, group.kind);
    for slice in &group.slices {
        let param = model.graph().param(slice.param);
        let tree = &model.groups().trees(slice.param)[slice.axis];
        let tree = tree.describe(&|atom| match model.groups().of_atom(atom) {
            Some(id) => letter(id),
            None => model.analysis().axes.size(atom).to_string(),
        });
        text += &format!("  {}:{} {} {tree}\n", param.label, slice.axis, slice.role.name());
    }
    text
}

fn letter(id: GroupId) -> String {
    char::from(b'a' + id.index() as u8).to_string()
}

fn exactness(model: &Model, group: &Group) -> String {
    if group.is_exact() {
        return "exact".to_string();
    }
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for coupling in &group.couplings {
        let node = model.graph().node(coupling.node);
        reasons.entry(coupling.reason).or_default().push(&node.kind);
    }
    let each = reasons.into_iter().map(|(reason, nodes)| format!("{}: {reason}", nodes.join(", ")));
    format!("approximate ({})", each.collect::<Vec<_>>().join("; "))
}

#[test]
fn a_residual_stream_is_one_group() {
    check(
        "residual_add",
        expect![[r#"
            a = stem.0.weight:0 12 residual exact
              stem.0.weight:0 producer a
              stem.0.weight_bias:0 affine a
              block1.0.0.weight:1 consumer a
              block1.1.weight:0 producer a
              block1.1.bias:0 affine a
              block2.0.0.weight:1 consumer a
              block2.1.weight:0 producer a
              block2.1.bias:0 affine a
              head.2.weight:1 consumer a
            b = block1.0.0.weight:0 8 channels exact
              block1.0.0.weight:0 producer b
              block1.0.0.weight_bias:0 affine b
              block1.1.weight:1 consumer b
            c = block2.0.0.weight:0 8 channels exact
              block2.0.0.weight:0 producer c
              block2.0.0.weight_bias:0 affine c
              block2.1.weight:1 consumer c
        "#]],
    );
    check(
        "batch_norm_first",
        expect![[r#"
            a = stem.weight:0 12 residual exact
              stem.weight:0 producer a
              stem.bias:0 affine a
              norm1.weight:0 affine a
              norm1.bias:0 affine a
              norm1.running_mean:0 affine a
              norm1.running_var:0 affine a
              conv1.weight:1 consumer a
              conv2.weight:0 producer a
              conv2.bias:0 affine a
              norm3.weight:0 affine a
              norm3.bias:0 affine a
              norm3.running_mean:0 affine a
              norm3.running_var:0 affine a
              head.2.weight:1 consumer a
            b = conv1.weight:0 16 channels exact
              conv1.weight:0 producer b
              conv1.bias:0 affine b
              conv2.weight:1 consumer b
        "#]],
    );
}

#[test]
fn flatten_keeps_channels_apart_from_pixels() {
    check(
        "flatten_conv_linear",
        expect![[r#"
            a = 0.0.weight:0 8 channels exact
              0.0.weight:0 producer a
              0.0.weight_bias:0 affine a
              2.weight:1 consumer a × 7 × 7
            b = 2.weight:0 16 features exact
              2.weight:0 producer b
              2.bias:0 affine b
              4.weight:1 consumer b
        "#]],
    );
    check(
        "nhwc_flatten_linear",
        expect![[r#"
            a = conv.0.weight:0 8 channels exact
              conv.0.weight:0 producer a
              conv.0.weight_bias:0 affine a
              fc.weight:1 consumer 8 × 8 × a
        "#]],
    );
}

#[test]
fn concat_and_chunk_keep_segments_apart() {
    check(
        "dense_concat",
        expect![[r#"
            a = stem.weight:0 8 channels exact
              stem.weight:0 producer a
              stem.bias:0 affine a
              layer1.0.weight:0 affine a
              layer1.0.bias:0 affine a
              layer1.0.running_mean:0 affine a
              layer1.0.running_var:0 affine a
              layer1.2.weight:1 consumer a
              layer2.0.weight:0 affine a ++ b
              layer2.0.bias:0 affine a ++ b
              layer2.0.running_mean:0 affine a ++ b
              layer2.0.running_var:0 affine a ++ b
              layer2.2.weight:1 consumer a ++ b
              head.0.weight:0 affine a ++ b ++ c
              head.0.bias:0 affine a ++ b ++ c
              head.0.running_mean:0 affine a ++ b ++ c
              head.0.running_var:0 affine a ++ b ++ c
              head.2.2.weight:1 consumer a ++ b ++ c
            b = layer1.2.weight:0 6 channels exact
              layer1.2.weight:0 producer b
              layer1.2.bias:0 affine b
              layer2.0.weight:0 affine a ++ b
              layer2.0.bias:0 affine a ++ b
              layer2.0.running_mean:0 affine a ++ b
              layer2.0.running_var:0 affine a ++ b
              layer2.2.weight:1 consumer a ++ b
              head.0.weight:0 affine a ++ b ++ c
              head.0.bias:0 affine a ++ b ++ c
              head.0.running_mean:0 affine a ++ b ++ c
              head.0.running_var:0 affine a ++ b ++ c
              head.2.2.weight:1 consumer a ++ b ++ c
            c = layer2.2.weight:0 6 channels exact
              layer2.2.weight:0 producer c
              layer2.2.bias:0 affine c
              head.0.weight:0 affine a ++ b ++ c
              head.0.bias:0 affine a ++ b ++ c
              head.0.running_mean:0 affine a ++ b ++ c
              head.0.running_var:0 affine a ++ b ++ c
              head.2.2.weight:1 consumer a ++ b ++ c
        "#]],
    );
    check(
        "uneven_split",
        expect![[r#"
            a = first.0.weight:0#0 12 channels exact
              first.0.weight:0 producer a ++ b
              first.0.weight_bias:0 affine a ++ b
              a.0.weight:1 consumer a
            b = first.0.weight:0#1 8 channels exact
              first.0.weight:0 producer a ++ b
              first.0.weight_bias:0 affine a ++ b
              b.0.weight:1 consumer b
            c = a.0.weight:0 8 residual exact
              a.0.weight:0 producer c
              a.0.weight_bias:0 affine c
              b.0.weight:0 producer c
              b.0.weight_bias:0 affine c
              head.2.weight:1 consumer c
        "#]],
    );
    check(
        "c2f",
        expect![[r#"
            a = stem.0.weight:0 12 channels exact
              stem.0.weight:0 producer a
              stem.0.weight_bias:0 affine a
              split.0.weight:1 consumer a
            b = split.0.weight:0#0 8 channels exact
              split.0.weight:0 producer b ++ c
              split.0.weight_bias:0 affine b ++ c
              fuse.0.weight:1 consumer b ++ c ++ c ++ c
            c = split.0.weight:0#1 8 residual exact
              split.0.weight:0 producer b ++ c
              split.0.weight_bias:0 affine b ++ c
              blocks.0.conv1.0.weight:1 consumer c
              blocks.0.conv2.0.weight:0 producer c
              blocks.0.conv2.0.weight_bias:0 affine c
              blocks.1.conv1.0.weight:1 consumer c
              blocks.1.conv2.0.weight:0 producer c
              blocks.1.conv2.0.weight_bias:0 affine c
              fuse.0.weight:1 consumer b ++ c ++ c ++ c
            d = blocks.0.conv1.0.weight:0 8 channels exact
              blocks.0.conv1.0.weight:0 producer d
              blocks.0.conv1.0.weight_bias:0 affine d
              blocks.0.conv2.0.weight:1 consumer d
            e = blocks.1.conv1.0.weight:0 8 channels exact
              blocks.1.conv1.0.weight:0 producer e
              blocks.1.conv1.0.weight_bias:0 affine e
              blocks.1.conv2.0.weight:1 consumer e
            f = fuse.0.weight:0 12 channels exact
              fuse.0.weight:0 producer f
              fuse.0.weight_bias:0 affine f
              head.2.weight:1 consumer f
        "#]],
    );
}

#[test]
fn channel_shuffle_swaps_two_factors() {
    check(
        "channel_shuffle",
        expect![[r#"
            a = first.0.weight:0#0 2 conv-groups exact
              first.0.weight:0 producer a × b
              first.0.weight_bias:0 affine a × b
              grouped.weight:0 producer a × c
              grouped.bias:0 affine a × c
              last.0.weight:1 consumer c × a
            b = first.0.weight:0#1 8 group-channels exact
              first.0.weight:0 producer a × b
              first.0.weight_bias:0 affine a × b
              grouped.weight:1 consumer b
            c = grouped.weight:0#1 8 group-channels exact
              grouped.weight:0 producer a × c
              grouped.bias:0 affine a × c
              last.0.weight:1 consumer c × a
            d = last.0.weight:0 8 channels exact
              last.0.weight:0 producer d
              last.0.weight_bias:0 affine d
              head.2.weight:1 consumer d
        "#]],
    );
    check(
        "shuffle_unit",
        expect![[r#"
            a = stem.0.weight:0#0 8 channels exact
              stem.0.weight:0 producer a ++ b
              stem.0.weight_bias:0 affine a ++ b
              branch.2.0.weight:0 producer a
              branch.2.0.weight_bias:0 affine a
              head.2.weight:1 consumer a × (1 ++ 1)
            b = stem.0.weight:0#1 8 channels exact
              stem.0.weight:0 producer a ++ b
              stem.0.weight_bias:0 affine a ++ b
              branch.0.0.weight:1 consumer b
            c = branch.0.0.weight:0 8 channels exact
              branch.0.0.weight:0 producer c
              branch.0.0.weight_bias:0 affine c
              branch.1.0.weight:0 producer c
              branch.1.0.weight_bias:0 affine c
              branch.2.0.weight:1 consumer c
        "#]],
    );
}

#[test]
fn grouped_convolutions_are_cut_by_group_or_alike_in_every_group() {
    check(
        "grouped_conv",
        expect![[r#"
            a = 0.0.weight:0#0 4 conv-groups exact
              0.0.weight:0 producer a × b
              0.0.weight_bias:0 affine a × b
              1.0.weight:0 producer a × c
              1.0.weight_bias:0 affine a × c
              2.0.weight:1 consumer a × c
            b = 0.0.weight:0#1 4 group-channels exact
              0.0.weight:0 producer a × b
              0.0.weight_bias:0 affine a × b
              1.0.weight:1 consumer b
            c = 1.0.weight:0#1 6 group-channels exact
              1.0.weight:0 producer a × c
              1.0.weight_bias:0 affine a × c
              2.0.weight:1 consumer a × c
            d = 2.0.weight:0 8 channels exact
              2.0.weight:0 producer d
              2.0.weight_bias:0 affine d
              3.2.weight:1 consumer d
        "#]],
    );
    check(
        "grouped_transposed_conv",
        expect![[r#"
            a = 0.0.weight:0#0 4 conv-groups exact
              0.0.weight:0 producer a × b
              0.0.weight_bias:0 affine a × b
              1.weight:0 producer a × b
              1.bias:0 affine a × c
              3.0.weight:1 consumer a × c
            b = 0.0.weight:0#1 3 group-channels exact
              0.0.weight:0 producer a × b
              0.0.weight_bias:0 affine a × b
              1.weight:0 consumer a × b
            c = 1.weight:1 4 group-channels exact
              1.weight:1 producer c
              1.bias:0 affine a × c
              3.0.weight:1 consumer a × c
            d = 3.0.weight:0 8 channels exact
              3.0.weight:0 producer d
              3.0.weight_bias:0 affine d
              4.2.weight:1 consumer d
        "#]],
    );
}

#[test]
fn depthwise_convolutions_follow_their_channels() {
    check(
        "depthwise",
        expect![[r#"
            a = 0.0.weight:0 16 channels exact
              0.0.weight:0 producer a
              0.0.weight_bias:0 affine a
              1.0.weight:0 producer a
              1.0.weight_bias:0 affine a
              2.0.weight:1 consumer a
            b = 2.0.weight:0 8 channels exact
              2.0.weight:0 producer b
              2.0.weight_bias:0 affine b
              3.2.weight:1 consumer b
        "#]],
    );
    check(
        "depthwise_multiplier_two",
        expect![[r#"
            a = 0.0.weight:0 8 conv-groups exact
              0.0.weight:0 producer a
              0.0.weight_bias:0 affine a
              1.0.weight:0 producer a × b
              1.0.weight_bias:0 affine a × b
              2.0.weight:1 consumer a × b
            b = 1.0.weight:0#1 2 group-channels exact
              1.0.weight:0 producer a × b
              1.0.weight_bias:0 affine a × b
              2.0.weight:1 consumer a × b
            c = 2.0.weight:0 8 channels exact
              2.0.weight:0 producer c
              2.0.weight_bias:0 affine c
              3.2.weight:1 consumer c
        "#]],
    );
    check(
        "one_output_conv",
        expect![[r#"
            a = 0.0.weight:0 12 channels exact
              0.0.weight:0 producer a
              0.0.weight_bias:0 affine a
              1.0.weight:1 consumer a
            b = 2.0.weight:0 8 channels exact
              2.0.weight:0 producer b
              2.0.weight_bias:0 affine b
              3.2.weight:1 consumer b
        "#]],
    );
}

#[test]
fn attention_has_heads_and_head_widths() {
    check(
        "attention_view_four_heads",
        expect![[r#"
            a = embed.weight:1 16 residual exact
              embed.weight:1 producer a
              embed.bias:0 affine a
              q.weight:0 consumer a
              k.weight:0 consumer a
              v.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = q.weight:1#0 4 heads exact
              q.weight:1 producer b × c
              q.bias:0 affine b × c
              k.weight:1 producer b × c
              k.bias:0 affine b × c
              v.weight:1 producer b × d
              v.bias:0 affine b × d
              out.weight:0 consumer b × d
            c = q.weight:1#1 4 head-width exact
              q.weight:1 producer b × c
              q.bias:0 affine b × c
              k.weight:1 producer b × c
              k.bias:0 affine b × c
            d = v.weight:1#1 4 head-width exact
              v.weight:1 producer b × d
              v.bias:0 affine b × d
              out.weight:0 consumer b × d
        "#]],
    );
    check(
        "split_qkv_attention",
        expect![[r#"
            a = embed.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              qkv.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = qkv.weight:1#0 4 heads exact
              qkv.weight:1 producer b × c ++ b × c ++ b × d
              qkv.bias:0 affine b × c ++ b × c ++ b × d
              out.weight:0 consumer b × d
            c = qkv.weight:1#1 4 head-width exact
              qkv.weight:1 producer b × c ++ b × c ++ b × d
              qkv.bias:0 affine b × c ++ b × c ++ b × d
            d = qkv.weight:1#2 4 head-width exact
              qkv.weight:1 producer b × c ++ b × c ++ b × d
              qkv.bias:0 affine b × c ++ b × c ++ b × d
              out.weight:0 consumer b × d
        "#]],
    );
    check(
        "multihead_attention_module",
        expect![[r#"
            a = embed.weight:1 16 residual exact
              embed.weight:1 producer a
              embed.bias:0 affine a
              attention.weight:0 consumer a
              attention.out_proj.weight:0 producer a
              attention.out_proj.bias:0 affine a
              head.weight:0 consumer a
            b = attention.weight:1#0 4 heads exact
              attention.weight:1 producer 3 × b × c
              attention.in_proj_bias:0 affine 3 × b × c
              attention.out_proj.weight:1 consumer b × c
            c = attention.weight:1#1 4 head-width exact
              attention.weight:1 producer 3 × b × c
              attention.in_proj_bias:0 affine 3 × b × c
              attention.out_proj.weight:1 consumer b × c
        "#]],
    );
    check(
        "fused_qkv_attention_opset23",
        expect![[r#"
            a = embed.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              qkv.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = qkv.weight:1#0 4 heads exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
            c = qkv.weight:1#1 4 head-width exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
        "#]],
    );
}

#[test]
fn a_fused_projection_has_three_parts_that_are_cut_alike() {
    check(
        "fused_qkv_attention",
        expect![[r#"
            a = embed.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              qkv.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = qkv.weight:1#0 4 heads exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
            c = qkv.weight:1#1 4 head-width exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
        "#]],
    );
    check(
        "fused_qkv_attention_legacy",
        expect![[r#"
            a = embed.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              qkv.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = qkv.weight:1#0 4 heads exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
            c = qkv.weight:1#1 4 head-width exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
        "#]],
    );
    check(
        "dynamic_attention",
        expect![[r#"
            a = embed.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              qkv.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = qkv.weight:1#0 4 heads exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
            c = qkv.weight:1#1 4 head-width exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
        "#]],
    );
}

#[test]
fn grouped_query_attention_has_heads_and_queries_per_head() {
    check(
        "grouped_query_attention",
        expect![[r#"
            a = q.weight:1#0 2 heads exact
              q.weight:1 producer a × b × c
              q.bias:0 affine a × b × c
              k.weight:1 producer a × c
              k.bias:0 affine a × c
              v.weight:1 producer a × d
              v.bias:0 affine a × d
              out.weight:0 consumer a × b × d
            b = q.weight:1#1 4 queries-per-head exact
              q.weight:1 producer a × b × c
              q.bias:0 affine a × b × c
              out.weight:0 consumer a × b × d
            c = q.weight:1#2 4 head-width exact
              q.weight:1 producer a × b × c
              q.bias:0 affine a × b × c
              k.weight:1 producer a × c
              k.bias:0 affine a × c
            d = v.weight:1#1 4 head-width exact
              v.weight:1 producer a × d
              v.bias:0 affine a × d
              out.weight:0 consumer a × b × d
        "#]],
    );
}

#[test]
fn rotary_halves_are_one_dimension_and_cut_the_tables() {
    check(
        "rotary_attention",
        expect![[r#"
            a = embed.weight:1 32 residual exact
              embed.weight:1 producer a
              embed.bias:0 affine a
              q.weight:0 consumer a
              k.weight:0 consumer a
              v.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = q.weight:1#0 4 heads exact
              q.weight:1 producer b × (c ++ c)
              q.bias:0 affine b × (c ++ c)
              k.weight:1 producer b × (c ++ c)
              k.bias:0 affine b × (c ++ c)
              v.weight:1 producer b × d
              v.bias:0 affine b × d
              out.weight:0 consumer b × d
            c = q.weight:1#1 4 head-width exact
              q.weight:1 producer b × (c ++ c)
              q.bias:0 affine b × (c ++ c)
              k.weight:1 producer b × (c ++ c)
              k.bias:0 affine b × (c ++ c)
              cos:1 affine c ++ c
              sin:1 affine c ++ c
              cos@2:1 affine c ++ c
              sin@2:1 affine c ++ c
            d = v.weight:1#1 8 head-width exact
              v.weight:1 producer b × d
              v.bias:0 affine b × d
              out.weight:0 consumer b × d
        "#]],
    );
}

#[test]
fn pixel_shuffle_and_its_inverse_keep_the_block() {
    check(
        "pixel_shuffle",
        expect![[r#"
            a = 0.0.weight:0 12 channels exact
              0.0.weight:0 producer a
              0.0.weight_bias:0 affine a
              1.weight:1 consumer a
            b = 1.weight:0 8 channels exact
              1.weight:0 producer b × 2 × 2
              1.bias:0 affine b × 2 × 2
              4.weight:1 consumer b
        "#]],
    );
    check(
        "space_to_depth",
        expect![[r#"
            a = 0.0.weight:0 8 channels exact
              0.0.weight:0 producer a
              0.0.weight_bias:0 affine a
              2.0.weight:1 consumer a × 2 × 2
            b = 2.0.weight:0 8 channels exact
              2.0.weight:0 producer b
              2.0.weight_bias:0 affine b
              3.2.weight:1 consumer b
        "#]],
    );
    check(
        "focus_slices",
        expect![[r#"
            a = first.0.weight:0 8 channels exact
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              second.0.weight:1 consumer a ++ a ++ a ++ a
            b = second.0.weight:0 8 channels exact
              second.0.weight:0 producer b
              second.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
    check(
        "patch_merging",
        expect![[r#"
            a = embed.weight:0 8 channels approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:0 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a ++ a ++ a ++ a
              norm.bias:0 affine a ++ a ++ a ++ a
              reduce.weight:0 consumer a ++ a ++ a ++ a
            b = reduce.weight:1 16 features exact
              reduce.weight:1 producer b
              head.weight:1 consumer b
        "#]],
    );
}

#[test]
fn tied_parameters_have_one_group_with_two_uses() {
    check(
        "tied_embeddings",
        expect![[r#"
            a = mlp.0.weight:1 24 features exact
              mlp.0.weight:1 producer a
              mlp.0.bias:0 affine a
              mlp.2.weight:0 consumer a
            b = mlp.2.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              table.weight:1 table b
              mlp.0.weight:0 consumer b
              mlp.2.weight:1 producer b
              mlp.2.bias:0 affine b
              norm.weight:0 affine b
              norm.bias:0 affine b
              val_6:0 consumer b
        "#]],
    );
    check(
        "tied_embeddings_transpose_node",
        expect![[r#"
            a = mlp.0.weight:1 24 features exact
              mlp.0.weight:1 producer a
              mlp.0.bias:0 affine a
              mlp.2.weight:0 consumer a
            b = mlp.2.weight:1 16 features approximate (LayerNormalization: its statistics are taken over it)
              val_6:0 consumer b
              mlp.0.weight:0 consumer b
              mlp.2.weight:1 producer b
              mlp.2.bias:0 affine b
              norm.weight:0 affine b
              norm.bias:0 affine b
        "#]],
    );
    check(
        "tied_autoencoder",
        expect![[r#"
            a = val_0:1 24 features exact
              val_0:1 producer a
              bias:0 affine a
              val_2:0 consumer a
        "#]],
    );
    check(
        "tied_autoencoder_transpose_node",
        expect![[r#"
            a = val_2:0 24 features exact
              val_2:0 consumer a
              bias:0 affine a
        "#]],
    );
    check(
        "tied_linear_twice",
        expect![[r#"
            a = first.weight:1 20 features exact
              first.weight:1 producer a
              first.bias:0 affine a
              shared.weight:0 consumer a
              shared.weight:1 producer a
              shared.bias:0 affine a
              shared.bias@2:0 affine a
              last.weight:0 consumer a
        "#]],
    );
}

#[test]
fn a_gate_that_multiplies_what_it_gates_is_exact() {
    check(
        "squeeze_excite",
        expect![[r#"
            a = first.0.weight:0 16 channels exact
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              down.weight:1 consumer a
              up.weight:0 producer a
              up.bias:0 affine a
              second.0.weight:1 consumer a
            b = down.weight:0 8 channels exact
              down.weight:0 producer b
              down.bias:0 affine b
              up.weight:1 consumer b
            c = second.0.weight:0 8 channels exact
              second.0.weight:0 producer c
              second.0.weight_bias:0 affine c
              head.2.weight:1 consumer c
        "#]],
    );
    check(
        "spatial_attention",
        expect![[r#"
            a = first.0.weight:0 16 channels approximate (ReduceMean: a mean is taken over it; ReduceMax: an extremum is taken over it)
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              second.0.weight:1 consumer a
            b = second.0.weight:0 8 channels exact
              second.0.weight:0 producer b
              second.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
    check(
        "rms_norm_swiglu",
        expect![[r#"
            a = embed.weight:1 20 residual approximate (ReduceMean: a mean is taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              scale:0 affine a
              gate.weight:0 consumer a
              up.weight:0 consumer a
              down.weight:1 producer a
              down.bias:0 affine a
              head.weight:0 consumer a
            b = gate.weight:1 32 features exact
              gate.weight:1 producer b
              gate.bias:0 affine b
              up.weight:1 producer b
              up.bias:0 affine b
              down.weight:0 consumer b
        "#]],
    );
}

#[test]
fn attention_without_softmax_is_approximate_in_its_width() {
    check(
        "linear_attention_elu",
        expect![[r#"
            a = embed.weight:1 16 residual exact
              embed.weight:1 producer a
              embed.bias:0 affine a
              q.weight:0 consumer a
              k.weight:0 consumer a
              v.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = q.weight:1#0 4 heads exact
              q.weight:1 producer b × c
              q.bias:0 affine b × c
              k.weight:1 producer b × c
              k.bias:0 affine b × c
              v.weight:1 producer b × d
              v.bias:0 affine b × d
              out.weight:0 consumer b × d
            c = q.weight:1#1 4 head-width approximate (MatMul, MatMul: it is summed over, and what is removed does not vanish there)
              q.weight:1 producer b × c
              q.bias:0 affine b × c
              k.weight:1 producer b × c
              k.bias:0 affine b × c
            d = v.weight:1#1 4 head-width exact
              v.weight:1 producer b × d
              v.bias:0 affine b × d
              out.weight:0 consumer b × d
        "#]],
    );
    check(
        "channel_attention",
        expect![[r#"
            a = embed.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              qkv.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:0 consumer a
            b = qkv.weight:1 4 heads exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × 4
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × 4
              out.weight:0 consumer b × 4
        "#]],
    );
}

#[test]
fn statistics_over_a_group_make_it_approximate() {
    check(
        "layer_norm_residual",
        expect![[r#"
            a = embed.weight:1 20 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              mlp.0.weight:0 consumer a
              mlp.2.weight:1 producer a
              mlp.2.bias:0 affine a
              head.weight:0 consumer a
            b = mlp.0.weight:1 32 features exact
              mlp.0.weight:1 producer b
              mlp.0.bias:0 affine b
              mlp.2.weight:0 consumer b
        "#]],
    );
    check(
        "layer_norm_decomposed",
        expect![[r#"
            a = embed.weight:1 20 residual approximate (ReduceMean, ReduceMean: a mean is taken over it)
              embed.weight:1 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              mlp.0.weight:0 consumer a
              mlp.2.weight:1 producer a
              mlp.2.bias:0 affine a
              head.weight:0 consumer a
            b = mlp.0.weight:1 32 features exact
              mlp.0.weight:1 producer b
              mlp.0.bias:0 affine b
              mlp.2.weight:0 consumer b
        "#]],
    );
    check(
        "group_norm",
        expect![[r#"
            a = 0.weight:0#0 4 channels exact
              0.weight:0 producer a × b
              0.bias:0 affine a × b
              1.weight:0 affine a
              val_11:0 affine a
              val_20:0 affine a × b
              val_22:0 affine a × b
              3.0.weight:1 consumer a × b
            b = 0.weight:0#1 4 group-channels approximate (InstanceNormalization: its statistics are taken over it)
              0.weight:0 producer a × b
              0.bias:0 affine a × b
              val_20:0 affine a × b
              val_22:0 affine a × b
              3.0.weight:1 consumer a × b
            c = 3.0.weight:0 8 channels exact
              3.0.weight:0 producer c
              3.0.weight_bias:0 affine c
              4.2.weight:1 consumer c
        "#]],
    );
    check(
        "instance_norm",
        expect![[r#"
            a = 0.weight:0 12 channels exact
              0.weight:0 producer a
              0.bias:0 affine a
              1.weight:0 affine a
              1.bias:0 affine a
              3.weight:1 consumer a
            b = 3.weight:0 8 channels exact
              3.weight:0 producer b
              3.bias:0 affine b
              4.2.weight:1 consumer b
        "#]],
    );
    check(
        "convnext_block",
        expect![[r#"
            a = stem.weight:0 16 residual approximate (LayerNormalization: its statistics are taken over it)
              stem.weight:0 producer a
              stem.bias:0 affine a
              depthwise.weight:0 producer a
              depthwise.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              mlp.0.weight:0 consumer a
              mlp.2.weight:1 producer a
              mlp.2.bias:0 affine a
              scale:0 affine a
              head.2.weight:1 consumer a
            b = mlp.0.weight:1 32 features exact
              mlp.0.weight:1 producer b
              mlp.0.bias:0 affine b
              mlp.2.weight:0 consumer b
        "#]],
    );
}

#[test]
fn halves_that_meet_are_one_group() {
    check(
        "chunk_gate",
        expect![[r#"
            a = first.weight:0 12 channels exact
              first.weight:0 producer a ++ a
              first.bias:0 affine a ++ a
              second.0.weight:1 consumer a
            b = second.0.weight:0 8 channels exact
              second.0.weight:0 producer b
              second.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
    check(
        "slice_halves_add",
        expect![[r#"
            a = first.0.weight:0 8 channels exact
              first.0.weight:0 producer a ++ a
              first.0.weight_bias:0 affine a ++ a
              second.0.weight:1 consumer a
            b = second.0.weight:0 8 channels exact
              second.0.weight:0 producer b
              second.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
    check(
        "channel_slice",
        expect![[r#"
            a = first.0.weight:0#0 4 channels exact
              first.0.weight:0 producer a ++ b ++ c
              first.0.weight_bias:0 affine a ++ b ++ c
            b = first.0.weight:0#1 8 channels exact
              first.0.weight:0 producer a ++ b ++ c
              first.0.weight_bias:0 affine a ++ b ++ c
              second.0.weight:1 consumer b
            c = first.0.weight:0#2 4 channels exact
              first.0.weight:0 producer a ++ b ++ c
              first.0.weight_bias:0 affine a ++ b ++ c
            d = second.0.weight:0 8 channels exact
              second.0.weight:0 producer d
              second.0.weight_bias:0 affine d
              head.2.weight:1 consumer d
        "#]],
    );
}

#[test]
fn what_runs_along_channels_pins_them() {
    check(
        "softmax_channels",
        expect![[r#"
            a = first.0.weight:0 12 channels exact
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              middle.weight:1 consumer a
            b = last.0.weight:0 8 channels exact
              last.0.weight:0 producer b
              last.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
    check(
        "cumsum_channels",
        expect![[r#"
            a = first.0.weight:0 12 channels exact
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              middle.weight:1 consumer a
            b = last.0.weight:0 8 channels exact
              last.0.weight:0 producer b
              last.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
}

#[test]
fn torch_pruning_fails_on_these() {
    check(
        "one_channel_residual",
        expect![[r#"
            a = first.0.weight:0 16 channels exact
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              map.weight:1 consumer a
              second.0.weight:1 consumer a
            b = second.0.weight:0 8 channels exact
              second.0.weight:0 producer b
              second.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
    check(
        "roll_spatial",
        expect![[r#"
            a = first.0.weight:0 12 channels exact
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              second.0.weight:1 consumer a
            b = second.0.weight:0 8 channels exact
              second.0.weight:0 producer b
              second.0.weight_bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
    check(
        "parameter_matmul",
        expect![[r#"
            a = up:1 24 features exact
              up:1 producer a
              down:0 consumer a
        "#]],
    );
    check(
        "parameter_einsum",
        expect![[r#"
            a = up:0 4 features exact
              up:0 producer a
              down:0 consumer a
            b = up:2 8 features exact
              up:2 producer b
              down:2 consumer b
        "#]],
    );
    check(
        "instance_norm_running_stats",
        expect![[r#"
            a = 0.weight:0 12 channels exact
              0.weight:0 producer a
              0.bias:0 affine a
              2.weight:0 affine 2 × a
              val_6:0 affine 2 × a
              val_7:0 affine 2 × a
              val_8:0 affine 2 × a
              3.weight:1 consumer a
            b = 3.weight:0 8 channels exact
              3.weight:0 producer b
              3.bias:0 affine b
              4.2.weight:1 consumer b
        "#]],
    );
    check(
        "weight_standardized_conv",
        expect![[r#"
            a = first.0.weight:0 12 channels exact
              first.0.weight:0 producer a
              first.0.weight_bias:0 affine a
              view_1:1 consumer a
            b = view_1:0 8 channels exact
              view_1:0 producer b
              bias:0 affine b
              head.2.weight:1 consumer b
        "#]],
    );
}

#[test]
fn token_mixing_weights_are_pinned_by_the_tokens() {
    check(
        "mlp_mixer",
        expect![[r#"
            a = embed.weight:1 20 residual exact
              embed.weight:1 producer a
              embed.bias:0 affine a
              channels.0.weight:0 consumer a
              channels.2.weight:1 producer a
              channels.2.bias:0 affine a
              head.weight:0 consumer a
            b = tokens.0.weight:1 12 features exact
              tokens.0.weight:1 producer b
              tokens.0.bias:0 affine b
              tokens.2.weight:0 consumer b
            c = channels.0.weight:1 32 features exact
              channels.0.weight:1 producer c
              channels.0.bias:0 affine c
              channels.2.weight:0 consumer c
        "#]],
    );
    check(
        "window_attention",
        expect![[r#"
            a = embed.weight:0 16 residual approximate (LayerNormalization: its statistics are taken over it)
              embed.weight:0 producer a
              embed.bias:0 affine a
              norm.weight:0 affine a
              norm.bias:0 affine a
              qkv.weight:0 consumer a
              out.weight:1 producer a
              out.bias:0 affine a
              head.weight:1 consumer a
            b = qkv.weight:1#0 4 heads exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              bias:0 affine b
              out.weight:0 consumer b × c
            c = qkv.weight:1#1 4 head-width exact
              qkv.weight:1 producer (1 ++ 1 ++ 1) × b × c
              qkv.bias:0 affine (1 ++ 1 ++ 1) × b × c
              out.weight:0 consumer b × c
        "#]],
    );
}

#[test]
fn other_layers() {
    check(
        "embedding_positions",
        expect![[r#"
            a = mlp.0.weight:1 24 features exact
              mlp.0.weight:1 producer a
              mlp.0.bias:0 affine a
              mlp.2.weight:0 consumer a
            b = mlp.2.weight:1 16 residual approximate (LayerNormalization: its statistics are taken over it)
              words.weight:1 table b
              embedding_1:1 affine b
              norm.weight:0 affine b
              norm.bias:0 affine b
              mlp.0.weight:0 consumer b
              mlp.2.weight:1 producer b
              mlp.2.bias:0 affine b
              head.weight:1 consumer b
        "#]],
    );
    check(
        "conv1d",
        expect![[r#"
            a = 0.weight:0 16 channels exact
              0.weight:0 producer a
              0.bias:0 affine a
              3.weight:1 consumer a
            b = 3.weight:0 8 channels exact
              3.weight:0 producer b
              3.bias:0 affine b
              6.weight:1 consumer b × 11
        "#]],
    );
    check(
        "conv3d",
        expect![[r#"
            a = 0.weight:0 8 channels exact
              0.weight:0 producer a
              0.bias:0 affine a
              4.weight:1 consumer a
            b = 4.weight:0 8 channels exact
              4.weight:0 producer b
              4.bias:0 affine b
              6.weight:1 consumer b × 2
        "#]],
    );
    check(
        "transposed_conv",
        expect![[r#"
            a = 0.0.weight:0 12 channels exact
              0.0.weight:0 producer a
              0.0.weight_bias:0 affine a
              1.weight:0 consumer a
            b = 1.weight:1 10 channels exact
              1.weight:1 producer b
              1.bias:0 affine b
              3.weight:1 consumer b
        "#]],
    );
    check(
        "pools",
        expect![[r#"
            a = a.0.weight:0 12 channels exact
              a.0.weight:0 producer a
              a.0.weight_bias:0 affine a
              b.0.weight:1 consumer a
            b = b.0.weight:0 10 channels exact
              b.0.weight:0 producer b
              b.0.weight_bias:0 affine b
              c.0.weight:1 consumer b
            c = c.0.weight:0 8 channels exact
              c.0.weight:0 producer c
              c.0.weight_bias:0 affine c
              head.2.weight:1 consumer c ++ c
        "#]],
    );
    check(
        "unet_resize_concat",
        expect![[r#"
            a = down1.0.weight:0 8 channels exact
              down1.0.weight:0 producer a
              down1.0.weight_bias:0 affine a
              down2.0.weight:1 consumer a
              up.0.weight:1 consumer b ++ a
            b = down2.0.weight:0 12 channels exact
              down2.0.weight:0 producer b
              down2.0.weight_bias:0 affine b
              up.0.weight:1 consumer b ++ a
            c = up.0.weight:0 8 channels exact
              up.0.weight:0 producer c
              up.0.weight_bias:0 affine c
              out.weight:1 consumer c
        "#]],
    );
    check(
        "two_heads",
        expect![[r#"
            a = trunk.0.weight:0 16 channels exact
              trunk.0.weight:0 producer a
              trunk.0.weight_bias:0 affine a
              boxes.0.weight:1 consumer a
              classes.0.weight:1 consumer a
            b = boxes.0.weight:0 8 channels exact
              boxes.0.weight:0 producer b
              boxes.0.weight_bias:0 affine b
              box.weight:1 consumer b
            c = classes.0.weight:0 8 channels exact
              classes.0.weight:0 producer c
              classes.0.weight_bias:0 affine c
              label.weight:1 consumer c
        "#]],
    );
    check(
        "activations",
        expect![[r#"
            a = convs.0.weight:0 8 channels exact
              convs.0.weight:0 producer a
              convs.0.bias:0 affine a
              convs.1.weight:1 consumer a
            b = convs.1.weight:0 8 channels exact
              convs.1.weight:0 producer b
              convs.1.bias:0 affine b
              convs.2.weight:1 consumer b
            c = convs.2.weight:0 8 channels exact
              convs.2.weight:0 producer c
              convs.2.bias:0 affine c
              convs.3.weight:1 consumer c
            d = convs.3.weight:0 8 channels exact
              convs.3.weight:0 producer d
              convs.3.bias:0 affine d
              convs.4.weight:1 consumer d
            e = convs.4.weight:0 8 channels exact
              convs.4.weight:0 producer e
              convs.4.bias:0 affine e
              convs.5.weight:1 consumer e
            f = convs.5.weight:0 8 channels exact
              convs.5.weight:0 producer f
              convs.5.bias:0 affine f
              prelu.weight:1 affine f
              convs.6.weight:1 consumer f
            g = convs.6.weight:0 8 channels exact
              convs.6.weight:0 producer g
              convs.6.bias:0 affine g
              convs.7.weight:1 consumer g
            h = convs.7.weight:0 8 channels exact
              convs.7.weight:0 producer h
              convs.7.bias:0 affine h
              head.2.weight:1 consumer h
        "#]],
    );
    check(
        "gemm_plain",
        expect![[r#"
            a = weight1:1 24 features exact
              weight1:1 producer a
              bias1:0 affine a
              weight2:0 consumer a
        "#]],
    );
    check(
        "gemm_transposed",
        expect![[r#"
            a = 0.weight:0 24 features exact
              0.weight:0 producer a
              0.bias:0 affine a
              2.weight:1 consumer a
        "#]],
    );
}

#[test]
fn storage_does_not_matter() {
    check(
        "small_cnn_opset9",
        expect![[r#"
            a = stem.0.weight:0 12 residual exact
              stem.0.weight:0 producer a
              onnx::Conv_41:0 affine a
              block.conv1.0.weight:1 consumer a
              block.conv2.0.weight:0 producer a
              onnx::Conv_47:0 affine a
              head.weight:1 consumer a × 4 × 4
            b = block.conv1.0.weight:0 12 channels exact
              block.conv1.0.weight:0 producer b
              onnx::Conv_44:0 affine b
              block.conv2.0.weight:1 consumer b
        "#]],
    );
    check(
        "weights_constant_nodes",
        expect![[r#"
            a = stem.0.weight:0 12 residual exact
              stem.0.weight:0 producer a
              stem.0.weight_bias:0 affine a
              block.conv1.0.weight:1 consumer a
              block.conv2.0.weight:0 producer a
              block.conv2.0.weight_bias:0 affine a
              head.weight:1 consumer a × 4 × 4
            b = block.conv1.0.weight:0 12 channels exact
              block.conv1.0.weight:0 producer b
              block.conv1.0.weight_bias:0 affine b
              block.conv2.0.weight:1 consumer b
        "#]],
    );
    check(
        "weights_behind_identity",
        expect![[r#"
            a = stem.0.weight_stored:0 12 residual exact
              stem.0.weight_stored:0 producer a
              block.conv1.0.weight_stored:1 consumer a
              block.conv2.0.weight_stored:0 producer a
              head.weight_stored:1 consumer a × 4 × 4
              stem.0.weight_bias_stored:0 affine a
              block.conv2.0.weight_bias_stored:0 affine a
            b = block.conv1.0.weight_stored:0 12 channels exact
              block.conv1.0.weight_stored:0 producer b
              block.conv2.0.weight_stored:1 consumer b
              block.conv1.0.weight_bias_stored:0 affine b
        "#]],
    );
    check(
        "weights_bfloat16",
        expect![[r#"
            a = stem.0.weight_bf16:0 12 residual exact
              stem.0.weight_bf16:0 producer a
              block.conv1.0.weight_bf16:1 consumer a
              block.conv2.0.weight_bf16:0 producer a
              head.weight_bf16:1 consumer a × 4 × 4
              stem.0.weight_bias_bf16:0 affine a
              block.conv2.0.weight_bias_bf16:0 affine a
            b = block.conv1.0.weight_bf16:0 12 channels exact
              block.conv1.0.weight_bf16:0 producer b
              block.conv2.0.weight_bf16:1 consumer b
              block.conv1.0.weight_bias_bf16:0 affine b
        "#]],
    );
    check(
        "weights_shared",
        expect![[r#"
            a = layers.0.weight:1 24 features exact
              layers.0.weight:1 producer a
              layers.0.bias@2:0 affine a
              layers.2.weight:0 consumer a
            b = layers.2.weight:1 24 features exact
              layers.0.bias:0 affine b
              layers.2.weight:1 producer b
              layers.4.weight:0 consumer b
        "#]],
    );
    check(
        "weights_shared_directly",
        expect![[r#"
            a = layers.0.weight:1 24 features exact
              layers.0.weight:1 producer a
              layers.0.bias:0 affine a
              layers.2.weight:0 consumer a
            b = layers.2.weight:1 24 features exact
              layers.2.weight:1 producer b
              layers.0.bias@2:0 affine b
              layers.4.weight:0 consumer b
        "#]],
    );
}

#[test]
fn the_gates_of_a_recurrent_layer_are_tied_to_its_input_from_the_last_step() {
    check(
        "gru",
        expect![[r#"
            a = embed.weight:1 12 features exact
              embed.weight:1 producer a
              embed.bias:0 affine a
              rnn.weight:2 consumer a
            b = rnn.weight:1 10 features exact
              rnn.weight:1 producer 3 × b
              val_29:1 producer 3 × b
              val_29:2 consumer b
              val_45:1 affine 2 × 3 × b
              val_11:2 affine b
              head.0.weight:0 consumer b
            c = head.0.weight:1 8 features exact
              head.0.weight:1 producer c
              head.0.bias:0 affine c
              head.2.weight:0 consumer c
        "#]],
    );
    check(
        "lstm_stack",
        expect![[r#"
            a = embed.weight:1 12 features exact
              embed.weight:1 producer a
              embed.bias:0 affine a
              rnn.weight:2 consumer a
            b = rnn.weight:1 10 features exact
              rnn.weight:1 producer 4 × b
              val_112:1 producer 4 × b
              val_112:2 consumer b
              val_113:1 affine 2 × 4 × b
              val_18:2 affine b
              val_18@2:2 affine b
              val_221:2 consumer 2 × b
            c = val_221:1 10 features exact
              val_221:1 producer 4 × c
              val_222:1 producer 4 × c
              val_222:2 consumer c
              val_223:1 affine 2 × 4 × c
              val_18@3:2 affine c
              val_18@4:2 affine c
              head.0.weight:0 consumer 2 × c
            d = head.0.weight:1 8 features exact
              head.0.weight:1 producer d
              head.0.bias:0 affine d
              head.2.weight:0 consumer d
        "#]],
    );
    check(
        "rnn_sigmoid",
        expect![[r#"
        a = embed.weight:1 10 features exact
          embed.weight:1 producer a
          embed.bias:0 affine a
          w:2 consumer a
        b = w:1 8 features approximate (MatMul: it is summed over, and what is removed does not vanish there)
          w:1 producer b
          r:1 producer b
          r:2 consumer b
          b:1 affine 2 × b
          head.weight:0 consumer b
    "#]],
    );
}

#[test]
fn fused_attention_has_heads_and_head_widths() {
    check(
        "ort_llama",
        expect![[r#"
        a = embed.weight:1 16 residual approximate (SimplifiedLayerNormalization, SkipSimplifiedLayerNormalization: its statistics are taken over it)
          embed.weight:1 producer a
          embed.bias:0 affine a
          scale0:0 affine a
          q:0 consumer a
          k:0 consumer a
          v:0 consumer a
          out:1 producer a
          scale1:0 affine a
          gate:0 consumer a
          up:0 consumer a
          down:1 producer a
          head.weight:0 consumer a
        b = q:1#0 4 heads exact
          q:1 producer b × (c ++ c ++ d)
          k:1 producer b × (c ++ c ++ d)
          v:1 producer b × e
          out:0 consumer b × e
        c = q:1#1 4 head-width exact
          q:1 producer b × (c ++ c ++ d)
          k:1 producer b × (c ++ c ++ d)
          cos:1 table c
          sin:1 table c
        d = q:1#2 2 head-width exact
          q:1 producer b × (c ++ c ++ d)
          k:1 producer b × (c ++ c ++ d)
        e = v:1#1 10 head-width exact
          v:1 producer b × e
          out:0 consumer b × e
        f = gate:1 20 features exact
          gate:1 producer f
          up:1 producer f
          down:0 consumer f
    "#]],
    );
    check(
        "ort_attention_past",
        expect![[r#"
        a = embed.weight:1 16 features exact
          embed.weight:1 producer a
          embed.bias:0 affine a
          qkv:0 consumer a
        b = up.weight:1 20 features exact
          up.weight:1 producer b
          up.bias:0 affine b
          down.weight:0 consumer b
    "#]],
    );
    check(
        "attention_cache_opset23",
        expect![[r#"
        a = embed.weight:1 16 features exact
          embed.weight:1 producer a
          embed.bias:0 affine a
          q:0 consumer a
          k:0 consumer a
          v:0 consumer a
        b = q:1 3 heads exact
          q:1 producer 2 × b × 8
          bias:0 consumer 2 × b
          head.weight:0 consumer 2 × b × 6
    "#]],
    );
}

#[test]
fn a_layer_that_is_called_again_stays_one_layer() {
    check(
        "shared_layer",
        expect![[r#"
        a = onnx::MatMul_41:1 12 residual exact
          onnx::MatMul_41:1 producer a
          onnx::MatMul_40:0 consumer a
          a.weight:1 producer a
          a.bias:0 affine a
          down.bias:0 affine a
          down.bias@2:0 affine a
          down.bias@3:0 affine a
          b.weight:0 consumer a
        b = onnx::MatMul_40:1 20 features exact
          onnx::MatMul_41:0 consumer b
          onnx::MatMul_40:1 producer b
          up.bias:0 affine b
          up.bias@2:0 affine b
          up.bias@3:0 affine b
    "#]],
    );
}

#[test]
fn what_is_counted_from_data_is_followed() {
    check(
        "counted_boxes",
        expect![[r#"
        a = stem.0.0.weight:0 8 channels exact
          stem.0.0.weight:0 producer a
          onnx::Conv_208:0 affine a
          stem.1.0.weight:1 consumer a
        b = stem.1.0.weight:0 6 channels exact
          stem.1.0.weight:0 producer b
          onnx::Conv_211:0 affine b
          scores.weight:1 consumer b
          hidden.weight:1 consumer b × 3 × 3
        c = hidden.weight:0 12 features exact
          hidden.weight:0 producer c
          hidden.bias:0 affine c
          classes.weight:1 consumer c
    "#]],
    );
    check(
        "counted_tokens",
        expect![[r#"
        a = embed.weight:1 12 features exact
          embed.weight:1 producer a
          embed.bias:0 affine a
          mix.weight:1 consumer a
        b = mix.weight:0#0 2 features exact
          mix.weight:0 producer b × c
          mix.bias:0 affine b × c
          head.weight:1 consumer b × c
        c = mix.weight:0#1 4 group-channels exact
          mix.weight:0 producer b × c
          mix.bias:0 affine b × c
          head.weight:1 consumer b × c
    "#]],
    );
}

/// The two exporters of PyTorch spell a model differently, and it is cut alike.
#[test]
fn both_exporters_give_the_same_groups() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix("_legacy.onnx")?.to_string())).collect();
    names.sort();
    let mut differ = String::new();
    for name in names {
        let [dynamo, legacy] = [name.clone(), format!("{name}_legacy")].map(|name| outline(&name));
        if dynamo != legacy {
            differ += &format!(
                "{name}\n  dynamo: {}\n  legacy: {}\n",
                dynamo.join(", "),
                legacy.join(", ")
            );
        }
    }
    expect![[r#"
        weight_standardized_conv
          dynamo: 12 channels, 8 channels
          legacy: 12 channels approximate, 8 channels
    "#]]
    .assert_eq(&differ);
}

fn outline(fixture: &str) -> Vec<String> {
    let model = open(fixture);
    let exact = |group: &Group| if group.is_exact() { "" } else { " approximate" };
    let groups = model.groups().iter();
    let mut all: Vec<String> =
        groups.map(|(_, group)| format!("{} {}{}", group.size, group.kind, exact(group))).collect();
    all.sort();
    all
}
