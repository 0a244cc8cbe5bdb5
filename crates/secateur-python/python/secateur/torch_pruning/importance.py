"""How much the channels of a group matter: one score per index of its root.

A score is a sum over what every layer of the group holds of an index (a norm, or what the loss
would lose), reduced over the layers and normalized. Any callable that takes a group and returns
such a tensor takes the place of these classes.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from secateur._secateur import SecateurError
from secateur.torch_pruning import _layers
from secateur.torch_pruning.function import PruningFunction
from secateur.torch_pruning.group import Group, GroupItem

Normalizer = str | Callable[[Tensor], Tensor] | None
Layers = list[tuple[Tensor, Sequence[int]]]
"""Scores of the channels that go with each layer, and the indices of the root they go with."""
TARGETS: tuple[type, ...] = (_ConvNd, nn.Linear, _BatchNorm, nn.LayerNorm)


class Importance(abc.ABC):
    """What scores a group."""

    @abc.abstractmethod
    def __call__(self, group: Group) -> Tensor | None:
        """One score per index of the group's root, or nothing if the group is not to be cut."""


class RandomImportance(Importance):
    """Numbers from PyTorch's generator."""

    def __call__(self, group: Group) -> Tensor:
        return torch.rand(len(group[0].idxs))


class LayerImportance(Importance):
    """Scores that are summed over the elements of weights, and then over layers."""

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Sequence[type] = TARGETS,
    ) -> None:
        if group_reduction not in REDUCTIONS:
            raise SecateurError(_unknown("reduction", group_reduction, REDUCTIONS))
        named = isinstance(normalizer, str) and not normalizer.startswith("sentinel_")
        if named and normalizer not in NORMALIZERS:
            raise SecateurError(_unknown("normalizer", normalizer, NORMALIZERS))
        self.group_reduction = group_reduction
        self.normalizer = normalizer
        self.bias = bias
        self.target_types = tuple(target_types)

    @abc.abstractmethod
    def elements(self, tensor: nn.Parameter) -> Tensor | None:
        """What every element of a parameter matters, or nothing if that is not known."""

    def summed(self, elements: Tensor) -> Tensor:
        """What a row of elements matters."""
        return elements.sum(1)

    @torch.no_grad()
    def __call__(self, group: Group) -> Tensor | None:
        layers: Layers = []
        for item in group:
            if isinstance(item.dep.layer, self.target_types):
                layers += [(score, item.root_idxs) for score in self._of_layer(item)]
        if not layers:
            return None
        reduced = self._reduce([score for score, _ in layers], [root for _, root in layers])
        missing = len(group[0].idxs) - reduced.shape[-1]  # of which no layer says anything
        reduced = nn.functional.pad(reduced, (0, missing)) if missing > 0 else reduced
        return self._normalize(reduced, self.normalizer)

    # What subclasses call and replace.

    def _reduce(self, group_imp: Sequence[Tensor], group_idxs: Sequence[Sequence[int]]) -> Tensor:
        """One score per index of the root, of what every layer holds with which of them."""
        size = 1 + max(max(idxs, default=-1) for idxs in group_idxs)
        return REDUCTIONS[self.group_reduction](list(zip(group_imp, group_idxs, strict=True)), size)

    def _normalize(self, group_importance: Tensor, normalizer: Normalizer) -> Tensor:
        return _normalized(group_importance, normalizer)

    def _lamp(self, scores: Tensor) -> Tensor:
        return _lamp(scores)

    def _of_layer(self, item: GroupItem) -> list[Tensor]:
        layer, handler = item.dep.layer, item.dep.handler
        if isinstance(layer, nn.Parameter):
            places: Sequence[tuple[Any, int]] = [(layer, item.dep.target.pruning_dim)]
        elif isinstance(handler, PruningFunction) and handler.kind.name == "depthwise_conv":
            places = []  # as in Torch-Pruning, they follow those that make their channels
        elif isinstance(handler, PruningFunction):
            named = handler.kind.places(layer, makes=handler.makes)
            names = ("weight", "bias") if self.bias else ("weight",)
            read = [place for place in named if place[0].rpartition(".")[2] in names]
            places = [(_layers.tensor(layer, name), axis) for name, axis in read]
        else:
            places = []
        scores = [self._of_axis(tensor, axis, item.idxs) for tensor, axis in places]
        return [score for score in scores if score is not None]

    def _of_axis(self, tensor: nn.Parameter, axis: int, idxs: Sequence[int]) -> Tensor | None:
        elements = self.elements(tensor)
        if elements is None:
            return None
        rows = elements.movedim(axis, 0).reshape(tensor.shape[axis], -1)
        at = torch.tensor(idxs, device=rows.device) % tensor.shape[axis]
        return self.summed(rows)[at]


class GroupMagnitudeImportance(LayerImportance):
    """Sums of `|w|^p`. Fang et al., "DepGraph: Towards Any Structural Pruning", 2023."""

    def __init__(
        self,
        p: float = 2,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Sequence[type] = TARGETS,
    ) -> None:
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.p = p

    def elements(self, tensor: nn.Parameter) -> Tensor:
        return tensor.detach().float().abs().pow(self.p)


class MagnitudeImportance(GroupMagnitudeImportance):
    """Another name of `GroupMagnitudeImportance`."""


class BNScaleImportance(GroupMagnitudeImportance):
    """Scales of batch norms; groups without one are left alone. Liu et al., "Network Slimming",
    2017."""

    def __init__(
        self, group_reduction: str | None = "mean", normalizer: Normalizer = "mean"
    ) -> None:
        super().__init__(1, group_reduction, normalizer, target_types=(_BatchNorm,))


class LAMPImportance(GroupMagnitudeImportance):
    """Norms as parts of those that are no smaller. Lee et al., "Layer-Adaptive Sparsity for the
    Magnitude-Based Pruning", 2021."""

    def __init__(
        self,
        p: float = 2,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "lamp",
        bias: bool = False,
    ) -> None:
        super().__init__(p, group_reduction, normalizer, bias)


class FPGMImportance(GroupMagnitudeImportance):
    """Distances to the other channels of convolutions and linear layers, in the `p` norm. He et
    al., "Filter Pruning via Geometric Median", 2019."""

    def __init__(
        self,
        p: float = 2,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
    ) -> None:
        super().__init__(p, group_reduction, normalizer, bias, (_ConvNd, nn.Linear))

    def elements(self, tensor: nn.Parameter) -> Tensor:
        return tensor.detach().float()

    def summed(self, elements: Tensor) -> Tensor:
        return torch.cdist(elements, elements, p=self.p).sum(1)


class GroupTaylorImportance(LayerImportance):
    """`|w ∂L/∂w|`, from the gradients at hand; with `multivariable`, the sum is taken before the
    absolute value. Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019."""

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        multivariable: bool = False,
        bias: bool = False,
        target_types: Sequence[type] = TARGETS,
    ) -> None:
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.multivariable = multivariable

    def elements(self, tensor: nn.Parameter) -> Tensor | None:
        return None if tensor.grad is None else (tensor.detach() * tensor.grad).float()

    def summed(self, elements: Tensor) -> Tensor:
        return elements.sum(1).abs() if self.multivariable else elements.abs().sum(1)

    def __call__(self, group: Group) -> Tensor | None:
        _check_gradients(group, self.target_types, {})
        return super().__call__(group)


class TaylorImportance(GroupTaylorImportance):
    """Another name of `GroupTaylorImportance`."""


class GroupHessianImportance(LayerImportance):
    """`w² (∂L/∂w)²`, with the mean of the squared gradients that were accumulated, or those at
    hand. LeCun et al., "Optimal Brain Damage", 1989."""

    def __init__(
        self,
        group_reduction: str | None = "mean",
        normalizer: Normalizer = "mean",
        bias: bool = False,
        target_types: Sequence[type] = TARGETS,
    ) -> None:
        super().__init__(group_reduction, normalizer, bias, target_types)
        self.zero_grad()

    def zero_grad(self) -> None:
        """Forgets what was accumulated."""
        self._squares: dict[nn.Parameter, Tensor] = {}
        self._counts: dict[nn.Parameter, int] = {}

    @torch.no_grad()
    def accumulate_grad(self, model: nn.Module) -> None:
        """Adds the squared gradients of a sample; after each `loss.backward()`."""
        for parameter in model.parameters():
            if parameter.grad is not None:
                square = parameter.grad.square()
                known = self._squares.get(parameter)
                if known is None or known.shape != square.shape:
                    self._squares[parameter], self._counts[parameter] = square, 1
                else:
                    known += square
                    self._counts[parameter] += 1

    def elements(self, tensor: nn.Parameter) -> Tensor | None:
        squares = self._squares.get(tensor)
        if squares is not None and squares.shape == tensor.shape:
            squares = squares / self._counts[tensor]
        elif squares is not None:
            raise SecateurError(
                "gradients were accumulated before channels were cut\n"
                "hint: call `zero_grad()` and accumulate again"
            )
        elif tensor.grad is None:
            return None
        else:
            squares = tensor.grad.square()
        return (tensor.detach().square() * squares).float()

    def __call__(self, group: Group) -> Tensor | None:
        _check_gradients(group, self.target_types, self._squares)
        return super().__call__(group)


class HessianImportance(GroupHessianImportance):
    """Another name of `GroupHessianImportance`."""


def _check_gradients(
    group: Group, types: tuple[type, ...], known: Mapping[nn.Parameter, Tensor]
) -> None:
    layers = [item.dep.layer for item in group if isinstance(item.dep.layer, types)]
    weights = [getattr(layer, "weight", None) for layer in layers]
    found = [w for w in weights if w is not None]
    if found and all(w.grad is None and w not in known for w in found):
        raise SecateurError(
            f"no layer of the group of `{group[0].dep.target.name}` has gradients\n"
            "hint: call `loss.backward()` before"
        )


def _unknown(what: str, given: object, known: Mapping[Any, object]) -> str:
    names = ", ".join(f"`{name}`" for name in known)
    return f"there is no {what} `{given}`\nhint: use one of {names}"


def _scattered(how: str, start: float) -> Callable[[Layers, int], Tensor]:
    def reduce(layers: Layers, size: int) -> Tensor:
        total = torch.full((size,), start, device=layers[0][0].device)
        for score, root in layers:
            at = torch.tensor(list(root), device=total.device)
            total.scatter_reduce_(0, at, score.to(total), reduce=how)
        return total

    return reduce


_sum = _scattered("sum", 0.0)


def _one(at: int) -> Callable[[Layers, int], Tensor]:
    return lambda layers, size: _sum([layers[at]], size)


def _stacked(layers: Layers, size: int) -> Tensor:
    return torch.stack([_sum([layer], size) for layer in layers])


REDUCTIONS: dict[str | None, Callable[[Layers, int], Tensor]] = {
    "sum": _sum,
    "mean": lambda layers, size: _sum(layers, size) / len(layers),
    "max": _scattered("amax", float("-inf")),
    "prod": _scattered("prod", 1.0),
    "first": _one(0),
    "gate": _one(-1),
    None: _stacked,
}


def _lamp(scores: Tensor) -> Tensor:
    ordered, order = scores.sort()
    rest = ordered.flip(0).cumsum(0).flip(0)
    made = torch.empty_like(scores)
    made[order] = ordered / rest
    return made


def _gaussian(scores: Tensor) -> Tensor:
    return (scores - scores.mean()) / (scores.std() + 1e-8)


def _standardized(scores: Tensor) -> Tensor:
    lowest, highest = scores.min(), scores.max()
    return (scores - lowest) / (highest - lowest + 1e-8)


NORMALIZERS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda scores: scores / scores.sum(),
    "mean": lambda scores: scores / scores.mean(),
    "max": lambda scores: scores / scores.max(),
    "standarization": _standardized,
    "standardization": _standardized,
    "gaussian": _gaussian,
    "lamp": _lamp,
}


def _normalized(scores: Tensor, normalizer: Normalizer) -> Tensor:
    if normalizer is None:
        return scores
    if callable(normalizer):
        return normalizer(scores)
    if normalizer.startswith("sentinel_"):
        at = int(float(normalizer.removeprefix("sentinel_")) * len(scores))
        return scores / (scores.sort().values[min(at, len(scores) - 1)] + 1e-8)
    return NORMALIZERS[normalizer](scores)
