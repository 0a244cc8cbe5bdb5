"""Rules of operators without memory, against PyTorch's own."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from secateur import _shapes
from torch import Tensor

META = torch.device("meta")
aten = torch.ops.aten
NEW = aten.empty.memory_format


def tensors() -> Iterator[Tensor]:
    for dtype in (torch.float32, torch.float16, torch.int64):
        whole = torch.empty(2, 8, 6, 4, dtype=dtype, device=META)
        yield from (whole, whole.to(memory_format=torch.channels_last), whole.transpose(2, 3))
        yield from (whole[:, ::2], whole[:1].expand(3, 8, 6, 4), whole[0, 0])
        last = whole.permute(0, 2, 3, 1)
        yield from (last[..., ::2], whole[:1, :, ::2].transpose(1, 2))
        yield from (last, last[:1], last[:, :1], whole[:1].to(memory_format=torch.channels_last))


def arguments(func: Any, data: Tensor) -> Iterator[tuple[Any, ...]]:
    channels = data.new_empty(data.shape[-3] if data.dim() > 2 else 1)
    match func.name():
        case "aten::add.Tensor" | "aten::div.Tensor" | "aten::mul.Tensor" | "aten::sub.Tensor":
            others = (data, data.contiguous(), data[..., :1], data[..., :1].contiguous())
            yield from ((data, other) for other in (*others, data[:, :1], data.mT.contiguous().mT))
            yield from ((one, data) for one in (data[..., :1].contiguous(), data[0].contiguous()))
            scale = data.new_empty(data.shape[1])
            lines = (scale, scale[:, None], scale[:, None, None], scale[:, None, None, None])
            yield from (pair for line in lines for pair in ((line, data), (data, line)))
            yield from ((data, data.double()), (data, 2), (data, 0.5))
        case "aten::add_.Tensor" | "aten::mul_.Tensor":
            row = data[..., :1].contiguous()
            yield from ((data.contiguous(), other) for other in (data, row, 2))
            yield row, row.double()
        case "aten::eq.Scalar" | "aten::gt.Scalar" | "aten::lt.Scalar" | "aten::ne.Scalar":
            yield from ((data, number) for number in (0, 0.5))
        case "aten::mul.Scalar" | "aten::pow.Tensor_Scalar":
            yield from ((data, number) for number in (2, 0.5))
        case "aten::masked_fill.Scalar":
            yield from ((data, mask > 0, 0.0) for mask in (data, data[..., :1]))
        case "aten::mean.dim" | "aten::sum.dim_IntList" if data.is_floating_point():
            yield from ((data, axes, keep) for axes in ([-1], [0, 1]) for keep in (False, True))
            yield data, [1]
        case "aten::mean.dim" | "aten::sum.dim_IntList":
            return
        case "aten::cat":
            thin = data[..., :1].contiguous()
            for parts in ((data, data), (thin, thin, thin), (thin, data.contiguous()), (data,)):
                yield parts, -1
            yield from (((thin, thin),), ((thin[..., 0].contiguous(), thin[..., 0]), 1))
        case "aten::mm":
            flat = data.reshape(-1, data.shape[-1])
            yield from ((flat, flat.t()), (flat.t(), flat))
        case "aten::bmm":
            deep = data.reshape(-1, *data.shape[-2:])
            yield from ((deep, deep.mT), (deep.mT, deep))
        case "aten::index.Tensor":
            rows = torch.empty(3, 5, dtype=torch.int64, device=META)
            yield from ((data, [one]) for one in (rows, rows[:, ::2], rows > 0))
            yield data, [rows, rows]
        case "aten::empty.memory_format":
            yield (list(data.shape),)
        case "aten::embedding":
            table = data.new_empty(9, 5)
            for indices in (data.to(torch.int64), data.to(torch.int64)[..., 0]):
                yield from ((table, indices), (table, indices, 3))
        case "aten::max_pool2d_with_indices" if data.dim() == 4 and data.is_floating_point():
            yield from ((data, [2, 2]), (data, [3, 2], [2, 1], [1, 1]))
            yield from ((data, [2, 2], [1, 1], [0, 0], [2, 2]), (data, [4, 3], [], [0, 0], [1, 1]))
        case "aten::max_pool2d_with_indices":
            return
        case "aten::roll":
            yield from ((data, [1], [0]), (data, [1, 2], [0, 1]), (data[..., :1], [1], [0]))
        case "aten::addmm":
            flat = data.reshape(-1, data.shape[-1])
            for width in (flat.shape[1], flat.shape[1] + 1):
                weight = data.new_empty(5, width)
                yield from ((data.new_empty(size), flat, weight.t()) for size in (5, 1))
                yield data.new_empty(flat.shape[0], 5), flat, weight.t()
        case "aten::convolution" if data.dim() == 4:
            channels = data.shape[1]
            shared = 1 if channels % 2 else 2
            for groups, size in ((1, 3), (1, 1), (shared, 3), (channels, 2)):
                weight = data.new_empty(2 * channels, channels // groups, size, size)
                for stride, padding, dilation in ((1, 0, 1), (2, 1, 1), (1, 2, 2)):
                    numbers = [stride] * 2, [padding] * 2, [dilation] * 2
                    yield data, weight, weight[:, 0, 0, 0], *numbers, False, [0, 0], groups
                yield data, weight, None, [2, 1], [1, 0], [1, 2], True, [0, 0], groups
        case "aten::convolution":
            return
        case "aten::_softmax" | "aten::_safe_softmax":
            yield (data, -1, False) if func is aten._softmax.default else (data, -1)
        case "aten::native_batch_norm":
            yield data, channels, channels, channels, channels, False, 0.1, 1e-5
        case "aten::native_layer_norm":
            yield data, [data.shape[-1]], None, None, 1e-5
        case "aten::native_group_norm":
            batch, width = data.shape[0], data.shape[1]
            yield data, None, None, batch, width, data[0, 0].numel(), 2, 1e-5
        case _:
            yield (data,)


@pytest.mark.parametrize("func", _shapes.RULES, ids=str)
def test_rules_say_what_pytorch_says(func: Any) -> None:
    norm = "norm" in func.name()
    said = 0
    for data in tensors():
        if norm and not (data.dim() == 4 and data.is_floating_point() and data.is_contiguous()):
            continue
        for given in arguments(func, data):
            got = _shapes.made(func, given, {})
            if got is None:
                continue
            said += 1
            want = func(*given, device=META) if func is NEW else func(*given)
            if not isinstance(got, tuple):
                got, want = (got,), (want,)
            for ours, theirs in zip(got[:1] if norm else got, want, strict=not norm):
                assert described(ours) == described(theirs)
    assert said > 0


def described(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def test_copies_lie_as_they_are_asked_to() -> None:
    for data in tensors():
        for how in (torch.contiguous_format, torch.preserve_format, torch.channels_last):
            got = _shapes.made(aten.clone.default, (data,), {"memory_format": how})
            if got is not None:
                assert described(got) == described(data.clone(memory_format=how))


def test_what_does_not_fit_is_left_to_pytorch() -> None:
    one, other = torch.empty(2, 3, device=META), torch.empty(4, 5, device=META)
    assert _shapes.made(aten.addmm.default, (one[0], one, other), {}) is None
    assert _shapes.made(aten.add.Tensor, (one, other), {}) is None
    assert _shapes.made(aten.add.Tensor, (one, one), {"alpha": 2}) is None


def operands(func: Any, data: Tensor) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    width = data.shape[-1]
    if func is torch.nn.functional.linear:
        for weight in (data.new_empty(5, width), data.new_empty(width, 5).t()):
            yield from (((data, weight, bias), {}) for bias in (None, data.new_empty(5)))
            yield (data,), {"weight": weight, "bias": data.new_empty(5)}
        yield (data, data.new_empty(5, width + 1)), {}
        return
    if func is Tensor.contiguous:
        for one in (data, data.transpose(0, 1), data[:1].transpose(0, 1)):
            yield (one,), {}
        yield (data,), {"memory_format": torch.preserve_format}
        return
    if func is torch.nn.functional.scaled_dot_product_attention:
        key = data.new_empty(*data.shape[:-2], 3, width)
        mask = data.new_empty(data.shape[-2], 3)
        for more in ({}, {"attn_mask": mask}, {"is_causal": True}, {"attn_mask": mask > 0}):
            yield (data, key, key[..., :2]), {**more, "scale": 0.5}
        yield (data, key[:1], key), {}
        few = key[..., :1, :, :]
        yield (data, few, few[..., :2]), {"enable_gqa": True}
        yield (data, few, few), {}
        yield (few, data, data), {"enable_gqa": True}
        return
    yield from (((data, data.mT), {}), ((data.mT, data), {}), ((data, data), {}))
    yield from (((data, data[0].mT), {}), ((data[:1], data.mT), {}), ((data, data[..., 0]), {}))
    yield (data, data.new_empty(width, 5).t().contiguous().t()), {}


@pytest.mark.parametrize(
    "func",
    [func for func in _shapes.WHOLE if func is not torch.einsum],  # it asks PyTorch
    ids=lambda func: func.__qualname__,
)
def test_functions_that_are_noted_whole_make_what_pytorch_makes(func: Any) -> None:
    said = 0
    for data in tensors():
        if data.dim() < 3 or not data.is_floating_point():
            continue
        for args, kwargs in operands(func, data):
            got = _shapes.WHOLE[func][1](*args, **kwargs)
            if got is not None:
                said += 1
                assert described(got) == described(func(*args, **kwargs))
    assert said > 10
