"""Traces a module: the ATen calls of one run, as the program that the Rust core reads.

The module runs once on meta tensors, so that nothing is computed and no memory is taken; where
its code asks for numbers, it runs on real ones. Parameters, buffers, modes and the state of the
random number generators are as they were. Knows nothing of groups.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from secateur._secateur import SecateurError

SCHEMA = {"major": 8, "minor": 0}
POSITIONAL = 1
STRIDED = 7
META = torch.device("meta")
NORMS = frozenset(
    (
        torch.ops.aten.native_batch_norm.default,
        torch.ops.aten.native_layer_norm.default,
        torch.ops.aten.native_group_norm.default,
    )
)
CLONE = torch.ops.aten.clone.default
COUNTING = frozenset(("aten::nonzero", "aten::masked_select", "torchvision::nms"))
INNER = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}")
DTYPES = {
    torch.uint8: 1,
    torch.int8: 2,
    torch.int16: 3,
    torch.int32: 4,
    torch.int64: 5,
    torch.float16: 6,
    torch.float32: 7,
    torch.float64: 8,
    torch.complex64: 10,
    torch.complex128: 11,
    torch.bool: 12,
    torch.bfloat16: 13,
    torch.uint16: 28,
    torch.uint32: 34,
    torch.uint64: 35,
}


@dataclass(frozen=True)
class Call:
    """One ATen call: where it stands in the model's code, and the modules that it is made in."""

    line: str
    modules: tuple[nn.Module, ...]


@dataclass
class Trace:
    """The calls of one run."""

    program: dict[str, Any]
    calls: list[Call]
    dropouts: list[tuple[nn.Module, str]]  # and the tensors that they are given
    meta: bool  # whether it ran on tensors without memory

    def text(self) -> str:
        return json.dumps(self.program)


@dataclass
class _Recorder(TorchDispatchMode):
    """Notes every ATen call on tensors that come from the module or its inputs."""

    names: dict[int, str]
    kept: list[Tensor]  # so that no identity is used twice
    modules: list[nn.Module]
    meta: bool
    nodes: list[dict[str, Any]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    copies: dict[int, Tensor] = field(default_factory=dict)
    dropouts: list[tuple[nn.Module, str]] = field(default_factory=list)
    cloned: tuple[Tensor, Tensor] | None = None  # by the last call, and what it made
    counted: set[str] = field(default_factory=set)  # tensors whose sizes data decide
    counting: list[int] = field(default_factory=list)  # the calls that make them
    outside: dict[str, None] = field(default_factory=dict)  # the other tensors that these read

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self.meta:
            args, kwargs = self._on_meta(func, args, kwargs)
        out = _norm(args[0]) if self.meta and func in NORMS else func(*args, **kwargs)
        self._note(func, args, kwargs, out)
        return out

    def _on_meta(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """New tensors, and constants that the code brings along, without memory."""
        leaves = (args, kwargs) if kwargs else args
        tensors = [leaf for leaf in pytree.tree_leaves(leaves) if isinstance(leaf, Tensor)]
        if not tensors:
            makes = any(argument.name == "device" for argument in func._schema.arguments)
            return args, {**kwargs, "device": META} if makes else kwargs
        real = [tensor for tensor in tensors if not tensor.is_meta]
        if not real or len(real) == len(tensors):
            return args, kwargs

        def moved(leaf: object) -> object:
            if not isinstance(leaf, Tensor) or leaf.is_meta:
                return leaf
            if id(leaf) not in self.copies:
                copy = torch.empty_strided(
                    leaf.shape, leaf.stride(), dtype=leaf.dtype, device="meta"
                )
                self.copies[id(leaf)] = copy
                self.kept += [leaf, copy]
            return self.copies[id(leaf)]

        return pytree.tree_map(moved, (args, kwargs))

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: object) -> None:
        schema = getattr(func, "_schema", None)
        outputs = [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]
        if schema is None or not outputs:
            return
        if func is torch.ops.aten._unsafe_view.default:
            func, args = self._reshape(func, args)
        given = [
            (argument.name, value) for argument, value in zip(schema.arguments, args, strict=False)
        ]
        given += list(kwargs.items())
        inputs = [
            {"name": name, "arg": self._argument(value), "kind": POSITIONAL}
            for name, value in given
        ]
        line = _line()
        counted = not self.meta and self._is_counted(func, args, kwargs)
        made = [
            self._output(value, counted=counted)
            for value in (out if isinstance(out, tuple) else (out,))
        ]
        self.nodes.append(
            {
                "target": f"torch.ops.{func}",
                "inputs": inputs,
                "outputs": made,
                "metadata": {"stack_trace": f"File {line}"},
                "name": f"{schema.name.split('::')[-1]}_{len(self.nodes)}",
            }
        )
        self.calls.append(Call(line, tuple(self.modules)))
        self.cloned = (args[0], outputs[0]) if func is CLONE else None

    def _reshape(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """A reshape that has to copy, which sizes of 1 decide, is one call as any other is."""
        if self.cloned is None or args[0] is not self.cloned[1]:
            return func, args
        self.nodes.pop()
        self.calls.pop()
        self.counted.discard(self.values.popitem()[0])
        if self.counting[-1:] == [len(self.nodes)]:
            self.counting.pop()
        return torch.ops.aten.view_copy.default, (self.cloned[0], *args[1:])

    def _is_counted(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether data decide on sizes in a call, or on the code that makes it."""
        leaves = pytree.tree_leaves((args, kwargs))
        read = dict.fromkeys(self.name(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        depends = self.counted and (not read or not self.counted.isdisjoint(read))
        if not depends and not _counts(func, args):
            return False
        self.counting.append(len(self.nodes))
        self.outside.update(dict.fromkeys(name for name in read if name not in self.counted))
        return True

    def join_counted(self, stored: Set[str]) -> None:
        """Makes one call, without results, of those in which data decide on sizes.

        Of other data, the code may make other calls. Those that read what is stored are left.
        """
        if not self.counting or not stored.isdisjoint(self.outside):
            self.counted.clear()
            return
        joined = set(self.counting)
        first, call = self.nodes[self.counting[0]], self.calls[self.counting[0]]
        inputs = [
            {"name": name, "arg": {"as_tensor": {"name": name}}, "kind": POSITIONAL}
            for name in self.outside
        ]
        self.nodes = [node for index, node in enumerate(self.nodes) if index not in joined]
        self.calls = [made for index, made in enumerate(self.calls) if index not in joined]
        one = {"target": "torch.ops.secateur.counted.default", "inputs": inputs, "outputs": []}
        self.nodes.append({**first, **one, "name": "counted"})
        self.calls.append(call)

    def _output(self, value: object, *, counted: bool) -> dict[str, Any]:
        if isinstance(value, Tensor):
            return {"as_tensor": {"name": self._define(value, counted=counted)}}
        if isinstance(value, (list, tuple)):
            return {"as_tensors": [{"name": self._define(one, counted=counted)} for one in value]}
        return {"as_none": True}

    def _define(self, tensor: Tensor, *, counted: bool) -> str:
        """A new name, also for a tensor that was written in place.

        Counted tensors are numbered on their own: there may be others another time.
        """
        others = len(self.counted)
        name = f"c{others}" if counted else f"v{len(self.values) - others}"
        if counted:
            self.counted.add(name)
        self.names[id(tensor)] = name
        self.kept.append(tensor)
        self.values[name] = _meta(tensor)
        return name

    def name(self, tensor: Tensor) -> str:
        known = self.names.get(id(tensor))
        if known is None:
            known = self._define(tensor, counted=bool(self.counted))
            self.constants.append(known)
        return known

    def _argument(self, value: Any) -> dict[str, Any]:
        if value is None:
            return {"as_none": True}
        if isinstance(value, Tensor):
            return {"as_tensor": {"name": self.name(value)}}
        if isinstance(value, bool):
            return {"as_bool": value}
        if isinstance(value, int):
            return {"as_int": value}
        if isinstance(value, float):
            return {"as_float": _float(value)}
        if isinstance(value, str):
            return {"as_string": value}
        if isinstance(value, (list, tuple)):
            return self._list(value)
        return {"as_device": {"type": str(value)}}

    def _list(self, values: Sequence[Any]) -> dict[str, Any]:
        if any(isinstance(value, Tensor) for value in values):
            optional = [
                {"as_none": True} if value is None else {"as_tensor": {"name": self.name(value)}}
                for value in values
            ]
            return {"as_optional_tensors": optional}
        if all(isinstance(value, int) for value in values):
            return {"as_ints": [int(value) for value in values]}
        if all(isinstance(value, (int, float)) for value in values):
            return {"as_floats": [_float(float(value)) for value in values]}
        return {"as_device": {"type": str(values)}}


def _counts(func: Any, args: tuple[Any, ...]) -> bool:
    if func is torch.ops.aten.index.Tensor:
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    return func._schema.name in COUNTING


def _norm(data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the data's shape; PyTorch decomposes norms without memory in Python, which takes long.

    The statistics beside it are read by no code that runs forward.
    """
    return torch.empty_like(data), data.new_empty(0), data.new_empty(0)


def _float(value: float) -> float | str:
    finite = value - value == 0
    return value if finite else {"inf": "inf", "-inf": "-inf"}.get(str(value), "nan")


def _sizes(sizes: Sequence[int]) -> list[dict[str, int]]:
    return [{"as_int": int(size)} for size in sizes]


def _meta(tensor: Tensor) -> dict[str, Any]:
    plain = tensor.layout == torch.strided
    return {
        "dtype": DTYPES.get(tensor.dtype, 0),
        "sizes": _sizes(tensor.shape),
        "strides": _sizes(tensor.stride()) if plain else [],
        "storage_offset": {"as_int": 0},
        "layout": STRIDED if plain else 0,
    }


def _line() -> str:
    """The innermost line of code that is neither PyTorch's nor ours."""
    frame: FrameType | None = sys._getframe(3)
    while frame and frame.f_code.co_filename.startswith(INNER):
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


def trace(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    meta: bool | None = None,
) -> Trace:
    """Runs the module once and notes its calls.

    With or without memory, as `meta` says; else without, if its code allows.

    # Raises
    SecateurError: the module does not run on these inputs.
    """
    if meta is None:
        try:
            return _trace(module, args, kwargs, meta=True)
        except Exception:  # code that asks for numbers raises anything on meta tensors
            pass
    try:
        return _trace(module, args, kwargs, meta=bool(meta))
    except Exception as error:
        raise SecateurError(
            f"the module does not run on the example inputs: {error}\n"
            "hint: give `args` (and `kwargs`) with which `module(*args, **kwargs)` runs"
        ) from error


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _places(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by every name, once for every module that has them."""
    return {
        f"{prefix}{'.' if prefix else ''}{name}": tensor
        for prefix, layer in module.named_modules()
        for name, tensor in (*layer._parameters.items(), *layer._buffers.items())
        if tensor is not None
    }


def _trace(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], *, meta: bool
) -> Trace:
    keys = {id(tensor): name for name, tensor in tensors(module).items()}
    stored = {name: _stand_in(tensor, meta=meta) for name, tensor in tensors(module).items()}
    given = pytree.tree_map_only(Tensor, lambda t: _stand_in(t, meta=meta), (tuple(args), kwargs))
    names, inputs, kept = {}, [], []
    for key, tensor in stored.items():
        names[id(tensor)] = f"p{len(names)}"
        inputs.append(("parameter", key, tensor))
    for leaf in pytree.tree_leaves(given):
        if isinstance(leaf, Tensor) and id(leaf) not in names:
            names[id(leaf)] = f"p{len(names)}"
            inputs.append(("user_input", "", leaf))
    kept += [tensor for _, _, tensor in inputs]
    modules: list[nn.Module] = []
    first = dict(names)
    recorder = _Recorder(names, kept, modules, meta)
    recorder.values.update({names[id(tensor)]: _meta(tensor) for _, _, tensor in inputs})
    with (
        _quiet(),
        _kept(module),
        _entered(modules, recorder),
        torch.no_grad(),
        recorder,
    ):
        places = {name: stored[keys[id(tensor)]] for name, tensor in _places(module).items()}
        out = torch.func.functional_call(
            module, places, given[0], dict(given[1]), tie_weights=False
        )
    program = _program(recorder, inputs, first, out)
    return Trace(program, recorder.calls, recorder.dropouts, meta)


def _stand_in(tensor: Tensor, *, meta: bool) -> Tensor:
    """A tensor of the same sizes without memory, or a copy that may be written."""
    with torch.no_grad():
        if not meta:
            made = tensor.detach().clone()
        elif tensor.layout == torch.strided:
            made = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta"
            )
        else:
            made = tensor.detach().to("meta")
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def _program(
    recorder: _Recorder,
    inputs: Sequence[tuple[str, str, Tensor]],
    given: Mapping[int, str],
    out: object,
) -> dict[str, Any]:
    specs: list[dict[str, Any]] = []
    for kind, key, tensor in inputs:
        name = given[id(tensor)]
        if kind == "parameter":
            specs.append({kind: {"arg": {"name": name}, "parameter_name": key}})
        else:
            specs.append({kind: {"arg": {"as_tensor": {"name": name}}}})
    recorder.join_counted({given[id(tensor)] for kind, _, tensor in inputs if kind == "parameter"})
    specs += [{"tensor_constant": {"arg": {"name": name}}} for name in recorder.constants]
    returned = [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)]
    outputs = [
        {"user_output": {"arg": {"as_tensor": {"name": recorder.names[id(leaf)]}}}}
        for leaf in returned
        if recorder.names.get(id(leaf)) not in {None, *recorder.counted}
    ]
    graph = {
        "inputs": [],
        "outputs": [output["user_output"]["arg"] for output in outputs],
        "nodes": recorder.nodes,
        "tensor_values": recorder.values,
        "sym_int_values": {},
    }
    signature = {"input_specs": specs, "output_specs": outputs}
    return {
        "graph_module": {"graph": graph, "signature": signature},
        "schema_version": SCHEMA,
        "torch_version": torch.__version__,
    }


@contextlib.contextmanager
def _entered(modules: list[nn.Module], recorder: _Recorder) -> Iterator[None]:
    """Keeps the stack of modules that are running, and notes what dropouts are given."""

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        modules.append(module)
        if isinstance(module, nn.modules.dropout._DropoutNd) and args:
            name = recorder.names.get(id(args[0]))
            recorder.dropouts += [(module, name)] if name else []

    def leave(_module: nn.Module, _args: object, _out: object) -> None:
        if modules:
            modules.pop()

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _kept(module: nn.Module) -> Iterator[None]:
    """Takes back what the modules' code notes in them, such as positions for sizes met last."""
    before = [(layer.__dict__, dict(layer.__dict__)) for layer in module.modules()]
    caches = [
        (value, dict(value))
        for _, attributes in before
        for name, value in attributes.items()
        if type(value) is dict and not name.startswith("_")
    ]
    try:
        yield
    finally:
        for cache, then in caches:
            cache.clear()
            cache.update(then)
        for now, then in before:
            for name in [name for name in now if name not in then]:
                del now[name]
            now.update(then)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Random numbers that are drawn meanwhile are drawn again later; no fused encoder layers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    state = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.set_rng_state(state)
        if devices:
            torch.cuda.set_rng_state_all(devices)
