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

from secateur import _apply, _history
from secateur._secateur import SecateurError

KEY = "secateur"


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Writes the tensors of a module to a `.safetensors` file, and beside them what was cut of it.

    The file is replaced atomically. Tensors that share memory are written once.
    """
    path = Path(path)
    tensors: dict[str, torch.Tensor] = {}
    places: dict[int, str] = {}
    shared: dict[str, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        first = places.setdefault(id(tensor), name)
        if first == name:
            tensors[name] = tensor.detach().contiguous()
        else:
            shared[name] = first
    record = {**_history.as_json(module), "shared": shared}
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, partial, {KEY: json.dumps(record)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], make: Callable[[], nn.Module]) -> nn.Module:
    """A module that `make` makes as it was before pruning, cut and filled as the saved one.

    # Raises
    SecateurError: the file is not one that `save` wrote, or is of another module.
    """
    record, tensors = _read(path)
    module = make()
    done = _apply.Cut()
    try:
        done = _apply.cut(module, record["slices"].items())
        changed = _history.attributes(module, record)
        _apply.set_attributes(changed, done)
        for name, first in record["shared"].items():
            tensors[name] = tensors[first]
        module.load_state_dict(tensors)
    except (AttributeError, IndexError, KeyError, RuntimeError) as error:
        raise SecateurError(
            f"`{path}` does not fit the module: {error}\n"
            "hint: give a function that makes the module as it was before it was pruned"
        ) from error
    _history.add(module, record["slices"].items(), changed)
    return module


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
