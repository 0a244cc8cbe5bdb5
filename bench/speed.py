"""Measures time and memory beside torch-pruning, the bandwidth of memory, and the copying of files.

    cargo build --release --workspace --examples --bins
    python bench/speed.py                      # all models; exports are kept in target/speed
    python bench/speed.py --only resnet --json speed.json
    python bench/speed.py --json speed.json --resume

Seconds are CPU seconds of all threads; `wall` ones are shown in JSON. The sides, per model:

- graph: torch-pruning builds its dependency graph; Secateur analyzes a graph and finds its groups.
- prune: torch-pruning constructs its magnitude pruner and takes a step; Secateur analyzes, scores,
  selects and slices, with the weights in memory.
- floor: reading every weight once and writing the kept ones once, at the measured bandwidth.
- file: `cp` copies the model; `secateur prune --ratio 0.5` reads, prunes and writes it.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import table
from tool import ROOT, ToolError, find, find_example

HERE = Path(__file__).parent
RELEASE = ROOT / "target" / "release" / "secateur"
LIMIT = 300
RUNS = 3
LARGE = 500e6


def run(command: Sequence[str | Path], limit: float | None = None) -> str:
    """Standard output of a command that may take `limit` CPU seconds."""

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit or 0), resource.RLIM_INFINITY))

    restricted = restrict if limit else None
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, preexec_fn=restricted
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = f"more than {limit} s" if done.returncode < 0 else lines[-1] if lines else "failed"
        raise ToolError(reason)
    return done.stdout


@dataclass(frozen=True)
class Usage:
    """What a process took."""

    cpu: float
    wall: float
    peak: int


def usage(command: Sequence[str | Path]) -> Usage:
    start = time.monotonic()
    process = subprocess.Popen([str(part) for part in command])
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    if status:
        raise ToolError(f"`{command[0]}` failed")
    return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024)


def least(measure: Callable[[], Usage]) -> Usage:
    found = [measure() for _ in range(RUNS)]
    return Usage(
        min(one.cpu for one in found),
        min(one.wall for one in found),
        max(one.peak for one in found),
    )


def file_to_file(binary: Path, model: Path) -> dict[str, Any]:
    parts = [path for path in model.parent.iterdir() if path.is_file()]
    with tempfile.TemporaryDirectory(dir=model.parent.parent) as folder:
        copied = least(lambda: usage(["cp", *parts, folder]))
    with tempfile.TemporaryDirectory(dir=model.parent.parent) as folder:
        out = Path(folder) / "out.onnx"
        prune = [binary, "prune", model, "-o", out, "--ratio", "0.5", "--quiet"]
        pruned = least(lambda: usage(prune))
    size = sum(path.stat().st_size for path in parts)
    return {"size": size, "copy": vars(copied), "prune": vars(pruned)}


def exported(name: str, cache: Path) -> Path:
    """The model's file. PyTorch stays in other processes: a child's peak starts at its parent's."""
    path = cache / name / "model.onnx"
    if not path.exists():
        run([sys.executable, HERE / "speedmodels.py", name, cache])
    return path


def measure(name: str, binary: Path, example: Path, cache: Path, limit: int) -> dict[str, Any]:
    model = exported(name, cache)
    result: dict[str, Any] = {"model": name, **file_to_file(binary, model)}
    result["stages"] = json.loads(run([example, model]))
    try:
        result["peer"] = json.loads(run([sys.executable, HERE / "speedpeer.py", name], limit))
    except ToolError as error:
        result["peer"] = {"error": str(error)}
    return result


def analysis(result: dict[str, Any]) -> float:
    seconds = result["stages"]["seconds"]
    return seconds["analyze"] + seconds["group"]


def in_memory(result: dict[str, Any]) -> float:
    seconds = result["stages"]["seconds"]
    return analysis(result) + seconds["score"] + seconds["select"] + seconds["slice"]


def floor(result: dict[str, Any]) -> float:
    sizes, rates = result["stages"]["bytes"], result["stages"]["bytes_per_second"]
    return sum(sizes[side] / rates[side] for side in ("read", "written"))


def ratio(result: dict[str, Any], side: str, ours: Callable[[dict[str, Any]], float]) -> float:
    """How many times faster than the peer; not a number where the peer failed."""
    return result["peer"].get(side, math.nan) / ours(result)


def mean(numbers: Iterable[float]) -> float:
    """Geometric, over those that are known."""
    logs = [math.log(number) for number in numbers if not math.isnan(number)]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


HEADER = (
    "model",
    "MB",
    "peer graph s",
    "ours ms",
    "faster",
    "peer prune s",
    "ours ms",
    "faster",
    "floor ms",
    "of floor",
    "copy s",
    "file s",
    "peak MB",
    "peer MB",
)


def row(result: dict[str, Any]) -> list[str]:
    peer = result["peer"]
    return [
        result["model"],
        f"{result['size'] / 1e6:.0f}",
        f"{peer.get('graph', math.nan):.2f}",
        f"{analysis(result) * 1e3:.2f}",
        f"{ratio(result, 'graph', analysis):.0f}x",
        f"{peer.get('prune', math.nan):.2f}",
        f"{in_memory(result) * 1e3:.1f}",
        f"{ratio(result, 'prune', in_memory):.0f}x",
        f"{floor(result) * 1e3:.1f}",
        f"{in_memory(result) / floor(result):.1f}",
        f"{result['copy']['cpu']:.2f}",
        f"{result['prune']['cpu']:.2f}",
        f"{result['prune']['peak'] / 1e6:.0f}",
        f"{peer.get('peak', math.nan) / 1e6:.0f}",
    ]


def verdicts(results: list[dict[str, Any]]) -> list[str]:
    graph = mean(ratio(result, "graph", analysis) for result in results)
    prune = mean(ratio(result, "prune", in_memory) for result in results)
    over = [result for result in results if in_memory(result) > 2 * floor(result)]
    large = [result for result in results if result["size"] > LARGE]
    slow = [r for r in large if r["prune"]["cpu"] > 2 * r["copy"]["cpu"] + 0.2]
    fat = [result for result in large if result["prune"]["peak"] > result["size"] / 10]

    def line(passed: bool, text: str, exceptions: Sequence[dict[str, Any]] = ()) -> str:
        names = ", ".join(result["model"] for result in exceptions)
        return f"{'met   ' if passed else 'missed'}  {text}{f': not {names}' if names else ''}"

    return [
        line(graph >= 200, f"analysis at least 200x faster: {graph:.0f}x in the geometric mean"),
        line(prune >= 30, f"in memory at least 30x faster: {prune:.0f}x in the geometric mean"),
        line(not over, "in memory at most twice the floor", over),
        line(not slow, "file to file at most twice the copy and 0.2 s, over 500 MB", slow),
        line(not fat, "file to file in a tenth of the file, over 500 MB", fat),
    ]


def measured(path: Path | None, resume: bool) -> list[dict[str, Any]]:
    """The results of an earlier run."""
    return json.loads(path.read_text()) if path and resume and path.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name contains it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured")
    parser.add_argument("--resume", action="store_true", help="keep what is in the JSON file")
    parser.add_argument("--limit", type=int, default=LIMIT, help="CPU seconds for the peer")
    parser.add_argument("--cache", type=Path, default=ROOT / "target" / "speed")
    parser.add_argument("--secateur", type=Path, help="the binary (default: the release build)")
    arguments = parser.parse_args()
    results = measured(arguments.json, arguments.resume)
    known = {result["model"] for result in results}
    try:
        models = run([sys.executable, HERE / "speedmodels.py"]).split()
        names = [name for name in models if arguments.only in name]
        binary, example = find(arguments.secateur or RELEASE), find_example("speed")
        for name in names:
            if name in known:
                continue
            print(f"{name} ...", file=sys.stderr, flush=True)
            results.append(measure(name, binary, example, arguments.cache, arguments.limit))
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1))
    except ToolError as error:
        sys.exit(str(error))
    print(table.text(HEADER, [row(result) for result in results if result["model"] in names]))
    for result in results:
        if reason := result["peer"].get("error"):
            print(f"torch-pruning on {result['model']}: {reason}")
    print("\n" + "\n".join(verdicts(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
