use insta::assert_snapshot;

use crate::support::folder_with;

#[test]
fn inspect_shows_what_is_in_a_model() {
    let folder = folder_with(&["dynamic_attention.onnx:model.onnx"]);
    assert_snapshot!("inspect", folder.text("inspect model.onnx"));
    assert_snapshot!("inspect-shape", folder.text("inspect model.onnx --shape input=2x7x16"));
    assert_snapshot!("inspect-json", folder.text("inspect model.onnx --json"));
}

#[test]
fn groups_are_listed_with_their_slices() {
    let folder = folder_with(&["fused_qkv_attention.onnx:model.onnx"]);
    assert_snapshot!("groups", folder.text("groups model.onnx"));
    assert_snapshot!("groups-verbose", folder.text("groups model.onnx --verbose"));
    assert_snapshot!("groups-pattern", folder.text("groups model.onnx head*"));
    assert_snapshot!("groups-json", folder.text("groups model.onnx --json head*"));
    assert_snapshot!("groups-pinned", folder.text("groups model.onnx --pinned"));
}

#[test]
fn segments_of_other_groups_are_only_sizes() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    assert_snapshot!("groups-segments", folder.text("groups model.onnx -v"));
}

#[test]
fn why_explains_axes_and_ties() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    assert_snapshot!("why", folder.text("why model.onnx split.0.weight:0"));
    assert_snapshot!("why-pinned", folder.text("why model.onnx stem.0.weight:1"));
    let tied = "why model.onnx split.0.weight:0 blocks.1.conv2.0.weight:0";
    assert_snapshot!("why-tie", folder.text(tied));
    let free = "why model.onnx stem.0.weight:0 split.0.weight:0";
    assert_snapshot!("why-independent", folder.text(free));
    let tie = folder.json(&format!("{tied} --json"));
    assert!(tie["tied"].as_bool().unwrap() && tie["tie"]["chain"].is_array());
    assert!(folder.json(&format!("{free} --json"))["tie"].is_null());
    let group = folder.json("why model.onnx split.0.weight:0#1 --json");
    assert_eq!(group["axis"], "split.0.weight:0");
    let folder = folder_with(&["depthwise.onnx:model.onnx"]);
    assert_snapshot!("why-single", folder.text("why model.onnx 1.0.weight:1"));
}

#[test]
fn prune_reports_before_and_after() {
    let folder = folder_with(&["fused_qkv_attention.onnx:model.onnx"]);
    assert_snapshot!("prune", folder.text("prune model.onnx -o small.onnx --ratio 0.5"));
    let line = "prune model.onnx --dry-run --macs 60% --kinds +head-width,-residual --verbose";
    assert_snapshot!("prune-verbose", folder.text(line));
    let line = "prune model.onnx -o small.onnx --ratio 0.5 --max-ratio 0.3 --keep head*";
    assert_snapshot!("prune-short", folder.text(line));
}

#[test]
fn prune_json_has_the_promised_keys() {
    let folder = folder_with(&["fused_qkv_attention.onnx:model.onnx"]);
    let text = folder.text("prune model.onnx -o small.onnx --params 60% --json");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(report["milliseconds"].as_f64().unwrap() > 0.0);
    let time = format!("\"milliseconds\": {}", report["milliseconds"]);
    assert_snapshot!("prune-json", text.replace(&time, "\"milliseconds\": N"));
    let size = folder.read("small.onnx").len();
    assert_eq!(report["after"]["bytes"].as_u64().unwrap() as usize, size);
    let inspected = folder.json("inspect small.onnx --json");
    for key in ["parameters", "macs", "bytes"] {
        assert_eq!(inspected[key], report["after"][key], "{key}");
    }
}

#[test]
fn nothing_pruned_is_said_aloud() {
    let folder = folder_with(&["small_cnn_opset20.onnx:model.onnx"]);
    let ran = folder.run("prune model.onnx -o small.onnx --ratio 0.5 --kinds heads");
    assert_eq!(ran.code, 0);
    assert_snapshot!("prune-nothing", format!("{}\n---\n{}", ran.stdout, ran.stderr));
    let ran = folder.run("prune model.onnx -o small.onnx --macs 50% --kinds heads");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    let report = folder.json("prune model.onnx -o small.onnx --ratio 0 --json");
    assert!(report["warnings"][0].as_str().unwrap().starts_with("nothing was pruned"));
    assert_eq!(folder.read("small.onnx"), folder.read("model.onnx"));
}

#[test]
fn quiet_prints_nothing() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    let line = "prune model.onnx -o small.onnx --ratio 0.5 --plan plan.json --quiet";
    assert_eq!(folder.text(line), "");
    assert_eq!(folder.text("apply plan.json model.onnx -o again.onnx --quiet"), "");
    assert_eq!(folder.text("mask model.onnx --plan plan.json -o mask.onnx --quiet"), "");
}

#[test]
fn apply_and_mask_follow_a_plan() {
    let folder = folder_with(&["c2f.onnx:model.onnx"]);
    folder.text("prune model.onnx -o small.onnx --ratio 0.5 --plan plan.json");
    assert_snapshot!("apply", folder.text("apply plan.json model.onnx -o again.onnx"));
    assert_snapshot!("mask", folder.text("mask model.onnx -o mask.onnx --plan plan.json"));
    let report = folder.json("apply plan.json model.onnx -o again.onnx --json");
    assert!(report["asked"].is_null() && report["groups"][0]["asked"].is_null());
    let masked = folder.json("mask model.onnx -o mask.onnx --plan plan.json --json");
    assert_eq!(masked["output"], "mask.onnx");
}
