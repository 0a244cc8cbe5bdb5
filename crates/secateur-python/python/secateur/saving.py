"""Pruned modules on disk: their tensors, and what was cut, without pickle."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from secateur import _apply, _attributes, _history, _sharded
from secateur._modules import layers, tensors
from secateur._secateur import SecateurError

KEY = "secateur"


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Writes the tensors of a module to a `.safetensors` file, and beside them what was cut of it.

    The file is replaced atomically. Tensors that share memory are written once.

    # Raises
    SecateurError: the module's `state_dict` has something else than tensors, or the file cannot be
    written.
    """
    path = Path(path)
    written: dict[str, torch.Tensor] = {}
    places: dict[int, str] = {}
    shared: dict[str, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            raise SecateurError(f"`{name}` of the module's state is no tensor, and is not saved")
        first = places.setdefault(id(tensor), name)
        if first == name:
            written[name] = tensor.detach().contiguous()
        else:
            shared[name] = first
    record = {**_history.as_json(module), "shared": shared}
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(written, partial, {KEY: json.dumps(record)})
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise SecateurError(f"`{path}` cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], make: Callable[[], nn.Module]) -> nn.Module:
    """A module that `make` makes as it was before pruning, cut and filled as the saved one.

    # Raises
    SecateurError: the file is not one that `save` wrote, or is of another module.
    """
    record, given = _read(path)
    module = make()
    try:
        for name, first in record["shared"].items():
            given[name] = given[first]
        stored, filled = tensors(module), module.state_dict(keep_vars=True)
        # What is in the file has its sizes; of the rest, the record says what was cut.
        slices = {n: keep for n, keep in record["slices"].items() if n in stored}
        done = _apply.cut(module, ((n, keep) for n, keep in slices.items() if n not in filled))
        for name, tensor in filled.items():
            _fit(name, tensor, given[name])
        changed = _history.attributes(module, record)
        for _, layer in layers(module):
            _apply.set_attributes(_attributes.described(layer), done)
        _apply.set_attributes(changed, done)
        module.load_state_dict(given)
    except (AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise SecateurError(
            f"`{path}` does not fit the module: {error}\n"
            "hint: give a function that makes the module as it was before it was pruned"
        ) from error
    _history.add(module, slices.items(), changed)
    return module


def _fit(name: str, tensor: torch.Tensor, saved: torch.Tensor) -> None:
    """Gives a tensor the sizes and the type of what it will be filled with."""
    here, there = tuple(tensor.shape), tuple(saved.shape)
    if len(here) != len(there) or any(a < b for a, b in zip(here, there, strict=True)):
        raise RuntimeError(f"`{name}` has the shape {list(there)} there, and {list(here)} here")
    if here != there or tensor.dtype != saved.dtype:
        with torch.no_grad():
            _sharded.set_data(tensor, tensor.new_empty(there, dtype=saved.dtype))


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise SecateurError(f"`{path}` was not written by `secateur.save`")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return json.loads(metadata[KEY]), tensors
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise SecateurError(f"`{path}` cannot be read: {error}") from error
