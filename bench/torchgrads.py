"""Gradients of PyTorch for models of one node, to compare the engine's with."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn import functional as F

from engine import Case
from operators import Constant, node, normal

Function = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]


def weighed(results: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The sum that the engine differentiates."""
    total = torch.zeros((), dtype=torch.float64)
    for index, result in enumerate(results):
        places = torch.arange(result.numel(), dtype=torch.float64)
        total = total + (result.reshape(-1) * torch.cos(0.7 * places + 1.3 * index)).sum()
    return total


def gradients(function: Function, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients of all real operands, in 64 bits."""
    operands = {}
    for name, array in feeds.items():
        tensor = torch.from_numpy(np.array(array))
        real = tensor.is_floating_point()
        operands[name] = tensor.double().requires_grad_() if real else tensor
    results = function(*operands.values())
    weighed(results if isinstance(results, tuple) else (results,)).backward()
    return {name: t.grad.numpy() for name, t in operands.items() if t.grad is not None}


def convolutions(rng: np.random.Generator) -> Iterator[tuple[Case, Function]]:
    plain, transposed = (
        (F.conv1d, F.conv2d, F.conv3d),
        (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    )
    for axes, (group, stride, dilation, pad) in itertools.product(
        (1, 2, 3), ((1, 1, 1, 0), (2, 2, 1, 1), (4, 1, 2, 2), (2, 3, 1, 1))
    ):
        shared = {
            "strides": [stride] * axes,
            "dilations": [dilation] * axes,
            "pads": [pad] * 2 * axes,
        }
        options = {"stride": stride, "dilation": dilation, "padding": pad, "groups": group}
        x = normal(rng, 2, 4, *(9, 8, 7)[:axes])
        w, b = normal(rng, 8, 4 // group, *[3] * axes), normal(rng, 8)
        yield (
            node("Conv", [x, w, b], group=group, **shared),
            (lambda x, w, b, f=plain[axes - 1], o=options: f(x, w, b, **o)),
        )
        x = normal(rng, 2, 4, *(5, 4, 5)[:axes])
        w, b = normal(rng, 4, 3, *[3] * axes), normal(rng, 3 * group)
        yield (
            node("ConvTranspose", [x, w, b], group=group, **shared),
            (lambda x, w, b, f=transposed[axes - 1], o=options: f(x, w, b, **o)),
        )


def pools(rng: np.random.Generator) -> Iterator[tuple[Case, Function]]:
    largest, mean = (
        (F.max_pool1d, F.max_pool2d, F.max_pool3d),
        (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
    )
    for axes, (kernel, stride, pad) in itertools.product(
        (1, 2, 3), ((2, 2, 0), (3, 2, 1), (3, 1, 1))
    ):
        x = normal(rng, 2, 3, *(9, 8, 7)[:axes])
        shared = {
            "kernel_shape": [kernel] * axes,
            "strides": [stride] * axes,
            "pads": [pad] * 2 * axes,
        }
        yield (
            node("MaxPool", [x], **shared),
            (lambda x, f=largest[axes - 1], a=(kernel, stride, pad): f(x, *a)),
        )
        yield (
            node("AveragePool", [x], **shared),
            (
                lambda x, f=mean[axes - 1], a=(kernel, stride, pad): f(
                    x, *a, count_include_pad=False
                )
            ),
        )


def norms(rng: np.random.Generator) -> Iterator[tuple[Case, Function]]:
    x, scale, offset = normal(rng, 2, 6, 5, 4), normal(rng, 6), normal(rng, 6)
    mean, variance = normal(rng, 6), np.abs(normal(rng, 6)) + np.float32(0.2)
    yield (
        node("BatchNormalization", [x, scale, offset, mean, variance], opset=15),
        (
            lambda x, s, o, m, v: (
                (x - m[:, None, None]) / (v[:, None, None] + 1e-5).sqrt() * s[:, None, None]
                + o[:, None, None]
            )
        ),
    )
    yield (
        node("BatchNormalization", [x, scale, offset, mean, variance], opset=15, training_mode=1),
        (lambda x, s, o, m, v: F.batch_norm(x, m.detach(), v.detach(), s, o, training=True)),
    )
    yield (
        node("InstanceNormalization", [x, scale, offset]),
        (lambda x, s, o: F.instance_norm(x, weight=s, bias=o)),
    )
    yield (
        node("GroupNormalization", [x, scale, offset], opset=21, num_groups=3),
        (lambda x, s, o: F.group_norm(x, 3, s, o)),
    )
    x, scale, offset = normal(rng, 2, 3, 8), normal(rng, 8), normal(rng, 8)
    yield (
        node("LayerNormalization", [x, scale, offset]),
        lambda x, s, o: F.layer_norm(x, (8,), s, o),
    )
    yield node("RMSNormalization", [x, scale], opset=23), lambda x, s: F.rms_norm(x, (8,), s, 1e-5)


def attention(rng: np.random.Generator) -> Iterator[tuple[Case, Function]]:
    attend = F.scaled_dot_product_attention
    for heads, causal in itertools.product((2, 4), (0, 1)):
        q, k, v = normal(rng, 2, 4, 5, 6), normal(rng, 2, heads, 5, 6), normal(rng, 2, heads, 5, 3)
        yield (
            node("Attention", [q, k, v], opset=23, is_causal=causal),
            (lambda q, k, v, c=bool(causal): attend(q, k, v, is_causal=c, enable_gqa=True)),
        )
        yield (
            node("Attention", [q, k, v, normal(rng, 5, 5)], opset=23),
            (lambda q, k, v, m: attend(q, k, v, attn_mask=m, enable_gqa=True)),
        )


def recurrence(rng: np.random.Generator) -> Iterator[tuple[Case, Function]]:
    """PyTorch's gates stand in another order: `rows` gives ONNX's in it."""
    h, i, t, n = 4, 3, 5, 2
    for kind, module, q, rows in (
        ("LSTM", torch.nn.LSTM, 4, (0, 2, 3, 1)),
        ("GRU", torch.nn.GRU, 3, (1, 0, 2)),
        ("RNN", torch.nn.RNN, 1, (0,)),
    ):
        for direction in ("forward", "bidirectional"):
            d = 2 if direction == "bidirectional" else 1
            x = [
                normal(rng, t, n, i),
                normal(rng, d, q * h, i),
                normal(rng, d, q * h, h),
                normal(rng, d, 2 * q * h),
            ]
            attributes = {"hidden_size": h, "direction": direction}
            if kind == "GRU":
                attributes["linear_before_reset"] = 1
            picks = torch.cat([torch.arange(h) + row * h for row in rows])

            def run(
                x: torch.Tensor,
                w: torch.Tensor,
                r: torch.Tensor,
                b: torch.Tensor,
                module: type = module,
                d: int = d,
                picks: torch.Tensor = picks,
                q: int = q,
            ) -> torch.Tensor:
                layer = module(i, h, bidirectional=d == 2).double()
                weights = {}
                for index, end in enumerate(("", "_reverse")[:d]):
                    weights[f"weight_ih_l0{end}"] = w[index][picks]
                    weights[f"weight_hh_l0{end}"] = r[index][picks]
                    weights[f"bias_ih_l0{end}"] = b[index][: q * h][picks]
                    weights[f"bias_hh_l0{end}"] = b[index][q * h :][picks]
                all_states, _ = torch.func.functional_call(layer, weights, (x,))
                return all_states.reshape(t, n, d, h).permute(0, 2, 1, 3)

            yield node(kind, x, **attributes), run


def resizes(rng: np.random.Generator) -> Iterator[tuple[Case, Function]]:
    modes = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
    for (mode, name), size in itertools.product(modes.items(), ((8, 10), (3, 2), (7, 3))):
        x = normal(rng, 2, 3, 5, 6)
        attributes = {"mode": mode, "coordinate_transformation_mode": "half_pixel"}
        if mode == "nearest":
            attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        corners = {} if mode == "nearest" else {"align_corners": False}
        yield (
            node("Resize", [x, None, None, Constant([2, 3, *size])], opset=19, **attributes),
            (lambda x, s=size, n=name, c=corners: F.interpolate(x, s, mode=n, **c)),
        )


def cases(seed: int = 0) -> Iterator[tuple[Case, Function]]:
    rng = np.random.default_rng(seed)
    for family in (convolutions, pools, norms, attention, recurrence, resizes):
        yield from family(rng)
