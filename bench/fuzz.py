"""Prunes random models and compares with masked ones in ONNX Runtime.

Every seed makes one small model (`randomgraph.py`). Pruned with exact groups only it must compute
what the masked one does; pruned everywhere it must run; both must keep the output shapes, also at
input sizes other than those that were analyzed. A failing model is kept in target/fuzz.

    python bench/fuzz.py --seeds 1000
    python bench/fuzz.py --seeds 1000 --quantized    # each one quantized first, in some way
"""

import argparse
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from exact import Arrays, distance, same_shapes
from quantized import Unquantized, quantize
from randomgraph import Model, build
from tool import ROOT, ToolError, call, find

FOLDER = ROOT / "target" / "fuzz"
OTHER_SIZES = ((3, 7), (1, 5))  # batch and tokens that nothing was analyzed at
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-8}
Inputs = dict[str, np.ndarray]
Made = tuple[Model, type, list[Inputs], list[Arrays]]
Make = Callable[[int, Path], Made | None]


class Failure(Exception):
    """What is wrong with a pruned model."""


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: list[Inputs]) -> list[Arrays]:
    """One list of outputs per set of inputs.

    # Raises
    `Failure` where ONNX Runtime refuses the file or an input.
    """
    try:
        loaded = session(path)
        return [loaded.run(None, feeds) for feeds in inputs]
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise Failure(f"{path.stem}: {error}") from None


def feeds(model: Model, dtype: type, sizes: tuple[int, int]) -> Inputs:
    numbers = np.random.default_rng(sizes)
    arrays = {}
    for name, shape in model.inputs.items():
        extents = [dim.at(*sizes) for dim in shape]
        if name in model.ids:
            arrays[name] = numbers.integers(model.ids[name], size=extents)
        else:
            arrays[name] = numbers.standard_normal(extents).astype(dtype)
    return arrays


def is_valid(path: Path) -> bool:
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def make(seed: int, path: Path) -> Made | None:
    """Writes the model of a seed, in double precision where ONNX Runtime has all operators."""
    for dtype in (np.float64, np.float32):
        model = build(seed, dtype)
        onnx.save(model.proto, path)
        sizes = {model.sizes, *OTHER_SIZES} if is_open(model) else {model.sizes}
        inputs = [feeds(model, dtype, size) for size in sorted(sizes, key=model.sizes.__ne__)]
        try:
            outputs = run(path, inputs)
        except Failure as failure:
            if "NOT_IMPLEMENTED" not in str(failure):
                print(f"seed {seed} skipped: {failure}", file=sys.stderr)
                return None
            continue
        finite = all(np.isfinite(array).all() for arrays in outputs for array in arrays)
        return (model, dtype, inputs, outputs) if finite else None
    return None


def make_quantized(seed: int, path: Path) -> Made | None:
    """Writes the model of a seed, quantized; only at the input sizes that it is analyzed at."""
    model = build(seed, np.float32)
    source = path.with_suffix(".source.onnx")
    onnx.save(model.proto, source)
    inputs = [feeds(model, np.float32, model.sizes)]
    try:
        run(source, inputs)
        quantize(source, path, seed, inputs)
        outputs = run(path, inputs)
    except (Failure, Unquantized):
        return None
    finite = all(np.isfinite(array).all() for array in outputs[0])
    return (model, np.float32, inputs, outputs) if finite else None


def is_open(model: Model) -> bool:
    return any(not dim.fixed for shape in model.inputs.values() for dim in shape)


def flags(seed: int, model: Model) -> list[str]:
    rng = random.Random(seed)
    words = [f"--ratio={rng.choice([0.25, 0.5, 0.5, 0.75, 0.95])}", "--kinds=all"]
    words.append(f"--criterion={rng.choice(['l2', 'random'])}")
    if is_open(model):
        for name, shape in model.inputs.items():
            words.append(f"--shape={name}={'x'.join(str(dim.at(*model.sizes)) for dim in shape)}")
    return words


def check(seed: int, binary: Path, folder: Path, make: Make) -> bool:
    """Whether the seed made a model; raises `Failure` or `ToolError` where it is pruned wrongly."""
    path = folder / f"{seed}.onnx"
    made = make(seed, path)
    if made is None:
        return False
    model, dtype, inputs, outputs = made
    pruned, masked, whole = (folder / f"{seed}-{k}.onnx" for k in ("pruned", "masked", "all"))
    plan, words = folder / f"{seed}.json", flags(seed, model)
    call(binary, "prune", path, "-o", pruned, "--exact-only", "--plan", plan, *words)
    call(binary, "mask", path, "-o", masked, "--plan", plan)
    call(binary, "prune", path, "-o", whole, *words)
    if is_valid(path):
        for file in (pruned, whole):
            if not is_valid(file):
                raise Failure(f"onnx.checker rejects {file.stem}")
    wanted, got, rest = (run(file, inputs) for file in (masked, pruned, whole))
    for size, arrays in enumerate(zip(outputs, wanted, got, rest, strict=True)):
        if not same_shapes(*arrays):
            raise Failure(f"output shapes change at size {size}")
        if not distance(arrays[1], arrays[2]) <= TOLERANCE[dtype]:
            raise Failure(f"differ by {distance(arrays[1], arrays[2]):.1e} at size {size}")
    return True


def fuzz(seed: int, binary: Path, make: Make = make) -> str | None:
    """What failed, `skipped`, or nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            return None if check(seed, binary, folder, make) else "skipped"
        except (Failure, ToolError) as error:
            FOLDER.mkdir(parents=True, exist_ok=True)
            (folder / f"{seed}.onnx").rename(FOLDER / f"{seed}.onnx")
            return " ".join(str(error).split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200, help="how many models")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--secateur", type=Path, help="the binary (default: the one in target)")
    parser.add_argument("--quantized", action="store_true", help="quantize each model first")
    arguments = parser.parse_args()
    source = make_quantized if arguments.quantized else make
    warnings.simplefilter("ignore", RuntimeWarning)
    try:
        binary = find(arguments.secateur)
    except ToolError as error:
        sys.exit(str(error))
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    with ThreadPoolExecutor(2) as pool:
        outcomes = []
        for seed, outcome in zip(
            seeds, pool.map(lambda s: fuzz(s, binary, source), seeds), strict=True
        ):
            outcomes.append(outcome)
            if outcome not in (None, "skipped"):
                print(f"seed {seed}: {outcome[:300]}", flush=True)
    skipped = outcomes.count("skipped")
    failed = len(outcomes) - skipped - outcomes.count(None)
    print(f"{len(seeds)} seeds, {skipped} skipped, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
