"""Selection in scopes: sets of groups that share a ratio. The core decides, scope by scope."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.pruner import Pruner, _escaped
from secateur.torch_pruning.graph import evaluated

Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Scope:
    """Groups, what is ranked together of them, and the fraction of what is left that goes now."""

    names: Sequence[str]
    ranked: str
    ratio: float = 0.0
    ratio_for: Mapping[str, float] = field(default_factory=dict)
    multiple_of: int = 1


@dataclass
class Chosen:
    """Kept indices of every group that is cut."""

    keeps: dict[str, list[int]] = field(default_factory=dict)


class Selector(Pruner):
    """Selects in scopes, by scores that are given."""

    def __init__(self, module: nn.Module, *args: Any, **options: Any) -> None:
        super().__init__(module, *args, **options)
        self.scopes: Sequence[Scope] = ()
        self.given: Scores = {}

    def select(self, scores: Scores | None = None) -> Chosen:  # type: ignore[override]
        chosen = Chosen()
        given = self.given if scores is None else scores
        for scope in self.scopes:
            names = [name for name in scope.names if name in given and name not in self.left]
            if names:
                chosen.keeps.update(self._of_scope(scope, {name: given[name] for name in names}))
        return chosen

    def _of_scope(self, scope: Scope, scores: Scores) -> dict[str, list[int]]:
        ratios = {_escaped(n): r for n, r in scope.ratio_for.items() if n in scores}
        self.options.update(
            scope=scope.ranked,
            ratio=scope.ratio,
            ratio_for=ratios,
            multiple_of=scope.multiple_of,
            kinds=sorted({group.kind for group in self.graph.groups}),
        )
        return super().select(scores).keeps

    def cut(self, scopes: Sequence[Scope], scores: Scores) -> dict[str, list[int]]:
        """Cuts what is selected, and says what is kept.

        Groups that the model's code cannot follow are left alone.
        """
        self.scopes, self.given = scopes, scores
        with evaluated(self.module):
            return self._select_and_apply().keeps
