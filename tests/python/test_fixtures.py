"""Every fixture keeps the promise of exact groups, and keeps its output shapes."""

from pathlib import Path

import pytest

import exact
import tool

FOLDER = tool.ROOT / "crates" / "secateur" / "tests" / "fixtures"
FILES = sorted(FOLDER.glob("*.onnx"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pruned_computes_what_masked_computes(path: Path, binary: Path) -> None:
    result = exact.check(path, binary)
    assert not result.problems
    assert result.cut > 0, "nothing was pruned"


@pytest.mark.parametrize(
    "name",
    [
        "linear_attention_elu",
        "layer_norm_residual",
        "group_norm",
        "rnn_sigmoid",
        "spelled_gates",
        "folded",
    ],
)
def test_approximate_groups_are_told_apart(name: str, binary: Path) -> None:
    groups = exact.check(FOLDER / f"{name}.onnx", binary).report["groups"]
    assert {group["exact"] for group in groups} == {True, False}


@pytest.mark.parametrize(
    "name",
    [
        "squeeze_excite",
        "residual_add",
        "c2f",
        "channel_shuffle",
        "lstm_stack",
        "gru_given_state",
        "spelled_activations",
    ],
)
def test_all_groups_are_exact(name: str, binary: Path) -> None:
    groups = exact.check(FOLDER / f"{name}.onnx", binary).report["groups"]
    assert all(group["exact"] for group in groups)
