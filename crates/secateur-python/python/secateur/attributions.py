"""How much every unit of a layer matters, measured on data: the six attributions of TorchPruner.

After Ancona, Öztireli and Gross, "Shapley Value as Principled Metric for Structured Network
Pruning" (2020, arXiv:2006.01795), and their project TorchPruner. In all of them a larger score
means a unit that matters more. Modules run in evaluation mode; gradients, modes, buffers and the
state of random number generators are as they were after.

    scores = sc.attribute(pruner, "layer1.0.conv1", data, F.cross_entropy, on="best")
    pruner.select(scores=sc.group_scores(pruner, {"layer1.0.conv1": scores}))
"""

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secateur._evaluation import Batch, Inputs, Moved, Points, evaluating, points
from secateur._indices import HasGraph, graph_of, places
from secateur._secateur import SecateurError
from secateur.pruner import Graph, GroupHandle

Criterion = Callable[..., Tensor]
Reduction = str | Callable[[Tensor], Tensor]
Target = nn.Module | Graph | HasGraph


def attribute(
    target: Target,
    layer: str | nn.Module | GroupHandle,
    data: Iterable[Any] = (),
    criterion: Criterion | None = None,
    *,
    method: str = "shapley",
    reduction: Reduction = "mean",
    on: str = "output",
    samples: int = 5,
    signed: bool = False,
    axis: int | None = None,
    seed: int = 0,
) -> Tensor:
    """One score per unit (channel, feature) of a layer's output: a tensor of shape [units].

    `data` gives batches `(inputs, target)`; inputs are a tensor, a tuple of arguments or a mapping
    of keyword arguments, and the batch is their dimension 0. `criterion(output, target)` gives the
    loss: it is called with `reduction="none"` where it takes that; a loss module's own reduction is
    set aside meanwhile; a single number counts for every sample of the batch.

    Methods, of the activation `a` of a unit and the loss `L` of a sample:

    - `"random"`: uniform numbers from `seed`.
    - `"weight_norm"`: the sum of the absolute weights that make the unit (Li et al. 2017).
    - `"apoz"`: one minus the average percentage of zeros (Hu et al. 2016): the share of samples and
      positions where `a > 0`. TorchPruner's sign: more zeros, less important. Unlike there,
      positions are averaged and not summed, so that layers compare.
    - `"sensitivity"`: |dL/da|, summed over positions (Mittal et al. 2018).
    - `"taylor"`: |-a * dL/da| with the sum over positions inside (Molchanov et al. 2017); with
      `signed`, without the absolute value: positive where removing the unit raises the loss.
    - `"shapley"`: how much the loss rises when the unit is set to zero after those that precede it
      in a random order; the mean over `samples` orders, the same for all batches. Only what follows
      the layer is computed again.

    `reduction` of the scores of samples is `"mean"`, `"sum"`, `"none"` (shape [samples, units]) or
    a function of that shape, like mean plus two standard deviations; random scores and weight norms
    have no samples. `on="best"` evaluates behind the norm and the activation that follow the layer
    and leave its units apart, found from a run. `axis` is the units' axis in the output where the
    type of the layer does not tell. A group's score is the mean over the layers that produce it.

    # Raises
    SecateurError: there is no such layer, method or option; data or criterion is missing; or the
    output does not reach the loss.
    """
    if isinstance(layer, GroupHandle):
        options = {"method": method, "reduction": reduction, "on": on, "samples": samples}
        options |= {"signed": signed, "axis": axis, "seed": seed}
        return _of_group(graph_of(target), layer, data, criterion, options)
    module = target if isinstance(target, nn.Module) else graph_of(target).module
    name, found = _find(module, layer)
    _check(method, reduction, on, samples, criterion)
    task = _Task(module, name, found, data, criterion, on == "best", samples, signed, axis, seed)
    scores = METHODS[method](task)
    return scores if method in ("random", "weight_norm") else _reduced(scores, reduction)


def group_scores(
    target: Graph | HasGraph, scores: Mapping[str | nn.Module, Tensor]
) -> dict[str, list[float]]:
    """Scores of layers' units as scores of groups, for `pruner.select(scores=...)`.

    Where several layers, or several units of one, stand for an index, it gets their mean. Groups
    that are not scored to the last index are left out; so are units that no group governs.

    # Raises
    SecateurError: a layer is not there or has no weights, or the number of its scores is wrong.
    """
    graph = graph_of(target)
    layers = {}
    for layer, units in scores.items():
        name, one = _find(graph.module, layer)
        layers[name] = (one, units)
    gathered = {}
    for group in graph.groups:
        names = {_plain(part.parameter).rpartition(".")[0] for part in group.slices}
        if names.isdisjoint(layers):
            continue
        found = {
            (_plain(name), axis): index for (name, axis), index in places(graph, group).items()
        }
        made = _scored(group.size, found, layers)
        if made is not None:
            gathered[group.name] = made
    return gathered


def unit_scores(
    target: Graph | HasGraph,
    data: Iterable[Any] = (),
    criterion: Criterion | None = None,
    **options: Any,
) -> dict[str, list[float]]:
    """Attributions of all layers that produce a group, as scores of groups; options as above.

    `data` is run once per layer, so it must be a collection and not a generator.
    """
    graph = graph_of(target)
    names = dict.fromkeys(name for group in graph.groups for name in _producers(graph, group))
    scores = {name: attribute(graph, name, data, criterion, **options) for name in names}
    return group_scores(graph, scores)


@dataclass(frozen=True)
class _Task:
    """What is to be measured."""

    module: nn.Module
    name: str
    layer: nn.Module
    data: Iterable[Any]
    criterion: Criterion | None
    best: bool
    samples: int
    signed: bool
    axis: int | None
    seed: int

    def batches(self) -> Iterator[tuple[Batch, Any]]:
        """Recorded batches and their targets."""
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        at: Points | None = None
        with evaluating(self.module):
            for one in self.data:
                inputs, target = _inputs(one, device)
                try:
                    at = at or self._points(inputs)
                    batch = Batch(self.module, inputs, at)
                except Moved:
                    at = self._points(inputs)
                    batch = self._again(inputs, at)
                yield batch, target
        if at is None:
            raise SecateurError("there is no data\nhint: give batches of inputs and targets")

    def _points(self, inputs: Inputs) -> Points:
        return points(self.module, self.layer, inputs, best=self.best)

    def _again(self, inputs: Inputs, at: Points) -> Batch:
        try:
            return Batch(self.module, inputs, at)
        except Moved as error:
            raise SecateurError(
                f"`{self.name}` cannot be followed: the module calls other functions every time"
            ) from error

    def losses(self, output: Any, target: Any, count: int | None = None) -> Tensor:
        """The loss of every sample: shape [samples]."""
        assert self.criterion is not None
        losses = _losses(self.criterion, output, target)
        if losses.dim() == 0:
            size = count or _leading(target) or _leading(output) or 1
            return losses.expand(size)
        size = _leading(target) or losses.shape[0]
        if losses.shape[0] != size and losses.numel() % size:
            size = losses.shape[0]
        return losses.reshape(size, -1).mean(1)

    def axis_of(self, value: Tensor) -> int:
        """The units' axis."""
        axis = _usual_axis(self.layer, value) if self.axis is None else self.axis
        if not -value.dim() <= axis < value.dim() or axis % value.dim() == 0:
            raise SecateurError(
                f"the output of `{self.name}` (shape {list(value.shape)}) has no units on axis "
                f"{axis}\nhint: give `axis`; axis 0 is the batch"
            )
        return axis % value.dim()

    def rows(self, values: Tensor, samples: int) -> Tensor:
        """Values by sample, position and unit: shape [samples, positions, units]."""
        if values.shape[0] % samples:
            raise SecateurError(
                f"the output of `{self.name}` has {values.shape[0]} rows, and the batch {samples} "
                "samples\nhint: the batch must be dimension 0"
            )
        moved = values.movedim(self.axis_of(values), -1)
        return moved.reshape(samples, -1, moved.shape[-1])


def _random(task: _Task) -> Tensor:
    draw = torch.Generator().manual_seed(task.seed)
    try:
        units = len(_weight_norm(task))
    except SecateurError:
        batch, _ = next(task.batches())
        units = batch.values[0].shape[task.axis_of(batch.values[0])]
    return torch.rand(units, generator=draw, device="cpu")


def _weight_norm(task: _Task) -> Tensor:
    _, axis, weight = _weights(task.name, task.layer)
    weight = weight.detach().abs()
    groups = task.layer.groups if axis == 1 and hasattr(task.layer, "groups") else 1
    parts = weight.chunk(groups) if groups > 1 else (weight,)
    return torch.cat([part.movedim(axis, 0).reshape(part.shape[axis], -1).sum(1) for part in parts])


def _apoz(task: _Task) -> Tensor:
    found = []
    for batch, target in task.batches():
        samples = _leading(target) or batch.values[0].shape[0]
        active = [task.rows((value > 0).float(), samples).mean(1) for value in batch.values]
        found.append(torch.stack(active).mean(0))
    return torch.cat(found)


def _sensitivity(task: _Task) -> Tensor:
    return _by_gradient(task, lambda _value, gradient: gradient.abs())


def _taylor(task: _Task) -> Tensor:
    scores = _by_gradient(task, lambda value, gradient: -value * gradient)
    return scores if task.signed else scores.abs()


def _by_gradient(task: _Task, measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Sums over positions and over calls of the layer: shape [samples, units]."""
    found = []
    for batch, target in task.batches():
        watched: list[Tensor] = []

        def watch(value: Tensor, _number: int, watched: list[Tensor] = watched) -> Tensor:
            leaf = value if value.requires_grad else value.detach().clone().requires_grad_()
            watched.append(leaf)
            return leaf.clone()  # which the module may write to

        with torch.enable_grad():
            losses = task.losses(batch.run(watch), target)
            gradients = _gradients(losses.sum(), watched, task.name)
        samples = len(losses)
        pairs = zip(watched, gradients, strict=True)
        rows = [task.rows(measure(value.detach(), grad), samples).sum(1) for value, grad in pairs]
        found.append(torch.stack(rows).sum(0))
    return torch.cat(found)


def _gradients(loss: Tensor, values: list[Tensor], name: str) -> list[Tensor]:
    if not loss.requires_grad:
        raise SecateurError(f"the output of `{name}` does not reach the loss")
    found = torch.autograd.grad(loss, values, allow_unused=True)
    if all(one is None for one in found):
        raise SecateurError(f"the output of `{name}` does not reach the loss")
    return [
        torch.zeros_like(value) if one is None else one
        for one, value in zip(found, values, strict=True)
    ]


def _shapley(task: _Task) -> Tensor:
    draw = torch.Generator().manual_seed(task.seed)
    orders: list[list[int]] = []
    found = []
    with torch.no_grad():
        for batch, target in task.batches():
            value = batch.values[0]
            axis = task.axis_of(value)
            units = value.shape[axis]
            if not orders:
                orders = [
                    torch.randperm(units, generator=draw, device="cpu").tolist()
                    for _ in range(task.samples)
                ]
            whole = task.losses(batch.output, target)
            scores = torch.zeros(len(whole), units, device=whole.device, dtype=whole.dtype)
            _warn_once(task, batch, first=not found)
            for order in orders:
                _walk(task, batch, target, order, whole, scores)
            found.append(scores / task.samples)
    return torch.cat(found)


def _walk(
    task: _Task, batch: Batch, target: Any, order: list[int], whole: Tensor, scores: Tensor
) -> None:
    """Removes units one after another, and adds what each costs."""
    axis = task.axis_of(batch.values[0])
    removed = torch.tensor(order, device=batch.values[0].device)
    before = whole
    for count, unit in enumerate(order, start=1):
        gone = removed[:count]
        out = batch.run(lambda value, _, gone=gone: value.index_fill(axis, gone, 0))
        now = task.losses(out, target, len(whole))
        scores[:, unit] += now - before
        before = now


def _warn_once(task: _Task, batch: Batch, *, first: bool) -> None:
    if first and not batch.skips:
        warnings.warn(
            f"what comes before `{task.name}` is computed every time: a run from there onwards "
            "does not repeat the full run",
            stacklevel=4,
        )


METHODS: dict[str, Callable[[_Task], Tensor]] = {
    "random": _random,
    "weight_norm": _weight_norm,
    "apoz": _apoz,
    "sensitivity": _sensitivity,
    "taylor": _taylor,
    "shapley": _shapley,
}
"""All attributions by name."""


def _check(
    method: str, reduction: Reduction, on: str, samples: int, criterion: Criterion | None
) -> None:
    if method not in METHODS:
        known = ", ".join(f"`{one}`" for one in METHODS)
        raise SecateurError(f"there is no attribution `{method}`\nhint: there are {known}")
    if not callable(reduction) and reduction not in ("mean", "sum", "none"):
        raise SecateurError(
            f"there is no reduction `{reduction}`\nhint: `mean`, `sum`, `none` or a function"
        )
    if on not in ("output", "best"):
        raise SecateurError(f"there is no evaluation point `{on}`\nhint: `output` or `best`")
    if samples < 1:
        raise SecateurError(f"{samples} samples are too few: at least 1 is needed")
    if criterion is None and method in ("sensitivity", "taylor", "shapley"):
        raise SecateurError(f"`{method}` measures the loss\nhint: give `data` and `criterion`")


def _reduced(scores: Tensor, reduction: Reduction) -> Tensor:
    if callable(reduction):
        return reduction(scores)
    if reduction == "none":
        return scores
    return scores.sum(0) if reduction == "sum" else scores.mean(0)


def _find(module: nn.Module, layer: str | nn.Module) -> tuple[str, nn.Module]:
    for name, one in module.named_modules():
        if one is layer or name == layer:
            return name, one
    what = f"`{layer}`" if isinstance(layer, str) else f"this `{type(layer).__name__}`"
    raise SecateurError(f"the module has no layer {what}\nhint: `module.named_modules()`")


def _inputs(batch: Any, device: torch.device) -> tuple[Inputs, Any]:
    """The arguments and the target of a batch; one that is no pair has no target."""
    given, target = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (batch, None)
    given, target = pytree.tree_map_only(Tensor, lambda t: t.to(device), (given, target))
    if isinstance(given, Mapping):
        return ((), given), target
    return (tuple(given) if isinstance(given, (tuple, list)) else (given,), {}), target


def _losses(criterion: Criterion, output: Any, target: Any) -> Tensor:
    if isinstance(criterion, nn.Module) and isinstance(getattr(criterion, "reduction", None), str):
        usual, criterion.reduction = criterion.reduction, "none"
        try:
            return criterion(output, target)
        finally:
            criterion.reduction = usual
    try:
        takes = "reduction" in inspect.signature(criterion).parameters
    except (TypeError, ValueError):
        takes = False
    return criterion(output, target, reduction="none") if takes else criterion(output, target)


def _leading(tree: Any) -> int | None:
    """The size of dimension 0 of the first tensor."""
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, Tensor) and leaf.dim():
            return leaf.shape[0]
    return None


_LAST = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RNNBase, nn.MultiheadAttention)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


def _usual_axis(layer: nn.Module, value: Tensor) -> int:
    if isinstance(layer, _LAST):
        return -1
    return 1 if isinstance(layer, _SECOND) or value.dim() != 3 else -1


def _weights(name: str, layer: nn.Module) -> tuple[str, int, Tensor]:
    """The parameter that makes the units of a layer, and their axis in it."""
    prefix = f"{name}." if name else ""
    if isinstance(layer, nn.MultiheadAttention):
        return f"{prefix}out_proj.weight", 0, layer.out_proj.weight
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise SecateurError(
            f"the layer `{name}` has no weights of its own\nhint: name one that has"
        )
    turned = isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) or getattr(
        layer, "transposed", False
    )
    return f"{prefix}weight", int(turned), weight


def _plain(parameter: str) -> str:
    """The name of a parameter without its parametrizations, like masks."""
    return _PARAMETRIZED.sub(r"\1", parameter)


_PARAMETRIZED = re.compile(r"\bparametrizations\.(\w+)\.original\d*$")


def _producers(graph: Graph, group: GroupHandle) -> list[str]:
    """Layers whose output units are the group's indices.

    A weight under a mask is read by the mask, which produces nothing: there, the layer tells.
    """
    found = []
    for one in group.slices:
        plain = _plain(one.parameter)
        name = plain.rpartition(".")[0]
        layer = graph.module.get_submodule(name)
        masked = plain != one.parameter and not isinstance(layer, _NORMS)
        if name not in found and (one.role == "producer" or masked):
            parameter, axis, _ = _weights(name, layer)
            if (parameter, axis) == (plain, one.axis):
                found.append(name)
    return found


def _of_group(
    graph: Graph,
    group: GroupHandle,
    data: Iterable[Any],
    criterion: Criterion | None,
    options: Mapping[str, Any],
) -> Tensor:
    names = _producers(graph, group)
    if not names:
        raise SecateurError(f"no layer with weights produces the group `{group.name}`")
    scores = {name: attribute(graph, name, data, criterion, **options) for name in names}
    if any(one.dim() != 1 for one in scores.values()):
        raise SecateurError("scores of a group are one per index\nhint: another `reduction`")
    return torch.tensor(group_scores(graph, scores)[group.name])


def _scored(
    size: int,
    found: Mapping[tuple[str, int], Tensor],
    layers: Mapping[str, tuple[nn.Module, Tensor]],
) -> list[float] | None:
    """The mean score of every index, or nothing where one has none."""
    total = torch.zeros(size, dtype=torch.float64, device="cpu")
    count = torch.zeros(size, dtype=torch.float64, device="cpu")
    for name, (layer, units) in layers.items():
        parameter, axis, _ = _weights(name, layer)
        index = found.get((parameter, axis))
        if index is None:
            continue
        if units.shape != index.shape:
            raise SecateurError(
                f"`{name}` has {len(index)} units, and scores of shape {list(units.shape)}"
            )
        own = index >= 0
        values = units.detach().cpu().double()[own]
        total.index_add_(0, index[own], values)
        count.index_add_(0, index[own], torch.ones_like(values))
    return (total / count).tolist() if bool((count > 0).all()) else None
