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
fn what_a_loop_reads_is_pinned() {
    let model = "x: 2x8\nn: i64 scalar\nc: bool scalar\nw = 8x6\nu = 6x3\na = MatMul(x, w)\nb = Relu(a)\n\
        y = Loop(n, c) body={c b}\nz = MatMul(a, u)\n-> y z";
    check(
        model,
        expect![[r#"
            a MatMul 2x6
            b Relu 2x6
            y Loop ?
            z MatMul 2x3
            w:0 pinned: it is an input of the model
            w:1 pinned: an opaque operator reads or makes it
            u:0 pinned: an opaque operator reads or makes it
            u:1 pinned: it is an output of the model
            warning: operator `Loop` is unknown: what it touches is left as it is (first at node `y`)"#]],
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
    for opset in [7, 24] {
        assert!(read(&model(opset)).unwrap().graph.warnings.is_empty());
    }
    check(
        &model(25),
        expect![[r#"
        y Relu 2x8
        warning: opset 25 is newer than 24: operators are read as those of opset 24"#]],
    );
}

#[test]
fn the_body_of_a_function_is_read_in_place() {
    let model = "
        function my::Block(x, w, b)
        a = MatMul(x, w)
        y = Add(a, b)
        -> y
        x: 2x8
        w = 8x6
        b = 6
        u = 6x3
        h = my::Block(x, w, b)
        r = Relu(h)
        z = MatMul(r, u)
        -> z";
    check(
        model,
        expect![[r#"
        h/a MatMul 2x6
        h/y Add 2x6
        r Relu 2x6
        z MatMul 2x3
        group w:1 6
        w:0 pinned: it is an input of the model
        u:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn an_omitted_input_of_a_function_is_omitted_in_its_body() {
    let model = "
        function my::Conv(x, w, b)
        y = Conv(x, w, b)
        -> y
        x: 1x3x8x8
        w = 6x3x1x1
        v = 4x6x1x1
        c = 4
        h = my::Conv(x, w)
        y = my::Conv(h, v, c)
        -> y";
    check(
        model,
        expect![[r#"
        h/y Conv 1x6x8x8
        y/y Conv 1x4x8x8
        group w:0 6
        w:1 pinned: it is an input of the model
        v:0 pinned: it is an output of the model
        c:0 pinned: it is an output of the model"#]],
    );
}

#[test]
fn attributes_of_a_call_reach_the_nodes_that_refer_to_them() {
    let model = "
        function my::Outer(x) axis alpha=0.5
        y = my::Inner(x) perm=[1,0] axis=@axis
        z = LeakyRelu(y) alpha=@alpha
        -> z
        function my::Inner(x) perm axis
        a = Transpose(x) perm=@perm
        b = Shape(a)
        y = Softmax(a) axis=@axis
        -> y
        x: 2x8
        y = my::Outer(x) axis=0
        -> y";
    check(
        model,
        expect![[r#"
        y/y/a Transpose 8x2
        y/y/y Softmax 8x2
        y/z LeakyRelu 8x2"#]],
    );
}

#[test]
fn functions_that_call_themselves_are_left_as_they_are() {
    let model = "
        function my::A(x)
        y = my::B(x)
        -> y
        function my::B(x)
        a = Relu(x)
        y = my::A(a)
        -> y
        x: 2x8
        y = my::A(x)
        -> y";
    check(
        model,
        expect![[r#"
        y/y/a Relu 2x8
        y/y/y A ?
        warning: operator `my::A` is left as it is: the function calls itself (first at node `y/y/y`)"#]],
    );
}

#[test]
fn functions_that_call_many_are_read_up_to_a_number_of_nodes() {
    let mut model = "function my::F0(x)\na = Relu(x)\ny = Relu(a)\n-> y\n".to_string();
    for level in 1..30 {
        let under = level - 1;
        model +=
            &format!("function my::F{level}(x)\na = my::F{under}(x)\ny = my::F{under}(a)\n-> y\n");
    }
    let graph = read(&(model + "x: 2x8\ny = my::F29(x)\n-> y")).unwrap().graph;
    assert!(graph.nodes.len() < 1 << 16);
    let warning = graph.warnings.iter().find(|warning| warning.contains("too many nodes"));
    assert!(warning.is_some(), "{:?}", graph.warnings);
}

#[test]
fn what_a_function_does_not_make_is_refused() {
    let model = |body: &str| format!("function my::F(x)\n{body}\nx: 2x8\ny = my::F(x)\n-> y");
    check_refused(
        &model("a = Relu(x)\n-> y"),
        expect!["the function `F` does not make its output `y`"],
    );
    check_refused(
        &model("y = Add(x, b)\n-> y"),
        expect!["node `y` reads `b`, which nothing makes"],
    );
    check_refused(
        &model("y = Relu(x)\ny = Relu(x)\n-> y"),
        expect!["the name `y` is defined twice"],
    );
    let twice = "function my::F(x)\ny = Relu(x)\n-> y\n".repeat(2);
    check_refused(
        &format!("{twice}x: 2x8\ny = my::F(x)\n-> y"),
        expect!["the function `F` is defined twice"],
    );
    check(
        &model("y = Relu(x)\n-> y").replace("my::F(x)\n-> y", "my::F(x, x)\n-> y"),
        expect![[r#"
            y F ?
            warning: operator `my::F` is left as it is: 2 inputs, its function has 1 (first at node `y`)"#]],
    );
}

#[test]
fn functions_named_as_standard_operators_are_left_as_they_are() {
    let model = "function Relu(x)\ny = Tanh(x)\n-> y\nx: 2x8\ny = Relu(x)\n-> y";
    check(
        model,
        expect![[r#"
        y Relu ?
        warning: operator `Relu` is left as it is: the model has a function of this name (first at node `y`)"#]],
    );
}

#[test]
fn weights_in_a_function_are_shared_by_its_calls() {
    let model = "
        function my::Mlp(x)
        w = 8x6
        v = 6x8
        a = MatMul(x, w)
        b = Relu(a)
        y = MatMul(b, v)
        -> y
        x: 2x8
        h = my::Mlp(x)
        y = my::Mlp(h)
        -> y";
    check(
        model,
        expect![[r#"
        h/a MatMul 2x6
        h/b Relu 2x6
        h/y MatMul 2x8
        y/a MatMul 2x6
        y/b Relu 2x6
        y/y MatMul 2x8
        group Mlp/w:1 6
        Mlp/w:0 pinned: it is an input of the model
        Mlp/v:1 pinned: it is an input of the model"#]],
    );
}

#[test]
fn branches_of_one_shape_are_what_either_makes() {
    let model = "
        graph narrow
        w = 6x3
        y = MatMul(h, w)
        -> y
        graph wide
        w = 6x9
        u = 9x3
        a = MatMul(h, w)
        y = MatMul(a, u)
        -> y
        x: 2x8
        c: bool scalar
        v = 8x6
        h = MatMul(x, v)
        z = If(c) then_branch=$narrow else_branch=$wide
        -> z";
    check(
        model,
        expect![[r#"
        h MatMul 2x6
        y MatMul 2x3
        a MatMul 2x9
        y MatMul 2x3
        z If 2x3
        group v:1 6
        group z/else_branch/w:1 9
        v:0 pinned: it is an input of the model
        z/then_branch/w:1 pinned: it is an output of the model
        z/else_branch/u:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn branches_of_different_shapes_make_what_they_declare_or_nothing_known() {
    let model = "
        graph small
        y = Identity(h)
        -> y
        graph large
        y = Concat(h, h) axis=0
        -> y
        x: 2x8
        c: bool scalar
        v = 8x6
        u = 6x5
        h = MatMul(x, v)
        z = If(c) then_branch=$small else_branch=$large
        y = MatMul(z, u)
        -> y";
    check(
        model,
        expect![[r#"
            h MatMul 2x6
            y Identity 2x6
            y Concat 4x6
            z If 10007x6
            y MatMul 10007x5
            v:0 pinned: it is an input of the model
            v:1 pinned: an opaque operator reads or makes it
            u:0 pinned: an opaque operator reads or makes it
            u:1 pinned: it is an output of the model
            warning: operator `If` is left as it is: its branches make different shapes (first at node `z`)"#]],
    );
}

#[test]
fn the_branch_that_a_fixed_size_decides_on_is_taken() {
    let model = "
        graph squeezed
        y = Squeeze(h, axis)
        -> y
        graph whole
        y = Identity(h)
        -> y
        x: 2x8
        v = 8x6
        u = 6x5
        axis = i64[1]
        one = i64[1]
        six = i64[6]
        h = MatMul(x, v)
        s = Shape(h)
        n = Gather(s, axis)
        c = Equal(n, one)
        z = If(c) then_branch=$squeezed else_branch=$whole
        y = MatMul(z, u)
        -> y";
    check(
        model,
        expect![[r#"
        h MatMul 2x6
        y Squeeze ?
        y Identity 2x6
        y MatMul 2x5
        v:0 pinned: it is an input of the model
        v:1 pinned: its size is read as data
        u:0 pinned: its size is read as data
        u:1 pinned: it is an output of the model"#]],
    );
    check(
        &model.replace("axis = i64[1]", "axis = i64[0]"),
        expect![[r#"
        h MatMul 2x6
        y Squeeze ?
        y Identity 2x6
        y MatMul 2x5
        group v:1 6
        v:0 pinned: it is an input of the model
        u:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn names_inside_a_branch_hide_those_around_it() {
    let model = "
        graph inner
        w = 6x4
        a = MatMul(h, w)
        -> a
        graph outer
        h = MatMul(x, v)
        y = If(d) then_branch=$inner else_branch=$inner
        -> y
        x: 2x8
        c: bool scalar
        d: bool scalar
        v = 8x6
        w = 8x6
        u = 6x4
        h = MatMul(x, w)
        a = MatMul(h, u)
        y = If(c) then_branch=$outer else_branch={a}
        -> y";
    check(
        model,
        expect![[r#"
        h MatMul 2x6
        a MatMul 2x4
        h MatMul 2x6
        a MatMul 2x4
        a MatMul 2x4
        y If 2x4
        inner_a Identity 2x4
        y If 2x4
        group w:1 6
        group v:1 6
        w:0 pinned: it is an input of the model
        u:1 pinned: it is an output of the model
        v:0 pinned: it is an input of the model
        y/then_branch/y/then_branch/w:1 pinned: it is an output of the model
        y/then_branch/y/else_branch/w:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn weights_in_a_loop_are_parameters_that_stay() {
    let model = "
        graph step
        w = 6x6
        y = MatMul(h, w)
        -> c y
        x: 2x8
        n: i64 scalar
        c: bool scalar
        v = 8x6
        h = MatMul(x, v)
        z = Loop(n, c) body=$step
        -> z";
    check(
        model,
        expect![[r#"
        h MatMul 2x6
        z Loop ?
        v:0 pinned: it is an input of the model
        v:1 pinned: an opaque operator reads or makes it
        z/w:0 pinned: an opaque operator reads or makes it
        z/w:1 pinned: an opaque operator reads or makes it
        warning: operator `Loop` is unknown: what it touches is left as it is (first at node `z`)"#]],
    );
}

#[test]
fn operators_of_another_domain_are_not_those_of_the_standard() {
    let model = "x: 2x8\ns = my.domain::Shape(x)\nk = my.domain::Constant() value=i64[1]\n-> s k";
    check(
        model,
        expect![[r#"
        s Shape ?
        k Constant ?
        warning: operator `my.domain::Shape` is unknown: what it touches is left as it is (first at node `s`)
        warning: operator `my.domain::Constant` is unknown: what it touches is left as it is (first at node `k`)"#]],
    );
}

#[test]
fn what_a_graph_two_deep_reads_is_pinned() {
    let model = "
        graph inner
        y = Identity(a)
        -> c y
        graph outer
        y = Loop(n, c) body=$inner
        -> c y
        x: 2x8
        n: i64 scalar
        c: bool scalar
        w = 8x6
        u = 6x3
        a = MatMul(x, w)
        y = Loop(n, c) body=$outer
        z = MatMul(a, u)
        -> y z";
    check(
        model,
        expect![[r#"
        a MatMul 2x6
        y Loop ?
        z MatMul 2x3
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        u:0 pinned: an opaque operator reads or makes it
        u:1 pinned: it is an output of the model
        warning: operator `Loop` is unknown: what it touches is left as it is (first at node `y`)"#]],
    );
}

#[test]
fn identities_hand_weights_on() {
    let chain: String = (0..1000).map(|i| format!("w{} = Identity(w{i})\n", i + 1)).collect();
    let model =
        format!("x: 2x8\nw0 = 8x6\nu = 6x3\n{chain}a = MatMul(x, w1000)\nz = MatMul(a, u)\n-> z");
    let graph = read(&model).unwrap().graph;
    let groups = Groups::new(&graph, &Analysis::new(&graph));
    let [(_, group)] = groups.iter().collect::<Vec<_>>()[..] else { panic!("{}", groups.len()) };
    let cut: Vec<_> =
        group.slices.iter().map(|s| (graph.param(s.param).name.as_str(), s.axis)).collect();
    assert_eq!(cut, [("w0", 1), ("u", 0)]);
}

#[test]
fn sizes_may_be_computed_from_constants_in_floats() {
    check(
        "x: 2x3x8x8
        w = 4x3x1x1
        y = Conv(x, w)
        k = i64[16]
        c = Cast(k) to=1
        h = Floor(c)
        s = Concat(h, h) axis=0
        i = Cast(s) to=7
        n = i64[2, 4]
        t = Concat(n, i) axis=0
        z = Resize(y, _, _, t)
        -> z",
        expect![[r#"
            y Conv 2x4x8x8
            c Cast 1
            h Floor 1
            s Concat 2
            z Resize 2x4x16x16
            w:0 pinned: it is an output of the model
            w:1 pinned: it is an input of the model"#]],
    );
}

#[test]
fn tables_of_sizes_are_put_together() {
    check(
        "x: 2x3x8x8
        w = 4x3x1x1
        y = Conv(x, w)
        n = i64[0, 0]
        k = i64[1, 2]
        i = i64[0]
        a = Unsqueeze(n, i)
        b = Unsqueeze(k, i)
        c = Concat(a, a, a, b) axis=0
        j = i64[1, 3]
        d, e = Split(c, j) axis=0
        t = Concat(d, e) axis=0
        m = i64[-1]
        p = Reshape(t, m)
        z = Pad(y, p)
        v = 2x4x1x1
        o = Conv(z, v)
        -> o",
        expect![[r#"
            y Conv 2x4x8x8
            z Pad 2x4x9x10
            o Conv 2x2x9x10
            group w:0 4
            w:1 pinned: it is an input of the model
            v:0 pinned: it is an output of the model"#]],
    );
}

#[test]
fn a_cast_has_the_shape_of_what_is_cast() {
    check(
        "x: 2x8
        w = 8x6
        y = MatMul(x, w)
        u = 8x4
        h = MatMul(x, u)
        s = 5x6
        c = CastLike(y, s)
        g = CastLike(h, y)
        v = 6x3
        p = MatMul(c, v)
        t = 4x3
        q = MatMul(g, t)
        z = Add(p, q)
        -> z",
        expect![[r#"
            y MatMul 2x6
            h MatMul 2x4
            c CastLike 2x6
            g CastLike 2x4
            p MatMul 2x3
            q MatMul 2x3
            z Add 2x3
            group w:1 6
            group u:1 4
            w:0 pinned: it is an input of the model
            u:0 pinned: it is an input of the model
            v:1 pinned: it is an output of the model
            t:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn a_weight_of_which_the_numbers_are_read_stays_whole() {
    check(
        "x: 2x6
        w = 6x4
        y = MatMul(x, w)
        b = f32[3, 1, 2, 4]
        c = Identity(b)
        z = Add(y, c)
        s = Cast(c) to=7
        r = Expand(z, s)
        a = i64[3]
        q = ReduceSum(r, a)
        -> q",
        expect![[r#"
            y MatMul 2x4
            c Identity 4
            z Add 2x4
            r Expand 3x1x2x4
            q ReduceSum 3x1x2x1
            w:0 pinned: it is an input of the model
            w:1 pinned: its size is read as data
            b:0 pinned: its size is read as data"#]],
    );
}

#[test]
fn a_vector_of_very_many_uses_is_one_parameter() {
    let params = |uses: u32| {
        let mut model = "y0: 2x4\nb = 4\n".to_string();
        for index in 0..uses {
            model += &format!("y{} = Add(y{index}, b)\n", index + 1);
        }
        read(&(model + &format!("-> y{uses}"))).unwrap().graph.params.len()
    };
    assert_eq!(params(3), 3);
    assert_eq!(params(MAX_SEPARATE_USES + 1), 1);
}

/// `r` holds rows of `h = x · w` that are picked by the data: how many is counted.
fn picked(rest: &str) -> String {
    let rows = "x: 5x8\nw = 8x6\nh = MatMul(x, w)\nm = ReduceMean(x) keepdims=0 axes=[1]\n\
        c = Greater(m, m)\nz = NonZero(c)\na = i64[0]\np = Squeeze(z, a)\nr = Gather(h, p)\n";
    format!("opset 13\n{rows}{rest}")
}

#[test]
fn layers_behind_what_is_counted_are_followed() {
    check(
        &picked("v = 6x4\nu = 4x3\ny = MatMul(r, v)\nq = MatMul(y, u)\n-> q"),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        y MatMul 10007x4
        q MatMul 10007x3
        group w:1 6
        group v:1 4
        w:0 pinned: it is an input of the model
        u:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn shapes_are_computed_from_counts() {
    let model = "s = Shape(r)\ni = i64[0]\nn = Gather(s, i)\nk = i64[2, -1]\nt = Concat(n, k) axis=0\n\
        y = Reshape(r, t)\nv = 3x4\nq = MatMul(y, v)\no = i64[6]\nf = Concat(n, o) axis=0\n\
        g = ConstantOfShape(f)\nj = Add(r, g)\n-> q j";
    check(
        &picked(model),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        y Reshape 10007x2x3
        q MatMul 10007x2x4
        g ConstantOfShape 10007x6
        j Add 10007x6
        w:0 pinned: it is an input of the model
        w:1 pinned: it is an output of the model
        w:1 pinned: it is an output of the model
        v:0 pinned: it is an output of the model
        v:1 pinned: it is an output of the model"#]],
    );
}

#[test]
fn a_condition_on_a_count_is_not_decided() {
    let model = "graph none\ne = Relu(h)\n-> e\ngraph some\nd = MatMul(r, v)\n-> d\nv = 6x6\n\
        s = Size(r)\no = i64(0)\nt = Equal(s, o)\ny = If(t) then_branch=$none else_branch=$some\n-> y";
    check(
        &picked(model),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        e Relu 5x6
        d MatMul 10007x6
        y If 10009x6
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        v:0 pinned: an opaque operator reads or makes it
        v:1 pinned: an opaque operator reads or makes it
        warning: operator `If` is left as it is: its branches make different shapes (first at node `y`)"#]],
    );
}

#[test]
fn what_does_not_fit_a_count_is_left_as_it_is() {
    check(
        &picked("v = 3x6\ny = Add(r, v)\n-> y"),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        y Add ?
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        v:0 pinned: an opaque operator reads or makes it
        v:1 pinned: an opaque operator reads or makes it
        warning: operator `Add` is left as it is: with sizes that are counted from data, sizes 10007 and 3 do not broadcast (first at node `y`)"#]],
    );
    check(
        &picked("t = i64[2, -1]\ny = Reshape(r, t)\n-> y"),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        y Reshape 2x30021
        w:0 pinned: it is an input of the model
        w:1 pinned: no common factorization"#]],
    );
    check(
        &picked("l = i64[2, 3]\ny, q = Split(r, l)\n-> y q"),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        y Split ?, ?
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        l:0 pinned: an opaque operator reads or makes it
        warning: operator `Split` is left as it is: with sizes that are counted from data, segments of stated sizes (first at node `y`)"#]],
    );
    check(
        &picked("u = i64[1]\ne = Unsqueeze(r, u)\ny = Squeeze(e)\n-> y"),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        e Unsqueeze 10007x1x6
        y Squeeze ?
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        warning: operator `Squeeze` is left as it is: an open axis that is dropped where its size is 1 (first at node `y`)"#]],
    );
    check(
        &picked("y = Transpose(r)\nv = 5x4\nq = MatMul(y, v)\n-> q"),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        y Transpose 6x10007
        q MatMul ?
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        v:0 pinned: an opaque operator reads or makes it
        v:1 pinned: an opaque operator reads or makes it
        warning: operator `MatMul` is left as it is: with sizes that are counted from data, inner sizes of the product do not agree: 10007 and 5 (first at node `q`)"#]],
    );
}

#[test]
fn a_guessed_input_is_not_to_blame_for_a_count() {
    let model = "x: nx8\nz = NonZero(x)\ns = i64[1, -1]\nv = 2x7\ny = Add(z, v)\n-> y";
    check(
        model,
        expect![[r#"
        z NonZero 2x10007
        y Add ?
        v:0 pinned: an opaque operator reads or makes it
        v:1 pinned: an opaque operator reads or makes it
        warning: operator `Add` is left as it is: with sizes that are counted from data, sizes 10007 and 7 do not broadcast (first at node `y`)"#]],
    );
}

#[test]
fn as_many_as_there_are_at_most_is_still_counted() {
    let model = "i = i64[0]\nf = i64[4]\ny = Slice(r, i, f, i)\nv = 4x6\nq = Add(y, v)\n\
        s = Size(y)\no = i64(24)\nt = Equal(s, o)\nk = If(t) then_branch={h} else_branch={x}\n-> q k";
    check(
        &picked(model),
        expect![[r#"
        h MatMul 5x6
        m ReduceMean 5
        c Greater 5
        z NonZero 1x10007
        p Squeeze 10007
        r Gather 10007x6
        y Slice 4x6
        q Add 4x6
        inner_h Identity 5x6
        inner_x Identity 5x8
        k If 5x10009
        w:0 pinned: it is an input of the model
        w:1 pinned: an opaque operator reads or makes it
        v:0 pinned: its size is counted from data
        v:1 pinned: an opaque operator reads or makes it
        warning: operator `If` is left as it is: its branches make different shapes (first at node `k`)"#]],
    );
}

#[test]
fn a_part_of_a_shape_may_be_computed_from_data() {
    let model = "opset 13\nx: 1x3x8x8\nd: i64 2\nw = 4x3x3x3\nv = 5x4x3x3\nh = Conv(x, w)\n\
        a = Add(d, d)\nk = i64[1, 4]\nt = Concat(k, a) axis=0\ny = Resize(h, _, _, t)\nz = Conv(y, v)\n-> z";
    check(
        model,
        expect![[r#"
        h Conv 1x4x6x6
        a Add 2
        y Resize 1x4x10007x10009
        z Conv 1x5x10005x10007
        group w:0 4
        w:1 pinned: it is an input of the model
        w:2 pinned: a window slides over it
        w:3 pinned: a window slides over it
        v:0 pinned: it is an output of the model
        v:2 pinned: a window slides over it
        v:3 pinned: a window slides over it"#]],
    );
}
