use crate::support::folder;

const VERBS: [&str; 12] = [
    "inspect",
    "groups",
    "why",
    "prune",
    "apply",
    "mask",
    "verify",
    "evaluate",
    "score",
    "sensitivity",
    "train",
    "completions",
];

#[test]
fn help_teaches_by_example() {
    let folder = folder();
    insta::assert_snapshot!("help", folder.text("--help"));
    for verb in VERBS {
        let help = folder.text(&format!("{verb} --help"));
        assert!(help.contains("Examples:"), "{verb}");
        insta::assert_snapshot!(format!("help-{verb}"), help);
    }
}

#[test]
fn completions_are_for_every_shell() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.text(&format!("completions {shell}"));
        assert!(script.contains("secateur") && script.contains("exact-only"), "{shell}");
    }
}

#[test]
fn a_missing_output_is_a_usage_error() {
    let ran = folder().run("prune model.onnx --ratio 0.5");
    assert_eq!(ran.code, 2);
    insta::assert_snapshot!(ran.stderr);
}

#[test]
fn a_target_is_required_and_only_one() {
    for line in ["prune model.onnx -o out.onnx", "prune m.onnx -o o.onnx --ratio 0.5 --macs 50%"] {
        assert_eq!(folder().run(line).code, 2, "{line}");
    }
}

#[test]
fn values_are_read_strictly() {
    let flags = [
        "--ratio half",
        "--ratio 0.5 --shape x",
        "--ratio 0.5 --shape x=0x3",
        "--ratio 0.5 --shape x=1x-3",
        "--ratio 0.5 --kinds nonsense",
        "--ratio 0.5 --kinds +nonsense",
        "--ratio 0.5 --ratio-for conv=much",
        "--ratio 0.5 --ratio-for conv",
        "--ratio 0.5 --scope everywhere",
        "--ratio 0.5 --criterion hope",
        "--ratio 0.5 --roles king",
        "--ratio 0.5 --steps -1",
        "--macs lots",
        "--size 5parsecs",
    ];
    let folder = folder();
    for flags in flags {
        let ran = folder.run(&format!("prune model.onnx -o out.onnx {flags}"));
        assert_eq!(ran.code, 2, "{flags}: {}", ran.stderr);
    }
}
