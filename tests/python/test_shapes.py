"""Rules of operators without memory, against PyTorch's own."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from secateur import _shapes
from torch import Tensor

META = torch.device("meta")
aten = torch.ops.aten


def tensors() -> Iterator[Tensor]:
    for dtype in (torch.float32, torch.float16, torch.int64):
        whole = torch.empty(2, 8, 6, 4, dtype=dtype, device=META)
        yield from (whole, whole.to(memory_format=torch.channels_last), whole.transpose(2, 3))
        yield from (whole[:, ::2], whole[:1].expand(3, 8, 6, 4), whole[0, 0])


def arguments(func: Any, data: Tensor) -> Iterator[tuple[Any, ...]]:
    channels = data.new_empty(data.shape[-3] if data.dim() > 2 else 1)
    match func.name():
        case "aten::add.Tensor" | "aten::mul.Tensor":
            yield from ((data, other) for other in (data, data.contiguous(), data[..., :1]))
            yield from ((data, data.double()), (data, 2))
        case "aten::addmm":
            flat = data.reshape(-1, data.shape[-1])
            for width in (flat.shape[1], flat.shape[1] + 1):
                weight = data.new_empty(5, width)
                yield from ((data.new_empty(size), flat, weight.t()) for size in (5, 1))
                yield data.new_empty(flat.shape[0], 5), flat, weight.t()
        case "aten::convolution" if data.dim() == 4:
            channels = data.shape[1]
            for groups, size in ((1, 3), (1, 1), (2, 3), (channels, 2)):
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
            want = func(*given)
            got, want = (got[0], want[0]) if norm else (got, want)
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            assert got.stride() == want.stride()
    assert said > 0


def test_what_does_not_fit_is_left_to_pytorch() -> None:
    one, other = torch.empty(2, 3, device=META), torch.empty(4, 5, device=META)
    assert _shapes.made(aten.addmm.default, (one[0], one, other), {}) is None
    assert _shapes.made(aten.add.Tensor, (one, other), {}) is None
    assert _shapes.made(aten.add.Tensor, (one, one), {"alpha": 2}) is None
