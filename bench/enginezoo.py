"""Runs the zoo's ONNX files on the engine and on ONNX Runtime, and prints how far they are apart.

    cargo build --release --workspace --examples
    python bench/enginezoo.py                   # goes on where the last run stopped
    python bench/enginezoo.py --only yolo --exporter legacy

Differences are shares of the largest output; `ok` below 1e-4. Weights are random, and some deep
nets make much of little: `rounding` is a difference of at most ten times what ONNX Runtime's own
outputs move by where every input is replaced by the next number above or below. Exports are
shared with `bench/zoo.py`.
"""

import argparse
from collections import Counter
from pathlib import Path

import engine
import journal
import sandbox
import zoocase
from export import Exporter
from tool import ROOT

TOLERANCE = 1e-4
AMPLIFIED = 10
"""Rounding in every layer against rounding of the inputs alone."""


def measure(name: str, cache: Path, keep_below: float) -> dict[str, float]:
    """How far the outputs for one file of the zoo are apart, and where far, how far they move."""
    engine.RUN = ROOT / "target" / "release" / "examples" / "run"
    case = zoocase.named(name)
    path = case.file(cache)
    try:
        feeds = engine.feeds_for(path, shapes=case.shapes)
        given = engine.Case(name, path, feeds)
        ((_, found),) = engine.compare([given])
        if isinstance(found, str):
            raise RuntimeError(found)
        return {"error": found} | ({"moved": engine.moved(given)} if found > TOLERANCE else {})
    finally:
        if case.size(cache) > keep_below * 1e6:
            case.drop(cache)


def judge(record: dict[str, float]) -> str:
    if record["error"] <= TOLERANCE:
        return "ok"
    return "rounding" if record["error"] <= AMPLIFIED * record["moved"] else "apart"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cache", type=Path, default=ROOT / "target" / "zoo", help="where exports are kept")
    add("--keep-below", type=float, default=150, metavar="MB", help="drop larger exports after use")
    add("--results", type=Path, help="the file of results (default: engine.jsonl in the cache)")
    add("--only", default="", metavar="PART", help="models named like this")
    add("--exporter", choices=[str(exporter) for exporter in Exporter], help="default: both")
    add("--seconds", type=float, default=300, help="limit of one file, in CPU time")
    add("--memory", type=float, default=8, metavar="GB", help="limit of one file")
    args = parser.parse_args()
    results = args.results or args.cache / "engine.jsonl"
    found, limits = journal.read(results), sandbox.Limits(args.seconds, args.memory)
    sandbox.preload(
        ["torch", "torchvision", "timm", "transformers.modeling_utils", "engine", "zoocase"]
    )
    exporters = [args.exporter] if args.exporter else [str(exporter) for exporter in Exporter]
    counts: Counter[str] = Counter()
    for case in zoocase.cases():
        if case.side not in exporters or args.only not in case.model:
            continue
        record = found.get((case.model, case.side))
        if record is None:
            record = {"model": case.model, "side": case.side}
            try:
                record |= sandbox.call(
                    measure, case.name, args.cache, args.keep_below, limits=limits
                )
                record["status"] = judge(record)
            except sandbox.Failure as failure:
                record |= {"status": "not run", "cause": str(failure)}
            journal.append(results, record)
        counts[record["status"]] += 1
        said = f"{record['error']:.1e}" if "error" in record else record["cause"]
        said += f" where inputs move it by {record['moved']:.1e}" if "moved" in record else ""
        print(f"{case.name:44} {record['status']:8} {said}", flush=True)
    print(", ".join(f"{count} {status}" for status, count in counts.items()))


if __name__ == "__main__":
    main()
