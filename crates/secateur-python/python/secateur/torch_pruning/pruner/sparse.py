"""Pruners that make groups small while the model trains, before they are cut.

`regularize` adds to the gradients, between `loss.backward()` and the optimizer's step.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from secateur.torch_pruning import _layers
from secateur.torch_pruning.function import PruningFunction
from secateur.torch_pruning.graph import Inputs
from secateur.torch_pruning.group import Group, GroupItem
from secateur.torch_pruning.importance import MagnitudeImportance
from secateur.torch_pruning.pruner.base import BasePruner

Importance = Callable[[Group], Tensor | None]


class _SparsePruner(BasePruner):
    """Keeps the groups at hand, as the model is now."""

    def __init__(
        self, model: nn.Module, example_inputs: Inputs, importance: Importance, **options: Any
    ) -> None:
        super().__init__(model, example_inputs, importance, **options)
        self.update_regularizer()

    def update_regularizer(self) -> None:
        self._regularized = self._groups()
        self._seen = self.DG.graph._model

    def _current(self) -> dict[str, Group]:
        if self._seen is not self.DG.graph._model:
            self.update_regularizer()
        return self._regularized

    def _is_free(self, layer: Any) -> bool:
        ignored = (one for one in self.ignored_layers if isinstance(one, nn.Module))
        return all(layer is not inner for one in ignored for inner in one.modules())

    def _decay(self, group: Group, strength: Tensor, *, bias: bool) -> None:
        """Adds `strength * w` to the gradients, with one strength per index of the root."""
        for item in group:
            if isinstance(item.dep.layer, (_ConvNd, nn.Linear, _BatchNorm)):
                for parameter, axis in _parameters(item, bias=bias):
                    factor = _spread(strength.to(parameter), item, parameter.shape[axis])
                    shape = [-1 if other == axis else 1 for other in range(parameter.dim())]
                    parameter.grad.add_(factor.view(shape) * parameter.detach())


def _parameters(item: GroupItem, *, bias: bool) -> Iterator[tuple[nn.Parameter, int]]:
    handler, layer = item.dep.handler, item.dep.layer
    if not isinstance(handler, PruningFunction) or not isinstance(layer, nn.Module):
        return
    for name, axis in handler.kind.places(layer, makes=handler.makes):
        parameter = _layers.tensor(layer, name)
        wanted = name == "weight" or (bias and name == "bias")
        if wanted and parameter is not None and parameter.grad is not None:
            yield parameter, axis


def _spread(strength: Tensor, item: GroupItem, size: int) -> Tensor:
    """The strength of each position of an axis; the mean of the channels that share one."""
    at = torch.tensor(item.idxs, device=strength.device) % size
    root = torch.tensor(item.root_idxs, device=strength.device)
    zero = torch.zeros(size, dtype=strength.dtype, device=strength.device)
    return zero.scatter_reduce(0, at, strength[root], "mean", include_self=False)


class BNScalePruner(_SparsePruner):
    """Adds `reg * sign(w)` to the gradients of the scales of batch norms, or, with `group_lasso`,
    `reg * w / |w|` with the norm over all scales of a group. Liu et al., "Network Slimming",
    2017."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Inputs,
        importance: Importance,
        reg: float = 1e-5,
        group_lasso: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model, example_inputs, importance, **options)
        self.reg = reg
        self.group_lasso = group_lasso

    @torch.no_grad()
    def regularize(self, model: nn.Module, reg: float | None = None, bias: bool = False) -> None:  # type: ignore[override]
        reg = self.reg if reg is None else reg
        if self.group_lasso:
            self._lasso(reg, bias=bias)
            return
        norms = (one for one in model.modules() if isinstance(one, _BatchNorm) and one.affine)
        for norm in norms:
            if self._is_free(norm) and norm.weight.grad is not None:
                norm.weight.grad.add_(reg * norm.weight.sign())

    def _lasso(self, reg: float, *, bias: bool) -> None:
        squares = MagnitudeImportance(2, "mean", None, target_types=(_BatchNorm,))
        for group in self._current().values():
            found = squares(group)
            if found is not None:
                self._scale(group, reg / (found + 1e-9).sqrt(), bias=bias)

    def _scale(self, group: Group, strength: Tensor, *, bias: bool) -> None:
        norms = [item for item in group if isinstance(item.dep.layer, _BatchNorm)]
        kept = Group(group._graph, norms, group.chosen, group.sizes)
        self._decay(kept, strength, bias=bias)


class GroupNormPruner(_SparsePruner):
    """Adds `reg * alpha^s * w` to the gradients of a group, where `s` is 0 for its largest index
    and 1 for its smallest. Fang et al., "DepGraph: Towards Any Structural Pruning", 2023."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Inputs,
        importance: Importance,
        reg: float = 1e-4,
        alpha: float = 4,
        **options: Any,
    ) -> None:
        super().__init__(model, example_inputs, importance, **options)
        self.reg = reg
        self.alpha = alpha

    @torch.no_grad()
    def regularize(  # type: ignore[override]
        self, model: nn.Module, alpha: float | None = None, bias: bool = False
    ) -> None:
        """`alpha` is the factor between the smallest and the largest index; `2 ** self.alpha` by
        default."""
        factor = 2.0**self.alpha if alpha is None else alpha
        for group in self._current().values():
            score = self.estimate_importance(group)
            if score is not None and not score.isnan().any():
                self._decay(group, self.reg * factor ** _smallness(score.sqrt()), bias=bias)


class GrowingRegPruner(_SparsePruner):
    """Adds `r * w` to the gradients of a group, with one `r` per index that begins at `reg` and
    that `update_reg` lets grow by up to `delta_reg`, most where the index is small. Wang et al.,
    "Neural Pruning via Growing Regularization", 2021."""

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Inputs,
        importance: Importance,
        reg: float = 1e-5,
        delta_reg: float = 1e-5,
        **options: Any,
    ) -> None:
        self.base_reg = reg
        self.delta_reg = delta_reg
        super().__init__(model, example_inputs, importance, **options)

    def update_regularizer(self) -> None:
        """Lists the groups as they are now, and begins with `reg` again."""
        super().update_regularizer()
        self.group_reg = {
            name: torch.full((len(group[0].idxs),), float(self.base_reg), device="cpu")
            for name, group in self._regularized.items()
        }

    @torch.no_grad()
    def update_reg(self) -> None:
        for name, group in self._current().items():
            score = self.estimate_importance(group)
            if score is not None:
                self.group_reg[name] += self.delta_reg * _smallness(score).to("cpu", torch.float32)

    @torch.no_grad()
    def regularize(self, model: nn.Module, bias: bool = False) -> None:  # type: ignore[override]
        for name, group in self._current().items():
            self._decay(group, self.group_reg[name], bias=bias)


def _smallness(score: Tensor) -> Tensor:
    """0 for the largest score, 1 for the smallest; 0 where all are alike."""
    spread = score.max() - score.min()
    return (score.max() - score) / spread if spread > 0 else torch.zeros_like(score)
