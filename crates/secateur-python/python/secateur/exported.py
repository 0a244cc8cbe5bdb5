"""Pruning of what `torch.export` makes of a module, where its code cannot follow."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from secateur._secateur import prune_file
from secateur.pruner import Options, options_of


def prune_exported(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    **options: Unpack[Options],
) -> nn.Module:
    """A pruned module made of the exported program of `module`, which stays as it is.

    Nothing in a program is spelled by code, so that every group can be cut. The result is a
    `torch.fx.GraphModule` of the same signature, with trainable parameters, in the mode
    (training or evaluation) that the module was in. `options` are those of `Pruner`.

    # Raises
    SecateurError: as `Pruner`. What `torch.export.export` raises where it cannot export.
    """
    program = torch.export.export(
        module, tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes
    )
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "model.pt2", Path(folder) / "pruned.pt2"
        torch.export.save(program, source)
        prune_file(source, output, options_of(options))
        return torch.export.load(output).module()
