use expect_test::{Expect, expect};

use super::*;
use crate::analysis::Analysis;
use crate::group::Groups;
use crate::text;

fn read(model: &str) -> Result<Imported> {
    let file = OnnxFile::parse(text::encode(model).into(), "text".as_ref())?;
    import(&file, &Hints::new())
}

/// The nodes with the shapes of their results, the groups, why other parameter axes are pinned, and
/// the warnings.
#[allow(clippy::needless_pass_by_value)]
fn check(model: &str, graph: Expect) {
    graph.assert_eq(&show(&read(model).unwrap().graph));
}

#[allow(clippy::needless_pass_by_value)]
fn check_refused(model: &str, error: Expect) {
    error.assert_eq(&read(model).unwrap_err().to_string());
}

fn show(graph: &Graph) -> String {
    let mut lines = Vec::new();
    for node in &graph.nodes {
        let shape = |&id: &ValueId| match &graph.value(id).shape {
            None => "?".to_string(),
            Some(shape) => {
                let sizes: Vec<String> = shape.iter().map(|e| e.size.to_string()).collect();
                sizes.join("x")
            }
        };
        let shapes: Vec<String> = node.outputs.iter().map(shape).collect();
        lines.push(format!("{} {} {}", node.name, node.kind, shapes.join(", ")));
    }
    let analysis = Analysis::new(graph);
    let groups = Groups::new(graph, &analysis);
    lines.extend(groups.iter().map(|(_, group)| format!("group {} {}", group.name, group.size)));
    for id in graph.param_ids() {
        for (axis, &of) in analysis.value(graph.param(id).value).iter().enumerate() {
            let pins = analysis.axes.atoms(of).into_iter().filter_map(|a| analysis.axes.pinned(a));
            let name = &graph.param(id).name;
            lines.extend(pins.map(|pin| format!("{name}:{axis} pinned: {}", pin.reason)));
        }
    }
    lines.extend(graph.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}

#[test]
fn nodes_may_stand_in_any_order() {
    let model = "x: 2x8\nw = 8x6\nu = 6x3\nz = MatMul(h, u)\nh = Relu(y)\ny = MatMul(x, w)\n-> z";
    check(
        model,
        expect![[r#"
        y MatMul 2x6
        h Relu 2x6
        z MatMul 2x3
        group w:1 6
        w:0 pinned: it is an input of the model
        u:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn names_that_nothing_makes_are_refused() {
    check_refused(
        "x: 2x8\ny = Add(x, b)\n-> y",
        expect!["node `y` reads `b`, which nothing makes"],
    );
    check_refused("x: 2x8\ny = Relu(x)\n-> z", expect!["the output `z` is made by no node"]);
}

#[test]
fn cycles_are_refused() {
    check_refused(
        "x: 2x8\na = Add(x, b)\nb = Relu(a)\n-> b",
        expect!["node `a` is part of a cycle"],
    );
}

#[test]
fn names_that_are_defined_twice_are_refused() {
    check_refused(
        "x: 2x8\ny = Relu(x)\ny = Tanh(x)\n-> y",
        expect!["the name `y` is defined twice"],
    );
    check_refused(
        "x: 2x8\nw = 8\nw = 8\ny = Add(x, w)\n-> y",
        expect!["the name `w` is defined twice"],
    );
    check_refused("x: 2x8\nw = 8\nw = Relu(x)\n-> w", expect!["the name `w` is defined twice"]);
    check_refused("x: 2x8\nx: 2x8\ny = Relu(x)\n-> y", expect!["the name `x` is defined twice"]);
}

#[test]
fn unknown_operators_pin_what_they_touch_with_one_warning_per_kind() {
    let model = "x: 2x8\nw = 8x6\na = MatMul(x, w)\nb = Frobnicate(a)\nc = Frobnicate(x)\n\
        d = my.domain::Relu(x)\ne = Relu(d)\n-> b c e";
    check(
        model,
        expect![[r#"
            a MatMul 2x6
            b Frobnicate ?
            c Frobnicate ?
            d Relu ?
            e Relu ?
            w:0 pinned: it is an input of the model
            w:1 pinned: an opaque operator reads or makes it
            warning: operator `Frobnicate` is unknown: what it touches is left as it is (first at node `b`)
            warning: operator `my.domain::Relu` is unknown: what it touches is left as it is (first at node `d`)
            warning: 1 nodes behind these are left as they are: the shapes of what they read are not known"#]],
    );
}

#[test]
fn the_rest_of_a_model_with_an_unknown_operator_is_followed() {
    let model =
        "x: 2x8\nw = 8x6\nu = 6x5\na = MatMul(x, w)\nb = MatMul(a, u)\nc = Frobnicate(b)\n-> c";
    check(
        model,
        expect![[r#"
        a MatMul 2x6
        b MatMul 2x5
        c Frobnicate ?
        group w:1 6
        w:0 pinned: it is an input of the model
        u:1 pinned: an opaque operator reads or makes it
        warning: operator `Frobnicate` is unknown: what it touches is left as it is (first at node `c`)"#]],
    );
}

#[test]
fn what_a_subgraph_reads_is_pinned() {
    let model = "x: 2x8\nc: bool scalar\nw = 8x6\nu = 6x3\na = MatMul(x, w)\nb = Relu(a)\n\
        y = If(c) then_branch={a} else_branch={b}\nz = MatMul(a, u)\n-> y z";
    check(
        model,
        expect![[r#"
        a MatMul 2x6
        b Relu 2x6
        y If ?
        z MatMul 2x3
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        u:0 pinned: an opaque operator reads or makes it
        u:1 pinned: it is an output of the model
        warning: operator `If` is unknown: what it touches is left as it is (first at node `y`)"#]],
    );
}

#[test]
fn constants_may_be_outputs() {
    let model = "x: 2x8\nw = 8x6\ns = i64[1, 2]\nt = Shape(x)\ny = MatMul(x, w)\nv = Identity(w)\n-> y v s t w";
    check(
        model,
        expect![[r#"
        y MatMul 2x6
        v Identity 8x6
        w:0 pinned: it is an input of the model
        w:1 pinned: it is an output of the model
        s:0 pinned: it is an output of the model"#]],
    );
}

#[test]
fn sizes_are_evaluated_and_their_nodes_go_away() {
    let model = "x: 2x6x16\nw = 16x12\na = MatMul(x, w)\ns = Shape(a)\ni = i64(1)\nn = Gather(s, i)\n\
        z = i64[0]\nm = Unsqueeze(n, z)\nh = i64[2, -1, 4]\nd = Concat(m, h) axis=0\n\
        b = Reshape(a, d)\n-> b";
    check(
        model,
        expect![[r#"
        a MatMul 2x6x12
        b Reshape 6x2x3x4
        w:0 pinned: it is an input of the model
        w:1 pinned: it is an output of the model
        w:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn stored_vectors_that_several_nodes_read_are_separate_parameters() {
    let model = "x: 2x8\nw = 8x6\nu = 6x6\nv = 6x3\nb = 6\na = MatMul(x, w)\nc = Add(a, b)\n\
        d = MatMul(c, u)\ne = Add(d, b)\nf = MatMul(e, v)\n-> f";
    check(
        model,
        expect![[r#"
        a MatMul 2x6
        c Add 2x6
        d MatMul 2x6
        e Add 2x6
        f MatMul 2x3
        group w:1 6
        group u:1 6
        w:0 pinned: it is an input of the model
        v:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn a_stored_matrix_that_several_nodes_read_is_one_parameter() {
    let model =
        "x: 2x8\nw = 8x8\nu = 8x3\na = MatMul(x, w)\nb = MatMul(a, w)\nc = MatMul(b, u)\n-> c";
    check(
        model,
        expect![[r#"
        a MatMul 2x8
        b MatMul 2x8
        c MatMul 2x3
        w:0 pinned: it is an input of the model
        w:1 pinned: it is an input of the model
        u:0 pinned: it is an input of the model
        u:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn results_that_are_not_followed_leave_the_node_opaque() {
    let model = "x: 2x8x4x4\ny, m = BatchNormalization(x, s, s, s, s)\ns = 8\n-> y m";
    check(
        model,
        expect![[r#"
        y BatchNormalization ?, ?
        s:0 pinned: an opaque operator reads or makes it
        s@2:0 pinned: an opaque operator reads or makes it
        s@3:0 pinned: an opaque operator reads or makes it
        s@4:0 pinned: an opaque operator reads or makes it
        warning: operator `BatchNormalization` is left as it is: the result `m` (first at node `y`)"#]],
    );
}

#[test]
fn known_operators_are_sorted_and_named_once() {
    let names = known_operators();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
    let entries = TABLES.iter().map(|table| table.len()).sum::<usize>();
    assert_eq!(names.len(), entries, "an operator is in two tables");
}

#[test]
fn opsets_with_other_broadcasting_are_refused() {
    let model = |opset| format!("opset {opset}\nx: 2x8\ny = Relu(x)\n-> y");
    check_refused(&model(6), expect!["opset 6 is older than 7, the oldest that can be read"]);
    for opset in [7, 23] {
        assert!(read(&model(opset)).unwrap().graph.warnings.is_empty());
    }
    check(
        &model(24),
        expect![[r#"
        y Relu 2x8
        warning: opset 24 is newer than 23: operators are read as those of opset 23"#]],
    );
}
