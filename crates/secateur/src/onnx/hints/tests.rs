use expect_test::{Expect, expect};

use super::*;
use crate::onnx::{OnnxFile, import};
use crate::text;

/// The shapes of the inputs of a model, `*` behind open sizes, and which are guesses.
#[allow(clippy::needless_pass_by_value)]
fn check(inputs: &str, hints: &[(&str, &[usize])], shapes: Expect) {
    let hints: Hints =
        hints.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
    let file = OnnxFile::parse(text::encode(inputs).into(), "text".as_ref()).unwrap();
    let text = match import(&file, &hints) {
        Err(error) => format!("{error}; {}", error.remedy().unwrap_or("no hint")),
        Ok(imported) => {
            let graph = &imported.graph;
            let size = |e: &Extent| format!("{}{}", e.size, if e.is_open() { "*" } else { "" });
            let shape = |&id| graph.shape(id).iter().map(size).collect::<Vec<_>>().join("x");
            let guess = |id| if imported.guessed.contains_key(id) { " (guessed)" } else { "" };
            let each = graph.inputs.iter().map(|id| {
                let name = graph.value(*id).name.as_str();
                format!("{name}: {}{}", shape(id), guess(name))
            });
            each.collect::<Vec<_>>().join("\n")
        }
    };
    shapes.assert_eq(&text);
}

#[test]
fn declared_sizes_are_taken() {
    check("x: 2x3", &[], expect!["x: 2x3"]);
}

#[test]
fn open_sizes_are_taken_from_hints() {
    check("x: nx3x?", &[("x", &[4, 3, 5])], expect!["x: 4*x3x5*"]);
}

#[test]
fn a_symbol_learned_from_one_input_holds_for_the_others() {
    check(
        "x: nxtx16\nmask: nxt",
        &[("mask", &[2, 7])],
        expect![[r#"
        x: 2*x7*x16
        mask: 2*x7*"#]],
    );
}

#[test]
fn sizes_that_nobody_gives_are_guessed() {
    check(
        "x: nx?xhxw\nids: batchxt\nz: 2xbatch_size",
        &[],
        expect![[r#"
        x: 1*x3*x224*x224* (guessed)
        ids: 1*x16* (guessed)
        z: 2x1* (guessed)"#]],
    );
    check(
        "x: nxhxwx3\ny: nxhxwx8",
        &[],
        expect![[r#"
        x: 1*x224*x224*x3 (guessed)
        y: 1*x224*x224*x8"#]],
    );
}

#[test]
fn a_guessed_symbol_is_one_size_everywhere() {
    check(
        "x: nxt\ny: txt",
        &[],
        expect![[r#"
        x: 1*x16* (guessed)
        y: 16*x16*"#]],
    );
}

#[test]
fn sizes_that_exporters_write_for_open_ones_are_open() {
    check("x: -1x3x0x8", &[("x", &[2, 3, 5, 8])], expect!["x: 2*x3x5*x8"]);
}

#[test]
fn hints_that_contradict_the_model_are_refused() {
    check(
        "x: nx3",
        &[("x", &[4, 3, 5])],
        expect!["input `x` has 2 axes, the given shape has 3; `secateur inspect` lists the inputs"],
    );
    check(
        "x: nx3",
        &[("x", &[4, 5])],
        expect![
            "axis 1 of input `x` is 3, the given shape says 5; `secateur inspect` lists the inputs"
        ],
    );
    check(
        "x: nx3",
        &[("y", &[4, 3])],
        expect!["the model has no input `y`; `secateur inspect` lists the inputs"],
    );
    check(
        "x: nxn",
        &[("x", &[4, 5])],
        expect![
            "axis 1 of input `x` is `n`, for which the given shapes say 4 and 5; give one size to each symbol that `secateur inspect` lists"
        ],
    );
}

#[test]
fn a_question_mark_is_no_symbol() {
    let named = text::encode("x: qxqxq");
    let bytes: Vec<u8> = named.into_iter().map(|b| if b == b'q' { b'?' } else { b }).collect();
    let file = OnnxFile::parse(bytes.into(), "text".as_ref()).unwrap();
    let hints = [("x".to_string(), vec![2, 3, 5])].into();
    let graph = import(&file, &hints).unwrap().graph;
    let sizes: Vec<usize> = graph.shape(graph.inputs[0]).iter().map(|e| e.size).collect();
    assert_eq!(sizes, [2, 3, 5]);
}
