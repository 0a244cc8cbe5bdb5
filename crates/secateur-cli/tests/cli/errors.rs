use std::fs;

use insta::assert_snapshot;

use crate::support::{Folder, folder_with};

fn models() -> Folder {
    folder_with(&["fused_qkv_attention.onnx:model.onnx", "c2f.onnx:other.onnx"])
}

#[test]
fn files_that_are_no_model() {
    let folder = models();
    folder.write("notes.txt", b"{\"hello\": 1}");
    folder.write("empty.onnx", b"");
    folder.write("noise.onnx", &[0xff; 64]);
    let whole = folder.read("model.onnx");
    folder.write("short.onnx", &whole[..whole.len() / 2]);
    let names = ["notes.txt", "empty.onnx", "noise.onnx", "short.onnx", "missing.onnx", "."];
    let errors = names.map(|name| folder.error(&format!("inspect {name}")));
    assert_snapshot!("no-model", errors.join("\n"));
}

#[test]
fn parameters_that_are_not_there() {
    let folder = models();
    let names =
        ["head.wieght:0", "head.weight", "head.weight:9", "head.weight:x", "0", "head.bias"];
    let errors = names.map(|name| folder.error(&format!("why model.onnx {name}")));
    assert_snapshot!("no-parameter", errors.join("\n"));
}

#[test]
fn targets_that_cannot_be() {
    let folder = models();
    let targets = [
        "--macs 0.1%",
        "--params 10",
        "--size 1kB",
        "--macs 100%",
        "--macs 0",
        "--params 99G",
        "--ratio 1",
        "--ratio -0.1",
        "--ratio NaN",
        "--ratio 0.5 --max-ratio 0",
        "--ratio 0.5 --multiple-of 0",
        "--ratio 0.5 --steps 0",
        "--ratio 0.5 --ratio-for head*=7",
    ];
    let errors = targets.map(|target| {
        let error = folder.error(&format!("prune model.onnx -o small.onnx {target}"));
        format!("{target}\n{error}")
    });
    assert_snapshot!("no-target", errors.join("\n"));
    assert_eq!(folder.files(), ["model.onnx", "other.onnx"]);
}

#[test]
fn patterns_and_shapes_that_match_nothing() {
    let folder = models();
    let flags = [
        "--keep hed*",
        "--ratio-for hed*=0.3",
        "--keep [",
        "--shape picture=1x3x224x224",
        "--shape input=1x2",
        "--shape input=1x2x3 --shape input=1x2x3",
    ];
    let errors = flags.map(|flags| {
        let error = folder.error(&format!("prune model.onnx -o small.onnx --ratio 0.5 {flags}"));
        format!("{flags}\n{error}")
    });
    assert_snapshot!("no-match", errors.join("\n"));
    let patterns = ["hed*", "[", "head.bias"];
    let errors = patterns.map(|pattern| folder.error(&format!("groups model.onnx {pattern}")));
    assert_snapshot!("no-group", errors.join("\n"));
}

#[test]
fn plans_that_do_not_fit() {
    let folder = models();
    folder.text("prune model.onnx --ratio 0.5 --plan plan.json");
    let plan = String::from_utf8(folder.read("plan.json")).unwrap();
    folder.write("new.json", plan.replace("\"version\": 1", "\"version\": 99").as_bytes());
    folder.write("broken.json", &plan.as_bytes()[..plan.len() / 2]);
    let lines = [
        "apply plan.json other.onnx -o small.onnx",
        "mask other.onnx --plan plan.json -o small.onnx",
        "apply new.json model.onnx -o small.onnx",
        "apply broken.json model.onnx -o small.onnx",
        "apply model.onnx model.onnx -o small.onnx",
        "apply missing.json model.onnx -o small.onnx",
        "apply . model.onnx -o small.onnx",
        "apply plan.json model.onnx -o plan.json",
        "mask model.onnx --plan plan.json -o ./plan.json",
    ];
    let errors = lines.map(|line| folder.error(line));
    assert_snapshot!("no-plan", errors.join("\n"));
    assert!(!folder.path("small.onnx").exists());
    assert_eq!(folder.read("plan.json"), plan.as_bytes());
}

#[test]
fn places_that_cannot_be_written() {
    let folder = models();
    fs::create_dir(folder.path("folder")).unwrap();
    let places = [
        "-o nowhere/small.onnx",
        "-o folder",
        "-o model.onnx/small.onnx",
        "-o small.onnx --plan nowhere/plan.json",
        "-o small.onnx --plan small.onnx",
        "-o small.onnx --plan model.onnx",
    ];
    let before = folder.read("model.onnx");
    let errors = places.map(|place| {
        let error = folder.error(&format!("prune model.onnx --ratio 0.5 {place}"));
        format!("{place}\n{error}")
    });
    assert_snapshot!("no-place", errors.join("\n"));
    assert_eq!(folder.read("model.onnx"), before);
    assert_eq!(folder.files(), ["folder", "model.onnx", "other.onnx"]);
}
