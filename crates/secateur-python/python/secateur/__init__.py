"""Secateur: structured pruning of live PyTorch modules.

import secateur as sc

pruner = sc.Pruner(model, (x,), ratio=0.5, optimizer=optimizer)
pruner.step()                 # channels are gone; training goes on
print(pruner.report())
"""

from secateur._secateur import SecateurError, criteria, known_operators
from secateur.exported import prune_exported
from secateur.pruner import Graph, GroupHandle, Options, Proposal, Pruner, graph
from secateur.saving import load, save

__all__ = [
    "Graph",
    "GroupHandle",
    "Options",
    "Proposal",
    "Pruner",
    "SecateurError",
    "criteria",
    "graph",
    "known_operators",
    "load",
    "prune_exported",
    "save",
]
