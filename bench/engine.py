"""Models on the engine and on ONNX Runtime, side by side.

`engine.py MODEL…` prints how far the outputs are apart, as a share of the largest one.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

EXAMPLES = Path(__file__).parents[1] / "target" / "debug" / "examples"
RUN, GRADIENTS = EXAMPLES / "run", EXAMPLES / "gradients"
WIDE = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
BATCH = 100
INTEGERS = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize")
"""Operators whose sums overflow on processors without VNNI, unless the runtime optimizes."""


class Case(NamedTuple):
    """A model and what goes in; what comes out where the runtime is not to be asked."""

    name: str
    model: onnx.ModelProto | Path
    feeds: dict[str, np.ndarray]
    expected: list[np.ndarray | None] | None = None
    standard: bool = False
    """Whether the runtime is known to depart from the standard."""
    tolerance: float = 1e-5


def plain(array: np.ndarray) -> np.ndarray:
    """An array in a type that the engine computes in."""
    return np.asarray(array, WIDE.get(array.dtype.kind, np.float32))


def runtime(model: onnx.ModelProto | Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")
    graph = (
        model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)
    ).graph
    if not any(node.op_type.startswith(INTEGERS) for node in graph.node):
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def truth(case: Case) -> list[np.ndarray | None]:
    """What a case gives: by ONNX Runtime, or where that refuses, by the standard's evaluator."""
    if case.expected is not None:
        return case.expected
    if not case.standard:
        try:
            return runtime(case.model, case.feeds)
        except Exception as error:
            if "com.microsoft" in str(error):
                raise
    source = case.model if isinstance(case.model, onnx.ModelProto) else str(case.model)
    return ReferenceEvaluator(source).run(None, case.feeds)


def call(binary: Path, cases: list[Case]) -> Iterable[tuple[str, Path]]:
    """What a binary says of every case, and the folder that it wrote to."""
    with tempfile.TemporaryDirectory() as folder:
        triples = []
        for number, case in enumerate(cases):
            place = Path(folder) / str(number)
            for side in ("in", "out"):
                (place / side).mkdir(parents=True)
            path = case.model
            if isinstance(path, onnx.ModelProto):
                path = place / "model.onnx"
                path.write_bytes(case.model.SerializeToString())
            for index, array in enumerate(case.feeds.values()):
                np.save(place / "in" / f"{index}.npy", plain(array), allow_pickle=False)
            triples += [path, place / "in", place / "out"]
        done = subprocess.run([binary, *triples], capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        for number in range(len(cases)):
            line = lines[number] if number < len(lines) else f"crash: {done.stderr[-300:]}"
            yield line, Path(folder) / str(number) / "out"


def engine(cases: list[Case]) -> Iterable[list[np.ndarray] | str]:
    """What the engine makes of every case, or why it does not."""
    for line, folder in call(RUN, cases):
        if line != "ok":
            yield line
        else:
            files = sorted(folder.iterdir(), key=lambda file: int(file.stem))
            yield [np.load(file) for file in files]


class Slope(NamedTuple):
    """What is known of the gradient of a real operand."""

    operand: str
    derivative: float
    quotient: float
    """The difference quotient in the same direction."""
    size: float
    """How large the terms of the derivative are."""

    def apart(self) -> float:
        gap = abs(self.derivative - self.quotient)
        return gap / max(self.size, abs(self.quotient), 1e-2)


def gradients(cases: list[Case]) -> Iterable[tuple[Case, list[Slope] | str, dict[str, np.ndarray]]]:
    """Per case its slopes, or why there are none, and the gradients of its inputs."""
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        for case, (line, folder) in zip(batch, call(GRADIENTS, batch), strict=True):
            if line.startswith(("error", "crash")):
                yield case, line, {}
                continue
            words = line.split()
            rows = zip(*(words[start::4] for start in range(4)), strict=True)
            slopes = [Slope(row[0], *map(float, row[1:])) for row in rows]
            names = list(case.feeds)
            found = {names[int(file.stem)]: np.load(file) for file in folder.iterdir()}
            yield case, slopes, found


def distance(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference by the largest element; what is not finite has to agree."""
    got, want = got.astype(np.float64), plain(want).astype(np.float64)
    if got.shape != want.shape:
        return np.inf
    ends = ~np.isfinite(want)
    if (
        not np.array_equal(got[ends], want[ends], equal_nan=True)
        or not np.isfinite(got[~ends]).all()
    ):
        return np.inf
    if not (~ends).any():
        return 0.0
    return float(np.abs(got[~ends] - want[~ends]).max() / max(np.abs(want[~ends]).max(), 1e-9))


def largest(got: list[np.ndarray], wanted: list[np.ndarray | None]) -> float:
    """The largest distance of outputs, of those that are expected."""
    pairs = zip(got, wanted, strict=False)
    arrays = [pair for pair in pairs if isinstance(pair[1], np.ndarray)]
    return max((distance(*pair) for pair in arrays), default=0.0)


def moved(case: Case, draws: int = 3) -> float:
    """How far what is expected moves, by `distance`, where every real input is its next number.

    The most of several draws of which inputs grow.
    """

    def apart(seed: int) -> float:
        rng = np.random.default_rng(seed)
        feeds = {
            name: near(array, rng) if array.dtype.kind == "f" else array
            for name, array in case.feeds.items()
        }
        return largest(truth(case._replace(feeds=feeds)), usual)

    usual = truth(case)
    return max(map(apart, range(draws)))


def near(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The next numbers, above or below."""
    ends = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
    return np.nextafter(array, ends)


def compare(cases: list[Case]) -> Iterable[tuple[Case, float | str]]:
    """How far the engine is from what is expected, case by case, or what went wrong."""
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        for case, got in zip(batch, engine(batch), strict=True):
            try:
                wanted = truth(case)
            except Exception as error:
                yield case, f"runtime: {error}"
                continue
            if isinstance(got, str):
                yield case, got
                continue
            yield case, largest(got, wanted)


def feeds_for(
    path: Path, seed: int = 0, shapes: dict[str, list[int]] | None = None
) -> dict[str, np.ndarray]:
    """Random inputs of a model, of these shapes if given: tokens are 0 or 1, masks are true."""
    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    rng, feeds = np.random.default_rng(seed), {}
    for value in graph.input:
        if value.name in stored:
            continue
        dims = value.type.tensor_type.shape.dim
        shape = [d.dim_value or (2 if i == 0 else 16) for i, d in enumerate(dims)]
        shape = (shapes or {}).get(value.name, shape)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype.kind == "b":
            feeds[value.name] = np.ones(shape, dtype)
        elif dtype.kind in "iu":
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def main() -> None:
    paths = [Path(path) for path in sys.argv[1:]]
    for case, found in compare([Case(path.name, path, feeds_for(path)) for path in paths]):
        print(f"{case.name}  {found if isinstance(found, str) else f'{found:.1e}'}", flush=True)


if __name__ == "__main__":
    main()
