"""Torch-Pruning's surface on Secateur's core: change the import, and keep the rest.

import secateur.torch_pruning as tp

DG = tp.DependencyGraph().build_dependency(model, example_inputs=torch.randn(1, 3, 224, 224))
group = DG.get_pruning_group(model.conv1, tp.prune_conv_out_channels, idxs=[2, 6, 9])
group.prune()

What goes together, and what is selected, is decided by the core, which runs the model once
without arithmetic. Parameters keep their identity, and what cannot be followed is refused.
"""

from secateur._secateur import SecateurError
from secateur.torch_pruning import dependency, function, importance, pruner, utils
from secateur.torch_pruning.function import (
    BasePruningFunc,
    PruningFunction,
    prune_batchnorm_in_channels,
    prune_batchnorm_out_channels,
    prune_conv_in_channels,
    prune_conv_out_channels,
    prune_depthwise_conv_in_channels,
    prune_depthwise_conv_out_channels,
    prune_embedding_in_channels,
    prune_embedding_out_channels,
    prune_groupnorm_in_channels,
    prune_groupnorm_out_channels,
    prune_instancenorm_in_channels,
    prune_instancenorm_out_channels,
    prune_layernorm_in_channels,
    prune_layernorm_out_channels,
    prune_linear_in_channels,
    prune_linear_out_channels,
    prune_multihead_attention_in_channels,
    prune_multihead_attention_out_channels,
    prune_parameter_in_channels,
    prune_parameter_out_channels,
    prune_prelu_in_channels,
    prune_prelu_out_channels,
)
from secateur.torch_pruning.graph import DependencyGraph
from secateur.torch_pruning.group import Dependency, Group, GroupItem, Node
from secateur.torch_pruning.pruner import (
    BasePruner,
    BNScalePruner,
    GroupNormPruner,
    GrowingRegPruner,
    MagnitudePruner,
    MetaPruner,
)
from secateur.torch_pruning.serialization import load, load_state_dict, save, state_dict

__all__ = [
    "BNScalePruner",
    "BasePruner",
    "BasePruningFunc",
    "Dependency",
    "DependencyGraph",
    "Group",
    "GroupItem",
    "GroupNormPruner",
    "GrowingRegPruner",
    "MagnitudePruner",
    "MetaPruner",
    "Node",
    "PruningFunction",
    "SecateurError",
    "dependency",
    "function",
    "importance",
    "load",
    "load_state_dict",
    "prune_batchnorm_in_channels",
    "prune_batchnorm_out_channels",
    "prune_conv_in_channels",
    "prune_conv_out_channels",
    "prune_depthwise_conv_in_channels",
    "prune_depthwise_conv_out_channels",
    "prune_embedding_in_channels",
    "prune_embedding_out_channels",
    "prune_groupnorm_in_channels",
    "prune_groupnorm_out_channels",
    "prune_instancenorm_in_channels",
    "prune_instancenorm_out_channels",
    "prune_layernorm_in_channels",
    "prune_layernorm_out_channels",
    "prune_linear_in_channels",
    "prune_linear_out_channels",
    "prune_multihead_attention_in_channels",
    "prune_multihead_attention_out_channels",
    "prune_parameter_in_channels",
    "prune_parameter_out_channels",
    "prune_prelu_in_channels",
    "prune_prelu_out_channels",
    "pruner",
    "save",
    "state_dict",
    "utils",
]
