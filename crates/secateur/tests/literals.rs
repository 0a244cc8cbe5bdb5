//! Numbers in the source follow what is cut, for models in text: the pruned file has the planned
//! shapes, and the outputs of the original, also at other input sizes. Every model here was once
//! written wrongly.

#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
mod text;

use std::fs;

use secateur::Model;
use secateur::axis::AxisId;
use secateur::group::Keeps;
use secateur::onnx::Hints;

/// Keeps every choice of one, two, … first indices of all groups; `sizes` are input shapes other
/// than the analyzed ones.
fn check(source: &str, groups: usize, sizes: &[(&str, &[usize])]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.onnx");
    fs::write(&path, text::encode(source)).unwrap();
    let model = Model::open(&path, &Hints::new()).unwrap();
    assert_eq!(model.groups().len(), groups, "{source}");
    let other: Hints = sizes.iter().map(|(name, dims)| (name.to_string(), dims.to_vec())).collect();
    for kept in 1..8 {
        let some = |size: usize| (0..kept.min(size) as u32).collect::<Vec<u32>>();
        let keeps: Keeps = model.groups().iter().map(|(id, g)| (id, some(g.size))).collect();
        let out = dir.path().join("out.onnx");
        model.write_pruned(&keeps, &out, &mut |_| ()).unwrap();
        let pruned = Model::open(&out, &Hints::new()).unwrap();
        assert_eq!(pruned.graph().warnings, model.graph().warnings, "{source}");
        assert_eq!(shapes(&pruned), planned(&model, &keeps), "{kept} kept of {source}");
        let [before, after] =
            [&path, &out].map(|path| outputs(&Model::open(path, &other).unwrap()));
        assert_eq!(after, before, "{kept} kept of {source}");
    }
}

fn shapes(model: &Model) -> Vec<Vec<usize>> {
    let results = model.graph().nodes.iter().flat_map(|node| &node.outputs);
    results.map(|&v| model.graph().shape(v).iter().map(|e| e.size).collect()).collect()
}

fn outputs(model: &Model) -> Vec<Vec<usize>> {
    let outputs = model.graph().outputs.iter();
    outputs.map(|&v| model.graph().shape(v).iter().map(|e| e.size).collect()).collect()
}

fn planned(model: &Model, keeps: &Keeps) -> Vec<Vec<usize>> {
    let changes = model.changes(keeps).unwrap();
    let axes = &model.analysis().axes;
    let size = |&axis: &AxisId| axes.tree(axis).sized(&|atom| changes.size(atom));
    let results = model.graph().nodes.iter().flat_map(|node| &node.outputs);
    results.map(|&value| model.analysis().value(value).iter().map(size).collect()).collect()
}

#[test]
fn a_strided_slice_keeps_its_bounds() {
    let slice = |starts: &str, ends: &str, steps: &str, kept: usize| {
        format!(
            "x: 1x4
            w = 4x8
            starts = i64[{starts}]
            ends = i64[{ends}]
            axes = i64[1]
            steps = i64[{steps}]
            v = {kept}x3
            y = MatMul(x, w)
            s = Slice(y, starts, ends, axes, steps)
            z = MatMul(s, v)
            -> z"
        )
    };
    for (starts, ends, steps, kept) in
        [("1", "6", "3", 2), ("-7", "-2", "3", 2), ("6", "1", "-2", 3), ("2", "7", "2", 3)]
    {
        check(&slice(starts, ends, steps, kept), 0, &[]);
    }
    for (starts, ends) in [("0", "8"), ("1", "8"), ("0", "7"), ("-8", "-1"), ("-7", "100")] {
        check(&slice(starts, ends, "2", 4), 1, &[]);
    }
}

#[test]
fn a_literal_that_a_strided_slice_shares_stays() {
    check(
        "x: 1x4x6
        w = 6x4
        four = i64[4]
        one = i64[1]
        two = i64[2]
        target = i64[1, 1]
        v = 4x3
        y = MatMul(x, w)
        s = Slice(y, one, four, one, two)
        z = MatMul(s, v)
        -> z",
        1,
        &[],
    );
}

#[test]
fn a_squeeze_drops_no_axis_that_became_one() {
    for opset in [11, 13] {
        check(
            &format!(
                "opset {opset}
                x: 1x5x4
                w = 4x6
                v = 6x3
                y = MatMul(x, w)
                s = Squeeze(y)
                z = MatMul(s, v)
                -> z"
            ),
            1,
            &[],
        );
    }
}

#[test]
fn a_squeeze_that_drops_an_open_axis_is_opaque() {
    check(
        "x: nx5x4
        w = 4x6
        y = MatMul(x, w)
        s = Squeeze(y)
        -> s",
        0,
        &[("x", &[1, 5, 4])],
    );
}

#[test]
fn a_zero_in_a_target_copies_by_position() {
    check(
        "x: nx4x4
        w = 4x8
        split = i64[0, 4, 2, 4]
        merge = i64[-1, 4, 0]
        v = 2x3
        y = MatMul(x, w)
        s = Reshape(y, split)
        t = Transpose(s) perm=[0,1,3,2]
        first = i64[1]
        all = i64[0, 16, 2]
        m = Reshape(t, all)
        z = MatMul(m, v)
        -> z",
        1,
        &[("x", &[3, 4, 4])],
    );
    check(
        "x: 6x4x4x6
        w = 6x4
        target = i64[0, 1, -1, 0, 4]
        v = 4x3
        y = MatMul(x, w)
        s = Reshape(y, target)
        z = MatMul(s, v)
        -> z",
        1,
        &[],
    );
}

#[test]
fn a_copied_axis_holds_no_merged_open_one() {
    check(
        "x: nxtx4
        w = 4x6
        six = i64[6]
        first = i64[0]
        second = i64[1]
        v = 6x3
        y = MatMul(x, w)
        shape = Shape(y)
        n = Gather(shape, first)
        t = Gather(shape, second)
        rows = Mul(n, t)
        target = Concat(rows, six) axis=0
        s = Reshape(y, target)
        pads = i64[0, 6]
        z = MatMul(s, v)
        p = Pad(z, pads, _, second)
        -> p",
        1,
        &[("x", &[3, 7, 4])],
    );
}

#[test]
fn a_computed_one_in_an_expand_stays_one() {
    check(
        "x: 1x8
        w = 8x4
        v = 4x3
        y = MatMul(x, w)
        z = MatMul(y, v)
        shape = Shape(y)
        last = i64[1]
        four = i64[4]
        size = Gather(shape, last)
        one = Div(size, four)
        e = Expand(x, one)
        -> z e",
        1,
        &[],
    );
}

#[test]
fn an_expand_to_an_open_size_of_one_is_no_copy() {
    check(
        "x: nx4
        w = 4x4
        v = 4x3
        first = i64[0]
        four = i64[4]
        one = i64[1]
        y = MatMul(x, w)
        s = Split(y, four) axis=1
        z = MatMul(s, v)
        shape = Shape(x)
        n = Gather(shape, first)
        target = Concat(four, n) axis=0
        u = 4x1
        e = Expand(u, target)
        -> z e",
        1,
        &[("x", &[3, 4])],
    );
}

#[test]
fn rows_that_an_open_size_may_read_stay() {
    for end in ["t", "last"] {
        check(
            &format!(
                "x: nxtx4
                w = 4x4
                v = 4x3
                table = 32x4
                first = i64[0]
                second = i64[1]
                last = i64[16]
                y = MatMul(x, w)
                shape = Shape(x)
                t = Gather(shape, second)
                rows = Slice(table, first, {end}, first)
                p = ReduceSum(rows, first) keepdims=0
                s = Add(y, p)
                z = MatMul(s, v)
                -> z"
            ),
            if end == "t" { 1 } else { 3 },
            &[("x", &[3, 20, 4])],
        );
    }
    check(
        "x: nxtx4
        table = 32x4
        first = i64[0]
        second = i64[1]
        all = i64[32]
        shape = Shape(x)
        t = Gather(shape, second)
        rest = Sub(all, t)
        sizes = Concat(t, rest) axis=0
        rows, others = Split(table, sizes) axis=0
        z = Add(x, rows)
        -> z",
        0,
        &[("x", &[3, 20, 4])],
    );
}

#[test]
fn blocks_of_pixels_stay() {
    check(
        "x: 1x4x4x4
        w = 4x4x1x1
        axes = i64[2]
        v = 2x8
        c = Conv(x, w)
        r = ReduceMean(c, axes)
        d = DepthToSpace(r) blocksize=2
        t = Transpose(d) perm=[0,1,3,2]
        z = MatMul(t, v)
        -> z",
        0,
        &[],
    );
    check(
        "x: 1x4x6x6
        w = 6x6
        y = MatMul(x, w)
        d = SpaceToDepth(y) blocksize=2
        axes = i64[1, 3]
        z = ReduceMean(d, axes)
        -> z",
        1,
        &[],
    );
}

#[test]
fn a_literal_in_a_function_follows_for_all_calls_or_stays() {
    let model = |joined: bool| {
        format!(
            "function my::Fold(x)
            s = i64[1,4,6]
            y = Reshape(x, s)
            -> y
            x: 1x8
            w = 8x24
            v = 8x24
            u = 6x5
            t = 6x5
            a = MatMul(x, w)
            b = MatMul(x, v)
            c = my::Fold(a)
            d = my::Fold(b)
            {}",
            if joined {
                "e = Add(c, d)\nf = MatMul(e, u)\n-> f"
            } else {
                "e = MatMul(c, u)\nf = MatMul(d, t)\n-> e f"
            }
        )
    };
    check(&model(true), 1, &[]);
    check(&model(false), 0, &[]);
}

#[test]
fn an_attribute_of_a_call_follows_unless_several_nodes_read_it() {
    let model = |body: &str| {
        format!(
            "function my::Block(x, w) groups
            a = Conv(x, w) group=@groups
            {body}
            x: 1x3x2x2
            w = 8x3x1x1
            v = 8x1x1x1
            u = 5x8x1x1
            a = Conv(x, w)
            b = my::Block(a, v) groups=8
            c = Conv(b, u)
            -> c"
        )
    };
    check(&model("y = Relu(a)\n-> y"), 1, &[]);
    check(&model("b = my::Constant(x) n=@groups\ny = Relu(a)\n-> y"), 0, &[]);
}

#[test]
fn a_default_attribute_of_a_function_stays() {
    check(
        "function my::Block(x, w) groups=8
        y = Conv(x, w) group=@groups
        -> y
        x: 1x3x2x2
        w = 8x3x1x1
        v = 8x1x1x1
        u = 5x8x1x1
        a = Conv(x, w)
        b = my::Block(a, v)
        c = Conv(b, u)
        -> c",
        0,
        &[],
    );
}

#[test]
fn literals_in_branches_follow() {
    check(
        "graph flat
        s = i64[1,32]
        y = Reshape(a, s)
        -> y
        graph slow
        s = i64[1,8,4]
        b = Reshape(a, s)
        y = Flatten(b)
        -> y
        x: 1x3x2x2
        c: bool scalar
        w = 8x3x1x1
        u = 32x5
        a = Conv(x, w)
        f = If(c) then_branch=$flat else_branch=$slow
        y = MatMul(f, u)
        -> y",
        1,
        &[],
    );
}

#[test]
fn a_vector_that_calls_and_branches_share_is_one_for_each() {
    check(
        "function my::Bias(x, b)
        y = Add(x, b)
        -> y
        graph then
        y = Add(f, b)
        -> y
        graph else
        y = Identity(f)
        -> y
        x: 1x3
        p: bool scalar
        b = 6
        w = 3x6
        v = 6x6
        u = 6x6
        t = 6x5
        a = MatMul(x, w)
        c = my::Bias(a, b)
        d = MatMul(c, v)
        e = my::Bias(d, b)
        f = MatMul(e, u)
        g = If(p) then_branch=$then else_branch=$else
        y = MatMul(g, t)
        -> y",
        3,
        &[],
    );
}

#[test]
fn a_computed_number_in_a_function_stays() {
    check(
        "function my::Scale(x)
        s = Shape(x) start=1
        f = Cast(s) to=1
        y = Div(x, f)
        -> y
        x: 1x3
        w = 3x6
        v = 6x4
        a = MatMul(x, w)
        b = my::Scale(a)
        y = MatMul(b, v)
        -> y",
        0,
        &[],
    );
}
