"""The engine computes what PyTorch computes, of programs that `torch.export` writes."""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
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
    "yolov8n",
    "timm_swin_tiny_patch4_window7_224",
    "timm_convnext_atto",
    "timm_maxvit_rmlp_tiny_rw_256",
]


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


WRITES = [parts_of_a_view, chunks_of_one_tensor, places_in_a_view, an_activation_in_place]


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
