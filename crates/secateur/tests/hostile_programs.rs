//! PyTorch files that are broken, or that ask for much: each is read, pruned and written, or
//! refused with its reason, in little memory.

#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
#[path = "mutate/allocator.rs"]
mod allocator;
#[allow(dead_code)]
mod program;

use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use expect_test::{Expect, expect};
use secateur::Model;
use secateur::group::Keeps;

use allocator::{Counting, limit, peak};
use program::{Entry, encode, entries, pack};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MODEL: &str = "x: 2x8\nw = 6x8\nv = 3x6\n\
    y: 2x6 = aten.linear.default(input=x, weight=w)\n\
    z: 2x3 = aten.linear.default(input=y, weight=v)\n-> z";

/// One test at a time, since memory is counted for all threads.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prunes a file; says what came of it.
fn run(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.pt2");
    std::fs::write(&path, bytes).unwrap();
    let mut outcome = String::new();
    let taken = peak(|| outcome = prune(&path));
    assert!(taken <= limit(bytes.len()), "{taken} bytes for a file of {}", bytes.len());
    outcome.replace(&format!("{}/", dir.path().display()), "")
}

/// Reads a model, keeps the last index of every group, and writes it.
fn prune(path: &Path) -> String {
    let out = path.with_file_name("out.pt2");
    let model = match Model::open(path, &Default::default()) {
        Ok(model) => model,
        Err(error) => {
            let hint = error.remedy().map(|hint| format!("\nhint: {hint}"));
            return format!("refused: {error}{}", hint.unwrap_or_default());
        }
    };
    let groups: Vec<String> = model.groups().iter().map(|(_, group)| group.name.clone()).collect();
    let last = |size: usize| vec![u32::try_from(size - 1).unwrap()];
    let keeps: Keeps = model.groups().iter().map(|(id, group)| (id, last(group.size))).collect();
    if let Err(error) = model.write_pruned(&keeps, &out, &mut |_| ()) {
        return format!("not written: {error}");
    }
    let mut text = format!("groups: {}", groups.join(" "));
    for warning in &model.graph().warnings {
        let warning = warning.split(", File").next().unwrap();
        write!(text, "; {warning}").unwrap();
    }
    drop(model);
    Model::open(&out, &Default::default()).unwrap();
    text
}

#[allow(clippy::needless_pass_by_value)]
fn check(bytes: &[u8], outcome: Expect) {
    outcome.assert_eq(&run(bytes));
}

#[allow(clippy::needless_pass_by_value)]
fn check_text(text: &str, outcome: Expect) {
    check(&encode(text), outcome);
}

/// The model, of which the text of every document is changed.
fn changed(text: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let one = |(name, content): Entry| match name.ends_with(".json") {
        true => (name, change(String::from_utf8(content).unwrap()).into_bytes()),
        false => (name, content),
    };
    pack(&entries(text).into_iter().map(one).collect::<Vec<Entry>>())
}

fn replaced(old: &str, new: &str) -> Vec<u8> {
    assert!(
        entries(MODEL)
            .iter()
            .any(|(_, content)| { String::from_utf8_lossy(content).contains(old) })
    );
    changed(MODEL, |text| text.replacen(old, new, 1))
}

#[test]
fn a_file_that_is_sound_is_pruned() {
    let _alone = alone();
    check_text(MODEL, expect!["groups: w:0"]);
}

#[test]
fn archives_that_are_broken_are_refused() {
    let _alone = alone();
    let bytes = encode(MODEL);
    check(
        &bytes[..bytes.len() / 2],
        expect![[r#"
        refused: `in.pt2` is an archive that cannot be read: invalid Zip archive: Could not find EOCD
        hint: save the model again with `torch.export.save`"#]],
    );
    check(
        &bytes[..bytes.len() - 1],
        expect![[r#"
        refused: `in.pt2` is an archive that cannot be read: invalid Zip archive: Unexpected end of zip::format::blocks::Zip32CDEBlock
        hint: save the model again with `torch.export.save`"#]],
    );
    check(
        b"PK\x03\x04",
        expect![[r#"
        refused: `in.pt2` is an archive that cannot be read: invalid Zip archive: Could not find EOCD
        hint: save the model again with `torch.export.save`"#]],
    );
    let mut torn = bytes.clone();
    let directory = bytes.windows(4).position(|part| part == b"PK\x01\x02").unwrap();
    torn.drain(directory - 64..directory);
    check(
        &torn,
        expect![[r#"
        refused: `in.pt2` is an archive that cannot be read: invalid Zip archive: Unexpected end of zip::format::blocks::ZipCentralEntryBlock
        hint: save the model again with `torch.export.save`"#]],
    );
    for cut in (0..bytes.len()).step_by(97) {
        run(&bytes[..cut]);
    }
}

#[test]
fn compressed_and_encrypted_entries_are_refused() {
    let _alone = alone();
    let bytes = encode(MODEL);
    let field = |offset: usize, value: u8| {
        let mut bytes = bytes.clone();
        for (head, offset) in [(b"PK\x01\x02", offset + 2), (b"PK\x03\x04", offset)] {
            let at = bytes.windows(4).position(|part| part == head).unwrap();
            bytes[at + offset] = value;
        }
        bytes
    };
    check(
        &field(8, 8),
        expect![[r#"
        refused: `m/data/weights/weight_0` is compressed or encrypted
        hint: save the model again with `torch.export.save`"#]],
    );
    check(
        &field(6, 1),
        expect![[r#"
            refused: `m/data/weights/weight_0` is compressed or encrypted
            hint: save the model again with `torch.export.save`"#]],
    );
}

#[test]
fn missing_entries_are_named() {
    let _alone = alone();
    let without = |name: &str| {
        let kept = entries(MODEL).into_iter().filter(|entry| !entry.0.ends_with(name));
        pack(&kept.collect::<Vec<Entry>>())
    };
    check(&without("weight_0"), expect!["refused: `w` is in `weight_0`, which is missing"]);
    check(
        &without("model.json"),
        expect![[r#"
        refused: there is no exported program in this archive
        hint: write the model with `torch.export.save`"#]],
    );
    check(&without("model_weights_config.json"), expect!["groups: "]);
    check(&without("byteorder"), expect!["groups: w:0"]);
    check(
        &pack(&[]),
        expect![[r#"
        refused: `in.pt2`: not a valid ONNX model: failed to decode Protobuf message: invalid tag value: 0
        hint: the file may be truncated: compare its size, or fetch it again"#]],
    );
}

#[test]
fn an_entry_that_is_there_twice_is_read_once() {
    let _alone = alone();
    let twice = [entries(MODEL), vec![("m/byteorder".to_string(), b"little".to_vec())]].concat();
    let mut bytes = pack(
        &twice
            .iter()
            .map(|(name, content)| (name.replace("m/byteorder", "m/byteorde0"), content.clone()))
            .collect::<Vec<Entry>>()[..twice.len() - 1],
    );
    while let Some(at) = bytes.windows(9).position(|part| part == b"byteorde0") {
        bytes[at + 8] = b'r';
    }
    check(&bytes, expect!["groups: w:0"]);
}

#[test]
fn what_is_no_program_gets_a_hint() {
    let _alone = alone();
    let one = |name: &str| pack(&[(name.to_string(), b"{}".to_vec())]);
    check(
        &one("serialized_exported_program.json"),
        expect![[r#"
        refused: there is no exported program in this archive
        hint: it was written by an older PyTorch: load and save it with a current one, `torch.export.save(torch.export.load(FILE), FILE)`"#]],
    );
    check(
        &one("model/data.pkl"),
        expect![[r#"
        refused: there is no exported program in this archive
        hint: it was written by `torch.save`: write the model with `torch.export.save(torch.export.export(model, inputs), FILE)`"#]],
    );
    check(
        &one("word/document.xml"),
        expect![[r#"
        refused: there is no exported program in this archive
        hint: write the model with `torch.export.save`"#]],
    );
    check(
        &replaced("\"major\":8", "\"major\":7"),
        expect![[r#"
            refused: `in.pt2`: the program is of schema version 7, not 8
            hint: save it again with a current PyTorch: `torch.export.save`"#]],
    );
    let big = entries(MODEL).into_iter().map(|(name, content)| {
        let big = name.ends_with("byteorder");
        (name, if big { b"big".to_vec() } else { content })
    });
    check(
        &pack(&big.collect::<Vec<Entry>>()),
        expect!["refused: the weights are not little-endian"],
    );
}

#[test]
fn descriptions_that_do_not_fit_are_refused_or_leave_the_tensor_alone() {
    let _alone = alone();
    let stored = |meta: &str| {
        changed(MODEL, |text| {
            if !text.starts_with("{\"config\"") || !text.contains("weight_0") {
                return text;
            }
            let start = text.find("\"sizes\"").unwrap();
            let end = text[start..].find("\"strides\"").unwrap() + start;
            let close = text[end..].find(']').unwrap() + end + 1;
            format!("{}{meta}{}", &text[..start], &text[close..])
        })
    };
    let sizes = |sizes: [i64; 2], strides: [i64; 2]| {
        let list = |[a, b]: [i64; 2]| format!("[{{\"as_int\":{a}}},{{\"as_int\":{b}}}]");
        stored(&format!(
            "\"sizes\":{},\"storage_offset\":{{\"as_int\":0}},\"strides\":{}",
            list(sizes),
            list(strides)
        ))
    };
    check(&sizes([3, 6], [6, 1]), expect!["groups: w:0"]);
    check(
        &sizes([3, 7], [7, 1]),
        expect!["refused: `v` in `weight_1`: its elements do not fit into 72 bytes"],
    );
    check(
        &sizes([1 << 40, 1 << 40], [1 << 40, 1]),
        expect!["refused: `v` in `weight_1`: its elements do not fit into 72 bytes"],
    );
    check(
        &sizes([-3, 6], [6, 1]),
        expect!["refused: `v` in `weight_1`: a negative size, stride or offset"],
    );
    check(
        &sizes([3, 6], [-6, 1]),
        expect!["refused: `v` in `weight_1`: a negative size, stride or offset"],
    );
    check(&sizes([3, 6], [0, 0]), expect!["groups: "]);
    check(
        &sizes([3, 6], [i64::MAX, i64::MIN]),
        expect!["refused: `v` in `weight_1`: a negative size, stride or offset"],
    );
    check(
        &sizes([0, i64::MAX], [1, 1]),
        expect![
            "groups: ; operator `aten.linear.default` is left as it is: features of data and weight do not agree: 6 and 9223372036854775807 (first at node `z`"
        ],
    );
    let offset = |offset: i64| {
        changed(MODEL, |text| match text.contains("path_name") {
            true => text.replacen(
                "\"storage_offset\":{\"as_int\":0}",
                &format!("\"storage_offset\":{{\"as_int\":{offset}}}"),
                1,
            ),
            false => text,
        })
    };
    check(&offset(1), expect!["refused: `v` in `weight_1`: its elements do not fit into 72 bytes"]);
    check(&offset(-1), expect!["refused: `v` in `weight_1`: a negative size, stride or offset"]);
    check(
        &offset(i64::MAX),
        expect!["refused: `v` in `weight_1`: its elements do not fit into 72 bytes"],
    );
    check(
        &replaced("\"path_name\":\"weight_0\"", "\"path_name\":\"weight_9\""),
        expect!["refused: `w` is in `weight_9`, which is missing"],
    );
    check(
        &replaced("\"path_name\":\"weight_0\"", "\"path_name\":\"model_weights_config.json\""),
        expect!["refused: `w` is in `model_weights_config.json`, which is no tensor"],
    );
    check(
        &replaced("\"path_name\":\"weight_0\"", "\"path_name\":\"../../models/model.json\""),
        expect!["refused: `w` is in `../../models/model.json`, which is missing"],
    );
}

#[test]
fn arguments_of_another_type_are_refused_or_make_the_call_opaque() {
    let _alone = alone();
    check_text(
        &MODEL.replace("input=x", "input=3"),
        expect![
            "groups: ; operator `aten.linear.default` is left as it is: its argument `input` is missing or of another type (first at node `y`"
        ],
    );
    check_text(
        &MODEL.replace("input=x", "input=[x, x]"),
        expect![
            "groups: ; operator `aten.linear.default` is left as it is: its argument `input` is missing or of another type (first at node `y`"
        ],
    );
    check_text(
        &MODEL.replace("weight=w", "weight=true"),
        expect![
            "groups: ; operator `aten.linear.default` is left as it is: its argument `weight` is missing or of another type (first at node `y`"
        ],
    );
    check(
        &replaced(
            "{\"as_tensor\":{\"name\":\"x\"}},\"kind\"",
            "{\"as_int\":{\"name\":\"x\"}},\"kind\"",
        ),
        expect![
            "refused: `in.pt2`: `y`, a call of `torch.ops.aten.linear.default`: invalid type: map, expected i64 at line 1 column 10"
        ],
    );
    check(
        &replaced("{\"as_tensor\":{\"name\":\"x\"}},\"kind\"", "{\"as_tensor\":\"x\"},\"kind\""),
        expect![[
            r#"refused: `in.pt2`: `y`, a call of `torch.ops.aten.linear.default`: invalid type: string "x", expected a name at line 1 column 16"#
        ]],
    );
    check(
        &replaced("{\"as_tensor\":{\"name\":\"x\"}},\"kind\"", "[],\"kind\""),
        expect![
            "refused: `in.pt2`: `y`, a call of `torch.ops.aten.linear.default`: invalid type: sequence, expected an object at line 1 column 0"
        ],
    );
    check(
        &replaced("\"as_int\":6", "\"as_int\":6.5"),
        expect![
            "refused: `in.pt2`: the tensor `v`: invalid type: floating point `6.5`, expected i64 at line 1 column 27"
        ],
    );
    check(
        &replaced("\"as_int\":6", "\"as_int\":99999999999999999999"),
        expect![
            "refused: `in.pt2`: the tensor `v`: invalid type: floating point `1e+20`, expected i64 at line 1 column 44"
        ],
    );
    check(
        &replaced("\"nodes\":", "\"nods\":"),
        expect!["refused: `in.pt2`: missing field `nodes` at line 1 column 1875"],
    );
    check(
        &replaced("\"schema_version\":", "\"version\":"),
        expect!["refused: `in.pt2`: missing field `schema_version` at line 1 column 2246"],
    );
    check(
        &replaced("\"torch_version\":\"2.15.0\"", "\"torch_version\":\"\u{fffd}\\ud800\""),
        expect!["refused: `in.pt2`: unexpected end of hex escape at line 1 column 2255"],
    );
}

#[test]
fn names_must_be_made_before_they_are_read_and_once() {
    let _alone = alone();
    check_text(
        &MODEL.replace("input=x", "input=q"),
        expect!["refused: node `y` (`aten.linear.default`): `q` is read before anything makes it"],
    );
    check_text(
        &MODEL.replace("input=x", "input=z"),
        expect!["refused: node `y` (`aten.linear.default`): `z` is read before anything makes it"],
    );
    check_text(
        &MODEL.replace("-> z", "-> q"),
        expect!["refused: `q` is read before anything makes it"],
    );
    check_text(
        &MODEL.replace("z: 2x3", "y: 2x3").replace("-> z", "-> y"),
        expect!["refused: node `y` (`aten.linear.default`): the name `y` is defined twice"],
    );
    check_text(
        &MODEL.replace("y: 2x6", "x: 2x6"),
        expect!["refused: node `x` (`aten.linear.default`): the name `x` is defined twice"],
    );
    check_text(
        &MODEL.replace("z: 2x3", "k: sym n2 = _operator.add(a=k, b=1)\nz: 2x3"),
        expect!["refused: node `k` (`_operator.add`): `k` is read before anything makes it"],
    );
}

#[test]
fn what_is_nested_deeply_is_refused_or_not_read() {
    let _alone = alone();
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    check(
        &replaced("\"opset_version\":", &format!("\"more\":{deep},\"opset_version\":")),
        expect!["groups: w:0"],
    );
    check(
        &replaced(
            "{\"as_tensor\":{\"name\":\"x\"}},\"kind\"",
            &format!("{{\"as_other\":{deep}}},\"kind\""),
        ),
        expect![
            "groups: ; operator `aten.linear.default` is left as it is: its argument `input` is missing or of another type (first at node `y`"
        ],
    );
    let open = "{\"as_tensor\":".repeat(100_000);
    check(
        &replaced("{\"as_tensor\":{\"name\":\"x\"}},\"kind\"", &open),
        expect!["refused: `in.pt2`: expected value at line 1 column 1300178"],
    );
    let graphs = (0..40).fold("0".to_string(), |inner, _| {
        format!(
            "{{\"as_graph\":{{\"name\":\"g\",\"graph\":{{\"inputs\":[],\"outputs\":[],\"tensor_values\":{{}},\"nodes\":[{{\"target\":\"t\",\"inputs\":[{{\"name\":\"\",\"arg\":{inner}}}],\"outputs\":[]}}]}}}}}}"
        )
    });
    check(
        &replaced("{\"as_tensor\":{\"name\":\"x\"}},\"kind\"", &format!("{graphs},\"kind\"")),
        expect![
            "refused: `in.pt2`: `y`, a call of `torch.ops.aten.linear.default`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: ``, a call of `t`: graphs are nested too deeply"
        ],
    );
    let spelled = format!("{}Symbol('s0'){}", "Max(".repeat(100_000), ")".repeat(100_000));
    let symbol = "Symbol('n', positive=True, integer=True)";
    let open = MODEL.replace("2x", "n2x");
    check(&changed(&open, |text| text.replace(symbol, &spelled)), expect!["groups: w:0"]);
}

#[test]
fn a_long_program_takes_little_memory() {
    let _alone = alone();
    let mut text = MODEL.lines().take(4).collect::<Vec<_>>().join("\n");
    for index in 0..3000 {
        let last = if index == 0 { "y".to_string() } else { format!("a{}", index - 1) };
        write!(text, "\na{index}: 2x6 = aten.relu_.default(self={last})").unwrap();
    }
    text += "\nz: 2x3 = aten.linear.default(input=a2999, weight=v)\n-> z";
    check_text(&text, expect!["groups: w:0"]);
}

#[test]
fn a_million_calls_take_little_memory() {
    let _alone = alone();
    let call = "{\"target\":\"t\",\"inputs\":[],\"outputs\":[]},";
    check(
        &replaced("\"nodes\":[", &format!("\"nodes\":[{}", call.repeat(1_000_000))),
        expect!["groups: w:0"],
    );
}

#[test]
fn a_million_arguments_are_refused() {
    let _alone = alone();
    let arg = "{\"name\":\"\",\"arg\":{\"as_none\":true}},";
    let call =
        |list: &str| format!("\"nodes\":[{{\"target\":\"t\",\"outputs\":[],\"inputs\":[{list}]}},");
    let list = arg.repeat(1_000_000);
    check(
        &replaced("\"nodes\":[", &call(list.trim_end_matches(','))),
        expect!["refused: `in.pt2`: ``, a call of `t`: a list of more than 65536 parts"],
    );
    let inside = |arg: String| format!("{{\"name\":\"\",\"arg\":{arg}}}");
    let ints = "1,".repeat(3_000_000);
    let ints = inside(format!("{{\"as_ints\":[{}]}}", ints.trim_end_matches(',')));
    check(
        &replaced("\"nodes\":[", &call(&ints)),
        expect![
            "refused: `in.pt2`: ``, a call of `t`: a list of more than 65536 parts at line 1 column 131086"
        ],
    );
    let names = "{\"name\":\"x\"},".repeat(1_000_000);
    let names = inside(format!("{{\"as_tensors\":[{}]}}", names.trim_end_matches(',')));
    check(
        &replaced("\"nodes\":[", &call(&names)),
        expect![
            "refused: `in.pt2`: ``, a call of `t`: a list of more than 65536 parts at line 1 column 851996"
        ],
    );
}

#[test]
fn a_tensor_of_many_axes_is_refused() {
    let _alone = alone();
    let sizes = "{\"as_int\":1},".repeat(1_000_000);
    check(
        &replaced("\"sizes\":[", &format!("\"sizes\":[{sizes}")),
        expect![
            "refused: `in.pt2`: the tensor `v`: a list of more than 64 parts at line 1 column 846"
        ],
    );
}

#[test]
fn a_stored_tensor_of_computed_sizes_is_not_cut() {
    let _alone = alone();
    check(
        &replaced(
            "\"sizes\":[{\"as_int\":6}",
            "\"sizes\":[{\"as_expr\":{\"expr_str\":\"s0\",\"hint\":{\"as_int\":6}}}",
        ),
        expect!["groups: "],
    );
}

#[test]
fn a_size_that_doubles_is_computed_once() {
    let _alone = alone();
    for operator in [
        "_operator.add(a=OLD, b=OLD)",
        "_operator.mul(a=OLD, b=OLD)",
        "_operator.floordiv(a=OLD, b=OLD)",
        "torch.sym_max(a=OLD, b=OLD)",
    ] {
        let mut text =
            "x: n2x8\nw = 6x8\nv = 3x6\nk: sym n2 = aten.sym_size.int(self=x, dim=0)".to_string();
        for index in 0..200 {
            let last = if index == 0 { "k".to_string() } else { format!("k{}", index - 1) };
            write!(text, "\nk{index}: sym n2 = {}", operator.replace("OLD", &last)).unwrap();
        }
        text += "\ny: n2x6 = aten.linear.default(input=x, weight=w)\n\
            r: n2x6 = aten.view.default(self=y, size=[k199, -1])\n\
            z: n2x3 = aten.linear.default(input=r, weight=v)\n-> z";
        run(&encode(&text));
    }
}

#[test]
fn large_sizes_do_not_overflow() {
    let _alone = alone();
    const HUGE: i64 = 1 << 62;
    for text in [
        format!("x: {HUGE}x{HUGE}\ny: {HUGE}x{HUGE} = aten.relu.default(self=x)\n-> y"),
        format!("x: 2x8\ny: 2x{HUGE} = aten.expand.default(self=x, size=[2, {HUGE}])\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.repeat.default(self=x, repeats=[{HUGE}, {HUGE}])\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.view.default(self=x, size=[{HUGE}, {HUGE}])\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.slice.Tensor(self=x, dim=1, start=-{HUGE}, end={HUGE}, step={HUGE})\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.slice.Tensor(self=x, dim={HUGE}, start={}, end={})\n-> y", i64::MIN, i64::MIN),
        format!("x: 2x8\ny: 2x8 = aten.narrow.default(self=x, dim=1, start={HUGE}, length={HUGE})\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.pad.default(self=x, pad=[{HUGE}, {HUGE}])\n-> y"),
        format!("x: 2x8\n[y: 2x8] = aten.split_with_sizes.default(self=x, split_sizes=[{HUGE}, {HUGE}])\n-> y"),
        format!("x: 2x8\n[y: 2x8] = aten.chunk.default(self=x, chunks={}, dim={})\n-> y", i64::MIN, i64::MAX),
        format!("x: 2x8x4x4\nw = 8x8x1x1\ny: 2x8x4x4 = aten.conv2d.default(input=x, weight=w, bias=None, stride=[{HUGE}, 1], padding=[{HUGE}, {HUGE}], dilation=[{HUGE}, 1], groups={})\n-> y", i64::MIN),
        format!("x: 2x8x4x4\nw = 8x8x1x1\ny: 2x8x4x4 = aten.conv_transpose2d.input(input=x, weight=w, bias=None, stride=[{HUGE}, 1], padding=[{}, {HUGE}])\n-> y", i64::MIN),
        format!("x: 2x8x4x4\ny: 2x8x4x4 = aten.pixel_shuffle.default(self=x, upscale_factor={HUGE})\n-> y"),
        "x: 2x8x4x4\ny: 2x8x4x4 = aten.pixel_unshuffle.default(self=x, downscale_factor=65535)\n-> y".to_string(),
        format!("x: 2x8x4x4\ny: 2x8x4x4 = aten.channel_shuffle.default(self=x, groups={HUGE})\n-> y"),
        format!("x: 2x8x4x4\ny: 2x8x4x4 = aten.max_pool2d.default(self=x, kernel_size=[{HUGE}], stride=[{HUGE}], padding=[{HUGE}], dilation=[{HUGE}])\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.repeat_interleave.self_int(self=x, repeats={HUGE}, dim=1)\n-> y"),
        format!("x: 2x8\ny: 2x8, i: 2x8 = aten.topk.default(self=x, k={HUGE})\n-> y"),
        format!("x: {HUGE}x8\n[y: {HUGE}x8, z: {HUGE}x8] = aten.split.Tensor(self=x, split_size={HUGE}, dim=1)\nc: {HUGE}x8 = aten.cat.default(tensors=[x, x, x, x], dim=0)\n-> y, z, c"),
        format!("x: n{HUGE}x8\nk: sym n{HUGE} = aten.sym_size.int(self=x, dim=0)\nm: sym n2 = _operator.mul(a=k, b=k)\ny: n2x8 = aten.view.default(self=x, size=[m, -1])\n-> y"),
        format!("x: 2x3x4\nh: {HUGE}x2x4\nw = 4x4\ny: 2x3x4, n: 1x2x4 = aten.rnn_tanh.input(input=x, hx=h, params=[w, w], has_biases=false, num_layers={HUGE}, dropout=0.0, train=false, bidirectional=true, batch_first=true)\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.unflatten.int(self=x, dim=-1, sizes=[{HUGE}, {HUGE}, -1, -1])\n-> y"),
        format!("x: 2x8\ny: 2x8 = aten.movedim.int(self=x, source=[0, 0, {HUGE}], destination=[1, 1, 1])\n-> y"),
    ] {
        let outcome = run(&encode(&text));
        assert!(!outcome.contains("not written"), "{text}\n{outcome}");
    }
}
