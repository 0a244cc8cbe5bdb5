"""Pruners: a ratio, an importance, and steps."""

import sys

from secateur.torch_pruning import function, importance
from secateur.torch_pruning.function import BasePruningFunc
from secateur.torch_pruning.pruner.base import (
    BasePruner,
    MagnitudePruner,
    MetaPruner,
    linear_scheduler,
)
from secateur.torch_pruning.pruner.sparse import BNScalePruner, GroupNormPruner, GrowingRegPruner

__all__ = [
    "BNScalePruner",
    "BasePruner",
    "BasePruningFunc",
    "GroupNormPruner",
    "GrowingRegPruner",
    "MagnitudePruner",
    "MetaPruner",
    "function",
    "importance",
    "linear_scheduler",
]

# Modules that Torch-Pruning has here.
sys.modules[f"{__name__}.function"] = function
sys.modules[f"{__name__}.importance"] = importance
