"""What operators make of tensors without memory, where PyTorch's own rules are written in Python.

These rules are much of what tracing takes. The ones here give the same sizes, strides and types for
the common case, and leave all others to PyTorch, errors included.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def made(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What `func` makes of arguments on the meta device; `None` where PyTorch has to say."""
    rule = RULES.get(func)
    return None if rule is None or kwargs else rule(*args)


def _same(data: Tensor, *_: Any) -> Tensor | None:
    """A function of every element."""
    return torch.empty_like(data) if _plain(data) else None


def _in_place(data: Tensor, *_: Any) -> Tensor:
    return data


def _binary(one: Any, other: Any) -> Tensor | None:
    """A function of two tensors that lie alike."""
    alike = (
        isinstance(one, Tensor)
        and isinstance(other, Tensor)
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
    )
    return _same(one) if alike else None


def _softmax(data: Tensor, _axis: int, half_to_float: Any = None) -> Tensor | None:
    return None if half_to_float else _same(data)


def _addmm(bias: Tensor, one: Tensor, other: Tensor) -> Tensor | None:
    fits = (
        one.dim() == other.dim() == 2
        and one.shape[1] == other.shape[0]
        and bias.shape == other.shape[1:]
        and bias.dtype == one.dtype == other.dtype
    )
    return one.new_empty((one.shape[0], other.shape[1])) if fits else None


def _convolution(
    data: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
) -> Tensor | None:
    fits = (
        not transposed
        and data.dim() == weight.dim() == len(stride) + 2
        and data.shape[1] == weight.shape[1] * groups
        and weight.shape[0] % groups == 0
        and (bias is None or bias.shape == weight.shape[:1])
        and data.dtype == weight.dtype
        and _plain(data)
        and weight.is_contiguous()
    )
    if not fits:
        return None
    each = zip(data.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    sizes = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in each]
    return data.new_empty((data.shape[0], weight.shape[0], *sizes)) if min(sizes) > 0 else None


def _norm(data: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    """Of the data's shape. The statistics beside it are read by no code that runs forward."""
    none = data.new_empty(0)
    return torch.empty_like(data), none, none


def _plain(data: Tensor) -> bool:
    """Whether a result lies as `data` does."""
    return data.is_floating_point() and data.is_contiguous()


RULES: dict[Any, Callable[..., Any]] = {
    aten._safe_softmax.default: _softmax,
    aten._softmax.default: _softmax,
    aten.add.Tensor: _binary,
    aten.addmm.default: _addmm,
    aten.convolution.default: _convolution,
    aten.gelu.default: _same,
    aten.hardsigmoid.default: _same,
    aten.hardswish.default: _same,
    aten.hardswish_.default: _in_place,
    aten.hardtanh.default: _same,
    aten.hardtanh_.default: _in_place,
    aten.mul.Tensor: _binary,
    aten.native_batch_norm.default: _norm,
    aten.native_group_norm.default: _norm,
    aten.native_layer_norm.default: _norm,
    aten.relu.default: _same,
    aten.sigmoid.default: _same,
    aten.silu.default: _same,
}
