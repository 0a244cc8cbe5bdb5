"""Exports, prunes and checks a zoo of models, ours beside torch-pruning, and prints one row each.

    cargo build --release
    python bench/zoo.py                  # goes on where the last run stopped
    python bench/zoo.py --fresh          # forgets earlier results; the exports are kept
    python bench/zoo.py --retry-failed   # runs the failed rows again
    python bench/zoo.py --table          # prints what there is and runs nothing
    python bench/zoo.py --fast           # the subset for continuous integration
    python bench/zoo.py --only yolo --markdown

Weights are random: nothing is downloaded. Every export and every check is a process of its own with
limits of time and memory, and its result is appended to a file of JSON lines as it comes. The
legacy exporter leaves the batch symbolic where it can, the dynamo exporter fixes it.
"""

import argparse
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import exact
import journal
import sandbox
import torchexact
import zootable
from exact import Result
from journal import Record
from sandbox import Failure, Limits
from tool import ROOT, ToolError, find
from zoocase import PROGRAM, Case, cases, named

PRELOADED = (
    "torch",
    "torchvision",
    "torch.onnx._internal.exporter._core",
    "onnxscript",
    "onnxruntime",
    "timm",
    "transformers.modeling_utils",
    "ultralytics.nn.tasks",
    "torch_pruning",
    "zoocase",
    "exact",
    "torchexact",
    "peer",
    "live",
)
REPORTED = ("before", "after", "coverage", "milliseconds", "warnings")


@dataclass(frozen=True)
class Setting:
    """What all rows of one run share."""

    cache: Path
    binary: Path | None  # none: export only
    ratio: float
    limits: Limits
    keep_below: float  # bytes


def attempt(case: Case, setting: Setting) -> Record:
    """Exports the case if need be, checks it, and says what came of it."""
    record: Record = {
        "model": case.model,
        "side": case.side,
        "family": case.family,
        "ratio": setting.ratio,
    }
    try:
        sandbox.call(_export, case.name, setting.cache, limits=setting.limits)
    except Failure as failure:
        return {**record, "status": "export failed", "cause": str(failure)}
    if setting.binary is None:
        return {**record, "status": "exported"}
    try:
        return {**record, **sandbox.call(_check, case.name, setting, limits=setting.limits)}
    except Failure as failure:
        return {**record, "status": "failed", "cause": f"the check {failure}"}
    finally:
        if case.size(setting.cache) > setting.keep_below:
            case.drop(setting.cache)


def _export(name: str, cache: Path) -> None:
    named(name).file(cache)


def _check(name: str, setting: Setting) -> Record:
    case = named(name)
    path = case.file(setting.cache)
    if case.side == PROGRAM:
        return summary(torchexact.check(path, setting.binary, ratio=setting.ratio))
    return summary(exact.check(path, setting.binary, ratio=setting.ratio, shapes=case.shapes))


def summary(result: Result) -> Record:
    return {
        "status": result.verdict,
        "cause": "; ".join(result.problems or _reasons(result)),
        "groups": result.groups,
        "exact_groups": result.cut,
        "error": result.error,
        "effect": result.effect,
        **{key: result.report[key] for key in REPORTED if key in result.report},
    }


def _reasons(result: Result) -> list[str]:
    """Why nothing was pruned, as far as the tool says."""
    return [] if result.groups else result.report.get("warnings", [])


def compare(name: str, family: str, setting: Setting) -> Record:
    """What torch-pruning makes of the module that the exporters are given."""
    record: Record = {
        "model": name,
        "side": zootable.PEER,
        "family": family,
        "ratio": setting.ratio,
    }
    try:
        return {**record, **sandbox.call(_compare, name, setting.ratio, limits=setting.limits)}
    except Failure as failure:
        return {**record, "status": "failed", "cause": str(failure)}


def prune_live(name: str, family: str, setting: Setting) -> Record:
    """What becomes of the module itself, pruned in place."""
    record: Record = {"model": name, "side": zootable.LIVE, "family": family}
    try:
        return {**record, **sandbox.call(_prune_live, name, setting.ratio, limits=setting.limits)}
    except Failure as failure:
        return {**record, "ratio": setting.ratio, "status": "failed", "cause": str(failure)}


def _prune_live(name: str, ratio: float) -> Record:
    import live

    return live.run(name, ratio)


def _compare(name: str, ratio: float) -> Record:
    import peer

    return peer.run(name, ratio)


@dataclass(frozen=True)
class Row:
    """One line of the results file: a file of a model, its module, or torch-pruning on that."""

    model: str
    side: str
    family: str
    fast: bool
    case: Case | None

    @property
    def key(self) -> journal.Key:
        return self.model, self.side

    def run(self, setting: Setting) -> Record:
        if self.side == zootable.LIVE:
            return prune_live(self.model, self.family, setting)
        if self.case is None:
            return compare(self.model, self.family, setting)
        return attempt(self.case, setting)


def rows() -> list[Row]:
    """All, in the order in which they are run."""
    found: list[Row] = []
    for case in cases():
        found.append(Row(case.model, case.side, case.family, case.fast, case))
        if case.side == PROGRAM:
            found.append(Row(case.model, zootable.LIVE, case.family, case.fast, None))
        if case.side == zootable.LAST_EXPORTER:
            found.append(Row(case.model, zootable.PEER, case.family, case.fast, None))
    return found


def pending(wanted: list[Row], found: dict[journal.Key, Record], retry: bool) -> list[Row]:
    """What has no record yet, or one of a failure that is to be tried again."""

    def is_done(row: Row) -> bool:
        record = found.get(row.key)
        if record is None or record["status"] == zootable.EXPORTED:
            return False
        return not (retry and zootable.failed(record))

    return [row for row in wanted if not is_done(row)]


def execute(todo: list[Row], setting: Setting, results: Path, jobs: int) -> None:
    """Runs the rows, several at a time, and appends every record when it is there."""
    lock = threading.Lock()
    start = time.monotonic()
    finished = 0

    def work(row: Row) -> None:
        nonlocal finished
        began = time.monotonic()
        record = {**row.run(setting), "wall_seconds": round(time.monotonic() - began, 1)}
        with lock:
            finished += 1
            journal.append(results, record)
            left = (time.monotonic() - start) / finished * (len(todo) - finished)
            state = f"[{finished}/{len(todo)}, {left / 60:.0f} min left]"
            said = f"{row.model} {row.side}: {record['status']} {record.get('cause', '')}"
            print(state, said.rstrip(), file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(work, row) for row in todo]:
            future.result()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--cache", type=Path, default=ROOT / "target" / "zoo", help="where exports are kept")
    add("--keep-below", type=float, default=150, metavar="MB", help="drop larger exports after use")
    add("--results", type=Path, help="the file of results (default: results.jsonl in the cache)")
    add("--secateur", type=Path, help="the binary (default: the one in target)")
    add("--ratio", type=float, default=0.5)
    add("--jobs", type=int, default=2, help="rows at a time")
    add("--seconds", type=float, default=600, help="limit of one export or check, in CPU time")
    add("--memory", type=float, default=8, metavar="GB", help="limit of one export or check")
    add("--only", action="append", metavar="PART", help="models named like this (repeatable)")
    add("--side", action="append", help="an exporter, pt2, live, or torch-pruning (repeatable)")
    add("--fast", action="store_true", help="a small subset")
    add("--export-only", action="store_true", help="fill the cache and stop")
    add("--fresh", action="store_true", help="forget earlier results of the wanted rows")
    add("--retry-failed", action="store_true", help="run failed rows again")
    add("--table", action="store_true", help="print the results that there are and run nothing")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true")
    output.add_argument("--markdown", action="store_true")
    return parser.parse_args()


def is_wanted(row: Row, arguments: argparse.Namespace) -> bool:
    return (
        (row.fast or not arguments.fast)
        and (not arguments.only or any(part in row.model for part in arguments.only))
        and (not arguments.side or row.side in arguments.side)
    )


def run(wanted: list[Row], results: Path, arguments: argparse.Namespace) -> None:
    setting = Setting(
        cache=arguments.cache,
        binary=None if arguments.export_only else find(arguments.secateur),
        ratio=arguments.ratio,
        limits=Limits(arguments.seconds, arguments.memory),
        keep_below=arguments.keep_below * 1e6,
    )
    if arguments.fresh:
        journal.forget(results, {row.key for row in wanted})
    sandbox.preload(PRELOADED)
    todo = pending(wanted, journal.read(results), arguments.retry_failed)
    execute(todo, setting, results, arguments.jobs)


def main() -> int:
    arguments = parse()
    wanted = [row for row in rows() if is_wanted(row, arguments)]
    results = arguments.results or arguments.cache / "results.jsonl"
    if not arguments.table:
        try:
            run(wanted, results, arguments)
        except ToolError as error:
            sys.exit(str(error))
    found = journal.read(results)
    records = [found[row.key] for row in wanted if row.key in found]
    if arguments.json:
        print(json.dumps(records, indent=2))
    else:
        print(zootable.render(records, markdown=arguments.markdown))
    return int(any(zootable.is_bad(record) for record in records))


if __name__ == "__main__":
    sys.exit(main())
