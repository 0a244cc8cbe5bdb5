"""Checks pruned `.pt2` files against masked ones in PyTorch, as `exact.py` does ONNX files.

    python bench/torchexact.py model.pt2

Inputs are of the shapes that the program was exported with, and of a larger batch where it takes
one. The pruned program must also validate, decompose, and survive being saved and loaded again.
"""

import argparse
import contextlib
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

import exact
import table
from exact import Arrays, Result
from tool import ToolError, call, call_json, find

Inputs = tuple[Any, Any]
NOT_RUN = "PyTorch does not run the original"


class Refused(Exception):
    """PyTorch does not load the file, or does not run it on the inputs."""


@dataclass
class Subject:
    """The file under test and what is known of it before anything is cut."""

    path: Path
    binary: Path
    ratio: float
    folder: Path  # for what is written on the way
    tolerance: float
    samples: list[tuple[Inputs, Arrays]]

    def prune(self, output: Path, *options: str | Path) -> dict[str, Any]:
        given = (f"--ratio={self.ratio}", *options)
        return call_json(self.binary, "prune", self.path, "-o", output, *given)


def check(path: Path, binary: Path, *, ratio: float = 0.5) -> Result:
    """Prunes `path` twice (exact groups, all groups) and runs what comes out."""
    result = Result()
    try:
        program = load(path)
        samples = list(_samples(program))
    except Refused as error:
        result.problems.append(f"{NOT_RUN}: {error}")
        return result
    half = any(t.dtype in (torch.float16, torch.bfloat16) for t in program.state_dict.values())
    tolerance = exact.HALF_TOLERANCE if half else exact.TOLERANCE
    first, second = (outputs for _, outputs in samples[:2])
    if exact.same_shapes(first, second) and not exact.distance(first, second) > 10 * tolerance:
        result.problems.append(exact.DEAD_INPUT)
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(path, binary, ratio, Path(folder), tolerance, samples)
        try:
            _check_exact(subject, result)
            _check_all(subject, result)
        except ToolError as error:
            result.problems.append(str(error))
        except Refused as error:
            result.problems.append(str(error))
    return result


def _check_exact(subject: Subject, result: Result) -> None:
    folder = subject.folder
    pruned, masked, plan = folder / "exact.pt2", folder / "masked.pt2", folder / "plan.json"
    result.exact = subject.prune(pruned, "--exact-only", "--plan", plan)
    call(subject.binary, "mask", subject.path, "-o", masked, "--plan", plan)
    wanted_program, got_program = load(masked), load(pruned)
    for inputs, usual in subject.samples:
        wanted, got = run(wanted_program, inputs), run(got_program, inputs)
        if not exact.same_shapes(wanted, got, usual):
            raise Refused("the exact run does not keep the output shapes")
        result.error = max(result.error, exact.distance(wanted, got, usual))
        result.effect = max(result.effect, exact.distance(wanted, usual))
    if not result.error <= subject.tolerance:
        result.problems.append(f"{exact.DIFFER} by {result.error:.1e}")
    if result.cut and not result.problems and not result.effect > subject.tolerance:
        result.problems.append(f"{exact.DEAD_MASK}: the check says nothing")
    _check_program(got_program, subject)


def _check_program(program: ExportedProgram, subject: Subject) -> None:
    """What PyTorch makes of the program: its declared sizes must agree with what runs."""
    again = subject.folder / "again.pt2"
    try:
        with quiet():
            program.validate()
            torch.export.save(program, again)
            load(again)
            declared = _output_sizes(program)
            made = _output_sizes(program.run_decompositions({}))
    except Exception as error:  # PyTorch may raise anything
        raise Refused(f"PyTorch does not take the program: {_told(error)}") from error
    if declared != made:
        raise Refused(f"declared output sizes {declared} are {made} when traced")


def _output_sizes(program: ExportedProgram) -> list[list[int]]:
    nodes = {node.name: node for node in program.graph.nodes}
    names = program.graph_signature.user_outputs
    values = [nodes[name].meta.get("val") for name in names if isinstance(name, str)]
    tensors = [value for value in values if isinstance(value, Tensor)]
    return [[_hint(size) for size in tensor.shape] for tensor in tensors]


def _hint(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else -1


def _check_all(subject: Subject, result: Result) -> None:
    pruned = subject.folder / "all.pt2"
    result.report = subject.prune(pruned)
    program = load(pruned)
    for inputs, usual in subject.samples:
        got = run(program, inputs)
        if not exact.same_shapes(got, usual):
            raise Refused("all groups: does not keep the output shapes")
        if not all(np.isfinite(array).all() for array in got):
            raise Refused("all groups: the output is not finite")
    before, after = (result.report[when]["parameters"] for when in ("before", "after"))
    if result.groups and not after < before:
        result.problems.append("all groups: nothing became smaller")


def _samples(program: ExportedProgram) -> Sequence[tuple[Inputs, Arrays]]:
    """Of two seeds and, where the batch is open, of a larger batch."""
    example = program.example_inputs
    if example is None:
        raise Refused("it has no example inputs")
    found = []
    for seed in (0, 1):
        inputs = feeds(example, seed, 0)
        found.append((inputs, run(program, inputs)))
    if program.range_constraints:
        inputs = feeds(example, 1, 1)
        with contextlib.suppress(Refused):
            found.append((inputs, run(program, inputs)))
    return found


def feeds(example: Inputs, seed: int, more: int) -> Inputs:
    """Seeded inputs like the example: normal floats, integers up to the largest, the same masks."""
    random = torch.Generator().manual_seed(seed)

    def like(value: object) -> object:
        if not isinstance(value, Tensor):
            return value
        size = list(value.shape)
        if size:
            size[0] += more
        if value.dtype.is_floating_point:
            return torch.randn(size, generator=random).to(value.dtype)
        if value.dtype == torch.bool or not value.numel() or value.min() == value.max():
            return torch.cat([value, value[:more]]) if size and more else value
        top = int(value.max()) + 1
        return torch.randint(top, size, generator=random, dtype=value.dtype)

    return pytree.tree_map(like, example)


def load(path: Path) -> ExportedProgram:
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as error:  # PyTorch may raise anything
        raise Refused(_told(error)) from error


def run(program: ExportedProgram, inputs: Inputs) -> Arrays:
    arguments, named = inputs
    try:
        with torch.no_grad(), quiet():
            outputs = program.module()(*arguments, **named)
    except Exception as error:  # as above
        raise Refused(_told(error)) from error
    tensors = [value for value in pytree.tree_leaves(outputs) if isinstance(value, Tensor)]
    wide = [t.float() if t.dtype == torch.bfloat16 else t for t in tensors]
    return [tensor.detach().numpy() for tensor in wide]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _told(error: Exception) -> str:
    lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    return lines[0][-200:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--secateur", type=Path, help="the binary (default: the one in target)")
    parser.add_argument("--ratio", type=float, default=0.5)
    arguments = parser.parse_args()
    try:
        binary = find(arguments.secateur)
    except ToolError as error:
        sys.exit(str(error))
    results = [check(path, binary, ratio=arguments.ratio) for path in arguments.files]
    rows = [exact.row(path.stem, r) for path, r in zip(arguments.files, results, strict=True)]
    print(table.text(exact.HEADER, rows))
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())
