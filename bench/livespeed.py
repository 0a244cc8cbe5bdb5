"""Times the pruning of live modules beside torch-pruning, in CPU seconds, one thread.

    (cd crates/secateur-python && maturin develop --release)
    python bench/livespeed.py
    python bench/livespeed.py --only resnet --json live.json

Each side runs in a process of its own, from the call to the pruned module: `Pruner(…, ratio=0.5)`
and `step()` here, `MagnitudePruner(…)` and `step()` there; the least of three runs on fresh models,
or of more, twenty at most, until they have taken a second.
`core` is what is left of ours without the two traces and without cutting tensors: analysis,
scoring, selection, and the sizes that follow. `rest` is what is left of theirs without the forward
pass that it traces. Where theirs needs more than 300 s for its runs, one counts as a third of that.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import modelzoo
import table

MODELS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "densenet121",
    "vgg16",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "bert_tiny",
    "llama_tiny",
)
RUNS = 3
MOST, ENOUGH = 20, 1.0  # runs, and seconds that are spent on them
LIMIT = 300


def build(name: str) -> tuple[torch.nn.Module, Any]:
    torch.manual_seed(0)
    model, example = next(model for model in modelzoo.MODELS if model.name == name).build()
    return model.eval(), tuple(example)


def ours(name: str) -> dict[str, float]:
    import secateur
    from secateur import _apply, pruner

    model, example = build(name)
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent += time.process_time() - start

        return wrapper

    captures = {"trace": timed(pruner.CAPTURES["trace"])}
    with (
        mock.patch.dict(pruner.CAPTURES, captures),
        mock.patch.object(_apply, "cut", timed(_apply.cut)),
    ):
        start = time.process_time()
        secateur.Pruner(model, example, ratio=0.5).step()
        total = time.process_time() - start
    return {"total": total, "core": total - spent}


def peers(name: str) -> dict[str, float]:
    import torch_pruning

    from peer import last_layers

    model, example = build(name)
    ignored = last_layers(model, example)
    traced = min(one_pass(model, example) for _ in range(3))
    model.zero_grad()
    start = time.process_time()
    importance = torch_pruning.importance.MagnitudeImportance(p=2)
    torch_pruning.pruner.MagnitudePruner(
        model, example, importance=importance, pruning_ratio=0.5, ignored_layers=ignored
    ).step()
    total = time.process_time() - start
    return {"total": total, "rest": max(total - traced, 0.0)}


def one_pass(model: torch.nn.Module, example: Any) -> float:
    """Seconds of the forward pass that records a graph for the backward one."""
    start = time.process_time()
    with torch.enable_grad():
        model(*example)
    return time.process_time() - start


SIDES = {"ours": ours, "peers": peers}


def measure(name: str, side: str) -> dict[str, float] | str:
    """What one side took, or what stopped it."""
    command = [sys.executable, __file__, "--side", side, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        if side == "ours":
            return f"more than {LIMIT} s"
        return {"total": LIMIT / RUNS, "rest": LIMIT / RUNS, "unfinished": True}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1][:90] if lines else "failed"
    return json.loads(done.stdout.splitlines()[-1])


def least(name: str, side: Callable[[str], dict[str, float]]) -> dict[str, float]:
    found = []
    while len(found) < RUNS or (len(found) < MOST and sum(one["total"] for one in found) < ENOUGH):
        found.append(side(name))
    return {key: min(one[key] for one in found) for key in found[0]}


def mean(numbers: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, numbers))) if numbers else math.nan


HEADER = ("model", "torch-pruning s", "ours s", "faster", "rest s", "core s", "faster")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose name contains it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured")
    parser.add_argument("--side", choices=SIDES, help="run one side of one model")
    parser.add_argument("name", nargs="?")
    arguments = parser.parse_args()
    if arguments.side:
        torch.set_num_threads(1)
        print(json.dumps(least(arguments.name, SIDES[arguments.side])))
        return 0
    rows, results, totals, cores = [], {}, [], []
    for name in (name for name in MODELS if arguments.only in name):
        print(f"{name} ...", file=sys.stderr, flush=True)
        mine, other = measure(name, "ours"), measure(name, "peers")
        results[name] = {"ours": mine, "peers": other}
        if isinstance(mine, str) or isinstance(other, str):
            cell = f"{mine['total']:.3f}" if isinstance(mine, dict) else mine
            rows.append([name, other if isinstance(other, str) else "", cell, "", "", "", ""])
            continue
        more = ">" if other.get("unfinished") else ""
        totals.append(other["total"] / mine["total"])
        cores.append(other["rest"] / mine["core"])
        rows.append(
            [
                name,
                f"{more}{other['total']:.2f}",
                f"{mine['total']:.3f}",
                f"{more}{totals[-1]:.1f}x",
                f"{more}{other['rest']:.2f}",
                f"{mine['core']:.3f}",
                f"{more}{cores[-1]:.0f}x",
            ]
        )
    print(table.text(HEADER, rows))
    print(f"\ngeometric mean: {mean(totals):.1f}x in all, {mean(cores):.0f}x in the core")
    if totals:
        print(f"slowest against torch-pruning: {min(totals):.1f}x")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
