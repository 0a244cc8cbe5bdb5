"""Where the indices of the core's groups lie on the axes of parameters.

An axis may hold several groups behind each other (a concatenation), or a product of them (heads
and their width): the core is asked what stays of the axes for sets of indices that spell each
index in binary. Knows nothing of layers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from secateur._capture import tensors
from secateur._secateur import Group
from secateur.pruner import Graph

Place = tuple[str, int]
"""A parameter by name, and an axis."""
Index = int | None
_PLAIN = re.compile(r"a\d+")


@dataclass(frozen=True)
class Lie:
    """What a parameter axis does with a group, and which index lies at each position."""

    role: str
    indices: Sequence[Index]

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
        self.tensors = tensors(graph.module)
        self.names = {id(tensor): name for name, tensor in self.tensors.items()}
        self._lies: dict[str, dict[Place, Lie]] = {}

    def of(self, name: str) -> Mapping[Place, Lie]:
        """All axes that carry a group, in order."""
        if name not in self._lies:
            self._lies[name] = dict(self._find(self.groups[name]))
        return self._lies[name]

    def _find(self, group: Group) -> Iterator[tuple[Place, Lie]]:
        plain = [_PLAIN.fullmatch(slice.tree) is not None for slice in group.slices]
        asked = {} if all(plain) or group.size == 1 else self._ask(group)
        for slice, whole in zip(group.slices, plain, strict=True):
            place = (slice.parameter, slice.axis)
            size = self.tensors[slice.parameter].shape[slice.axis]
            found = range(size) if whole else asked.get(place, [None] * size)
            yield place, Lie(slice.role, found)

    def _ask(self, group: Group) -> dict[Place, list[Index]]:
        bits = range((group.size - 1).bit_length())
        kept = [[self._kept(group, bit, value) for value in (0, 1)] for bit in bits]
        places = [(slice.parameter, slice.axis) for slice in group.slices]
        return {
            place: [_index(p, place, kept) for p in range(self.tensors[place[0]].shape[place[1]])]
            for place in places
        }

    def _kept(self, group: Group, bit: int, value: int) -> dict[Place, set[int]]:
        keep = [index for index in range(group.size) if index >> bit & 1 == value]
        found = {}
        for name, axes in self.model.slices({group.name: keep}):
            found.update({(name, i): set(kept) for i, kept in enumerate(axes) if kept is not None})
        return found


def _index(at: int, place: Place, kept: Sequence[Sequence[Mapping[Place, set[int]]]]) -> Index:
    index = 0
    for bit, (zero, one) in enumerate(kept):
        is_one = at in one[place]
        if is_one == (at in zero[place]):
            return None
        index |= is_one << bit
    return index
