"""Which index of a group every position of a parameter axis belongs to.

The core tells what is kept of each tensor; asking it once per bit of the index tells the whole map.
Knows nothing of scores.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from secateur.pruner import Graph, GroupHandle

Places = dict[tuple[str, int], Tensor]
"""By parameter and axis: of every position the index of the group, or -1 where it has none."""


class HasGraph(Protocol):
    """What has a graph, like a `Pruner`."""

    graph: Graph


def graph_of(target: Graph | HasGraph) -> Graph:
    """The graph itself, or that of a pruner."""
    return target if isinstance(target, Graph) else target.graph


def places(graph: Graph, group: GroupHandle) -> Places:
    """The map of one group. A group of one index cannot be cut, and has an empty map."""
    if group.size < 2:
        return {}
    sizes = _sizes(graph)
    only_first = _kept(graph, group, [0], sizes)
    bits = [
        _kept(graph, group, [index for index in range(group.size) if index >> bit & 1], sizes)
        for bit in range((group.size - 1).bit_length())
    ]
    found: Places = {}
    for place in {place: None for kept in (only_first, *bits) for place in kept}:
        all_stay = torch.ones(sizes[place[0]][place[1]], dtype=torch.bool)
        flags = [kept.get(place, all_stay) for kept in bits]
        index = sum(flag.long() << bit for bit, flag in enumerate(flags))
        foreign = only_first.get(place, all_stay) & flags[0]  # stays without index 0, and with it
        found[place] = index.masked_fill(foreign, -1)
    return found


def _kept(
    graph: Graph, group: GroupHandle, indices: list[int], sizes: Mapping[str, list[int]]
) -> dict[tuple[str, int], Tensor]:
    """By parameter and axis that is cut: whether each position stays with these indices."""
    return {
        (name, axis): _flags(positions, sizes[name][axis])
        for name, keep in graph._model.slices({group.name: indices})
        for axis, positions in enumerate(keep)
        if positions is not None
    }


def _flags(positions: Sequence[int], size: int) -> Tensor:
    flags = torch.zeros(size, dtype=torch.bool)
    flags[list(positions)] = True
    return flags


def _sizes(graph: Graph) -> Mapping[str, list[int]]:
    """Sizes of parameters and buffers as the graph was traced, which masks do not change."""
    program = graph._trace.program["graph_module"]
    values = program["graph"]["tensor_values"]
    found = {}
    for spec in program["signature"]["input_specs"]:
        if "parameter" in spec:
            one = spec["parameter"]
            sizes = values[one["arg"]["name"]]["sizes"]
            found[one["parameter_name"]] = [size["as_int"] for size in sizes]
    return found
