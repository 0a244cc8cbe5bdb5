//! The text and the hint of every kind of error, as a caller reaches it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod text;

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use secateur::criterion::ScoreOptions;
use secateur::group::Keeps;
use secateur::onnx::Hints;
use secateur::plan::Plan;
use secateur::select::{Amount, SelectOptions, Target};
use secateur::{ErrorKind, Model, Result};
use tempfile::TempDir;

const MODEL: &str =
    "x: nx8\nw = 8x6\nu = 6x3\na = MatMul(x, w)\nb = Relu(a)\nc = MatMul(b, u)\n-> c";

/// A folder whose name is left out of messages.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn model(&self, text: &str) -> Model {
        open(&self.file("model.onnx", text::encode(text))).unwrap()
    }

    #[allow(clippy::needless_pass_by_value)]
    fn check<T: std::fmt::Debug>(&self, result: Result<T>, kind: ErrorKind, expected: Expect) {
        let error = result.unwrap_err();
        let folder = format!("{}/", self.0.path().display());
        let text = format!("{error}\nhint: {}", error.remedy().unwrap_or("none"));
        expected.assert_eq(&text.replace(&folder, ""));
        assert_eq!(error.kind(), kind);
    }
}

fn open(path: &Path) -> Result<Model> {
    Model::open(path, &Hints::new())
}

#[test]
fn io_names_the_path() {
    let folder = Folder::new();
    folder.check(
        open(&folder.path("missing.onnx")),
        ErrorKind::Io,
        expect![[r#"
        `missing.onnx`: No such file or directory (os error 2)
        hint: check the path"#]],
    );
    folder.check(
        Plan::read(&folder.path("missing.json")),
        ErrorKind::Io,
        expect![[r#"
            `missing.json`: No such file or directory (os error 2)
            hint: check the path"#]],
    );
}

#[test]
fn malformed_says_what_breaks_the_format() {
    let folder = Folder::new();
    let check = |content: &[u8], expected| {
        folder.check(open(&folder.file("m.onnx", content)), ErrorKind::Malformed, expected);
    };
    check(
        b"",
        expect![[r#"
        `m.onnx` is empty, not an ONNX model
        hint: fetch or export it again"#]],
    );
    check(
        b"PK\x03\x04 and so on",
        expect![[r#"
            `m.onnx` is an archive that cannot be read: invalid Zip archive: Could not find EOCD
            hint: save the model again with `torch.export.save`"#]],
    );
    check(
        &text::encode(MODEL)[..100],
        expect![[r#"
        `m.onnx`: not a valid ONNX model: failed to decode Protobuf message: ModelProto.graph: buffer underflow
        hint: the file may be truncated: compare its size, or fetch it again"#]],
    );
    check(
        &text::encode("x: 2x8\ny = Add(x, b)\n-> y"),
        expect![[r#"
        node `y` reads `b`, which nothing makes
        hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\ny = Relu(x)\n-> z"),
        expect![[r#"
            the output `z` is made by no node
            hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\na = Add(x, c)\nb = Relu(a)\nc = Relu(b)\n-> c"),
        expect![[r#"
        node `a` is part of a cycle
        hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\nz = Relu(y)\ny = Tanh(b)\na = Add(x, b)\nb = Relu(a)\n-> z"),
        expect![[r#"
            node `b` is part of a cycle
            hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\na = Add(x, a)\n-> a"),
        expect![[r#"
        node `a` is part of a cycle
        hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\na = Relu(x)\na = Tanh(x)\n-> a"),
        expect![[r#"
        the name `a` is defined twice
        hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\nx = Relu(x)\n-> x"),
        expect![[r#"
        the name `x` is defined twice
        hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\nx: 2x4\ny = Relu(x)\n-> y"),
        expect![[r#"
        the name `x` is defined twice
        hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\nw = 8x4\nw = 8x6\ny = MatMul(x, w)\n-> y"),
        expect![[r#"
        the name `w` is defined twice
        hint: none"#]],
    );
    check(
        &text::encode("x: 2x8\nw = 8x4\nw = Relu(x)\ny = MatMul(x, w)\n-> y"),
        expect![[r#"
        the name `w` is defined twice
        hint: none"#]],
    );
    let plan = folder.file("plan.json", "[]");
    folder.check(Plan::read(&plan), ErrorKind::Malformed, expect![[r#"
        `plan.json` is not a plan: invalid length 0, expected an object with a `version` at line 1 column 2
        hint: `secateur prune MODEL -o OUT --plan FILE` writes one"#]]);
}

#[test]
fn unsupported_says_what_is_asked_for() {
    let folder = Folder::new();
    let mut plan = folder.model(MODEL).plan(&Keeps::new()).unwrap();
    plan.version = 99;
    let path = folder.path("plan.json");
    plan.write(&path).unwrap();
    folder.check(
        Plan::read(&path),
        ErrorKind::Unsupported,
        expect![[r#"
            `plan.json` has version 99, this program reads version 1
            hint: write the plan again with `secateur prune MODEL --plan FILE`"#]],
    );
}

#[test]
fn argument_says_what_was_given_and_what_fits() {
    let folder = Folder::new();
    let path = folder.file("m.onnx", text::encode(MODEL));
    let open = |name: &str, shape: &[usize]| {
        Model::open(&path, &Hints::from([(name.to_string(), shape.to_vec())]))
    };
    folder.check(
        open("x", &[4]),
        ErrorKind::Argument,
        expect![[r#"
            input `x` has 2 axes, the given shape has 1
            hint: `secateur inspect` lists the inputs"#]],
    );
    folder.check(
        open("x", &[4, 9]),
        ErrorKind::Argument,
        expect![[r#"
            axis 1 of input `x` is 8, the given shape says 9
            hint: `secateur inspect` lists the inputs"#]],
    );
    folder.check(
        open("y", &[4, 8]),
        ErrorKind::Argument,
        expect![[r#"
        the model has no input `y`
        hint: `secateur inspect` lists the inputs"#]],
    );
    let reshaped = "x: nx8\ns = i64[3, -1]\ny = Reshape(x, s)\n-> y";
    let path = folder.file("guessed.onnx", text::encode(reshaped));
    folder.check(
        Model::open(&path, &Hints::new()),
        ErrorKind::Argument,
        expect![[r#"
            node `y`: 8 elements cannot be laid out in 3s
            hint: input `x` was taken as 1x8: give sizes that it is used with, `--shape x=SIZES`"#]],
    );
    let whole =
        SelectOptions { target: Target::Macs(Amount::Fraction(1.5)), ..SelectOptions::default() };
    let selected = folder.model(MODEL).select(&whole, &ScoreOptions::default());
    folder.check(
        selected,
        ErrorKind::Argument,
        expect![[r#"
        a target of 150 % is not between 0 % and 100 %
        hint: give what remains, such as 50%"#]],
    );
}

#[test]
fn unreachable_says_how_far_one_can_go() {
    let folder = Folder::new();
    let select = |model: &str, target| {
        let options = SelectOptions { target, ..SelectOptions::default() };
        folder.model(model).select(&options, &ScoreOptions::default())
    };
    let few = Target::Parameters(Amount::Absolute(1));
    folder.check(
        select(MODEL, few),
        ErrorKind::Unreachable,
        expect![[r#"
            at least 11 of 66 parameters (16.7 %) remain, and the target is 1
            hint: raise the target or --max-ratio, keep less with --keep, or allow more with --kinds"#]],
    );
    let pinned = "x: 2x8\nw = 8x6\na = MatMul(x, w)\n-> a";
    let half = Target::Ratio(0.5);
    folder.check(
        select(pinned, half),
        ErrorKind::Unreachable,
        expect![[r#"
        the model has no group that can be cut
        hint: none"#]],
    );
}

#[test]
fn plan_mismatch_says_what_differs() {
    let folder = Folder::new();
    let model = folder.model(MODEL);
    let keeps: Keeps = model.groups().iter().map(|(id, _)| (id, vec![0, 2])).collect();
    let plan = model.plan(&keeps).unwrap();
    let replay = |edit: fn(&mut Plan)| {
        let mut plan = plan.clone();
        edit(&mut plan);
        model.replay(&plan)
    };
    let mismatch = ErrorKind::PlanMismatch;
    folder.check(
        replay(|plan| plan.groups[0].name += "?"),
        mismatch,
        expect![[r#"
        the model has no group `w:1?` of size 6
        hint: none"#]],
    );
    folder.check(
        replay(|plan| plan.slices[0].keep.truncate(1)),
        mismatch,
        expect![[r#"
        the slices or node changes in the plan do not follow from its groups
        hint: none"#]],
    );
    folder.check(
        replay(|plan| plan.groups[0].keep.push(6)),
        ErrorKind::Malformed,
        expect![[r#"
        the kept indices of group `w:1` are not a sorted, non-empty part of 0..6
        hint: none"#]],
    );
    let other = folder.model(&MODEL.replace("Relu", "Tanh"));
    folder.check(
        other.replay(&plan),
        mismatch,
        expect![[r#"
        the plan was made for a model of another structure than `model.onnx`
        hint: a plan applies to checkpoints of the model it was made for, exported alike"#]],
    );
}
