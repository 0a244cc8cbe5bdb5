"""The engine computes what PyTorch computes, of programs that `torch.export` writes."""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import export
import make
import modelzoo
import tool

RUN = tool.ROOT / "target" / "debug" / "examples" / "run"
TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2
"""Of programs that compute in 16 bits: the engine rounds nothing in between."""
WIDE = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
MODELS = [
    "resnet18",
    "mobilenet_v3_small_64",
    "vit_small_32",
    "bert_tiny",
    "llama_tiny",
    "gpt2_tiny",
    "t5_tiny",
    "whisper_tiny",
    "segformer_tiny",
    "swin_t",
    "deberta_v2_tiny",
]
"""What packages of `requirements-dev.txt` build."""


def save(module: nn.Module, example: Iterable[Tensor], path: Path, **options: object) -> Path:
    export.export_program(module.eval(), tuple(example), path, **options)
    return path


def run(path: Path, inputs: Iterable[Tensor]) -> list[np.ndarray]:
    """What the engine makes of a program.

    # Raises
    `ToolError` with what it says.
    """
    if not RUN.is_file():
        pytest.fail("no engine: run `cargo build -p secateur-train --example run`")
    folders = [path.parent / f"{path.stem}.{side}" for side in ("in", "out")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    for index, tensor in enumerate(inputs):
        array = tensor.detach().numpy()
        plain = np.ascontiguousarray(array, WIDE[array.dtype.kind])
        np.save(folders[0] / f"{index}.npy", plain.reshape(array.shape))
    done = subprocess.run([RUN, path, *folders], capture_output=True, text=True, check=False)
    if done.stdout.strip() != "ok":
        raise tool.ToolError(done.stdout or done.stderr)
    count = len(list(folders[1].iterdir()))
    return [np.load(folders[1] / f"{index}.npy") for index in range(count)]


def compare(path: Path, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        found = torch.export.load(path).module()(*inputs)
    leaves = [one for one in pytree.tree_leaves(found) if isinstance(one, Tensor)]
    half = any(one.dtype in (torch.float16, torch.bfloat16) for one in leaves)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    wanted = [one.float().numpy() if one.is_floating_point() else one.numpy() for one in leaves]
    got = run(path, inputs)
    assert [one.shape for one in got] == [one.shape for one in wanted]
    for a, b in zip(got, wanted, strict=True):
        scale = np.abs(b[np.isfinite(b)]).max(initial=1e-30)
        np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("name", make.FIXTURES)
def test_fixture(name: str, tmp_path: Path) -> None:
    fixture = make.FIXTURES[name]
    module = export.randomize(fixture.build(), fixture.example)
    try:
        path = save(module, fixture.example, tmp_path / "model.pt2")
    except Exception as error:  # the exporter may raise anything
        pytest.skip(f"PyTorch does not export it: {error}")
    compare(path, fixture.example)


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, tmp_path: Path) -> None:
    model = next(model for model in modelzoo.MODELS if model.name == name)
    torch.manual_seed(0)
    module, example = model.build()
    export.randomize(module, example)
    compare(save(module, example, tmp_path / "model.pt2"), example)


def test_sizes_may_be_others_than_in_the_export(tmp_path: Path) -> None:
    fixture = make.FIXTURES["window_attention"]
    module = export.randomize(fixture.build(), fixture.example)
    path = save(module, fixture.example, tmp_path / "model.pt2", dynamic=(0,))
    more = tuple(torch.cat([one, one + 1, one]) for one in fixture.example)
    compare(path, more)


class Function(nn.Module):
    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> object:
        return self.function(*tensors)


def random(*sizes: int) -> Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(sum(sizes)))


def integers(most: int, *sizes: int) -> Tensor:
    return torch.randint(0, most, sizes, generator=torch.Generator().manual_seed(0))


INTERPOLATIONS = (
    {"scale_factor": 2},
    {"size": (7, 9)},
    {"scale_factor": 0.6},
    {"scale_factor": 1.7, "mode": "bilinear"},
    {"size": (20, 3), "mode": "bilinear", "align_corners": True},
    {"size": (4, 4), "mode": "bilinear", "antialias": True},
    {"size": (5, 13), "mode": "bicubic"},
    {"size": (4, 17), "mode": "bicubic", "antialias": True},
    {"size": (7, 9), "mode": "nearest-exact"},
)

OPERATORS: dict[str, tuple[nn.Module | Callable[..., object], tuple[Tensor, ...]]] = {
    "activations": (
        lambda x: (
            F.gelu(x),
            F.gelu(x, approximate="tanh"),
            F.silu(x),
            F.elu(x, 0.7),
            F.celu(x, 0.5),
            F.selu(x),
            F.glu(x, 1),
            F.hardswish(x),
            F.hardsigmoid(x),
            F.softplus(x, 2.0),
            F.logsigmoid(x),
            F.softshrink(x),
            F.hardshrink(x),
            F.threshold(x, 0.1, 2.0),
            F.tanhshrink(x),
            F.mish(x),
            F.relu6(x * 5),
            F.hardtanh(x),
            F.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])),
            F.leaky_relu(x),
        ),
        (random(4, 6, 3),),
    ),
    "functions": (
        lambda x: (
            x.abs().log1p(),
            torch.hypot(x, x.flip(0)),
            torch.logaddexp(x, x.flip(0)),
            torch.fmax(x, x.flip(0)),
            torch.fmin(x, x.flip(0)),
            x.expm1(),
            x.exp2(),
            x.abs().log2(),
            x.abs().rsqrt(),
            x.trunc(),
            x.frac(),
            x.round(),
            x.erfc(),
            x.square(),
            x**3,
            2**x,
            x.abs() ** 0.5,
            x.pow(-1),
            x.isfinite(),
            x.nan_to_num(),
            x.clamp(-0.5),
            x.clamp(max=0.2),
            torch.clamp(x, x * 0 - 0.1, x * 0 + 0.1),
            torch.maximum(x, -x),
            torch.remainder(x, 0.7),
            torch.fmod(x, 0.7),
            torch.div(x, 0.3, rounding_mode="floor"),
            torch.div(x, 0.3, rounding_mode="trunc"),
            x.lerp(x * 2, 0.3),
            torch.addcmul(x, x, x, value=0.5),
            torch.addcdiv(x, x, x.abs() + 1),
            torch.sub(x, x * 3, alpha=2),
        ),
        (random(4, 6),),
    ),
    "integers": (
        lambda i: (
            i // 3,
            -i // 2,
            torch.div(i, -3, rounding_mode="trunc"),
            i / 3,
            -i % 3,
            i & 3,
            i | 4,
            i ^ 1,
            ~i,
            i.bool(),
            i + 1.5,
            i.sum(),
            (i > 2).sum(),
            (i > 2).any(1),
            (i > 2).all(),
            i.max(1),
            i.argmin(),
            i.to(torch.uint8) * 100,
            torch.where(i > 3, i, 0.5),
            i.clamp(1, 4),
        ),
        (integers(9, 4, 6),),
    ),
    "reductions": (
        lambda x: (
            x.std(),
            x.var(1, unbiased=False),
            torch.var_mean(x, 1),
            torch.std_mean(x, 0, keepdim=True),
            x.norm(),
            x.norm(1, 1),
            x.norm(3, 0),
            x.norm(float("inf"), 1),
            x.logsumexp(1),
            x.amax((0, 1)),
            x.prod(1),
            x.max(),
            x.min(0),
            x.argmax(1, True),
            x.softmax(0),
            x.log_softmax(1),
            x.tril(1),
            x.triu(),
        ),
        (random(4, 6),),
    ),
    "orders": (
        lambda x: (
            x.cumprod(1),
            x.cumsum(0),
            x.sort(1),
            x.topk(2),
            x.flip(0, 1),
            x.roll(3),
            x.roll((1, -2), (0, 1)),
        ),
        (random(4, 6),),
    ),
    "places": (
        lambda x, i: (
            x.scatter_reduce(1, i, x * 2, "amax"),
            x.scatter(1, i, 5.0),
            x.scatter_add(1, i, x),
            x.gather(1, i),
        ),
        (random(4, 6), integers(6, 4, 6)),
    ),
    "rows": (
        lambda x, i: (
            x.index_add(1, i, x[:, :4]),
            x.index_copy(2, i[:2], x[..., 2:4]),
            x.index_fill(-1, i, 1.5),
            torch.histc(x, 8, -1, 1),
            torch.histc(x, 5),
        ),
        (random(4, 5, 6), torch.tensor([0, 3, 3, 1])),
    ),
    "experts": (
        lambda x, w, ends: F.grouped_mm(x, w, offs=ends),
        (random(10, 16), random(3, 16, 32), torch.tensor([2, 2, 10], dtype=torch.int32)),
    ),
    "indices": (
        lambda x, i: (
            x[i],
            x[:, i],
            x[i, i],
            x[i, :, i],
            x[x[:, 0, 0] > 0],
            x[..., 1:5:2],
            x[:, None, -1],
            x.index_select(1, i),
            x.unfold(2, 3, 2),
            x.masked_fill(x > 0, -1.0),
            F.one_hot(i, 4),
            x.index_put((i,), x[i] * 2, accumulate=True),
            F.unfold(x[None], (2, 3), padding=1, stride=2, dilation=(1, 2)),
        ),
        (random(4, 5, 6), torch.tensor([0, 3, 3, 1])),
    ),
    "shapes": (
        lambda x: (
            x.unflatten(2, (2, 3)),
            x.movedim(0, 2),
            x.repeat(2, 1, 3, 1),
            x.tile(2),
            x.repeat_interleave(3, 1),
            x.expand(2, -1, -1, -1),
            torch.stack([x, x], -1),
            x.split(2, 1),
            x.split([1, 4], 1),
            x.chunk(4, 1),
            x.tensor_split(3, 1),
            x.tensor_split([1, 3], 2),
            x.unbind(0),
            F.pixel_shuffle(x[None, :4], 2),
            F.pixel_unshuffle(x[None, :, :4], 2),
            F.channel_shuffle(x[None], 2),
            torch.meshgrid(x[0, 0], x[0, 1], indexing="xy"),
            x.diff(),
            x.narrow(2, 1, 3),
            x.permute(2, 0, 1).contiguous().view(-1),
        ),
        (random(4, 5, 6),),
    ),
    "made": (
        lambda x: (
            torch.arange(5),
            torch.arange(1, 2, 0.25),
            torch.linspace(0, 1, 7),
            torch.eye(3, 4),
            torch.full((2, 3), 7),
            torch.zeros_like(x),
            x.new_ones(3),
            torch.full_like(x, 2.5),
        ),
        (random(4, 5),),
    ),
    "borders": (
        lambda x: (
            F.pad(x, (1, 2, -1, 3)),
            F.pad(x, (1, 2, 2, 1), mode="reflect"),
            F.pad(x, (1, 2, 2, 1), mode="replicate"),
            F.pad(x, (1, 2, 2, 1), mode="circular"),
            F.pad(x, (1, 1), value=3.0),
        ),
        (random(2, 3, 5, 6),),
    ),
    "pools": (
        lambda x: (
            F.adaptive_avg_pool2d(x, (3, 5)),
            F.adaptive_max_pool2d(x, (3, None)),
            F.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True),
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
            F.max_pool1d(x[0], 3),
        ),
        (random(2, 3, 10, 11),),
    ),
    "interpolations": (
        lambda x: tuple(F.interpolate(x, **options) for options in INTERPOLATIONS),
        (random(2, 3, 8, 8),),
    ),
    "attention": (
        lambda q, k, v, mask: (
            F.scaled_dot_product_attention(q, k, v, is_causal=True),
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask > 0, scale=0.3),
            F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True),
            F.scaled_dot_product_attention(q[0, 0], k[0, 0], v[0, 0]),
        ),
        (random(2, 4, 5, 8), random(2, 4, 6, 8), random(2, 4, 6, 8), random(5, 6)),
    ),
    "norms": (
        lambda x: (
            F.group_norm(x, 2),
            F.instance_norm(x),
            F.layer_norm(x, (5, 6)),
            F.rms_norm(x, (6,)),
            F.batch_norm(x, torch.zeros(4), torch.ones(4) * 2),
            F.batch_norm(x, None, None, training=True),
            F.local_response_norm(x, 3),
            F.normalize(x),
        ),
        (random(3, 4, 5, 6),),
    ),
    "products": (
        lambda x, y: (
            x @ y,
            torch.baddbmm(x @ y, x, y, beta=0.5, alpha=2),
            torch.addmm(x[0] @ y[0], x[0], y[0]),
            torch.einsum("bij,bjk->ki", x, y),
            torch.einsum("...ij,...jk", x, y),
            x[0].mv(y[0, :, 0]),
            x[0, 0].dot(y[0, :, 0]),
        ),
        (random(2, 3, 4), random(2, 4, 5)),
    ),
    "convolutions": (
        lambda x, w, u: (
            F.conv2d(x, w, padding="same", dilation=2),
            F.conv2d(x, w, stride=2, padding=(1, 0)),
            F.conv_transpose2d(x, u, stride=2, padding=1, output_padding=1),
            F.conv2d(x[0], w),
            F.conv1d(x[:, :, 0], w[:, :, 0]),
        ),
        (random(2, 4, 8, 8), random(6, 4, 3, 3), random(4, 5, 3, 3)),
    ),
    "grids": (
        lambda x, grid: tuple(
            F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=aligned)
            for mode in ("bilinear", "nearest", "bicubic")
            for padding in ("zeros", "border", "reflection")
            for aligned in (True, False)
        ),
        (random(2, 3, 6, 7), random(2, 4, 5, 2).tanh() * 1.2),
    ),
    "lstm": (nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True), (random(3, 4, 5),)),
    "gru": (nn.GRU(5, 7, 2, bidirectional=True, bias=False), (random(4, 3, 5),)),
    "rnn": (nn.RNN(5, 7, nonlinearity="relu"), (random(4, 3, 5),)),
    "lstm_cell": (
        lambda x, h, c, w, u: torch.lstm_cell(x, (h, c), w, u),
        (random(3, 5), random(3, 7), random(3, 7), random(28, 5), random(28, 7)),
    ),
    "gru_cell": (nn.GRUCell(5, 7), (random(3, 5), random(3, 7))),
    "rnn_cell": (nn.RNNCell(5, 7, bias=False), (random(3, 5), random(3, 7))),
    "distances": (
        lambda x, y: (
            torch.cdist(x, y),
            torch.cdist(x, y, p=1.0),
            F.cosine_similarity(x, y[:, :5], dim=2),
            F.pairwise_distance(x, y[:, :5], keepdim=True),
            torch.vdot(x[0, 0], y[0, 0]),
            x.aminmax(dim=1),
        ),
        (random(2, 5, 4), random(2, 6, 4)),
    ),
    "losses": (
        lambda x, y: tuple(
            loss(x, y, reduction)
            for loss in (torch.ops.aten.mse_loss, torch.ops.aten.l1_loss)
            for reduction in (0, 1, 2)
        ),
        (random(3, 4), random(3, 4)),
    ),
}


@pytest.mark.parametrize("decomposed", [False, True], ids=["whole", "decomposed"])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str, decomposed: bool, tmp_path: Path) -> None:
    function, example = OPERATORS[name]
    module = function if isinstance(function, nn.Module) else Function(function)
    path = tmp_path / "model.pt2"
    with export.quiet(), torch.no_grad():
        program = torch.export.export(module.eval(), example)
        torch.export.save(program.run_decompositions() if decomposed else program, path)
    compare(path, example)


def parts_of_a_view(x: Tensor) -> object:
    y = x.clone()
    columns, rows = y[:, 1:3], y.transpose(0, 1)
    columns.mul_(2)
    rows[0].add_(1)
    y.view(-1)[::2] = 0
    return y, columns, rows


def chunks_of_one_tensor(x: Tensor) -> object:
    y = x * 1
    first, second = y.chunk(2, 1)
    first.copy_(second * 3)
    head = y.unbind(0)[0]
    head.fill_(7)
    return y, first, second


def places_in_a_view(x: Tensor) -> object:
    y = x + 0
    flat = y.view(-1)
    flat[torch.tensor([0, 5, 5])] = torch.tensor([1.0, 2.0, 3.0])
    y.t().masked_fill_(y.t() > 1, 0.5)
    return y.unsqueeze(0), flat, y.permute(1, 0).reshape(2, -1)


def an_activation_in_place(x: Tensor) -> object:
    y = x - 0.5
    shown = y.view(2, -1)
    torch.relu_(y)
    return y + shown.view_as(y), shown


def what_dropout_returns(x: Tensor) -> object:
    y = x + 1
    windows = y.unfold(1, 3, 1)
    F.dropout(y, training=False).mul_(2)
    return y, windows


WRITES = [
    what_dropout_returns,
    parts_of_a_view,
    chunks_of_one_tensor,
    places_in_a_view,
    an_activation_in_place,
]


@pytest.mark.parametrize("function", WRITES, ids=lambda function: function.__name__)
def test_writes_are_seen_through_all_views(function: Callable[..., object], tmp_path: Path) -> None:
    example = (torch.randn(4, 6),)
    compare(save(Function(function), example, tmp_path / "model.pt2"), example)


def read_what_may_be_a_copy(x: Tensor) -> object:
    y = x.clone().t()
    flat = y.reshape(-1)
    y.add_(1)
    return flat + 0


@pytest.mark.parametrize("function", [read_what_may_be_a_copy])
def test_writes_that_cannot_be_followed_are_refused(
    function: Callable[..., object], tmp_path: Path
) -> None:
    example = (torch.randn(4, 4),)
    path = save(Function(function), example, tmp_path / "model.pt2")
    with pytest.raises(tool.ToolError, match=r"share memory.*test_engine_programs\.py"):
        run(path, example)


def test_what_cannot_be_run_is_named_with_its_line(tmp_path: Path) -> None:
    example = (torch.randn(4, 4),)
    module = Function(lambda x: (torch.linalg.inv(x), torch.fft.fft(x).abs(), torch.rand_like(x)))
    path = save(module, example, tmp_path / "model.pt2")
    with pytest.raises(tool.ToolError) as error:
        run(path, example)
    for name in ("aten.linalg_inv", "aten.fft_fft", "aten.rand_like", "is random"):
        assert name in str(error.value)
