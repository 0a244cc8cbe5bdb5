"""Head widths are cut only when asked for. The scale of attention must then stay what it was."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import exact
import tool

FOLDER = tool.ROOT / "crates" / "secateur" / "tests" / "fixtures"
NAMES = [
    "fused_qkv_attention",
    "fused_qkv_attention_opset23",
    "grouped_query_attention",
    "ort_attention",
    "ort_attention_narrow_values",
    "ort_bert",
    "ort_llama",
    "ort_multi_head_attention",
    "rotary_attention",
    "rotary_opset23",
]


@pytest.mark.parametrize("name", NAMES)
def test_pruned_heads_compute_what_masked_heads_compute(
    name: str, binary: Path, tmp_path: Path
) -> None:
    path, pruned, masked = (
        FOLDER / f"{name}.onnx",
        tmp_path / "pruned.onnx",
        tmp_path / "masked.onnx",
    )
    plan = tmp_path / "plan.json"
    flags = ["--ratio=0.5", "--exact-only", "--kinds=head-width", "--plan", plan]
    groups = tool.call_json(binary, "prune", path, "-o", pruned, *flags)["groups"]
    assert any(group["kept"] < group["size"] for group in groups)
    tool.call(binary, "mask", path, "-o", masked, "--plan", plan)
    proto = onnx.load(path)
    inputs = exact.feeds(proto, exact.input_shapes(proto, {}), seed=0)
    wanted, got = (outputs(file, inputs) for file in (masked, pruned))
    assert exact.distance(wanted, got) < exact.TOLERANCE
    assert exact.distance(wanted, outputs(path, inputs)) > exact.TOLERANCE


def outputs(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)
