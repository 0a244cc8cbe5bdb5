"""The tensors and attributes of a pruned module, for a fresh one that was built from its code."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur import _sharded
from secateur._modules import tensors
from secateur._secateur import SecateurError

FORMAT = 1
_PLAIN = (bool, int, float, str, type(None))
save = torch.save
load = torch.load


def state_dict(model: nn.Module) -> dict[str, Any]:
    """Parameters, buffers, and the plain attributes of all layers.

    It holds tensors, numbers, strings, lists and dictionaries only: what `torch.save` makes of it
    is read by `torch.load(..., weights_only=True)`.
    """
    return {
        "format": FORMAT,
        "tensors": {name: tensor.detach() for name, tensor in tensors(model).items()},
        "attributes": {name: _attributes(layer) for name, layer in model.named_modules()},
    }


def load_state_dict(model: nn.Module, state_dict: Mapping[str, Any]) -> nn.Module:
    """Gives a module the sizes, tensors and attributes of the one that was saved.

    # Raises
    SecateurError: it is no such dictionary, or of another module; then nothing has changed.
    """
    if state_dict.get("format") != FORMAT:
        raise SecateurError(
            "this is no state of a pruned module\n"
            "hint: make it with `secateur.torch_pruning.state_dict(model)`"
        )
    stored, given = tensors(model), state_dict["tensors"]
    modules = dict(model.named_modules())
    _check("tensor", stored, given)
    _check("layer", modules, state_dict["attributes"])
    with torch.no_grad():
        for name, tensor in stored.items():
            _put(tensor, given[name])
    for name, layer in modules.items():
        _set(layer, state_dict["attributes"][name])
    return model


def _check(what: str, here: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name in here.keys() ^ given.keys():
        where = "state" if name in here else "module"
        raise SecateurError(f"the {where} has no {what} `{name}`")


def _put(tensor: Tensor, saved: Tensor) -> None:
    if tensor.shape != saved.shape:
        tensor.grad = None
        _sharded.set_data(tensor, tensor.new_empty(saved.shape))
    tensor.copy_(saved)


def _attributes(layer: nn.Module) -> dict[str, Any]:
    named = ((name, value) for name, value in layer.__dict__.items() if not name.startswith("_"))
    return {name: value for name, value in named if name != "training" and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return type(value) in _PLAIN


def _set(layer: nn.Module, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        layer.__dict__[name] = value
