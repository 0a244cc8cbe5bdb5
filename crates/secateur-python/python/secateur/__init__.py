"""Secateur: structured pruning of live PyTorch modules.

import secateur as sc

pruner = sc.Pruner(model, (x,), ratio=0.5, optimizer=optimizer)
pruner.step()                 # channels are gone; training goes on
print(pruner.report())
"""

from secateur._secateur import SecateurError, criteria, known_operators
from secateur.pruner import Graph, GroupHandle, Proposal, Pruner, graph

__all__ = [
    "Graph",
    "GroupHandle",
    "Proposal",
    "Pruner",
    "SecateurError",
    "criteria",
    "graph",
    "known_operators",
]
