"""The program that `torch.export` makes of a module, as a trace.

Knows nothing of groups. What is noted of a call stands in the program: its line and its modules.
"""

import contextlib
import io
import json
import logging
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from secateur._capture import (
    INNER,
    Call,
    StoppedError,
    Trace,
    _quiet,
    _stand_in,
    line_of,
)
from secateur._modules import kept, kinds_of, tensors

_LINE = re.compile(r'File "(.+?)", line (\d+), in (\S+)')
_MODEL = "models/model.json"


def export(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Trace:
    """Exports the module, which stays as it is.

    # Raises
    StoppedError: PyTorch cannot export it.
    """
    try:
        with _quiet(), _silent(), kept(module), torch.no_grad():
            exported = torch.export.export(module, tuple(args), dict(kwargs))
    except Exception as error:  # PyTorch may raise anything
        raise StoppedError(
            f"`torch.export` cannot export the module: {error}\n"
            'hint: `capture="trace"` follows whatever runs',
            line_of(error),
        ) from error
    program = _text(exported)
    signature = program["graph_module"]["signature"]
    signature["input_specs"] = _inputs(module, exported, signature["input_specs"])
    graph = program["graph_module"]["graph"]
    nodes = graph["nodes"]
    calls = [_call(module, node["metadata"]) for node in nodes]
    kinds = kinds_of(tensors(module))
    return Trace(json.dumps(program), calls, _dropouts(graph, calls), kinds)


def _text(exported: ExportedProgram) -> dict[str, Any]:
    """The program without its weights."""
    exported.state_dict.update(
        {name: _stand_in(tensor, meta=True) for name, tensor in exported.state_dict.items()}
    )
    file = io.BytesIO()
    torch.export.save(exported, file)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(_MODEL)]
        return json.loads(archive.read(names[0]))


def _inputs(
    module: nn.Module, exported: ExportedProgram, specs: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Tensors of several names are read by one of them: it gets the name that is the module's."""
    names = {id(tensor): name for name, tensor in tensors(module).items()}
    keys = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    read = {node.name for node in exported.graph.nodes if node.op == "placeholder" and node.users}
    found = []
    for spec in specs:
        ((kind, value),) = spec.items()
        key = value.get("parameter_name") or value.get("buffer_name")
        if key is None:
            found.append({kind: {"arg": value["arg"]}})
        elif value["arg"]["name"] in read:
            name = {f"{kind}_name": names[id(keys[key])]}
            found.append({kind: {"arg": value["arg"], **name}})
    return found


def _call(module: nn.Module, metadata: Mapping[str, str]) -> Call:
    lines = _LINE.findall(metadata.get("stack_trace", ""))
    own = [found for found in lines if not found[0].startswith(INNER)]
    line = "{}:{}, in {}".format(*own[-1]) if own else ""
    stack = [
        entry.split(",")[1] for entry in metadata.get("nn_module_stack", "").split(";") if entry
    ]
    return Call(line, tuple(module.get_submodule(path.split("@")[0]) for path in stack))


def _dropouts(graph: Mapping[str, Any], calls: Sequence[Call]) -> list[tuple[nn.Module, int]]:
    found = []
    for node, call in zip(graph["nodes"], calls, strict=True):
        if call.modules and isinstance(call.modules[-1], nn.modules.dropout._DropoutNd):
            given = graph["tensor_values"][node["inputs"][0]["arg"]["as_tensor"]["name"]]
            sizes = (size.get("as_int", 1) for size in given["sizes"])
            found.append((call.modules[-1], math.prod(sizes)))
    return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """PyTorch logs what it raises, too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
