"""The modules in a module, and the tensors that they hold. Knows nothing of traces."""

import contextlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

MAX_READ = 16  # numbers of a tensor that code may read one by one
CONTAINERS = frozenset((dict, list, set, OrderedDict, defaultdict, deque))


def layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """A module and all in it, each once, as `named_modules` has them, which takes much longer."""
    found: dict[int, tuple[str, nn.Module]] = {}
    stack = [("", module)]
    while stack:
        path, layer = stack.pop()
        if id(layer) not in found:
            found[id(layer)] = path, layer
            inner = layer._modules.items()
            stack += [(join(path, name), one) for name, one in reversed(inner) if one is not None]
    return list(found.values())


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers and tensors that are mere attributes, by name, each once."""
    inside = layers(module)
    found: dict[int, str] = {}
    stored: dict[str, Tensor] = {}
    for of in (_parameters, _buffers, held):
        for path, layer in inside:
            for name, tensor in of(layer):
                if tensor is not None and id(tensor) not in found:
                    found[id(tensor)] = name = join(path, name)
                    stored[name] = tensor
    return stored


Kind = tuple[torch.Size, torch.dtype]


def kinds_of(stored: Mapping[str, Tensor]) -> dict[str, Kind]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in stored.items()}


def _parameters(layer: nn.Module) -> Iterable[tuple[str, Tensor | None]]:
    return layer._parameters.items()


def _buffers(layer: nn.Module) -> Iterable[tuple[str, Tensor | None]]:
    return layer._buffers.items()


def held(layer: nn.Module) -> list[tuple[str, Tensor]]:
    """Tensors that are attributes, but for a few numbers, which code may read one by one."""
    return [
        (name, value)
        for name, value in layer.__dict__.items()
        if type(value) is Tensor and value.is_floating_point() and value.numel() > MAX_READ
    ]


def places(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by every name, once for every module that has them."""
    return {
        join(path, name): tensor
        for path, layer in layers(module)
        for name, tensor in (*_parameters(layer), *_buffers(layer))
        if tensor is not None
    }


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


Modes = list[tuple[nn.Module, bool]]
"""Of every layer, whether it is in training."""


def modes_of(module: nn.Module) -> Modes:
    return [(layer, layer.training) for _, layer in layers(module)]


@contextlib.contextmanager
def in_modes(modes: Modes) -> Iterator[None]:
    """Has layers in these modes meanwhile."""
    before = [(layer, layer.training) for layer, _ in modes]
    set_modes(modes)
    try:
        yield
    finally:
        set_modes(before)


def set_modes(modes: Modes) -> None:
    for layer, mode in modes:
        if layer.training is not mode:
            layer.training = mode


@contextlib.contextmanager
def kept(module: nn.Module) -> Iterator[None]:
    """Takes back what the modules' code notes in them: attributes, and what is in containers.

    Such as positions for sizes met last, hooks, and buffers that are made when they are first read.
    """
    before = [(layer.__dict__, dict(layer.__dict__)) for _, layer in layers(module)]
    containers = [
        (value, value.copy() if value else ())
        for attributes, _ in before
        for value in attributes.values()
        if type(value) in CONTAINERS
    ]
    numbers = [
        (value, value.detach().clone())
        for attributes, _ in before
        for value in attributes.values()
        if type(value) is Tensor and not value.requires_grad and value.numel() <= MAX_READ
    ]
    try:
        yield
    finally:
        for value, then in numbers:
            value.copy_(then)
        for value, then in containers:
            if value or then:
                value.clear()
                (value.update if hasattr(value, "update") else value.extend)(then)
        for now, then in before:
            for name in now.keys() - then.keys():
                del now[name]
            now.update(then)
