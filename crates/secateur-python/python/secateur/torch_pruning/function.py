"""The pruning functions: they name what is pruned of a layer, and prune one layer when called.

A call changes one layer and nothing else; `DependencyGraph` finds what has to follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from secateur import _apply, _attributes
from secateur._secateur import SecateurError
from secateur.torch_pruning import _layers
from secateur.torch_pruning._layers import Kind

Keeps = list[tuple[str, list[list[int] | None]]]


@dataclass(frozen=True)
class PruningFunction:
    """Prunes the output or the input channels of one kind of layers."""

    kind: Kind
    makes: bool

    @property
    def __name__(self) -> str:
        """As groups are printed, and as code compares it."""
        return f"prune_{'out' if self.makes else 'in'}_channels"

    @property
    def name(self) -> str:
        return f"prune_{self.kind.name}_{'out' if self.makes else 'in'}_channels"

    def of(self, layer: object) -> "PruningFunction":
        """This function for the layer at hand: depthwise convolutions have their own.

        # Raises
        TypeError: the layer is of another kind.
        """
        kind = _layers.kind_of(layer)
        if kind is None or self.kind not in (kind, _FAMILY.get(kind.name)):
            raise TypeError(f"`{self.name}` does not prune a `{type(layer).__name__}`")
        return FUNCTIONS[kind.name, self.makes or kind.reads is None]

    def __call__(self, layer: Any, idxs: Sequence[int]) -> Any:
        """Prunes the layer in place, and returns it.

        # Raises
        TypeError: the layer is of another kind.
        SecateurError: an index is not there, or what is left is no layer of this kind.
        """
        function = self.of(layer)
        match function.kind.name:
            case "parameter":
                return _prune_parameter(layer, idxs)
            case "multihead_attention":
                return _prune_attention(layer, idxs)
            case _:
                return function._prune(layer, idxs)

    def _prune(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        channels = self.kind.channels(layer, makes=self.makes)
        if channels is None:
            raise SecateurError(f"`{type(layer).__name__}` has no parameters to prune")
        gone = checked(idxs, channels)
        places = self.kind.places(layer, makes=self.makes)
        shapes = {name: _layers.tensor(layer, name).shape for name, _ in places}
        shared = any(shapes[name][axis] != channels for name, axis in places)
        _check_groups(layer, gone, channels, shared=shared)
        keeps: Keeps = [(name, _keep(shapes[name], axis, gone)) for name, axis in places]
        _apply.cut(layer, keeps)
        if _layers.is_depthwise(layer):
            layer.groups = channels - len(gone)
        _describe(layer)
        return layer

    def __repr__(self) -> str:
        return f"<{self.name}>"


def checked(idxs: Sequence[int], size: int) -> set[int]:
    """The indices, each once.

    # Raises
    SecateurError: one is not there, or none would be left.
    """
    gone = {int(index) for index in idxs}
    outside = sorted(index for index in gone if not 0 <= index < size)
    if outside:
        raise SecateurError(f"there is no index {outside[0]} among {size}")
    if len(gone) == size:
        raise SecateurError(f"nothing would be left of {size} channels")
    return gone


def _keep(shape: Sequence[int], axis: int, gone: set[int]) -> list[list[int] | None]:
    """What stays of an axis, which may hold the channels of one group only."""
    size = shape[axis]
    lost = {index % size for index in gone}
    kept = [index for index in range(size) if index not in lost]
    return [kept if other == axis else None for other in range(len(shape))]


def _describe(layer: nn.Module) -> None:
    for attribute, number in _attributes.described(layer).items():
        attribute.set(number)


def _check_groups(layer: nn.Module, gone: set[int], channels: int, *, shared: bool) -> None:
    """Every group of a layer loses as many channels; where they share an axis, the same ones."""
    if _layers.is_depthwise(layer):
        return
    groups = layer.groups if isinstance(layer, _ConvNd) else getattr(layer, "num_groups", 1)
    width = channels // groups
    lost = [{i % width for i in gone if i // width == group} for group in range(groups)]
    if any(one != lost[0] if shared else len(one) != len(lost[0]) for one in lost):
        what = "the same channels" if shared else "as many channels"
        raise SecateurError(f"each of the {groups} groups of the layer has to lose {what}")


def _prune_parameter(parameter: nn.Parameter, idxs: Sequence[int], dim: int | None = None) -> Any:
    axis = pruning_dim(parameter) if dim is None else dim % parameter.dim()
    gone = checked(idxs, parameter.shape[axis])
    holder = nn.Module()
    holder.register_parameter("tensor", parameter)
    _apply.cut(holder, [("tensor", _keep(parameter.shape, axis, gone))])
    return parameter


def pruning_dim(parameter: nn.Parameter) -> int:
    """The last axis of a parameter that is longer than one."""
    longer = [axis for axis, size in enumerate(parameter.shape) if size > 1]
    if not longer:
        raise SecateurError("a parameter with one element cannot be pruned")
    return longer[-1]


def _prune_attention(layer: nn.MultiheadAttention, idxs: Sequence[int]) -> nn.MultiheadAttention:
    """Embedding and heads alike, so that the layer remains a `MultiheadAttention`."""
    if layer.in_proj_weight is None:
        raise SecateurError("attention with keys of another width cannot be pruned by itself")
    width = layer.embed_dim
    gone = checked(idxs, width)
    per_head = width // layer.num_heads
    lost = [sum(i // per_head == head for i in gone) for head in range(layer.num_heads)]
    if len(set(lost)) > 1:
        raise SecateurError(f"each of the {layer.num_heads} heads has to lose as many indices")
    kept = [index for index in range(width) if index not in gone]
    rows = [index + part * width for part in range(3) for index in kept]
    keeps: Keeps = [("in_proj_weight", [rows, kept]), ("out_proj.weight", [kept, kept])]
    if layer.in_proj_bias is not None:
        keeps += [("in_proj_bias", [rows]), ("out_proj.bias", [kept])]
    if layer.bias_k is not None:
        keeps += [("bias_k", [None, None, kept]), ("bias_v", [None, None, kept])]
    _apply.cut(layer, keeps)
    layer.embed_dim = layer.kdim = layer.vdim = len(kept)
    layer.head_dim = len(kept) // layer.num_heads
    _describe(layer.out_proj)
    return layer


class BasePruningFunc:
    """A pruner of a layer of one's own, as a name for it: what it does is found from its code.

    Give an instance to `customized_pruners` or `register_customized_layer`; its two methods then
    name the output and the input channels of such layers, in groups and in `get_pruning_group`.
    The cut itself is the core's, so that the methods need not be overridden; they are not called.
    """

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        raise NotImplementedError

    def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        raise NotImplementedError

    def get_out_channels(self, layer: nn.Module) -> int | None:
        raise NotImplementedError

    def get_in_channels(self, layer: nn.Module) -> int | None:
        raise NotImplementedError


_FAMILY = {"depthwise_conv": _layers.named("conv")}
FUNCTIONS = {
    (kind.name, makes): PruningFunction(kind, makes)
    for kind in _layers.KINDS
    for makes in (True, False)
}

prune_conv_out_channels = FUNCTIONS["conv", True]
prune_conv_in_channels = FUNCTIONS["conv", False]
prune_depthwise_conv_out_channels = FUNCTIONS["depthwise_conv", True]
prune_depthwise_conv_in_channels = FUNCTIONS["depthwise_conv", True]
prune_linear_out_channels = FUNCTIONS["linear", True]
prune_linear_in_channels = FUNCTIONS["linear", False]
prune_batchnorm_out_channels = FUNCTIONS["batchnorm", True]
prune_batchnorm_in_channels = FUNCTIONS["batchnorm", True]
prune_instancenorm_out_channels = FUNCTIONS["instancenorm", True]
prune_instancenorm_in_channels = FUNCTIONS["instancenorm", True]
prune_layernorm_out_channels = FUNCTIONS["layernorm", True]
prune_layernorm_in_channels = FUNCTIONS["layernorm", True]
prune_groupnorm_out_channels = FUNCTIONS["groupnorm", True]
prune_groupnorm_in_channels = FUNCTIONS["groupnorm", True]
prune_prelu_out_channels = FUNCTIONS["prelu", True]
prune_prelu_in_channels = FUNCTIONS["prelu", True]
prune_embedding_out_channels = FUNCTIONS["embedding", True]
prune_embedding_in_channels = FUNCTIONS["embedding", True]
prune_parameter_out_channels = FUNCTIONS["parameter", True]
prune_parameter_in_channels = FUNCTIONS["parameter", True]
prune_multihead_attention_out_channels = FUNCTIONS["multihead_attention", True]
prune_multihead_attention_in_channels = FUNCTIONS["multihead_attention", False]
