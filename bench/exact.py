"""Checks pruned files against masked ones in ONNX Runtime.

An exact group promises that the pruned model computes what the original computes with the removed
slices set to zero. `secateur mask` applies a plan's zeros without removing anything, so both files
must agree on random inputs. So that agreement means something, the masked one must differ from the
original, and the original's output must depend on its input.

    python bench/exact.py models/fashion-cnn.onnx
    python bench/exact.py yolo11n.onnx --shape images=1x3x320x320
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnxruntime import InferenceSession

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

DIFFER = "pruned and masked differ"
NOT_RUN = "ONNX Runtime does not run the original"
DEAD_INPUT = "the original's output does not depend on its input"
DEAD_MASK = "masking changed nothing"
VERDICTS = {
    "wrong": (DIFFER,),
    "not run": (NOT_RUN, "PyTorch does not run the original"),
    "says nothing": (DEAD_INPUT, DEAD_MASK),
}


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
        return "; ".join(self.problems) or self.verdict

    @property
    def verdict(self) -> str:
        """The worst of the problems in a word or two."""
        for verdict, signs in VERDICTS.items():
            if any(problem.startswith(signs) for problem in self.problems):
                return verdict
        if self.problems:
            return "failed"
        if not self.groups:
            return "nothing pruned"
        return "ok" if self.cut else "ok, no exact group"


class Refused(Exception):
    """ONNX Runtime does not load the file, or does not run it on the inputs."""


@dataclass
class Sample:
    """Inputs, and what the original makes of them."""

    inputs: Mapping[str, np.ndarray]
    outputs: Arrays


@dataclass
class Subject:
    """The file under test and what is known of it before anything is cut."""

    path: Path
    binary: Path
    ratio: float
    folder: Path  # for what is written on the way
    flags: list[str]
    tolerance: float
    samples: list[Sample]
    counted: list[set[int]]  # axes of the outputs whose extents are counted from data

    def prune(self, output: Path, *options: str | Path) -> dict[str, Any]:
        given = (f"--ratio={self.ratio}", *options, *self.flags)
        return call_json(self.binary, "prune", self.path, "-o", output, *given)


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
    result = Result()
    proto = onnx.load(path, load_external_data=False)
    sizes = input_shapes(proto, shapes or {})
    tolerance, flags = tolerance_of(proto), shape_flags(proto, sizes)
    make = partial(inputs or feeds, proto)
    try:
        samples = list(_samples(load(path), make, sizes, larger_batch(proto, sizes)))
    except Refused as error:
        result.problems.append(f"{NOT_RUN}: {error}")
        return result
    first, second = (sample.outputs for sample in samples[:2])
    if same_shapes(first, second) and not distance(first, second) > 10 * tolerance:
        result.problems.append(DEAD_INPUT)
    with tempfile.TemporaryDirectory() as folder:
        counted = counted_axes(first, second)
        subject = Subject(path, binary, ratio, Path(folder), flags, tolerance, samples, counted)
        try:
            _check_exact(subject, result)
            _check_all(subject, result)
        except ToolError as error:
            result.problems.append(str(error))
    return result


def _samples(
    session: InferenceSession,
    make: Callable[[Shapes, int], dict[str, np.ndarray]],
    sizes: Shapes,
    larger: Shapes | None,
) -> Iterator[Sample]:
    """Of two seeds and, unless the batch is baked in, of a larger batch."""
    for seed in (0, 1):
        inputs = make(sizes, seed)
        yield Sample(inputs, run(session, inputs))
    if larger:
        inputs = make(larger, 1)
        with contextlib.suppress(Refused):
            yield Sample(inputs, run(session, inputs))


def _check_exact(subject: Subject, result: Result) -> None:
    folder = subject.folder
    pruned, masked, plan = folder / "exact.onnx", folder / "masked.onnx", folder / "plan.json"
    result.exact = subject.prune(pruned, "--exact-only", "--plan", plan)
    call(subject.binary, "mask", subject.path, "-o", masked, "--plan", plan)
    if is_valid(subject.path) and not is_valid(pruned):
        result.problems.append("onnx.checker rejects the pruned file")
    try:
        _compare(subject, load(masked), load(pruned), result)
    except Refused as error:
        result.problems.append(f"the exact run: {error}")
    if not result.error <= subject.tolerance:
        result.problems.append(f"{DIFFER} by {result.error:.1e}")
    if result.cut and not result.problems and not result.effect > subject.tolerance:
        result.problems.append(f"{DEAD_MASK}: the check says nothing")


def _compare(
    subject: Subject, masked: InferenceSession, pruned: InferenceSession, result: Result
) -> None:
    for sample in subject.samples:
        wanted, got = run(masked, sample.inputs), run(pruned, sample.inputs)
        if not same_shapes(wanted, got) or not alike(sample.outputs, got, subject.counted):
            raise Refused("does not keep the output shapes")
        result.error = max(result.error, distance(wanted, got, sample.outputs))
        effect = distance(wanted, sample.outputs) if same_shapes(wanted, sample.outputs) else 1.0
        result.effect = max(result.effect, effect)


def _check_all(subject: Subject, result: Result) -> None:
    pruned = subject.folder / "all.onnx"
    result.report = subject.prune(pruned)
    try:
        session = load(pruned)
        for sample in subject.samples:
            got = run(session, sample.inputs)
            if not alike(sample.outputs, got, subject.counted):
                raise Refused("does not keep the output shapes")
            if not all(np.isfinite(array).all() for array in got):
                raise Refused("the output is not finite")
    except Refused as error:
        result.problems.append(f"all groups: {error}")
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


def larger_batch(proto: onnx.ModelProto, sizes: Shapes) -> Shapes | None:
    """Extents of one more sample, where the batch is symbolic."""
    if not all(any(symbolic(proto, name)[:1]) for name in sizes):
        return None
    return {name: [size[0] + 1, *size[1:]] for name, size in sizes.items()}


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


PRECISE = ("session.x64quantprecision", "1")
"""Else sums of products of 8 bits overflow 16 bits on processors without VNNI.

It takes effect from the extended level of optimization on.
"""


def load(path: Path) -> InferenceSession:
    """A session of ONNX Runtime on one thread, so that many can run side by side."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*PRECISE)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        return InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise Refused(_told(error)) from error


def run(session: InferenceSession, inputs: Mapping[str, np.ndarray]) -> Arrays:
    try:
        return session.run(None, dict(inputs))
    except Exception as error:  # as above
        raise Refused(_told(error)) from error


def _told(error: Exception) -> str:
    """The end of the message: it begins with a path into ONNX Runtime's sources."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][-200:]


def same_shapes(*outputs: Arrays) -> bool:
    return len({tuple(array.shape for array in arrays) for arrays in outputs}) == 1


def alike(usual: Arrays, got: Arrays, counted: Sequence[set[int]]) -> bool:
    """Whether shapes are the same but for axes whose extent is counted from data."""

    def fixed(array: np.ndarray, axes: set[int]) -> tuple[int, ...]:
        return tuple(0 if axis in axes else size for axis, size in enumerate(array.shape))

    pairs = zip(usual, got, counted, strict=True)
    return all(fixed(a, axes) == fixed(b, axes) for a, b, axes in pairs)


def counted_axes(first: Arrays, second: Arrays) -> list[set[int]]:
    """Axes whose extents differ between two inputs of the same extents."""
    return [
        {axis for axis in range(a.ndim) if a.ndim == b.ndim and a.shape[axis] != b.shape[axis]}
        for a, b in zip(first, second, strict=True)
    ]


def distance(wanted: Arrays, got: Arrays, usual: Arrays | None = None) -> float:
    """The largest difference over the largest magnitude; of integers, the share that differs.

    Where masking makes an output a hundred times smaller than `usual`, it counts as a hundredth of
    that: what is left of a probability of 1 is no better than the rounding of what it was.
    """
    return max(map(_distance, wanted, got, usual or wanted))


def _distance(wanted: np.ndarray, got: np.ndarray, usual: np.ndarray) -> float:
    if not wanted.size:
        return 0.0
    if not np.issubdtype(wanted.dtype, np.floating):
        return float((wanted != got).mean())
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = max(np.abs(a).max(), 0.01 * np.abs(usual.astype(np.float64)).max(), 1e-30)
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
