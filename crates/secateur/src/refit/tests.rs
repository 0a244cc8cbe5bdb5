use expect_test::{Expect, expect};

use crate::group::Keeps;
use crate::{Model, text};

/// Cuts groups to their first indices; shows the groups that there are, and what follows in nodes
/// and constants. The written model must read as it was planned.
#[allow(clippy::needless_pass_by_value)]
fn check(graph: &str, sizes: &[(&str, u32)], changes: Expect) {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("in.onnx"), dir.path().join("out.onnx"));
    std::fs::write(&path, text::encode(graph)).unwrap();
    let model = Model::open(&path, &Default::default()).unwrap();
    assert_eq!(model.graph().warnings, [""; 0]);
    let groups: Vec<String> =
        model.groups().iter().map(|(_, group)| format!("{} {}", group.name, group.size)).collect();
    let mut keeps = Keeps::new();
    for &(name, size) in sizes {
        let (id, _) = model.groups().iter().find(|(_, group)| group.name == name).unwrap();
        keeps.insert(id, (0..size).collect());
    }
    let plan = model.plan(&keeps).unwrap();
    let mut lines = vec![format!("groups: {}", groups.join(", "))];
    let nodes = plan.nodes.iter();
    lines.extend(nodes.map(|node| format!("{} {}: {:?}", node.node, node.change, node.values)));
    model.write_pruned(&keeps, &out, &mut |_| ()).unwrap();
    let after = Model::open(&out, &Default::default()).unwrap();
    for (old, new) in model.graph().outputs.iter().zip(&after.graph().outputs) {
        assert_eq!(model.graph().shape(*old), after.graph().shape(*new));
    }
    changes.assert_eq(&lines.join("\n"));
}

#[test]
fn a_reshape_target_follows_where_it_stands() {
    let model = "x: 2x8\nw = 8x12\nu = 12x3\na = MatMul(x, w)\ns = i64[2, 3, 4]\nb = Reshape(a, s)\n\
        t = i64[2, -1]\nc = Reshape(b, t)\nd = MatMul(c, u)\n-> d";
    check(
        model,
        &[("w:1#0", 2), ("w:1#1", 3)],
        expect![[r#"
        groups: w:1#0 3, w:1#1 4
        s value: [2.0, 2.0, 3.0]"#]],
    );
    check(
        model,
        &[("w:1#1", 3)],
        expect![[r#"
        groups: w:1#0 3, w:1#1 4
        s value: [2.0, 3.0, 3.0]"#]],
    );
    check(model, &[], expect!["groups: w:1#0 3, w:1#1 4"]);
}

#[test]
fn a_literal_that_two_nodes_share_parts_where_they_differ() {
    let model = "x: 2x8\nw = 8x12\nv = 8x12\nu = 12x3\nt = 12x3\ns = i64[2, 3, 4]\nf = i64[2, 12]\n\
        a = MatMul(x, w)\nb = Reshape(a, s)\nc = Relu(b)\nd = Reshape(c, f)\ne = MatMul(d, u)\n\
        g = MatMul(x, v)\nh = Reshape(g, s)\ni = Relu(h)\nj = Reshape(i, f)\nk = MatMul(j, t)\n-> e k";
    check(
        model,
        &[("w:1#0", 2), ("v:1#1", 3)],
        expect![[r#"
        groups: w:1#0 3, w:1#1 4, v:1#0 3, v:1#1 4
        s value: [2.0, 2.0, 3.0]
        f value: [2.0, 8.0]
        b input 1: [2.0, 2.0, 4.0]
        h input 1: [2.0, 3.0, 3.0]
        j input 1: [2.0, 9.0]"#]],
    );
    check(
        model,
        &[("w:1#0", 2)],
        expect![[r#"
        groups: w:1#0 3, w:1#1 4, v:1#0 3, v:1#1 4
        s value: [2.0, 2.0, 4.0]
        f value: [2.0, 8.0]
        h input 1: [2.0, 3.0, 4.0]
        j input 1: [2.0, 12.0]"#]],
    );
}

#[test]
fn attributes_follow() {
    let model = "x: 1x3x4x4\nw = 8x3x1x1\nv = 12x2x1x1\nu = 3x12x1x1\n\
        a = Conv(x, w)\nb = Conv(a, v) group=4\nc = Conv(b, u)\n-> c";
    check(
        model,
        &[("w:0#0", 3)],
        expect![[r#"
        groups: w:0#0 4, w:0#1 2, v:0#1 3
        b attribute group: [3.0]"#]],
    );
    let old = "opset 11\nx: 2x8\nw = 8x12\nu = 7x3\nv = 5x3\na = MatMul(x, w)\n\
        b, c = Split(a) axis=1 split=[7,5]\nd = MatMul(b, u)\ne = MatMul(c, v)\n-> d e";
    check(
        old,
        &[("w:1#0", 4), ("w:1#1", 2)],
        expect![[r#"
        groups: w:1#0 7, w:1#1 5
        b attribute split: [4.0, 2.0]"#]],
    );
    let slice = "opset 9\nx: 2x8\nw = 8x12\nu = 7x3\na = MatMul(x, w)\n\
        b = Slice(a) axes=[1] starts=[2] ends=[-3]\nd = MatMul(b, u)\n-> d";
    check(
        slice,
        &[("w:1#0", 1), ("w:1#1", 4), ("w:1#2", 2)],
        expect![[r#"
        groups: w:1#0 2, w:1#1 7, w:1#2 3
        b attribute ends: [-2.0]
        b attribute starts: [1.0]"#]],
    );
}

#[test]
fn sizes_computed_from_dimensions_follow_by_themselves() {
    let model = "x: nx6x8\nw = 8x12\nu = 12x3\na = MatMul(x, w)\ns = Shape(a)\nb = Transpose(a) perm=[0,2,1]\n\
        z = i64[0]\ny = i64[1]\nt = i64[2]\nm = i64[3]\nbatch = Slice(s, z, y)\n\
        width = Slice(s, t, m)\nshape = Concat(batch, width, z) axis=0\nc = Reshape(b, shape)\n\
        d = Transpose(c) perm=[0,2,1]\ne = MatMul(d, u)\n-> e";
    check(model, &[("w:1", 5)], expect!["groups: w:1 12"]);
}

#[test]
fn a_factor_of_a_computed_size_is_solved_for() {
    let model = "x: nx6x8\nw = 8x12\nu = 12x3\na = MatMul(x, w)\ns = Shape(a)\nz = i64[0]\ny = i64[1]\n\
        batch = Slice(s, z, y)\nheads = i64[4]\nb = Transpose(a) perm=[0,2,1]\n\
        four = i64[0, 4, 3, 6]\nb2 = Reshape(b, four)\nmerged = Mul(batch, heads)\n\
        shape = Concat(merged, m, k) axis=0\nm = i64[3]\nk = i64[6]\nc = Reshape(b2, shape)\n\
        parted = Concat(batch, heads, m, k) axis=0\nd = Reshape(c, parted)\nflat = i64[0, -1, 6]\n\
        e = Reshape(d, flat)\nf = Transpose(e) perm=[0,2,1]\ng = MatMul(f, u)\n-> g";
    check(
        model,
        &[("w:1#0", 2)],
        expect![[r#"
        groups: w:1#0 4, w:1#1 3
        heads value: [2.0]
        four value: [0.0, 2.0, 3.0, 6.0]"#]],
    );
    check(
        model,
        &[("w:1#1", 2)],
        expect![[r#"
        groups: w:1#0 4, w:1#1 3
        four value: [0.0, 4.0, 2.0, 6.0]
        m value: [2.0]"#]],
    );
}

#[test]
fn a_scale_computed_from_a_width_is_held() {
    let model = "x: 2x6x8\nw = 8x12\nv = 8x12\na = MatMul(x, w)\nb = MatMul(x, v)\ns = Shape(a)\n\
        i = i64(2)\nn = Gather(s, i)\nf = Cast(n) to=1\nr = Sqrt(f)\nq = Div(a, r)\n\
        t = Transpose(b) perm=[0,2,1]\nc = MatMul(q, t)\n-> c";
    check(
        model,
        &[("w:1", 4)],
        expect![[r#"
        groups: w:1 12
        q input 1: [3.4641016151377544]"#]],
    );
}

#[test]
fn what_cannot_follow_is_pinned() {
    let model = "x: nx8\nw = 8x12\nu = 12x3\na = MatMul(x, w)\ns = Shape(a)\nz = i64[0]\no = i64[1]\n\
        t = i64[2]\nbatch = Slice(s, z, o)\nwidth = Slice(s, o, t)\nleast = i64[12]\n\
        large = Max(width, least)\nshape = Concat(batch, large) axis=0\nf = ConstantOfShape(shape)\n\
        b = Add(a, f)\nc = MatMul(b, u)\n-> c";
    check(model, &[], expect!["groups: "]);
    let follows = model.replace("large = Max(width, least)", "large = Identity(width)");
    check(&follows, &[("w:1", 5)], expect!["groups: w:1 12"]);
}

#[test]
fn a_size_that_is_read_as_data_is_pinned() {
    let model =
        "x: 2x8\nw = 8x12\nu = 12x3\na = MatMul(x, w)\nl = Shape(a)\nm = MatMul(a, u)\n-> m l";
    check(model, &[], expect!["groups: "]);
}

/// A reshape whose axis is pinned and whose target is a dimension that is not: pinning the axis
/// again does not help.
#[test]
fn a_pinned_axis_pins_the_free_dimension_that_spells_it() {
    let model = "x: nxtx8\ny: nxtx12\nw = 8x12\nu = 12x3\na = MatMul(x, w)\ns = Shape(a)\n\
        p = Transpose(y) perm=[1,0,2]\nr = Reshape(p, s)\nc = MatMul(a, u)\n-> r c";
    check(model, &[], expect!["groups: "]);
}
