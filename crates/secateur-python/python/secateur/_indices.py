"""Which index of a group every position of a parameter axis belongs to. Knows nothing of scores."""

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
    return {
        (name, axis): torch.tensor([-1 if at is None else at for at in indices], device="cpu")
        for name, axis, indices in graph._model.places(group.name)
    }
