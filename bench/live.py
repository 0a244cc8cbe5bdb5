"""Prunes live modules in place and compares them with masked copies, in PyTorch alone.

    python bench/live.py resnet18 bert_tiny
    python bench/live.py --device cuda resnet18

Each module is pruned twice: over the exact groups, for the comparison with a copy of which the
removed slices are zero, and over all groups.
"""

import argparse
import copy
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import secateur
import torch
from secateur._apply import forget_derived
from secateur._modules import tensors
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import exact
import modelzoo
from exact import Arrays
from export import quiet, randomize

SIGNAL = 100  # a mask that changes this many times what pruning does wrong is no dead one

Keep = Sequence[Sequence[int] | None]


def run(name: str, ratio: float, device: str = "cpu") -> dict[str, Any]:
    """The record of one model, as the zoo has them."""
    model = next(model for model in modelzoo.MODELS if model.name == name)
    torch.manual_seed(0)
    with quiet():
        module, example = model.build()
        randomize(module, example)
        module.to(device)
        example = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), example)
        usual = outputs(module, example)
        found = check(module, example, usual, ratio)
    return {"ratio": ratio, **found}


def check(
    module: nn.Module, example: Sequence[Tensor], usual: Arrays, ratio: float
) -> dict[str, Any]:
    problems: list[str] = []
    pruned = copy.deepcopy(module)
    pruner = secateur.Pruner(pruned, example, ratio=ratio, exact_only=True)
    counted: list[set[int]] = [set() for _ in usual]
    if pruner.graph._trace.decisions is not None:  # data decide, maybe on extents as well
        others = pytree.tree_map_only(Tensor, other, list(example))
        counted = exact.counted_axes(usual, outputs(module, others))
    selection = step(pruner)
    error = effect = 0.0
    if selection:
        got = outputs(pruned, example)
        del pruner, pruned  # of large models, two fit into memory, three do not
        wanted = masked_outputs(module, example, selection.keeps)
        if not exact.same_shapes(wanted, got) or not exact.alike(usual, got, counted):
            problems.append("does not keep the output shapes")
        else:
            error = exact.distance(wanted, got, usual)
            effect = exact.distance(wanted, usual) if exact.same_shapes(wanted, usual) else 1.0
            if not error <= exact.TOLERANCE:
                problems.append(f"{exact.DIFFER} by {error:.1e}")
            elif not effect > min(exact.TOLERANCE, SIGNAL * error):
                problems.append(exact.DEAD_MASK)
    start = time.process_time()
    pruner = secateur.Pruner(module, example, ratio=ratio)
    before, coverage, groups = pruner.first, pruner.graph.coverage, len(pruner.graph.groups)
    step(pruner)
    milliseconds = 1e3 * (time.process_time() - start)
    after = pruner.graph.cost()
    got = outputs(module, example)
    if not exact.alike(usual, got, counted):
        problems.append("all groups: does not keep the output shapes")
    elif not all(np.isfinite(array).all() for array in got):
        problems.append("all groups: the output is not finite")
    if groups and not after.parameters < before.parameters:
        problems.append("all groups: nothing became smaller")
    left = sorted({why.splitlines()[0] for why in pruner.left.values()})
    status = "wrong" if any(p.startswith(exact.DIFFER) for p in problems) else "failed"
    return {
        "status": status if problems else "ok" if groups else "nothing pruned",
        "cause": "; ".join(problems or left),
        "groups": groups,
        "left": len(pruner.left),
        "exact_groups": len(selection.keeps) if selection else 0,
        "error": error,
        "effect": effect,
        "coverage": coverage,
        "milliseconds": milliseconds,
        "before": {"parameters": before.parameters},
        "after": {"parameters": after.parameters},
        "warnings": pruner.graph.warnings,
    }


def other(tensor: Tensor) -> Tensor:
    """Other numbers of the same shape; tokens and the like stay as they are."""
    return torch.rand_like(tensor) if tensor.is_floating_point() else tensor


def masked_outputs(
    module: nn.Module, example: Sequence[Tensor], keeps: Mapping[str, Sequence[int]]
) -> Arrays:
    """What a copy makes of which the removed slices are zero."""
    masked = copy.deepcopy(module)
    mask(masked, secateur.Graph(masked, example)._model.changes(keeps).slices())
    return outputs(masked, example)


def step(pruner: secateur.Pruner) -> Any:
    """One step; none where no group may be cut."""
    try:
        return pruner.step()
    except secateur.SecateurError as error:
        if "no group" in str(error):
            return None
        raise


def outputs(module: nn.Module, example: Sequence[Tensor]) -> Arrays:
    with torch.no_grad():
        made = pytree.tree_leaves(module(*example))
    return [leaf.cpu().numpy() for leaf in made if isinstance(leaf, Tensor)]


def mask(module: nn.Module, slices: Iterable[tuple[str, Keep]]) -> None:
    """Sets what is not kept to zero."""
    stored = tensors(module)
    with torch.no_grad():
        for name, keep in slices:
            tensor = stored[name]
            for axis, positions in enumerate(keep):
                if positions is not None:
                    kept = tensor.new_zeros(tensor.shape[axis])
                    kept[list(positions)] = 1
                    shape = [-1 if other == axis else 1 for other in range(tensor.dim())]
                    tensor.mul_(kept.view(shape))
    forget_derived(module)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a name in modelzoo")
    parser.add_argument("--device", default="cpu", help="where modules lie (default cpu)")
    args = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False  # its ten bits are too few to compare
    failed = False
    for name in args.models:
        record = run(name, 0.5, args.device)
        failed |= record["status"] not in ("ok", "nothing pruned")
        print(name, record)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
