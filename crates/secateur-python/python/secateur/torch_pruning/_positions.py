"""Where the indices of the core's groups lie on the axes of parameters.

An axis may hold several groups behind each other (a concatenation), or a product of them (heads
and their width). Where the parts of an axis are plain, their sizes tell; otherwise the core is
asked what stays of the axes for sets of indices that spell each index in binary. Knows nothing of
layers.
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
_BEHIND = " ++ "
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
        plain = ((_plain(group), group.size) for group in self.groups.values())
        self.sizes = {part: size for part, size in plain if part is not None}
        self._lies: dict[str, dict[Place, Lie]] = {}

    def of(self, name: str) -> Mapping[Place, Lie]:
        """All axes that carry a group, in order."""
        if name not in self._lies:
            self._lies[name] = dict(self._find(self.groups[name]))
        return self._lies[name]

    def _find(self, group: Group) -> Iterator[tuple[Place, Lie]]:
        own = _plain(group)
        told = [self._told(slice.tree, own) for slice in group.slices]
        asked = {} if group.size == 1 or all(t is not None for t in told) else self._ask(group)
        for slice, indices in zip(group.slices, told, strict=True):
            place = (slice.parameter, slice.axis)
            nothing = [None] * self.tensors[slice.parameter].shape[slice.axis]
            found = asked.get(place, nothing) if indices is None else indices
            yield place, Lie(slice.role, found, _TIMES in slice.tree)

    def _told(self, tree: str, own: str | None) -> Sequence[Index] | None:
        """What the sizes of the parts of an axis tell, where all of them are known."""
        if tree == own:
            return range(self.sizes[tree])
        parts = tree.split(_BEHIND)
        if own is None or any(part not in self.sizes for part in parts):
            return None
        nested = [range(n) if part == own else [None] * n for part, n in self._sized(parts)]
        return [index for indices in nested for index in indices]

    def _sized(self, parts: Sequence[str]) -> Iterator[tuple[str, int]]:
        return ((part, self.sizes[part]) for part in parts)

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


def _plain(group: Group) -> str | None:
    """The name of a group in the trees of axes, if an axis is made of nothing else."""
    trees = (slice.tree for slice in group.slices)
    return next((tree for tree in trees if _PLAIN.fullmatch(tree)), None)


def _index(at: int, place: Place, kept: Sequence[Sequence[Mapping[Place, set[int]]]]) -> Index:
    index = 0
    for bit, (zero, one) in enumerate(kept):
        is_one = at in one[place]
        if is_one == (at in zero[place]):
            return None
        index |= is_one << bit
    return index
