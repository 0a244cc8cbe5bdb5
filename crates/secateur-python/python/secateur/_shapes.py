"""What operators make of tensors without memory, where PyTorch's own rules are written in Python.

These rules are much of what tracing takes. The ones here give the same sizes, strides and types for
the common case, and leave all others to PyTorch, errors included.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
META = torch.device("meta")


def made(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What `func` makes of arguments on the meta device; `None` where PyTorch has to say."""
    rule = _BY_IDENTITY.get(id(func))
    return None if rule is None or (kwargs and rule not in KEYED) else rule(*args, **kwargs)


def _empty(sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(sizes, dtype=dtype, device=META)


def like(data: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor with such sizes and strides. `empty_like` takes ten times as long."""
    kind = dtype or data.dtype
    return torch.empty_strided(data.shape, data.stride(), dtype=kind, device=META)


def _same(data: Tensor, *_: Any) -> Tensor | None:
    """A function of every element, laid out in the order in which these lie."""
    if not data.is_floating_point():
        return None
    if _dense(data):
        return like(data)
    if not _ordered(data):
        return None
    order = sorted(zip(data.stride(), range(data.dim()), strict=True))
    strides, step = [0] * len(order), 1
    for _, axis in order:
        strides[axis] = step
        step *= data.shape[axis]
    return torch.empty_strided(data.shape, strides, dtype=data.dtype, device=META)


def _in_place(data: Tensor, *_: Any) -> Tensor:
    return data


def _binary(one: Any, other: Any) -> Tensor | None:
    """A function of two tensors, or of one and a number."""
    if not isinstance(one, Tensor) or isinstance(other, (int, float)):
        return _same(one) if isinstance(one, Tensor) else None
    if not isinstance(other, Tensor) or one.dtype != other.dtype:
        return None
    if one.stride() == other.stride() and one.shape == other.shape:
        return _same(one)
    # The first with an order of dimensions that are longer than one gives it.
    if _is_line(one) and _dense(other) and _spreads(one, other):
        return _same(other)
    if (_ordered(one) or (_is_line(other) and _dense(one))) and _spreads(other, one):
        return _same(one)
    sizes = _broadcast(one.shape, other.shape)
    return _empty(sizes, one.dtype) if sizes and _rows(one) and _rows(other) else None


def _into(one: Tensor, other: Any) -> Tensor | None:
    """A function of two that is written into the first."""
    if isinstance(other, (int, float)):
        fits = True
    else:
        fits = one.dtype == other.dtype and _spreads(other, one)
    return one if fits and _plain(one) else None


def _compare(data: Tensor, other: Any) -> Tensor | None:
    return like(data, torch.bool) if isinstance(other, (int, float)) and _dense(data) else None


def _masked(data: Tensor, mask: Tensor, _value: Any) -> Tensor | None:
    fits = mask.dtype == torch.bool and _spreads(mask, data)
    return like(data) if fits and _rows(data) and mask.is_contiguous() else None


def _broadcast(one: Sequence[int], other: Sequence[int]) -> list[int] | None:
    """The sizes of what comes of two sizes; `None` where they don't fit."""
    sizes = []
    for m, n in itertools.zip_longest(reversed(one), reversed(other), fillvalue=1):
        if m != n and m != 1 and n != 1:
            return None
        sizes.append(n if m == 1 else m)
    return sizes[::-1]


def _spreads(part: Tensor, whole: Tensor) -> bool:
    """Whether one is repeated to the sizes of the other."""
    return _broadcast(part.shape, whole.shape) == [*whole.shape]


def _is_line(data: Tensor) -> bool:
    return sum(size != 1 for size in data.shape) < 2


def _softmax(data: Tensor, _axis: int, half_to_float: Any = None) -> Tensor | None:
    return like(data) if _rows(data) and not half_to_float else None


def _reduced(data: Tensor, axes: Sequence[int] | None, keep: bool = False) -> Tensor | None:
    """A function of all elements along axes."""
    rank = data.dim()
    if not axes or not _rows(data) or not all(-rank <= axis < rank for axis in axes):
        return None
    gone = {axis % rank for axis in axes}
    if keep:
        sizes = [1 if axis in gone else size for axis, size in enumerate(data.shape)]
    else:
        sizes = [size for axis, size in enumerate(data.shape) if axis not in gone]
    return _empty(sizes, data.dtype)


def _cat(parts: Sequence[Tensor], axis: int = 0) -> Tensor | None:
    rank = parts[0].dim() if parts else 0
    if not -rank <= axis < rank:
        return None
    first = parts[0]
    axis %= rank
    before, after = first.shape[:axis], first.shape[axis + 1 :]
    fits = all(
        part.dtype == first.dtype
        and part.dim() == rank
        and part.shape[:axis] == before
        and part.shape[axis + 1 :] == after
        and part.is_contiguous()
        for part in parts
    )
    if not fits:
        return None
    return _empty((*before, sum(part.shape[axis] for part in parts), *after), first.dtype)


def _clone(data: Tensor, *, memory_format: torch.memory_format | None = None) -> Tensor | None:
    if memory_format is torch.contiguous_format:
        return _empty(data.shape, data.dtype)
    return _same(data) if memory_format in (None, torch.preserve_format) else None


def _roll(data: Tensor, *_: Any) -> Tensor | None:
    return _empty(data.shape, data.dtype) if _rows(data) else None


def _new(
    sizes: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    memory_format: torch.memory_format | None = None,
    **_: Any,
) -> Tensor | None:
    usual = layout in (None, torch.strided) and memory_format is None
    return torch.empty(sizes, dtype=dtype, device=META) if usual else None


def _addmm(bias: Tensor, one: Tensor, other: Tensor) -> Tensor | None:
    fits = bias.shape == other.shape[1:] and bias.dtype == one.dtype
    return _mm(one, other) if fits else None


def _mm(one: Tensor, other: Tensor) -> Tensor | None:
    fits = one.dim() == other.dim() == 2 and one.shape[1] == other.shape[0]
    if not fits or one.dtype != other.dtype:
        return None
    return _empty((one.shape[0], other.shape[1]), one.dtype)


def _bmm(one: Tensor, other: Tensor) -> Tensor | None:
    fits = (
        one.dim() == other.dim() == 3
        and one.shape[0] == other.shape[0]
        and one.shape[2] == other.shape[1]
        and one.dtype == other.dtype
    )
    return _empty((*one.shape[:2], other.shape[2]), one.dtype) if fits else None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    fits = (
        input.dim() > 1
        and weight.dim() == 2
        and input.shape[-1] == weight.shape[1]
        and input.dtype == weight.dtype
        and (bias is None or (bias.shape == weight.shape[:1] and bias.dtype == weight.dtype))
        and input.is_floating_point()
    )
    return _empty((*input.shape[:-1], weight.shape[0]), input.dtype) if fits else None


def _matmul(one: Tensor, other: Tensor) -> Tensor | None:
    fits = (
        one.dim() >= other.dim() > 1
        and one.shape[-1] == other.shape[-2]
        and one.dtype == other.dtype
        and one.is_floating_point()
    )
    sizes = _broadcast(one.shape[:-2], other.shape[:-2]) if fits else None
    return None if sizes is None else _empty((*sizes, one.shape[-2], other.shape[-1]), one.dtype)


def _einsum(equation: str, operands: Sequence[Tensor]) -> Tensor | None:
    """As PyTorch says. Where there is one operand, it may be a view."""
    if len(operands) == 1:
        return None
    return torch.einsum(equation, *(one if one.is_meta else like(one) for one in operands))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    rank = query.dim()
    fits = (
        rank == key.dim() == value.dim() > 2
        and key.shape[:-2] == value.shape[:-2]
        and (_is_grouped(query, key) if enable_gqa else query.shape[:-2] == key.shape[:-2])
        and query.shape[-1] == key.shape[-1]
        and key.shape[-2] == value.shape[-2]
        and query.dtype == key.dtype == value.dtype
        and query.is_floating_point()
        and not (attn_mask is not None and is_causal)
    )
    if not fits:
        return None
    if attn_mask is not None:
        weights = [*query.shape[:-1], key.shape[-2]]
        if _broadcast(attn_mask.shape, weights) != weights:
            return None
    return _empty((*query.shape[:-1], value.shape[-1]), query.dtype)


def _contiguous(
    input: Tensor, *, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor | None:
    """Noted also where sizes of 1 leave nothing to do, as another run may have other sizes."""
    steps, step = [], 1
    for size in reversed(input.shape):
        steps.append(step)
        step *= size
    if memory_format is not torch.contiguous_format or input.stride() == tuple(reversed(steps)):
        return None
    return input if input.is_contiguous() else _empty(input.shape, input.dtype)


def _is_grouped(query: Tensor, key: Tensor) -> bool:
    """Whether every head of the keys has as many of the queries."""
    same = query.shape[:-3] == key.shape[:-3]
    return same and key.shape[-3] > 0 and query.shape[-3] % key.shape[-3] == 0


def _embedding(table: Tensor, indices: Tensor, *_: Any) -> Tensor | None:
    fits = table.dim() == 2 and indices.is_contiguous()
    return _empty((*indices.shape, table.shape[1]), table.dtype) if fits else None


def _index(data: Tensor, indices: Sequence[Tensor | None]) -> Tensor | None:
    """Rows of a table."""
    rows = indices[0] if len(indices) == 1 else None
    if rows is None or rows.dtype != torch.int64 or not rows.is_contiguous() or not _rows(data):
        return None
    return _empty((*rows.shape, *data.shape[1:]), data.dtype)


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
        and _rows(data)
        and weight.is_contiguous()
    )
    if not fits:
        return None
    sizes = _windows(data.shape[2:], weight.shape[2:], stride, padding, dilation)
    if min(sizes) < 1:
        return None
    return _empty((data.shape[0], weight.shape[0], *sizes), data.dtype)


def _max_pool(
    data: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor] | None:
    numbers = kernel, stride or kernel, padding, dilation
    fits = (
        data.dim() == 4
        and all(len(each) == 2 for each in numbers)
        and all(p <= k // 2 for p, k in zip(padding, kernel, strict=True))
        and _rows(data)
        and not ceil_mode
    )
    if not fits:
        return None
    sizes = _windows(data.shape[2:], *numbers)
    if min(sizes) < 1:
        return None
    sizes = *data.shape[:2], *sizes
    return _empty(sizes, data.dtype), _empty(sizes, torch.int64)


def _windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """How many windows fit."""
    each = zip(sizes, kernel, stride, padding, dilation, strict=True)
    return [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in each]


def _norm(data: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    """Of the data's shape. The statistics beside it are read by no code that runs forward."""
    none = torch.empty(0, dtype=data.dtype, device=META)
    return (like(data) if _dense(data) else torch.empty_like(data)), none, none


def _plain(data: Tensor) -> bool:
    """Whether a function of every element gives such a tensor as `data` is."""
    return data.is_floating_point() and _dense(data)


def _rows(data: Tensor) -> bool:
    """Whether what is made of it lies row by row, as it does."""
    return data.is_floating_point() and data.is_contiguous()


def _ordered(data: Tensor) -> bool:
    """Whether strides alone say in which order its dimensions lie."""
    strides = data.stride()
    return 0 not in strides and len(set(strides)) == len(strides)


def _dense(data: Tensor) -> bool:
    """Whether its elements lie without gaps, in some order of its dimensions."""
    if data.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(data.stride(), data.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


RULES: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((aten._safe_softmax.default, aten._softmax.default), _softmax),
    **dict.fromkeys((aten.add.Tensor, aten.div.Tensor, aten.mul.Tensor, aten.sub.Tensor), _binary),
    **dict.fromkeys((aten.add_.Tensor, aten.mul_.Tensor), _into),
    **dict.fromkeys((aten.eq.Scalar, aten.gt.Scalar, aten.lt.Scalar, aten.ne.Scalar), _compare),
    **dict.fromkeys((aten.mean.dim, aten.sum.dim_IntList), _reduced),
    aten.addmm.default: _addmm,
    aten.bmm.default: _bmm,
    aten.cat.default: _cat,
    aten.clone.default: _clone,
    aten.convolution.default: _convolution,
    aten.embedding.default: _embedding,
    aten.empty.memory_format: _new,
    aten.gelu.default: _same,
    aten.hardsigmoid.default: _same,
    aten.hardswish.default: _same,
    aten.hardswish_.default: _in_place,
    aten.hardtanh.default: _same,
    aten.hardtanh_.default: _in_place,
    aten.index.Tensor: _index,
    aten.masked_fill.Scalar: _masked,
    aten.max_pool2d_with_indices.default: _max_pool,
    aten.mm.default: _mm,
    aten.mul.Scalar: _binary,
    aten.native_batch_norm.default: _norm,
    aten.native_group_norm.default: _norm,
    aten.native_layer_norm.default: _norm,
    aten.neg.default: _same,
    aten.pow.Tensor_Scalar: _binary,
    aten.relu.default: _same,
    aten.relu_.default: _in_place,
    aten.roll.default: _roll,
    aten.rsqrt.default: _same,
    aten.sigmoid.default: _same,
    aten.silu.default: _same,
    aten.silu_.default: _in_place,
    aten.tanh.default: _same,
}
KEYED = frozenset((_clone, _new))
"""Rules that take arguments by name."""

_BY_IDENTITY = {id(func): rule for func, rule in RULES.items()}
"""As every hash of an operator is a call of Python code."""

WHOLE: dict[Any, tuple[Any, Callable[..., Any]]] = {
    torch.nn.functional.linear: (aten.linear.default, _linear),
    torch.einsum: (aten.einsum.default, _einsum),
    torch.matmul: (aten.matmul.default, _matmul),
    Tensor.matmul: (aten.matmul.default, _matmul),
    Tensor.__matmul__: (aten.matmul.default, _matmul),
    Tensor.contiguous: (aten.contiguous.default, _contiguous),
    torch.nn.functional.scaled_dot_product_attention: (
        aten.scaled_dot_product_attention.default,
        _attention,
    ),
}
"""Functions that PyTorch takes apart into many calls, which are one operator, too."""
