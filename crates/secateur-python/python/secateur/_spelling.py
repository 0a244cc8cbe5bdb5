"""How calls of PyTorch are spelled in a program: the JSON of a `.pt2` file."""

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

SCHEMA = {"major": 8, "minor": 0}
NONE = '{"as_none":true}'
POSITIONAL = 1
STRIDED = 7
COUNTING = frozenset(("aten::nonzero", "aten::masked_select", "torchvision::nms"))
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


class Operator(NamedTuple):
    """What is known of an operator of PyTorch."""

    func: Any
    named: bool  # whether it has a schema, as all have that compute
    arguments: tuple[str, ...]  # their names
    makes: bool  # whether it can be told where its result lies
    mutable: bool  # whether it writes into what it is given
    counts: bool  # whether data decide on the size of its result
    random: bool
    head: str  # how its nodes begin
    name: str


_operators: dict[int, Operator] = {}
"""By identity, as every hash of an operator is a call of Python code."""


def operator(func: Any) -> Operator:
    known = _operators.get(id(func))
    return learned(func) if known is None else known


def learned(func: Any) -> Operator:
    schema = getattr(func, "_schema", None)
    arguments = tuple(argument.name for argument in schema.arguments) if schema else ()
    target = f"{func}"
    known = Operator(
        func,
        schema is not None,
        arguments,
        "device" in arguments,
        schema is not None and schema.is_mutable,
        schema is not None and schema.name in COUNTING,
        torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()),
        f'{{"target":"torch.ops.{target}","inputs":',
        target.split(".")[-2] if "." in target else target,
    )
    _operators[id(func)] = known
    return known


COUNTED = learned("secateur.counted.default")


def spelled_other(value: object) -> str:
    return f'{{"as_device":{{"type":{json.dumps(str(value))}}}}}'


def spelled_float(value: float) -> str:
    finite = value - value == 0
    return repr(value) if finite else {"inf": '"inf"', "-inf": '"-inf"'}.get(str(value), '"nan"')


SPELLED: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: NONE,
    bool: lambda value: f'{{"as_bool":{"true" if value else "false"}}}',
    int: lambda value: f'{{"as_int":{value}}}',
    float: lambda value: f'{{"as_float":{spelled_float(value)}}}',
    str: lambda value: f'{{"as_string":{json.dumps(value)}}}',
}
"""How arguments are written."""


def spelled_tensor(name: str) -> str:
    return f'{{"as_tensor":{{"name":"{name}"}}}}'


def spelled_input(name: str, argument: str) -> str:
    return f'{{"name":"{name}","arg":{argument},"kind":{POSITIONAL}}}'


def spelled_node(
    op: Operator, inputs: Sequence[str], outputs: Sequence[str], quoted: str, index: int
) -> str:
    return (
        f'{op.head}[{",".join(inputs)}],"outputs":[{",".join(outputs)}],"name":"{op.name}_{index}",'
        f'"metadata":{{"stack_trace":{quoted}}}}}'
    )


def _sizes(sizes: Sequence[int]) -> str:
    return ",".join(f'{{"as_int":{int(size)}}}' for size in sizes)


def spelled_meta(tensor: Tensor) -> str:
    strides = tensor.stride() if tensor.layout == torch.strided else None
    return _described(tensor.dtype, tensor.shape, strides)


@functools.lru_cache(maxsize=4096)
def _described(dtype: torch.dtype, sizes: Sequence[int], strides: Sequence[int] | None) -> str:
    layout = STRIDED if strides is not None else 0
    return (
        f'{{"dtype":{DTYPES.get(dtype, 0)},"sizes":[{_sizes(sizes)}],'
        f'"strides":[{_sizes(strides or ())}],"storage_offset":{{"as_int":0}},"layout":{layout}}}'
    )


def stack_trace(line: str) -> str:
    return json.dumps(f"File {line}")
