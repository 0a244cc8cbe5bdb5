"""Kinds of layers: which axes of their tensors hold what they make, and what they read.

Everything that depends on the kind of a layer is derived from `KINDS`. Knows nothing of groups.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

Place = tuple[str, int]
"""A tensor of a layer, and one of its axes."""
Places = tuple[Place, ...]


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of layers. What reads nothing of its own works on every channel by itself."""

    name: str
    fits: Callable[[Any], bool]
    makes: Callable[[Any], Places]
    reads: Callable[[Any], Places] | None = None

    def places(self, layer: nn.Module, *, makes: bool) -> Places:
        places = self.makes if makes or self.reads is None else self.reads
        found = [(name, axis, tensor(layer, name)) for name, axis in places(layer)]
        return tuple((name, axis % t.dim()) for name, axis, t in found if t is not None)

    def channels(self, layer: nn.Module, *, makes: bool) -> int | None:
        """How many channels the layer makes or reads."""
        if isinstance(layer, _ConvNd):
            return layer.out_channels if makes else layer.in_channels
        places = self.places(layer, makes=makes)
        return tensor(layer, places[0][0]).shape[places[0][1]] if places else None


def tensor(layer: nn.Module, name: str) -> Any:
    for part in name.split("."):
        layer = getattr(layer, part, None)
    return layer


def _fixed(*places: Place) -> Callable[[Any], Places]:
    return lambda _layer: places


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda layer: isinstance(layer, types)


def is_depthwise(layer: object) -> bool:
    return (
        isinstance(layer, _ConvNd) and 1 < layer.groups == layer.out_channels == layer.in_channels
    )


_NORM = _fixed(("weight", 0), ("bias", 0), ("running_mean", 0), ("running_var", 0))
_ROWS = _fixed(("weight", 0), ("bias", 0))

KINDS = (
    Kind("depthwise_conv", is_depthwise, _ROWS),
    Kind(
        "conv",
        _is(_ConvNd),
        lambda conv: (("weight", int(conv.transposed)), ("bias", 0)),
        lambda conv: (("weight", int(not conv.transposed)),),
    ),
    Kind("linear", _is(nn.Linear), _ROWS, _fixed(("weight", 1))),
    Kind("batchnorm", _is(_BatchNorm), _NORM),
    Kind("instancenorm", _is(_InstanceNorm), _NORM),
    Kind("layernorm", _is(nn.LayerNorm, nn.RMSNorm), _fixed(("weight", -1), ("bias", -1))),
    Kind("groupnorm", _is(nn.GroupNorm), _ROWS),
    Kind("prelu", _is(nn.PReLU), _fixed(("weight", 0))),
    Kind("embedding", _is(nn.Embedding, nn.EmbeddingBag), _fixed(("weight", 1))),
    Kind(
        "multihead_attention",
        _is(nn.MultiheadAttention),
        _fixed(("out_proj.weight", 0), ("out_proj.bias", 0)),
        _fixed(("in_proj_weight", 1), ("q_proj_weight", 1)),
    ),
    Kind("parameter", _is(nn.Parameter), _fixed()),
)


def named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def kind_of(layer: object) -> Kind | None:
    """The first kind that fits."""
    return next((kind for kind in KINDS if kind.fits(layer)), None)
