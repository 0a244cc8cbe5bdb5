"""Where the indices of the core's groups lie on the axes of parameters.

An axis may hold several groups behind each other (a concatenation), or a product of them (heads
and their width). Knows nothing of layers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from secateur._modules import tensors
from secateur._secateur import Group
from secateur.pruner import Graph

Place = tuple[str, int]
"""A parameter by name, and an axis."""
Index = int | None
_PLAIN = re.compile(r"a\d+")
_TIMES = " × "  # noqa: RUF001


@dataclass(frozen=True)
class Lie:
    """What a parameter axis does with a group, and which index lies at each position."""

    role: str
    indices: Sequence[Index]
    is_product: bool

    def positions(self, chosen: set[int]) -> list[int]:
        return [at for at, index in enumerate(self.indices) if index in chosen]


class Positions:
    """The groups of a graph as it is now, and where they lie."""

    def __init__(self, graph: Graph) -> None:
        self.model = graph._model
        self.groups: dict[str, Group] = {group.name: group for group in self.model.groups()}
        self.at: dict[Place, list[str]] = {}
        for group in self.groups.values():
            for slice in group.slices:
                self.at.setdefault((slice.parameter, slice.axis), []).append(group.name)
        self.layers = dict(graph.module.named_modules(remove_duplicate=False))
        self.tensors = tensors(graph.module)
        self.names = {id(tensor): name for name, tensor in self.tensors.items()}
        self._lies: dict[str, dict[Place, Lie]] = {}

    def of(self, name: str) -> Mapping[Place, Lie]:
        """All axes that carry a group, in order."""
        if name not in self._lies:
            self._lies[name] = dict(self._find(self.groups[name]))
        return self._lies[name]

    def _find(self, group: Group) -> Iterator[tuple[Place, Lie]]:
        for slice, (name, axis, indices) in zip(
            group.slices, self.model.places(group.name), strict=True
        ):
            plain = _PLAIN.fullmatch(slice.tree)
            lie = Lie(slice.role, range(group.size) if plain else indices, _TIMES in slice.tree)
            yield (name, axis), lie
