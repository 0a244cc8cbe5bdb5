"""torch-pruning on a model of the zoo, used the generic way: no heads, no layers named by hand.

    run("resnet18", ratio=0.5)

Only the last layers, those whose results become the model's output, are ignored. What comes out is
checked like ours: it must compute what the original computes with the removed slices set to zero.
Which slices those are is read off the weights: torch-pruning's bookkeeping is not trusted.
"""

import copy
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import modelzoo
from exact import TOLERANCE, Arrays, distance, same_shapes
from export import randomize
from journal import Record

SECONDS = 60  # of CPU time, for construction and the step
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
VIEWS = ("TBackward", "Transpose", "Permute", "View", "Unsafe", "Expand", "Unsqueeze")


class OutOfTime(BaseException):
    """Not an `Exception`, so that no handler on the way swallows it."""


def run(name: str, ratio: float) -> Record:
    """One record: whether it works, how long it takes, what is left, and whether it is right."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = next(model for model in modelzoo.MODELS if model.name == name)
    torch.manual_seed(0)
    module, example = model.build()
    randomize(module, example)
    original = copy.deepcopy(module)
    record: Record = {"before": {"parameters": parameters(module)}}
    start = time.process_time()
    try:
        with _time_limit(SECONDS):
            prune(module, example, ratio)
    except OutOfTime:
        return {**record, "status": "failed", "cause": f"took more than {SECONDS} s"}
    except Exception as error:
        return {**record, "status": "failed", "cause": f"pruning: {_line(error)}"}
    record["seconds"] = round(time.process_time() - start, 3)
    record["after"] = {"parameters": parameters(module)}
    return {**record, **judge(original, module, example)}


def prune(module: nn.Module, example: tuple[Tensor, ...], ratio: float) -> None:
    import torch_pruning

    torch_pruning.pruner.MagnitudePruner(
        module,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=last_layers(module, example),
    ).step()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def judge(original: nn.Module, pruned: nn.Module, example: tuple[Tensor, ...]) -> Record:
    """Whether the pruned module runs, is smaller, and agrees with the masked original."""
    wanted = outputs(original, example)
    try:
        got = outputs(pruned, example)
    except Exception as error:
        return {"status": "failed", "cause": f"the pruned module: {_line(error)}"}
    if not same_shapes(wanted, got):
        return {"status": "failed", "cause": "the output has another shape"}
    if parameters(pruned) == parameters(original):
        return {"status": "nothing pruned", "cause": ""}
    keeps = all_kept(original, pruned)
    if isinstance(keeps, str):
        return {"status": "unchecked", "cause": f"`{keeps}` is no selection of its old slices"}
    masked = mask(original, pruned, keeps)
    error = distance(outputs(masked, example), got)
    if error <= TOLERANCE:
        return {"status": "ok", "cause": "", "error": error}
    if grouped := _cut_group_norm(original, keeps):
        cause = f"differs by {error:.0e}; statistics of `{grouped}`"
        return {"status": "approximate", "cause": cause, "error": error}
    return {"status": "wrong", "cause": f"pruned and masked differ by {error:.0e}", "error": error}


def outputs(module: nn.Module, example: tuple[Tensor, ...]) -> Arrays:
    with torch.no_grad():
        return [tensor.numpy() for tensor in tensors(module(*example))]


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def last_layers(module: nn.Module, example: tuple[Tensor, ...]) -> list[nn.Module]:
    """The linear and convolution layers with no other one between them and the output."""
    owners = {id(layer.weight): layer for layer in module.modules() if isinstance(layer, LAYERS)}
    todo = [value.grad_fn for value in tensors(module(*example)) if value.grad_fn is not None]
    seen, found = set(todo), {}
    while todo:
        following = [function for function, _ in todo.pop().next_functions if function is not None]
        leaves = (id(_leaf(function)) for function in following)
        layers = [owners[leaf] for leaf in leaves if leaf in owners]
        found.update({id(layer): layer for layer in layers})
        new = [] if layers else [function for function in following if function not in seen]
        seen.update(new)
        todo.extend(new)
    return list(found.values())


def _leaf(function: Any) -> Tensor | None:
    """The parameter that a backward function accumulates into, behind any views of it."""
    while not hasattr(function, "variable"):
        following = [function for function, _ in function.next_functions if function is not None]
        if not function.name().startswith(VIEWS) or len(following) != 1:
            return None
        function = following[0]
    return function.variable


Keep = list[np.ndarray]  # kept indices of every axis


def all_kept(original: nn.Module, pruned: nn.Module) -> dict[str, Keep] | str:
    """What is left of every parameter, or the name of one that is no grid of its old elements."""
    after = dict(pruned.named_parameters())
    keeps = {}
    for name, parameter in original.named_parameters():
        keep = kept(parameter.detach().numpy(), after[name].detach().numpy())
        if keep is None:
            return name
        keeps[name] = keep
    return keeps


def kept(before: np.ndarray, after: np.ndarray) -> Keep | None:
    """The indices of every axis that turn `before` into `after`, found by the values."""
    whole = [np.arange(size) for size in before.shape]
    if before.shape == after.shape and np.array_equal(before, after):
        return whole
    if before.ndim != after.ndim or not after.size:
        return None
    order = np.argsort(before, axis=None)
    places = np.searchsorted(before.ravel()[order], after.ravel()).clip(max=before.size - 1)
    found = np.unravel_index(order[places], before.shape)
    keep = [_along(index.reshape(after.shape), axis) for axis, index in enumerate(found)]
    return keep if np.array_equal(before[np.ix_(*keep)], after) else None


def _along(index: np.ndarray, axis: int) -> np.ndarray:
    """The most common index at every position of an axis: equal values may be mistaken."""
    rows = np.moveaxis(index, axis, 0).reshape(index.shape[axis], -1)
    return np.median(rows, axis=1).astype(int)


def mask(original: nn.Module, pruned: nn.Module, keeps: dict[str, Keep]) -> nn.Module:
    """The original with what was removed set to zero; layer norms see what is left only."""
    masked = copy.deepcopy(original)
    for name, parameter in masked.named_parameters():
        mask = torch.zeros_like(parameter)
        mask[np.ix_(*keeps[name])] = 1
        parameter.data.mul_(mask)
    small = dict(pruned.named_modules())
    for name, module in masked.named_modules():
        if _is_layer_norm(module) and (keep := _cut(name, keeps, original)) is not None:
            module.forward = _Partial(module, small[name], torch.as_tensor(keep))
    return masked


class _Partial:
    """A layer norm over the kept indices of its axis, and zeros elsewhere."""

    def __init__(self, module: nn.Module, small: nn.Module, keep: Tensor) -> None:
        self.size = module.weight.numel()
        self.small = small
        self.keep = keep
        self.last = "2d" not in type(module).__name__

    def __call__(self, value: Tensor) -> Tensor:
        axis = value.dim() - 1 if self.last and value.shape[-1] == self.size else 1
        part = self.small(value.index_select(axis, self.keep))
        return torch.zeros_like(value).index_copy(axis, self.keep, part)


def _is_layer_norm(module: nn.Module) -> bool:
    name = type(module).__name__
    return "Norm" in name and not any(word in name for word in ("Batch", "Group", "Instance"))


def _cut_group_norm(original: nn.Module, keeps: dict[str, Keep]) -> str | None:
    """The name of a group norm that lost channels: a mask cannot say what it must compute."""
    for name, module in original.named_modules():
        if "GroupNorm" in type(module).__name__ and _cut(name, keeps, original) is not None:
            return name
    return None


def _cut(name: str, keeps: dict[str, Keep], original: nn.Module) -> np.ndarray | None:
    """What is left of a norm's scale, if that is not all."""
    keep = keeps.get(f"{name}.weight", [])
    weight = getattr(original.get_submodule(name), "weight", None)
    if len(keep) != 1 or len(keep[0]) == weight.numel():
        return None
    return keep[0]


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:160]
