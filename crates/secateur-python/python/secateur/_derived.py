"""Weights that modules compute of others before they run: masked, normalized, low-rank."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from secateur._modules import in_modes, join, layers


def effective(module: nn.Module) -> dict[str, Tensor]:
    """By the names of the tensors that are stored: what they amount to, of the same shape.

    A mask is in the weight that it masks, and counts for nothing itself.
    """
    with torch.no_grad():
        return {
            join(path, name): tensor
            for path, layer in layers(module)
            if layer._forward_pre_hooks or "parametrizations" in layer._modules
            for name, tensor in (*_hooked(layer), *_parametrized(layer))
        }


def weight_sizes(layer: nn.Module) -> tuple[int, ...]:
    """The sizes of a layer's weight, stored or computed; none if it has none."""
    if parametrize.is_parametrized(layer, "weight"):
        with torch.no_grad():
            return tuple(_computed(layer.parametrizations["weight"]).shape)
    # What hooks computed in the last run may have the sizes of then.
    stored = (layer._parameters.get(f"weight{end}") for end in ("", "_orig", "_v"))
    weight = next((one for one in stored if one is not None), layer.__dict__.get("weight"))
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


def _computed(originals: nn.Module) -> Tensor:
    # Spectral norms iterate while they train.
    with in_modes([(inner, False) for inner in originals.modules()]):
        return originals()


def _hooked(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for hook in layer._forward_pre_hooks.values():
        match hook:
            case BasePruningMethod():
                name = hook._tensor_name
                yield f"{name}_orig", hook.apply_mask(layer)
                yield f"{name}_mask", torch.zeros_like(getattr(layer, f"{name}_mask"))
            case WeightNorm():
                yield f"{hook.name}_v", hook.compute_weight(layer)
            case SpectralNorm():
                weight = hook.compute_weight(layer, do_power_iteration=False)
                yield f"{hook.name}_orig", weight


def _parametrized(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    if not parametrize.is_parametrized(layer):
        return
    for name, originals in layer.parametrizations.items():
        weight = _computed(originals)
        for own, original in originals._parameters.items():
            if original is not None and original.shape == weight.shape:
                yield f"parametrizations.{name}.{own}", weight
