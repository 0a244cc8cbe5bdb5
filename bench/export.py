"""Random but lively weights, the two ONNX exporters of PyTorch behind one call, and its programs.

Knows nothing of pruning.

    randomize(model, example, seed=0)
    export(model, example, Path("model.onnx"), Exporter.DYNAMO)
"""

import contextlib
import enum
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

ORIGINS = ("name_scopes", "folded_from", "rule_name")
NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)


class Exporter(enum.StrEnum):
    """The tracer behind `torch.onnx.export`."""

    DYNAMO = "dynamo"
    LEGACY = "legacy"


def randomize(model: nn.Module, example: Sequence[Tensor], seed: int = 0) -> nn.Module:
    """Replaces constant parameters and norm statistics by random ones; sets evaluation mode.

    Batch statistics are those of `example` with noise on top, so that activations neither vanish
    nor explode in a deep network; zero-initialised heads and layer scales come to life.
    """
    torch.manual_seed(seed)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and parameter.min() == parameter.max():
                _revive(parameter)
        hooks = [
            module.register_forward_pre_hook(_calibrate)
            for module in model.modules()
            if isinstance(module, NORMS) and module.running_mean is not None
        ]
        model(*example)
    for hook in hooks:
        hook.remove()
    return model


def _revive(parameter: Tensor) -> None:
    if parameter.flatten()[0] != 0:
        parameter.uniform_(0.5, 1.5)
    elif parameter.dim() > 1:
        parameter.normal_(std=parameter[0].numel() ** -0.5)
    else:
        parameter.normal_(std=0.1)


def _calibrate(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
    variance, mean = torch.var_mean(inputs[0], axes, correction=0)
    variance = variance.clamp(min=0.01 * variance.mean())  # a dead channel must not explode
    norm.running_mean.copy_(mean + 0.3 * variance.sqrt() * torch.randn_like(mean))
    norm.running_var.copy_(variance * torch.empty_like(variance).uniform_(0.7, 1.4))


def export(
    model: nn.Module,
    example: Sequence[Tensor],
    path: Path,
    exporter: Exporter,
    *,
    names: Sequence[str] = ("input",),
    dynamic: Sequence[int] = (),
    opset: int | None = None,
    external: bool = False,
) -> None:
    """Writes `model` as one ONNX file; the `dynamic` axes of every input stay symbolic.

    With `external`, weights go into files beside it, as a model of more than 2 GB needs.
    """
    options: dict[str, object] = {"opset_version": opset} if opset else {}
    symbols = {axis: ("batch", "length")[axis] for axis in dynamic}
    if exporter is Exporter.LEGACY:
        options |= {"dynamo": False, "dynamic_axes": {name: symbols for name in names}}
    else:
        options |= {"dynamo": True, "external_data": external, "verbose": False}
        if dynamic:
            sizes = {axis: torch.export.Dim(symbol) for axis, symbol in symbols.items()}
            options["dynamic_shapes"] = tuple(sizes for _ in example)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.backends.mha.set_fastpath_enabled(False)
    with quiet(), torch.no_grad():
        torch.onnx.export(model, tuple(example), str(partial), input_names=list(names), **options)
    partial.rename(path)


def export_program(
    model: nn.Module, example: Sequence[Tensor], path: Path, *, dynamic: Sequence[int] = ()
) -> None:
    """Writes `model` as a `.pt2` file; the `dynamic` axes of every input stay symbolic."""
    sizes = {axis: torch.export.Dim(("batch", "length")[axis]) for axis in dynamic}
    shapes = tuple(sizes for _ in example) if dynamic else None
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.pt2")
    torch.backends.mha.set_fastpath_enabled(False)
    with quiet(), torch.no_grad():
        program = torch.export.export(model, tuple(example), dynamic_shapes=shapes)
        torch.export.save(program, partial)
    partial.rename(path)


def trim_metadata(path: Path) -> None:
    """Keeps the origins of weights and nodes, drops stack traces, which name local folders."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key.endswith(ORIGINS)]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
