"""Sums over the elements of parameters, where the parameters are, for the core's criteria."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from secateur import _sharded

Keep = Sequence[Sequence[int] | None]


class Statistics:
    """Measures parameters. Gradients are those at hand, or what was accumulated of several."""

    def __init__(self, stored: Mapping[str, Tensor], gathered: Mapping[str, "Gathered"]) -> None:
        self.stored = stored
        self.gathered = gathered

    def __call__(
        self,
        measure: str,
        name: str,
        axes: Sequence[int],
        kept: Keep,
        members: Sequence[Sequence[int]] | None = None,
    ) -> list[list[float]] | list[float]:
        with torch.no_grad():
            if measure == "distances":
                return self._distances(name, axes[0], members or (), kept)
            order = NORMS.get(measure)
            if order is not None and not any(kept):
                return _norms(self.stored[name].detach(), order, axes)
            values = self._values(measure, name)
            for axis, positions in enumerate(kept):
                if positions is not None:
                    values = _masked(values, axis, positions)
            return [_sums(values, axis) for axis in axes]

    def memory(self, name: str) -> Any:
        """The bytes of a parameter, where they can be read in place; else `None`."""
        if not isinstance(self.stored, dict):  # parameters are gathered one at a time
            return None
        tensor = self.stored[name].detach()
        if type(tensor) is not Tensor or not tensor.is_cpu or not tensor.is_contiguous():
            return None
        try:
            flat = tensor.view(-1)
            return (flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat).numpy()
        except (RuntimeError, TypeError):  # NumPy is not there, or does not know the elements
            return None

    def _values(self, measure: str, name: str) -> Tensor:
        tensor = self.stored[name].detach()
        tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
        if measure == "magnitude":
            return tensor.abs()
        if measure == "square":
            return tensor.square()
        gathered = self.gathered.get(name)
        if gathered is not None:
            return gathered.taylor if measure == "taylor" else tensor.square() * gathered.square()
        gradient = self.stored[name].grad
        if gradient is None and not self.stored[name].requires_grad:
            raise ValueError(
                "it is frozen, and so has no gradient: leave its groups alone with `keep`, or use "
                "a criterion of weights"
            )
        if gradient is None:
            raise ValueError(
                "it has no gradient: call `loss.backward()`, and `accumulate()`, before"
            )
        if measure == "taylor":
            return (tensor * gradient).abs()
        return (tensor * gradient).square()

    def _distances(
        self, name: str, axis: int, members: Sequence[Sequence[int]], kept: Keep
    ) -> list[float]:
        values = self.stored[name].detach().float()
        for other, positions in enumerate(kept):
            if positions is not None and other != axis:
                values = values.index_select(other, _index(positions, values))
        rows = values.movedim(axis, 0)
        vectors = torch.stack([rows[list(places)].flatten() for places in members])
        return torch.cdist(vectors, vectors).double().sum(1).tolist()


class Gathered:
    """What several backward passes said of a parameter."""

    def __init__(self, tensor: Tensor) -> None:
        self.taylor = torch.zeros_like(tensor, dtype=torch.float32)
        self.squares = torch.zeros_like(self.taylor)
        self.count = 0

    def add(self, tensor: Tensor, gradient: Tensor) -> None:
        gradient = gradient.float()
        self.taylor += (tensor.detach().float() * gradient).abs()
        self.squares += gradient.square()
        self.count += 1

    def cut(self, keep: Keep) -> None:
        """Has what is kept of the parameter. A collective call, where it is sharded."""

        def kept(sums: Tensor) -> Tensor:
            values = _sharded.whole(sums)
            for axis, positions in enumerate(keep):
                if positions is not None:
                    values = values.index_select(axis, _index(positions, values))
            return _sharded.spread(values, sums)

        self.taylor, self.squares = kept(self.taylor), kept(self.squares)

    def shared(self, average: Callable[[Tensor], Tensor]) -> "Gathered":
        """What all ranks have gathered."""
        made = copy.copy(self)
        made.taylor, made.squares = average(self.taylor), average(self.squares)
        return made

    def square(self) -> Tensor:
        """The mean of the squared gradients."""
        return self.squares / max(self.count, 1)


NORMS = {"magnitude": 1, "square": 2}


def _norms(tensor: Tensor, order: int, axes: Sequence[int]) -> list[list[float]]:
    """Sums of the powers of magnitudes, without a tensor of them."""
    found = []
    for axis in axes:
        others = [other for other in range(tensor.dim()) if other != axis]
        dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        norms = (
            torch.linalg.vector_norm(tensor, order, others, dtype=dtype) if others else tensor.abs()
        )
        found.append(norms.double().pow(order).tolist())
    return found


def _index(positions: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(positions, dtype=torch.int64, device=like.device)


def _masked(values: Tensor, axis: int, positions: Sequence[int]) -> Tensor:
    mask = torch.zeros(values.shape[axis], dtype=values.dtype, device=values.device)
    mask[_index(positions, values)] = 1
    return values * mask.view([-1 if other == axis else 1 for other in range(values.dim())])


def _sums(values: Tensor, axis: int) -> list[float]:
    others = [other for other in range(values.dim()) if other != axis]
    summed = values.sum(others) if others else values
    return summed.double().tolist()
