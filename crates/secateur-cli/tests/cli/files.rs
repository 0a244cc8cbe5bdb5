use std::io::{BufReader, Read};
use std::process::{Command, Stdio};

use crate::support::folder_with;

#[test]
fn apply_writes_the_bytes_of_prune() {
    let folder = folder_with(&["fused_qkv_attention.onnx:model.onnx"]);
    folder.text("prune model.onnx -o small.onnx --macs 60% --scope global --plan plan.json");
    folder.text("apply plan.json model.onnx -o again.onnx");
    assert_eq!(folder.read("small.onnx"), folder.read("again.onnx"));
    assert!(folder.read("small.onnx").len() < folder.read("model.onnx").len());
}

#[test]
fn a_plan_keeps_the_shapes_that_it_was_made_at() {
    let folder = folder_with(&["dynamic_attention.onnx:model.onnx"]);
    let shape = "--shape input=2x7x16";
    folder.text(&format!("prune model.onnx -o small.onnx --ratio 0.5 {shape} --plan plan.json"));
    let applied = folder.json("apply plan.json model.onnx -o again.onnx --json");
    let inspected = folder.json(&format!("inspect model.onnx {shape} --json"));
    assert_eq!(applied["before"]["macs"], inspected["macs"]);
    assert_eq!(folder.read("small.onnx"), folder.read("again.onnx"));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    for out in ["a.onnx", "b.onnx"] {
        folder.text(&format!("prune model.onnx -o {out} --ratio 0.5 --criterion random --seed 7"));
    }
    assert_eq!(folder.read("a.onnx"), folder.read("b.onnx"));
}

#[test]
fn a_model_is_pruned_in_place() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    folder.text("prune model.onnx -o small.onnx --ratio 0.5");
    let report = folder.json("prune model.onnx -o model.onnx --ratio 0.5 --json");
    assert_eq!(folder.read("model.onnx"), folder.read("small.onnx"));
    let size = folder.read("model.onnx").len() as u64;
    assert!(report["before"]["bytes"].as_u64().unwrap() > size);
    assert_eq!(report["after"]["bytes"], size);
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    let line = "--ratio 0.5 --json";
    let dry =
        folder.json(&format!("prune model.onnx -o small.onnx --plan plan.json --dry-run {line}"));
    assert_eq!(folder.files(), ["model.onnx"]);
    assert!(dry["output"].is_null());
    let wet = folder.json(&format!("prune model.onnx -o small.onnx {line}"));
    for key in ["parameters", "macs"] {
        assert_eq!(dry["after"][key], wet["after"][key], "{key}");
    }
    let bytes = |report: &serde_json::Value| report["after"]["bytes"].as_f64().unwrap();
    assert!((bytes(&dry) / bytes(&wet) - 1.0).abs() < 0.01);
}

#[test]
fn a_plan_alone_needs_no_output() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    let text = folder.text("prune model.onnx --ratio 0.5 --plan plan.json");
    assert!(text.contains("Wrote the plan `plan.json`"), "{text}");
    assert_eq!(folder.files(), ["model.onnx", "plan.json"]);
}

#[test]
fn external_weights_count_and_are_not_written_over() {
    let folder = folder_with(&[
        "weights_external.onnx:model.onnx",
        "weights_external.bin:weights_external.bin",
    ]);
    let size = folder.read("model.onnx").len() + folder.read("weights_external.bin").len();
    let inspected = folder.json("inspect model.onnx --json");
    assert_eq!(inspected["bytes"], size);
    assert_eq!(inspected["data_files"][0], "weights_external.bin");
    let report = folder.json("prune model.onnx -o small.onnx --ratio 0.5 --json");
    let data = report["data"].as_str().unwrap();
    let size = folder.read("small.onnx").len() + folder.read(data).len();
    assert_eq!(report["after"]["bytes"], size);
    let before = folder.read("weights_external.bin");
    insta::assert_snapshot!(
        "external-error",
        folder.error("prune model.onnx -o weights_external.bin --ratio 0.5")
    );
    assert_eq!(folder.read("weights_external.bin"), before);
}

#[test]
fn a_file_of_the_asked_size_comes_out() {
    let folder = folder_with(&["flatten_conv_linear.onnx:model.onnx"]);
    let report = folder.json("prune model.onnx -o small.onnx --size 20kB --json");
    let bytes = report["after"]["bytes"].as_u64().unwrap();
    assert!(bytes <= 20_000 && bytes > 15_000, "{bytes}");
    assert_eq!(report["asked"]["amount"], 20_000);
}

#[test]
fn failure_leaves_files_as_they_were() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    folder.write("out.onnx", b"precious");
    folder.write("plan.json", b"precious");
    for flags in ["--macs 0.0001%", "--ratio 2", "--ratio 0.5 --keep nothing-like-this"] {
        folder.error(&format!("prune model.onnx -o out.onnx --plan plan.json {flags}"));
    }
    assert_eq!(folder.read("out.onnx"), b"precious");
    assert_eq!(folder.read("plan.json"), b"precious");
    assert_eq!(folder.files(), ["model.onnx", "out.onnx", "plan.json"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("secateur"))
        .args(["completions", "zsh"])
        .current_dir(folder.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    assert!(child.wait().unwrap().success());
}
