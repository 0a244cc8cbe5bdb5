"""The exactness check itself fails when it should: a stand-in for the binary lies to it."""

import sys
from pathlib import Path

import pytest

import exact
import tool

MODEL = tool.ROOT / "crates" / "secateur" / "tests" / "fixtures" / "gemm_transposed.onnx"

STAND_IN = """#!{python}
import json, sys
import numpy as np, onnx
from onnx import numpy_helper

verb, source, output = sys.argv[1], sys.argv[2], sys.argv[4]
model = onnx.load(source)
if verb in {zeroing}:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(array * np.float32(0.5), tensor.name))
onnx.save(model, output)
if verb == "prune":
    count = {{"parameters": 2, "macs": 2, "bytes": 2}}
    group = {{"name": "g", "kind": "features", "size": 2, "kept": 1, "exact": True}}
    print(json.dumps({{"before": count, "after": dict(count, parameters=1), "groups": [group],
                      "coverage": 1.0, "milliseconds": 1.0, "warnings": []}}))
"""


def stand_in(folder: Path, zeroing: tuple[str, ...]) -> Path:
    path = folder / "secateur"
    path.write_text(STAND_IN.format(python=sys.executable, zeroing=zeroing))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("zeroing", "problem"),
    [
        (("prune", "mask"), None),
        (("mask",), "pruned and masked differ"),
        (("prune",), "pruned and masked differ"),
        ((), "masking changed nothing"),
    ],
)
def test_lies_are_found(zeroing: tuple[str, ...], problem: str | None, tmp_path: Path) -> None:
    result = exact.check(MODEL, stand_in(tmp_path, zeroing))
    if problem is None:
        assert not result.problems
    else:
        assert problem in result.problems[0]
