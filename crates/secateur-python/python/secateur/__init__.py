"""Secateur: structured pruning of live PyTorch modules.

import secateur as sc

pruner = sc.Pruner(model, (x,), ratio=0.5, optimizer=optimizer)
pruner.step()                 # channels are gone; training goes on
print(pruner.report())

sc.graph(model, (x,)).group("layer1.0.conv1.weight", axis=0).prune([2, 6, 9])
"""

from secateur._secateur import SecateurError, criteria, known_operators
from secateur.attributions import attribute, group_scores, unit_scores
from secateur.exported import prune_exported
from secateur.masks import (
    Masks,
    Sparsity,
    load_masked,
    make_permanent,
    mask,
    mask_groups,
    mask_pattern,
    mask_with,
    sparsity,
    unmask,
)
from secateur.pruner import Graph, GroupHandle, Options, Proposal, Pruner, graph
from secateur.regularization import GroupLasso, GrowingRegularization
from secateur.saving import load, save

__all__ = [
    "Graph",
    "GroupHandle",
    "GroupLasso",
    "GrowingRegularization",
    "Masks",
    "Options",
    "Proposal",
    "Pruner",
    "SecateurError",
    "Sparsity",
    "attribute",
    "criteria",
    "graph",
    "group_scores",
    "known_operators",
    "load",
    "load_masked",
    "make_permanent",
    "mask",
    "mask_groups",
    "mask_pattern",
    "mask_with",
    "prune_exported",
    "save",
    "sparsity",
    "unit_scores",
    "unmask",
]
