"""The dependency graph and its groups, where Torch-Pruning has them."""

from secateur.torch_pruning.graph import DependencyGraph
from secateur.torch_pruning.group import Dependency, Group, GroupItem, Node

__all__ = ["Dependency", "DependencyGraph", "Group", "GroupItem", "Node"]
