"""The shipped models survive light pruning without any retraining."""

from pathlib import Path

import pytest

import accuracy
import tool

MODELS = tool.ROOT / "models"


@pytest.mark.parametrize(("name", "expected"), [("fashion-cnn", 0.91), ("fashion-vit", 0.87)])
def test_shipped_model_is_accurate(name: str, expected: float) -> None:
    assert accuracy.evaluate(MODELS / f"{name}.onnx").accuracy >= expected


@pytest.mark.parametrize("name", ["fashion-cnn", "fashion-vit"])
def test_lightly_pruned_model_is_smaller_and_far_above_chance(
    name: str, binary: Path, tmp_path: Path
) -> None:
    source, small = MODELS / f"{name}.onnx", tmp_path / "small.onnx"
    tool.call(binary, "prune", source, "-o", small, "--ratio", "0.1")
    before, after = accuracy.evaluate(source), accuracy.evaluate(small)
    assert after.parameters < 0.95 * before.parameters
    assert small.stat().st_size < 0.95 * source.stat().st_size
    assert after.accuracy > 0.5
