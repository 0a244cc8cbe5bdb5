"""Checks pruned files against masked ones in ONNX Runtime.

An exact group promises that the pruned model computes what the original computes with the removed
slices set to zero. `secateur mask` applies a plan's zeros without removing anything, so both files
must agree on random inputs. So that agreement means something, the masked one must differ from the
original, and the original's output must depend on its input.

    python bench/exact.py models/fashion-cnn.onnx
    python bench/exact.py yolo11n.onnx --shape images=1x3x320x320
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

import table
from tool import ToolError, call, call_json, find

TOLERANCE = 1e-4
HALF_TOLERANCE = 5e-3  # activations are rounded to 11 bits after every operator
SYMBOLIC = {0: 2}  # sizes given to symbolic axes: the batch, and any other
SYMBOLIC_OTHER = 6
PASSES = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Where", "Clip")

Shapes = Mapping[str, Sequence[int]]
Arrays = list[np.ndarray]
Feeds = Callable[[onnx.ModelProto, Shapes, int], dict[str, np.ndarray]]


@dataclass
class Result:
    """What one file did. `error` and `effect` are relative to the largest masked output."""

    report: dict[str, Any] = field(default_factory=dict)  # of the run over all groups
    exact: dict[str, Any] = field(default_factory=dict)  # of the run over exact groups
    error: float = 0.0  # pruned against masked
    effect: float = 0.0  # masked against original
    problems: list[str] = field(default_factory=list)

    @property
    def groups(self) -> int:
        return len(self.report.get("groups", []))

    @property
    def cut(self) -> int:
        """Groups that the exact run made smaller."""
        return sum(group["kept"] < group["size"] for group in self.exact.get("groups", []))

    @property
    def status(self) -> str:
        return "; ".join(self.problems) or ("ok" if self.cut else "ok, no exact group")


def check(
    path: Path,
    binary: Path,
    *,
    ratio: float = 0.5,
    shapes: Shapes | None = None,
    inputs: Feeds | None = None,
) -> Result:
    """Prunes `path` twice (exact groups, all groups) and runs what comes out.

    `shapes` gives the extents of inputs with symbolic axes; the batch is also tried one larger.
    `inputs` makes other inputs than `feeds` from the model, the extents and a seed.
    """
    make = inputs or feeds
    result = Result()
    proto = onnx.load(path, load_external_data=False)
    sizes = input_shapes(proto, shapes or {})
    first, second = (run(path, make(proto, sizes, seed)) for seed in (0, 1))
    if first is None or second is None:
        result.problems.append("ONNX Runtime does not run the original")
        return result
    if not distance(first, second) > 10 * tolerance_of(proto):
        result.problems.append("the original's output does not depend on its input")
    with tempfile.TemporaryDirectory() as folder:
        try:
            _check_exact(path, binary, Path(folder), ratio, proto, sizes, make, result)
            _check_all(path, binary, Path(folder), ratio, proto, sizes, make, result)
        except ToolError as error:
            result.problems.append(str(error))
    return result


def _check_exact(
    path: Path,
    binary: Path,
    folder: Path,
    ratio: float,
    proto: onnx.ModelProto,
    sizes: Shapes,
    make: Feeds,
    result: Result,
) -> None:
    pruned, masked, plan = folder / "exact.onnx", folder / "masked.onnx", folder / "plan.json"
    flags = shape_flags(proto, sizes)
    result.exact = call_json(
        binary,
        "prune",
        path,
        "-o",
        pruned,
        f"--ratio={ratio}",
        "--exact-only",
        "--plan",
        plan,
        *flags,
    )
    call(binary, "mask", path, "-o", masked, "--plan", plan)
    if is_valid(path) and not is_valid(pruned):
        result.problems.append("onnx.checker rejects the pruned file")
    for inputs in batches(proto, sizes, make):
        original = run(path, inputs)
        if original is None:  # the batch is baked into the original
            continue
        wanted, got = run(masked, inputs), run(pruned, inputs)
        if wanted is None or got is None or not same_shapes(original, wanted, got):
            result.problems.append("the exact run does not load, run, or keep the output shapes")
            return
        result.error = max(result.error, distance(wanted, got, original))
        result.effect = max(result.effect, distance(wanted, original))
    tolerance = tolerance_of(proto)
    if not result.error <= tolerance:
        result.problems.append(f"pruned and masked differ by {result.error:.1e}")
    if result.cut and not result.effect > tolerance:
        result.problems.append("masking changed nothing: the check says nothing")


def _check_all(
    path: Path,
    binary: Path,
    folder: Path,
    ratio: float,
    proto: onnx.ModelProto,
    sizes: Shapes,
    make: Feeds,
    result: Result,
) -> None:
    pruned = folder / "all.onnx"
    result.report = call_json(
        binary, "prune", path, "-o", pruned, f"--ratio={ratio}", *shape_flags(proto, sizes)
    )
    for inputs in batches(proto, sizes, make):
        original = run(path, inputs)
        if original is None:
            continue
        got = run(pruned, inputs)
        if got is None or not same_shapes(original, got):
            result.problems.append("all groups: does not load, run, or keep the output shapes")
            return
        if not all(np.isfinite(array).all() for array in got):
            result.problems.append("all groups: the output is not finite")
    before, after = (result.report[when]["parameters"] for when in ("before", "after"))
    if result.groups and not after < before:
        result.problems.append("all groups: nothing became smaller")


def input_shapes(proto: onnx.ModelProto, given: Shapes) -> dict[str, list[int]]:
    """Extents of every input; symbolic ones are as given, or small."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    return {
        value.name: list(given.get(value.name) or _declared(value))
        for value in proto.graph.input
        if value.name not in stored
    }


def _declared(value: onnx.ValueInfoProto) -> list[int]:
    extents = value.type.tensor_type.shape.dim
    return [
        extent.dim_value or SYMBOLIC.get(axis, SYMBOLIC_OTHER)
        for axis, extent in enumerate(extents)
    ]


def symbolic(proto: onnx.ModelProto, name: str) -> list[bool]:
    value = next(value for value in proto.graph.input if value.name == name)
    return [not extent.dim_value for extent in value.type.tensor_type.shape.dim]


def shape_flags(proto: onnx.ModelProto, sizes: Shapes) -> list[str]:
    return [
        f"--shape={name}={'x'.join(map(str, size))}"
        for name, size in sizes.items()
        if any(symbolic(proto, name))
    ]


def batches(proto: onnx.ModelProto, sizes: Shapes, make: Feeds) -> list[dict[str, np.ndarray]]:
    """Inputs of the given sizes and, where the batch is symbolic, of one more sample."""
    found = [make(proto, sizes, 0)]
    if all(any(symbolic(proto, name)[:1]) for name in sizes):
        larger = {name: [size[0] + 1, *size[1:]] for name, size in sizes.items()}
        found.append(make(proto, larger, 1))
    return found


def feeds(proto: onnx.ModelProto, sizes: Shapes, seed: int) -> dict[str, np.ndarray]:
    """Seeded inputs: normal floats, token ids within the vocabulary, masks of ones."""
    random = np.random.default_rng(seed)
    arrays = {}
    for value in proto.graph.input:
        if (size := sizes.get(value.name)) is None:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if "mask" in value.name:
            arrays[value.name] = np.ones(size, dtype)
        elif np.issubdtype(dtype, np.floating):
            arrays[value.name] = random.standard_normal(size).astype(dtype)
        else:
            arrays[value.name] = random.integers(vocabulary(proto, value.name), size=size).astype(
                dtype
            )
    return arrays


def vocabulary(proto: onnx.ModelProto, name: str) -> int:
    """Rows of the smallest table that an integer input indexes; 2 where there is none."""
    rows = {tensor.name: tensor.dims[0] for tensor in proto.graph.initializer if tensor.dims}
    derived, found = {name}, []
    for node in proto.graph.node:
        if node.op_type in PASSES and derived.intersection(node.input):
            derived.update(node.output)
        elif node.op_type == "Gather" and node.input[1] in derived and node.input[0] in rows:
            found.append(rows[node.input[0]])
    return min(found, default=2)


def run(path: Path, inputs: Mapping[str, np.ndarray]) -> Arrays | None:
    """Outputs in ONNX Runtime, or nothing where it refuses the file or the inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return session.run(None, dict(inputs))
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        print(f"{path.name}: {error}", file=sys.stderr)
        return None


def same_shapes(*outputs: Arrays) -> bool:
    return len({tuple(array.shape for array in arrays) for arrays in outputs}) == 1


def distance(wanted: Arrays, got: Arrays, usual: Arrays | None = None) -> float:
    """The largest difference over the largest magnitude; of integers, the share that differs.

    `usual` has magnitudes that count too: a probability is one even where masking makes it 1e-8.
    """
    return max(map(_distance, wanted, got, usual or wanted))


def _distance(wanted: np.ndarray, got: np.ndarray, usual: np.ndarray) -> float:
    if not np.issubdtype(wanted.dtype, np.floating):
        return float((wanted != got).mean())
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = max(np.abs(a).max(), np.abs(usual.astype(np.float64)).max(), 1e-30)
    return float(np.abs(a - b).max() / scale)


def is_valid(path: Path) -> bool:
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def tolerance_of(proto: onnx.ModelProto) -> float:
    types = {value.type.tensor_type.elem_type for value in proto.graph.output}
    return HALF_TOLERANCE if TensorProto.FLOAT16 in types else TOLERANCE


def parse_shape(text: str) -> tuple[str, list[int]]:
    name, _, extents = text.rpartition("=")
    return name, [int(extent) for extent in extents.split("x")]


HEADER = ("file", "groups", "cut", "covered", "parameters", "after", "error", "effect", "status ")


def row(name: str, result: Result) -> list[str]:
    if not result.report:
        return [name, *["-"] * 7, result.status]
    before, after = (result.report[when]["parameters"] for when in ("before", "after"))
    return [
        name,
        str(result.groups),
        str(result.cut),
        f"{result.report['coverage']:.1%}",
        f"{before:,}",
        f"{after:,}",
        f"{result.error:.1e}",
        f"{result.effect:.1e}",
        result.status,
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--secateur", type=Path, help="the binary (default: the one in target)")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument(
        "--shape", action="append", type=parse_shape, default=[], metavar="NAME=2x3"
    )
    arguments = parser.parse_args()
    try:
        binary = find(arguments.secateur)
    except ToolError as error:
        sys.exit(str(error))
    shapes = dict(arguments.shape)
    results = [
        check(path, binary, ratio=arguments.ratio, shapes=shapes) for path in arguments.files
    ]
    rows = [row(path.stem, r) for path, r in zip(arguments.files, results, strict=True)]
    print(table.text(HEADER, rows))
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())
