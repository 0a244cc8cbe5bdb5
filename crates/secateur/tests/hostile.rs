//! Small files that ask for much: each is read, pruned and written, or refused, in little memory.

#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
#[path = "mutate/allocator.rs"]
mod allocator;
mod text;

use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use expect_test::{Expect, expect};
use prost::Message;
use secateur::Model;
use secateur::criterion::ScoreOptions;
use secateur::group::Keeps;
use secateur::onnx::proto::ModelProto;
use secateur::plan::Plan;
use secateur::select::SelectOptions;

use allocator::{Counting, limit, peak};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Prunes a model; says what came of it.
fn run(text: &str) -> String {
    run_bytes(&text::encode(text))
}

fn run_bytes(bytes: &[u8]) -> String {
    // One at a time, since memory is counted for all threads.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.onnx");
    std::fs::write(&path, bytes).unwrap();
    let mut outcome = String::new();
    let taken = peak(|| outcome = prune(&path));
    assert!(taken <= limit(bytes.len()), "{taken} bytes for a file of {}", bytes.len());
    outcome
}

/// Reads a model, scores it, keeps the last index of every group, and writes it.
fn prune(path: &Path) -> String {
    let out = path.with_file_name("out.onnx");
    let model = match Model::open(path, &Default::default()) {
        Ok(model) => model,
        Err(error) => return format!("refused: {error}"),
    };
    let groups: Vec<String> = model.groups().iter().map(|(_, group)| group.name.clone()).collect();
    let last = |size: usize| vec![u32::try_from(size - 1).unwrap()];
    let keeps: Keeps = model.groups().iter().map(|(id, group)| (id, last(group.size))).collect();
    let selected = model.select(&SelectOptions::default(), &ScoreOptions::default());
    assert_eq!(selected.is_ok(), !groups.is_empty(), "{groups:?}");
    if let Err(error) = model.write_pruned(&keeps, &out, &mut |_| ()) {
        return format!("not written: {error}");
    }
    let mut text = format!("groups: {}", groups.join(" "));
    for warning in &model.graph().warnings {
        write!(text, "; {warning}").unwrap();
    }
    drop(model);
    Model::open(&out, &Default::default()).unwrap();
    text
}

#[allow(clippy::needless_pass_by_value)]
fn check(text: &str, outcome: Expect) {
    outcome.assert_eq(&run(text));
}

#[test]
fn a_long_chain_of_sizes_does_not_exhaust_the_stack() {
    let mut text = "x: 4x8\nw = 8x6\none = i64[1]\ns0 = Shape(x)\n".to_string();
    for index in 0..20_000 {
        writeln!(text, "s{} = Add(s{index}, one)", index + 1).unwrap();
    }
    text += "y = MatMul(x, w)\nz = Reshape(y, s20000)\n-> z";
    check(
        &text,
        expect![
            "groups: ; operator `Reshape` is left as it is: input 1 is computed from data (first at node `z`)"
        ],
    );
}

#[test]
fn a_size_that_doubles_is_computed_once() {
    let mut text = "x: 4x8\nw = 8x6\ns0 = Shape(x)\n".to_string();
    for index in 0..60 {
        writeln!(text, "s{} = Add(s{index}, s{index})", index + 1).unwrap();
    }
    text += "y = MatMul(x, w)\nz = Reshape(y, s60)\n-> z";
    check(
        &text,
        expect![
            "groups: ; operator `Reshape` is left as it is: input 1 is computed from data (first at node `z`)"
        ],
    );
}

#[test]
fn a_deep_network_does_not_exhaust_the_stack() {
    let mut text = "x: 4x8\nw = 8x8\nv0 = MatMul(x, w)\n".to_string();
    for index in 0..20_000 {
        writeln!(text, "v{} = Relu(v{index})", index + 1).unwrap();
    }
    text += "u = 8x3\nz = MatMul(v20000, u)\n-> z";
    check(&text, expect!["groups: w:1"]);
}

#[test]
fn many_axes_are_read_or_refused() {
    let dims = vec!["1"; 70_000].join("x");
    check(
        &format!("x: {dims}\ny = Relu(x)\n-> y"),
        expect![
            "groups: ; 1 nodes behind these are left as they are: the shapes of what they read are not known"
        ],
    );
    check(
        &format!("x: {dims}\ny = Transpose(x)\n-> y"),
        expect![
            "groups: ; 1 nodes behind these are left as they are: the shapes of what they read are not known"
        ],
    );
    let letters: String = ('\u{4e00}'..).take(20_000).chain("ij".chars()).collect();
    let dims = vec!["1"; 20_000].join("x");
    let einsum = format!("x: {dims}x2x3\ny = Einsum(x) equation={letters}->ij\n-> y");
    check(
        &einsum,
        expect![
            "groups: ; 1 nodes behind these are left as they are: the shapes of what they read are not known"
        ],
    );
}

#[test]
fn an_axis_that_doubles_is_pinned() {
    let mut text = "x: 2x8\nw = 8x6\nv0 = MatMul(x, w)\n".to_string();
    for index in 0..40 {
        writeln!(text, "v{} = Concat(v{index}, v{index}) axis=1", index + 1).unwrap();
    }
    check(&format!("{text}s = ReduceSum(v40)\n-> s"), expect!["groups: "]);
    let halves = (0..40).fold(format!("x: 2x{}\n", 1_i64 << 42), |text, index| {
        let last = if index == 0 { "x".to_string() } else { format!("v{index}") };
        let next = index + 1;
        text + &format!(
            "a{next}, b{next} = Split({last}) axis=1\nv{next} = Add(a{next}, b{next})\n"
        )
    });
    check(&format!("{halves}s = ReduceSum(v40)\n-> s"), expect!["groups: "]);
}

#[test]
fn an_axis_of_many_equal_segments_is_scored_in_little_memory() {
    let copies = vec!["a"; 3000].join(", ");
    let text = format!(
        "x: 2x8\nw = 8x4\na = MatMul(x, w)\nc = Concat({copies}) axis=1\nv = 12000x3\ny = MatMul(c, v)\n-> y"
    );
    check(&text, expect!["groups: w:1"]);
}

#[test]
fn weights_that_are_summed_one_by_one_take_little_memory() {
    let mut text = "x: 2x2\np0 = 2x2\ns0 = Relu(p0)\n".to_string();
    for index in 1..4000 {
        let before = index - 1;
        writeln!(text, "p{index} = 2x2\ns{index} = Add(s{before}, p{index})").unwrap();
    }
    check(&format!("{text}y = MatMul(x, s3999)\n-> y"), expect!["groups: "]);
}

#[test]
fn millions_of_operands_take_little_memory() {
    let omitted = vec!["_"; 1_500_000].join(",");
    check(
        &format!("x: 2x8\ny = my::Op(x, {omitted})\n-> y"),
        expect![
            "groups: ; operator `my::Op` is unknown: what it touches is left as it is (first at node `y`)"
        ],
    );
}

#[test]
fn computed_sizes_are_bounded_together() {
    let numbers = vec!["1"; 1024].join(", ");
    let mut text = format!("x: 2x8\ns0 = i64[{numbers}]\n");
    for index in 0..2000 {
        writeln!(text, "s{} = Add(s{index}, s{index})", index + 1).unwrap();
    }
    check(&format!("{text}y = Add(x, x)\nz = Relu(s2000)\n-> y z"), expect!["groups: "]);
}

#[test]
fn a_tensor_of_no_elements_is_not_evaluated() {
    check(
        "x: 2x8\nw = 0x4611686018427387904\nt = Transpose(w) perm=[1,0]\ny = Add(x, x)\n-> y t",
        expect!["groups: "],
    );
    check(
        "x: 2x8\ns = i64[0, 4611686018427387904]\nc = ConstantOfShape(s) value=i64[7]\nt = Transpose(c)\n-> x t",
        expect!["groups: "],
    );
}

#[test]
fn what_is_not_a_number_is_planned_and_replayed() {
    let text = "x: 2x8\nw = 8x6\nv = 6x3\nminus = f32(-1.0)\na = MatMul(x, w)\ns = Shape(a)\n\
        f = Cast(s) to=1\nd = Mul(f, minus)\nr = Sqrt(d)\nb = ReduceSum(r)\nc = Add(a, b)\n\
        i = Gather(f, one)\none = i64(1)\nz = Reciprocal(i)\ny = MatMul(c, v)\ne = Mul(y, z)\n-> e";
    check(text, expect!["groups: w:1"]);
    let dir = tempfile::tempdir().unwrap();
    let (path, plan) = (dir.path().join("in.onnx"), dir.path().join("plan.json"));
    std::fs::write(&path, text::encode(text)).unwrap();
    let model = Model::open(&path, &Default::default()).unwrap();
    let keeps: Keeps = model.groups().iter().map(|(id, _)| (id, vec![0])).collect();
    model.plan(&keeps).unwrap().write(&plan).unwrap();
    assert_eq!(model.replay(&Plan::read(&plan).unwrap()).unwrap(), keeps);
}

#[test]
fn an_attribute_of_another_type_is_not_read() {
    check(
        "x: 1x4x5x5\nw = 4x2x3x3\ny = Conv(x, w) group=[2]\n-> y",
        expect![
            "groups: ; operator `Conv` is left as it is: its attribute `group` is of another type (first at node `y`)"
        ],
    );
    check(
        "x: 2x8\ny = Softmax(x) axis=0.5\n-> y",
        expect![
            "groups: ; operator `Softmax` is left as it is: its attribute `axis` is of another type (first at node `y`)"
        ],
    );
}

/// A message field.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(payload.len() as u64, &mut field);
    [field, payload.to_vec()].concat()
}

#[test]
fn subgraphs_in_subgraphs_are_read_or_refused() {
    let nested = |depth: usize| {
        // The innermost reads `x`.
        let node = [field(1, b"x"), field(2, b"y"), field(4, b"Relu")].concat();
        let body = (0..depth).fold(field(1, &node), |body, _| {
            let attribute = [field(1, b"then_branch"), field(6, &body), vec![0xa0, 1, 5]].concat();
            let node = [field(1, b"x"), field(2, b"y"), field(4, b"If"), field(5, &attribute)];
            field(1, &node.concat())
        });
        [text::encode("x: 2x8\n"), field(7, &[body, field(12, &field(1, b"y"))].concat())].concat()
    };
    expect![
        "groups: ; operator `If` is unknown: what it touches is left as it is (first at node `y`)"
    ]
    .assert_eq(&run_bytes(&nested(20)));
    assert!(run_bytes(&nested(3000)).ends_with("its subgraphs are nested too deeply"));
}

#[test]
fn names_of_nodes_need_not_differ() {
    let text = "x: 2x8\nw = 8x6\nv = 6x3\na = MatMul(x, w)\nb = MatMul(a, v)\n-> b";
    let mut model = ModelProto::decode(text::encode(text).as_slice()).unwrap();
    for node in &mut model.graph.as_mut().unwrap().node {
        node.name = "same".to_string();
    }
    assert_eq!(run_bytes(&model.encode_to_vec()), run(text));
}

#[test]
fn a_tensor_of_too_many_axes_is_no_parameter() {
    let dims = vec!["1"; 70].join("x");
    check(
        &format!("x: 2x8\nw = {dims}\ny = Mul(x, w)\n-> y"),
        expect![
            "groups: ; 1 nodes behind these are left as they are: the shapes of what they read are not known"
        ],
    );
}

#[test]
fn large_sizes_do_not_overflow() {
    const HUGE: i64 = 1 << 62;
    for text in [
        format!("x: {HUGE}x{HUGE}\ny = Relu(x)\n-> y"),
        format!("x: {HUGE}x8\nw = 8x4\ny = MatMul(x, w)\n-> y"),
        format!("x: {HUGE}x{HUGE}\ny = Flatten(x) axis=0\n-> y"),
        format!("x: {HUGE}x{HUGE}\ns = i64[-1]\ny = Reshape(x, s)\n-> y"),
        format!("x: {HUGE}x1\ny = Concat(x, x, x, x) axis=0\nz = Add(y, y)\n-> z"),
        format!("x: {HUGE}x8\ns = i64[8, 1]\ny = Tile(x, s)\n-> y"),
        format!("x: 2x8\ns = i64[{HUGE}, {HUGE}]\ny = Tile(x, s)\n-> y"),
        format!("x: 1x8\ns = i64[{HUGE}, 8]\ny = Expand(x, s)\n-> y"),
        format!("s = i64[{HUGE}, {HUGE}]\ny = ConstantOfShape(s)\n-> y"),
        format!("x: 2x8\ns = i64[0, {HUGE}, 0, {HUGE}]\ny = Pad(x, s)\n-> y"),
        format!("x: 2x8x{HUGE}\nw = 4x8x3\ny = Conv(x, w) pads=[{HUGE},{HUGE}]\n-> y"),
        format!("x: 2x8x9\nw = 4x8x3\ny = Conv(x, w) dilations=[{HUGE}]\n-> y"),
        format!("x: 2x8x{HUGE}\nw = 8x4x3\ny = ConvTranspose(x, w) strides=[{HUGE}]\n-> y"),
        format!("x: 1x8x{HUGE}x{HUGE}\ny = DepthToSpace(x) blocksize=2\n-> y"),
        format!("x: 1x8x4x4\ny = DepthToSpace(x) blocksize={HUGE}\n-> y"),
        format!("x: 1x8x4x4\ny = SpaceToDepth(x) blocksize={HUGE}\n-> y"),
        format!("x: 2x8\ns = i64[{HUGE}, {HUGE}]\na, b = Split(x, s) axis=1\n-> a"),
        format!(
            "x: {HUGE}x8\ns = i64(0)\ne = i64(1)\nz = Shape(x)\nn = Gather(z, s)\nr = Range(s, n, e)\n-> r"
        ),
        format!(
            "x: 2x8\ns = i64[{HUGE}, {HUGE}, {HUGE}, {HUGE}]\na, b, c, d = Split(x, s) axis=1\n-> a"
        ),
        format!(
            "x: 4x4\ns = Shape(x)\nt = i64[{HUGE}, {HUGE}]\nr = Reshape(s, t)\ny = Expand(x, r)\n-> y"
        ),
        format!("x: 1x{HUGE}x1\ny = Concat(x, x, x, x) axis=0\n-> y"),
        format!(
            "x: 2x8x9\nk = MaxPool(x) kernel_shape=[2] strides=[{HUGE}] pads=[{HUGE},{HUGE}] ceil_mode=1\n-> k"
        ),
        format!("x: 2x8\nk = i64[{HUGE}]\nv, i = TopK(x, k)\n-> v"),
        "x: 2x8x4x4\nf = f32[1, 1, 1e30, 1e30]\ny = Resize(x, _, f)\n-> y".to_string(),
        format!("x: {HUGE}x4\ny = Gather(x, x)\n-> y"),
        format!(
            "x: 2x{HUGE}x5\ns = i64[{}]\ne = i64[{}]\ny = Slice(x, s, e)\n-> y",
            i64::MIN,
            i64::MAX
        ),
        format!(
            "x: 2x5\ns = i64[4]\ne = i64[{}]\na = i64[1]\nt = i64[{}]\ny = Slice(x, s, e, a, t)\n-> y",
            i64::MIN,
            i64::MIN
        ),
    ] {
        let outcome = run(&text);
        assert!(!outcome.contains("not written"), "{text}\n{outcome}");
    }
}
