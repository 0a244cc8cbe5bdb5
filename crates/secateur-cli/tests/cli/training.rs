//! Verbs that run and train models.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Folder, folder};

/// A folder with a trained model, and a thousand images that it was not trained on.
fn trained() -> Folder {
    let folder = folder();
    for (from, to) in [("fashion-cnn.onnx", "cnn.onnx"), ("fashion-test.npz", "data.npz")] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(from);
        folder.write(to, &fs::read(source).unwrap());
    }
    folder
}

fn loss(folder: &Folder, model: &str) -> f64 {
    folder.json(&format!("evaluate {model} --data data.npz --json"))["loss"].as_f64().unwrap()
}

#[test]
fn accuracy_is_what_onnx_runtime_says() {
    // The same figure stands in models/README.md, from models/accuracy.py.
    let text = trained().text("evaluate cnn.onnx --data data.npz");
    assert!(text.contains("1000 samples") && text.contains("accuracy 93.4 %"), "{text}");
}

#[test]
fn what_was_pruned_is_equal_to_the_mask() {
    let folder = trained();
    let text = folder.text("prune cnn.onnx --ratio 0.5 --verify -o small.onnx --plan plan.json");
    assert!(text.contains("Equal to the mask: error"), "{text}");
    for rest in ["small.onnx --plan plan.json", "--plan plan.json", "small.onnx"] {
        let text = folder.text(&format!("verify cnn.onnx {rest}"));
        assert!(text.starts_with("Equal to the mask"), "{text}");
    }
}

#[test]
fn a_model_that_differs_is_told_with_its_node() {
    let folder = trained();
    folder.text("prune cnn.onnx --ratio 0.5 -o small.onnx --plan plan.json --exact-only");
    folder.text("train small.onnx -o tuned.onnx --data data.npz --lr 0.01 --quiet");
    let ran = folder.run("verify cnn.onnx tuned.onnx --plan plan.json");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("first at node `"), "{}", ran.stderr);
    let ran = folder.run("verify cnn.onnx tuned.onnx");
    assert!(ran.stderr.contains("has other elements in `"), "{}", ran.stderr);
    assert!(ran.stderr.contains("give the plan"), "{}", ran.stderr);
}

#[test]
fn weights_that_a_plan_does_not_make_are_told_where_groups_are_approximate() {
    let folder = folder();
    for (from, to) in [("fashion-vit.onnx", "vit.onnx"), ("fashion-test.npz", "data.npz")] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(from);
        folder.write(to, &fs::read(source).unwrap());
    }
    folder.text("prune vit.onnx --ratio 0.5 -o small.onnx --plan plan.json");
    let verified = folder.json("verify vit.onnx small.onnx --plan plan.json --json");
    assert_ne!(verified["approximate"].as_array().unwrap().len(), 0, "{verified}");
    folder.text("train small.onnx -o tuned.onnx --data data.npz --limit 64 --epochs 1 --quiet");
    let ran = folder.run("verify vit.onnx tuned.onnx --plan plan.json");
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("is not what the plan makes of it"), "{}", ran.stderr);
}

#[test]
fn tolerances_are_numbers() {
    let ran = trained().run("verify cnn.onnx --plan plan.json --tolerance nan");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("give a number from 0 on"), "{}", ran.stderr);
}

#[test]
fn criteria_on_data_choose_what_goes() {
    let folder = trained();
    for criterion in ["taylor", "fisher", "apoz", "taylor-activation", "activation-norm"] {
        let text = folder.text(&format!(
            "prune cnn.onnx -o small.onnx --ratio 0.3 --criterion {criterion} --data data.npz \
             --score-samples 100 --verify"
        ));
        assert!(text.contains("Equal to the mask"), "{criterion}: {text}");
    }
}

#[test]
fn a_model_is_cut_while_it_trains() {
    let folder = trained();
    let report = folder.json(
        "train cnn.onnx -o small.onnx --data data.npz --batch-size 50 --lr 0.0003 --macs 60% \
         --prune-every 5 --prune-times 3 --json",
    );
    assert_eq!(report["cuts"].as_array().unwrap().len(), 3);
    let of = |when: &str| report["macs"][when].as_u64().unwrap() as f64;
    assert!(of("after") <= 0.6 * of("before"), "{report}");
    assert!(loss(&folder, "small.onnx").is_finite());
}

#[test]
fn a_killed_run_goes_on_to_the_same_weights() {
    let folder = trained();
    let line = |out: &str, checkpoints: &str| {
        format!(
            "train cnn.onnx -o {out} --data data.npz --batch-size 50 --lr 0.0003 --epochs 2 \
             --prune-every 12 --ratio 0.2 --checkpoint {checkpoints} --checkpoint-every 4 \
             --resume --quiet"
        )
    };
    folder.text(&line("whole.onnx", "first"));
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("secateur"))
        .current_dir(folder.path(""))
        .args(line("resumed.onnx", "second").split_whitespace())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !has_checkpoint(&folder.path("second")) && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    folder.text(&line("resumed.onnx", "second"));
    assert_eq!(folder.read("whole.onnx"), folder.read("resumed.onnx"));
}

#[test]
fn a_run_goes_on_as_what_it_was() {
    let folder = trained();
    let line = |model: &str, rest: &str| {
        format!(
            "train {model} -o out.onnx --data data.npz --checkpoint run --checkpoint-every 2 \
             --resume --quiet {rest}"
        )
    };
    folder.text(&line("cnn.onnx", "--batch-size 50"));
    folder.text("prune cnn.onnx -o small.onnx --ratio 0.5");
    for (line, expected) in [
        (line("cnn.onnx", "--batch-size 50 --optimizer sgd"), "another optimizer"),
        (line("cnn.onnx", "--batch-size 20"), "an epoch had 20 steps, and has 50 now"),
        (line("small.onnx", "--batch-size 50"), "not of `small.onnx`"),
    ] {
        let error = folder.error(&line);
        assert!(error.contains(expected), "{error}");
    }
}

fn has_checkpoint(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
}

#[test]
fn a_student_learns_from_a_teacher() {
    let folder = trained();
    folder.text("prune cnn.onnx --ratio 0.3 -o small.onnx");
    folder.text(
        "train small.onnx -o student.onnx --data data.npz --teacher cnn.onnx --lr 0.0003 --quiet",
    );
    assert!(loss(&folder, "student.onnx") < loss(&folder, "small.onnx"));
}

#[test]
fn scores_and_curves_are_written() {
    let folder = trained();
    folder.text("score cnn.onnx --criterion apoz --data data.npz -o scores.json");
    let found: Value = serde_json::from_slice(&folder.read("scores.json")).unwrap();
    let groups = found["groups"].as_object().unwrap();
    let is_share = |x: &Value| (0.0..=1.0).contains(&x.as_f64().unwrap());
    let mut numbers = groups.values().filter_map(|group| group.as_array()).flatten();
    assert!(!groups.is_empty() && numbers.all(is_share));
    let text = folder
        .text("sensitivity cnn.onnx --data data.npz --limit 100 --ratios 0.5 --plot curves.svg");
    assert!(text.starts_with("Whole model: 0.9"), "{text}");
    assert!(String::from_utf8(folder.read("curves.svg")).unwrap().contains("</svg>"));
}

#[test]
fn bad_data_and_targets_are_told_before_or_at_the_first_step() {
    let folder = trained();
    let row = |first: &str, label: &str| format!("{first}{},{label}\n", ",0.5".repeat(783));
    let good = row("0.5", "0") + &row("0.5", "1");
    let cases = [
        (row("0.5", "0") + &row("0.5", "70"), "", "class 70 of 10"),
        (row("nan", "0") + &row("0.5", "1"), "", "row 1"),
        (good.clone(), "--params 1 --prune-every 1", "(0.1 %) remain, and the target is 1"),
        (good, "--ratio 0.5 --prune-every 1000", "cut less often"),
    ];
    for (text, more, expected) in cases {
        folder.write("x.csv", text.as_bytes());
        let ran =
            folder.run(&format!("train cnn.onnx -o out.onnx --data x.csv --batch-size 2 {more}"));
        assert!(ran.code == 1 && ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        assert!(!folder.path("out.onnx").exists());
    }
    let ran = folder.run("train cnn.onnx -o out.onnx");
    assert!(ran.code == 1 && ran.stderr.contains("give `--data PATH`"), "{}", ran.stderr);
}
